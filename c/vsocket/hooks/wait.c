/* wait.c - poll and select. */
#define _GNU_SOURCE
#include "hooks.h"
#include "spin.h"
#include "../set.h"
#include "../sys.h"
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <time.h>

int __poll_chk(struct pollfd *p, nfds_t n, int timeout, size_t room);
int __ppoll_chk(struct pollfd *p, nfds_t n, const struct timespec *timeout, const sigset_t *mask, size_t room);

#define IN_EVENTS (POLLIN | POLLRDNORM)
#define OUT_EVENTS (POLLOUT | POLLWRNORM)
/* More connections than this in one call are not looked at by ourselves. */
#define MANY 1024

static bool wants_ring(const struct pollfd *p, struct vs_conn *c)
{
	return p->fd >= 0 && (p->events & IN_EVENTS) && vs_fd_conn(p->fd, c);
}

/* What is known without the kernel: data in a ring, and room in one (the twin under it is as good as empty). */
static short ready_events(const struct pollfd *p)
{
	struct vs_conn c;
	struct vs_udp *u = vs_udp_of(p->fd);
	short events = 0;
	if (u)
		return (p->events & IN_EVENTS) && vs_udp_ready(u) ? p->events & IN_EVENTS : 0;
	if (p->fd < 0 || !(p->events & (IN_EVENTS | OUT_EVENTS)) || !vs_fd_conn(p->fd, &c))
		return 0;
	if ((p->events & IN_EVENTS) && vs_rx_ring_ready(&c))
		events |= p->events & IN_EVENTS;
	if ((p->events & OUT_EVENTS) && vs_tx_in_ring(&c))
		events |= p->events & OUT_EVENTS;
	return events;
}

static unsigned count_conns(struct pollfd *p, nfds_t n)
{
	unsigned found = 0;
	struct vs_conn c;
	for (nfds_t i = 0; i < n; i++) {
		found += p[i].fd >= 0 && (vs_fd_conn(p[i].fd, &c) || vs_udp_of(p[i].fd));
		vs_set_force(p[i].fd); /* for an epoll set one may wait like this, too */
	}
	return found;
}

/* Whether there is anything to spin for. */
static bool any_ring(const struct pollfd *p, nfds_t n)
{
	struct vs_conn c;
	for (nfds_t i = 0; i < n; i++) {
		struct vs_udp *u = vs_udp_of(p[i].fd);
		if (u ? vs_udp_has_inbox(u) : p[i].fd >= 0 && vs_fd_conn(p[i].fd, &c))
			return true;
	}
	return false;
}

static bool any_ready(const struct pollfd *p, nfds_t n)
{
	for (nfds_t i = 0; i < n; i++)
		if (ready_events(&p[i]))
			return true;
	return false;
}

/* Asks every connection for a doorbell; false when one has data. */
static bool arm_all(const struct pollfd *p, nfds_t n)
{
	struct vs_conn c;
	bool empty = true;
	for (nfds_t i = 0; i < n; i++)
		if (wants_ring(&p[i], &c) && !vs_rx_arm(&c, p[i].fd))
			empty = false;
	return empty;
}

/* Before sleeping: false when an inbox has something after all. */
static bool count_sleeper(const struct pollfd *p, nfds_t n, bool sleeps)
{
	struct vs_conn c;
	bool empty = true;
	for (nfds_t i = 0; i < n; i++) {
		struct vs_udp *u = vs_udp_of(p[i].fd);
		if (wants_ring(&p[i], &c))
			(sleeps ? vs_rx_sleep : vs_rx_wake)(&c);
		else if (u && sleeps)
			empty &= vs_udp_sleep(u, !(p[i].events & IN_EVENTS));
		else if (u)
			vs_udp_wake(u);
	}
	return empty;
}

/* Adds what rings have, takes away what was only a doorbell. Returns the number of descriptors with events. */
static int merge(struct pollfd *p, nfds_t n)
{
	struct vs_conn c;
	int ready = 0;
	for (nfds_t i = 0; i < n; i++) {
		short known = ready_events(&p[i]);
		p[i].revents |= known;
		if ((p[i].revents & IN_EVENTS & ~known) && wants_ring(&p[i], &c) && !vs_rx_woken(&c, p[i].fd))
			p[i].revents &= (short)~IN_EVENTS;
		ready += p[i].revents != 0;
	}
	return ready;
}

static uint64_t to_ns(const struct timespec *t) { return (uint64_t)t->tv_sec * 1000000000u + (uint64_t)t->tv_nsec; }

/* What the waits of a thread have taught it. */
static __thread struct {
	uint32_t spin_ns;
	bool kernel_first;     /* the last one was ended by something that is the kernel's to tell */
	uint64_t looked_ticks; /* when the kernel was last asked */
	uint32_t acts;	       /* what vs_acts was then */
} learnt;

/* Everything that can be told without sleeping; 0: nothing. When rings have something, others wait for their turn some microseconds,
 * unless the thread itself may have made them ready. */
static int look(struct pollfd *p, nfds_t n, bool ready)
{
	if (!ready && !learnt.kernel_first)
		return 0;
	uint64_t ticks = vs_ticks();
	if (ready && learnt.acts == vs_acts && ticks - learnt.looked_ticks <= VS_FAIR_TICKS) {
		for (nfds_t i = 0; i < n; i++)
			p[i].revents = 0;
		return merge(p, n);
	}
	learnt.looked_ticks = ticks;
	learnt.acts = vs_acts;
	if (vs_sys_poll_now(p, (unsigned)n) < 0)
		return 0; /* the caller's own call will fail likewise */
	return merge(p, n);
}

/* ppoll() for sets with connections in them. `timeout`: NULL waits for ever. */
static int wait_poll(struct pollfd *p, nfds_t n, const struct timespec *timeout, const sigset_t *mask)
{
	uint64_t start = 0, limit = timeout ? to_ns(timeout) : UINT64_MAX;
	const bool rings = any_ring(p, n);
	for (;;) {
		bool ready = any_ready(p, n);
		int known = look(p, n, ready);
		if (known > 0) /* the usual case of one who is busy: no clock was asked */
			return known;
		uint64_t now = vs_now_ns(), since = now;
		uint32_t budget = rings ? vs_spin_budget(learnt.spin_ns) : 0;
		start = start ? start : now;
		for (uint64_t looked = now; !ready && now - since < budget && now - start < limit; now = vs_now_ns()) {
			for (int i = 0; i < 16 && !(ready = any_ready(p, n)); i++)
				vs_pause();
			/* Other descriptors of the set are the kernel's. */
			if (!ready && now - looked > VS_LOOK_NS) {
				looked = now;
				if (vs_sys_poll_now(p, (unsigned)n) != 0)
					break;
			}
			if (now - since > VS_PURE_SPIN_NS)
				vs_sys_yield();
		}
		if (ready) {
			learnt.kernel_first = false;
			learnt.spin_ns = vs_spin_learn(budget, now - since, true);
			if ((known = look(p, n, true)) > 0)
				return known;
		}
		struct timespec zero = { 0, 0 }, rest;
		const struct timespec *t = timeout;
		bool sleeps = !ready, empty = !sleeps || count_sleeper(p, n, true);
		if (ready || !empty || !arm_all(p, n)) {
			t = &zero;
		} else if (timeout) {
			uint64_t used = vs_now_ns() - start, left = used < limit ? limit - used : 0;
			rest = (struct timespec){ (time_t)(left / 1000000000u), (long)(left % 1000000000u) };
			t = &rest;
		}
		int r = REAL(ppoll)(p, n, t, mask);
		if (sleeps)
			count_sleeper(p, n, false);
		if (r < 0)
			return r;
		bool by_ring = any_ready(p, n);
		r = merge(p, n);
		learnt.kernel_first = r > 0 && !by_ring;
		if (rings)
			learnt.spin_ns = vs_spin_learn(budget, vs_now_ns() - since, by_ring);
		if (r > 0 || (timeout && vs_now_ns() - start >= limit))
			return r;
	}
}

VS_EXPORT int ppoll(struct pollfd *p, nfds_t n, const struct timespec *timeout, const sigset_t *mask)
{
	unsigned conns = p ? count_conns(p, n) : 0;
	if (conns == 0 || (timeout && (timeout->tv_sec < 0 || (unsigned long)timeout->tv_nsec >= 1000000000u)))
		return REAL(ppoll)(p, n, timeout, mask);
	return wait_poll(p, n, timeout, mask);
}

VS_EXPORT int poll(struct pollfd *p, nfds_t n, int timeout_ms)
{
	unsigned conns = p ? count_conns(p, n) : 0;
	if (conns == 0)
		return REAL(poll)(p, n, timeout_ms);
	struct timespec t = { timeout_ms / 1000, (timeout_ms % 1000) * 1000000L };
	return wait_poll(p, n, timeout_ms < 0 ? NULL : &t, NULL);
}

VS_EXPORT int __poll_chk(struct pollfd *p, nfds_t n, int timeout_ms, size_t room)
{
	if (room / sizeof *p < n)
		return REAL(__poll_chk)(p, n, timeout_ms, room);
	return poll(p, n, timeout_ms);
}

VS_EXPORT int __ppoll_chk(struct pollfd *p, nfds_t n, const struct timespec *timeout, const sigset_t *mask, size_t room)
{
	if (room / sizeof *p < n)
		return REAL(__ppoll_chk)(p, n, timeout, mask, room);
	return ppoll(p, n, timeout, mask);
}

/* select() with connections in it becomes poll(): the numbers are at most FD_SETSIZE or the caller's own larger sets. */
static bool select_has_conns(int n, const fd_set *in, const fd_set *out)
{
	struct vs_conn c;
	for (int fd = 0; fd < n; fd++)
		if (((in && FD_ISSET(fd, in)) || (out && FD_ISSET(fd, out))) && (vs_fd_conn(fd, &c) || vs_udp_of(fd)))
			return true;
	return false;
}

static int wait_as_poll(struct pollfd *p, int n, fd_set *in, fd_set *out, fd_set *except, const struct timespec *timeout, const sigset_t *mask)
{
	nfds_t used = 0;
	for (int fd = 0; fd < n; fd++) {
		short events = 0;
		if (in && FD_ISSET(fd, in))
			events |= POLLIN;
		if (out && FD_ISSET(fd, out))
			events |= POLLOUT;
		if (except && FD_ISSET(fd, except))
			events |= POLLPRI;
		if (events)
			p[used++] = (struct pollfd){ .fd = fd, .events = events };
	}
	int r = wait_poll(p, used, timeout, mask);
	if (r < 0)
		return r;
	int bits = 0;
	for (nfds_t i = 0; i < used; i++)
		if (p[i].revents & POLLNVAL) {
			errno = EBADF;
			return -1;
		}
	for (nfds_t i = 0; i < used; i++) {
		int fd = p[i].fd;
		bool is_in = in && FD_ISSET(fd, in) && (p[i].revents & (POLLIN | POLLHUP | POLLERR));
		bool is_out = out && FD_ISSET(fd, out) && (p[i].revents & (POLLOUT | POLLERR));
		bool is_except = except && FD_ISSET(fd, except) && (p[i].revents & POLLPRI);
		if (in && !is_in)
			FD_CLR(fd, in);
		if (out && !is_out)
			FD_CLR(fd, out);
		if (except && !is_except)
			FD_CLR(fd, except);
		bits += is_in + is_out + is_except;
	}
	return bits;
}

/* Sets of more than FD_SETSIZE are the caller's own. */
static int wait_select(int n, fd_set *in, fd_set *out, fd_set *except, const struct timespec *timeout, const sigset_t *mask)
{
	struct pollfd few[MANY], *p = n <= MANY ? few : malloc((size_t)n * sizeof *p);
	if (!p) {
		errno = ENOMEM;
		return -1;
	}
	int r = wait_as_poll(p, n, in, out, except, timeout, mask);
	if (p != few)
		free(p);
	return r;
}

VS_EXPORT int select(int n, fd_set *in, fd_set *out, fd_set *except, struct timeval *timeout)
{
	if (n <= 0 || n > VS_FD_MAX || !select_has_conns(n, in, out))
		return REAL(select)(n, in, out, except, timeout);
	struct timespec t;
	uint64_t start = vs_now_ns();
	if (timeout) {
		if (timeout->tv_sec < 0 || timeout->tv_usec < 0) {
			errno = EINVAL;
			return -1;
		}
		t = (struct timespec){ timeout->tv_sec + timeout->tv_usec / 1000000, timeout->tv_usec % 1000000 * 1000 };
	}
	int r = wait_select(n, in, out, except, timeout ? &t : NULL, NULL);
	if (timeout) { /* the kernel leaves the time that is left */
		uint64_t used = vs_now_ns() - start, left = to_ns(&t) > used ? to_ns(&t) - used : 0;
		timeout->tv_sec = (time_t)(left / 1000000000u);
		timeout->tv_usec = (suseconds_t)(left % 1000000000u / 1000);
	}
	return r;
}

VS_EXPORT int pselect(int n, fd_set *in, fd_set *out, fd_set *except, const struct timespec *timeout, const sigset_t *mask)
{
	if (n <= 0 || n > VS_FD_MAX || !select_has_conns(n, in, out) ||
	    (timeout && (timeout->tv_sec < 0 || (unsigned long)timeout->tv_nsec >= 1000000000u)))
		return REAL(pselect)(n, in, out, except, timeout, mask);
	return wait_select(n, in, out, except, timeout, mask);
}
