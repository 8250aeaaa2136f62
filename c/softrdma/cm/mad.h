/*
 * mad.h - the messages of InfiniBand's communication management class, as they travel in 256-byte management datagrams to
 * queue pair 1 (InfiniBand Architecture Specification, volume 1, chapter 12). Pure functions: bytes in, structs out.
 *
 * Header, 24 bytes: base version 1, class 7, class version 2, method 3 (Send), status 16, class specific 16, transaction 64,
 * attribute 16 (which message), reserved 16, attribute modifier 32. All fields are big endian.
 *
 * Private data begin, in requests of rdma_cm, with the IP addressing header of annex A11:
 *   version 4 | 4 reserved, IP version 4 | 4 reserved, source port 16, source address 128, destination address 128
 *   (IPv4 in the last four bytes)
 */
#ifndef SR_CM_MAD_H
#define SR_CM_MAD_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SR_CM_MAD_BYTES 256
#define SR_CM_IP_BYTES 36

enum sr_cm_attr {
	SR_CM_REQ = 0x10,
	SR_CM_MRA = 0x11,
	SR_CM_REJ = 0x12,
	SR_CM_REP = 0x13,
	SR_CM_RTU = 0x14,
	SR_CM_DREQ = 0x15,
	SR_CM_DREP = 0x16,
	SR_CM_SIDR_REQ = 0x17,
	SR_CM_SIDR_REP = 0x18,
};

/* Room for private data in each message. */
enum {
	SR_CM_REQ_PRIVATE = 92,
	SR_CM_MRA_PRIVATE = 222,
	SR_CM_REJ_PRIVATE = 148,
	SR_CM_REP_PRIVATE = 196,
	SR_CM_RTU_PRIVATE = 224,
	SR_CM_DREQ_PRIVATE = 220,
	SR_CM_DREP_PRIVATE = 224,
	SR_CM_SIDR_REQ_PRIVATE = 216,
	SR_CM_SIDR_REP_PRIVATE = 136,
	SR_CM_PRIVATE_MAX = 224,
	SR_CM_ARI_BYTES = 72, /* additional information of a rejection */
};

/* Reasons of a rejection (table 107). */
enum sr_cm_reason {
	SR_CM_REJ_NO_QP = 1,
	SR_CM_REJ_NO_RESOURCES = 3,
	SR_CM_REJ_TIMEOUT = 4,
	SR_CM_REJ_INVALID_COMM_ID = 6,
	SR_CM_REJ_INVALID_SERVICE_ID = 8,
	SR_CM_REJ_INVALID_TRANSPORT = 9,
	SR_CM_REJ_STALE_CONN = 10,
	SR_CM_REJ_CONSUMER = 28,
};

/* Which message a MRA or REJ is about. */
enum { SR_CM_ABOUT_REQ = 0, SR_CM_ABOUT_REP = 1, SR_CM_ABOUT_NOTHING = 2 };

enum sr_cm_sidr_status { SR_CM_SIDR_SUCCESS, SR_CM_SIDR_UNSUPPORTED, SR_CM_SIDR_REJECT, SR_CM_SIDR_NO_QP };

struct sr_cm_req_path {
	uint16_t local_lid, remote_lid;
	uint8_t local_gid[16], remote_gid[16];
	uint32_t flow_label;  /* 20 bits */
	uint8_t packet_rate;  /* 6 */
	uint8_t traffic_class;
	uint8_t hop_limit;
	uint8_t sl;           /* 4 */
	bool subnet_local;
	uint8_t ack_timeout;  /* 5: 4.096 us << n */
};

/* What kind of connection a REQ asks for: its two fields for that, as one number. */
enum sr_cm_transport { SR_CM_RC = 0, SR_CM_UC = 1, SR_CM_XRC = 1 << 2 | 3 };

struct sr_cm_req {
	uint64_t service_id;
	uint64_t ca_guid;
	uint32_t qkey;
	uint32_t qpn;
	uint8_t responder_resources;
	uint32_t local_eecn;
	uint8_t initiator_depth;
	uint32_t remote_eecn;
	uint8_t remote_response_timeout;
	uint8_t transport; /* enum sr_cm_transport; others are none of ours */
	bool flow_control;
	uint32_t psn; /* that the receiver of the message shall start with */
	uint8_t local_response_timeout;
	uint8_t retry_count;
	uint16_t pkey;
	uint8_t mtu; /* enum ibv_mtu */
	bool rdc_exists;
	uint8_t rnr_retry_count;
	uint8_t max_cm_retries;
	bool srq;
	struct sr_cm_req_path primary, alternate;
};

struct sr_cm_rep {
	uint32_t qkey, qpn, eecn, psn; /* an XRC target is named in the place of an EE context */
	uint8_t responder_resources, initiator_depth;
	uint8_t target_ack_delay;
	uint8_t failover;
	bool flow_control;
	uint8_t rnr_retry_count;
	bool srq;
	uint64_t ca_guid;
};

struct sr_cm_mad {
	uint16_t attr; /* enum sr_cm_attr */
	uint64_t tid;
	uint32_t local_id;  /* the sender's; SIDR: the request ID */
	uint32_t remote_id; /* the receiver's, 0 when unknown */
	union {
		struct sr_cm_req req;
		struct sr_cm_rep rep;
		struct {
			uint8_t about, service_timeout;
		} mra;
		struct {
			uint8_t about, info_len; /* bytes of info, up to 72 */
			uint16_t reason;
			uint8_t info[SR_CM_ARI_BYTES];
		} rej;
		struct {
			uint32_t qpn;
		} dreq;
		struct {
			uint16_t pkey;
			uint64_t service_id;
		} sidr_req;
		struct {
			uint8_t status, info_len;
			uint32_t qpn, qkey;
			uint64_t service_id;
			uint8_t info[SR_CM_ARI_BYTES];
		} sidr_rep;
	};
	uint8_t private_len; /* decoding: all there is room for; encoding: at most that, the rest becomes zero */
	uint8_t private_data[SR_CM_PRIVATE_MAX];
};

/* Does the header say a message of this class that we know? */
bool sr_cm_is_mad(const uint8_t mad[SR_CM_MAD_BYTES]);
/* Takes a MAD apart. False when sr_cm_is_mad() is, or a length in it goes beyond its field. */
bool sr_cm_decode(struct sr_cm_mad *m, const uint8_t mad[SR_CM_MAD_BYTES]);
/* False when private_len is too large for the message, or attr unknown. */
bool sr_cm_encode(const struct sr_cm_mad *m, uint8_t mad[SR_CM_MAD_BYTES]);

/* rdma_cm's meaning of a service ID: 0x...01PPpppp. */
struct sr_cm_service {
	uint16_t space; /* enum rdma_port_space */
	uint16_t port;
};
static inline uint64_t sr_cm_service_id(uint16_t space, uint16_t port) { return (uint64_t)space << 16 | port; }
/* The service that a REQ or SIDR_REQ asks for; false for other messages. An ID that is none of rdma_cm's gives space 0. */
bool sr_cm_service_of(const uint8_t mad[SR_CM_MAD_BYTES], struct sr_cm_service *service);
/* The communication ID by which the receiver of any other message knows what it is about. */
uint32_t sr_cm_receiver_id(const uint8_t mad[SR_CM_MAD_BYTES]);
/* The answer to a message about something that does not exist; false when the specification asks for silence. */
bool sr_cm_refusal(const uint8_t mad[SR_CM_MAD_BYTES], uint8_t answer[SR_CM_MAD_BYTES]);

struct sr_cm_ip {
	bool v4;
	uint16_t src_port;
	uint8_t src[16], dst[16]; /* IPv4-mapped for IPv4 */
};
bool sr_cm_ip_decode(struct sr_cm_ip *ip, const uint8_t b[SR_CM_IP_BYTES]);
void sr_cm_ip_encode(const struct sr_cm_ip *ip, uint8_t b[SR_CM_IP_BYTES]);
#endif
