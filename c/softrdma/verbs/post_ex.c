/*
 * post_ex.c - the extended posting interface (ibv_wr_start ... ibv_wr_complete). WQEs are built in the ring itself; nothing is
 * visible to the engine until ibv_wr_complete(). Between start and complete the queue pair, not the engine, is reserved: an
 * application may build on several queue pairs at once.
 */
#include <errno.h>
#include <string.h>
#include "../engine/lock.h"
#include "qp.h"

static struct sr_qp *of(struct ibv_qp_ex *ex) { return (struct sr_qp *)ex; }

static void wr_start(struct ibv_qp_ex *ex)
{
	struct sr_qp *qp = of(ex);
	sr_lock();
	sr_post_reserve(qp);
	qp->build_active = true;
	qp->build_start = qp->build_head = qp->sq.head;
	sr_unlock();
	qp->building = NULL;
	qp->build_err = 0;
}

static struct sr_swqe *begin(struct ibv_qp_ex *ex, enum ibv_wr_opcode op)
{
	struct sr_qp *qp = of(ex);
	struct sr_sq *sq = &qp->sq;
	qp->building = NULL;
	if (qp->build_err)
		return NULL;
	if (!sr_post_legal(qp, (uint8_t)op)) {
		qp->build_err = EINVAL;
		return NULL;
	}
	sr_lock();
	bool full = qp->build_head - sq->tail >= sq->max_wr;
	sr_unlock();
	if (full) {
		qp->build_err = ENOMEM;
		return NULL;
	}
	struct sr_swqe *w = sr_sq_at(sq, qp->build_head);
	memset(w, 0, sizeof *w);
	w->wr_id = ex->wr_id;
	w->opcode = (uint8_t)op;
	w->flags = (uint8_t)((qp->sig_all || (ex->wr_flags & IBV_SEND_SIGNALED) ? SR_WQE_SIGNALED : 0) |
			     (ex->wr_flags & IBV_SEND_FENCE ? SR_WQE_FENCE : 0) |
			     (ex->wr_flags & IBV_SEND_SOLICITED ? SR_WQE_SOLICITED : 0));
	if (qp->type == IBV_QPT_UD)
		w->ud.av = &sq->av[qp->build_head & sq->mask];
	qp->build_head++;
	qp->building = w;
	return w;
}

static void wr_send(struct ibv_qp_ex *ex) { begin(ex, IBV_WR_SEND); }

static void wr_send_imm(struct ibv_qp_ex *ex, __be32 imm)
{
	struct sr_swqe *w = begin(ex, IBV_WR_SEND_WITH_IMM);
	if (w)
		w->imm = imm;
}

static void wr_send_inv(struct ibv_qp_ex *ex, uint32_t rkey)
{
	struct sr_swqe *w = begin(ex, IBV_WR_SEND_WITH_INV);
	if (w)
		w->imm = rkey;
}

static struct sr_swqe *rdma(struct ibv_qp_ex *ex, enum ibv_wr_opcode op, uint32_t rkey, uint64_t addr)
{
	struct sr_swqe *w = begin(ex, op);
	if (w) {
		w->rkey = rkey;
		w->remote_addr = addr;
	}
	return w;
}

static void wr_rdma_write(struct ibv_qp_ex *ex, uint32_t rkey, uint64_t addr) { rdma(ex, IBV_WR_RDMA_WRITE, rkey, addr); }
static void wr_rdma_read(struct ibv_qp_ex *ex, uint32_t rkey, uint64_t addr) { rdma(ex, IBV_WR_RDMA_READ, rkey, addr); }

static void wr_rdma_write_imm(struct ibv_qp_ex *ex, uint32_t rkey, uint64_t addr, __be32 imm)
{
	struct sr_swqe *w = rdma(ex, IBV_WR_RDMA_WRITE_WITH_IMM, rkey, addr);
	if (w)
		w->imm = imm;
}

static void wr_atomic_cmp_swp(struct ibv_qp_ex *ex, uint32_t rkey, uint64_t addr, uint64_t compare, uint64_t swap)
{
	struct sr_swqe *w = rdma(ex, IBV_WR_ATOMIC_CMP_AND_SWP, rkey, addr);
	if (w) {
		w->atomic.compare_add = compare;
		w->atomic.swap = swap;
	}
}

static void wr_atomic_fetch_add(struct ibv_qp_ex *ex, uint32_t rkey, uint64_t addr, uint64_t add)
{
	struct sr_swqe *w = rdma(ex, IBV_WR_ATOMIC_FETCH_AND_ADD, rkey, addr);
	if (w)
		w->atomic.compare_add = add;
}

static void wr_local_inv(struct ibv_qp_ex *ex, uint32_t rkey)
{
	struct sr_swqe *w = begin(ex, IBV_WR_LOCAL_INV);
	if (w)
		w->imm = rkey;
}

static void wr_bind_mw(struct ibv_qp_ex *ex, struct ibv_mw *mw, uint32_t rkey, const struct ibv_mw_bind_info *info)
{
	struct sr_swqe *w = begin(ex, IBV_WR_BIND_MW);
	if (w) {
		w->bind.mw = (struct sr_mw *)mw;
		w->bind.info = (struct ibv_mw_bind_info *)sr_swqe_inline(w);
		*w->bind.info = *info;
		w->rkey = rkey;
	}
}

static void wr_set_ud_addr(struct ibv_qp_ex *ex, struct ibv_ah *ah, uint32_t qpn, uint32_t qkey)
{
	struct sr_qp *qp = of(ex);
	if (!qp->building)
		return;
	*qp->building->ud.av = ((struct sr_ah *)ah)->av;
	qp->building->ud.qpn = qpn & 0xffffff;
	qp->building->ud.qkey = qkey & 0x80000000u ? qp->qkey : qkey;
}

static void wr_set_xrc_srqn(struct ibv_qp_ex *ex, uint32_t srqn)
{
	if (of(ex)->building)
		of(ex)->building->srqn = srqn & 0xffffff;
}

static void wr_set_sge_list(struct ibv_qp_ex *ex, size_t n, const struct ibv_sge *sg)
{
	struct sr_qp *qp = of(ex);
	struct sr_swqe *w = qp->building;
	uint64_t length = 0;
	if (!w)
		return;
	for (size_t i = 0; i < n && n <= qp->sq.max_sge; i++) {
		w->sge[i] = sg[i];
		length += sg[i].length;
	}
	if (n > qp->sq.max_sge || length > 1u << 31) {
		qp->build_err = EINVAL;
		return;
	}
	w->num_sge = (uint16_t)n;
	w->length = (uint32_t)length;
	if ((w->opcode == IBV_WR_ATOMIC_CMP_AND_SWP || w->opcode == IBV_WR_ATOMIC_FETCH_AND_ADD) && length != 8)
		qp->build_err = EINVAL;
}

static void wr_set_sge(struct ibv_qp_ex *ex, uint32_t lkey, uint64_t addr, uint32_t length)
{
	struct ibv_sge s = { .addr = addr, .length = length, .lkey = lkey };
	wr_set_sge_list(ex, 1, &s);
}

static void wr_set_inline_data_list(struct ibv_qp_ex *ex, size_t n, const struct ibv_data_buf *buf)
{
	struct sr_qp *qp = of(ex);
	struct sr_swqe *w = qp->building;
	size_t length = 0;
	if (!w)
		return;
	if (sr_opcode_is_read(w->opcode) || sr_opcode_is_local(w->opcode)) {
		qp->build_err = EINVAL;
		return;
	}
	for (size_t i = 0; i < n; i++) {
		if (buf[i].length > qp->sq.max_inline - length) {
			qp->build_err = ENOMEM;
			return;
		}
		memcpy(sr_swqe_inline(w) + length, buf[i].addr, buf[i].length);
		length += buf[i].length;
	}
	w->flags |= SR_WQE_INLINE;
	w->length = (uint32_t)length;
}

static void wr_set_inline_data(struct ibv_qp_ex *ex, void *addr, size_t length)
{
	struct ibv_data_buf buf = { .addr = addr, .length = length };
	wr_set_inline_data_list(ex, 1, &buf);
}

static int wr_complete(struct ibv_qp_ex *ex)
{
	struct sr_qp *qp = of(ex);
	int err = qp->build_err;
	if (!err && qp->type == IBV_QPT_UD)
		for (uint32_t i = qp->build_start; i != qp->build_head; i++) {
			struct sr_swqe *w = sr_sq_at(&qp->sq, i);
			sr_post_prepare_ud(w->ud.av, w->ud.qpn);
		}
	sr_lock();
	/* A reset since wr_start moved the head: what was built belongs to nothing. */
	if (!err && (!sr_post_allowed(qp) || qp->sq.head != qp->build_start))
		err = EINVAL;
	if (!err) {
		qp->sq.head = qp->build_head;
		sr_qp_kick(qp);
	}
	qp->building = NULL;
	qp->build_active = false;
	sr_unlock();
	return err;
}

static void wr_abort(struct ibv_qp_ex *ex)
{
	struct sr_qp *qp = of(ex);
	sr_lock();
	qp->building = NULL;
	qp->build_active = false;
	sr_unlock();
}

int sr_qp_ex_check_ops(enum ibv_qp_type type, uint64_t flags)
{
	const uint64_t send = IBV_QP_EX_WITH_SEND | IBV_QP_EX_WITH_SEND_WITH_IMM;
	const uint64_t write = IBV_QP_EX_WITH_RDMA_WRITE | IBV_QP_EX_WITH_RDMA_WRITE_WITH_IMM | IBV_QP_EX_WITH_LOCAL_INV |
			       IBV_QP_EX_WITH_BIND_MW;
	const uint64_t rc = IBV_QP_EX_WITH_RDMA_READ | IBV_QP_EX_WITH_ATOMIC_CMP_AND_SWP |
			    IBV_QP_EX_WITH_ATOMIC_FETCH_AND_ADD | IBV_QP_EX_WITH_SEND_WITH_INV;
	bool reliable = type == IBV_QPT_RC || type == IBV_QPT_XRC_SEND;
	uint64_t known = send | (type != IBV_QPT_UD ? write : 0) | (reliable ? rc : 0);
	return flags & ~known ? EOPNOTSUPP : 0;
}

void sr_qp_ex_init(struct sr_qp *qp)
{
	struct ibv_qp_ex *ex = &qp->ex;
	ex->wr_start = wr_start;
	ex->wr_complete = wr_complete;
	ex->wr_abort = wr_abort;
	ex->wr_send = wr_send;
	ex->wr_send_imm = wr_send_imm;
	ex->wr_send_inv = wr_send_inv;
	ex->wr_rdma_write = wr_rdma_write;
	ex->wr_rdma_write_imm = wr_rdma_write_imm;
	ex->wr_rdma_read = wr_rdma_read;
	ex->wr_atomic_cmp_swp = wr_atomic_cmp_swp;
	ex->wr_atomic_fetch_add = wr_atomic_fetch_add;
	ex->wr_local_inv = wr_local_inv;
	ex->wr_bind_mw = wr_bind_mw;
	ex->wr_set_ud_addr = wr_set_ud_addr;
	ex->wr_set_xrc_srqn = wr_set_xrc_srqn;
	ex->wr_set_sge = wr_set_sge;
	ex->wr_set_sge_list = wr_set_sge_list;
	ex->wr_set_inline_data = wr_set_inline_data;
	ex->wr_set_inline_data_list = wr_set_inline_data_list;
}

struct ibv_qp_ex *ibv_qp_to_qp_ex(struct ibv_qp *qp) { return &sr_qp(qp)->ex; }
