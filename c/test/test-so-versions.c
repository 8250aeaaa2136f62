/*
 * Symbol versions as loaders of other projects ask for them (dlvsym), and the stubs behind the versions that cannot work.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dlfcn.h>
#include <errno.h>
#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>
#include <stdbool.h>
#include <stdio.h>

static void *need(const char *name, const char *version)
{
	void *p = dlvsym(RTLD_DEFAULT, name, version);
	if (!p)
		fail_msg("no %s@%s", name, version);
	return p;
}

static void the_default_is_the_newest(void **state)
{
	(void)state;
	void *now = need("ibv_get_device_list", "IBVERBS_1.1");
	assert_ptr_equal(dlsym(RTLD_DEFAULT, "ibv_get_device_list"), now);
	assert_ptr_not_equal(need("ibv_get_device_list", "IBVERBS_1.0"), now);
	assert_null(dlvsym(RTLD_DEFAULT, "ibv_get_device_list", "IBVERBS_1.5"));
	need("ibv_reg_mr_iova2", "IBVERBS_1.8");
	need("_ibv_query_gid_ex", "IBVERBS_1.11");
	need("rdma_establish", "RDMACM_1.2");
}

static void the_first_abi_has_no_devices(void **state)
{
	struct ibv_device **(*list)(int *) = need("ibv_get_device_list", "IBVERBS_1.0");
	int (*query_gid)(void) = need("ibv_query_gid", "IBVERBS_1.0");
	(void)state;
	errno = 0;
	assert_null(list(NULL));
	assert_int_equal(errno, ENOSYS);
	assert_int_equal(query_gid(), -1);
}

static void plug_ins_of_every_release_find_their_names(void **state)
{
	static const char *const nodes[] = { "34", "57", "59", "64", "65" };
	(void)state;
	for (unsigned i = 0; i < sizeof(nodes) / sizeof(nodes[0]); i++) {
		char node[32], name[32];
		snprintf(node, sizeof(node), "IBVERBS_PRIVATE_%s", nodes[i]);
		snprintf(name, sizeof(name), "verbs_register_driver_%s", nodes[i]);
		void (*offer)(const void *) = need(name, node);
		offer(NULL); /* accepted and ignored */
		int (*command)(void) = need("ibv_cmd_create_qp_ex2", node);
		assert_int_equal(command(), ENOSYS);
		const bool *flag = need("verbs_allow_disassociate_destroy", node);
		assert_false(*flag);
		void *(*init)(void) = need("_verbs_init_and_alloc_context", node);
		assert_null(init());
		int (*poll)(void) = need("ibv_cmd_poll_cq", node);
		assert_true(poll() < 0);
	}
	assert_int_equal(((int (*)(void))need("ibv_cmd_reg_mr_ex", "IBVERBS_PRIVATE_64"))(), ENOSYS);
	assert_null(dlvsym(RTLD_DEFAULT, "ibv_cmd_reg_mr_ex", "IBVERBS_PRIVATE_34"));
}

int main(void)
{
	/* So that both libraries are really needed, whatever the linker thinks of unused ones. */
	ibv_free_device_list(NULL);
	rdma_free_devices(NULL);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_default_is_the_newest),
		cmocka_unit_test(the_first_abi_has_no_devices),
		cmocka_unit_test(plug_ins_of_every_release_find_their_names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
