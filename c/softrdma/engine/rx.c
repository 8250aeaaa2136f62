/* rx.c - receive WQEs: taking one, filling it, completing it. */
#include <string.h>
#include "guard.h"
#include "key.h"

int sr_rx_take_into(struct sr_qp *qp, struct sr_rx *rx)
{
	struct sr_rq *rq = qp->srq ? &qp->srq->rq : &qp->rq;
	if (rq->tail == rq->head) {
		SR_COUNT(out_of_buffer);
		return -1;
	}
	struct sr_rwqe *w = sr_rq_at(rq, rq->tail++);
	rx->active = true;
	rx->discard = false;
	rx->wr_id = w->wr_id;
	rx->num_sge = w->num_sge;
	uint64_t capacity = 0;
	for (unsigned i = 0; i < w->num_sge; i++) {
		rx->sge[i] = w->sge[i];
		capacity += w->sge[i].length;
	}
	rx->capacity = capacity > UINT32_MAX ? UINT32_MAX : (uint32_t)capacity;
	if (qp->srq && qp->srq->limit && rq->head - rq->tail < qp->srq->limit) {
		qp->srq->limit = 0;
		sr_async_event(qp->srq->srq.context, IBV_EVENT_SRQ_LIMIT_REACHED, &qp->srq->srq, 0);
	}
	return 0;
}

enum ibv_wc_status sr_rx_scatter_into(struct sr_qp *qp, struct sr_rx *rx, uint32_t off, const void *data, uint32_t len)
{
	const char *from = data;
	uint32_t pd_id = qp->srq ? ((struct sr_pd *)qp->srq->srq.pd)->id : qp->pd->id; /* a shared queue has its own domain */
	if ((uint64_t)off + len > rx->capacity)
		return IBV_WC_LOC_LEN_ERR;
	for (unsigned i = 0; i < rx->num_sge && len; i++) {
		const struct ibv_sge *s = &rx->sge[i];
		if (off >= s->length) {
			off -= s->length;
			continue;
		}
		struct sr_key *k = sr_key_find(s->lkey);
		if (!k || k->kind != SR_KEY_MR || k->pd_id != pd_id || !(k->access & IBV_ACCESS_LOCAL_WRITE) ||
		    !sr_key_covers(k, s->addr, s->length))
			return IBV_WC_LOC_PROT_ERR;
		uint32_t take = s->length - off < len ? s->length - off : len;
		if (!sr_guard_copy(k->base + (s->addr - k->iova) + off, from, take))
			return IBV_WC_LOC_PROT_ERR;
		from += take;
		len -= take;
		off = 0;
	}
	return IBV_WC_SUCCESS;
}

void sr_rx_complete_from(struct sr_qp *qp, struct sr_rx *rx, enum ibv_wc_status status, struct ibv_wc *wc, bool solicited)
{
	wc->wr_id = rx->wr_id;
	wc->status = status;
	wc->qp_num = qp->qpn;
	rx->active = false;
	if (status != IBV_WC_SUCCESS)
		SR_COUNT(resp_cqe_error);
	sr_cq_push(qp->recv_cq, wc, solicited);
}

int sr_rx_take(struct sr_qp *qp) { return sr_rx_take_into(qp, qp->rx); }

enum ibv_wc_status sr_rx_scatter(struct sr_qp *qp, uint32_t off, const void *data, uint32_t len)
{
	return sr_rx_scatter_into(qp, qp->rx, off, data, len);
}

void sr_rx_complete(struct sr_qp *qp, enum ibv_wc_status status, struct ibv_wc *wc, bool solicited)
{
	sr_rx_complete_from(qp, qp->rx, status, wc, solicited);
}

/* Room in the receive WQE that is next in line; 0 when there is none. */
static uint64_t next_capacity(struct sr_qp *qp)
{
	struct sr_rq *rq = qp->srq ? &qp->srq->rq : &qp->rq;
	if (rq->tail == rq->head)
		return 0;
	struct sr_rwqe *w = sr_rq_at(rq, rq->tail);
	uint64_t capacity = 0;
	for (unsigned i = 0; i < w->num_sge; i++)
		capacity += w->sge[i].length;
	return capacity;
}

/* A RoCE v2 completion says in the service level's place which header came (IBA annex A17.4.5.1), coded as ConnectX does it: bit 3
 * UDP, below it 1 for IPv6, 2 for IPv4. UCX needs it to find the destination address in the GRH. */
static uint8_t packet_type(const void *grh)
{
	return 8 | (*(const uint8_t *)grh >> 4 == 6 ? 1 : 2);
}

void sr_ud_deliver(struct sr_qp *qp, const void *grh, const struct iovec *payload, int n, uint32_t src_qpn, uint32_t qkey,
		   bool has_imm, uint32_t imm, bool solicited)
{
	uint32_t len = SR_GRH_BYTES;
	for (int i = 0; i < n; i++)
		len += (uint32_t)payload[i].iov_len;
	if (qp->type != IBV_QPT_UD || !sr_qp_can_receive(qp)) {
		SR_COUNT(rx_no_qp);
		return;
	}
	if (qkey != qp->qkey) {
		SR_COUNT(rx_qkey_mismatch);
		return;
	}
	/* A datagram too long for the buffer is dropped, not an error: any sender could otherwise break the queue pair. */
	if (next_capacity(qp) < len || sr_rx_take(qp)) {
		SR_COUNT(rx_ud_dropped);
		return;
	}
	struct ibv_wc wc = {
		.opcode = IBV_WC_RECV,
		.byte_len = len,
		.imm_data = has_imm ? imm : 0,
		.src_qp = src_qpn,
		.wc_flags = IBV_WC_GRH | (has_imm ? IBV_WC_WITH_IMM : 0),
		.sl = packet_type(grh),
	};
	enum ibv_wc_status status = sr_rx_scatter(qp, 0, grh, SR_GRH_BYTES);
	uint32_t off = SR_GRH_BYTES;
	for (int i = 0; i < n && status == IBV_WC_SUCCESS; i++) {
		status = sr_rx_scatter(qp, off, payload[i].iov_base, (uint32_t)payload[i].iov_len);
		off += (uint32_t)payload[i].iov_len;
	}
	sr_rx_complete(qp, status, &wc, solicited);
	if (status != IBV_WC_SUCCESS)
		sr_qp_to_error(qp); /* local errors on a UD receive queue are fatal to the queue pair (IBA 10.10.3) */
}

void sr_ud_deliver_mcast(const union ibv_gid *mgid, const void *grh, const struct iovec *payload, int n, uint32_t src_qpn,
			 uint32_t qkey, bool has_imm, uint32_t imm, bool solicited)
{
	sr_list_for(q, tmp_q, &sr.mcast_qps) {
		struct sr_qp *qp = sr_list_entry(q, struct sr_qp, mcast_node);
		sr_list_for(m, tmp, &qp->mcast)
			if (!memcmp(&sr_list_entry(m, struct sr_mcast, node)->gid, mgid, sizeof *mgid)) {
				sr_ud_deliver(qp, grh, payload, n, src_qpn, qkey, has_imm, imm, solicited);
				break;
			}
	}
}
