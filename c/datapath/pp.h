/*
 * One end of a verbs ping-pong while it runs: the prepared work requests, what is in flight, and the three steps that
 * client and server share (post, wait for a completion, wait for a byte). Internal.
 */
#ifndef RK_PP_H
#define RK_PP_H

#include "loop.h"
#include "operation.h"
#include "pattern.h"

/* Work request ids: sends carry how many requests their completion retires, receives the slot they fill. */
#define RK_WR_SEND (UINT64_C(1) << 63)

/* What a completion queue gave. */
enum rk_pp_event {
	RK_PP_NOTHING,
	RK_PP_ARRIVAL, /* a receive completed: pp->slot, pp->imm */
	RK_PP_SENT,    /* a signalled request completed */
	RK_PP_ERROR,   /* recorded in the statistics */
};

enum rk_pp_wait {
	RK_PP_OK,
	RK_PP_TIMEOUT,
	RK_PP_STOPPED,
	RK_PP_FAILED,
};

struct rk_pp {
	struct rk_dp_loop *loop;
	struct rk_dp_stats *stats;
	const struct rk_clock *clock;
	const struct rk_dp_pingpong *config;
	struct ibv_qp *qp;
	struct ibv_cq *send_cq, *recv_cq;
	struct ibv_comp_channel *channel;
	uint8_t *tx;	     /* outgoing message */
	uint8_t *rx;	     /* slot 0 */
	uint64_t stride;     /* between slots */
	uint32_t rx_payload; /* where the payload starts in a slot: 40 for UD, otherwise 0 */
	int lossy;	     /* UC, UD */
	int stamped;	     /* messages carry stamps: lossy or verified */
	int verify;

	struct ibv_sge tx_sge, rx_sge;
	struct ibv_send_wr send;
	uint32_t signal_every, unsignalled, outstanding;

	uint32_t slot; /* of the newest arrival */
	uint32_t imm;  /* its immediate data, host order */
	uint32_t unacked_events[2]; /* taken from send_cq, recv_cq and not yet acknowledged */
};

/* Fills `pp` from the loop's configuration. No side effects on the queue pair. */
void rk_pp_init(struct rk_pp *pp, struct rk_dp_loop *loop);
/* Posts one receive into a slot. 0, or -1 with the failure recorded. */
int rk_pp_post_recv(struct rk_pp *pp, uint32_t slot);
/* Posts receives into all slots when the operation consumes them. */
int rk_pp_post_all_recvs(struct rk_pp *pp);
/* Posts the prepared request; `exchange` becomes the immediate data. 0, or -1 with the failure recorded. */
int rk_pp_post_send(struct rk_pp *pp, uint64_t exchange);
/* Takes one completion from a queue. */
enum rk_pp_event rk_pp_poll(struct rk_pp *pp, struct ibv_cq *cq);
/* Waits for an arrival. deadline_ticks 0: no deadline. */
enum rk_pp_wait rk_pp_wait_arrival(struct rk_pp *pp, uint64_t deadline_ticks);
/* Waits until every request in flight has completed (READ and atomics: until the data is here). */
enum rk_pp_wait rk_pp_wait_sent(struct rk_pp *pp, uint64_t deadline_ticks);
/* Waits until the last byte of slot 0 differs from `before` (RDMA WRITE). */
enum rk_pp_wait rk_pp_wait_byte(struct rk_pp *pp, uint8_t before, uint64_t deadline_ticks);
/* Acknowledges outstanding completion events, without which destroying a CQ would hang. */
void rk_pp_ack_events(struct rk_pp *pp);
/* Checks a received message against its pattern and counts. role is the sender's. */
void rk_pp_verify(struct rk_pp *pp, const uint8_t *message, uint64_t exchange, uint32_t role);

static inline uint8_t *rk_pp_message(const struct rk_pp *pp, uint32_t slot)
{
	return pp->rx + pp->stride * slot + pp->rx_payload;
}

void rk_pp_run_client(struct rk_dp_loop *loop);
void rk_pp_run_server(struct rk_dp_loop *loop);

#endif
