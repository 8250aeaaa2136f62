/* Start of a verbs ping-pong: checks the configuration, posts the first receives, launches the loop. */
#include <errno.h>
#include <stdlib.h>

#include "pp.h"

/* Why a configuration cannot run, or NULL. Everything a caller could get wrong is caught here, before a thread exists. */
static const char *refuse(const struct rk_dp_pingpong *c)
{
	if (c->abi != RK_DP_ABI)
		return "the caller was built for another version of the data path";
	if (c->role > RK_DP_SERVER || c->op > RK_DP_CMP_SWAP)
		return "unknown role or operation";
	if (c->transport != IBV_QPT_RC && c->transport != IBV_QPT_UC && c->transport != IBV_QPT_UD)
		return "the transport must be RC, UC or UD";
	if (c->transport == IBV_QPT_UD && c->op != RK_DP_SEND)
		return "UD carries sends only";
	if (c->transport == IBV_QPT_UC && c->op >= RK_DP_READ)
		return "UC has no read and no atomics";
	if (c->role == RK_DP_SERVER && c->op >= RK_DP_READ)
		return "a one-sided operation has no server loop";
	if (!c->qp || !c->send_cq || !c->recv_cq || !c->buffer)
		return "a queue pair, its completion queues and a buffer are needed";
	if (c->transport == IBV_QPT_UD && !c->ah)
		return "UD needs an address handle";
	if (c->op != RK_DP_SEND && !c->remote_addr)
		return "a one-sided operation needs the peer's address";
	if (c->size > (UINT32_C(1) << 30))
		return "messages end at 1 GiB";
	if (rk_pp_is_atomic(c->op) && c->size != 8)
		return "atomics work on 8 bytes";
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
	if (reason) {
		rk_loop_fail(loop, RK_DP_STAGE_CONFIG, EINVAL, "%s", reason);
		rk_loop_discard(loop);
		return -EINVAL;
	}
	struct rk_pp pp;
	rk_pp_init(&pp, loop);
	/* The last byte of slot 0 is what a WRITE's arrival is told from, and 0 is no marker. A READ's or an atomic's target
	 * is the peer's, so the client's own slot may be cleared too. */
	if (config->op == RK_DP_WRITE)
		pp.rx[config->size - 1] = 0;
	if (rk_pp_post_all_recvs(&pp) != 0) {
		int error = loop->error;
		rk_loop_discard(loop);
		return -error;
	}
	int error = rk_loop_launch(loop, config->role == RK_DP_CLIENT ? rk_pp_run_client : rk_pp_run_server);
	if (error == 0)
		*out = loop;
	return error;
}
