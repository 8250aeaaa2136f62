/* rx.c - the receiving half of a connection. */
#define _GNU_SOURCE
#include "board.h"
#include "epoch.h"
#include "gone.h"
#include "remote.h"
#include "sys.h"
#include "twin.h"
#include "watch.h"
#include <linux/sockios.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#define SPIN_MAX_NS 50000u
#define SPIN_MIN_NS 1000u
/* A round trip to another host is never shorter, and sleeping there costs more. */
#define SPIN_MIN_REMOTE_NS 60000u
#define SPIN_MAX_REMOTE_NS 200000u
#define NAP_AFTER_NS 20000u
#define PURE_SPIN_NS 2000u
/* How long the doorbell of data that has been read is waited for. */
#define RINGING_NS 20000u
/* The same for a receiver whose waits we do not see. */
#define UNSEEN_RINGING_NS 10000000u
/* How long data whose doorbell has come is waited for before the wait goes on. */
#define OVERTAKEN_NS 10000000u
#define SMALL_IOV 16
/* How long a descriptor that is handed to a stranger waits for a sender who is stopped in the middle of a message. */
#define DEMOTE_MS 10000
/* And for what the kernel has and does not deliver: a full receive queue can hold a connection up for as long as TCP backs off. */
#define ARRIVAL_MS 120000

__thread uint32_t vs_acts __attribute__((tls_model("initial-exec")));
/* When this thread last asked a twin whether the stream has ended. */
static __thread struct {
	const struct vs_dir *dir;
	uint64_t ticks;
	uint32_t acts;
} ended_asked __attribute__((tls_model("initial-exec")));

/* For one who does nothing but look again and again. */
static bool asked_just_now(const struct vs_dir *d)
{
	uint64_t now = vs_ticks();
	if (ended_asked.dir == d && ended_asked.acts == vs_acts && now - ended_asked.ticks < VS_TICKS_A_MS / 50)
		return true;
	ended_asked.dir = d;
	ended_asked.acts = vs_acts;
	ended_asked.ticks = now;
	return false;
}

static void repair(struct vs_dir *d)
{
	d->twin_read_known = false;
	atomic_store(&d->reading, 0);
}

/* What the next data for an empty ring must do: wake somebody who waits in the kernel, or may; be posted for this process's epoll set; or
 * nothing, because the reader looks by himself. */
static enum vs_bell wanted(const struct vs_conn *c)
{
	struct vs_dir *d = vs_rx(c);
	if (atomic_load_explicit(&d->eager, memory_order_relaxed) || atomic_load(&d->sleepers) > 0)
		return VS_ARMED;
	uint32_t row = atomic_load_explicit(&d->board, memory_order_relaxed);
	if (row == 0)
		return VS_AWAKE;
	/* Another process that has the end, too, may wait for it as it likes. */
	return vs_board_is_own(row) && atomic_load_explicit(&c->slot->end[c->side].holders, memory_order_relaxed) <= 1 ? VS_LISTED : VS_ARMED;
}

static bool lock_rx(const struct vs_conn *c, int fd)
{
	struct vs_dir *d = vs_rx(c);
	enum vs_locked l = vs_lock(&d->rx_lock);
	if (l == VS_LOCK_NESTED)
		return false;
	if (!vs_conn_current(c)) {
		vs_unlock(&d->rx_lock);
		vs_fd_forget(fd);
		return false;
	}
	if (l == VS_LOCK_STOLEN)
		repair(d);
	return true;
}

/* The rest are under rx_lock. */

static bool know_twin_read(struct vs_dir *d, int fd)
{
	if (!d->twin_read_known)
		d->twin_read_known = vs_twin_read(fd, &d->twin_read) == 0;
	return d->twin_read_known;
}

/* Takes up to `want` bytes that mean nothing off the twin. Returns bytes taken, or what recv says when none. */
static long discard(struct vs_dir *d, int fd, uint64_t want)
{
	char waste[256];
	long taken = 0;
	while (want > 0) {
		long r = vs_sys_recv(fd, waste, want < sizeof waste ? want : sizeof waste, MSG_DONTWAIT);
		if (r <= 0)
			return taken ? taken : r;
		taken += r;
		want -= (uint64_t)r;
		d->twin_read += (uint64_t)r;
	}
	return taken;
}

/* Bytes that lie in the twin during an open ring epoch are doorbells, whether or not the sender came to count them: he may have been killed
 * in between. */
static void discard_bells(const struct vs_conn *c, int fd, uint32_t e)
{
	struct vs_dir *d = vs_rx(c);
	int queued = 0;
	/* The epoch is looked at last: plain bytes come after its end. */
	if (vs_sys(SYS_ioctl, fd, SIOCINQ, &queued) < 0 || queued <= 0 || atomic_load(&d->epoch_tx) != e || !know_twin_read(d, fd))
		return;
	/* The start of the epoch may not have been reached. */
	uint64_t start = atomic_load(&vs_boundary_of(d, e)->twin);
	if (d->twin_read >= start)
		discard(d, fd, (uint64_t)queued);
}

/* The same on the other road: the sender says how many doorbells there are, and is asked for another one once. */
static bool settle_remote(const struct vs_conn *c, int fd, uint32_t e, enum vs_bell want)
{
	struct vs_dir *d = vs_rx(c);
	/* Whoever takes a doorbell's note looks whether all has been read after he has changed the word: one of us sees the other. */
	atomic_thread_fence(memory_order_seq_cst);
	uint32_t bell = atomic_load(&d->bell), state = VS_BELL_STATE(bell);
	uint64_t sent = atomic_load(&d->twin_sent);
	if (know_twin_read(d, fd) && sent > d->twin_read)
		discard(d, fd, sent - d->twin_read);
	if (VS_BELL_EPOCH(bell) != e)
		return false;
	if (state == VS_RUNG || state == VS_SEEN)
		atomic_compare_exchange_strong(&d->bell, &bell, VS_BELL(e, state == VS_SEEN ? VS_ARMED : VS_AWAKE));
	bell = VS_BELL(e, VS_AWAKE);
	if (want != VS_AWAKE && atomic_compare_exchange_strong(&d->bell, &bell, VS_BELL(e, VS_ARMED)))
		vs_remote->arm(c, atomic_load(&d->head)); /* also for what has come meanwhile: whoever waits in the kernel does not see it */
	return atomic_load(&d->tail) != atomic_load_explicit(&d->head, memory_order_relaxed);
}

/* The bell's word, when the sender is not in the middle of ringing, or has been so for `limit_ns`. */
static inline uint32_t bell_at_rest(struct vs_dir *d, uint32_t limit_ns)
{
	uint32_t bell = atomic_load(&d->bell);
	if (__builtin_expect(!VS_BELL_IS_RINGING(bell), 1) || limit_ns == 0)
		return bell;
	for (uint64_t start = 0; VS_BELL_IS_RINGING(bell); bell = atomic_load(&d->bell)) {
		start = start ? start : vs_now_ns();
		if (vs_now_ns() - start > limit_ns)
			break;
		vs_sys_yield();
	}
	return bell;
}

/* In the middle of a message. */
static bool sender_was_killed(struct vs_dir *d)
{
	uint32_t owner = atomic_load(&d->tx_lock);
	return owner != 0 && vs_gone((int)owner);
}

/* The data was quicker than its doorbell: leaves it to the sender to ask for what is wanted. False when he has finished meanwhile. */
static bool answer(struct vs_dir *d, uint32_t e, enum vs_bell want)
{
	uint32_t bell = atomic_load(&d->bell);
	if (VS_BELL_EPOCH(bell) != e || !VS_BELL_IS_RINGING(bell))
		return false;
	d->bell_owed = 1;
	return bell == VS_BELL(e, VS_ANSWERED | want) || atomic_compare_exchange_strong(&d->bell, &bell, VS_BELL(e, VS_ANSWERED | want));
}

/* The ring is empty: takes the doorbells away and asks for the notice that is wanted. True when data came meanwhile. A doorbell that is on
 * its way is waited for `patience_ns`, so that it does not wake whoever sleeps next, nor lies in the twin when the socket is closed. */
static bool settle(const struct vs_conn *c, int fd, uint32_t e, enum vs_bell want, uint32_t patience_ns)
{
	struct vs_dir *d = vs_rx(c);
	if (vs_is_remote(c))
		return settle_remote(c, fd, e, want);
	uint32_t bell = bell_at_rest(d, patience_ns < RINGING_NS ? patience_ns : RINGING_NS);
	if (VS_BELL_EPOCH(bell) != e)
		return false;
	if (VS_BELL_IS_RINGING(bell)) {
		if (patience_ns > 0 && sender_was_killed(d)) {
			discard_bells(c, fd, e);
			atomic_compare_exchange_strong(&d->bell, &bell, VS_BELL(e, want));
			return false;
		}
		/* Once only, if he is stopped. */
		if (patience_ns > RINGING_NS && !(VS_BELL_STATE(bell) & VS_ANSWERED))
			bell_at_rest(d, patience_ns);
		if (answer(d, e, want))
			return atomic_load(&d->tail) != atomic_load_explicit(&d->head, memory_order_relaxed);
		bell = atomic_load(&d->bell);
	}
	const uint32_t state = VS_BELL_STATE(bell);
	if (d->bell_owed && !VS_BELL_IS_RINGING(bell)) {
		uint64_t sent = atomic_load(&d->twin_sent);
		if (know_twin_read(d, fd) && sent > d->twin_read)
			discard(d, fd, sent - d->twin_read);
		d->bell_owed = d->twin_read < sent;
	}
	if (state == VS_RUNG || state == VS_SEEN) {
		uint64_t sent = atomic_load(&d->twin_sent);
		if (!atomic_compare_exchange_strong(&d->bell, &bell, VS_BELL(e, want)))
			return true;
		bool more = atomic_load(&d->tail) != atomic_load_explicit(&d->head, memory_order_relaxed);
		uint32_t asked = VS_BELL(e, want);
		/* Its doorbell is already there. */
		if (more && want != VS_AWAKE && atomic_compare_exchange_strong(&d->bell, &asked, bell))
			return true;
		if (know_twin_read(d, fd) && sent > d->twin_read)
			discard(d, fd, sent - d->twin_read);
		return more;
	}
	if ((state != VS_AWAKE && state != VS_LISTED && state != VS_ARMED) || state == want)
		return false;
	if (!atomic_compare_exchange_strong(&d->bell, &bell, VS_BELL(e, want)))
		return true;
	if (want == VS_AWAKE || atomic_load(&d->tail) == atomic_load_explicit(&d->head, memory_order_relaxed))
		return false;
	uint32_t asked = VS_BELL(e, want);
	atomic_compare_exchange_strong(&d->bell, &asked, VS_BELL(e, VS_AWAKE));
	return true;
}

/* Reads the twin; at most `limit` bytes. */
static inline __attribute__((always_inline)) long read_twin(int fd, const struct vs_cursor *to, size_t limit, int flags)
{
	struct iovec iov[SMALL_IOV];
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = (size_t)vs_cursor_iov(to, iov, SMALL_IOV, limit) };
	flags = (flags & (MSG_PEEK | MSG_TRUNC)) | MSG_DONTWAIT;
	/* The usual one piece is cheaper for the kernel without a header. */
	return m.msg_iovlen == 1 ? vs_sys_recv(fd, iov[0].iov_base, iov[0].iov_len, flags) : vs_sys_recvmsg(fd, &m, flags);
}

/* In the open plain epoch, of a direction in which a ring epoch can begin at any moment: how much of the twin is certain to be data. The
 * sender rings only when its start has come, so what lies in the twin before we have looked for one is. 0: look again; else as recv(). */
static long certain(const struct vs_conn *c, int fd, uint32_t e)
{
	struct vs_dir *d = vs_rx(c);
	int queued = 0;
	char byte;
	long r = vs_sys(SYS_ioctl, fd, SIOCINQ, &queued);
	if (r >= 0 && queued == 0)
		r = vs_sys_recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
	vs_remote->sync();
	if (atomic_load(&d->epoch_tx) != e || (queued == 0 && r > 0))
		return 0;
	return r < 0 ? r : queued > 0 ? queued : -ENODATA; /* the end of the stream */
}

static long read_plain(const struct vs_conn *c, int fd, uint32_t e, struct vs_cursor *to, int flags)
{
	struct vs_dir *d = vs_rx(c);
	uint64_t limit = UINT64_MAX;
	uint32_t t = atomic_load(&d->epoch_tx);
	/* The count must be known before a boundary can appear in what is read. */
	if (!know_twin_read(d, fd))
		return -EIO;
	if (t != e) {
		uint64_t border = atomic_load(&vs_boundary_of(d, e + 1)->twin);
		if (d->twin_read >= border) {
			atomic_store(&d->epoch_rx, (e + 1) & VS_EPOCH_MASK);
			return VS_NATIVE; /* look again */
		}
		limit = border - d->twin_read;
	} else if (atomic_load_explicit(&d->expecting, memory_order_relaxed)) {
		long n = certain(c, fd, e);
		if (n <= 0)
			return n == 0 ? VS_NATIVE : n == -ENODATA ? 0 : n;
		limit = (uint64_t)n;
	} else {
		/* No ring epoch may begin, and end, while we read: what lies behind it would be read before it. */
		atomic_store(&d->reading, 1);
		if (atomic_load(&d->epoch_tx) != e) {
			atomic_store(&d->reading, 0);
			return VS_NATIVE;
		}
	}
	long r = read_twin(fd, to, limit > to->left ? to->left : (size_t)limit, flags);
	atomic_store_explicit(&d->reading, 0, memory_order_release);
	/* A boundary may have come since we looked. */
	if (r <= 0)
		return atomic_load(&d->epoch_tx) != t ? VS_NATIVE : r;
	if (!(flags & MSG_PEEK))
		d->twin_read += (uint64_t)r;
	vs_cursor_skip(to, (size_t)r);
	return r;
}

/* Of a reader who is back from the kernel before the sender is back from ringing. One whose waits we do not see would be told of data that
 * he has read; others only sleep less well when this was the last that they read before they sleep. */
static uint32_t patience(enum vs_bell want, bool check)
{
	return want == VS_ARMED ? UNSEEN_RINGING_NS : check ? RINGING_NS : 0;
}

static long read_ring(const struct vs_conn *c, int fd, uint32_t e, struct vs_cursor *to, int flags, bool check)
{
	struct vs_dir *d = vs_rx(c);
	if (vs_is_remote(c))
		vs_remote->settle(c);
	uint32_t t = atomic_load_explicit(&d->epoch_tx, memory_order_acquire);
	uint64_t head = atomic_load_explicit(&d->head, memory_order_relaxed), end;
	uint32_t size = atomic_load_explicit(&vs_boundary_of(d, e)->size, memory_order_relaxed);
	end = t != e ? atomic_load(&vs_boundary_of(d, e + 1)->ring) : atomic_load_explicit(&d->tail, memory_order_acquire);
	if (!vs_size_ok(size) || end - head > size) {
		vs_corrupt(d);
		return -ECONNRESET;
	}
	if (end != head) {
		size_t n = end - head < to->left ? (size_t)(end - head) : to->left;
		const unsigned char *ring = vs_ring_of(c->slot, !c->side);
		if (__builtin_expect(vs_watched(d) && !(flags & (MSG_PEEK | MSG_TRUNC)), 0)) {
			struct vs_cursor start = *to;
			if (vs_is_remote(c) && head == atomic_load(&vs_boundary_of(d, e)->ring))
				vs_watch_fresh(c->slot, !c->side, false, head);
			vs_ring_get(ring, size, head, to, n, false);
			vs_watch_received(c->slot, !c->side, start, n, head);
		} else {
			vs_ring_get(ring, size, head, to, n, flags & MSG_TRUNC);
		}
		if (!(flags & MSG_PEEK)) {
			atomic_store_explicit(&d->head, head + n, memory_order_release);
			atomic_store_explicit(&d->rx_ring_bytes, d->rx_ring_bytes + n, memory_order_relaxed);
			enum vs_bell want = wanted(c);
			if (vs_is_remote(c))
				vs_remote->consumed(c);
			if (head + n == end) {
				/* Data that came meanwhile were perhaps not posted, because they lay behind a doorbell. */
				struct vs_board *b = settle(c, fd, e, want, patience(want, check)) && want == VS_LISTED ? vs_board_at(atomic_load(&d->board)) : NULL;
				if (b)
					vs_board_post(b, vs_board_bit(c->slot, c->side));
			} else if (want != VS_AWAKE) {
				uint32_t rung = VS_BELL(e, VS_RUNG);
				if (atomic_compare_exchange_strong(&d->bell, &rung, VS_BELL(e, VS_SEEN)) && vs_is_remote(c))
					vs_remote->arm(c, end);
			}
		}
		return (long)n;
	}
	if (t != e) {
		uint64_t border = atomic_load(&vs_boundary_of(d, e + 1)->twin);
		if (!know_twin_read(d, fd))
			return -EIO;
		if (d->twin_read < border) {
			long r = discard(d, fd, border - d->twin_read);
			if (r <= 0)
				return r;
			if (d->twin_read < border)
				return -EAGAIN;
		}
		atomic_store(&d->epoch_rx, (e + 1) & VS_EPOCH_MASK);
		if (vs_is_remote(c))
			vs_remote->consumed(c);
		return VS_NATIVE;
	}
	enum vs_bell want = wanted(c);
	return settle(c, fd, e, want, patience(want, check)) ? VS_NATIVE : -EAGAIN;
}

/* The kernel tells an error once. When there is data to be returned first, it is kept for the next call. */
static void keep_error(struct vs_dir *d, long r)
{
	if (r < 0 && r != -EAGAIN && r != -EINTR)
		atomic_store(&d->rx_error, (uint32_t)-r);
}

/* The other end sends no more. */
static bool twin_ended(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLRDHUP };
	return vs_sys_poll_now(&p, 1) == 1;
}

/* One attempt that never blocks. `check`: when the ring is empty, also ask the twin for the end of the stream. */
static long read_once(const struct vs_conn *c, int fd, struct vs_cursor *to, int flags, bool check)
{
	struct vs_dir *d = vs_rx(c);
	size_t before = to->left;
	for (;;) {
		uint32_t e = atomic_load_explicit(&d->epoch_rx, memory_order_relaxed);
		const uint32_t t = atomic_load_explicit(&d->epoch_tx, memory_order_acquire);
		/* A sender is never further ahead than there are boundaries. */
		if (((t - e) & VS_EPOCH_MASK) >= VS_BOUNDARIES) {
			vs_corrupt(d);
			return -ECONNRESET;
		}
		long r = vs_epoch_is_ring(e) ? read_ring(c, fd, e, to, flags, check) : read_plain(c, fd, e, to, flags);
		bool some = to->left < before;
		/* A read ends before urgent data. */
		if (some && (atomic_load_explicit(&d->plain, memory_order_relaxed) & VS_PLAIN_URGENT))
			return (long)(before - to->left);
		if (r == VS_NATIVE)
			continue;
		/* More may follow in the ring, or behind a boundary; the twin has given all it has. */
		if (r > 0 && to->left > 0 && !(flags & MSG_PEEK) && (vs_epoch_is_ring(e) || atomic_load(&d->epoch_tx) != e))
			continue;
		if (some) {
			keep_error(d, r);
			return (long)(before - to->left);
		}
		if (r == -EAGAIN && check && vs_epoch_is_ring(e)) {
			char byte;
			r = vs_sys_recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
			/* What the peer has written to the ring, it wrote before it closed the twin. An epoch that had ended before lacks only
			 * doorbells. */
			if ((t == e && atomic_load(&d->tail) != atomic_load(&d->head)) || atomic_load(&d->epoch_tx) != t) {
				keep_error(d, r);
				continue;
			}
			/* What the peer wrote before it was killed need not have come, and the end of the stream would say that it had. It may have rung
			 * for it before it was killed. */
			if (vs_is_remote(c) && (r == 0 || (r > 0 && twin_ended(fd))) && vs_remote->died(c)) {
				if ((t == e && atomic_load(&d->tail) != atomic_load(&d->head)) || atomic_load(&d->epoch_tx) != t)
					continue;
				r = -ECONNRESET;
			} else if (r > 0 || (r == 0 && vs_is_remote(c)))
				r = -EAGAIN;
		}
		if (r == -EAGAIN || r == 0) {
			uint32_t kept = atomic_load(&d->rx_error) ? atomic_exchange(&d->rx_error, 0) : 0;
			return kept ? -(long)kept : r;
		}
		return r;
	}
}

/* Whether this call is the kernel's alone: nothing will ever come through the ring, or not while it is under way. */
static bool go_native(const struct vs_conn *c)
{
	struct vs_dir *d = vs_rx(c);
	uint32_t e = atomic_load(&d->epoch_rx);
	bool possible = atomic_load(&c->slot->end[!c->side].cookie) != 0 && !atomic_load_explicit(&d->plain, memory_order_relaxed);
	if (possible || vs_epoch_is_ring(e) || atomic_load(&d->epoch_tx) != e || atomic_load(&d->rx_error))
		return false;
	atomic_fetch_add(&d->native_readers, 1);
	if (atomic_load(&d->epoch_tx) == e &&
	    (atomic_load(&c->slot->end[!c->side].cookie) == 0 || atomic_load(&d->plain)))
		return true;
	atomic_fetch_sub(&d->native_readers, 1);
	return false;
}

void vs_rx_native_done(const struct vs_conn *c)
{
	struct vs_dir *d = vs_rx(c);
	d->twin_read_known = false;
	atomic_fetch_sub(&d->native_readers, 1);
}

bool vs_rx_ring_ready(const struct vs_conn *c)
{
	struct vs_dir *d = vs_rx(c);
	if (atomic_load_explicit(&d->expecting, memory_order_relaxed))
		vs_remote->poll();
	return vs_epoch_is_ring(atomic_load_explicit(&d->epoch_rx, memory_order_relaxed)) &&
	       atomic_load_explicit(&d->tail, memory_order_acquire) != atomic_load_explicit(&d->head, memory_order_relaxed);
}

/* Looks at the ring for a while. True when there is something. */
static bool spin(const struct vs_conn *c)
{
	struct vs_dir *d = vs_rx(c);
	const bool remote = vs_is_remote(c);
	const uint32_t least = remote ? SPIN_MIN_REMOTE_NS : SPIN_MIN_NS, most = remote ? SPIN_MAX_REMOTE_NS : SPIN_MAX_NS;
	uint32_t budget = d->spin_ns;
	if (budget == 0 || budget > most)
		budget = most;
	uint64_t start = 0;
	/* The sender can only run when we do not. */
	bool shared_cpu = atomic_load_explicit(&d->tx_cpu, memory_order_relaxed) == (uint32_t)sched_getcpu() + 1;
	for (;;) {
		for (int i = 0; i < (shared_cpu ? 1 : remote ? 8 : 64); i++) {
			if (vs_rx_ring_ready(c)) {
				if (start && d->spin_ns < most)
					d->spin_ns = budget * 2 > most ? most : budget * 2;
				return true;
			}
			vs_pause();
		}
		uint64_t now = vs_now_ns();
		if (!start)
			start = now;
		if (now - start > budget) {
			d->spin_ns = budget / 2 < least ? least : budget / 2;
			return false;
		}
		if (remote && now - start > NAP_AFTER_NS)
			vs_remote->nap();
		else if (shared_cpu || now - start > PURE_SPIN_NS)
			vs_sys_yield();
	}
}

static bool is_nonblocking(int fd, int flags)
{
	return (flags & MSG_DONTWAIT) || (vs_sys(SYS_fcntl, fd, 3 /* F_GETFL */) & 04000 /* O_NONBLOCK */);
}

void vs_rx_sleep(const struct vs_conn *c)
{
	atomic_fetch_add(&vs_rx(c)->sleepers, 1);
	if (atomic_load(&vs_rx(c)->expecting))
		vs_remote->doze();
}
void vs_rx_wake(const struct vs_conn *c) { atomic_fetch_sub(&vs_rx(c)->sleepers, 1); }

static bool ask(const struct vs_conn *c, int fd, bool kernel)
{
	struct vs_dir *d = vs_rx(c);
	if (vs_rx_ring_ready(c))
		return false;
	if (!lock_rx(c, fd))
		return true;
	uint32_t e = atomic_load(&d->epoch_rx);
	bool empty = !vs_rx_ring_ready(c) && !(vs_epoch_is_ring(e) && settle(c, fd, e, kernel ? VS_ARMED : wanted(c), RINGING_NS));
	vs_unlock(&d->rx_lock);
	return empty;
}

bool vs_rx_arm(const struct vs_conn *c, int fd) { return ask(c, fd, true); }
bool vs_rx_list(const struct vs_conn *c, int fd) { return ask(c, fd, false); }

bool vs_rx_quiet(const struct vs_conn *c, int fd)
{
	struct vs_dir *d = vs_rx(c);
	uint32_t e = atomic_load(&d->epoch_rx), bell = atomic_load(&d->bell), asked = VS_BELL(e, wanted(c));
	if (!vs_epoch_is_ring(e) || VS_BELL_EPOCH(bell) != e)
		return true;
	switch (VS_BELL_STATE(bell)) {
	case VS_AWAKE: /* without the lock, for this is the usual case */
		if (asked == bell || !atomic_compare_exchange_strong(&d->bell, &bell, asked))
			return true;
		if (atomic_load(&d->tail) != atomic_load(&d->head))
			atomic_compare_exchange_strong(&d->bell, &asked, VS_BELL(e, VS_AWAKE));
		return true;
	case VS_RINGING:
		return false;
	case VS_ANSWERED | VS_AWAKE:
	case VS_ANSWERED | VS_ARMED:
	case VS_ANSWERED | VS_LISTED:
		if (bell != (asked | VS_ANSWERED))
			vs_rx_list(c, fd);
		return true;
	case VS_RUNG:
	case VS_SEEN:
		vs_rx_list(c, fd);
		return true;
	default:
		return true;
	}
}

bool vs_rx_edge_used(const struct vs_conn *c)
{
	struct vs_dir *d = vs_rx(c);
	uint32_t bell = bell_at_rest(d, RINGING_NS), state = VS_BELL_STATE(bell);
	if (state == VS_AWAKE || state == VS_RUNG)
		atomic_compare_exchange_strong(&d->bell, &bell, VS_BELL(VS_BELL_EPOCH(bell), state == VS_AWAKE ? VS_LISTED : VS_SEEN));
	return !VS_BELL_IS_RINGING(bell);
}

bool vs_rx_is_edge_used(const struct vs_conn *c)
{
	uint32_t state = VS_BELL_STATE(bell_at_rest(vs_rx(c), RINGING_NS));
	return state == VS_SEEN || state == VS_LISTED;
}

bool vs_rx_only_ring(const struct vs_conn *c)
{
	struct vs_dir *d = vs_rx(c);
	uint32_t e = atomic_load(&d->epoch_rx);
	return vs_epoch_is_ring(e) && atomic_load(&d->epoch_tx) == e;
}

bool vs_rx_in_ring(const struct vs_conn *c)
{
	struct vs_dir *d = vs_rx(c);
	uint32_t e = atomic_load_explicit(&d->epoch_rx, memory_order_relaxed);
	return vs_epoch_is_ring(e) || atomic_load_explicit(&d->epoch_tx, memory_order_relaxed) != e;
}

/* Between hosts a doorbell can be quicker than its data, and whoever was woken by it would not be woken again. True when the data, or the end
 * of the epoch, has come meanwhile; else another doorbell is asked for. */
static bool overtaken(const struct vs_conn *c, int fd)
{
	struct vs_dir *d = vs_rx(c);
	const uint32_t e = atomic_load(&d->epoch_tx);
	int queued = 0;
	if (!vs_is_remote(c) || !vs_epoch_is_ring(e) || vs_sys(SYS_ioctl, fd, SIOCINQ, &queued) < 0 || queued == 0)
		return false;
	for (uint64_t start = vs_now_ns(); vs_now_ns() - start < OVERTAKEN_NS; vs_sys_yield()) {
		vs_remote->nap();
		if (vs_rx_ring_ready(c) || atomic_load(&d->epoch_tx) != e)
			return true;
	}
	if (!lock_rx(c, fd))
		return true;
	bool came = vs_rx_ring_ready(c) || atomic_load(&d->epoch_tx) != e;
	if (!came && VS_BELL_STATE(atomic_load(&d->bell)) == VS_ARMED)
		vs_remote->arm(c, atomic_load(&d->head));
	vs_unlock(&d->rx_lock);
	return came;
}

bool vs_rx_woken(const struct vs_conn *c, int fd)
{
	char byte;
	struct iovec iov = { &byte, 1 };
	long r;
	do {
		if (vs_rx_ring_ready(c) || !lock_rx(c, fd))
			return true;
		struct vs_cursor to;
		vs_cursor_init(&to, &iov, 1);
		r = read_once(c, fd, &to, MSG_PEEK, true);
		keep_error(vs_rx(c), r);
		vs_unlock(&vs_rx(c)->rx_lock);
	} while (r == -EAGAIN && overtaken(c, fd));
	return r != -EAGAIN;
}

bool vs_rx_announce(const struct vs_conn *c, int fd)
{
	struct vs_dir *d = vs_rx(c);
	if (!lock_rx(c, fd))
		return false;
	uint32_t bell = bell_at_rest(d, RINGING_NS), state = VS_BELL_STATE(bell);
	bool silent = (state == VS_AWAKE || state == VS_LISTED) &&
		      atomic_compare_exchange_strong(&d->bell, &bell, VS_BELL(VS_BELL_EPOCH(bell), VS_ARMED));
	if (silent && vs_is_remote(c))
		vs_remote->arm(c, atomic_load(&d->head));
	vs_unlock(&d->rx_lock);
	if (silent && !vs_is_remote(c))
		vs_helper_ask_peer(c);
	return silent;
}

void vs_rx_set_eager(const struct vs_conn *c, int fd)
{
	struct vs_dir *d = vs_rx(c);
	if (atomic_exchange(&d->eager, 1) != 0 || vs_rx_arm(c, fd) || !vs_rx_announce(c, fd))
		return;
	/* Briefly waited for, so that the doorbell does not come when the data has been read. */
	for (uint64_t start = vs_now_ns(); vs_now_ns() - start < 2000000;) {
		uint32_t bell = atomic_load(&d->bell);
		if (VS_BELL_STATE(bell) != VS_ARMED && !VS_BELL_IS_RINGING(bell))
			break;
		vs_sys_yield();
	}
}

size_t vs_rx_pending(const struct vs_conn *c, int fd, size_t twin_queue)
{
	struct vs_dir *d = vs_rx(c);
	if (!lock_rx(c, fd))
		return twin_queue;
	/* What lies in the twin may be the doorbell of an epoch whose start has come, and has not been looked at. */
	if (atomic_load_explicit(&d->expecting, memory_order_relaxed))
		vs_remote->sync();
	/* Rings and plain parts in the order of the stream; of the last, open part all that is there. */
	uint32_t t = atomic_load(&d->epoch_tx), e = atomic_load(&d->epoch_rx);
	uint64_t sum = 0, head = atomic_load(&d->head);
	if (know_twin_read(d, fd)) {
		uint64_t at = d->twin_read, arrived = at + twin_queue;
		for (unsigned i = 0; i < VS_BOUNDARIES; i++, e++) {
			bool last = e == t;
			if (vs_epoch_is_ring(e)) {
				uint64_t end = last ? atomic_load(&d->tail) : atomic_load(&vs_boundary_of(d, e + 1)->ring);
				/* Applications take memory for as much as they are told of. */
				sum += end - head <= VS_RING_MAX ? end - head : 0;
				head = end;
			} else {
				uint64_t end = last ? arrived : atomic_load(&vs_boundary_of(d, e + 1)->twin);
				uint64_t from = e == atomic_load(&d->epoch_rx) ? at : atomic_load(&vs_boundary_of(d, e)->twin);
				if (end > arrived)
					end = arrived;
				if (from < at)
					from = at;
				sum += end > from ? end - from : 0;
			}
			if (last)
				break;
		}
	} else {
		sum = twin_queue;
	}
	vs_unlock(&d->rx_lock);
	return sum;
}

long vs_conn_recv(const struct vs_conn *c, int fd, struct vs_cursor *to, int flags, vs_recv_fn *wait)
{
	struct vs_dir *d = vs_rx(c);
	size_t before = to->left;
	long failed = 0;
	bool check = false;
	if (vs_is_remote(c))
		vs_remote->reading(c);
	if (go_native(c))
		return VS_COUNTED;
	for (;;) {
		if (!lock_rx(c, fd))
			return VS_NATIVE;
		if (atomic_load_explicit(&d->expecting, memory_order_relaxed))
			vs_remote->poll();
		uint64_t by_ring = d->rx_ring_bytes;
		long r = read_once(c, fd, to, flags, check);
		vs_unlock(&d->rx_lock);
		if (r > 0 && vs_is_remote(c))
			vs_remote->moved(c, (size_t)r, d->rx_ring_bytes != by_ring);
		if (r > 0 && (!(flags & MSG_WAITALL) || (flags & MSG_PEEK) || to->left == 0))
			return (long)(before - to->left);
		size_t got = before - to->left;
		if (r != -EAGAIN && r <= 0)
			return got ? (long)got : r;
		if (failed)
			return got ? (long)got : failed;
		bool ring = vs_epoch_is_ring(atomic_load_explicit(&d->epoch_rx, memory_order_relaxed));
		if (is_nonblocking(fd, flags)) {
			/* Who is told by the kernel without our knowing must find it. */
			if (!ring || got || (!atomic_load_explicit(&d->eager, memory_order_relaxed) && asked_just_now(d)))
				return got ? (long)got : r;
			if (overtaken(c, fd))
				continue;
			failed = -EAGAIN;
			check = true; /* once more, with a look at the end of the stream */
			continue;
		}
		if (r > 0)
			continue;
		if (ring && !atomic_load_explicit(&d->eager, memory_order_relaxed) && spin(c))
			continue;
		vs_rx_sleep(c);
		if (!vs_rx_arm(c, fd)) {
			vs_rx_wake(c);
			continue;
		}
		char byte;
		atomic_fetch_add_explicit(&d->rx_sleeps, 1, memory_order_relaxed);
		int saved = errno;
		ssize_t n = wait(fd, &byte, 1, MSG_PEEK);
		vs_rx_wake(c);
		if (n < 0) {
			failed = -errno;
			errno = saved;
			if (failed == -EINTR)
				return got ? (long)got : -EINTR;
			keep_error(d, failed);
			if (failed != -EAGAIN)
				failed = 0;
		}
		check = true; /* what is in the ring comes before the end or the error */
	}
}

/* Whether something that the sender has written to the twin has not come yet (`*writes`: or is being written). Under both locks, so that
 * nothing new is begun. */
static bool on_its_way(const struct vs_conn *c, int fd, bool *writes)
{
	struct vs_dir *d = vs_rx(c);
	struct vs_twin_facts facts;
	*writes = atomic_load(&d->native_senders) > 0;
	if (*writes)
		return true;
	return know_twin_read(d, fd) && vs_twin_ask(&c->slot->key, !c->side, atomic_load(&c->slot->end[!c->side].cookie), &facts) == 1 && facts.counted &&
	       d->twin_read < facts.sent;
}

/* Reads all there is, to the last byte that the sender has written, into memory of its own. `*more`: that is more than a ring's room.
 * Under both locks. */
static unsigned char *read_all(const struct vs_conn *c, int fd, size_t *len, bool *ended, bool *more)
{
	size_t room = VS_RING_MAX;
	unsigned char *p = malloc(room);
	struct iovec iov = { p, room };
	struct vs_cursor to;
	*len = 0;
	*ended = *more = false;
	if (!p)
		return NULL;
	vs_cursor_init(&to, &iov, 1);
	for (uint64_t start = vs_now_ns(); !*ended && !*more;) {
		long r = read_once(c, fd, &to, 0, true);
		*more = to.left == 0;
		*ended = r <= 0 && r != -EAGAIN;
		if (r != -EAGAIN)
			continue;
		bool writes;
		if (!on_its_way(c, fd, &writes))
			break;
		if (vs_now_ns() - start > (writes ? DEMOTE_MS : ARRIVAL_MS) * UINT64_C(1000000)) {
			*more = true;
			break;
		}
		struct pollfd readable = { .fd = fd, .events = POLLIN };
		struct timespec soon = { 0, 1000000 };
		vs_sys(SYS_ppoll, &readable, 1, &soon, 0, 8);
	}
	*len = room - to.left;
	return p;
}

/* What was read goes into the ring again. From there the sender puts it on the twin; when the sender has gone, it is a last ring
 * epoch, which only processes with the library can read. Under both locks. */
static void put_back(const struct vs_conn *c, const unsigned char *p, size_t len, bool sender_gone)
{
	struct vs_dir *d = vs_rx(c);
	struct iovec iov = { (void *)(uintptr_t)p, len };
	struct vs_cursor from;
	uint64_t tail = atomic_load(&d->tail);
	uint32_t e = atomic_load(&d->epoch_tx);
	vs_cursor_init(&from, &iov, 1);
	if (vs_watched(d))
		vs_watch_sent(c->slot, !c->side, from, len, tail);
	vs_ring_put(vs_ring_of(c->slot, !c->side), VS_RING_MAX, tail, &from, len);
	atomic_store(&d->head, tail);
	atomic_store(&d->tail, tail + len);
	if (!sender_gone) {
		atomic_store(&d->bell, VS_BELL(e, VS_FROZEN));
		return;
	}
	e = (e + 1) & VS_EPOCH_MASK;
	struct vs_boundary *b = vs_boundary_of(d, e);
	atomic_store(&b->twin, d->twin_read);
	atomic_store(&b->ring, tail);
	atomic_store(&b->size, VS_RING_MAX);
	atomic_store(&d->epoch_tx, e);
}

/* The ring has been given back: waits for the doorbells that are still on their way, because behind them all is the application's. */
static void leave_ring(const struct vs_conn *c, int fd)
{
	struct vs_dir *d = vs_rx(c);
	char byte;
	struct iovec iov = { &byte, 1 };
	for (unsigned tries = 0; tries < 500 && atomic_load(&d->epoch_rx) != atomic_load(&d->epoch_tx); tries++) {
		struct vs_cursor to;
		vs_cursor_init(&to, &iov, 1);
		long r = read_once(c, fd, &to, MSG_PEEK, false);
		if (r >= 0 || r != -EAGAIN)
			break;
		struct pollfd p = { .fd = fd, .events = POLLIN };
		struct timespec some = { 0, 20000000 };
		vs_sys(SYS_ppoll, &p, 1, &some, 0, 8);
	}
}

void vs_rx_demote(const struct vs_conn *c, int fd, enum vs_plain why)
{
	struct vs_dir *d = vs_rx(c);
	bool ask = false;
	atomic_fetch_or(&d->plain, why);
	if (!lock_rx(c, fd))
		return;
	uint32_t e = atomic_load(&d->epoch_rx);
	if (vs_is_remote(c)) {
		if (!vs_remote->freeze(c, fd))
			vs_corrupt(d);
		leave_ring(c, fd);
	} else if (vs_epoch_is_ring(e) || atomic_load(&d->epoch_tx) != e) {
		/* The sender does nothing meanwhile. */
		enum vs_locked l = vs_lock_within(&d->tx_lock, DEMOTE_MS);
		if (l == VS_LOCK_LATE) { /* he is stopped in the middle of a message, and nobody can say what of it there is */
			vs_corrupt(d);
			vs_sys(SYS_shutdown, fd, SHUT_RDWR);
			vs_unlock(&d->rx_lock);
			return;
		}
		if (l == VS_LOCK_STOLEN && vs_epoch_is_ring(e) && atomic_load(&d->epoch_tx) == e) {
			discard_bells(c, fd, e);
			if (d->twin_read_known && d->twin_read > atomic_load(&d->twin_sent))
				atomic_store(&d->twin_sent, d->twin_read);
		}
		if (vs_epoch_is_ring(atomic_load(&d->epoch_tx)))
			vs_tx_end_ring(d);
		size_t len;
		bool ended, more;
		unsigned char *p = read_all(c, fd, &len, &ended, &more);
		if (!p || more) { /* what goes back would come behind what is left */
			vs_corrupt(d);
			vs_sys(SYS_shutdown, fd, SHUT_RDWR);
		} else if (len > 0) {
			put_back(c, p, len, ended);
			ask = !ended;
		}
		free(p);
		if (l != VS_LOCK_NESTED)
			vs_unlock(&d->tx_lock);
		leave_ring(c, fd);
	}
	vs_unlock(&d->rx_lock);
	if (ask)
		vs_helper_ask_peer(c);
}

void vs_conn_returned(const struct vs_conn *c)
{
	atomic_fetch_and(&vs_tx(c)->plain, ~(uint32_t)VS_PLAIN_PASSED);
	atomic_fetch_and(&vs_rx(c)->plain, ~(uint32_t)VS_PLAIN_HANDED);
	/* Others may have read the twin meanwhile. */
	if (vs_lock(&vs_rx(c)->rx_lock) == VS_LOCK_NESTED)
		return;
	vs_rx(c)->twin_read_known = false;
	vs_unlock(&vs_rx(c)->rx_lock);
}

/* What the kernel does with unread data when a socket is closed (it resets the connection), and with none (it does not). */
static void close_rx(const struct vs_conn *c, int fd)
{
	struct vs_dir *d = vs_rx(c);
	if (!lock_rx(c, fd))
		return;
	if (vs_rx_ring_ready(c)) {
		struct linger reset = { 1, 0 };
		vs_sys_setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
	} else if (vs_epoch_is_ring(atomic_load(&d->epoch_rx))) {
		settle(c, fd, atomic_load(&d->epoch_rx), VS_AWAKE, RINGING_NS);
	}
	vs_unlock(&d->rx_lock);
}

void vs_conn_closing(const struct vs_conn *c, int fd)
{
	if (atomic_load(&c->slot->end[c->side].holders) > 1)
		return;
	/* One that others may have goes on without us. */
	bool goes_on = (atomic_load(&vs_rx(c)->plain) & (VS_PLAIN_HANDED | VS_PLAIN_FOREIGN)) || atomic_load(&c->slot->end[c->side].shared);
	if (!goes_on)
		close_rx(c, fd);
	vs_tx_closing(c, fd, goes_on);
}

void vs_conn_left(const struct vs_conn *c)
{
	if (vs_conn_current(c) && vs_remote)
		vs_remote->left(c);
	if (vs_conn_current(c))
		vs_arena_detach(c->slot, c->side);
}
