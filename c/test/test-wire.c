/*
 * The wire road end to end over a simulated network: every operation, every kind of damage, data compared byte by byte.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "wire-rig.h"

#define SECOND UINT64_C(1000000000)

static void fill(uint8_t *p, size_t n, uint32_t seed)
{
	for (size_t i = 0; i < n; i++) {
		seed = seed * 1664525 + 1013904223;
		p[i] = (uint8_t)(seed >> 24);
	}
}

static struct ibv_wc expect(struct ibv_cq *cq, uint64_t wr_id, enum ibv_wc_status status)
{
	struct ibv_wc wc;
	assert_true(rig_run(60 * SECOND, cq));
	assert_true(rig_poll(cq, &wc));
	assert_int_equal(wc.wr_id, wr_id);
	assert_int_equal(wc.status, status);
	return wc;
}

/* A random mix of operations both ways; every byte must arrive, in order, once. */
static void mix(const struct rig_conf *conf, int rounds)
{
	struct rig_end e[2];
	rig_pair(e, conf);
	size_t half = e[0].len / 2;
	for (int round = 0; round < rounds; round++) {
		int back = conf->type == IBV_QPT_XRC_SEND ? 0 : round & 1;
		struct rig_end *a = &e[back], *b = &e[!back];
		uint32_t len = (uint32_t)((round * 7919u + 1) % (half - 64)), size = round % 5 == 0 ? 17 : len;
		fill(a->mem, half, (uint32_t)round);
		fill(b->mem + half, half, ~(uint32_t)round);
		assert_int_equal(rig_recv(b, 900, 0, (uint32_t)half), 0);
		uint64_t *counter = (uint64_t *)(void *)(b->mem + half);
		assert_int_equal(rig_post(a, IBV_WR_SEND, 1, 0, size, b, 0), 0);
		assert_int_equal(rig_post(a, IBV_WR_RDMA_READ, 2, half, size, b, half), 0);
		size_t result = a->len - 8; /* nothing else lands there */
		assert_int_equal(rig_post(a, IBV_WR_ATOMIC_FETCH_AND_ADD, 3, result, 8, b, half), 0);
		uint64_t before = *counter;
		struct ibv_wc wc = expect(b->rcq, 900, IBV_WC_SUCCESS);
		assert_int_equal(wc.byte_len, size);
		assert_memory_equal(a->mem, b->mem, size);
		expect(a->scq, 1, IBV_WC_SUCCESS);
		expect(a->scq, 2, IBV_WC_SUCCESS);
		expect(a->scq, 3, IBV_WC_SUCCESS);
		assert_int_equal(*counter, before + 1); /* once, however often it was sent */
		assert_memory_equal(a->mem + result, &before, 8);
		/* A READ that was answered twice may have seen the counter before or after. */
		if (size > 8)
			assert_memory_equal(a->mem + half + 8, b->mem + half + 8, size - 8);
		assert_int_equal(rig_post(a, IBV_WR_RDMA_WRITE, 4, 0, size, b, half), 0);
		expect(a->scq, 4, IBV_WC_SUCCESS);
		assert_memory_equal(a->mem, b->mem + half, size);
	}
	assert_int_equal(sr_qp(e[0].qp)->ex.qp_base.state, IBV_QPS_RTS);
	rig_free(e);
}

static const struct rig_conf plain = { .psn = { 5, 0xfffff0 } }; /* one of them wraps at once */

static void test_clean(void **state)
{
	(void)state;
	rig_start();
	mix(&plain, 12);
	assert_int_equal(sr.counters.retransmitted_packets, 0);
	assert_int_equal(sr.counters.local_ack_timeout_err, 0);
	assert_int_equal(sr.counters.rx_icrc_encapsulated, 0);
	assert_int_equal(sr.counters.rx_malformed, 0);
}

static const struct rig_conf xrc = { .type = IBV_QPT_XRC_SEND, .psn = { 0xfffff0, 5 } };
static uint32_t xrc_requests, xrc_responses;

/* Every request says which queue, no response does, and nobody uses another transport but for the SACKs of this device. */
static bool look_at_xrc(const struct sr_pkt *p)
{
	if (p->flags & SR_M_RESPONSE) {
		assert_true((p->opcode & SR_OP_TRANSPORT) == SR_OP_XRC || p->opcode == SR_OP_SACK);
		assert_int_equal(p->flags & SR_H_XRC, 0);
		xrc_responses++;
	} else {
		assert_int_equal(p->opcode & SR_OP_TRANSPORT, SR_OP_XRC);
		assert_true(p->flags & SR_H_XRC && sr_qpn_slot(p->srqn) == sr.slot && p->xrceth_resv == 0);
		xrc_requests++;
	}
	return false;
}

static void test_xrc(void **state)
{
	(void)state;
	rig_start();
	xrc_requests = xrc_responses = 0;
	rig.drop = look_at_xrc;
	mix(&xrc, 12);
	assert_int_equal(sr.counters.retransmitted_packets, 0);
	assert_int_equal(sr.counters.rx_unknown_opcode, 0);
	assert_true(xrc_requests > 12 * 4 && xrc_responses > 12);
}

static void test_mtus(void **state)
{
	(void)state;
	for (uint32_t mtu = 256; mtu <= 4096; mtu *= 2) {
		rig_start();
		mix(&(struct rig_conf){ .mtu = mtu, .psn = { 0xffffff, 0 } }, 4);
	}
}

static void test_damage(void **state)
{
	static const struct rig_net kinds[] = { { .loss = 0.01 },	{ .loss = 0.1 }, { .dup = 0.1 }, { .reorder = 0.1 },
						{ .corrupt = 0.05 },
						{ .loss = 0.03, .dup = 0.03, .reorder = 0.03, .corrupt = 0.03 } };
	(void)state;
	for (size_t kind = 0; kind < sizeof(kinds) / sizeof(*kinds); kind++)
		for (int foreign = 0; foreign < 2; foreign++)
			for (uint64_t seed = 1; seed <= 3; seed++) {
				rig_start();
				rig.loss = kinds[kind].loss;
				rig.dup = kinds[kind].dup;
				rig.reorder = kinds[kind].reorder;
				rig.corrupt = kinds[kind].corrupt;
				rig.foreign = foreign;
				rig.seed = seed * 7777 + kind;
				/* Loss of a tenth defeats seven retries of go-back-N now and then, as it should. */
				struct rig_conf conf = plain;
				conf.mem = foreign ? 1 << 16 : 1 << 20;
				mix(&conf, 6);
				conf.type = kind % 2 ? IBV_QPT_XRC_SEND : IBV_QPT_RC;
				if (conf.type == IBV_QPT_XRC_SEND)
					mix(&conf, 3);
				assert_true(foreign || sr.counters.sacks_sent > 0 || rig.lost + sr.counters.rx_icrc_encapsulated == 0);
			}
}

static void test_foreign_never_gets_a_sack(void **state)
{
	(void)state;
	rig_start();
	rig.foreign = true;
	rig.loss = 0.02;
	struct rig_conf conf = plain;
	conf.mem = 1 << 17;
	mix(&conf, 8);
	assert_int_equal(sr.counters.sacks_sent, 0);
	assert_int_equal(sr.counters.selective_retransmits, 0);
	assert_true(sr.counters.packet_seq_err > 0);
}

static void test_peer_gone(void **state)
{
	struct rig_end e[2];
	(void)state;
	rig_start();
	rig.loss = 1;
	rig_pair(e, &(struct rig_conf){ .tuned = true, .timeout = 8, .retry = 3, .rnr_retry = 7, .rnr_timer = 1 });
	assert_int_equal(rig_post(&e[0], IBV_WR_RDMA_WRITE, 1, 0, 100, &e[1], 0), 0);
	assert_int_equal(rig_post(&e[0], IBV_WR_SEND, 2, 0, 100, &e[1], 0), 0);
	expect(e[0].scq, 1, IBV_WC_RETRY_EXC_ERR);
	expect(e[0].scq, 2, IBV_WC_WR_FLUSH_ERR);
	assert_int_equal(sr.counters.local_ack_timeout_err, 4);
	assert_int_equal(e[0].qp->state, IBV_QPS_ERR);
	rig_free(e);
}

static void test_rnr(void **state)
{
	struct rig_end e[2];
	struct ibv_wc wc;
	(void)state;
	rig_start();
	/* Timer code 14: 1.28 ms. Two retries, then an error. */
	rig_pair(e, &(struct rig_conf){ .tuned = true, .timeout = 14, .retry = 7, .rnr_retry = 2, .rnr_timer = 14 });
	assert_int_equal(rig_post(&e[0], IBV_WR_SEND, 1, 0, 3000, &e[1], 0), 0);
	assert_false(rig_run(2000000, e[0].scq));
	assert_int_equal(sr.counters.rnr_nak_retry_err, 2);
	rig_recv(&e[1], 9, 0, 4000);
	expect(e[0].scq, 1, IBV_WC_SUCCESS);
	expect(e[1].rcq, 9, IBV_WC_SUCCESS);
	assert_int_equal(rig_post(&e[0], IBV_WR_SEND, 2, 0, 10, &e[1], 0), 0);
	expect(e[0].scq, 2, IBV_WC_RNR_RETRY_EXC_ERR);
	assert_false(rig_poll(e[1].rcq, &wc));
	rig_free(e);
}

struct refusal {
	enum ibv_wr_opcode op;
	unsigned access; /* of the queue pair */
	int64_t shift;	 /* of the remote address */
	uint32_t rkey_xor;
	enum ibv_wc_status status;
};

static void test_refusals(void **state)
{
	const unsigned all = IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC;
	const struct refusal cases[] = {
		{ IBV_WR_RDMA_WRITE, all, 0, 1, IBV_WC_REM_ACCESS_ERR },
		{ IBV_WR_RDMA_READ, all, 0, 1, IBV_WC_REM_ACCESS_ERR },
		{ IBV_WR_ATOMIC_FETCH_AND_ADD, all, 0, 1, IBV_WC_REM_ACCESS_ERR },
		{ IBV_WR_RDMA_WRITE, all, -1, 0, IBV_WC_REM_ACCESS_ERR },
		{ IBV_WR_RDMA_READ, all, 1 << 20, 0, IBV_WC_REM_ACCESS_ERR },
		{ IBV_WR_ATOMIC_FETCH_AND_ADD, all, 4, 0, IBV_WC_REM_INV_REQ_ERR },
		{ IBV_WR_RDMA_WRITE, IBV_ACCESS_REMOTE_READ, 0, 0, IBV_WC_REM_INV_REQ_ERR },
		{ IBV_WR_RDMA_READ, IBV_ACCESS_REMOTE_WRITE, 0, 0, IBV_WC_REM_INV_REQ_ERR },
		{ IBV_WR_ATOMIC_FETCH_AND_ADD, IBV_ACCESS_REMOTE_WRITE, 0, 0, IBV_WC_REM_INV_REQ_ERR },
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct rig_end e[2];
		static uint8_t untouched[1 << 20];
		rig_start();
		rig_pair(e, &(struct rig_conf){ .access = cases[i].access });
		fill(e[0].mem, e[0].len, 1);
		fill(untouched, sizeof(untouched), 2);
		memcpy(e[1].mem, untouched, sizeof(untouched));
		struct ibv_sge sge = { (uintptr_t)e[0].mem, cases[i].op == IBV_WR_ATOMIC_FETCH_AND_ADD ? 8 : 5000, e[0].mr.key.key };
		struct ibv_send_wr wr = { .wr_id = 7, .opcode = cases[i].op, .sg_list = &sge, .num_sge = 1 };
		uint64_t va = (uintptr_t)e[1].mem + (uint64_t)cases[i].shift;
		uint32_t rkey = e[1].mr.key.key ^ cases[i].rkey_xor << 24;
		if (cases[i].op == IBV_WR_ATOMIC_FETCH_AND_ADD) {
			wr.wr.atomic.remote_addr = va;
			wr.wr.atomic.rkey = rkey;
		} else {
			wr.wr.rdma.remote_addr = va;
			wr.wr.rdma.rkey = rkey;
		}
		assert_int_equal(rig_post_wr(&e[0], &wr), 0);
		expect(e[0].scq, 7, cases[i].status);
		assert_memory_equal(e[1].mem, untouched, sizeof(untouched));
		assert_int_equal(e[0].qp->state, IBV_QPS_ERR);
		assert_int_equal(e[1].qp->state, IBV_QPS_ERR);
		rig_free(e);
	}
}

static void test_message_too_long_for_receive(void **state)
{
	struct rig_end e[2];
	(void)state;
	rig_start();
	rig_pair(e, &plain);
	rig_recv(&e[1], 5, 0, 1500);
	rig_post(&e[0], IBV_WR_SEND, 1, 0, 2000, &e[1], 0);
	expect(e[0].scq, 1, IBV_WC_REM_INV_REQ_ERR);
	expect(e[1].rcq, 5, IBV_WC_LOC_LEN_ERR);
	rig_free(e);
}

static void test_bad_local_key(void **state)
{
	struct rig_end e[2];
	(void)state;
	rig_start();
	rig_pair(e, &plain);
	struct ibv_sge sge = { (uintptr_t)e[0].mem, 100, e[0].mr.key.key ^ 0x1000000 };
	struct ibv_send_wr wr = { .wr_id = 2, .opcode = IBV_WR_RDMA_WRITE, .sg_list = &sge, .num_sge = 1 };
	wr.wr.rdma.remote_addr = (uintptr_t)e[1].mem;
	wr.wr.rdma.rkey = e[1].mr.key.key;
	rig_post(&e[0], IBV_WR_RDMA_WRITE, 1, 0, 100000, &e[1], 0);
	rig_post_wr(&e[0], &wr);
	rig_post(&e[0], IBV_WR_RDMA_WRITE, 3, 0, 100, &e[1], 0);
	expect(e[0].scq, 1, IBV_WC_SUCCESS);
	expect(e[0].scq, 2, IBV_WC_LOC_PROT_ERR);
	expect(e[0].scq, 3, IBV_WC_WR_FLUSH_ERR);
	rig_free(e);
}

static void test_uc(void **state)
{
	struct rig_end e[2];
	struct ibv_wc wc;
	int arrived = 0;
	(void)state;
	rig_start();
	rig_pair(e, &(struct rig_conf){ .type = IBV_QPT_UC, .psn = { 0xfffffe, 3 } });
	fill(e[0].mem, e[0].len, 3);
	rig.loss = 0.02;
	for (int i = 0; i < 200; i++) {
		memset(e[1].mem, 0, 40000);
		rig_recv(&e[1], (uint64_t)i, 0, 40000);
		rig_post(&e[0], IBV_WR_SEND, 1, 0, 20000, &e[1], 0);
		expect(e[0].scq, 1, IBV_WC_SUCCESS); /* sent is all it promises */
		if (!rig_run(1000000, e[1].rcq))
			continue;
		assert_true(rig_poll(e[1].rcq, &wc));
		assert_int_equal(wc.status, IBV_WC_SUCCESS);
		assert_int_equal(wc.byte_len, 20000);
		assert_memory_equal(e[0].mem, e[1].mem, 20000); /* whole or not at all */
		arrived++;
	}
	assert_true(arrived > 50 && arrived < 200);
	assert_int_equal(e[1].qp->state, IBV_QPS_RTS);
	rig_free(e);
}

/* UC drops what does not fit, in one packet or in several, and the receive WQE waits for the next message: as on road 1. */
static void test_uc_message_too_long(void **state)
{
	struct rig_end e[2];
	(void)state;
	for (uint32_t len = 100; len <= 5000; len += 4900) {
		rig_start();
		rig_pair(e, &(struct rig_conf){ .type = IBV_QPT_UC, .psn = { 0xfffffe, 3 } });
		fill(e[0].mem, e[0].len, 5);
		memset(e[1].mem, 0x22, 8000);
		rig_recv(&e[1], 7, 0, len - 1);
		rig_post(&e[0], IBV_WR_SEND, 1, 0, len, &e[1], 0);
		expect(e[0].scq, 1, IBV_WC_SUCCESS);
		assert_false(rig_run(1000000, e[1].rcq));
		assert_int_equal(sr.counters.rx_uc_dropped, 1);
		rig_post(&e[0], IBV_WR_SEND, 2, 0, 10, &e[1], 0);
		expect(e[0].scq, 2, IBV_WC_SUCCESS);
		assert_int_equal(expect(e[1].rcq, 7, IBV_WC_SUCCESS).byte_len, 10);
		assert_memory_equal(e[0].mem, e[1].mem, 10);
		assert_int_equal(e[1].mem[len - 1], 0x22);
		assert_int_equal(e[1].qp->state, IBV_QPS_RTS);
		rig_free(e);
	}
}

/* The wire's cap on remembered READs is the queue pair's own; replays come from memory, not from execution. */
static uint32_t answers_to_drop;
static bool drop_answers(const struct sr_pkt *p)
{
	if (p->opcode == SR_OP_RC_ATOMIC_ACK && answers_to_drop) {
		answers_to_drop--;
		return true;
	}
	return false;
}

static void test_atomic_executes_once(void **state)
{
	struct rig_end e[2];
	(void)state;
	for (int foreign = 0; foreign < 2; foreign++) {
		rig_start();
		rig.foreign = foreign;
		rig.drop = drop_answers;
		rig_pair(e, &plain);
		answers_to_drop = 3;
		rig_post(&e[0], IBV_WR_ATOMIC_FETCH_AND_ADD, 1, 0, 8, &e[1], 64);
		expect(e[0].scq, 1, IBV_WC_SUCCESS);
		assert_int_equal(answers_to_drop, 0);
		assert_int_equal(*(uint64_t *)(void *)(e[1].mem + 64), 1);
		rig_free(e);
	}
}

static void test_fence_and_depth(void **state)
{
	struct rig_end e[2];
	(void)state;
	rig_start();
	rig.loss = 0.05;
	rig_pair(e, &(struct rig_conf){ .rd_atomic = 1 });
	for (int i = 0; i < 40; i++)
		assert_int_equal(rig_post(&e[0], i % 2 ? IBV_WR_RDMA_READ : IBV_WR_ATOMIC_FETCH_AND_ADD, (uint64_t)i,
					  (size_t)i * 3000 & ~7u, i % 2 ? 3000 : 8, &e[1], 0), 0);
	for (int i = 0; i < 40; i++)
		expect(e[0].scq, (uint64_t)i, IBV_WC_SUCCESS);
	assert_int_equal(*(uint64_t *)(void *)e[1].mem, 20);
	rig_free(e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_clean),
		cmocka_unit_test(test_xrc),
		cmocka_unit_test(test_mtus),
		cmocka_unit_test(test_damage),
		cmocka_unit_test(test_foreign_never_gets_a_sack),
		cmocka_unit_test(test_peer_gone),
		cmocka_unit_test(test_rnr),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_message_too_long_for_receive),
		cmocka_unit_test(test_bad_local_key),
		cmocka_unit_test(test_uc),
		cmocka_unit_test(test_uc_message_too_long),
		cmocka_unit_test(test_atomic_executes_once),
		cmocka_unit_test(test_fence_and_depth),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
