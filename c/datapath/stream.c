/*
 * One-way traffic over a queue pair: how many messages, how many bytes a second. The client keeps up to `depth` requests in
 * flight, hands them over in lists and signals one in `signal_every`; the server keeps receives posted and counts.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <infiniband/verbs.h>
#include <stdlib.h>
#include <string.h>

#include "loop.h"
#include "operation.h"

#define POLL_BATCH 32

struct stream {
	struct rk_dp_loop *loop;
	struct rk_dp_stats *stats;
	const struct rk_clock *clock;
	const struct rk_dp_stream *config;
	struct ibv_qp *qp;
	struct ibv_cq *cq; /* the one this end watches: send CQ of the client, receive CQ of the server */
	uint64_t stride;
	uint32_t slot;		/* next place in the buffer */
	uint32_t in_flight;	/* posted and not known to be complete */
	uint32_t unsignalled;	/* posted since the last signalled one */
	uint32_t batch_length;	/* requests handed over at once */
	uint64_t warm_left;	/* messages that are still warm-up */
	uint64_t first, newest; /* ticks of the measured part */
	struct ibv_sge *sges;
	struct ibv_send_wr *sends;
	struct ibv_recv_wr *recvs;
	/* RK_DP_TIME_OPS: when each signalled request was posted, indexed by its number modulo depth. */
	uint64_t *posted_at;
	uint32_t signals;
};

static uint64_t stride_of(const struct rk_dp_stream *c)
{
	uint64_t grh = c->transport == IBV_QPT_UD && c->role == RK_DP_SERVER ? RK_DP_GRH_BYTES : 0;
	uint64_t stride = (c->size + grh + 63) / 64 * 64;
	return stride ? stride : 64;
}

/* The list of requests that every ibv_post_send hands over; only addresses, ids and signalling change per call. */
static void prepare_sends(struct stream *s)
{
	const struct rk_dp_stream *c = s->config;
	int pulls = rk_pulls(c->op);
	for (uint32_t i = 0; i < s->batch_length; i++) {
		struct ibv_send_wr *wr = &s->sends[i];
		s->sges[i].length = c->size;
		s->sges[i].lkey = c->lkey;
		wr->opcode = rk_opcode_of(c->op);
		wr->sg_list = &s->sges[i];
		wr->num_sge = c->size ? 1 : 0;
		wr->imm_data = htonl(i);
		if (!pulls && c->size <= c->max_inline) {
			wr->send_flags = IBV_SEND_INLINE;
			s->stats->inline_used = 1;
		}
		if (c->transport == IBV_QPT_UD) {
			wr->wr.ud.ah = (struct ibv_ah *)(uintptr_t)c->ah;
			wr->wr.ud.remote_qpn = c->remote_qpn;
			wr->wr.ud.remote_qkey = c->remote_qkey;
		} else if (rk_is_atomic(c->op)) {
			wr->wr.atomic.compare_add = 1;
			wr->wr.atomic.swap = 1;
			wr->wr.atomic.rkey = c->rkey;
		} else {
			wr->wr.rdma.rkey = c->rkey;
		}
	}
}

/* Aims the first `count` requests at the next places of both buffers and posts them. 0, or -1 with the failure recorded. */
static int post_batch(struct stream *s, uint32_t count)
{
	const struct rk_dp_stream *c = s->config;
	int atomic = rk_is_atomic(c->op);
	for (uint32_t i = 0; i < count; i++) {
		struct ibv_send_wr *wr = &s->sends[i];
		uint64_t offset = s->stride * s->slot;
		if (++s->slot == c->slots)
			s->slot = 0;
		s->sges[i].addr = c->buffer + offset;
		if (atomic)
			wr->wr.atomic.remote_addr = c->remote_addr + offset;
		else if (c->transport != IBV_QPT_UD)
			wr->wr.rdma.remote_addr = c->remote_addr + offset;
		wr->send_flags &= ~(unsigned)IBV_SEND_SIGNALED;
		if (++s->unsignalled >= c->signal_every) {
			wr->send_flags |= IBV_SEND_SIGNALED;
			wr->wr_id = ((uint64_t)s->signals << 32) | s->unsignalled;
			s->unsignalled = 0;
			if (s->posted_at)
				s->posted_at[s->signals % c->depth] = rk_clock_ticks(s->clock);
			s->signals++;
		}
		wr->next = i + 1 < count ? wr + 1 : NULL;
	}
	s->in_flight += count;
	struct ibv_send_wr *bad;
	int error = ibv_post_send(s->qp, s->sends, &bad);
	if (__builtin_expect(error == 0, 1))
		return 0;
	rk_loop_fail(s->loop, RK_DP_STAGE_POST_SEND, error, "ibv_post_send: %s", strerror(error));
	return -1;
}

static int completion_failed(struct stream *s, const struct ibv_wc *wc)
{
	s->stats->wc_status = wc->status;
	s->stats->wc_vendor_error = wc->vendor_err;
	s->stats->wc_queue = s->config->role == RK_DP_SERVER;
	s->stats->error_sequence = s->stats->completed;
	rk_loop_fail(s->loop, RK_DP_STAGE_COMPLETION, EIO, "a %s request completed with '%s'",
		     s->config->role == RK_DP_SERVER ? "receive" : "send", ibv_wc_status_str(wc->status));
	return -1;
}

/* Counts `messages` finished just now; the measured part begins with the completion that ends the warm-up. */
static void count(struct stream *s, uint64_t messages, uint64_t now)
{
	if (s->warm_left) {
		uint64_t warm = messages < s->warm_left ? messages : s->warm_left;
		s->warm_left -= warm;
		s->stats->warmed_up += warm;
		messages -= warm;
		s->first = now;
		if (s->warm_left == 0)
			s->stats->begin_ns = rk_clock_raw_ns();
	}
	if (messages == 0)
		return;
	s->newest = now;
	s->stats->completed += messages;
	s->stats->bytes += messages * s->config->size;
	s->stats->elapsed_ns = rk_clock_to_ns(s->clock, now - s->first);
}

/* Takes what has completed. The number of completions, or -1 with the failure recorded. */
static int take_completions(struct stream *s)
{
	struct ibv_wc wc[POLL_BATCH];
	int n = ibv_poll_cq(s->cq, POLL_BATCH, wc);
	if (n == 0)
		return 0;
	if (n < 0) {
		rk_loop_fail(s->loop, RK_DP_STAGE_POLL, EIO, "ibv_poll_cq returned %d", n);
		return -1;
	}
	uint64_t now = rk_clock_ticks(s->clock);
	for (int i = 0; i < n; i++) {
		if (__builtin_expect(wc[i].status != IBV_WC_SUCCESS, 0))
			return completion_failed(s, &wc[i]);
		uint32_t retired = (uint32_t)wc[i].wr_id;
		s->in_flight -= retired;
		if (s->posted_at && s->warm_left == 0)
			rk_hist_record(&s->stats->hist,
				       rk_clock_to_ns(s->clock, now - s->posted_at[(wc[i].wr_id >> 32) % s->config->depth]));
		count(s, retired, now);
	}
	return n;
}

/* Stop flag and silence check between empty polls. 1: leave the loop. */
static int give_up(struct stream *s, uint32_t *spins, uint64_t *quiet_since)
{
	s->stats->spins++;
	if (++*spins % RK_STOP_CHECK_SPINS != 0)
		return 0;
	if (rk_loop_stopping(s->loop))
		return 1;
	uint64_t now = rk_clock_ticks(s->clock);
	if (*quiet_since == 0)
		*quiet_since = now;
	if (s->config->role == RK_DP_CLIENT && now - *quiet_since > rk_clock_from_ns(s->clock, s->config->timeout_ns)) {
		rk_loop_fail(s->loop, RK_DP_STAGE_TIMEOUT, ETIMEDOUT, "no request completed within %llu ms",
			     (unsigned long long)(s->config->timeout_ns / 1000000));
		return 1;
	}
	return 0;
}

static void run_client(struct rk_dp_loop *loop, struct stream *s)
{
	const struct rk_dp_stream *c = s->config;
	uint64_t duration = rk_clock_from_ns(s->clock, c->duration_ns), quiet_since = 0;
	uint64_t goal = c->iterations ? c->iterations + c->warmup : UINT64_MAX, posted = 0;
	uint32_t spins = 0;
	/* Unsignalled requests at the end would never be retired, so the total is a multiple of the signalling interval. */
	if (goal != UINT64_MAX)
		goal = (goal + c->signal_every - 1) / c->signal_every * c->signal_every;
	s->first = rk_clock_ticks(s->clock);
	if (!s->warm_left)
		s->stats->begin_ns = rk_clock_raw_ns();
	while (!rk_loop_failed(loop)) {
		int ending = posted >= goal || rk_loop_stopping(loop) ||
			     (duration && s->newest > s->first && s->newest - s->first >= duration);
		if (!ending && s->in_flight + s->batch_length <= c->depth) {
			if (post_batch(s, s->batch_length) != 0)
				break;
			posted += s->batch_length;
			s->stats->posted = posted > c->warmup ? posted - c->warmup : 0;
			/* A batch that leaves room is followed by the next; the CQ is looked at when the queue is half full. */
			if (s->in_flight + s->batch_length <= c->depth / 2)
				continue;
		}
		int n = take_completions(s);
		if (n < 0)
			break;
		if (n > 0)
			quiet_since = 0;
		else if (ending && s->in_flight <= s->unsignalled)
			break;
		else if (n == 0 && give_up(s, &spins, &quiet_since))
			break;
	}
}

static int post_recvs(struct stream *s, uint32_t count_wanted)
{
	const struct rk_dp_stream *c = s->config;
	while (count_wanted > 0) {
		uint32_t n = count_wanted < s->batch_length ? count_wanted : s->batch_length;
		for (uint32_t i = 0; i < n; i++) {
			uint64_t grh = c->transport == IBV_QPT_UD ? RK_DP_GRH_BYTES : 0;
			s->sges[i] = (struct ibv_sge){.addr = c->buffer + s->stride * s->slot,
						      .length = (uint32_t)(c->size + grh),
						      .lkey = c->lkey};
			if (++s->slot == c->slots)
				s->slot = 0;
			s->recvs[i] = (struct ibv_recv_wr){.wr_id = 1,
							   .next = i + 1 < n ? &s->recvs[i + 1] : NULL,
							   .sg_list = &s->sges[i],
							   .num_sge = c->op == RK_DP_WRITE_IMM || c->size + grh == 0 ? 0 : 1};
		}
		struct ibv_recv_wr *bad;
		int error = ibv_post_recv(s->qp, s->recvs, &bad);
		if (error) {
			rk_loop_fail(s->loop, RK_DP_STAGE_POST_RECV, error, "ibv_post_recv: %s", strerror(error));
			return -1;
		}
		s->in_flight += n;
		count_wanted -= n;
	}
	return 0;
}

static void run_server(struct rk_dp_loop *loop, struct stream *s)
{
	uint32_t spins = 0;
	uint64_t quiet_since = 0;
	s->first = rk_clock_ticks(s->clock);
	while (!rk_loop_failed(loop)) {
		int n = take_completions(s);
		if (n < 0)
			break;
		/* The clock starts with the first message, not with the wait for it. */
		if (n > 0 && s->stats->begin_ns == 0) {
			s->first = s->newest;
			s->stats->begin_ns = rk_clock_raw_ns();
		}
		uint32_t used = s->config->depth - s->in_flight;
		if (used >= s->batch_length && post_recvs(s, used) != 0)
			break;
		if (n == 0 && give_up(s, &spins, &quiet_since))
			break;
	}
}

static void release(struct stream *s)
{
	free(s->sges);
	free(s->sends);
	free(s->recvs);
	free(s->posted_at);
}

static int init(struct stream *s, struct rk_dp_loop *loop)
{
	const struct rk_dp_stream *c = &loop->config.stream;
	memset(s, 0, sizeof(*s));
	s->loop = loop;
	s->stats = loop->stats;
	s->clock = loop->clock;
	s->config = c;
	s->qp = (struct ibv_qp *)(uintptr_t)c->qp;
	s->cq = (struct ibv_cq *)(uintptr_t)(c->role == RK_DP_CLIENT ? c->send_cq : c->recv_cq);
	s->stride = stride_of(c);
	s->warm_left = c->role == RK_DP_CLIENT ? c->warmup : 0;
	s->batch_length = c->post_list;
	s->sges = calloc(s->batch_length, sizeof(*s->sges));
	s->sends = calloc(s->batch_length, sizeof(*s->sends));
	s->recvs = calloc(s->batch_length, sizeof(*s->recvs));
	if ((c->flags & RK_DP_TIME_OPS) && c->role == RK_DP_CLIENT)
		s->posted_at = calloc(c->depth, sizeof(*s->posted_at));
	if (!s->sges || !s->sends || !s->recvs || ((c->flags & RK_DP_TIME_OPS) && c->role == RK_DP_CLIENT && !s->posted_at)) {
		release(s);
		return -1;
	}
	if (c->role == RK_DP_CLIENT)
		prepare_sends(s);
	return 0;
}

static void run(struct rk_dp_loop *loop)
{
	struct stream s;
	if (init(&s, loop) != 0) {
		rk_loop_fail(loop, RK_DP_STAGE_CONFIG, ENOMEM, "no memory for the request lists");
		return;
	}
	if (s.config->role == RK_DP_CLIENT) {
		run_client(loop, &s);
	} else {
		/* rk_dp_stream_start posted the first `depth` receives. */
		s.in_flight = s.config->depth;
		s.slot = s.config->depth % s.config->slots;
		run_server(loop, &s);
	}
	release(&s);
}

static const char *refuse(const struct rk_dp_stream *c)
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
					       .posts = c->role == RK_DP_CLIENT};
	const char *reason = rk_refuse_operation(&operation);
	if (reason)
		return reason;
	if (c->role == RK_DP_SERVER && !rk_consumes_recv(c->op))
		return "a plain write has no server loop";
	if (c->depth == 0 || c->slots == 0 || c->timeout_ns == 0)
		return "depth, slots and timeout_ns must not be 0";
	if (c->signal_every == 0 || c->signal_every > c->depth || c->post_list == 0 || c->post_list > c->signal_every)
		return "the signalling interval must be 1..depth, the post list 1..signalling interval";
	/* Otherwise the queue could fill up with requests none of which is signalled. */
	if (c->role == RK_DP_CLIENT && c->depth % c->post_list != 0)
		return "the depth must be a multiple of the post list";
	if (c->signal_every % c->post_list != 0)
		return "the signalling interval must be a multiple of the post list";
	if (c->buffer_length / c->slots < stride_of(c))
		return "the buffer is too small for its slots";
	return NULL;
}

int32_t rk_dp_stream_start(const struct rk_dp_stream *config, struct rk_dp_stats *stats, struct rk_dp_loop **out)
{
	if (!config || !stats || !out)
		return -EINVAL;
	*out = NULL;
	struct rk_dp_loop *loop = rk_loop_new(stats, config->core);
	if (!loop)
		return -ENOMEM;
	loop->config.stream = *config;
	const char *reason = refuse(config);
	if (reason)
		return rk_loop_refuse(loop, reason);
	if (config->role == RK_DP_SERVER) {
		struct stream s;
		int failed = init(&s, loop);
		if (failed == 0) {
			failed = post_recvs(&s, config->depth);
			release(&s);
		} else {
			rk_loop_fail(loop, RK_DP_STAGE_CONFIG, ENOMEM, "no memory for the request lists");
		}
		if (failed != 0)
			return rk_loop_discard(loop);
	}
	return rk_loop_launch(loop, run, out);
}
