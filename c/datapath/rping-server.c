/*
 * rping's server: one thread takes what the connection manager has to say, and each client has a thread of its own, that sleeps
 * when its client is quiet. See datapath.h.
 */
#define _GNU_SOURCE
#include "rping.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CLIENTS_MAX 256
#define BACKLOG 128
/* How long a client's thread polls for the next message before it sleeps. */
#define SPIN_NS 20000000u

struct serving {
	struct rk_rping r;
	struct rk_dp_loop shadow; /* stop flag and failure of this client alone: one that breaks must not end the others */
	struct rk_dp_stats *stats;
	pthread_t thread;
	atomic_int ended;
	struct serving *next;
};

struct server {
	struct rk_dp_loop *loop;
	struct rk_rping_loop *own;
	struct serving *clients;
	unsigned count;
};

static void *serve(void *arg)
{
	struct serving *s = arg;
	struct rk_rping *r = &s->r;
	struct rk_rping_message here;
	pthread_setname_np(pthread_self(), "rk-rping");
	rk_loop_pin(&s->shadow);
	/* What a client says of its memory is checked by its device; its length is checked here, against our buffer. */
	for (;;) {
		if (rk_rping_receive(r, 0, &here) != RK_RPING_OK)
			break;
		uint32_t length = be32toh(here.length);
		if (length == 0 || length > r->size) {
			rk_loop_fail(r->loop, RK_DP_STAGE_COMPLETION, EMSGSIZE, "a client has data of %u bytes, and rping's end at %u", length, r->size);
			break;
		}
		if (rk_rping_one_sided(r, IBV_WR_RDMA_READ, length, &here) || rk_rping_wait_read(r, 0) != RK_RPING_OK ||
		    rk_rping_send(r, r->data, r->data_mr, length))
			break;
		if (rk_rping_receive(r, 0, &here) != RK_RPING_OK)
			break;
		uint32_t echo = (uint32_t)strnlen((char *)r->data, length) + 1;
		echo = echo < length ? echo : length;
		if (be32toh(here.length) < echo) {
			rk_loop_fail(r->loop, RK_DP_STAGE_COMPLETION, EMSGSIZE, "a client has room for %u of %u bytes", be32toh(here.length), echo);
			break;
		}
		if (rk_rping_one_sided(r, IBV_WR_RDMA_WRITE, echo, &here) || rk_rping_send(r, r->data, r->data_mr, length))
			break;
		__atomic_fetch_add(&s->stats->completed, 1, __ATOMIC_RELAXED);
		__atomic_fetch_add(&s->stats->bytes, length, __ATOMIC_RELAXED);
	}
	rk_cm()->disconnect(r->id);
	atomic_store(&s->ended, 1);
	return NULL;
}

/* One client's trouble is not the server's end, but somebody should hear of it. */
static void note_failure(struct server *server, const char *why)
{
	struct rk_dp_rping_info *info = server->own->info;
	if (info->failed == 0)
		snprintf(info->failure, sizeof(info->failure), "%s", why);
	__atomic_fetch_add(&info->failed, 1, __ATOMIC_RELEASE);
}

static void free_client(struct serving *s)
{
	rk_rping_close(&s->r);
	rk_cm()->destroy_id(s->r.id);
	rk_dp_stats_free(s->shadow.stats);
	free(s);
}

static void reap(struct server *server, int all)
{
	for (struct serving **link = &server->clients; *link;) {
		struct serving *s = *link;
		if (!all && !atomic_load(&s->ended)) {
			link = &s->next;
			continue;
		}
		rk_dp_loop_stop(&s->shadow);
		pthread_join(s->thread, NULL);
		if (rk_loop_failed(&s->shadow))
			note_failure(server, s->shadow.stats->message);
		*link = s->next;
		server->count--;
		free_client(s);
	}
	__atomic_store_n(&server->own->info->connected, server->count, __ATOMIC_RELAXED);
}

static void welcome(struct server *server, struct rdma_cm_id *id)
{
	struct rdma_conn_param param = rk_rping_conn_param();
	struct serving *s = server->count < CLIENTS_MAX ? calloc(1, sizeof(*s)) : NULL;
	struct rk_dp_stats *stats = s ? rk_dp_stats_new() : NULL;
	if (!stats) {
		note_failure(server, server->count < CLIENTS_MAX ? "no memory for a client" : "as many clients as are served at once");
		free(s);
		rk_cm()->reject(id, NULL, 0);
		rk_cm()->destroy_id(id);
		return;
	}
	s->shadow = (struct rk_dp_loop){ .stats = stats, .clock = server->loop->clock, .config = server->loop->config,
					  .core = server->loop->config.rping.core };
	s->stats = server->loop->stats;
	s->r = (struct rk_rping){ .loop = &s->shadow, .id = id };
	s->r.spin_ticks = server->loop->config.rping.flags & RK_DP_EVENTS ? 0 : rk_clock_from_ns(server->loop->clock, SPIN_NS);
	id->context = s;
	if (rk_rping_open(&s->r, RK_DP_RPING_BYTES) || rk_cm()->accept(id, &param) || pthread_create(&s->thread, NULL, serve, s)) {
		note_failure(server, rk_loop_failed(&s->shadow) ? s->shadow.stats->message : "a client could not be accepted");
		rk_cm()->reject(id, NULL, 0);
		free_client(s);
		return;
	}
	s->next = server->clients;
	server->clients = s;
	server->count++;
	__atomic_fetch_add(&server->own->info->accepted, 1, __ATOMIC_RELAXED);
	__atomic_store_n(&server->own->info->connected, server->count, __ATOMIC_RELAXED);
}

int rk_rping_listen(struct rk_dp_loop *loop)
{
	struct rk_rping_loop *own = loop->own;
	struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)loop->config.rping.port) };
	struct sockaddr *address = (struct sockaddr *)&any;
	struct addrinfo *found = NULL, hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE };
	if (!own->everywhere) {
		char port[8];
		snprintf(port, sizeof(port), "%u", loop->config.rping.port);
		int error = getaddrinfo(own->address, port, &hints, &found);
		if (error) {
			rk_loop_fail(loop, RK_DP_STAGE_CONNECT, EADDRNOTAVAIL, "%s: %s", own->address, gai_strerror(error));
			return -1;
		}
		address = found->ai_addr;
	}
	int failed = rk_cm()->create_id(own->channel, &own->id, NULL, RDMA_PS_TCP) || rk_cm()->bind_addr(own->id, address) ||
		     rk_cm()->listen(own->id, BACKLOG);
	if (failed)
		rk_loop_fail(loop, RK_DP_STAGE_CONNECT, errno, "listening on port %u: %s", loop->config.rping.port, strerror(errno));
	if (found)
		freeaddrinfo(found);
	if (failed)
		return -1;
	own->info->port = ntohs(rk_cm()->get_src_port(own->id));
	rk_rping_name(&own->id->route.addr.src_addr, own->info->local);
	if (own->id->verbs)
		snprintf(own->info->device, sizeof(own->info->device), "%s", ibv_get_device_name(own->id->verbs->device));
	return 0;
}

void rk_rping_run_server(struct rk_dp_loop *loop)
{
	struct server server = { .loop = loop, .own = loop->own };
	while (!rk_loop_stopping(loop)) {
		uint64_t soon = rk_clock_ticks(loop->clock) + rk_clock_from_ns(loop->clock, RK_WAIT_SLICE_NS);
		struct rdma_cm_event *event = rk_cm_event(loop, server.own->channel, soon);
		if (event) {
			struct rdma_cm_id *id = event->id;
			struct serving *s = id == server.own->id ? NULL : id->context;
			enum rdma_cm_event_type type = event->event;
			rk_cm()->ack_cm_event(event);
			if (type == RDMA_CM_EVENT_CONNECT_REQUEST)
				welcome(&server, id);
			else if (type == RDMA_CM_EVENT_DEVICE_REMOVAL && !s)
				rk_loop_fail(loop, RK_DP_STAGE_CONNECT, ENODEV, "the device was removed");
			else if (s && type != RDMA_CM_EVENT_ESTABLISHED)
				atomic_store(&s->r.gone, 1);
		}
		reap(&server, 0);
		if (rk_loop_failed(loop))
			break;
	}
	reap(&server, 1);
}
