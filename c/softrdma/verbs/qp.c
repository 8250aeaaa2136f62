/* qp.c - creating, querying and destroying queue pairs. */
#include "qp.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "../device/limits.h"
#include "../engine/key.h"
#include "../engine/lock.h"
#include "../engine/state.h"
#include "../shm/shm.h"
#include "rq.h"

static int check_init(const struct ibv_qp_init_attr_ex *a)
{
	const struct ibv_qp_cap *c = &a->cap;
	if (a->qp_type != IBV_QPT_RC && a->qp_type != IBV_QPT_UC && a->qp_type != IBV_QPT_UD)
		return EOPNOTSUPP;
	if (!a->send_cq || !a->recv_cq)
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

struct ibv_qp *sr_create_qp_ex(struct ibv_context *ctx, struct ibv_qp_init_attr_ex *a)
{
	const uint32_t known = IBV_QP_INIT_ATTR_PD | IBV_QP_INIT_ATTR_CREATE_FLAGS | IBV_QP_INIT_ATTR_SEND_OPS_FLAGS;
	int err = check_init(a);
	if (!err && (!(a->comp_mask & IBV_QP_INIT_ATTR_PD) || !a->pd))
		err = EINVAL;
	if (!err && ((a->comp_mask & ~known) || ((a->comp_mask & IBV_QP_INIT_ATTR_CREATE_FLAGS) && a->create_flags)))
		err = EOPNOTSUPP;
	if (!err && (a->comp_mask & IBV_QP_INIT_ATTR_SEND_OPS_FLAGS))
		err = sr_qp_ex_check_ops(a->qp_type, a->send_ops_flags);
	struct sr_qp *qp = err ? NULL : aligned_alloc(64, (sizeof *qp + 63) & ~63ul);
	if (!qp) {
		errno = err ? err : ENOMEM;
		return NULL;
	}
	memset(qp, 0, sizeof *qp);
	qp->type = (uint8_t)a->qp_type;
	qp->sig_all = a->sq_sig_all;
	qp->pd = (struct sr_pd *)a->pd;
	qp->send_cq = sr_cq(a->send_cq);
	qp->recv_cq = sr_cq(a->recv_cq);
	qp->srq = (struct sr_srq *)a->srq;
	sr_list_init(&qp->shm.ack_node);
	sr_list_init(&qp->shm.blocked_node);
	sr_list_init(&qp->shm.timer_node);
	sr_list_init(&qp->shm.link_node);
	sr_list_init(&qp->shm.reads);
	sr_list_init(&qp->mcast);
	sr_list_init(&qp->mcast_node);
	qp->rx = calloc(1, sizeof *qp->rx);
	err = qp->rx ? sq_init(qp, &a->cap) : ENOMEM;
	if (!err && !qp->srq)
		err = sr_rq_init(&qp->rq, a->cap.max_recv_wr, a->cap.max_recv_sge);
	if (!err) {
		sr_lock();
		err = enter(qp);
		sr_unlock();
	}
	if (err) {
		release(qp);
		errno = err;
		return NULL;
	}
	a->cap.max_inline_data = qp->sq.max_inline;
	qp->init = (struct ibv_qp_init_attr){
		.qp_context = a->qp_context,
		.send_cq = a->send_cq,
		.recv_cq = a->recv_cq,
		.srq = a->srq,
		.cap = a->cap,
		.qp_type = a->qp_type,
		.sq_sig_all = a->sq_sig_all,
	};
	struct ibv_qp *ibqp = &qp->ex.qp_base;
	ibqp->context = ctx;
	ibqp->qp_context = a->qp_context;
	ibqp->pd = a->pd;
	ibqp->send_cq = a->send_cq;
	ibqp->recv_cq = a->recv_cq;
	ibqp->srq = a->srq;
	ibqp->handle = ibqp->qp_num = qp->qpn;
	ibqp->state = IBV_QPS_RESET;
	ibqp->qp_type = a->qp_type;
	pthread_mutex_init(&ibqp->mutex, NULL);
	pthread_cond_init(&ibqp->cond, NULL);
	sr_qp_ex_init(qp);
	atomic_fetch_add(&qp->pd->users, 1);
	atomic_fetch_add(&qp->send_cq->users, 1);
	atomic_fetch_add(&qp->recv_cq->users, 1);
	if (qp->srq)
		atomic_fetch_add(&qp->srq->users, 1);
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
	struct sr_qp *qp = sr_qp(ibqp);
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

int ibv_destroy_qp(struct ibv_qp *ibqp)
{
	struct sr_qp *qp = sr_qp(ibqp);
	sr_lock();
	if (!sr_list_empty(&qp->mcast)) {
		sr_unlock();
		return EBUSY;
	}
	sr_qp_reset(qp);
	if (sr.qps && sr.qps[sr_qpn_index(qp->qpn)] == qp) /* not one that a fork has left behind */
		sr.qps[sr_qpn_index(qp->qpn)] = NULL;
	sr_unlock();
	sr_async_forget(ibqp->context, ibqp, &ibqp->mutex, &ibqp->cond, &ibqp->events_completed);
	atomic_fetch_sub(&qp->pd->users, 1);
	atomic_fetch_sub(&qp->send_cq->users, 1);
	atomic_fetch_sub(&qp->recv_cq->users, 1);
	if (qp->srq)
		atomic_fetch_sub(&qp->srq->users, 1);
	release(qp);
	return 0;
}
