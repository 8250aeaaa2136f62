/* packet.c - see packet.h for the layouts. */
#include "packet.h"
#include "bytes.h"

#define V SR_M_VALID
#define SEND_F(first_last, ext) (V | SR_H_PAYLOAD | SR_M_SEND | (first_last) | (ext))
#define WRITE_F(first_last, ext) (V | SR_H_PAYLOAD | SR_M_WRITE | (first_last) | (ext))
#define RESP_F(ext) (V | SR_M_RESPONSE | (ext))
#define ONLY (SR_M_FIRST | SR_M_LAST)

/* SEND and WRITE look alike on RC, UC and XRC, but for what is in every request (x). */
#define SEND_WRITE(base, x) \
	[(base) + 0x0] = SEND_F(SR_M_FIRST, x), [(base) + 0x1] = SEND_F(0, x), [(base) + 0x2] = SEND_F(SR_M_LAST, x), \
	[(base) + 0x3] = SEND_F(SR_M_LAST, SR_H_IMM | (x)), [(base) + 0x4] = SEND_F(ONLY, x), \
	[(base) + 0x5] = SEND_F(ONLY, SR_H_IMM | (x)), [(base) + 0x6] = WRITE_F(SR_M_FIRST, SR_H_RETH | (x)), \
	[(base) + 0x7] = WRITE_F(0, x), [(base) + 0x8] = WRITE_F(SR_M_LAST, x), \
	[(base) + 0x9] = WRITE_F(SR_M_LAST, SR_H_IMM | (x)), [(base) + 0xa] = WRITE_F(ONLY, SR_H_RETH | (x)), \
	[(base) + 0xb] = WRITE_F(ONLY, SR_H_RETH | SR_H_IMM | (x))

/* RC and XRC have the rest in common, too. */
#define RELIABLE(base, x) \
	SEND_WRITE(base, x), \
	[(base) + SR_OP_RC_READ_REQUEST] = V | SR_H_RETH | SR_M_READ | ONLY | (x), \
	[(base) + SR_OP_RC_READ_RESP_FIRST] = RESP_F(SR_H_AETH | SR_H_PAYLOAD | SR_M_READ | SR_M_FIRST), \
	[(base) + SR_OP_RC_READ_RESP_MIDDLE] = RESP_F(SR_H_PAYLOAD | SR_M_READ), \
	[(base) + SR_OP_RC_READ_RESP_LAST] = RESP_F(SR_H_AETH | SR_H_PAYLOAD | SR_M_READ | SR_M_LAST), \
	[(base) + SR_OP_RC_READ_RESP_ONLY] = RESP_F(SR_H_AETH | SR_H_PAYLOAD | SR_M_READ | ONLY), \
	[(base) + SR_OP_RC_ACK] = RESP_F(SR_H_AETH), \
	[(base) + SR_OP_RC_ATOMIC_ACK] = RESP_F(SR_H_AETH | SR_H_ATOMICACK), \
	[(base) + SR_OP_RC_CMP_SWAP] = V | SR_H_ATOMIC | SR_M_ATOMIC_OP | ONLY | (x), \
	[(base) + SR_OP_RC_FETCH_ADD] = V | SR_H_ATOMIC | SR_M_ATOMIC_OP | ONLY | (x), \
	[(base) + SR_OP_RC_SEND_LAST_INV] = SEND_F(SR_M_LAST, SR_H_IETH | (x)), \
	[(base) + SR_OP_RC_SEND_ONLY_INV] = SEND_F(ONLY, SR_H_IETH | (x))

const uint32_t sr_op_flags[256] = {
	RELIABLE(0, 0),
	RELIABLE(SR_OP_XRC, SR_H_XRC),
	SEND_WRITE(SR_OP_UC, 0),
	[SR_OP_UD_SEND_ONLY] = SEND_F(ONLY, SR_H_DETH),
	[SR_OP_UD_SEND_ONLY_IMM] = SEND_F(ONLY, SR_H_DETH | SR_H_IMM),
	[SR_OP_SACK] = RESP_F(SR_H_AETH | SR_H_PAYLOAD),
};

static size_t headers_len(uint32_t flags)
{
	size_t n = SR_BTH_BYTES;
	n += flags & SR_H_XRC ? SR_XRCETH_BYTES : 0;
	n += flags & SR_H_DETH ? SR_DETH_BYTES : 0;
	n += flags & SR_H_RETH ? SR_RETH_BYTES : 0;
	n += flags & SR_H_ATOMIC ? SR_ATOMICETH_BYTES : 0;
	n += flags & SR_H_AETH ? SR_AETH_BYTES : 0;
	n += flags & SR_H_ATOMICACK ? SR_ATOMICACK_BYTES : 0;
	n += flags & SR_H_IMM ? SR_IMM_BYTES : 0;
	n += flags & SR_H_IETH ? SR_IETH_BYTES : 0;
	return n;
}

enum sr_pkt_error sr_pkt_decode(struct sr_pkt *p, const uint8_t *buf, size_t len)
{
	if (len < SR_BTH_BYTES + SR_ICRC_BYTES || len > UINT16_MAX || (len & 3) != 0)
		return SR_PKT_SHORT;
	p->opcode = buf[0];
	p->se = buf[1] >> 7;
	p->migreq = (buf[1] >> 6) & 1;
	p->pad = (buf[1] >> 4) & 3;
	p->tver = buf[1] & 15;
	if (p->tver != 0)
		return SR_PKT_VERSION;
	p->flags = sr_op_flags[p->opcode];
	if (p->flags == 0)
		return SR_PKT_OPCODE;
	p->pkey = sr_get16(buf + 2);
	p->resv_fb = buf[4];
	p->qpn = sr_get32(buf + 4) & 0xffffff;
	p->ackreq = buf[8] >> 7;
	p->rides = buf[8] & SR_BTH_RIDES;
	p->ride = p->rides ? buf[8] & 0x3f : 0;
	p->sends = p->rides ? 0 : buf[8] & SR_SENDS_MAX;
	p->psn = sr_get32(buf + 8) & SR_PSN_MASK;

	size_t headers = headers_len(p->flags);
	if (len < headers + SR_ICRC_BYTES)
		return SR_PKT_SHORT;
	size_t body = len - headers - SR_ICRC_BYTES;
	if (p->flags & SR_H_PAYLOAD ? p->pad > body || body - p->pad > SR_PMTU_MAX : body != 0 || p->pad != 0)
		return SR_PKT_LENGTH;

	const uint8_t *h = buf + SR_BTH_BYTES;
	if (p->flags & SR_H_XRC) {
		p->xrceth_resv = h[0];
		p->srqn = sr_get32(h) & 0xffffff;
		h += SR_XRCETH_BYTES;
	}
	if (p->flags & SR_H_DETH) {
		p->qkey = sr_get32(h);
		p->deth_resv = h[4];
		p->src_qpn = sr_get32(h + 4) & 0xffffff;
		h += SR_DETH_BYTES;
	}
	if (p->flags & SR_H_RETH) {
		p->va = sr_get64(h);
		p->rkey = sr_get32(h + 8);
		p->dma_len = sr_get32(h + 12);
		h += SR_RETH_BYTES;
	}
	if (p->flags & SR_H_ATOMIC) {
		p->va = sr_get64(h);
		p->rkey = sr_get32(h + 8);
		p->swap_add = sr_get64(h + 12);
		p->compare = sr_get64(h + 20);
		h += SR_ATOMICETH_BYTES;
	}
	if (p->flags & SR_H_AETH) {
		p->syndrome = h[0];
		p->msn = sr_get32(h) & 0xffffff;
		h += SR_AETH_BYTES;
	}
	if (p->flags & SR_H_ATOMICACK) {
		p->orig = sr_get64(h);
		h += SR_ATOMICACK_BYTES;
	}
	if (p->flags & SR_H_IMM) {
		__builtin_memcpy(&p->imm, h, 4);
		h += SR_IMM_BYTES;
	}
	if (p->flags & SR_H_IETH) {
		p->inv_rkey = sr_get32(h);
		h += SR_IETH_BYTES;
	}
	p->header_len = (uint16_t)headers;
	p->payload = h;
	p->payload_len = (uint16_t)(body - p->pad);
	p->icrc = sr_get32le(buf + len - SR_ICRC_BYTES);
	return SR_PKT_OK;
}

size_t sr_pkt_encode(const struct sr_pkt *p, uint8_t *out)
{
	uint32_t flags = sr_op_flags[p->opcode];
	out[0] = p->opcode;
	out[1] = (uint8_t)(p->se << 7 | p->migreq << 6 | (p->pad & 3) << 4 | (p->tver & 15));
	sr_put16(out + 2, p->pkey);
	sr_put32(out + 4, (uint32_t)p->resv_fb << 24 | (p->qpn & 0xffffff));
	uint32_t reserved = p->rides ? SR_BTH_RIDES | (p->ride & 0x3f) : p->sends & SR_SENDS_MAX;
	sr_put32(out + 8, (uint32_t)p->ackreq << 31 | reserved << 24 | (p->psn & SR_PSN_MASK));
	uint8_t *h = out + SR_BTH_BYTES;
	if (flags & SR_H_XRC) {
		sr_put32(h, (uint32_t)p->xrceth_resv << 24 | (p->srqn & 0xffffff));
		h += SR_XRCETH_BYTES;
	}
	if (flags & SR_H_DETH) {
		sr_put32(h, p->qkey);
		sr_put32(h + 4, (uint32_t)p->deth_resv << 24 | (p->src_qpn & 0xffffff));
		h += SR_DETH_BYTES;
	}
	if (flags & SR_H_RETH) {
		sr_put64(h, p->va);
		sr_put32(h + 8, p->rkey);
		sr_put32(h + 12, p->dma_len);
		h += SR_RETH_BYTES;
	}
	if (flags & SR_H_ATOMIC) {
		sr_put64(h, p->va);
		sr_put32(h + 8, p->rkey);
		sr_put64(h + 12, p->swap_add);
		sr_put64(h + 20, p->compare);
		h += SR_ATOMICETH_BYTES;
	}
	if (flags & SR_H_AETH) {
		sr_put32(h, (uint32_t)p->syndrome << 24 | (p->msn & 0xffffff));
		h += SR_AETH_BYTES;
	}
	if (flags & SR_H_ATOMICACK) {
		sr_put64(h, p->orig);
		h += SR_ATOMICACK_BYTES;
	}
	if (flags & SR_H_IMM) {
		__builtin_memcpy(h, &p->imm, 4);
		h += SR_IMM_BYTES;
	}
	if (flags & SR_H_IETH) {
		sr_put32(h, p->inv_rkey);
		h += SR_IETH_BYTES;
	}
	return (size_t)(h - out);
}
