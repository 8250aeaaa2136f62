/* responder_reply.c - what a responder sends: READ data, atomic results, acknowledgements, NAKs, in PSN order. */
#define _GNU_SOURCE
#include "../engine/xrc.h"
#include "wire.h"

bool sr_rsp_queue(struct sr_wire_qp *w, const struct sr_reply *reply)
{
	struct sr_responder *s = &w->rsp;
	for (uint32_t i = s->reply_tail; i != s->reply_head; i++) {
		const struct sr_reply *q = &s->replies[i & s->reply_mask];
		if (q->psn == reply->psn && q->npsn >= reply->npsn && q->sent == 0)
			return true; /* it will be answered anyway */
	}
	if (s->reply_head - s->reply_tail > s->reply_mask)
		return false; /* too many replays; it will ask again */
	/* What was asked for again is what the requester waits for: before new READs, behind one that has begun. */
	uint32_t at = s->reply_head++;
	if (w->ours && reply->again)
		for (; at != s->reply_tail; at--) {
			const struct sr_reply *before = &s->replies[(at - 1) & s->reply_mask];
			if (before->sent || before->again)
				break;
			s->replies[at & s->reply_mask] = *before;
		}
	s->replies[at & s->reply_mask] = *reply;
	sr_wire_mark(&sr_wire.tx_work, &w->tx_node);
	return true;
}

static struct sr_pkt with_aeth(const struct sr_wire_qp *w, uint8_t opcode, uint32_t psn, uint8_t syndrome, uint32_t msn)
{
	struct sr_pkt p = sr_wire_header(w, opcode, psn);
	p.syndrome = syndrome;
	p.msn = msn;
	return p;
}

/* One packet of READ data. False when the memory may not be read any more. */
static bool send_read_packet(struct sr_wire_qp *w, struct sr_reply *r)
{
	uint32_t off = r->sent << w->mtu_shift, left = r->length - off;
	struct iovec iov = { .iov_len = left < w->mtu ? left : w->mtu };
	uint8_t op = r->npsn == 1	      ? SR_OP_RC_READ_RESP_ONLY
		     : r->sent == 0	      ? SR_OP_RC_READ_RESP_FIRST
		     : r->sent + 1 == r->npsn ? SR_OP_RC_READ_RESP_LAST
					      : SR_OP_RC_READ_RESP_MIDDLE;
	struct sr_pkt p = with_aeth(w, op, r->psn + r->sent, SR_AETH_ACK, r->msn);
	p.sends = r->sends;
	if (w->ours && r->sent == 0 && r->npsn >= SR_SACK_FROM)
		sr_sack_before_data(w, r);
	if (iov.iov_len) {
		iov.iov_base = sr_remote_ptr_in(w->qp, sr_xrc_pd(w->qp, r->srqn), r->rkey, r->va + off, iov.iov_len,
						IBV_ACCESS_REMOTE_READ);
		if (!iov.iov_base)
			return false;
	}
	if (!sr_tx_packet(&w->path, &p, &iov, iov.iov_len ? 1 : 0))
		return false;
	r->sent++;
	return true;
}

static void send_nak(struct sr_wire_qp *w)
{
	struct sr_responder *s = &w->rsp;
	struct sr_pkt p = with_aeth(w, SR_OP_RC_ACK, s->psn, s->nak_due, s->msn);
	sr_tx_packet(&w->path, &p, NULL, 0);
	s->nak_due = 0;
	if (!s->nak_fatal)
		return;
	sr_tx_flush();
	if (s->nak_event >= 0)
		sr_qp_responder_error(w->qp, (enum ibv_event_type)s->nak_event);
	else
		sr_qp_to_error(w->qp);
}

void sr_rsp_transmit(struct sr_wire_qp *w)
{
	struct sr_responder *s = &w->rsp;
	uint32_t budget = SR_TX_BUDGET;
	while (s->reply_tail != s->reply_head && budget) {
		struct sr_reply *r = &s->replies[s->reply_tail & s->reply_mask];
		if (r->kind == SR_OP_RC_READ_REQUEST) {
			if (!send_read_packet(w, r)) {
				SR_COUNT(resp_remote_access_errors);
				s->reply_tail = s->reply_head;
				s->psn = sr_psn_add(r->psn, r->sent); /* the refusal takes the place of this packet */
				sr_rsp_nak(w, SR_NAK_REMOTE_ACCESS, true, IBV_EVENT_QP_ACCESS_ERR);
				break;
			}
			budget--;
			if (r->sent < r->npsn)
				continue;
		} else {
			struct sr_pkt p = with_aeth(w, SR_OP_RC_ATOMIC_ACK, r->psn, SR_AETH_ACK, r->msn);
			p.orig = r->orig;
			sr_tx_packet(&w->path, &p, NULL, 0);
			budget--;
		}
		s->confirmed += s->acked + r->npsn;
		s->reply_tail++;
		s->acked = 0;
	}
	if (sr_rsp_has_replies(w))
		sr_wire_mark(&sr_wire.tx_work, &w->tx_node);
	else if (s->nak_due)
		send_nak(w);
}

void sr_rsp_ack(struct sr_wire_qp *w)
{
	struct sr_responder *s = &w->rsp;
	if (!s->ack_due || sr_rsp_has_replies(w))
		return; /* behind READ data still to be sent: an earlier acknowledgement would say that it was lost */
	sr_list_del(&w->ack_node);
	if (w->ours && (sr_ooo_any(w) || s->untimed >= SR_SACK_FROM)) {
		sr_sack_send(w);
		s->untimed = 0;
	} else {
		struct sr_pkt p = with_aeth(w, SR_OP_RC_ACK, s->psn - 1, SR_AETH_ACK, s->msn);
		sr_tx_packet(&w->path, &p, NULL, 0);
	}
	s->confirmed += s->acked;
	s->ack_due = s->sack_due = false;
	s->acked = 0;
}
