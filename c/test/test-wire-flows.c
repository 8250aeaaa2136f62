/*
 * Bulk transfers over the simulated network, in its own time: what loss costs, whether two flows share a bottleneck fairly, how
 * long the queue gets. The clock is virtual, so these numbers are the same on every machine.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "wire-rig.h"

/* ThreadSanitizer makes a simulated second last a minute: it gets a tenth of the time, and the first of the tests. */
#ifdef __SANITIZE_THREAD__
#define SHORT 10
#else
#define SHORT 1
#endif

#define MESSAGE (256 * 1024)
#define RATE UINT64_C(1250000000) /* 10 Gbit/s */

struct flow {
	struct rig_end e[2];
	enum ibv_wr_opcode op;
	uint64_t posted, done;
};

static void open_flow(struct flow *f, enum ibv_wr_opcode op)
{
	*f = (struct flow){ .op = op };
	rig_pair(f->e, &(struct rig_conf){ .mem = MESSAGE, .depth = 32, .psn = { 0xfff000, 9 } });
}

static void keep_busy(struct flow *f)
{
	struct ibv_wc wc;
	while (rig_poll(f->e[0].scq, &wc)) {
		assert_int_equal(wc.status, IBV_WC_SUCCESS);
		f->done++;
	}
	while (f->posted - f->done < 16)
		assert_int_equal(rig_post(&f->e[0], f->op, f->posted++, 0, MESSAGE, &f->e[1], 0), 0);
}

/* Runs the flows for so long; returns the bytes that all of them completed. */
static uint64_t run(struct flow *f, int count, uint64_t ns)
{
	uint64_t start[8], total = 0, end_ns = rig.now_ns + ns;
	for (int i = 0; i < count; i++)
		start[i] = f[i].done;
	while (rig.now_ns < end_ns) {
		for (int i = 0; i < count; i++)
			keep_busy(&f[i]);
		rig_run(20000, NULL);
	}
	for (int i = 0; i < count; i++)
		total += (f[i].done - start[i]) * MESSAGE;
	return total;
}

static uint64_t goodput(enum ibv_wr_opcode op, double loss, uint64_t ns)
{
	struct flow f;
	rig_start();
	rig.bytes_per_s = RATE;
	rig.queue_bytes = 1 << 20;
	rig.delay_ns = 20000;
	open_flow(&f, op);
	run(&f, 1, 20000000); /* learn the path first */
	rig.loss = loss;
	rig.trace = getenv("RIG_TRACE") && loss > 0 && op == IBV_WR_RDMA_READ;
	uint64_t sent = rig.sent, lost = rig.lost, again = sr.counters.retransmitted_packets;
	uint64_t bytes = run(&f, 1, ns);
	print_message("%s loss %.3f: %.0f MB/s, %llu sent, %llu lost, %llu again, timeouts %llu, cwnd %u, longest queue %llu us\n",
		      op == IBV_WR_RDMA_READ ? "READ" : "WRITE", loss, (double)bytes * 1e3 / (double)ns,
		      (unsigned long long)(rig.sent - sent), (unsigned long long)(rig.lost - lost),
		      (unsigned long long)(sr.counters.retransmitted_packets - again),
		      (unsigned long long)sr.counters.local_ack_timeout_err, sr_cc_window(&sr_qp(f.e[0].qp)->wire->req.cc),
		      (unsigned long long)rig.max_queue_ns / 1000);
	assert_int_equal(f.e[0].qp->state, IBV_QPS_RTS);
	rig_free(f.e);
	return bytes * 1000000000 / ns;
}

static void test_write_fills_the_link(void **state)
{
	(void)state;
	assert_true(goodput(IBV_WR_RDMA_WRITE, 0, 100000000 / SHORT) > RATE * 8 / 10);
	assert_int_equal(sr.counters.retransmitted_packets, 0);
}

static void test_loss(void **state)
{
	(void)state;
	for (int read = 0; read < 2; read++) {
		enum ibv_wr_opcode op = read ? IBV_WR_RDMA_READ : IBV_WR_RDMA_WRITE;
		uint64_t clean = goodput(op, 0, 100000000);
		assert_true(goodput(op, 0.01, 100000000) > clean * 6 / 10);
		assert_true(goodput(op, 0.05, 100000000) > clean * 4 / 10);
		goodput(op, 0.1, 100000000);
	}
}

/* Times in microseconds wrap around every 71 minutes, and are compared as if signed: neither the first half nor the second nor the
 * moment of the change may cost more than what was lost; nor may a pause of any length. */
static void test_uptimes(void **state)
{
	static const uint64_t starts_s[] = { 1, 2146, 2148, 3000, 4294, 6000, 9000 }, pauses_s[] = { 1, 2000, 2500, 4000, 4500 };
	struct flow f;
	(void)state;
	for (size_t i = 0; i < 12; i++) {
		rig_start();
		rig.bytes_per_s = RATE;
		rig.queue_bytes = 1 << 20;
		rig.now_ns = (i < 7 ? starts_s[i] : starts_s[i % 7]) * UINT64_C(1000000000);
		open_flow(&f, IBV_WR_RDMA_WRITE);
		run(&f, 1, 1000000);
		rig_run(1000000000, NULL); /* all done */
		if (i >= 7)
			rig.now_ns += pauses_s[i - 7] * UINT64_C(1000000000);
		uint64_t lost = rig.lost, again = sr.counters.retransmitted_packets;
		rig.loss = 0.01;
		run(&f, 1, 20000000);
		lost = rig.lost - lost;
		again = sr.counters.retransmitted_packets - again;
		assert_true(lost > 100);
		assert_true(again < lost * 3 / 2); /* some of what is lost are acknowledgements */
		rig_free(f.e);
	}
}

/* Packets that are late but not lost are sent again, once each: their late arrival must not make others look lost. */
static void test_late_packets(void **state)
{
	struct flow f;
	(void)state;
	for (int read = 0; read < 2; read++) {
		rig_start();
		rig.bytes_per_s = RATE;
		rig.delay_ns = 1000000;
		open_flow(&f, read ? IBV_WR_RDMA_READ : IBV_WR_RDMA_WRITE);
		run(&f, 1, 50000000);
		uint64_t sent = rig.sent, again = sr.counters.retransmitted_packets;
		rig.reorder = 0.002;
		run(&f, 1, 100000000);
		sent = rig.sent - sent;
		again = sr.counters.retransmitted_packets - again;
		print_message("%s: of %llu packets %.0f came late, %llu were sent again\n", read ? "READ" : "WRITE",
			      (unsigned long long)sent, (double)sent * rig.reorder, (unsigned long long)again);
		assert_true((double)again < (double)sent * rig.reorder * 2);
		rig_free(f.e);
	}
}

#define FLOWS 8
static void test_fair(void **state)
{
	struct flow f[FLOWS];
	uint64_t share[FLOWS], total = 0;
	(void)state;
	rig_start();
	rig.bytes_per_s = RATE;
	rig.queue_bytes = 4 << 20;
	rig.delay_ns = 20000;
	open_flow(&f[0], IBV_WR_RDMA_WRITE);
	run(f, 1, 50000000); /* the first has the link for itself */
	for (int i = 1; i < FLOWS; i++)
		open_flow(&f[i], IBV_WR_RDMA_WRITE);
	run(f, FLOWS, 400000000);
	for (int i = 0; i < FLOWS; i++)
		share[i] = f[i].done;
	rig.max_queue_ns = 0;
	run(f, FLOWS, 400000000);
	for (int i = 0; i < FLOWS; i++)
		total += share[i] = f[i].done - share[i];
	double sum2 = 0;
	for (int i = 0; i < FLOWS; i++)
		sum2 += (double)share[i] * (double)share[i];
	double jain = (double)total * (double)total / (FLOWS * sum2);
	for (int i = 0; i < FLOWS; i++)
		print_message("%llu ", (unsigned long long)share[i]);
	print_message("messages, Jain's index %.3f, longest queue %llu us\n", jain, (unsigned long long)rig.max_queue_ns / 1000);
	assert_true(jain > 0.9);
	assert_true(total * MESSAGE > RATE * 4 / 10 * 7 / 10);
	for (int i = 0; i < FLOWS; i++)
		rig_free(f[i].e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_write_fills_the_link),
		cmocka_unit_test(test_uptimes),
		cmocka_unit_test(test_loss),
		cmocka_unit_test(test_late_packets),
		cmocka_unit_test(test_fair),
	};
	const struct CMUnitTest first[] = { tests[0] };
	return SHORT > 1 ? cmocka_run_group_tests(first, NULL, NULL) : cmocka_run_group_tests(tests, NULL, NULL);
}
