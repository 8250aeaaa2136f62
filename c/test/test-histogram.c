/* c/common/histogram.h: the layout covers every value once, errors are bounded, merging loses nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "common/histogram.h"

static struct rk_hist *fresh(void)
{
	struct rk_hist *hist = malloc(sizeof(*hist));
	assert_non_null(hist);
	rk_hist_init(hist);
	return hist;
}

/* xorshift64*: a fixed sequence, so that a failure repeats. */
static uint64_t next_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * UINT64_C(2685821657736338717);
}

static void buckets_tile_the_range(void **state)
{
	(void)state;
	assert_int_equal(rk_hist_lower_bound(0), 0);
	for (uint32_t i = 0; i + 1 < RK_HIST_COUNTS; i++)
		assert_int_equal(rk_hist_upper_bound(i) + 1, rk_hist_lower_bound(i + 1));
	assert_int_equal(rk_hist_upper_bound(RK_HIST_COUNTS - 1), RK_HIST_HIGHEST);
}

static void index_finds_the_bucket_of_a_value(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < RK_HIST_COUNTS; i++) {
		assert_int_equal(rk_hist_index(rk_hist_lower_bound(i)), i);
		assert_int_equal(rk_hist_index(rk_hist_upper_bound(i)), i);
	}
	assert_int_equal(rk_hist_index(UINT64_MAX), RK_HIST_COUNTS - 1);
}

static void three_significant_digits(void **state)
{
	(void)state;
	uint64_t random = 42;
	for (int i = 0; i < 100000; i++) {
		uint64_t value = next_random(&random) >> (28 + next_random(&random) % 36);
		uint32_t index = rk_hist_index(value);
		uint64_t width = rk_hist_upper_bound(index) - rk_hist_lower_bound(index);
		assert_true(value >= rk_hist_lower_bound(index) && value <= rk_hist_upper_bound(index));
		assert_true(width * 1000 <= value);
	}
}

static int ascending(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return x < y ? -1 : x > y;
}

static void percentiles_agree_with_sorting(void **state)
{
	(void)state;
	enum { N = 20000 };
	static uint64_t values[N];
	struct rk_hist *hist = fresh();
	uint64_t random = 7, sum = 0;
	for (int i = 0; i < N; i++) {
		values[i] = 200 + (next_random(&random) >> (40 + next_random(&random) % 12));
		sum += values[i];
		rk_hist_record(hist, values[i]);
	}
	qsort(values, N, sizeof(values[0]), ascending);
	const struct {
		double percentile;
		size_t rank;
	} points[] = {{1, 200}, {50, 10000}, {90, 18000}, {99, 19800}, {99.9, 19980}, {99.99, 19998}};
	for (size_t i = 0; i < sizeof(points) / sizeof(points[0]); i++) {
		uint64_t exact = values[points[i].rank - 1], found = rk_hist_percentile(hist, points[i].percentile);
		assert_true(found >= exact);
		assert_true(found - exact <= exact / 1000);
	}
	assert_int_equal(rk_hist_percentile(hist, 100), values[N - 1]);
	assert_int_equal(hist->min_ns, values[0]);
	assert_int_equal(hist->max_ns, values[N - 1]);
	assert_int_equal(hist->sum_ns, sum);
	assert_int_equal(hist->total, N);
	free(hist);
}

static void merging_equals_recording_in_one(void **state)
{
	(void)state;
	struct rk_hist *a = fresh(), *b = fresh(), *both = fresh();
	uint64_t random = 3;
	for (int i = 0; i < 50000; i++) {
		uint64_t value = next_random(&random) >> 30;
		rk_hist_record(i % 3 ? a : b, value);
		rk_hist_record(both, value);
	}
	rk_hist_merge(a, b);
	assert_memory_equal(a, both, sizeof(*both));
	struct rk_hist *empty = fresh();
	rk_hist_merge(a, empty);
	assert_memory_equal(a, both, sizeof(*both));
	free(a), free(b), free(both), free(empty);
}

static void edges(void **state)
{
	(void)state;
	struct rk_hist *hist = fresh();
	assert_int_equal(rk_hist_percentile(hist, 50), 0);
	rk_hist_record(hist, 0);
	assert_int_equal(hist->min_ns, 0);
	assert_int_equal(rk_hist_percentile(hist, 50), 0);
	rk_hist_record(hist, UINT64_MAX / 4);
	assert_int_equal(hist->clamped, 1);
	assert_int_equal(hist->max_ns, UINT64_MAX / 4);
	assert_int_equal(hist->counts[RK_HIST_COUNTS - 1], 1);
	/* The range ends below this sample; what is known exactly is reported. */
	assert_int_equal(rk_hist_percentile(hist, 100), UINT64_MAX / 4);
	assert_int_equal(rk_hist_percentile(hist, 200), UINT64_MAX / 4);
	assert_int_equal(rk_hist_percentile(hist, -1), 0);
	free(hist);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(buckets_tile_the_range),	  cmocka_unit_test(index_finds_the_bucket_of_a_value),
		cmocka_unit_test(three_significant_digits),	  cmocka_unit_test(percentiles_agree_with_sorting),
		cmocka_unit_test(merging_equals_recording_in_one), cmocka_unit_test(edges),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
