/* Latency histogram: see histogram.h for the layout and why it is fixed. */
#include "histogram.h"

#include <string.h>

void rk_hist_init(struct rk_hist *hist)
{
	memset(hist, 0, sizeof(*hist));
	hist->magic = RK_HIST_MAGIC;
	hist->counts_length = RK_HIST_COUNTS;
	hist->min_ns = UINT64_MAX;
}

uint64_t rk_hist_lower_bound(uint32_t index)
{
	uint32_t bucket = index >> (RK_HIST_SUB_BITS - 1);
	uint64_t sub = index & (RK_HIST_HALF_COUNT - 1);
	if (bucket == 0)
		return sub;
	return (sub + RK_HIST_HALF_COUNT) << (bucket - 1);
}

uint64_t rk_hist_upper_bound(uint32_t index)
{
	uint32_t bucket = index >> (RK_HIST_SUB_BITS - 1);
	uint64_t width = bucket == 0 ? 1 : UINT64_C(1) << (bucket - 1);
	return rk_hist_lower_bound(index) + width - 1;
}

void rk_hist_merge(struct rk_hist *into, const struct rk_hist *from)
{
	for (uint32_t i = 0; i < RK_HIST_COUNTS; i++)
		into->counts[i] += from->counts[i];
	into->total += from->total;
	into->clamped += from->clamped;
	into->sum_ns += from->sum_ns;
	if (from->min_ns < into->min_ns)
		into->min_ns = from->min_ns;
	if (from->max_ns > into->max_ns)
		into->max_ns = from->max_ns;
}
