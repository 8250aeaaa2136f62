/* The measuring client's rhythm: see pace.h. */
#include "pace.h"

void rk_pace_run(struct rk_dp_loop *loop, const struct rk_pace *pace, rk_exchange exchange, void *state)
{
	struct rk_dp_stats *stats = loop->stats;
	const struct rk_clock *clock = loop->clock;
	uint64_t interval = rk_clock_from_ns(clock, pace->interval_ns), duration = rk_clock_from_ns(clock, pace->duration_ns);
	uint64_t begin, end, first = 0, next = 0, warmup_left = pace->warmup;
	for (uint64_t number = 0; !rk_loop_stopping(loop); number++) {
		int measured = warmup_left == 0;
		if (measured && pace->iterations && stats->posted >= pace->iterations)
			return;
		if (interval && measured && stats->posted > 0 && rk_loop_sleep_until(loop, next))
			return;
		enum rk_outcome outcome = exchange(state, number, &begin, &end);
		if (outcome == RK_END)
			return;
		if (!measured) {
			/* A loss ends the warm-up: on a dead path it would take a timeout for each of them. */
			warmup_left = outcome == RK_ANSWERED ? warmup_left - 1 : 0;
			stats->warmed_up += outcome == RK_ANSWERED;
			continue;
		}
		if (stats->posted == 0) {
			first = next = begin;
			stats->begin_ns = rk_clock_raw_ns() - rk_clock_to_ns(clock, rk_clock_ticks(clock) - begin);
		}
		next += interval;
		uint64_t sequence = stats->posted++;
		uint64_t rtt_ns = rk_clock_to_ns(clock, end - begin);
		if (__builtin_expect(outcome == RK_ANSWERED, 1)) {
			rk_hist_record(&stats->hist, rtt_ns);
			stats->completed++;
			stats->bytes += pace->size;
		} else {
			stats->lost++;
			rtt_ns = UINT64_MAX;
		}
		if (pace->flags & RK_DP_RECORD)
			rk_loop_sample(stats, sequence, rtt_ns);
		stats->elapsed_ns = rk_clock_to_ns(clock, end - first);
		if (duration && end - first >= duration)
			return;
	}
}
