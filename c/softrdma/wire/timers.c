/*
 * timers.c - retransmission, RNR and probe timers. Only queue pairs with something outstanding are in the list; the earliest
 * deadline is remembered, so the usual question "is anything due?" is one comparison.
 */
#define _GNU_SOURCE
#include "wire.h"

/* A process may be descheduled for longer than the timeouts that applications choose for hardware: below this a timeout would
 * mostly mean "the other side had no CPU". */
#define TIMEOUT_MIN_NS 20000000u
/* A probe is one packet, so it may be in vain now and then: a little later than answers took until now. The first answer may be
 * waiting for the peer's next message (SR_ACK_DEFER_NS). */
#define PROBE_LEAST_NS 300000u
#define PROBE_FIRST_NS (2 * SR_ACK_DEFER_NS)

uint64_t sr_ack_timeout_ns(uint8_t code)
{
	uint64_t ns = UINT64_C(4096) << (code & 31);
	return ns < TIMEOUT_MIN_NS ? TIMEOUT_MIN_NS : ns;
}

static void note_due(uint64_t deadline_ns)
{
	if (deadline_ns && deadline_ns < sr_wire.timers_due_ns)
		sr_wire.timers_due_ns = deadline_ns;
}

static uint64_t probe_after_ns(const struct sr_requester *r)
{
	if (!r->answer_us)
		return PROBE_FIRST_NS;
	return PROBE_LEAST_NS + r->answer_us * UINT64_C(2000) + r->answer_var_us * UINT64_C(4000);
}

void sr_timers_update(struct sr_wire_qp *w)
{
	struct sr_requester *r = &w->req;
	if (!sr_qp_reliable(w->qp))
		return;
	if (!r->waiting_rnr) {
		if (r->una == r->psn) {
			r->deadline_ns = r->probe_ns = 0;
		} else {
			if (!r->deadline_ns && w->qp->attr.timeout)
				r->deadline_ns = sr_wire.now_ns + sr_ack_timeout_ns(w->qp->attr.timeout);
			if (w->ours && !r->probe_ns)
				r->probe_ns = sr_wire.now_ns + (probe_after_ns(r) << r->probes);
		}
	}
	if (!r->deadline_ns && !r->probe_ns) {
		sr_list_del(&w->timer_node);
		return;
	}
	note_due(r->deadline_ns);
	note_due(r->probe_ns);
	sr_wire_mark(&sr_wire.timers, &w->timer_node);
}

int sr_timers_run(void)
{
	int fired = 0;
	if (sr_wire.now_ns < sr_wire.timers_due_ns)
		return 0;
	sr_wire.timers_due_ns = UINT64_MAX;
	sr_list_for(node, next, &sr_wire.timers) {
		struct sr_wire_qp *w = sr_list_entry(node, struct sr_wire_qp, timer_node);
		if (w->req.deadline_ns && sr_wire.now_ns >= w->req.deadline_ns) {
			sr_req_timeout(w);
			fired++;
		} else if (w->req.probe_ns && sr_wire.now_ns >= w->req.probe_ns) {
			sr_req_probe(w);
			fired++;
		}
		if (!w->dead)
			sr_timers_update(w);
	}
	return fired;
}
