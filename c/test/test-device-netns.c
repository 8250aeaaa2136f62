/*
 * The device table against a network the test makes itself: which devices there are, their GIDs, and what is told when
 * interfaces and addresses change. Needs a network namespace of its own (root, or user namespaces).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "context-fixture.h"
#include "netns.h"
#include "softrdma/device/device.h"

static int no_namespace; /* errno of the attempt */

static int enter(void **state)
{
	(void)state;
	no_namespace = netns_enter();
	if (no_namespace)
		print_message("no network namespace to be had here (%s): its tests are skipped\n", strerror(no_namespace));
	return 0;
}

#define NEED_NAMESPACE() \
	do { \
		(void)state; \
		if (no_namespace) \
			skip(); \
	} while (0)

static struct ibv_device *find(struct ibv_device **list, const char *name)
{
	for (int i = 0; list[i]; i++)
		if (!strcmp(ibv_get_device_name(list[i]), name))
			return list[i];
	return NULL;
}

static void assert_gid(struct ibv_device *d, int index, const char *ipv6)
{
	union ibv_gid gid;
	char text[INET6_ADDRSTRLEN];
	int rc = sr_device_gid(d, index, &gid);
	if (!ipv6) {
		assert_int_equal(rc, ENODATA);
		return;
	}
	assert_int_equal(rc, 0);
	assert_string_equal(inet_ntop(AF_INET6, gid.raw, text, sizeof(text)), ipv6);
}

/* Waits for an event of the type; others before it (the kernel adds link-local addresses when it likes) are passed over.
 * The kernel tells of a carrier with some delay, so this watches the descriptor as the device's helper does. */
static void await_event(struct sr_context *c, int netlink_fd, enum ibv_event_type type)
{
	struct ibv_async_event ev;
	for (;;) {
		while (ibv_get_async_event(&c->vctx.context, &ev) == 0) {
			assert_int_equal(ev.element.port_num, 1);
			ibv_ack_async_event(&ev);
			if (ev.event_type == type)
				return;
		}
		struct pollfd p = { .fd = netlink_fd, .events = POLLIN };
		assert_int_equal(poll(&p, 1, 10000), 1);
		assert_true(sr_netlink_drain(netlink_fd, sr_device_link_changed));
	}
}

static void only_interfaces_that_are_up_count(void **state)
{
	NEED_NAMESPACE();
	int n = -1;
	struct ibv_device **list = ibv_get_device_list(&n);
	assert_non_null(list);
	assert_int_equal(n, 0);
	assert_null(list[0]);
	ibv_free_device_list(list);

	assert_int_equal(netns_updown("lo", 1), 0);
	list = ibv_get_device_list(NULL);
	assert_non_null(find(list, "rk_lo"));
	assert_int_equal(list[0]->node_type, IBV_NODE_CA);
	assert_int_equal(list[0]->transport_type, IBV_TRANSPORT_IB);
	assert_string_equal(list[0]->ibdev_path, "/sys/class/infiniband/rk_lo");
	ibv_free_device_list(list);
}

static void gids_are_the_addresses_in_order(void **state)
{
	NEED_NAMESPACE();
	assert_int_equal(netns_veth("a0", "b0"), 0);
	assert_int_equal(netns_address("a0", "10.77.1.1", 24, 1), 0);
	assert_int_equal(netns_address("a0", "fd00::7", 64, 1), 0);
	assert_int_equal(netns_address("a0", "fe80::77", 64, 1), 0);
	assert_int_equal(netns_address("a0", "10.77.1.2", 24, 1), 0);
	struct ibv_device **list = ibv_get_device_list(NULL);
	assert_null(find(list, "rk_a0")); /* it is down */
	ibv_free_device_list(list);

	/* Up with its peer still down, so that the kernel makes no link-local address of its own. */
	assert_int_equal(netns_updown("a0", 1), 0);
	list = ibv_get_device_list(NULL);
	struct ibv_device *a = find(list, "rk_a0");
	assert_non_null(a);
	assert_ptr_equal(list[0], a); /* before loopback */
	assert_gid(a, 0, "fe80::77");
	assert_gid(a, 1, "::ffff:10.77.1.1");
	assert_gid(a, 2, "::ffff:10.77.1.2");
	assert_gid(a, 3, "fd00::7");
	assert_gid(a, 4, NULL);
	struct ibv_port_attr port;
	sr_port_attr(sr_dev(a), &port);
	assert_int_equal(port.state, IBV_PORT_DOWN); /* no carrier */
	assert_int_equal(port.active_mtu, IBV_MTU_1024);
	assert_int_equal(port.link_layer, IBV_LINK_LAYER_ETHERNET);
	ibv_free_device_list(list);
}

static void rows_keep_their_index(void **state)
{
	NEED_NAMESPACE();
	struct ibv_device **list = ibv_get_device_list(NULL);
	struct ibv_device *a = find(list, "rk_a0");
	assert_non_null(a);
	assert_int_equal(netns_address("a0", "10.77.1.1", 24, 0), 0); /* takes the secondary 10.77.1.2 along, or not */
	assert_int_equal(netns_address("a0", "fd00::7", 64, 0), 0);
	assert_int_equal(sr_device_refresh(), 0);
	assert_gid(a, 0, "fe80::77");
	assert_gid(a, 1, NULL);
	assert_gid(a, 3, NULL);
	assert_int_equal(netns_address("a0", "fd00::8", 64, 1), 0);
	assert_int_equal(sr_device_refresh(), 0);
	assert_gid(a, 1, "fd00::8");
	ibv_free_device_list(list);
}

static void changes_are_told(void **state)
{
	NEED_NAMESPACE();
	struct sr_context c;
	struct sr_device_user user = { .context = &c.vctx.context };
	struct ibv_port_attr port;
	memset(&c, 0, sizeof(c));
	assert_int_equal(bare_context_open(&c), 0);
	bare_context_nonblocking(&c);
	int fd = sr_netlink_open();
	assert_true(fd >= 0);
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);

	struct ibv_device **list = ibv_get_device_list(NULL);
	struct ibv_device *a = find(list, "rk_a0");
	assert_non_null(a);
	sr_device_attach(sr_dev(a), &user);
	ibv_free_device_list(list);
	assert_false(sr_netlink_drain(fd, sr_device_link_changed));
	assert_false(bare_context_readable(&c));

	assert_int_equal(netns_updown("b0", 1), 0); /* now there is a carrier */
	await_event(&c, fd, IBV_EVENT_PORT_ACTIVE);
	sr_port_attr(sr_dev(a), &port);
	assert_int_equal(port.state, IBV_PORT_ACTIVE);
	assert_int_equal(port.phys_state, 5);

	assert_int_equal(netns_address("a0", "10.77.9.9", 24, 1), 0);
	await_event(&c, fd, IBV_EVENT_GID_CHANGE);

	assert_int_equal(netns_mtu("a0", 9000), 0);
	sr_device_freshen();
	assert_int_equal(sr_device_active_mtu(a), IBV_MTU_4096);

	assert_int_equal(netns_updown("b0", 0), 0);
	await_event(&c, fd, IBV_EVENT_PORT_ERR);
	sr_port_attr(sr_dev(a), &port);
	assert_int_equal(port.state, IBV_PORT_DOWN);

	assert_int_equal(netns_delete("a0"), 0);
	await_event(&c, fd, IBV_EVENT_DEVICE_FATAL);
	list = ibv_get_device_list(NULL);
	assert_null(find(list, "rk_a0"));
	ibv_free_device_list(list);
	assert_string_equal(ibv_get_device_name(a), "rk_a0"); /* still ours while it is open */
	sr_device_detach(sr_dev(a), &user);
	close(fd);
	bare_context_close(&c);
}

static void local_addresses_are_known(void **state)
{
	NEED_NAMESPACE();
	union ibv_gid g;
	assert_int_equal(inet_pton(AF_INET6, "::ffff:127.3.2.1", g.raw), 1);
	assert_true(sr_gid_is_local(&g));
	assert_int_equal(inet_pton(AF_INET6, "::1", g.raw), 1);
	assert_true(sr_gid_is_local(&g));
	assert_int_equal(inet_pton(AF_INET6, "::ffff:10.200.0.1", g.raw), 1);
	assert_false(sr_gid_is_local(&g));
	assert_int_equal(netns_address("lo", "10.200.0.1", 32, 1), 0);
	assert_true(sr_gid_is_local(&g)); /* without anybody having drained anything */
	assert_int_equal(netns_address("lo", "10.200.0.1", 32, 0), 0);
	assert_false(sr_gid_is_local(&g));
}

static void more_addresses_than_rows(void **state)
{
	NEED_NAMESPACE();
	char ip[32];
	for (int i = 0; i < SR_LIMIT_GIDS + 20; i++) {
		snprintf(ip, sizeof(ip), "10.201.%d.%d", i / 200, i % 200 + 1);
		assert_int_equal(netns_address("lo", ip, 32, 1), 0);
	}
	struct ibv_device **list = ibv_get_device_list(NULL);
	struct ibv_device *lo = find(list, "rk_lo");
	assert_non_null(lo);
	for (int i = 0; i < SR_LIMIT_GIDS; i++) {
		union ibv_gid gid;
		assert_int_equal(sr_device_gid(lo, i, &gid), 0);
	}
	assert_int_equal(sr_device_gid(lo, SR_LIMIT_GIDS, &(union ibv_gid){ 0 }), EINVAL);
	assert_int_equal(sr_device_gid(lo, -1, &(union ibv_gid){ 0 }), EINVAL);
	ibv_free_device_list(list);
}

static void odd_names_are_made_harmless(void **state)
{
	NEED_NAMESPACE();
	assert_int_equal(netns_veth("x@y+z", "peer.7"), 0);
	assert_int_equal(netns_updown("x@y+z", 1), 0);
	assert_int_equal(netns_updown("peer.7", 1), 0);
	assert_int_equal(netns_address("x@y+z", "10.78.0.1", 24, 1), 0);
	assert_int_equal(netns_address("peer.7", "10.78.0.2", 24, 1), 0);
	struct ibv_device **list = ibv_get_device_list(NULL);
	char want[64];
	snprintf(want, sizeof(want), "rk_x_y_z_%u", if_nametoindex("x@y+z"));
	assert_non_null(find(list, want));
	struct ibv_device *p = find(list, "rk_peer.7");
	assert_non_null(p);
	assert_int_equal(ibv_get_device_index(p), (int)if_nametoindex("peer.7"));
	assert_int_not_equal(ibv_get_device_guid(p), ibv_get_device_guid(find(list, want)));
	ibv_free_device_list(list);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_interfaces_that_are_up_count),
		cmocka_unit_test(gids_are_the_addresses_in_order),
		cmocka_unit_test(rows_keep_their_index),
		cmocka_unit_test(changes_are_told),
		cmocka_unit_test(local_addresses_are_known),
		cmocka_unit_test(more_addresses_than_rows),
		cmocka_unit_test(odd_names_are_made_harmless),
	};
	return cmocka_run_group_tests(tests, enter, NULL);
}
