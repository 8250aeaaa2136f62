/* qp.c - creating, querying and destroying queue pairs. */
#include "qp.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "../device/limits.h"
#include "../engine/key.h"
#include "../engine/lock.h"
#include "../engine/state.h"
#include "../engine/xrc.h"
#include "../shm/shm.h"
#include "rq.h"

static int check_init(const struct ibv_qp_init_attr_ex *a)
{
	const struct ibv_qp_cap *c = &a->cap;
	switch (a->qp_type) {
	case IBV_QPT_RC:
	case IBV_QPT_UC:
	case IBV_QPT_UD:
		if (!a->send_cq || !a->recv_cq)
			return EINVAL;
		break;
	case IBV_QPT_XRC_SEND:
		if (!a->send_cq)
			return EINVAL;
		break;
	case IBV_QPT_XRC_RECV:
		return a->comp_mask & IBV_QP_INIT_ATTR_XRCD && a->xrcd ? 0 : EINVAL;
	default:
		return EOPNOTSUPP;
	}
	if (!(a->comp_mask & IBV_QP_INIT_ATTR_PD) || !a->pd)
		return EINVAL;
	if (c->max_send_wr > SR_LIMIT_QP_WR || c->max_recv_wr > SR_LIMIT_QP_WR || c->max_send_sge > SR_MAX_SGE ||
	    c->max_recv_sge > SR_MAX_SGE || c->max_inline_data > SR_MAX_INLINE)
		return EINVAL;
	if (a->srq && a->qp_type == IBV_QPT_UC)
		return EINVAL;
	return 0;
}

static int sq_init(struct sr_qp *qp, const struct ibv_qp_cap *cap)
{
	struct sr_sq *sq = &qp->sq;
	uint32_t n = 1, tail = cap->max_send_sge * (uint32_t)sizeof(struct ibv_sge);
	while (n < cap->max_send_wr)
		n <<= 1;
	if (tail < cap->max_inline_data)
		tail = cap->max_inline_data;
	/* What fits is allowed, as with other devices: programs send inline what is as small as a scatter element. */
	uint32_t max_inline = tail < SR_MAX_INLINE ? tail : SR_MAX_INLINE;
	if (tail < sizeof(struct ibv_mw_bind_info))
		tail = sizeof(struct ibv_mw_bind_info);
	sq->max_wr = cap->max_send_wr;
	sq->max_sge = cap->max_send_sge;
	sq->max_inline = max_inline;
	sq->mask = n - 1;
	sq->stride = (uint32_t)((sizeof(struct sr_swqe) + tail + 63) & ~63ul); /* a WQE begins on a cache line */
	sq->ring = aligned_alloc(64, (size_t)n * sq->stride);
	if (qp->type == IBV_QPT_UD)
		sq->av = calloc(n, sizeof *sq->av);
	return sq->ring && (sq->av || qp->type != IBV_QPT_UD) ? 0 : ENOMEM;
}

static void release(struct sr_qp *qp)
{
	sr_rq_free(&qp->rq);
	free(qp->sq.ring);
	free(qp->sq.av);
	free(qp->rx);
	free(qp);
}

/* An unpredictable free number in this process's range. Under sr.lock. */
static int enter(struct sr_qp *qp)
{
	for (int tries = 0; tries < 1 << 18; tries++) {
		uint32_t index = sr_random32() & (SR_QP_INDEX_MAX - 1);
		if (index && !sr.qps[index]) {
			qp->qpn = sr.slot << SR_QP_INDEX_BITS | index;
			sr.qps[index] = qp;
			return 0;
		}
	}
	return ENOMEM;
}

/* Counts the queue pair in or out of the objects that it was made of. */
static void hold(struct sr_qp *qp, uint32_t one)
{
	if (!sr_qp_requests(qp)) {
		atomic_fetch_add(&qp->xrcd->users, one);
		return;
	}
	atomic_fetch_add(&qp->pd->users, one);
	atomic_fetch_add(&qp->send_cq->users, one);
	if (qp->recv_cq)
		atomic_fetch_add(&qp->recv_cq->users, one);
	if (qp->srq)
		atomic_fetch_add(&qp->srq->users, one);
}

static void init_lists(struct sr_qp *qp)
{
	sr_list_init(&qp->shm.ack_node);
	sr_list_init(&qp->shm.blocked_node);
	sr_list_init(&qp->shm.timer_node);
	sr_list_init(&qp->shm.link_node);
	sr_list_init(&qp->shm.reads);
	sr_list_init(&qp->mcast);
	sr_list_init(&qp->mcast_node);
	sr_list_init(&qp->xrc_node);
	sr_list_init(&qp->handles);
}

static void name(struct sr_qp *qp, struct ibv_context *ctx, void *qp_context, enum ibv_qp_type type)
{
	struct ibv_qp *ibqp = &qp->ex.qp_base;
	ibqp->context = ctx;
	ibqp->qp_context = qp_context;
	ibqp->handle = ibqp->qp_num = qp->qpn;
	ibqp->qp_type = type;
	pthread_mutex_init(&ibqp->mutex, NULL);
	pthread_cond_init(&ibqp->cond, NULL);
	sr_qp_ex_init(qp);
}

static struct sr_qp *blank(void)
{
	struct sr_qp *qp = aligned_alloc(64, (sizeof *qp + 63) & ~63ul);
	if (qp) {
		memset(qp, 0, sizeof *qp);
		init_lists(qp);
	}
	return qp;
}

/* What it is made of. An XRC target belongs to a domain and has nothing else; an initiator has no receiving half. What they do not
 * have is ignored, as the manual says. */
static void take_parts(struct sr_qp *qp, struct ibv_qp_init_attr_ex *a)
{
	if (!sr_qp_requests(qp)) {
		qp->xrcd = (struct sr_xrcd *)a->xrcd;
		qp->domain = qp->xrcd->domain;
		a->cap = (struct ibv_qp_cap){ 0 };
		return;
	}
	qp->pd = (struct sr_pd *)a->pd;
	qp->send_cq = sr_cq(a->send_cq);
	if (!sr_qp_responds(qp)) {
		a->cap.max_recv_wr = a->cap.max_recv_sge = 0;
		return;
	}
	qp->recv_cq = sr_cq(a->recv_cq);
	qp->srq = (struct sr_srq *)a->srq;
}

struct ibv_qp *sr_create_qp_ex(struct ibv_context *ctx, struct ibv_qp_init_attr_ex *a)
{
	const uint32_t known = IBV_QP_INIT_ATTR_PD | IBV_QP_INIT_ATTR_XRCD | IBV_QP_INIT_ATTR_CREATE_FLAGS |
			       IBV_QP_INIT_ATTR_SEND_OPS_FLAGS;
	int err = check_init(a);
	if (!err && ((a->comp_mask & ~known) || ((a->comp_mask & IBV_QP_INIT_ATTR_CREATE_FLAGS) && a->create_flags)))
		err = EOPNOTSUPP;
	if (!err && (a->comp_mask & IBV_QP_INIT_ATTR_SEND_OPS_FLAGS))
		err = sr_qp_ex_check_ops(a->qp_type, a->send_ops_flags);
	struct sr_qp *qp = err ? NULL : blank();
	if (!qp) {
		errno = err ? err : ENOMEM;
		return NULL;
	}
	qp->type = (uint8_t)a->qp_type;
	qp->opens = 1;
	qp->sig_all = a->sq_sig_all;
	take_parts(qp, a);
	qp->rx = calloc(1, sizeof *qp->rx);
	err = !qp->rx ? ENOMEM : sr_qp_requests(qp) ? sq_init(qp, &a->cap) : 0;
	if (!err && !qp->srq)
		err = sr_rq_init(&qp->rq, a->cap.max_recv_wr, a->cap.max_recv_sge);
	if (!err) {
		sr_lock();
		err = enter(qp);
		if (!err && !sr_qp_requests(qp))
			sr_list_add_tail(&sr.xrc_targets, &qp->xrc_node);
		sr_unlock();
	}
	if (err) {
		release(qp);
		errno = err;
		return NULL;
	}
	a->cap.max_inline_data = qp->sq.max_inline;
	name(qp, ctx, a->qp_context, a->qp_type);
	struct ibv_qp *ibqp = &qp->ex.qp_base;
	ibqp->pd = qp->pd ? &qp->pd->pd : NULL;
	ibqp->send_cq = qp->send_cq ? &qp->send_cq->cq : NULL;
	ibqp->recv_cq = qp->recv_cq ? &qp->recv_cq->cq : NULL;
	ibqp->srq = qp->srq ? &qp->srq->srq : NULL;
	ibqp->state = IBV_QPS_RESET;
	qp->init = (struct ibv_qp_init_attr){
		.qp_context = a->qp_context,
		.send_cq = ibqp->send_cq,
		.recv_cq = ibqp->recv_cq,
		.srq = ibqp->srq,
		.cap = a->cap,
		.qp_type = a->qp_type,
		.sq_sig_all = a->sq_sig_all,
	};
	hold(qp, 1);
	return ibqp;
}

struct ibv_qp *ibv_create_qp(struct ibv_pd *pd, struct ibv_qp_init_attr *a)
{
	struct ibv_qp_init_attr_ex ex = {
		.qp_context = a->qp_context,
		.send_cq = a->send_cq,
		.recv_cq = a->recv_cq,
		.srq = a->srq,
		.cap = a->cap,
		.qp_type = a->qp_type,
		.sq_sig_all = a->sq_sig_all,
		.comp_mask = IBV_QP_INIT_ATTR_PD,
		.pd = pd,
	};
	struct ibv_qp *qp = sr_create_qp_ex(pd->context, &ex);
	if (qp)
		a->cap = ex.cap;
	return qp;
}

int ibv_query_qp(struct ibv_qp *ibqp, struct ibv_qp_attr *attr, int mask, struct ibv_qp_init_attr *init)
{
	struct sr_qp *qp = sr_qp_of_handle(ibqp);
	if (mask & ~(int)(IBV_QP_RATE_LIMIT - 1)) /* as rdma-core: nothing that this interface could tell */
		return EOPNOTSUPP;
	sr_lock();
	*attr = qp->attr;
	attr->qp_state = attr->cur_qp_state = sr_qp_state(qp);
	attr->cap = qp->init.cap;
	attr->sq_draining = sr_qp_state(qp) == IBV_QPS_SQD && !sr_sq_drained(qp);
	attr->path_mig_state = IBV_MIG_MIGRATED;
	*init = qp->init;
	sr_unlock();
	return 0;
}

/* Opens an XRC target, which lives until its last handle is destroyed. NULL and errno: EINVAL when the domain has no such queue
 * pair. */
struct ibv_qp *sr_open_qp(struct ibv_context *ctx, struct ibv_qp_open_attr *a)
{
	const uint32_t needed = IBV_QP_OPEN_ATTR_NUM | IBV_QP_OPEN_ATTR_XRCD | IBV_QP_OPEN_ATTR_TYPE;
	struct sr_xrcd *xrcd = (struct sr_xrcd *)a->xrcd;
	struct sr_qp *handle = NULL;
	int err = 0;
	if ((a->comp_mask & ~(needed | IBV_QP_OPEN_ATTR_CONTEXT)))
		err = EOPNOTSUPP;
	else if ((a->comp_mask & needed) != needed || !xrcd || a->qp_type != IBV_QPT_XRC_RECV)
		err = EINVAL;
	else if (!(handle = blank()))
		err = ENOMEM;
	if (!err) {
		sr_lock();
		struct sr_qp *qp = sr_qp_find(a->qp_num);
		if (qp && !sr_qp_requests(qp) && sr_xrc_same_domain(&qp->domain, &xrcd->domain)) {
			handle->shared = qp;
			handle->qpn = qp->qpn;
			handle->ex.qp_base.state = sr_qp_state(qp);
			sr_list_add_tail(&qp->handles, &handle->xrc_node);
			qp->opens++;
		} else {
			err = EINVAL;
		}
		sr_unlock();
	}
	if (err) {
		free(handle);
		errno = err;
		return NULL;
	}
	handle->type = IBV_QPT_XRC_RECV;
	handle->xrcd = xrcd;
	name(handle, ctx, a->comp_mask & IBV_QP_OPEN_ATTR_CONTEXT ? a->qp_context : NULL, IBV_QPT_XRC_RECV);
	hold(handle, 1);
	return &handle->ex.qp_base;
}

/* Nobody has a handle of it any more. Under sr.lock. */
static void leave(struct sr_qp *qp)
{
	sr_qp_reset(qp);
	sr_list_del(&qp->xrc_node);
	if (sr.qps && sr.qps[sr_qpn_index(qp->qpn)] == qp) /* not one that a fork has left behind */
		sr.qps[sr_qpn_index(qp->qpn)] = NULL;
}

int ibv_destroy_qp(struct ibv_qp *ibqp)
{
	struct sr_qp *handle = sr_qp(ibqp), *qp = sr_qp_of_handle(ibqp);
	sr_lock();
	if (!sr_list_empty(&qp->mcast)) {
		sr_unlock();
		return EBUSY;
	}
	if (handle == qp)
		qp->disowned = true;
	else
		sr_list_del(&handle->xrc_node);
	if (qp->opens == 1)
		leave(qp);
	sr_unlock();
	sr_async_forget(ibqp->context, ibqp, &ibqp->mutex, &ibqp->cond, &ibqp->events_completed);
	hold(handle, -1u);
	/* Of a shared one several threads may be here. */
	sr_lock();
	bool last = --qp->opens == 0;
	if (last)
		leave(qp);
	sr_unlock();
	if (handle != qp)
		free(handle);
	if (last)
		release(qp);
	return 0;
}
