/* spin.h - how long a wait looks at rings before it sleeps in the kernel. */
#ifndef VS_SPIN_H
#define VS_SPIN_H

#include "../sys.h"
#include <stdint.h>

#define VS_SPIN_MAX_NS 50000u
#define VS_SPIN_MIN_NS 1000u
/* Pure spinning, before the CPU is offered to others between looks. */
#define VS_PURE_SPIN_NS 2000u
/* How often a spinning wait asks the kernel about what else it waits for. */
#define VS_LOOK_NS 5000u

/* A wait that finds something in rings asks the kernel, too, when it has not done so for this long. */
#define VS_FAIR_TICKS (VS_TICKS_A_MS / 50)

static inline uint32_t vs_spin_budget(uint32_t learnt_ns) { return learnt_ns ? learnt_ns : VS_SPIN_MAX_NS; }

/* A wait of `waited_ns`, asleep or not, has ended, `by_ring` or otherwise. Spinning is worth it while replies come sooner than a sleeper is
 * woken; when they stop coming so soon it is given up step by step. */
static inline uint32_t vs_spin_learn(uint32_t budget_ns, uint64_t waited_ns, int by_ring)
{
	if (by_ring && waited_ns <= VS_SPIN_MAX_NS)
		return budget_ns * 2 > VS_SPIN_MAX_NS ? VS_SPIN_MAX_NS : budget_ns * 2;
	return budget_ns / 2 < VS_SPIN_MIN_NS ? VS_SPIN_MIN_NS : budget_ns / 2;
}

#endif
