/* ud.c - datagrams on road 1. The message's payload is the 40 bytes of GRH and the data. */
#include <arpa/inet.h>
#include "../engine/guard.h"
#include "road.h"
#include "shm.h"

/* A full ring holds its senders back, as a lossless fabric does: the receiver may merely be off the CPU, with receive WQEs posted. One
 * that has not read for so long loses what is sent until it reads again (it is stopped, or in a debugger). */
#define FULL_NS 1000000000u
#define NO_RECEIVE_NS 5000000u /* how long a datagram waits for a receive WQE */

/* What a receiver of a RoCE v2 datagram finds in the first 40 bytes of its buffer: an IPv6 header, or 20 zero bytes and an IPv4
 * header (rdma-core, "ibv_create_ah_from_wc"). */
static void fill_grh(unsigned char *grh, const struct sr_av *av, uint32_t payload)
{
	memset(grh, 0, SR_GRH_BYTES);
	uint16_t len = (uint16_t)(payload + 8 + 12 + 8 + 4); /* UDP, BTH, DETH, ICRC */
	if (av->ipv4) {
		unsigned char *ip = grh + 20;
		uint16_t total = htons((uint16_t)(20 + len));
		ip[0] = 0x45;
		ip[1] = av->traffic_class;
		memcpy(ip + 2, &total, 2);
		ip[6] = 0x40;
		ip[8] = av->hop_limit;
		ip[9] = 17;
		memcpy(ip + 12, av->sgid.raw + 12, 4);
		memcpy(ip + 16, av->dgid.raw + 12, 4);
		uint32_t sum = 0;
		for (int i = 0; i < 20; i += 2)
			sum += (uint32_t)(ip[i] << 8 | ip[i + 1]);
		sum = (sum & 0xffff) + (sum >> 16);
		sum += sum >> 16;
		ip[10] = (unsigned char)(~sum >> 8);
		ip[11] = (unsigned char)~sum;
		return;
	}
	uint32_t first = htonl(6u << 28 | (uint32_t)av->traffic_class << 20 | av->flow_label);
	memcpy(grh, &first, 4);
	len = htons(len);
	memcpy(grh + 4, &len, 2);
	grh[6] = 17;
	grh[7] = av->hop_limit;
	memcpy(grh + 8, av->sgid.raw, 16);
	memcpy(grh + 24, av->dgid.raw, 16);
}

enum sr_ud_sent sr_shm_ud_send(struct sr_qp *qp, struct sr_swqe *w, const struct iovec *iov, int n)
{
	struct sr_link *l = sr.link_by_slot[sr_qpn_slot(w->ud.qpn)];
	if (!l)
		return SR_UD_UNREACHABLE;
	size_t bytes = sizeof(struct sr_msg) + SR_GRH_BYTES + w->length;
	struct sr_msg *m = sr_link_reserve(l, bytes);
	if (!m && l->stalled && l->stalled_head == l->tx.head_seen) {
		SR_COUNT(rx_ud_dropped);
		return SR_UD_SENT;
	}
	l->stalled = false;
	if (!m) {
		sr_shm_wait_room(l, qp);
		sr_shm_set_timer(qp, FULL_NS);
		return SR_UD_FULL;
	}
	m->src_qpn = qp->qpn;
	m->dst_qpn = w->ud.qpn;
	m->number = 0;
	m->ack = 0;
	m->length = SR_GRH_BYTES + w->length;
	m->imm = w->ud.qkey;
	m->total = w->imm;
	char *to = (char *)(m + 1);
	fill_grh((unsigned char *)to, w->ud.av, w->length);
	if (!sr_guard_gather(to + SR_GRH_BYTES, iov, n)) {
		sr_tx_cancel(m, bytes);
		return SR_UD_FAULT;
	}
	sr_link_commit(l, m, bytes, SR_MSG_UD,
		       SR_MSGF_FIRST | SR_MSGF_LAST | (w->opcode == IBV_WR_SEND_WITH_IMM ? SR_MSGF_IMM : 0) |
			       (w->flags & SR_WQE_SOLICITED ? SR_MSGF_SOLICITED : 0));
	SR_COUNT(shm_messages_sent);
	sr_link_ring_bell(l);
	return SR_UD_SENT;
}

void sr_shm_ud_give_up(struct sr_qp *qp)
{
	struct sr_link *l = sr.link_by_slot[sr_qpn_slot(sr_sq_at(&qp->sq, qp->sq.next)->ud.qpn)];
	if (l) {
		l->stalled = true;
		l->stalled_head = l->tx.head_seen;
	}
	SR_COUNT(rx_ud_dropped);
	sr_sq_complete(qp, ++qp->sq.next);
}

/* A receiver that is merely late (preempted, while the helper reads its ring) should not lose datagrams that a sender's full ring
 * would hold back: the ring rests for a moment. One that leaves its queue empty is not waited for again until it posts. */
bool sr_shm_ud_must_wait(const struct sr_msg *m)
{
	struct sr_qp *qp = sr_qp_find(SR_ONCE(m->dst_qpn));
	if (!qp || qp->type != IBV_QPT_UD || !sr_qp_can_receive(qp))
		return false;
	struct sr_rq *rq = qp->srq ? &qp->srq->rq : &qp->rq;
	if (rq->head != rq->tail) {
		qp->shm.patience_until_ns = 0;
		return false;
	}
	if (qp->shm.impatient && qp->shm.impatient_head == rq->head)
		return false;
	uint64_t now = sr_now_ns();
	if (!qp->shm.patience_until_ns)
		qp->shm.patience_until_ns = now + NO_RECEIVE_NS;
	if (now < qp->shm.patience_until_ns)
		return true;
	qp->shm.patience_until_ns = 0;
	qp->shm.impatient = true;
	qp->shm.impatient_head = rq->head;
	return false;
}

void sr_shm_ud_receive_posted(struct sr_qp *qp)
{
	if (qp->shm.patience_until_ns) {
		qp->shm.patience_until_ns = 0;
		if (sr.helper_asleep)
			sr_helper_kick();
	}
}

void sr_shm_on_ud(const struct sr_msg *m, size_t room, uint32_t flags)
{
	struct sr_qp *qp = sr_qp_find(SR_ONCE(m->dst_qpn));
	uint32_t length = SR_ONCE(m->length);
	if (!qp || length < SR_GRH_BYTES || length > room) {
		SR_COUNT(shm_bad_messages);
		return;
	}
	const char *payload = (const char *)(m + 1);
	struct iovec iov = { (void *)(uintptr_t)(payload + SR_GRH_BYTES), length - SR_GRH_BYTES };
	sr_ud_deliver(qp, payload, &iov, 1, m->src_qpn, m->imm, flags & SR_MSGF_IMM, m->total, flags & SR_MSGF_SOLICITED);
}
