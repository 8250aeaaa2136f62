/*
 * set-members.h - the tables behind set.h, shared by the files that change them and the one that waits. Functions are under the set's lock
 * unless they say otherwise. Members are found by their descriptor's number.
 */
#ifndef VS_SET_MEMBERS_H
#define VS_SET_MEMBERS_H

#include "board.h"
#include "conn.h"
#include "lock.h"
#include "set.h"

#define VS_SETS 256
#define VS_SET_BUCKETS 512
#define VS_IN_EVENTS (EPOLLIN | EPOLLRDNORM)
#define VS_OUT_EVENTS (EPOLLOUT | EPOLLWRNORM)
#define VS_NO_BIT UINT32_MAX

/* A descriptor in a set; found by its number. Links are numbers + 1. */
struct vs_member {
	_Atomic uint16_t set; /* index + 1; 0: in none */
	bool spent;	      /* one-shot, and told */
	bool ready;	      /* in the list */
	bool ringed;	      /* its ring is, or was, looked at */
	bool many;	      /* in another set as well, of which nothing is known */
	bool removed;	      /* the application has taken it out, and the kernel does not know */
	uint64_t armed;	      /* one-shot: the set's clock when it was last asked for */
	bool untold;	      /* in the list of those of which the kernel does not know everything */
	uint32_t events;
	uint32_t bit; /* its end of a connection; VS_NO_BIT: the kernel tells all of it */
	uint64_t data;
	int next; /* in the bucket */
	int next_untold;
	struct epoll_event told; /* what the kernel knows */
	int before, after; /* in the list of ready ones */
	uint32_t round;	   /* of the merge that told of it last */
	int at;		   /* and where */
};

/* UDP sockets of a set whose inboxes are looked at; further ones are the kernel's. */
#define VS_SET_DATAGRAMS 64
struct vs_datagram_member {
	_Atomic int fd;
	_Atomic uint64_t told; /* edge-triggered: how far its inbox had come when it was told */
};

struct vs_set {
	_Atomic uint32_t lock;
	_Atomic uint32_t inside; /* threads that wait for it */
	_Atomic uint32_t blind;	 /* of these, in the kernel and not counted on the board */
	bool open, whole;	 /* whole: all members are known */
	bool lent;		 /* somebody may wait for it who does not look here */
	bool inherited;		 /* a child may have it, too: interest in what the kernel tells is told at once */
	_Atomic bool one_shots;	 /* some member is, or was, one-shot */
	_Atomic bool waited;	 /* it has been waited for here: UDP sockets in it may have their inboxes open, and interest may be told late */
	_Atomic uint32_t asleep; /* threads in the kernel, of whatever kind */
	_Atomic uint32_t datagrams; /* of the next */
	struct vs_datagram_member datagram[VS_SET_DATAGRAMS];
	int ep;
	struct vs_board *_Atomic board; /* given under the lock, looked for without it */
	_Atomic uint32_t rings; /* members with a bit */
	_Atomic int first;	/* of the list of ready ones, number + 1 */
	int last;
	int untold; /* the first of which the kernel does not know everything, number + 1 */
	uint32_t round;
	_Atomic uint64_t clock; /* counts what was asked for with one-shot */
	_Atomic uint32_t spin_ns;
	_Atomic uint64_t looked;
	int bucket[VS_SET_BUCKETS];
};

extern struct vs_set *vs_sets;	     /* VS_SETS of them */
extern struct vs_member *vs_members; /* VS_FD_MAX */
extern _Atomic int32_t *vs_member_of_bit; /* descriptor + 1 */
extern _Atomic uint32_t vs_sets_lock; /* which sets there are; taken before a set's own */

/* Without a lock. Whether there can be a member, or a set, of this number. */
bool vs_set_known(int fd);
static inline struct vs_set *vs_set_at(unsigned index_plus_1) { return index_plus_1 ? &vs_sets[index_plus_1 - 1] : NULL; }
struct vs_set *vs_set_find(int ep);
/* Makes our side of an epoll descriptor; `whole`: it has no members yet. */
void vs_set_create(int ep, bool whole);
/* The number names this set no more. Under vs_sets_lock. */
void vs_set_unname(int ep);
/* False: this thread has it already, in what a signal handler has interrupted. */
bool vs_set_lock(struct vs_set *s);
/* Locks the set that a descriptor is in; NULL: in none. */
struct vs_set *vs_set_lock_of(int fd);

/* The list of members that may be ready. */
void vs_set_list(struct vs_set *s, int fd);
void vs_set_unlist(struct vs_set *s, int fd);
/* For vs_board_collect(): lists the member that a bit stands for. */
void vs_set_collected(unsigned bit, void *set);
/* What our side knows to be ready of what the member asks for: a ring with data, and room in one (the twin under it is as good as empty).
 * Of directions outside of rings the kernel tells. */
uint32_t vs_member_ready(const struct vs_member *m, const struct vs_conn *c);
/* Whether the member's end is still the connection that it was enlisted for. */
bool vs_member_conn(const struct vs_member *m, int fd, struct vs_conn *c);

/* Members by what the application calls them. */
void vs_set_link_data(struct vs_set *s, int fd);
void vs_set_unlink_data(struct vs_set *s, int fd);
#define VS_NOBODY (-1)
#define VS_SEVERAL (-2)
/* The only member with this data, VS_NOBODY or VS_SEVERAL. */
int vs_set_member_with(const struct vs_set *s, uint64_t data);

/* Its ring is nobody's to look at any more. */
void vs_set_drop_ring(struct vs_set *s, int fd);
/* It is no member any more. */
void vs_set_drop(struct vs_set *s, int fd);
void vs_set_give_board(struct vs_set *s);

/* UDP sockets (set-datagrams.c). */
/* A member has been added, or its interest has changed. Nothing when it is no UDP socket. */
void vs_set_note_datagram(struct vs_set *s, int fd);
void vs_set_drop_datagram(struct vs_set *s, int fd);
/* All of them are waited for in ways that are not seen. */
void vs_set_lend_datagrams(struct vs_set *s);
/* Without the lock. */
bool vs_set_datagrams_ready(struct vs_set *s);
bool vs_set_has_inboxes(const struct vs_set *s);
/* This thread, the only one inside, is about to wait. */
void vs_set_begin_wait(struct vs_set *s);
/* Adds what their inboxes have to `n` events. Returns the number of events. */
int vs_set_merge_datagrams(struct vs_set *s, struct epoll_event *events, int n, int max);

/* The kernel is told of one member, or of all of whom it does not know everything. */
void vs_set_forget_untold(struct vs_set *s, int fd);
void vs_set_tell_kernel(struct vs_set *s, int fd, vs_ctl_fn *real);
void vs_set_tell_all(struct vs_set *s, vs_ctl_fn *real);

#endif
