/*
 * xrc.h - extended reliable connections (InfiniBand Architecture Specification, annex A14): a target queue pair serves whichever
 * receive queue of its domain each request names. Under sr.lock.
 *
 * A request is executed as if the target belonged to that queue: its receives, its completion queue, and its protection domain for
 * remote keys. The target borrows these (sr_xrc_aim), so that the responders of both roads need no other code for XRC.
 */
#ifndef SR_XRC_H
#define SR_XRC_H
#include "../core.h"

static inline bool sr_xrc_same_domain(const struct sr_xrc_domain *a, const struct sr_xrc_domain *b)
{
	return a->dev == b->dev && a->ino == b->ino && a->ifindex == b->ifindex;
}

/* An unpredictable number for the queue, and its row. 0 or ENOMEM. */
int sr_xrc_enter(struct sr_srq *srq);
/* The queue goes: targets that have borrowed of it let go. */
void sr_xrc_leave(struct sr_srq *srq);
/* Points the target at the queue that a message, or a further part of it, names. False when the number is none of its domain's, or
 * not the one that the message began with. */
bool sr_xrc_aim(struct sr_qp *target, uint32_t srqn, bool begins);
/* The domain of memory that a queue pair's peer may reach: its own, or, of a target, that of the queue a request named; NULL when that
 * is gone. */
const struct sr_pd *sr_xrc_pd(const struct sr_qp *qp, uint32_t srqn);
#endif
