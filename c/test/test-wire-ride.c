/* Acknowledgements that ride in requests: a conversation needs no others, and one that is too old confirms nothing. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>
#include "wire-rig.h"

#define MS UINT64_C(1000000)
#define FIRST_PSN 0xfffff0u

static const struct rig_conf conf = { .psn = { FIRST_PSN, 5 }, .depth = 256 };

static uint32_t responses;
static bool dropping;
static bool watch(const struct sr_pkt *p)
{
	if (p->flags & SR_M_RESPONSE)
		responses++;
	return dropping;
}

static void expect(struct ibv_cq *cq, uint64_t wr_id)
{
	struct ibv_wc wc;
	if (!rig_poll(cq, &wc)) { /* like ibv_poll_cq(): progress only when there is nothing to hand out */
		assert_true(rig_run(1000 * MS, cq));
		assert_true(rig_poll(cq, &wc));
	}
	assert_int_equal(wc.wr_id, wr_id);
	assert_int_equal(wc.status, IBV_WC_SUCCESS);
}

static void start(struct rig_end e[2])
{
	rig_start();
	rig.drop = watch;
	dropping = false;
	rig_pair(e, &conf);
	for (uint64_t i = 0; i < 200; i++) {
		rig_recv(&e[0], i, 0, 64);
		rig_recv(&e[1], i, 0, 64);
	}
}

static void test_conversation(void **state)
{
	struct rig_end e[2];
	(void)state;
	start(e);
	rig.polls = true;
	for (uint64_t i = 0; i < 150; i++) {
		if (i == 4)
			responses = 0; /* at first neither knows that the other understands */
		rig_post(&e[0], IBV_WR_SEND, i, 0, 64, &e[1], 0);
		expect(e[1].rcq, i);
		rig_post(&e[1], IBV_WR_SEND, i, 0, 64, &e[0], 0);
		expect(e[0].rcq, i);
		expect(e[0].scq, i); /* its acknowledgement came with the answer */
	}
	assert_int_equal(responses, 0);
	for (uint64_t i = 0; i < 150; i++)
		expect(e[1].scq, i);
	rig_free(e);
}

/* Also when packets get lost: what was in them is asked for. */
static void test_conversation_with_losses(void **state)
{
	struct rig_end e[2];
	(void)state;
	for (uint64_t seed = 1; seed < 20; seed++) {
		start(e);
		rig.polls = true;
		rig.loss = 0.05;
		rig.dup = rig.reorder = 0.05;
		rig.seed = seed;
		for (uint64_t i = 0; i < 100; i++) {
			rig_post(&e[0], IBV_WR_SEND, i, 0, 64, &e[1], 0);
			expect(e[1].rcq, i);
			rig_post(&e[1], IBV_WR_SEND, i, 0, 64, &e[0], 0);
			expect(e[0].rcq, i);
		}
		for (uint64_t i = 0; i < 100; i++) {
			expect(e[0].scq, i);
			expect(e[1].scq, i);
		}
		rig_free(e);
	}
}

static void request_with(struct rig_end *to, uint32_t psn, uint32_t rides)
{
	struct sr_pkt p = { .opcode = SR_OP_RC_SEND_ONLY, .migreq = true, .pkey = SR_DEFAULT_PKEY, .resv_fb = SR_BTH_MARK,
			    .qpn = to->qp->qp_num, .psn = psn, .rides = true, .ride = rides & 0x3f };
	uint8_t raw[SR_HEADERS_MAX];
	rig_inject(to, raw, sr_pkt_encode(&p, raw));
}

static void test_too_old(void **state)
{
	struct rig_end e[2];
	struct ibv_wc wc;
	(void)state;
	start(e);
	for (uint64_t i = 0; i < 50; i++)
		rig_post(&e[0], IBV_WR_SEND, i, 0, 64, &e[1], 0);
	for (uint64_t i = 0; i < 50; i++)
		expect(e[0].scq, i);
	dropping = true;
	for (uint64_t i = 50; i < 90; i++)
		rig_post(&e[0], IBV_WR_SEND, i, 0, 64, &e[1], 0);
	/* Left before the 50 were confirmed and was overtaken by those confirmations: read modulo 64 it would confirm 24 more. */
	uint32_t una = FIRST_PSN + 50;
	request_with(&e[0], 5, una - 1 - 40);
	expect(e[0].rcq, 0);
	assert_false(rig_poll(e[0].scq, &wc));
	/* The next one cannot be that old. */
	request_with(&e[0], 6, una - 1 - 20);
	assert_false(rig_poll(e[0].scq, &wc));
	request_with(&e[0], 7, una + 4);
	for (uint64_t i = 50; i < 55; i++) {
		assert_true(rig_poll(e[0].scq, &wc));
		assert_int_equal(wc.wr_id, i);
	}
	assert_false(rig_poll(e[0].scq, &wc));
	/* Neither can what is too far ahead to be told from the past, nor what was never sent. */
	request_with(&e[0], 8, una + 36);
	request_with(&e[0], 9, una + 36 + 25);
	assert_false(rig_poll(e[0].scq, &wc));
	rig_free(e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_conversation),
		cmocka_unit_test(test_conversation_with_losses),
		cmocka_unit_test(test_too_old),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
