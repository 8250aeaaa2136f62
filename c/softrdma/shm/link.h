/*
 * link.h - the road to one other process of this host (or to ourselves): two rings and two mapped segments.
 *
 * Introduction: whoever needs the other first connects to the private unix socket named after the other's slot; both check
 * SO_PEERCRED and send `struct sr_hello` with their segment and doorbell descriptors. The rings lie at fixed places in
 * the segments, so that two introductions at once describe the same link. The socket stays open for life: its end is how
 * a peer's death is noticed. A peer that closes it and lives is asked after twice a second (its lock in the registry).
 */
#ifndef SR_LINK_H
#define SR_LINK_H
#include "../engine/helper.h"
#include "ring.h"
#include "segment.h"

struct sr_hello {
	uint64_t magic;
	uint32_t version;
	uint32_t slot;
	uint64_t generation;
};

struct sr_link {
	struct sr_list node;
	unsigned slot;
	uint64_t generation;
	struct sr_segment *peer;
	int doorbell;              /* eventfd of the peer */
	bool dirty;                /* messages were sent since the bell was last considered */
	bool resting;              /* the next message is a datagram whose receiver has no receive WQE yet */
	bool unwatched;            /* its socket ended, its process did not */
	bool stalled;              /* UD: the ring was full for long; datagrams are dropped until the receiver reads on */
	uint32_t stalled_head;     /* where it stood then */
	bool poisoned;             /* the peer wrote nonsense into the ring: nothing more is read from it */
	struct sr_tx_ring tx;
	struct sr_rx_ring rx;
	uint32_t idle_rounds;      /* in a row that found rx empty */
	struct sr_list owed;       /* control messages that found the ring full */
	uint32_t owed_count;
	struct sr_list acks;       /* queue pairs that owe an acknowledgement */
	struct sr_list blocked;    /* queue pairs waiting for room in tx */
	struct sr_list qps;        /* bound queue pairs, by shm.link_node */
};

/* Wakes the peer if it sleeps and was sent something. Under sr.lock. */
static inline void sr_link_ring_bell(struct sr_link *l);
void sr_link_write_bell(struct sr_link *l);
/* Begins a message; NULL when the ring is full (the caller joins `blocked`). */
static inline void *sr_link_reserve(struct sr_link *l, size_t bytes);
/* The sender waits for room: tells the receiver to publish, then looks again. True when there is room after all. */
bool sr_link_block(struct sr_link *l);

static inline void *sr_link_reserve(struct sr_link *l, size_t bytes)
{
	void *m = sr_tx_reserve(&l->tx, bytes);
	if (__builtin_expect(!m, 0) && sr_link_block(l))
		m = sr_tx_reserve(&l->tx, bytes);
	return m;
}

static inline void sr_link_commit(struct sr_link *l, struct sr_msg *m, size_t bytes, enum sr_msg_type type, uint32_t flags)
{
	sr_tx_commit(&l->tx, m, bytes, type, flags);
	l->dirty = true;
}

static inline void sr_link_ring_bell(struct sr_link *l)
{
	if (!l->dirty)
		return;
	l->dirty = false;
	sr_segment_light_fence(l->peer);
	if (__builtin_expect(atomic_load_explicit(&l->peer->asleep, memory_order_relaxed), 0))
		sr_link_write_bell(l);
}
#endif
