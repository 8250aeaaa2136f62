/*
 * Epoll sets of a process in whose boards, slots and bells others write what they like. The input is a script of such writes between changes
 * of the sets, waits, and bytes that move. Events may be missing or in vain, but each is of a member, with its data; there are never more than were
 * asked for; and neither a wait nor a change hangs or touches anything but the process's own memory and the arena.
 */
#define _GNU_SOURCE
#include "vsocket-script.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include "vsocket/board.h"
#include "vsocket/epoch.h"
#include "vsocket/set.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CONNS 4u
#define SETS 2u
#define MOST_EVENTS 8

static int listener = -1;
static struct sockaddr_in address;
static struct {
	int fd[2]; /* [1] may be a member */
	struct vs_conn c[2];
	bool attached;
	uint32_t member; /* bits: of which sets */
} conn[CONNS];
static int set[SETS];
static uint64_t sent_data = 1; /* what members of sets are known by: a number in the upper half, the connection in the lower */

static void setup(void)
{
	make_runtime_dir();
	setenv("RDMAKIT_SOCKET_RING", "always", 1);
	listener = listen_here(&address);
	vs_fd_init();
	need(vs_arena_open() == 0);
}

static void connect_one(unsigned i)
{
	conn[i].fd[0] = socket(AF_INET, SOCK_STREAM, 0);
	need(conn[i].fd[0] >= 0 && connect(conn[i].fd[0], (void *)&address, sizeof address) == 0);
	conn[i].fd[1] = accept(listener, NULL, NULL);
	need(conn[i].fd[1] >= 0);
	conn[i].member = 0;
	for (int side = 0; side < 2; side++) {
		vs_fd_fresh(conn[i].fd[side]);
		need(fcntl(conn[i].fd[side], F_SETFL, O_NONBLOCK) == 0);
	}
}

/* A byte in both directions, as often as an attachment takes. */
static void warm(unsigned i)
{
	char b = 0;
	bool attached[2] = { false, false };
	for (int round = 0; round < 8; round++) {
		for (int side = 0; side < 2; side++) {
			enum vs_use use = vs_fd_use(conn[i].fd[side], &conn[i].c[side]);
			attached[side] = use == VS_USE_CONN;
			if (use == VS_USE_COUNTED)
				vs_fd_native_done(conn[i].fd[side]);
			if (!attached[side])
				need(send(conn[i].fd[side], &b, 1, 0) == 1 && recv(conn[i].fd[!side], &b, 1, 0) == 1);
		}
	}
	conn[i].attached = attached[0] && attached[1];
	need(conn[i].attached);
}

static ssize_t never(int fd, void *buf, size_t len, int flags)
{
	(void)fd, (void)buf, (void)len, (void)flags;
	abort(); /* it was told not to block */
}

static void move(struct script *in)
{
	const unsigned i = (unsigned)take(in, 1) % CONNS, how = (unsigned)take(in, 1), side = how >> 7;
	char buf[300];
	struct iovec iov = { buf, how % 128 + 1 };
	struct vs_cursor at;
	size_t done;
	struct vs_conn *c = &conn[i].c[side];
	memset(buf, 1, sizeof buf);
	vs_cursor_init(&at, &iov, 1);
	if (take(in, 1) & 1) {
		if (vs_conn_send(c, conn[i].fd[side], &at, MSG_DONTWAIT | MSG_NOSIGNAL, &done) == VS_COUNTED)
			vs_tx_native_done(c, -EAGAIN);
	} else if (vs_conn_recv(c, conn[i].fd[side], &at, MSG_DONTWAIT, never) == VS_COUNTED) {
		vs_rx_native_done(c);
	}
}

static void change(struct script *in)
{
	static const int ops[] = { EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLL_CTL_DEL, EPOLL_CTL_MOD };
	static const uint32_t flags[] = { 0, EPOLLET, EPOLLONESHOT, EPOLLET | EPOLLONESHOT };
	const unsigned i = (unsigned)take(in, 1) % CONNS, how = (unsigned)take(in, 1), which = how >> 7 & take(in, 1);
	const int op = ops[how % 4];
	struct epoll_event event = { .events = (how & 4 ? EPOLLIN : 0) | (how & 8 ? EPOLLOUT : 0) | (how & 16 ? EPOLLRDHUP : 0) | flags[how >> 5 & 3],
				     .data.u64 = ++sent_data << 32 | i };
	if (vs_set_ctl(set[which], op, conn[i].fd[1], &event, epoll_ctl))
		return;
	if (op == EPOLL_CTL_DEL)
		conn[i].member &= ~(1u << which);
	else
		conn[i].member |= 1u << which;
}

/* As epoll_wait() with no time to wait. */
static void wait_now(unsigned which, int max, bool sleep)
{
	struct epoll_event events[MOST_EVENTS + 1];
	const uint64_t canary = UINT64_C(0x5a5a5a5a5a5a5a5a);
	struct vs_set *s = vs_set_enter(set[which]);
	if (!s)
		return;
	events[max].data.u64 = canary;
	uint64_t clock = vs_set_clock(s);
	struct vs_sleep how;
	if (sleep)
		vs_set_sleep(s, epoll_ctl, &how);
	else
		vs_set_flush(s, epoll_ctl);
	int n = epoll_wait(set[which], events, max, 0);
	if (sleep)
		vs_set_wake(s, &how);
	n = vs_set_merge(s, events, n < 0 ? 0 : n, max, clock, epoll_ctl);
	vs_set_leave(s);
	need(n >= 0 && n <= max && events[max].data.u64 == canary);
	for (int i = 0; i < n; i++) {
		const uint32_t who = (uint32_t)events[i].data.u64;
		need(who < CONNS && (events[i].data.u64 >> 32) <= sent_data && (conn[who].member >> which & 1) && events[i].events != 0);
	}
}

/* A lock held by somebody who lives is waited for, as it must be; by others it is taken over. */
static bool is_lock(const struct vs_dir *d, const void *at)
{
	const uintptr_t p = (uintptr_t)at & ~(uintptr_t)7;
	return p == ((uintptr_t)&d->tx_lock & ~(uintptr_t)7) || p == ((uintptr_t)&d->rx_lock & ~(uintptr_t)7);
}

static void scribble(struct script *in)
{
	const uint32_t where = (uint32_t)take(in, 1), off = (uint32_t)take(in, 2);
	struct vs_slot *s = conn[where >> 6].c[0].slot;
	struct vs_dir *d = &s->dir[where >> 5 & 1];
	struct vs_board *b = &vs_arena->board[where >> 5 & 3];
	unsigned char *base = (unsigned char *)d;
	size_t room = sizeof *d;
	switch (where % 8) {
	case 0:
	case 1: base = (unsigned char *)b->posted, room = sizeof b->posted; break;
	case 2: base = (unsigned char *)b->summary, room = sizeof b->summary; break;
	case 3: base = (unsigned char *)b, room = offsetof(struct vs_board, summary); break;
	case 4: base = (unsigned char *)s->end, room = sizeof s->end; break;
	default: break;
	}
	uint64_t *to = (uint64_t *)(base + off * 8u % room);
	if (base == (unsigned char *)d && is_lock(d, to))
		return;
	const uint64_t v = some_value(in, *to);
	if (off & 0x8000)
		*to = v;
	else
		*(uint32_t *)to = (uint32_t)v;
}

static void begin(void)
{
	struct vs_arena *a = vs_arena;
	atomic_store(&a->lock, 0);
	a->free_first = a->in_use = a->sweep = a->used_end = 0;
	memset(a->bucket, 0, sizeof a->bucket);
	memset(a->slot, 0, (CONNS + 1) * sizeof a->slot[0]);
	memset(a->board, 0, 4 * sizeof a->board[0]);
	for (unsigned i = 0; i < SETS; i++) {
		set[i] = epoll_create1(EPOLL_CLOEXEC);
		need(set[i] >= 0);
		vs_fd_forget(set[i]);
		vs_set_created(set[i]);
	}
	for (unsigned i = 0; i < CONNS; i++) {
		connect_one(i);
		/* Some are in a set before they are attached. */
		struct epoll_event event = { .events = EPOLLIN, .data.u64 = ++sent_data << 32 | i };
		if (i < 2) {
			need(vs_set_ctl(set[0], EPOLL_CTL_ADD, conn[i].fd[1], &event, epoll_ctl) == 0);
			conn[i].member = 1;
		}
		warm(i);
	}
}

static void finish(void)
{
	struct linger reset = { 1, 0 };
	for (unsigned i = 0; i < CONNS; i++) {
		for (int side = 0; side < 2; side++) {
			vs_set_forget(conn[i].fd[side]);
			vs_fd_forget(conn[i].fd[side]);
			setsockopt(conn[i].fd[side], SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
			close(conn[i].fd[side]);
		}
	}
	for (unsigned i = 0; i < SETS; i++) {
		vs_set_forget(set[i]);
		vs_fd_forget(set[i]);
		close(set[i]);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct script in = { data, data + size };
	if (listener < 0)
		setup();
	if (size < 2)
		return 0;
	begin();
	for (unsigned steps = 0; in.at < in.end && steps < 200; steps++) {
		const unsigned what = (unsigned)take(&in, 1);
		switch (what % 8) {
		case 0:
		case 1: scribble(&in); break;
		case 2:
		case 3: change(&in); break;
		case 4:
		case 5: move(&in); break;
		default: wait_now(what >> 7, (int)(what >> 3 & 7) + 1, what & 64); break;
		}
	}
	finish();
	return 0;
}
