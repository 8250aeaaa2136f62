/* rq.c - posting receives, to a queue pair's own queue or to a shared one. */
#include "rq.h"
#include <errno.h>
#include <stdlib.h>
#include "../engine/lock.h"
#include "../engine/state.h"
#include "../shm/shm.h"

int sr_rq_init(struct sr_rq *rq, uint32_t max_wr, uint32_t max_sge)
{
	uint32_t n = 1;
	while (n < max_wr)
		n <<= 1;
	rq->max_wr = max_wr;
	rq->max_sge = max_sge;
	rq->mask = n - 1;
	rq->stride = (uint32_t)(sizeof(struct sr_rwqe) + max_sge * sizeof(struct ibv_sge));
	rq->head = rq->tail = 0;
	rq->ring = max_wr ? malloc((size_t)n * rq->stride) : NULL;
	return max_wr && !rq->ring ? ENOMEM : 0;
}

void sr_rq_free(struct sr_rq *rq)
{
	free(rq->ring);
	rq->ring = NULL;
}

int sr_rq_post(struct sr_rq *rq, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad)
{
	for (; wr; wr = wr->next) {
		int err = 0;
		if (wr->num_sge < 0 || (uint32_t)wr->num_sge > rq->max_sge)
			err = EINVAL;
		else if (rq->head - rq->tail >= rq->max_wr)
			err = ENOMEM;
		if (err) {
			*bad = wr;
			return err;
		}
		struct sr_rwqe *w = sr_rq_at(rq, rq->head);
		w->wr_id = wr->wr_id;
		w->num_sge = (uint32_t)wr->num_sge;
		for (int i = 0; i < wr->num_sge; i++)
			w->sge[i] = wr->sg_list[i];
		rq->head++;
	}
	return 0;
}

int sr_post_recv(struct ibv_qp *ibqp, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad)
{
	struct sr_qp *qp = sr_qp(ibqp);
	sr_lock();
	if (qp->srq || !sr_qp_responds(qp) || !sr_qp_requests(qp) || sr_qp_state(qp) == IBV_QPS_RESET) {
		sr_unlock();
		*bad = wr;
		return EINVAL;
	}
	int err = sr_rq_post(&qp->rq, wr, bad);
	if (sr_qp_state(qp) == IBV_QPS_ERR)
		sr_rq_flush(qp);
	else if (qp->type == IBV_QPT_UD)
		sr_shm_ud_receive_posted(qp);
	sr_unlock();
	return err;
}

int sr_post_srq_recv(struct ibv_srq *srq, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad)
{
	sr_lock();
	int err = sr_rq_post(&((struct sr_srq *)srq)->rq, wr, bad);
	sr_unlock();
	return err;
}
