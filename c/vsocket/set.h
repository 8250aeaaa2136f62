/*
 * set.h - the epoll sets of this process: what is in them, and which of it has something in a ring. The kernel's set stays complete; ours
 * lets a wait look at rings first, so that a message to a server that waits in epoll costs no system call.
 *
 * Changes of interest in a connection are not told to the kernel at once, but only when it is about to be asked: programs that switch between
 * reading and writing with every message would make little but such calls, most of which undo each other.
 *
 * A set that may be waited for in ways that are not seen (inherited, copied, in another set) is left to the kernel: its connections
 * are "eager" and get a doorbell a message.
 */
#ifndef VS_SET_H
#define VS_SET_H

#include "fdtable.h"
#include <sys/epoll.h>

/* An epoll descriptor has been made here. */
void vs_set_created(int ep);

/* epoll_ctl(): makes the kernel's call (`real`) and keeps our side. Returns what it returns. */
typedef int vs_ctl_fn(int ep, int op, int fd, struct epoll_event *event);
int vs_set_ctl(int ep, int op, int fd, struct epoll_event *event, vs_ctl_fn *real);

/* A descriptor that is in a set has been attached (`relax`: just now, and marked as eager only because it is in a set). True when its set
 * looks at its ring by itself; otherwise it must be eager. */
bool vs_set_attached(int fd, const struct vs_conn *c, bool relax);

/* The number is about to name something else: as a member, and as a set. */
void vs_set_forget(int fd);

/* The set may be waited for without our knowing, from now on. Nothing when `ep` is no set. */
void vs_set_force(int ep);

struct vs_set;
/* NULL when nothing is known of it. To be given back by vs_set_leave(). */
struct vs_set *vs_set_enter(int ep);
void vs_set_leave(struct vs_set *s);
/* Whether any member has a ring. */
bool vs_set_has_rings(const struct vs_set *s);
/* Whether something may be ready in a ring: it is known already, or a sender has said so. */
bool vs_set_ready(struct vs_set *s);
/* Around a wait in the kernel. `*how`: how the waiter is counted, for vs_set_wake(). After it, vs_set_ready() is to be asked once more. */
enum vs_sleep_kind { VS_SLEEP_BLIND, VS_SLEEP_POSTED };
struct vs_udp;
struct vs_sleep {
	enum vs_sleep_kind kind;
	unsigned sockets; /* of the next: UDP sockets that this thread sleeps for */
	struct vs_udp *socket[64];
};
void vs_set_sleep(struct vs_set *s, vs_ctl_fn *real, struct vs_sleep *how);
void vs_set_wake(struct vs_set *s, const struct vs_sleep *how);
/* Tells the kernel what it has not been told: before it is asked. */
void vs_set_flush(struct vs_set *s, vs_ctl_fn *real);
/* Of all sets: before other processes or programs may use them. */
void vs_set_flush_all(vs_ctl_fn *real);
/* Adds what rings have to the `n` events that the kernel told of, in a call before which vs_set_clock() was `since`, and takes away those
 * of them that were only doorbells. Returns the number of events. */
int vs_set_merge(struct vs_set *s, struct epoll_event *events, int n, int max, uint64_t since, vs_ctl_fn *real);
uint64_t vs_set_clock(struct vs_set *s);
/* How long a wait spins before it sleeps; where it is learnt. */
_Atomic uint32_t *vs_set_spin_ns(struct vs_set *s);
/* When the kernel's set was last looked at (vs_ticks()). */
_Atomic uint64_t *vs_set_looked(struct vs_set *s);

/* In a forked child: the sets are the parent's too. */
void vs_set_forked(void);

#endif
