/* tx.c - the sending half of a connection. */
#define _GNU_SOURCE
#include "board.h"
#include "epoch.h"
#include "remote.h"
#include "sys.h"
#include "twin.h"
#include "watch.h"
#include <netinet/tcp.h>
#include <sched.h>
#include <stdlib.h>

/* Flags whose meaning a ring keeps, or which mean nothing here. */
#define KNOWN_FLAGS (MSG_DONTWAIT | MSG_NOSIGNAL | MSG_MORE | MSG_EOR | MSG_CONFIRM | MSG_DONTROUTE)
/* The tail is published after so many bytes, so that the receiver copies out while we copy in. */
#define CHUNK ((size_t)32 << 10)
#define FULL_SPIN_NS 200000u
#define FULL_SPIN_MIN_NS 50000u
/* What a call that must not block may wait in all: shorter than falling back to the twin for a ringful takes. */
#define NONBLOCKING_NS 1000000u
/* Seconds, in which a doorbell must find room on the twin. */
#define BELL_TRIES 10
/* Pure spinning, before the CPU is offered to others between looks. */
#define PURE_SPIN_NS 2000u
#define WORTH_BYTES ((size_t)16 << 10)
/* How long a call that must not block waits for the lock. */
#define BUSY_MS 2

const struct vs_remote_ops *vs_remote;
_Atomic bool vs_remotes;
_Atomic bool vs_remote_datagrams;

void vs_tx_end_ring(struct vs_dir *d)
{
	uint32_t e = atomic_load_explicit(&d->epoch_tx, memory_order_relaxed) + 1;
	struct vs_boundary *b = vs_boundary_of(d, e);
	atomic_store_explicit(&b->twin, atomic_load(&d->twin_sent), memory_order_relaxed);
	atomic_store_explicit(&b->ring, atomic_load(&d->tail), memory_order_relaxed);
	atomic_store_explicit(&b->size, 0, memory_order_relaxed);
	atomic_store(&d->epoch_tx, e & VS_EPOCH_MASK);
}

/* Ends the ring epoch. On the other road all of it must have arrived before anything else is sent; when that cannot be found out, the
 * connection is lost. Afterwards something may have been given back. */
static void end_ring(const struct vs_conn *c, int fd)
{
	struct vs_dir *d = vs_tx(c);
	if (vs_is_remote(c) && !vs_remote->end(c, fd)) {
		vs_corrupt(d);
		vs_sys(SYS_shutdown, fd, SHUT_RDWR);
	}
	if (vs_epoch_is_ring(atomic_load(&d->epoch_tx)))
		vs_tx_end_ring(d);
}

/* For a single call that only the kernel can make. */
static void end_for_call(const struct vs_conn *c, int fd)
{
	struct vs_dir *d = vs_tx(c);
	if (!vs_epoch_is_ring(atomic_load(&d->epoch_tx)))
		return;
	atomic_fetch_add_explicit(&d->tx_natives, 1, memory_order_relaxed);
	end_ring(c, fd);
}

/* The doorbell's byte is in the twin, or never will be. */
static void rung(struct vs_dir *d)
{
	uint32_t bell = atomic_load(&d->bell), next;
	do
		next = VS_BELL_STATE(bell) & VS_ANSWERED ? bell & ~(uint32_t)VS_ANSWERED : VS_BELL(VS_BELL_EPOCH(bell), VS_RUNG);
	while (!atomic_compare_exchange_weak(&d->bell, &bell, next));
}

static void repair(struct vs_dir *d, int fd)
{
	uint64_t sent;
	bool open;
	if (vs_twin_sent(fd, d->syn ? &d->syn : NULL, &sent, &open) == 0 && vs_epoch_is_ring(atomic_load(&d->epoch_tx)))
		atomic_store(&d->twin_sent, sent);
	if (VS_BELL_IS_RINGING(atomic_load(&d->bell)))
		rung(d);
}

/* Takes tx_lock; false when the slot is another connection's by now, or when this thread is in a signal handler on top of the
 * owner. `*late`: after `limit_ms` somebody had it still. */
static bool lock_tx_within(const struct vs_conn *c, int fd, uint32_t limit_ms, bool *late)
{
	struct vs_dir *d = vs_tx(c);
	enum vs_locked l = vs_lock_within(&d->tx_lock, limit_ms);
	*late = l == VS_LOCK_LATE;
	if (l == VS_LOCK_NESTED || l == VS_LOCK_LATE)
		return false;
	if (!vs_conn_current(c)) {
		vs_unlock(&d->tx_lock);
		vs_fd_forget(fd);
		return false;
	}
	if (l == VS_LOCK_STOLEN)
		repair(d, fd);
	return true;
}

static bool lock_tx(const struct vs_conn *c, int fd)
{
	bool late;
	return lock_tx_within(c, fd, VS_NO_LIMIT, &late);
}

bool vs_tx_send_bell(struct vs_dir *d, int fd)
{
	/* Room is certain but for a full queue of somebody else's making; then it is waited for, but a receiver that has let it become full is
	 * not waited for for ever: what lies there wakes it as well. */
	long r = vs_sys_send(fd, "", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
	for (unsigned tries = 0; (r == -EAGAIN || r == -EINTR) && tries < BELL_TRIES; tries++) {
		struct pollfd p = { .fd = fd, .events = POLLOUT };
		struct timespec second = { 1, 0 };
		vs_sys(SYS_ppoll, &p, 1, &second, 0, 8);
		r = vs_sys_send(fd, "", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
	}
	if (r == 1) {
		atomic_fetch_add(&d->twin_sent, 1);
		atomic_fetch_add_explicit(&d->tx_bells, 1, memory_order_relaxed);
	}
	return r == 1;
}

bool vs_tx_ring_bell(struct vs_dir *d, int fd)
{
	bool sent = vs_tx_send_bell(d, fd);
	rung(d);
	return sent;
}

/* The receiver's epoll set is told; a doorbell is needed only when its waiters sleep. */
static bool post(const struct vs_conn *c, struct vs_board *b, int fd, uint32_t epoch, enum vs_bell state)
{
	struct vs_dir *d = vs_tx(c);
	uint32_t bell = VS_BELL(epoch, state);
	if (!vs_board_post(b, vs_board_bit(c->slot, !c->side)))
		return true;
	/* Else he has found it already. */
	return !atomic_compare_exchange_strong(&d->bell, &bell, VS_BELL(epoch, VS_RINGING)) || vs_tx_ring_bell(d, fd);
}

/* After new data in the ring (a full fence lies in between). False when nobody will read it. */
static bool notify_here(const struct vs_conn *c, int fd, uint32_t epoch)
{
	struct vs_dir *d = vs_tx(c);
	uint32_t bell = atomic_load(&d->bell);
	for (;;) {
		uint32_t state = VS_BELL_STATE(bell);
		/* The first data of an epoch always rings: the word is still an earlier epoch's. */
		bool current = VS_BELL_EPOCH(bell) == epoch;
		if (current && state != VS_ARMED && state != VS_SEEN && state != VS_LISTED)
			return true;
		struct vs_board *b = current && state != VS_ARMED ? vs_board_at(atomic_load(&d->board)) : NULL;
		enum vs_bell next = !b ? VS_RINGING : state == VS_SEEN ? VS_RUNG : VS_AWAKE;
		if (!atomic_compare_exchange_weak(&d->bell, &bell, VS_BELL(epoch, next)))
			continue;
		if (b)
			return post(c, b, fd, epoch, next);
		/* An epoll set tells by the post whether the doorbell means something new. */
		if ((b = vs_board_at(atomic_load(&d->board))))
			vs_board_post(b, vs_board_bit(c->slot, !c->side));
		return vs_tx_ring_bell(d, fd);
	}
}

bool vs_tx_ring_asked(const struct vs_conn *c, int fd)
{
	struct vs_dir *d = vs_tx(c);
	uint32_t e = atomic_load(&d->epoch_tx);
	/* Any other word means that he has been told of all there is. */
	return !vs_is_remote(c) && vs_epoch_is_ring(e) && VS_BELL_STATE(atomic_load(&d->bell)) == VS_ARMED &&
	       atomic_load(&d->tail) != atomic_load(&d->head) && notify_here(c, fd, e);
}

static void keep_options(const struct vs_conn *c, int fd)
{
	struct vs_end *e = &c->slot->end[c->side];
	if (!(atomic_load(&e->options) & VS_OPT_KNOWN)) {
		int nodelay = 0, cork = 0;
		socklen_t len = sizeof nodelay;
		vs_sys_getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &nodelay, &len);
		len = sizeof cork;
		vs_sys_getsockopt(fd, IPPROTO_TCP, TCP_CORK, &cork, &len);
		atomic_store(&e->options, VS_OPT_KNOWN | (nodelay ? VS_OPT_NODELAY : 0) | (cork ? VS_OPT_CORK : 0));
	}
	/* A doorbell must not wait for more data or for an acknowledgement. */
	uint32_t options = atomic_load(&e->options);
	int on = 1, off = 0;
	if (options & VS_OPT_CORK)
		vs_sys_setsockopt(fd, IPPROTO_TCP, TCP_CORK, &off, sizeof off);
	if (!(options & VS_OPT_NODELAY))
		vs_sys_setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

/* Whether the other end of the slot is the other end of this connection: addresses repeat, and processes that are killed leave
 * their slots behind. */
static bool verified(const struct vs_conn *c)
{
	struct vs_end *own = &c->slot->end[c->side], *peer = &c->slot->end[!c->side];
	uint64_t cookie = atomic_load(&peer->cookie);
	if (cookie == 0 || atomic_load(&peer->closed))
		return false;
	if (atomic_load(&own->verified))
		return true;
	if (vs_twin_exists(&c->slot->key, !c->side, cookie) == 1) {
		atomic_store(&own->verified, 1);
		return true;
	}
	atomic_fetch_or(&vs_tx(c)->plain, VS_PLAIN_PEER);
	vs_arena_unfile(c->slot);
	return false;
}

/* A receiver that waits in ways we do not see is woken by a doorbell for nearly every message, which costs as much as sending the message:
 * only large ones gain. RDMAKIT_SOCKET_RING=always is for tests. */
static bool worth_it(const struct vs_dir *d, size_t n)
{
	static _Atomic int always = -1;
	int yes = atomic_load_explicit(&always, memory_order_relaxed);
	if (yes < 0) {
		const char *wish = getenv("RDMAKIT_SOCKET_RING");
		yes = wish && !strcmp(wish, "always");
		atomic_store_explicit(&always, yes, memory_order_relaxed);
	}
	if (n >= WORTH_BYTES || yes)
		return true;
	const struct vs_board *b = vs_board_at(atomic_load_explicit(&d->board, memory_order_relaxed));
	return !atomic_load_explicit(&d->eager, memory_order_relaxed) && !(b && atomic_load_explicit(&b->forced, memory_order_relaxed));
}

/* Begins a ring epoch if both ends are ready for one. */
static bool promote(const struct vs_conn *c, int fd, size_t n)
{
	struct vs_dir *d = vs_tx(c);
	bool remote = vs_is_remote(c);
	if (remote ? !vs_remote->may_start(c) : !worth_it(d, n))
		return false;
	uint32_t e = atomic_load_explicit(&d->epoch_tx, memory_order_relaxed);
	if (atomic_load_explicit(&d->plain, memory_order_relaxed) || atomic_load(&d->epoch_rx) != e ||
	    (!remote && (atomic_load(&d->native_readers) || atomic_load(&d->reading))) ||
	    /* A receiver that has never counted what it read cannot do it any more when the connection has been reset meanwhile. */
	    (!remote && !atomic_load(&d->twin_read_known)) || atomic_load(&d->native_senders) || !verified(c))
		return false;
	uint64_t sent, tail = atomic_load(&d->tail);
	bool open;
	/* Writable: a doorbell will find room, even behind what is still to be sent. */
	struct pollfd room = { .fd = fd, .events = POLLOUT };
	if (atomic_load(&d->head) != tail || vs_sys_poll_now(&room, 1) != 1 || room.revents != POLLOUT || (!remote && !vs_helper_start(c)) ||
	    vs_twin_sent(fd, remote ? &d->syn : NULL, &sent, &open) || !open)
		return false;
	keep_options(c, fd);
	uint32_t size = *(volatile uint32_t *)&d->ring_next;
	if (!vs_size_ok(size))
		d->ring_next = size = VS_RING_MIN;
	e = (e + 1) & VS_EPOCH_MASK;
	struct vs_boundary *b = vs_boundary_of(d, e);
	atomic_store_explicit(&b->twin, sent, memory_order_relaxed);
	atomic_store_explicit(&b->ring, tail, memory_order_relaxed);
	atomic_store_explicit(&b->size, size, memory_order_relaxed);
	atomic_store(&d->twin_sent, sent);
	d->head_seen = tail;
	atomic_store(&d->epoch_tx, e);
	if (remote) {
		atomic_fetch_add_explicit(&d->tx_promotions, 1, memory_order_relaxed);
		vs_remote->start(c); /* else the link is broken, which comes out soon enough */
		return true;
	}
	/* A reader that has gone into the kernel meanwhile, or a refusal, ends the epoch before it holds anything. */
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_load(&d->native_readers) || atomic_load(&d->reading) || atomic_load(&d->plain)) {
		vs_tx_end_ring(d);
		return false;
	}
	atomic_fetch_add_explicit(&d->tx_promotions, 1, memory_order_relaxed);
	return true;
}

static bool is_nonblocking(int fd, int flags)
{
	return (flags & MSG_DONTWAIT) || (vs_sys(SYS_fcntl, fd, 3 /* F_GETFL */) & 04000 /* O_NONBLOCK */);
}

/* Waits a moment for the receiver to make room: for as long as he makes some, but `*patience_ns` in all; then only if all that is left (`want`)
 * finds room. */
static bool wait_for_room(const struct vs_conn *c, uint64_t tail, uint32_t size, size_t want, uint64_t *patience_ns)
{
	struct vs_dir *d = vs_tx(c);
	uint64_t seen = d->head_seen, start = vs_now_ns(), since = start;
	uint32_t budget = d->full_spin_ns;
	if (budget == 0 || budget > FULL_SPIN_NS)
		budget = FULL_SPIN_NS;
	for (;;) {
		if (vs_is_remote(c))
			vs_remote->poll();
		for (int i = 0; i < 32; i++) {
			uint64_t head = atomic_load_explicit(&d->head, memory_order_acquire);
			if (tail - head <= size - size / 4) {
				d->head_seen = head;
				d->full_spin_ns = budget * 2 > FULL_SPIN_NS ? FULL_SPIN_NS : budget * 2;
				uint64_t waited = vs_now_ns() - start;
				*patience_ns -= waited < *patience_ns ? waited : *patience_ns;
				return true;
			}
			vs_pause();
		}
		uint64_t now = vs_now_ns(), head = atomic_load(&d->head);
		if (now - start > *patience_ns) {
			*patience_ns = 0;
			d->head_seen = head;
			return size - (tail - head) >= want;
		}
		if (head != seen) {
			seen = head;
			since = now;
		}
		if (now - since > budget) {
			d->full_spin_ns = budget / 2 < FULL_SPIN_MIN_NS ? FULL_SPIN_MIN_NS : budget / 2;
			d->head_seen = head;
			return size - (tail - head) >= want;
		}
		if (now - start > PURE_SPIN_NS)
			vs_sys_yield();
	}
}

/* The receiver can go without a word while it reads by itself; asked about once a millisecond. */
static bool peer_open(struct vs_dir *d, int fd)
{
	uint64_t now = vs_ticks();
	if (now - d->checked_ticks < VS_TICKS_A_MS)
		return true;
	d->checked_ticks = now;
	struct pollfd p = { .fd = fd, .events = POLLRDHUP };
	return vs_sys_poll_now(&p, 1) == 0;
}

/* What is ours alone, but lies where others can write: read once. */
static uint64_t own_u64(const uint64_t *p) { return *(const volatile uint64_t *)p; }

/* Sends as much as possible through the ring. */
static void put(const struct vs_conn *c, int fd, struct vs_cursor *from, int flags)
{
	struct vs_dir *d = vs_tx(c);
	uint64_t patience_ns = UINT64_MAX;
	uint32_t e = atomic_load_explicit(&d->epoch_tx, memory_order_relaxed);
	uint32_t size = atomic_load_explicit(&vs_boundary_of(d, e)->size, memory_order_relaxed);
	unsigned char *ring = vs_ring_of(c->slot, c->side);
	uint64_t tail = atomic_load_explicit(&d->tail, memory_order_relaxed);
	if (!vs_size_ok(size)) {
		vs_corrupt(d);
		end_ring(c, fd);
		return;
	}
	atomic_store_explicit(&d->tx_cpu, (uint32_t)sched_getcpu() + 1, memory_order_relaxed);
	while (from->left > 0) {
		/* Copies: neither the receiver's place nor our memory of it is looked at again after a check. */
		uint64_t seen = own_u64(&d->head_seen), used = tail - seen;
		if (used >= size || (from->left > size - used && used > 0)) {
			d->head_seen = seen = atomic_load_explicit(&d->head, memory_order_acquire);
			used = tail - seen;
		}
		if (used > size) { /* a head that was never so */
			vs_corrupt(d);
			end_ring(c, fd);
			return;
		}
		if (used == size && patience_ns == UINT64_MAX && is_nonblocking(fd, flags))
			patience_ns = NONBLOCKING_NS;
		if (used == size && (patience_ns == 0 || !wait_for_room(c, tail, size, from->left, &patience_ns))) {
			atomic_fetch_add_explicit(&d->tx_overflows, 1, memory_order_relaxed);
			/* Not all of the room: what is given back is what the ring and the twin hold. */
			if (d->ring_next < VS_RING_MAX / 2)
				d->ring_next *= 2;
			end_ring(c, fd);
			return;
		}
		used = tail - own_u64(&d->head_seen);
		if (used > size)
			continue; /* says so above */
		size_t n = from->left < size - used ? from->left : size - used;
		if (n > CHUNK)
			n = CHUNK;
		if (__builtin_expect(vs_watched(d), 0)) {
			const struct vs_cursor source = *from;
			n = vs_ring_put(ring, size, tail, from, n);
			vs_watch_sent(c->slot, c->side, source, n, tail);
		} else {
			n = vs_ring_put(ring, size, tail, from, n);
		}
		if (n == 0)
			return; /* the file has ended: the kernel's call will say so */
		tail += n;
		atomic_exchange(&d->tail, tail); /* publishes, and orders it before the look at the doorbell's word */
		atomic_store_explicit(&d->tx_ring_bytes, d->tx_ring_bytes + n, memory_order_relaxed);
		if (!(vs_is_remote(c) ? vs_remote->sent(c, fd, tail - n, n) : notify_here(c, fd, e))) {
			atomic_fetch_or(&d->plain, VS_PLAIN_SHUT);
			end_ring(c, fd);
			return;
		}
	}
}

long vs_tx_give_back(const struct vs_conn *c, int fd)
{
	struct vs_dir *d = vs_tx(c);
	if (VS_BELL_STATE(atomic_load(&d->bell)) != VS_FROZEN)
		return 0;
	unsigned char *ring = vs_ring_of(c->slot, c->side);
	if (vs_epoch_is_ring(atomic_load(&d->epoch_tx)))
		vs_tx_end_ring(d);
	/* As the receiver lays it down; on the other road it lies where we put it. */
	struct vs_boundary *before = vs_boundary_of(d, atomic_load(&d->epoch_tx) - 1);
	uint32_t size = atomic_load(&before->size);
	if (!vs_is_remote(c) || !vs_size_ok(size))
		size = VS_RING_MAX;
	for (;;) {
		uint64_t head = atomic_load(&d->head), tail = atomic_load(&d->tail);
		if (tail - head > size) {
			vs_corrupt(d);
			head = tail;
		}
		if (head == tail) {
			uint32_t e = atomic_load(&d->epoch_tx);
			if (vs_is_remote(c)) { /* the other end's ring ends where it had read to */
				uint64_t ring = atomic_load(&vs_boundary_of(d, e)->ring);
				atomic_store(&d->tail, ring);
				atomic_store(&d->head, vs_remote->reader(c, ring));
			}
			atomic_store(&d->bell, VS_BELL(e, VS_ARMED));
			return 0;
		}
		uint64_t pos = head & (size - 1), n = tail - head;
		if (n > size - pos)
			n = size - pos;
		long r = vs_sys_send(fd, ring + pos, n, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (r < 0)
			return r;
		atomic_store(&d->head, head + (uint64_t)r);
	}
}

/* Before anything else is sent: what the receiver has given back. May let go of the lock while it waits, for others must not wait with
 * it. -ESTALE: the slot is another connection's by now, and the lock is not held. */
static long settle_given_back(const struct vs_conn *c, int fd, int flags)
{
	for (;;) {
		long r = vs_tx_give_back(c, fd);
		if (r != -EAGAIN || is_nonblocking(fd, flags))
			return r;
		vs_unlock(&vs_tx(c)->tx_lock);
		struct pollfd p = { .fd = fd, .events = POLLOUT };
		r = vs_sys(SYS_ppoll, &p, 1, 0, 0, 8);
		if (!lock_tx(c, fd))
			return -ESTALE;
		if (r < 0)
			return r;
	}
}

long vs_conn_send(const struct vs_conn *c, int fd, struct vs_cursor *from, int flags, size_t *done)
{
	struct vs_dir *d = vs_tx(c);
	size_t total = from->left;
	bool late;
	*done = 0;
	/* A receiver that hands its descriptor on has the lock until all that we have sent is there; meanwhile we must be able to receive, or the
	 * kernel drops, when its queue is full, the acknowledgements of what he waits for. */
	if (!lock_tx_within(c, fd, BUSY_MS, &late)) {
		if (!late)
			return VS_NATIVE;
		if (is_nonblocking(fd, flags))
			return -EAGAIN;
		if (!lock_tx(c, fd))
			return VS_NATIVE;
	}
	long r = 0;
	if (__builtin_expect(VS_BELL_STATE(atomic_load_explicit(&d->bell, memory_order_relaxed)) == VS_FROZEN, 0))
		r = settle_given_back(c, fd, flags);
	if (r == -ESTALE)
		return VS_NATIVE;
	if (r == 0 || r == -EPIPE || r == -ECONNRESET) {
		r = 0;
		if (flags & ~KNOWN_FLAGS) {
			if (flags & MSG_OOB)
				atomic_fetch_or(&d->plain, VS_PLAIN_URGENT);
			end_for_call(c, fd);
		} else if (total > 0) {
			bool ring = vs_epoch_is_ring(atomic_load_explicit(&d->epoch_tx, memory_order_relaxed));
			if (ring && !peer_open(d, fd)) {
				atomic_fetch_or(&d->plain, VS_PLAIN_SHUT);
				end_ring(c, fd);
			} else if (ring && vs_is_remote(c) && !vs_remote->may_start(c)) {
				end_ring(c, fd);
			} else if (ring || promote(c, fd, total)) {
				put(c, fd, from, flags);
			}
		}
		*done = total - from->left;
		if (vs_is_remote(c)) {
			if (from->left > 0 && settle_given_back(c, fd, flags & ~MSG_DONTWAIT) == -ESTALE)
				return *done ? (long)*done : VS_NATIVE;
			if (*done > 0)
				vs_remote->moved(c, *done, true);
		}
		if (from->left == 0 && total > 0) {
			r = (long)total;
		} else {
			atomic_fetch_add(&d->native_senders, 1);
			r = VS_COUNTED;
		}
	}
	vs_unlock(&d->tx_lock);
	return r;
}

void vs_tx_native_done(const struct vs_conn *c, long result)
{
	atomic_fetch_sub(&vs_tx(c)->native_senders, 1);
	/* Now that the message is on its way. */
	if (result > 0 && vs_is_remote(c))
		vs_remote->moved(c, (size_t)result, false);
}

void vs_tx_demote(const struct vs_conn *c, int fd, enum vs_plain why)
{
	struct vs_dir *d = vs_tx(c);
	if (!lock_tx(c, fd))
		return;
	atomic_fetch_or(&d->plain, why);
	if (vs_epoch_is_ring(atomic_load(&d->epoch_tx)))
		end_ring(c, fd);
	if (settle_given_back(c, fd, 0) != -ESTALE)
		vs_unlock(&d->tx_lock);
}

void vs_tx_resume(const struct vs_conn *c, int fd)
{
	struct vs_dir *d = vs_tx(c);
	if (VS_BELL_STATE(atomic_load(&d->bell)) != VS_FROZEN || !lock_tx(c, fd))
		return;
	bool more = vs_tx_give_back(c, fd) == -EAGAIN;
	vs_unlock(&d->tx_lock);
	if (more && vs_helper_start(c))
		vs_helper_ask(c, c->side);
}

void vs_tx_closing(const struct vs_conn *c, int fd, bool goes_on)
{
	struct vs_dir *d = vs_tx(c);
	if (!lock_tx(c, fd))
		return;
	if (!goes_on)
		atomic_fetch_or(&d->plain, VS_PLAIN_SHUT);
	if (vs_epoch_is_ring(atomic_load(&d->epoch_tx)))
		end_ring(c, fd);
	if (VS_BELL_STATE(atomic_load(&d->bell)) == VS_FROZEN) {
		for (int second = 0; second < 10 && vs_tx_give_back(c, fd) == -EAGAIN; second++) {
			struct pollfd p = { .fd = fd, .events = POLLOUT };
			struct timespec one = { 1, 0 };
			vs_sys(SYS_ppoll, &p, 1, &one, 0, 8);
		}
	}
	vs_unlock(&d->tx_lock);
}

bool vs_tx_in_ring(const struct vs_conn *c) { return vs_epoch_is_ring(atomic_load(&vs_tx(c)->epoch_tx)); }

bool vs_tx_begin_native(const struct vs_conn *c, int fd)
{
	struct vs_dir *d = vs_tx(c);
	if (!lock_tx(c, fd))
		return false;
	if (settle_given_back(c, fd, 0) == -ESTALE)
		return false;
	end_for_call(c, fd);
	if (settle_given_back(c, fd, 0) == -ESTALE)
		return false;
	atomic_fetch_add(&d->native_senders, 1);
	vs_unlock(&d->tx_lock);
	return true;
}
