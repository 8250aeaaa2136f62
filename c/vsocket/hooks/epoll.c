/* epoll.c - epoll: a wait looks at the rings of the set's members first, and sleeps in the kernel. */
#define _GNU_SOURCE
#include "hooks.h"
#include "spin.h"
#include "../set.h"
#include "../sys.h"
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <time.h>

static int fresh_set(int ep)
{
	if (ep >= 0 && !vs_in_vfork_child()) {
		vs_fd_forget(ep);
		vs_set_created(ep);
	}
	return ep;
}

VS_EXPORT int epoll_create(int size) { return fresh_set(REAL(epoll_create)(size)); }
VS_EXPORT int epoll_create1(int flags) { return fresh_set(REAL(epoll_create1)(flags)); }

VS_EXPORT int epoll_ctl(int ep, int op, int fd, struct epoll_event *event)
{
	return vs_set_ctl(ep, op, fd, event, REAL(epoll_ctl));
}

/* A wait as its caller asked for it. */
struct call {
	int ep, max, timeout_ms; /* timeout_ms: unless `timeout` says it */
	struct epoll_event *events;
	const struct timespec *timeout;
	const sigset_t *mask;
	bool fine; /* epoll_pwait2() */
};

/* The kernel's wait, for the time that is left of it. */
static int sleep_in_kernel(const struct call *w, uint64_t used_ns, uint64_t limit_ns)
{
	uint64_t left_ns = used_ns < limit_ns ? limit_ns - used_ns : 0;
	if (w->fine) {
		struct timespec rest = { (time_t)(left_ns / 1000000000u), (long)(left_ns % 1000000000u) };
		return REAL(epoll_pwait2)(w->ep, w->events, w->max, limit_ns == UINT64_MAX ? NULL : &rest, w->mask);
	}
	/* Milliseconds are all that can be said; the little that was spun is not worth another one. */
	int ms = w->timeout_ms < 0 ? -1 : used_ns < 100000 ? w->timeout_ms : (int)((left_ns + 999999) / 1000000);
	return w->mask ? REAL(epoll_pwait)(w->ep, w->events, w->max, ms, w->mask) : REAL(epoll_wait)(w->ep, w->events, w->max, ms);
}

/* What the kernel has told is to be found at once, also by who has just looked for it in vain: it may be an edge. */
static int told(int n)
{
	vs_acts += n > 0;
	return n;
}

static int look_at_kernel(const struct call *w, int max)
{
	return told((int)vs_sys(SYS_epoll_pwait, w->ep, w->events, max, 0, 0, 8));
}

/* What leaves a wait by way of pthread_cancel(). */
struct waiter {
	struct vs_set *set;
	struct vs_sleep how;
	bool asleep;
};

static void leave(void *arg)
{
	struct waiter *w = arg;
	if (w->asleep)
		vs_set_wake(w->set, &w->how);
	vs_set_leave(w->set);
}

/* Looks at rings and, now and then, at the kernel's set, for as long as it is worth it. True: something may be ready, `*n` of it told by
 * the kernel. */
static bool spin(const struct call *w, struct vs_set *s, uint32_t budget_ns, uint64_t left_ns, int *n)
{
	uint64_t start = vs_now_ns(), now = start, looked = start;
	*n = 0;
	while (now - start < budget_ns && now - start < left_ns) {
		for (int i = 0; i < 32; i++) {
			if (vs_set_ready(s))
				return true;
			vs_pause();
		}
		now = vs_now_ns();
		if (now - looked > VS_LOOK_NS) {
			looked = now;
			vs_set_flush(s, REAL(epoll_ctl));
			*n = look_at_kernel(w, w->max);
			if (*n != 0)
				return true;
		}
		if (now - start > VS_PURE_SPIN_NS)
			vs_sys_yield();
	}
	return false;
}

/* The kernel's call when nothing is known of the set, or the call is wrong. */
static int kernels(const struct call *w)
{
	if (w->fine)
		return REAL(epoll_pwait2)(w->ep, w->events, w->max, w->timeout, w->mask);
	return w->mask ? REAL(epoll_pwait)(w->ep, w->events, w->max, w->timeout_ms, w->mask) :
			 REAL(epoll_wait)(w->ep, w->events, w->max, w->timeout_ms);
}

static int wait_set(const struct call *w, struct waiter *me, uint64_t limit_ns)
{
	struct vs_set *s = me->set;
	_Atomic uint32_t *learnt = vs_set_spin_ns(s);
	_Atomic uint64_t *looked = vs_set_looked(s);
	uint64_t start = 0;
	for (bool first = true;; first = false) {
		const bool rings = vs_set_has_rings(s), ready = vs_set_ready(s);
		const uint32_t budget = vs_spin_budget(atomic_load_explicit(learnt, memory_order_relaxed));
		const uint64_t clock = vs_set_clock(s);
		int n = 0;
		/* The kernel's part must not starve, nor take all the room. */
		uint64_t ticks = vs_ticks();
		if (rings && ((!ready && limit_ns == 0) || ticks - atomic_load_explicit(looked, memory_order_relaxed) > VS_FAIR_TICKS)) {
			atomic_store_explicit(looked, ticks, memory_order_relaxed);
			vs_set_flush(s, REAL(epoll_ctl));
			n = look_at_kernel(w, ready && w->max > 1 ? w->max / 2 : w->max);
			if (n < 0)
				return (int)vs_result(n);
		}
		n = vs_set_merge(s, w->events, n, w->max, clock, REAL(epoll_ctl));
		if (n > 0 || (limit_ns == 0 && rings)) /* the usual case of one who is busy: no clock was asked */
			return n;
		const uint64_t since = vs_now_ns();
		start = start ? start : since;
		if (!first && since - start >= limit_ns)
			return 0;
		if (rings && spin(w, s, budget, limit_ns - (since - start), &n)) {
			if (n < 0)
				return (int)vs_result(n);
			if (vs_set_ready(s))
				atomic_store_explicit(learnt, vs_spin_learn(budget, vs_now_ns() - since, true), memory_order_relaxed);
			n = vs_set_merge(s, w->events, n, w->max, clock, REAL(epoll_ctl));
			if (n > 0)
				return n;
			vs_sys_yield(); /* a sender is in the middle of something */
			continue;
		}
		vs_set_sleep(s, REAL(epoll_ctl), &me->how);
		me->asleep = true;
		if (vs_set_has_rings(s) && vs_set_ready(s))
			n = 0;
		else if (!rings && first)
			n = told(kernels(w));
		else
			n = told(sleep_in_kernel(w, vs_now_ns() - start, limit_ns));
		me->asleep = false;
		vs_set_wake(s, &me->how);
		if (n < 0)
			return n;
		if (vs_set_has_rings(s)) {
			atomic_store_explicit(learnt, vs_spin_learn(budget, vs_now_ns() - since, vs_set_ready(s)), memory_order_relaxed);
			atomic_store_explicit(looked, vs_ticks(), memory_order_relaxed);
		} else if (n == 0 && first && !rings) {
			return 0;
		}
		n = vs_set_merge(s, w->events, n, w->max, clock, REAL(epoll_ctl));
		if (n > 0)
			return n;
	}
}

static int wait_for(const struct call *w)
{
	bool bad = w->max <= 0 || !w->events ||
		   (w->timeout && (w->timeout->tv_sec < 0 || (unsigned long)w->timeout->tv_nsec >= 1000000000u));
	struct waiter me = { .set = bad ? NULL : vs_set_enter(w->ep) };
	if (!me.set)
		return kernels(w);
	uint64_t limit_ns = UINT64_MAX;
	if (w->timeout)
		limit_ns = (uint64_t)w->timeout->tv_sec * 1000000000u + (uint64_t)w->timeout->tv_nsec;
	else if (!w->fine && w->timeout_ms >= 0)
		limit_ns = (uint64_t)w->timeout_ms * 1000000u;
	int r;
	pthread_cleanup_push(leave, &me);
	r = wait_set(w, &me, limit_ns);
	pthread_cleanup_pop(0);
	int saved = errno;
	leave(&me);
	errno = saved;
	return r;
}

VS_EXPORT int epoll_wait(int ep, struct epoll_event *events, int max, int timeout_ms)
{
	return wait_for(&(struct call){ .ep = ep, .events = events, .max = max, .timeout_ms = timeout_ms });
}

VS_EXPORT int epoll_pwait(int ep, struct epoll_event *events, int max, int timeout_ms, const sigset_t *mask)
{
	return wait_for(&(struct call){ .ep = ep, .events = events, .max = max, .timeout_ms = timeout_ms, .mask = mask });
}

VS_EXPORT int epoll_pwait2(int ep, struct epoll_event *events, int max, const struct timespec *timeout, const sigset_t *mask)
{
	return wait_for(&(struct call){ .ep = ep, .events = events, .max = max, .timeout = timeout, .mask = mask, .fine = true });
}
