/* Tests of verbs: devices, ends, posting and waiting. See verbs-kit.h. */
#include "verbs-kit.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

extern bool vk_is_partner; /* verbs-partner.c */

void vk_fail(const char *file, int line, const char *what, const char *more)
{
	if (vk_is_partner) {
		dprintf(2, "partner %d: %s:%d: %s %s (errno %s)\n", (int)getpid(), file, line, what, more ? more : "", strerror(errno));
		_exit(99);
	}
	print_message("errno is %s\n", strerror(errno));
	print_error("%s %s\n", what, more ? more : "");
	_fail(file, line);
	abort();
}

void vk_equal(const char *file, int line, const char *what, long long a, long long b)
{
	char text[80];
	if (a == b)
		return;
	snprintf(text, sizeof text, "(%lld, %lld)", a, b);
	vk_fail(file, line, what, text);
}

/* ---- device ------------------------------------------------------------------------------------------------------- */

void vk_open(struct vk_dev *d)
{
	static const uint8_t loopback[16] = { [10] = 0xff, 0xff, 127, 0, 0, 1 };
	int n = 0;
	struct ibv_device **list = ibv_get_device_list(&n);
	memset(d, 0, sizeof *d);
	VK(list);
	for (int i = 0; i < n && !d->ctx; i++) {
		struct ibv_gid_entry entry;
		struct ibv_port_attr port;
		struct ibv_context *ctx = ibv_open_device(list[i]);
		VK(ctx);
		for (uint32_t g = 0; g < 16 && !d->ctx; g++)
			if (!ibv_query_gid_ex(ctx, 1, g, &entry, 0) && !memcmp(&entry.gid, loopback, sizeof loopback)) {
				d->ctx = ctx;
				d->gid = entry.gid;
				d->gid_index = (uint8_t)g;
			}
		if (!d->ctx)
			ibv_close_device(ctx);
		else
			VK(!ibv_query_port(ctx, 1, &port) && port.state == IBV_PORT_ACTIVE && (d->mtu = port.active_mtu));
	}
	ibv_free_device_list(list);
	VK(d->ctx);
	fcntl(d->ctx->async_fd, F_SETFL, O_NONBLOCK);
	d->pd = ibv_alloc_pd(d->ctx);
	VK(d->pd);
}

void vk_close(struct vk_dev *d)
{
	VK_EQ(ibv_dealloc_pd(d->pd), 0);
	VK_EQ(ibv_close_device(d->ctx), 0);
}

struct ibv_mr *vk_reg(struct vk_dev *d, void *p, size_t len, unsigned access)
{
	struct ibv_mr *mr = ibv_reg_mr(d->pd, p, len, access);
	VK(mr);
	return mr;
}

/* ---- ends -------------------------------------------------------------------------------------------------------------- */

void vk_end_make(struct vk_end *e, struct vk_dev *d, const struct vk_conf *conf)
{
	memset(e, 0, sizeof *e);
	e->dev = d;
	struct vk_conf *c = &e->conf;
	if (conf)
		*c = *conf;
	if (!c->type)
		c->type = IBV_QPT_RC;
	if (!c->depth)
		c->depth = 64;
	if (!c->sge)
		c->sge = 4;
	if (!c->rd_atomic)
		c->rd_atomic = 16;
	if (!c->timeout)
		c->timeout = 14;
	if (!c->tuned) {
		c->retry = c->rnr_retry = 7;
		c->rnr_timer = 1;
	}
	if (!c->access)
		c->access = IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC;
	if (c->access == VK_NO_ACCESS)
		c->access = 0;
	int cqe = c->cqe ? c->cqe : (int)(4 * c->depth);
	e->own_scq = !c->send_cq;
	e->own_rcq = !c->recv_cq;
	e->scq = c->send_cq ? c->send_cq : ibv_create_cq(d->ctx, cqe, e, c->channel, 0);
	e->rcq = c->recv_cq ? c->recv_cq : ibv_create_cq(d->ctx, cqe, e, c->channel, 0);
	VK(e->scq && e->rcq);
	struct ibv_qp_init_attr init = {
		.qp_context = e,
		.send_cq = e->scq,
		.recv_cq = e->rcq,
		.srq = c->srq,
		.qp_type = c->type,
		.sq_sig_all = !c->selective,
		.cap = { c->depth, c->depth, c->sge, c->sge, c->inline_bytes },
	};
	e->qp = ibv_create_qp(c->pd ? c->pd : d->pd, &init);
	VK(e->qp);
	e->ex = ibv_qp_to_qp_ex(e->qp);
}

void vk_end_free(struct vk_end *e)
{
	VK_EQ(ibv_destroy_qp(e->qp), 0);
	if (e->ah)
		VK_EQ(ibv_destroy_ah(e->ah), 0);
	if (e->own_scq)
		VK_EQ(ibv_destroy_cq(e->scq), 0);
	if (e->own_rcq)
		VK_EQ(ibv_destroy_cq(e->rcq), 0);
}

void vk_to_init(struct vk_end *e)
{
	struct ibv_qp_attr a = { .qp_state = IBV_QPS_INIT, .port_num = 1, .qkey = VK_QKEY, .qp_access_flags = e->conf.access };
	VK_EQ(ibv_modify_qp(e->qp, &a,
			    IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT |
				    (e->conf.type == IBV_QPT_UD ? IBV_QP_QKEY : IBV_QP_ACCESS_FLAGS)),
	      0);
}

static struct ibv_ah_attr ah_of(const struct vk_end *e, const union ibv_gid *gid)
{
	return (struct ibv_ah_attr){
		.is_global = 1,
		.port_num = 1,
		.grh = { .dgid = *gid, .sgid_index = e->dev->gid_index, .hop_limit = 64 },
	};
}

int vk_try_rtr(struct vk_end *e, uint32_t qpn, const union ibv_gid *gid)
{
	struct ibv_qp_attr a = {
		.qp_state = IBV_QPS_RTR,
		.path_mtu = e->dev->mtu,
		.dest_qp_num = qpn,
		.rq_psn = e->conf.psn,
		.max_dest_rd_atomic = e->conf.rd_atomic,
		.min_rnr_timer = e->conf.rnr_timer,
		.ah_attr = ah_of(e, gid),
	};
	int mask = IBV_QP_STATE;
	if (e->conf.type != IBV_QPT_UD)
		mask |= IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN;
	if (e->conf.type == IBV_QPT_RC)
		mask |= IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER;
	if (e->conf.type == IBV_QPT_UD && !e->ah)
		VK((e->ah = ibv_create_ah(e->dev->pd, &a.ah_attr)));
	e->peer_qpn = qpn;
	return ibv_modify_qp(e->qp, &a, mask);
}

void vk_to_rts(struct vk_end *e)
{
	struct ibv_qp_attr a = {
		.qp_state = IBV_QPS_RTS,
		.sq_psn = e->conf.psn,
		.timeout = e->conf.timeout,
		.retry_cnt = e->conf.retry,
		.rnr_retry = e->conf.rnr_retry,
		.max_rd_atomic = e->conf.rd_atomic,
	};
	int mask = IBV_QP_STATE | IBV_QP_SQ_PSN;
	if (e->conf.type == IBV_QPT_RC)
		mask |= IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_MAX_QP_RD_ATOMIC;
	VK_EQ(ibv_modify_qp(e->qp, &a, mask), 0);
}

int vk_try_state(struct vk_end *e, enum ibv_qp_state state)
{
	struct ibv_qp_attr a = { .qp_state = state };
	return ibv_modify_qp(e->qp, &a, IBV_QP_STATE);
}

void vk_to_state(struct vk_end *e, enum ibv_qp_state state) { VK_EQ(vk_try_state(e, state), 0); }

enum ibv_qp_state vk_state(struct vk_end *e)
{
	struct ibv_qp_attr a;
	struct ibv_qp_init_attr init;
	VK_EQ(ibv_query_qp(e->qp, &a, IBV_QP_STATE, &init), 0);
	return a.qp_state;
}

void vk_connect(struct vk_end *e, uint32_t qpn, const union ibv_gid *gid)
{
	if (e->qp->state == IBV_QPS_RESET)
		vk_to_init(e);
	VK_EQ(vk_try_rtr(e, qpn, gid), 0);
	vk_to_rts(e);
}

void vk_pair_make(struct vk_end e[2], struct vk_dev *d, const struct vk_conf *conf)
{
	for (int i = 0; i < 2; i++)
		vk_end_make(&e[i], d, conf);
	for (int i = 0; i < 2; i++)
		vk_connect(&e[i], e[1 - i].qp->qp_num, &d->gid);
}

void vk_pair_free(struct vk_end e[2])
{
	vk_end_free(&e[0]);
	vk_end_free(&e[1]);
}

/* ---- posting ------------------------------------------------------------------------------------------------------------- */

int vk_try_post(struct vk_end *e, const struct vk_wr *w)
{
	struct ibv_send_wr *bad = NULL, wr = {
		.wr_id = w->id,
		.sg_list = (struct ibv_sge *)w->sge,
		.num_sge = w->n,
		.opcode = w->op,
		.send_flags = w->flags | (e->conf.selective ? 0 : IBV_SEND_SIGNALED),
		.imm_data = w->imm,
	};
	if (e->conf.type == IBV_QPT_UD) {
		wr.wr.ud.ah = e->ah;
		wr.wr.ud.remote_qpn = e->peer_qpn;
		wr.wr.ud.remote_qkey = w->qkey ? w->qkey : VK_QKEY;
	} else if (w->op == IBV_WR_ATOMIC_CMP_AND_SWP || w->op == IBV_WR_ATOMIC_FETCH_AND_ADD) {
		wr.wr.atomic.remote_addr = w->remote;
		wr.wr.atomic.rkey = w->rkey;
		wr.wr.atomic.compare_add = w->add;
		wr.wr.atomic.swap = w->swap;
	} else {
		wr.wr.rdma.remote_addr = w->remote;
		wr.wr.rdma.rkey = w->rkey;
	}
	int err = ibv_post_send(e->qp, &wr, &bad);
	VK(!err || bad == &wr);
	return err;
}

void vk_post(struct vk_end *e, const struct vk_wr *w) { VK_EQ(vk_try_post(e, w), 0); }

int vk_try_recv(struct vk_end *e, uint64_t id, const struct ibv_sge *sge, int n)
{
	struct ibv_recv_wr *bad = NULL, wr = { .wr_id = id, .sg_list = (struct ibv_sge *)sge, .num_sge = n };
	return e->conf.srq ? ibv_post_srq_recv(e->conf.srq, &wr, &bad) : ibv_post_recv(e->qp, &wr, &bad);
}

void vk_recv(struct vk_end *e, uint64_t id, const struct ibv_sge *sge, int n) { VK_EQ(vk_try_recv(e, id, sge, n), 0); }

void vk_send(struct vk_end *e, uint64_t id, const struct ibv_mr *mr, const void *p, size_t len)
{
	struct ibv_sge s = vk_sge(mr, p, len);
	vk_post(e, &(struct vk_wr){ .op = IBV_WR_SEND, .id = id, .sge = &s, .n = 1 });
}

void vk_recv1(struct vk_end *e, uint64_t id, const struct ibv_mr *mr, void *p, size_t len)
{
	struct ibv_sge s = vk_sge(mr, p, len);
	vk_recv(e, id, &s, 1);
}

/* Over UDP, UC may lose messages (a full socket buffer on a busy machine), and tests that count on each would fail for that: they
 * run on road 1 only. */
__attribute__((constructor)) static void skip_what_may_be_lost(void)
{
	const char *road = getenv("RDMAKIT_ROAD");
	if (road && !strcmp(road, "wire"))
		cmocka_set_skip_filter("uc_*");
}

/* ---- waiting --------------------------------------------------------------------------------------------------------------- */

static double now_s(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

struct ibv_wc vk_wait(struct ibv_cq *cq)
{
	struct ibv_wc wc;
	double until = now_s() + VK_WAIT_S;
	int n;
	for (unsigned i = 1; (n = ibv_poll_cq(cq, 1, &wc)) == 0; i++)
		if (i % 256 == 0) {
			VK(now_s() < until && "a completion");
			sched_yield();
		}
	VK_EQ(n, 1);
	return wc;
}

struct ibv_wc vk_wait_status(struct ibv_cq *cq, enum ibv_wc_status status)
{
	struct ibv_wc wc = vk_wait(cq);
	if (wc.status != status) {
		char text[120];
		snprintf(text, sizeof text, "wr_id %llu: %s instead of %s", (unsigned long long)wc.wr_id, ibv_wc_status_str(wc.status),
			 ibv_wc_status_str(status));
		vk_fail(__FILE__, __LINE__, "completion", text);
	}
	return wc;
}

void vk_quiet(struct ibv_cq *cq)
{
	struct ibv_wc wc;
	for (int i = 0; i < 200; i++)
		VK_EQ(ibv_poll_cq(cq, 1, &wc), 0);
}

struct ibv_async_event vk_event(struct vk_dev *d)
{
	struct ibv_async_event ev;
	struct pollfd p = { .fd = d->ctx->async_fd, .events = POLLIN };
	VK_EQ(poll(&p, 1, VK_WAIT_S * 1000), 1);
	VK_EQ(ibv_get_async_event(d->ctx, &ev), 0);
	ibv_ack_async_event(&ev);
	return ev;
}

int vk_event_now(struct vk_dev *d)
{
	struct ibv_async_event ev;
	if (ibv_get_async_event(d->ctx, &ev))
		return -1;
	ibv_ack_async_event(&ev);
	return (int)ev.event_type;
}

void vk_wait_state(struct vk_end *e, enum ibv_qp_state state)
{
	double until = now_s() + VK_WAIT_S;
	while (vk_state(e) != state) {
		VK(now_s() < until && "the state");
		sched_yield();
	}
}

/* ---- memory ------------------------------------------------------------------------------------------------------------------ */

static uint32_t mix(uint32_t x)
{
	x ^= x >> 16;
	x *= 0x7feb352du;
	x ^= x >> 15;
	x *= 0x846ca68bu;
	return x ^ x >> 16;
}

void vk_fill(void *p, size_t len, uint32_t seed)
{
	uint8_t *b = p;
	for (size_t i = 0; i < len; i += 4) {
		uint32_t v = mix(seed * 2654435761u + (uint32_t)i);
		memcpy(b + i, &v, len - i < 4 ? len - i : 4);
	}
}

bool vk_is(const void *p, size_t len, uint32_t seed)
{
	const uint8_t *b = p;
	for (size_t i = 0; i < len; i += 4) {
		uint32_t v = mix(seed * 2654435761u + (uint32_t)i);
		if (memcmp(b + i, &v, len - i < 4 ? len - i : 4)) {
			dprintf(2, "data differ near byte %zu of %zu\n", i, len);
			return false;
		}
	}
	return true;
}

void *vk_pages(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	VK(p != MAP_FAILED);
	return p;
}

void vk_unpages(void *p, size_t bytes) { VK_EQ(munmap(p, bytes), 0); }
