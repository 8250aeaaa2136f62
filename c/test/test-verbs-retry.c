/*
 * Who is not ready is asked again, as often as allowed: RNR, peers that are not there or leave in the middle, refusals that must
 * find their way through full rings, and queue pairs that work again after RESET.
 */
#include "verbs-world.h"

static void rnr(void **state)
{
	(void)state;
	struct world w;
	for (unsigned retries = 0; retries <= 7; retries++)
		for (int op = 0; op < 2; op++) {
			world_make(&w, &(struct vk_conf){ .tuned = true, .retry = 7, .rnr_retry = (uint8_t)retries, .rnr_timer = 1 + (uint8_t)retries % 3 });
			struct ibv_sge s = vk_sge(w.ma, w.a, 3000);
			struct vk_wr wr = { .op = op ? IBV_WR_RDMA_WRITE_WITH_IMM : IBV_WR_SEND, .id = 1, .sge = &s, .n = 1, .remote = (uintptr_t)w.b, .rkey = w.mb->rkey };
			vk_post(&w.e[0], &wr);
			vk_post(&w.e[0], &(struct vk_wr){ .op = IBV_WR_SEND, .id = 2 });
			if (retries == 7) { /* for ever */
				for (int i = 0; i < 20; i++)
					vk_quiet(w.e[0].scq);
				vk_recv1(&w.e[1], 1, w.mb, w.b, LEN);
				vk_recv(&w.e[1], 2, NULL, 0);
				for (uint64_t id = 1; id <= 2; id++) {
					VK_EQ(vk_wait_ok(w.e[0].scq).wr_id, id);
					VK_EQ(vk_wait_ok(w.e[1].rcq).wr_id, id);
				}
				VK(untouched(w.b, 3000, 0x11));
			} else {
				VK_EQ(vk_wait_status(w.e[0].scq, IBV_WC_RNR_RETRY_EXC_ERR).wr_id, 1);
				VK_EQ(vk_wait_status(w.e[0].scq, IBV_WC_WR_FLUSH_ERR).wr_id, 2);
				VK_EQ(vk_state(&w.e[0]), IBV_QPS_ERR);
				VK_EQ(vk_state(&w.e[1]), IBV_QPS_RTS); /* not the responder's fault */
			}
			world_free(&w);
		}
}

/* Many messages that meet an empty queue again and again while receives trickle in: all arrive once, in order. */
/* (Long messages reach into places that are written for later ones while the device still sends them: only the first four bytes of
 * each are looked at. A race by design, which ThreadSanitizer is not to judge.) */
__attribute__((no_sanitize("thread"))) static void rnr_trickle(void **state)
{
	(void)state;
	struct world w;
	world_make(&w, NULL);
	uint32_t sent = 0, got = 0;
	while (got < 300) {
		while (sent < 300 && sent - got < 20) {
			struct ibv_sge s = vk_sge(w.ma, w.a + 4 * sent, sent % 3 ? 4 : 20000);
			memcpy(w.a + 4 * sent, &sent, 4);
			vk_post(&w.e[0], &(struct vk_wr){ .op = sent % 2 ? IBV_WR_SEND : IBV_WR_RDMA_WRITE_WITH_IMM, .id = sent, .sge = &s, .n = 1,
							  .imm = sent, .remote = (uintptr_t)w.b + 30000 + 4 * sent, .rkey = w.mb->rkey });
			sent++;
		}
		for (int i = 0; i < (int)(got % 4); i++) { /* rounds in which it is not ready */
			struct ibv_wc none;
			VK_EQ(ibv_poll_cq(w.e[1].rcq, 1, &none), 0);
		}
		vk_recv1(&w.e[1], got, w.mb, w.b, LEN);
		struct ibv_wc wc = vk_wait_ok(w.e[1].rcq);
		VK_EQ(wc.wr_id, got);
		uint32_t v;
		memcpy(&v, got % 2 ? w.b : w.b + 30000 + 4 * got, 4);
		VK_EQ(v, got);
		if (got % 2 == 0)
			VK_EQ(wc.imm_data, got);
		VK_EQ(wc.opcode, got % 2 ? IBV_WC_RECV : IBV_WC_RECV_RDMA_WITH_IMM);
		VK_EQ(vk_wait_ok(w.e[0].scq).wr_id, got);
		got++;
	}
	world_free(&w);
}

/* A peer that does not listen: not connected yet (then it is, and all is well), reset, in error, destroyed. */
static void peer_not_there(void **state)
{
	(void)state;
	struct world w;
	const struct vk_conf quick = { .tuned = true, .retry = 2, .rnr_retry = 1, .timeout = 8 };
	for (int what = 0; what < 6; what++) {
		size_t len = what & 1 ? 30000 : 10;
		print_message("case %d\n", what);
		world_make(&w, &quick);
		if (what / 2 == 0)
			vk_to_state(&w.e[1], IBV_QPS_RESET);
		else if (what / 2 == 1)
			vk_to_state(&w.e[1], IBV_QPS_ERR);
		else
			vk_end_free(&w.e[1]);
		vk_send(&w.e[0], 1, w.ma, w.a, len);
		VK_EQ(vk_wait_status(w.e[0].scq, IBV_WC_RETRY_EXC_ERR).wr_id, 1);
		VK_EQ(vk_state(&w.e[0]), IBV_QPS_ERR);
		if (what / 2 == 2)
			vk_end_make(&w.e[1], &w.d, &quick);
		world_free(&w);

		/* one-sided ones as well */
		world_make(&w, &quick);
		vk_to_state(&w.e[1], what & 1 ? IBV_QPS_RESET : IBV_QPS_ERR);
		struct ibv_sge s = vk_sge(w.ma, w.a, 8);
		vk_post(&w.e[0], &(struct vk_wr){ .op = what / 2 == 0 ? IBV_WR_RDMA_WRITE : what / 2 == 1 ? IBV_WR_RDMA_READ : IBV_WR_ATOMIC_FETCH_AND_ADD, .id = 1,
						  .sge = &s, .n = 1, .remote = (uintptr_t)w.b, .rkey = w.mb->rkey });
		VK_EQ(vk_wait_status(w.e[0].scq, IBV_WC_RETRY_EXC_ERR).wr_id, 1);
		VK(untouched(w.b, LEN, 0x22));
		world_free(&w);
	}
	/* late: retries cover the time until it is ready */
	struct vk_end e[2];
	vk_open(&w.d);
	for (int i = 0; i < 2; i++)
		vk_end_make(&e[i], &w.d, &(struct vk_conf){ .tuned = true, .retry = 7, .rnr_retry = 7, .rnr_timer = 1, .timeout = 16 });
	vk_connect(&e[0], e[1].qp->qp_num, &w.d.gid);
	vk_post(&e[0], &(struct vk_wr){ .op = IBV_WR_SEND, .id = 1 });
	vk_quiet(e[0].scq);
	vk_connect(&e[1], e[0].qp->qp_num, &w.d.gid);
	vk_recv(&e[1], 2, NULL, 0);
	vk_wait_ok(e[0].scq);
	vk_wait_ok(e[1].rcq);
	vk_pair_free(e);
	vk_close(&w.d);
}

/* The peer leaves in the middle: with messages on their way, executed or not, nobody hangs. */
static void peer_leaves(void **state)
{
	(void)state;
	struct world w;
	for (int how = 0; how < 12; how++) {
		world_make(&w, &(struct vk_conf){ .tuned = true, .retry = 1, .rnr_retry = 7, .rnr_timer = 1, .timeout = 8, .depth = 64 });
		for (int i = 0; i < how; i++)
			vk_recv1(&w.e[1], (uint64_t)i, w.mb, w.b, LEN);
		for (int i = 0; i < 40; i++) {
			struct ibv_sge s = vk_sge(w.ma, w.a, how % 2 ? LEN : 100);
			enum ibv_wr_opcode op = how % 3 == 0 ? IBV_WR_SEND : how % 3 == 1 ? IBV_WR_RDMA_WRITE : IBV_WR_RDMA_READ;
			vk_post(&w.e[0], &(struct vk_wr){ .op = i < how ? IBV_WR_SEND : op, .id = (uint64_t)i, .sge = &s, .n = 1, .remote = (uintptr_t)w.b + (how & 1 ? 0 : 1), .rkey = w.mb->rkey });
			if (i == 20) {
				if (how % 4 == 0)
					vk_to_state(&w.e[1], IBV_QPS_RESET);
				else if (how % 4 == 1)
					vk_to_state(&w.e[1], IBV_QPS_ERR);
				else
					vk_end_free(&w.e[1]);
			}
		}
		bool failed = false;
		for (int i = 0; i < 40; i++) {
			struct ibv_wc wc = vk_wait(w.e[0].scq);
			VK_EQ(wc.wr_id, i);
			if (failed)
				VK_EQ(wc.status, IBV_WC_WR_FLUSH_ERR);
			else if (wc.status != IBV_WC_SUCCESS) {
				VK_EQ(wc.status, IBV_WC_RETRY_EXC_ERR);
				failed = true;
			}
		}
		VK(failed);
		if (how % 4 >= 2)
			vk_end_make(&w.e[1], &w.d, NULL);
		world_free(&w);
	}
}

/* One end is connected anew, the other is not: their counting differs, and that is an error, not silence. */
static void one_sided_reconnect(void **state)
{
	(void)state;
	struct world w;
	for (int who = 0; who < 2; who++) {
		world_make(&w, &(struct vk_conf){ .tuned = true, .retry = 1, .rnr_retry = 1, .timeout = 8 });
		for (int i = 0; i < 3; i++) {
			vk_recv(&w.e[1], 0, NULL, 0);
			vk_post(&w.e[0], &(struct vk_wr){ .op = IBV_WR_SEND });
			vk_wait_ok(w.e[0].scq);
			vk_wait_ok(w.e[1].rcq);
		}
		uint32_t qpn = w.e[1 - who].qp->qp_num;
		vk_to_state(&w.e[who], IBV_QPS_RESET);
		w.e[who].conf.psn = 5000;
		vk_connect(&w.e[who], qpn, &w.d.gid);
		vk_recv(&w.e[1], 0, NULL, 0);
		vk_post(&w.e[0], &(struct vk_wr){ .op = IBV_WR_SEND });
		vk_wait_status(w.e[0].scq, IBV_WC_RETRY_EXC_ERR);
		world_free(&w);
	}
}

/* After an error both ends are reset and work again, many times; nothing of the past is left in queues. */
static void reset_and_reuse(void **state)
{
	(void)state;
	struct world w;
	world_make(&w, NULL);
	for (int round = 0; round < 30; round++) {
		for (int i = 0; i < 10; i++)
			vk_recv(&w.e[1], 100, NULL, 0);
		for (int i = 0; i < 5; i++)
			vk_post(&w.e[0], &(struct vk_wr){ .op = IBV_WR_SEND, .id = 100 });
		struct ibv_sge s = vk_sge(w.ma, w.a, 8);
		if (round % 3 == 0)
			vk_post(&w.e[0], &(struct vk_wr){ .op = IBV_WR_RDMA_WRITE, .sge = &s, .n = 1, .remote = 1, .rkey = 1 });
		else if (round % 3 == 1)
			vk_to_state(&w.e[round & 1], IBV_QPS_ERR);
		for (int i = 0; i < 2; i++)
			vk_to_state(&w.e[i], IBV_QPS_RESET);
		for (int i = 0; i < 2; i++) {
			vk_quiet(w.e[i].scq);
			vk_quiet(w.e[i].rcq);
			vk_connect(&w.e[i], w.e[1 - i].qp->qp_num, &w.d.gid);
		}
		vk_recv(&w.e[1], 7, NULL, 0);
		vk_post(&w.e[0], &(struct vk_wr){ .op = IBV_WR_SEND, .id = 8 });
		VK_EQ(vk_wait_ok(w.e[0].scq).wr_id, 8);
		VK_EQ(vk_wait_ok(w.e[1].rcq).wr_id, 7);
		while (vk_event_now(&w.d) >= 0)
			;
	}
	world_free(&w);
}

/* A refusal that finds the ring to the requester full is not lost: other queue pairs fill it, nobody receives for a while. */
static void refusal_through_full_ring(void **state)
{
	(void)state;
	struct world w;
	struct vk_end flood[2], bad[2];
	world_make(&w, NULL);
	vk_pair_make(flood, &w.d, &(struct vk_conf){ .type = IBV_QPT_UC, .depth = 256 });
	vk_pair_make(bad, &w.d, NULL);
	struct ibv_sge s = vk_sge(w.ma, w.a, 8);
	for (int round = 0; round < 5; round++) {
		for (int i = 0; i < 3; i++)
			vk_post(&w.e[0], &(struct vk_wr){ .op = IBV_WR_SEND, .id = (uint64_t)i }); /* no receive yet: RNR */
		if (round == 4)
			vk_post(&bad[0], &(struct vk_wr){ .op = IBV_WR_RDMA_READ, .id = 9, .sge = &s, .n = 1, .remote = (uintptr_t)w.b, .rkey = 0x12345600 });
		for (int i = 0; i < 256; i++) {
			struct ibv_sge big = vk_sge(w.ma, w.a, 8000);
			vk_post(&flood[0], &(struct vk_wr){ .op = IBV_WR_SEND, .sge = &big, .n = 1 });
		}
		for (int i = 0; i < 256; i++)
			vk_wait_ok(flood[0].scq);
		for (int i = 0; i < 3; i++)
			vk_recv(&w.e[1], (uint64_t)i, NULL, 0);
		for (uint64_t i = 0; i < 3; i++) {
			VK_EQ(vk_wait_ok(w.e[0].scq).wr_id, i);
			VK_EQ(vk_wait_ok(w.e[1].rcq).wr_id, i);
		}
	}
	VK_EQ(vk_wait_status(bad[0].scq, IBV_WC_REM_ACCESS_ERR).wr_id, 9);
	vk_pair_free(bad);
	vk_pair_free(flood);
	world_free(&w);
}

/* READs that are still being answered come first, then the refusal of what follows them. */
static void refusal_behind_reads(void **state)
{
	(void)state;
	struct world w;
	const size_t len = 1u << 20;
	world_make(&w, NULL);
	/* part of what is registered elsewhere: served by messages, more than the ring holds */
	uint8_t *big = vk_pages(len + VK_PAGE), *to = vk_pages(len);
	struct ibv_mr *part = vk_reg(&w.d, big, VK_PAGE, VK_RW), *mr = vk_reg(&w.d, big, len + VK_PAGE, VK_RW), *mto = vk_reg(&w.d, to, len, VK_RW);
	vk_fill(big, len, 4);
	struct ibv_sge s = vk_sge(mto, to, len), s8 = vk_sge(mto, to, 8);
	vk_recv(&w.e[1], 5, NULL, 0);
	vk_post(&w.e[0], &(struct vk_wr){ .op = IBV_WR_RDMA_READ, .id = 1, .sge = &s, .n = 1, .remote = (uintptr_t)big, .rkey = mr->rkey });
	vk_post(&w.e[0], &(struct vk_wr){ .op = IBV_WR_RDMA_WRITE, .id = 2, .sge = &s8, .n = 1, .remote = (uintptr_t)big, .rkey = mr->rkey ^ 0x4400 });
	VK_EQ(vk_wait_ok(w.e[0].scq).wr_id, 1);
	VK(vk_is(to, len, 4));
	VK_EQ(vk_wait_status(w.e[0].scq, IBV_WC_REM_ACCESS_ERR).wr_id, 2);
	VK(!ibv_dereg_mr(part) && !ibv_dereg_mr(mr) && !ibv_dereg_mr(mto));
	vk_unpages(big, len + VK_PAGE);
	vk_unpages(to, len);
	world_free(&w);
}

int main(int argc, char **argv)
{
	vk_start(argc, argv, NULL, 0);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rnr), cmocka_unit_test(rnr_trickle), cmocka_unit_test(peer_not_there), cmocka_unit_test(peer_leaves),
		cmocka_unit_test(one_sided_reconnect), cmocka_unit_test(reset_and_reuse), cmocka_unit_test(refusal_through_full_ring),
		cmocka_unit_test(refusal_behind_reads),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
