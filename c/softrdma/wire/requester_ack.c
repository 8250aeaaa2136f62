/* requester_ack.c - responses: acknowledgements, READ data, atomic results, NAKs; and the completions they cause. */
#define _GNU_SOURCE
#include "../engine/rnr.h"
#include "wire.h"

/* Completes what is done and re-arms the timers; reports a failed WQE when its turn has come. */
void sr_req_advance(struct sr_wire_qp *w)
{
	struct sr_requester *r = &w->req;
	struct sr_sq *sq = &w->qp->sq;
	/* That a packet arrived ahead of a gap does not mean that it was executed: it may yet be refused, or forgotten. */
	while (r->una != r->expected && r->done_count && sr_bit(r->inflight->done, r->una % SR_WINDOW)) {
		sr_bit_clear(r->inflight->done, r->una % SR_WINDOW);
		r->done_count--;
		r->una = sr_psn_add(r->una, 1);
	}
	if (sr_psn_diff(r->una, r->highest) > 0)
		r->highest = r->una;
	if (r->refused && sr_psn_diff(r->expected, r->refused_psn) > 0)
		r->refused = false;
	while (r->read_tail != r->read_head) {
		struct sr_read_out *read = &r->reads[r->read_tail % SR_READS_MAX];
		if (sr_psn_diff(r->una, read->psn) < (int32_t)read->npsn)
			break;
		r->read_tail++;
	}
	uint32_t end = sq->tail;
	while (end != r->cursor && sr_psn_diff(r->una, sr_sq_at(sq, end)->psn_last) > 0 &&
	       (r->fail_status == IBV_WC_SUCCESS || end != r->fail_index))
		end++;
	if (end != sq->tail)
		sr_sq_complete(w->qp, end);
	bool progress = r->una != r->una_seen;
	r->una_seen = r->una;
	if (progress) {
		r->retries_left = w->qp->attr.retry_cnt;
		r->rnr_left = w->qp->attr.rnr_retry;
		r->probes = 0;
		r->probe_ns = 0; /* started afresh by sr_timers_update() */
		if (!r->waiting_rnr) /* the wait for a receiver goes on, whatever else is acknowledged meanwhile */
			r->deadline_ns = 0;
	}
	if (r->fail_status != IBV_WC_SUCCESS && sq->tail == r->fail_index) {
		enum ibv_wc_status status = (enum ibv_wc_status)r->fail_status;
		sr_tx_flush(); /* nothing may still point into the application's memory */
		sr_sq_fail(w->qp, status, 0);
		if (!w->dead) { /* UC: SQE; the send queue was flushed */
			r->fail_status = IBV_WC_SUCCESS;
			r->cursor = sq->next;
			r->packet = 0;
		}
		return;
	}
	if (!w->dead && progress)
		sr_wire_mark(&sr_wire.tx_work, &w->tx_node);
}

/* Everything up to psn was executed. */
static void executed(struct sr_requester *r, uint32_t psn)
{
	if (sr_psn_diff(psn + 1, r->highest) > 0)
		r->highest = sr_psn_add(psn, 1);
	if (sr_psn_diff(psn + 1, r->expected) > 0)
		r->expected = sr_psn_add(psn, 1);
}

void sr_req_ack_upto(struct sr_wire_qp *w, uint32_t psn)
{
	struct sr_requester *r = &w->req;
	int32_t n = sr_psn_diff(psn, r->una) + 1;
	if (n <= 0 || n > sr_psn_diff(r->psn, r->una))
		return;
	executed(r, psn);
	if (r->read_head == r->read_tail && r->done_count == 0 && r->lost_count == 0) {
		r->una = sr_psn_add(psn, 1); /* the usual case: nothing is remembered about single packets */
		return;
	}
	for (uint32_t q = r->una; n > 0;) {
		uint32_t index;
		struct sr_swqe *e = sr_req_find(w, q, &index);
		if (!e)
			return;
		int32_t span = sr_psn_diff(e->psn_last, q) + 1;
		span = span < n ? span : n;
		for (int32_t i = 0; i < span && !sr_opcode_is_read(e->opcode); i++)
			sr_req_mark_done(w, sr_psn_add(q, (uint32_t)i));
		q = sr_psn_add(q, (uint32_t)span);
		n -= span;
	}
}

/* One response confirms everything before its WQE. */
static void implied_ack(struct sr_wire_qp *w, const struct sr_swqe *e)
{
	sr_req_ack_upto(w, (e->psn_first - 1) & SR_PSN_MASK);
}

void sr_req_note_answer(struct sr_requester *r, uint32_t psn, uint8_t sends)
{
	uint32_t slot = psn % SR_WINDOW, sent_us = r->inflight->sent_us[slot];
	if (r->inflight->sends[slot] != sends)
		return;
	if ((int32_t)(sent_us - r->newest_us) > 0)
		r->newest_us = sent_us;
	uint32_t took_us = sr_wire_now_us() - sent_us + 1;
	if (r->answer_us == 0) {
		r->answer_us = took_us;
		r->answer_var_us = took_us / 2;
		return;
	}
	int64_t off_us = (int64_t)took_us - r->answer_us;
	r->answer_us = (uint32_t)(r->answer_us + off_us / 8);
	r->answer_var_us = (uint32_t)(r->answer_var_us + ((off_us < 0 ? -off_us : off_us) - r->answer_var_us) / 4);
}

/* Plain acknowledgements and READ data: the window may grow, but they carry no timing (sack.c does). */
static void note_arrival(struct sr_wire_qp *w, uint32_t psn, uint8_t sends, uint32_t acked, uint32_t inflight_before)
{
	struct sr_requester *r = &w->req;
	sr_req_note_answer(r, psn, sends);
	if (w->ours && acked)
		sr_cc_ack(&r->cc, acked, 0, inflight_before * 2 >= sr_cc_window(&r->cc), sr_wire_now_us());
}

static void on_ack(struct sr_wire_qp *w, uint32_t psn, uint8_t sends)
{
	struct sr_requester *r = &w->req;
	uint32_t before = sr_req_inflight(r), una = r->una;
	if (sr_psn_diff(psn, r->una) < 0)
		return; /* old */
	sr_req_ack_upto(w, psn);
	uint32_t after = sr_req_inflight(r);
	note_arrival(w, psn, sends, before > after ? before - after : (r->una - una) & SR_PSN_MASK, before);
	sr_req_detect_loss(w);
	sr_req_advance(w);
}

void sr_req_acked(struct sr_wire_qp *w, uint32_t psn)
{
	if (sr_psn_diff(psn, w->req.psn) >= 0)
		return;
	on_ack(w, psn, 0);
	if (!w->dead)
		sr_timers_update(w);
}

static void on_read_data(struct sr_wire_qp *w, const struct sr_pkt *p)
{
	struct sr_requester *r = &w->req;
	uint32_t index, before = sr_req_inflight(r);
	struct sr_swqe *e = sr_psn_diff(p->psn, r->una) < 0 ? NULL : sr_req_find(w, p->psn, &index);
	if (!e || e->opcode != IBV_WR_RDMA_READ || sr_bit(r->inflight->done, p->psn % SR_WINDOW)) {
		SR_COUNT(duplicate_request);
		return;
	}
	uint32_t k = (p->psn - e->psn_first) & SR_PSN_MASK, off = k << w->mtu_shift;
	uint32_t want = e->length - off < w->mtu ? e->length - off : w->mtu;
	if (p->payload_len != want) {
		SR_COUNT(rx_malformed);
		return;
	}
	implied_ack(w, e);
	int err = sr_swqe_store(w->qp, e, off, p->payload, want);
	if (err < 0) {
		sr_req_fail(w, index, (enum ibv_wc_status)-err);
		sr_req_advance(w);
		return;
	}
	executed(r, p->psn);
	sr_req_mark_done(w, p->psn);
	note_arrival(w, p->psn, p->sends, 1, before);
	if (p->psn != r->una)
		sr_req_detect_loss(w);
	sr_req_advance(w);
}

static void on_atomic_result(struct sr_wire_qp *w, const struct sr_pkt *p)
{
	uint32_t index;
	struct sr_swqe *e = sr_psn_diff(p->psn, w->req.una) < 0 ? NULL : sr_req_find(w, p->psn, &index);
	if (!e || !sr_opcode_is_read(e->opcode) || e->opcode == IBV_WR_RDMA_READ ||
	    sr_bit(w->req.inflight->done, p->psn % SR_WINDOW)) {
		SR_COUNT(duplicate_request);
		return;
	}
	implied_ack(w, e);
	int err = sr_swqe_store(w->qp, e, 0, &p->orig, sizeof(p->orig));
	if (err < 0) {
		sr_req_fail(w, index, (enum ibv_wc_status)-err);
	} else {
		executed(&w->req, p->psn);
		sr_req_mark_done(w, p->psn);
		sr_req_detect_loss(w);
	}
	sr_req_advance(w);
}

static void on_rnr(struct sr_wire_qp *w, const struct sr_pkt *p)
{
	struct sr_requester *r = &w->req;
	uint32_t index;
	SR_COUNT(rnr_nak_retry_err);
	if (r->waiting_rnr || sr_psn_diff(r->expected, p->psn) > 0 || !sr_req_find(w, p->psn, &index))
		return; /* the second rule: an old one, overtaken by the acknowledgement */
	if (w->qp->attr.rnr_retry != 7 && r->rnr_left-- == 0) { /* 7 is "for ever" */
		sr_req_fail(w, index, IBV_WC_RNR_RETRY_EXC_ERR);
		return;
	}
	sr_req_doubt(w, p->psn); /* it may have been reported as arrived, but is not kept */
	sr_req_lost_from(w, p->psn);
	r->waiting_rnr = r->refused = true;
	r->refused_psn = p->psn;
	r->probe_ns = 0;
	r->deadline_ns = sr_wire.now_ns + sr_rnr_timer_ns(p->syndrome & 0x1f);
}

static void on_nak(struct sr_wire_qp *w, const struct sr_pkt *p)
{
	static const uint8_t status[] = { IBV_WC_SUCCESS, IBV_WC_REM_INV_REQ_ERR, IBV_WC_REM_ACCESS_ERR, IBV_WC_REM_OP_ERR };
	uint32_t index, code = p->syndrome & 0x1f;
	if (sr_psn_diff(p->psn, w->req.una) < 0)
		return;
	sr_req_ack_upto(w, (p->psn - 1) & SR_PSN_MASK);
	if (SR_AETH_TYPE(p->syndrome) == SR_AETH_TYPE_RNR) {
		on_rnr(w, p);
	} else if (p->syndrome == SR_NAK_SEQUENCE) {
		SR_COUNT(packet_seq_err);
		sr_req_lost_from(w, p->psn);
		sr_wire_mark(&sr_wire.tx_work, &w->tx_node);
	} else if (code < sizeof(status) && sr_req_find(w, p->psn, &index)) {
		sr_req_fail(w, index, (enum ibv_wc_status)status[code]);
	} else {
		SR_COUNT(rx_malformed);
	}
	sr_req_advance(w);
}

void sr_req_response(struct sr_wire_qp *w, const struct sr_pkt *p)
{
	struct sr_requester *r = &w->req;
	/* Nothing was sent, or the response is for something that was not: forged or from another life. */
	if (!w->rts || !r->inflight || (p->opcode != SR_OP_SACK && sr_psn_diff(p->psn, r->psn) >= 0)) {
		SR_COUNT(rx_malformed);
		return;
	}
	uint32_t done = r->done_count, una = r->una;
	if ((p->flags & SR_H_AETH) && p->opcode != SR_OP_SACK && SR_AETH_TYPE(p->syndrome) != SR_AETH_TYPE_ACK)
		on_nak(w, p);
	else if (p->opcode == SR_OP_SACK)
		sr_sack_receive(w, p);
	else if (p->flags & SR_M_READ)
		on_read_data(w, p);
	else if (p->flags & SR_H_ATOMICACK)
		on_atomic_result(w, p);
	else
		on_ack(w, p->psn, p->sends);
	if (!w->dead) {
		r->confirmed += (r->una - una) & SR_PSN_MASK;
		/* With selective recovery the oldest packet may be unlucky for long while others arrive: the peer is there. */
		if (w->ours && r->una == una && r->done_count > done && !r->waiting_rnr) {
			r->retries_left = w->qp->attr.retry_cnt;
			r->deadline_ns = 0;
		}
		if (r->lost_count && !r->waiting_rnr)
			sr_wire_mark(&sr_wire.tx_work, &w->tx_node);
		sr_timers_update(w);
	}
}
