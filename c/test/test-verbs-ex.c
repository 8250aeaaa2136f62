/* The extended interfaces: ibv_wr_* posting with abort and errors, ibv_start_poll and its readers. */
#include "verbs-world.h"

#include <endian.h>

/* A pair whose ends complete to one extended queue. */
static struct ibv_cq_ex *ex_cq(struct vk_dev *d)
{
	struct ibv_cq_init_attr_ex a = { .cqe = 200, .wc_flags = IBV_WC_STANDARD_FLAGS | IBV_WC_EX_WITH_COMPLETION_TIMESTAMP };
	struct ibv_cq_ex *cq = ibv_create_cq_ex(d->ctx, &a);
	VK(cq);
	return cq;
}

/* Starts polling when there is something. */
static void start(struct ibv_cq_ex *cq)
{
	struct ibv_poll_cq_attr a = { 0 };
	int err;
	do
		err = ibv_start_poll(cq, &a);
	while (err == ENOENT);
	VK_EQ(err, 0);
}

static void wr_operations(void **state)
{
	(void)state;
	struct world w;
	world_make(&w, &(struct vk_conf){ .inline_bytes = 200 });
	struct ibv_qp_ex *q = w.e[0].ex;
	uint64_t word = (uintptr_t)w.b + 4096;
	vk_recv1(&w.e[1], 1, w.mb, w.b, 100);
	vk_recv1(&w.e[1], 2, w.mb, w.b + 100, 100);
	vk_recv(&w.e[1], 3, NULL, 0);
	memset(w.b + 4096, 0, 8);
	/* seven in one batch */
	ibv_wr_start(q);
	q->wr_flags = IBV_SEND_SIGNALED;
	q->wr_id = 10;
	ibv_wr_send(q);
	ibv_wr_set_sge(q, w.ma->lkey, (uintptr_t)w.a, 50);
	q->wr_id = 11;
	ibv_wr_send_imm(q, htobe32(7));
	ibv_wr_set_inline_data(q, "inline", 6);
	q->wr_id = 12;
	ibv_wr_rdma_write(q, w.mb->rkey, (uintptr_t)w.b + 8192);
	struct ibv_sge two[2] = { vk_sge(w.ma, w.a, 10), vk_sge(w.ma, w.a + 10, 20) };
	ibv_wr_set_sge_list(q, 2, two);
	q->wr_id = 13;
	ibv_wr_rdma_write_imm(q, w.mb->rkey, (uintptr_t)w.b + 9000, htobe32(8));
	struct ibv_data_buf bufs[2] = { { "ab", 2 }, { "cd", 2 } };
	ibv_wr_set_inline_data_list(q, 2, bufs);
	q->wr_id = 14;
	ibv_wr_rdma_read(q, w.mb->rkey, (uintptr_t)w.b + 9000);
	ibv_wr_set_sge(q, w.ma->lkey, (uintptr_t)w.a + 1000, 4);
	q->wr_id = 15;
	ibv_wr_atomic_fetch_add(q, w.mb->rkey, word, 5);
	ibv_wr_set_sge(q, w.ma->lkey, (uintptr_t)w.a + 2000, 8);
	q->wr_id = 16;
	ibv_wr_atomic_cmp_swp(q, w.mb->rkey, word, 5, 9);
	ibv_wr_set_sge(q, w.ma->lkey, (uintptr_t)w.a + 2008, 8);
	vk_quiet(w.e[0].scq); /* nothing happens before complete */
	VK_EQ(ibv_wr_complete(q), 0);
	for (uint64_t i = 10; i <= 16; i++)
		VK_EQ(vk_wait_ok(w.e[0].scq).wr_id, i);
	VK_EQ(vk_wait_ok(w.e[1].rcq).byte_len, 50);
	struct ibv_wc wc = vk_wait_ok(w.e[1].rcq);
	VK(wc.byte_len == 6 && wc.imm_data == htobe32(7));
	VK_EQ(vk_wait_ok(w.e[1].rcq).imm_data, htobe32(8));
	VK(untouched(w.b, 50, 0x11) && !memcmp(w.b + 100, "inline", 6) && untouched(w.b + 8192, 30, 0x11) && !memcmp(w.b + 9000, "abcd", 4));
	VK(!memcmp(w.a + 1000, "abcd", 4));
	VK(*(uint64_t *)(void *)(w.b + 4096) == 9 && *(uint64_t *)(void *)(w.a + 2000) == 0 && *(uint64_t *)(void *)(w.a + 2008) == 5);
	/* given up: nothing is posted */
	ibv_wr_start(q);
	q->wr_id = 20;
	ibv_wr_send(q);
	ibv_wr_set_sge(q, w.ma->lkey, (uintptr_t)w.a, 50);
	ibv_wr_abort(q);
	vk_quiet(w.e[0].scq);
	/* an error anywhere: nothing is posted, complete says so, the next batch is fine */
	for (int what = 0; what < 4; what++) {
		uint8_t big[300] = { 0 };
		struct ibv_sge five[5] = { { 0 } };
		ibv_wr_start(q);
		q->wr_id = 30;
		ibv_wr_send(q);
		ibv_wr_set_sge(q, w.ma->lkey, (uintptr_t)w.a, 1);
		switch (what) {
		case 0:
			ibv_wr_send(q);
			ibv_wr_set_inline_data(q, big, 201);
			break;
		case 1:
			ibv_wr_send(q);
			ibv_wr_set_sge_list(q, 5, five);
			break;
		case 2:
			for (int i = 0; i < 64; i++) { /* more than the queue holds */
				ibv_wr_send(q);
				ibv_wr_set_sge(q, w.ma->lkey, (uintptr_t)w.a, 1);
			}
			break;
		case 3:
			ibv_wr_rdma_read(q, w.mb->rkey, word);
			ibv_wr_set_inline_data(q, big, 8);
			break;
		}
		VK(ibv_wr_complete(q) != 0);
		vk_quiet(w.e[0].scq);
		vk_recv1(&w.e[1], 4, w.mb, w.b, 10);
		ibv_wr_start(q);
		q->wr_id = 31;
		ibv_wr_send(q);
		ibv_wr_set_sge(q, w.ma->lkey, (uintptr_t)w.a, 3);
		VK_EQ(ibv_wr_complete(q), 0);
		VK_EQ(vk_wait_ok(w.e[0].scq).wr_id, 31);
		VK_EQ(vk_wait_ok(w.e[1].rcq).byte_len, 3);
	}
	/* not in a state to post; reset in the middle */
	ibv_wr_start(q);
	ibv_wr_send(q);
	ibv_wr_set_sge(q, w.ma->lkey, (uintptr_t)w.a, 3);
	vk_to_state(&w.e[0], IBV_QPS_RESET);
	VK(ibv_wr_complete(q) != 0);
	world_free(&w);
}

static void wr_unsignaled(void **state)
{
	(void)state;
	struct world w;
	world_make(&w, &(struct vk_conf){ .selective = true });
	struct ibv_qp_ex *q = w.e[0].ex;
	for (int i = 0; i < 200; i++) {
		vk_recv(&w.e[1], 1, NULL, 0);
		ibv_wr_start(q);
		q->wr_id = (uint64_t)i;
		q->wr_flags = i % 10 == 9 ? IBV_SEND_SIGNALED : 0;
		ibv_wr_send(q);
		ibv_wr_set_sge_list(q, 0, NULL);
		VK_EQ(ibv_wr_complete(q), 0);
		vk_wait_ok(w.e[1].rcq);
		if (i % 10 == 9)
			VK_EQ(vk_wait_ok(w.e[0].scq).wr_id, i);
	}
	vk_quiet(w.e[0].scq);
	world_free(&w);
}

static void wr_ud(void **state)
{
	(void)state;
	struct world w;
	world_make(&w, &(struct vk_conf){ .type = IBV_QPT_UD, .inline_bytes = 64 });
	struct ibv_qp_ex *q = w.e[0].ex;
	vk_recv1(&w.e[1], 1, w.mb, w.b, 500);
	vk_recv1(&w.e[1], 2, w.mb, w.b + 500, 500);
	ibv_wr_start(q);
	q->wr_id = 5;
	ibv_wr_send(q);
	ibv_wr_set_ud_addr(q, w.e[0].ah, w.e[1].qp->qp_num, VK_QKEY);
	ibv_wr_set_sge(q, w.ma->lkey, (uintptr_t)w.a, 100);
	q->wr_id = 6;
	ibv_wr_send_imm(q, 9);
	ibv_wr_set_ud_addr(q, w.e[0].ah, w.e[1].qp->qp_num, VK_QKEY);
	ibv_wr_set_inline_data(q, "hello", 5);
	VK_EQ(ibv_wr_complete(q), 0);
	for (uint64_t i = 5; i < 7; i++)
		VK_EQ(vk_wait_ok(w.e[0].scq).wr_id, i);
	VK_EQ(vk_wait_ok(w.e[1].rcq).byte_len, 140);
	struct ibv_wc wc = vk_wait_ok(w.e[1].rcq);
	VK(wc.byte_len == 45 && wc.imm_data == 9);
	VK(untouched(w.b + 40, 100, 0x11) && !memcmp(w.b + 540, "hello", 5));
	world_free(&w);
}

static void readers(void **state)
{
	(void)state;
	struct vk_dev d;
	struct vk_end e[2];
	uint8_t mem[256];
	vk_open(&d);
	struct ibv_cq_ex *cq = ex_cq(&d);
	struct ibv_poll_cq_attr none = { 0 };
	struct ibv_mr *mr = vk_reg(&d, mem, sizeof mem, VK_RW);
	vk_pair_make(e, &d, &(struct vk_conf){ .recv_cq = ibv_cq_ex_to_cq(cq) });
	VK_EQ(ibv_start_poll(cq, &none), ENOENT);
	for (int i = 0; i < 6; i++) {
		vk_recv1(&e[1], 100 + (uint64_t)i, mr, mem, 50);
		struct ibv_sge s = vk_sge(mr, mem + 100, (size_t)i);
		vk_post(&e[0], &(struct vk_wr){ .op = i % 2 ? IBV_WR_SEND_WITH_IMM : IBV_WR_SEND, .sge = &s, .n = 1, .imm = 55 });
	}
	for (int i = 0; i < 6; i++)
		vk_wait_ok(e[0].scq);
	uint64_t last = 0;
	start(cq);
	for (int i = 0; i < 6; i++) {
		VK_EQ(cq->wr_id, 100 + i);
		VK_EQ(cq->status, IBV_WC_SUCCESS);
		VK_EQ(ibv_wc_read_opcode(cq), IBV_WC_RECV);
		VK_EQ(ibv_wc_read_byte_len(cq), i);
		VK_EQ(ibv_wc_read_qp_num(cq), e[1].qp->qp_num);
		VK_EQ(!!(ibv_wc_read_wc_flags(cq) & IBV_WC_WITH_IMM), i % 2);
		if (i % 2)
			VK_EQ(ibv_wc_read_imm_data(cq), 55);
		VK(ibv_wc_read_completion_ts(cq) >= last);
		last = ibv_wc_read_completion_ts(cq);
		VK_EQ(ibv_next_poll(cq), i < 5 ? 0 : ENOENT);
	}
	ibv_end_poll(cq);
	VK_EQ(ibv_start_poll(cq, &none), ENOENT);
	/* errors as well, and the classic way on the same queue */
	vk_recv(&e[1], 7, NULL, 0);
	vk_recv(&e[1], 8, NULL, 0);
	vk_to_state(&e[1], IBV_QPS_ERR);
	start(cq);
	VK(cq->wr_id == 7 && cq->status == IBV_WC_WR_FLUSH_ERR);
	ibv_end_poll(cq);
	VK_EQ(vk_wait_status(ibv_cq_ex_to_cq(cq), IBV_WC_WR_FLUSH_ERR).wr_id, 8);
	none.comp_mask = 1;
	VK_EQ(ibv_start_poll(cq, &none), EINVAL);
	vk_pair_free(e);
	VK_EQ(ibv_destroy_cq(ibv_cq_ex_to_cq(cq)), 0);
	VK_EQ(ibv_dereg_mr(mr), 0);
	struct ibv_cq_init_attr_ex bad = { .cqe = 10, .comp_mask = 1u << 30 };
	VK(!ibv_create_cq_ex(d.ctx, &bad));
	vk_close(&d);
}

int main(int argc, char **argv)
{
	vk_start(argc, argv, NULL, 0);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(wr_operations), cmocka_unit_test(wr_unsignaled), cmocka_unit_test(wr_ud), cmocka_unit_test(readers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
