/*
 * rx.c - packets on their way in: recvmmsg() with UDP_GRO, so that one buffer may hold up to 64 KiB of packets of one
 * sender, which are taken apart here.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/udp.h>
#include <sys/socket.h>
#include <time.h>
#include "wire.h"

#ifndef UDP_GRO
#define UDP_GRO 104
#endif

#define RX_DATAGRAMS 4 /* few and large: the buffers should stay in the cache */
#define RX_ROUNDS 4    /* system calls in one go, so that a flood cannot keep the lock */
#define RX_BYTES 65536
#define RX_SMALL 2048

static struct {
	uint8_t buffers[RX_DATAGRAMS][RX_BYTES];
	struct mmsghdr messages[RX_DATAGRAMS];
	bool streaming; /* the last look found several datagrams, or a large one */
	struct iovec pieces[RX_DATAGRAMS];
	struct sockaddr_in6 from[RX_DATAGRAMS];
	union {
		struct cmsghdr align;
		uint8_t bytes[CMSG_SPACE(sizeof(struct in6_pktinfo)) + CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(struct timespec))];
	} control[RX_DATAGRAMS];
} rx;

static void prepare(int i)
{
	rx.pieces[i] = (struct iovec){ rx.buffers[i], RX_BYTES };
	rx.messages[i].msg_hdr = (struct msghdr){ .msg_name = &rx.from[i], .msg_namelen = sizeof(rx.from[i]),
						  .msg_iov = &rx.pieces[i], .msg_iovlen = 1, .msg_control = &rx.control[i],
						  .msg_controllen = sizeof(rx.control[i]) };
}

static void deliver(const struct sr_rx_meta *meta, uint8_t *packet, size_t len)
{
	if (__builtin_expect(sr_fault.on, 0))
		sr_fault_deliver(meta, packet, len);
	else
		sr_demux(meta, packet, len, false);
}

/* The kernel stamps packets in wall-clock time; what counts is how long ago that was. */
static uint64_t monotonic(const struct timespec *stamp)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	int64_t age_ns = (now.tv_sec - stamp->tv_sec) * INT64_C(1000000000) + now.tv_nsec - stamp->tv_nsec;
	uint64_t here_ns = sr_now_ns();
	return age_ns > 0 && age_ns < INT64_C(10000000000) ? here_ns - (uint64_t)age_ns : here_ns;
}

static int take_apart(struct mmsghdr *message, const struct sockaddr_in6 *from, uint8_t *buffer)
{
	struct sr_rx_meta meta = { .from = *from, .arrived_ns = sr_wire.now_ns };
	size_t segment = message->msg_len;
	struct msghdr *m = &message->msg_hdr;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
			memcpy(&meta.to, CMSG_DATA(c), sizeof(meta.to));
		} else if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO) {
			int size;
			memcpy(&size, CMSG_DATA(c), sizeof(size));
			if (size > 0)
				segment = (size_t)size;
		} else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPNS) {
			struct timespec ts;
			memcpy(&ts, CMSG_DATA(c), sizeof(ts));
			meta.arrived_ns = monotonic(&ts);
		}
	}
	if (m->msg_flags & MSG_TRUNC || message->msg_len == 0) {
		SR_COUNT(rx_malformed);
		return 1;
	}
	sr_icrc_path_init(&meta.icrc, meta.from.sin6_addr.s6_addr, meta.to.s6_addr, ntohs(meta.from.sin6_port), SR_ROCE_PORT);
	int count = 0;
	for (size_t at = 0; at < message->msg_len; at += segment, count++) {
		size_t left = message->msg_len - at;
		meta.segment = (uint16_t)count;
		deliver(&meta, buffer + at, left < segment ? left : segment);
	}
	return count;
}

/* Number of datagrams received, 0 when there is none. While they come one by one, asking for one is the quicker question. */
static int receive(void)
{
	prepare(0);
	if (!rx.streaming) {
		ssize_t len = recvmsg(sr_wire.fd, &rx.messages[0].msg_hdr, MSG_DONTWAIT);
		if (len < 0)
			return 0;
		rx.messages[0].msg_len = (unsigned)len;
		rx.streaming = len > RX_SMALL;
		return 1;
	}
	for (int i = 1; i < RX_DATAGRAMS; i++)
		prepare(i);
	int n = recvmmsg(sr_wire.fd, rx.messages, RX_DATAGRAMS, MSG_DONTWAIT, NULL);
	rx.streaming = n > 1 || (n == 1 && rx.messages[0].msg_len > RX_SMALL);
	return n < 0 ? 0 : n;
}

int sr_rx_batch(void)
{
	int packets = 0;
	for (int round = 0; round < RX_ROUNDS; round++) {
		bool one_by_one = !rx.streaming;
		int n = receive();
		for (int i = 0; i < n; i++)
			packets += take_apart(&rx.messages[i], &rx.from[i], rx.buffers[i]);
		if (n < RX_DATAGRAMS && !(one_by_one && n && !sr.in_poll))
			break;
	}
	if (__builtin_expect(sr_fault.on, 0))
		sr_fault_flush();
	return packets;
}
