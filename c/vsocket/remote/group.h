/*
 * group.h - connections of this process to one host whose messages are alike. They have one choice of the road, because they share what it
 * costs: while one of many tries the other road alone its rate tells little, and when each tries at its own time no rate tells anything.
 */
#ifndef VS_GROUP_H
#define VS_GROUP_H

#include "choice.h"
#include <stdatomic.h>

struct vs_group;

/* A connection's part. Zeroed memory is one of none. */
struct vs_group_member {
	struct vs_group *_Atomic group;
	uint64_t bells;		/* its own, when it was looked at last */
	uint64_t calls, bytes;	/* since its kind was looked at last */
	bool known;		/* it has been looked at over many calls */
	_Atomic bool told;	/* what the other end was told last: the caller's */
	_Atomic bool settled;	/* at the last call */
	_Atomic uint32_t waiting_calls, waiting_bytes; /* that the group has not heard of */
};

/* Joins those who exchange small messages with this host (an IPv6 address, IPv4 mapped), or begins such a group. Nothing when it has one. */
void vs_group_join(struct vs_group_member *m, const uint8_t host[16]);
/* With the last one what was decided is forgotten. */
void vs_group_leave(struct vs_group_member *m);
/* Whether the queue pair is the road to take now. Without locks; false of a member of none. */
bool vs_group_wants_rc(const struct vs_group_member *m);
/* A call whose `n` bytes the group need not hear of at once, because nothing is being measured: noted, and true. Of two threads at once some
 * are lost. */
bool vs_group_can_wait(struct vs_group_member *m, uint64_t n);
/* As vs_choice_moved(), also for what has waited; `bells`: those of this connection. One thread a member at a time. Returns whether the road to
 * take is another than the other end was told, or whether it is there to stay another than at the last call. */
bool vs_group_moved(struct vs_group_member *m, const uint8_t host[16], uint64_t now_ns, uint64_t n, bool rc, uint64_t bells);
/* What was decided; false while it is being tried. */
bool vs_group_decided(const struct vs_group_member *m, bool *rc);
/* After fork: nobody is in a group. */
void vs_group_forget(void);

#endif
