/*
 * port.c - the sockets of the wire road: one that receives on UDP 4791, shared with other processes (steer.c), and one that
 * sends from a port of its own, so that receive coalescing and path hashing tell flows of different processes apart.
 *
 * Both are IPv6 sockets that speak IPv4 through mapped addresses, which are the form of GIDs anyway.
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

#ifndef UDP_GRO
#define UDP_GRO 104
#endif
#ifndef UDP_NO_CHECK6_RX
#define UDP_NO_CHECK6_RX 102
#endif

#define BUFFER_BYTES (16 << 20)

struct sr_wire sr_wire = { .fd = -1, .tx_fd = -1, .forward_fd = -1, .timers_due_ns = UINT64_MAX };

static void set_int(int fd, int level, int option, int value) { (void)setsockopt(fd, level, option, &value, sizeof(value)); }

static int udp_socket(void)
{
	int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -1;
	set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
	/* The larger of what the limit allows and what a privileged process may force. */
	set_int(fd, SOL_SOCKET, SO_RCVBUF, BUFFER_BYTES);
	set_int(fd, SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES);
	set_int(fd, SOL_SOCKET, SO_SNDBUF, BUFFER_BYTES);
	set_int(fd, SOL_SOCKET, SO_SNDBUFFORCE, BUFFER_BYTES);
	return fd;
}

static int open_receiver(void)
{
	int fd = udp_socket();
	if (fd < 0)
		return -errno;
	set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1);
	set_int(fd, IPPROTO_UDP, UDP_NO_CHECK6_RX, 1); /* rxe sends IPv6 without UDP checksums; the ICRC covers more */
	set_int(fd, IPPROTO_UDP, UDP_GRO, 1);
	set_int(fd, SOL_SOCKET, SO_TIMESTAMPNS, 1);
	set_int(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
	set_int(fd, IPPROTO_IPV6, IPV6_MULTICAST_ALL, 0);
	set_int(fd, IPPROTO_IP, IP_MULTICAST_ALL, 0);
	return fd;
}

/* The dynamic range that RoCEv2 source ports come from. */
static int open_sender(uint16_t *port)
{
	int fd = udp_socket();
	if (fd < 0)
		return -errno;
	/* Path MTU discovery without a connection: DF set and identification 0, which the ICRC needs to know. */
	set_int(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO);
	set_int(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DO);
	struct sockaddr_in6 any = { .sin6_family = AF_INET6 };
	for (int attempt = 0; attempt < 64; attempt++) {
		uint16_t random = 0;
		if (getrandom(&random, sizeof(random), 0) != sizeof(random))
			random = (uint16_t)(getpid() + attempt);
		*port = (uint16_t)(0xc000 | random);
		any.sin6_port = htons(*port);
		if (bind(fd, (struct sockaddr *)&any, sizeof(any)) == 0)
			return fd;
	}
	int err = errno;
	close(fd);
	return -err;
}

int sr_port_open(unsigned slot)
{
	sr_wire.slot = slot;
	sr_wire.forward_fd = sr_steer_forward_socket(slot); /* also without the port: it carries MADs inside the host */
	sr_wire.tx_fd = open_sender(&sr_wire.tx_port);
	if (sr_wire.tx_fd < 0)
		return -sr_wire.tx_fd;
	int fd = open_receiver();
	int err = fd < 0 ? -fd : sr_steer_join(fd, slot);
	if (err) {
		if (fd >= 0)
			close(fd);
		close(sr_wire.tx_fd);
		sr_wire.tx_fd = -1;
		return err;
	}
	sr_wire.fd = fd;
	return 0;
}

void sr_port_close(void)
{
	int *fds[] = { &sr_wire.fd, &sr_wire.tx_fd, &sr_wire.forward_fd };
	for (int i = 0; i < 3; i++) {
		if (*fds[i] >= 0)
			close(*fds[i]);
		*fds[i] = -1;
	}
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
		return setsockopt(sr_wire.fd, IPPROTO_IP, join ? IP_ADD_MEMBERSHIP : IP_DROP_MEMBERSHIP, &m, sizeof(m)) ? errno : 0;
	}
	struct ipv6_mreq m = { .ipv6mr_multiaddr = group, .ipv6mr_interface = ifindex };
	return setsockopt(sr_wire.fd, IPPROTO_IPV6, join ? IPV6_JOIN_GROUP : IPV6_LEAVE_GROUP, &m, sizeof(m)) ? errno : 0;
}

int sr_wire_mcast_join(const union ibv_gid *gid, uint32_t ifindex) { return membership(gid, ifindex, true); }
int sr_wire_mcast_leave(const union ibv_gid *gid, uint32_t ifindex) { return membership(gid, ifindex, false); }
