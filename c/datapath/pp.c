/* Steps that both ends of a verbs ping-pong share: posting, completions, waiting. See pp.h. */
#include "pp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>

/* While waiting for a byte in memory the loop also polls its CQ once in so many looks: errors are seen, and a device whose
 * progress is made by whoever polls keeps moving. */
#define CQ_POLL_EVERY 64u

void rk_pp_init(struct rk_pp *pp, struct rk_dp_loop *loop)
{
	const struct rk_dp_pingpong *c = &loop->config.pingpong;
	memset(pp, 0, sizeof(*pp));
	pp->loop = loop;
	pp->stats = loop->stats;
	pp->clock = loop->clock;
	pp->config = c;
	pp->qp = (struct ibv_qp *)(uintptr_t)c->qp;
	pp->send_cq = (struct ibv_cq *)(uintptr_t)c->send_cq;
	pp->recv_cq = (struct ibv_cq *)(uintptr_t)c->recv_cq;
	pp->channel = (c->flags & RK_DP_EVENTS) ? (struct ibv_comp_channel *)(uintptr_t)c->channel : NULL;
	pp->tx = (uint8_t *)(uintptr_t)c->buffer;
	pp->rx = pp->tx + rk_dp_rx_offset(c->size);
	pp->stride = rk_dp_rx_stride(c->size);
	pp->rx_payload = c->transport == IBV_QPT_UD ? RK_DP_GRH_BYTES : 0;
	pp->lossy = c->transport != IBV_QPT_RC;
	pp->verify = (c->flags & RK_DP_VERIFY) != 0;
	pp->stamped = pp->lossy || pp->verify;

	int pulls = rk_pulls(c->op);
	pp->tx_sge.addr = (uintptr_t)(pulls ? pp->rx : pp->tx);
	pp->tx_sge.length = c->size;
	pp->tx_sge.lkey = c->lkey;
	pp->rx_sge.lkey = c->lkey;
	pp->rx_sge.length = c->size + pp->rx_payload;

	pp->send.opcode = rk_opcode_of(c->op);
	pp->send.sg_list = &pp->tx_sge;
	pp->send.num_sge = c->size ? 1 : 0;
	if (!pulls && c->size <= c->max_inline) {
		pp->send.send_flags = IBV_SEND_INLINE;
		pp->stats->inline_used = 1;
	}
	if (c->transport == IBV_QPT_UD) {
		pp->send.wr.ud.ah = (struct ibv_ah *)(uintptr_t)c->ah;
		pp->send.wr.ud.remote_qpn = c->remote_qpn;
		pp->send.wr.ud.remote_qkey = c->remote_qkey;
	} else if (rk_is_atomic(c->op)) {
		pp->send.wr.atomic.remote_addr = c->remote_addr;
		pp->send.wr.atomic.rkey = c->rkey;
		pp->send.wr.atomic.compare_add = 1;
	} else {
		pp->send.wr.rdma.remote_addr = c->remote_addr;
		pp->send.wr.rdma.rkey = c->rkey;
	}
	/* A request whose data must come back is waited for by its own completion. Of the others only every n-th is
	 * signalled, and always early enough that the queue never fills with unsignalled ones. */
	pp->signal_every = c->sq_depth / 2;
	if (pp->signal_every > 64)
		pp->signal_every = 64;
	if (pulls || pp->signal_every == 0)
		pp->signal_every = 1;
}

int rk_pp_post_recv(struct rk_pp *pp, uint32_t slot)
{
	pp->rx_sge.addr = (uintptr_t)(pp->rx + pp->stride * slot);
	struct ibv_recv_wr wr = {.wr_id = slot, .sg_list = &pp->rx_sge, .num_sge = pp->rx_sge.length ? 1 : 0}, *bad;
	/* The payload of a WRITE_IMM goes where the writer says; its receive only carries the notice. */
	if (pp->config->op == RK_DP_WRITE_IMM)
		wr.num_sge = 0;
	int error = ibv_post_recv(pp->qp, &wr, &bad);
	if (error == 0)
		return 0;
	rk_loop_fail(pp->loop, RK_DP_STAGE_POST_RECV, error, "ibv_post_recv: %s", strerror(error));
	return -1;
}

int rk_pp_post_all_recvs(struct rk_pp *pp)
{
	if (!rk_consumes_recv(pp->config->op))
		return 0;
	for (uint32_t slot = 0; slot < pp->config->rx_slots; slot++)
		if (rk_pp_post_recv(pp, slot) != 0)
			return -1;
	return 0;
}

/* Makes room in the send queue. Completions of requests that the peer already answered are due at once. */
static int reap_sends(struct rk_pp *pp)
{
	uint64_t deadline = rk_clock_ticks(pp->clock) + rk_clock_from_ns(pp->clock, pp->config->timeout_ns);
	for (uint32_t spins = 1; pp->outstanding >= pp->config->sq_depth; spins++) {
		enum rk_pp_event event = rk_pp_poll(pp, pp->send_cq);
		if (event == RK_PP_ERROR)
			return -1;
		/* A late answer on a shared CQ: nobody waits for it here. */
		if (event == RK_PP_ARRIVAL) {
			pp->stats->late++;
			if (rk_pp_post_recv(pp, pp->slot) != 0)
				return -1;
		}
		if (spins % RK_STOP_CHECK_SPINS == 0) {
			if (rk_loop_stopping(pp->loop))
				return -1;
			if (rk_clock_ticks(pp->clock) > deadline) {
				rk_loop_fail(pp->loop, RK_DP_STAGE_TIMEOUT, ETIMEDOUT,
					     "the send queue stayed full: its requests did not complete");
				return -1;
			}
		}
	}
	return 0;
}

int rk_pp_post_send(struct rk_pp *pp, uint64_t exchange)
{
	/* One opportunistic look retires a signalled batch long before the queue is full. */
	if (pp->outstanding > pp->signal_every && pp->send_cq != pp->recv_cq && rk_pp_poll(pp, pp->send_cq) == RK_PP_ERROR)
		return -1;
	if (__builtin_expect(pp->outstanding >= pp->config->sq_depth, 0) && reap_sends(pp) != 0)
		return -1;
	pp->unsignalled++;
	pp->send.send_flags &= ~(unsigned)IBV_SEND_SIGNALED;
	if (pp->unsignalled >= pp->signal_every) {
		pp->send.send_flags |= IBV_SEND_SIGNALED;
		pp->send.wr_id = RK_WR_SEND | pp->unsignalled;
		pp->unsignalled = 0;
	}
	pp->send.imm_data = htonl((uint32_t)exchange);
	pp->outstanding++;
	struct ibv_send_wr *bad;
	int error = ibv_post_send(pp->qp, &pp->send, &bad);
	if (__builtin_expect(error == 0, 1))
		return 0;
	pp->outstanding--;
	rk_loop_fail(pp->loop, RK_DP_STAGE_POST_SEND, error, "ibv_post_send: %s", strerror(error));
	return -1;
}

static void record_wc_error(struct rk_pp *pp, const struct ibv_wc *wc)
{
	pp->stats->wc_status = wc->status;
	pp->stats->wc_vendor_error = wc->vendor_err;
	pp->stats->wc_queue = (wc->wr_id & RK_WR_SEND) ? 0 : 1;
	pp->stats->error_sequence = pp->stats->completed;
	rk_loop_fail(pp->loop, RK_DP_STAGE_COMPLETION, EIO, "a %s request completed with '%s'",
		     pp->stats->wc_queue ? "receive" : "send", ibv_wc_status_str(wc->status));
}

/* A flushed receive is only the echo of what broke the queue pair; the send queue may know the cause. */
static void completion_failed(struct rk_pp *pp, const struct ibv_wc *wc)
{
	struct ibv_wc other;
	if (wc->status == IBV_WC_WR_FLUSH_ERR)
		for (uint32_t i = 0; i < 2 * pp->config->sq_depth + 2 && ibv_poll_cq(pp->send_cq, 1, &other) == 1; i++)
			if (other.status != IBV_WC_SUCCESS && other.status != IBV_WC_WR_FLUSH_ERR) {
				record_wc_error(pp, &other);
				return;
			}
	record_wc_error(pp, wc);
}

enum rk_pp_event rk_pp_poll(struct rk_pp *pp, struct ibv_cq *cq)
{
	struct ibv_wc wc;
	int n = ibv_poll_cq(cq, 1, &wc);
	if (n == 0)
		return RK_PP_NOTHING;
	if (__builtin_expect(n < 0, 0)) {
		rk_loop_fail(pp->loop, RK_DP_STAGE_POLL, EIO, "ibv_poll_cq returned %d", n);
		return RK_PP_ERROR;
	}
	if (__builtin_expect(wc.status != IBV_WC_SUCCESS, 0)) {
		completion_failed(pp, &wc);
		return RK_PP_ERROR;
	}
	if (wc.wr_id & RK_WR_SEND) {
		pp->outstanding -= (uint32_t)(wc.wr_id & ~RK_WR_SEND);
		return RK_PP_SENT;
	}
	pp->slot = (uint32_t)wc.wr_id;
	pp->imm = ntohl(wc.imm_data);
	return RK_PP_ARRIVAL;
}

/* Sleeps until the channel has an event, the deadline passes or a slice is over. -1: failure recorded. */
static int wait_event(struct rk_pp *pp, uint64_t deadline_ticks)
{
	int timeout_ms = (int)(RK_WAIT_SLICE_NS / 1000000);
	if (deadline_ticks) {
		int64_t left = (int64_t)(deadline_ticks - rk_clock_ticks(pp->clock));
		if (left <= 0)
			return 0;
		uint64_t left_ms = rk_clock_to_ns(pp->clock, (uint64_t)left) / 1000000 + 1;
		if (left_ms < (uint64_t)timeout_ms)
			timeout_ms = (int)left_ms;
	}
	struct pollfd ready = {.fd = pp->channel->fd, .events = POLLIN};
	int n = poll(&ready, 1, timeout_ms);
	if (n == 0 || (n < 0 && errno == EINTR))
		return 0;
	struct ibv_cq *event_cq;
	void *context;
	if (n < 0 || ibv_get_cq_event(pp->channel, &event_cq, &context) != 0) {
		rk_loop_fail(pp->loop, RK_DP_STAGE_EVENT, errno, "waiting for a completion event: %s", strerror(errno));
		return -1;
	}
	pp->stats->wakeups++;
	pp->unacked_events[event_cq == pp->recv_cq]++;
	if (pp->unacked_events[0] + pp->unacked_events[1] >= 64)
		rk_pp_ack_events(pp);
	return 0;
}

void rk_pp_ack_events(struct rk_pp *pp)
{
	if (pp->unacked_events[0])
		ibv_ack_cq_events(pp->send_cq, pp->unacked_events[0]);
	if (pp->unacked_events[1])
		ibv_ack_cq_events(pp->recv_cq, pp->unacked_events[1]);
	pp->unacked_events[0] = pp->unacked_events[1] = 0;
}

/* Waits for the wanted kind of completion on a queue. */
static enum rk_pp_wait wait_completion(struct rk_pp *pp, struct ibv_cq *cq, enum rk_pp_event wanted, uint64_t deadline_ticks)
{
	int armed = 0;
	for (uint32_t spins = 1;; spins++) {
		enum rk_pp_event event = rk_pp_poll(pp, cq);
		if (__builtin_expect(event == wanted, 0))
			return RK_PP_OK;
		if (__builtin_expect(event == RK_PP_ERROR, 0))
			return RK_PP_FAILED;
		if (event != RK_PP_NOTHING)
			continue;
		pp->stats->spins++;
		if (pp->channel) {
			/* Arm, look once more (a completion may have slipped in between), then sleep. */
			if (!armed) {
				int error = ibv_req_notify_cq(cq, 0);
				if (error) {
					rk_loop_fail(pp->loop, RK_DP_STAGE_EVENT, error, "ibv_req_notify_cq: %s", strerror(error));
					return RK_PP_FAILED;
				}
				armed = 1;
				continue;
			}
			uint64_t wakeups = pp->stats->wakeups;
			if (wait_event(pp, deadline_ticks) != 0)
				return RK_PP_FAILED;
			armed = pp->stats->wakeups == wakeups;
		} else if (spins % RK_STOP_CHECK_SPINS != 0) {
			continue;
		}
		if (rk_loop_stopping(pp->loop))
			return RK_PP_STOPPED;
		if (deadline_ticks && (int64_t)(rk_clock_ticks(pp->clock) - deadline_ticks) > 0)
			return RK_PP_TIMEOUT;
	}
}

enum rk_pp_wait rk_pp_wait_arrival(struct rk_pp *pp, uint64_t deadline_ticks)
{
	return wait_completion(pp, pp->recv_cq, RK_PP_ARRIVAL, deadline_ticks);
}

enum rk_pp_wait rk_pp_wait_sent(struct rk_pp *pp, uint64_t deadline_ticks)
{
	while (pp->outstanding > 0) {
		enum rk_pp_wait wait = wait_completion(pp, pp->send_cq, RK_PP_SENT, deadline_ticks);
		if (wait != RK_PP_OK)
			return wait;
	}
	return RK_PP_OK;
}

enum rk_pp_wait rk_pp_wait_byte(struct rk_pp *pp, uint8_t before, uint64_t deadline_ticks)
{
	const uint8_t *last = pp->rx + pp->config->size - 1;
	for (uint32_t spins = 1;; spins++) {
		if (__atomic_load_n(last, __ATOMIC_ACQUIRE) != before)
			return RK_PP_OK;
		if (spins % CQ_POLL_EVERY != 0)
			continue;
		pp->stats->spins += CQ_POLL_EVERY;
		if (rk_pp_poll(pp, pp->send_cq) == RK_PP_ERROR)
			return RK_PP_FAILED;
		if (spins % RK_STOP_CHECK_SPINS != 0)
			continue;
		if (rk_loop_stopping(pp->loop))
			return RK_PP_STOPPED;
		if (deadline_ticks && (int64_t)(rk_clock_ticks(pp->clock) - deadline_ticks) > 0)
			return RK_PP_TIMEOUT;
	}
}

/* On a lossy transport a message that was given up may still arrive, and the next WRITE goes to the same place: then the
 * bytes are another exchange's, not damaged ones. */
static int overwritten(const struct rk_pp *pp, const uint8_t *message, uint64_t exchange)
{
	int in_place = pp->config->op == RK_DP_WRITE || pp->config->op == RK_DP_WRITE_IMM;
	return pp->lossy && in_place && !rk_stamp_matches(message, pp->config->size, exchange);
}

void rk_pp_verify(struct rk_pp *pp, const uint8_t *message, uint64_t exchange, uint32_t role)
{
	struct rk_dp_stats *stats = pp->stats;
	uint8_t expected = 0, found = 0;
	int64_t offset = rk_pattern_check(message, pp->config->size, pp->config->seed, exchange, role, &expected, &found);
	/* Looked at after the check: a write that began meanwhile has changed the stamp, which comes first, by now. */
	if (__builtin_expect(offset >= 0, 0) && overwritten(pp, message, exchange)) {
		stats->late++;
		return;
	}
	stats->verified++;
	if (__builtin_expect(offset < 0, 1))
		return;
	if (stats->mismatches == 0) {
		stats->mismatch_sequence = exchange;
		stats->mismatch_offset = (uint64_t)offset;
		stats->mismatch_expected = expected;
		stats->mismatch_found = found;
	}
	stats->mismatches++;
}
