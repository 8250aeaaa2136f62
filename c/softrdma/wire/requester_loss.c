/*
 * requester_loss.c - which packets have to be sent again.
 *
 * To another implementation: go-back-N from the PSN that a NAK names, or from the oldest unacknowledged when the timer ends.
 * To our own: each packet on its own. A packet is lost when SR_REORDER packets sent after it have arrived, or (RACK, RFC 8985)
 * when one that was sent clearly later has: the second rule also finds retransmissions that were lost again. When the end of
 * a burst is lost nothing later can arrive, so after a pause the last packet is sent again as a probe.
 */
#define _GNU_SOURCE
#include "wire.h"

#define SR_REORDER 3
#define PROBES_MAX 6

void sr_req_mark_done(struct sr_wire_qp *w, uint32_t psn)
{
	struct sr_requester *r = &w->req;
	uint32_t slot = psn % SR_WINDOW;
	if (sr_bit(r->inflight->done, slot))
		return;
	sr_bit_set(r->inflight->done, slot);
	r->done_count++;
	if (sr_bit(r->inflight->lost, slot)) {
		sr_bit_clear(r->inflight->lost, slot);
		r->lost_count--;
	}
}

/* The responder said that this packet had arrived; it is not sure any more that it still has it. Of a READ the data is here. */
void sr_req_doubt(struct sr_wire_qp *w, uint32_t psn)
{
	struct sr_requester *r = &w->req;
	if (sr_psn_diff(psn, r->expected) < 0 || !sr_bit(r->inflight->done, psn % SR_WINDOW))
		return;
	sr_bit_clear(r->inflight->done, psn % SR_WINDOW);
	r->done_count--;
}

void sr_req_mark_lost(struct sr_wire_qp *w, uint32_t psn)
{
	struct sr_requester *r = &w->req;
	uint32_t slot = psn % SR_WINDOW;
	if (sr_bit(r->inflight->done, slot) || sr_bit(r->inflight->lost, slot))
		return;
	sr_bit_set(r->inflight->lost, slot);
	r->lost_count++;
}

void sr_req_lost_from(struct sr_wire_qp *w, uint32_t psn)
{
	struct sr_requester *r = &w->req;
	for (uint32_t q = sr_psn_diff(psn, r->una) < 0 ? r->una : psn; q != r->psn; q = sr_psn_add(q, 1))
		sr_req_mark_lost(w, q);
}

/* Lowest PSN marked lost; only called when there is one. */
uint32_t sr_req_next_lost(const struct sr_wire_qp *w)
{
	const struct sr_requester *r = &w->req;
	uint32_t q = r->una;
	while (!sr_bit(r->inflight->lost, q % SR_WINDOW)) {
		uint64_t word = r->inflight->lost[q % SR_WINDOW / 64] >> (q % 64);
		q += word ? (uint32_t)__builtin_ctzll(word) : 64 - q % 64;
	}
	return q & SR_PSN_MASK;
}

const struct sr_read_out *sr_req_read_of(const struct sr_wire_qp *w, uint32_t psn)
{
	const struct sr_requester *r = &w->req;
	for (uint32_t i = r->read_tail; i != r->read_head; i++) {
		const struct sr_read_out *read = &r->reads[i % SR_READS_MAX];
		if (((psn - read->psn) & SR_PSN_MASK) < read->npsn)
			return read;
	}
	return NULL;
}

/* Marks one packet; of a READ whose request never arrived, all that it asked for. Returns how many packets were lost. */
static uint32_t lose(struct sr_wire_qp *w, uint32_t psn)
{
	struct sr_requester *r = &w->req;
	const struct sr_read_out *read = r->read_head != r->read_tail ? sr_req_read_of(w, psn) : NULL;
	if (read && sr_psn_diff(read->psn, r->expected) >= 0 && sr_psn_diff(read->psn, r->una) >= 0)
		for (uint32_t i = 0; i < read->npsn; i++)
			sr_req_mark_lost(w, sr_psn_add(read->psn, i));
	else
		sr_req_mark_lost(w, psn);
	return 1;
}

void sr_req_detect_loss(struct sr_wire_qp *w)
{
	struct sr_requester *r = &w->req;
	struct sr_inflight *f = r->inflight;
	uint32_t reorder_us = r->cc.min_rtt_us / 4 + 100, lost = 0;
	if (!w->ours)
		return;
	int32_t span = sr_psn_diff(r->highest, r->una);
	for (int32_t i = 0; i < span;) {
		uint32_t slot = (r->una + (uint32_t)i) % SR_WINDOW;
		uint64_t open = ~(f->done[slot / 64] | f->lost[slot / 64]) >> (slot % 64);
		if (!open) {
			i += (int32_t)(64 - slot % 64);
			continue;
		}
		int skip = __builtin_ctzll(open);
		i += skip;
		slot = (slot + (uint32_t)skip) % SR_WINDOW;
		if (i >= span)
			break;
		int32_t later_us = (int32_t)(r->newest_us - f->sent_us[slot]);
		if ((!f->sends[slot] && span - i > SR_REORDER) || later_us > (int32_t)reorder_us)
			lost += lose(w, sr_psn_add(r->una, (uint32_t)i));
		i++;
	}
	if (lost)
		sr_cc_loss(&r->cc, lost);
}

/* The last packet makes the responder say all it knows. Lost packets go out lowest first, so room is made for this one too, even
 * when the window is full: what fills it may well be lost. */
static void send_last_too(struct sr_wire_qp *w)
{
	struct sr_requester *r = &w->req;
	sr_req_mark_lost(w, (r->psn - 1) & SR_PSN_MASK);
	r->forced = r->lost_count < UINT8_MAX ? (uint8_t)r->lost_count : UINT8_MAX;
}

/* The retransmission timer of the specification ended. */
void sr_req_timeout(struct sr_wire_qp *w)
{
	struct sr_requester *r = &w->req;
	r->deadline_ns = 0;
	if (r->waiting_rnr) {
		r->waiting_rnr = false;
	} else {
		SR_COUNT(local_ack_timeout_err);
		if (r->retries_left == 0) {
			uint32_t index;
			if (sr_req_find(w, r->una, &index))
				sr_req_fail(w, index, IBV_WC_RETRY_EXC_ERR);
			sr_req_advance(w);
			return;
		}
		r->retries_left--;
		if (w->ours) {
			/* More often than not the peer had no CPU. Its answer to these two tells what is missing; what it said
			 * earlier may be out of date. */
			for (uint32_t q = r->expected; q != r->psn && r->done_count; q = sr_psn_add(q, 1))
				sr_req_doubt(w, q);
			sr_req_mark_lost(w, r->una);
			send_last_too(w);
			sr_cc_timeout(&r->cc);
		} else {
			sr_req_lost_from(w, r->una);
		}
	}
	sr_req_transmit(w);
}

void sr_req_probe(struct sr_wire_qp *w)
{
	struct sr_requester *r = &w->req;
	uint32_t quiet_us = r->answer_us + r->answer_var_us * 2 + 200, now_us = sr_wire_now_us();
	r->probe_ns = 0;
	if (r->una == r->psn || r->probes >= PROBES_MAX)
		return;
	r->probes++;
	SR_COUNT(probes_sent);
	/* The oldest, which the responder may have reported and forgotten, and gaps that are known: sent so long ago that the
	 * retransmission must have been lost too. */
	sr_req_doubt(w, r->una);
	for (uint32_t q = r->una; q == r->una || sr_psn_diff(q, r->highest) < 0; q = sr_psn_add(q, 1))
		if ((int32_t)(now_us - r->inflight->sent_us[q % SR_WINDOW] - quiet_us) > 0)
			sr_req_mark_lost(w, q);
	/* Nothing known: one packet, whose answer tells. Of a READ the first that is missing, not all of its data. */
	if (r->lost_count == 0 && sr_req_read_of(w, r->una))
		sr_req_mark_lost(w, r->una);
	else
		send_last_too(w);
	sr_req_transmit(w);
}
