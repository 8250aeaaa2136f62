/*
 * rx.c - packets on their way in. There is a socket for IPv4 and one for IPv6, each in one of two modes:
 *
 *   streaming   recvmmsg() with UDP_GRO, so that one buffer may hold up to 64 KiB of packets of one sender, which are taken
 *               apart here; the kernel says where they were sent to, and stamps them with their arrival for congestion control
 *   plain       one packet each recvfrom(), and nothing but its bytes and source: 0.5 us less of every hop, most of it in the
 *               looks that find nothing. The destination is the address of the queue pair; the ICRC proves it. Only a
 *               process with connected queue pairs and no others enters this mode; where the few other datagrams were sent to
 *               (queue pair 1) is found by the ICRC (demux.c).
 *
 * Inside an application's poll only the socket that had the last packet is looked at each time, the other now and then.
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

#define OTHER_LOOK 16 /* one poll in so many looks at the other socket too */
#define STREAM_FROM 8  /* so many plain looks with a packet, one after the other, are a stream */
#define STREAM_NS 1000000u /* without more for so long it was one */
#define STAMPS_ON_NS 1000000000u /* stamps stay on that long after the last stream: switching them patches kernel code */

static struct {
	uint8_t buffers[RX_DATAGRAMS][RX_BYTES];
	struct mmsghdr messages[RX_DATAGRAMS];
	struct iovec pieces[RX_DATAGRAMS];
	union {
		struct sockaddr_in6 v6;
		struct sockaddr_in v4;
	} from[RX_DATAGRAMS];
	union {
		struct cmsghdr align;
		uint8_t bytes[CMSG_SPACE(sizeof(struct in6_pktinfo)) + CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(struct timespec))];
	} control[RX_DATAGRAMS];
} rx;

enum mode { PLAIN, STREAMING, LEAVING /* a last look with control messages */ };

static struct receiver {
	bool v4;
	bool several; /* the last look found more than one small datagram */
	bool stamps;  /* SO_TIMESTAMPNS is on */
	enum mode mode;
	uint32_t in_a_row; /* plain looks that found a packet, one after the other */
	uint64_t streamed_ns;
} receivers[2], *recent; /* recent: had the last packet */

void sr_rx_open(void)
{
	receivers[0] = (struct receiver){ .v4 = true };
	receivers[1] = (struct receiver){ .v4 = false };
	recent = receivers;
}

static int fd_of(const struct receiver *r) { return r->v4 ? sr_wire.fd4 : sr_wire.fd; }

static void prepare(int i)
{
	rx.pieces[i] = (struct iovec){ rx.buffers[i], RX_BYTES };
	rx.messages[i].msg_hdr = (struct msghdr){ .msg_name = &rx.from[i], .msg_namelen = sizeof(rx.from[i]),
						  .msg_iov = &rx.pieces[i], .msg_iovlen = 1, .msg_control = &rx.control[i],
						  .msg_controllen = sizeof(rx.control[i]) };
}

static struct in6_addr mapped(const struct in_addr *v4)
{
	struct in6_addr a = { .s6_addr = { [10] = 0xff, [11] = 0xff } };
	memcpy(a.s6_addr + 12, v4, sizeof(*v4));
	return a;
}

static void deliver(const struct sr_rx_meta *meta, uint8_t *packet, size_t len)
{
	if (__builtin_expect(sr_fault.on, 0))
		sr_fault_deliver(meta, packet, len);
	else
		sr_demux(meta, packet, len, false);
}

static struct sockaddr_in6 source(const struct receiver *r, int i)
{
	if (!r->v4)
		return rx.from[i].v6;
	return (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_port = rx.from[i].v4.sin_port,
				      .sin6_addr = mapped(&rx.from[i].v4.sin_addr) };
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

static int take_apart(const struct receiver *r, int i)
{
	struct mmsghdr *message = &rx.messages[i];
	struct sr_rx_meta meta = { .from = source(r, i), .arrived_ns = sr_wire.now_ns };
	size_t segment = message->msg_len;
	struct msghdr *m = &message->msg_hdr;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
			memcpy(&meta.to, CMSG_DATA(c), sizeof(meta.to));
		} else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
			struct in_pktinfo info;
			memcpy(&info, CMSG_DATA(c), sizeof(info));
			meta.to = mapped(&info.ipi_addr);
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
		deliver(&meta, rx.buffers[i] + at, left < segment ? left : segment);
	}
	return count;
}

static void set_option(const struct receiver *r, int level, int option, int value)
{
	(void)setsockopt(fd_of(r), level, option, &value, sizeof(value));
}

static void set_stamps(struct receiver *r, bool on)
{
	if (r->stamps != on)
		set_option(r, SOL_SOCKET, SO_TIMESTAMPNS, on);
	r->stamps = on;
}

static void enter_streaming(struct receiver *r)
{
	if (r->mode == PLAIN)
		set_option(r, r->v4 ? IPPROTO_IP : IPPROTO_IPV6, r->v4 ? IP_PKTINFO : IPV6_RECVPKTINFO, 1);
	if (r->mode != STREAMING)
		set_option(r, IPPROTO_UDP, UDP_GRO, 1);
	r->mode = STREAMING;
	r->in_a_row = 0;
}

/* How a coalesced datagram is cut is told only while the option is set: with any in the queue the time has not come. */
static void leave_streaming(struct receiver *r)
{
	char byte;
	set_option(r, IPPROTO_UDP, UDP_GRO, 0);
	if (recv(fd_of(r), &byte, sizeof(byte), MSG_DONTWAIT | MSG_PEEK) < 0)
		r->mode = LEAVING;
	else
		set_option(r, IPPROTO_UDP, UDP_GRO, 1);
}

/* Connected queue pairs only. Without any, what comes is for queue pair 1, whose owner may not have looked at a device yet. */
static bool plain_suffices(void) { return sr.wire_connected && sr.wire_users == sr.wire_connected; }

/* After a look with control messages. */
static void note_stream(struct receiver *r, int found)
{
	r->several = found > 1 || (found == 1 && rx.messages[0].msg_len > RX_SMALL);
	if (r->several) {
		r->streamed_ns = sr_wire.now_ns;
		enter_streaming(r);
		set_stamps(r, true);
		return;
	}
	uint64_t ago_ns = sr_wire.now_ns - r->streamed_ns;
	if (ago_ns > STAMPS_ON_NS)
		set_stamps(r, false);
	if (ago_ns < STREAM_NS || !plain_suffices())
		return;
	if (r->mode == STREAMING) {
		if (found <= 0)
			leave_streaming(r);
	} else if (found <= 0) {
		set_option(r, r->v4 ? IPPROTO_IP : IPPROTO_IPV6, r->v4 ? IP_PKTINFO : IPV6_RECVPKTINFO, 0);
		r->mode = PLAIN;
	}
}

/* Number of datagrams received, 0 when there is none. While they come one by one, asking for one is the quicker question. */
static int receive(struct receiver *r)
{
	int n;
	prepare(0);
	if (!r->several) {
		ssize_t len = recvmsg(fd_of(r), &rx.messages[0].msg_hdr, MSG_DONTWAIT);
		rx.messages[0].msg_len = len < 0 ? 0 : (unsigned)len;
		n = len < 0 ? 0 : 1;
	} else {
		for (int i = 1; i < RX_DATAGRAMS; i++)
			prepare(i);
		n = recvmmsg(fd_of(r), rx.messages, RX_DATAGRAMS, MSG_DONTWAIT, NULL);
	}
	if (n > 0)
		sr_wire_set_now(sr_wire_clock_ns());
	note_stream(r, n);
	return n < 0 ? 0 : n;
}

static int receive_plain(struct receiver *r)
{
	socklen_t from_len = sizeof(rx.from[0]);
	ssize_t len = recvfrom(fd_of(r), rx.buffers[0], RX_BYTES, MSG_DONTWAIT, (struct sockaddr *)&rx.from[0], &from_len);
	if (len < 0) {
		r->in_a_row = 0;
		return 0;
	}
	sr_wire_set_now(sr_wire_clock_ns());
	struct sr_rx_meta meta = { .from = source(r, 0), .arrived_ns = sr_wire.now_ns };
	deliver(&meta, rx.buffers[0], (size_t)len);
	if (++r->in_a_row >= STREAM_FROM || len > RX_SMALL) {
		enter_streaming(r);
		r->streamed_ns = sr_wire.now_ns;
	}
	return 1;
}

static int receive_all(struct receiver *r)
{
	int packets = 0;
	if (r->mode == PLAIN && !plain_suffices())
		enter_streaming(r);
	for (int round = 0; round < RX_ROUNDS; round++) {
		if (r->mode == PLAIN) {
			int n = receive_plain(r);
			packets += n;
			if (n && !sr.in_poll)
				continue;
			break;
		}
		bool one_by_one = !r->several;
		int n = receive(r);
		for (int i = 0; i < n; i++)
			packets += take_apart(r, i);
		if (n < RX_DATAGRAMS && !(one_by_one && n && !sr.in_poll))
			break;
	}
	return packets;
}

int sr_rx_batch(void)
{
	static uint32_t polls;
	int packets = 0;
	bool both = !sr.in_poll || ++polls % OTHER_LOOK == 0;
	for (struct receiver *r = receivers; r < receivers + 2; r++) {
		if (r != recent && !both)
			continue;
		int n = receive_all(r);
		if (n)
			recent = r;
		packets += n;
	}
	if (__builtin_expect(sr_fault.on, 0))
		sr_fault_flush();
	return packets;
}
