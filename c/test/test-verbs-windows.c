/* Memory windows of both types, invalidation local and by SEND, and changing a region by ibv_rereg_mr. */
#include "verbs-world.h"

#include <stdlib.h>

static struct ibv_mr *bindable(struct world *w)
{
	return vk_reg(&w->d, w->b, LEN, VK_RW | IBV_ACCESS_MW_BIND);
}

static enum ibv_wc_status rdma(struct world *w, enum ibv_wr_opcode op, uint64_t addr, size_t len, uint32_t rkey)
{
	struct ibv_sge s = vk_sge(w->ma, w->a, len);
	vk_post(&w->e[0], &(struct vk_wr){ .op = op, .id = 5, .sge = &s, .n = 1, .remote = addr, .rkey = rkey });
	return vk_wait(w->e[0].scq).status;
}

/* A refused access breaks both queue pairs: makes them new. */
static void refused(struct world *w, enum ibv_wr_opcode op, uint64_t addr, size_t len, uint32_t rkey)
{
	VK_EQ(rdma(w, op, addr, len, rkey), IBV_WC_REM_ACCESS_ERR);
	VK_EQ(vk_event(&w->d).event_type, IBV_EVENT_QP_ACCESS_ERR);
	for (int i = 0; i < 2; i++)
		vk_to_state(&w->e[i], IBV_QPS_RESET);
	for (int i = 0; i < 2; i++)
		vk_connect(&w->e[i], w->e[1 - i].qp->qp_num, &w->d.gid);
}

static enum ibv_wc_status bind2(struct vk_end *e, struct ibv_mw *mw, uint32_t rkey, struct ibv_mr *mr, void *addr, size_t len, unsigned access)
{
	struct ibv_send_wr *bad, wr = {
		.wr_id = 9,
		.opcode = IBV_WR_BIND_MW,
		.send_flags = IBV_SEND_SIGNALED,
		.bind_mw = { .mw = mw, .rkey = rkey, .bind_info = { mr, (uintptr_t)addr, len, access } },
	};
	VK_EQ(ibv_post_send(e->qp, &wr, &bad), 0);
	struct ibv_wc wc = vk_wait(e->scq);
	VK_EQ(wc.wr_id, 9);
	if (wc.status == IBV_WC_SUCCESS)
		VK_EQ(wc.opcode, IBV_WC_BIND_MW);
	return wc.status;
}

static void type1(void **state)
{
	(void)state;
	struct world w;
	world_make(&w, NULL);
	struct ibv_mr *mr = bindable(&w);
	struct ibv_mw *mw = ibv_alloc_mw(w.d.pd, IBV_MW_TYPE_1);
	VK(mw);
	uint64_t at = (uintptr_t)w.b + VK_PAGE + 8;
	refused(&w, IBV_WR_RDMA_WRITE, at, 8, mw->rkey); /* not bound yet */
	struct ibv_mw_bind bind = { .wr_id = 3, .send_flags = IBV_SEND_SIGNALED, .bind_info = { mr, at, 3 * VK_PAGE, IBV_ACCESS_REMOTE_WRITE } };
	uint32_t before = mw->rkey;
	VK_EQ(ibv_bind_mw(w.e[1].qp, mw, &bind), 0);
	VK_EQ(vk_wait_ok(w.e[1].scq).wr_id, 3);
	VK(mw->rkey != before);
	VK_EQ(rdma(&w, IBV_WR_RDMA_WRITE, at, 3 * VK_PAGE, mw->rkey), IBV_WC_SUCCESS);
	VK(untouched(w.b + VK_PAGE + 8, 3 * VK_PAGE, 0x11));
	VK(untouched(w.b, VK_PAGE + 8, 0x22));
	VK_EQ(ibv_dereg_mr(mr), EBUSY);
	refused(&w, IBV_WR_RDMA_WRITE, at - 1, 8, mw->rkey);
	refused(&w, IBV_WR_RDMA_WRITE, at, 3 * VK_PAGE + 1, mw->rkey);
	refused(&w, IBV_WR_RDMA_READ, at, 8, mw->rkey);
	/* bound elsewhere: the old key is dead */
	uint32_t old = mw->rkey;
	bind.bind_info.mw_access_flags = IBV_ACCESS_REMOTE_READ;
	VK_EQ(ibv_bind_mw(w.e[1].qp, mw, &bind), 0);
	vk_wait_ok(w.e[1].scq);
	refused(&w, IBV_WR_RDMA_WRITE, at, 8, old);
	VK_EQ(rdma(&w, IBV_WR_RDMA_READ, at, 8, mw->rkey), IBV_WC_SUCCESS);
	/* unbound by length 0 */
	old = mw->rkey;
	bind.bind_info.length = 0;
	VK_EQ(ibv_bind_mw(w.e[1].qp, mw, &bind), 0);
	vk_wait_ok(w.e[1].scq);
	refused(&w, IBV_WR_RDMA_READ, at, 8, old);
	refused(&w, IBV_WR_RDMA_READ, at, 8, mw->rkey);
	VK_EQ(ibv_dereg_mr(mr), 0);
	VK_EQ(ibv_dealloc_mw(mw), 0);
	world_free(&w);
}

static void type2(void **state)
{
	(void)state;
	struct world w;
	world_make(&w, NULL);
	struct ibv_mr *mr = bindable(&w);
	struct ibv_mw *mw = ibv_alloc_mw(w.d.pd, IBV_MW_TYPE_2);
	VK(mw);
	uint8_t *at = w.b + VK_PAGE;
	for (int round = 0; round < 4; round++) {
		uint32_t key = ibv_inc_rkey(mw->rkey);
		VK_EQ(bind2(&w.e[1], mw, key, mr, at, 2 * VK_PAGE, IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ), IBV_WC_SUCCESS);
		mw->rkey = key;
		VK_EQ(rdma(&w, IBV_WR_RDMA_WRITE, (uintptr_t)at, 100, key), IBV_WC_SUCCESS);
		VK_EQ(rdma(&w, IBV_WR_RDMA_READ, (uintptr_t)at, 100, key), IBV_WC_SUCCESS);
		if (round % 2) { /* invalidated by the owner */
			vk_post(&w.e[1], &(struct vk_wr){ .op = IBV_WR_LOCAL_INV, .id = 4, .imm = key });
			VK_EQ(vk_wait_ok(w.e[1].scq).opcode, IBV_WC_LOCAL_INV);
		} else { /* or by the user of it */
			vk_recv(&w.e[1], 8, NULL, 0);
			vk_post(&w.e[0], &(struct vk_wr){ .op = IBV_WR_SEND_WITH_INV, .imm = key });
			vk_wait_ok(w.e[0].scq);
			struct ibv_wc wc = vk_wait_ok(w.e[1].rcq);
			VK(wc.wc_flags & IBV_WC_WITH_INV);
			VK_EQ(wc.invalidated_rkey, key);
		}
		memset(at, 0x22, 200);
		refused(&w, IBV_WR_RDMA_WRITE, (uintptr_t)at, 100, key);
		VK(untouched(at, 200, 0x22));
	}
	/* only through the queue pair it was bound on */
	struct vk_end other[2];
	vk_pair_make(other, &w.d, NULL);
	uint32_t key = ibv_inc_rkey(mw->rkey);
	VK_EQ(bind2(&other[1], mw, key, mr, at, VK_PAGE, IBV_ACCESS_REMOTE_WRITE), IBV_WC_SUCCESS);
	mw->rkey = key;
	refused(&w, IBV_WR_RDMA_WRITE, (uintptr_t)at, 8, key);
	vk_pair_free(other);
	VK_EQ(ibv_dealloc_mw(mw), 0);
	VK_EQ(ibv_dereg_mr(mr), 0);
	world_free(&w);
}

static void bad_binds(void **state)
{
	(void)state;
	for (int what = 0; what < 7; what++) {
		struct world w;
		world_make(&w, NULL);
		struct ibv_mr *mr = bindable(&w), *plain = vk_reg(&w.d, w.b, LEN, VK_RW), *reader = vk_reg(&w.d, w.b, LEN, IBV_ACCESS_MW_BIND);
		struct ibv_mw *mw = ibv_alloc_mw(w.d.pd, IBV_MW_TYPE_2);
		uint32_t key = ibv_inc_rkey(mw->rkey);
		enum ibv_wc_status s = IBV_WC_SUCCESS;
		switch (what) {
		case 0: s = bind2(&w.e[1], mw, key, plain, w.b, 8, IBV_ACCESS_REMOTE_READ); break;	      /* region without the right */
		case 1: s = bind2(&w.e[1], mw, key, mr, w.b + LEN - 7, 8, IBV_ACCESS_REMOTE_READ); break; /* beyond the region */
		case 2: s = bind2(&w.e[1], mw, key, reader, w.b, 8, IBV_ACCESS_REMOTE_WRITE); break;      /* more than the region */
		case 3: s = bind2(&w.e[1], mw, key ^ 0x100, mr, w.b, 8, IBV_ACCESS_REMOTE_READ); break;   /* another's key */
		case 4: s = bind2(&w.e[1], mw, key, mr, w.b, 0, IBV_ACCESS_REMOTE_READ); break;
		case 5: /* bound already */
			VK_EQ(bind2(&w.e[1], mw, key, mr, w.b, 8, IBV_ACCESS_REMOTE_READ), IBV_WC_SUCCESS);
			s = bind2(&w.e[1], mw, ibv_inc_rkey(key), mr, w.b, 8, IBV_ACCESS_REMOTE_READ);
			break;
		case 6: /* a region's key cannot be invalidated by a peer */
			vk_recv(&w.e[1], 8, NULL, 0);
			vk_post(&w.e[0], &(struct vk_wr){ .op = IBV_WR_SEND_WITH_INV, .imm = mr->rkey });
			VK_EQ(vk_wait(w.e[0].scq).status, IBV_WC_REM_ACCESS_ERR);
			VK(vk_wait(w.e[1].rcq).status != IBV_WC_SUCCESS);
			s = IBV_WC_MW_BIND_ERR;
			break;
		}
		VK_EQ(s, IBV_WC_MW_BIND_ERR);
		VK_EQ(vk_state(&w.e[1]), IBV_QPS_ERR);
		VK(!ibv_dealloc_mw(mw) && !ibv_dereg_mr(mr) && !ibv_dereg_mr(plain) && !ibv_dereg_mr(reader));
		world_free(&w);
	}
	/* invalidating what is not there */
	struct world w;
	world_make(&w, NULL);
	vk_post(&w.e[0], &(struct vk_wr){ .op = IBV_WR_LOCAL_INV, .imm = 0x12345678 });
	VK(vk_wait(w.e[0].scq).status != IBV_WC_SUCCESS);
	VK_EQ(vk_state(&w.e[0]), IBV_QPS_ERR);
	world_free(&w);
}

static void rereg(void **state)
{
	(void)state;
	struct world w;
	world_make(&w, NULL);
	uint8_t *p = vk_pages(LEN);
	struct ibv_pd *pd = ibv_alloc_pd(w.d.ctx);
	struct ibv_mr *mr = vk_reg(&w.d, w.b, LEN, VK_RW);
	VK_EQ(rdma(&w, IBV_WR_RDMA_WRITE, (uintptr_t)w.b, 100, mr->rkey), IBV_WC_SUCCESS);
	/* other memory */
	VK_EQ(ibv_rereg_mr(mr, IBV_REREG_MR_CHANGE_TRANSLATION, NULL, p, LEN / 2, 0), 0);
	VK(mr->addr == p && mr->length == LEN / 2);
	VK_EQ(rdma(&w, IBV_WR_RDMA_WRITE, (uintptr_t)p, LEN / 2, mr->rkey), IBV_WC_SUCCESS);
	VK(untouched(p, LEN / 2, 0x11) && untouched(p + LEN / 2, LEN / 2, 0));
	refused(&w, IBV_WR_RDMA_WRITE, (uintptr_t)w.b, 8, mr->rkey);
	/* other rights */
	VK_EQ(ibv_rereg_mr(mr, IBV_REREG_MR_CHANGE_ACCESS, NULL, NULL, 0, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ), 0);
	VK_EQ(rdma(&w, IBV_WR_RDMA_READ, (uintptr_t)p, 100, mr->rkey), IBV_WC_SUCCESS);
	refused(&w, IBV_WR_RDMA_WRITE, (uintptr_t)p, 8, mr->rkey);
	/* other domain */
	VK_EQ(ibv_rereg_mr(mr, IBV_REREG_MR_CHANGE_PD, pd, NULL, 0, 0), 0);
	VK(mr->pd == pd);
	VK_EQ(ibv_dealloc_pd(pd), EBUSY);
	refused(&w, IBV_WR_RDMA_READ, (uintptr_t)p, 8, mr->rkey);
	/* what cannot be */
	VK(ibv_rereg_mr(mr, 0, NULL, NULL, 0, 0));
	VK(ibv_rereg_mr(mr, IBV_REREG_MR_CHANGE_TRANSLATION, NULL, NULL, 0, 0));
	VK(ibv_rereg_mr(mr, IBV_REREG_MR_CHANGE_ACCESS, NULL, NULL, 0, IBV_ACCESS_REMOTE_WRITE));
	VK_EQ(ibv_dereg_mr(mr), 0);
	VK_EQ(ibv_dealloc_pd(pd), 0);
	vk_unpages(p, LEN);
	world_free(&w);
}

/* Names of its own for a peer: iova, and counting from zero. */
static void iova(void **state)
{
	(void)state;
	struct world w;
	world_make(&w, NULL);
	struct ibv_mr *mr = ibv_reg_mr_iova(w.d.pd, w.b + 3, LEN - 3, 0x1000003, VK_RW);
	VK(mr);
	VK_EQ(rdma(&w, IBV_WR_RDMA_WRITE, 0x1000003 + 8000, 5000, mr->rkey), IBV_WC_SUCCESS);
	VK(untouched(w.b, 8003, 0x22) && untouched(w.b + 8003, 5000, 0x11) && untouched(w.b + 13003, LEN - 13003, 0x22));
	refused(&w, IBV_WR_RDMA_WRITE, (uintptr_t)w.b + 3, 8, mr->rkey);
	/* local use names the same addresses */
	struct ibv_sge s = { 0x1000003, 5, mr->lkey };
	vk_recv(&w.e[1], 1, &s, 1);
	vk_send(&w.e[0], 1, w.ma, w.a, 5);
	vk_wait_ok(w.e[0].scq);
	vk_wait_ok(w.e[1].rcq);
	VK(untouched(w.b + 3, 5, 0x11));
	struct ibv_mr *zero = vk_reg(&w.d, w.b, LEN, VK_RW | IBV_ACCESS_ZERO_BASED);
	memset(w.b, 0x22, LEN);
	VK_EQ(rdma(&w, IBV_WR_RDMA_WRITE, 5, 5000, zero->rkey), IBV_WC_SUCCESS);
	VK(untouched(w.b, 5, 0x22) && untouched(w.b + 5, 5000, 0x11));
	VK(!ibv_dereg_mr(mr) && !ibv_dereg_mr(zero));
	world_free(&w);
}

/* Deregistering while a peer writes: each WRITE is whole or refused, nothing is written afterwards. */
static void dereg_under_fire(void **state)
{
	(void)state;
	for (int round = 0; round < 30; round++) {
		struct world w;
		world_make(&w, NULL);
		struct ibv_mr *mr = vk_reg(&w.d, w.b, LEN, VK_RW);
		struct ibv_sge s = vk_sge(w.ma, w.a, round % 2 ? LEN : 8);
		for (int i = 0; i < 20; i++) {
			vk_try_post(&w.e[0], &(struct vk_wr){ .op = round % 3 ? IBV_WR_RDMA_WRITE : IBV_WR_RDMA_WRITE_WITH_IMM, .sge = &s, .n = 1, .remote = (uintptr_t)w.b, .rkey = mr->rkey });
			if (i == 5 + round % 10)
				break;
		}
		VK_EQ(ibv_dereg_mr(mr), 0);
		memset(w.b, 0x33, LEN);
		vk_quiet(w.e[1].rcq);
		VK(untouched(w.b, LEN, 0x33));
		world_free(&w);
	}
}

int main(int argc, char **argv)
{
	vk_start(argc, argv, NULL, 0);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(type1), cmocka_unit_test(type2), cmocka_unit_test(bad_binds), cmocka_unit_test(rereg),
		cmocka_unit_test(iova), cmocka_unit_test(dereg_under_fire),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
