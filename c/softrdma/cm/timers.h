/* timers.h - a binary heap of deadlines. A timer is a member of what it belongs to. */
#ifndef SR_CM_TIMERS_H
#define SR_CM_TIMERS_H
#include <stddef.h>
#include <stdint.h>

struct sr_cm_timer {
	uint64_t due_ns;
	size_t at; /* place in the heap plus one; 0 when not running */
};

struct sr_cm_timers {
	struct sr_cm_timer **heap;
	size_t count, room;
};

/* Makes room for one more timer than `timers` timers need, so that setting never fails. 0 or ENOMEM. */
int sr_cm_timers_reserve(struct sr_cm_timers *t, size_t timers);
void sr_cm_timer_set(struct sr_cm_timers *t, struct sr_cm_timer *timer, uint64_t due_ns);
void sr_cm_timer_stop(struct sr_cm_timers *t, struct sr_cm_timer *timer);
/* The earliest, or NULL. */
struct sr_cm_timer *sr_cm_timers_first(const struct sr_cm_timers *t);
void sr_cm_timers_free(struct sr_cm_timers *t);
#endif
