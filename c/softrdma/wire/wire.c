/* wire.c - the wire road's contract with the rest of the device (../core.h): start, stop, queue pairs, progress. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include "wire.h"

#define LAST_WORDS 3
#define LAST_WORDS_NS 100000000u
#define KEPT_AGAIN_NS 200000u /* packets for a process whose socket was full */
#define LOOK_AROUND 4 /* an empty poll is mostly the look at the socket: clock, timers and acknowledgements wait for one in so many */
#define ACK_SOON 16 /* packets after which an acknowledgement does not wait for company any more */

const struct sr_wire_hooks *sr_wire_hooks;

static void init_lists(void)
{
	sr_list_init(&sr_wire.tx_work);
	sr_list_init(&sr_wire.acks);
	sr_list_init(&sr_wire.timers);
	sr_list_init(&sr_wire.graveyard);
	sr_wire.timers_due_ns = UINT64_MAX;
	sr_wire.gso_off = false;
}

int sr_wire_start(unsigned slot)
{
	init_lists();
	sr_wire_set_now(sr_now_ns());
	sr_fault_init(getenv("RDMAKIT_FAULT"));
	sr_rx_open();
	sr_wire.start_error = sr_port_open(slot);
	return sr_wire.start_error;
}

void sr_wire_start_hooked(unsigned slot, const struct sr_wire_hooks *hooks)
{
	init_lists();
	sr_wire_hooks = hooks;
	sr_wire.slot = slot;
	sr_port_hooked(0xc123);
	sr_wire.fd = sr_wire.fd4 = sr_wire.forward_fd = -2; /* "open", and no descriptor of anybody */
	sr_wire_set_now(hooks->now_ns());
}

void sr_wire_stop(void) { sr_port_close(); }
int sr_wire_fds(int fds[SR_WIRE_FDS])
{
	fds[0] = sr_wire.fd4;
	fds[1] = sr_wire.fd;
	return sr_wire.fd < 0 ? 0 : SR_WIRE_FDS;
}
int sr_wire_forward_fd(void) { return sr_wire.forward_fd; }

static void bury(void)
{
	while (!sr_list_empty(&sr_wire.graveyard)) {
		struct sr_wire_qp *w = sr_list_entry(sr_wire.graveyard.next, struct sr_wire_qp, timer_node);
		sr_list_del(&w->timer_node);
		free(w);
	}
}

int sr_wire_qp_rtr(struct sr_qp *qp)
{
	if (sr_wire.fd == -1)
		return sr_wire.start_error ? sr_wire.start_error : ENETDOWN;
	struct sr_wire_qp *w = calloc(1, sizeof(*w));
	if (!w)
		return ENOMEM;
	w->qp = qp;
	w->transport = qp->type == IBV_QPT_UC ? SR_OP_UC : qp->type == IBV_QPT_RC ? 0 : SR_OP_XRC;
	w->mtu = qp->path_mtu_bytes;
	w->mtu_shift = (uint8_t)__builtin_ctz(w->mtu);
	sr_list_init(&w->tx_node);
	sr_list_init(&w->ack_node);
	sr_list_init(&w->timer_node);
	sr_path_init(&w->path, &qp->av);
	if (sr_rsp_init(w)) {
		sr_rsp_free(w);
		free(w);
		return ENOMEM;
	}
	qp->wire = w;
	return 0;
}

void sr_wire_qp_rts(struct sr_qp *qp)
{
	sr_wire_set_now(sr_wire_clock_ns());
	sr_req_init(qp->wire);
	qp->wire->rts = sr_qp_requests(qp);
}

/* What was received is received: an application that leaves at once must not cost its peer its last completion. Nobody will
 * answer when this acknowledgement is lost, so after recent traffic it is said more than once. */
static void last_words(struct sr_wire_qp *w)
{
	struct sr_responder *s = &w->rsp;
	sr_wire_set_now(sr_wire_clock_ns());
	bool recent = s->echo_ns && sr_wire.now_ns - s->echo_ns < LAST_WORDS_NS;
	if (w->dead || s->nak_fatal || !sr_qp_reliable(w->qp))
		return;
	for (int i = 0; i < LAST_WORDS && (recent || s->ack_due); i++) {
		s->ack_due = true;
		sr_rsp_ack(w);
		if (s->ack_due)
			break; /* it waits behind READ data that will not be sent any more */
	}
	s->ack_due = false;
}

/* The struct itself lives on until the end of the round: whoever is working on the queue pair sees `dead`. */
void sr_wire_qp_reset(struct sr_qp *qp)
{
	struct sr_wire_qp *w = qp->wire;
	if (!w)
		return;
	last_words(w);
	sr_tx_flush(); /* it may refer to memory that the application gets back now */
	qp->wire = NULL;
	w->dead = true;
	sr_list_del(&w->tx_node);
	sr_list_del(&w->ack_node);
	sr_list_del(&w->timer_node);
	sr_rsp_free(w);
	free(w->req.inflight);
	w->req.inflight = NULL;
	sr_list_add_tail(&sr_wire.graveyard, &w->timer_node);
}

void sr_wire_kick(struct sr_qp *qp)
{
	struct sr_wire_qp *w = qp->wire;
	if (!w)
		return;
	sr_wire_set_now(sr_wire_clock_ns());
	sr_wire_active();
	sr_req_transmit(w);
	/* Behind the data, in the same datagram if it is shorter. */
	if (!w->dead && w->rsp.ack_due)
		sr_rsp_ack(w);
	sr_tx_flush();
	bury();
	sr_helper_remind(sr_wire_next_deadline_ns());
}

static int transmit_round(void)
{
	int count = 0;
	struct sr_list turn; /* those who have work now; what they leave over waits for the next round */
	sr_list_init(&turn);
	while (!sr_list_empty(&sr_wire.tx_work)) {
		struct sr_list *node = sr_wire.tx_work.next;
		sr_list_del(node);
		sr_list_add_tail(&turn, node);
	}
	while (!sr_list_empty(&turn)) {
		struct sr_wire_qp *w = sr_list_entry(turn.next, struct sr_wire_qp, tx_node);
		sr_list_del(&w->tx_node);
		sr_rsp_transmit(w);
		if (!w->dead)
			sr_req_transmit(w);
		count++;
	}
	return count;
}

/* Inside a poll an acknowledgement may wait for the application's next post, unless it has waited for one poll already. */
static void ack_round(bool all)
{
	sr_list_for(node, next, &sr_wire.acks) {
		struct sr_wire_qp *w = sr_list_entry(node, struct sr_wire_qp, ack_node);
		bool fresh = w->ack_since_ns == sr_wire.now_ns;
		if (all || !fresh || w->rsp.sack_due || w->rsp.acked >= ACK_SOON || !w->rts)
			sr_rsp_ack(w);
	}
}

static int forwarded_round(void)
{
	static uint8_t packet[SR_HEADERS_MAX + SR_PMTU_MAX + 8];
	int count = 0;
	struct sr_rx_meta meta = { .arrived_ns = sr_wire.now_ns };
	for (size_t len; count < 64 && (len = sr_steer_receive(packet, sizeof(packet), &meta.from, &meta.to)) != 0; count++) {
		meta.icrc.len = 0;
		if (!IN6_IS_ADDR_UNSPECIFIED(&meta.to)) /* whoever got it may not have known */
			sr_icrc_path_init(&meta.icrc, meta.from.sin6_addr.s6_addr, meta.to.s6_addr, ntohs(meta.from.sin6_port),
					  SR_ROCE_PORT);
		sr_demux(&meta, packet, len, true);
	}
	return count;
}

int sr_wire_progress(void)
{
	static uint32_t rounds;
	if (sr_wire.fd == -1) {
		sr_wire_set_now(sr_wire_clock_ns());
		sr_steer_kept_round();
		return sr_wire.forward_fd >= 0 ? forwarded_round() : 0;
	}
	rounds++;
	bool look_around = !sr.in_poll || rounds % LOOK_AROUND == 0;
	if (look_around)
		sr_wire_set_now(sr_wire_clock_ns());
	int done = sr_wire_hooks ? sr_wire_hooks->input() : sr_rx_batch();
	if (!done && !look_around && sr_list_empty(&sr_wire.tx_work))
		return 0;
	/* Passed-on packets are rare; the socket for them is looked at now and then, and by the helper every time. */
	if (sr_wire.forward_fd >= 0 && (!sr.in_poll || rounds % 256 == 0))
		done += forwarded_round();
	done += sr_timers_run();
	if (sr_wire_keeps())
		sr_steer_kept_round();
	done += transmit_round();
	ack_round(!sr.in_poll);
	sr_tx_flush();
	bury();
	if (sr.in_poll)
		sr_helper_remind(sr_wire_next_deadline_ns());
	return done;
}

void sr_wire_active(void) { __atomic_store_n(&sr_wire.active_ns, sr_wire.now_ns, __ATOMIC_RELAXED); }

uint64_t sr_wire_quiet_ns(void)
{
	uint64_t active_ns = __atomic_load_n(&sr_wire.active_ns, __ATOMIC_RELAXED);
	uint64_t now_ns = __atomic_load_n(&sr_wire.now_ns, __ATOMIC_RELAXED);
	return now_ns > active_ns ? now_ns - active_ns : 0;
}

void sr_wire_flush_acks(void)
{
	if (sr_wire.fd == -1)
		return;
	ack_round(true);
	sr_tx_flush();
}

uint64_t sr_wire_next_deadline_ns(void)
{
	uint64_t due = sr_wire.timers_due_ns;
	if (sr_wire_keeps())
		return sr_wire.now_ns + KEPT_AGAIN_NS;
	if (sr_wire.fd == -1)
		return UINT64_MAX;
	if (!sr_list_empty(&sr_wire.tx_work))
		return sr_wire.now_ns;
	if (!sr_list_empty(&sr_wire.acks) && sr_wire.now_ns + SR_ACK_DEFER_NS < due)
		due = sr_wire.now_ns + SR_ACK_DEFER_NS;
	return due;
}
