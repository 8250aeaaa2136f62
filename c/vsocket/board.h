/*
 * board.h - how a sender tells a receiver that waits in an epoll set: a bit on the set's board in shared memory, so that the receiver
 * looks at a few words and not at every ring; and a doorbell besides when the receiver sleeps in the kernel.
 *
 * Nothing is lost: the sender publishes data, changes the bell's word, sets the bit, looks for sleepers; the receiver declares itself a
 * sleeper, looks at the board, sleeps. Bits are hints: whoever takes one looks at the ring.
 */
#ifndef VS_BOARD_H
#define VS_BOARD_H

#include "fdtable.h"
#include <stddef.h>

_Static_assert(VS_SLOTS * 2 / 64 == 128, "the summary has a bit for each word");

/* A board for this process, or NULL when there is none left. It says "forced" until the caller takes that away. */
struct vs_board *vs_board_take(void);
void vs_board_give(struct vs_board *b);
/* In a forked child: the boards are the parent's. */
void vs_board_forked(void);

extern uint32_t vs_board_pid; /* whose boards are this process's; 0: it has none */

static inline uint32_t vs_board_row(const struct vs_board *b) { return b ? (uint32_t)(b - vs_arena->board) + 1 : 0; }

static inline struct vs_board *vs_board_at(uint32_t row) { return row > 0 && row <= VS_BOARDS ? &vs_arena->board[row - 1] : NULL; }

static inline bool vs_board_is_own(uint32_t row)
{
	struct vs_board *b = vs_board_at(row);
	return b && vs_board_pid && atomic_load_explicit(&b->pid, memory_order_relaxed) == vs_board_pid;
}

/* The bit of an end: its index in all boards. */
static inline unsigned vs_board_bit(const struct vs_slot *slot, int side) { return (unsigned)(slot - vs_arena->slot) * 2 + (unsigned)side; }

/* Says that end `bit` has something to read. True when a doorbell is needed besides. */
static inline bool vs_board_post(struct vs_board *b, unsigned bit)
{
	atomic_fetch_or(&b->posted[bit / 64], UINT64_C(1) << (bit % 64));
	atomic_fetch_or(&b->summary[bit / 64 / 64], UINT64_C(1) << (bit / 64 % 64));
	return atomic_load(&b->sleepers) > 0 || atomic_load(&b->forced) != 0;
}

static inline bool vs_board_any(struct vs_board *b)
{
	return (atomic_load_explicit(&b->summary[0], memory_order_relaxed) | atomic_load_explicit(&b->summary[1], memory_order_relaxed)) != 0;
}

/* Takes all bits off and calls `f` with each of them. */
static inline void vs_board_collect(struct vs_board *b, void (*f)(unsigned bit, void *arg), void *arg)
{
	for (unsigned half = 0; half < 2; half++) {
		if (atomic_load_explicit(&b->summary[half], memory_order_relaxed) == 0)
			continue;
		for (uint64_t words = atomic_exchange(&b->summary[half], 0); words; words &= words - 1) {
			unsigned w = half * 64 + (unsigned)__builtin_ctzll(words);
			for (uint64_t bits = atomic_exchange(&b->posted[w], 0); bits; bits &= bits - 1)
				f(w * 64 + (unsigned)__builtin_ctzll(bits), arg);
		}
	}
}

#endif
