/* progress.c - reading the rings, paying acknowledgements, serving who waited. */
#include "../engine/lock.h"
#include "road.h"
#include "shm.h"

#define MESSAGES_PER_ROUND 64
#define REST_NS 500000u /* how often a sleeping helper looks again at a ring that waits for a receive WQE */
#define CLEAR_AFTER_IDLE 32 /* rounds: longer than the answer to a ping takes */
#define PUBLISH_LINES (SR_RING_LINES / 8)

static void flush_acks(struct sr_link *l)
{
	if (!sr_list_empty(&l->owed))
		sr_shm_flush_control(l);
	sr_list_for(n, tmp, &l->acks) sr_shm_send_ack(sr_list_entry(n, struct sr_qp, shm.ack_node));
	sr_link_ring_bell(l);
}

void sr_shm_flush_acks(void)
{
	sr_list_for(n, tmp, &sr.links) flush_acks(sr_list_entry(n, struct sr_link, node));
}

static void dispatch(struct sr_link *l, const struct sr_msg *m, uint32_t word)
{
	enum sr_msg_type type = SR_WORD_TYPE(word);
	uint32_t flags = SR_WORD_FLAGS(word), src_qpn = SR_ONCE(m->src_qpn), dst_qpn = SR_ONCE(m->dst_qpn);
	size_t room = SR_WORD_LINES(word) * (size_t)SR_LINE - sizeof *m;
	if (type == SR_MSG_UD) {
		/* Nobody may speak in another process's name. */
		if (sr_qpn_slot(src_qpn) == l->slot)
			sr_shm_on_ud(m, room, flags);
		else
			SR_COUNT(shm_bad_messages);
		return;
	}
	struct sr_qp *qp = sr_qp_find(dst_qpn);
	bool request = type == SR_MSG_SEND || type == SR_MSG_WRITE || type == SR_MSG_READ || type == SR_MSG_ATOMIC;
	if (!qp || qp->link != l || qp->dest_qpn != src_qpn || !sr_qp_can_receive(qp)) {
		SR_COUNT(rx_no_qp);
		/* The last part as well: the queue pair may have left in the middle. */
		if (request && (flags & (SR_MSGF_FIRST | SR_MSGF_LAST)) && !(flags & SR_MSGF_UC))
			sr_shm_send_nak(l, dst_qpn, src_qpn, m->number, SR_NAK_NOT_READY, 0);
		return;
	}
	if (!(request ? sr_qp_responds(qp) : sr_qp_requests(qp))) {
		SR_COUNT(shm_bad_messages);
		return;
	}
	if (flags & SR_MSGF_ACK)
		sr_shm_on_ack(qp, m->ack);
	if (qp->link != l)
		return; /* completing failed the queue pair */
	switch (type) {
	case SR_MSG_ACK:
		break;
	case SR_MSG_NAK:
		sr_shm_on_nak(qp, m);
		break;
	case SR_MSG_READ_DATA:
	case SR_MSG_ATOMIC_DATA:
		sr_shm_on_data(qp, m, room, type == SR_MSG_ATOMIC_DATA);
		break;
	case SR_MSG_SEND:
	case SR_MSG_WRITE:
	case SR_MSG_READ:
	case SR_MSG_ATOMIC:
		sr_shm_on_request(l, qp, m, room, type, flags);
		break;
	default:
		SR_COUNT(shm_bad_messages);
		break;
	}
}

/* A datagram that still finds no room goes on waiting until the time set when it began to. */
static void serve_blocked_ud(struct sr_qp *qp)
{
	uint32_t first = qp->sq.next;
	uint64_t deadline_ns = qp->shm.deadline_ns;
	qp->shm.waiting = false;
	sr_qp_kick(qp);
	if (!qp->shm.waiting)
		sr_list_del(&qp->shm.timer_node);
	else if (qp->sq.next == first)
		qp->shm.deadline_ns = deadline_ns;
}

static void serve_blocked(struct sr_link *l)
{
	struct sr_list waiting;
	/* Each gets one turn: who finds no room again joins the list behind. */
	sr_list_init(&waiting);
	sr_list_for(n, tmp, &l->blocked) {
		sr_list_del(n);
		sr_list_add_tail(&waiting, n);
	}
	while (!sr_list_empty(&waiting)) {
		struct sr_qp *qp = sr_list_entry(waiting.next, struct sr_qp, shm.blocked_node);
		sr_list_del(&qp->shm.blocked_node);
		if (qp->type == IBV_QPT_UD)
			serve_blocked_ud(qp);
		else if (!sr_shm_continue_replies(qp))
			sr_shm_wait_room(l, qp);
		else
			sr_qp_kick(qp);
	}
}

/* The peer writes nonsense: nothing it says is listened to any more, and nobody waits for its answers. */
static void poison(struct sr_link *l)
{
	SR_COUNT(shm_bad_messages);
	l->poisoned = true;
	sr_list_for(n, tmp, &l->qps)
		sr_qp_responder_error(sr_list_entry(n, struct sr_qp, shm.link_node), IBV_EVENT_QP_FATAL);
}

static int read_ring(struct sr_link *l)
{
	uint32_t word;
	struct sr_msg *m;
	int n = 0;
	l->resting = false;
	while (n < MESSAGES_PER_ROUND && (m = sr_rx_peek(&l->rx, &word))) {
		uint32_t lines = SR_WORD_LINES(word), at = l->rx.head % SR_RING_LINES;
		if (!(word >> 31) || !lines || lines > SR_MSG_MAX_LINES || at + lines > SR_RING_LINES) {
			poison(l);
			return n;
		}
		if (SR_WORD_TYPE(word) == SR_MSG_UD && sr_shm_ud_must_wait(m)) {
			l->resting = true;
			break;
		}
		if (SR_WORD_TYPE(word) != SR_MSG_PAD) {
			n++;
			SR_COUNT(shm_messages_received);
			dispatch(l, m, word);
		}
		sr_rx_consume(&l->rx, lines);
		if (l->rx.head - l->rx.cleared >= SR_RX_UNCLEARED_MAX)
			sr_rx_clear(&l->rx);
	}
	l->idle_rounds = n ? 0 : l->idle_rounds + 1;
	if (l->idle_rounds > CLEAR_AFTER_IDLE || !sr.in_poll)
		sr_rx_clear(&l->rx);
	if (l->rx.cleared != l->rx.published &&
	    (l->rx.cleared - l->rx.published >= PUBLISH_LINES || atomic_load_explicit(&l->rx.ctl->blocked, memory_order_relaxed))) {
		sr_rx_publish(&l->rx);
		atomic_thread_fence(memory_order_seq_cst); /* pairs with sr_link_block(): it sees the head or we see its flag */
		if (atomic_load_explicit(&l->rx.ctl->blocked, memory_order_relaxed)) {
			atomic_store_explicit(&l->rx.ctl->blocked, 0, memory_order_relaxed);
			l->dirty = true; /* wake the waiting sender if it sleeps */
		}
	}
	return n;
}

void sr_shm_drain(struct sr_link *l)
{
	/* A peer that only pretends to be dead could write for ever. */
	for (unsigned left = 2 * SR_RING_LINES; left && !l->poisoned;) {
		int n = read_ring(l);
		if (!n)
			break;
		left -= left < (unsigned)n ? left : (unsigned)n;
	}
}

static void run_timers(void)
{
	uint64_t now = sr_now_ns();
	sr_list_for(n, tmp, &sr.shm_timers) {
		struct sr_qp *qp = sr_list_entry(n, struct sr_qp, shm.timer_node);
		if (qp->shm.deadline_ns <= now)
			sr_shm_on_timer(qp);
	}
}

uint64_t sr_shm_next_deadline_ns(void)
{
	uint64_t earliest = sr_shm_look_at_ns();
	sr_list_for(n, tmp, &sr.links)
		if (sr_list_entry(n, struct sr_link, node)->resting)
			earliest = sr_now_ns() + REST_NS;
	sr_list_for(n, tmp, &sr.shm_timers) {
		struct sr_qp *qp = sr_list_entry(n, struct sr_qp, shm.timer_node);
		if (qp->shm.deadline_ns < earliest)
			earliest = qp->shm.deadline_ns;
	}
	return earliest;
}

int sr_shm_progress(void)
{
	int done = 0;
	sr_list_for(node, tmp, &sr.links) {
		struct sr_link *l = sr_list_entry(node, struct sr_link, node);
		if (!sr_list_empty(&l->acks) || !sr_list_empty(&l->owed)) /* deferred in the last round, and no message took them along */
			flush_acks(l);
		int n = l->poisoned ? 0 : read_ring(l);
		if (!sr_list_empty(&l->blocked))
			serve_blocked(l);
		/* One message inside a poll: its acknowledgement waits for the application's answer to carry it, or for the next
		 * poll, or for the helper's tick. */
		if (n > 1 || !sr.in_poll || sr.helper_asleep)
			flush_acks(l);
		else
			sr_link_ring_bell(l);
		done += n;
	}
	if (!sr_list_empty(&sr.shm_timers))
		run_timers();
	return done;
}
