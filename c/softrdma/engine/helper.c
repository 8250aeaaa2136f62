/*
 * helper.c - the thread that makes progress when nobody polls, and the only one that waits in the kernel.
 *
 * Three ways of being:
 *   standing back   an application polls: look in every TICK_NS whether it still does
 *   working         nobody polls and there is work: progress, then spin briefly for more
 *   asleep          nothing to do: epoll until a doorbell, a packet, a timer, a new or a lost peer
 * An application that waits for events sets timers while this thread is asleep, and wakes it when it would sleep beyond them
 * (sr_helper_remind()). It would have to for every message; so while messages come the sleep is a nap.
 * Peers ring the doorbell only while the segment's `asleep` flag is set. The flag and the rings are a Dekker pair; the
 * expensive half of its fence is on this side (membarrier), so that senders pay nothing.
 */
#define _GNU_SOURCE
#include "helper.h"
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>
#include "../device/netlink.h"
#include "../shm/shm.h"
#include "lock.h"

#define TICK_NS 500000u
#define SOON_NS 30000u /* instead of it, after an event was asked for */
#define SOON_ROUNDS 4  /* so many times: who asks polls once more, in case */
#define SPIN_NS 20000u
#define NAP_NS 1000000u
#define NAPS_FOR_NS 10000000u /* after the last traffic on the wire */

static struct {
	int epoll;
	int doorbell;
	pthread_t thread;
	bool wire_watched;
	bool wire_ready; /* something lies in the wire's sockets */
	uint64_t until_ns; /* asleep: when it wakes by itself; under sr.lock */
	int wire_fds;
} helper = { .epoll = -1, .doorbell = -1 };

static struct sr_watch doorbell_watch, wire_watches[SR_WIRE_FDS], forward_watch, netlink_watch;

int sr_helper_doorbell_fd(void) { return helper.doorbell; }

void sr_helper_kick(void)
{
	uint64_t one = 1;
	if (helper.doorbell >= 0 && write(helper.doorbell, &one, sizeof one) < 0) {
		/* EAGAIN: the counter is full, so it is awake already */
	}
}

void sr_helper_remind(uint64_t deadline_ns)
{
	if (!atomic_load_explicit(&sr.helper_asleep, memory_order_relaxed) || helper.until_ns < NAP_NS || deadline_ns >= helper.until_ns - NAP_NS)
		return;
	helper.until_ns = 0;
	sr_helper_kick();
}

static void drain_doorbell(void *arg)
{
	uint64_t n;
	(void)arg;
	if (read(helper.doorbell, &n, sizeof n) < 0) {
		/* somebody else drained it */
	}
}

static void note_wire(void *arg)
{
	(void)arg;
	helper.wire_ready = true;
}

/* What is behind a watch was written before it was watched. The kernel sees to that order; this says it in the language's terms. */
static _Atomic unsigned watches;

int sr_helper_watch(struct sr_watch *w)
{
	atomic_fetch_add_explicit(&watches, 1, memory_order_release);
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = w };
	return epoll_ctl(helper.epoll, EPOLL_CTL_ADD, w->fd, &ev) ? errno : 0;
}

void sr_helper_unwatch(struct sr_watch *w) { epoll_ctl(helper.epoll, EPOLL_CTL_DEL, w->fd, NULL); }

/* The sockets wake this thread only while it is in charge; a polling application reads packets itself, unless it has no queue
 * pair on the wire: then what comes is for queue pair 1, or astray. */
static void watch_wire(bool on)
{
	if (helper.wire_watched == on)
		return;
	for (int i = 0; i < helper.wire_fds; i++) {
		struct epoll_event ev = { .events = on ? EPOLLIN : 0, .data.ptr = &wire_watches[i] };
		epoll_ctl(helper.epoll, EPOLL_CTL_MOD, wire_watches[i].fd, &ev);
	}
	helper.wire_watched = on;
}

static void wait_events(int64_t timeout_ns)
{
	struct epoll_event ev[16];
	struct timespec ts = { .tv_sec = timeout_ns / 1000000000, .tv_nsec = timeout_ns % 1000000000 };
	int n = epoll_pwait2(helper.epoll, ev, 16, timeout_ns < 0 ? NULL : &ts, NULL);
	if (n < 0 && errno == ENOSYS)
		n = epoll_wait(helper.epoll, ev, 16, timeout_ns < 0 ? -1 : (int)(timeout_ns / 1000000 + 1));
	(void)atomic_load_explicit(&watches, memory_order_acquire);
	for (int i = 0; i < n; i++) {
		struct sr_watch *w = ev[i].data.ptr;
		w->handler(w->arg);
	}
	if (helper.wire_ready || sr_wire_keeps()) {
		helper.wire_ready = false;
		sr_lock();
		sr_wire_progress();
		sr_unlock();
	}
}

void sr_helper_stand_back(void)
{
	sr.helper_asleep = false;
	sr.polls_asleep = 0;
	sr_shm_set_asleep(false);
	sr_helper_kick();
}

/* A whole tick of standing back would be the latency of who sleeps now. */
void sr_helper_expect_sleep(void)
{
	sr.polls_asleep = 0;
	if (!sr.helper_asleep && !atomic_exchange_explicit(&sr.armed, true, memory_order_relaxed))
		sr_helper_kick();
}

/* Works until there has been nothing to do for SPIN_NS. */
static void work(void)
{
	uint64_t idle_since = 0;
	for (;;) {
		sr_lock();
		uint64_t polls = sr.polls;
		int done = sr_progress_locked(false);
		sr_wire_flush_acks();
		sr_shm_flush_acks();
		sr_unlock_give_way();
		if (atomic_load_explicit(&sr.polls, memory_order_relaxed) != polls &&
		    !atomic_load_explicit(&sr.helper_asleep, memory_order_relaxed))
			return; /* the application is back */
		if (done) {
			idle_since = 0;
			continue;
		}
		uint64_t now = sr_now_ns();
		if (!idle_since)
			idle_since = now;
		else if (now - idle_since > SPIN_NS)
			return;
		for (int i = 0; i < 32; i++)
			sr_cpu_relax();
		sched_yield();
		if (atomic_load_explicit(&sr.polls, memory_order_relaxed) != polls)
			return;
	}
}

/* How long to sleep; negative: without end. Notes it for sr_helper_remind(). */
static int64_t sleep_ns(void)
{
	uint64_t now = sr_now_ns(), wire = sr_wire_next_deadline_ns(), shm = sr_shm_next_deadline_ns();
	uint64_t deadline = wire < shm ? wire : shm;
	if (deadline > now + NAP_NS && sr.wire_connected && sr_wire_quiet_ns() < NAPS_FOR_NS)
		deadline = now + NAP_NS;
	helper.until_ns = deadline;
	if (deadline == UINT64_MAX)
		return -1;
	return deadline > now ? (int64_t)(deadline - now) : 0;
}

static void *run(void *arg)
{
	uint64_t seen = 0;
	unsigned soon = 0;
	(void)arg;
	for (;;) {
		sr_shm_look_for_dead();
		/* Without the lock: who polls holds it nearly all the time, and is not to be disturbed to find out that it polls. */
		uint64_t polls = atomic_load_explicit(&sr.polls, memory_order_relaxed);
		bool polled = polls != seen;
		seen = polls;
		if (atomic_exchange_explicit(&sr.armed, false, memory_order_relaxed))
			soon = SOON_ROUNDS;
		if (polled && !atomic_load_explicit(&sr.helper_asleep, memory_order_relaxed)) { /* standing back */
			watch_wire(sr.wire_users == 0);
			wait_events(soon ? SOON_NS : TICK_NS);
			soon -= soon > 0;
			continue;
		}
		work();

		sr_lock();
		if (!sr.helper_asleep) {
			if (sr.polls != seen) { /* it polled meanwhile */
				sr_unlock();
				continue;
			}
			sr.helper_asleep = true;
			sr.polls_asleep = 0;
		}
		sr_shm_set_asleep(true); /* with the heavy fence; whoever rang took the flag away */
		watch_wire(true);
		int done = sr_progress_locked(false); /* what arrived before the flag was seen */
		sr_wire_flush_acks();
		sr_shm_flush_acks();
		int64_t timeout = done ? 0 : sleep_ns();
		sr_unlock();
		wait_events(timeout);
		seen = atomic_load_explicit(&sr.polls, memory_order_relaxed);
		if (!atomic_load_explicit(&sr.helper_asleep, memory_order_relaxed))
			seen--; /* woken because somebody polls: stand back at least one tick */
	}
	return NULL;
}

static void netlink_ready(void *arg)
{
	(void)arg;
	sr_netlink_drain(netlink_watch.fd, sr_device_link_changed);
}

int sr_helper_start(void)
{
	helper.epoll = epoll_create1(EPOLL_CLOEXEC);
	helper.doorbell = helper.doorbell >= 0 ? helper.doorbell : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (helper.epoll < 0 || helper.doorbell < 0)
		return errno;
	doorbell_watch = (struct sr_watch){ helper.doorbell, drain_doorbell, NULL };
	int err = sr_helper_watch(&doorbell_watch);
	if (err)
		return err;
	int fds[SR_WIRE_FDS];
	helper.wire_fds = sr_wire_fds(fds);
	helper.wire_watched = true;
	for (int i = 0; i < helper.wire_fds; i++) {
		wire_watches[i] = (struct sr_watch){ fds[i], note_wire, NULL };
		if ((err = sr_helper_watch(&wire_watches[i])))
			return err;
	}
	forward_watch = (struct sr_watch){ sr_wire_forward_fd(), note_wire, NULL };
	if (forward_watch.fd >= 0 && (err = sr_helper_watch(&forward_watch)))
		return err;
	netlink_watch = (struct sr_watch){ sr_netlink_open(), netlink_ready, NULL };
	if (netlink_watch.fd >= 0)
		sr_helper_watch(&netlink_watch);
	err = sr_shm_listen();
	if (err)
		return err;

	/* Signals belong to the application's threads, but for what this thread's own accesses may raise (guard.h). */
	sigset_t all, old;
	sigfillset(&all);
	sigdelset(&all, SIGSEGV);
	sigdelset(&all, SIGBUS);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pthread_attr_t attr;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 256 * 1024);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	err = pthread_create(&helper.thread, &attr, run, NULL);
	pthread_attr_destroy(&attr);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (!err)
		pthread_setname_np(helper.thread, "rdmakit-helper");
	return err;
}

void sr_helper_after_fork(void)
{
	close(helper.epoll);
	close(helper.doorbell);
	if (netlink_watch.fd >= 0)
		close(netlink_watch.fd);
	helper.epoll = helper.doorbell = -1;
}
