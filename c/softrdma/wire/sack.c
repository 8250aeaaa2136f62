/*
 * sack.c - the selective acknowledgement between two of our devices.
 *
 *   BTH    opcode SR_OP_SACK, PSN = the next the responder expects (all before it arrived)
 *   AETH   ACK syndrome, MSN
 *   payload
 *     echo PSN 32      the request that arrived last: the requester's clock for it is the round-trip time
 *     bitmap 64 x n    bit i of word j: PSN + 64 j + i arrived; big endian, n <= SR_WINDOW / 64
 *
 * Sent instead of an ACK while there is a gap; one for each batch of received packets.
 */
#define _GNU_SOURCE
#include "wire.h"
#include "bytes.h"

size_t sr_sack_build(uint8_t *out, uint32_t echo_psn, const uint64_t *bits, int words)
{
	sr_put32(out, echo_psn);
	for (int i = 0; i < words; i++)
		sr_put64(out + 4 + i * 8, bits[i]);
	return 4 + (size_t)words * 8;
}

bool sr_sack_parse(const uint8_t *payload, size_t len, uint32_t *echo_psn, uint64_t *bits, int max_words, int *words)
{
	if (len < 4 || (len - 4) % 8 != 0 || (len - 4) / 8 > (size_t)max_words)
		return false;
	*echo_psn = sr_get32(payload) & SR_PSN_MASK;
	*words = (int)((len - 4) / 8);
	for (int i = 0; i < *words; i++)
		bits[i] = sr_get64(payload + 4 + i * 8);
	return true;
}

void sr_sack_send(struct sr_wire_qp *w)
{
	uint64_t bits[SR_BITMAP_WORDS];
	uint8_t payload[4 + sizeof(bits)];
	int words = sr_ooo_bitmap(w, bits, SR_BITMAP_WORDS);
	struct sr_pkt p = sr_wire_header(w, SR_OP_SACK, w->rsp.psn);
	p.syndrome = SR_AETH_ACK;
	p.msn = w->rsp.msn;
	struct iovec iov = { payload, sr_sack_build(payload, w->rsp.echo_psn, bits, words) };
	sr_tx_packet(&w->path, &p, &iov, 1);
	if (iov.iov_len > 256)
		sr_tx_flush(); /* larger payloads are not copied, and this one is on the stack */
	SR_COUNT(sacks_sent);
}

void sr_sack_receive(struct sr_wire_qp *w, const struct sr_pkt *p)
{
	struct sr_requester *r = &w->req;
	uint64_t bits[SR_BITMAP_WORDS];
	uint32_t echo_psn, before = sr_req_inflight(r), index;
	int words;
	int32_t base = sr_psn_diff(p->psn, r->una), span = sr_psn_diff(r->psn, r->una);
	if (!w->ours || base > span || base < -SR_WINDOW ||
	    !sr_sack_parse(p->payload, p->payload_len, &echo_psn, bits, SR_BITMAP_WORDS, &words)) {
		SR_COUNT(rx_malformed);
		return;
	}
	SR_COUNT(sacks_received);
	sr_req_ack_upto(w, (p->psn - 1) & SR_PSN_MASK);
	for (int i = 0; i < words; i++) {
		for (uint64_t word = bits[i]; word; word &= word - 1) {
			uint32_t psn = sr_psn_add(p->psn, (uint32_t)(i * 64 + __builtin_ctzll(word)));
			struct sr_swqe *e;
			if (sr_psn_diff(psn, r->una) < 0 || sr_psn_diff(psn, r->psn) >= 0 ||
			    !(e = sr_req_find(w, psn, &index)))
				continue;
			if (sr_psn_diff(psn, r->highest) >= 0)
				r->highest = sr_psn_add(psn, 1);
			/* The request for a READ arrived; its data has not. */
			if (!sr_opcode_is_read(e->opcode))
				sr_req_mark_done(w, psn);
		}
	}
	uint32_t after = sr_req_inflight(r), now_us = sr_wire_now_us(), rtt_us = 0;
	if (sr_psn_diff(echo_psn, r->psn) < 0 && sr_psn_diff(echo_psn, r->psn) >= -SR_WINDOW) {
		uint32_t slot = echo_psn % SR_WINDOW;
		if (!sr_bit(r->inflight->again, slot))
			rtt_us = now_us - r->inflight->sent_us[slot] + 1;
		if ((int32_t)(r->inflight->sent_us[slot] - r->newest_us) > 0)
			r->newest_us = r->inflight->sent_us[slot];
	}
	if (before > after && before * 2 >= sr_cc_window(&r->cc))
		sr_cc_ack(&r->cc, before - after, rtt_us, now_us);
	sr_req_detect_loss(w);
	sr_req_advance(w);
}
