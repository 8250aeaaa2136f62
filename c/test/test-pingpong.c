/*
 * c/datapath ping-pong and stream loops on whatever verbs device there is: both ends in this
 * process, every operation of every transport, and what happens when the other end is missing or breaks.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "datapath/datapath.h"
#include "test/verbs-pair.h"

#define SLOTS 16
#define SEED 77

/*
 * A thread sanitizer sees the embedded device as what it is, another thread. Waiting for a WRITE by looking at memory is a
 * race by design (the network has no happens-before), so under it the WRITE ping-pong is left to the other builds.
 */
#if defined(__SANITIZE_THREAD__)
#define POLLED_WRITE 0
#define EXCHANGES 30
#else
#define POLLED_WRITE 1
#if defined(__SANITIZE_ADDRESS__)
#define EXCHANGES 100
#else
#define EXCHANGES 300
#endif
#endif

static void open_pair(struct verbs_pair *pair, enum ibv_qp_type type, uint32_t size)
{
	const char *step;
	if (verbs_pair_open(pair, type, rk_dp_buffer_length(size, SLOTS), &step) != 0)
		fail_msg("cannot %s: %s", step, strerror(errno));
}

static struct rk_dp_pingpong config_of(const struct verbs_pair *pair, uint32_t role, uint32_t op, uint32_t size, uint32_t flags)
{
	const struct verbs_end *own = &pair->end[role], *peer = &pair->end[1 - role];
	return (struct rk_dp_pingpong){.abi = RK_DP_ABI,
				       .role = role,
				       .transport = pair->type,
				       .op = op,
				       .qp = (uintptr_t)own->qp,
				       .send_cq = (uintptr_t)own->send_cq,
				       .recv_cq = (uintptr_t)own->recv_cq,
				       .channel = (uintptr_t)own->channel,
				       .ah = (uintptr_t)own->ah,
				       .buffer = (uintptr_t)own->buffer,
				       .buffer_length = own->length,
				       .remote_addr = (uintptr_t)peer->buffer + rk_dp_rx_offset(size),
				       .lkey = own->mr->lkey,
				       .rkey = peer->mr->rkey,
				       .remote_qpn = peer->qp->qp_num,
				       .remote_qkey = VERBS_PAIR_QKEY,
				       .size = size,
				       .rx_slots = SLOTS,
				       .sq_depth = VERBS_PAIR_DEPTH,
				       .max_inline = pair->max_inline,
				       .flags = flags,
				       .core = -1,
				       .seed = SEED,
				       .timeout_ns = UINT64_C(5000000000)};
}

static void run_pair(enum ibv_qp_type type, uint32_t op, uint32_t size, uint32_t flags, uint64_t iterations)
{
	struct verbs_pair pair;
	open_pair(&pair, type, size);
	struct rk_dp_stats *stats[2] = {rk_dp_stats_new(), rk_dp_stats_new()};
	struct rk_dp_loop *client, *server = NULL;
	struct rk_dp_pingpong config = config_of(&pair, RK_DP_SERVER, op, size, flags);
	if (op < RK_DP_READ)
		assert_int_equal(rk_dp_pingpong_start(&config, stats[1], &server), 0);
	else if (op == RK_DP_READ)
		rk_dp_pattern_fill(pair.end[1].buffer + rk_dp_rx_offset(size), size, SEED, 0, RK_DP_SERVER);
	config = config_of(&pair, RK_DP_CLIENT, op, size, flags);
	config.iterations = iterations;
	config.warmup = 3;
	assert_int_equal(rk_dp_pingpong_start(&config, stats[0], &client), 0);
	int result = rk_dp_loop_join(client);
	if (result != 0)
		print_error("client: %s\n", stats[0]->message);
	if (server) {
		rk_dp_loop_stop(server);
		if (rk_dp_loop_join(server) != 0)
			print_error("server: %s\n", stats[1]->message);
	}
	assert_int_equal(result, 0);
	assert_int_equal(stats[0]->state, RK_DP_DONE);
	assert_int_equal(stats[0]->posted, iterations);
	/* Shared memory and loopback lose nothing, but a busy machine may exceed a timeout on the lossy transports. */
	assert_int_equal(stats[0]->completed + stats[0]->lost, iterations);
	if (type == IBV_QPT_RC)
		assert_int_equal(stats[0]->lost, 0);
	assert_int_equal(stats[0]->hist.total, stats[0]->completed);
	for (int i = 0; i < 2; i++) {
		if (stats[i]->mismatches)
			print_error("mismatch at end %d: exchange %llu offset %llu\n", i, (unsigned long long)stats[i]->mismatch_sequence,
				    (unsigned long long)stats[i]->mismatch_offset);
		assert_int_equal(stats[i]->mismatches, 0);
	}
	if (flags & RK_DP_VERIFY)
		assert_true(stats[0]->verified > 0);
	/* The server waits long before the first message comes. (A device may finish a READ before anybody can sleep.) */
	if (server && (flags & RK_DP_EVENTS))
		assert_true(stats[1]->wakeups > 0);
	if (op == RK_DP_FETCH_ADD || op == RK_DP_CMP_SWAP) {
		uint64_t counter;
		memcpy(&counter, pair.end[1].buffer + rk_dp_rx_offset(size), sizeof(counter));
		assert_int_equal(counter, iterations + 3);
	}
	rk_dp_stats_free(stats[0]);
	rk_dp_stats_free(stats[1]);
	verbs_pair_close(&pair);
}

static void run_sizes(enum ibv_qp_type type, uint32_t op, uint32_t largest)
{
	const uint32_t sizes[] = {1, 8, 9, 64, 1000, 4096, 100000};
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]) && sizes[i] <= largest; i++) {
		run_pair(type, op, sizes[i], 0, EXCHANGES);
		run_pair(type, op, sizes[i], RK_DP_VERIFY, EXCHANGES);
	}
}

static void rc_send(void **state)
{
	(void)state;
	run_pair(IBV_QPT_RC, RK_DP_SEND, 0, 0, 100);
	run_sizes(IBV_QPT_RC, RK_DP_SEND, 100000);
}

static void rc_write(void **state)
{
	(void)state;
	if (POLLED_WRITE)
		run_sizes(IBV_QPT_RC, RK_DP_WRITE, 100000);
}

static void rc_write_imm(void **state)
{
	(void)state;
	run_sizes(IBV_QPT_RC, RK_DP_WRITE_IMM, 100000);
}

static void rc_read(void **state)
{
	(void)state;
	run_sizes(IBV_QPT_RC, RK_DP_READ, 100000);
}

static void rc_atomics(void **state)
{
	(void)state;
	run_pair(IBV_QPT_RC, RK_DP_FETCH_ADD, 8, RK_DP_VERIFY, EXCHANGES);
	run_pair(IBV_QPT_RC, RK_DP_CMP_SWAP, 8, RK_DP_VERIFY, EXCHANGES);
}

static void uc_all(void **state)
{
	(void)state;
	run_sizes(IBV_QPT_UC, RK_DP_SEND, 100000);
	if (POLLED_WRITE)
		run_sizes(IBV_QPT_UC, RK_DP_WRITE, 100000);
	run_sizes(IBV_QPT_UC, RK_DP_WRITE_IMM, 100000);
}

static void ud_send(void **state)
{
	(void)state;
	run_sizes(IBV_QPT_UD, RK_DP_SEND, 1000);
}

static void events(void **state)
{
	(void)state;
	run_pair(IBV_QPT_RC, RK_DP_SEND, 64, RK_DP_EVENTS | RK_DP_VERIFY, 100);
	run_pair(IBV_QPT_RC, RK_DP_WRITE_IMM, 64, RK_DP_EVENTS, 100);
	run_pair(IBV_QPT_RC, RK_DP_READ, 64, RK_DP_EVENTS, 100);
	run_pair(IBV_QPT_UD, RK_DP_SEND, 64, RK_DP_EVENTS, 100);
}

/* Nobody answers: the lossy transports count, the reliable one fails; none hangs. */
static void silence_is_loss_or_failure(void **state)
{
	(void)state;
	const enum ibv_qp_type types[] = {IBV_QPT_UC, IBV_QPT_UD, IBV_QPT_RC};
	for (int i = 0; i < 3; i++) {
		struct verbs_pair pair;
		open_pair(&pair, types[i], 64);
		struct rk_dp_stats *stats = rk_dp_stats_new();
		struct rk_dp_loop *loop;
		struct rk_dp_pingpong config = config_of(&pair, RK_DP_CLIENT, RK_DP_SEND, 64, 0);
		config.iterations = 4;
		config.timeout_ns = 20000000;
		/* RC: the peer has a receive but no loop, so the message arrives and stays unanswered. */
		struct ibv_sge sge = {.addr = (uintptr_t)pair.end[1].buffer, .length = 128, .lkey = pair.end[1].mr->lkey};
		struct ibv_recv_wr wr = {.sg_list = &sge, .num_sge = 1}, *bad;
		assert_int_equal(ibv_post_recv(pair.end[1].qp, &wr, &bad), 0);
		assert_int_equal(rk_dp_pingpong_start(&config, stats, &loop), 0);
		int result = rk_dp_loop_join(loop);
		if (types[i] == IBV_QPT_RC) {
			assert_int_equal(result, -ETIMEDOUT);
			assert_int_equal(stats->error_stage, RK_DP_STAGE_TIMEOUT);
		} else {
			assert_int_equal(result, 0);
			assert_int_equal(stats->lost, 4);
			assert_int_equal(stats->completed, 0);
		}
		rk_dp_stats_free(stats);
		verbs_pair_close(&pair);
	}
}

/* A wrong rkey is refused by the peer: the completion status is recorded, not guessed. */
static void a_refused_request_is_recorded(void **state)
{
	(void)state;
	struct verbs_pair pair;
	open_pair(&pair, IBV_QPT_RC, 64);
	struct rk_dp_stats *stats = rk_dp_stats_new();
	struct rk_dp_loop *loop;
	struct rk_dp_pingpong config = config_of(&pair, RK_DP_CLIENT, RK_DP_READ, 64, 0);
	config.iterations = 10;
	config.rkey ^= 0x5500;
	assert_int_equal(rk_dp_pingpong_start(&config, stats, &loop), 0);
	assert_int_equal(rk_dp_loop_join(loop), -EIO);
	assert_int_equal(stats->state, RK_DP_FAILED);
	assert_int_equal(stats->error_stage, RK_DP_STAGE_COMPLETION);
	assert_int_equal(stats->wc_status, IBV_WC_REM_ACCESS_ERR);
	assert_int_equal(stats->completed, 0);
	rk_dp_stats_free(stats);
	verbs_pair_close(&pair);
}

static void damage_is_found(void **state)
{
	(void)state;
	struct verbs_pair pair;
	open_pair(&pair, IBV_QPT_RC, 256);
	struct rk_dp_stats *stats = rk_dp_stats_new();
	struct rk_dp_loop *loop;
	uint8_t *target = pair.end[1].buffer + rk_dp_rx_offset(256);
	rk_dp_pattern_fill(target, 256, SEED, 0, RK_DP_SERVER);
	target[200] ^= 1;
	struct rk_dp_pingpong config = config_of(&pair, RK_DP_CLIENT, RK_DP_READ, 256, RK_DP_VERIFY);
	config.iterations = 5;
	assert_int_equal(rk_dp_pingpong_start(&config, stats, &loop), 0);
	assert_int_equal(rk_dp_loop_join(loop), 0);
	assert_int_equal(stats->mismatches, 5);
	assert_int_equal(stats->mismatch_offset, 200);
	assert_int_equal(stats->mismatch_found ^ stats->mismatch_expected, 1);
	rk_dp_stats_free(stats);
	verbs_pair_close(&pair);
}

static void run_stream(enum ibv_qp_type type, uint32_t op, uint32_t size, uint32_t post_list)
{
	enum { PLACES = 32 };
	struct verbs_pair pair;
	const char *step;
	if (verbs_pair_open(&pair, type, (uint64_t)PLACES * ((size + 40 + 63) / 64 * 64), &step) != 0)
		fail_msg("cannot %s: %s", step, strerror(errno));
	struct rk_dp_stats *stats[2] = {rk_dp_stats_new(), rk_dp_stats_new()};
	struct rk_dp_loop *loops[2] = {NULL, NULL};
	for (int role = 1; role >= 0; role--) {
		const struct verbs_end *own = &pair.end[role], *peer = &pair.end[1 - role];
		struct rk_dp_stream config = {.abi = RK_DP_ABI,
					      .role = (uint32_t)role,
					      .transport = type,
					      .op = op,
					      .qp = (uintptr_t)own->qp,
					      .send_cq = (uintptr_t)own->send_cq,
					      .recv_cq = (uintptr_t)own->recv_cq,
					      .ah = (uintptr_t)own->ah,
					      .buffer = (uintptr_t)own->buffer,
					      .buffer_length = own->length,
					      .remote_addr = (uintptr_t)peer->buffer,
					      .lkey = own->mr->lkey,
					      .rkey = peer->mr->rkey,
					      .remote_qpn = peer->qp->qp_num,
					      .remote_qkey = VERBS_PAIR_QKEY,
					      .size = size,
					      .slots = PLACES,
					      .depth = role ? VERBS_PAIR_DEPTH : 32,
					      .signal_every = 16,
					      .post_list = post_list,
					      .max_inline = pair.max_inline,
					      .flags = RK_DP_TIME_OPS,
					      .core = -1,
					      .iterations = 1600,
					      .warmup = 160,
					      .timeout_ns = UINT64_C(5000000000)};
		if (role == RK_DP_SERVER && op != RK_DP_SEND && op != RK_DP_WRITE_IMM)
			continue;
		assert_int_equal(rk_dp_stream_start(&config, stats[role], &loops[role]), 0);
	}
	int result = rk_dp_loop_join(loops[0]);
	if (result != 0)
		print_error("client of type %d, operation %u, %u bytes, lists of %u: %s (%llu completed)\n", type, op, size, post_list,
			    stats[0]->message, (unsigned long long)stats[0]->completed);
	if (loops[1]) {
		rk_dp_loop_stop(loops[1]);
		assert_int_equal(rk_dp_loop_join(loops[1]), 0);
	}
	assert_int_equal(result, 0);
	assert_int_equal(stats[0]->completed, 1600);
	assert_int_equal(stats[0]->warmed_up, 160);
	assert_int_equal(stats[0]->bytes, (uint64_t)1600 * size);
	assert_true(stats[0]->elapsed_ns > 0);
	assert_true(stats[0]->hist.total > 0);
	if (loops[1] && type == IBV_QPT_RC)
		assert_int_equal(stats[1]->completed, 1760);
	rk_dp_stats_free(stats[0]);
	rk_dp_stats_free(stats[1]);
	verbs_pair_close(&pair);
}

static void streams(void **state)
{
	(void)state;
	const uint32_t ops[] = {RK_DP_SEND, RK_DP_WRITE, RK_DP_WRITE_IMM, RK_DP_READ};
	for (int i = 0; i < 4; i++) {
		run_stream(IBV_QPT_RC, ops[i], 8, 1);
		run_stream(IBV_QPT_RC, ops[i], 4096, 8);
	}
	run_stream(IBV_QPT_RC, RK_DP_FETCH_ADD, 8, 4);
	run_stream(IBV_QPT_UC, RK_DP_WRITE, 64, 16);
	run_stream(IBV_QPT_UD, RK_DP_SEND, 64, 4);
}

static void bad_configurations_are_refused(void **state)
{
	(void)state;
	struct verbs_pair pair;
	open_pair(&pair, IBV_QPT_RC, 64);
	struct rk_dp_stats *stats = rk_dp_stats_new();
	struct rk_dp_loop *loop;
	struct rk_dp_pingpong good = config_of(&pair, RK_DP_CLIENT, RK_DP_SEND, 64, 0), bad;
#define REFUSED(change)                                                                                                                    \
	do {                                                                                                                               \
		bad = good;                                                                                                                \
		change;                                                                                                                    \
		assert_int_equal(rk_dp_pingpong_start(&bad, stats, &loop), -EINVAL);                                                       \
		assert_int_equal(stats->error_stage, RK_DP_STAGE_CONFIG);                                                                  \
		assert_string_not_equal(stats->message, "");                                                                               \
	} while (0)
	REFUSED(bad.abi = 0);
	REFUSED(bad.op = 9);
	REFUSED(bad.qp = 0);
	REFUSED(bad.buffer_length = 10);
	REFUSED(bad.rx_slots = 0);
	REFUSED(bad.timeout_ns = 0);
	REFUSED(bad.op = RK_DP_FETCH_ADD);
	REFUSED((bad.op = RK_DP_WRITE, bad.flags = RK_DP_EVENTS));
	REFUSED((bad.transport = IBV_QPT_UC, bad.op = RK_DP_READ));
	REFUSED((bad.transport = IBV_QPT_UD, bad.op = RK_DP_WRITE));
	REFUSED((bad.role = RK_DP_SERVER, bad.op = RK_DP_READ));
	rk_dp_stats_free(stats);
	verbs_pair_close(&pair);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bad_configurations_are_refused),
		cmocka_unit_test(rc_send),
		cmocka_unit_test(rc_write),
		cmocka_unit_test(rc_write_imm),
		cmocka_unit_test(rc_read),
		cmocka_unit_test(rc_atomics),
		cmocka_unit_test(uc_all),
		cmocka_unit_test(ud_send),
		cmocka_unit_test(events),
		cmocka_unit_test(silence_is_loss_or_failure),
		cmocka_unit_test(a_refused_request_is_recorded),
		cmocka_unit_test(damage_is_found),
		cmocka_unit_test(streams),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
