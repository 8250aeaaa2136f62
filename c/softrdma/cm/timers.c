/* timers.c - see timers.h. */
#include "timers.h"
#include <errno.h>
#include <stdlib.h>

static void place(struct sr_cm_timers *t, size_t i, struct sr_cm_timer *timer)
{
	t->heap[i] = timer;
	timer->at = i + 1;
}

static void up(struct sr_cm_timers *t, size_t i, struct sr_cm_timer *timer)
{
	for (; i > 0 && t->heap[(i - 1) / 2]->due_ns > timer->due_ns; i = (i - 1) / 2)
		place(t, i, t->heap[(i - 1) / 2]);
	place(t, i, timer);
}

static void down(struct sr_cm_timers *t, size_t i, struct sr_cm_timer *timer)
{
	for (size_t child; (child = 2 * i + 1) < t->count; i = child) {
		if (child + 1 < t->count && t->heap[child + 1]->due_ns < t->heap[child]->due_ns)
			child++;
		if (t->heap[child]->due_ns >= timer->due_ns)
			break;
		place(t, i, t->heap[child]);
	}
	place(t, i, timer);
}

int sr_cm_timers_reserve(struct sr_cm_timers *t, size_t timers)
{
	if (timers < t->room)
		return 0;
	size_t room = t->room ? t->room * 2 : 64;
	while (room <= timers)
		room *= 2;
	struct sr_cm_timer **heap = realloc(t->heap, room * sizeof(*heap));
	if (!heap)
		return ENOMEM;
	t->heap = heap;
	t->room = room;
	return 0;
}

void sr_cm_timer_stop(struct sr_cm_timers *t, struct sr_cm_timer *timer)
{
	if (!timer->at)
		return;
	size_t i = timer->at - 1;
	struct sr_cm_timer *last = t->heap[--t->count];
	timer->at = 0;
	if (last == timer)
		return;
	if (i > 0 && t->heap[(i - 1) / 2]->due_ns > last->due_ns)
		up(t, i, last);
	else
		down(t, i, last);
}

void sr_cm_timer_set(struct sr_cm_timers *t, struct sr_cm_timer *timer, uint64_t due_ns)
{
	sr_cm_timer_stop(t, timer);
	timer->due_ns = due_ns;
	up(t, t->count++, timer);
}

struct sr_cm_timer *sr_cm_timers_first(const struct sr_cm_timers *t) { return t->count ? t->heap[0] : NULL; }

void sr_cm_timers_free(struct sr_cm_timers *t)
{
	free(t->heap);
	*t = (struct sr_cm_timers){ 0 };
}
