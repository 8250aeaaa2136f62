/*
 * netlink.c - interfaces and addresses through rtnetlink. Raw sockets of three messages need no library, and unlike
 * getifaddrs() the dump carries MTU, flags of the address (duplicate detection) and the hardware type.
 */
#define _GNU_SOURCE
#include "netlink.h"
#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* The kernel fills at most 32 KiB a read of a dump; less room than a message would lose it. */
#define DUMP_BYTES 32768

static int open_socket(uint32_t groups, int flags)
{
	struct sockaddr_nl sa = { .nl_family = AF_NETLINK, .nl_groups = groups };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | flags, NETLINK_ROUTE);
	if (fd < 0)
		return -1;
	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0)
		return fd;
	int err = errno;
	close(fd);
	errno = err;
	return -1;
}

/* Room for one more element; doubles. */
static void *grow(void *array, size_t n, size_t size)
{
	if (n & (n - 1) || (n && n < 8))
		return array;
	return n == 0 ? realloc(array, 8 * size) : realloc(array, 2 * n * size);
}

static int take_link(struct sr_net *net, const struct nlmsghdr *h)
{
	const struct ifinfomsg *ifi = NLMSG_DATA(h);
	void *bigger = grow(net->links, net->nlinks, sizeof(*net->links));
	if (!bigger)
		return ENOMEM;
	net->links = bigger;
	struct sr_link_info *l = &net->links[net->nlinks];
	*l = (struct sr_link_info){ .ifindex = (uint32_t)ifi->ifi_index, .flags = ifi->ifi_flags, .arp_type = ifi->ifi_type };
	int left = (int)IFLA_PAYLOAD(h);
	for (const struct rtattr *a = IFLA_RTA(ifi); RTA_OK(a, left); a = RTA_NEXT(a, left)) {
		size_t n = RTA_PAYLOAD(a);
		if (a->rta_type == IFLA_IFNAME && n > 0) {
			if (n > sizeof(l->name) - 1)
				n = sizeof(l->name) - 1;
			memcpy(l->name, RTA_DATA(a), n);
		} else if (a->rta_type == IFLA_MTU && n >= 4) {
			memcpy(&l->mtu_bytes, RTA_DATA(a), 4);
		} else if (a->rta_type == IFLA_ADDRESS && n <= sizeof(l->mac)) {
			memcpy(l->mac, RTA_DATA(a), n);
			l->mac_len = (uint8_t)n;
		}
	}
	if (l->name[0])
		net->nlinks++;
	return 0;
}

static int take_addr(struct sr_net *net, const struct nlmsghdr *h)
{
	const struct ifaddrmsg *ifa = NLMSG_DATA(h);
	const void *local = NULL, *addr = NULL;
	size_t want = ifa->ifa_family == AF_INET ? 4 : ifa->ifa_family == AF_INET6 ? 16 : 0;
	uint32_t flags = ifa->ifa_flags;
	int left = (int)IFA_PAYLOAD(h);
	for (const struct rtattr *a = IFA_RTA(ifa); RTA_OK(a, left); a = RTA_NEXT(a, left)) {
		if (a->rta_type == IFA_LOCAL && RTA_PAYLOAD(a) == want)
			local = RTA_DATA(a); /* IFA_ADDRESS is the peer's on point-to-point links */
		else if (a->rta_type == IFA_ADDRESS && RTA_PAYLOAD(a) == want)
			addr = RTA_DATA(a);
		else if (a->rta_type == IFA_FLAGS && RTA_PAYLOAD(a) >= 4)
			memcpy(&flags, RTA_DATA(a), 4);
	}
	if (!local)
		local = addr;
	/* A tentative address stays in: its place in the GID table must not depend on when we looked. */
	if (!want || !local || (flags & IFA_F_DADFAILED))
		return 0;
	void *bigger = grow(net->addrs, net->naddrs, sizeof(*net->addrs));
	if (!bigger)
		return ENOMEM;
	net->addrs = bigger;
	struct sr_addr_info *out = &net->addrs[net->naddrs++];
	*out = (struct sr_addr_info){ .ifindex = ifa->ifa_index, .temporary = ifa->ifa_family == AF_INET6 && (flags & IFA_F_TEMPORARY) };
	if (want == 4) {
		out->ip[10] = out->ip[11] = 0xff;
		memcpy(out->ip + 12, local, 4);
	} else {
		memcpy(out->ip, local, 16);
	}
	return 0;
}

/* One message of a dump. Returns 0 to go on, -1 at the end, or an errno. */
static int take(struct sr_net *net, const struct nlmsghdr *h)
{
	if (h->nlmsg_type == NLMSG_DONE)
		return -1;
	if (h->nlmsg_type == NLMSG_ERROR) {
		const struct nlmsgerr *e = NLMSG_DATA(h);
		return h->nlmsg_len >= NLMSG_LENGTH(sizeof(*e)) && e->error ? -e->error : EIO;
	}
	if (h->nlmsg_flags & NLM_F_DUMP_INTR)
		return EAGAIN; /* it changed under the kernel's feet: the caller reads again */
	if (h->nlmsg_type == RTM_NEWLINK && h->nlmsg_len >= NLMSG_LENGTH(sizeof(struct ifinfomsg)))
		return take_link(net, h);
	if (h->nlmsg_type == RTM_NEWADDR && h->nlmsg_len >= NLMSG_LENGTH(sizeof(struct ifaddrmsg)))
		return take_addr(net, h);
	return 0;
}

static int dump(int fd, uint16_t type, char *buf, struct sr_net *net)
{
	struct {
		struct nlmsghdr h;
		struct rtgenmsg g;
	} ask = { .h = { .nlmsg_len = NLMSG_LENGTH(sizeof(struct rtgenmsg)), .nlmsg_type = type,
			 .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP, .nlmsg_seq = type },
		  .g = { .rtgen_family = AF_UNSPEC } };
	if (send(fd, &ask, ask.h.nlmsg_len, 0) < 0)
		return errno;
	for (;;) {
		ssize_t n = recv(fd, buf, DUMP_BYTES, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno;
		if (n == 0)
			return EIO;
		unsigned left = (unsigned)n;
		for (const struct nlmsghdr *h = (void *)buf; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
			if (h->nlmsg_seq != type)
				continue;
			int rc = take(net, h);
			if (rc)
				return rc < 0 ? 0 : rc;
		}
	}
}

void sr_net_free(struct sr_net *net)
{
	free(net->links);
	free(net->addrs);
	*net = (struct sr_net){ 0 };
}

int sr_net_read(struct sr_net *net)
{
	*net = (struct sr_net){ 0 };
	char *buf = malloc(DUMP_BYTES);
	if (!buf)
		return ENOMEM;
	int rc = EAGAIN;
	for (int attempt = 0; rc == EAGAIN && attempt < 8; attempt++) {
		int fd = open_socket(0, 0);
		if (fd < 0) {
			rc = errno;
			break;
		}
		sr_net_free(net);
		rc = dump(fd, RTM_GETLINK, buf, net);
		if (!rc)
			rc = dump(fd, RTM_GETADDR, buf, net);
		close(fd); /* a fresh socket each time, so that nothing of a broken dump is left to read */
	}
	free(buf);
	if (rc)
		sr_net_free(net);
	return rc;
}

int sr_netlink_open(void)
{
	return open_socket(RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR, SOCK_NONBLOCK);
}

bool sr_netlink_drain(int fd, void (*changed)(void))
{
	char buf[4096];
	bool any = false;
	for (;;) {
		ssize_t n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);
		if (n > 0 || (n < 0 && errno == ENOBUFS)) /* ENOBUFS: some were lost, which is a change too */
			any = true;
		else if (!(n < 0 && errno == EINTR))
			break;
	}
	if (any && changed)
		changed();
	return any;
}
