/*
 * Names and rates of abi/: complete, never NULL, and word for word those of the system's libibverbs where that is installed.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dlfcn.h>
#include <infiniband/verbs.h>

static void known_names(void **state)
{
	(void)state;
	assert_string_equal(ibv_node_type_str(IBV_NODE_CA), "InfiniBand channel adapter");
	assert_string_equal(ibv_port_state_str(IBV_PORT_ACTIVE), "active");
	assert_string_equal(ibv_event_type_str(IBV_EVENT_GID_CHANGE), "GID table change");
	assert_string_equal(ibv_wc_status_str(IBV_WC_RETRY_EXC_ERR), "transport retry counter exceeded");
}

static void unknown_values_have_a_name_too(void **state)
{
	(void)state;
	for (int i = -3; i < 300; i++) {
		assert_non_null(ibv_node_type_str((enum ibv_node_type)i));
		assert_non_null(ibv_port_state_str((enum ibv_port_state)i));
		assert_non_null(ibv_event_type_str((enum ibv_event_type)i));
		assert_non_null(ibv_wc_status_str((enum ibv_wc_status)i));
	}
	assert_string_equal(ibv_wc_status_str((enum ibv_wc_status)-1), "unknown");
	assert_string_equal(ibv_wc_status_str((enum ibv_wc_status)(IBV_WC_TM_RNDV_INCOMPLETE + 1)), "unknown");
	assert_string_equal(ibv_event_type_str((enum ibv_event_type)(IBV_EVENT_WQ_FATAL + 1)), "unknown");
}

static void rates_convert_both_ways(void **state)
{
	(void)state;
	assert_int_equal(ibv_rate_to_mult(IBV_RATE_5_GBPS), 2);
	assert_int_equal(mult_to_ibv_rate(12), IBV_RATE_30_GBPS);
	assert_int_equal(ibv_rate_to_mbps(IBV_RATE_100_GBPS), 103125);
	assert_int_equal(mbps_to_ibv_rate(103125), IBV_RATE_100_GBPS);
	assert_int_equal(ibv_rate_to_mult(IBV_RATE_14_GBPS), -1);
	assert_int_equal(mult_to_ibv_rate(-1), IBV_RATE_MAX);
	assert_int_equal(mult_to_ibv_rate(3), IBV_RATE_MAX);
	assert_int_equal(mbps_to_ibv_rate(0), IBV_RATE_MAX);
	for (int r = 1; r <= IBV_RATE_1200_GBPS; r++)
		if (ibv_rate_to_mbps((enum ibv_rate)r) > 0)
			assert_int_equal(mbps_to_ibv_rate(ibv_rate_to_mbps((enum ibv_rate)r)), r);
}

/* This program has our objects inside, so dlopen() finds the system's library, in a name space of its own. */
static void same_as_the_system_library(void **state)
{
	(void)state;
	void *lib = dlmopen(LM_ID_NEWLM, "libibverbs.so.1", RTLD_NOW | RTLD_LOCAL);
	if (!lib) {
		print_message("no libibverbs on this system to compare with: %s\n", dlerror());
		return;
	}
	struct {
		const char *name;
		const char *(*ours)(int);
	} strings[] = {
		{ "ibv_node_type_str", (const char *(*)(int))ibv_node_type_str },
		{ "ibv_port_state_str", (const char *(*)(int))ibv_port_state_str },
		{ "ibv_event_type_str", (const char *(*)(int))ibv_event_type_str },
		{ "ibv_wc_status_str", (const char *(*)(int))ibv_wc_status_str },
	};
	for (unsigned s = 0; s < sizeof(strings) / sizeof(strings[0]); s++) {
		const char *(*theirs)(int) = (const char *(*)(int))dlsym(lib, strings[s].name);
		assert_non_null(theirs);
		for (int i = -2; i < 64; i++)
			assert_string_equal(strings[s].ours(i), theirs(i));
	}
	struct {
		const char *name;
		int (*ours)(int);
	} numbers[] = {
		{ "ibv_rate_to_mult", (int (*)(int))ibv_rate_to_mult },
		{ "ibv_rate_to_mbps", (int (*)(int))ibv_rate_to_mbps },
		{ "mult_to_ibv_rate", (int (*)(int))mult_to_ibv_rate },
	};
	for (unsigned n = 0; n < sizeof(numbers) / sizeof(numbers[0]); n++) {
		int (*theirs)(int) = (int (*)(int))dlsym(lib, numbers[n].name);
		assert_non_null(theirs);
		for (int i = -2; i < 600; i++)
			assert_int_equal(numbers[n].ours(i), theirs(i));
	}
	dlclose(lib);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known_names),
		cmocka_unit_test(unknown_values_have_a_name_too),
		cmocka_unit_test(rates_convert_both_ways),
		cmocka_unit_test(same_as_the_system_library),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
