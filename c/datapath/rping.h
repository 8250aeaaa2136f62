/*
 * rping's exchange (datapath.h): what client and server share. A connection is an rdma_cm_id with a queue pair on one completion
 * queue, two receives for the peer's messages, and the buffers. Internal.
 */
#ifndef RK_RPING_H
#define RK_RPING_H

#include <rdma/rdma_cma.h>

#include "loop.h"

/* librdmacm as it was opened: not linked, because only this loop needs it. */
struct rk_cm_calls {
	struct rdma_event_channel *(*create_event_channel)(void);
	void (*destroy_event_channel)(struct rdma_event_channel *);
	int (*create_id)(struct rdma_event_channel *, struct rdma_cm_id **, void *, enum rdma_port_space);
	int (*destroy_id)(struct rdma_cm_id *);
	int (*bind_addr)(struct rdma_cm_id *, struct sockaddr *);
	int (*resolve_addr)(struct rdma_cm_id *, struct sockaddr *, struct sockaddr *, int);
	int (*resolve_route)(struct rdma_cm_id *, int);
	int (*create_qp)(struct rdma_cm_id *, struct ibv_pd *, struct ibv_qp_init_attr *);
	void (*destroy_qp)(struct rdma_cm_id *);
	int (*connect)(struct rdma_cm_id *, struct rdma_conn_param *);
	int (*listen)(struct rdma_cm_id *, int);
	int (*accept)(struct rdma_cm_id *, struct rdma_conn_param *);
	int (*reject)(struct rdma_cm_id *, const void *, uint8_t);
	int (*disconnect)(struct rdma_cm_id *);
	int (*get_cm_event)(struct rdma_event_channel *, struct rdma_cm_event **);
	int (*ack_cm_event)(struct rdma_cm_event *);
	const char *(*event_str)(enum rdma_cm_event_type);
	__be16 (*get_src_port)(struct rdma_cm_id *);
};
/* NULL before rk_dp_cm_open(). */
const struct rk_cm_calls *rk_cm(void);

/* What both ends tell each other. */
struct rk_rping_message {
	__be64 address;
	__be32 rkey;
	__be32 length;
} __attribute__((packed));

#define RK_RPING_RECVS 2

struct rk_rping {
	struct rk_dp_loop *loop;
	struct rdma_cm_id *id;
	struct ibv_pd *pd;
	struct ibv_comp_channel *channel;
	struct ibv_cq *cq;
	struct ibv_mr *message_mr, *data_mr, *echo_mr;
	struct rk_rping_message *messages; /* [RK_RPING_RECVS] incoming, then the outgoing one */
	uint8_t *data;			   /* client: what is read; server: what was read */
	uint8_t *echo;			   /* client: where it comes back to */
	uint32_t size;
	uint64_t spin_ticks; /* how long it polls before it sleeps; UINT64_MAX: for ever */
	unsigned unacked_events;
	/* completions that nobody waited for yet */
	unsigned received, next_slot, sends_out;
	int one_sided_done;
	atomic_int gone; /* the peer disconnected */
};

enum rk_rping_wait { RK_RPING_OK, RK_RPING_TIMEOUT, RK_RPING_END /* stopped, gone, or failed and recorded */ };

/* Makes queue pair and buffers on the id's device and posts the receives. 0, or -1 with the failure recorded; free it either way. */
int rk_rping_open(struct rk_rping *r, uint32_t size);
/* Frees everything but the id. */
void rk_rping_close(struct rk_rping *r);
/* The id's parameters for connecting and accepting. */
struct rdma_conn_param rk_rping_conn_param(void);
/* Tells the peer where `buffer` is. 0, or -1 with the failure recorded. */
int rk_rping_send(struct rk_rping *r, const void *buffer, const struct ibv_mr *mr, uint32_t length);
/* READ of, or WRITE to, the peer's memory. */
int rk_rping_one_sided(struct rk_rping *r, enum ibv_wr_opcode opcode, uint32_t length, const struct rk_rping_message *there);
/* Waits for a message of the peer; its receive is posted again, so *message is a copy. deadline 0: none. */
enum rk_rping_wait rk_rping_receive(struct rk_rping *r, uint64_t deadline_ticks, struct rk_rping_message *message);
/* Waits for the end of a READ. */
enum rk_rping_wait rk_rping_wait_read(struct rk_rping *r, uint64_t deadline_ticks);
/* The next event of a channel, or NULL when it was stopped or the deadline passed (0: none). */
struct rdma_cm_event *rk_cm_event(struct rk_dp_loop *loop, struct rdma_event_channel *channel, uint64_t deadline_ticks);
/* Puts the numeric form of an address into text[64]. */
void rk_rping_name(const struct sockaddr *address, char *text);

void rk_rping_run_client(struct rk_dp_loop *loop);
void rk_rping_run_server(struct rk_dp_loop *loop);
/* Binds and listens; run_server goes on from there. 0, or -1 with the failure recorded. */
int rk_rping_listen(struct rk_dp_loop *loop);

/* loop->own of an rping loop. */
struct rk_rping_loop {
	char address[256];
	int everywhere;
	struct rk_dp_rping_info *info;
	struct rdma_event_channel *channel;
	struct rdma_cm_id *id;
};

#endif
