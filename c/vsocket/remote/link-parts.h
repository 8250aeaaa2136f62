/*
 * link-parts.h - what the files of a link share: link.c (its life), link-post.c (the send queue), link-poll.c (completions), link-send.c and
 * link-receive.c (the two halves of the operations of remote.h), ops.c (their table).
 */
#ifndef VS_LINK_PARTS_H
#define VS_LINK_PARTS_H

#include "link.h"
#include "../sys.h"
#include "../twin.h"

/* Kind of a work request (its id): a receive; else a send. Below it the slot's number from bit 16 on, and the number of the note. */
#define VS_WR_RECV (UINT64_C(1) << 32)

static inline unsigned vs_link_index(const struct vs_conn *c) { return (unsigned)(c->slot - vs_arena->slot); }

static inline bool vs_link_usable(struct vs_link *l)
{
	return l->qp && !atomic_load(&l->broken) && atomic_load(&l->state) == VS_LINK_UP;
}

/* The other host's address. */
static inline const uint8_t *vs_link_there(const struct vs_link *l) { return l->c.slot->key.end[!l->c.side].addr; }

/* Its descriptor is still the connection's. */
static inline bool vs_link_has_fd(const struct vs_link *l)
{
	struct vs_conn at;
	return vs_fd_conn(l->fd, &at) && at.slot == l->c.slot && at.gen == l->c.gen;
}

/* link.c */

/* Whatever is wrong: nothing is lost but the road. */
void vs_link_break(struct vs_link *l);
/* Between the preparation of a fork and its end: no ring epoch begins. */
extern _Atomic bool vs_link_forking;
/* RDMAKIT_SOCKET_RING=random: changes of the road at random, and failures of the link. */
bool vs_link_random(void);
/* In a forked child: the links are the parent's. */
void vs_link_forget(void);
/* The last link that this slot had, in whatever state; NULL: none ever. */
struct vs_link *vs_link_at(unsigned slot);

/* link-post.c */

/* Waits until the send queue has room for data. False: there is nothing to send with. */
bool vs_link_has_room(struct vs_link *l);
/* Sends a note. Does not wait for room: there is some for notes, because data leaves it. */
bool vs_link_note(struct vs_link *l, struct vs_note n);
/* Writes `n` bytes that lie in our ring at `at` into the peer's, at the same place; `bell`: 0 or VS_IMM_BELL. */
bool vs_link_data(struct vs_link *l, uint64_t at, size_t n, uint32_t size, uint32_t bell);

/* link-poll.c */

/* Takes all completions; `patient`: may wait some microseconds. Under vs_poll_lock. */
void vs_link_take(bool patient);

/* link-send.c */
bool vs_link_twin_dead(int fd);
/* A pause in a wait that began at `since_ns`. */
void vs_link_rest(uint64_t since_ns);
/* How long the receiver of a failed queue pair is waited for. */
uint64_t vs_link_patience_ns(int fd);

/* link-receive.c */

/* Answers a question whether a ring epoch may follow, if it can be answered now. */
void vs_link_grant(struct vs_link *l);

/* Operations: as remote.h has them. */
void vs_link_op_nap(void);
void vs_link_op_poll(void);
void vs_link_op_sync(void);
void vs_link_op_doze(void);
bool vs_link_op_may_start(const struct vs_conn *c);
bool vs_link_op_start(const struct vs_conn *c);
bool vs_link_op_sent(const struct vs_conn *c, int fd, uint64_t at, size_t n);
bool vs_link_op_end(const struct vs_conn *c, int fd);
void vs_link_op_rung(const struct vs_conn *c);
uint64_t vs_link_op_reader(const struct vs_conn *c, uint64_t ring);
void vs_link_op_moved(const struct vs_conn *c, size_t n, bool rc);
void vs_link_op_consumed(const struct vs_conn *c);
void vs_link_op_arm(const struct vs_conn *c, uint64_t seen);
void vs_link_op_settle(const struct vs_conn *c);
bool vs_link_op_freeze(const struct vs_conn *c, int fd);
void vs_link_op_reading(const struct vs_conn *c);
bool vs_link_op_died(const struct vs_conn *c);

#endif
