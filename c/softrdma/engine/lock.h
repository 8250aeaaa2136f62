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

static inline void sr_lock(void)
{
	for (unsigned spins = 0; !sr_trylock(); spins++) {
		if (spins < 128)
			sr_cpu_relax();
		else
			sched_yield();
	}
}

static inline void sr_unlock(void) { atomic_store_explicit(&sr.lock, 0, memory_order_release); }
#endif
