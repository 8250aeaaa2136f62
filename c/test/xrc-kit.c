/* See xrc-kit.h. */
#include "xrc-kit.h"

#include <fcntl.h>

struct ibv_xrcd *xk_open(struct vk_dev *d, int fd, int oflags)
{
	struct ibv_xrcd_init_attr a = { .comp_mask = IBV_XRCD_INIT_ATTR_FD | IBV_XRCD_INIT_ATTR_OFLAGS, .fd = fd, .oflags = oflags };
	return ibv_open_xrcd(d->ctx, &a);
}

struct ibv_xrcd *xk_domain(struct vk_dev *d)
{
	struct ibv_xrcd *x = xk_open(d, -1, O_CREAT);
	VK(x);
	return x;
}

void xk_queue_make(struct xk_queue *q, struct vk_dev *d, struct ibv_xrcd *xrcd, struct ibv_pd *pd)
{
	q->pd = pd ? pd : d->pd;
	q->cq = ibv_create_cq(d->ctx, 512, NULL, NULL, 0);
	q->mem = vk_pages(XK_MEM);
	q->mr = ibv_reg_mr(q->pd, q->mem, XK_MEM, VK_RW);
	VK(q->cq && q->mr);
	struct ibv_srq_init_attr_ex a = {
		.attr = { .max_wr = 128, .max_sge = 1 },
		.comp_mask = IBV_SRQ_INIT_ATTR_TYPE | IBV_SRQ_INIT_ATTR_PD | IBV_SRQ_INIT_ATTR_XRCD | IBV_SRQ_INIT_ATTR_CQ,
		.srq_type = IBV_SRQT_XRC,
		.pd = q->pd,
		.xrcd = xrcd,
		.cq = q->cq,
	};
	q->srq = ibv_create_srq_ex(d->ctx, &a);
	VK(q->srq);
	VK_EQ(ibv_get_srq_num(q->srq, &q->number), 0);
}

void xk_queue_free(struct xk_queue *q)
{
	if (q->srq)
		VK_EQ(ibv_destroy_srq(q->srq), 0);
	VK_EQ(ibv_destroy_cq(q->cq), 0);
	VK_EQ(ibv_dereg_mr(q->mr), 0);
	vk_unpages(q->mem, XK_MEM);
}

void xk_recv(struct xk_queue *q, uint64_t id, size_t at, uint32_t len)
{
	struct ibv_sge s = vk_sge(q->mr, q->mem + at, len);
	struct ibv_recv_wr *bad, wr = { .wr_id = id, .sg_list = &s, .num_sge = 1 };
	VK_EQ(ibv_post_srq_recv(q->srq, &wr, &bad), 0);
}

struct ibv_qp *xk_target(struct vk_dev *d, struct ibv_xrcd *xrcd)
{
	struct ibv_qp_init_attr_ex a = { .qp_type = IBV_QPT_XRC_RECV, .comp_mask = IBV_QP_INIT_ATTR_XRCD, .xrcd = xrcd };
	struct ibv_qp *qp = ibv_create_qp_ex(d->ctx, &a);
	VK(qp);
	return qp;
}

struct ibv_qp *xk_initiator(struct vk_dev *d)
{
	struct ibv_cq *cq = ibv_create_cq(d->ctx, 512, NULL, NULL, 0);
	struct ibv_qp_init_attr_ex a = {
		.qp_type = IBV_QPT_XRC_SEND,
		.comp_mask = IBV_QP_INIT_ATTR_PD | IBV_QP_INIT_ATTR_SEND_OPS_FLAGS,
		.send_ops_flags = IBV_QP_EX_WITH_SEND | IBV_QP_EX_WITH_RDMA_READ,
		.pd = d->pd,
		.send_cq = cq,
		.cap = { .max_send_wr = 128, .max_send_sge = 2, .max_inline_data = 64 },
	};
	struct ibv_qp *qp = ibv_create_qp_ex(d->ctx, &a);
	VK(cq && qp);
	return qp;
}

void xk_initiator_free(struct ibv_qp *qp)
{
	struct ibv_cq *cq = qp->send_cq;
	VK_EQ(ibv_destroy_qp(qp), 0);
	VK_EQ(ibv_destroy_cq(cq), 0);
}


void xk_connect(struct vk_dev *d, struct ibv_qp *qp, uint32_t peer, const union ibv_gid *gid, const struct xk_conf *conf)
{
	struct xk_conf c = conf ? *conf : (struct xk_conf){ 0 };
	bool target = qp->qp_type == IBV_QPT_XRC_RECV;
	struct ibv_qp_attr a = {
		.qp_state = IBV_QPS_INIT,
		.port_num = 1,
		.qp_access_flags = c.access ? c.access : IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC,
	};
	if (a.qp_access_flags == VK_NO_ACCESS)
		a.qp_access_flags = 0;
	VK_EQ(ibv_modify_qp(qp, &a, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS), 0);
	a = (struct ibv_qp_attr){
		.qp_state = IBV_QPS_RTR,
		.path_mtu = d->mtu,
		.dest_qp_num = peer,
		.max_dest_rd_atomic = c.rd_atomic ? c.rd_atomic : 16,
		.min_rnr_timer = c.tuned ? c.rnr_timer : 1,
		.ah_attr = { .is_global = 1, .port_num = 1, .grh = { .dgid = *gid, .sgid_index = d->gid_index, .hop_limit = 64 } },
	};
	VK_EQ(ibv_modify_qp(qp, &a,
			    IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
				    (target ? IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER : 0)),
	      0);
	a = (struct ibv_qp_attr){
		.qp_state = IBV_QPS_RTS,
		.timeout = c.timeout ? c.timeout : 14,
		.retry_cnt = c.tuned ? c.retry : 7,
		.rnr_retry = c.tuned ? c.rnr_retry : 7,
		.max_rd_atomic = c.rd_atomic ? c.rd_atomic : 16,
	};
	VK_EQ(ibv_modify_qp(qp, &a,
			    IBV_QP_STATE | IBV_QP_SQ_PSN | IBV_QP_TIMEOUT |
				    (target ? 0 : IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_MAX_QP_RD_ATOMIC)),
	      0);
}

int xk_try_post(struct ibv_qp *qp, const struct vk_wr *w, const struct ibv_sge *sge, uint32_t srqn)
{
	struct ibv_send_wr *bad = NULL, wr = {
		.wr_id = w->id,
		.sg_list = (struct ibv_sge *)sge,
		.num_sge = sge ? 1 : 0,
		.opcode = w->op,
		.send_flags = w->flags | IBV_SEND_SIGNALED,
		.imm_data = w->imm,
		.qp_type.xrc.remote_srqn = srqn,
	};
	if (w->op == IBV_WR_ATOMIC_CMP_AND_SWP || w->op == IBV_WR_ATOMIC_FETCH_AND_ADD) {
		wr.wr.atomic.remote_addr = w->remote;
		wr.wr.atomic.rkey = w->rkey;
		wr.wr.atomic.compare_add = w->add;
		wr.wr.atomic.swap = w->swap;
	} else {
		wr.wr.rdma.remote_addr = w->remote;
		wr.wr.rdma.rkey = w->rkey;
	}
	int err = ibv_post_send(qp, &wr, &bad);
	VK(!err || bad == &wr);
	return err;
}

void xk_post(struct ibv_qp *qp, const struct vk_wr *w, const struct ibv_sge *sge, uint32_t srqn)
{
	VK_EQ(xk_try_post(qp, w, sge, srqn), 0);
}

void xk_world_make(struct xk_world *w, const struct xk_conf *conf)
{
	memset(w, 0, sizeof *w);
	vk_open(&w->d);
	w->xrcd = xk_domain(&w->d);
	w->tgt = xk_target(&w->d, w->xrcd);
	w->ini = xk_initiator(&w->d);
	xk_connect(&w->d, w->tgt, w->ini->qp_num, &w->d.gid, conf);
	xk_connect(&w->d, w->ini, w->tgt->qp_num, &w->d.gid, conf);
	xk_queue_make(&w->q, &w->d, w->xrcd, NULL);
	w->mem = vk_pages(XK_MEM);
	w->mr = vk_reg(&w->d, w->mem, XK_MEM, VK_RW);
}

void xk_world_free(struct xk_world *w)
{
	if (w->ini)
		xk_initiator_free(w->ini);
	if (w->tgt)
		VK_EQ(ibv_destroy_qp(w->tgt), 0);
	xk_queue_free(&w->q);
	VK_EQ(ibv_close_xrcd(w->xrcd), 0);
	VK_EQ(ibv_dereg_mr(w->mr), 0);
	vk_close(&w->d);
	vk_unpages(w->mem, XK_MEM);
}
