/*
 * Latency histogram in the HdrHistogram layout (Gil Tene, hdrhistogram.org): bounded memory, bounded relative error,
 * mergeable by adding counts. It lives in plain memory so that another language can read it while a loop records.
 *
 * Layout, fixed for every histogram of the project so that any two can be merged:
 *   unit 1 ns, lowest discernible value 1, three significant digits -> 2048 sub-buckets (1024 in the upper half),
 *   bucket b covers values below 2^(11+b); 26 buckets reach 2^36-1 ns = 68.7 s. Larger values are clamped to that
 *   and counted in `clamped`, so nothing is dropped silently.
 *   index(v) = ((b + 1) << 10) + ((v >> b) - 1024), b = max(0, bit_length(v) - 11)
 * This is the counts array of the reference implementations with lowest=1, highest=2^36-1, digits=3, so its counts can be
 * encoded as an ordinary HdrHistogram V2 document.
 */
#ifndef RK_HISTOGRAM_H
#define RK_HISTOGRAM_H

#include <stdint.h>

#define RK_HIST_DIGITS 3u
#define RK_HIST_SUB_BITS 11u
#define RK_HIST_HALF_COUNT 1024u
#define RK_HIST_BUCKETS 26u
#define RK_HIST_COUNTS ((RK_HIST_BUCKETS + 1u) * RK_HIST_HALF_COUNT)
#define RK_HIST_HIGHEST ((UINT64_C(1) << 36) - 1)
#define RK_HIST_MAGIC UINT64_C(0x31545348444b4452) /* "RDKDHST1" read as little-endian bytes */

/* One writer, any number of readers. Readers of a running histogram may see a sample in `total` an instant before its
 * bucket; every field is written with a single aligned store, so no value is ever torn. */
struct rk_hist {
	uint64_t magic;
	uint64_t counts_length; /* always RK_HIST_COUNTS; lets a reader check the layout it was written for */
	uint64_t total;		/* samples recorded */
	uint64_t clamped;	/* samples above RK_HIST_HIGHEST, recorded at the top */
	uint64_t min_ns;	/* exact; UINT64_MAX while empty */
	uint64_t max_ns;	/* exact; 0 while empty */
	uint64_t sum_ns;	/* exact sum, for the mean */
	uint64_t reserved;
	uint64_t counts[RK_HIST_COUNTS];
};

/* Empties the histogram and stamps its layout. */
void rk_hist_init(struct rk_hist *hist);

/* Index of the bucket that holds value_ns; values above the range go to the last one. */
static inline uint32_t rk_hist_index(uint64_t value_ns)
{
	if (value_ns > RK_HIST_HIGHEST)
		value_ns = RK_HIST_HIGHEST;
	uint32_t bits = 64u - (uint32_t)__builtin_clzll(value_ns | (RK_HIST_HALF_COUNT * 2 - 1));
	uint32_t bucket = bits - RK_HIST_SUB_BITS;
	return (bucket << (RK_HIST_SUB_BITS - 1)) + (uint32_t)(value_ns >> bucket);
}

/* Smallest value that falls into the bucket. */
uint64_t rk_hist_lower_bound(uint32_t index);
/* Largest value that falls into the bucket: what the reference implementations report for a percentile. */
uint64_t rk_hist_upper_bound(uint32_t index);

/* Counts one sample. A few nanoseconds, no branches that depend on history. */
static inline void rk_hist_record(struct rk_hist *hist, uint64_t value_ns)
{
	hist->counts[rk_hist_index(value_ns)]++;
	hist->total++;
	hist->sum_ns += value_ns;
	if (value_ns < hist->min_ns)
		hist->min_ns = value_ns;
	if (value_ns > hist->max_ns)
		hist->max_ns = value_ns;
	if (__builtin_expect(value_ns > RK_HIST_HIGHEST, 0))
		hist->clamped++;
}

/* Adds every sample of `from` to `into`; both keep their layout, so the result equals recording all samples in one. */
void rk_hist_merge(struct rk_hist *into, const struct rk_hist *from);

/* Value at a percentile in [0, 100], within 0.1 % (upper edge of the bucket, never above max_ns); 0 when empty. */
uint64_t rk_hist_percentile(const struct rk_hist *hist, double percentile);

#endif
