/*
 * qp_modify.c - the queue pair state machine. The table lists, for each legal transition, the attributes that must and may
 * come with it (InfiniBand Architecture Specification, volume 1, tables 91 to 97).
 */
#include <errno.h>
#include <string.h>
#include "../device/limits.h"
#include "../engine/lock.h"
#include "../engine/state.h"
#include "../shm/shm.h"
#include "ah.h"
#include "qp.h"

#define RC (1 << IBV_QPT_RC)
#define UC (1 << IBV_QPT_UC)
#define UD (1 << IBV_QPT_UD)
#define INI (1 << IBV_QPT_XRC_SEND)
#define TGT (1 << IBV_QPT_XRC_RECV)
#define S(x) IBV_QPS_##x
#define A(x) IBV_QP_##x
/* Alternate paths do not exist on RoCE; their attributes are taken and ignored as the kernel's drivers do. */
#define ALT (A(ALT_PATH) | A(PATH_MIG_STATE))

static const struct transition {
	uint8_t from, to;
	uint32_t types, must, may;
} transitions[] = {
	{ S(RESET), S(INIT), RC | UC | INI | TGT, A(PKEY_INDEX) | A(PORT) | A(ACCESS_FLAGS), 0 },
	{ S(RESET), S(INIT), UD, A(PKEY_INDEX) | A(PORT) | A(QKEY), 0 },
	{ S(INIT), S(INIT), RC | UC | INI | TGT, 0, A(PKEY_INDEX) | A(PORT) | A(ACCESS_FLAGS) },
	{ S(INIT), S(INIT), UD, 0, A(PKEY_INDEX) | A(PORT) | A(QKEY) },
	{ S(INIT), S(RTR), RC | TGT, A(AV) | A(PATH_MTU) | A(DEST_QPN) | A(RQ_PSN) | A(MAX_DEST_RD_ATOMIC) | A(MIN_RNR_TIMER),
	  ALT | A(ACCESS_FLAGS) | A(PKEY_INDEX) },
	{ S(INIT), S(RTR), UC | INI, A(AV) | A(PATH_MTU) | A(DEST_QPN) | A(RQ_PSN), ALT | A(ACCESS_FLAGS) | A(PKEY_INDEX) },
	{ S(INIT), S(RTR), UD, 0, A(PKEY_INDEX) | A(QKEY) },
	{ S(RTR), S(RTS), RC, A(TIMEOUT) | A(RETRY_CNT) | A(RNR_RETRY) | A(SQ_PSN) | A(MAX_QP_RD_ATOMIC),
	  A(CUR_STATE) | ALT | A(ACCESS_FLAGS) | A(MIN_RNR_TIMER) },
	{ S(RTR), S(RTS), INI, A(TIMEOUT) | A(RETRY_CNT) | A(RNR_RETRY) | A(SQ_PSN) | A(MAX_QP_RD_ATOMIC),
	  A(CUR_STATE) | ALT | A(ACCESS_FLAGS) },
	{ S(RTR), S(RTS), TGT, A(TIMEOUT) | A(SQ_PSN), A(CUR_STATE) | ALT | A(ACCESS_FLAGS) | A(MIN_RNR_TIMER) },
	{ S(RTR), S(RTS), UC, A(SQ_PSN), A(CUR_STATE) | ALT | A(ACCESS_FLAGS) },
	{ S(RTR), S(RTS), UD, A(SQ_PSN), A(CUR_STATE) | A(QKEY) },
	{ S(RTS), S(RTS), RC | TGT, 0, A(CUR_STATE) | ALT | A(ACCESS_FLAGS) | A(MIN_RNR_TIMER) },
	{ S(RTS), S(RTS), UC | INI, 0, A(CUR_STATE) | ALT | A(ACCESS_FLAGS) },
	{ S(RTS), S(RTS), UD, 0, A(CUR_STATE) | A(QKEY) },
	{ S(RTS), S(SQD), RC | UC | UD | INI | TGT, 0, A(EN_SQD_ASYNC_NOTIFY) },
	{ S(SQD), S(RTS), RC | TGT, 0, A(CUR_STATE) | ALT | A(ACCESS_FLAGS) | A(MIN_RNR_TIMER) },
	{ S(SQD), S(RTS), UC | INI, 0, A(CUR_STATE) | ALT | A(ACCESS_FLAGS) },
	{ S(SQD), S(RTS), UD, 0, A(CUR_STATE) | A(QKEY) },
	{ S(SQD), S(SQD), RC, 0,
	  A(AV) | ALT | A(ACCESS_FLAGS) | A(PKEY_INDEX) | A(MIN_RNR_TIMER) | A(TIMEOUT) | A(RETRY_CNT) | A(RNR_RETRY) |
		  A(MAX_QP_RD_ATOMIC) | A(MAX_DEST_RD_ATOMIC) | A(PORT) },
	{ S(SQD), S(SQD), INI, 0,
	  A(AV) | ALT | A(ACCESS_FLAGS) | A(PKEY_INDEX) | A(TIMEOUT) | A(RETRY_CNT) | A(RNR_RETRY) | A(MAX_QP_RD_ATOMIC) | A(PORT) },
	{ S(SQD), S(SQD), TGT, 0,
	  A(AV) | ALT | A(ACCESS_FLAGS) | A(PKEY_INDEX) | A(MIN_RNR_TIMER) | A(TIMEOUT) | A(MAX_DEST_RD_ATOMIC) | A(PORT) },
	{ S(SQD), S(SQD), UC, 0, A(AV) | ALT | A(ACCESS_FLAGS) | A(PKEY_INDEX) },
	{ S(SQD), S(SQD), UD, 0, A(PKEY_INDEX) | A(QKEY) },
	{ S(SQE), S(RTS), UC, 0, A(CUR_STATE) | A(ACCESS_FLAGS) },
	{ S(SQE), S(RTS), UD, 0, A(CUR_STATE) | A(QKEY) },
};

static int check_transition(const struct sr_qp *qp, enum ibv_qp_state from, enum ibv_qp_state to, uint32_t mask)
{
	mask &= ~(uint32_t)A(STATE);
	if (to == S(RESET) || to == S(ERR))
		return mask & ~(uint32_t)A(CUR_STATE) ? EINVAL : 0;
	for (size_t i = 0; i < sizeof transitions / sizeof *transitions; i++) {
		const struct transition *t = &transitions[i];
		if (t->from == from && t->to == to && (t->types & (1u << qp->type)))
			return (mask & t->must) != t->must || (mask & ~(t->must | t->may)) ? EINVAL : 0;
	}
	return EINVAL;
}

static int check_values(const struct sr_qp *qp, const struct ibv_qp_attr *a, uint32_t mask)
{
	if ((mask & A(PORT)) && a->port_num != 1)
		return EINVAL;
	if ((mask & A(PKEY_INDEX)) && a->pkey_index != 0)
		return EINVAL;
	if ((mask & A(PATH_MTU)) && (a->path_mtu < IBV_MTU_256 || a->path_mtu > IBV_MTU_4096 ||
				     (int)a->path_mtu > sr_device_active_mtu(qp->ex.qp_base.context->device)))
		return EINVAL;
	if ((mask & A(TIMEOUT)) && a->timeout > 31)
		return EINVAL;
	if ((mask & A(RETRY_CNT)) && a->retry_cnt > 7)
		return EINVAL;
	if ((mask & A(RNR_RETRY)) && a->rnr_retry > 7)
		return EINVAL;
	if ((mask & A(MIN_RNR_TIMER)) && a->min_rnr_timer > 31)
		return EINVAL;
	if ((mask & A(MAX_QP_RD_ATOMIC)) && a->max_rd_atomic > SR_LIMIT_RD_ATOMIC)
		return EINVAL;
	if ((mask & A(MAX_DEST_RD_ATOMIC)) && a->max_dest_rd_atomic > SR_LIMIT_RD_ATOMIC)
		return EINVAL;
	if ((mask & A(ALT_PATH)) && (a->alt_port_num != 1 || a->alt_timeout > 31))
		return EINVAL;
	if ((mask & A(DEST_QPN)) && a->dest_qp_num > 0xffffff)
		return EINVAL;
	return 0;
}

/* Remembers the attributes and their effects on the fast path. */
static void store(struct sr_qp *qp, const struct ibv_qp_attr *a, uint32_t mask)
{
#define KEEP(bit, field)                                                                                                \
	if (mask & A(bit))                                                                                              \
		qp->attr.field = a->field
	KEEP(ACCESS_FLAGS, qp_access_flags);
	KEEP(PKEY_INDEX, pkey_index);
	KEEP(PORT, port_num);
	KEEP(QKEY, qkey);
	KEEP(AV, ah_attr);
	KEEP(PATH_MTU, path_mtu);
	KEEP(TIMEOUT, timeout);
	KEEP(RETRY_CNT, retry_cnt);
	KEEP(RNR_RETRY, rnr_retry);
	KEEP(RQ_PSN, rq_psn);
	KEEP(MAX_QP_RD_ATOMIC, max_rd_atomic);
	KEEP(MIN_RNR_TIMER, min_rnr_timer);
	KEEP(SQ_PSN, sq_psn);
	KEEP(MAX_DEST_RD_ATOMIC, max_dest_rd_atomic);
	KEEP(DEST_QPN, dest_qp_num);
	KEEP(EN_SQD_ASYNC_NOTIFY, en_sqd_async_notify);
#undef KEEP
	qp->attr.rq_psn &= 0xffffff;
	qp->attr.sq_psn &= 0xffffff;
	qp->access = qp->attr.qp_access_flags;
	qp->qkey = qp->attr.qkey;
	qp->dest_qpn = qp->attr.dest_qp_num;
	if (mask & A(PATH_MTU))
		qp->path_mtu_bytes = 128u << a->path_mtu;
}

/* Counts a UD queue pair among those for which the socket is looked at while it can receive. */
static void ud_listen(struct sr_qp *qp)
{
	qp->path_mtu_bytes = 128u << sr_device_active_mtu(qp->ex.qp_base.context->device);
	qp->road = SR_ROAD_WIRE;
	sr.wire_users++;
}

void sr_qp_reset(struct sr_qp *qp)
{
	bool ud = qp->type == IBV_QPT_UD && qp->road == SR_ROAD_WIRE;
	qp->ex.qp_base.state = IBV_QPS_RESET;
	sr_qp_leave_roads(qp);
	if (ud)
		sr.wire_users--;
	sr_shm_retract_qp(qp);
	qp->sq.head = qp->sq.next = qp->sq.tail = 0;
	qp->rq.head = qp->rq.tail = 0;
	qp->rx->active = false;
	qp->reads_outstanding = 0;
	qp->sqd_draining = qp->last_wqe_event = false;
	if (!sr_qp_requests(qp)) { /* what it received is the queues' it served */
		qp->srq = NULL;
		qp->recv_cq = NULL;
		qp->pd = NULL;
	} else {
		sr_cq_clean(qp->send_cq, qp->qpn);
		if (qp->recv_cq)
			sr_cq_clean(qp->recv_cq, qp->qpn);
	}
	memset(&qp->attr, 0, sizeof qp->attr);
}

static int to_rtr(struct sr_qp *qp, struct sr_link *link)
{
	if (qp->type == IBV_QPT_UD) {
		ud_listen(qp);
		return 0;
	}
	if (link) {
		qp->road = SR_ROAD_SHM;
		sr_shm_qp_rtr(qp, link);
		return 0;
	}
	int err = sr_wire_qp_rtr(qp);
	if (!err) {
		qp->road = SR_ROAD_WIRE;
		sr.wire_users++;
		sr.wire_connected++;
	}
	return err;
}

static void to_sqd(struct sr_qp *qp)
{
	qp->sqd_draining = qp->attr.en_sqd_async_notify;
	if (qp->sqd_draining && sr_sq_drained(qp)) {
		qp->sqd_draining = false;
		sr_qp_event(qp, IBV_EVENT_SQ_DRAINED);
	}
}

static int enter_state(struct sr_qp *qp, enum ibv_qp_state from, enum ibv_qp_state to, struct sr_link *link)
{
	int err = 0;
	switch (to) {
	case IBV_QPS_RESET:
		sr_qp_reset(qp);
		return 0;
	case IBV_QPS_ERR:
		sr_qp_to_error(qp);
		return 0;
	case IBV_QPS_RTR:
		err = to_rtr(qp, link);
		break;
	case IBV_QPS_RTS:
		if (from == IBV_QPS_RTR && qp->road == SR_ROAD_WIRE && qp->type != IBV_QPT_UD)
			sr_wire_qp_rts(qp);
		break;
	default:
		break;
	}
	if (err)
		return err;
	qp->ex.qp_base.state = to;
	sr_shm_publish_qp(qp);
	if (to == IBV_QPS_SQD && from != IBV_QPS_SQD)
		to_sqd(qp);
	if (to == IBV_QPS_RTS)
		sr_qp_kick(qp); /* what was posted in SQD */
	return 0;
}

/* Of XRC, each type has but one half. Programs set both as they do it for RC, and the kernel ignores what is the other half's. */
static uint32_t own_half(const struct sr_qp *qp, uint32_t mask)
{
	const uint32_t responder = A(MAX_DEST_RD_ATOMIC) | A(MIN_RNR_TIMER);
	const uint32_t requester = A(MAX_QP_RD_ATOMIC) | A(RETRY_CNT) | A(RNR_RETRY);
	return mask & ~(sr_qp_responds(qp) ? 0 : responder) & ~(sr_qp_requests(qp) ? 0 : requester);
}

int ibv_modify_qp(struct ibv_qp *handle, struct ibv_qp_attr *a, int imask)
{
	struct sr_qp *qp = sr_qp_of_handle(handle);
	struct ibv_qp *ibqp = &qp->ex.qp_base;
	uint32_t mask = own_half(qp, (uint32_t)imask);
	if (mask & ~(uint32_t)(A(RATE_LIMIT) - 1)) /* as rdma-core for drivers without pacing */
		return EOPNOTSUPP;
	sr_lock();
	enum ibv_qp_state from = ibqp->state, to = mask & A(STATE) ? a->qp_state : from;
	sr_unlock();
	if ((mask & A(CUR_STATE)) && a->cur_qp_state != from)
		return EINVAL;
	int err = check_transition(qp, from, to, mask);
	if (!err)
		err = check_values(qp, a, mask);
	struct sr_av av = qp->av;
	if (!err && (mask & A(AV)))
		err = sr_av_init(&av, ibqp->context, &a->ah_attr);
	if (err)
		return err;
	struct sr_link *link = NULL;
	if (to == S(RTR) && (mask & A(AV)) && av.local)
		link = sr_shm_link(sr_qpn_slot(a->dest_qp_num)); /* may sleep */

	sr_lock();
	/* An error may have overtaken us; it does not stand in the way of leaving. */
	if (ibqp->state != from && to != IBV_QPS_RESET && to != IBV_QPS_ERR) {
		sr_unlock();
		return EINVAL;
	}
	if (link && !sr_shm_link_alive(link, sr_qpn_slot(a->dest_qp_num))) /* the peer died meanwhile */
		link = NULL;
	qp->av = av;
	store(qp, a, mask);
	err = enter_state(qp, from, to, link);
	handle->state = ibqp->state;
	sr_unlock();
	return err;
}
