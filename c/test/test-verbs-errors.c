/*
 * What is refused and how it is said: remote and local errors with their statuses at both ends, nothing written, queues flushed in
 * order.
 */
#include "verbs-world.h"

/* ---- remote access errors ------------------------------------------------------------------------------------------------ */

struct refusal {
	const char *what;
	enum ibv_wr_opcode op;
	unsigned mr_access, qp_access;
	int64_t addr_off;  /* added to the target's address */
	size_t len;
	bool bad_key, other_pd, dead_key;
	enum ibv_wc_status status;
};

#define ALL VK_RW
#define LOCAL IBV_ACCESS_LOCAL_WRITE
#define QALL (IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC)
#define ACC IBV_WC_REM_ACCESS_ERR

static const struct refusal refusals[] = {
	{ "write, unknown key", IBV_WR_RDMA_WRITE, ALL, QALL, 0, 64, .bad_key = true, .status = ACC },
	{ "large write, unknown key", IBV_WR_RDMA_WRITE, ALL, QALL, 0, 30000, .bad_key = true, .status = ACC },
	{ "read, unknown key", IBV_WR_RDMA_READ, ALL, QALL, 0, 64, .bad_key = true, .status = ACC },
	{ "atomic, unknown key", IBV_WR_ATOMIC_FETCH_AND_ADD, ALL, QALL, 0, 8, .bad_key = true, .status = ACC },
	{ "write, deregistered", IBV_WR_RDMA_WRITE, ALL, QALL, 0, 64, .dead_key = true, .status = ACC },
	{ "write, before the region", IBV_WR_RDMA_WRITE, ALL, QALL, -1, 64, .status = ACC },
	{ "write, over the end", IBV_WR_RDMA_WRITE, ALL, QALL, LEN - 63, 64, .status = ACC },
	{ "large write, over the end", IBV_WR_RDMA_WRITE, ALL, QALL, 1, LEN, .status = ACC },
	{ "write, address overflow", IBV_WR_RDMA_WRITE, ALL, QALL, INT64_MAX, 64, .status = ACC },
	{ "read, over the end", IBV_WR_RDMA_READ, ALL, QALL, LEN - 63, 64, .status = ACC },
	{ "large read, over the end", IBV_WR_RDMA_READ, ALL, QALL, 1, LEN, .status = ACC },
	{ "atomic, over the end", IBV_WR_ATOMIC_CMP_AND_SWP, ALL, QALL, LEN, 8, .status = ACC },
	{ "write-imm, over the end", IBV_WR_RDMA_WRITE_WITH_IMM, ALL, QALL, LEN - 63, 64, .status = ACC },
	{ "write, region read-only", IBV_WR_RDMA_WRITE, LOCAL | IBV_ACCESS_REMOTE_READ, QALL, 0, 64, .status = ACC },
	{ "read, region write-only", IBV_WR_RDMA_READ, LOCAL | IBV_ACCESS_REMOTE_WRITE, QALL, 0, 64, .status = ACC },
	{ "atomic, region without", IBV_WR_ATOMIC_FETCH_AND_ADD, LOCAL | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ, QALL, 0, 8, .status = ACC },
	{ "write, queue pair without", IBV_WR_RDMA_WRITE, ALL, QALL & ~(unsigned)IBV_ACCESS_REMOTE_WRITE, 0, 64, .status = IBV_WC_REM_INV_REQ_ERR },
	{ "read, queue pair without", IBV_WR_RDMA_READ, ALL, QALL & ~(unsigned)IBV_ACCESS_REMOTE_READ, 0, 64, .status = IBV_WC_REM_INV_REQ_ERR },
	{ "atomic, queue pair without", IBV_WR_ATOMIC_FETCH_AND_ADD, ALL, QALL & ~(unsigned)IBV_ACCESS_REMOTE_ATOMIC, 0, 8, .status = IBV_WC_REM_INV_REQ_ERR },
	{ "write, other domain", IBV_WR_RDMA_WRITE, ALL, QALL, 0, 64, .other_pd = true, .status = ACC },
	{ "read, other domain", IBV_WR_RDMA_READ, ALL, QALL, 0, 64, .other_pd = true, .status = ACC },
	{ "atomic, unaligned", IBV_WR_ATOMIC_FETCH_AND_ADD, ALL, QALL, 4, 8, .status = IBV_WC_REM_INV_REQ_ERR },
};

static void refuse_one(const struct refusal *r, bool behind_others)
{
	struct world w;
	struct ibv_pd *pd = NULL;
	print_message("%s%s\n", r->what, behind_others ? ", behind others" : "");
	world_make(&w, &(struct vk_conf){ .access = r->qp_access });
	if (r->other_pd)
		VK((pd = ibv_alloc_pd(w.d.ctx)));
	struct ibv_mr *mr = ibv_reg_mr(pd ? pd : w.d.pd, w.b, LEN, (int)r->mr_access);
	VK(mr);
	uint32_t rkey = r->bad_key ? mr->rkey ^ 0x5500 : mr->rkey;
	if (r->dead_key)
		VK_EQ(ibv_dereg_mr(mr), 0);
	vk_recv(&w.e[1], 10, NULL, 0);
	if (behind_others) {
		vk_recv(&w.e[1], 11, NULL, 0);
		vk_post(&w.e[0], &(struct vk_wr){ .op = IBV_WR_SEND, .id = 0 });
	}
	struct ibv_sge s = vk_sge(w.ma, w.a, r->len);
	vk_post(&w.e[0], &(struct vk_wr){ .op = r->op, .id = 1, .sge = &s, .n = 1, .remote = (uintptr_t)w.b + (uint64_t)r->addr_off, .rkey = rkey, .add = 1 });
	vk_try_post(&w.e[0], &(struct vk_wr){ .op = IBV_WR_SEND, .id = 2 });
	vk_try_post(&w.e[0], &(struct vk_wr){ .op = IBV_WR_RDMA_WRITE, .id = 3, .sge = &s, .n = 1, .remote = (uintptr_t)w.b, .rkey = w.mb->rkey });
	if (behind_others)
		VK_EQ(vk_wait_ok(w.e[0].scq).wr_id, 0);
	VK_EQ(vk_wait_status(w.e[0].scq, r->status).wr_id, 1);
	VK_EQ(vk_wait_status(w.e[0].scq, IBV_WC_WR_FLUSH_ERR).wr_id, 2);
	VK_EQ(vk_wait_status(w.e[0].scq, IBV_WC_WR_FLUSH_ERR).wr_id, 3);
	VK_EQ(vk_state(&w.e[0]), IBV_QPS_ERR);
	if (behind_others)
		VK_EQ(vk_wait_ok(w.e[1].rcq).wr_id, 10);
	/* the responder: an event, ERR, its receives flushed */
	struct ibv_async_event ev = vk_event(&w.d);
	VK_EQ(ev.event_type, r->status == ACC ? IBV_EVENT_QP_ACCESS_ERR : IBV_EVENT_QP_REQ_ERR);
	VK(ev.element.qp == w.e[1].qp);
	vk_wait_state(&w.e[1], IBV_QPS_ERR);
	VK_EQ(vk_wait_status(w.e[1].rcq, IBV_WC_WR_FLUSH_ERR).wr_id, behind_others ? 11 : 10);
	VK(untouched(w.b, LEN, 0x22));
	VK(untouched(w.a, LEN, 0x11));
	vk_quiet(w.e[0].scq);
	vk_quiet(w.e[1].rcq);
	if (!r->dead_key)
		VK_EQ(ibv_dereg_mr(mr), 0);
	if (pd)
		VK_EQ(ibv_dealloc_pd(pd), 0);
	world_free(&w);
}

static void remote_refusals(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
		refuse_one(&refusals[i], false);
		refuse_one(&refusals[i], true);
	}
}

/* UC has no answers: a refused WRITE vanishes, both ends go on. */
static void uc_refusals_vanish(void **state)
{
	(void)state;
	struct world w;
	world_make(&w, &(struct vk_conf){ .type = IBV_QPT_UC });
	static const size_t lens[] = { 8, 20000 };
	for (int i = 0; i < 2; i++) {
		struct ibv_sge s = vk_sge(w.ma, w.a, lens[i]);
		vk_recv(&w.e[1], 5, NULL, 0);
		vk_post(&w.e[0], &(struct vk_wr){ .op = IBV_WR_RDMA_WRITE, .id = 1, .sge = &s, .n = 1, .remote = (uintptr_t)w.b, .rkey = w.mb->rkey ^ 0x700 });
		vk_post(&w.e[0], &(struct vk_wr){ .op = IBV_WR_RDMA_WRITE_WITH_IMM, .id = 2, .sge = &s, .n = 1, .remote = (uintptr_t)w.b + LEN - 7, .rkey = w.mb->rkey });
		vk_post(&w.e[0], &(struct vk_wr){ .op = IBV_WR_SEND, .id = 3 });
		for (uint64_t id = 1; id <= 3; id++)
			VK_EQ(vk_wait_ok(w.e[0].scq).wr_id, id);
		VK_EQ(vk_wait_ok(w.e[1].rcq).opcode, IBV_WC_RECV);
		VK(untouched(w.b, LEN, 0x22));
	}
	world_free(&w);
}

/* A message longer than the receive WQE: RC fails at both ends; UC drops it and keeps the WQE for the next one. */
static void too_long(void **state)
{
	(void)state;
	for (int large = 0; large < 2; large++) {
		struct world w;
		size_t len = large ? 40000 : 100;
		world_make(&w, NULL);
		vk_recv1(&w.e[1], 7, w.mb, w.b, len - 1);
		vk_recv(&w.e[1], 8, NULL, 0);
		vk_send(&w.e[0], 1, w.ma, w.a, len);
		VK_EQ(vk_wait_status(w.e[0].scq, IBV_WC_REM_INV_REQ_ERR).wr_id, 1);
		VK_EQ(vk_wait_status(w.e[1].rcq, IBV_WC_LOC_LEN_ERR).wr_id, 7);
		VK_EQ(vk_wait_status(w.e[1].rcq, IBV_WC_WR_FLUSH_ERR).wr_id, 8);
		VK_EQ(vk_state(&w.e[1]), IBV_QPS_ERR);
		VK(untouched(w.b + len - 1, LEN - len, 0x22));
		world_free(&w);

		world_make(&w, &(struct vk_conf){ .type = IBV_QPT_UC });
		vk_recv1(&w.e[1], 7, w.mb, w.b, len - 1);
		vk_send(&w.e[0], 1, w.ma, w.a, len);
		vk_wait_ok(w.e[0].scq);
		vk_send(&w.e[0], 2, w.ma, w.a, 10);
		vk_wait_ok(w.e[0].scq);
		struct ibv_wc wc = vk_wait_ok(w.e[1].rcq);
		VK_EQ(wc.wr_id, 7);
		VK_EQ(wc.byte_len, 10);
		VK(untouched(w.b + len - 1, LEN - len, 0x22));
		world_free(&w);
	}
}

/* ---- local errors ------------------------------------------------------------------------------------------------------------ */

static void local_errors_of(enum ibv_qp_type type)
{
	struct world w;
	for (int what = 0; what < 6; what++) {
		world_make(&w, &(struct vk_conf){ .type = type });
		struct ibv_pd *pd = ibv_alloc_pd(w.d.ctx);
		struct ibv_mr *other = ibv_reg_mr(pd, w.a, LEN, ALL), *ro = vk_reg(&w.d, w.a, LEN, IBV_ACCESS_REMOTE_READ);
		struct ibv_sge s[2] = { vk_sge(w.ma, w.a, 8), vk_sge(w.ma, w.a + 8, 100) };
		enum ibv_wr_opcode op = IBV_WR_SEND;
		switch (what) {
		case 0: s[1].lkey ^= 0x3300; break;
		case 1: s[1].addr = (uintptr_t)w.a + LEN - 99; break;
		case 2: s[1].lkey = other->lkey; break;
		case 3: s[1].addr = (uintptr_t)w.a - 1; break;
		case 4:
			if (type != IBV_QPT_UD)
				op = IBV_WR_RDMA_WRITE;
			s[1].lkey ^= 0x3300;
			break;
		case 5: /* READ into memory that may not be written */
			if (type != IBV_QPT_RC)
				s[1].lkey ^= 0x3300;
			else
				op = IBV_WR_RDMA_READ;
			if (type == IBV_QPT_RC)
				s[1].lkey = ro->lkey;
			break;
		}
		vk_recv1(&w.e[1], 1, w.mb, w.b, LEN);
		vk_recv1(&w.e[1], 2, w.mb, w.b, LEN);
		vk_recv(&w.e[0], 9, NULL, 0);
		struct ibv_sge fine = vk_sge(w.ma, w.a, 5);
		vk_post(&w.e[0], &(struct vk_wr){ .op = IBV_WR_SEND, .id = 1, .sge = &fine, .n = 1 });
		vk_post(&w.e[0], &(struct vk_wr){ .op = op, .id = 2, .sge = s, .n = 2, .remote = (uintptr_t)w.b, .rkey = w.mb->rkey });
		vk_try_post(&w.e[0], &(struct vk_wr){ .op = IBV_WR_SEND, .id = 3, .sge = &fine, .n = 1 });
		VK_EQ(vk_wait_ok(w.e[0].scq).wr_id, 1);
		VK_EQ(vk_wait_status(w.e[0].scq, IBV_WC_LOC_PROT_ERR).wr_id, 2);
		VK_EQ(vk_wait_status(w.e[0].scq, IBV_WC_WR_FLUSH_ERR).wr_id, 3);
		VK_EQ(vk_wait_ok(w.e[1].rcq).wr_id, 1);
		if (type == IBV_QPT_RC) {
			VK_EQ(vk_state(&w.e[0]), IBV_QPS_ERR);
			VK_EQ(vk_wait_status(w.e[0].rcq, IBV_WC_WR_FLUSH_ERR).wr_id, 9);
		} else { /* only the sending half stopped; SQE goes back to RTS */
			VK_EQ(vk_state(&w.e[0]), IBV_QPS_SQE);
			vk_quiet(w.e[0].rcq);
			vk_post(&w.e[0], &(struct vk_wr){ .op = IBV_WR_SEND, .id = 4 });
			VK_EQ(vk_wait_status(w.e[0].scq, IBV_WC_WR_FLUSH_ERR).wr_id, 4);
			vk_to_state(&w.e[0], IBV_QPS_RTS);
			vk_post(&w.e[0], &(struct vk_wr){ .op = IBV_WR_SEND, .id = 5, .sge = &fine, .n = 1 });
			VK_EQ(vk_wait_ok(w.e[0].scq).wr_id, 5);
			VK_EQ(vk_wait_ok(w.e[1].rcq).wr_id, 2);
		}
		VK(!ibv_dereg_mr(other) && !ibv_dereg_mr(ro) && !ibv_dealloc_pd(pd));
		world_free(&w);
	}
}
static void rc_local(void **state) { (void)state; local_errors_of(IBV_QPT_RC); }
static void uc_local(void **state) { (void)state; local_errors_of(IBV_QPT_UC); }
static void ud_local(void **state) { (void)state; local_errors_of(IBV_QPT_UD); }

/* A receive WQE whose memory is not ours to write. */
static void bad_receive(void **state)
{
	(void)state;
	struct world w;
	for (int what = 0; what < 3; what++) {
		world_make(&w, NULL);
		struct ibv_mr *ro = vk_reg(&w.d, w.b, LEN, 0);
		struct ibv_sge s = vk_sge(w.mb, w.b, 100);
		if (what == 0)
			s.lkey ^= 0x900;
		else if (what == 1)
			s.lkey = ro->lkey;
		else
			s.addr = (uintptr_t)w.b + LEN - 50;
		vk_recv(&w.e[1], 7, &s, 1);
		vk_recv(&w.e[1], 8, NULL, 0);
		vk_send(&w.e[0], 1, w.ma, w.a, 100);
		VK_EQ(vk_wait_status(w.e[0].scq, IBV_WC_REM_OP_ERR).wr_id, 1);
		VK_EQ(vk_wait_status(w.e[1].rcq, IBV_WC_LOC_PROT_ERR).wr_id, 7);
		VK_EQ(vk_wait_status(w.e[1].rcq, IBV_WC_WR_FLUSH_ERR).wr_id, 8);
		VK(untouched(w.b, LEN, 0x22));
		VK_EQ(ibv_dereg_mr(ro), 0);
		world_free(&w);
	}
}

int main(int argc, char **argv)
{
	vk_start(argc, argv, NULL, 0);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(remote_refusals), cmocka_unit_test(uc_refusals_vanish), cmocka_unit_test(too_long),
		cmocka_unit_test(rc_local), cmocka_unit_test(uc_local), cmocka_unit_test(ud_local), cmocka_unit_test(bad_receive),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
