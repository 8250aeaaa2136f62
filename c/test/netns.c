/* netns.c - see netns.h. */
#define _GNU_SOURCE
#include "netns.h"
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct request {
	union {
		struct nlmsghdr h;
		char room[1024];
	};
};

/* Appends an attribute and returns it, so that a nest can be closed. */
static struct rtattr *put(struct request *r, unsigned short type, const void *data, size_t len)
{
	struct rtattr *a = (void *)(r->room + NLMSG_ALIGN(r->h.nlmsg_len));
	a->rta_type = type;
	a->rta_len = (unsigned short)RTA_LENGTH(len);
	if (len)
		memcpy(RTA_DATA(a), data, len);
	r->h.nlmsg_len = NLMSG_ALIGN(r->h.nlmsg_len) + (uint32_t)RTA_ALIGN(a->rta_len);
	return a;
}

static void close_nest(struct request *r, struct rtattr *a)
{
	a->rta_len = (unsigned short)(r->room + r->h.nlmsg_len - (char *)a);
}

static int ask(struct request *r)
{
	char buf[4096];
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	if (fd < 0)
		return errno;
	r->h.nlmsg_flags |= NLM_F_REQUEST | NLM_F_ACK;
	ssize_t n = send(fd, r, r->h.nlmsg_len, 0);
	if (n >= 0)
		n = recv(fd, buf, sizeof(buf), 0);
	int rc = n < 0 ? errno : EPROTO;
	const struct nlmsghdr *h = (void *)buf;
	if (n > 0 && NLMSG_OK(h, (unsigned)n) && h->nlmsg_type == NLMSG_ERROR)
		rc = -((struct nlmsgerr *)NLMSG_DATA(h))->error;
	close(fd);
	return rc;
}

int netns_enter(void)
{
	return unshare(CLONE_NEWNET) == 0 || unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0 ? 0 : errno;
}

static void begin_link(struct request *r, uint16_t type, uint16_t flags, const char *ifname)
{
	memset(r, 0, sizeof(*r));
	r->h.nlmsg_type = type;
	r->h.nlmsg_flags = flags;
	r->h.nlmsg_len = NLMSG_LENGTH(sizeof(struct ifinfomsg));
	put(r, IFLA_IFNAME, ifname, strlen(ifname) + 1);
}

int netns_veth(const char *a, const char *b)
{
	struct request r;
	struct ifinfomsg none = { 0 };
	begin_link(&r, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, a);
	struct rtattr *info = put(&r, IFLA_LINKINFO, NULL, 0);
	put(&r, IFLA_INFO_KIND, "veth", 5);
	struct rtattr *data = put(&r, IFLA_INFO_DATA, NULL, 0);
	struct rtattr *peer = put(&r, VETH_INFO_PEER, &none, sizeof(none));
	put(&r, IFLA_IFNAME, b, strlen(b) + 1);
	close_nest(&r, peer);
	close_nest(&r, data);
	close_nest(&r, info);
	return ask(&r);
}

int netns_delete(const char *ifname)
{
	struct request r;
	begin_link(&r, RTM_DELLINK, 0, ifname);
	return ask(&r);
}

int netns_updown(const char *ifname, int up)
{
	struct request r;
	begin_link(&r, RTM_NEWLINK, 0, ifname);
	struct ifinfomsg *i = NLMSG_DATA(&r.h);
	i->ifi_change = IFF_UP;
	i->ifi_flags = up ? IFF_UP : 0;
	return ask(&r);
}

int netns_mtu(const char *ifname, uint32_t mtu_bytes)
{
	struct request r;
	begin_link(&r, RTM_NEWLINK, 0, ifname);
	put(&r, IFLA_MTU, &mtu_bytes, sizeof(mtu_bytes));
	return ask(&r);
}

int netns_address(const char *ifname, const char *address, int prefix, int add)
{
	struct request r;
	uint8_t ip[16];
	int v6 = strchr(address, ':') != NULL;
	if (inet_pton(v6 ? AF_INET6 : AF_INET, address, ip) != 1)
		return EINVAL;
	memset(&r, 0, sizeof(r));
	r.h.nlmsg_type = add ? RTM_NEWADDR : RTM_DELADDR;
	r.h.nlmsg_flags = add ? NLM_F_CREATE | NLM_F_EXCL : 0;
	r.h.nlmsg_len = NLMSG_LENGTH(sizeof(struct ifaddrmsg));
	struct ifaddrmsg *m = NLMSG_DATA(&r.h);
	m->ifa_family = v6 ? AF_INET6 : AF_INET;
	m->ifa_prefixlen = (uint8_t)prefix;
	m->ifa_flags = v6 ? IFA_F_NODAD : 0;
	m->ifa_index = if_nametoindex(ifname);
	put(&r, IFA_LOCAL, ip, v6 ? 16 : 4);
	put(&r, IFA_ADDRESS, ip, v6 ? 16 : 4);
	return m->ifa_index ? ask(&r) : ENODEV;
}
