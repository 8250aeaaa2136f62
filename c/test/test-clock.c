/* c/common/clock.h: both sources are monotonic and agree with the kernel's clock about how much time passed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>
#include <cmocka.h>

#include "common/clock.h"

static void check_clock(const struct rk_clock *clock)
{
	uint64_t last = rk_clock_ticks(clock);
	for (int i = 0; i < 100000; i++) {
		uint64_t now = rk_clock_ticks(clock);
		assert_true(now >= last);
		last = now;
	}
	/* The bracket of the kernel's clock around a nap must contain what our clock says, within 0.1 %. */
	uint64_t outer_begin = rk_clock_raw_ns(), begin = rk_clock_ticks(clock), inner_begin = rk_clock_raw_ns();
	struct timespec nap = {.tv_sec = 0, .tv_nsec = 50000000};
	nanosleep(&nap, NULL);
	uint64_t inner_end = rk_clock_raw_ns(), end = rk_clock_ticks(clock), outer_end = rk_clock_raw_ns();
	uint64_t measured = rk_clock_to_ns(clock, end - begin);
	assert_true(measured * 1000 >= (inner_end - inner_begin) * 999);
	assert_true(measured * 1000 <= (outer_end - outer_begin) * 1001);
}

static void process_clock(void **state)
{
	(void)state;
	const struct rk_clock *clock = rk_clock_get();
	assert_ptr_equal(clock, rk_clock_get());
	assert_true(clock->source == RK_CLOCK_TSC || clock->source == RK_CLOCK_RAW);
	check_clock(clock);
}

static void fallback_clock(void **state)
{
	(void)state;
	struct rk_clock clock;
	rk_clock_init_raw(&clock);
	assert_int_equal(clock.source, RK_CLOCK_RAW);
	assert_int_equal(rk_clock_to_ns(&clock, 12345), 12345);
	check_clock(&clock);
}

static void conversions_invert_each_other(void **state)
{
	(void)state;
	const struct rk_clock *clock = rk_clock_get();
	for (uint64_t ns = 1; ns < UINT64_C(4000000000000000); ns *= 3) {
		uint64_t back = rk_clock_to_ns(clock, rk_clock_from_ns(clock, ns));
		uint64_t off = back > ns ? back - ns : ns - back;
		assert_true(off <= 1 + ns / 1000000);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(process_clock),
		cmocka_unit_test(fallback_clock),
		cmocka_unit_test(conversions_invert_each_other),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
