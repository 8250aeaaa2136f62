/* The client's side of a verbs ping-pong: starts every exchange, waits for its end, measures it. */
#include <errno.h>

#include "pace.h"
#include "pp.h"

struct client {
	struct rk_pp pp;
	uint64_t timeout_ticks;
	uint8_t last_marker;   /* in slot 0, RDMA WRITE */
	uint64_t atomic_value; /* what the peer's counter is expected to hold */
	int atomic_known;
};

/* Puts the message of one exchange together. Outside the measured time. */
static void prepare(struct client *c, uint64_t exchange)
{
	struct rk_pp *pp = &c->pp;
	const struct rk_dp_pingpong *config = pp->config;
	switch (config->op) {
	case RK_DP_READ:
		/* What an earlier READ left must not pass for this one's data. */
		if (pp->verify)
			memset(pp->rx, 0, config->size);
		break;
	case RK_DP_CMP_SWAP:
		pp->send.wr.atomic.compare_add = c->atomic_value;
		pp->send.wr.atomic.swap = c->atomic_value + 1;
		break;
	case RK_DP_FETCH_ADD:
		break;
	default:
		if (pp->verify)
			rk_pattern_fill(pp->tx, config->size, config->seed, exchange, RK_DP_CLIENT);
		else if (pp->stamped || config->op == RK_DP_WRITE)
			rk_stamp(pp->tx, config->size, exchange);
	}
}

/* Waits for the answer to `exchange`; answers to earlier ones that were given up are counted as late. */
static enum rk_pp_wait wait_answer(struct client *c, uint64_t exchange, uint64_t deadline)
{
	struct rk_pp *pp = &c->pp;
	const struct rk_dp_pingpong *config = pp->config;
	enum rk_pp_wait wait;
	switch (config->op) {
	case RK_DP_SEND:
	case RK_DP_WRITE_IMM:
		while ((wait = rk_pp_wait_arrival(pp, deadline)) == RK_PP_OK) {
			int mine = config->op == RK_DP_WRITE_IMM ? pp->imm == (uint32_t)exchange
								 : rk_stamp_matches(rk_pp_message(pp, pp->slot), config->size, exchange);
			/* On RC every arrival is the answer; a wrong stamp there is for the verification to report. */
			if (mine || !pp->lossy)
				return RK_PP_OK;
			pp->stats->late++;
			if (rk_pp_post_recv(pp, pp->slot) != 0)
				return RK_PP_FAILED;
		}
		return wait;
	case RK_DP_WRITE:
		while ((wait = rk_pp_wait_byte(pp, c->last_marker, deadline)) == RK_PP_OK) {
			c->last_marker = pp->rx[config->size - 1];
			if (c->last_marker == rk_marker(exchange) || !pp->lossy)
				return RK_PP_OK;
			pp->stats->late++;
		}
		return wait;
	default:
		return rk_pp_wait_sent(pp, deadline);
	}
}

static void check_atomic(struct client *c)
{
	struct rk_pp *pp = &c->pp;
	uint64_t found;
	memcpy(&found, pp->rx, sizeof(found));
	/* The first answer only tells what the counter held; from then on every value is known. */
	if (c->atomic_known && pp->verify) {
		pp->stats->verified++;
		if (found != c->atomic_value) {
			if (pp->stats->mismatches++ == 0) {
				pp->stats->mismatch_sequence = pp->stats->completed;
				pp->stats->mismatch_expected = (uint32_t)c->atomic_value;
				pp->stats->mismatch_found = (uint32_t)found;
			}
		}
	}
	int swapped = pp->config->op == RK_DP_FETCH_ADD || found == c->atomic_value;
	c->atomic_value = swapped ? found + 1 : found;
	c->atomic_known = 1;
}

/* After the measured time: verify, give the receive back. 0, or -1 with the failure recorded. */
static int finish(struct client *c, uint64_t exchange)
{
	struct rk_pp *pp = &c->pp;
	const struct rk_dp_pingpong *config = pp->config;
	if (rk_is_atomic(config->op)) {
		check_atomic(c);
	} else if (pp->verify) {
		int in_slot = config->op == RK_DP_SEND;
		/* A READ's target never changes: it is the pattern of exchange 0. */
		rk_pp_verify(pp, in_slot ? rk_pp_message(pp, pp->slot) : pp->rx, config->op == RK_DP_READ ? 0 : exchange, RK_DP_SERVER);
	}
	return rk_consumes_recv(config->op) ? rk_pp_post_recv(pp, pp->slot) : 0;
}

static enum rk_outcome exchange_once(void *state, uint64_t exchange, uint64_t *begin, uint64_t *end)
{
	struct client *c = state;
	struct rk_pp *pp = &c->pp;
	prepare(c, exchange);
	*begin = rk_clock_ticks(pp->clock);
	if (__builtin_expect(rk_pp_post_send(pp, exchange) != 0, 0))
		return RK_END;
	enum rk_pp_wait wait = wait_answer(c, exchange, *begin + c->timeout_ticks);
	*end = rk_clock_ticks(pp->clock);
	if (__builtin_expect(wait == RK_PP_OK, 1))
		return finish(c, exchange) == 0 ? RK_ANSWERED : RK_END;
	if (wait != RK_PP_TIMEOUT)
		return RK_END;
	if (pp->lossy)
		return RK_LOST;
	pp->stats->error_sequence = exchange;
	rk_loop_fail(pp->loop, RK_DP_STAGE_TIMEOUT, ETIMEDOUT, "no answer within %llu ms on a reliable connection",
		     (unsigned long long)(pp->config->timeout_ns / 1000000));
	return RK_END;
}

void rk_pp_run_client(struct rk_dp_loop *loop)
{
	struct client c;
	memset(&c, 0, sizeof(c));
	rk_pp_init(&c.pp, loop);
	const struct rk_dp_pingpong *config = c.pp.config;
	c.timeout_ticks = rk_clock_from_ns(loop->clock, config->timeout_ns);
	const struct rk_pace pace = {.iterations = config->iterations,
				     .warmup = config->warmup,
				     .duration_ns = config->duration_ns,
				     .interval_ns = config->interval_ns,
				     .size = config->size,
				     .flags = config->flags};
	rk_pace_run(loop, &pace, exchange_once, &c);
	rk_pp_ack_events(&c.pp);
}
