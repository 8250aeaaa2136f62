/*
 * machine.h - the communication manager's state machine (InfiniBand Architecture Specification, volume 1, section 12.9.7),
 * as a value: messages and times go in, messages and events come out through the functions in `ops`. It opens no socket,
 * reads no clock and takes no lock, so that tests run it on a network of their own. Its owner serialises all calls.
 *
 * One struct sr_cm_conn is one end of a connection, or one lookup of a UD service (SIDR). It belongs to the machine; whoever
 * started it, or was given it by `request`, calls sr_cm_release() when done and never touches it again. The machine keeps it
 * as long as the protocol has something to say about it, the time-wait state above all.
 *
 * Beyond the specification:
 *   - messages are repeated early at first (250 ms, doubling up to the negotiated response time), and given up after the time
 *     that the kernel's sixteen repetitions take;
 *   - "no such service" is believed the sixth time, 0.3 s later: programs that listen anew for each connection are met in between;
 *   - a disconnect request is answered at once: our side of the queue pair has nothing to wait for;
 *   - a host that returns our messages (ICMP "port unreachable") has no process left that knows of the connection.
 */
#ifndef SR_CM_MACHINE_H
#define SR_CM_MACHINE_H
#include "../list.h"
#include "../wire/gsi.h"
#include "mad.h"
#include "timers.h"

/* The kernel's rdma_cm: 4.096 us << 20, fifteen repetitions. Ours says the same to its peers. */
#define SR_CM_RESPONSE_TIMEOUT 20
#define SR_CM_MAX_RETRIES 15
#define SR_CM_PACKET_LIFE_TIME 16
#define SR_CM_SERVICE_TIMEOUT 24 /* in a MRA: how long our application may take to answer */

enum sr_cm_state {
	SR_CM_IDLE,
	SR_CM_REQ_SENT,
	SR_CM_REQ_RCVD,   /* and the application has not answered */
	SR_CM_REP_SENT,
	SR_CM_REP_RCVD,   /* and the application has not said RTU */
	SR_CM_ESTABLISHED,
	SR_CM_DREQ_SENT,
	SR_CM_TIMEWAIT,
	SR_CM_SIDR_REQ_SENT,
	SR_CM_SIDR_REQ_RCVD,
	SR_CM_SIDR_ANSWERED, /* kept for a while: the answer may be lost */
};

enum sr_cm_happening_type {
	SR_CM_HAPPENED_REP,          /* the peer accepted: set up the queue pair and call sr_cm_establish() */
	SR_CM_HAPPENED_ESTABLISHED,
	SR_CM_HAPPENED_REJECTED,     /* status: enum sr_cm_reason */
	SR_CM_HAPPENED_UNREACHABLE,  /* status: -ETIMEDOUT, or -ECONNREFUSED when the host says that nobody receives such messages */
	SR_CM_HAPPENED_DISCONNECTED, /* status: 0, or -ETIMEDOUT when the peer did not answer */
	SR_CM_HAPPENED_TIMEWAIT_EXIT,
	SR_CM_HAPPENED_SIDR,         /* status: enum sr_cm_sidr_status */
};

/* What both ends agree on for the queue pairs. Directions are as seen from this end. */
struct sr_cm_terms {
	uint32_t local_qpn, remote_qpn;
	uint32_t rq_psn, sq_psn;      /* we expect, we begin with */
	uint32_t qkey;                /* SIDR: the peer's */
	uint8_t responder_resources;  /* READs and atomics that the peer may have out towards us */
	uint8_t initiator_depth;      /* and we towards it */
	uint8_t retry_count, rnr_retry_count;
	uint8_t mtu;                  /* enum ibv_mtu */
	uint8_t ack_timeout;          /* of our queue pair */
	bool flow_control, srq;       /* REQ received: the peer's */
	uint8_t transport;            /* enum sr_cm_transport */
};

struct sr_cm_machine;

struct sr_cm_conn {
	enum sr_cm_state state;
	bool passive;
	uint8_t refusals;  /* times it was told that there is no such service */
	uint32_t local_id, remote_id;
	uint64_t tid;      /* of the exchange that our last message belongs to */
	uint64_t service_id;
	uint64_t remote_guid;
	struct sr_gsi_path path;
	struct sr_cm_terms terms;
	void *user;        /* NULL: released */
	/* the message being repeated until it is answered */
	uint8_t last[SR_CM_MAD_BYTES];
	uint64_t asked_ns, interval_ns, response_ns, give_up_ns;
	struct sr_cm_timer timer;
	struct sr_list by_id, by_remote, by_qpn;
};

struct sr_cm_happening {
	enum sr_cm_happening_type type;
	int status;
	const uint8_t *private_data; /* NULL when there are none */
	uint8_t private_len;
};

struct sr_cm_ops {
	void *arg;
	/* Sends. 0 or errno; the machine treats failure as loss. */
	int (*send)(void *arg, const struct sr_gsi_path *path, const uint8_t mad[SR_CM_MAD_BYTES]);
	/* Never called for a released connection. May not call the machine. */
	void (*event)(void *arg, struct sr_cm_conn *c, const struct sr_cm_happening *h);
	/* Somebody asks for c->service_id, with c->path, c->terms and `m` filled in. Sets c->user and returns 0; or returns the
	 * reason to reject it with (SIDR: enum sr_cm_sidr_status); or -1 to leave it unanswered. May not call the machine. */
	int (*request)(void *arg, struct sr_cm_conn *c, const struct sr_cm_mad *m);
	uint32_t (*random)(void *arg);
};

/* What arrived and changed nothing. */
struct sr_cm_counters {
	uint64_t malformed, unknown_id, wrong_peer, wrong_state, duplicates, unanswered, retransmits, stale;
};

struct sr_cm_machine {
	struct sr_cm_ops ops;
	unsigned slot;     /* top byte of our IDs */
	uint64_t now_ns;
	struct sr_cm_timers timers;
	struct sr_list *by_id, *by_remote, *by_qpn; /* hash tables */
	uint32_t count;    /* of connections */
	struct sr_cm_counters counters;
};

/* 0 or ENOMEM. */
int sr_cm_machine_init(struct sr_cm_machine *m, const struct sr_cm_ops *ops, unsigned slot);
/* Forgets all connections without a word. */
void sr_cm_machine_free(struct sr_cm_machine *m);

/* Every call brings the time, which never goes back. */
void sr_cm_receive(struct sr_cm_machine *m, uint64_t now_ns, const struct sr_gsi_path *path, const uint8_t mad[SR_CM_MAD_BYTES]);
/* A message of ours came back from its destination: no process there has the UDP port open. */
void sr_cm_returned(struct sr_cm_machine *m, uint64_t now_ns, const struct sr_gsi_path *path, const uint8_t mad[SR_CM_MAD_BYTES]);
/* Runs what is due. Returns when to be called next, UINT64_MAX for never. */
uint64_t sr_cm_run_timers(struct sr_cm_machine *m, uint64_t now_ns);

/* A connection of `user`'s, idle. NULL: out of memory. */
struct sr_cm_conn *sr_cm_conn_new(struct sr_cm_machine *m, void *user, const struct sr_gsi_path *path);

struct sr_cm_data {
	const void *bytes;
	uint8_t len;
};

/* All of these return 0 or an errno: EINVAL in a state that does not allow it, EMSGSIZE for too much private data. */

/* Asks for service_id. `guid` is the device's. The caller has filled in c->terms (local_qpn, responder_resources, initiator_depth,
 * retries, mtu, ack_timeout, flow_control, srq, transport); the PSNs are chosen here. */
int sr_cm_connect(struct sr_cm_machine *m, struct sr_cm_conn *c, uint64_t now_ns, uint64_t service_id, uint64_t guid,
		  struct sr_cm_data data);
/* Accepts a request, with c->terms as far as they are ours. */
int sr_cm_accept(struct sr_cm_machine *m, struct sr_cm_conn *c, uint64_t now_ns, uint64_t guid, struct sr_cm_data data);
/* After SR_CM_HAPPENED_REP: the queue pair is ready. Also when data showed that the peer is (a lost RTU). */
int sr_cm_establish(struct sr_cm_machine *m, struct sr_cm_conn *c, uint64_t now_ns);
int sr_cm_reject(struct sr_cm_machine *m, struct sr_cm_conn *c, uint64_t now_ns, uint16_t reason, struct sr_cm_data data);
int sr_cm_disconnect(struct sr_cm_machine *m, struct sr_cm_conn *c, uint64_t now_ns);
/* Asks for the queue pair of a UD service, and answers that. */
int sr_cm_sidr_ask(struct sr_cm_machine *m, struct sr_cm_conn *c, uint64_t now_ns, uint64_t service_id, struct sr_cm_data data);
int sr_cm_sidr_answer(struct sr_cm_machine *m, struct sr_cm_conn *c, uint64_t now_ns, enum sr_cm_sidr_status status,
		      uint32_t qpn, uint32_t qkey, struct sr_cm_data data);
/* The user is gone. Says goodbye to the peer in whatever state it is. */
void sr_cm_release(struct sr_cm_machine *m, struct sr_cm_conn *c, uint64_t now_ns);

/* Released connections whose goodbye was not answered yet. */
unsigned sr_cm_leaving(const struct sr_cm_machine *m);

/* Time-out code of a queue pair by the specification's formula: acknowledgement delay of the far end's device (a code too) and
 * packet life time, both ways. */
uint8_t sr_cm_ack_timeout(uint8_t ack_delay, uint8_t packet_life_time);
#endif
