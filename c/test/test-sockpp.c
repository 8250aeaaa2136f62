/* c/datapath/sockpp.c: the kernel references over loopback, both ends in this process, and what happens when one is missing. */
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "datapath/datapath.h"

static void nap_ms(long ms)
{
	struct timespec nap = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
	nanosleep(&nap, NULL);
}

static struct rk_dp_sockpp base(uint32_t protocol, uint32_t flags, uint32_t size)
{
	return (struct rk_dp_sockpp){.abi = RK_DP_ABI,
				     .protocol = protocol,
				     .flags = flags,
				     .size = size,
				     .core = -1,
				     .seed = 11,
				     .timeout_ns = UINT64_C(2000000000)};
}

static void check_pair(uint32_t protocol, uint32_t flags, uint32_t size, uint64_t iterations)
{
	uint16_t port = 0;
	int32_t listener = rk_dp_socket_listen(protocol, "127.0.0.1", &port);
	assert_true(listener >= 0);
	assert_int_not_equal(port, 0);
	struct rk_dp_stats *server_stats = rk_dp_stats_new(), *client_stats = rk_dp_stats_new();
	struct rk_dp_loop *server, *client;
	struct rk_dp_sockpp config = base(protocol, flags, size);
	config.role = RK_DP_SERVER;
	config.fd = listener;
	assert_int_equal(rk_dp_sockpp_start(&config, server_stats, &server), 0);
	int32_t fd = rk_dp_socket_connect(protocol, "127.0.0.1", port, 2000);
	assert_true(fd >= 0);
	config.role = RK_DP_CLIENT;
	config.fd = fd;
	config.iterations = iterations;
	config.warmup = 5;
	assert_int_equal(rk_dp_sockpp_start(&config, client_stats, &client), 0);
	assert_int_equal(rk_dp_loop_join(client), 0);
	rk_dp_loop_stop(server);
	assert_int_equal(rk_dp_loop_join(server), 0);

	assert_int_equal(client_stats->state, RK_DP_DONE);
	assert_string_equal(client_stats->message, "");
	assert_int_equal(client_stats->posted, iterations);
	assert_int_equal(client_stats->completed, iterations);
	assert_int_equal(client_stats->hist.total, iterations);
	assert_int_equal(client_stats->warmed_up, 5);
	assert_int_equal(client_stats->bytes, iterations * size);
	assert_int_equal(client_stats->mismatches, 0);
	assert_int_equal(server_stats->mismatches, 0);
	assert_int_equal(server_stats->completed, iterations + 5);
	if (flags & RK_DP_VERIFY) {
		assert_int_equal(client_stats->verified, iterations + 5);
		assert_int_equal(server_stats->verified, iterations + 5);
	}
	assert_true(client_stats->hist.min_ns > 0);
	assert_true(client_stats->hist.sum_ns <= client_stats->elapsed_ns);
	rk_dp_socket_close(fd);
	rk_dp_socket_close(listener);
	rk_dp_stats_free(server_stats);
	rk_dp_stats_free(client_stats);
}

static void tcp_and_udp_in_all_modes(void **state)
{
	(void)state;
	const uint32_t protocols[] = {IPPROTO_TCP, IPPROTO_UDP};
	for (int p = 0; p < 2; p++)
		for (uint32_t flags = 0; flags <= (RK_DP_BUSY | RK_DP_VERIFY); flags++) {
			if (flags & ~(uint32_t)(RK_DP_BUSY | RK_DP_VERIFY))
				continue;
			check_pair(protocols[p], flags, 1, 20);
			check_pair(protocols[p], flags, 64, 20);
			check_pair(protocols[p], flags, 20000, 20);
		}
	check_pair(IPPROTO_TCP, RK_DP_VERIFY, 1 << 20, 3);
}

static void paced_samples_are_recorded(void **state)
{
	(void)state;
	uint16_t port = 0;
	int32_t listener = rk_dp_socket_listen(IPPROTO_UDP, "::1", &port);
	if (listener == -EADDRNOTAVAIL || listener == -EAFNOSUPPORT)
		listener = rk_dp_socket_listen(IPPROTO_UDP, "127.0.0.1", &port);
	assert_true(listener >= 0);
	struct rk_dp_stats *stats = rk_dp_stats_new();
	struct rk_dp_loop *loop;
	/* Nobody answers: every message is lost, after its timeout, and the loop ends all the same. */
	struct sockaddr_storage local;
	socklen_t length = sizeof(local);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&local, &length), 0);
	int32_t fd = rk_dp_socket_connect(IPPROTO_UDP, local.ss_family == AF_INET6 ? "::1" : "127.0.0.1", port, 1000);
	assert_true(fd >= 0);
	struct rk_dp_sockpp config = base(IPPROTO_UDP, RK_DP_RECORD, 32);
	config.fd = fd;
	config.iterations = 3;
	config.timeout_ns = 20000000;
	config.interval_ns = 30000000;
	assert_int_equal(rk_dp_sockpp_start(&config, stats, &loop), 0);
	assert_int_equal(rk_dp_loop_join(loop), 0);
	assert_int_equal(stats->posted, 3);
	assert_int_equal(stats->lost, 3);
	assert_int_equal(stats->completed, 0);
	assert_int_equal(stats->samples_written, 3);
	for (uint64_t i = 0; i < 3; i++) {
		assert_int_equal(stats->samples[i].sequence, i);
		assert_int_equal(stats->samples[i].rtt_ns, UINT64_MAX);
	}
	rk_dp_socket_close(fd);
	rk_dp_socket_close(listener);
	rk_dp_stats_free(stats);
}

static void a_peer_that_leaves_is_reported(void **state)
{
	(void)state;
	uint16_t port = 0;
	int32_t listener = rk_dp_socket_listen(IPPROTO_TCP, "127.0.0.1", &port);
	int32_t fd = rk_dp_socket_connect(IPPROTO_TCP, "127.0.0.1", port, 1000);
	assert_true(fd >= 0);
	struct rk_dp_stats *stats = rk_dp_stats_new();
	struct rk_dp_loop *loop;
	struct rk_dp_sockpp config = base(IPPROTO_TCP, 0, 64);
	config.fd = fd;
	assert_int_equal(rk_dp_sockpp_start(&config, stats, &loop), 0);
	int peer = accept(listener, NULL, NULL);
	assert_true(peer >= 0);
	close(peer);
	assert_true(rk_dp_loop_join(loop) < 0);
	assert_int_equal(stats->state, RK_DP_FAILED);
	assert_int_equal(stats->error_stage, RK_DP_STAGE_PEER_GONE);
	assert_string_not_equal(stats->message, "");
	rk_dp_socket_close(fd);
	rk_dp_socket_close(listener);
	rk_dp_stats_free(stats);
}

static void stop_ends_a_silent_loop(void **state)
{
	(void)state;
	uint16_t port = 0;
	int32_t listener = rk_dp_socket_listen(IPPROTO_TCP, "127.0.0.1", &port);
	struct rk_dp_stats *stats = rk_dp_stats_new();
	struct rk_dp_loop *loop;
	struct rk_dp_sockpp config = base(IPPROTO_TCP, RK_DP_BUSY, 64);
	config.role = RK_DP_SERVER;
	config.fd = listener;
	assert_int_equal(rk_dp_sockpp_start(&config, stats, &loop), 0);
	nap_ms(20);
	assert_int_equal(rk_dp_loop_poll(loop), 0);
	__atomic_store_n(&stats->stop, 1, __ATOMIC_RELAXED); /* as a mapped view in another language would */
	assert_int_equal(rk_dp_loop_join(loop), 0);
	assert_int_equal(stats->state, RK_DP_DONE);
	/* Shutdown does the same for every loop that is left. */
	assert_int_equal(rk_dp_sockpp_start(&config, stats, &loop), 0);
	rk_dp_shutdown();
	assert_int_equal(stats->state, RK_DP_DONE);
	rk_dp_socket_close(listener);
	rk_dp_stats_free(stats);
}

static void bad_configurations_are_refused(void **state)
{
	(void)state;
	struct rk_dp_stats *stats = rk_dp_stats_new();
	struct rk_dp_loop *loop;
	struct rk_dp_sockpp config = base(IPPROTO_UDP, 0, 70000);
	assert_int_equal(rk_dp_sockpp_start(&config, stats, &loop), -EINVAL);
	assert_int_equal(stats->error_stage, RK_DP_STAGE_CONFIG);
	assert_null(loop);
	config = base(IPPROTO_TCP, 0, 64);
	config.abi = 77;
	assert_int_equal(rk_dp_sockpp_start(&config, stats, &loop), -EINVAL);
	assert_int_equal(rk_dp_sockpp_start(NULL, stats, &loop), -EINVAL);
	uint16_t port = 0;
	assert_int_equal(rk_dp_socket_listen(IPPROTO_TCP, "not-an-address", &port), -EINVAL);
	assert_int_equal(rk_dp_socket_listen(IPPROTO_TCP, "fe80::1%nosuchinterface", &port), -ENODEV);
	assert_int_equal(rk_dp_socket_listen(IPPROTO_TCP, "0000:0000:0000:0000:0000:0000:0000:0001:0002:0003:0004", &port), -EINVAL);
	assert_int_equal(rk_dp_socket_listen(IPPROTO_SCTP, "127.0.0.1", &port), -EPROTONOSUPPORT);
	/* Port 1 of loopback has no listener. */
	assert_int_equal(rk_dp_socket_connect(IPPROTO_TCP, "127.0.0.1", 1, 500), -ECONNREFUSED);
	rk_dp_stats_free(stats);
}

static void buffers_are_whole_pages(void **state)
{
	(void)state;
	long page = sysconf(_SC_PAGESIZE);
	uint8_t *buffer = rk_dp_buffer_new(1);
	assert_non_null(buffer);
	assert_int_equal((uintptr_t)buffer % (uintptr_t)page, 0);
	memset(buffer, 1, (size_t)page);
	assert_int_equal(rk_dp_buffer_free(buffer, 1), 0);
	assert_int_equal(rk_dp_buffer_length(64, 4), 64 + 4 * 128);
	assert_int_equal(rk_dp_rx_offset(0), 64);
	assert_int_equal(rk_dp_sizeof(RK_DP_SIZEOF_STATS), sizeof(struct rk_dp_stats));
	assert_int_equal(rk_dp_sizeof(999), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tcp_and_udp_in_all_modes),	  cmocka_unit_test(paced_samples_are_recorded),
		cmocka_unit_test(a_peer_that_leaves_is_reported), cmocka_unit_test(stop_ends_a_silent_loop),
		cmocka_unit_test(bad_configurations_are_refused), cmocka_unit_test(buffers_are_whole_pages),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
