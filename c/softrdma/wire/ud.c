/* ud.c - datagrams: one packet each way, and the 40 bytes of header that a UD receiver finds before the payload. */
#define _GNU_SOURCE
#include "wire.h"
#include "bytes.h"

bool sr_wire_ud_send(struct sr_qp *qp, struct sr_swqe *e)
{
	struct iovec iov[SR_MAX_SGE];
	struct sr_path path;
	if (sr_wire.fd == -1)
		return true;
	int n = sr_swqe_iov(qp, e, 0, e->length, false, iov, SR_MAX_SGE);
	if (n < 0)
		return false;
	sr_path_init(&path, e->ud.av);
	struct sr_pkt p = {
		.opcode = e->opcode == IBV_WR_SEND_WITH_IMM ? SR_OP_UD_SEND_ONLY_IMM : SR_OP_UD_SEND_ONLY,
		.se = e->flags & SR_WQE_SOLICITED,
		.migreq = true,
		.pkey = SR_DEFAULT_PKEY,
		.qpn = e->ud.av->multicast ? SR_QPN_MULTICAST : e->ud.qpn,
		.psn = qp->attr.sq_psn,
		.qkey = e->ud.qkey,
		.src_qpn = qp->qpn,
		.imm = e->imm,
	};
	qp->attr.sq_psn = sr_psn_add(qp->attr.sq_psn, 1);
	if (!sr_tx_packet(&path, &p, iov, n))
		return false;
	sr_tx_flush(); /* the caller completes the WQE: its memory goes back to the application */
	return true;
}

/* The network header as an InfiniBand GRH, or the IPv4 header in its last 20 bytes. TTL and TOS are not known to a UDP
 * socket; the usual values stand in. */
static void build_grh(const struct sr_rx_meta *meta, size_t udp_payload_len, uint8_t grh[SR_GRH_BYTES])
{
	memset(grh, 0, SR_GRH_BYTES);
	if (!meta->icrc.ipv4) {
		grh[0] = 0x60;
		sr_put16(grh + 4, (uint16_t)(udp_payload_len + 8));
		grh[6] = IPPROTO_UDP;
		grh[7] = 64;
		memcpy(grh + 8, meta->from.sin6_addr.s6_addr, 16);
		memcpy(grh + 24, meta->to.s6_addr, 16);
		return;
	}
	uint8_t *ip = grh + 20;
	ip[0] = 0x45;
	sr_put16(ip + 2, (uint16_t)(udp_payload_len + 28));
	sr_put16(ip + 6, 0x4000);
	ip[8] = 64;
	ip[9] = IPPROTO_UDP;
	memcpy(ip + 12, meta->from.sin6_addr.s6_addr + 12, 4);
	memcpy(ip + 16, meta->to.s6_addr + 12, 4);
	uint32_t sum = 0;
	for (int i = 0; i < 20; i += 2)
		sum += sr_get16(ip + i);
	sum = (sum & 0xffff) + (sum >> 16);
	sr_put16(ip + 10, (uint16_t)~((sum & 0xffff) + (sum >> 16)));
}

void sr_ud_receive(const struct sr_rx_meta *meta, const struct sr_pkt *p, size_t len)
{
	uint8_t grh[SR_GRH_BYTES];
	struct iovec iov = { (void *)p->payload, p->payload_len };
	bool imm = p->flags & SR_H_IMM;
	build_grh(meta, len, grh);
	if (p->qpn == SR_QPN_MULTICAST) {
		union ibv_gid group;
		memcpy(group.raw, meta->to.s6_addr, 16);
		sr_ud_deliver_mcast(&group, grh, &iov, 1, p->src_qpn, p->qkey, imm, p->imm, p->se);
		return;
	}
	struct sr_qp *qp = sr_qp_find(p->qpn);
	if (qp)
		sr_ud_deliver(qp, grh, &iov, 1, p->src_qpn, p->qkey, imm, p->imm, p->se);
	else
		SR_COUNT(rx_no_qp);
}
