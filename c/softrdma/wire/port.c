/*
 * port.c - the sockets of the wire road: two that receive on UDP 4791, for IPv4 and IPv6, shared with other processes (steer.c),
 * and those that send, from ports of their own, so that receive coalescing and path hashing tell flows of different processes
 * apart.
 *
 * A round trip of small messages is mostly the kernel's time, so the sockets are the ones with the shortest way through it: an
 * IPv4 socket for IPv4 instead of an IPv6 one with mapped addresses (1 us of a round trip of 11), and a socket bound to the
 * source address instead of one that is told the source each time (0.6 us). A connected socket would save as much again but
 * chooses an IPv4 identification that the ICRC cannot know.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/udp.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>
#include "wire.h"

#ifndef UDP_NO_CHECK6_RX
#define UDP_NO_CHECK6_RX 102
#endif

#define BUFFER_BYTES (16 << 20)

#define SENDERS_MAX 32
#define SENDER_PORT_ATTEMPTS 64

struct sr_wire sr_wire = { .fd = -1, .fd4 = -1, .forward_fd = -1, .timers_due_ns = UINT64_MAX };

static struct {
	struct sr_sender general;
	struct sr_sender at[SENDERS_MAX]; /* one a source address that was used */
	unsigned count;
	struct sr_sender gsi; /* for queue pair 1 */
} senders = { .general.fd = -1, .gsi.fd = -1 };

static int set_int(int fd, int level, int option, int value) { return setsockopt(fd, level, option, &value, sizeof(value)); }

static int udp_socket(sa_family_t family)
{
	int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -1;
	/* The larger of what the limit allows and what a privileged process may force. */
	set_int(fd, SOL_SOCKET, SO_RCVBUF, BUFFER_BYTES);
	set_int(fd, SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES);
	set_int(fd, SOL_SOCKET, SO_SNDBUF, BUFFER_BYTES);
	set_int(fd, SOL_SOCKET, SO_SNDBUFFORCE, BUFFER_BYTES);
	return fd;
}

static int open_receiver(sa_family_t family)
{
	int fd = udp_socket(family);
	if (fd < 0)
		return -1;
	set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1);
	if (family == AF_INET) {
		set_int(fd, IPPROTO_IP, IP_MULTICAST_ALL, 0);
		return fd;
	}
	set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
	set_int(fd, IPPROTO_UDP, UDP_NO_CHECK6_RX, 1); /* rxe sends IPv6 without UDP checksums; the ICRC covers more */
	set_int(fd, IPPROTO_IPV6, IPV6_MULTICAST_ALL, 0);
	return fd;
}

/* Binds to a port of the dynamic range that RoCEv2 source ports come from. 0 or errno. */
static int bind_sender(struct sr_sender *s, const struct in6_addr *from)
{
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_addr = *from };
	struct sockaddr_in v4 = { .sin_family = AF_INET };
	memcpy(&v4.sin_addr, from->s6_addr + 12, 4);
	for (int attempt = 0; attempt < SENDER_PORT_ATTEMPTS; attempt++) {
		uint16_t random = 0;
		if (getrandom(&random, sizeof(random), 0) != sizeof(random))
			random = (uint16_t)(getpid() + attempt);
		s->port = (uint16_t)(0xc000 | random);
		v6.sin6_port = v4.sin_port = htons(s->port);
		int err = s->family == AF_INET ? bind(s->fd, (struct sockaddr *)&v4, sizeof(v4))
					       : bind(s->fd, (struct sockaddr *)&v6, sizeof(v6));
		if (err == 0)
			return 0;
		if (errno != EADDRINUSE)
			break;
	}
	return errno;
}

/* 0 or errno. */
static int open_sender(struct sr_sender *s, sa_family_t family, const struct in6_addr *from)
{
	*s = (struct sr_sender){ .fd = udp_socket(family), .family = family, .from = *from,
				 .general = IN6_IS_ADDR_UNSPECIFIED(from) };
	if (s->fd < 0)
		return errno;
	/* Path MTU discovery without a connection: DF set and identification 0, which the ICRC needs to know. */
	set_int(s->fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO);
	if (family == AF_INET6) {
		set_int(s->fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DO);
		set_int(s->fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
	}
	int err = bind_sender(s, from);
	if (err) {
		close(s->fd);
		s->fd = -1;
	}
	return err;
}

const struct sr_sender *sr_port_sender(const struct in6_addr *from, bool plain)
{
	if (!plain || senders.general.fd == -2)
		return &senders.general;
	for (unsigned i = 0; i < senders.count; i++)
		if (memcmp(&senders.at[i].from, from, sizeof(*from)) == 0)
			return &senders.at[i];
	if (senders.count == SENDERS_MAX)
		return &senders.general;
	struct sr_sender *s = &senders.at[senders.count];
	if (open_sender(s, IN6_IS_ADDR_V4MAPPED(from) ? AF_INET : AF_INET6, from)) {
		/* Not an address of this host any more, or out of descriptors: said once, then sent the general way. */
		*s = senders.general;
		s->from = *from;
	}
	senders.count++;
	return s;
}

/* The errors of this socket would otherwise be told to whoever sends something else with it. */
const struct sr_sender *sr_port_gsi_sender(void)
{
	struct sr_sender *s = &senders.gsi;
	if (s->fd >= 0 || senders.general.fd < 0)
		return s->fd >= 0 ? s : &senders.general;
	if (open_sender(s, AF_INET6, &in6addr_any))
		return &senders.general;
	set_int(s->fd, IPPROTO_IP, IP_RECVERR, 1);
	set_int(s->fd, IPPROTO_IPV6, IPV6_RECVERR, 1);
	s->returns = true;
	return s;
}

void sr_port_hooked(uint16_t port) { senders.general = (struct sr_sender){ .fd = -2, .general = true, .family = AF_INET6, .port = port }; }

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void close_senders(void)
{
	for (unsigned i = 0; i < senders.count; i++)
		if (!senders.at[i].general)
			close_fd(&senders.at[i].fd);
	senders.count = 0;
	close_fd(&senders.gsi.fd);
	close_fd(&senders.general.fd);
}

void sr_port_close(void)
{
	close_senders();
	close_fd(&sr_wire.fd);
	close_fd(&sr_wire.fd4);
	close_fd(&sr_wire.forward_fd);
}

int sr_port_open(unsigned slot)
{
	sr_wire.slot = slot;
	sr_wire.forward_fd = sr_steer_forward_socket(slot); /* also without the port: it carries MADs inside the host */
	int err = open_sender(&senders.general, AF_INET6, &in6addr_any);
	if (err)
		return err;
	sr_wire.fd = open_receiver(AF_INET6);
	sr_wire.fd4 = sr_wire.fd < 0 ? -1 : open_receiver(AF_INET);
	err = sr_wire.fd < 0 || sr_wire.fd4 < 0 ? errno : sr_steer_join(sr_wire.fd, sr_wire.fd4, slot);
	if (err) {
		close_senders();
		close_fd(&sr_wire.fd);
		close_fd(&sr_wire.fd4);
	}
	return err;
}

static int membership(const union ibv_gid *gid, uint32_t ifindex, bool join)
{
	struct in6_addr group;
	memcpy(&group, gid->raw, 16);
	if (sr_wire.fd < 0)
		return ENETDOWN;
	if (IN6_IS_ADDR_V4MAPPED(&group)) {
		struct ip_mreqn m = { .imr_ifindex = (int)ifindex };
		memcpy(&m.imr_multiaddr, gid->raw + 12, 4);
		return setsockopt(sr_wire.fd4, IPPROTO_IP, join ? IP_ADD_MEMBERSHIP : IP_DROP_MEMBERSHIP, &m, sizeof(m)) ? errno : 0;
	}
	struct ipv6_mreq m = { .ipv6mr_multiaddr = group, .ipv6mr_interface = ifindex };
	return setsockopt(sr_wire.fd, IPPROTO_IPV6, join ? IPV6_JOIN_GROUP : IPV6_LEAVE_GROUP, &m, sizeof(m)) ? errno : 0;
}

int sr_wire_mcast_join(const union ibv_gid *gid, uint32_t ifindex) { return membership(gid, ifindex, true); }
int sr_wire_mcast_leave(const union ibv_gid *gid, uint32_t ifindex) { return membership(gid, ifindex, false); }
