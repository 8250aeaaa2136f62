/* link.c - see link.h. */
#define _GNU_SOURCE
#include "link.h"
#include <errno.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PSN_MASK 0xffffff
#define CONNECT_TRIES 100
#define CONNECT_PAUSE_NS 50000000

void die(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, " (%s)\n", strerror(errno));
	exit(3);
}

struct options parse_options(int argc, char **argv)
{
	struct options o = { .port = "18515", .mode = "sleep", .type = IBV_QPT_RC, .timeout = 14, .retry = 7,
			     .count = 1000, .size = 65536, .seed = 1, .tx_depth = TX_DEPTH, .rx_depth = RX_DEPTH,
			     .sig_all = 1, .rnr_retry = 7,
			     .access = IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC };
	int c;
	while ((c = getopt(argc, argv, "d:g:p:m:c:n:s:r:t:y:")) != -1) {
		switch (c) {
		case 'd': o.device = optarg; break;
		case 'g': o.gid_index = atoi(optarg); break;
		case 'p': o.port = optarg; break;
		case 'm': o.mode = optarg; break;
		case 'c': o.type = !strcmp(optarg, "UC") ? IBV_QPT_UC : !strcmp(optarg, "UD") ? IBV_QPT_UD : IBV_QPT_RC; break;
		case 'n': o.count = strtoul(optarg, NULL, 0); break;
		case 's': o.size = strtoul(optarg, NULL, 0); break;
		case 'r': o.seed = strtoul(optarg, NULL, 0); break;
		case 't': o.timeout = atoi(optarg); break;
		case 'y': o.retry = atoi(optarg); break;
		default: die("usage");
		}
	}
	o.host = argv[optind];
	return o;
}

static int tcp_open(const char *host, const char *port)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_family = AF_INET, .ai_flags = host ? 0 : AI_PASSIVE }, *ai;
	int one = 1;
	if (getaddrinfo(host, port, &hints, &ai))
		die("getaddrinfo %s", port);
	int fd = socket(ai->ai_family, SOCK_STREAM, 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (host) {
		/* In a ring of processes not everybody can have been waited for. */
		for (int tries = 0; connect(fd, ai->ai_addr, ai->ai_addrlen); tries++) {
			if (errno != ECONNREFUSED || tries == CONNECT_TRIES)
				die("connect %s:%s", host, port);
			nanosleep(&(struct timespec){ 0, CONNECT_PAUSE_NS }, NULL);
		}
	} else {
		if (bind(fd, ai->ai_addr, ai->ai_addrlen) || listen(fd, 1))
			die("listen %s", port);
		int listening = fd;
		fd = accept(listening, NULL, NULL);
		if (fd < 0)
			die("accept");
		close(listening);
	}
	freeaddrinfo(ai);
	return fd;
}

void link_send(struct link *l, const void *data, size_t len)
{
	if (send(l->tcp, data, len, MSG_NOSIGNAL) != (ssize_t)len)
		die("TCP send");
}

int link_receive(struct link *l, void *data, size_t len) { return recv(l->tcp, data, len, MSG_WAITALL) == (ssize_t)len; }

void link_open(struct link *l, struct options opt)
{
	int n = 0;
	memset(l, 0, sizeof *l);
	l->opt = opt;
	struct ibv_device **list = ibv_get_device_list(&n), *device = NULL;
	for (int i = 0; i < n; i++)
		if (!strcmp(ibv_get_device_name(list[i]), opt.device))
			device = list[i];
	if (!device)
		die("no device %s", opt.device);
	l->ctx = ibv_open_device(device);
	if (!l->ctx)
		die("ibv_open_device");
	ibv_free_device_list(list);
	l->pd = ibv_alloc_pd(l->ctx);
	l->cq = ibv_create_cq(l->ctx, (int)(opt.tx_depth + opt.rx_depth), NULL, NULL, 0);
	if (!l->pd || !l->cq)
		die("ibv_alloc_pd, ibv_create_cq");
	l->qp = qp_create(l);
}

/* ibv_modify_qp() returns its error and may leave errno alone. */
static void must_modify(struct ibv_qp *qp, struct ibv_qp_attr *attr, int mask, const char *to)
{
	int err = ibv_modify_qp(qp, attr, mask);
	if (err) {
		errno = err;
		die("%s", to);
	}
}

struct ibv_qp *qp_create(struct link *l)
{
	const struct options *o = &l->opt;
	struct ibv_qp_init_attr init = { .send_cq = l->cq, .recv_cq = l->cq, .qp_type = o->type, .sq_sig_all = o->sig_all,
					 .cap = { o->tx_depth, o->rx_depth, 1, 1, o->max_inline } };
	struct ibv_qp *qp = ibv_create_qp(l->pd, &init);
	if (!qp)
		die("ibv_create_qp");
	struct ibv_qp_attr attr = { .qp_state = IBV_QPS_INIT, .port_num = 1, .qkey = UD_QKEY,
				    .qp_access_flags = o->access };
	if (o->type == IBV_QPT_UC)
		attr.qp_access_flags = IBV_ACCESS_REMOTE_WRITE;
	int last = o->type == IBV_QPT_UD ? IBV_QP_QKEY : IBV_QP_ACCESS_FLAGS;
	must_modify(qp, &attr, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | last, "INIT");
	return qp;
}

void qp_to_ready(struct link *l, struct ibv_qp *qp, const struct place *here, const struct place *there)
{
	struct ibv_ah_attr ah = { .is_global = 1, .port_num = 1,
				  .grh = { .dgid = there->gid, .sgid_index = (uint8_t)l->opt.gid_index, .hop_limit = 64 } };
	struct ibv_qp_attr rtr = { .qp_state = IBV_QPS_RTR, .path_mtu = l->mtu, .dest_qp_num = there->qpn,
				   .rq_psn = there->psn, .max_dest_rd_atomic = 16, .min_rnr_timer = 12, .ah_attr = ah };
	struct ibv_qp_attr rts = { .qp_state = IBV_QPS_RTS, .sq_psn = here->psn, .timeout = (uint8_t)l->opt.timeout,
				   .retry_cnt = (uint8_t)l->opt.retry, .rnr_retry = (uint8_t)l->opt.rnr_retry, .max_rd_atomic = 16 };
	int rtr_mask = IBV_QP_STATE, rts_mask = IBV_QP_STATE | IBV_QP_SQ_PSN;
	if (l->opt.type == IBV_QPT_UD) {
		l->ah = ibv_create_ah(l->pd, &ah);
		if (!l->ah)
			die("ibv_create_ah");
	} else {
		rtr_mask |= IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN;
	}
	if (l->opt.type == IBV_QPT_RC) {
		rtr_mask |= IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER;
		rts_mask |= IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_MAX_QP_RD_ATOMIC;
	}
	must_modify(qp, &rtr, rtr_mask, "RTR");
	must_modify(qp, &rts, rts_mask, "RTS");
}

void link_connect(struct link *l, struct ibv_mr *mr)
{
	struct ibv_port_attr port;
	char ready = 'r';
	uint64_t state = l->opt.seed + (l->opt.host ? 1000 : 2000);
	if (ibv_query_port(l->ctx, 1, &port) || ibv_query_gid(l->ctx, 1, l->opt.gid_index, &l->here.gid))
		die("ibv_query_port, ibv_query_gid");
	l->here.qpn = l->qp->qp_num;
	l->here.psn = next_random(&state) & PSN_MASK;
	if (mr) {
		l->here.rkey = mr->rkey;
		l->here.addr = (uint64_t)(uintptr_t)mr->addr;
	}
	l->tcp = tcp_open(l->opt.host, l->opt.port);
	link_send(l, &l->here, sizeof l->here);
	if (!link_receive(l, &l->there, sizeof l->there))
		die("the other end has gone");
	l->mtu = port.active_mtu;
	qp_to_ready(l, l->qp, &l->here, &l->there);
	/* Neither may send before the other can receive. */
	link_send(l, &ready, 1);
	if (!link_receive(l, &ready, 1))
		die("the other end has gone");
}

void link_close(struct link *l)
{
	if (l->ah)
		ibv_destroy_ah(l->ah);
	if (ibv_destroy_qp(l->qp) || ibv_destroy_cq(l->cq) || ibv_dealloc_pd(l->pd) || ibv_close_device(l->ctx))
		die("closing");
	close(l->tcp);
}

uint64_t next_random(uint64_t *state)
{
	uint64_t x = *state ? *state : 88172645463325252ull;
	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	*state = x;
	return x * 2685821657736338717ull;
}

uint64_t hash(const void *data, size_t len)
{
	const unsigned char *p = data;
	uint64_t h = 14695981039346656037ull;
	for (size_t i = 0; i < len; i++)
		h = (h ^ p[i]) * 1099511628211ull;
	return h;
}
