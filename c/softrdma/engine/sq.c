/* sq.c - the send queue from the engine's side: where a WQE's bytes are, and how it ends. */
#include "../shm/shm.h"
#include "guard.h"
#include "key.h"
#include "state.h"

/* The bytes behind one sge, or NULL. */
static char *local_ptr(struct sr_qp *qp, const struct ibv_sge *s, bool writing)
{
	struct sr_key *k = sr_key_find(s->lkey);
	if (!k || k->kind != SR_KEY_MR || k->pd_id != qp->pd->id || !sr_key_covers(k, s->addr, s->length) ||
	    (writing && !(k->access & IBV_ACCESS_LOCAL_WRITE)))
		return NULL;
	return k->base + (s->addr - k->iova);
}

int sr_swqe_iov(struct sr_qp *qp, struct sr_swqe *w, uint32_t off, uint32_t len, bool writing, struct iovec *iov, int max)
{
	int n = 0;
	if (len == 0)
		return 0;
	if (w->flags & SR_WQE_INLINE) {
		iov[0] = (struct iovec){ sr_swqe_inline(w) + off, len };
		return 1;
	}
	for (unsigned i = 0; i < w->num_sge && len; i++) {
		const struct ibv_sge *s = &w->sge[i];
		if (off >= s->length) {
			off -= s->length;
			continue;
		}
		char *p = local_ptr(qp, s, writing);
		if (!p)
			return -IBV_WC_LOC_PROT_ERR;
		uint32_t take = s->length - off < len ? s->length - off : len;
		if (n == max)
			return -IBV_WC_LOC_LEN_ERR;
		iov[n++] = (struct iovec){ p + off, take };
		len -= take;
		off = 0;
	}
	return len ? -IBV_WC_LOC_LEN_ERR : n;
}

int sr_swqe_store(struct sr_qp *qp, struct sr_swqe *w, uint32_t off, const void *data, uint32_t len)
{
	struct iovec iov[SR_MAX_SGE];
	int n = sr_swqe_iov(qp, w, off, len, true, iov, SR_MAX_SGE);
	if (n < 0)
		return n;
	return sr_guard_spread(iov, n, data) ? 0 : -IBV_WC_LOC_PROT_ERR;
}

static enum ibv_wc_opcode wc_opcode(uint8_t op)
{
	switch (op) {
	case IBV_WR_RDMA_WRITE:
	case IBV_WR_RDMA_WRITE_WITH_IMM:
		return IBV_WC_RDMA_WRITE;
	case IBV_WR_RDMA_READ:
		return IBV_WC_RDMA_READ;
	case IBV_WR_ATOMIC_CMP_AND_SWP:
		return IBV_WC_COMP_SWAP;
	case IBV_WR_ATOMIC_FETCH_AND_ADD:
		return IBV_WC_FETCH_ADD;
	case IBV_WR_LOCAL_INV:
		return IBV_WC_LOCAL_INV;
	case IBV_WR_BIND_MW:
		return IBV_WC_BIND_MW;
	default:
		return IBV_WC_SEND;
	}
}

static void push(struct sr_qp *qp, struct sr_swqe *w, enum ibv_wc_status status, uint32_t vendor_err)
{
	struct ibv_wc wc = {
		.wr_id = w->wr_id,
		.status = status,
		.opcode = wc_opcode(w->opcode),
		.vendor_err = vendor_err,
		.byte_len = w->length,
		.qp_num = qp->qpn,
	};
	sr_cq_push(qp->send_cq, &wc, false);
}

bool sr_sq_drained(const struct sr_qp *qp)
{
	return qp->sq.tail == qp->sq.next && !(qp->road == SR_ROAD_SHM && sr_shm_begun(qp));
}

void sr_sq_complete(struct sr_qp *qp, uint32_t end)
{
	while (qp->sq.tail != end) {
		struct sr_swqe *w = sr_sq_at(&qp->sq, qp->sq.tail);
		if (sr_opcode_is_read(w->opcode) && qp->reads_outstanding)
			qp->reads_outstanding--;
		qp->sq.tail++;
		if (w->flags & SR_WQE_SIGNALED)
			push(qp, w, IBV_WC_SUCCESS, 0);
	}
	if (qp->sqd_draining && sr_sq_drained(qp)) {
		qp->sqd_draining = false;
		sr_qp_event(qp, IBV_EVENT_SQ_DRAINED);
	}
}

void sr_sq_flush(struct sr_qp *qp)
{
	while (qp->sq.tail != qp->sq.head) {
		push(qp, sr_sq_at(&qp->sq, qp->sq.tail), IBV_WC_WR_FLUSH_ERR, 0);
		qp->sq.tail++;
	}
	qp->sq.next = qp->sq.head;
	qp->reads_outstanding = 0;
}

void sr_sq_fail(struct sr_qp *qp, enum ibv_wc_status status, uint32_t vendor_err)
{
	if (qp->sq.tail == qp->sq.head)
		return;
	SR_COUNT(req_cqe_error);
	if (status == IBV_WC_REM_ACCESS_ERR)
		SR_COUNT(req_remote_access_errors);
	else if (status == IBV_WC_REM_INV_REQ_ERR)
		SR_COUNT(req_remote_invalid_request);
	push(qp, sr_sq_at(&qp->sq, qp->sq.tail++), status, vendor_err);
	if (sr_qp_reliable(qp)) {
		sr_qp_to_error(qp);
		return;
	}
	/* UC and UD: only the sending half stops; receiving goes on (IBA 10.3.1, SQEr). */
	if (sr_qp_state(qp) == IBV_QPS_RTS || sr_qp_state(qp) == IBV_QPS_SQD)
		qp->ex.qp_base.state = IBV_QPS_SQE;
	sr_sq_flush(qp);
}

enum ibv_wc_status sr_swqe_local(struct sr_qp *qp, struct sr_swqe *w)
{
	if (w->opcode == IBV_WR_LOCAL_INV) {
		struct sr_key *k = sr_key_find(w->imm);
		if (!k || k->kind != SR_KEY_MW2 || k->pd_id != qp->pd->id)
			return IBV_WC_LOC_PROT_ERR;
		sr_shm_retract_key(k);
		k->dead = true;
		if (k->region)
			atomic_fetch_sub(&k->region->windows, 1);
		k->region = NULL;
		return IBV_WC_SUCCESS;
	}
	return sr_mw_bind_execute(qp, w->bind.mw, w->rkey, w->bind.info);
}
