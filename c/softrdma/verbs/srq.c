/* srq.c - shared receive queues, those of XRC domains too. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "../device/limits.h"
#include "../engine/lock.h"
#include "../engine/xrc.h"
#include "rq.h"

/* Makes one; XRC when there is an xrcd, and then with a completion queue. */
static struct ibv_srq *create(struct ibv_context *ctx, struct ibv_srq_init_attr_ex *init, struct sr_xrcd *xrcd)
{
	static _Atomic uint32_t last_id;
	struct ibv_srq_attr *attr = &init->attr;
	if (!attr->max_wr || attr->max_wr > SR_LIMIT_SRQ_WR || attr->max_sge > SR_MAX_SGE) {
		errno = EINVAL;
		return NULL;
	}
	struct sr_srq *srq = calloc(1, sizeof *srq);
	int err = srq ? sr_rq_init(&srq->rq, attr->max_wr, attr->max_sge) : ENOMEM;
	if (!err && xrcd) {
		srq->xrcd = xrcd;
		srq->cq = sr_cq(init->cq);
	}
	if (!err) {
		srq->srq.context = ctx;
		srq->srq.srq_context = init->srq_context;
		srq->srq.pd = init->pd;
		pthread_mutex_init(&srq->srq.mutex, NULL);
		pthread_cond_init(&srq->srq.cond, NULL);
		if (xrcd) {
			sr_lock();
			err = sr_xrc_enter(srq);
			sr_unlock();
		} else {
			srq->id = atomic_fetch_add(&last_id, 1) + 1;
		}
	}
	if (err) {
		if (srq)
			sr_rq_free(&srq->rq);
		free(srq);
		errno = err;
		return NULL;
	}
	srq->srq.handle = srq->id;
	atomic_fetch_add(&((struct sr_pd *)init->pd)->users, 1);
	if (xrcd) {
		atomic_fetch_add(&xrcd->users, 1);
		atomic_fetch_add(&srq->cq->users, 1);
	}
	return &srq->srq;
}

struct ibv_srq *ibv_create_srq(struct ibv_pd *pd, struct ibv_srq_init_attr *init)
{
	return create(pd->context, &(struct ibv_srq_init_attr_ex){ .srq_context = init->srq_context, .attr = init->attr, .pd = pd }, NULL);
}

struct ibv_srq *sr_create_srq_ex(struct ibv_context *ctx, struct ibv_srq_init_attr_ex *init)
{
	const uint32_t xrc = IBV_SRQ_INIT_ATTR_XRCD | IBV_SRQ_INIT_ATTR_CQ;
	enum ibv_srq_type type = init->comp_mask & IBV_SRQ_INIT_ATTR_TYPE ? init->srq_type : IBV_SRQT_BASIC;
	int err = 0;
	if (!(init->comp_mask & IBV_SRQ_INIT_ATTR_PD) || !init->pd)
		err = EINVAL;
	else if (type != IBV_SRQT_BASIC && type != IBV_SRQT_XRC)
		err = EOPNOTSUPP;
	else if (type == IBV_SRQT_XRC && ((init->comp_mask & xrc) != xrc || !init->xrcd || !init->cq))
		err = EINVAL;
	if (err) {
		errno = err;
		return NULL;
	}
	return create(ctx, init, type == IBV_SRQT_XRC ? (struct sr_xrcd *)init->xrcd : NULL);
}

int sr_get_srq_num(struct ibv_srq *srq, uint32_t *num)
{
	*num = ((struct sr_srq *)srq)->id;
	return 0;
}

int ibv_modify_srq(struct ibv_srq *ibsrq, struct ibv_srq_attr *attr, int mask)
{
	struct sr_srq *srq = (struct sr_srq *)ibsrq;
	if (mask & ~(IBV_SRQ_MAX_WR | IBV_SRQ_LIMIT))
		return EINVAL;
	sr_lock();
	int err = 0;
	uint32_t max_wr = mask & IBV_SRQ_MAX_WR ? attr->max_wr : srq->rq.max_wr;
	if ((mask & IBV_SRQ_LIMIT) && attr->srq_limit > max_wr)
		err = EINVAL;
	if (!err && (mask & IBV_SRQ_MAX_WR)) {
		struct sr_rq fresh;
		uint32_t used = srq->rq.head - srq->rq.tail;
		if (!max_wr || max_wr > SR_LIMIT_SRQ_WR || used > max_wr)
			err = EINVAL;
		else if (!(err = sr_rq_init(&fresh, max_wr, srq->rq.max_sge))) {
			for (uint32_t i = 0; i < used; i++)
				memcpy(sr_rq_at(&fresh, i), sr_rq_at(&srq->rq, srq->rq.tail + i), fresh.stride);
			fresh.head = used;
			sr_rq_free(&srq->rq);
			srq->rq = fresh;
		}
	}
	if (!err && (mask & IBV_SRQ_LIMIT))
		srq->limit = attr->srq_limit;
	sr_unlock();
	return err;
}

int ibv_query_srq(struct ibv_srq *ibsrq, struct ibv_srq_attr *attr)
{
	struct sr_srq *srq = (struct sr_srq *)ibsrq;
	sr_lock();
	*attr = (struct ibv_srq_attr){ .max_wr = srq->rq.max_wr, .max_sge = srq->rq.max_sge, .srq_limit = srq->limit };
	sr_unlock();
	return 0;
}

int ibv_destroy_srq(struct ibv_srq *ibsrq)
{
	struct sr_srq *srq = (struct sr_srq *)ibsrq;
	if (atomic_load(&srq->users))
		return EBUSY;
	if (srq->xrcd) {
		sr_lock();
		sr_xrc_leave(srq);
		sr_unlock();
	}
	sr_async_forget(ibsrq->context, ibsrq, &ibsrq->mutex, &ibsrq->cond, &ibsrq->events_completed);
	atomic_fetch_sub(&((struct sr_pd *)ibsrq->pd)->users, 1);
	if (srq->xrcd) {
		atomic_fetch_sub(&srq->xrcd->users, 1);
		atomic_fetch_sub(&srq->cq->users, 1);
	}
	sr_rq_free(&srq->rq);
	free(srq);
	return 0;
}
