/*
 * watch.h - what is measured of a direction when somebody asked for it (vs_dir.watched): how long messages lie in the ring, and a hash of
 * the bytes that the sending application gave and the receiving application got. It lies in the arena, because the two ends are different
 * processes; nothing is done, and no memory used, for directions that nobody watches.
 *
 * The hash is h = (h ^ word) * odd; h ^= h >> 32 for every eight bytes. Each step can be undone, so a single wrong word can never be
 * missed; several cancel each other with a chance of 2^-64. It runs at memory speed and needs no library in the preloaded one. It
 * defends against faults, not against forgers.
 */
#ifndef VS_WATCH_H
#define VS_WATCH_H

#include "../common/histogram.h"
#include "epoch.h"

/* A running hash: of all bytes before `at`. The last at % 8 of them wait in `word`. */
struct vs_hash {
	uint64_t at, hash, word;
};

/* The sender leaves its hash at every multiple of this, so that the receiver can compare wherever it stands. */
#define VS_WATCH_BLOCK (UINT64_C(16) << 10)
/* More than lie in the largest ring. */
#define VS_WATCH_BLOCKS 128

struct vs_watch {
	/* the sender's, under tx_lock */
	_Alignas(VS_LINE) _Atomic uint32_t gen; /* of the slot when this was emptied */
	struct vs_hash tx;
	_Atomic uint32_t seq; /* odd while `last` changes */
	struct {
		_Atomic uint64_t at, hash, word;
	} last; /* after what was sent last */
	struct {
		_Atomic uint64_t at, hash;
	} block[VS_WATCH_BLOCKS];
	/* of one message at a time: its end, and when it was sent; the receiver clears stamp_at */
	_Alignas(VS_LINE) _Atomic uint64_t stamp_at;
	_Atomic uint64_t stamp_ns;
	/* the receiver's, under rx_lock */
	_Alignas(VS_LINE) struct vs_hash rx;
	uint8_t lost;	      /* bytes went another way: rx is taken from the sender when both stand at the same place */
	uint64_t compared_at; /* bytes before it were compared, or could not be */
	uint64_t verified_bytes, wrong_count, wrong_from, wrong_to; /* ring positions of the first mismatch */
	struct rk_hist latency;
};
_Static_assert(sizeof(struct vs_watch) <= VS_WATCH_ROOM, "the watch fits its place");

static inline struct vs_watch *vs_watch_of(const struct vs_slot *slot, int dir)
{
	uint64_t index = (uint64_t)(slot - vs_arena->slot) * 2 + (uint64_t)dir;
	return (struct vs_watch *)((unsigned char *)vs_arena + VS_WATCHES_AT + index * VS_WATCH_ROOM);
}

static inline bool vs_watched(const struct vs_dir *d)
{
	return __builtin_expect(atomic_load_explicit(&d->watched, memory_order_relaxed) != 0, 0);
}

extern uint32_t vs_watch_wanted; /* of every connection that this process attaches (enum vs_watched) */

/* From now on this is wanted of both directions. Hashes only from a ring's first byte on. Under the arena's lock. */
void vs_watch_begin(struct vs_slot *slot, uint32_t wanted);

/* The application gives `n` bytes, `from` on, which will lie in ring `dir` at `at`. Before they are published; under tx_lock. */
void vs_watch_sent(const struct vs_slot *slot, int dir, struct vs_cursor from, size_t n, uint64_t at);

/* The application has got `n` bytes, `to` on, which lay in ring `dir` at `at`. Under rx_lock. */
void vs_watch_received(const struct vs_slot *slot, int dir, struct vs_cursor to, size_t n, uint64_t at);

/* Between hosts hashes begin anew with each ring epoch, because what is given back to the kernel in between is not seen by both ends. `sending`:
 * the sender's half; else the receiver's. Under the same lock as the above. */
void vs_watch_fresh(const struct vs_slot *slot, int dir, bool sending, uint64_t at);
/* The sender's hash at position `at`, after it has been given bytes beyond; false when it is not kept. `*h` is then as it was. Under tx_lock. */
bool vs_watch_hash_at(const struct vs_slot *slot, int dir, uint64_t at, struct vs_hash *h);
/* The sender, on another host, says what its hash is somewhere. */
void vs_watch_heard(const struct vs_slot *slot, int dir, const struct vs_hash *h);

/* Pure: the hash goes on over `n` bytes. */
void vs_hash_add(struct vs_hash *h, const void *bytes, size_t n);

#endif
