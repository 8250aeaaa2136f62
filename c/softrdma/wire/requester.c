/*
 * requester.c - cuts send WQEs into packets.
 *
 * A WQE takes the PSNs [psn_first, psn_last] when its first packet goes out; its packet k always has PSN psn_first + k, so any
 * packet can be made again from the WQE alone. A READ takes one PSN for each packet of its answer; long ones are sent as several
 * READ requests of at most SR_READ_CHUNK packets, which bounds what may come back at once.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include "wire.h"

#define READ_ROOM_MIN 16 /* do not ask for slivers of a READ while the window is nearly full */

void sr_req_init(struct sr_wire_qp *w)
{
	struct sr_requester *r = &w->req;
	r->psn = r->una = r->una_seen = r->highest = r->expected = w->qp->attr.sq_psn & SR_PSN_MASK;
	r->cursor = w->qp->sq.next;
	r->retries_left = w->qp->attr.retry_cnt;
	r->rnr_left = w->qp->attr.rnr_retry;
	r->fail_status = IBV_WC_SUCCESS;
	sr_cc_init(&r->cc, sr_wire_now_us());
}

/* PSNs that may still be taken now. */
static uint32_t window_room(const struct sr_wire_qp *w)
{
	const struct sr_requester *r = &w->req;
	uint32_t span = (r->psn - r->una) & SR_PSN_MASK;
	if (!w->ours)
		return span < SR_UNACKED_MAX_OTHERS ? SR_UNACKED_MAX_OTHERS - span : 0;
	uint32_t inflight = sr_req_inflight(r), cwnd = sr_cc_window(&r->cc);
	uint32_t by_cwnd = inflight < cwnd ? cwnd - inflight : 0, by_span = span < SR_WINDOW ? SR_WINDOW - span : 0;
	return by_cwnd < by_span ? by_cwnd : by_span;
}

static uint32_t reads_limit(const struct sr_wire_qp *w)
{
	uint32_t limit = w->qp->attr.max_rd_atomic;
	return limit == 0 ? 1 : limit > SR_READS_MAX ? SR_READS_MAX : limit;
}

static uint8_t opcode_of(const struct sr_swqe *e, bool first, bool last)
{
	static const uint8_t only[] = {
		[IBV_WR_SEND] = SR_OP_RC_SEND_ONLY,
		[IBV_WR_SEND_WITH_IMM] = SR_OP_RC_SEND_ONLY_IMM,
		[IBV_WR_SEND_WITH_INV] = SR_OP_RC_SEND_ONLY_INV,
		[IBV_WR_RDMA_WRITE] = SR_OP_RC_WRITE_ONLY,
		[IBV_WR_RDMA_WRITE_WITH_IMM] = SR_OP_RC_WRITE_ONLY_IMM,
		[IBV_WR_RDMA_READ] = SR_OP_RC_READ_REQUEST,
		[IBV_WR_ATOMIC_CMP_AND_SWP] = SR_OP_RC_CMP_SWAP,
		[IBV_WR_ATOMIC_FETCH_AND_ADD] = SR_OP_RC_FETCH_ADD,
	};
	uint8_t op = only[e->opcode];
	bool write = e->opcode == IBV_WR_RDMA_WRITE || e->opcode == IBV_WR_RDMA_WRITE_WITH_IMM;
	if (!sr_opcode_is_read(e->opcode) && !(first && last)) {
		if (!last)
			op = first ? (write ? SR_OP_RC_WRITE_FIRST : SR_OP_RC_SEND_FIRST)
				   : (write ? SR_OP_RC_WRITE_MIDDLE : SR_OP_RC_SEND_MIDDLE);
		else
			op = op == SR_OP_RC_SEND_ONLY_INV ? SR_OP_RC_SEND_LAST_INV : (uint8_t)(op - 2); /* ONLY -> LAST */
	}
	return op;
}

/* Makes packet k of the WQE; for a READ, the request for `count` packets from k on. False: the WQE's memory is not what it
 * says, and it has been marked as failed. */
static bool emit(struct sr_wire_qp *w, struct sr_swqe *e, uint32_t index, uint32_t k, uint32_t count, bool ackreq)
{
	struct iovec iov[SR_MAX_SGE];
	uint32_t packets = sr_req_packets(w, e), off = k << w->mtu_shift;
	bool read = e->opcode == IBV_WR_RDMA_READ, last = k + 1 == packets;
	struct sr_pkt p = sr_wire_header(w, opcode_of(e, k == 0, last), e->psn_first + k);
	int n = 0;
	p.va = e->remote_addr + (read ? off : 0);
	p.rkey = e->rkey;
	p.srqn = e->srqn;
	p.dma_len = e->length;
	p.imm = p.inv_rkey = e->imm;
	p.ackreq = ackreq;
	p.sends = w->ours && w->req.inflight ? w->req.inflight->sends[p.psn % SR_WINDOW] : 0;
	p.se = last && (e->flags & SR_WQE_SOLICITED);
	if (read) {
		uint32_t end = (k + count) << w->mtu_shift;
		p.dma_len = (end < e->length && k + count < packets ? end : e->length) - off;
	} else if (sr_opcode_is_read(e->opcode)) {
		p.swap_add = e->opcode == IBV_WR_ATOMIC_CMP_AND_SWP ? e->atomic.swap : e->atomic.compare_add;
		p.compare = e->opcode == IBV_WR_ATOMIC_CMP_AND_SWP ? e->atomic.compare_add : 0;
	} else {
		uint32_t len = e->length - off < w->mtu ? e->length - off : w->mtu;
		n = sr_swqe_iov(w->qp, e, off, len, false, iov, SR_MAX_SGE);
	}
	if (n >= 0) {
		sr_ride_put(w, &p);
		if (!sr_tx_packet(&w->path, &p, iov, n))
			n = -IBV_WC_LOC_PROT_ERR;
	}
	if (n < 0)
		sr_req_fail(w, index, (enum ibv_wc_status)-n);
	return n >= 0;
}

static bool want_ackreq(struct sr_wire_qp *w, bool last)
{
	if (!sr_qp_reliable(w->qp))
		return false;
	if (last || ++w->req.since_ackreq >= SR_ACK_EVERY) {
		w->req.since_ackreq = 0;
		return true;
	}
	return false;
}

/* Forgets what was known about the PSNs SR_WINDOW before these. */
static void open_psns(struct sr_requester *r, uint32_t psn, uint32_t n)
{
	uint32_t now_us = sr_wire_now_us();
	if (r->una == r->psn)
		r->newest_us = now_us; /* microseconds wrap around: nothing may be compared with a time long ago */
	for (uint32_t i = 0; i < n; i++) {
		uint32_t slot = (psn + i) % SR_WINDOW;
		r->inflight->sends[slot] = 0;
		r->inflight->sent_us[slot] = now_us;
	}
}

/* Readies the WQE at the cursor. False when it has to wait. */
static bool begin(struct sr_wire_qp *w, struct sr_swqe *e)
{
	struct sr_requester *r = &w->req;
	struct sr_qp *qp = w->qp;
	bool reads_out = r->read_head != r->read_tail;
	if (sr_qp_state(qp) != IBV_QPS_RTS || ((e->flags & SR_WQE_FENCE) && reads_out))
		return false;
	if (sr_opcode_is_local(e->opcode)) {
		enum ibv_wc_status status = sr_swqe_local(qp, e);
		if (status != IBV_WC_SUCCESS) {
			sr_req_fail(w, r->cursor, status);
			return false;
		}
		e->psn_first = r->psn;
		e->psn_last = (r->psn - 1) & SR_PSN_MASK;
		qp->sq.next = ++r->cursor;
		sr_req_advance(w);
		return false; /* the caller looks at the cursor again */
	}
	if (sr_opcode_is_read(e->opcode)) {
		struct iovec iov[SR_MAX_SGE];
		int n = sr_swqe_iov(qp, e, 0, e->length, true, iov, SR_MAX_SGE);
		if (n < 0) {
			sr_req_fail(w, r->cursor, (enum ibv_wc_status)-n);
			return false;
		}
	}
	e->psn_first = r->psn;
	e->psn_last = (r->psn + sr_req_packets(w, e) - 1) & SR_PSN_MASK;
	qp->sq.next = r->cursor + 1;
	return true;
}

static bool next_read(struct sr_wire_qp *w, struct sr_swqe *e, uint32_t room)
{
	struct sr_requester *r = &w->req;
	uint32_t left = sr_req_packets(w, e) - r->packet;
	uint32_t n = left < SR_READ_CHUNK ? left : SR_READ_CHUNK;
	if (r->read_head - r->read_tail >= reads_limit(w) || (room < n && room < READ_ROOM_MIN && sr_req_inflight(r)))
		return false;
	n = n < room ? n : room;
	open_psns(r, r->psn, n);
	if (!emit(w, e, r->cursor, r->packet, n, true))
		return false;
	r->reads[r->read_head++ % SR_READS_MAX] = (struct sr_read_out){ r->psn, n };
	r->psn = sr_psn_add(r->psn, n);
	r->packet += n;
	return true;
}

/* Sends one packet of the WQE at the cursor. False when there is none or it has to wait. */
static bool send_next(struct sr_wire_qp *w)
{
	struct sr_requester *r = &w->req;
	struct sr_sq *sq = &w->qp->sq;
	bool reliable = sr_qp_reliable(w->qp);
	if (r->cursor == sq->head || r->fail_status != IBV_WC_SUCCESS)
		return false;
	uint32_t room = reliable ? window_room(w) : 1;
	struct sr_swqe *e = sr_sq_at(sq, r->cursor);
	if (room == 0)
		return false;
	if (r->packet == 0) {
		uint32_t cursor = r->cursor;
		if (!begin(w, e))
			return !w->dead && r->cursor != cursor;
	}
	uint32_t packets = sr_req_packets(w, e);
	if (sr_opcode_is_read(e->opcode)) {
		if (!next_read(w, e, room))
			return false;
	} else {
		if (reliable)
			open_psns(r, r->psn, 1);
		/* A packet that fills the window must bring an answer. */
		if (!emit(w, e, r->cursor, r->packet, 1, want_ackreq(w, r->packet + 1 == packets || room == 1)))
			return false;
		r->psn = sr_psn_add(r->psn, 1);
		r->packet++;
	}
	if (r->packet == packets) {
		r->packet = 0;
		r->cursor++;
		if (!reliable)
			r->una = r->psn; /* unacknowledged service: sent is done */
	}
	return true;
}

/* The READ, atomic or packet at `psn`, once more; marks what it covers as sent. Returns false when nothing could be sent. */
static bool send_again(struct sr_wire_qp *w, uint32_t psn)
{
	struct sr_requester *r = &w->req;
	struct sr_inflight *f = r->inflight;
	uint32_t index, n = 1, now_us = sr_wire_now_us();
	uint8_t sends = 0;
	struct sr_swqe *e = sr_req_find(w, psn, &index);
	if (!e)
		return false;
	const struct sr_read_out *read = e->opcode == IBV_WR_RDMA_READ ? sr_req_read_of(w, psn) : NULL;
	if (read) {
		uint32_t limit = read->npsn - ((psn - read->psn) & SR_PSN_MASK);
		while (n < limit && sr_bit(f->lost, (psn + n) % SR_WINDOW))
			n++;
	}
	for (uint32_t i = 0; i < n; i++)
		sends = f->sends[(psn + i) % SR_WINDOW] > sends ? f->sends[(psn + i) % SR_WINDOW] : sends;
	sends = sends < SR_SENDS_MAX ? sends + 1 : SR_SENDS_MAX;
	for (uint32_t i = 0; i < n; i++) {
		uint32_t slot = (psn + i) % SR_WINDOW;
		sr_bit_clear(f->lost, slot);
		f->sends[slot] = sends;
		f->sent_us[slot] = now_us;
	}
	uint32_t k = (psn - e->psn_first) & SR_PSN_MASK;
	bool last = k + 1 == sr_req_packets(w, e) || r->lost_count == 1 || (r->refused && psn == r->refused_psn);
	r->lost_count -= n;
	if (!emit(w, e, index, k, n, read || want_ackreq(w, last)))
		return false;
	SR_COUNT_N(retransmitted_packets, read ? 1 : n);
	if (w->ours)
		SR_COUNT(selective_retransmits);
	return true;
}

static bool may_send_again(const struct sr_wire_qp *w, uint32_t psn)
{
	const struct sr_requester *r = &w->req;
	if (r->refused && sr_psn_diff(psn, r->refused_psn) > 0)
		return false; /* it would be in vain as long as the one before it is refused */
	return !w->ours || r->forced || sr_req_inflight(r) < sr_cc_window(&r->cc);
}

static bool send_next_lost(struct sr_wire_qp *w)
{
	uint32_t psn = sr_req_next_lost(w);
	return may_send_again(w, psn) && send_again(w, psn);
}

void sr_req_transmit(struct sr_wire_qp *w)
{
	struct sr_requester *r = &w->req;
	enum ibv_qp_state state = sr_qp_state(w->qp);
	if (!w->rts || w->dead || r->waiting_rnr || (state != IBV_QPS_RTS && state != IBV_QPS_SQD))
		return;
	if (!r->inflight && sr_qp_reliable(w->qp)) {
		if (r->cursor == w->qp->sq.head)
			return;
		r->inflight = calloc(1, sizeof(*r->inflight));
		if (!r->inflight) {
			sr_wire_mark(&sr_wire.tx_work, &w->tx_node); /* tried again in the next round */
			return;
		}
	}
	uint32_t budget = SR_TX_BUDGET;
	while (budget && r->lost_count && send_next_lost(w)) {
		budget--;
		r->forced -= r->forced ? 1 : 0;
	}
	while (budget && !r->refused && (r->lost_count == 0 || w->ours) && send_next(w))
		budget--;
	if (w->dead)
		return;
	if (w->qp->type == IBV_QPT_UC && w->qp->sq.tail != r->cursor) {
		sr_tx_flush(); /* completion gives the memory back to the application */
		sr_sq_complete(w->qp, r->cursor);
	}
	if (budget == 0)
		sr_wire_mark(&sr_wire.tx_work, &w->tx_node);
	if (r->fail_status != IBV_WC_SUCCESS)
		sr_req_advance(w);
	if (!w->dead)
		sr_timers_update(w);
}

struct sr_swqe *sr_req_find(struct sr_wire_qp *w, uint32_t psn, uint32_t *index)
{
	struct sr_requester *r = &w->req;
	struct sr_sq *sq = &w->qp->sq;
	uint32_t i = r->found - sq->tail < sq->next - sq->tail ? r->found : sq->tail;
	struct sr_swqe *hint = sr_sq_at(sq, i);
	if (i != sq->tail && sr_psn_diff(psn, hint->psn_first) < 0)
		i = sq->tail;
	for (; i != sq->next; i++) {
		struct sr_swqe *e = sr_sq_at(sq, i);
		uint32_t span = (e->psn_last - e->psn_first) & SR_PSN_MASK;
		if (span != SR_PSN_MASK && ((psn - e->psn_first) & SR_PSN_MASK) <= span) {
			r->found = *index = i;
			return e;
		}
	}
	return NULL;
}

void sr_req_fail(struct sr_wire_qp *w, uint32_t index, enum ibv_wc_status status)
{
	struct sr_requester *r = &w->req;
	/* The earlier one counts: what is behind it will be flushed. */
	if (r->fail_status != IBV_WC_SUCCESS && (int32_t)(index - r->fail_index) >= 0)
		return;
	r->fail_status = (uint8_t)status;
	r->fail_index = index;
}
