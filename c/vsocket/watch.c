/* watch.c - latencies and hashes of directions that somebody watches. */
#define _GNU_SOURCE
#include "watch.h"
#include "sys.h"
#include <sys/mman.h>

uint32_t vs_watch_wanted;

static inline uint64_t mixed(uint64_t hash, uint64_t word)
{
	hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
	return hash ^ hash >> 32;
}

void vs_hash_add(struct vs_hash *h, const void *bytes, size_t n)
{
	const unsigned char *p = bytes;
	/* At a boundary of words whole words are taken; position in the stream decides, not in memory. */
	while (n > 0) {
		if (h->at % 8 == 0 && n >= 8) {
			uint64_t word;
			memcpy(&word, p, 8);
			h->hash = mixed(h->hash, word);
			h->at += 8, p += 8, n -= 8;
			continue;
		}
		h->word |= (uint64_t)*p << (h->at % 8 * 8);
		h->at++, p++, n--;
		if (h->at % 8 == 0) {
			h->hash = mixed(h->hash, h->word);
			h->word = 0;
		}
	}
}

/* Goes on over the application's buffers, at most `n` bytes and not past the block's end. Returns what is left of `n`. */
static size_t add_to_block(struct vs_hash *h, struct vs_cursor *c, size_t n)
{
	size_t left = VS_WATCH_BLOCK - h->at % VS_WATCH_BLOCK;
	for (size_t take = left < n ? left : n; take > 0;) {
		size_t len = c->iov->iov_len - c->done;
		if (len > take)
			len = take;
		vs_hash_add(h, (const char *)c->iov->iov_base + c->done, len);
		vs_cursor_skip(c, len);
		take -= len, n -= len;
	}
	return n;
}

void vs_watch_begin(struct vs_slot *slot, uint32_t wanted)
{
	for (int dir = 0; dir < 2; dir++) {
		struct vs_dir *d = &slot->dir[dir];
		struct vs_watch *w = vs_watch_of(slot, dir);
		uint32_t gen = atomic_load(&slot->gen);
		if (atomic_load(&w->gen) != gen) {
			madvise(w, VS_WATCH_ROOM, MADV_REMOVE);
			rk_hist_init(&w->latency);
			atomic_store(&w->gen, gen);
		}
		bool untouched = atomic_load(&d->tail) == 0 && atomic_load(&d->epoch_tx) == 0;
		atomic_fetch_or(&d->watched, untouched ? wanted : wanted & ~(uint32_t)VS_WATCH_HASH);
	}
}

/* A file's bytes are nowhere but in the ring. */
static struct vs_cursor in_ring(const struct vs_slot *slot, int dir, struct iovec piece[2], size_t n, uint64_t at)
{
	uint32_t size = atomic_load(&vs_boundary_of((struct vs_dir *)(uintptr_t)&slot->dir[dir], slot->dir[dir].epoch_tx)->size);
	struct vs_cursor c;
	if (!vs_size_ok(size))
		size = VS_RING_MIN; /* of a hash that will be wrong, but of bytes in the ring */
	size_t pos = at & (size - 1), first = n < size - pos ? n : size - pos;
	piece[0] = (struct iovec){ vs_ring_of(slot, dir) + pos, first };
	piece[1] = (struct iovec){ vs_ring_of(slot, dir), n - first };
	vs_cursor_init(&c, piece, 2);
	return c;
}

static void keep_block(struct vs_watch *w, const struct vs_hash *h)
{
	uint64_t i = h->at / VS_WATCH_BLOCK % VS_WATCH_BLOCKS;
	atomic_store(&w->block[i].hash, h->hash);
	atomic_store(&w->block[i].at, h->at);
}

static void keep_last(struct vs_watch *w, const struct vs_hash *h)
{
	atomic_fetch_add(&w->seq, 1);
	atomic_store(&w->last.at, h->at);
	atomic_store(&w->last.hash, h->hash);
	atomic_store(&w->last.word, h->word);
	atomic_fetch_add(&w->seq, 1);
}

void vs_watch_sent(const struct vs_slot *slot, int dir, struct vs_cursor from, size_t n, uint64_t at)
{
	struct iovec piece[2];
	if (from.file_plus_1)
		from = in_ring(slot, dir, piece, n, at);
	struct vs_watch *w = vs_watch_of(slot, dir);
	uint32_t watched = atomic_load_explicit(&slot->dir[dir].watched, memory_order_relaxed);
	if ((watched & VS_WATCH_LATENCY) && atomic_load_explicit(&w->stamp_at, memory_order_acquire) == 0) {
		atomic_store_explicit(&w->stamp_ns, vs_now_ns(), memory_order_relaxed);
		atomic_store_explicit(&w->stamp_at, at + n, memory_order_release);
	}
	if (!(watched & VS_WATCH_HASH))
		return;
	if (w->tx.at != at)
		w->tx = (struct vs_hash){ .at = at }; /* never so; the receiver will say it */
	for (size_t left = n; left > 0;) {
		left = add_to_block(&w->tx, &from, left);
		if (w->tx.at % VS_WATCH_BLOCK == 0)
			keep_block(w, &w->tx);
	}
	keep_last(w, &w->tx);
}

/* The sender's hash at `at`, if it is there to see. */
static bool sender_at(struct vs_watch *w, uint64_t at, struct vs_hash *h)
{
	if (at % VS_WATCH_BLOCK == 0) {
		uint64_t i = at / VS_WATCH_BLOCK % VS_WATCH_BLOCKS;
		*h = (struct vs_hash){ .at = atomic_load(&w->block[i].at), .hash = atomic_load(&w->block[i].hash) };
		if (at > 0 && h->at == at)
			return true;
	}
	uint32_t seq = atomic_load(&w->seq);
	h->at = atomic_load(&w->last.at);
	h->hash = atomic_load(&w->last.hash);
	h->word = atomic_load(&w->last.word);
	return !(seq & 1) && atomic_load(&w->seq) == seq && h->at == at;
}

void vs_watch_fresh(const struct vs_slot *slot, int dir, bool sending, uint64_t at)
{
	struct vs_watch *w = vs_watch_of(slot, dir);
	if (!(atomic_load_explicit(&slot->dir[dir].watched, memory_order_relaxed) & VS_WATCH_HASH))
		return;
	if (sending) {
		w->tx = (struct vs_hash){ .at = at };
		return;
	}
	w->rx = (struct vs_hash){ .at = at };
	w->compared_at = at;
	w->lost = false;
}

bool vs_watch_hash_at(const struct vs_slot *slot, int dir, uint64_t at, struct vs_hash *h)
{
	struct vs_hash found = { 0 };
	if (!(atomic_load_explicit(&slot->dir[dir].watched, memory_order_relaxed) & VS_WATCH_HASH) || !sender_at(vs_watch_of(slot, dir), at, &found))
		return false;
	*h = found;
	return true;
}

void vs_watch_heard(const struct vs_slot *slot, int dir, const struct vs_hash *h)
{
	struct vs_watch *w = vs_watch_of(slot, dir);
	if (!(atomic_load_explicit(&slot->dir[dir].watched, memory_order_relaxed) & VS_WATCH_HASH))
		return;
	if (h->at % VS_WATCH_BLOCK == 0)
		keep_block(w, h);
	keep_last(w, h);
}

static void compare(struct vs_watch *w)
{
	struct vs_hash theirs;
	if (!sender_at(w, w->rx.at, &theirs))
		return;
	bool same = theirs.hash == w->rx.hash && theirs.word == w->rx.word;
	if (w->lost) {
		w->lost = false;
	} else if (same) {
		w->verified_bytes += w->rx.at - w->compared_at;
	} else if (w->wrong_count++ == 0) {
		w->wrong_from = w->compared_at;
		w->wrong_to = w->rx.at;
	}
	/* What follows is judged by itself. */
	w->rx = theirs;
	w->compared_at = w->rx.at;
}

void vs_watch_received(const struct vs_slot *slot, int dir, struct vs_cursor to, size_t n, uint64_t at)
{
	struct vs_watch *w = vs_watch_of(slot, dir);
	uint32_t watched = atomic_load_explicit(&slot->dir[dir].watched, memory_order_relaxed);
	if (watched & VS_WATCH_LATENCY) {
		uint64_t stamp = atomic_load_explicit(&w->stamp_at, memory_order_acquire);
		if (stamp != 0 && at + n >= stamp) {
			uint64_t now = vs_now_ns(), sent = atomic_load_explicit(&w->stamp_ns, memory_order_relaxed);
			if (at < stamp) /* else it went another way */
				rk_hist_record(&w->latency, now > sent ? now - sent : 0);
			atomic_store_explicit(&w->stamp_at, 0, memory_order_release);
		}
	}
	if (!(watched & VS_WATCH_HASH))
		return;
	if (w->rx.at != at) { /* what lay in between was moved to the kernel, or thrown away unseen */
		w->rx = (struct vs_hash){ .at = at };
		w->lost = true;
	}
	for (size_t left = n; left > 0;) {
		left = add_to_block(&w->rx, &to, left);
		if (w->rx.at % VS_WATCH_BLOCK == 0)
			compare(w);
	}
	if (w->rx.at % VS_WATCH_BLOCK)
		compare(w);
}
