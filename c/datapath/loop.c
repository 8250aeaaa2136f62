/* Threads of the loops: start, stop, poll, join, and the registry that shutdown walks. */
#define _GNU_SOURCE
#include "loop.h"

#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
static struct rk_dp_loop *registry;

struct rk_dp_loop *rk_loop_new(struct rk_dp_stats *stats, int32_t core)
{
	struct rk_dp_loop *loop = calloc(1, sizeof(*loop));
	if (!loop)
		return NULL;
	memset(stats, 0, offsetof(struct rk_dp_stats, hist));
	rk_hist_init(&stats->hist);
	stats->magic = RK_DP_STATS_MAGIC;
	stats->abi = RK_DP_ABI;
	stats->core = -1;
	loop->stats = stats;
	loop->core = core;
	loop->clock = rk_clock_get();
	stats->clock_source = loop->clock->source;
	stats->clock_cost_ns = loop->clock->overhead_ns;
	return loop;
}

int rk_loop_discard(struct rk_dp_loop *loop)
{
	int error = loop->error;
	free(loop);
	return -error;
}

int rk_loop_refuse(struct rk_dp_loop *loop, const char *reason)
{
	rk_loop_fail(loop, RK_DP_STAGE_CONFIG, EINVAL, "%s", reason);
	return rk_loop_discard(loop);
}

void rk_loop_fail(struct rk_dp_loop *loop, enum rk_dp_stage stage, int error, const char *format, ...)
{
	struct rk_dp_stats *stats = loop->stats;
	if (stats->error_stage != RK_DP_STAGE_NONE)
		return;
	va_list args;
	va_start(args, format);
	vsnprintf(stats->message, sizeof(stats->message), format, args);
	va_end(args);
	loop->error = error ? error : EIO;
	stats->error_errno = (uint32_t)error;
	stats->error_stage = stage;
	__atomic_store_n(&stats->state, RK_DP_FAILED, __ATOMIC_RELEASE);
}

void rk_loop_pin(struct rk_dp_loop *loop)
{
	if (loop->core < 0)
		return;
	cpu_set_t set;
	CPU_ZERO(&set);
	if (loop->core >= CPU_SETSIZE) {
		loop->stats->pin_errno = EINVAL;
		return;
	}
	CPU_SET(loop->core, &set);
	int error = pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
	loop->stats->pin_errno = (uint32_t)error;
	if (error == 0)
		loop->stats->core = loop->core;
}

static void *thread_main(void *arg)
{
	struct rk_dp_loop *loop = arg;
	struct rk_dp_stats *stats = loop->stats;
	pthread_setname_np(pthread_self(), "rk-datapath");
	stats->thread_id = (uint32_t)syscall(SYS_gettid);
	rk_loop_pin(loop);
	loop->run(loop);
	if (!rk_loop_failed(loop))
		__atomic_store_n(&stats->state, RK_DP_DONE, __ATOMIC_RELEASE);
	atomic_store_explicit(&loop->ended, 1, memory_order_release);
	return NULL;
}

int rk_loop_launch(struct rk_dp_loop *loop, void (*run)(struct rk_dp_loop *), struct rk_dp_loop **out)
{
	loop->run = run;
	__atomic_store_n(&loop->stats->state, RK_DP_RUNNING, __ATOMIC_RELEASE);
	/* Registered before it runs, so that a shutdown cannot miss it. */
	pthread_mutex_lock(&registry_lock);
	int error = pthread_create(&loop->thread, NULL, thread_main, loop);
	if (error == 0) {
		loop->next = registry;
		registry = loop;
	}
	pthread_mutex_unlock(&registry_lock);
	if (error != 0) {
		rk_loop_fail(loop, RK_DP_STAGE_THREAD, error, "the thread could not be started: %s", strerror(error));
		return rk_loop_discard(loop);
	}
	*out = loop;
	return 0;
}

int rk_loop_sleep_until(struct rk_dp_loop *loop, uint64_t ticks)
{
	for (;;) {
		if (rk_loop_stopping(loop))
			return 1;
		uint64_t now = rk_clock_ticks(loop->clock);
		if ((int64_t)(ticks - now) <= 0)
			return 0;
		uint64_t left_ns = rk_clock_to_ns(loop->clock, ticks - now);
		if (left_ns > RK_WAIT_SLICE_NS)
			left_ns = RK_WAIT_SLICE_NS;
		struct timespec nap = {.tv_sec = 0, .tv_nsec = (long)left_ns};
		nanosleep(&nap, NULL);
	}
}

void rk_dp_loop_stop(struct rk_dp_loop *loop)
{
	if (loop)
		__atomic_store_n(&loop->stats->stop, 1, __ATOMIC_RELAXED);
}

int32_t rk_dp_loop_poll(const struct rk_dp_loop *loop)
{
	return !loop || atomic_load_explicit(&loop->ended, memory_order_acquire);
}

int32_t rk_dp_loop_join(struct rk_dp_loop *loop)
{
	if (!loop)
		return -EINVAL;
	pthread_mutex_lock(&registry_lock);
	struct rk_dp_loop **link = &registry;
	while (*link && *link != loop)
		link = &(*link)->next;
	int found = *link != NULL;
	if (found)
		*link = loop->next;
	pthread_mutex_unlock(&registry_lock);
	/* Not in the registry: shutdown took it, or it was joined before. Touching it would be a use after free. */
	if (!found)
		return -ESRCH;
	pthread_join(loop->thread, NULL);
	int error = loop->error;
	free(loop);
	return -error;
}

void rk_dp_shutdown(void)
{
	for (;;) {
		pthread_mutex_lock(&registry_lock);
		struct rk_dp_loop *loop = registry;
		if (loop)
			registry = loop->next;
		pthread_mutex_unlock(&registry_lock);
		if (!loop)
			return;
		rk_dp_loop_stop(loop);
		pthread_join(loop->thread, NULL);
		free(loop);
	}
}
