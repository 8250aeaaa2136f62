/*
 * rping's exchange of the data path over the embedded device's connection manager: both ends in this process, several clients,
 * ends that are missing or go away.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <rdma/rdma_cma.h>
#include <rdma/rdma_verbs.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "datapath/datapath.h"

#define TIMEOUT_NS 10000000000u
#define EXCHANGES 100
#define CLIENTS 4

struct end {
	struct rk_dp_rping_info info;
	struct rk_dp_stats *stats;
	struct rk_dp_loop *loop;
};

static int begin(struct end *e, uint32_t role, uint32_t port, uint32_t size, uint32_t flags)
{
	const struct rk_dp_rping config = { .abi = RK_DP_ABI, .role = role, .size = size, .flags = flags, .core = -1, .port = port,
					    .iterations = EXCHANGES, .timeout_ns = TIMEOUT_NS };
	e->stats = rk_dp_stats_new();
	assert_non_null(e->stats);
	return rk_dp_rping_start(&config, "127.0.0.1", &e->info, e->stats, &e->loop);
}

static void end(struct end *e)
{
	rk_dp_loop_stop(e->loop);
	rk_dp_loop_join(e->loop);
	rk_dp_stats_free(e->stats);
}

static void serve(struct end *server, uint32_t flags)
{
	assert_int_equal(begin(server, RK_DP_SERVER, 0, 0, flags), 0);
	assert_int_not_equal(server->info.port, 0);
}

/* Waits for the client's end, which must be in order. */
static void finish(struct end *client, uint32_t size)
{
	assert_int_equal(rk_dp_loop_join(client->loop), 0);
	assert_string_equal(client->stats->message, "");
	assert_int_equal(client->stats->completed, EXCHANGES);
	assert_int_equal(client->stats->verified, EXCHANGES);
	assert_int_equal(client->stats->mismatches, 0);
	assert_int_equal(client->stats->bytes, (uint64_t)EXCHANGES * size);
	assert_string_equal(client->info.remote, "127.0.0.1");
	assert_string_not_equal(client->info.device, "");
	rk_dp_stats_free(client->stats);
}

static void data_come_back(void **state)
{
	static const uint32_t sizes[] = { 1, 2, 64, 4097, RK_DP_RPING_BYTES };
	(void)state;
	for (uint32_t flags = 0; flags < 2; flags++) {
		struct end server;
		serve(&server, flags ? RK_DP_EVENTS : 0);
		for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
			struct end client;
			assert_int_equal(begin(&client, RK_DP_CLIENT, server.info.port, sizes[i], RK_DP_VERIFY | (flags ? RK_DP_EVENTS : 0)), 0);
			finish(&client, sizes[i]);
			assert_int_equal(__atomic_load_n(&server.info.accepted, __ATOMIC_RELAXED), i + 1);
		}
		end(&server);
	}
}

static void several_clients_at_once(void **state)
{
	struct end server, clients[CLIENTS];
	(void)state;
	serve(&server, RK_DP_EVENTS);
	for (int i = 0; i < CLIENTS; i++)
		assert_int_equal(begin(&clients[i], RK_DP_CLIENT, server.info.port, 1000, RK_DP_VERIFY | RK_DP_EVENTS), 0);
	for (int i = 0; i < CLIENTS; i++)
		finish(&clients[i], 1000);
	assert_int_equal(__atomic_load_n(&server.info.accepted, __ATOMIC_RELAXED), CLIENTS);
	end(&server);
}

static void nobody_there(void **state)
{
	struct end client;
	(void)state;
	assert_int_equal(begin(&client, RK_DP_CLIENT, 9, 64, 0), 0);
	assert_int_equal(rk_dp_loop_join(client.loop), -ECONNREFUSED);
	assert_int_equal(client.stats->error_stage, RK_DP_STAGE_CONNECT);
	rk_dp_stats_free(client.stats);
}

static void the_server_goes_away(void **state)
{
	struct end server;
	struct rk_dp_rping_info info;
	struct rk_dp_loop *loop;
	const struct rk_dp_rping endless = { .abi = RK_DP_ABI, .role = RK_DP_CLIENT, .size = 64, .flags = RK_DP_EVENTS, .core = -1,
					     .timeout_ns = TIMEOUT_NS };
	struct rk_dp_rping config = endless;
	(void)state;
	serve(&server, RK_DP_EVENTS);
	config.port = server.info.port;
	struct rk_dp_stats *stats = rk_dp_stats_new();
	assert_int_equal(rk_dp_rping_start(&config, "127.0.0.1", &info, stats, &loop), 0);
	while (__atomic_load_n(&server.stats->completed, __ATOMIC_RELAXED) == 0 && !rk_dp_loop_poll(loop))
		usleep(1000);
	end(&server);
	assert_int_not_equal(rk_dp_loop_join(loop), 0); /* says so, and does not hang */
	assert_string_not_equal(stats->message, "");
	rk_dp_stats_free(stats);
}

/* What a client says of its data is not believed; it is shown out, the reason is told, and others are served. */
static void a_client_that_lies(void **state)
{
	struct end server, client;
	struct rdma_addrinfo *found, hints = { .ai_port_space = RDMA_PS_TCP };
	struct ibv_qp_init_attr init = { .cap = { 4, 4, 1, 1, 0 }, .sq_sig_all = 1, .qp_type = IBV_QPT_RC };
	struct rdma_conn_param param = { .retry_count = 7 };
	struct rdma_cm_id *id;
	struct ibv_wc wc;
	char port[8];
	uint8_t message[16] = { [12] = 0x7f }; /* an address, a key, 2 GB */
	(void)state;
	serve(&server, RK_DP_EVENTS);
	snprintf(port, sizeof(port), "%u", server.info.port);
	assert_int_equal(rdma_getaddrinfo("127.0.0.1", port, &hints, &found), 0);
	assert_int_equal(rdma_create_ep(&id, found, NULL, &init), 0);
	rdma_freeaddrinfo(found);
	struct ibv_mr *mr = rdma_reg_msgs(id, message, sizeof(message));
	assert_non_null(mr);
	assert_int_equal(rdma_connect(id, &param), 0);
	assert_int_equal(rdma_post_send(id, NULL, message, sizeof(message), mr, 0), 0);
	assert_int_equal(rdma_get_send_comp(id, &wc), 1);
	for (int i = 0; i < 5000 && !__atomic_load_n(&server.info.failed, __ATOMIC_ACQUIRE); i++)
		usleep(1000);
	assert_int_equal(__atomic_load_n(&server.info.failed, __ATOMIC_ACQUIRE), 1);
	assert_non_null(strstr(server.info.failure, "2130706432 bytes"));
	rdma_disconnect(id);
	rdma_dereg_mr(mr);
	rdma_destroy_ep(id);
	assert_int_equal(begin(&client, RK_DP_CLIENT, server.info.port, 64, RK_DP_VERIFY), 0);
	finish(&client, 64);
	assert_int_equal(__atomic_load_n(&server.info.failed, __ATOMIC_ACQUIRE), 1);
	end(&server);
}

static void nonsense_is_refused(void **state)
{
	struct rk_dp_rping_info info;
	struct rk_dp_loop *loop;
	struct rk_dp_stats *stats = rk_dp_stats_new();
	const struct rk_dp_rping good = { .abi = RK_DP_ABI, .role = RK_DP_CLIENT, .size = 64, .core = -1, .port = 7, .timeout_ns = 1 };
	struct rk_dp_rping bad[5];
	(void)state;
	for (int i = 0; i < 5; i++)
		bad[i] = good;
	bad[0].size = 0;
	bad[1].size = RK_DP_RPING_BYTES + 1;
	bad[2].port = 0;
	bad[3].abi++;
	bad[4].timeout_ns = 0;
	for (int i = 0; i < 5; i++)
		assert_int_equal(rk_dp_rping_start(&bad[i], "127.0.0.1", &info, stats, &loop), -EINVAL);
	assert_int_equal(rk_dp_rping_start(&good, "", &info, stats, &loop), -EINVAL);
	rk_dp_stats_free(stats);
}

static int setup(void **state)
{
	(void)state;
	/* The libraries are in the process already: named by a symbol of each, so that the linker keeps them. */
	return rdma_event_str(RDMA_CM_EVENT_ESTABLISHED) && ibv_wc_status_str(IBV_WC_SUCCESS) ? rk_dp_cm_open("librdmacm.so.1") : -1;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(data_come_back),	  cmocka_unit_test(several_clients_at_once), cmocka_unit_test(nobody_there),
		cmocka_unit_test(the_server_goes_away), cmocka_unit_test(a_client_that_lies), cmocka_unit_test(nonsense_is_refused),
	};
	return cmocka_run_group_tests(tests, setup, NULL);
}
