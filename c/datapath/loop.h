/*
 * What every loop of the data path shares: its thread, its stop flag, pinning, and how it records that it failed.
 * Internal; the public face is datapath.h.
 */
#ifndef RK_LOOP_H
#define RK_LOOP_H

#include <pthread.h>
#include <stdatomic.h>

#include "../common/clock.h"
#include "datapath.h"

/* A loop looks at its stop flag and its deadline once in so many empty polls: often enough to end within microseconds,
 * rarely enough to cost nothing. A power of two. */
#define RK_STOP_CHECK_SPINS 128u
/* Sleeps and blocking waits are cut into slices of this length so that a stop request is seen. */
#define RK_WAIT_SLICE_NS UINT64_C(50000000)

struct rk_dp_loop {
	struct rk_dp_stats *stats;
	const struct rk_clock *clock;
	void (*run)(struct rk_dp_loop *loop);
	int32_t core;
	int error; /* errno-like code of the failure, 0 while all is well */
	pthread_t thread;
	atomic_int ended;
	struct rk_dp_loop *next; /* registry of running loops, for shutdown */
	union {
		struct rk_dp_pingpong pingpong;
		struct rk_dp_sockpp sockpp;
		struct rk_dp_stream stream;
		struct rk_dp_rping rping;
	} config;
	void *own; /* what the kind of loop keeps besides; freed by it */
};

/* Prepares `stats` for a new run and allocates the loop; NULL without memory. */
struct rk_dp_loop *rk_loop_new(struct rk_dp_stats *stats, int32_t core);
/* Frees a loop whose thread was never started; returns -errno of the failure it recorded. */
int rk_loop_discard(struct rk_dp_loop *loop);
/* Refuses a configuration: records the reason, frees the loop, returns -EINVAL. */
int rk_loop_refuse(struct rk_dp_loop *loop, const char *reason);
/* Starts the thread. 0 and *out, or -errno with the loop freed. */
int rk_loop_launch(struct rk_dp_loop *loop, void (*run)(struct rk_dp_loop *), struct rk_dp_loop **out);

/* Pins the calling thread to the loop's core. Pinning is a wish: a core that is not in the process's set is reported, and the
 * thread floats. */
void rk_loop_pin(struct rk_dp_loop *loop);

/* Records the first failure: where, its errno (0 when there is none), and one English sentence. Later ones are kept out,
 * because they are usually consequences. */
void rk_loop_fail(struct rk_dp_loop *loop, enum rk_dp_stage stage, int error, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

static inline int rk_loop_failed(const struct rk_dp_loop *loop)
{
	return loop->stats->error_stage != RK_DP_STAGE_NONE;
}

static inline int rk_loop_stopping(const struct rk_dp_loop *loop)
{
	return __atomic_load_n(&loop->stats->stop, __ATOMIC_RELAXED) != 0;
}

/* Sleeps until the clock reaches `ticks`, in slices. 1 when the loop was asked to stop, otherwise 0. */
int rk_loop_sleep_until(struct rk_dp_loop *loop, uint64_t ticks);

/* Puts a sample into the ring; rtt_ns UINT64_MAX stands for a loss. */
static inline void rk_loop_sample(struct rk_dp_stats *stats, uint64_t sequence, uint64_t rtt_ns)
{
	struct rk_dp_sample *slot = &stats->samples[stats->samples_written & (RK_DP_SAMPLES - 1)];
	slot->sequence = sequence;
	slot->rtt_ns = rtt_ns;
	__atomic_store_n(&stats->samples_written, stats->samples_written + 1, __ATOMIC_RELEASE);
}

#endif
