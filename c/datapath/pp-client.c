/* The client's side of a verbs ping-pong: starts every exchange, waits for its end, measures it. */
#include <errno.h>

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
	if (rk_pp_is_atomic(config->op)) {
		check_atomic(c);
	} else if (pp->verify) {
		int in_slot = config->op == RK_DP_SEND;
		/* A READ's target never changes: it is the pattern of exchange 0. */
		rk_pp_verify(pp, in_slot ? rk_pp_message(pp, pp->slot) : pp->rx, config->op == RK_DP_READ ? 0 : exchange, RK_DP_SERVER);
	}
	return rk_pp_consumes_recv(config->op) ? rk_pp_post_recv(pp, pp->slot) : 0;
}

/* One exchange. *begin and *end are its times in ticks. */
static enum rk_pp_wait exchange_once(struct client *c, uint64_t exchange, uint64_t *begin, uint64_t *end)
{
	struct rk_pp *pp = &c->pp;
	prepare(c, exchange);
	*begin = rk_clock_ticks(pp->clock);
	if (__builtin_expect(rk_pp_post_send(pp, exchange) != 0, 0))
		return rk_loop_failed(pp->loop) ? RK_PP_FAILED : RK_PP_STOPPED;
	enum rk_pp_wait wait = wait_answer(c, exchange, *begin + c->timeout_ticks);
	*end = rk_clock_ticks(pp->clock);
	if (__builtin_expect(wait == RK_PP_OK, 1))
		return finish(c, exchange) == 0 ? RK_PP_OK : RK_PP_FAILED;
	if (wait == RK_PP_TIMEOUT && !pp->lossy) {
		pp->stats->error_sequence = exchange;
		rk_loop_fail(pp->loop, RK_DP_STAGE_TIMEOUT, ETIMEDOUT, "no answer within %llu ms on a reliable connection",
			     (unsigned long long)(pp->config->timeout_ns / 1000000));
		return RK_PP_FAILED;
	}
	return wait;
}

void rk_pp_run_client(struct rk_dp_loop *loop)
{
	struct client c;
	memset(&c, 0, sizeof(c));
	struct rk_pp *pp = &c.pp;
	rk_pp_init(pp, loop);
	const struct rk_dp_pingpong *config = pp->config;
	struct rk_dp_stats *stats = pp->stats;
	c.timeout_ticks = rk_clock_from_ns(pp->clock, config->timeout_ns);
	uint64_t interval = rk_clock_from_ns(pp->clock, config->interval_ns);
	uint64_t duration = rk_clock_from_ns(pp->clock, config->duration_ns);
	uint64_t begin, end, first = 0, next = 0;
	uint64_t exchange = 0, warmup_left = config->warmup;

	for (; !rk_loop_stopping(loop); exchange++) {
		int measured = warmup_left == 0;
		if (measured && config->iterations && stats->posted >= config->iterations)
			break;
		if (interval && measured && stats->posted > 0 && rk_loop_sleep_until(loop, next))
			break;
		enum rk_pp_wait wait = exchange_once(&c, exchange, &begin, &end);
		if (wait == RK_PP_FAILED || wait == RK_PP_STOPPED)
			break;
		if (!measured) {
			/* A loss ends the warm-up: on a dead path it would take a timeout for each of them. */
			warmup_left = wait == RK_PP_OK ? warmup_left - 1 : 0;
			stats->warmed_up += wait == RK_PP_OK;
			continue;
		}
		if (stats->posted == 0) {
			first = next = begin;
			stats->begin_ns = rk_clock_raw_ns() - rk_clock_to_ns(pp->clock, rk_clock_ticks(pp->clock) - begin);
		}
		next += interval;
		uint64_t sequence = stats->posted++;
		uint64_t rtt_ns = rk_clock_to_ns(pp->clock, end - begin);
		if (__builtin_expect(wait == RK_PP_OK, 1)) {
			rk_hist_record(&stats->hist, rtt_ns);
			stats->completed++;
			stats->bytes += config->size;
		} else {
			stats->lost++;
			rtt_ns = UINT64_MAX;
		}
		if (config->flags & RK_DP_RECORD)
			rk_loop_sample(stats, sequence, rtt_ns);
		stats->elapsed_ns = rk_clock_to_ns(pp->clock, end - first);
		if (duration && end - first >= duration)
			break;
	}
	rk_pp_ack_events(pp);
}
