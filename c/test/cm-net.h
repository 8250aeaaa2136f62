/*
 * cm-net.h - two connection managers on a network made of functions: time is a number, messages lie in a list until they
 * arrive, get lost, doubled or late. For unit tests and for the fuzz harness of the state machine.
 */
#ifndef TEST_CM_NET_H
#define TEST_CM_NET_H
#include "softrdma/cm/machine.h"

#define CM_NET_SERVICE 0x01061c36u /* TCP space, port 7222 */
#define CM_NET_UD_SERVICE 0x01111c36u

/* One end of a connection as an application sees it. */
struct cm_net_user {
	struct sr_list node;
	struct cm_net_host *host;
	struct sr_cm_conn *conn;
	unsigned seen[8];      /* events by enum sr_cm_happening_type */
	int last_status;
	uint8_t last_private[8];
	struct sr_cm_terms terms;
};

struct cm_net_host {
	struct cm_net *net;
	struct sr_cm_machine machine;
	union ibv_gid gid;
	struct sr_list users;
	int answer;            /* to requests: 0 takes them, else what ops.request returns */
	bool accept;           /* and accepts at once */
	bool mute;             /* nothing it sends arrives */
	bool closed;           /* nobody has its UDP port: what is sent to it comes back */
	uint32_t next_qpn;
	unsigned requests, sent;
	struct cm_net_user *newest; /* request */
	uint8_t last_sent[SR_CM_MAD_BYTES];
};

struct cm_net_packet;

struct cm_net {
	struct cm_net_host host[2];
	uint64_t now_ns;
	uint64_t random;
	unsigned loss, dup, late; /* of 1000 */
	struct sr_list flying;
	unsigned broken; /* rules of event order that were broken */
};

/* 0 when out of memory. */
struct cm_net *cm_net_new(uint64_t seed);
void cm_net_free(struct cm_net *n);
/* For fuzzers: every application goes, all that is on its way arrives or times out, and the net is freed. False when events came in an
 * impossible order, or connections are left over. */
bool cm_net_end(struct cm_net *n);
uint32_t cm_net_random(struct cm_net *n);
/* Lets that much time pass. */
void cm_net_run(struct cm_net *n, uint64_t for_ns);
/* Something of the host's own making arrives at the other one, as if from `from`. */
void cm_net_inject(struct cm_net_host *to, const union ibv_gid *from, const uint8_t mad[SR_CM_MAD_BYTES]);
struct cm_net_user *cm_net_connect(struct cm_net_host *h, uint32_t qpn);
/* The same for an XRC initiator. */
struct cm_net_user *cm_net_connect_xrc(struct cm_net_host *h, uint32_t qpn);
struct cm_net_user *cm_net_ask(struct cm_net_host *h);
int cm_net_accept(struct cm_net_user *u);
int cm_net_disconnect(struct cm_net_user *u);
/* Releases its connection and frees it. */
void cm_net_release(struct cm_net_user *u);
struct cm_net_host *cm_net_other(struct cm_net_host *h);
#endif
