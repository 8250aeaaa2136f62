/*
 * lock.h - the process's one data-path lock: a spin lock that gives the CPU away when the holder was preempted (more
 * threads than cores is the normal case for us).
 */
#ifndef SR_LOCK_H
#define SR_LOCK_H
#include <sched.h>
#include "../core.h"

static inline void sr_cpu_relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

static inline bool sr_trylock(void)
{
	return atomic_load_explicit(&sr.lock, memory_order_relaxed) == 0 &&
	       atomic_exchange_explicit(&sr.lock, 1, memory_order_acquire) == 0;
}

/* For whoever found the lock taken: see sr_unlock_give_way(). */
static inline void sr_lock_want(void)
{
	if (!atomic_load_explicit(&sr.lock_wanted, memory_order_relaxed))
		atomic_store_explicit(&sr.lock_wanted, true, memory_order_relaxed);
}

static inline void sr_lock(void)
{
	for (unsigned spins = 0; !sr_trylock(); spins++) {
		if (spins < 128) {
			sr_cpu_relax();
		} else {
			sr_lock_want();
			sched_yield();
		}
	}
}

static inline void sr_unlock(void) { atomic_store_explicit(&sr.lock, 0, memory_order_release); }

/* For a thread that takes the lock again at once, round after round: the nanoseconds between two rounds are too few for others to
 * find it free. When somebody wanted it, it stays free until it is taken, or for about the time of a system call. */
static inline void sr_unlock_give_way(void)
{
	sr_unlock();
	if (!atomic_load_explicit(&sr.lock_wanted, memory_order_relaxed))
		return;
	atomic_store_explicit(&sr.lock_wanted, false, memory_order_relaxed);
	for (int i = 0; i < 128 && !atomic_load_explicit(&sr.lock, memory_order_relaxed); i++)
		sr_cpu_relax();
}
#endif
