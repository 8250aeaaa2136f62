/*
 * The clock of the measuring loops: monotonic nanoseconds from the cheapest trustworthy source.
 *
 * x86-64 with an invariant TSC: rdtsc, calibrated once against CLOCK_MONOTONIC_RAW. Anything else: CLOCK_MONOTONIC_RAW
 * itself. RAW is used because NTP slewing would bend latencies. Ticks are kept raw in loops and converted when a sample
 * is stored, so that a reading costs one instruction.
 */
#ifndef RK_CLOCK_H
#define RK_CLOCK_H

#include <stdint.h>
#include <time.h>
#if defined(__x86_64__)
#include <x86intrin.h>
#endif

enum rk_clock_source {
	RK_CLOCK_RAW = 1, /* clock_gettime(CLOCK_MONOTONIC_RAW): ticks are nanoseconds */
	RK_CLOCK_TSC = 2, /* time-stamp counter */
};

struct rk_clock {
	uint32_t source;      /* enum rk_clock_source */
	uint32_t overhead_ns; /* median cost of one reading, rounded up */
	uint64_t ticks_per_s; /* 1e9 for RAW */
	uint64_t mult;	      /* ns = ticks * mult >> 32 */
};

/* Calibrates on the first call (about 10 ms for the TSC) and returns the process-wide clock; later calls are free.
 * Thread safe. */
const struct rk_clock *rk_clock_get(void);

/* Uses CLOCK_MONOTONIC_RAW even where the TSC would do; for tests of the fallback. The caller owns `clock`. */
void rk_clock_init_raw(struct rk_clock *clock);

static inline uint64_t rk_clock_raw_ns(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC_RAW, &ts);
	return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

/* Current ticks. rdtsc is not serialising; the loops read it after a load whose value they branched on, which orders it
 * well enough at the scale of tens of nanoseconds, and a fence would cost as much as what is measured. */
static inline uint64_t rk_clock_ticks(const struct rk_clock *clock)
{
#if defined(__x86_64__)
	if (__builtin_expect(clock->source == RK_CLOCK_TSC, 1))
		return __rdtsc();
#endif
	(void)clock;
	return rk_clock_raw_ns();
}

static inline uint64_t rk_clock_to_ns(const struct rk_clock *clock, uint64_t ticks)
{
	return (uint64_t)(((unsigned __int128)ticks * clock->mult) >> 32);
}

static inline uint64_t rk_clock_from_ns(const struct rk_clock *clock, uint64_t ns)
{
	return (uint64_t)((unsigned __int128)ns * clock->ticks_per_s / UINT64_C(1000000000));
}

#endif
