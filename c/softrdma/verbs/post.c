/* post.c - posting sends: WQEs are checked and copied, then the road takes them. */
#include <errno.h>
#include <string.h>
#include "../engine/guard.h"
#include "../engine/lock.h"
#include "../engine/state.h"
#include "../shm/shm.h"
#include "qp.h"

bool sr_post_legal(const struct sr_qp *qp, uint8_t op)
{
	static const uint32_t send = 1u << IBV_WR_SEND | 1u << IBV_WR_SEND_WITH_IMM;
	static const uint32_t write = 1u << IBV_WR_RDMA_WRITE | 1u << IBV_WR_RDMA_WRITE_WITH_IMM;
	static const uint32_t local = 1u << IBV_WR_LOCAL_INV | 1u << IBV_WR_BIND_MW;
	static const uint32_t rc_only = 1u << IBV_WR_RDMA_READ | 1u << IBV_WR_ATOMIC_CMP_AND_SWP |
					1u << IBV_WR_ATOMIC_FETCH_AND_ADD | 1u << IBV_WR_SEND_WITH_INV;
	if (op > 31)
		return false;
	switch (qp->type) {
	case IBV_QPT_RC:
	case IBV_QPT_XRC_SEND:
		return (send | write | local | rc_only) >> op & 1;
	case IBV_QPT_UC:
		return (send | write | local) >> op & 1;
	case IBV_QPT_UD:
		return send >> op & 1;
	default:
		return false;
	}
}

void sr_post_prepare_ud(const struct sr_av *av, uint32_t qpn)
{
	unsigned slot = sr_qpn_slot(qpn);
	if (av->local && !__atomic_load_n(&sr.link_by_slot[slot], __ATOMIC_RELAXED))
		sr_shm_link_for_datagram(slot);
}

static void ud_kick(struct sr_qp *qp)
{
	while (qp->sq.next != qp->sq.head && !qp->shm.waiting) {
		struct sr_swqe *w = sr_sq_at(&qp->sq, qp->sq.next);
		struct iovec iov[SR_MAX_SGE];
		int n = w->length > qp->path_mtu_bytes ? -IBV_WC_LOC_LEN_ERR :
							 sr_swqe_iov(qp, w, 0, w->length, false, iov, SR_MAX_SGE);
		enum sr_ud_sent sent = n < 0 || !w->ud.av->local ? SR_UD_UNREACHABLE : sr_shm_ud_send(qp, w, iov, n);
		if (sent == SR_UD_FULL)
			return; /* kicked again when there is room */
		if (n >= 0 && (sent == SR_UD_FAULT || (sent == SR_UD_UNREACHABLE && !sr_wire_ud_send(qp, w))))
			n = -IBV_WC_LOC_PROT_ERR;
		if (n < 0) {
			qp->sq.next++;
			sr_sq_fail(qp, (enum ibv_wc_status)-n, 0);
			return;
		}
		qp->sq.next++;
		sr_sq_complete(qp, qp->sq.next);
	}
}

/* The peer closed its queue pair and its process has ended: UC sends into the void, RC's retries are in vain. */
static void nobody_there(struct sr_qp *qp)
{
	if (qp->sq.next == qp->sq.head)
		return;
	qp->sq.next = qp->type == IBV_QPT_UC ? qp->sq.head : qp->sq.next + 1;
	if (qp->type == IBV_QPT_UC)
		sr_sq_complete(qp, qp->sq.head);
	else
		sr_sq_fail(qp, IBV_WC_RETRY_EXC_ERR, 0);
}

void sr_qp_kick(struct sr_qp *qp)
{
	switch (sr_qp_state(qp)) {
	case IBV_QPS_RTS:
		if (qp->type == IBV_QPT_UD)
			ud_kick(qp);
		else if (qp->road == SR_ROAD_SHM)
			sr_shm_kick(qp);
		else if (qp->road == SR_ROAD_WIRE)
			sr_wire_kick(qp);
		else
			nobody_there(qp);
		break;
	case IBV_QPS_ERR:
	case IBV_QPS_SQE:
		sr_sq_flush(qp);
		break;
	case IBV_QPS_SQD: /* what was begun goes on, the rest waits */
		if (qp->road == SR_ROAD_SHM)
			sr_shm_kick(qp);
		break;
	default:
		break;
	}
}

/* Fills a WQE from a work request; 0 or errno. */
static int fill(struct sr_qp *qp, struct sr_swqe *w, struct sr_av *av, const struct ibv_send_wr *wr)
{
	if (!sr_post_legal(qp, (uint8_t)wr->opcode) || wr->num_sge < 0 || (uint32_t)wr->num_sge > SR_MAX_SGE)
		return EINVAL;
	w->wr_id = wr->wr_id;
	w->opcode = (uint8_t)wr->opcode;
	w->flags = (uint8_t)((qp->sig_all || (wr->send_flags & IBV_SEND_SIGNALED) ? SR_WQE_SIGNALED : 0) |
			     (wr->send_flags & IBV_SEND_FENCE ? SR_WQE_FENCE : 0) |
			     (wr->send_flags & IBV_SEND_SOLICITED ? SR_WQE_SOLICITED : 0));
	w->imm = wr->imm_data;
	w->srqn = qp->type == IBV_QPT_XRC_SEND ? wr->qp_type.xrc.remote_srqn & 0xffffff : 0;
	w->progress_bytes = 0;
	w->road_flags = 0;

	uint64_t length = 0;
	if (wr->send_flags & IBV_SEND_INLINE) {
		if (sr_opcode_is_read(w->opcode) || sr_opcode_is_local(w->opcode))
			return EINVAL;
		char *to = sr_swqe_inline(w);
		for (int i = 0; i < wr->num_sge; i++) {
			const struct ibv_sge *s = &wr->sg_list[i];
			if (length + s->length > qp->sq.max_inline)
				return ENOMEM; /* as the kernel's drivers say */
			memcpy(to + length, (void *)(uintptr_t)s->addr, s->length);
			length += s->length;
		}
		w->flags |= SR_WQE_INLINE;
		w->num_sge = 0;
	} else {
		if ((uint32_t)wr->num_sge > qp->sq.max_sge)
			return EINVAL;
		for (int i = 0; i < wr->num_sge; i++) {
			w->sge[i] = wr->sg_list[i];
			length += wr->sg_list[i].length;
		}
		w->num_sge = (uint16_t)wr->num_sge;
		if (length > 1u << 31)
			return EINVAL;
	}
	w->length = (uint32_t)length;

	switch (w->opcode) {
	case IBV_WR_ATOMIC_CMP_AND_SWP:
	case IBV_WR_ATOMIC_FETCH_AND_ADD:
		if (length != 8)
			return EINVAL;
		w->remote_addr = wr->wr.atomic.remote_addr;
		w->rkey = wr->wr.atomic.rkey;
		w->atomic.compare_add = wr->wr.atomic.compare_add;
		w->atomic.swap = wr->wr.atomic.swap;
		break;
	case IBV_WR_RDMA_WRITE:
	case IBV_WR_RDMA_WRITE_WITH_IMM:
	case IBV_WR_RDMA_READ:
		w->remote_addr = wr->wr.rdma.remote_addr;
		w->rkey = wr->wr.rdma.rkey;
		break;
	case IBV_WR_BIND_MW:
		if (!wr->bind_mw.mw)
			return EINVAL;
		w->bind.mw = (struct sr_mw *)wr->bind_mw.mw;
		w->bind.info = (struct ibv_mw_bind_info *)sr_swqe_inline(w);
		*w->bind.info = wr->bind_mw.bind_info;
		w->rkey = wr->bind_mw.rkey;
		w->num_sge = 0;
		w->length = 0;
		break;
	default:
		if (qp->type != IBV_QPT_UD)
			break;
		if (!wr->wr.ud.ah)
			return EINVAL;
		*av = ((struct sr_ah *)wr->wr.ud.ah)->av;
		w->ud.av = av;
		w->ud.qpn = wr->wr.ud.remote_qpn & 0xffffff;
		/* The top bit asks for the queue pair's own key (IBA 10.2.5). */
		w->ud.qkey = wr->wr.ud.remote_qkey & 0x80000000u ? qp->qkey : wr->wr.ud.remote_qkey;
		break;
	}
	return 0;
}

void sr_post_reserve(struct sr_qp *qp)
{
	while (qp->build_active) {
		sr_unlock();
		sched_yield();
		sr_lock();
	}
}

bool sr_post_allowed(const struct sr_qp *qp)
{
	enum ibv_qp_state s = sr_qp_state(qp);
	if (!sr_qp_requests(qp))
		return false;
	return s == IBV_QPS_RTS || s == IBV_QPS_SQD || s == IBV_QPS_SQE || s == IBV_QPS_ERR;
}

int sr_post_send(struct ibv_qp *ibqp, struct ibv_send_wr *wr, struct ibv_send_wr **bad)
{
	struct sr_qp *qp = sr_qp(ibqp);
	struct sr_sq *sq = &qp->sq;
	int err = 0;
	if (qp->type == IBV_QPT_UD)
		for (struct ibv_send_wr *i = wr; i; i = i->next)
			if (i->wr.ud.ah)
				sr_post_prepare_ud(&((struct sr_ah *)i->wr.ud.ah)->av, i->wr.ud.remote_qpn);
	sr_lock();
	sr_guard_this_thread();
	sr_post_reserve(qp);
	if (!sr_post_allowed(qp)) {
		sr_unlock();
		*bad = wr;
		return EINVAL;
	}
	for (; wr; wr = wr->next) {
		if (sq->head - sq->tail >= sq->max_wr) {
			err = ENOMEM;
			break;
		}
		err = fill(qp, sr_sq_at(sq, sq->head), sq->av ? &sq->av[sq->head & sq->mask] : NULL, wr);
		if (err)
			break;
		sq->head++;
	}
	sr_qp_kick(qp);
	sr_unlock();
	if (err)
		*bad = wr;
	return err;
}

int sr_bind_mw(struct ibv_qp *ibqp, struct ibv_mw *mw, struct ibv_mw_bind *bind)
{
	uint32_t rkey = ibv_inc_rkey(mw->rkey);
	struct ibv_send_wr *bad, wr = {
		.wr_id = bind->wr_id,
		.opcode = IBV_WR_BIND_MW,
		.send_flags = bind->send_flags,
		.bind_mw = { .mw = mw, .rkey = rkey, .bind_info = bind->bind_info },
	};
	if (mw->type != IBV_MW_TYPE_1)
		return EINVAL; /* type 2 is bound by posting IBV_WR_BIND_MW */
	int err = sr_post_send(ibqp, &wr, &bad);
	if (!err)
		mw->rkey = rkey;
	return err;
}
