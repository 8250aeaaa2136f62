/*
 * rdmakit-probe: one end of the measurements of `topo probe`. Reads commands from standard input, one a line, and answers each
 * with one line; ends with its input. It is linked statically, so that it also runs on hosts to which it was copied.
 *
 *   expect ID PACKETS                              from now on counts data packets of ID, and answers questions of ID
 *   report                                         counted RECEIVED UNIQUE RATE_BPS OVERFLOWED
 *   send ADDRESS PORT ID BYTES PACKETS GAP_NS      sends data packets evenly; sent PACKETS SPAN_NS BLOCKED
 *   ask ADDRESS PORT ID PACKETS GAP_NS             measures round-trip times; answered PACKETS LEAST_NS MEDIAN_NS
 *   mtu ADDRESS                                    mtu BYTES: of the route to that address
 *
 * It begins with `rdmakit-probe 1 PORT`, the UDP port it listens on. ID is 16 hexadecimal digits that the far end must know:
 * packets of strangers are neither counted nor answered. Times are the kernel's stamps of arrival, and what the far end held
 * a question for is taken off: neither end has to be scheduled at once.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "probe/train.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

enum {
	VERSION = 1,
	SOCKET_BUFFER = 16 << 20,
	DATAGRAM_MAX = 65535,
	/* Segments of one system call: 64 is the kernel's limit, and 40 of 1472 bytes fit into a datagram. */
	SEGMENTS_MAX = 40,
	ASKED_MAX = 1000,
	/* A sender that was not scheduled makes up for this much; more would be a burst that overflows queues. */
	LATE_MAX_NS = 5000000,
	ANSWER_WAIT_NS = 2000000000,
	COMMAND_MAX_NS = 60 * 1000000000ll,
};

static int udp;
static struct train train;
/* The kernel's count of datagrams that found the socket full, now and when the first of the train came. */
static uint32_t overflowed, overflowed_before;
static uint8_t datagram[DATAGRAM_MAX];

/* Kernel stamps are of this clock. */
static uint64_t wall_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void fail(const char *what)
{
	fprintf(stderr, "rdmakit-probe: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int open_socket(void)
{
	struct sockaddr_in any = {.sin_family = AF_INET};
	int on = 1, buffer = SOCKET_BUFFER;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&any, sizeof any))
		fail("cannot open a UDP socket");
	if (setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on))
		fail("no time stamps of arrival");
	/* Best effort from here: without rights the buffers stay smaller, and old kernels count single datagrams. */
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof buffer))
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
	if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof buffer))
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
	setsockopt(fd, SOL_SOCKET, SO_RXQ_OVFL, &on, sizeof on);
	setsockopt(fd, IPPROTO_UDP, UDP_GRO, &on, sizeof on);
	return fd;
}

/* One received datagram: `len` bytes in `datagram`, of `segment` bytes each. */
struct arrival {
	struct sockaddr_in from;
	uint64_t stamp_ns;
	size_t len, segment;
};

/* Takes the next datagram without waiting; false when there is none. */
static bool take(struct arrival *arrival)
{
	union {
		struct cmsghdr align;
		char bytes[256];
	} control;
	struct iovec data = {datagram, sizeof datagram};
	struct msghdr message = {.msg_name = &arrival->from,
				 .msg_namelen = sizeof arrival->from,
				 .msg_iov = &data,
				 .msg_iovlen = 1,
				 .msg_control = &control,
				 .msg_controllen = sizeof control};
	ssize_t len = recvmsg(udp, &message, MSG_DONTWAIT);

	if (len < 0)
		return false;
	arrival->len = (size_t)len;
	arrival->segment = (size_t)len;
	arrival->stamp_ns = 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPNS) {
			struct timespec stamp;

			memcpy(&stamp, CMSG_DATA(c), sizeof stamp);
			arrival->stamp_ns = (uint64_t)stamp.tv_sec * 1000000000u + (uint64_t)stamp.tv_nsec;
		} else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_RXQ_OVFL) {
			uint32_t drops;

			memcpy(&drops, CMSG_DATA(c), sizeof drops);
			overflowed = drops;
		} else if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO) {
			int bytes;

			memcpy(&bytes, CMSG_DATA(c), sizeof bytes);
			if (bytes > 0)
				arrival->segment = (size_t)bytes;
		}
	}
	if (!arrival->stamp_ns)
		arrival->stamp_ns = wall_ns();
	return true;
}

/* Counts data and answers questions until nothing is left to take. */
static void serve(void)
{
	struct arrival arrival;

	while (take(&arrival)) {
		for (size_t at = 0; at < arrival.len; at += arrival.segment) {
			size_t len = arrival.len - at < arrival.segment ? arrival.len - at : arrival.segment;
			struct probe_packet packet;

			if (!probe_decode(&packet, datagram + at, len) || !train.limit || packet.id != train.id)
				continue;
			if (packet.kind == PROBE_ASK) {
				uint8_t answer[PROBE_HEADER_BYTES];
				uint64_t now = wall_ns();

				packet.kind = PROBE_ANSWER;
				packet.held_ns = now > arrival.stamp_ns ? now - arrival.stamp_ns : 0;
				probe_encode(&packet, answer);
				sendto(udp, answer, sizeof answer, 0, (struct sockaddr *)&arrival.from, sizeof arrival.from);
			} else {
				if (train.count == 0)
					overflowed_before = overflowed;
				train_take(&train, &packet, len, arrival.stamp_ns);
			}
		}
	}
}

/* Sends `count` packets as one datagram that the kernel or the card cuts, or by itself when that is refused. */
static int send_some(int fd, uint64_t id, uint32_t first, uint32_t count, size_t bytes)
{
	static uint8_t data[SEGMENTS_MAX * 1500];
	static bool cuts = true;
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(uint16_t))];
	} control = {0};
	struct iovec part = {data, bytes * count};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};

	for (uint32_t i = 0; i < count; i++)
		probe_encode(&(struct probe_packet){.kind = PROBE_DATA, .id = id, .sequence = first + i}, data + i * bytes);
	if (count > 1 && cuts) {
		uint16_t segment = (uint16_t)bytes;
		struct cmsghdr *c = &control.align;

		message.msg_control = &control;
		message.msg_controllen = sizeof control;
		c->cmsg_level = IPPROTO_UDP;
		c->cmsg_type = UDP_SEGMENT;
		c->cmsg_len = CMSG_LEN(sizeof segment);
		memcpy(CMSG_DATA(c), &segment, sizeof segment);
		if (sendmsg(fd, &message, MSG_DONTWAIT) >= 0 || errno == ENOBUFS)
			return (int)count;
		if (errno == EAGAIN || errno == ECONNREFUSED)
			return errno == EAGAIN ? 0 : (int)count;
		cuts = false;
	}
	for (uint32_t i = 0; i < count; i++) {
		/* A queue that dropped the packet (ENOBUFS) and ICMP's word that nobody listens are not the sender's failure. */
		if (send(fd, data + i * bytes, bytes, MSG_DONTWAIT) < 0 && errno != ENOBUFS && errno != ECONNREFUSED)
			return errno == EAGAIN ? (int)i : -1;
	}
	return (int)count;
}

static int connected(const char *address, unsigned port)
{
	struct sockaddr_in far = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	int buffer = SOCKET_BUFFER;
	int fd;

	if (inet_pton(AF_INET, address, &far.sin_addr) != 1) {
		errno = EINVAL;
		return -1;
	}
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&far, sizeof far)) {
		int error = errno;

		close(fd);
		errno = error;
		return -1;
	}
	if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof buffer))
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
	return fd;
}

static void nap(uint64_t ns)
{
	struct timespec t = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};

	nanosleep(&t, NULL);
}

static void refuse(const char *what)
{
	printf("refused %s: %s\n", what, strerror(errno));
}

static void do_send(const char *address, unsigned port, uint64_t id, size_t bytes, uint32_t packets, uint64_t gap_ns)
{
	int fd = connected(address, port);
	uint64_t begin = now_ns(), start = begin, blocked = 0;
	uint32_t sent = 0;

	if (fd < 0) {
		refuse("send");
		return;
	}
	while (sent < packets) {
		uint64_t at = now_ns();
		uint64_t due = (at - begin) / gap_ns + 1;
		uint32_t some;
		int went;

		if (at - start > COMMAND_MAX_NS)
			break;
		if (due <= sent) {
			uint64_t wait = begin + sent * gap_ns - at;

			/* Shorter than a wake-up: spin. */
			if (wait > 60000)
				nap(wait - 50000);
			continue;
		}
		/* What is more than LATE_MAX_NS late is not made up for: the whole rest moves. */
		if ((due - sent) * gap_ns > LATE_MAX_NS + gap_ns)
			begin += (due - sent) * gap_ns - LATE_MAX_NS;
		some = due - sent > SEGMENTS_MAX ? SEGMENTS_MAX : (uint32_t)(due - sent);
		if (some > packets - sent)
			some = packets - sent;
		went = send_some(fd, id, sent, some, bytes);
		if (went < 0) {
			refuse("send");
			close(fd);
			return;
		}
		sent += (uint32_t)went;
		if ((uint32_t)went < some) {
			struct pollfd room = {.fd = fd, .events = POLLOUT};

			blocked++;
			poll(&room, 1, 10);
		}
	}
	printf("sent %" PRIu32 " %" PRIu64 " %" PRIu64 "\n", sent, now_ns() - start, blocked);
	close(fd);
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void do_ask(const char *address, unsigned port, uint64_t id, uint32_t packets, uint64_t gap_ns)
{
	static uint64_t asked_ns[ASKED_MAX], times_ns[ASKED_MAX];
	struct sockaddr_in far = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	uint64_t start = now_ns(), next = start;
	uint32_t asked = 0, answered = 0;

	if (inet_pton(AF_INET, address, &far.sin_addr) != 1 || packets > ASKED_MAX) {
		errno = EINVAL;
		refuse("ask");
		return;
	}
	memset(asked_ns, 0, sizeof asked_ns);
	while (answered < packets && now_ns() < next + (asked < packets ? 0 : ANSWER_WAIT_NS) + 1000000000u) {
		uint64_t at = now_ns();
		struct arrival arrival;

		if (asked < packets && at >= next) {
			uint8_t data[PROBE_HEADER_BYTES];

			probe_encode(&(struct probe_packet){.kind = PROBE_ASK, .id = id, .sequence = asked}, data);
			asked_ns[asked++] = wall_ns();
			if (sendto(udp, data, sizeof data, 0, (struct sockaddr *)&far, sizeof far) < 0 && errno != ENOBUFS &&
			    errno != ECONNREFUSED && errno != EAGAIN) {
				refuse("ask");
				return;
			}
			next = at + gap_ns;
		}
		while (take(&arrival)) {
			struct probe_packet packet;

			if (!probe_decode(&packet, datagram, arrival.len) || packet.kind != PROBE_ANSWER || packet.id != id ||
			    packet.sequence >= asked || !asked_ns[packet.sequence])
				continue;
			if (arrival.stamp_ns > asked_ns[packet.sequence] + packet.held_ns)
				times_ns[answered++] = arrival.stamp_ns - asked_ns[packet.sequence] - packet.held_ns;
			asked_ns[packet.sequence] = 0;
		}
		if (answered == packets)
			break;
		struct pollfd wait = {.fd = udp, .events = POLLIN};

		at = now_ns();
		poll(&wait, 1, asked < packets ? (next > at ? (int)((next - at) / 1000000u) + 1 : 0) : 50);
	}
	qsort(times_ns, answered, sizeof *times_ns, by_value);
	printf("answered %" PRIu32 " %" PRIu64 " %" PRIu64 "\n", answered, answered ? times_ns[0] : 0,
	       answered ? times_ns[answered / 2] : 0);
}

static void do_mtu(const char *address)
{
	int fd = connected(address, 9), mtu;
	socklen_t len = sizeof mtu;

	if (fd < 0 || getsockopt(fd, IPPROTO_IP, IP_MTU, &mtu, &len))
		refuse("mtu");
	else
		printf("mtu %d\n", mtu);
	if (fd >= 0)
		close(fd);
}

static void run(const char *line)
{
	char address[64], rest;
	unsigned port, bytes;
	uint32_t packets;
	uint64_t id, gap_ns;

	if (sscanf(line, "expect %16" SCNx64 " %" SCNu32 " %c", &id, &packets, &rest) == 2) {
		serve();
		if (!train_expect(&train, id, packets)) {
			errno = packets > TRAIN_MAX_PACKETS || !packets ? EINVAL : ENOMEM;
			refuse("expect");
			return;
		}
		overflowed_before = overflowed;
		puts("expecting");
	} else if (!strcmp(line, "report")) {
		serve();
		printf("counted %" PRIu32 " %" PRIu32 " %.0f %" PRIu32 "\n", train.count, train.unique, train_rate_bps(&train),
		       overflowed - overflowed_before);
	} else if (sscanf(line, "send %63s %u %16" SCNx64 " %u %" SCNu32 " %" SCNu64 " %c", address, &port, &id, &bytes,
			  &packets, &gap_ns, &rest) == 6 &&
		   port < 65536 && bytes >= PROBE_HEADER_BYTES && bytes <= 1472 && gap_ns > 0 && gap_ns < COMMAND_MAX_NS) {
		do_send(address, port, id, bytes, packets, gap_ns);
	} else if (sscanf(line, "ask %63s %u %16" SCNx64 " %" SCNu32 " %" SCNu64 " %c", address, &port, &id, &packets, &gap_ns,
			  &rest) == 5 &&
		   port < 65536 && gap_ns > 0 && gap_ns < COMMAND_MAX_NS) {
		do_ask(address, port, id, packets, gap_ns);
	} else if (sscanf(line, "mtu %63s %c", address, &rest) == 1) {
		do_mtu(address);
	} else {
		printf("refused: not a command\n");
	}
}

int main(void)
{
	char line[256];
	size_t have = 0;
	struct sockaddr_in own;
	socklen_t len = sizeof own;

	udp = open_socket();
	if (getsockname(udp, (struct sockaddr *)&own, &len))
		fail("getsockname");
	setvbuf(stdout, NULL, _IOLBF, 0);
	prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0);
	printf("rdmakit-probe %d %u\n", VERSION, ntohs(own.sin_port));
	for (;;) {
		struct pollfd wait[2] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = udp, .events = POLLIN}};

		if (poll(wait, 2, -1) < 0 && errno != EINTR)
			fail("poll");
		if (wait[1].revents)
			serve();
		if (!wait[0].revents)
			continue;
		ssize_t got = read(STDIN_FILENO, line + have, sizeof line - 1 - have);
		if (got <= 0)
			break;
		have += (size_t)got;
		for (char *end; (end = memchr(line, '\n', have)); have -= (size_t)(end + 1 - line), memmove(line, end + 1, have)) {
			*end = '\0';
			run(line);
		}
		if (have == sizeof line - 1) {
			errno = E2BIG;
			fail("a command");
		}
	}
	train_free(&train);
	return 0;
}
