/*
 * responder_uc.c - unreliable connections: no answers, no retries. A message that misses a packet is dropped whole, and
 * whatever does not belong is dropped and counted; the receive WQE it had taken serves the next message.
 */
#define _GNU_SOURCE
#include "../engine/guard.h"
#include "wire.h"

static void give_up(struct sr_wire_qp *w)
{
	SR_COUNT(rx_uc_dropped);
	w->rsp.in_message = false;
	w->rsp.uc_skip = true;
}

/* The message begins. False: it is to be skipped. */
static bool begin(struct sr_wire_qp *w, const struct sr_pkt *p)
{
	struct sr_responder *s = &w->rsp;
	struct sr_qp *qp = w->qp;
	bool write = p->flags & SR_M_WRITE;
	if (!write && !qp->rx->active && sr_rx_take(qp))
		return false;
	if (write) {
		if (p->dma_len && (!(qp->access & IBV_ACCESS_REMOTE_WRITE) ||
				   !sr_remote_ptr(qp, p->rkey, p->va, p->dma_len, IBV_ACCESS_REMOTE_WRITE))) {
			SR_COUNT(resp_remote_access_errors);
			return false;
		}
		s->rkey = p->rkey;
		s->va = p->va;
		s->length = p->dma_len;
	}
	s->offset = 0;
	s->in_message = true;
	s->in_write = write;
	s->uc_skip = false;
	return true;
}

static void fail_receive(struct sr_wire_qp *w, enum ibv_wc_status status, uint32_t byte_len)
{
	struct ibv_wc wc = { .opcode = IBV_WC_RECV, .byte_len = byte_len, .src_qp = w->qp->dest_qpn };
	sr_rx_complete(w->qp, status, &wc, false);
	sr_qp_to_error(w->qp);
}

static bool place(struct sr_wire_qp *w, const struct sr_pkt *p)
{
	struct sr_responder *s = &w->rsp;
	if (!s->in_write) {
		enum ibv_wc_status status = sr_rx_scatter(w->qp, s->offset, p->payload, p->payload_len);
		/* Too long: the message is dropped, as class D errors of the specification are (and rxe does it). */
		if (status != IBV_WC_SUCCESS && status != IBV_WC_LOC_LEN_ERR)
			fail_receive(w, status, s->offset + p->payload_len);
		return status == IBV_WC_SUCCESS;
	}
	uint64_t end = (uint64_t)s->offset + p->payload_len;
	if (p->flags & SR_M_LAST ? end != s->length : end >= s->length)
		return false;
	if (p->payload_len == 0)
		return true;
	void *to = sr_remote_ptr(w->qp, s->rkey, s->va + s->offset, p->payload_len, IBV_ACCESS_REMOTE_WRITE);
	if (to && sr_guard_copy(to, p->payload, p->payload_len))
		return true;
	SR_COUNT(resp_remote_access_errors);
	return false;
}

static void finish(struct sr_wire_qp *w, const struct sr_pkt *p)
{
	struct sr_responder *s = &w->rsp;
	bool imm = p->flags & SR_H_IMM;
	s->in_message = false;
	if (s->in_write && !imm)
		return;
	if (s->in_write && !w->qp->rx->active && sr_rx_take(w->qp)) {
		SR_COUNT(rx_uc_dropped); /* the data is there, its announcement is not */
		return;
	}
	struct ibv_wc wc = { .opcode = s->in_write ? IBV_WC_RECV_RDMA_WITH_IMM : IBV_WC_RECV, .byte_len = s->offset,
			     .imm_data = imm ? p->imm : 0, .wc_flags = imm ? IBV_WC_WITH_IMM : 0, .src_qp = w->qp->dest_qpn };
	sr_rx_complete(w->qp, IBV_WC_SUCCESS, &wc, p->se);
}

void sr_rsp_uc(struct sr_wire_qp *w, const struct sr_pkt *p)
{
	struct sr_responder *s = &w->rsp;
	bool first = p->flags & SR_M_FIRST, last = p->flags & SR_M_LAST, gap = p->psn != s->psn;
	if (gap)
		SR_COUNT(out_of_sequence);
	s->psn = sr_psn_add(p->psn, 1);
	if ((gap || first) && s->in_message)
		give_up(w);
	if (!first && (s->uc_skip || !s->in_message)) {
		if (!s->uc_skip)
			give_up(w);
		return;
	}
	bool fits = last ? p->payload_len <= w->mtu : p->payload_len == w->mtu;
	if (!fits || (first && !begin(w, p)) || (!first && s->in_write != !!(p->flags & SR_M_WRITE))) {
		give_up(w);
		return;
	}
	if (!place(w, p)) {
		if (!w->dead)
			give_up(w);
		return;
	}
	s->offset += p->payload_len;
	if (last)
		finish(w, p);
}
