/* mad.c - encoding and decoding of communication management messages; see mad.h. Offsets are those of the specification's
 * figures, counted from the end of the header. */
#include "mad.h"
#include <string.h>
#include "../wire/bytes.h"

#define HEADER 24
#define PATH_BYTES 44
#define REQ_PRIMARY 52
#define REQ_PRIVATE_AT 140

static const struct layout {
	uint8_t private_at, private_len;
} layouts[] = {
	[SR_CM_REQ] = { REQ_PRIVATE_AT, SR_CM_REQ_PRIVATE },
	[SR_CM_MRA] = { 10, SR_CM_MRA_PRIVATE },
	[SR_CM_REJ] = { 84, SR_CM_REJ_PRIVATE },
	[SR_CM_REP] = { 36, SR_CM_REP_PRIVATE },
	[SR_CM_RTU] = { 8, SR_CM_RTU_PRIVATE },
	[SR_CM_DREQ] = { 12, SR_CM_DREQ_PRIVATE },
	[SR_CM_DREP] = { 8, SR_CM_DREP_PRIVATE },
	[SR_CM_SIDR_REQ] = { 16, SR_CM_SIDR_REQ_PRIVATE },
	[SR_CM_SIDR_REP] = { 96, SR_CM_SIDR_REP_PRIVATE },
};

static const struct layout *layout_of(uint16_t attr)
{
	return attr < sizeof(layouts) / sizeof(*layouts) && layouts[attr].private_len ? &layouts[attr] : NULL;
}

static const uint8_t header_start[4] = { 1, 7, 2, 3 };

bool sr_cm_is_mad(const uint8_t mad[SR_CM_MAD_BYTES])
{
	return !memcmp(mad, header_start, sizeof(header_start)) && layout_of(sr_get16(mad + 16));
}

static void get_path(struct sr_cm_req_path *p, const uint8_t *b)
{
	p->local_lid = sr_get16(b);
	p->remote_lid = sr_get16(b + 2);
	memcpy(p->local_gid, b + 4, 16);
	memcpy(p->remote_gid, b + 20, 16);
	p->flow_label = sr_get32(b + 36) >> 12;
	p->packet_rate = b[39] & 0x3f;
	p->traffic_class = b[40];
	p->hop_limit = b[41];
	p->sl = b[42] >> 4;
	p->subnet_local = b[42] >> 3 & 1;
	p->ack_timeout = b[43] >> 3;
}

static void put_path(const struct sr_cm_req_path *p, uint8_t *b)
{
	sr_put16(b, p->local_lid);
	sr_put16(b + 2, p->remote_lid);
	memcpy(b + 4, p->local_gid, 16);
	memcpy(b + 20, p->remote_gid, 16);
	sr_put32(b + 36, p->flow_label << 12 | (p->packet_rate & 0x3f));
	b[40] = p->traffic_class;
	b[41] = p->hop_limit;
	b[42] = (uint8_t)(p->sl << 4 | p->subnet_local << 3);
	b[43] = (uint8_t)(p->ack_timeout << 3);
}

/* 24 bits with 8 others behind them. */
static uint32_t get24(const uint8_t *b) { return sr_get32(b) >> 8; }
static void put24(uint8_t *b, uint32_t v, uint8_t low) { sr_put32(b, v << 8 | low); }

static void get_req(struct sr_cm_req *r, const uint8_t *b)
{
	r->service_id = sr_get64(b + 8);
	r->ca_guid = sr_get64(b + 16);
	r->qkey = sr_get32(b + 28);
	r->qpn = get24(b + 32);
	r->responder_resources = b[35];
	r->local_eecn = get24(b + 36);
	r->initiator_depth = b[39];
	r->remote_eecn = get24(b + 40);
	r->remote_response_timeout = b[43] >> 3;
	r->transport = (uint8_t)((b[51] & 7) << 2 | (b[43] >> 1 & 3));
	r->flow_control = b[43] & 1;
	r->psn = get24(b + 44);
	r->local_response_timeout = b[47] >> 3;
	r->retry_count = b[47] & 7;
	r->pkey = sr_get16(b + 48);
	r->mtu = b[50] >> 4;
	r->rdc_exists = b[50] >> 3 & 1;
	r->rnr_retry_count = b[50] & 7;
	r->max_cm_retries = b[51] >> 4;
	r->srq = b[51] >> 3 & 1;
	get_path(&r->primary, b + REQ_PRIMARY);
	get_path(&r->alternate, b + REQ_PRIMARY + PATH_BYTES);
}

static void put_req(const struct sr_cm_req *r, uint8_t *b)
{
	sr_put64(b + 8, r->service_id);
	sr_put64(b + 16, r->ca_guid);
	sr_put32(b + 28, r->qkey);
	put24(b + 32, r->qpn, r->responder_resources);
	put24(b + 36, r->local_eecn, r->initiator_depth);
	put24(b + 40, r->remote_eecn, (uint8_t)(r->remote_response_timeout << 3 | (r->transport & 3) << 1 | r->flow_control));
	put24(b + 44, r->psn, (uint8_t)(r->local_response_timeout << 3 | (r->retry_count & 7)));
	sr_put16(b + 48, r->pkey);
	b[50] = (uint8_t)(r->mtu << 4 | r->rdc_exists << 3 | (r->rnr_retry_count & 7));
	b[51] = (uint8_t)(r->max_cm_retries << 4 | r->srq << 3 | (r->transport >> 2 & 7));
	put_path(&r->primary, b + REQ_PRIMARY);
	put_path(&r->alternate, b + REQ_PRIMARY + PATH_BYTES);
}

static void get_rep(struct sr_cm_rep *r, const uint8_t *b)
{
	r->qkey = sr_get32(b + 8);
	r->qpn = get24(b + 12);
	r->eecn = get24(b + 16);
	r->psn = get24(b + 20);
	r->responder_resources = b[24];
	r->initiator_depth = b[25];
	r->target_ack_delay = b[26] >> 3;
	r->failover = b[26] >> 1 & 3;
	r->flow_control = b[26] & 1;
	r->rnr_retry_count = b[27] >> 5;
	r->srq = b[27] >> 4 & 1;
	r->ca_guid = sr_get64(b + 28);
}

static void put_rep(const struct sr_cm_rep *r, uint8_t *b)
{
	sr_put32(b + 8, r->qkey);
	put24(b + 12, r->qpn, 0);
	put24(b + 16, r->eecn, 0);
	put24(b + 20, r->psn, 0);
	b[24] = r->responder_resources;
	b[25] = r->initiator_depth;
	b[26] = (uint8_t)(r->target_ack_delay << 3 | (r->failover & 3) << 1 | r->flow_control);
	b[27] = (uint8_t)(r->rnr_retry_count << 5 | r->srq << 4);
	sr_put64(b + 28, r->ca_guid);
}

bool sr_cm_decode(struct sr_cm_mad *m, const uint8_t mad[SR_CM_MAD_BYTES])
{
	if (!sr_cm_is_mad(mad))
		return false;
	const uint8_t *b = mad + HEADER;
	memset(m, 0, sizeof(*m));
	m->tid = sr_get64(mad + 8);
	m->attr = sr_get16(mad + 16);
	m->local_id = sr_get32(b);
	m->remote_id = sr_get32(b + 4);
	switch (m->attr) {
	case SR_CM_REQ:
		m->remote_id = 0;
		get_req(&m->req, b);
		break;
	case SR_CM_MRA:
		m->mra.about = b[8] >> 6;
		m->mra.service_timeout = b[9] >> 3;
		break;
	case SR_CM_REJ:
		m->rej.about = b[8] >> 6;
		m->rej.info_len = b[9] >> 1;
		m->rej.reason = sr_get16(b + 10);
		memcpy(m->rej.info, b + 12, SR_CM_ARI_BYTES);
		if (m->rej.info_len > SR_CM_ARI_BYTES)
			return false;
		break;
	case SR_CM_REP:
		get_rep(&m->rep, b);
		break;
	case SR_CM_DREQ:
		m->dreq.qpn = get24(b + 8);
		break;
	case SR_CM_SIDR_REQ:
		m->remote_id = 0;
		m->sidr_req.pkey = sr_get16(b + 4);
		m->sidr_req.service_id = sr_get64(b + 8);
		break;
	case SR_CM_SIDR_REP:
		m->remote_id = m->local_id; /* the requester's number */
		m->local_id = 0;
		m->sidr_rep.status = b[4];
		m->sidr_rep.info_len = b[5];
		m->sidr_rep.qpn = get24(b + 8);
		m->sidr_rep.service_id = sr_get64(b + 12);
		m->sidr_rep.qkey = sr_get32(b + 20);
		memcpy(m->sidr_rep.info, b + 24, SR_CM_ARI_BYTES);
		if (m->sidr_rep.info_len > SR_CM_ARI_BYTES)
			return false;
		break;
	}
	const struct layout *l = layout_of(m->attr);
	m->private_len = l->private_len;
	memcpy(m->private_data, b + l->private_at, l->private_len);
	return true;
}

bool sr_cm_encode(const struct sr_cm_mad *m, uint8_t mad[SR_CM_MAD_BYTES])
{
	const struct layout *l = layout_of(m->attr);
	if (!l || m->private_len > l->private_len)
		return false;
	uint8_t *b = mad + HEADER;
	memset(mad, 0, SR_CM_MAD_BYTES);
	memcpy(mad, header_start, sizeof(header_start));
	sr_put64(mad + 8, m->tid);
	sr_put16(mad + 16, m->attr);
	sr_put32(b, m->local_id);
	sr_put32(b + 4, m->remote_id);
	switch (m->attr) {
	case SR_CM_REQ:
		sr_put32(b + 4, 0);
		put_req(&m->req, b);
		break;
	case SR_CM_MRA:
		b[8] = (uint8_t)(m->mra.about << 6);
		b[9] = (uint8_t)(m->mra.service_timeout << 3);
		break;
	case SR_CM_REJ:
		b[8] = (uint8_t)(m->rej.about << 6);
		b[9] = (uint8_t)(m->rej.info_len << 1);
		sr_put16(b + 10, m->rej.reason);
		memcpy(b + 12, m->rej.info, SR_CM_ARI_BYTES);
		break;
	case SR_CM_REP:
		put_rep(&m->rep, b);
		break;
	case SR_CM_DREQ:
		put24(b + 8, m->dreq.qpn, 0);
		break;
	case SR_CM_SIDR_REQ:
		sr_put32(b + 4, (uint32_t)m->sidr_req.pkey << 16);
		sr_put64(b + 8, m->sidr_req.service_id);
		break;
	case SR_CM_SIDR_REP:
		sr_put32(b, m->remote_id);
		b[4] = m->sidr_rep.status;
		b[5] = m->sidr_rep.info_len;
		b[6] = b[7] = 0;
		put24(b + 8, m->sidr_rep.qpn, 0);
		sr_put64(b + 12, m->sidr_rep.service_id);
		sr_put32(b + 20, m->sidr_rep.qkey);
		memcpy(b + 24, m->sidr_rep.info, SR_CM_ARI_BYTES);
		break;
	}
	memcpy(b + l->private_at, m->private_data, m->private_len);
	return true;
}

bool sr_cm_service_of(const uint8_t mad[SR_CM_MAD_BYTES], struct sr_cm_service *s)
{
	uint16_t attr = sr_get16(mad + 16);
	if (attr != SR_CM_REQ && attr != SR_CM_SIDR_REQ)
		return false;
	uint64_t id = sr_get64(mad + HEADER + 8);
	s->space = id >> 32 ? 0 : (uint16_t)(id >> 16);
	s->port = (uint16_t)id;
	return true;
}

uint32_t sr_cm_receiver_id(const uint8_t mad[SR_CM_MAD_BYTES])
{
	return sr_get32(mad + HEADER + (sr_get16(mad + 16) == SR_CM_SIDR_REP ? 0 : 4));
}

bool sr_cm_refusal(const uint8_t mad[SR_CM_MAD_BYTES], uint8_t answer[SR_CM_MAD_BYTES])
{
	struct sr_cm_mad in;
	if (!sr_cm_decode(&in, mad))
		return false;
	struct sr_cm_mad out = { .tid = in.tid, .local_id = in.remote_id, .remote_id = in.local_id };
	switch (in.attr) {
	case SR_CM_REQ:
		out.attr = SR_CM_REJ;
		out.rej.about = SR_CM_ABOUT_REQ;
		out.rej.reason = SR_CM_REJ_INVALID_SERVICE_ID;
		break;
	case SR_CM_REP:
		out.attr = SR_CM_REJ;
		out.rej.about = SR_CM_ABOUT_REP;
		out.rej.reason = SR_CM_REJ_INVALID_COMM_ID;
		break;
	case SR_CM_DREQ:
		out.attr = SR_CM_DREP;
		break;
	case SR_CM_SIDR_REQ:
		out.attr = SR_CM_SIDR_REP;
		out.sidr_rep.status = SR_CM_SIDR_UNSUPPORTED;
		out.sidr_rep.service_id = in.sidr_req.service_id;
		break;
	default:
		return false;
	}
	return sr_cm_encode(&out, answer);
}

bool sr_cm_ip_decode(struct sr_cm_ip *ip, const uint8_t b[SR_CM_IP_BYTES])
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	uint8_t version = b[1] >> 4;
	if (b[0] >> 4 != 0 || (version != 4 && version != 6))
		return false;
	ip->v4 = version == 4;
	ip->src_port = sr_get16(b + 2);
	memcpy(ip->src, b + 4, 16);
	memcpy(ip->dst, b + 20, 16);
	if (ip->v4) {
		memcpy(ip->src, mapped, 12);
		memcpy(ip->dst, mapped, 12);
	}
	return true;
}

void sr_cm_ip_encode(const struct sr_cm_ip *ip, uint8_t b[SR_CM_IP_BYTES])
{
	memset(b, 0, SR_CM_IP_BYTES);
	b[1] = ip->v4 ? 4 << 4 : 6 << 4;
	sr_put16(b + 2, ip->src_port);
	memcpy(b + 4 + (ip->v4 ? 12 : 0), ip->src + (ip->v4 ? 12 : 0), ip->v4 ? 4 : 16);
	memcpy(b + 20 + (ip->v4 ? 12 : 0), ip->dst + (ip->v4 ? 12 : 0), ip->v4 ? 4 : 16);
}
