/*
 * neighbour.c - one question to the kernel's neighbour table by rtnetlink.
 */
#include "neighbour.h"
#include <errno.h>
#include <linux/neighbour.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static bool own_address(struct sr_device *d, const uint8_t *ip, uint8_t mac[6])
{
	bool found = false;
	pthread_mutex_lock(&sr_device_lock);
	for (int g = 0; g < SR_LIMIT_GIDS && !found; g++)
		found = d->gids[g].valid && !memcmp(d->gids[g].gid.raw, ip, 16);
	memcpy(mac, d->link.mac, 6);
	pthread_mutex_unlock(&sr_device_lock);
	return found;
}

int sr_neighbour_mac(struct sr_device *d, const uint8_t *ip, uint8_t mac[6])
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	bool v4 = !memcmp(ip, mapped, sizeof(mapped));
	uint16_t alen = v4 ? 4 : 16;
	struct {
		struct nlmsghdr h;
		struct ndmsg n;
		struct rtattr a;
		uint8_t ip[16];
	} ask = { .h = { .nlmsg_len = NLMSG_LENGTH(sizeof(struct ndmsg)) + RTA_LENGTH(alen), .nlmsg_type = RTM_GETNEIGH,
			 .nlmsg_flags = NLM_F_REQUEST },
		  .n = { .ndm_family = v4 ? AF_INET : AF_INET6, .ndm_ifindex = (int)d->link.ifindex },
		  .a = { .rta_len = RTA_LENGTH(alen), .rta_type = NDA_DST } };
	char buf[4096];
	if (own_address(d, ip, mac))
		return 0;
	memcpy(ask.ip, v4 ? ip + 12 : ip, alen);
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	if (fd < 0)
		return errno;
	ssize_t n = send(fd, &ask, ask.h.nlmsg_len, 0);
	if (n >= 0)
		n = recv(fd, buf, sizeof(buf), 0); /* the kernel answers in the call that asks */
	int rc = n < 0 ? errno : EHOSTUNREACH;
	close(fd);
	const struct nlmsghdr *h = (void *)buf;
	if (n < 0 || !NLMSG_OK(h, (unsigned)n) || h->nlmsg_type != RTM_NEWNEIGH)
		return rc;
	const struct ndmsg *nd = NLMSG_DATA(h);
	if (!(nd->ndm_state & (NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_PERMANENT)))
		return rc;
	int left = (int)(h->nlmsg_len - NLMSG_LENGTH(sizeof(*nd)));
	for (const struct rtattr *a = (void *)((char *)nd + NLMSG_ALIGN(sizeof(*nd))); RTA_OK(a, left); a = RTA_NEXT(a, left))
		if (a->rta_type == NDA_LLADDR && RTA_PAYLOAD(a) == 6) {
			memcpy(mac, RTA_DATA(a), 6);
			return 0;
		}
	return rc;
}
