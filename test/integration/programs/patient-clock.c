/*
 * patient-clock.c - preloaded into perftest by the tests. Before it measures anything, each of its processes learns the CPU's frequency by asking
 * gettimeofday() for nearly a second without a pause, one pair of programs after the other, hundreds of times a test run. Here every few of its
 * questions wait a moment, which leaves the CPU to others; the answers are the true time.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

#define QUESTIONS 4u
#define NAP_NS 200000

static int is_perftest; /* and not a program that starts it, or that it starts */

__attribute__((constructor)) static void look_who_it_is(void) { is_perftest = !strncmp(program_invocation_short_name, "ib_", 3); }

int gettimeofday(struct timeval *restrict tv, void *restrict zone)
{
	static __thread unsigned questions;
	struct timespec now;
	(void)zone;
	if (is_perftest && ++questions % QUESTIONS == 0)
		nanosleep(&(struct timespec){ 0, NAP_NS }, NULL);
	clock_gettime(CLOCK_REALTIME, &now);
	*tv = (struct timeval){ now.tv_sec, now.tv_nsec / 1000 };
	return 0;
}
