/*
 * packet.h - the RoCEv2 headers behind the UDP header: decode and encode. Nothing here knows a queue pair.
 *
 * All fields are big endian. One 32-bit word a line, bit 31 left:
 *
 *   BTH (12 bytes, every packet)
 *     opcode 8 | SE 1 | MigReq 1 | PadCnt 2 | TVer 4 | P_Key 16
 *     FECN 1 | BECN 1 | reserved 6 | destination QP 24          <- the first byte of this word is masked in the ICRC
 *     AckReq 1 | reserved 7 | PSN 24
 *   XRCETH (4, XRC requests)  reserved 8 | XRC shared receive queue 24
 *   DETH (8, UD)              Q_Key 32 ; reserved 8 | source QP 24
 *   RETH (16, WRITE/READ)     virtual address 64 ; R_Key 32 ; DMA length 32
 *   AtomicETH (28)            virtual address 64 ; R_Key 32 ; swap or add 64 ; compare 64
 *   AETH (4, responses)       syndrome 8 | MSN 24
 *   AtomicAckETH (8)          original value 64
 *   ImmDt (4)                 immediate data 32
 *   IETH (4)                  R_Key to invalidate 32
 *   payload, PadCnt zero bytes up to a multiple of four, ICRC 32 (little endian)
 *
 * The extension headers of one packet follow each other in the order of this list. The opcode is transport (3 bits: RC 0,
 * UC 1, UD 3, XRC 5, vendor 6) and operation (5 bits).
 *
 * Our own extension. The six reserved bits beside FECN and BECN carry SR_BTH_MARK in packets of this device. Other
 * implementations ignore them on receipt and send zero, and the ICRC does not cover them, so a marked packet is valid for
 * everyone. A queue pair that saw the mark knows that its peer understands SR_OP_SACK (a vendor opcode, dropped in silence
 * by others), and tells it in the reserved bits beside the PSN how often a request was sent before (0 at first, as all others
 * send); answers and SACKs repeat that number, so the requester knows which transmission they are an answer to. In a
 * first transmission the same bits may carry an acknowledgement (SR_BTH_RIDES, ride.c).
 */
#ifndef SR_WIRE_PACKET_H
#define SR_WIRE_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SR_BTH_BYTES 12
#define SR_RETH_BYTES 16
#define SR_ATOMICETH_BYTES 28
#define SR_AETH_BYTES 4
#define SR_ATOMICACK_BYTES 8
#define SR_IMM_BYTES 4
#define SR_IETH_BYTES 4
#define SR_DETH_BYTES 8
#define SR_XRCETH_BYTES 4
#define SR_ICRC_BYTES 4
#define SR_HEADERS_MAX 48 /* BTH and the largest set of extensions, rounded up */
#define SR_PMTU_MAX 4096

#define SR_BTH_RESV_MASK 0x3f
#define SR_BTH_MARK 0x2b
#define SR_SENDS_MAX 0x3f
#define SR_BTH_RIDES 0x40
#define SR_BTH_FECN 0x80
#define SR_BTH_BECN 0x40

#define SR_PSN_MASK 0xffffffu
#define SR_PSN_HALF 0x800000u

/* PSNs are numbers modulo 2^24: distance from b to a, in [-2^23, 2^23). */
static inline int32_t sr_psn_diff(uint32_t a, uint32_t b) { return (int32_t)((a - b) << 8) >> 8; }
static inline uint32_t sr_psn_add(uint32_t a, uint32_t n) { return (a + n) & SR_PSN_MASK; }

enum sr_op {
	SR_OP_RC_SEND_FIRST = 0x00,
	SR_OP_RC_SEND_MIDDLE = 0x01,
	SR_OP_RC_SEND_LAST = 0x02,
	SR_OP_RC_SEND_LAST_IMM = 0x03,
	SR_OP_RC_SEND_ONLY = 0x04,
	SR_OP_RC_SEND_ONLY_IMM = 0x05,
	SR_OP_RC_WRITE_FIRST = 0x06,
	SR_OP_RC_WRITE_MIDDLE = 0x07,
	SR_OP_RC_WRITE_LAST = 0x08,
	SR_OP_RC_WRITE_LAST_IMM = 0x09,
	SR_OP_RC_WRITE_ONLY = 0x0a,
	SR_OP_RC_WRITE_ONLY_IMM = 0x0b,
	SR_OP_RC_READ_REQUEST = 0x0c,
	SR_OP_RC_READ_RESP_FIRST = 0x0d,
	SR_OP_RC_READ_RESP_MIDDLE = 0x0e,
	SR_OP_RC_READ_RESP_LAST = 0x0f,
	SR_OP_RC_READ_RESP_ONLY = 0x10,
	SR_OP_RC_ACK = 0x11,
	SR_OP_RC_ATOMIC_ACK = 0x12,
	SR_OP_RC_CMP_SWAP = 0x13,
	SR_OP_RC_FETCH_ADD = 0x14,
	SR_OP_RC_SEND_LAST_INV = 0x16,
	SR_OP_RC_SEND_ONLY_INV = 0x17,
	SR_OP_UC = 0x20, /* SEND_FIRST .. WRITE_ONLY_IMM as RC, plus this */
	SR_OP_XRC = 0xa0, /* all as RC, plus this */
	SR_OP_UD_SEND_ONLY = 0x64,
	SR_OP_UD_SEND_ONLY_IMM = 0x65,
	SR_OP_SACK = 0xc5, /* vendor space: selective acknowledgement between two of our devices, see sack.h */
};

/* What an opcode means, as flags. 0 = an opcode that nobody may send. */
enum sr_op_flag {
	SR_H_RETH = 1 << 0,
	SR_H_ATOMIC = 1 << 1,
	SR_H_AETH = 1 << 2,
	SR_H_ATOMICACK = 1 << 3,
	SR_H_IMM = 1 << 4,
	SR_H_IETH = 1 << 5,
	SR_H_DETH = 1 << 6,
	SR_H_PAYLOAD = 1 << 7, /* may carry payload */
	SR_M_FIRST = 1 << 8,   /* begins a message (FIRST, ONLY) */
	SR_M_LAST = 1 << 9,    /* ends a message (LAST, ONLY) */
	SR_M_SEND = 1 << 10,
	SR_M_WRITE = 1 << 11,
	SR_M_READ = 1 << 12,
	SR_M_ATOMIC_OP = 1 << 13,
	SR_M_RESPONSE = 1 << 14, /* goes to the requester: ACK, READ responses, atomic ACK, SACK */
	SR_M_VALID = 1 << 15,
	SR_H_XRC = 1 << 16,
};

/* An opcode is its transport and an operation, by the names of RC. */
#define SR_OP_TRANSPORT 0xe0
#define SR_OP_OPERATION 0x1f

extern const uint32_t sr_op_flags[256];

/* AETH syndrome. */
#define SR_AETH_ACK 0x1f /* credits "not valid": we never limit the peer by credits */
#define SR_AETH_TYPE(s) ((s) & 0x60)
#define SR_AETH_TYPE_ACK 0x00
#define SR_AETH_TYPE_RNR 0x20
#define SR_AETH_TYPE_NAK 0x60
#define SR_NAK_SEQUENCE 0x60
#define SR_NAK_INVALID_REQUEST 0x61
#define SR_NAK_REMOTE_ACCESS 0x62
#define SR_NAK_REMOTE_OPERATIONAL 0x63

/* A packet taken apart. `payload` points into the buffer that was decoded; `icrc` is not checked by the decoder. */
struct sr_pkt {
	uint8_t opcode;
	bool se, migreq, ackreq;
	uint8_t pad;	   /* 0..3 bytes behind the payload */
	uint8_t tver;
	uint8_t resv_fb;   /* byte 4: FECN, BECN, reserved 6 */
	bool rides;	   /* the 7 reserved bits beside AckReq, between our own devices: an acknowledgement rides (ride.c), */
	uint8_t ride;	   /* of the PSN with these low 6 bits; */
	uint8_t sends;	   /* or else, how often this was sent before */
	uint16_t pkey;
	uint32_t flags;	   /* enum sr_op_flag of the opcode */
	uint32_t qpn;
	uint32_t psn;
	uint32_t srqn;	   /* XRCETH */
	uint8_t xrceth_resv;
	uint32_t rkey;	   /* RETH, AtomicETH */
	uint64_t va;	   /* RETH, AtomicETH */
	uint32_t dma_len;  /* RETH */
	uint64_t swap_add; /* AtomicETH */
	uint64_t compare;
	uint64_t orig;	   /* AtomicAckETH */
	uint32_t qkey;	   /* DETH */
	uint32_t src_qpn;
	uint8_t deth_resv;
	uint8_t syndrome;  /* AETH */
	uint32_t msn;
	uint32_t imm;	   /* as on the wire: ibv_wc.imm_data is big endian too */
	uint32_t inv_rkey; /* IETH, host order */
	uint16_t header_len;
	uint16_t payload_len; /* without the pad */
	const uint8_t *payload;
	uint32_t icrc;
};

enum sr_pkt_error {
	SR_PKT_OK = 0,
	SR_PKT_SHORT = -1,   /* shorter than its headers, or not a multiple of four */
	SR_PKT_VERSION = -2, /* TVer is not 0 */
	SR_PKT_OPCODE = -3,  /* unknown opcode */
	SR_PKT_LENGTH = -4,  /* payload where none may be, pad larger than the payload area, payload over 4096 */
};

/* Takes apart a UDP payload of `len` bytes, ICRC included. The headers are valid only when SR_PKT_OK is returned. */
enum sr_pkt_error sr_pkt_decode(struct sr_pkt *p, const uint8_t *buf, size_t len);

/* Writes BTH and extension headers of p to out (room for SR_HEADERS_MAX). Returns their length. Payload, pad and ICRC are
 * the caller's, who gathers them from where they lie. */
size_t sr_pkt_encode(const struct sr_pkt *p, uint8_t *out);

#endif
