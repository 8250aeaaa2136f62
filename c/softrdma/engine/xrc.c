/* xrc.c - see xrc.h. */
#include "xrc.h"
#include <errno.h>
#include "key.h"

int sr_xrc_enter(struct sr_srq *srq)
{
	for (int tries = 0; tries < 1 << 18; tries++) {
		uint32_t index = sr_random32() & (SR_QP_INDEX_MAX - 1);
		if (index && !sr.srqs[index]) {
			srq->id = sr.slot << SR_QP_INDEX_BITS | index;
			sr.srqs[index] = srq;
			return 0;
		}
	}
	return ENOMEM;
}

static void let_go(struct sr_qp *target)
{
	target->rx->active = false;
	target->srq = NULL;
	target->pd = NULL;
	target->recv_cq = NULL;
}

void sr_xrc_leave(struct sr_srq *srq)
{
	uint32_t index = sr_qpn_index(srq->id);
	if (sr.srqs && sr.srqs[index] == srq) /* not one that a fork has left behind */
		sr.srqs[index] = NULL;
	sr_list_for(n, tmp, &sr.xrc_targets) {
		struct sr_qp *target = sr_list_entry(n, struct sr_qp, xrc_node);
		if (target->srq == srq)
			let_go(target);
	}
}

static struct sr_srq *find(const struct sr_qp *target, uint32_t srqn)
{
	struct sr_srq *srq = sr.srqs ? sr.srqs[sr_qpn_index(srqn)] : NULL;
	return srq && srq->id == srqn && sr_xrc_same_domain(&srq->xrcd->domain, &target->domain) ? srq : NULL;
}

bool sr_xrc_aim(struct sr_qp *target, uint32_t srqn, bool begins)
{
	if (target->srq && target->srq->id == srqn)
		return true;
	struct sr_srq *srq = begins && !target->rx->active ? find(target, srqn) : NULL;
	if (!srq)
		return false;
	target->srq = srq;
	target->pd = (struct sr_pd *)srq->srq.pd;
	target->recv_cq = srq->cq;
	return true;
}

const struct sr_pd *sr_xrc_pd(const struct sr_qp *qp, uint32_t srqn)
{
	if (qp->type != IBV_QPT_XRC_RECV)
		return qp->pd;
	struct sr_srq *srq = find(qp, srqn);
	return srq ? (struct sr_pd *)srq->srq.pd : NULL;
}
