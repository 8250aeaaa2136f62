/* Latency histogram: see histogram.h for the layout and why it is fixed. */
#include "histogram.h"

#include <math.h>
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

uint64_t rk_hist_percentile(const struct rk_hist *hist, double percentile)
{
	if (hist->total == 0)
		return 0;
	if (percentile < 0)
		percentile = 0;
	if (percentile > 100)
		percentile = 100;
	/* The sample of rank ceil(p * n), counted from one: half of ten samples is the fifth. Stepping p down by one unit in
	 * the last place keeps rounding from pushing an exact product (99.9 % of 20000) over the next whole number. */
	uint64_t rank = (uint64_t)ceil(nextafter(percentile, -1) * (double)hist->total / 100.0);
	if (rank == 0)
		rank = 1;
	uint64_t seen = 0;
	for (uint32_t i = 0; i < RK_HIST_COUNTS; i++) {
		seen += hist->counts[i];
		if (seen >= rank) {
			uint64_t edge = rk_hist_upper_bound(i);
			/* The edge of the last bucket may lie above every sample, or below one that was clamped. */
			return edge > hist->max_ns || i == RK_HIST_COUNTS - 1 ? hist->max_ns : edge;
		}
	}
	return hist->max_ns;
}
