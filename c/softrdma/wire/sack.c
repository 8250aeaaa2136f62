/*
 * sack.c - the selective acknowledgement between two of our devices.
 *
 *   BTH    opcode SR_OP_SACK, PSN = the next the responder expects (all before it arrived)
 *   AETH   ACK syndrome, MSN
 *   payload
 *     sends 8          which transmission of a request arrived last (packet.h), and
 *     echo PSN 24      which request
 *     held 32          microseconds from its arrival at the kernel to this answer: the rest of the round trip is the network
 *     bitmap 64 x n    bit i of word j: PSN + 64 j + i arrived; big endian, n <= SR_WINDOW / 64
 *
 * Also sent before the data of a READ, without a bitmap: READ data itself has no room for the times.
 * Sent instead of an ACK while there is a gap, one for each batch of received packets; and in bulk transfers without one, for
 * the timing that congestion control needs.
 */
#define _GNU_SOURCE
#include "wire.h"
#include "bytes.h"

size_t sr_sack_build(const struct sr_sack *sack, uint8_t *out)
{
	sr_put32(out, (uint32_t)sack->echo_sends << 24 | sack->echo_psn);
	sr_put32(out + 4, sack->held_us);
	for (int i = 0; i < sack->words; i++)
		sr_put64(out + 8 + i * 8, sack->bits[i]);
	return 8 + (size_t)sack->words * 8;
}

bool sr_sack_parse(struct sr_sack *sack, const uint8_t *payload, size_t len)
{
	if (len < 8 || len > SR_SACK_BYTES_MAX || len % 8 != 0)
		return false;
	sack->echo_sends = payload[0];
	sack->echo_psn = sr_get32(payload) & SR_PSN_MASK;
	sack->held_us = sr_get32(payload + 4);
	sack->words = (int)((len - 8) / 8);
	for (int i = 0; i < sack->words; i++)
		sack->bits[i] = sr_get64(payload + 8 + i * 8);
	return true;
}

static void send_sack(struct sr_wire_qp *w, struct sr_sack *sack, uint32_t psn, uint64_t arrived_ns)
{
	uint8_t payload[SR_SACK_BYTES_MAX];
	uint64_t now_ns = sr_wire_clock_ns();
	sack->held_us = now_ns > arrived_ns ? (uint32_t)((now_ns - arrived_ns) / 1000) : 0;
	struct sr_pkt p = sr_wire_header(w, SR_OP_SACK, psn);
	p.syndrome = SR_AETH_ACK;
	p.msn = w->rsp.msn;
	struct iovec iov = { payload, sr_sack_build(sack, payload) };
	sr_tx_packet(&w->path, &p, &iov, 1);
	if (iov.iov_len > SR_TX_COPY_BYTES)
		sr_tx_flush(); /* it was not copied, and is on the stack */
	SR_COUNT(sacks_sent);
}

void sr_sack_send(struct sr_wire_qp *w)
{
	struct sr_sack sack = { .echo_psn = w->rsp.echo_psn, .echo_sends = w->rsp.echo_sends };
	sack.words = sr_ooo_bitmap(w, sack.bits, SR_BITMAP_WORDS);
	send_sack(w, &sack, w->rsp.psn, w->rsp.echo_ns);
}

void sr_sack_before_data(struct sr_wire_qp *w, const struct sr_reply *reply)
{
	struct sr_sack sack = { .echo_psn = reply->psn, .echo_sends = reply->sends };
	send_sack(w, &sack, reply->psn, reply->arrived_ns);
}

/* What the bitmap says of one PSN. */
static void arrived(struct sr_wire_qp *w, uint32_t psn)
{
	struct sr_requester *r = &w->req;
	uint32_t index;
	if (sr_psn_diff(psn, r->una) < 0 || sr_psn_diff(psn, r->psn) >= 0 || sr_bit(r->inflight->done, psn % SR_WINDOW))
		return;
	struct sr_swqe *e = sr_req_find(w, psn, &index);
	if (!e)
		return;
	if (sr_psn_diff(psn, r->highest) >= 0)
		r->highest = sr_psn_add(psn, 1);
	/* Of a READ only the request arrived; its data has not. */
	if (!sr_opcode_is_read(e->opcode))
		sr_req_mark_done(w, psn);
}

/* Network round-trip time of the echoed packet; 0 = unknown. */
static uint32_t round_trip_us(struct sr_wire_qp *w, const struct sr_sack *sack)
{
	struct sr_requester *r = &w->req;
	int32_t ago = sr_psn_diff(r->psn, sack->echo_psn);
	uint32_t slot = sack->echo_psn % SR_WINDOW;
	if (ago <= 0 || ago > SR_WINDOW)
		return 0;
	sr_req_note_answer(r, sack->echo_psn, sack->echo_sends);
	int32_t total_us = (int32_t)((uint32_t)(sr_wire.arrived_ns / 1000) - r->inflight->sent_us[slot]);
	if (r->inflight->sends[slot] != sack->echo_sends || total_us <= 0)
		return 0;
	return (uint32_t)total_us > sack->held_us ? (uint32_t)total_us - sack->held_us : 1;
}

void sr_sack_receive(struct sr_wire_qp *w, const struct sr_pkt *p)
{
	struct sr_requester *r = &w->req;
	struct sr_sack sack;
	uint32_t before = sr_req_inflight(r);
	int32_t base = sr_psn_diff(p->psn, r->una), span = sr_psn_diff(r->psn, r->una);
	if (!w->ours || base > span || base < -SR_WINDOW || !sr_sack_parse(&sack, p->payload, p->payload_len)) {
		SR_COUNT(rx_malformed);
		return;
	}
	SR_COUNT(sacks_received);
	uint32_t rtt_us = round_trip_us(w, &sack);
	sr_req_ack_upto(w, (p->psn - 1) & SR_PSN_MASK);
	for (int i = 0; i < sack.words; i++)
		for (uint64_t word = sack.bits[i]; word; word &= word - 1)
			arrived(w, sr_psn_add(p->psn, (uint32_t)(i * 64 + __builtin_ctzll(word))));
	uint32_t after = sr_req_inflight(r);
	sr_cc_ack(&r->cc, before > after ? before - after : 0, rtt_us, before * 2 >= sr_cc_window(&r->cc), sr_wire_now_us());
	if (rtt_us)
		sr_cc_hint(&r->cc, sr_path_min_rtt_us(&w->path, rtt_us));
	sr_req_detect_loss(w);
	sr_req_advance(w);
}
