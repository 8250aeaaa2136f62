/*
 * responder.c - executes requests in PSN order: SEND, WRITE, READ, atomics, each checked before a byte is touched.
 *
 * Errors follow the specification's classes: what the requester did wrong is answered with a NAK and moves this queue pair to
 * ERR; a missing receive WQE is answered with an RNR NAK and changes nothing.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include "../engine/guard.h"
#include "../engine/xrc.h"
#include "wire.h"

#define NO_EVENT (-1)

int sr_rsp_init(struct sr_wire_qp *w)
{
	struct sr_responder *s = &w->rsp;
	uint32_t size = 4;
	s->psn = w->qp->attr.rq_psn & SR_PSN_MASK;
	/* Twice what may be outstanding: a requester that lost answers asks for parts of a READ, which count as READs here. */
	s->res_max = w->qp->attr.max_dest_rd_atomic * 2u;
	while (size < s->res_max * 2 + 2)
		size *= 2;
	s->reply_mask = size - 1;
	s->res = calloc(s->res_max ? s->res_max : 1, sizeof(*s->res));
	s->replies = calloc(size, sizeof(*s->replies));
	return s->res && s->replies ? 0 : ENOMEM;
}

void sr_rsp_free(struct sr_wire_qp *w)
{
	sr_ooo_free(w);
	free(w->rsp.res);
	free(w->rsp.replies);
}

void sr_rsp_owe_ack(struct sr_wire_qp *w)
{
	struct sr_responder *s = &w->rsp;
	if (!s->ack_due) {
		s->ack_due = true;
		w->ack_since_ns = sr_wire.now_ns;
	}
	sr_wire_mark(&sr_wire.acks, &w->ack_node);
}

void sr_rsp_nak(struct sr_wire_qp *w, uint8_t syndrome, bool fatal, int event)
{
	struct sr_responder *s = &w->rsp;
	s->nak_due = syndrome;
	s->nak_sent = true;
	s->nak_fatal = fatal;
	s->nak_event = event;
	sr_wire_mark(&sr_wire.tx_work, &w->tx_node);
}

static void bad_request(struct sr_wire_qp *w) { sr_rsp_nak(w, SR_NAK_INVALID_REQUEST, true, IBV_EVENT_QP_REQ_ERR); }
static void bad_access(struct sr_wire_qp *w)
{
	SR_COUNT(resp_remote_access_errors);
	sr_rsp_nak(w, SR_NAK_REMOTE_ACCESS, true, IBV_EVENT_QP_ACCESS_ERR);
}

/* Takes a receive WQE, or tells the requester to come again. */
static bool take_receive(struct sr_wire_qp *w)
{
	if (w->qp->rx->active || sr_rx_take(w->qp) == 0)
		return true;
	sr_rsp_nak(w, (uint8_t)(SR_AETH_TYPE_RNR | w->qp->attr.min_rnr_timer), false, NO_EVENT);
	return false;
}

static void end_message(struct sr_wire_qp *w)
{
	w->rsp.in_message = false;
	w->rsp.msn = (w->rsp.msn + 1) & 0xffffff;
}

/* A packet in the middle is exactly one MTU, the last of several at least one byte. */
static bool length_fits(const struct sr_wire_qp *w, const struct sr_pkt *p)
{
	if (!(p->flags & SR_M_LAST))
		return p->payload_len == w->mtu;
	return p->payload_len <= w->mtu && (p->payload_len > 0 || (p->flags & SR_M_FIRST));
}

static bool execute_send(struct sr_wire_qp *w, const struct sr_pkt *p)
{
	struct sr_responder *s = &w->rsp;
	struct sr_qp *qp = w->qp;
	if (p->flags & SR_M_FIRST) {
		if (!take_receive(w))
			return false;
		s->in_message = true;
		s->in_write = false;
		s->offset = 0;
	}
	struct ibv_wc wc = { .opcode = IBV_WC_RECV, .src_qp = qp->dest_qpn };
	enum ibv_wc_status status = sr_rx_scatter(qp, s->offset, p->payload, p->payload_len);
	if (status == IBV_WC_SUCCESS && (p->flags & SR_H_IETH) && sr_remote_invalidate(qp, p->inv_rkey)) {
		bad_access(w);
		return false;
	}
	if (status != IBV_WC_SUCCESS) {
		wc.byte_len = s->offset + p->payload_len;
		sr_rx_complete(qp, status, &wc, false);
		sr_rsp_nak(w, status == IBV_WC_LOC_LEN_ERR ? SR_NAK_INVALID_REQUEST : SR_NAK_REMOTE_OPERATIONAL, true, NO_EVENT);
		return false;
	}
	s->offset += p->payload_len;
	if (p->flags & SR_M_LAST) {
		wc.byte_len = s->offset;
		if (p->flags & SR_H_IMM) {
			wc.imm_data = p->imm;
			wc.wc_flags = IBV_WC_WITH_IMM;
		} else if (p->flags & SR_H_IETH) {
			wc.invalidated_rkey = p->inv_rkey;
			wc.wc_flags = IBV_WC_WITH_INV;
		}
		end_message(w);
		sr_rx_complete(qp, IBV_WC_SUCCESS, &wc, p->se);
	}
	return true;
}

static bool execute_write(struct sr_wire_qp *w, const struct sr_pkt *p)
{
	struct sr_responder *s = &w->rsp;
	struct sr_qp *qp = w->qp;
	if (p->flags & SR_M_FIRST) {
		if (p->dma_len && !(qp->access & IBV_ACCESS_REMOTE_WRITE)) {
			bad_request(w);
			return false;
		}
		if (p->dma_len && !sr_remote_ptr(qp, p->rkey, p->va, p->dma_len, IBV_ACCESS_REMOTE_WRITE)) {
			bad_access(w);
			return false;
		}
		s->rkey = p->rkey;
		s->va = p->va;
		s->length = p->dma_len;
		s->offset = 0;
	}
	uint64_t end = (uint64_t)s->offset + p->payload_len;
	if (p->flags & SR_M_LAST ? end != s->length : end >= s->length) {
		bad_request(w);
		return false;
	}
	if ((p->flags & SR_H_IMM) && !take_receive(w))
		return false;
	s->in_message = s->in_write = true;
	if (p->payload_len) {
		/* Looked up for every packet: the region may have gone since the first. */
		void *to = sr_remote_ptr(qp, s->rkey, s->va + s->offset, p->payload_len, IBV_ACCESS_REMOTE_WRITE);
		if (!to || !sr_guard_copy(to, p->payload, p->payload_len)) {
			bad_access(w);
			return false;
		}
	}
	s->offset += p->payload_len;
	if (p->flags & SR_M_LAST) {
		end_message(w);
		if (p->flags & SR_H_IMM) {
			struct ibv_wc wc = { .opcode = IBV_WC_RECV_RDMA_WITH_IMM, .byte_len = s->length, .imm_data = p->imm,
					     .wc_flags = IBV_WC_WITH_IMM, .src_qp = qp->dest_qpn };
			sr_rx_complete(qp, IBV_WC_SUCCESS, &wc, p->se);
		}
	}
	return true;
}

/*
 * More requests wait for their answers than the requester may have outstanding. Between our own devices a READ is asked for in
 * parts, and parts are asked for again while their answers are on the way: there the queue of answers is the limit, and a request
 * beyond it counts as lost (true with *lost set) instead of ending the connection.
 */
static bool too_many(const struct sr_wire_qp *w, bool *lost)
{
	const struct sr_responder *s = &w->rsp;
	uint32_t waiting = s->reply_head - s->reply_tail;
	*lost = w->ours && s->res_max && waiting > s->reply_mask;
	return s->res_max == 0 || *lost || (!w->ours && waiting >= s->res_max);
}

static uint32_t execute_read(struct sr_wire_qp *w, const struct sr_pkt *p)
{
	struct sr_responder *s = &w->rsp;
	uint32_t npsn = p->dma_len ? (p->dma_len + w->mtu - 1) >> w->mtu_shift : 1;
	bool lost, many = too_many(w, &lost);
	if (lost)
		return 0;
	if (many || p->dma_len > 1u << 31 ||
	    (p->dma_len && !(w->qp->access & IBV_ACCESS_REMOTE_READ))) {
		bad_request(w);
		return 0;
	}
	if (p->dma_len && !sr_remote_ptr(w->qp, p->rkey, p->va, p->dma_len, IBV_ACCESS_REMOTE_READ)) {
		bad_access(w);
		return 0;
	}
	s->msn = (s->msn + 1) & 0xffffff;
	sr_rsp_queue(w, &(struct sr_reply){ .kind = SR_OP_RC_READ_REQUEST, .psn = s->psn, .npsn = npsn, .msn = s->msn,
					    .rkey = p->rkey, .srqn = p->srqn, .va = p->va, .length = p->dma_len,
					    .sends = w->ours ? p->sends : 0, .arrived_ns = sr_wire.arrived_ns });
	return npsn;
}

/* Atomics are remembered in a ring as long as the requester may have outstanding. */
static struct sr_res *remember(struct sr_responder *s, uint8_t kind, uint64_t orig)
{
	struct sr_res *res = &s->res[s->res_head++ % s->res_max];
	*res = (struct sr_res){ .kind = kind, .psn = s->psn, .msn = (s->msn + 1) & 0xffffff, .orig = orig };
	return res;
}

static bool execute_atomic(struct sr_wire_qp *w, const struct sr_pkt *p)
{
	struct sr_responder *s = &w->rsp;
	bool lost, many = too_many(w, &lost);
	if (lost)
		return false;
	if (many || (p->va & 7) || !(w->qp->access & IBV_ACCESS_REMOTE_ATOMIC)) {
		bad_request(w);
		return false;
	}
	void *at = sr_remote_ptr(w->qp, p->rkey, p->va, 8, IBV_ACCESS_REMOTE_ATOMIC);
	if (!at || (uintptr_t)at & 7) {
		bad_access(w);
		return false;
	}
	bool swap = (p->opcode & SR_OP_OPERATION) == SR_OP_RC_CMP_SWAP;
	uint64_t orig;
	if (!sr_guard_atomic(at, swap ? IBV_WR_ATOMIC_CMP_AND_SWP : IBV_WR_ATOMIC_FETCH_AND_ADD,
			     swap ? p->compare : p->swap_add, swap ? p->swap_add : 0, &orig)) {
		bad_access(w);
		return false;
	}
	struct sr_res *res = remember(s, p->opcode, orig);
	sr_rsp_queue(w, &(struct sr_reply){ .kind = p->opcode, .psn = s->psn, .npsn = 1, .msn = res->msn, .orig = res->orig });
	s->msn = res->msn;
	return true;
}

void sr_rsp_execute(struct sr_wire_qp *w, const struct sr_pkt *p)
{
	struct sr_responder *s = &w->rsp;
	bool first = p->flags & SR_M_FIRST, whole = p->flags & (SR_M_READ | SR_M_ATOMIC_OP);
	uint32_t npsn = 1;
	if (s->nak_fatal)
		return;
	s->nak_sent = false;
	if (first == s->in_message || (!first && s->in_write != !!(p->flags & SR_M_WRITE)) ||
	    (!whole && !length_fits(w, p))) {
		bad_request(w);
		return;
	}
	if ((p->flags & SR_H_XRC) && !sr_xrc_aim(w->qp, p->srqn, first)) {
		/* An unknown queue, or one of another domain. What the adapters' drivers report of these is an access error. */
		sr_rsp_nak(w, SR_NAK_INVALID_REQUEST, true, IBV_EVENT_QP_ACCESS_ERR);
		return;
	}
	if (p->flags & SR_M_READ)
		npsn = execute_read(w, p);
	else if (p->flags & SR_M_ATOMIC_OP)
		npsn = execute_atomic(w, p);
	else
		npsn = p->flags & SR_M_SEND ? execute_send(w, p) : execute_write(w, p);
	if (npsn == 0)
		return;
	if (npsn > 1 && s->ooo)
		sr_ooo_forget(w, s->psn, npsn);
	s->psn = sr_psn_add(s->psn, npsn);
	w->req.confirmed = 0;
	s->acked++;
	s->untimed++;
	if (p->ackreq && !whole)
		sr_rsp_owe_ack(w);
}

/* READ data is read again, as the specification wants it, by the keys and addresses of the request itself. A request that
 * reaches beyond what was executed (parts of one READ asked for separately) is answered as far as it was. */
static void read_again(struct sr_wire_qp *w, const struct sr_pkt *p)
{
	struct sr_responder *s = &w->rsp;
	uint32_t npsn = p->dma_len ? (p->dma_len + w->mtu - 1) >> w->mtu_shift : 1, known = (s->psn - p->psn) & SR_PSN_MASK;
	struct sr_reply reply = { .kind = SR_OP_RC_READ_REQUEST, .again = true, .psn = p->psn, .npsn = npsn, .msn = s->msn,
				  .rkey = p->rkey, .srqn = p->srqn, .va = p->va, .length = p->dma_len,
				  .sends = w->ours ? p->sends : 0, .arrived_ns = sr_wire.arrived_ns };
	if (p->dma_len > 1u << 31)
		return;
	if (npsn > known) {
		reply.npsn = known;
		reply.length = known << w->mtu_shift;
	}
	if (reply.length && !sr_remote_ptr_in(w->qp, sr_xrc_pd(w->qp, p->srqn), p->rkey, p->va, reply.length, IBV_ACCESS_REMOTE_READ))
		return; /* the region is gone: nothing may be said about it any more */
	sr_rsp_queue(w, &reply);
}

/* Seen before: READs and atomics are answered again, an atomic from what is remembered, never by executing it twice; anything
 * else is acknowledged again. */
void sr_rsp_duplicate(struct sr_wire_qp *w, const struct sr_pkt *p)
{
	struct sr_responder *s = &w->rsp;
	SR_COUNT(duplicate_request);
	if (p->flags & SR_M_READ) {
		read_again(w, p);
		return;
	}
	if (!(p->flags & SR_M_ATOMIC_OP)) {
		sr_rsp_owe_ack(w);
		return;
	}
	for (uint32_t i = 0; i < s->res_max; i++) {
		const struct sr_res *res = &s->res[i];
		if (res->kind != p->opcode || res->psn != p->psn)
			continue;
		sr_rsp_queue(w, &(struct sr_reply){ .kind = res->kind, .again = true, .psn = p->psn, .npsn = 1, .msn = res->msn,
						    .orig = res->orig, .arrived_ns = sr_wire.arrived_ns });
		return;
	}
}

void sr_rsp_request(struct sr_wire_qp *w, const struct sr_pkt *p, const uint8_t *raw, size_t len)
{
	struct sr_responder *s = &w->rsp;
	int32_t ahead = sr_psn_diff(p->psn, s->psn);
	if (s->nak_fatal)
		return;
	s->echo_psn = p->psn;
	s->echo_sends = p->sends;
	s->echo_ns = sr_wire.arrived_ns;
	if (ahead == 0) {
		sr_ride_take(w, p);
		if (!w->dead)
			sr_rsp_execute(w, p);
		if (!w->dead && s->ooo)
			sr_ooo_drain(w);
		return;
	}
	if (ahead < 0) {
		sr_rsp_duplicate(w, p);
		return;
	}
	SR_COUNT(out_of_sequence);
	if (s->nak_sent)
		return; /* it was told to come again from the expected packet on */
	if (w->ours) {
		sr_ooo_keep(w, p->psn, raw, len);
		s->sack_due = true;
		sr_rsp_owe_ack(w);
	} else {
		sr_rsp_nak(w, SR_NAK_SEQUENCE, false, NO_EVENT);
	}
}
