/*
 * ride.c - acknowledgements that ride in the reserved bits of a request, between two of our devices.
 *
 * In a conversation each side owes the other an acknowledgement whenever it has something to say. A packet of its own for it
 * (even as a second segment of the same datagram) costs a 64-byte round trip a tenth of its time, so a request carries it:
 *
 *   BTH word 3    AckReq 1 | rides 1 | low 6 bits of the last PSN that arrived in order | PSN 24
 *
 * Others send zero there and ignore what they find, and the ICRC covers the bits.
 *
 * Six bits are a number modulo 64, so the receiver has to be sure that it is less than 32 PSNs old: a request that was overtaken
 * by many later acknowledgements would confirm what never arrived. Therefore a request carries one only when every earlier
 * request is acknowledged: it left after its receiver had taken the one before. Since then the receiver has counted the PSNs that
 * were confirmed otherwise, and only these can be what is missing in it. The sender counts too and lets nothing ride that would
 * be refused.
 *
 * To confirm less than arrived is always safe: a probe asks for the rest (requester_loss.c).
 */
#define _GNU_SOURCE
#include "wire.h"

#define LOW_BITS 0x3f
#define TAKE_MAX 31
#define PUT_MAX 15

void sr_ride_put(struct sr_wire_qp *w, struct sr_pkt *p)
{
	struct sr_responder *s = &w->rsp;
	uint32_t confirmed = s->confirmed;
	s->confirmed = 0;
	if (!w->ours || w->qp->type != IBV_QPT_RC || p->sends || p->psn != w->req.una || confirmed > PUT_MAX || s->sack_due ||
	    s->nak_due || s->acked >= SR_SACK_FROM || sr_ooo_any(w) || sr_rsp_has_replies(w))
		return;
	s->ack_due = false;
	s->acked = 0;
	sr_list_del(&w->ack_node);
	p->rides = true;
	p->ride = (s->psn - 1) & LOW_BITS;
}

void sr_ride_take(struct sr_wire_qp *w, const struct sr_pkt *p)
{
	struct sr_requester *r = &w->req;
	if (!p->rides || !w->ours || !w->rts || !r->inflight || r->confirmed > TAKE_MAX)
		return;
	uint32_t news = (p->ride - (r->una - 1)) & LOW_BITS;
	if (news != 0 && news <= LOW_BITS / 2)
		sr_req_acked(w, sr_psn_add(r->una, news - 1));
}
