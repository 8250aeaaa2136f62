/* inbox.c - rings of datagrams. */
#define _GNU_SOURCE
#include "inbox.h"
#include "gone.h"
#include "lock.h"
#include "sys.h"
#include <sys/mman.h>

/* Inboxes that are asked whether their process has ended, whenever one is taken. */
#define SWEEP 4

/* In front of each datagram. Records are multiples of it long, so that it never wraps. */
struct record {
	uint32_t len;
	uint16_t port;
	uint16_t unused;
	uint8_t addr[16];
	uint64_t reserved;
};
_Static_assert(sizeof(struct record) == 32 && VS_INBOX_ROOM % sizeof(struct record) == 0, "a record's head does not wrap");

static unsigned char *ring_of(const struct vs_inbox *in)
{
	return (unsigned char *)vs_arena + VS_INBOXES_AT + (uint64_t)(in - vs_arena->inbox) * VS_INBOX_ROOM;
}

static uint64_t room_for(uint32_t len) { return sizeof(struct record) + (((uint64_t)len + sizeof(struct record) - 1) & ~(sizeof(struct record) - 1)); }

static void free_inbox(struct vs_inbox *in, uint64_t cookie)
{
	/* With the senders' lock, so that none that has looked at `gen` writes into the next owner's. */
	enum vs_locked l = vs_lock(&in->tx_lock);
	if (atomic_compare_exchange_strong(&in->cookie, &cookie, UINT64_MAX)) {
		uint64_t used = VS_INBOX_TAIL(atomic_load(&in->word));
		atomic_fetch_add(&in->gen, 1);
		atomic_store(&in->word, VS_INBOX_WORD(0, VS_INBOX_SHUT));
		atomic_store(&in->head, 0);
		if (used > VS_INBOX_ROOM / 4)
			madvise(ring_of(in), VS_INBOX_ROOM, MADV_REMOVE);
		atomic_store(&in->rx_lock, 0);
		atomic_store(&in->cookie, 0);
	}
	if (l != VS_LOCK_NESTED)
		vs_unlock(&in->tx_lock);
}

/* Frees it when the process that used it last was killed. */
static void sweep(struct vs_inbox *in)
{
	uint64_t cookie = atomic_load(&in->cookie);
	uint32_t pid = atomic_load(&in->pid);
	if (cookie && cookie != UINT64_MAX && pid && vs_gone((int)pid))
		free_inbox(in, cookie);
}

struct vs_inbox *vs_inbox_take(uint64_t cookie, uint64_t netns, const struct vs_endpoint *at)
{
	for (unsigned i = 0; i < SWEEP; i++)
		sweep(&vs_arena->inbox[atomic_fetch_add(&vs_arena->inbox_next, 1) % VS_INBOXES]);
	for (unsigned all = 0; all < 2; all++) {
		for (unsigned i = 0; i < VS_INBOXES; i++) {
			struct vs_inbox *in = &vs_arena->inbox[i];
			uint64_t none = 0;
			if (all)
				sweep(in);
			if (atomic_load_explicit(&in->cookie, memory_order_relaxed) != 0 ||
			    !atomic_compare_exchange_strong(&in->cookie, &none, UINT64_MAX))
				continue;
			atomic_store(&in->pid, (uint32_t)vs_sys_getpid());
			atomic_store(&in->netns, netns);
			atomic_store(&in->holders, 1);
			atomic_store(&in->port, 0);
			atomic_store(&in->natives, 0);
			atomic_store(&in->known, 0);
			atomic_store(&in->far_credit, 0);
			atomic_store(&in->far_until, 0);
			atomic_store(&in->natives_seen, 0);
			atomic_store(&in->looked, 0);
			atomic_store(&in->drops, 0);
			atomic_store(&in->read, 0);
			atomic_store(&in->read_bytes, 0);
			in->at = *at;
			atomic_store(&in->full_head, UINT64_MAX);
			atomic_store(&in->head, 0);
			atomic_store(&in->word, VS_INBOX_WORD(0, VS_INBOX_SHUT));
			atomic_store(&in->cookie, cookie);
			return in;
		}
	}
	return NULL;
}

void vs_inbox_leave(struct vs_inbox *in)
{
	uint64_t cookie = atomic_load(&in->cookie);
	if (atomic_fetch_sub(&in->holders, 1) == 1)
		free_inbox(in, cookie);
}

struct vs_inbox *vs_inbox_find(uint64_t cookie, uint64_t netns, uint32_t *gen)
{
	for (unsigned i = 0; cookie && cookie != UINT64_MAX && i < VS_INBOXES; i++) {
		struct vs_inbox *in = &vs_arena->inbox[i];
		if (atomic_load_explicit(&in->cookie, memory_order_relaxed) != cookie)
			continue;
		*gen = atomic_load(&in->gen);
		if (atomic_load(&in->netns) == netns && atomic_load(&in->cookie) == cookie)
			return in;
	}
	return NULL;
}

/* Waits a little for room, while the receiver makes some. */
static bool wait_for_room(struct vs_inbox *in, uint64_t tail, uint64_t need)
{
	uint64_t head = atomic_load(&in->head), start;
	if (atomic_load_explicit(&in->full_head, memory_order_relaxed) == head)
		return false; /* it was waited for, and nothing has moved since */
	start = vs_ticks();
	while (vs_ticks() - start < VS_TICKS_A_MS / 2) {
		for (int i = 0; i < 64; i++) {
			if (tail - atomic_load(&in->head) + need <= VS_INBOX_ROOM)
				return true;
			vs_pause();
		}
		vs_sys_yield();
	}
	atomic_store_explicit(&in->full_head, atomic_load(&in->head), memory_order_relaxed);
	return false;
}

long vs_inbox_put(struct vs_inbox *in, uint32_t gen, const struct vs_endpoint *from, struct vs_cursor *c, uint64_t *end)
{
	const uint32_t len = (uint32_t)c->left;
	const uint64_t need = room_for(len);
	if (vs_inbox_state(in) != VS_INBOX_OPEN || vs_lock_within(&in->tx_lock, 10) > VS_LOCK_STOLEN)
		return VS_INBOX_KERNEL;
	uint64_t w = atomic_load(&in->word), tail = VS_INBOX_TAIL(w);
	long r = VS_INBOX_KERNEL;
	if (VS_INBOX_STATE(w) == VS_INBOX_OPEN && atomic_load(&in->gen) == gen && tail % sizeof(struct record) == 0) {
		const uint64_t used = tail - atomic_load_explicit(&in->head, memory_order_acquire);
		if (used <= VS_INBOX_ROOM && used + need > VS_INBOX_ROOM && !wait_for_room(in, tail, need)) {
			atomic_fetch_add_explicit(&in->drops, 1, memory_order_relaxed);
			r = -ENOBUFS;
		} else if (used <= VS_INBOX_ROOM) {
			unsigned char *ring = ring_of(in);
			struct record h = { .len = len, .port = from->port };
			memcpy(h.addr, from->addr, 16);
			memcpy(ring + (tail & (VS_INBOX_ROOM - 1)), &h, sizeof h);
			vs_ring_put(ring, VS_INBOX_ROOM, tail + sizeof h, c, len);
			/* Unless the receiver has gone to sleep meanwhile. */
			if (atomic_compare_exchange_strong(&in->word, &w, VS_INBOX_WORD(tail + need, VS_INBOX_OPEN)))
				*end = tail + need, r = (long)len;
		}
	}
	vs_unlock(&in->tx_lock);
	return r;
}

/* The head of the next record. A length that cannot be ends the inbox: nobody can tell where the next one begins. */
static bool next_record(struct vs_inbox *in, uint64_t *head, struct record *h)
{
	const uint64_t tail = VS_INBOX_TAIL(atomic_load_explicit(&in->word, memory_order_acquire));
	*head = atomic_load_explicit(&in->head, memory_order_relaxed);
	if (tail == *head)
		return false;
	memcpy(h, ring_of(in) + (*head & (VS_INBOX_ROOM - sizeof *h)), sizeof *h);
	if (h->len <= VS_DATAGRAM_MAX && tail - *head <= VS_INBOX_ROOM && room_for(h->len) <= tail - *head && *head % sizeof *h == 0)
		return true;
	vs_inbox_set(in, VS_INBOX_SHUT);
	atomic_store(&in->head, VS_INBOX_TAIL(atomic_load(&in->word)));
	return false;
}

long vs_inbox_get(struct vs_inbox *in, struct vs_cursor *c, bool peek, struct vs_endpoint *from, size_t *copied)
{
	struct record h;
	uint64_t head;
	if (!next_record(in, &head, &h))
		return -EAGAIN;
	*copied = c->left < h.len ? c->left : h.len;
	vs_ring_get(ring_of(in), VS_INBOX_ROOM, head + sizeof h, c, *copied, false);
	memcpy(from->addr, h.addr, 16);
	from->port = h.port;
	if (peek)
		return (long)h.len;
	atomic_store_explicit(&in->head, head + room_for(h.len), memory_order_release);
	atomic_store_explicit(&in->read, atomic_load_explicit(&in->read, memory_order_relaxed) + 1, memory_order_relaxed);
	atomic_store_explicit(&in->read_bytes, atomic_load_explicit(&in->read_bytes, memory_order_relaxed) + h.len, memory_order_relaxed);
	return (long)h.len;
}

long vs_inbox_next(struct vs_inbox *in)
{
	struct record h;
	uint64_t head;
	return next_record(in, &head, &h) ? (long)h.len : -EAGAIN;
}
