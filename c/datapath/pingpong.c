/* Start of a verbs ping-pong: checks the configuration, posts the first receives, launches the loop. */
#include <errno.h>
#include <stdlib.h>

#include "pp.h"

/* Why a configuration cannot run, or NULL. Everything a caller could get wrong is caught here, before a thread exists. */
static const char *refuse(const struct rk_dp_pingpong *c)
{
	const struct rk_operation operation = {.abi = c->abi,
					       .role = c->role,
					       .transport = c->transport,
					       .op = c->op,
					       .size = c->size,
					       .qp = c->qp,
					       .send_cq = c->send_cq,
					       .recv_cq = c->recv_cq,
					       .buffer = c->buffer,
					       .ah = c->ah,
					       .remote_addr = c->remote_addr,
					       .posts = 1};
	const char *reason = rk_refuse_operation(&operation);
	if (reason)
		return reason;
	if (c->op == RK_DP_WRITE && c->size == 0)
		return "a write ping-pong needs at least one byte, whose change is its arrival";
	if ((c->flags & RK_DP_EVENTS) && c->op == RK_DP_WRITE)
		return "a plain write raises no completion at its target, so there is no event to wait for";
	if ((c->flags & RK_DP_EVENTS) && !c->channel)
		return "events need a completion channel";
	if (c->rx_slots == 0 || c->sq_depth == 0 || c->timeout_ns == 0)
		return "rx_slots, sq_depth and timeout_ns must not be 0";
	if (c->buffer_length < rk_dp_buffer_length(c->size, c->rx_slots))
		return "the buffer is too small for its layout";
	return NULL;
}

int32_t rk_dp_pingpong_start(const struct rk_dp_pingpong *config, struct rk_dp_stats *stats, struct rk_dp_loop **out)
{
	if (!config || !stats || !out)
		return -EINVAL;
	*out = NULL;
	struct rk_dp_loop *loop = rk_loop_new(stats, config->core);
	if (!loop)
		return -ENOMEM;
	loop->config.pingpong = *config;
	const char *reason = refuse(config);
	if (reason)
		return rk_loop_refuse(loop, reason);
	struct rk_pp pp;
	rk_pp_init(&pp, loop);
	/* The last byte of slot 0 is what a WRITE's arrival is told from, and 0 is no marker. A READ's or an atomic's target
	 * is the peer's, so the client's own slot may be cleared too. */
	if (config->op == RK_DP_WRITE)
		pp.rx[config->size - 1] = 0;
	if (rk_pp_post_all_recvs(&pp) != 0) {
		return rk_loop_discard(loop);
	}
	return rk_loop_launch(loop, config->role == RK_DP_CLIENT ? rk_pp_run_client : rk_pp_run_server, out);
}
