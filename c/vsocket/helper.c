/*
 * helper.c - one thread a process that has sent through a ring: it puts on the twin what receivers give back when they leave the ring,
 * and doorbells for data that they suddenly want to be woken for. It sleeps in a futex and does nothing else.
 */
#define _GNU_SOURCE
#include "epoch.h"
#include "gone.h"
#include "sys.h"
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>

static _Atomic uint32_t row_plus_1;
static _Atomic bool impossible;
static _Atomic uint32_t start_lock;

static void serve(int fd, const struct vs_conn *c, void *more)
{
	struct vs_dir *d = vs_tx(c);
	uint32_t state = VS_BELL_STATE(atomic_load(&d->bell));
	if ((state != VS_FROZEN && state != VS_ARMED) || vs_lock(&d->tx_lock) == VS_LOCK_NESTED)
		return;
	if (vs_conn_current(c)) {
		if (vs_tx_give_back(c, fd) == -EAGAIN)
			*(bool *)more = true;
		vs_tx_ring_asked(c, fd);
	}
	vs_unlock(&d->tx_lock);
}

static void *help(void *arg)
{
	struct vs_helper_row *row = arg;
	for (;;) {
		uint32_t seen = atomic_load(&row->wake);
		bool more = false;
		vs_fd_each(serve, &more);
		/* A full twin is tried again until its reader has made room. */
		struct timespec soon = { 0, 2000000 };
		vs_sys(SYS_futex, &row->wake, FUTEX_WAIT, seen, more ? &soon : NULL, 0, 0);
	}
	return NULL;
}

static bool start(void)
{
	int pid = vs_sys_getpid();
	for (unsigned i = 0; i < VS_HELPERS; i++) {
		uint32_t there = atomic_load(&vs_arena->helper[i].pid);
		if (there != 0 && there != (uint32_t)pid && !vs_gone((int)there))
			continue;
		if (!atomic_compare_exchange_strong(&vs_arena->helper[i].pid, &there, (uint32_t)pid))
			continue;
		pthread_t thread;
		pthread_attr_t attr;
		sigset_t all, before;
		sigfillset(&all);
		pthread_attr_init(&attr);
		pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
		pthread_attr_setstacksize(&attr, 128 << 10);
		pthread_sigmask(SIG_SETMASK, &all, &before);
		int err = pthread_create(&thread, &attr, help, &vs_arena->helper[i]);
		pthread_sigmask(SIG_SETMASK, &before, NULL);
		pthread_attr_destroy(&attr);
		if (err) {
			atomic_store(&vs_arena->helper[i].pid, 0);
			return false;
		}
		atomic_store(&row_plus_1, i + 1);
		return true;
	}
	return false;
}

bool vs_helper_start(const struct vs_conn *c)
{
	uint32_t row = atomic_load_explicit(&row_plus_1, memory_order_acquire);
	if (!row) {
		if (atomic_load(&impossible) || vs_lock(&start_lock) == VS_LOCK_NESTED)
			return false;
		if (!atomic_load(&row_plus_1) && !start())
			atomic_store(&impossible, true);
		vs_unlock(&start_lock);
		row = atomic_load(&row_plus_1);
	}
	if (!row)
		return false;
	atomic_store(&c->slot->end[c->side].helper, row);
	return true;
}

void vs_helper_ask(const struct vs_conn *c, int side)
{
	uint32_t row = atomic_load(&c->slot->end[side].helper);
	if (row == 0 || row > VS_HELPERS)
		return;
	/* All who wait: the thread of a process that had the row before and is ending may be one of them still. */
	atomic_fetch_add(&vs_arena->helper[row - 1].wake, 1);
	vs_sys(SYS_futex, &vs_arena->helper[row - 1].wake, FUTEX_WAKE, INT32_MAX, 0, 0, 0);
}

void vs_conn_forked(void)
{
	atomic_store(&row_plus_1, 0);
	atomic_store(&impossible, false);
	atomic_store(&start_lock, 0);
}

void vs_helper_ask_peer(const struct vs_conn *c) { vs_helper_ask(c, !c->side); }
