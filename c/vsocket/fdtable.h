/*
 * fdtable.h - what this process knows of its descriptors: one word each, read without a lock on every call.
 *
 * Descriptors are closed and reused behind our back (inside the C library, by raw system calls), so a word is a hint about a
 * number until its connection has been looked at: every function we replace that returns or closes a descriptor forgets it.
 */
#ifndef VS_FDTABLE_H
#define VS_FDTABLE_H

#include "arena.h"

enum vs_fd_state {
	VS_FD_UNKNOWN, /* nothing is known */
	VS_FD_PASS,    /* the kernel's alone */
	VS_FD_TCP,     /* a TCP connection inside this host that has not been busy enough to be attached */
	VS_FD_CONN,    /* attached: has a slot */
};

/* A descriptor's word, unpacked. */
struct vs_fd {
	enum vs_fd_state state;
	unsigned side;
	unsigned ops;  /* calls seen before it was attached */
	bool fresh;    /* made in this process and not shared by a fork since */
	bool busy;     /* being attached by some thread */
	bool watched;  /* in an epoll set */
	bool remote;   /* its other end is on another host */
	bool datagram; /* a UDP socket (udp.h), of which `slot` is the place there; to all others it is the kernel's */
	unsigned slot;
	uint32_t gen;
};

#define VS_FD_MAX (1 << 20)
/* Up to here the C library's streams may read and write them, where nobody sees it: never accelerated. */
#define VS_FD_STDIO 2
extern _Atomic uint64_t *vs_fds; /* NULL before vs_fd_init() */

void vs_fd_init(void);

static inline uint64_t vs_fd_pack(struct vs_fd f)
{
	return (uint64_t)f.state | (uint64_t)f.side << 2 | (uint64_t)(f.ops & 15) << 4 | (uint64_t)f.fresh << 8 | (uint64_t)f.busy << 9 | (uint64_t)f.watched << 10 | (uint64_t)f.remote << 11 |
	       (uint64_t)f.datagram << 12 |
	       (uint64_t)f.slot << 16 | (uint64_t)f.gen << 32;
}

static inline struct vs_fd vs_fd_unpack(uint64_t w)
{
	return (struct vs_fd){ .state = w & 3,
			       .side = (w >> 2) & 1,
			       .ops = (w >> 4) & 15,
			       .fresh = (w >> 8) & 1,
			       .busy = (w >> 9) & 1,
			       .watched = (w >> 10) & 1,
			       .remote = (w >> 11) & 1,
			       .datagram = (w >> 12) & 1,
			       .slot = (w >> 16) & 0xffff,
			       .gen = (uint32_t)(w >> 32) };
}

/* Nothing is ours any more, and no call of the kernel's may be made that the application has not asked for. */
extern _Atomic bool vs_fd_silent;
/* From now on. */
void vs_fd_fall_silent(void);

static inline uint64_t vs_fd_word(int fd)
{
	if (__builtin_expect((unsigned)fd >= VS_FD_MAX || !vs_fds || vs_fd_silent, 0))
		return VS_FD_PASS;
	return atomic_load_explicit(&vs_fds[fd], memory_order_acquire);
}

static inline bool vs_fd_is_datagram(uint64_t word) { return (word & (3 | 1u << 12)) == (VS_FD_PASS | 1u << 12); }

/* A connection as one call sees it. */
struct vs_conn {
	struct vs_slot *slot;
	int side;
	uint32_t gen;
};

static inline struct vs_dir *vs_tx(const struct vs_conn *c) { return &c->slot->dir[c->side]; }
static inline struct vs_dir *vs_rx(const struct vs_conn *c) { return &c->slot->dir[!c->side]; }

enum vs_use {
	VS_USE_PASS,   /* make the kernel's call */
	VS_USE_COUNTED,/* make the kernel's call, then vs_fd_native_done() */
	VS_USE_CONN,   /* `*c` is filled in */
};

/* Called before every transfer on `fd`: looks it up, finds out what it is, attaches it when it is time. `count`: this call may be made
 * natively for as long as it likes, so nobody may attach meanwhile. */
enum vs_use vs_fd_use(int fd, struct vs_conn *c);
void vs_fd_native_done(int fd);

/* Only what is known: true when attached. Never attaches. */
static inline bool vs_fd_conn(int fd, struct vs_conn *c)
{
	uint64_t w = vs_fd_word(fd);
	if ((w & 3) != VS_FD_CONN)
		return false;
	struct vs_fd f = vs_fd_unpack(w);
	*c = (struct vs_conn){ &vs_arena->slot[f.slot], (int)f.side, f.gen };
	return true;
}

/* As vs_fd_conn(), and it must really be this socket: asks the kernel for its cookie. For calls that are rare. */
bool vs_fd_conn_checked(int fd, struct vs_conn *c);

/* The number now names something else, or nothing. */
void vs_fd_forget(int fd);
/* The number is a socket that was made just now. */
void vs_fd_fresh(int fd);
/* The number is a UDP socket, at `index` of udp.h. */
void vs_fd_set_datagram(int fd, unsigned index);
/* The number is an exact copy of another. */
void vs_fd_copied(int from, int to);
/* This socket is not to be accelerated. If it is already, the caller demotes it. */
void vs_fd_refuse(int fd);
/* This process uses its descriptors in ways that cannot be seen: nothing more is attached. */
void vs_fd_give_up(void);
/* Before a fork, and after one that failed (-1): every connection has one more holder. Before, because the parent may close its
 * descriptors while the child has not run yet. */
void vs_fd_before_fork(void);
void vs_fd_hold(int change);
/* After a fork, in both: what is not attached yet will be at its first use, because the other process may be using the socket too. */
void vs_fd_forked(bool child);
/* It is in an epoll set now. */
void vs_fd_watched(int fd);
/* No descriptor above this one is known of. */
int vs_fd_highest(void);
/* Around an exec: what this process holds, it will still hold as another program. */
void vs_fd_bequeath(bool begin);
/* The process ends: every connection is closed as close() would. */
void vs_fd_close_all(void);
/* How many descriptors of this process name this end. */
unsigned vs_fd_copies(const struct vs_conn *c);
/* Calls `f` with every attached descriptor. */
void vs_fd_each(void (*f)(int fd, const struct vs_conn *c, void *arg), void *arg);

#endif
