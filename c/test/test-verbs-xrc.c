/*
 * Extended reliable connections: domains, what a target does for the receive queue that each request names,
 * errors, states, handles, and what may be destroyed when.
 */
#define _GNU_SOURCE
#include "xrc-kit.h"

#include <endian.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static int some_file(void)
{
	int fd = memfd_create("xrcd", MFD_CLOEXEC);
	VK(fd >= 0);
	return fd;
}

static void refused(struct vk_dev *d, int fd, int oflags, int why)
{
	errno = 0;
	VK(!xk_open(d, fd, oflags));
	VK_EQ(errno, why);
}

static void domains(void **state)
{
	(void)state;
	struct vk_dev d;
	vk_open(&d);
	int fd = some_file(), other = some_file();
	refused(&d, fd, 0, EAGAIN);
	struct ibv_xrcd *a = xk_open(&d, fd, O_CREAT | O_EXCL);
	VK(a);
	VK_EQ((uintptr_t)a->context, (uintptr_t)d.ctx);
	refused(&d, fd, O_CREAT | O_EXCL, EINVAL);
	refused(&d, other, 0, EAGAIN);
	refused(&d, 999, O_CREAT, EBADF);
	struct ibv_xrcd *b = xk_open(&d, fd, 0), *c = xk_open(&d, fd, O_CREAT);
	VK(b && c);
	VK_EQ(ibv_close_xrcd(a), 0);
	VK_EQ(ibv_close_xrcd(b), 0);
	VK_EQ(ibv_close_xrcd(c), 0);
	refused(&d, fd, 0, EAGAIN);
	struct ibv_xrcd_init_attr half = { .comp_mask = IBV_XRCD_INIT_ATTR_FD, .fd = fd };
	VK(!ibv_open_xrcd(d.ctx, &half) && errno == EINVAL);
	half.comp_mask = 1u << 30;
	VK(!ibv_open_xrcd(d.ctx, &half) && errno == EOPNOTSUPP);
	close(fd);
	close(other);
	vk_close(&d);
}

static void what_is_missing(void **state)
{
	(void)state;
	struct xk_world w;
	xk_world_make(&w, NULL);
	struct ibv_device_attr attr;
	VK_EQ(ibv_query_device(w.d.ctx, &attr), 0);
	VK(attr.device_cap_flags & IBV_DEVICE_XRC);
	const uint32_t all = IBV_SRQ_INIT_ATTR_TYPE | IBV_SRQ_INIT_ATTR_PD | IBV_SRQ_INIT_ATTR_XRCD | IBV_SRQ_INIT_ATTR_CQ;
	const uint32_t without[] = { IBV_SRQ_INIT_ATTR_PD, IBV_SRQ_INIT_ATTR_XRCD, IBV_SRQ_INIT_ATTR_CQ };
	for (size_t i = 0; i < 3; i++) {
		struct ibv_srq_init_attr_ex a = { .attr = { .max_wr = 1, .max_sge = 1 }, .comp_mask = all & ~without[i],
						  .srq_type = IBV_SRQT_XRC, .pd = w.d.pd, .xrcd = w.xrcd, .cq = w.q.cq };
		VK(!ibv_create_srq_ex(w.d.ctx, &a) && errno == EINVAL);
	}
	struct ibv_qp_init_attr_ex t = { .qp_type = IBV_QPT_XRC_RECV, .comp_mask = IBV_QP_INIT_ATTR_PD, .pd = w.d.pd };
	VK(!ibv_create_qp_ex(w.d.ctx, &t) && errno == EINVAL);
	struct ibv_qp_init_attr_ex i = { .qp_type = IBV_QPT_XRC_SEND, .comp_mask = IBV_QP_INIT_ATTR_PD, .pd = w.d.pd };
	VK(!ibv_create_qp_ex(w.d.ctx, &i) && errno == EINVAL); /* no completion queue */
	/* The older call makes an initiator too, and a receiving half that it cannot have is ignored. */
	struct ibv_qp_init_attr old = { .qp_type = IBV_QPT_XRC_SEND, .send_cq = w.q.cq, .cap = { 4, 4, 1, 1, 0 } };
	struct ibv_qp *qp = ibv_create_qp(w.d.pd, &old);
	VK(qp && !qp->recv_cq && old.cap.max_recv_wr == 0);
	VK_EQ(ibv_destroy_qp(qp), 0);
	/* A target sends nothing, and neither receives by itself. */
	struct ibv_send_wr *bad_send, send = { .opcode = IBV_WR_SEND };
	struct ibv_recv_wr *bad, recv = { .wr_id = 1 };
	VK_EQ(ibv_post_send(w.tgt, &send, &bad_send), EINVAL);
	VK_EQ(ibv_post_recv(w.tgt, &recv, &bad), EINVAL);
	VK_EQ(ibv_post_recv(w.ini, &recv, &bad), EINVAL);
	struct ibv_qp_ex *ex = ibv_qp_to_qp_ex(w.tgt);
	ibv_wr_start(ex);
	ibv_wr_send(ex);
	VK_EQ(ibv_wr_complete(ex), EINVAL);
	xk_world_free(&w);
}

/* Every operation, against the queue's own memory; and what the completions say. */
static void operations(void **state)
{
	(void)state;
	struct xk_world w;
	struct ibv_wc wc;
	xk_world_make(&w, NULL);
	struct ibv_sge small = vk_sge(w.mr, w.mem, 100), big = vk_sge(w.mr, w.mem, 3 * VK_PAGE + 5), word = vk_sge(w.mr, w.mem + XK_MEM - 8, 8);
	uint64_t *counter = (uint64_t *)(void *)(w.q.mem + 8 * VK_PAGE), remote = (uintptr_t)counter;
	vk_fill(w.mem, XK_MEM, 1);
	xk_recv(&w.q, 70, 0, 100);
	xk_recv(&w.q, 71, 100, 4 * VK_PAGE);
	xk_post(w.ini, &(struct vk_wr){ .op = IBV_WR_SEND, .id = 1 }, &small, w.q.number);
	xk_post(w.ini, &(struct vk_wr){ .op = IBV_WR_SEND_WITH_IMM, .id = 2, .imm = htobe32(99) }, &big, w.q.number);
	VK_EQ(vk_wait_ok(w.ini->send_cq).wr_id, 1);
	wc = vk_wait_ok(w.ini->send_cq);
	VK(wc.wr_id == 2 && wc.qp_num == w.ini->qp_num && wc.opcode == IBV_WC_SEND);
	wc = vk_wait_ok(w.q.cq);
	VK(wc.wr_id == 70 && wc.byte_len == 100 && wc.opcode == IBV_WC_RECV && wc.wc_flags == 0);
	VK(wc.qp_num == w.tgt->qp_num && wc.src_qp == w.ini->qp_num);
	wc = vk_wait_ok(w.q.cq);
	VK(wc.wr_id == 71 && wc.byte_len == 3 * VK_PAGE + 5 && wc.imm_data == htobe32(99) && wc.wc_flags == IBV_WC_WITH_IMM);
	VK(vk_is(w.q.mem, 100, 1) && vk_is(w.q.mem + 100, 3 * VK_PAGE + 5, 1));

	memset(w.q.mem, 0, XK_MEM);
	xk_post(w.ini, &(struct vk_wr){ .op = IBV_WR_RDMA_WRITE, .remote = (uintptr_t)w.q.mem, .rkey = w.q.mr->rkey }, &big, w.q.number);
	vk_wait_ok(w.ini->send_cq);
	VK(vk_is(w.q.mem, 3 * VK_PAGE + 5, 1));
	xk_recv(&w.q, 72, 0, 0);
	xk_post(w.ini, &(struct vk_wr){ .op = IBV_WR_RDMA_WRITE_WITH_IMM, .remote = (uintptr_t)w.q.mem, .rkey = w.q.mr->rkey, .imm = 5 }, &small,
		w.q.number);
	wc = vk_wait_ok(w.q.cq);
	VK(wc.wr_id == 72 && wc.byte_len == 100 && wc.opcode == IBV_WC_RECV_RDMA_WITH_IMM && wc.imm_data == 5);
	vk_wait_ok(w.ini->send_cq);

	vk_fill(w.q.mem, XK_MEM, 2);
	xk_post(w.ini, &(struct vk_wr){ .op = IBV_WR_RDMA_READ, .remote = (uintptr_t)w.q.mem, .rkey = w.q.mr->rkey }, &big, w.q.number);
	VK_EQ(vk_wait_ok(w.ini->send_cq).opcode, IBV_WC_RDMA_READ);
	VK(vk_is(w.mem, 3 * VK_PAGE + 5, 2));

	*counter = 40;
	xk_post(w.ini, &(struct vk_wr){ .op = IBV_WR_ATOMIC_FETCH_AND_ADD, .remote = remote, .rkey = w.q.mr->rkey, .add = 2 }, &word, w.q.number);
	vk_wait_ok(w.ini->send_cq);
	VK_EQ(*(uint64_t *)(void *)(w.mem + XK_MEM - 8), 40);
	xk_post(w.ini, &(struct vk_wr){ .op = IBV_WR_ATOMIC_CMP_AND_SWP, .remote = remote, .rkey = w.q.mr->rkey, .add = 42, .swap = 7 }, &word,
		w.q.number);
	vk_wait_ok(w.ini->send_cq);
	VK_EQ(*(uint64_t *)(void *)(w.mem + XK_MEM - 8), 42);
	VK_EQ(*counter, 7);
	vk_quiet(w.q.cq);
	xk_world_free(&w);
}

/* The extended interface. */
static void wr_interface(void **state)
{
	(void)state;
	struct xk_world w;
	xk_world_make(&w, NULL);
	struct ibv_qp_ex *ex = ibv_qp_to_qp_ex(w.ini);
	vk_fill(w.q.mem + VK_PAGE, 64, 3);
	xk_recv(&w.q, 1, 0, 64);
	ibv_wr_start(ex);
	ex->wr_flags = IBV_SEND_SIGNALED;
	ex->wr_id = 5;
	ibv_wr_send(ex);
	ibv_wr_set_xrc_srqn(ex, w.q.number);
	ibv_wr_set_inline_data(ex, "hello", 6);
	ex->wr_id = 6;
	ibv_wr_rdma_read(ex, w.q.mr->rkey, (uintptr_t)w.q.mem + VK_PAGE);
	ibv_wr_set_xrc_srqn(ex, w.q.number);
	ibv_wr_set_sge(ex, w.mr->lkey, (uintptr_t)w.mem, 64);
	VK_EQ(ibv_wr_complete(ex), 0);
	VK_EQ(vk_wait_ok(w.ini->send_cq).wr_id, 5);
	VK_EQ(vk_wait_ok(w.ini->send_cq).wr_id, 6);
	VK_EQ(vk_wait_ok(w.q.cq).byte_len, 6);
	VK(!strcmp((char *)w.q.mem, "hello") && vk_is(w.mem, 64, 3));
	xk_world_free(&w);
}

/* One target serves queues of several protection and completion domains, in turn and in order. */
static void many_queues(void **state)
{
	(void)state;
	enum { QUEUES = 4, ROUNDS = 200 };
	struct xk_world w;
	struct xk_queue q[QUEUES];
	struct ibv_pd *pd[QUEUES];
	xk_world_make(&w, NULL);
	for (int i = 0; i < QUEUES; i++) {
		VK((pd[i] = ibv_alloc_pd(w.d.ctx)));
		xk_queue_make(&q[i], &w.d, w.xrcd, pd[i]);
		for (int j = 0; j < i; j++)
			VK(q[i].number != q[j].number && q[i].number < 1u << 24);
	}
	for (uint32_t r = 0; r < ROUNDS; r++) {
		struct xk_queue *to = &q[r % QUEUES];
		struct ibv_sge s = vk_sge(w.mr, w.mem, 2 * VK_PAGE);
		vk_fill(w.mem, 2 * VK_PAGE, r);
		xk_recv(to, r, 0, 2 * VK_PAGE);
		xk_post(w.ini, &(struct vk_wr){ .op = IBV_WR_RDMA_WRITE, .remote = (uintptr_t)to->mem + 4 * VK_PAGE, .rkey = to->mr->rkey }, &s,
			to->number);
		xk_post(w.ini, &(struct vk_wr){ .op = IBV_WR_SEND }, &s, to->number);
		xk_post(w.ini, &(struct vk_wr){ .op = IBV_WR_RDMA_READ, .remote = (uintptr_t)to->mem + 4 * VK_PAGE, .rkey = to->mr->rkey }, &s,
			to->number);
		for (int i = 0; i < 3; i++)
			vk_wait_ok(w.ini->send_cq);
		struct ibv_wc wc = vk_wait_ok(to->cq);
		VK(wc.wr_id == r && wc.qp_num == w.tgt->qp_num);
		VK(vk_is(to->mem, 2 * VK_PAGE, r) && vk_is(to->mem + 4 * VK_PAGE, 2 * VK_PAGE, r) && vk_is(w.mem, 2 * VK_PAGE, r));
	}
	/* A burst to all of them at once. */
	struct ibv_sge s = vk_sge(w.mr, w.mem, 4);
	for (uint32_t r = 0; r < 100; r++)
		xk_recv(&q[r % QUEUES], r, r * 4, 4);
	for (uint32_t r = 0; r < 100; r++)
		xk_post(w.ini, &(struct vk_wr){ .op = IBV_WR_SEND, .id = r }, &s, q[r % QUEUES].number);
	for (uint32_t r = 0; r < 100; r++)
		VK_EQ(vk_wait_ok(w.ini->send_cq).wr_id, r);
	for (uint32_t r = 0; r < 100; r++)
		VK_EQ(vk_wait_ok(q[r % QUEUES].cq).wr_id, r);
	for (int i = 0; i < QUEUES; i++) {
		xk_queue_free(&q[i]);
		VK_EQ(ibv_dealloc_pd(pd[i]), 0);
	}
	xk_world_free(&w);
}

/* The request fails with this status, the target with this event, and both end in ERR. */
static void fails(struct xk_world *w, const struct vk_wr *wr, const struct ibv_sge *s, uint32_t srqn, enum ibv_wc_status status,
		  enum ibv_event_type event)
{
	xk_post(w->ini, wr, s, srqn);
	vk_wait_status(w->ini->send_cq, status);
	struct ibv_async_event ev = vk_event(&w->d);
	VK_EQ(ev.event_type, event);
	VK_EQ((uintptr_t)ev.element.qp, (uintptr_t)w->tgt);
	struct ibv_qp_attr a;
	struct ibv_qp_init_attr init;
	VK_EQ(ibv_query_qp(w->tgt, &a, IBV_QP_STATE, &init), 0);
	VK_EQ(a.qp_state, IBV_QPS_ERR);
	VK_EQ(ibv_query_qp(w->ini, &a, IBV_QP_STATE, &init), 0);
	VK_EQ(a.qp_state, IBV_QPS_ERR);
	xk_world_free(w);
}

static void unknown_queue(void **state)
{
	(void)state;
	struct xk_world w;
	xk_world_make(&w, NULL);
	struct ibv_sge s = vk_sge(w.mr, w.mem, 8);
	fails(&w, &(struct vk_wr){ .op = IBV_WR_SEND }, &s, w.q.number ^ 1, IBV_WC_REM_INV_REQ_ERR, IBV_EVENT_QP_ACCESS_ERR);
	xk_world_make(&w, NULL);
	s = vk_sge(w.mr, w.mem, 8);
	fails(&w, &(struct vk_wr){ .op = IBV_WR_RDMA_READ, .remote = (uintptr_t)w.q.mem, .rkey = w.q.mr->rkey }, &s, 0, IBV_WC_REM_INV_REQ_ERR,
	      IBV_EVENT_QP_ACCESS_ERR);
}

static void other_domain(void **state)
{
	(void)state;
	struct xk_world w;
	struct xk_queue q;
	xk_world_make(&w, NULL);
	struct ibv_xrcd *other = xk_domain(&w.d);
	xk_queue_make(&q, &w.d, other, NULL);
	xk_recv(&q, 1, 0, 100);
	struct ibv_sge s = vk_sge(w.mr, w.mem, 8);
	xk_post(w.ini, &(struct vk_wr){ .op = IBV_WR_SEND }, &s, q.number);
	vk_wait_status(w.ini->send_cq, IBV_WC_REM_INV_REQ_ERR);
	VK_EQ(vk_event(&w.d).event_type, IBV_EVENT_QP_ACCESS_ERR);
	vk_quiet(q.cq);
	xk_queue_free(&q);
	VK_EQ(ibv_close_xrcd(other), 0);
	xk_world_free(&w);
}

/* Memory is reached by the named queue's protection domain, not by that of another queue of the same domain. */
static void others_memory(void **state)
{
	(void)state;
	struct xk_world w;
	struct xk_queue q;
	xk_world_make(&w, NULL);
	struct ibv_pd *pd = ibv_alloc_pd(w.d.ctx);
	xk_queue_make(&q, &w.d, w.xrcd, pd);
	struct ibv_sge s = vk_sge(w.mr, w.mem, 8);
	struct vk_wr write = { .op = IBV_WR_RDMA_WRITE, .remote = (uintptr_t)q.mem, .rkey = q.mr->rkey };
	xk_post(w.ini, &write, &s, q.number);
	vk_wait_ok(w.ini->send_cq);
	xk_post(w.ini, &write, &s, w.q.number);
	vk_wait_status(w.ini->send_cq, IBV_WC_REM_ACCESS_ERR);
	VK_EQ(vk_event(&w.d).event_type, IBV_EVENT_QP_ACCESS_ERR);
	xk_queue_free(&q);
	VK_EQ(ibv_dealloc_pd(pd), 0);
	xk_world_free(&w);
}

static void not_allowed(void **state)
{
	(void)state;
	struct xk_world w;
	xk_world_make(&w, &(struct xk_conf){ .access = VK_NO_ACCESS });
	struct ibv_sge s = vk_sge(w.mr, w.mem, 8);
	fails(&w, &(struct vk_wr){ .op = IBV_WR_RDMA_WRITE, .remote = (uintptr_t)w.q.mem, .rkey = w.q.mr->rkey }, &s, w.q.number,
	      IBV_WC_REM_INV_REQ_ERR, IBV_EVENT_QP_REQ_ERR);
}

static void not_ready(void **state)
{
	(void)state;
	struct xk_world w;
	struct xk_queue empty;
	/* Patient: the message waits until there is a receive. */
	xk_world_make(&w, &(struct xk_conf){ .tuned = true, .retry = 7, .rnr_retry = 7, .rnr_timer = 1 });
	xk_queue_make(&empty, &w.d, w.xrcd, NULL);
	struct ibv_sge s = vk_sge(w.mr, w.mem, 3 * VK_PAGE);
	vk_fill(w.mem, 3 * VK_PAGE, 9);
	xk_recv(&w.q, 1, 0, 4 * VK_PAGE);
	xk_recv(&w.q, 2, 4 * VK_PAGE, 4 * VK_PAGE);
	xk_post(w.ini, &(struct vk_wr){ .op = IBV_WR_SEND, .id = 1 }, &s, w.q.number);
	xk_post(w.ini, &(struct vk_wr){ .op = IBV_WR_SEND, .id = 2 }, &s, empty.number);
	xk_post(w.ini, &(struct vk_wr){ .op = IBV_WR_SEND, .id = 3 }, &s, w.q.number);
	VK_EQ(vk_wait_ok(w.ini->send_cq).wr_id, 1);
	vk_quiet(w.ini->send_cq); /* the third waits behind the second, although its queue is ready */
	VK_EQ(vk_wait_ok(w.q.cq).wr_id, 1);
	vk_quiet(w.q.cq);
	xk_recv(&empty, 8, 0, 4 * VK_PAGE);
	VK_EQ(vk_wait_ok(w.ini->send_cq).wr_id, 2);
	VK_EQ(vk_wait_ok(w.ini->send_cq).wr_id, 3);
	VK_EQ(vk_wait_ok(empty.cq).wr_id, 8);
	VK_EQ(vk_wait_ok(w.q.cq).wr_id, 2);
	VK(vk_is(empty.mem, 3 * VK_PAGE, 9) && vk_is(w.q.mem + 4 * VK_PAGE, 3 * VK_PAGE, 9));
	xk_queue_free(&empty);
	xk_world_free(&w);
	/* Impatient. */
	xk_world_make(&w, &(struct xk_conf){ .tuned = true, .retry = 7, .rnr_retry = 1, .rnr_timer = 1 });
	s = vk_sge(w.mr, w.mem, 8);
	xk_post(w.ini, &(struct vk_wr){ .op = IBV_WR_SEND }, &s, w.q.number);
	vk_wait_status(w.ini->send_cq, IBV_WC_RNR_RETRY_EXC_ERR);
	xk_world_free(&w);
}

/* A receive that is too small fails there and here. */
static void too_long(void **state)
{
	(void)state;
	struct xk_world w;
	xk_world_make(&w, NULL);
	struct ibv_sge s = vk_sge(w.mr, w.mem, 101);
	xk_recv(&w.q, 4, 0, 100);
	xk_post(w.ini, &(struct vk_wr){ .op = IBV_WR_SEND }, &s, w.q.number);
	struct ibv_wc wc = vk_wait_status(w.q.cq, IBV_WC_LOC_LEN_ERR);
	VK(wc.wr_id == 4 && wc.qp_num == w.tgt->qp_num);
	vk_wait_status(w.ini->send_cq, IBV_WC_REM_INV_REQ_ERR);
	xk_world_free(&w);
}

/* Queues come and go while their target lives; a number that is gone is unknown. */
static void queue_goes(void **state)
{
	(void)state;
	struct xk_world w;
	xk_world_make(&w, NULL);
	struct ibv_sge s = vk_sge(w.mr, w.mem, 64);
	for (int i = 0; i < 20; i++) {
		struct xk_queue q;
		xk_queue_make(&q, &w.d, w.xrcd, NULL);
		xk_recv(&q, 1, 0, 64);
		xk_post(w.ini, &(struct vk_wr){ .op = IBV_WR_SEND }, &s, q.number);
		vk_wait_ok(w.ini->send_cq);
		vk_wait_ok(q.cq);
		xk_queue_free(&q);
	}
	xk_recv(&w.q, 1, 0, 64);
	uint32_t number = w.q.number;
	VK_EQ(ibv_destroy_srq(w.q.srq), 0);
	w.q.srq = NULL;
	fails(&w, &(struct vk_wr){ .op = IBV_WR_SEND }, &s, number, IBV_WC_REM_INV_REQ_ERR, IBV_EVENT_QP_ACCESS_ERR);
}

static void limit_event(void **state)
{
	(void)state;
	struct xk_world w;
	xk_world_make(&w, NULL);
	struct ibv_sge s = vk_sge(w.mr, w.mem, 8);
	for (uint64_t i = 0; i < 4; i++)
		xk_recv(&w.q, i, i * 8, 8);
	VK_EQ(ibv_modify_srq(w.q.srq, &(struct ibv_srq_attr){ .srq_limit = 3 }, IBV_SRQ_LIMIT), 0);
	for (int i = 0; i < 2; i++) {
		xk_post(w.ini, &(struct vk_wr){ .op = IBV_WR_SEND }, &s, w.q.number);
		vk_wait_ok(w.q.cq);
	}
	struct ibv_async_event ev = vk_event(&w.d);
	VK(ev.event_type == IBV_EVENT_SRQ_LIMIT_REACHED && ev.element.srq == w.q.srq);
	xk_world_free(&w);
}

/* Which attributes each state wants of the two types. */
static void states(void **state)
{
	(void)state;
	struct vk_dev d;
	vk_open(&d);
	struct ibv_xrcd *x = xk_domain(&d);
	struct ibv_qp *qp[2] = { xk_initiator(&d), xk_target(&d, x) };
	struct ibv_ah_attr ah = { .is_global = 1, .port_num = 1, .grh = { .dgid = d.gid, .sgid_index = d.gid_index, .hop_limit = 64 } };
	const int init = IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS;
	const int rtr = IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN;
	const int responder = IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER;
	const int rts = IBV_QP_STATE | IBV_QP_SQ_PSN | IBV_QP_TIMEOUT;
	const int requester = IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_MAX_QP_RD_ATOMIC;
	for (int t = 0; t < 2; t++) {
		struct ibv_qp_attr a = { .qp_state = IBV_QPS_INIT, .port_num = 1 };
		VK_EQ(ibv_modify_qp(qp[t], &a, init & ~IBV_QP_PORT), EINVAL);
		VK_EQ(ibv_modify_qp(qp[t], &a, init | IBV_QP_QKEY), EINVAL);
		VK_EQ(ibv_modify_qp(qp[t], &a, init), 0);
		a = (struct ibv_qp_attr){ .qp_state = IBV_QPS_RTR, .path_mtu = d.mtu, .dest_qp_num = qp[!t]->qp_num, .ah_attr = ah, .min_rnr_timer = 3,
					  .max_dest_rd_atomic = 1 };
		if (t)
			VK_EQ(ibv_modify_qp(qp[t], &a, rtr), EINVAL);
		VK_EQ(ibv_modify_qp(qp[t], &a, rtr | responder), 0); /* an initiator has no use for these, which is forgiven */
		a = (struct ibv_qp_attr){ .qp_state = IBV_QPS_RTS, .timeout = 10, .retry_cnt = 1, .max_rd_atomic = 1 };
		if (!t)
			VK_EQ(ibv_modify_qp(qp[t], &a, rts), EINVAL);
		VK_EQ(ibv_modify_qp(qp[t], &a, rts | requester), 0);
		VK_EQ(qp[t]->state, IBV_QPS_RTS);
		struct ibv_qp_attr got;
		struct ibv_qp_init_attr made;
		VK_EQ(ibv_query_qp(qp[t], &got, IBV_QP_STATE, &made), 0);
		VK(got.qp_state == IBV_QPS_RTS && made.qp_type == (t ? IBV_QPT_XRC_RECV : IBV_QPT_XRC_SEND) && got.timeout == 10);
		VK(got.dest_qp_num == qp[!t]->qp_num && got.min_rnr_timer == (t ? 3 : 0) && got.retry_cnt == (t ? 0 : 1));
	}
	/* What waits while the send queue drains goes on afterwards. */
	VK_EQ(ibv_modify_qp(qp[0], &(struct ibv_qp_attr){ .qp_state = IBV_QPS_SQD }, IBV_QP_STATE), 0);
	VK_EQ(xk_try_post(qp[0], &(struct vk_wr){ .op = IBV_WR_RDMA_WRITE }, NULL, 0), 0);
	vk_quiet(qp[0]->send_cq);
	VK_EQ(ibv_modify_qp(qp[0], &(struct ibv_qp_attr){ .qp_state = IBV_QPS_ERR }, IBV_QP_STATE), 0);
	vk_wait_status(qp[0]->send_cq, IBV_WC_WR_FLUSH_ERR);
	VK_EQ(ibv_modify_qp(qp[1], &(struct ibv_qp_attr){ .qp_state = IBV_QPS_ERR }, IBV_QP_STATE), 0);
	for (int t = 0; t < 2; t++)
		VK_EQ(ibv_modify_qp(qp[t], &(struct ibv_qp_attr){ .qp_state = IBV_QPS_RESET }, IBV_QP_STATE), 0);
	/* And again from the start. */
	xk_connect(&d, qp[1], qp[0]->qp_num, &d.gid, NULL);
	xk_connect(&d, qp[0], qp[1]->qp_num, &d.gid, NULL);
	struct xk_queue q;
	xk_queue_make(&q, &d, x, NULL);
	xk_recv(&q, 1, 0, 8);
	xk_post(qp[0], &(struct vk_wr){ .op = IBV_WR_SEND }, NULL, q.number);
	vk_wait_ok(qp[0]->send_cq);
	VK_EQ(vk_wait_ok(q.cq).byte_len, 0);
	VK_EQ(vk_event_now(&d), -1);
	xk_queue_free(&q);
	xk_initiator_free(qp[0]);
	VK_EQ(ibv_destroy_qp(qp[1]), 0);
	VK_EQ(ibv_close_xrcd(x), 0);
	vk_close(&d);
}

static struct ibv_qp *open_target(struct vk_dev *d, struct ibv_xrcd *x, uint32_t number)
{
	struct ibv_qp_open_attr a = { .comp_mask = IBV_QP_OPEN_ATTR_NUM | IBV_QP_OPEN_ATTR_XRCD | IBV_QP_OPEN_ATTR_TYPE | IBV_QP_OPEN_ATTR_CONTEXT,
				      .qp_num = number, .xrcd = x, .qp_context = d, .qp_type = IBV_QPT_XRC_RECV };
	return ibv_open_qp(d->ctx, &a);
}

/* A target lives as long as any handle of it, and each handle hears its events. */
static void handles(void **state)
{
	(void)state;
	struct xk_world w;
	xk_world_make(&w, NULL);
	int fd = some_file();
	struct ibv_xrcd *wrong = xk_domain(&w.d);
	VK(!open_target(&w.d, wrong, w.tgt->qp_num) && errno == EINVAL);
	VK(!open_target(&w.d, w.xrcd, w.ini->qp_num) && errno == EINVAL);
	VK(!open_target(&w.d, w.xrcd, w.tgt->qp_num ^ 1) && errno == EINVAL);
	VK_EQ(ibv_close_xrcd(wrong), 0);
	close(fd);
	struct ibv_qp *more = open_target(&w.d, w.xrcd, w.tgt->qp_num);
	VK(more && more != w.tgt);
	VK(more->qp_num == w.tgt->qp_num && more->qp_context == &w.d && more->qp_type == IBV_QPT_XRC_RECV && more->state == IBV_QPS_RTS);
	struct ibv_qp_attr a;
	struct ibv_qp_init_attr init;
	VK_EQ(ibv_query_qp(more, &a, IBV_QP_STATE, &init), 0);
	VK(a.qp_state == IBV_QPS_RTS && a.dest_qp_num == w.ini->qp_num);
	VK_EQ(ibv_modify_qp(more, &(struct ibv_qp_attr){ .min_rnr_timer = 5 }, IBV_QP_MIN_RNR_TIMER), 0);
	VK_EQ(ibv_query_qp(w.tgt, &a, IBV_QP_STATE, &init), 0);
	VK_EQ(a.min_rnr_timer, 5);
	/* The first handle goes; the target works on. */
	struct ibv_sge s = vk_sge(w.mr, w.mem, 8);
	VK_EQ(ibv_destroy_qp(w.tgt), 0);
	w.tgt = more;
	xk_recv(&w.q, 1, 0, 8);
	xk_post(w.ini, &(struct vk_wr){ .op = IBV_WR_SEND }, &s, w.q.number);
	vk_wait_ok(w.ini->send_cq);
	VK_EQ(vk_wait_ok(w.q.cq).qp_num, more->qp_num);
	struct ibv_qp *third = open_target(&w.d, w.xrcd, more->qp_num);
	VK(third);
	xk_post(w.ini, &(struct vk_wr){ .op = IBV_WR_SEND }, &s, 0);
	vk_wait_status(w.ini->send_cq, IBV_WC_REM_INV_REQ_ERR);
	struct ibv_async_event one = vk_event(&w.d), two = vk_event(&w.d);
	VK(one.event_type == IBV_EVENT_QP_ACCESS_ERR && two.event_type == IBV_EVENT_QP_ACCESS_ERR);
	VK((one.element.qp == more && two.element.qp == third) || (one.element.qp == third && two.element.qp == more));
	VK_EQ(vk_event_now(&w.d), -1);
	uint32_t number = more->qp_num;
	VK_EQ(ibv_destroy_qp(third), 0);
	VK_EQ(ibv_destroy_qp(more), 0);
	w.tgt = NULL;
	VK(!open_target(&w.d, w.xrcd, number) && errno == EINVAL);
	xk_world_free(&w);
}

static void order_of_destruction(void **state)
{
	(void)state;
	struct xk_world w;
	xk_world_make(&w, NULL);
	VK_EQ(ibv_close_xrcd(w.xrcd), EBUSY);
	VK_EQ(ibv_destroy_cq(w.q.cq), EBUSY);
	VK_EQ(ibv_dealloc_pd(w.d.pd), EBUSY);
	VK_EQ(ibv_destroy_qp(w.tgt), 0);
	w.tgt = NULL;
	VK_EQ(ibv_close_xrcd(w.xrcd), EBUSY); /* of the queue */
	xk_world_free(&w);
}

/* A partner that opens the domain of the file at this path, has a queue in it, and stays until told. */
static void has_domain(int fd)
{
	char path[64];
	struct vk_dev d;
	struct xk_queue q;
	vk_get(fd, path, sizeof path);
	vk_open(&d);
	int file = open(path, O_RDONLY | O_CLOEXEC);
	struct ibv_xrcd *x = xk_open(&d, file, O_CREAT | O_EXCL);
	VK(file >= 0 && x);
	struct ibv_qp *tgt = xk_target(&d, x);
	xk_queue_make(&q, &d, x, NULL);
	xk_recv(&q, 1, 0, 100);
	uint32_t numbers[2] = { q.number, tgt->qp_num };
	vk_put(fd, numbers, sizeof numbers);
	vk_sync(fd);
	vk_quiet(q.cq);
	VK_EQ(ibv_destroy_qp(tgt), 0);
	xk_queue_free(&q);
	VK_EQ(ibv_close_xrcd(x), 0);
	close(file);
	vk_close(&d);
}

/* A domain of a file is one for all processes, for as long as one that opened it lives. What is not there yet is refused in order: a
 * queue and a target of another process are as unknown as if they did not exist. */
static void between_processes(void **state)
{
	(void)state;
	for (int dies = 0; dies < 2; dies++) {
		char path[64] = "/tmp/rdmakit-xrcd-XXXXXX";
		struct vk_partner p;
		struct xk_world w;
		uint32_t numbers[2];
		int fd = mkstemp(path);
		VK(fd >= 0);
		xk_world_make(&w, NULL);
		refused(&w.d, fd, 0, EAGAIN);
		vk_spawn(&p, "has_domain");
		vk_put(p.fd, path, sizeof path);
		vk_get(p.fd, numbers, sizeof numbers);
		refused(&w.d, fd, O_CREAT | O_EXCL, EINVAL);
		struct ibv_xrcd *x = xk_open(&w.d, fd, 0);
		VK(x);
		VK(!open_target(&w.d, x, numbers[1]) && errno == EINVAL);
		struct ibv_qp *tgt = xk_target(&w.d, x), *ini = xk_initiator(&w.d);
		xk_connect(&w.d, tgt, ini->qp_num, &w.d.gid, NULL);
		xk_connect(&w.d, ini, tgt->qp_num, &w.d.gid, NULL);
		struct ibv_sge s = vk_sge(w.mr, w.mem, 8);
		xk_post(ini, &(struct vk_wr){ .op = IBV_WR_SEND }, &s, numbers[0]);
		vk_wait_status(ini->send_cq, IBV_WC_REM_INV_REQ_ERR);
		VK_EQ(vk_event(&w.d).event_type, IBV_EVENT_QP_ACCESS_ERR);
		xk_initiator_free(ini);
		VK_EQ(ibv_destroy_qp(tgt), 0);
		if (dies) {
			vk_kill(&p);
		} else {
			vk_sync(p.fd);
			vk_join(&p);
		}
		refused(&w.d, fd, O_CREAT | O_EXCL, EINVAL); /* ours holds it */
		VK_EQ(ibv_close_xrcd(x), 0);
		refused(&w.d, fd, 0, EAGAIN);
		xk_world_free(&w);
		close(fd);
		unlink(path);
	}
}

int main(int argc, char **argv)
{
	static const struct vk_role roles[] = { { "has_domain", has_domain } };
	vk_start(argc, argv, roles, sizeof roles / sizeof *roles);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(domains),	 cmocka_unit_test(what_is_missing), cmocka_unit_test(operations),
		cmocka_unit_test(wr_interface),	 cmocka_unit_test(many_queues),	    cmocka_unit_test(unknown_queue),
		cmocka_unit_test(other_domain),	 cmocka_unit_test(others_memory),   cmocka_unit_test(not_allowed),
		cmocka_unit_test(not_ready),	 cmocka_unit_test(too_long),	    cmocka_unit_test(queue_goes),
		cmocka_unit_test(limit_event),	 cmocka_unit_test(states),	    cmocka_unit_test(handles),
		cmocka_unit_test(order_of_destruction), cmocka_unit_test(between_processes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
