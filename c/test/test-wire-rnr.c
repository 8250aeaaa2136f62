/*
 * Receivers that are not ready, over the simulated network: what asking again costs, and that a refusal and a selective
 * acknowledgement of the same packet cannot cross without somebody noticing.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "wire-rig.h"

#define MS UINT64_C(1000000)
#define MESSAGE 20000

/* The shortest timer (10 us), for ever. */
static const struct rig_conf eager = { .psn = { 0xfffff8, 1 }, .tuned = true, .timeout = 14, .retry = 7, .rnr_retry = 7, .rnr_timer = 1 };

static void expect(struct ibv_cq *cq, uint64_t wr_id, enum ibv_wc_status status)
{
	struct ibv_wc wc;
	assert_true(rig_run(2000 * MS, cq));
	assert_true(rig_poll(cq, &wc));
	assert_int_equal(wc.wr_id, wr_id);
	assert_int_equal(wc.status, status);
}

/* A window full of messages waits behind the one that was refused. Asking again is one packet, not all of them. */
static void test_asking_again_is_cheap(void **state)
{
	struct rig_end e[2];
	(void)state;
	rig_start();
	rig_pair(e, &eager);
	for (uint64_t i = 0; i < 16; i++)
		rig_post(&e[0], IBV_WR_SEND, i, 0, MESSAGE, &e[1], 0);
	assert_false(rig_run(2 * MS, e[0].scq));
	uint64_t sent = rig.sent, asked = sr.counters.rnr_nak_retry_err;
	assert_false(rig_run(20 * MS, e[0].scq));
	assert_true(sr.counters.rnr_nak_retry_err - asked > 100);
	assert_true(rig.sent - sent <= 2 * (sr.counters.rnr_nak_retry_err - asked) + 10);
	for (uint64_t i = 0; i < 16; i++) {
		rig_recv(&e[1], i, 0, MESSAGE);
		expect(e[1].rcq, i, IBV_WC_SUCCESS);
		expect(e[0].scq, i, IBV_WC_SUCCESS);
	}
	assert_int_equal(sr.counters.local_ack_timeout_err, 0);
	rig_free(e);
}

static uint32_t drop_psn, drops_left;
static bool drop_it(const struct sr_pkt *p)
{
	if ((p->flags & SR_M_RESPONSE) || p->psn != drop_psn || drops_left == 0)
		return false;
	drops_left--;
	return true;
}

/* What waited behind a gap was reported as arrived; when its turn comes there is no receive WQE for it. It has arrived, but it was
 * not executed: it must be asked for again, and its completion must wait for that. */
static void test_refused_after_selective_ack(void **state)
{
	struct rig_end e[2];
	struct ibv_wc wc;
	(void)state;
	for (uint32_t lost = 0; lost < 3; lost++)
		for (int op = 0; op < 2; op++) {
			rig_start();
			rig.drop = drop_it;
			drop_psn = (0xfffff8 + lost) & SR_PSN_MASK;
			drops_left = 1;
			rig_pair(e, &eager);
			for (uint64_t i = 0; i <= lost; i++)
				rig_recv(&e[1], i, 0, 4096);
			for (uint64_t i = 0; i < 6; i++)
				rig_post(&e[0], op ? IBV_WR_RDMA_WRITE_WITH_IMM : IBV_WR_SEND, i, 0, 100, &e[1], 0);
			for (uint64_t i = 0; i <= lost; i++) {
				expect(e[0].scq, i, IBV_WC_SUCCESS);
				expect(e[1].rcq, i, IBV_WC_SUCCESS);
			}
			assert_int_equal(drops_left, 0);
			/* Nobody received the others, so they are not done. */
			assert_false(rig_run(5 * MS, e[0].scq));
			assert_false(rig_poll(e[1].rcq, &wc));
			for (uint64_t i = lost + 1; i < 6; i++) {
				rig_recv(&e[1], i, 0, 4096);
				expect(e[1].rcq, i, IBV_WC_SUCCESS);
				expect(e[0].scq, i, IBV_WC_SUCCESS);
			}
			rig_free(e);
		}
}

/* A responder may also forget what it had reported (its memory for early packets is shared): nothing completes on that report
 * alone, and the requester finds out. */
static void test_forgotten_after_selective_ack(void **state)
{
	struct rig_end e[2];
	(void)state;
	rig_start();
	rig.drop = drop_it;
	drop_psn = 0xfffff9; /* the first tells them that the peer is one of ours */
	drops_left = 2;
	rig_pair(e, &eager);
	for (uint64_t i = 0; i < 6; i++) {
		rig_recv(&e[1], i, 0, 4096);
		rig_post(&e[0], IBV_WR_SEND, i, 0, 100, &e[1], 0);
	}
	expect(e[0].scq, 0, IBV_WC_SUCCESS);
	assert_false(rig_run(MS / 5, e[0].scq));
	assert_true(sr.counters.sacks_received > 0);
	sr_ooo_free(sr_qp(e[1].qp)->wire);
	for (uint64_t i = 0; i < 6; i++) {
		if (i)
			expect(e[0].scq, i, IBV_WC_SUCCESS);
		expect(e[1].rcq, i, IBV_WC_SUCCESS);
	}
	rig_free(e);
}

static uint32_t random_below(uint32_t n)
{
	static uint32_t x = 12345;
	x = x * 1664525 + 1013904223;
	return (x >> 8) % n;
}

/* Receives trickle in while messages of one and of many packets wait, on a bad network: each arrives once, in order, and completes
 * only when it did. */
static void trickle(double loss, double reorder, double dup, uint64_t seed, bool foreign)
{
	struct rig_end e[2];
	struct ibv_wc wc;
	uint32_t posted = 0, received = 0, done = 0, ready = 0;
	const uint32_t count = 200;
	rig_start();
	rig.loss = loss;
	rig.reorder = reorder;
	rig.dup = dup;
	rig.seed = seed;
	rig.foreign = foreign;
	rig_pair(e, &eager);
	while (done < count) {
		for (; posted < count && posted - done < 20; posted++) {
			memcpy(e[0].mem + 4 * posted, &posted, 4);
			struct ibv_sge sge = { (uintptr_t)e[0].mem + 4 * posted, posted % 3 ? 4 : MESSAGE, e[0].mr.key.key };
			struct ibv_send_wr wr = { .wr_id = posted, .opcode = posted % 2 ? IBV_WR_SEND : IBV_WR_RDMA_WRITE_WITH_IMM,
						  .imm_data = posted, .sg_list = &sge, .num_sge = 1 };
			wr.wr.rdma.remote_addr = (uintptr_t)e[1].mem + 65536 + 4 * posted;
			wr.wr.rdma.rkey = e[1].mr.key.key;
			assert_int_equal(rig_post_wr(&e[0], &wr), 0);
		}
		if (ready - received < random_below(4) && ready < count)
			rig_recv(&e[1], ready++, 0, 65536);
		bool idle = !rig_run(random_below(200) * 1000, NULL);
		while (rig_poll(e[1].rcq, &wc)) {
			uint32_t value;
			assert_int_equal(wc.status, IBV_WC_SUCCESS);
			assert_int_equal(wc.wr_id, received);
			assert_int_equal(wc.opcode, received % 2 ? IBV_WC_RECV : IBV_WC_RECV_RDMA_WITH_IMM);
			if (received % 2 == 0) {
				memcpy(&value, e[1].mem + 65536 + 4 * received, 4);
				assert_int_equal(wc.imm_data, received);
				assert_int_equal(value, received);
			}
			received++;
			idle = false;
		}
		while (rig_poll(e[0].scq, &wc)) {
			assert_int_equal(wc.status, IBV_WC_SUCCESS);
			assert_int_equal(wc.wr_id, done);
			done++;
			assert_true(done <= received);
			idle = false;
		}
		assert_true(!idle || rig.now_ns < 60000 * MS);
	}
	assert_int_equal(received, count);
	rig_free(e);
}

static void test_trickle(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 4; seed++)
		for (int foreign = 0; foreign < 2; foreign++) {
			trickle(0, 0, 0, seed, foreign);
			trickle(0.02, 0, 0, seed, foreign);
			trickle(0, 0.1, 0, seed, foreign);
			trickle(0.02, 0.05, 0.05, seed, foreign);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_asking_again_is_cheap),
		cmocka_unit_test(test_refused_after_selective_ack),
		cmocka_unit_test(test_forgotten_after_selective_ack),
		cmocka_unit_test(test_trickle),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
