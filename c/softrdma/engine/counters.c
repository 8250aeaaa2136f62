/* counters.c - the counters for whoever asks, by the list in counters.h. Exported beside the verbs (version node RDMAKIT_1). */
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
