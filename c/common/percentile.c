/* Percentiles of a histogram: a file of its own, because it alone needs libm, which a preloaded library must not bring along. */
#include "histogram.h"

#include <math.h>

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
