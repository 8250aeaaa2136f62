/*
 * lock.h - locks in shared memory. The word holds the thread id of the owner, so that a lock whose owner was killed can be taken over;
 * what it protected may then be half changed, which the callers' repair functions know.
 */
#ifndef VS_LOCK_H
#define VS_LOCK_H

#include "sys.h"
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>

extern __thread int vs_tid __attribute__((tls_model("initial-exec")));

static inline int vs_self(void)
{
	if (__builtin_expect(vs_tid == 0, 0))
		vs_tid = vs_sys_gettid();
	return vs_tid;
}

enum vs_locked { VS_LOCKED, VS_LOCK_STOLEN, VS_LOCK_NESTED, VS_LOCK_LATE };
#define VS_NO_LIMIT UINT32_MAX

/* VS_LOCK_STOLEN: taken from a dead owner. VS_LOCK_NESTED: not taken, this thread has it (we are in its signal handler). VS_LOCK_LATE: not
 * taken in about `limit_ms`, because its owner is stopped or very slow. */
enum vs_locked vs_lock_slow(_Atomic uint32_t *lock, uint32_t limit_ms);

static inline enum vs_locked vs_lock_within(_Atomic uint32_t *lock, uint32_t limit_ms)
{
	uint32_t none = 0;
	if (__builtin_expect(atomic_compare_exchange_strong_explicit(lock, &none, (uint32_t)vs_self(), memory_order_acquire,
								     memory_order_relaxed),
			     1))
		return VS_LOCKED;
	return vs_lock_slow(lock, limit_ms);
}

/* Whether it was free: nobody is waited for, and nobody's lock taken over. */
static inline bool vs_try_lock(_Atomic uint32_t *lock)
{
	uint32_t none = 0;
	return atomic_compare_exchange_strong(lock, &none, (uint32_t)vs_self());
}

static inline enum vs_locked vs_lock(_Atomic uint32_t *lock) { return vs_lock_within(lock, VS_NO_LIMIT); }

static inline void vs_unlock(_Atomic uint32_t *lock) { atomic_store_explicit(lock, 0, memory_order_release); }

#endif
