/*
 * arena.h - the memory file that processes of a user share, found without a daemon: a small file in the user's runtime directory
 * lists who has it open, and a newcomer opens it through /proc of any of them. The memory lives exactly as long as somebody has it.
 */
#ifndef VS_ARENA_H
#define VS_ARENA_H

#include "layout.h"

extern struct vs_arena *vs_arena; /* NULL until vs_arena_open() has succeeded */

/* Finds or makes the arena; once a process. Returns 0 or -errno of the one attempt that is made. */
int vs_arena_open(void);

/* Looks at the arena that there is, read only, as nobody's end. Returns 0, or -errno: -ENOENT when no process has one. */
int vs_arena_look(void);

/* The descriptor that keeps the arena findable, or -1. The application must not close it. */
int vs_arena_fd(void);

/* Files this process as a holder of the arena; after fork, in the child. */
void vs_arena_enlist(void);

/* Makes this process an end of the connection `key`: finds the slot the other end has made or makes one. Returns NULL when there
 * is no room. `shared`: another process may be an end of it already. `*gen` is the slot's generation. */
struct vs_slot *vs_arena_attach(const struct vs_key *key, int side, uint64_t cookie, bool shared, uint32_t *gen);

/* The slot of a connection, without becoming an end of it; NULL when there is none. */
struct vs_slot *vs_arena_find(const struct vs_key *key, uint32_t *gen);

/* The same by the socket of one end, for a connection whose addresses the kernel has forgotten. */
bool vs_arena_find_cookie(uint64_t cookie, struct vs_key *key, int *side);

/* A slot that must not be met by others any more (its other end belongs to the past); its holder keeps using it natively. */
void vs_arena_unfile(struct vs_slot *slot);

/* A process has given up an end. Frees the slot when nobody is left at either end. */
void vs_arena_detach(struct vs_slot *slot, int side);

/* The ring of a direction. */
static inline unsigned char *vs_ring_of(const struct vs_slot *slot, int dir)
{
	uint64_t index = (uint64_t)(slot - vs_arena->slot) * 2 + (uint64_t)dir;
	return (unsigned char *)vs_arena + VS_RINGS_AT + index * VS_RING_MAX;
}

#endif
