/* progress.c - one round of work on both roads. */
#include "../shm/shm.h"
#include "helper.h"
#include "lock.h"

/* A look at the socket is a system call, ten times dearer than a look at the rings: with only UD queue pairs on the wire, and
 * silence there, it is done once in so many polls. */
#define WIRE_QUIET_POLLS 16
#define WIRE_HOT_POLLS 2048
#define POLLS_BEFORE_STAND_BACK 64

int sr_progress_locked(bool in_poll)
{
	static uint32_t hot, quiet;
	int done = 0;

	sr.in_poll = in_poll;
	if (in_poll) {
		atomic_store_explicit(&sr.polls, atomic_load_explicit(&sr.polls, memory_order_relaxed) + 1, memory_order_relaxed);
		if (sr.helper_asleep && ++sr.polls_asleep > POLLS_BEFORE_STAND_BACK)
			sr_helper_stand_back();
	}
	done = sr_shm_progress();
	if (sr.wire_users && (!in_poll || sr.wire_connected || hot || ++quiet >= WIRE_QUIET_POLLS)) {
		int n = sr_wire_progress();
		quiet = 0;
		if (n)
			hot = WIRE_HOT_POLLS;
		else if (hot)
			hot--;
		done += n;
	}
	if (done && sr.wire_connected)
		sr_wire_active();
	sr.in_poll = false;
	return done;
}
