/* The state machine of queue pairs: every transition with every attribute missing or too many, and what each state lets through. */
#include "verbs-kit.h"

#include <stdio.h>

#define A(x) IBV_QP_##x

/* The legal transitions, copied from tables 91-97 of the InfiniBand specification (volume 1, release 1.4), not from the code. */
struct legal {
	enum ibv_qp_state from, to;
	unsigned types; /* bit by enum ibv_qp_type */
	int must, may;
};
#define RC (1u << IBV_QPT_RC)
#define UC (1u << IBV_QPT_UC)
#define UD (1u << IBV_QPT_UD)
static const struct legal legal[] = {
	{ IBV_QPS_RESET, IBV_QPS_INIT, RC | UC, A(PKEY_INDEX) | A(PORT) | A(ACCESS_FLAGS), 0 },
	{ IBV_QPS_RESET, IBV_QPS_INIT, UD, A(PKEY_INDEX) | A(PORT) | A(QKEY), 0 },
	{ IBV_QPS_INIT, IBV_QPS_INIT, RC | UC, 0, A(PKEY_INDEX) | A(PORT) | A(ACCESS_FLAGS) },
	{ IBV_QPS_INIT, IBV_QPS_INIT, UD, 0, A(PKEY_INDEX) | A(PORT) | A(QKEY) },
	{ IBV_QPS_INIT, IBV_QPS_RTR, RC, A(AV) | A(PATH_MTU) | A(DEST_QPN) | A(RQ_PSN) | A(MAX_DEST_RD_ATOMIC) | A(MIN_RNR_TIMER), A(ACCESS_FLAGS) | A(PKEY_INDEX) },
	{ IBV_QPS_INIT, IBV_QPS_RTR, UC, A(AV) | A(PATH_MTU) | A(DEST_QPN) | A(RQ_PSN), A(ACCESS_FLAGS) | A(PKEY_INDEX) },
	{ IBV_QPS_INIT, IBV_QPS_RTR, UD, 0, A(PKEY_INDEX) | A(QKEY) },
	{ IBV_QPS_RTR, IBV_QPS_RTS, RC, A(TIMEOUT) | A(RETRY_CNT) | A(RNR_RETRY) | A(SQ_PSN) | A(MAX_QP_RD_ATOMIC), A(CUR_STATE) | A(ACCESS_FLAGS) | A(MIN_RNR_TIMER) },
	{ IBV_QPS_RTR, IBV_QPS_RTS, UC, A(SQ_PSN), A(CUR_STATE) | A(ACCESS_FLAGS) },
	{ IBV_QPS_RTR, IBV_QPS_RTS, UD, A(SQ_PSN), A(CUR_STATE) | A(QKEY) },
	{ IBV_QPS_RTS, IBV_QPS_RTS, RC, 0, A(CUR_STATE) | A(ACCESS_FLAGS) | A(MIN_RNR_TIMER) },
	{ IBV_QPS_RTS, IBV_QPS_RTS, UC, 0, A(CUR_STATE) | A(ACCESS_FLAGS) },
	{ IBV_QPS_RTS, IBV_QPS_RTS, UD, 0, A(CUR_STATE) | A(QKEY) },
	{ IBV_QPS_RTS, IBV_QPS_SQD, RC | UC | UD, 0, A(EN_SQD_ASYNC_NOTIFY) },
	{ IBV_QPS_SQD, IBV_QPS_RTS, RC, 0, A(CUR_STATE) | A(ACCESS_FLAGS) | A(MIN_RNR_TIMER) },
	{ IBV_QPS_SQD, IBV_QPS_RTS, UC, 0, A(CUR_STATE) | A(ACCESS_FLAGS) },
	{ IBV_QPS_SQD, IBV_QPS_RTS, UD, 0, A(CUR_STATE) | A(QKEY) },
	{ IBV_QPS_SQD, IBV_QPS_SQD, RC, 0, A(PKEY_INDEX) | A(PORT) | A(ACCESS_FLAGS) | A(AV) | A(MAX_QP_RD_ATOMIC) | A(MAX_DEST_RD_ATOMIC) | A(MIN_RNR_TIMER) | A(TIMEOUT) | A(RETRY_CNT) | A(RNR_RETRY) },
	{ IBV_QPS_SQD, IBV_QPS_SQD, UC, 0, A(PKEY_INDEX) | A(ACCESS_FLAGS) | A(AV) },
	{ IBV_QPS_SQD, IBV_QPS_SQD, UD, 0, A(PKEY_INDEX) | A(QKEY) },
	{ IBV_QPS_SQE, IBV_QPS_RTS, UC, 0, A(CUR_STATE) | A(ACCESS_FLAGS) },
	{ IBV_QPS_SQE, IBV_QPS_RTS, UD, 0, A(CUR_STATE) | A(QKEY) },
};

static const int attributes[] = { A(PKEY_INDEX), A(PORT), A(QKEY), A(ACCESS_FLAGS), A(AV), A(PATH_MTU), A(DEST_QPN), A(RQ_PSN), A(SQ_PSN), A(MAX_DEST_RD_ATOMIC),
				  A(MAX_QP_RD_ATOMIC), A(MIN_RNR_TIMER), A(TIMEOUT), A(RETRY_CNT), A(RNR_RETRY), A(CUR_STATE), A(EN_SQD_ASYNC_NOTIFY), A(CAP) };

static const struct legal *find(enum ibv_qp_type type, enum ibv_qp_state from, enum ibv_qp_state to)
{
	for (size_t i = 0; i < sizeof legal / sizeof *legal; i++)
		if (legal[i].from == from && legal[i].to == to && (legal[i].types >> type & 1))
			return &legal[i];
	return NULL;
}

static struct vk_dev d;

static struct ibv_qp_attr values(struct vk_end *e, enum ibv_qp_state from, enum ibv_qp_state to)
{
	return (struct ibv_qp_attr){
		.qp_state = to,
		.cur_qp_state = from,
		.port_num = 1,
		.qkey = VK_QKEY,
		.path_mtu = IBV_MTU_1024,
		.dest_qp_num = e->qp->qp_num,
		.max_dest_rd_atomic = 1,
		.max_rd_atomic = 1,
		.timeout = 14,
		.ah_attr = { .is_global = 1, .port_num = 1, .grh = { .dgid = d.gid, .sgid_index = d.gid_index } },
	};
}

/* Brings a fresh queue pair to a state by the shortest way. */
static void bring(struct vk_end *e, enum ibv_qp_type type, enum ibv_qp_state to)
{
	vk_end_make(e, &d, &(struct vk_conf){ .type = type });
	if (to == IBV_QPS_RESET)
		return;
	if (to == IBV_QPS_ERR) {
		vk_to_state(e, IBV_QPS_ERR);
		return;
	}
	vk_to_init(e);
	if (to == IBV_QPS_INIT)
		return;
	VK_EQ(vk_try_rtr(e, e->qp->qp_num, &d.gid), 0);
	if (to == IBV_QPS_RTR)
		return;
	vk_to_rts(e);
	if (to == IBV_QPS_SQD)
		vk_to_state(e, IBV_QPS_SQD);
	if (to == IBV_QPS_SQE) {
		struct ibv_sge bad = { 0x1000, 10, 0xdead00 };
		vk_post(e, &(struct vk_wr){ .op = IBV_WR_SEND, .sge = &bad, .n = 1 });
		vk_wait_status(e->scq, IBV_WC_LOC_PROT_ERR);
	}
	VK_EQ(vk_state(e), to);
}

static void try_one(enum ibv_qp_type type, enum ibv_qp_state from, enum ibv_qp_state to, int mask, bool want)
{
	struct vk_end e;
	bring(&e, type, from);
	struct ibv_qp_attr a = values(&e, from, to);
	int err = ibv_modify_qp(e.qp, &a, mask | IBV_QP_STATE);
	if ((err == 0) != want || (err && err != EINVAL)) {
		char text[100];
		snprintf(text, sizeof text, "type %d, %d -> %d, mask 0x%x: errno %d", type, from, to, mask, err);
		vk_fail(__FILE__, __LINE__, "transition", text);
	}
	VK_EQ(vk_state(&e), want ? to : from);
	VK_EQ(e.qp->state, want ? to : from);
	vk_end_free(&e);
}

static void transitions(void **state)
{
	(void)state;
	static const enum ibv_qp_type types[] = { IBV_QPT_RC, IBV_QPT_UC, IBV_QPT_UD };
	vk_open(&d);
	for (int t = 0; t < 3; t++)
		for (enum ibv_qp_state from = IBV_QPS_RESET; from <= IBV_QPS_ERR; from++) {
			if (from == IBV_QPS_SQE && types[t] == IBV_QPT_RC)
				continue; /* RC has no such state */
			for (enum ibv_qp_state to = IBV_QPS_RESET; to <= IBV_QPS_ERR; to++) {
				const struct legal *l = find(types[t], from, to);
				bool always = to == IBV_QPS_RESET || to == IBV_QPS_ERR;
				int must = l ? l->must : 0, may = l ? l->may : always ? A(CUR_STATE) : 0;
				try_one(types[t], from, to, must, l || always);
				if (!l && !always)
					continue;
				for (size_t i = 0; i < sizeof attributes / sizeof *attributes; i++) {
					int a = attributes[i];
					if (must & a)
						try_one(types[t], from, to, must & ~a, false);
					else
						try_one(types[t], from, to, must | a, may & a);
				}
			}
		}
	vk_close(&d);
}

static void bad_values(void **state)
{
	(void)state;
	struct vk_end e;
	vk_open(&d);
	const int rtr = A(STATE) | A(AV) | A(PATH_MTU) | A(DEST_QPN) | A(RQ_PSN) | A(MAX_DEST_RD_ATOMIC) | A(MIN_RNR_TIMER);
	const int rts = A(STATE) | A(TIMEOUT) | A(RETRY_CNT) | A(RNR_RETRY) | A(SQ_PSN) | A(MAX_QP_RD_ATOMIC);
	for (int what = 0; what < 14; what++) {
		bring(&e, IBV_QPT_RC, what < 2 ? IBV_QPS_RESET : what < 10 ? IBV_QPS_INIT : IBV_QPS_RTR);
		struct ibv_qp_attr a = values(&e, e.qp->state, what < 2 ? IBV_QPS_INIT : what < 10 ? IBV_QPS_RTR : IBV_QPS_RTS);
		int mask = what < 2 ? A(STATE) | A(PKEY_INDEX) | A(PORT) | A(ACCESS_FLAGS) : what < 10 ? rtr : rts;
		switch (what) {
		case 0: a.port_num = 2; break;
		case 1: a.pkey_index = 1; break;
		case 2: a.path_mtu = 0; break;
		case 3: a.path_mtu = 6; break;
		case 4: a.ah_attr.is_global = 0; break;
		case 5: a.ah_attr.grh.sgid_index = 255; break;
		case 6: a.ah_attr.port_num = 3; break;
		case 7: a.dest_qp_num = 0x1000000; break;
		case 8: a.max_dest_rd_atomic = 255; break;
		case 9: a.min_rnr_timer = 32; break;
		case 10: a.timeout = 32; break;
		case 11: a.retry_cnt = 8; break;
		case 12: a.rnr_retry = 8; break;
		case 13: a.max_rd_atomic = 255; break;
		}
		VK_EQ(ibv_modify_qp(e.qp, &a, mask), EINVAL);
		VK_EQ(vk_state(&e), what < 2 ? IBV_QPS_RESET : what < 10 ? IBV_QPS_INIT : IBV_QPS_RTR);
		vk_end_free(&e);
	}
	/* said state and real state differ */
	bring(&e, IBV_QPT_RC, IBV_QPS_RTS);
	struct ibv_qp_attr a = { .qp_state = IBV_QPS_RTS, .cur_qp_state = IBV_QPS_SQD };
	VK_EQ(ibv_modify_qp(e.qp, &a, A(STATE) | A(CUR_STATE)), EINVAL);
	vk_end_free(&e);
	vk_close(&d);
}

/* What may be posted where; receives wait from INIT on. */
static void posting(void **state)
{
	(void)state;
	static const struct {
		enum ibv_qp_state state;
		bool send, recv, flushed;
	} rule[] = {
		{ IBV_QPS_RESET, false, false, false }, { IBV_QPS_INIT, false, true, false }, { IBV_QPS_RTR, false, true, false },
		{ IBV_QPS_RTS, true, true, false },	{ IBV_QPS_SQD, true, true, false },   { IBV_QPS_ERR, true, true, true },
	};
	vk_open(&d);
	for (size_t i = 0; i < sizeof rule / sizeof *rule; i++) {
		struct vk_end e;
		bring(&e, IBV_QPT_RC, rule[i].state);
		VK_EQ(vk_try_recv(&e, 4, NULL, 0), rule[i].recv ? 0 : EINVAL);
		VK_EQ(vk_try_post(&e, &(struct vk_wr){ .op = IBV_WR_SEND, .id = 3 }), rule[i].send ? 0 : EINVAL);
		if (rule[i].flushed) {
			VK_EQ(vk_wait_status(e.scq, IBV_WC_WR_FLUSH_ERR).wr_id, 3);
			VK_EQ(vk_wait_status(e.rcq, IBV_WC_WR_FLUSH_ERR).wr_id, 4);
		}
		vk_end_free(&e);
	}
	/* operations that a transport does not have, too many sges, bad atomics: refused when posted, with nothing posted */
	static const enum ibv_qp_type types[] = { IBV_QPT_UC, IBV_QPT_UD };
	for (int t = 0; t < 2; t++) {
		struct vk_end e;
		bring(&e, types[t], IBV_QPS_RTS);
		if (types[t] == IBV_QPT_UD) {
			VK_EQ(vk_try_post(&e, &(struct vk_wr){ .op = IBV_WR_RDMA_WRITE }), EINVAL);
			VK_EQ(vk_try_post(&e, &(struct vk_wr){ .op = IBV_WR_RDMA_WRITE_WITH_IMM }), EINVAL);
		}
		VK_EQ(vk_try_post(&e, &(struct vk_wr){ .op = IBV_WR_RDMA_READ }), EINVAL);
		VK_EQ(vk_try_post(&e, &(struct vk_wr){ .op = IBV_WR_ATOMIC_FETCH_AND_ADD }), EINVAL);
		VK_EQ(vk_try_post(&e, &(struct vk_wr){ .op = IBV_WR_SEND_WITH_INV }), EINVAL);
		vk_quiet(e.scq);
		vk_end_free(&e);
	}
	struct vk_end e;
	struct ibv_sge s[8] = { { 0 } };
	bring(&e, IBV_QPT_RC, IBV_QPS_RTS);
	VK_EQ(vk_try_post(&e, &(struct vk_wr){ .op = IBV_WR_SEND, .sge = s, .n = 5 }), EINVAL);
	VK_EQ(vk_try_post(&e, &(struct vk_wr){ .op = IBV_WR_SEND, .sge = s, .n = -1 }), EINVAL);
	VK_EQ(vk_try_recv(&e, 1, s, 5), EINVAL);
	s[0].length = 9;
	VK_EQ(vk_try_post(&e, &(struct vk_wr){ .op = IBV_WR_ATOMIC_CMP_AND_SWP, .sge = s, .n = 1 }), EINVAL);
	VK_EQ(vk_try_post(&e, &(struct vk_wr){ .op = 200 }), EINVAL);
	vk_quiet(e.scq);
	vk_end_free(&e);
	vk_close(&d);
}

/* Query gives back what modify set and create promised. */
static void query(void **state)
{
	(void)state;
	struct vk_end e;
	struct ibv_qp_attr a;
	struct ibv_qp_init_attr init;
	vk_open(&d);
	vk_end_make(&e, &d, &(struct vk_conf){ .depth = 33, .sge = 7, .inline_bytes = 100, .rd_atomic = 5, .tuned = true, .retry = 3, .rnr_retry = 2, .rnr_timer = 9, .psn = 0x123456, .timeout = 11 });
	vk_connect(&e, 0x777, &d.gid);
	/* what rdma-core's drivers without pacing refuse */
	VK_EQ(ibv_query_qp(e.qp, &a, ~0, &init), EOPNOTSUPP);
	VK_EQ(ibv_query_qp(e.qp, &a, IBV_QP_RATE_LIMIT, &init), EOPNOTSUPP);
	VK_EQ(ibv_modify_qp(e.qp, &a, IBV_QP_STATE | IBV_QP_RATE_LIMIT), EOPNOTSUPP);
	VK_EQ(ibv_query_qp(e.qp, &a, IBV_QP_RATE_LIMIT - 1, &init), 0);
	VK(a.qp_state == IBV_QPS_RTS && a.cur_qp_state == IBV_QPS_RTS && a.dest_qp_num == 0x777 && a.rq_psn == 0x123456 && a.sq_psn == 0x123456);
	VK(a.max_rd_atomic == 5 && a.max_dest_rd_atomic == 5 && a.retry_cnt == 3 && a.rnr_retry == 2 && a.min_rnr_timer == 9 && a.timeout == 11);
	VK(a.path_mtu == d.mtu && a.port_num == 1 && a.pkey_index == 0 && a.qp_access_flags == e.conf.access);
	VK(!memcmp(&a.ah_attr.grh.dgid, &d.gid, 16) && a.ah_attr.grh.sgid_index == d.gid_index);
	VK(init.cap.max_send_wr >= 33 && init.cap.max_recv_wr >= 33 && init.cap.max_send_sge >= 7 && init.cap.max_inline_data >= 100);
	VK(init.send_cq == e.scq && init.recv_cq == e.rcq && init.qp_type == IBV_QPT_RC && init.qp_context == &e);
	vk_end_free(&e);
	vk_close(&d);
}

/* Numbers in a row tell little of each other: no step between neighbours comes often, and each bit is set in about half of them. */
static void expect_unpredictable(const uint32_t *numbers, unsigned n, unsigned bits)
{
	unsigned same_step = 0;
	for (unsigned bit = 0; bit < bits; bit++) {
		unsigned set = 0;
		for (unsigned i = 0; i < n; i++)
			set += numbers[i] >> bit & 1;
		VK(set > n / 2 - n / 8 && set < n / 2 + n / 8); /* five standard deviations of 400 throws */
	}
	for (unsigned i = 2; i < n; i++)
		same_step += ((numbers[i] - numbers[i - 1]) ^ (numbers[1] - numbers[0])) << (32 - bits) == 0;
	VK(same_step < 3);
}

static void numbers_cannot_be_guessed(void **state)
{
	enum { N = 400 };
	(void)state;
	static struct ibv_qp *qps[N];
	static struct ibv_mr *mrs[N];
	uint32_t qpns[N], rkeys[N], slot = 0;
	uint8_t *mem = vk_pages(VK_PAGE);
	vk_open(&d);
	struct ibv_cq *cq = ibv_create_cq(d.ctx, 1, NULL, NULL, 0);
	VK(cq != NULL);
	for (int i = 0; i < N; i++) {
		struct ibv_qp_init_attr init = { .send_cq = cq, .recv_cq = cq, .qp_type = IBV_QPT_RC, .cap = { 1, 1, 1, 1, 0 } };
		qps[i] = ibv_create_qp(d.pd, &init);
		mrs[i] = vk_reg(&d, mem, VK_PAGE, VK_RW);
		VK(qps[i] != NULL);
		qpns[i] = qps[i]->qp_num;
		rkeys[i] = mrs[i]->rkey;
		VK(i == 0 || qpns[i] >> 16 == slot); /* the high byte says whose it is */
		slot = qpns[i] >> 16;
	}
	expect_unpredictable(qpns, N, 16);
	expect_unpredictable(rkeys, N, 32);
	for (int i = 0; i < N; i++) {
		VK_EQ(ibv_destroy_qp(qps[i]), 0);
		VK_EQ(ibv_dereg_mr(mrs[i]), 0);
	}
	VK_EQ(ibv_destroy_cq(cq), 0);
	vk_close(&d);
	vk_unpages(mem, VK_PAGE);
}

int main(int argc, char **argv)
{
	vk_start(argc, argv, NULL, 0);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(transitions), cmocka_unit_test(bad_values), cmocka_unit_test(posting), cmocka_unit_test(query),
		cmocka_unit_test(numbers_cannot_be_guessed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
