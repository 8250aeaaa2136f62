/*
 * udp-route.h - where the datagrams of a socket are received: the kernel is asked, and its answer kept for a short while.
 *
 * By asking it which socket it would choose, everything that has a say in it is taken into account (SO_REUSEPORT, connected sockets,
 * wildcard addresses), and who was killed is noticed. A new listener on a more specific address gets its first datagram when
 * the answer has grown old.
 */
#ifndef VS_UDP_ROUTE_H
#define VS_UDP_ROUTE_H

#include "inbox.h"
#include "remote.h"

/* One destination. */
struct vs_route {
	struct vs_endpoint key; /* where to, as the caller calls it */
	struct vs_endpoint to, from;
	uint32_t changes; /* of the routes when it was made */
	uint32_t sends;	  /* since then */
	uint32_t inbox;	  /* index + 1; 0: the kernel's */
	uint32_t gen;
	uint32_t put_inbox; /* index + 1: where something was laid in last, */
	uint64_t put_tail;  /* and up to where, when it may not have been read */
	uint64_t asked, lasts; /* vs_ticks(): when the kernel was asked, and how long that is good */
	uint64_t far;	       /* on another host: what stands for the receiver (remote.h); 0: the kernel's */
};

#define VS_ROUTES 1024
/* The destinations of a socket. Under a lock of the caller's, but for `changes`. */
struct vs_routes {
	struct vs_far_sender sender; /* the socket; without what a call tells */
	_Atomic bool far;	  /* some were on other hosts */
	_Atomic uint32_t changes; /* counts what makes all answers invalid */
	struct vs_route last;	  /* the one of a socket that has one */
	struct vs_route *more;	  /* VS_ROUTES of them, by hash; a destination may lose its place to another */
	struct vs_route none;	  /* of a destination without a place */
};

/* Where datagrams to `to` (NULL: to whom the socket is connected) go. To be called once a datagram. */
struct vs_route *vs_routes_find(struct vs_routes *r, int fd, const struct vs_endpoint *to);
static inline struct vs_inbox *vs_route_inbox(const struct vs_route *e) { return e->inbox ? &vs_arena->inbox[e->inbox - 1] : NULL; }
/* What was laid in has come up to `tail`. */
static inline void vs_route_put(struct vs_route *e, uint64_t tail)
{
	e->put_inbox = e->inbox;
	e->put_tail = tail;
}
/* Before a datagram takes the kernel: what was laid in before is to be read before, so it is waited for, though not for long. */
void vs_route_settle(struct vs_route *e);
/* The address that a socket has. False: it has none that can be named. */
bool vs_route_own_name(int fd, struct vs_endpoint *own);
/* For another socket: keeps the memory. */
void vs_routes_reset(struct vs_routes *r, const struct vs_far_sender *sender);

#endif
