/* road.h - between the requester's and the responder's halves of road 1. Under sr.lock. */
#ifndef SR_ROAD_H
#define SR_ROAD_H
#include "link.h"

/* progress.c: reads what is left in a dead peer's ring; what it said before it died counts. */
void sr_shm_drain(struct sr_link *l);

/* requester.c */
void sr_shm_on_ack(struct sr_qp *qp, uint32_t ack);
void sr_shm_on_nak(struct sr_qp *qp, const struct sr_msg *m);
void sr_shm_on_data(struct sr_qp *qp, const struct sr_msg *m, size_t room, bool atomic);
void sr_shm_on_timer(struct sr_qp *qp);

/* A field of a message is read once: its writer could change it between two looks. */
#define SR_ONCE(field) (*(const volatile __typeof__(field) *)&(field))

/* control.c */
struct sr_control {
	enum sr_msg_type type; /* ACK or NAK */
	uint32_t src_qpn, dst_qpn, number, ack, imm;
};
void sr_shm_send_control(struct sr_link *l, const struct sr_control *c);
void sr_shm_flush_control(struct sr_link *l);
void sr_shm_forget_control(struct sr_link *l);
/* The acknowledgement that a queue pair owes, in the link's care: the queue pair is leaving. */
void sr_shm_leave_ack(struct sr_qp *qp);
void sr_shm_send_nak(struct sr_link *l, uint32_t src_qpn, uint32_t dst_qpn, uint32_t number, enum sr_nak code, uint32_t rnr_timer);
/* responder.c. `room`: bytes behind the header, by the lines the message came in. */
void sr_shm_on_request(struct sr_link *l, struct sr_qp *qp, const struct sr_msg *m, size_t room, enum sr_msg_type type, uint32_t flags);
/* Continues answering READs that found the ring full; true when none is left. */
bool sr_shm_continue_replies(struct sr_qp *qp);
void sr_shm_forget_replies(struct sr_qp *qp);
void sr_shm_owe_ack(struct sr_qp *qp);
void sr_shm_send_ack(struct sr_qp *qp); /* stays owed when the ring is full */
/* The flag and value to put on any message of this queue pair; the debt is paid with it. */
static inline uint32_t sr_shm_piggyback(struct sr_qp *qp, struct sr_msg *m)
{
	m->ack = qp->shm.expect;
	sr_list_del(&qp->shm.ack_node);
	return SR_MSGF_ACK;
}
static inline void sr_shm_header(struct sr_qp *qp, struct sr_msg *m)
{
	m->src_qpn = qp->qpn;
	m->dst_qpn = qp->dest_qpn;
}
static inline void sr_shm_wait_room(struct sr_link *l, struct sr_qp *qp)
{
	if (sr_list_empty(&qp->shm.blocked_node))
		sr_list_add_tail(&l->blocked, &qp->shm.blocked_node);
}
static inline void sr_shm_set_timer(struct sr_qp *qp, uint64_t delay_ns)
{
	uint64_t deadline_ns = sr_now_ns() + delay_ns;
	bool runs = !sr_list_empty(&qp->shm.timer_node), later = runs && deadline_ns >= qp->shm.deadline_ns;
	qp->shm.waiting = true;
	qp->shm.deadline_ns = deadline_ns;
	if (!runs)
		sr_list_add_tail(&sr.shm_timers, &qp->shm.timer_node);
	if (!later)
		sr_helper_kick(); /* it may be asleep without this deadline */
}

/* ud.c */
bool sr_shm_ud_must_wait(const struct sr_msg *m);
/* The receiver leaves its ring full: the datagram that waits is lost, as it would be on a wire. */
void sr_shm_ud_give_up(struct sr_qp *qp);
void sr_shm_on_ud(const struct sr_msg *m, size_t room, uint32_t flags);
#endif
