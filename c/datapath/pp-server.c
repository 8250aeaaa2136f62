/* The server's side of a verbs ping-pong: answers SEND, WRITE and WRITE_IMM until it is stopped. */
#include <time.h>

#include "pp.h"

/* Without any message for so long the peer is taken to be busy elsewhere, and the loop naps between looks. */
#define IDLE_AFTER_NS UINT64_C(50000000)
#define NAP_NS 50000L
/* With a known interval the loop sleeps through most of it and is awake this long before the next message is due. */
#define AWAKE_BEFORE_NS UINT64_C(2000000)

struct server {
	struct rk_pp pp;
	uint8_t last_marker;
	uint64_t answered;
	uint64_t last_ticks; /* of the newest message */
};

/* Waits for the next message, however long it takes. Spinning is what makes answers fast, but a core is not burnt for a
 * client that has nothing to say. */
static enum rk_pp_wait wait_message(struct server *s)
{
	struct rk_pp *pp = &s->pp;
	int by_byte = pp->config->op == RK_DP_WRITE;
	if (pp->channel)
		return rk_pp_wait_arrival(pp, 0);
	if (pp->config->interval_ns > 2 * AWAKE_BEFORE_NS && s->answered > pp->config->warmup &&
	    rk_loop_sleep_until(pp->loop, s->last_ticks + rk_clock_from_ns(pp->clock, pp->config->interval_ns - AWAKE_BEFORE_NS)))
		return RK_PP_STOPPED;
	uint64_t spin_until = rk_clock_ticks(pp->clock) + rk_clock_from_ns(pp->clock, IDLE_AFTER_NS);
	for (;;) {
		/* A deadline already past makes the wait return after one short round of looks. */
		enum rk_pp_wait wait = by_byte ? rk_pp_wait_byte(pp, s->last_marker, spin_until) : rk_pp_wait_arrival(pp, spin_until);
		if (wait != RK_PP_TIMEOUT)
			return wait;
		struct timespec nap = {.tv_sec = 0, .tv_nsec = NAP_NS};
		nanosleep(&nap, NULL);
	}
}

/* Answers one message. The answer carries the stamp of the question, so that a client that lost one can tell. */
static int answer(struct server *s)
{
	struct rk_pp *pp = &s->pp;
	const struct rk_dp_pingpong *config = pp->config;
	const uint8_t *message = config->op == RK_DP_SEND ? rk_pp_message(pp, pp->slot) : pp->rx;
	uint64_t exchange = s->answered;
	if (config->op == RK_DP_WRITE)
		s->last_marker = message[config->size - 1];
	/* On a lossy transport only the message itself knows which one it is; on RC the count does. */
	if (pp->lossy)
		exchange = config->op == RK_DP_WRITE_IMM ? pp->imm : rk_stamp_read(message, config->size);
	if (pp->verify) {
		rk_pp_verify(pp, message, exchange, RK_DP_CLIENT);
		rk_pattern_fill(pp->tx, config->size, config->seed, exchange, RK_DP_SERVER);
	} else if (pp->stamped || config->op == RK_DP_WRITE) {
		rk_stamp(pp->tx, config->size, exchange);
	}
	if (rk_pp_post_send(pp, exchange) != 0)
		return -1;
	return rk_consumes_recv(config->op) ? rk_pp_post_recv(pp, pp->slot) : 0;
}

void rk_pp_run_server(struct rk_dp_loop *loop)
{
	struct server s;
	memset(&s, 0, sizeof(s));
	struct rk_pp *pp = &s.pp;
	rk_pp_init(pp, loop);
	struct rk_dp_stats *stats = pp->stats;
	uint64_t first = 0;
	while (!rk_loop_stopping(loop) && wait_message(&s) == RK_PP_OK) {
		if (answer(&s) != 0)
			break;
		s.answered++;
		s.last_ticks = rk_clock_ticks(pp->clock);
		if (stats->completed == 0) {
			first = s.last_ticks;
			stats->begin_ns = rk_clock_raw_ns();
		}
		stats->posted++;
		stats->completed++;
		stats->bytes += pp->config->size;
		stats->elapsed_ns = rk_clock_to_ns(pp->clock, s.last_ticks - first);
	}
	rk_pp_ack_events(pp);
}
