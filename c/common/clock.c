/* Clock calibration: see clock.h. */
#include "clock.h"

#include <pthread.h>
#include <stdlib.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#define CALIBRATION_NS UINT64_C(10000000)
#define OVERHEAD_READS 201

static int compare_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return x < y ? -1 : x > y;
}

/* Median of the differences of back-to-back readings: what one reading adds to a measured interval. */
static uint32_t measure_overhead_ns(const struct rk_clock *clock)
{
	uint64_t cost[OVERHEAD_READS];
	for (int i = 0; i < OVERHEAD_READS; i++) {
		uint64_t t = rk_clock_ticks(clock);
		for (int k = 0; k < 15; k++)
			(void)rk_clock_ticks(clock);
		cost[i] = rk_clock_ticks(clock) - t;
	}
	qsort(cost, OVERHEAD_READS, sizeof(cost[0]), compare_u64);
	return (uint32_t)((rk_clock_to_ns(clock, cost[OVERHEAD_READS / 2]) + 15) / 16);
}

void rk_clock_init_raw(struct rk_clock *clock)
{
	clock->source = RK_CLOCK_RAW;
	clock->ticks_per_s = UINT64_C(1000000000);
	clock->mult = UINT64_C(1) << 32;
	clock->overhead_ns = measure_overhead_ns(clock);
}

#if defined(__x86_64__)
/* The TSC may be used when it ticks at one rate in every power state: CPUID 0x80000007, EDX bit 8 (Intel SDM 18.17.1). */
static int tsc_is_invariant(void)
{
	unsigned int a, b, c, d;
	return __get_cpuid(0x80000007, &a, &b, &c, &d) && (d & (1u << 8));
}

/* A TSC reading and the RAW time at that moment. Of several tries the one with the narrowest bracket is the least
 * disturbed by interrupts. */
static void read_pair(uint64_t *tsc, uint64_t *raw_ns)
{
	uint64_t best = UINT64_MAX;
	for (int i = 0; i < 20; i++) {
		uint64_t before = __rdtsc();
		uint64_t ns = rk_clock_raw_ns();
		uint64_t after = __rdtsc();
		if (after - before < best) {
			best = after - before;
			*tsc = before + (after - before) / 2;
			*raw_ns = ns;
		}
	}
}

static int init_tsc(struct rk_clock *clock)
{
	if (!tsc_is_invariant())
		return -1;
	uint64_t tsc0, tsc1, ns0, ns1;
	read_pair(&tsc0, &ns0);
	struct timespec nap = {.tv_sec = 0, .tv_nsec = (long)CALIBRATION_NS};
	nanosleep(&nap, NULL);
	read_pair(&tsc1, &ns1);
	/* A signal may cut the nap short; too short an interval would give a bad rate. */
	while (ns1 - ns0 < CALIBRATION_NS / 2)
		read_pair(&tsc1, &ns1);
	if (tsc1 <= tsc0)
		return -1;
	uint64_t ticks = tsc1 - tsc0, ns = ns1 - ns0;
	clock->ticks_per_s = (uint64_t)((unsigned __int128)ticks * UINT64_C(1000000000) / ns);
	clock->mult = (uint64_t)(((unsigned __int128)ns << 32) / ticks);
	/* Outside 100 MHz .. 10 GHz something lied: an emulator, or a stopped virtual machine. */
	if (clock->ticks_per_s < UINT64_C(100000000) || clock->ticks_per_s > UINT64_C(10000000000))
		return -1;
	clock->source = RK_CLOCK_TSC;
	clock->overhead_ns = measure_overhead_ns(clock);
	return 0;
}
#endif

static struct rk_clock process_clock;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void init_process_clock(void)
{
#if defined(__x86_64__)
	if (init_tsc(&process_clock) == 0)
		return;
#endif
	rk_clock_init_raw(&process_clock);
}

const struct rk_clock *rk_clock_get(void)
{
	pthread_once(&once, init_process_clock);
	return &process_clock;
}
