/* rping's exchange: the connection's parts, its completions, and the start of a loop. See rping.h. */
#define _GNU_SOURCE
#include "rping.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SEND_DEPTH 16

static struct rk_cm_calls calls;
static int opened;

const struct rk_cm_calls *rk_cm(void) { return opened ? &calls : NULL; }

int32_t rk_dp_cm_open(const char *path)
{
	static const struct {
		const char *name;
		size_t at;
	} symbols[] = {
		{ "rdma_create_event_channel", offsetof(struct rk_cm_calls, create_event_channel) },
		{ "rdma_destroy_event_channel", offsetof(struct rk_cm_calls, destroy_event_channel) },
		{ "rdma_create_id", offsetof(struct rk_cm_calls, create_id) },
		{ "rdma_destroy_id", offsetof(struct rk_cm_calls, destroy_id) },
		{ "rdma_bind_addr", offsetof(struct rk_cm_calls, bind_addr) },
		{ "rdma_resolve_addr", offsetof(struct rk_cm_calls, resolve_addr) },
		{ "rdma_resolve_route", offsetof(struct rk_cm_calls, resolve_route) },
		{ "rdma_create_qp", offsetof(struct rk_cm_calls, create_qp) },
		{ "rdma_destroy_qp", offsetof(struct rk_cm_calls, destroy_qp) },
		{ "rdma_connect", offsetof(struct rk_cm_calls, connect) },
		{ "rdma_listen", offsetof(struct rk_cm_calls, listen) },
		{ "rdma_accept", offsetof(struct rk_cm_calls, accept) },
		{ "rdma_reject", offsetof(struct rk_cm_calls, reject) },
		{ "rdma_disconnect", offsetof(struct rk_cm_calls, disconnect) },
		{ "rdma_get_cm_event", offsetof(struct rk_cm_calls, get_cm_event) },
		{ "rdma_ack_cm_event", offsetof(struct rk_cm_calls, ack_cm_event) },
		{ "rdma_event_str", offsetof(struct rk_cm_calls, event_str) },
		{ "rdma_get_src_port", offsetof(struct rk_cm_calls, get_src_port) },
	};
	if (opened)
		return 0;
	void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!library)
		return -ELIBACC;
	for (size_t i = 0; i < sizeof(symbols) / sizeof(symbols[0]); i++) {
		void *found = dlsym(library, symbols[i].name);
		if (!found) {
			dlclose(library);
			return -ELIBBAD;
		}
		memcpy((char *)&calls + symbols[i].at, &found, sizeof(found));
	}
	opened = 1; /* it stays open: a process has one connection manager */
	return 0;
}

void rk_rping_name(const struct sockaddr *address, char *text)
{
	const void *bytes = address->sa_family == AF_INET ? (const void *)&((const struct sockaddr_in *)address)->sin_addr
							   : (const void *)&((const struct sockaddr_in6 *)address)->sin6_addr;
	if (!inet_ntop(address->sa_family, bytes, text, 64))
		text[0] = 0;
}

struct rdma_cm_event *rk_cm_event(struct rk_dp_loop *loop, struct rdma_event_channel *channel, uint64_t deadline_ticks)
{
	for (;;) {
		struct pollfd readable = { .fd = channel->fd, .events = POLLIN };
		struct rdma_cm_event *event;
		if (poll(&readable, 1, (int)(RK_WAIT_SLICE_NS / 1000000)) > 0)
			return rk_cm()->get_cm_event(channel, &event) == 0 ? event : NULL;
		if (rk_loop_stopping(loop) || (deadline_ticks && (int64_t)(rk_clock_ticks(loop->clock) - deadline_ticks) >= 0))
			return NULL;
	}
}

struct rdma_conn_param rk_rping_conn_param(void)
{
	return (struct rdma_conn_param){ .responder_resources = 1, .initiator_depth = 1, .retry_count = 7, .rnr_retry_count = 7 };
}

static int post_recv(struct rk_rping *r, unsigned slot)
{
	struct ibv_sge sge = { (uintptr_t)&r->messages[slot], sizeof(r->messages[slot]), r->message_mr->lkey };
	struct ibv_recv_wr wr = { .wr_id = slot, .sg_list = &sge, .num_sge = 1 }, *bad;
	int error = ibv_post_recv(r->id->qp, &wr, &bad);
	if (error)
		rk_loop_fail(r->loop, RK_DP_STAGE_POST_RECV, error, "a receive could not be posted: %s", strerror(error));
	return error ? -1 : 0;
}

static int post_send(struct rk_rping *r, struct ibv_send_wr *wr)
{
	struct ibv_send_wr *bad;
	wr->send_flags |= IBV_SEND_SIGNALED;
	wr->wr_id = wr->opcode;
	int error = ibv_post_send(r->id->qp, wr, &bad);
	if (error) {
		rk_loop_fail(r->loop, RK_DP_STAGE_POST_SEND, error, "a request could not be posted: %s", strerror(error));
		return -1;
	}
	r->sends_out++;
	return 0;
}

static int failed(struct rk_rping *r, const char *what)
{
	rk_loop_fail(r->loop, RK_DP_STAGE_CONNECT, errno, "%s: %s", what, strerror(errno));
	return -1;
}

int rk_rping_open(struct rk_rping *r, uint32_t size)
{
	struct ibv_context *verbs = r->id->verbs;
	uint64_t bytes = (RK_RPING_RECVS + 1) * sizeof(*r->messages);
	r->size = size;
	if (!(r->messages = rk_dp_buffer_new(bytes)) || !(r->data = rk_dp_buffer_new(size)) || !(r->echo = rk_dp_buffer_new(size))) {
		errno = ENOMEM;
		return failed(r, "no memory for the buffers");
	}
	if (!(r->pd = ibv_alloc_pd(verbs)) || !(r->channel = ibv_create_comp_channel(verbs)) ||
	    !(r->cq = ibv_create_cq(verbs, 2 * SEND_DEPTH, NULL, r->channel, 0)))
		return failed(r, "the completion queue could not be made");
	if (!(r->message_mr = ibv_reg_mr(r->pd, r->messages, bytes, IBV_ACCESS_LOCAL_WRITE)) ||
	    !(r->data_mr = ibv_reg_mr(r->pd, r->data, size, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ)) ||
	    !(r->echo_mr = ibv_reg_mr(r->pd, r->echo, size, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE)))
		return failed(r, "the buffers could not be registered");
	struct ibv_qp_init_attr init = { .send_cq = r->cq, .recv_cq = r->cq, .qp_type = IBV_QPT_RC, .sq_sig_all = 1,
					 .cap = { .max_send_wr = SEND_DEPTH, .max_recv_wr = RK_RPING_RECVS, .max_send_sge = 1, .max_recv_sge = 1 } };
	if (rk_cm()->create_qp(r->id, r->pd, &init))
		return failed(r, "the queue pair could not be made");
	for (unsigned i = 0; i < RK_RPING_RECVS; i++)
		if (post_recv(r, i))
			return -1;
	return 0;
}

void rk_rping_close(struct rk_rping *r)
{
	if (r->id && r->id->qp)
		rk_cm()->destroy_qp(r->id);
	if (r->cq) {
		ibv_ack_cq_events(r->cq, r->unacked_events);
		ibv_destroy_cq(r->cq);
	}
	if (r->channel)
		ibv_destroy_comp_channel(r->channel);
	struct ibv_mr *regions[] = { r->message_mr, r->data_mr, r->echo_mr };
	for (unsigned i = 0; i < 3; i++)
		if (regions[i])
			ibv_dereg_mr(regions[i]);
	if (r->pd)
		ibv_dealloc_pd(r->pd);
	rk_dp_buffer_free(r->messages, (RK_RPING_RECVS + 1) * sizeof(*r->messages));
	rk_dp_buffer_free(r->data, r->size);
	rk_dp_buffer_free(r->echo, r->size);
}

int rk_rping_send(struct rk_rping *r, const void *buffer, const struct ibv_mr *mr, uint32_t length)
{
	struct rk_rping_message *out = &r->messages[RK_RPING_RECVS];
	*out = (struct rk_rping_message){ htobe64((uintptr_t)buffer), htobe32(mr->rkey), htobe32(length) };
	struct ibv_sge sge = { (uintptr_t)out, sizeof(*out), r->message_mr->lkey };
	/* Inline needs no room that a device may lack; the message is only written again after its completion. */
	return post_send(r, &(struct ibv_send_wr){ .sg_list = &sge, .num_sge = 1, .opcode = IBV_WR_SEND });
}

int rk_rping_one_sided(struct rk_rping *r, enum ibv_wr_opcode opcode, uint32_t length, const struct rk_rping_message *there)
{
	struct ibv_sge sge = { (uintptr_t)r->data, length, r->data_mr->lkey };
	r->one_sided_done = 0;
	struct ibv_send_wr wr = { .sg_list = &sge, .num_sge = 1, .opcode = opcode };
	wr.wr.rdma.remote_addr = be64toh(there->address);
	wr.wr.rdma.rkey = be32toh(there->rkey);
	return post_send(r, &wr);
}

/* Takes what is in the completion queue. 1 when there was something, 0 when not, -1 with the failure recorded. */
static int take(struct rk_rping *r)
{
	struct ibv_wc wc;
	int n = ibv_poll_cq(r->cq, 1, &wc);
	if (n == 0)
		return 0;
	if (n < 0) {
		rk_loop_fail(r->loop, RK_DP_STAGE_POLL, -n, "the completion queue could not be polled");
		return -1;
	}
	if (wc.status != IBV_WC_SUCCESS) {
		/* After a disconnect everything is flushed: the end, not a failure. */
		if (wc.status == IBV_WC_WR_FLUSH_ERR && atomic_load(&r->gone))
			return -1;
		struct rk_dp_stats *stats = r->loop->stats;
		if (!rk_loop_failed(r->loop)) {
			stats->wc_status = wc.status;
			stats->wc_vendor_error = wc.vendor_err;
		}
		rk_loop_fail(r->loop, RK_DP_STAGE_COMPLETION, EIO, "%s", ibv_wc_status_str(wc.status));
		return -1;
	}
	if (wc.opcode & IBV_WC_RECV) {
		if (wc.byte_len != sizeof(struct rk_rping_message)) {
			rk_loop_fail(r->loop, RK_DP_STAGE_COMPLETION, EPROTO, "a message of %u bytes, which is none of rping's", wc.byte_len);
			return -1;
		}
		r->received++;
		return 1;
	}
	r->sends_out--;
	r->one_sided_done |= wc.opcode == IBV_WC_RDMA_READ;
	return 1;
}

static enum rk_rping_wait sleep_for_event(struct rk_rping *r)
{
	struct ibv_cq *cq;
	void *context;
	struct pollfd readable = { .fd = r->channel->fd, .events = POLLIN };
	if (poll(&readable, 1, (int)(RK_WAIT_SLICE_NS / 1000000)) <= 0)
		return RK_RPING_OK;
	if (ibv_get_cq_event(r->channel, &cq, &context)) {
		rk_loop_fail(r->loop, RK_DP_STAGE_EVENT, errno, "no completion event: %s", strerror(errno));
		return RK_RPING_END;
	}
	r->unacked_events++;
	r->loop->stats->wakeups++;
	return RK_RPING_OK;
}

/* Polls, and after a while of nothing sleeps, until *what is not 0. */
static enum rk_rping_wait wait_for(struct rk_rping *r, const volatile int *done, const volatile unsigned *count, uint64_t deadline_ticks)
{
	uint64_t began = rk_clock_ticks(r->loop->clock);
	int armed = 0;
	for (unsigned spins = 1;; spins++) {
		if ((done && *done) || (count && *count))
			return RK_RPING_OK;
		int n = take(r);
		if (n < 0)
			return RK_RPING_END;
		if (n > 0)
			continue;
		uint64_t now = began;
		if (armed || r->spin_ticks == 0 || spins % RK_STOP_CHECK_SPINS == 0) {
			now = rk_clock_ticks(r->loop->clock);
			if (rk_loop_stopping(r->loop) || atomic_load(&r->gone))
				return RK_RPING_END;
			if (deadline_ticks && (int64_t)(now - deadline_ticks) >= 0)
				return RK_RPING_TIMEOUT;
		}
		if (r->spin_ticks == UINT64_MAX || now - began < r->spin_ticks)
			continue;
		if (!armed) {
			int error = ibv_req_notify_cq(r->cq, 0);
			if (error) {
				rk_loop_fail(r->loop, RK_DP_STAGE_EVENT, error, "no completion event could be asked for: %s", strerror(error));
				return RK_RPING_END;
			}
			armed = 1; /* and one more look, for what came before */
			continue;
		}
		if (sleep_for_event(r) != RK_RPING_OK)
			return RK_RPING_END;
		armed = 0;
	}
}

enum rk_rping_wait rk_rping_receive(struct rk_rping *r, uint64_t deadline_ticks, struct rk_rping_message *message)
{
	enum rk_rping_wait wait = wait_for(r, NULL, &r->received, deadline_ticks);
	if (wait != RK_RPING_OK)
		return wait;
	unsigned slot = r->next_slot;
	*message = r->messages[slot];
	r->received--;
	r->next_slot = (slot + 1) % RK_RPING_RECVS;
	return post_recv(r, slot) ? RK_RPING_END : RK_RPING_OK;
}

enum rk_rping_wait rk_rping_wait_read(struct rk_rping *r, uint64_t deadline_ticks)
{
	return wait_for(r, &r->one_sided_done, NULL, deadline_ticks);
}

static void run(struct rk_dp_loop *loop)
{
	struct rk_rping_loop *own = loop->own;
	if (loop->config.rping.role == RK_DP_CLIENT)
		rk_rping_run_client(loop);
	else
		rk_rping_run_server(loop);
	if (own->id)
		rk_cm()->destroy_id(own->id);
	rk_cm()->destroy_event_channel(own->channel);
	free(own);
}

static const char *refuse(const struct rk_dp_rping *c, const char *address)
{
	if (c->abi != RK_DP_ABI)
		return "the caller was built for another interface";
	if (c->role > RK_DP_SERVER || c->port > UINT16_MAX || c->timeout_ns == 0)
		return "role, port or timeout make no sense";
	if (c->role == RK_DP_CLIENT && (!address || !*address || c->port == 0))
		return "a client needs an address and a port";
	if (c->role == RK_DP_CLIENT && (c->size == 0 || c->size > RK_DP_RPING_BYTES))
		return "rping's data have 1 to 65536 bytes";
	if (address && strlen(address) >= sizeof(((struct rk_rping_loop *)0)->address))
		return "the address is too long";
	return rk_cm() ? NULL : "librdmacm was not opened";
}

int32_t rk_dp_rping_start(const struct rk_dp_rping *config, const char *address, struct rk_dp_rping_info *info,
			  struct rk_dp_stats *stats, struct rk_dp_loop **out)
{
	if (!config || !info || !stats || !out)
		return -EINVAL;
	*out = NULL;
	memset(info, 0, sizeof(*info));
	struct rk_dp_loop *loop = rk_loop_new(stats, config->role == RK_DP_CLIENT ? config->core : -1);
	if (!loop)
		return -ENOMEM;
	loop->config.rping = *config;
	const char *reason = refuse(config, address);
	if (reason)
		return rk_loop_refuse(loop, reason);
	struct rk_rping_loop *own = calloc(1, sizeof(*own));
	if (own && !(own->channel = rk_cm()->create_event_channel())) {
		free(own);
		own = NULL;
	}
	if (!own) {
		rk_loop_fail(loop, RK_DP_STAGE_CONNECT, errno, "no event channel: %s", strerror(errno));
		return rk_loop_discard(loop);
	}
	own->everywhere = !address || !*address;
	if (address)
		strcpy(own->address, address);
	own->info = info;
	loop->own = own;
	if (config->role == RK_DP_CLIENT || rk_rping_listen(loop) == 0) {
		int error = rk_loop_launch(loop, run, out);
		if (error == 0)
			return 0;
		loop = NULL;
		if (own->id)
			rk_cm()->destroy_id(own->id);
		rk_cm()->destroy_event_channel(own->channel);
		free(own);
		return error;
	}
	if (own->id)
		rk_cm()->destroy_id(own->id);
	rk_cm()->destroy_event_channel(own->channel);
	free(own);
	return rk_loop_discard(loop);
}
