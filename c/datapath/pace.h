/* The measuring client's rhythm: warm-up, pacing, counting, recording, and when to end. The same for verbs and sockets, so
 * that their numbers mean the same. Internal. */
#ifndef RK_PACE_H
#define RK_PACE_H

#include "loop.h"

enum rk_outcome {
	RK_ANSWERED,
	RK_LOST, /* no answer in time on an unreliable transport: counted, and the run goes on */
	RK_END,	 /* stopped, or failed and recorded */
};

struct rk_pace {
	uint64_t iterations, warmup, duration_ns, interval_ns; /* as in the configurations */
	uint32_t size;
	uint32_t flags;
};

/* One exchange, number counted from 0 through warm-up and measuring. *begin and *end are its times in ticks. */
typedef enum rk_outcome (*rk_exchange)(void *state, uint64_t number, uint64_t *begin, uint64_t *end);

/* Runs exchanges until the pace is done, the loop is stopped, or one of them ends it. */
void rk_pace_run(struct rk_dp_loop *loop, const struct rk_pace *pace, rk_exchange exchange, void *state);

#endif
