/*
 * What must happen in order and what must wait: fences, the limit of outstanding READs, selective completions, SQD, and queues that
 * wait for each other in mixed lists. Each on memory that peers reach directly and on memory served by messages.
 */
#include "verbs-kit.h"

#include <stdlib.h>

#define LEN (300u * 1024)

struct world {
	struct vk_dev d;
	struct vk_end e[2];
	uint8_t *a, *b;
	struct ibv_mr *ma, *mb;
	bool pages;
};

static void world_make(struct world *w, bool pages, const struct vk_conf *conf)
{
	memset(w, 0, sizeof *w);
	w->pages = pages;
	vk_open(&w->d);
	vk_pair_make(w->e, &w->d, conf);
	w->a = vk_pages(LEN + VK_PAGE);
	w->b = vk_pages(LEN + VK_PAGE);
	/* A region that overlaps an exported one in part is served by messages. */
	w->ma = vk_reg(&w->d, w->a, LEN, VK_RW);
	w->mb = vk_reg(&w->d, w->b, LEN, VK_RW);
	if (!pages) {
		struct ibv_mr *ka = w->ma, *kb = w->mb;
		w->ma = vk_reg(&w->d, w->a, LEN + VK_PAGE, VK_RW);
		w->mb = vk_reg(&w->d, w->b, LEN + VK_PAGE, VK_RW);
		VK(!ibv_dereg_mr(ka) && !ibv_dereg_mr(kb));
	}
}

static void world_free(struct world *w)
{
	vk_pair_free(w->e);
	VK(!ibv_dereg_mr(w->ma) && !ibv_dereg_mr(w->mb));
	vk_close(&w->d);
	vk_unpages(w->a, LEN + VK_PAGE);
	vk_unpages(w->b, LEN + VK_PAGE);
}

static void both(void (*test)(struct world *w), const struct vk_conf *conf)
{
	for (int pages = 0; pages < 2; pages++) {
		struct world w;
		world_make(&w, pages, conf);
		test(&w);
		world_free(&w);
	}
}

static struct vk_wr rdma(struct world *w, enum ibv_wr_opcode op, struct ibv_sge *s, size_t off, size_t len, uint64_t id, unsigned flags)
{
	*s = vk_sge(w->ma, w->a + off, len);
	return (struct vk_wr){ .op = op, .id = id, .flags = flags, .sge = s, .n = 1, .remote = (uintptr_t)w->b + off, .rkey = w->mb->rkey };
}

/* WRITE, then SEND: who sees the SEND sees the data. All of it posted before anything is polled. */
static void write_then_send_on(struct world *w)
{
	for (uint32_t round = 0; round < 50; round++) {
		struct ibv_sge s;
		size_t len = 1 + round * 6000 % LEN;
		vk_recv(&w->e[1], round, NULL, 0);
		vk_fill(w->a, len, round + 1);
		struct vk_wr wr = rdma(w, IBV_WR_RDMA_WRITE, &s, 0, len, 1, 0);
		vk_post(&w->e[0], &wr);
		vk_post(&w->e[0], &(struct vk_wr){ .op = IBV_WR_SEND, .id = 2 });
		vk_wait_ok(w->e[1].rcq);
		VK(vk_is(w->b, len, round + 1));
		VK_EQ(vk_wait_ok(w->e[0].scq).wr_id, 1);
		VK_EQ(vk_wait_ok(w->e[0].scq).wr_id, 2);
	}
}
static void write_then_send(void **state) { (void)state; both(write_then_send_on, NULL); }
static void uc_write_then_send(void **state) { (void)state; both(write_then_send_on, &(struct vk_conf){ .type = IBV_QPT_UC }); }

/* Later WRITEs win over earlier ones on the same bytes, whichever way each went: small, large, over the edge of the pages. */
static void last_write_wins_on(struct world *w)
{
	static const size_t lens[] = { 8, 9000, 64, LEN / 2, 100, 8192, LEN - 100, 1 };
	uint8_t *expect = calloc(1, LEN);
	memset(w->b, 0, LEN);
	for (uint32_t round = 0; round < 40; round++) {
		for (uint32_t i = 0; i < 8; i++) {
			struct ibv_sge s;
			size_t len = lens[(i + round) % 8], off = 50;
			if (i == 4) /* something that only the target's engine can execute stands between */
				vk_post(&w->e[0], &(struct vk_wr){ .op = IBV_WR_RDMA_WRITE });
			memset(w->a + off, (int)(round * 8 + i), len);
			memset(expect + off, (int)(round * 8 + i), len);
			struct vk_wr wr = rdma(w, IBV_WR_RDMA_WRITE, &s, off, len, i, 0);
			vk_post(&w->e[0], &wr);
			for (int n = i == 4 ? 2 : 1; n; n--)
				vk_wait_ok(w->e[0].scq);
		}
		vk_recv(&w->e[1], 0, NULL, 0);
		vk_post(&w->e[0], &(struct vk_wr){ .op = IBV_WR_SEND });
		vk_wait_ok(w->e[0].scq);
		vk_wait_ok(w->e[1].rcq);
		VK(!memcmp(w->b, expect, LEN));
	}
	free(expect);
}
static void last_write_wins(void **state) { (void)state; both(last_write_wins_on, NULL); }
static void uc_last_write_wins(void **state) { (void)state; both(last_write_wins_on, &(struct vk_conf){ .type = IBV_QPT_UC }); }

/* A region that begins inside a page: what touches the edge goes by message, what does not may go directly, and must not overtake. */
static void edge_and_inside(enum ibv_qp_type type)
{
	struct world w;
	world_make(&w, true, &(struct vk_conf){ .type = type });
	uint8_t *edge = vk_pages(16 * VK_PAGE);
	struct ibv_mr *mr = vk_reg(&w.d, edge + 50, 16 * VK_PAGE - 50, VK_RW);
	for (int round = 0; round < 20; round++) {
		struct ibv_sge s;
		memset(w.a, 1, 3 * VK_PAGE);
		struct vk_wr over = rdma(&w, IBV_WR_RDMA_WRITE, &s, 0, 3 * VK_PAGE, 1, 0), inside;
		over.remote = (uintptr_t)edge + 60;
		over.rkey = mr->rkey;
		vk_post(&w.e[0], &over);
		vk_wait_ok(w.e[0].scq);
		memset(w.a + 4 * VK_PAGE, 2, VK_PAGE);
		inside = rdma(&w, IBV_WR_RDMA_WRITE, &s, 4 * VK_PAGE, round % 2 ? VK_PAGE : 16, 2, 0);
		inside.remote = (uintptr_t)edge + VK_PAGE;
		inside.rkey = mr->rkey;
		vk_recv(&w.e[1], 0, NULL, 0);
		vk_post(&w.e[0], &inside);
		vk_post(&w.e[0], &(struct vk_wr){ .op = IBV_WR_SEND });
		vk_wait_ok(w.e[0].scq);
		vk_wait_ok(w.e[0].scq);
		vk_wait_ok(w.e[1].rcq);
		VK_EQ(edge[60], 1);
		VK_EQ(edge[VK_PAGE - 1], 1);
		VK_EQ(edge[VK_PAGE], 2);
		VK_EQ(edge[VK_PAGE + s.length - 1], 2);
		VK_EQ(edge[VK_PAGE + s.length], 1);
	}
	VK_EQ(ibv_dereg_mr(mr), 0);
	vk_unpages(edge, 16 * VK_PAGE);
	world_free(&w);
}
static void edge(void **state) { (void)state; edge_and_inside(IBV_QPT_RC); }
static void uc_edge(void **state) { (void)state; edge_and_inside(IBV_QPT_UC); }

/* More READs and atomics at once than the limit: all complete, in order, with right data. */
static void reads_beyond_limit_on(struct world *w)
{
	vk_fill(w->b, LEN, 5);
	memset(w->a, 0, LEN);
	struct ibv_sge s[40];
	for (unsigned i = 0; i < 40; i++) {
		struct vk_wr wr = rdma(w, IBV_WR_RDMA_READ, &s[i], i * 7000, 7000, i, 0);
		vk_post(&w->e[0], &wr);
	}
	for (unsigned i = 0; i < 40; i++)
		VK_EQ(vk_wait_ok(w->e[0].scq).wr_id, i);
	VK(vk_is(w->a, 280000, 5));
	uint64_t *counter = (uint64_t *)(void *)w->b;
	*counter = 1000;
	for (unsigned i = 0; i < 40; i++) {
		s[i] = vk_sge(w->ma, w->a + 8 * i, 8);
		vk_post(&w->e[0], &(struct vk_wr){ .op = IBV_WR_ATOMIC_FETCH_AND_ADD, .id = i, .sge = &s[i], .n = 1, .remote = (uintptr_t)counter, .rkey = w->mb->rkey, .add = 3 });
	}
	for (unsigned i = 0; i < 40; i++)
		VK_EQ(vk_wait_ok(w->e[0].scq).wr_id, i);
	for (unsigned i = 0; i < 40; i++)
		VK_EQ(((uint64_t *)(void *)w->a)[i], 1000 + 3 * i);
	VK_EQ(*counter, 1120);
}
static void reads_beyond_limit(void **state)
{
	(void)state;
	both(reads_beyond_limit_on, &(struct vk_conf){ .rd_atomic = 1 });
	both(reads_beyond_limit_on, &(struct vk_conf){ .rd_atomic = 4 });
}

/* In one list: READ, then a fenced SEND of what it read. */
static void fence_on(struct world *w)
{
	for (uint32_t round = 0; round < 20; round++) {
		size_t len = 1 + round * 15000 % LEN;
		vk_fill(w->b, len, round);
		memset(w->a, 0, len);
		uint8_t *copy = vk_pages(LEN);
		struct ibv_mr *mc = vk_reg(&w->d, copy, LEN, VK_RW);
		vk_recv1(&w->e[1], 9, mc, copy, LEN);
		struct ibv_sge s = vk_sge(w->ma, w->a, len);
		struct ibv_send_wr *bad, send = { .wr_id = 2, .sg_list = &s, .num_sge = 1, .opcode = IBV_WR_SEND, .send_flags = IBV_SEND_FENCE | IBV_SEND_SIGNALED };
		struct ibv_send_wr read = { .wr_id = 1, .next = &send, .sg_list = &s, .num_sge = 1, .opcode = IBV_WR_RDMA_READ, .send_flags = IBV_SEND_SIGNALED,
					    .wr.rdma = { (uintptr_t)w->b, w->mb->rkey } };
		VK_EQ(ibv_post_send(w->e[0].qp, &read, &bad), 0);
		VK_EQ(vk_wait_ok(w->e[0].scq).wr_id, 1);
		VK_EQ(vk_wait_ok(w->e[0].scq).wr_id, 2);
		VK_EQ(vk_wait_ok(w->e[1].rcq).byte_len, len);
		VK(vk_is(copy, len, round));
		VK_EQ(ibv_dereg_mr(mc), 0);
		vk_unpages(copy, LEN);
	}
}
static void fence(void **state) { (void)state; both(fence_on, NULL); }

/* Only flagged WQEs complete, and those behind a slow one wait for it. */
static void selective_on(struct world *w)
{
	struct ibv_sge s[64];
	for (unsigned i = 0; i < 60; i++) {
		enum ibv_wr_opcode op = i % 3 == 0 ? IBV_WR_RDMA_WRITE : i % 3 == 1 ? IBV_WR_RDMA_READ : IBV_WR_RDMA_WRITE;
		struct vk_wr wr = rdma(w, op, &s[i], (i % 3) * 90000, i % 3 == 2 ? 0 : 1000 * i, i, i % 10 == 9 ? IBV_SEND_SIGNALED : 0);
		vk_post(&w->e[0], &wr);
	}
	for (unsigned i = 9; i < 60; i += 10)
		VK_EQ(vk_wait_ok(w->e[0].scq).wr_id, i);
	vk_quiet(w->e[0].scq);
}
static void selective(void **state) { (void)state; both(selective_on, &(struct vk_conf){ .selective = true }); }

/* The queue holds what it promised, refuses one more, and has room again after a completion. */
static void queue_depth(void **state)
{
	(void)state;
	struct vk_dev d;
	struct vk_end e[2];
	vk_open(&d);
	vk_pair_make(e, &d, &(struct vk_conf){ .depth = 5 });
	for (int i = 0; i < 5; i++)
		vk_recv(&e[0], (uint64_t)i, NULL, 0);
	VK_EQ(vk_try_recv(&e[0], 9, NULL, 0), ENOMEM);
	for (int i = 0; i < 5; i++)
		vk_post(&e[0], &(struct vk_wr){ .op = IBV_WR_SEND, .id = (uint64_t)i });
	VK_EQ(vk_try_post(&e[0], &(struct vk_wr){ .op = IBV_WR_SEND }), ENOMEM);
	for (int i = 0; i < 5; i++)
		vk_recv(&e[1], (uint64_t)i, NULL, 0);
	for (int i = 0; i < 5; i++) {
		VK_EQ(vk_wait_ok(e[0].scq).wr_id, i);
		VK_EQ(vk_wait_ok(e[1].rcq).wr_id, i);
	}
	vk_recv(&e[1], 50, NULL, 0);
	vk_post(&e[0], &(struct vk_wr){ .op = IBV_WR_SEND, .id = 50 });
	VK_EQ(vk_wait_ok(e[0].scq).wr_id, 50);
	vk_pair_free(e);
	vk_close(&d);
}

/* SQD: what was begun is finished, what is posted waits, the event says when; RTS goes on. */
static void sqd_on(struct world *w)
{
	struct ibv_sge s;
	struct ibv_qp_attr a = { .qp_state = IBV_QPS_SQD, .en_sqd_async_notify = 1 };
	for (int rnr = 0; rnr < 2; rnr++) {
		/* A message that meets no receive WQE was begun: SQD waits for it. */
		vk_fill(w->a, LEN / 2, 3);
		s = vk_sge(w->ma, w->a, LEN / 2);
		if (!rnr)
			vk_recv1(&w->e[1], 1, w->mb, w->b, LEN);
		vk_post(&w->e[0], &(struct vk_wr){ .op = IBV_WR_SEND, .id = 1, .sge = &s, .n = 1 });
		vk_quiet(w->e[1].scq); /* the engine runs: in RNR it learns of it */
		VK_EQ(ibv_modify_qp(w->e[0].qp, &a, IBV_QP_STATE | IBV_QP_EN_SQD_ASYNC_NOTIFY), 0);
		vk_post(&w->e[0], &(struct vk_wr){ .op = IBV_WR_SEND, .id = 2 });
		if (rnr) {
			vk_quiet(w->e[1].scq);
			VK_EQ(vk_event_now(&w->d), -1);
			vk_recv1(&w->e[1], 1, w->mb, w->b, LEN);
		}
		VK_EQ(vk_wait_ok(w->e[0].scq).wr_id, 1);
		VK_EQ(vk_wait_ok(w->e[1].rcq).byte_len, LEN / 2);
		VK(vk_is(w->b, LEN / 2, 3));
		VK_EQ(vk_event(&w->d).event_type, IBV_EVENT_SQ_DRAINED);
		vk_recv(&w->e[1], 2, NULL, 0);
		vk_quiet(w->e[1].rcq);
		/* the responder half works in SQD */
		vk_recv(&w->e[0], 3, NULL, 0);
		vk_post(&w->e[1], &(struct vk_wr){ .op = IBV_WR_SEND, .id = 3 });
		vk_wait_ok(w->e[1].scq);
		vk_wait_ok(w->e[0].rcq);
		vk_to_state(&w->e[0], IBV_QPS_RTS);
		VK_EQ(vk_wait_ok(w->e[0].scq).wr_id, 2);
		vk_wait_ok(w->e[1].rcq);
		VK_EQ(vk_event_now(&w->d), -1);
	}
}
static void sqd(void **state) { (void)state; both(sqd_on, NULL); }

/* Both directions and many sizes at once through full rings: nothing waits for ever, everything arrives in order. */
static void crossing_on(struct world *w)
{
	enum { N = 60 };
	for (int round = 0; round < 4; round++) {
		for (int i = 0; i < N; i++)
			for (int k = 0; k < 2; k++)
				vk_recv1(&w->e[k], (uint64_t)i, k ? w->mb : w->ma, (k ? w->b : w->a) + LEN / 2, LEN / 2);
		for (int i = 0; i < N; i++)
			for (int k = 0; k < 2; k++) {
				struct ibv_sge s = vk_sge(k ? w->mb : w->ma, k ? w->b : w->a, (size_t)i * 2500);
				vk_post(&w->e[k], &(struct vk_wr){ .op = IBV_WR_SEND, .id = (uint64_t)i, .sge = &s, .n = 1 });
			}
		for (int i = 0; i < N; i++)
			for (int k = 0; k < 2; k++) {
				struct ibv_wc wc = vk_wait_ok(w->e[k].rcq);
				VK_EQ(wc.wr_id, i);
				VK_EQ(wc.byte_len, i * 2500);
				VK_EQ(vk_wait_ok(w->e[k].scq).wr_id, i);
			}
	}
}
static void crossing(void **state) { (void)state; both(crossing_on, NULL); }
static void uc_crossing(void **state) { (void)state; both(crossing_on, &(struct vk_conf){ .type = IBV_QPT_UC }); }

int main(int argc, char **argv)
{
	vk_start(argc, argv, NULL, 0);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(write_then_send), cmocka_unit_test(uc_write_then_send), cmocka_unit_test(last_write_wins),
		cmocka_unit_test(uc_last_write_wins), cmocka_unit_test(edge), cmocka_unit_test(uc_edge), cmocka_unit_test(reads_beyond_limit), cmocka_unit_test(fence),
		cmocka_unit_test(selective), cmocka_unit_test(queue_depth), cmocka_unit_test(sqd), cmocka_unit_test(crossing),
		cmocka_unit_test(uc_crossing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
