/* counters.c - the counters for whoever asks, by the list in counters.h. Exported beside the verbs (version node RDMAKIT_1). */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "../core.h"

/* Number of counters of this process's embedded device. */
int rdmakit_counter_count(void);
/* Name of counter i, static; NULL when there is none. */
const char *rdmakit_counter_name(int i);
/* Its value now; 0 when there is none. Reading does not stop the data path: a value is as old as the load. */
uint64_t rdmakit_counter_value(int i);

static const char *const names[] = {
#define X(name) #name,
	SR_COUNTERS(X)
#undef X
};

#define COUNT ((int)(sizeof names / sizeof *names))

int rdmakit_counter_count(void) { return COUNT; }
const char *rdmakit_counter_name(int i) { return i >= 0 && i < COUNT ? names[i] : NULL; }
uint64_t rdmakit_counter_value(int i)
{
	return i >= 0 && i < COUNT ? __atomic_load_n((uint64_t *)&sr.counters + i, __ATOMIC_RELAXED) : 0;
}

/* To stderr, those that are not zero, a line each; when the process ends orderly and RDMAKIT_REPORT asks for it. */
void sr_counters_report(void)
{
	const char *wanted = getenv("RDMAKIT_REPORT");
	if (!wanted || strcmp(wanted, "1") != 0)
		return;
	for (int i = 0; i < COUNT; i++)
		if (rdmakit_counter_value(i))
			dprintf(STDERR_FILENO, "rdmakit: %s[%d] %s %llu\n", program_invocation_short_name, (int)getpid(), names[i],
				(unsigned long long)rdmakit_counter_value(i));
}
