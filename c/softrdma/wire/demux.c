/* demux.c - from a received packet to the queue pair it is for, past every check that may drop it. */
#define _GNU_SOURCE
#include "gsi.h"
#include "wire.h"

#define GSO_SEGMENTS_MAX 128 /* our own packets' IPv4 identification is their index in a datagram */

static void count_malformed(enum sr_pkt_error err)
{
	if (err == SR_PKT_OPCODE)
		SR_COUNT(rx_unknown_opcode);
	else
		SR_COUNT(rx_malformed);
}

static bool to_is_known(const struct sr_rx_meta *meta) { return meta->icrc.len != 0; }

static bool from_peer(const struct sr_qp *qp, const struct sr_rx_meta *meta)
{
	return memcmp(qp->av.dgid.raw, meta->from.sin6_addr.s6_addr, 16) == 0 &&
	       (!to_is_known(meta) || memcmp(qp->av.sgid.raw, meta->to.s6_addr, 16) == 0);
}

/* What the ICRC covers outside of the packet. Where the packet was sent to is taken to be the queue pair's own address when the
 * socket did not say: if that is wrong, so is the ICRC. */
static const struct sr_icrc_path *origin(struct sr_wire_qp *w, const struct sr_rx_meta *meta)
{
	if (to_is_known(meta))
		return &meta->icrc;
	if (w->peer_port != meta->from.sin6_port) {
		const struct sr_av *av = &w->qp->av;
		w->peer_port = meta->from.sin6_port;
		sr_icrc_path_init(&w->from_peer, av->dgid.raw, av->sgid.raw, ntohs(w->peer_port), SR_ROCE_PORT);
	}
	return &w->from_peer;
}

static bool icrc_good(const struct sr_icrc_path *path, uint16_t segment, const struct sr_pkt *p, const uint8_t *packet, size_t len)
{
	uint16_t id_max = (p->resv_fb & SR_BTH_RESV_MASK) == SR_BTH_MARK ? GSO_SEGMENTS_MAX - 1 : UINT16_MAX;
	return sr_icrc_check(path, segment, packet, len, p->header_len, id_max);
}

/*
 * One of our devices sends everything of a queue pair from one random port, so who speaks in its name has to guess that too. With
 * selective recovery a request may be as far ahead as the window is wide, where go-back-N would ask for the very PSN; the port makes
 * up for it. It is believed to be the one of a packet whose PSN was expected.
 */
static bool port_is_right(struct sr_wire_qp *w, const struct sr_pkt *p, in_port_t port)
{
	const struct sr_requester *r = &w->req;
	if (w->ours)
		return w->qp->type == IBV_QPT_UC || w->port == port;
	if ((p->resv_fb & SR_BTH_RESV_MASK) != SR_BTH_MARK)
		return true;
	bool expected = w->qp->type == IBV_QPT_UC || p->psn == w->rsp.psn;
	if (p->flags & SR_M_RESPONSE || p->opcode == SR_OP_SACK)
		expected = w->rts && r->psn != r->una && sr_psn_diff(p->psn, r->una) >= 0 && sr_psn_diff(p->psn, r->psn) <= 0;
	if (expected) {
		w->ours = true;
		w->port = port;
	}
	return true;
}

static void connected(struct sr_wire_qp *w, const struct sr_pkt *p, const uint8_t *packet, size_t len, in_port_t port)
{
	struct sr_qp *qp = w->qp;
	bool uc = qp->type == IBV_QPT_UC, response = p->flags & SR_M_RESPONSE;
	bool ours = p->opcode == SR_OP_SACK ? !uc : (p->opcode & SR_OP_TRANSPORT) == w->transport;
	if (!ours || !(response ? sr_qp_requests(qp) : sr_qp_responds(qp))) {
		SR_COUNT(rx_unknown_opcode);
		return;
	}
	if (!port_is_right(w, p, port)) {
		SR_COUNT(rx_wrong_peer);
		return;
	}
	if (!w->established) {
		w->established = true;
		if (sr_qp_state(qp) == IBV_QPS_RTR)
			sr_qp_event(qp, IBV_EVENT_COMM_EST);
	}
	SR_COUNT_N(port_rcv_data, p->payload_len);
	if (uc)
		sr_rsp_uc(w, p);
	else if (response)
		sr_req_response(w, p);
	else
		sr_rsp_request(w, p, packet, len);
}

/* The socket did not say where this datagram was sent to: to the local address with which its ICRC is right. */
struct search {
	struct sr_rx_meta meta;
	const struct sr_pkt *p;
	const uint8_t *packet;
	size_t len;
};

static bool sent_to(void *arg, const union ibv_gid *gid)
{
	struct search *s = arg;
	if (IN6_IS_ADDR_V4MAPPED((const struct in6_addr *)gid->raw) != IN6_IS_ADDR_V4MAPPED(&s->meta.from.sin6_addr))
		return false;
	memcpy(&s->meta.to, gid->raw, sizeof(s->meta.to));
	sr_icrc_path_init(&s->meta.icrc, s->meta.from.sin6_addr.s6_addr, gid->raw, ntohs(s->meta.from.sin6_port), SR_ROCE_PORT);
	return icrc_good(&s->meta.icrc, s->meta.segment, s->p, s->packet, s->len);
}

void sr_demux(const struct sr_rx_meta *meta, uint8_t *packet, size_t len, bool forwarded)
{
	struct sr_pkt p;
	struct search search;
	SR_COUNT(port_rcv_packets);
	sr_wire.arrived_ns = meta->arrived_ns;
	enum sr_pkt_error err = sr_pkt_decode(&p, packet, len);
	if (err != SR_PKT_OK) {
		count_malformed(err);
		return;
	}
	bool gsi = p.qpn == SR_QPN_GSI;
	if (p.qpn != SR_QPN_MULTICAST && !gsi && sr_qpn_slot(p.qpn) != sr_wire.slot) {
		if (forwarded)
			SR_COUNT(rx_misrouted_lost); /* never twice */
		else
			sr_steer_forward(sr_qpn_slot(p.qpn), &meta->from, &meta->to, packet, len);
		return;
	}
	if ((p.pkey & 0x7fff) != (SR_DEFAULT_PKEY & 0x7fff)) {
		SR_COUNT(rx_pkey_mismatch);
		return;
	}
	bool ud = (p.opcode & 0xe0) == (SR_OP_UD_SEND_ONLY & 0xe0);
	if (ud && !to_is_known(meta)) {
		search = (struct search){ *meta, &p, packet, len };
		if (!sr_gid_search(sent_to, &search)) {
			SR_COUNT(rx_icrc_encapsulated);
			return;
		}
		meta = &search.meta;
	}
	struct sr_wire_qp *w = NULL;
	if (gsi && p.opcode != SR_OP_UD_SEND_ONLY) {
		SR_COUNT(rx_unknown_opcode);
		return;
	}
	if (!ud) {
		struct sr_qp *qp = sr_qp_find(p.qpn);
		w = qp && qp->road == SR_ROAD_WIRE ? qp->wire : NULL;
		if (!w || w->dead || !sr_qp_can_receive(qp)) {
			SR_COUNT(rx_no_qp);
			return;
		}
		if (!from_peer(qp, meta)) {
			SR_COUNT(rx_wrong_peer);
			return;
		}
	}
	if (!icrc_good(ud ? &meta->icrc : origin(w, meta), meta->segment, &p, packet, len)) {
		SR_COUNT(rx_icrc_encapsulated);
		return;
	}
	if (gsi)
		sr_gsi_receive(meta, &p, packet, len, forwarded);
	else if (ud)
		sr_ud_receive(meta, &p, len);
	else
		connected(w, &p, packet, len, meta->from.sin6_port);
}
