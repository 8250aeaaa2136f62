/*
 * choice.h - which road is faster, by measurement: the connection's own traffic takes turns on both, and the better one is kept and asked
 * again ever more rarely. Bytes and calls a time are counted while the connection is busy; pauses are left out.
 */
#ifndef VS_CHOICE_H
#define VS_CHOICE_H

#include <stdbool.h>
#include <stdint.h>

enum { VS_CHOICE_ROUNDS = 3 };

struct vs_choice {
	bool rc;       /* the road to take now */
	bool trying;   /* a trial is under way */
	bool kept_rc;  /* what the last trial decided */
	unsigned round; /* windows of the trial that are over */
	uint64_t last_ns, busy_ns, window_ns; /* of this window */
	uint64_t rc_ns; /* what the trial has spent on the queue pair */
	uint64_t calls, bytes;
	unsigned members; /* connections that take the road together, the caller's: each needs some calls to change. 0 counts as one */
	uint64_t skip;	/* calls of the window's beginning that do not count yet */
	uint64_t astray; /* calls that went the other way */
	double rate[2][VS_CHOICE_ROUNDS]; /* kernel, rc */
	uint64_t wait_ns, trial_ns; /* how long what was decided is kept; when it was */
	uint64_t first_bells, all_calls, all_bytes; /* of this window, with what is skipped; before the first trial of the connection's life */
	double character; /* bytes a call when it was decided */
	uint64_t seen_calls, seen_bytes; /* since */
	double kernel_rate, rc_rate; /* of the last trial; 0: none */
	uint64_t trials;
};

/* `n` bytes have moved in either direction, on the queue pair or (not `rc`) by the kernel; `bells`: doorbells ever sent. Returns whether the road to take has changed. */
bool vs_choice_moved(struct vs_choice *c, uint64_t now_ns, uint64_t n, bool rc, uint64_t bells);

#endif
