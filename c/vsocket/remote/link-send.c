/* link-send.c - operations of the sending half. */
#define _GNU_SOURCE
#include "link-parts.h"
#include "../watch.h"
#include <poll.h>
#include <stdio.h>

/* How long a grant is waited for before it is asked for again. */
#define ASK_NS UINT64_C(20000000)
/* How long a failed queue pair's receiver is waited for; descriptors that must not block belong to applications with more to do. */
#define END_NS UINT64_C(300000000000)
#define END_NONBLOCKING_NS UINT64_C(10000000000)
#define DEAD (POLLERR | POLLHUP)

static bool toss(struct vs_link *l)
{
	static __thread uint64_t x;
	x = (x ? x : vs_ticks() | 1) * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	if ((x >> 33) % 4096 == 0)
		vs_link_break(l);
	return (x >> 40) % 8 != 0;
}

static bool wants_rc(struct vs_link *l)
{
	if (vs_link_random())
		return toss(l);
	return vs_link_always() || (l->c.side == 0 ? vs_group_wants_rc(&l->member) : atomic_load(&l->peer_wants_rc));
}

bool vs_link_op_may_start(const struct vs_conn *c)
{
	struct vs_link *l = vs_link_of(c);
	/* Of a queue pair that has failed, the ring takes what it has room for until the receiver has said how far he is. */
	if (l && atomic_load(&l->broken) && atomic_load(&l->state) == VS_LINK_UP && !atomic_load(&l->answered) && !atomic_load(&l->freeze_asked) &&
	    vs_epoch_is_ring(atomic_load(&vs_tx(c)->epoch_tx)))
		return true;
	if (!l || !vs_link_usable(l) || l->rx_frozen || atomic_load(&l->answered) || atomic_load(&vs_link_forking))
		return false;
	if (!wants_rc(l) || atomic_load(&c->slot->end[c->side].holders) != 1) {
		/* Looking here after every read costs the receiver time. */
		if (atomic_exchange(&l->peer_grants, false) && vs_link_has_room(l)) {
			atomic_fetch_add(&l->ask_number, 1);
			vs_link_note(l, (struct vs_note){ .kind = VS_NOTE_WITHDRAW });
		}
		return false;
	}
	if (vs_epoch_is_ring(atomic_load(&vs_tx(c)->epoch_tx)) || atomic_exchange(&l->peer_grants, false))
		return true;
	uint64_t now = vs_now_ns();
	if (now - l->asked_ns > (vs_link_random() ? ASK_NS / 100 : ASK_NS) && (c->side == 0 || atomic_load(&l->heard)) && vs_link_has_room(l)) {
		l->asked_ns = now;
		vs_link_note(l, (struct vs_note){ .kind = VS_NOTE_ASK, .seen = atomic_fetch_add(&l->ask_number, 1) + 1 });
		ibv_req_notify_cq(vs_link_device()->cq, 0); /* the answer is for the agent */
	}
	return false;
}

bool vs_link_op_start(const struct vs_conn *c)
{
	struct vs_link *l = vs_link_of(c);
	struct vs_dir *d = vs_tx(c);
	uint32_t e = atomic_load(&d->epoch_tx);
	struct vs_boundary *b = vs_boundary_of(d, e);
	struct vs_note n = { .kind = VS_NOTE_START, .epoch = e, .size = atomic_load(&b->size), .twin = atomic_load(&b->twin),
			     .ring = atomic_load(&b->ring) };
	if (!l)
		return false;
	l->begun = false;
	vs_watch_fresh(c->slot, c->side, true, n.ring);
	if (!vs_link_has_room(l) || !vs_link_note(l, n))
		return false;
	/* Its doorbell must not overtake it: in a plain epoch it would be taken for data. */
	while (atomic_load(&l->outstanding) > 0 && vs_link_usable(l)) {
		vs_link_poll();
		vs_pause();
	}
	l->begun = atomic_load(&l->outstanding) == 0 && vs_link_usable(l);
	return l->begun;
}

/* For a receiver that compares: at each block's end and at the end, so that it can wherever it stops reading. */
static void say_hashes(struct vs_link *l, uint64_t at, size_t n)
{
	struct vs_hash h;
	for (uint64_t to = at; to != at + n;) {
		uint64_t left = at + n - to, block = VS_WATCH_BLOCK - to % VS_WATCH_BLOCK;
		to += left < block ? left : block;
		if (vs_watch_hash_at(l->c.slot, l->c.side, to, &h) && vs_link_has_room(l))
			vs_link_note(l, (struct vs_note){ .kind = VS_NOTE_HASH, .ring = h.at, .seen = h.hash, .twin = h.word });
	}
}

bool vs_link_op_sent(const struct vs_conn *c, int fd, uint64_t at, size_t n)
{
	struct vs_link *l = vs_link_of(c);
	struct vs_dir *d = vs_tx(c);
	uint32_t e = atomic_load(&d->epoch_tx), size = atomic_load(&vs_boundary_of(d, e)->size);
	if (!l || !vs_size_ok(size))
		return false;
	l->fd = fd;
	if (vs_watched(d))
		say_hashes(l, at, n);
	while (n > 0) {
		/* What a broken link has not carried stays in the ring until the receiver has said what it has. */
		if (!vs_link_has_room(l))
			return true;
		size_t piece = size - (at & (size - 1));
		if (piece > n)
			piece = n;
		uint32_t bell = atomic_load(&d->bell);
		bool ring = VS_BELL_EPOCH(bell) != e || VS_BELL_STATE(bell) == VS_ARMED;
		/* Said before the data goes: the receiver may have read it, and asked for the next doorbell, before this one is on its way. */
		ring = ring && atomic_compare_exchange_strong(&d->bell, &bell, VS_BELL(e, VS_RUNG));
		if (!vs_link_data(l, at, piece, size, ring ? VS_IMM_BELL : 0)) {
			if (ring)
				atomic_store(&d->bell, VS_BELL(e, VS_ARMED));
			return true;
		}
		if (ring && !vs_tx_send_bell(d, fd))
			return false;
		at += piece, n -= piece;
	}
	return true;
}

bool vs_link_twin_dead(int fd)
{
	struct pollfd p = { .fd = fd };
	return vs_sys_poll_now(&p, 1) == 1 && (p.revents & (DEAD | POLLNVAL));
}

/* The other end sends no more: it has shut its direction down, or is no more. */
static bool twin_ended(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLRDHUP };
	return vs_sys_poll_now(&p, 1) == 1;
}

void vs_link_rest(uint64_t since)
{
	uint64_t now = vs_now_ns();
	struct timespec nap = { 0, 200000 };
	if (now - since > 2000000)
		vs_sys(SYS_nanosleep, &nap, 0);
	else if (now - since > 20000)
		vs_sys_yield();
	else
		vs_pause();
}

uint64_t vs_link_patience_ns(int fd)
{
	return vs_sys(SYS_fcntl, fd, 3 /* F_GETFL */) & 04000 /* O_NONBLOCK */ ? END_NONBLOCKING_NS : END_NS;
}

bool vs_link_op_end(const struct vs_conn *c, int fd)
{
	struct vs_link *l = vs_link_of(c);
	struct vs_dir *d = vs_tx(c);
	uint32_t e = (atomic_load(&d->epoch_tx) + 1) & VS_EPOCH_MASK;
	bool told = false;
	if (!l)
		return true;
	const uint64_t limit = vs_link_patience_ns(fd);
	/* He may have read all that he knew of, and be about to ask for a doorbell that nobody can ring any more when the epoch is over. And a socket
	 * that has no owner any more answers with a reset. */
	if (l->begun && (twin_ended(fd) || atomic_load(&d->tail) != atomic_load(&d->head)) && vs_tx_ring_bell(d, fd) &&
	    vs_link_has_room(l))
		vs_link_note(l, (struct vs_note){ .kind = VS_NOTE_BELL });
	for (uint64_t start = vs_now_ns(); vs_now_ns() - start < limit; vs_link_rest(start)) {
		if (atomic_load(&l->gone))
			return true;
		if (atomic_load(&l->freeze_asked)) {
			vs_link_thaw(l);
			return true;
		}
		if (!told && vs_link_has_room(l)) {
			struct vs_note n = { .kind = VS_NOTE_END, .epoch = e, .twin = atomic_load(&d->twin_sent), .ring = atomic_load(&d->tail) };
			told = vs_link_note(l, n);
		}
		vs_link_poll();
		if (told && atomic_load(&l->outstanding) == 0 && vs_link_usable(l)) /* in this order: see completions */
			return true;
		if (vs_link_twin_dead(fd))
			return true;
	}
	return false;
}

void vs_link_thaw(struct vs_link *l)
{
	struct vs_dir *d = vs_tx(&l->c);
	uint32_t e = atomic_load(&d->epoch_tx), asked = l->ask_epoch;
	uint64_t ring = l->ask_ring, head, tail = atomic_load(&d->tail);
	bool in_ring = vs_epoch_is_ring(e);
	struct vs_boundary *b = vs_boundary_of(d, e);
	/* Nobody else wakes him for what came unannounced. */
	if (!l->answered && in_ring && asked == e && vs_link_has_fd(l))
		vs_tx_send_bell(d, l->fd);
	enum vs_locked k = vs_lock(&vs_poll_lock); /* no position may come in between */
	head = atomic_load(&d->head);
	if (!l->answered) {
		struct vs_datagram a = { .epoch = e & ~1u };
		if (in_ring && asked == ((e + 1) & VS_EPOCH_MASK)) { /* it has all, and knows the end of the epoch */
			vs_tx_end_ring(d);
		} else if (in_ring && (asked == e || asked == ((e - 1) & VS_EPOCH_MASK))) {
			uint64_t from = asked == e ? ring : atomic_load(&b->ring);
			if (from - head > tail - head) {
				vs_corrupt(d);
				from = tail;
			}
			a = (struct vs_datagram){ .epoch = e, .ring = from, .twin_start = atomic_load(&b->twin) };
			l->known_head = head;
			atomic_store(&d->head, from);
			vs_tx_end_ring(d);
			b = vs_boundary_of(d, e + 1);
			atomic_store(&b->ring, from);
			a.twin = atomic_load(&b->twin);
			if (from != tail)
				atomic_store(&d->bell, VS_BELL((e + 1) & VS_EPOCH_MASK, VS_FROZEN));
			else
				atomic_store(&d->head, head);
		} else if (!in_ring && e > 0 && asked == e - 1) { /* we had ended it, and it had all */
			a = (struct vs_datagram){ .epoch = e - 1, .ring = atomic_load(&b->ring), .twin = atomic_load(&b->twin),
						  .twin_start = atomic_load(&vs_boundary_of(d, e - 1)->twin) };
		}
		l->answer = a;
		l->answered = true;
	}
	if (k != VS_LOCK_NESTED)
		vs_unlock(&vs_poll_lock);
	atomic_store(&l->peer_grants, false);
	atomic_store(&l->freeze_asked, false);
	vs_agent_send(l, VS_THAW);
}

void vs_link_op_rung(const struct vs_conn *c)
{
	struct vs_link *l = vs_link_of(c);
	if (l)
		vs_link_note(l, (struct vs_note){ .kind = VS_NOTE_BELL });
}

uint64_t vs_link_op_reader(const struct vs_conn *c, uint64_t ring)
{
	struct vs_link *l = vs_link_of(c);
	return l ? l->known_head : ring;
}

void vs_link_op_moved(const struct vs_conn *c, size_t n, bool rc)
{
	struct vs_link *l = vs_link_of(c);
	if (!l || c->side != 0 || vs_link_always() || vs_link_random() || vs_group_can_wait(&l->member, n) || !vs_try_lock(&l->choosing))
		return;
	bool decided_rc;
	/* Who leaves has said so before he takes the lock. */
	bool changed = vs_link_usable(l) && vs_group_moved(&l->member, vs_link_there(l), vs_now_ns(), n, rc, atomic_load(&vs_tx(c)->tx_bells));
	if (changed && vs_group_decided(&l->member, &decided_rc))
		atomic_store(&c->slot->road, decided_rc ? VS_ROAD_FASTER : VS_ROAD_SLOWER);
	vs_unlock(&l->choosing);
	if (changed && !atomic_exchange(&l->position_wanted, true))
		vs_agent_wake();
}
