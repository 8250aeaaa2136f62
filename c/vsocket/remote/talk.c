/* talk.c - opening the UDP sockets, sending, receiving, and what comes back. */
#define _GNU_SOURCE
#include "talk.h"
#include "../book.h"
#include "../sys.h"
#include <linux/errqueue.h>
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>
#include <stdlib.h>
#include <sys/socket.h>

uint16_t vs_talk_well_known_port(void)
{
	const char *wish = secure_getenv("RDMAKIT_SOCKET_PORT");
	long port = wish ? strtol(wish, NULL, 10) : 0;
	return port > 0 && port < 65536 ? (uint16_t)port : VS_DATAGRAM_PORT;
}

int vs_talk_above(int fd)
{
	long high = fd >= 0 ? vs_sys(SYS_fcntl, fd, 1030 /* F_DUPFD_CLOEXEC */, 1000) : -1;
	if (high < 0)
		return fd;
	vs_sys(SYS_close, fd);
	return (int)high;
}

static void set(int fd, int level, int option, int value) { vs_sys_setsockopt(fd, level, option, &value, sizeof value); }

/* For IPv4 too. */
static int udp_socket(uint16_t port, bool shared)
{
	int fd = (int)vs_sys(SYS_socket, AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	if (fd < 0)
		return fd;
	set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
	set(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
	if (shared)
		set(fd, SOL_SOCKET, SO_REUSEPORT, 1);
	long r = vs_sys(SYS_bind, fd, &any, sizeof any);
	if (r < 0) {
		vs_sys(SYS_close, fd);
		return (int)r;
	}
	return vs_talk_above(fd);
}

bool vs_talk_open(struct vs_talk *t)
{
	struct sockaddr_in6 own;
	socklen_t len = sizeof own;
	t->own = udp_socket(0, false);
	if (t->own < 0 || vs_sys(SYS_getsockname, t->own, &own, &len) < 0)
		return false;
	t->port = ntohs(own.sin6_port);
	len = sizeof t->netns;
	if (vs_sys_getsockopt(t->own, SOL_SOCKET, 71 /* SO_NETNS_COOKIE */, &t->netns, &len) < 0)
		return false;
	set(t->own, IPPROTO_IP, IP_RECVERR, 1);
	set(t->own, IPPROTO_IPV6, IPV6_RECVERR, 1);
	t->door = udp_socket(vs_talk_well_known_port(), true);
	return true;
}

void vs_talk_close(struct vs_talk *t)
{
	vs_sys(SYS_close, t->own);
	if (t->door >= 0)
		vs_sys(SYS_close, t->door);
}

void vs_talk_send(struct vs_talk *t, const struct vs_datagram *d, const uint8_t from[16], const uint8_t to[16], uint16_t port)
{
	uint8_t bytes[VS_DATAGRAM_BYTES];
	struct sockaddr_in6 a = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(struct in6_pktinfo))];
	} control = { { 0 } };
	struct iovec iov = { bytes, sizeof bytes };
	struct msghdr m = { .msg_name = &a, .msg_namelen = sizeof a, .msg_iov = &iov, .msg_iovlen = 1 };
	memcpy(&a.sin6_addr, to, 16);
	vs_datagram_write(d, bytes);
	if (from) { /* the address that the peer knows */
		struct in6_pktinfo info = { 0 };
		memcpy(&info.ipi6_addr, from, 16);
		m.msg_control = &control;
		m.msg_controllen = sizeof control.room;
		control.head = (struct cmsghdr){ .cmsg_level = IPPROTO_IPV6, .cmsg_type = IPV6_PKTINFO, .cmsg_len = CMSG_LEN(sizeof info) };
		memcpy(CMSG_DATA(&control.head), &info, sizeof info);
	}
	/* The first attempt may only fetch the error of an earlier datagram. */
	if (vs_sys_sendmsg(t->own, &m, MSG_DONTWAIT | MSG_NOSIGNAL) == -ECONNREFUSED)
		vs_sys_sendmsg(t->own, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static uint32_t device_of(struct msghdr *m)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		struct in6_pktinfo info;
		if (c->cmsg_level != IPPROTO_IPV6 || c->cmsg_type != IPV6_PKTINFO || c->cmsg_len < CMSG_LEN(sizeof info))
			continue;
		memcpy(&info, CMSG_DATA(c), sizeof info);
		return (uint32_t)info.ipi6_ifindex;
	}
	return 0;
}

bool vs_talk_receive(int fd, struct vs_datagram *d, uint8_t from[16], uint32_t *network_device)
{
	for (;;) {
		uint8_t bytes[VS_DATAGRAM_BYTES + 1];
		struct sockaddr_in6 sender = { 0 };
		union {
			struct cmsghdr align;
			uint8_t room[128];
		} control;
		struct iovec iov = { bytes, sizeof bytes };
		struct msghdr m = { .msg_name = &sender, .msg_namelen = sizeof sender, .msg_iov = &iov, .msg_iovlen = 1,
				    .msg_control = &control, .msg_controllen = sizeof control };
		long n = vs_sys_recvmsg(fd, &m, MSG_DONTWAIT);
		if (n == -ECONNREFUSED)
			continue; /* of something that was sent */
		if (n < 0)
			return false;
		if (!vs_datagram_read(d, bytes, (size_t)n)) {
			vs_book_dropped();
			continue;
		}
		memcpy(from, &sender.sin6_addr, 16);
		*network_device = device_of(&m);
		return true;
	}
}

static bool says_port_unreachable(struct msghdr *m)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		struct sock_extended_err e;
		if (c->cmsg_len < CMSG_LEN(sizeof e))
			continue;
		memcpy(&e, CMSG_DATA(c), sizeof e);
		if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_RECVERR)
			return e.ee_origin == SO_EE_ORIGIN_ICMP && e.ee_type == ICMP_DEST_UNREACH && e.ee_code == ICMP_PORT_UNREACH;
		if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_RECVERR)
			return (e.ee_origin == SO_EE_ORIGIN_ICMP6 && e.ee_type == ICMP6_DST_UNREACH && e.ee_code == ICMP6_DST_UNREACH_NOPORT) ||
			       (e.ee_origin == SO_EE_ORIGIN_ICMP && e.ee_type == ICMP_DEST_UNREACH && e.ee_code == ICMP_PORT_UNREACH);
	}
	return false;
}

bool vs_talk_returned(struct vs_talk *t, struct vs_datagram *d, uint16_t *port)
{
	for (;;) {
		uint8_t bytes[VS_DATAGRAM_BYTES + 1];
		struct sockaddr_in6 to = { 0 };
		union {
			struct cmsghdr align;
			uint8_t room[256];
		} control;
		struct iovec iov = { bytes, sizeof bytes };
		struct msghdr m = { .msg_name = &to, .msg_namelen = sizeof to, .msg_iov = &iov, .msg_iovlen = 1,
				    .msg_control = &control, .msg_controllen = sizeof control };
		long n = vs_sys_recvmsg(t->own, &m, MSG_ERRQUEUE | MSG_DONTWAIT);
		if (n < 0) {
			int error;
			socklen_t len = sizeof error;
			/* One that found no room in the queue would leave POLLERR. */
			vs_sys_getsockopt(t->own, SOL_SOCKET, SO_ERROR, &error, &len);
			return false;
		}
		if (!says_port_unreachable(&m) || !vs_datagram_read(d, bytes, (size_t)n) || memcmp(&to.sin6_addr, d->to.addr, 16))
			continue;
		*port = ntohs(to.sin6_port);
		return true;
	}
}
