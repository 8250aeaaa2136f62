/*
 * A connection whose other end writes what it likes into the shared memory: positions, epochs, boundaries, doorbell words, counters, cookies,
 * hashes, ring bytes, the arena's own lists. The input is a script of such writes between calls of both applications. Calls may fail and bytes
 * may be wrong, but nothing outside of the application's buffers and of this connection's part of the arena is touched: its neighbours
 * there are poisoned.
 */
#define _GNU_SOURCE
#include "vsocket-script.h"
#include <fcntl.h>
#include <sanitizer/asan_interface.h>
#include <string.h>
#include "vsocket/board.h"
#include "vsocket/book.h"
#include "vsocket/epoch.h"
#include "vsocket/remote/link.h"
#include "vsocket/watch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The slot of the connection; those on both sides are nobody's. */
#define SLOT 3
#define PAGE ((size_t)4096)
#define MOST ((size_t)200 << 10)

static int listener = -1;
static struct sockaddr_in address;
static struct {
	int fd;
	struct vs_conn c;
	bool attached;
} end[2];

static void setup(void)
{
	make_runtime_dir();
	setenv("RDMAKIT_SOCKET_RING", "always", 1);
	listener = listen_here(&address);
	vs_fd_init();
	need(vs_arena_open() == 0);
	vs_remote_install(); /* the road to other hosts is there, as in the library */
}

/* What lies next to the connection in memory. */
static void guard(bool on)
{
	struct vs_slot *s = &vs_arena->slot[SLOT];
	void (*set)(void const volatile *, size_t) = on ? __asan_poison_memory_region : __asan_unpoison_memory_region;
	set(s - 1, sizeof *s);
	set(s + 1, sizeof *s);
	set(vs_ring_of(s, 0) - PAGE, PAGE);
	set(vs_ring_of(s, 1) + VS_RING_MAX, PAGE);
	set((unsigned char *)vs_watch_of(s, 0) - PAGE, PAGE);
	set((unsigned char *)vs_watch_of(s, 1) + VS_WATCH_ROOM, PAGE);
}

/* A few bytes in both directions, as often as an attachment takes. */
static void warm(void)
{
	char b = 0;
	for (int round = 0; round < 8; round++) {
		for (int i = 0; i < 2; i++) {
			enum vs_use use = vs_fd_use(end[i].fd, &end[i].c);
			end[i].attached = use == VS_USE_CONN;
			if (!end[i].attached) {
				if (use == VS_USE_COUNTED)
					vs_fd_native_done(end[i].fd);
				need(send(end[i].fd, &b, 1, 0) == 1 && recv(end[!i].fd, &b, 1, 0) == 1);
			}
		}
	}
	need(end[0].attached && end[1].attached && end[0].c.slot == &vs_arena->slot[SLOT] && end[1].c.slot == end[0].c.slot);
}

static void begin(bool watched)
{
	struct vs_arena *a = vs_arena;
	guard(false);
	atomic_store(&a->lock, 0);
	a->free_first = a->in_use = a->sweep = 0;
	a->used_end = SLOT;
	memset(a->bucket, 0, sizeof a->bucket);
	memset(&a->slot[SLOT - 1], 0, 3 * sizeof a->slot[0]);
	vs_watch_wanted = watched ? VS_WATCH_LATENCY | VS_WATCH_HASH : 0;
	end[0].fd = socket(AF_INET, SOCK_STREAM, 0);
	need(end[0].fd >= 0 && connect(end[0].fd, (void *)&address, sizeof address) == 0);
	end[1].fd = accept(listener, NULL, NULL);
	need(end[1].fd >= 0);
	vs_fd_fresh(end[0].fd);
	vs_fd_fresh(end[1].fd);
	warm();
	guard(true);
}

static void finish(void)
{
	struct linger reset = { 1, 0 };
	for (int i = 0; i < 2; i++) {
		vs_fd_forget(end[i].fd);
		setsockopt(end[i].fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
		close(end[i].fd);
	}
}

static void send_some(int i, size_t n, int flags)
{
	char *buf = malloc(n);
	struct iovec iov = { buf, n };
	struct vs_cursor from;
	size_t done;
	memset(buf, 0x5a, n);
	vs_cursor_init(&from, &iov, 1);
	long r = vs_conn_send(&end[i].c, end[i].fd, &from, flags | MSG_DONTWAIT | MSG_NOSIGNAL, &done);
	need(done <= n && r <= (long)n);
	if (r == VS_COUNTED) {
		vs_tx_native_done(&end[i].c, send(end[i].fd, buf + done, n - done, MSG_DONTWAIT | MSG_NOSIGNAL));
	}
	free(buf);
}

static ssize_t never(int fd, void *buf, size_t len, int flags)
{
	(void)fd, (void)buf, (void)len, (void)flags;
	abort(); /* it was told not to block */
}

static void receive_some(int i, size_t n, int flags)
{
	char *buf = malloc(n);
	struct iovec iov[2] = { { buf, n / 3 }, { buf + n / 3, n - n / 3 } };
	struct vs_cursor to;
	vs_cursor_init(&to, iov, 2);
	long r = vs_conn_recv(&end[i].c, end[i].fd, &to, flags | MSG_DONTWAIT, never);
	need(r <= (long)n);
	if (r == VS_COUNTED) {
		(void)!recv(end[i].fd, buf, n, MSG_DONTWAIT);
		vs_rx_native_done(&end[i].c);
	}
	free(buf);
}

static void application(struct script *in)
{
	static struct vs_book_row row;
	static unsigned char histogram[VS_BOOK_HISTOGRAM_ROOM];
	uint32_t what = (uint32_t)take(in, 1), n = (uint32_t)take(in, 2);
	const int i = what >> 7;
	const struct vs_conn *c = &end[i].c;
	size_t len = n & 0x8000 ? (n & 0x7fff) * 7 % MOST + 1 : n % 300 + 1;
	switch (what % 16) {
	case 0:
	case 1:
	case 2: send_some(i, len, 0); break;
	case 3: send_some(i, len, n & 0x100 ? MSG_MORE : 0); break;
	case 4:
	case 5:
	case 6: receive_some(i, len, 0); break;
	case 7: receive_some(i, len, n & 1 ? MSG_PEEK : MSG_TRUNC); break;
	case 8: vs_rx_arm(c, end[i].fd); break;
	case 9: vs_rx_list(c, end[i].fd); break;
	case 10: vs_rx_quiet(c, end[i].fd); break;
	case 11: vs_rx_edge_used(c); break;
	case 12: need(vs_rx_pending(c, end[i].fd, n) <= VS_BOUNDARIES * ((uint64_t)n + VS_RING_MAX)); break;
	case 13: vs_rx_woken(c, end[i].fd); break;
	case 14:
		guard(false);
		vs_book_from_slot(&row, c->slot, c->side, histogram);
		guard(true);
		break;
	default: vs_tx_demote(c, end[i].fd, VS_PLAIN_URGENT); break;
	}
}

/* A lock held by somebody who lives is waited for, as it must be; by others it is taken over. */
static bool is_lock(const void *at)
{
	const struct vs_slot *s = &vs_arena->slot[SLOT];
	const uintptr_t p = (uintptr_t)at & ~(uintptr_t)7;
	return p == ((uintptr_t)&s->dir[0].tx_lock & ~(uintptr_t)7) || p == ((uintptr_t)&s->dir[0].rx_lock & ~(uintptr_t)7) ||
	       p == ((uintptr_t)&s->dir[1].tx_lock & ~(uintptr_t)7) || p == ((uintptr_t)&s->dir[1].rx_lock & ~(uintptr_t)7) || p == (uintptr_t)&s->gen;
}

static void scribble(struct script *in)
{
	struct vs_slot *s = &vs_arena->slot[SLOT];
	uint32_t where = (uint32_t)take(in, 1), off = (uint32_t)take(in, 2);
	unsigned char *base = (unsigned char *)s;
	size_t room = sizeof *s;
	switch (where % 8) {
	case 0: base = vs_ring_of(s, where >> 7), room = VS_RING_MAX; break;
	case 1: base = (unsigned char *)vs_watch_of(s, where >> 7), room = sizeof(struct vs_watch); break;
	case 2: base = (unsigned char *)s->end, room = sizeof s->end; break;
	case 3: base = (unsigned char *)s->dir[where >> 7].boundary, room = sizeof s->dir[0].boundary; break;
	default: base = (unsigned char *)&s->dir[where >> 7], room = sizeof s->dir[0]; break;
	}
	uint64_t *to = (uint64_t *)(base + off * 8u % room);
	if (is_lock(to))
		return;
	uint64_t v = some_value(in, *to);
	if (where & 0x40)
		*to = v;
	else
		*(uint32_t *)to = (uint32_t)v;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct script in = { data, data + size };
	if (listener < 0)
		setup();
	if (size < 2)
		return 0;
	begin(take(&in, 1) & 1);
	for (unsigned steps = 0; in.at < in.end && steps < 200; steps++) {
		if (take(&in, 1) % 3 == 0)
			scribble(&in);
		else
			application(&in);
	}
	finish();
	return 0;
}
