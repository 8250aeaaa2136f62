/* Completion queues: overrun, resizing with contents, events and their acknowledgement; shared receive queues and their events. */
#define _GNU_SOURCE
#include "verbs-world.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

static void put_recvs(struct vk_end *e, int n)
{
	for (int i = 0; i < n; i++)
		vk_recv(e, (uint64_t)i, NULL, 0);
}

static void sends(struct vk_end *e, int n, unsigned flags)
{
	for (int i = 0; i < n; i++)
		vk_post(e, &(struct vk_wr){ .op = IBV_WR_SEND, .id = (uint64_t)i, .flags = flags });
}

static void overrun(void **state)
{
	(void)state;
	struct vk_dev d;
	struct vk_end e[2];
	struct ibv_wc wc;
	vk_open(&d);
	vk_end_make(&e[0], &d, NULL);
	vk_end_make(&e[1], &d, &(struct vk_conf){ .cqe = 4 });
	for (int i = 0; i < 2; i++)
		vk_connect(&e[i], e[1 - i].qp->qp_num, &d.gid);
	put_recvs(&e[1], 20);
	sends(&e[0], 20, 0);
	for (int i = 0; i < 20; i++)
		vk_wait_ok(e[0].scq);
	struct ibv_async_event ev = vk_event(&d);
	VK_EQ(ev.event_type, IBV_EVENT_CQ_ERR);
	VK(ev.element.cq == e[1].rcq);
	VK_EQ(vk_event_now(&d), -1); /* said once */
	for (int i = 0; i < 4; i++)
		VK_EQ(vk_wait_ok(e[1].rcq).wr_id, i);
	VK(ibv_poll_cq(e[1].rcq, 1, &wc) < 0);
	vk_end_free(&e[0]);
	vk_end_free(&e[1]);
	vk_close(&d);
}

static void resize(void **state)
{
	(void)state;
	struct world w;
	world_make(&w, &(struct vk_conf){ .depth = 128, .cqe = 100 });
	for (int round = 0; round < 10; round++) {
		put_recvs(&w.e[1], 90);
		sends(&w.e[0], 90, 0);
		for (int i = 0; i < 90; i++)
			VK_EQ(vk_wait_ok(w.e[0].scq).wr_id, i);
		for (int i = 0; i < 20; i++)
			VK_EQ(vk_wait_ok(w.e[1].rcq).wr_id, i);
		VK_EQ(ibv_resize_cq(w.e[1].rcq, 3), EINVAL); /* what is in it must fit */
		VK_EQ(ibv_resize_cq(w.e[1].rcq, 0), EINVAL);
		VK_EQ(ibv_resize_cq(w.e[1].rcq, round % 2 ? 70 : 1000), 0);
		VK(w.e[1].rcq->cqe >= (round % 2 ? 70 : 1000));
		for (int i = 20; i < 90; i++)
			VK_EQ(vk_wait_ok(w.e[1].rcq).wr_id, i);
		VK_EQ(ibv_resize_cq(w.e[1].rcq, 100), 0);
	}
	world_free(&w);
}

/* Only the completions of the queue pair that goes leave a shared queue. */
static void shared_cq(void **state)
{
	(void)state;
	struct vk_dev d;
	struct vk_end a[2], b[2];
	vk_open(&d);
	struct ibv_cq *cq = ibv_create_cq(d.ctx, 64, NULL, NULL, 0);
	vk_pair_make(a, &d, &(struct vk_conf){ .send_cq = cq, .recv_cq = cq });
	vk_pair_make(b, &d, &(struct vk_conf){ .send_cq = cq, .recv_cq = cq });
	uint32_t keep = a[0].qp->qp_num;
	for (int i = 0; i < 5; i++) {
		put_recvs(&a[1], 1);
		put_recvs(&b[1], 1);
		sends(&a[0], 1, 0);
		sends(&b[0], 1, 0);
		usleep(5000); /* the helper does the rest: nobody polls */
	}
	VK_EQ(ibv_destroy_cq(cq), EBUSY);
	vk_end_free(&b[0]);
	vk_end_free(&b[1]);
	int mine = 0;
	while (mine < 10) {
		struct ibv_wc wc = vk_wait_ok(cq);
		VK(wc.qp_num == keep || wc.qp_num == a[1].qp->qp_num);
		mine++;
	}
	vk_quiet(cq);
	vk_pair_free(a);
	VK_EQ(ibv_destroy_cq(cq), 0);
	vk_close(&d);
}

/* ---- events ---------------------------------------------------------------------------------------------------------------- */

static bool readable(struct ibv_comp_channel *ch, int ms)
{
	struct pollfd p = { .fd = ch->fd, .events = POLLIN };
	return poll(&p, 1, ms) == 1;
}

static void events(void **state)
{
	(void)state;
	struct vk_dev d;
	struct vk_end e[2];
	struct ibv_cq *cq;
	void *context;
	vk_open(&d);
	struct ibv_comp_channel *ch = ibv_create_comp_channel(d.ctx);
	VK(ch);
	vk_end_make(&e[0], &d, NULL);
	vk_end_make(&e[1], &d, &(struct vk_conf){ .channel = ch });
	for (int i = 0; i < 2; i++)
		vk_connect(&e[i], e[1 - i].qp->qp_num, &d.gid);
	VK_EQ(ibv_destroy_comp_channel(ch), EBUSY);
	put_recvs(&e[1], 20);
	/* not armed: no event */
	sends(&e[0], 1, 0);
	vk_wait_ok(e[0].scq);
	vk_wait_ok(e[1].rcq);
	VK(!readable(ch, 0));
	/* armed: one for many completions */
	VK_EQ(ibv_req_notify_cq(e[1].rcq, 0), 0);
	VK_EQ(ibv_req_notify_cq(e[1].rcq, 0), 0);
	sends(&e[0], 5, 0);
	VK(readable(ch, VK_WAIT_S * 1000)); /* and nobody polls */
	VK_EQ(ibv_get_cq_event(ch, &cq, &context), 0);
	VK(cq == e[1].rcq && context == &e[1]);
	ibv_ack_cq_events(cq, 1);
	for (int i = 0; i < 5; i++)
		vk_wait_ok(e[1].rcq);
	VK(!readable(ch, 0));
	/* solicited only: the fourth of them, or an error */
	VK_EQ(ibv_req_notify_cq(e[1].rcq, 1), 0);
	sends(&e[0], 3, 0);
	for (int i = 0; i < 3; i++)
		vk_wait_ok(e[1].rcq);
	VK(!readable(ch, 0));
	sends(&e[0], 1, IBV_SEND_SOLICITED);
	VK(readable(ch, VK_WAIT_S * 1000));
	VK_EQ(ibv_get_cq_event(ch, &cq, &context), 0);
	ibv_ack_cq_events(cq, 1);
	vk_wait_ok(e[1].rcq);
	VK_EQ(ibv_req_notify_cq(e[1].rcq, 1), 0);
	VK_EQ(ibv_req_notify_cq(e[1].rcq, 0), 0); /* the wider wish counts */
	VK_EQ(ibv_req_notify_cq(e[1].rcq, 1), 0);
	sends(&e[0], 1, 0);
	VK(readable(ch, VK_WAIT_S * 1000));
	VK_EQ(ibv_get_cq_event(ch, &cq, &context), 0);
	ibv_ack_cq_events(cq, 1);
	vk_wait_ok(e[1].rcq);
	VK_EQ(ibv_req_notify_cq(e[1].rcq, 1), 0);
	vk_to_state(&e[1], IBV_QPS_ERR);
	VK(readable(ch, VK_WAIT_S * 1000));
	VK_EQ(ibv_get_cq_event(ch, &cq, &context), 0);
	ibv_ack_cq_events(cq, 1);
	/* a channel that does not block */
	fcntl(ch->fd, F_SETFL, O_NONBLOCK);
	errno = 0;
	VK(ibv_get_cq_event(ch, &cq, &context) && errno == EAGAIN);
	/* an event nobody fetched does not outlive its queue */
	VK_EQ(ibv_req_notify_cq(e[1].scq, 0), 0);
	vk_post(&e[1], &(struct vk_wr){ .op = IBV_WR_SEND });
	VK(readable(ch, VK_WAIT_S * 1000));
	vk_end_free(&e[0]);
	vk_end_free(&e[1]);
	VK(!readable(ch, 0));
	VK_EQ(ibv_destroy_comp_channel(ch), 0);
	vk_close(&d);
}

/* Destroying waits until every fetched event was acknowledged. */
static void *ack_later(void *arg)
{
	usleep(20000);
	*(volatile bool *)((void **)arg)[1] = true;
	ibv_ack_cq_events(((void **)arg)[0], 1);
	return NULL;
}

static void ack_on_destroy(void **state)
{
	(void)state;
	struct vk_dev d;
	struct vk_end e[2];
	pthread_t t;
	void *context;
	vk_open(&d);
	struct ibv_comp_channel *ch = ibv_create_comp_channel(d.ctx);
	struct ibv_cq *got, *cq = ibv_create_cq(d.ctx, 10, NULL, ch, 0);
	vk_pair_make(e, &d, &(struct vk_conf){ .recv_cq = cq });
	VK_EQ(ibv_req_notify_cq(cq, 0), 0);
	put_recvs(&e[1], 1);
	sends(&e[0], 1, 0);
	VK_EQ(ibv_get_cq_event(ch, &got, &context), 0); /* blocks until the helper delivers */
	VK(got == cq);
	vk_wait_ok(cq);
	vk_wait_ok(e[0].scq);
	vk_pair_free(e);
	bool acked = false;
	void *arg[2] = { cq, &acked };
	VK_EQ(pthread_create(&t, NULL, ack_later, arg), 0);
	VK_EQ(ibv_destroy_cq(cq), 0);
	VK(acked);
	pthread_join(t, NULL);
	VK_EQ(ibv_destroy_comp_channel(ch), 0);
	vk_close(&d);
}

/* The sleeping ping-pong: arm, poll, wait; no event may get lost however the race goes. */
struct side {
	struct vk_end *e;
	struct ibv_comp_channel *ch;
	int rounds, first;
};

static void *sleeping_side(void *arg)
{
	struct side *s = arg;
	struct ibv_wc wc;
	for (int i = 0; i < s->rounds; i++) {
		if (s->first)
			vk_post(s->e, &(struct vk_wr){ .op = IBV_WR_SEND });
		for (bool got = false; !got;) {
			struct ibv_cq *cq;
			void *context;
			while (ibv_poll_cq(s->e->rcq, 1, &wc) == 1)
				got = true;
			if (got)
				break;
			VK_EQ(ibv_req_notify_cq(s->e->rcq, 0), 0);
			if (ibv_poll_cq(s->e->rcq, 1, &wc) == 1)
				break;
			VK_EQ(ibv_get_cq_event(s->ch, &cq, &context), 0);
			ibv_ack_cq_events(cq, 1);
		}
		vk_recv(s->e, 0, NULL, 0);
		if (!s->first)
			vk_post(s->e, &(struct vk_wr){ .op = IBV_WR_SEND });
		while (ibv_poll_cq(s->e->scq, 1, &wc) == 1)
			;
	}
	return NULL;
}

static void notify_race(void **state)
{
	(void)state;
	struct vk_dev d;
	struct vk_end e[2];
	struct side s[2];
	pthread_t t;
	vk_open(&d);
	for (int i = 0; i < 2; i++) {
		s[i].ch = ibv_create_comp_channel(d.ctx);
		struct ibv_cq *rcq = ibv_create_cq(d.ctx, 100, NULL, s[i].ch, 0);
		vk_end_make(&e[i], &d, &(struct vk_conf){ .recv_cq = rcq, .cqe = 2000 });
		s[i].e = &e[i];
		s[i].rounds = 500;
		s[i].first = i;
	}
	for (int i = 0; i < 2; i++) {
		vk_connect(&e[i], e[1 - i].qp->qp_num, &d.gid);
		put_recvs(&e[i], 4);
	}
	VK_EQ(pthread_create(&t, NULL, sleeping_side, &s[0]), 0);
	sleeping_side(&s[1]);
	VK_EQ(pthread_join(t, NULL), 0);
	for (int i = 0; i < 2; i++) {
		struct ibv_cq *rcq = e[i].rcq;
		vk_end_free(&e[i]);
		VK_EQ(ibv_destroy_cq(rcq), 0);
		VK_EQ(ibv_destroy_comp_channel(s[i].ch), 0);
	}
	vk_close(&d);
}

/* ---- shared receive queues ---------------------------------------------------------------------------------------------------- */

static void srq(void **state)
{
	(void)state;
	struct vk_dev d;
	struct vk_end a[2], b[2];
	vk_open(&d);
	struct ibv_srq_init_attr init = { .attr = { .max_wr = 10, .max_sge = 2 } };
	struct ibv_srq *q = ibv_create_srq(d.pd, &init);
	VK(q);
	vk_pair_make(a, &d, &(struct vk_conf){ .srq = q });
	vk_pair_make(b, &d, &(struct vk_conf){ .srq = q });
	VK_EQ(ibv_destroy_srq(q), EBUSY);
	struct ibv_recv_wr *bad, wr = { 0 };
	VK_EQ(ibv_post_recv(a[1].qp, &wr, &bad), EINVAL); /* it has no queue of its own */
	put_recvs(&a[1], 10);
	VK_EQ(vk_try_recv(&a[1], 0, NULL, 0), ENOMEM);
	struct ibv_srq_attr attr = { .srq_limit = 8 };
	VK_EQ(ibv_modify_srq(q, &attr, IBV_SRQ_LIMIT), 0);
	sends(&a[0], 2, 0);
	for (int i = 0; i < 2; i++)
		vk_wait_ok(a[1].rcq);
	VK_EQ(vk_event_now(&d), -1); /* 8 left: not below the limit */
	sends(&b[0], 1, 0);
	VK_EQ(vk_wait_ok(b[1].rcq).wr_id, 2);
	struct ibv_async_event ev = vk_event(&d);
	VK(ev.event_type == IBV_EVENT_SRQ_LIMIT_REACHED && ev.element.srq == q);
	VK_EQ(ibv_query_srq(q, &attr), 0);
	VK(attr.srq_limit == 0 && attr.max_wr >= 10 && attr.max_sge >= 2); /* disarmed by the event */
	sends(&a[0], 1, 0);
	vk_wait_ok(a[1].rcq);
	VK_EQ(vk_event_now(&d), -1);
	/* resized with what is in it */
	attr.max_wr = 5;
	VK_EQ(ibv_modify_srq(q, &attr, IBV_SRQ_MAX_WR), EINVAL);
	attr.max_wr = 100;
	VK_EQ(ibv_modify_srq(q, &attr, IBV_SRQ_MAX_WR), 0);
	for (uint64_t i = 0; i < 94; i++)
		vk_recv(&b[1], 100 + i, NULL, 0);
	for (int i = 4; i < 10; i++) {
		sends(i % 2 ? &a[0] : &b[0], 1, 0);
		VK_EQ(vk_wait_ok(i % 2 ? a[1].rcq : b[1].rcq).wr_id, i);
	}
	/* one of the queue pairs fails: it takes no more, says so, and the other goes on with all that is left */
	while (vk_event_now(&d) >= 0)
		;
	vk_to_state(&a[1], IBV_QPS_ERR);
	ev = vk_event(&d);
	VK(ev.event_type == IBV_EVENT_QP_LAST_WQE_REACHED && ev.element.qp == a[1].qp);
	vk_quiet(a[1].rcq);
	for (int k = 0; k < 2; k++) {
		sends(&b[0], 47, 0);
		for (int i = 0; i < 47; i++)
			VK_EQ(vk_wait_ok(b[1].rcq).wr_id, 100 + 47 * k + i);
		for (int i = 0; i < 47 + (k ? 0 : 4); i++)
			vk_wait_ok(b[0].scq);
	}
	vk_pair_free(a);
	vk_pair_free(b);
	VK_EQ(ibv_destroy_srq(q), 0);
	init.attr.max_wr = 0;
	VK(!ibv_create_srq(d.pd, &init) && errno == EINVAL);
	vk_close(&d);
}

/* A shared receive queue receives by its own protection domain, whatever domain the queue pair is of. */
static void srq_domain(void **state)
{
	(void)state;
	struct vk_dev d;
	struct vk_end e[2];
	uint8_t mine[64], its[64];
	vk_open(&d);
	struct ibv_pd *pd = ibv_alloc_pd(d.ctx);
	struct ibv_srq_init_attr init = { .attr = { .max_wr = 10, .max_sge = 2 } };
	struct ibv_srq *q = ibv_create_srq(pd, &init);
	struct ibv_mr *in = ibv_reg_mr(pd, its, sizeof its, VK_RW), *out = vk_reg(&d, mine, sizeof mine, VK_RW);
	VK(pd && q && in);
	vk_pair_make(e, &d, &(struct vk_conf){ .srq = q });
	vk_fill(mine, 64, 3);
	vk_recv1(&e[1], 1, in, its, 64);
	vk_send(&e[0], 1, out, mine, 64);
	vk_wait_ok(e[0].scq);
	vk_wait_ok(e[1].rcq);
	VK(vk_is(its, 64, 3));
	vk_recv1(&e[1], 2, out, mine, 64);
	vk_send(&e[0], 2, out, mine, 64);
	vk_wait_status(e[0].scq, IBV_WC_REM_OP_ERR);
	vk_wait_status(e[1].rcq, IBV_WC_LOC_PROT_ERR);
	vk_pair_free(e);
	VK(!ibv_dereg_mr(in) && !ibv_dereg_mr(out) && !ibv_destroy_srq(q) && !ibv_dealloc_pd(pd));
	vk_close(&d);
}

/* Children first: nothing can be pulled from under its users. */
static void in_use(void **state)
{
	(void)state;
	struct vk_dev d;
	struct vk_end e;
	uint64_t x;
	vk_open(&d);
	vk_end_make(&e, &d, NULL);
	VK_EQ(ibv_dealloc_pd(d.pd), EBUSY);
	VK_EQ(ibv_destroy_cq(e.scq), EBUSY);
	struct ibv_mr *mr = vk_reg(&d, &x, 8, VK_RW);
	vk_end_free(&e);
	VK_EQ(ibv_dealloc_pd(d.pd), EBUSY);
	VK_EQ(ibv_dereg_mr(mr), 0);
	VK(!ibv_create_cq(d.ctx, 0, NULL, NULL, 0) && errno == EINVAL);
	VK(!ibv_create_cq(d.ctx, 1 << 30, NULL, NULL, 0) && errno == EINVAL);
	VK(!ibv_create_cq(d.ctx, 10, NULL, NULL, 7) && errno == EINVAL);
	struct ibv_cq *cq = ibv_create_cq(d.ctx, 10, NULL, NULL, 0);
	struct ibv_qp_init_attr init = { .send_cq = cq, .recv_cq = cq, .qp_type = IBV_QPT_RC, .cap = { .max_send_wr = 1 << 20 } };
	VK(!ibv_create_qp(d.pd, &init) && errno == EINVAL);
	init.cap = (struct ibv_qp_cap){ .max_send_sge = 33 };
	VK(!ibv_create_qp(d.pd, &init) && errno == EINVAL);
	init.cap = (struct ibv_qp_cap){ .max_inline_data = 5000 };
	VK(!ibv_create_qp(d.pd, &init) && errno == EINVAL);
	init.cap = (struct ibv_qp_cap){ 0 };
	init.recv_cq = NULL;
	VK(!ibv_create_qp(d.pd, &init) && errno == EINVAL);
	VK_EQ(ibv_destroy_cq(cq), 0);
	vk_close(&d);
}

int main(int argc, char **argv)
{
	vk_start(argc, argv, NULL, 0);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(overrun), cmocka_unit_test(resize), cmocka_unit_test(shared_cq), cmocka_unit_test(events),
		cmocka_unit_test(ack_on_destroy), cmocka_unit_test(notify_race), cmocka_unit_test(srq), cmocka_unit_test(srq_domain), cmocka_unit_test(in_use),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
