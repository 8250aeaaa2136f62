/*
 * The device as a program sees it: this is linked with the library itself and uses verbs.h only. Runs on whatever
 * interfaces there are; loopback is enough.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <infiniband/verbs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int ibv_read_sysfs_file(const char *dir, const char *file, char *buf, size_t size);
const char *ibv_get_sysfs_path(void);

static struct ibv_context *ctx;

static int open_loopback(void **state)
{
	int n = 0;
	struct ibv_device **list = ibv_get_device_list(&n);
	(void)state;
	for (int i = 0; list && i < n; i++)
		if (!ctx && !strcmp(ibv_get_device_name(list[i]), "rk_lo"))
			ctx = ibv_open_device(list[i]);
	ibv_free_device_list(list); /* the open device must survive it */
	return ctx ? 0 : -1;
}

static int close_it(void **state)
{
	(void)state;
	return ibv_close_device(ctx);
}

static void device_attributes(void **state)
{
	struct ibv_device_attr a;
	(void)state;
	assert_int_equal(ibv_query_device(ctx, &a), 0);
	assert_int_equal(a.node_guid, ibv_get_device_guid(ctx->device));
	assert_int_not_equal(a.node_guid, 0);
	assert_int_equal(a.phys_port_cnt, 1);
	assert_int_equal(a.max_pkeys, 1);
	assert_int_equal(a.atomic_cap, IBV_ATOMIC_GLOB);
	assert_true(a.max_qp > 10000 && a.max_qp_wr >= 1024 && a.max_sge >= 16 && a.max_cqe >= 65536);
}

static void extended_attributes_fit_older_structs(void **state)
{
	struct ibv_device_attr_ex a;
	struct verbs_context *v = verbs_get_ctx(ctx);
	struct ibv_query_device_ex_input bad = { .comp_mask = 1 };
	(void)state;
	assert_non_null(v);
	assert_int_equal(ibv_query_device_ex(ctx, NULL, &a), 0);
	assert_int_equal(a.phys_port_cnt_ex, 1);
	assert_int_equal(a.hca_core_clock, 1000000);
	assert_int_equal(ibv_query_device_ex(ctx, &bad, &a), EINVAL);
	memset(&a, 0xee, sizeof(a));
	size_t old = offsetof(struct ibv_device_attr_ex, odp_caps);
	assert_int_equal(v->query_device_ex(ctx, NULL, &a, old), 0);
	assert_int_equal(((uint8_t *)&a)[old], 0xee);
	assert_int_equal(a.orig_attr.phys_port_cnt, 1);
	assert_int_equal(v->query_device_ex(ctx, NULL, &a, sizeof(a.orig_attr)), EINVAL);
}

static void port_attributes(void **state)
{
	struct ibv_port_attr a;
	(void)state;
	assert_int_equal(ibv_query_port(ctx, 1, &a), 0);
	assert_int_equal(a.state, IBV_PORT_ACTIVE);
	assert_int_equal(a.link_layer, IBV_LINK_LAYER_ETHERNET);
	assert_int_equal(a.lid, 0);
	assert_int_equal(a.active_mtu, IBV_MTU_4096);
	assert_int_equal(a.gid_tbl_len, 256);
	assert_int_equal(a.pkey_tbl_len, 1);
	assert_int_equal(a.flags, IBV_QPF_GRH_REQUIRED);
	assert_int_equal(ibv_query_port(ctx, 0, &a), EINVAL);
	assert_int_equal(ibv_query_port(ctx, 2, &a), EINVAL);
}

/* The symbol that programs compiled long ago call directly, with a struct that ends earlier. */
static void the_old_port_query_writes_no_further(void **state)
{
	struct {
		struct ibv_port_attr attr;
		uint8_t after[64];
	} s;
	(void)state;
	memset(&s, 0xee, sizeof(s));
	assert_int_equal((ibv_query_port)(ctx, 1, (struct _compat_ibv_port_attr *)&s.attr), 0);
	assert_int_equal(s.attr.state, IBV_PORT_ACTIVE);
	assert_int_equal(s.attr.link_layer, IBV_LINK_LAYER_ETHERNET);
	for (size_t i = offsetof(struct ibv_port_attr, port_cap_flags2); i < sizeof(s); i++)
		assert_int_equal(((uint8_t *)&s)[i], 0xee);
}

static int mapped_loopback_index(void)
{
	static const uint8_t want[16] = { [10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1 };
	struct ibv_gid_entry e;
	for (uint32_t i = 0; i < 256; i++)
		if (ibv_query_gid_ex(ctx, 1, i, &e, 0) == 0 && !memcmp(e.gid.raw, want, 16))
			return (int)i;
	return -1;
}

static void gids(void **state)
{
	struct ibv_gid_entry e, table[256];
	union ibv_gid gid;
	(void)state;
	int at = mapped_loopback_index();
	assert_true(at >= 0);
	assert_int_equal(ibv_query_gid_ex(ctx, 1, (uint32_t)at, &e, 0), 0);
	assert_int_equal(e.gid_type, IBV_GID_TYPE_ROCE_V2);
	assert_int_equal(e.ndev_ifindex, ibv_get_device_index(ctx->device));
	assert_int_equal(e.port_num, 1);
	assert_int_equal(ibv_query_gid(ctx, 1, at, &gid), 0);
	assert_memory_equal(&gid, &e.gid, 16);

	ssize_t n = ibv_query_gid_table(ctx, table, 256, 0);
	assert_true(n > at);
	assert_memory_equal(&table[at].gid, &e.gid, 16);
	assert_int_equal(ibv_query_gid_table(ctx, table, (size_t)n - 1, 0), -EINVAL);
	assert_int_equal(ibv_query_gid_table(ctx, table, 256, 1), -EOPNOTSUPP);
	assert_int_equal(_ibv_query_gid_table(ctx, table, 256, 0, sizeof(e) - 1), -EINVAL);

	assert_int_equal(ibv_query_gid_ex(ctx, 1, 255, &e, 0), ENODATA); /* lo has not so many addresses */
	assert_int_equal(ibv_query_gid_ex(ctx, 1, 256, &e, 0), EINVAL);
	assert_int_equal(ibv_query_gid_ex(ctx, 2, 0, &e, 0), EINVAL);
	assert_int_equal(ibv_query_gid(ctx, 1, 255, &gid), 0);
	assert_int_equal(gid.global.interface_id, 0);
	errno = 0;
	assert_int_equal(ibv_query_gid(ctx, 1, -1, &gid), -1);
	assert_int_equal(errno, EINVAL);
}

static void pkeys(void **state)
{
	__be16 pkey = 0;
	(void)state;
	assert_int_equal(ibv_query_pkey(ctx, 1, 0, &pkey), 0);
	assert_int_equal(pkey, htobe16(0xffff));
	assert_int_equal(ibv_query_pkey(ctx, 1, 1, &pkey), -1);
	assert_int_equal(ibv_get_pkey_index(ctx, 1, htobe16(0xffff)), 0);
	assert_int_equal(ibv_get_pkey_index(ctx, 1, htobe16(0x8001)), -1);
}

static void sysfs_from_memory(void **state)
{
	const char *dir = ctx->device->ibdev_path;
	char buf[128];
	int at = mapped_loopback_index();
	(void)state;
	assert_string_equal(ibv_get_sysfs_path(), "/sys");
	assert_int_equal(ibv_read_sysfs_file(dir, "node_type", buf, sizeof(buf)), 5);
	assert_string_equal(buf, "1: CA");
	assert_true(ibv_read_sysfs_file(dir, "ports/1/state", buf, sizeof(buf)) > 0);
	assert_string_equal(buf, "4: ACTIVE");
	assert_true(ibv_read_sysfs_file(dir, "ports/1/link_layer", buf, sizeof(buf)) > 0);
	assert_string_equal(buf, "Ethernet");
	char file[64];
	snprintf(file, sizeof(file), "ports/1/gids/%d", at);
	assert_int_equal(ibv_read_sysfs_file(dir, file, buf, sizeof(buf)), 39);
	assert_string_equal(buf, "0000:0000:0000:0000:0000:ffff:7f00:0001");
	snprintf(file, sizeof(file), "ports/1/gid_attrs/types/%d", at);
	assert_true(ibv_read_sysfs_file(dir, file, buf, sizeof(buf)) > 0);
	assert_string_equal(buf, "RoCE v2");
	snprintf(file, sizeof(file), "ports/1/gid_attrs/ndevs/%d", at);
	assert_true(ibv_read_sysfs_file(dir, file, buf, sizeof(buf)) > 0);
	assert_string_equal(buf, "lo");
	assert_true(ibv_read_sysfs_file(dir, "ports/1/hw_counters/rx_icrc_encapsulated", buf, sizeof(buf)) > 0);
	assert_string_equal(buf, "0");
	/* Short buffers cut, and are terminated. */
	assert_int_equal(ibv_read_sysfs_file(dir, "ports/1/link_layer", buf, 4), 3);
	assert_string_equal(buf, "Eth");
	errno = 0;
	assert_int_equal(ibv_read_sysfs_file(dir, "ports/1/no_such_file", buf, sizeof(buf)), -1);
	assert_int_equal(errno, ENOENT);
	assert_int_equal(ibv_read_sysfs_file(dir, "ports/2/state", buf, sizeof(buf)), -1);
	assert_int_equal(ibv_read_sysfs_file(dir, "ports/1/gids/256", buf, sizeof(buf)), -1);
	assert_int_equal(ibv_read_sysfs_file(dir, "node_type", buf, 0), -1);
}

static void other_files_are_really_read(void **state)
{
	char path[] = "/tmp/rdmakit-test-XXXXXX", buf[32];
	(void)state;
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "hello\n", 6), 6);
	close(fd);
	assert_int_equal(ibv_read_sysfs_file("/tmp", path + 5, buf, sizeof(buf)), 5);
	assert_string_equal(buf, "hello");
	unlink(path);
	assert_int_equal(ibv_read_sysfs_file("/tmp", path + 5, buf, sizeof(buf)), -1);
}

/* A datagram's headers as they lie before the payload, over IPv4 and IPv6, and the way back. */
static void address_vector_from_a_datagram(void **state)
{
	struct ibv_wc wc = { .wc_flags = IBV_WC_GRH };
	struct ibv_ah_attr attr;
	union {
		struct ibv_grh grh;
		uint8_t raw[40];
	} h;
	static const uint8_t v4[20] = { 0x45, 0x02, 0, 100,  0,	  0, 0x40, 0, 64, 17,
					0,    0,    127, 0, 0, 9, 127,	0, 0,	1 };
	static const uint8_t from[16] = { [10] = 0xff, [11] = 0xff, [12] = 127, [15] = 9 };
	(void)state;
	int at = mapped_loopback_index();
	memset(&h, 0, sizeof(h));
	memcpy(h.raw + 20, v4, 20);
	assert_int_equal(ibv_init_ah_from_wc(ctx, 1, &wc, &h.grh, &attr), 0);
	assert_memory_equal(attr.grh.dgid.raw, from, 16);
	assert_int_equal(attr.grh.sgid_index, at);
	assert_int_equal(attr.grh.traffic_class, 2);
	assert_int_equal(attr.is_global, 1);
	assert_int_equal(attr.port_num, 1);

	h.raw[20 + 19] = 77; /* to an address that is not ours */
	assert_int_equal(ibv_init_ah_from_wc(ctx, 1, &wc, &h.grh, &attr), -1);
	assert_int_equal(errno, ENOENT);
	h.raw[20 + 16] = 0xe1; /* to a group: answered from our first IPv4 address */
	assert_int_equal(ibv_init_ah_from_wc(ctx, 1, &wc, &h.grh, &attr), 0);
	assert_memory_equal(attr.grh.dgid.raw, from, 16);

	memset(&h, 0, sizeof(h));
	assert_int_equal(ibv_init_ah_from_wc(ctx, 1, &wc, &h.grh, &attr), -1);
	assert_int_equal(errno, EINVAL);
	wc.wc_flags = 0;
	assert_int_equal(ibv_init_ah_from_wc(ctx, 1, &wc, &h.grh, &attr), -1);

	struct ibv_gid_entry e;
	wc.wc_flags = IBV_WC_GRH;
	for (uint32_t i = 0; i < 256; i++) {
		static const uint8_t v6_loopback[16] = { [15] = 1 };
		if (ibv_query_gid_ex(ctx, 1, i, &e, 0) || memcmp(e.gid.raw, v6_loopback, 16))
			continue;
		h.grh.version_tclass_flow = htobe32(6u << 28 | 0xab << 20 | 0x12345);
		h.grh.hop_limit = 3;
		memcpy(h.grh.sgid.raw, v6_loopback, 16);
		memcpy(h.grh.dgid.raw, v6_loopback, 16);
		assert_int_equal(ibv_init_ah_from_wc(ctx, 1, &wc, &h.grh, &attr), 0);
		assert_int_equal(attr.grh.flow_label, 0x12345);
		assert_int_equal(attr.grh.traffic_class, 0xab);
		assert_int_equal(attr.grh.sgid_index, i);
		assert_true(attr.grh.hop_limit > 3);
	}
}

static void mac_addresses(void **state)
{
	struct ibv_ah_attr attr = { .is_global = 1, .port_num = 1 };
	static const uint8_t group6[16] = { 0xff, 0x02, [12] = 1, 2, 3, 4 };
	static const uint8_t group4[16] = { [10] = 0xff, 0xff, 239, 0x81, 2, 3 };
	static const uint8_t nobody[16] = { [10] = 0xff, 0xff, 203, 0, 113, 250 };
	uint8_t mac[6];
	uint16_t vid = 0;
	(void)state;
	memcpy(attr.grh.dgid.raw, group6, 16);
	assert_int_equal(ibv_resolve_eth_l2_from_gid(ctx, &attr, mac, &vid), 0);
	assert_memory_equal(mac, ((uint8_t[]){ 0x33, 0x33, 1, 2, 3, 4 }), 6);
	assert_int_equal(vid, 0xffff);
	memcpy(attr.grh.dgid.raw, group4, 16);
	assert_int_equal(ibv_resolve_eth_l2_from_gid(ctx, &attr, mac, NULL), 0);
	assert_memory_equal(mac, ((uint8_t[]){ 1, 0, 0x5e, 1, 2, 3 }), 6);
	memcpy(attr.grh.dgid.raw, nobody, 16);
	assert_int_equal(ibv_resolve_eth_l2_from_gid(ctx, &attr, mac, NULL), EHOSTUNREACH);
	attr.is_global = 0;
	assert_int_equal(ibv_resolve_eth_l2_from_gid(ctx, &attr, mac, NULL), EINVAL);
}

/* Programs do close with objects left; those must stay good until they are destroyed. */
static void closing_with_objects_alive(void **state)
{
	(void)state;
	struct ibv_context *c = ibv_open_device(ctx->device);
	assert_non_null(c);
	struct ibv_pd *pd = ibv_alloc_pd(c);
	assert_non_null(pd);
	assert_int_equal(ibv_close_device(c), 0);
	char data[64];
	struct ibv_mr *mr = ibv_reg_mr(pd, data, sizeof(data), IBV_ACCESS_LOCAL_WRITE);
	assert_non_null(mr);
	assert_int_equal(ibv_dereg_mr(mr), 0);
	assert_int_equal(ibv_dealloc_pd(pd), 0);
	for (int i = 0; i < 100; i++) {
		c = ibv_open_device(ctx->device);
		assert_non_null(c);
		assert_int_equal(ibv_close_device(c), 0);
	}
}

static void no_event_no_wait(void **state)
{
	struct ibv_async_event ev;
	(void)state;
	assert_true(fcntl(ctx->async_fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(fcntl(ctx->async_fd, F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(ibv_get_async_event(ctx, &ev), -1);
	assert_int_equal(errno, EAGAIN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(device_attributes),
		cmocka_unit_test(extended_attributes_fit_older_structs),
		cmocka_unit_test(port_attributes),
		cmocka_unit_test(the_old_port_query_writes_no_further),
		cmocka_unit_test(gids),
		cmocka_unit_test(pkeys),
		cmocka_unit_test(sysfs_from_memory),
		cmocka_unit_test(other_files_are_really_read),
		cmocka_unit_test(address_vector_from_a_datagram),
		cmocka_unit_test(mac_addresses),
		cmocka_unit_test(closing_with_objects_alive),
		cmocka_unit_test(no_event_no_wait),
	};
	return cmocka_run_group_tests(tests, open_loopback, close_it);
}
