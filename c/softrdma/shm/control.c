/*
 * control.c - acknowledgements and refusals that must not be lost. One that finds the ring full is kept with the link and sent when
 * there is room; a requester never asks twice on its own. What a flood of bad requests can make us keep is bounded.
 */
#include <stdlib.h>
#include "road.h"
#include "shm.h"

#define OWED_MAX 4096u

struct owed {
	struct sr_list node;
	struct sr_control c;
};

static bool write_control(struct sr_link *l, const struct sr_control *c)
{
	struct sr_msg *m = sr_link_reserve(l, sizeof *m);
	if (!m)
		return false;
	m->src_qpn = c->src_qpn;
	m->dst_qpn = c->dst_qpn;
	m->number = c->number;
	m->ack = c->ack;
	m->length = 0;
	m->imm = c->imm;
	m->total = 0;
	sr_link_commit(l, m, sizeof *m, c->type, SR_MSGF_FIRST | SR_MSGF_LAST | (c->type == SR_MSG_ACK ? SR_MSGF_ACK : 0));
	SR_COUNT(shm_messages_sent);
	return true;
}

void sr_shm_send_control(struct sr_link *l, const struct sr_control *c)
{
	if (sr_list_empty(&l->owed) && write_control(l, c))
		return;
	struct owed *o = l->owed_count < OWED_MAX ? malloc(sizeof *o) : NULL;
	if (!o)
		return;
	o->c = *c;
	l->owed_count++;
	sr_list_add_tail(&l->owed, &o->node);
}

void sr_shm_flush_control(struct sr_link *l)
{
	sr_list_for(n, tmp, &l->owed) {
		struct owed *o = sr_list_entry(n, struct owed, node);
		if (!write_control(l, &o->c))
			return;
		sr_list_del(n);
		free(o);
		l->owed_count--;
	}
}

void sr_shm_forget_control(struct sr_link *l)
{
	sr_list_for(n, tmp, &l->owed) {
		sr_list_del(n);
		free(sr_list_entry(n, struct owed, node));
	}
	l->owed_count = 0;
}

void sr_shm_send_nak(struct sr_link *l, uint32_t src_qpn, uint32_t dst_qpn, uint32_t number, enum sr_nak code, uint32_t rnr_timer)
{
	sr_shm_send_control(l, &(struct sr_control){
				       .type = SR_MSG_NAK,
				       .src_qpn = src_qpn,
				       .dst_qpn = dst_qpn,
				       .number = number,
				       .imm = code | rnr_timer << 8,
			       });
}

void sr_shm_leave_ack(struct sr_qp *qp)
{
	sr_list_del(&qp->shm.ack_node);
	sr_shm_send_control(qp->link, &(struct sr_control){
					      .type = SR_MSG_ACK,
					      .src_qpn = qp->qpn,
					      .dst_qpn = qp->dest_qpn,
					      .ack = qp->shm.expect,
				      });
}
