/* rping's client: connects, and measures exchanges. See datapath.h. */
#define _GNU_SOURCE
#include "rping.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>

#include "pace.h"

struct client {
	struct rk_rping r;
	uint64_t timeout_ticks;
	int verify;
};

static uint64_t deadline(struct rk_dp_loop *loop)
{
	return rk_clock_ticks(loop->clock) + rk_clock_from_ns(loop->clock, loop->config.rping.timeout_ns);
}

/* Waits for the event that a step ends with. 0, or -1 with what came instead recorded. */
static int expect(struct rk_dp_loop *loop, enum rdma_cm_event_type want, const char *step)
{
	struct rk_rping_loop *own = loop->own;
	struct rdma_cm_event *event = rk_cm_event(loop, own->channel, deadline(loop));
	if (!event) {
		if (!rk_loop_stopping(loop))
			rk_loop_fail(loop, RK_DP_STAGE_CONNECT, ETIMEDOUT, "%s: nothing came of it within %llu ms", step,
				     (unsigned long long)(loop->config.rping.timeout_ns / 1000000));
		return -1;
	}
	enum rdma_cm_event_type got = event->event;
	int status = event->status;
	rk_cm()->ack_cm_event(event);
	if (got == want)
		return 0;
	int error = got == RDMA_CM_EVENT_REJECTED ? ECONNREFUSED : status < 0 ? -status : EPROTO;
	rk_loop_fail(loop, RK_DP_STAGE_CONNECT, error, "%s: %s (%d)", step, rk_cm()->event_str(got), status);
	return -1;
}

static int refused(struct rk_dp_loop *loop, const char *step)
{
	rk_loop_fail(loop, RK_DP_STAGE_CONNECT, errno, "%s: %s", step, strerror(errno));
	return -1;
}

static void note_ends(struct rk_rping_loop *own)
{
	struct rdma_cm_id *id = own->id;
	struct rk_dp_rping_info *info = own->info;
	struct ibv_qp_attr attr;
	struct ibv_qp_init_attr init;
	snprintf(info->device, sizeof(info->device), "%s", ibv_get_device_name(id->verbs->device));
	rk_rping_name(&id->route.addr.src_addr, info->local);
	rk_rping_name(&id->route.addr.dst_addr, info->remote);
	memcpy(info->gid, id->route.addr.addr.ibaddr.sgid.raw, sizeof(info->gid));
	if (ibv_query_qp(id->qp, &attr, IBV_QP_PATH_MTU, &init) == 0 && attr.path_mtu >= IBV_MTU_256 && attr.path_mtu <= IBV_MTU_4096)
		info->mtu = 128u << attr.path_mtu;
}

static int resolve(struct rk_dp_loop *loop)
{
	struct rk_rping_loop *own = loop->own;
	struct addrinfo *found, hints = { .ai_socktype = SOCK_STREAM };
	char port[8];
	int wait_ms = (int)(loop->config.rping.timeout_ns / 1000000);
	snprintf(port, sizeof(port), "%u", loop->config.rping.port);
	int error = getaddrinfo(own->address, port, &hints, &found);
	if (error) {
		rk_loop_fail(loop, RK_DP_STAGE_CONNECT, EHOSTUNREACH, "%s: %s", own->address, gai_strerror(error));
		return -1;
	}
	error = rk_cm()->create_id(own->channel, &own->id, NULL, RDMA_PS_TCP) ||
		rk_cm()->resolve_addr(own->id, NULL, found->ai_addr, wait_ms > 0 ? wait_ms : 1);
	freeaddrinfo(found);
	if (error)
		return refused(loop, "resolving the address");
	if (expect(loop, RDMA_CM_EVENT_ADDR_RESOLVED, "resolving the address"))
		return -1;
	if (rk_cm()->resolve_route(own->id, wait_ms > 0 ? wait_ms : 1))
		return refused(loop, "resolving the route");
	return expect(loop, RDMA_CM_EVENT_ROUTE_RESOLVED, "resolving the route");
}

#define LETTERS 58u /* 'A' to 'z' */
static uint8_t letters[RK_DP_RPING_BYTES + LETTERS];
static pthread_once_t written = PTHREAD_ONCE_INIT;

static void write_letters(void)
{
	for (uint32_t i = 0; i < sizeof(letters); i++)
		letters[i] = (uint8_t)('A' + i % LETTERS);
}

/* As rping's: it can be printed, and ends with a NUL, up to which the server sends it back. */
static void fill(uint8_t *data, uint32_t size, uint64_t exchange)
{
	char head[32];
	int length = snprintf(head, sizeof(head), "rdma-ping-%llu: ", (unsigned long long)exchange);
	memcpy(data, letters + exchange % LETTERS, size);
	memcpy(data, head, (uint32_t)length < size ? (uint32_t)length : size);
	data[size - 1] = 0;
}

static void verify(struct client *c, uint64_t exchange)
{
	struct rk_rping *r = &c->r;
	struct rk_dp_stats *stats = r->loop->stats;
	stats->verified++;
	if (memcmp(r->data, r->echo, r->size) == 0 || stats->mismatches++)
		return;
	uint32_t at = 0;
	while (r->data[at] == r->echo[at])
		at++;
	stats->mismatch_sequence = exchange;
	stats->mismatch_offset = at;
	stats->mismatch_expected = r->data[at];
	stats->mismatch_found = r->echo[at];
}

static enum rk_outcome exchange_once(void *state, uint64_t exchange, uint64_t *begin, uint64_t *end)
{
	struct client *c = state;
	struct rk_rping *r = &c->r;
	struct rk_rping_message go;
	fill(r->data, r->size, exchange);
	if (c->verify)
		memset(r->echo, 0xff, r->size);
	*begin = rk_clock_ticks(r->loop->clock);
	uint64_t give_up = *begin + c->timeout_ticks;
	enum rk_rping_wait wait = RK_RPING_END;
	if (rk_rping_send(r, r->data, r->data_mr, r->size) == 0)
		wait = rk_rping_receive(r, give_up, &go);
	if (wait == RK_RPING_OK) {
		wait = RK_RPING_END;
		if (rk_rping_send(r, r->echo, r->echo_mr, r->size) == 0)
			wait = rk_rping_receive(r, give_up, &go);
	}
	*end = rk_clock_ticks(r->loop->clock);
	if (wait == RK_RPING_OK) {
		if (c->verify)
			verify(c, exchange);
		return RK_ANSWERED;
	}
	r->loop->stats->error_sequence = exchange;
	if (wait == RK_RPING_TIMEOUT)
		rk_loop_fail(r->loop, RK_DP_STAGE_TIMEOUT, ETIMEDOUT, "no answer within %llu ms on a reliable connection",
			     (unsigned long long)(r->loop->config.rping.timeout_ns / 1000000));
	return RK_END;
}

void rk_rping_run_client(struct rk_dp_loop *loop)
{
	struct rk_rping_loop *own = loop->own;
	const struct rk_dp_rping *config = &loop->config.rping;
	pthread_once(&written, write_letters);
	if (resolve(loop))
		return;
	struct client c = { .r = { .loop = loop, .id = own->id, .spin_ticks = config->flags & RK_DP_EVENTS ? 0 : UINT64_MAX },
			    .timeout_ticks = rk_clock_from_ns(loop->clock, config->timeout_ns),
			    .verify = (config->flags & RK_DP_VERIFY) != 0 };
	struct rdma_conn_param param = rk_rping_conn_param();
	if (rk_rping_open(&c.r, config->size) == 0) {
		if (rk_cm()->connect(own->id, &param))
			refused(loop, "connecting");
		else if (expect(loop, RDMA_CM_EVENT_ESTABLISHED, "connecting") == 0) {
			note_ends(own);
			const struct rk_pace pace = { .iterations = config->iterations,
						      .warmup = config->warmup,
						      .duration_ns = config->duration_ns,
						      .interval_ns = config->interval_ns,
						      .size = config->size,
						      .flags = config->flags };
			rk_pace_run(loop, &pace, exchange_once, &c);
			rk_cm()->disconnect(own->id);
		}
	}
	rk_rping_close(&c.r);
}
