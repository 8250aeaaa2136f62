/* qp.c - queue pairs of identifiers: made, and led through their states with what the two ends agreed on. */
#include <errno.h>
#include <string.h>
#include <rdma/rdma_verbs.h>
#include "cm.h"

static bool is_ud(const struct rdma_cm_id *p) { return p->qp_type == IBV_QPT_UD; }
static bool is_target(const struct rdma_cm_id *p) { return p->qp_type == IBV_QPT_XRC_RECV; }

static int init_attr(const struct sr_cm_id *id, struct ibv_qp_attr *a, int *mask)
{
	a->pkey_index = 0;
	a->port_num = id->id.port_num;
	*mask = IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT;
	if (is_ud(&id->id)) {
		a->qkey = RDMA_UDP_QKEY;
		*mask |= IBV_QP_QKEY;
		return 0;
	}
	a->qp_access_flags = IBV_ACCESS_REMOTE_WRITE;
	if (id->id.qp_type != IBV_QPT_UC && (!id->conn || id->conn->terms.responder_resources))
		a->qp_access_flags |= IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC;
	*mask |= IBV_QP_ACCESS_FLAGS;
	return 0;
}

static int rtr_attr(const struct sr_cm_id *id, struct ibv_qp_attr *a, int *mask)
{
	*mask = IBV_QP_STATE;
	if (is_ud(&id->id))
		return 0;
	if (!id->conn)
		return EINVAL;
	const struct sr_cm_terms *t = &id->conn->terms;
	const struct sr_gsi_path *p = &id->conn->path;
	a->ah_attr = (struct ibv_ah_attr){ .is_global = 1, .port_num = id->id.port_num,
					   .grh = { .dgid = p->remote, .sgid_index = (uint8_t)id->gid_index, .hop_limit = 64,
						    .traffic_class = p->traffic_class, .flow_label = p->flow_label } };
	a->path_mtu = (enum ibv_mtu)t->mtu;
	a->dest_qp_num = t->remote_qpn;
	a->rq_psn = t->rq_psn;
	*mask |= IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN;
	if (id->id.qp_type == IBV_QPT_UC || id->id.qp_type == IBV_QPT_XRC_SEND)
		return 0;
	a->max_dest_rd_atomic = t->responder_resources;
	a->min_rnr_timer = 0; /* 655 ms, the connection manager's choice everywhere; applications change it */
	*mask |= IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER;
	return 0;
}

static int rts_attr(const struct sr_cm_id *id, struct ibv_qp_attr *a, int *mask)
{
	*mask = IBV_QP_STATE | IBV_QP_SQ_PSN;
	a->sq_psn = 0;
	if (is_ud(&id->id))
		return 0;
	if (!id->conn)
		return EINVAL;
	const struct sr_cm_terms *t = &id->conn->terms;
	a->sq_psn = t->sq_psn;
	if (id->id.qp_type == IBV_QPT_UC)
		return 0;
	a->timeout = id->options.ack_timeout_set ? id->options.ack_timeout : t->ack_timeout;
	*mask |= IBV_QP_TIMEOUT;
	if (is_target(&id->id))
		return 0;
	a->retry_cnt = t->retry_count;
	a->rnr_retry = t->rnr_retry_count;
	a->max_rd_atomic = t->initiator_depth;
	*mask |= IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_MAX_QP_RD_ATOMIC;
	return 0;
}

/* Attributes, and which of them, that take a queue pair of this identifier to attr->qp_state (INIT, RTR or RTS). 0, or -1 and
 * errno. */
int rdma_init_qp_attr(struct rdma_cm_id *p, struct ibv_qp_attr *attr, int *mask)
{
	struct sr_cm_id *id = sr_cm_id(p);
	int err = EINVAL;
	sr_cm_lock();
	if (id->id.verbs && attr && mask) {
		if (attr->qp_state == IBV_QPS_INIT)
			err = init_attr(id, attr, mask);
		else if (attr->qp_state == IBV_QPS_RTR)
			err = rtr_attr(id, attr, mask);
		else if (attr->qp_state == IBV_QPS_RTS)
			err = rts_attr(id, attr, mask);
	}
	sr_cm_unlock();
	return sr_cm_result(err);
}

static int step(struct rdma_cm_id *p, enum ibv_qp_state to)
{
	struct ibv_qp_attr attr = { .qp_state = to };
	int mask;
	return rdma_init_qp_attr(p, &attr, &mask) ? errno : ibv_modify_qp(p->qp, &attr, mask);
}

int sr_cm_qp_to_rts(struct sr_cm_id *id)
{
	struct rdma_cm_id *p = &id->id;
	int err = 0;
	if (p->qp->state != IBV_QPS_RTR && p->qp->state != IBV_QPS_RTS) {
		err = step(p, IBV_QPS_INIT); /* again: access follows from what was agreed on */
		if (!err)
			err = step(p, IBV_QPS_RTR);
	}
	return err ? err : p->qp->state == IBV_QPS_RTS ? 0 : step(p, IBV_QPS_RTS);
}

void sr_cm_qp_to_error(struct sr_cm_id *id)
{
	struct ibv_qp_attr attr = { .qp_state = IBV_QPS_ERR };
	if (id->id.qp && !is_ud(&id->id))
		ibv_modify_qp(id->id.qp, &attr, IBV_QP_STATE);
}

static void destroy_cq(struct ibv_cq **cq, struct ibv_comp_channel **channel)
{
	if (*cq)
		ibv_destroy_cq(*cq);
	if (*channel)
		ibv_destroy_comp_channel(*channel);
	*cq = NULL;
	*channel = NULL;
}

static void destroy_cqs(struct rdma_cm_id *p)
{
	if (is_target(p) && p->srq) /* they are the receive queue's */
		return;
	destroy_cq(&p->recv_cq, &p->recv_cq_channel);
	destroy_cq(&p->send_cq, &p->send_cq_channel);
}

static int create_cq(struct rdma_cm_id *p, uint32_t size, struct ibv_cq **cq, struct ibv_comp_channel **channel)
{
	*channel = ibv_create_comp_channel(p->verbs);
	if (*channel)
		*cq = ibv_create_cq(p->verbs, size ? (int)size : 1, p, *channel, 0);
	return *cq ? 0 : errno;
}

/* The completion queues that the caller has not brought. */
static int create_cqs(struct rdma_cm_id *p, const struct ibv_qp_init_attr_ex *a)
{
	int err = 0;
	if (!a->recv_cq && !p->recv_cq)
		err = create_cq(p, a->srq || p->srq ? a->cap.max_recv_wr + 1 : a->cap.max_recv_wr, &p->recv_cq, &p->recv_cq_channel);
	if (!err && !a->send_cq && !p->send_cq)
		err = create_cq(p, a->cap.max_send_wr, &p->send_cq, &p->send_cq_channel);
	return err;
}

static int make_ready(struct rdma_cm_id *p)
{
	int err = step(p, IBV_QPS_INIT);
	if (!err && is_ud(p))
		err = step(p, IBV_QPS_RTR);
	return err || !is_ud(p) ? err : step(p, IBV_QPS_RTS);
}

/* Makes the identifier's queue pair (id->qp) in state INIT, UD in RTS. Completion queues and protection domain are made when the
 * caller brings none. 0, or -1 and errno. Free with rdma_destroy_qp(). */
int rdma_create_qp_ex(struct rdma_cm_id *p, struct ibv_qp_init_attr_ex *a)
{
	if (p->qp || !p->verbs)
		return sr_cm_result(EINVAL);
	if (!(a->comp_mask & IBV_QP_INIT_ATTR_PD)) {
		a->comp_mask |= IBV_QP_INIT_ATTR_PD;
		a->pd = p->pd;
	} else if (a->pd->context != p->verbs) {
		return sr_cm_result(EINVAL);
	}
	int err = create_cqs(p, a);
	if (!err && is_target(p) && !(a->comp_mask & IBV_QP_INIT_ATTR_XRCD)) {
		a->comp_mask |= IBV_QP_INIT_ATTR_XRCD;
		a->xrcd = sr_cm_default_xrcd(p->verbs);
		err = a->xrcd ? 0 : errno;
	}
	if (!err) {
		a->send_cq = a->send_cq ? a->send_cq : p->send_cq;
		a->recv_cq = a->recv_cq ? a->recv_cq : p->recv_cq;
		a->srq = a->srq ? a->srq : p->srq;
		p->qp = ibv_create_qp_ex(p->verbs, a);
		err = p->qp ? make_ready(p) : errno;
	}
	if (err) {
		if (p->qp)
			ibv_destroy_qp(p->qp);
		p->qp = NULL;
		destroy_cqs(p);
		return sr_cm_result(err);
	}
	if (p->qp->pd) /* an XRC target has none */
		p->pd = p->qp->pd;
	return 0;
}

/* The same with the older attributes. */
int rdma_create_qp(struct rdma_cm_id *p, struct ibv_pd *pd, struct ibv_qp_init_attr *a)
{
	struct ibv_qp_init_attr_ex ex = {
		.qp_context = a->qp_context,
		.send_cq = a->send_cq,
		.recv_cq = a->recv_cq,
		.srq = a->srq,
		.cap = a->cap,
		.qp_type = a->qp_type,
		.sq_sig_all = a->sq_sig_all,
		.comp_mask = pd ? IBV_QP_INIT_ATTR_PD : 0,
		.pd = pd,
	};
	int rc = rdma_create_qp_ex(p, &ex);
	if (!rc)
		a->cap = ex.cap; /* and no more: what was made belongs to this identifier, and attributes are used again */
	return rc;
}

/* Frees what rdma_create_qp() made. */
void rdma_destroy_qp(struct rdma_cm_id *p)
{
	if (p->qp)
		ibv_destroy_qp(p->qp);
	p->qp = NULL;
	destroy_cqs(p);
}

/* What an XRC queue needs and the caller has not brought. 0, or -1 and errno. */
static int add_xrc(struct rdma_cm_id *p, struct ibv_srq_init_attr_ex *a)
{
	if (!(a->comp_mask & IBV_SRQ_INIT_ATTR_XRCD) || !a->xrcd)
		a->xrcd = sr_cm_default_xrcd(p->verbs);
	if (!(a->comp_mask & IBV_SRQ_INIT_ATTR_CQ) || !a->cq) {
		if (a->xrcd && !p->recv_cq && create_cq(p, a->attr.max_wr, &p->recv_cq, &p->recv_cq_channel))
			return -1;
		a->cq = p->recv_cq;
	}
	a->comp_mask |= IBV_SRQ_INIT_ATTR_XRCD | IBV_SRQ_INIT_ATTR_CQ;
	return a->xrcd ? 0 : -1;
}

/* Makes a shared receive queue (id->srq) that queue pairs of the identifier use. 0, or -1 and errno. */
int rdma_create_srq_ex(struct rdma_cm_id *p, struct ibv_srq_init_attr_ex *a)
{
	if (p->srq || !p->verbs)
		return sr_cm_result(EINVAL);
	if (!(a->comp_mask & IBV_SRQ_INIT_ATTR_PD) || !a->pd) {
		a->pd = p->pd;
		a->comp_mask |= IBV_SRQ_INIT_ATTR_PD;
	}
	if (a->comp_mask & IBV_SRQ_INIT_ATTR_TYPE && a->srq_type == IBV_SRQT_XRC && add_xrc(p, a))
		return -1;
	p->srq = ibv_create_srq_ex(p->verbs, a);
	if (!p->srq)
		return -1;
	if (!p->pd)
		p->pd = a->pd;
	return 0;
}

/* The same with the older attributes. */
int rdma_create_srq(struct rdma_cm_id *p, struct ibv_pd *pd, struct ibv_srq_init_attr *a)
{
	struct ibv_srq_init_attr_ex ex = { .srq_context = a->srq_context, .attr = a->attr,
					   .comp_mask = IBV_SRQ_INIT_ATTR_TYPE | (pd ? IBV_SRQ_INIT_ATTR_PD : 0),
					   .srq_type = is_target(p) ? IBV_SRQT_XRC : IBV_SRQT_BASIC, .pd = pd };
	int rc = rdma_create_srq_ex(p, &ex);
	if (!rc)
		a->attr = ex.attr;
	return rc;
}

/* Frees it. */
void rdma_destroy_srq(struct rdma_cm_id *p)
{
	if (p->srq)
		ibv_destroy_srq(p->srq);
	p->srq = NULL;
	if (!p->qp)
		destroy_cqs(p);
}
