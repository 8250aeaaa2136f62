/*
 * How packets are taken out of a real socket: coalesced datagrams are cut at their segments, also those that lay in the queue
 * when a stream is found to have ended.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "softrdma/wire/wire.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#define SEGMENT 20
#define STREAM_OVER_US 3000 /* longer than rx.c waits for more of a stream */

static int sender;

static int setup(void **state)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);
	(void)state;
	sr_wire.fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	sr_wire.fd4 = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	sender = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (sr_wire.fd < 0 || sr_wire.fd4 < 0 || sender < 0 || bind(sr_wire.fd4, (struct sockaddr *)&a, sizeof(a)) ||
	    getsockname(sr_wire.fd4, (struct sockaddr *)&a, &len) || connect(sender, (struct sockaddr *)&a, sizeof(a)))
		return -1;
	sr.wire_connected = sr.wire_users = 1; /* connected queue pairs only: the plain mode is allowed */
	sr_wire_set_now(sr_wire_clock_ns());
	sr_rx_open();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	close(sender);
	close(sr_wire.fd4);
	close(sr_wire.fd);
	sr_wire.fd = sr_wire.fd4 = -1;
	sr.wire_connected = sr.wire_users = 0;
	return 0;
}

/* One datagram that the kernel carries as `n` packets in one piece. They are no valid packets: that they are looked at is what counts. */
static void send_segments(int n)
{
	static uint8_t bytes[64 * SEGMENT];
	uint16_t size = SEGMENT;
	union {
		struct cmsghdr align;
		uint8_t bytes[CMSG_SPACE(sizeof(size))];
	} control = { 0 };
	struct iovec piece = { bytes, (size_t)n * SEGMENT };
	struct msghdr m = { .msg_iov = &piece, .msg_iovlen = 1 };
	if (n > 1) {
		m.msg_control = &control;
		m.msg_controllen = sizeof(control);
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);
		*c = (struct cmsghdr){ .cmsg_level = IPPROTO_UDP, .cmsg_type = UDP_SEGMENT, .cmsg_len = CMSG_LEN(sizeof(size)) };
		memcpy(CMSG_DATA(c), &size, sizeof(size));
	}
	memset(bytes, 0xff, sizeof(bytes));
	assert_int_equal(sendmsg(sender, &m, 0), n * SEGMENT);
}

/* Looks, as a poll does, until nothing was found `empty` times; the number of packets. */
static uint64_t look(bool in_poll, int empty)
{
	uint64_t before = sr.counters.port_rcv_packets;
	sr.in_poll = in_poll;
	while (empty > 0) {
		sr_wire_set_now(sr_wire_clock_ns());
		empty -= sr_rx_batch() == 0;
	}
	sr.in_poll = false;
	return sr.counters.port_rcv_packets - before;
}

static void coalesced_packets_are_counted_one_by_one(void **state)
{
	(void)state;
	for (int i = 0; i < 20; i++)
		send_segments(1);
	assert_int_equal(look(true, 3), 20);
	for (int i = 0; i < 4; i++)
		send_segments(40);
	assert_int_equal(look(true, 3), 160);
}

static void a_backlog_at_the_end_of_a_stream_is_cut_right(void **state)
{
	(void)state;
	for (int in_poll = 0; in_poll < 2; in_poll++)
		for (int round = 0; round < 20; round++) {
			for (int i = 0; i < 4; i++)
				send_segments(40);
			assert_int_equal(look(in_poll, round % 3 + 1), 160);
			/* Nobody looked for a while; the first thing found is small, and more lies behind it. */
			usleep(STREAM_OVER_US);
			send_segments(1);
			for (int i = 0; i < 5; i++)
				send_segments(3);
			assert_int_equal(look(in_poll, 1), 16);
			usleep(STREAM_OVER_US);
			assert_int_equal(look(in_poll, round % 3), 0);
			for (int i = 0; i < 5; i++)
				send_segments(3);
			assert_int_equal(look(in_poll, 1), 15);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(coalesced_packets_are_counted_one_by_one, setup, teardown),
		cmocka_unit_test_setup_teardown(a_backlog_at_the_end_of_a_stream_is_cut_right, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
