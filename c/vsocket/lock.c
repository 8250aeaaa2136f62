/* lock.c - waiting for a lock in shared memory. */
#define _GNU_SOURCE
#include "lock.h"

__thread int vs_tid __attribute__((tls_model("initial-exec")));

enum vs_locked vs_lock_slow(_Atomic uint32_t *lock)
{
	uint64_t asked = 0;
	for (unsigned round = 1;; round++) {
		uint32_t owner = atomic_load_explicit(lock, memory_order_relaxed);
		if (owner == (uint32_t)vs_self())
			return VS_LOCK_NESTED;
		if (owner == 0) {
			if (atomic_compare_exchange_weak_explicit(lock, &owner, (uint32_t)vs_self(), memory_order_acquire,
								  memory_order_relaxed))
				return VS_LOCKED;
			continue;
		}
		if (round % 64) {
			vs_pause();
			continue;
		}
		vs_sys_yield();
		uint64_t now = vs_ticks();
		if (asked == 0 || now - asked < VS_TICKS_A_MS) {
			asked = asked ? asked : now;
			continue;
		}
		asked = now;
		if (vs_sys(SYS_kill, owner, 0) == -ESRCH &&
		    atomic_compare_exchange_strong_explicit(lock, &owner, (uint32_t)vs_self(), memory_order_acquire, memory_order_relaxed))
			return VS_LOCK_STOLEN;
	}
}
