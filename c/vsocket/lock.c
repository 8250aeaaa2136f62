/* lock.c - waiting for a lock in shared memory. */
#define _GNU_SOURCE
#include "lock.h"
#include "gone.h"

/* How often the owner of a lock that is waited for is looked at closely. */
#define LOOK_NS UINT64_C(50000000)

__thread int vs_tid __attribute__((tls_model("initial-exec")));

enum vs_locked vs_lock_slow(_Atomic uint32_t *lock, uint32_t limit_ms)
{
	uint64_t asked = 0, start_ns = 0, looked_ns = 0;
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
		uint64_t now_ns = vs_now_ns();
		start_ns = start_ns ? start_ns : now_ns;
		looked_ns = looked_ns ? looked_ns : now_ns;
		/* A number that was never an owner's, or has become somebody else's since, would be waited for for ever. */
		const bool look = now_ns - looked_ns > LOOK_NS;
		if (look)
			looked_ns = now_ns;
		if (look ? vs_stranger((int)owner) : vs_gone((int)owner)) {
			if (atomic_compare_exchange_strong_explicit(lock, &owner, (uint32_t)vs_self(), memory_order_acquire,
								    memory_order_relaxed))
				return VS_LOCK_STOLEN;
			continue;
		}
		if (limit_ms != VS_NO_LIMIT && now_ns - start_ns > limit_ms * UINT64_C(1000000))
			return VS_LOCK_LATE;
		/* It is not held for so long by somebody who runs: no use in keeping a CPU busy. */
		struct timespec nap = { 0, 500000 };
		if (now_ns - start_ns > 2000000)
			vs_sys(SYS_nanosleep, &nap, 0);
	}
}
