/*
 * refresh.c - keeping the table of devices in step with the kernel's interfaces, and telling open contexts what changed.
 */
#include "device.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "../core.h"

/* Held from reading the kernel to applying what was read, so that an older picture never overwrites a newer one. */
static pthread_mutex_t refresh_lock = PTHREAD_MUTEX_INITIALIZER;
/* Notice of changes for sr_device_freshen(); one a process, not shared with a forked child. Under refresh_lock. */
static int watch_fd = -1;
static pid_t watch_pid;

/* Another thread may be inside when the program forks; its locks would stay taken in the child for ever. */
static void before_fork(void)
{
	pthread_mutex_lock(&refresh_lock);
	pthread_mutex_lock(&sr_device_lock);
}

static void after_fork(void)
{
	pthread_mutex_unlock(&sr_device_lock);
	pthread_mutex_unlock(&refresh_lock);
}

__attribute__((constructor)) static void watch_forks(void)
{
	pthread_atfork(before_fork, after_fork, after_fork);
}

static const struct sr_link_info *find_link(const struct sr_net *net, const struct sr_device *d)
{
	for (size_t i = 0; i < net->nlinks; i++)
		if (net->links[i].ifindex == d->link.ifindex && !strcmp(net->links[i].name, d->link.name))
			return &net->links[i];
	return NULL;
}

/* Where an address comes in a fresh table: IPv6 link-local, IPv4, IPv6, as the kernel enters those of an interface (its
 * roce_gid_mgmt.c). IPv6 addresses come and go by themselves, temporary ones daily; the rows of what people configured do not
 * depend on them. */
#define RANKS 4
static int rank(const struct sr_addr_info *a)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	if (!memcmp(a->ip, mapped, sizeof(mapped)))
		return 1;
	if (a->ip[0] == 0xfe && (a->ip[1] & 0xc0) == 0x80)
		return 0;
	return a->temporary ? 3 : 2;
}

/* Row 0 is the link-local address's, also while there is none: it often comes seconds after the others, and the index of the
 * addresses that people name would otherwise depend on when a program was started. The kernel's drivers do the same. */
static int first_row(const struct sr_device *d, int rank)
{
	return rank > 0 && !(d->link.flags & IFF_LOOPBACK) ? 1 : 0;
}

/* Brings the GID table up to date; rows keep their index. Returns whether it changed. */
static bool update_gids(struct sr_device *d, const struct sr_net *net)
{
	bool changed = false, keep[SR_LIMIT_GIDS] = { false };
	for (int r = 0; r < RANKS; r++)
		for (size_t i = 0; i < net->naddrs; i++) {
			const struct sr_addr_info *a = &net->addrs[i];
			int at = -1;
			if (a->ifindex != d->link.ifindex || rank(a) != r)
				continue;
			for (int g = 0; g < SR_LIMIT_GIDS && at < 0; g++)
				if (d->gids[g].valid && !memcmp(d->gids[g].gid.raw, a->ip, 16))
					at = g;
			for (int g = first_row(d, r); g < SR_LIMIT_GIDS && at < 0; g++)
				if (!d->gids[g].valid) {
					memcpy(d->gids[g].gid.raw, a->ip, 16);
					d->gids[g].valid = changed = true;
					at = g;
				}
			if (at >= 0)
				keep[at] = true;
		}
	for (int g = 0; g < SR_LIMIT_GIDS; g++)
		if (d->gids[g].valid && !keep[g]) {
			memset(&d->gids[g], 0, sizeof(d->gids[g]));
			changed = true;
		}
	return changed;
}

static bool has_address(const struct sr_net *net, uint32_t ifindex)
{
	for (size_t i = 0; i < net->naddrs; i++)
		if (net->addrs[i].ifindex == ifindex)
			return true;
	return false;
}

static void tell(struct sr_device *d, enum ibv_event_type type)
{
	sr_list_for(n, next, &d->users)
		sr_async_event(sr_list_entry(n, struct sr_device_user, node)->context, type, NULL, 1);
}

/* Applies one interface (NULL: it is gone) to its device. */
static void update(struct sr_device *d, const struct sr_net *net, const struct sr_link_info *link, uint32_t speed_mbps)
{
	bool was_active = sr_link_active(&d->link), was_gone = d->gone;
	if (link) {
		/* Index and name are what it is found by: they stay, and are read without the lock. */
		d->link.flags = link->flags;
		d->link.mtu_bytes = link->mtu_bytes;
		d->link.arp_type = link->arp_type;
		memcpy(d->link.mac, link->mac, sizeof(d->link.mac));
		d->link.mac_len = link->mac_len;
		d->speed_mbps = speed_mbps;
	} else {
		d->link.flags = 0;
	}
	d->gone = !link;
	bool gids_changed = update_gids(d, net);
	bool is_active = sr_link_active(&d->link);
	d->listed = link && (link->flags & IFF_UP) && has_address(net, link->ifindex);
	if (was_active && !is_active)
		tell(d, IBV_EVENT_PORT_ERR);
	if (gids_changed)
		tell(d, IBV_EVENT_GID_CHANGE);
	if (!was_active && is_active)
		tell(d, IBV_EVENT_PORT_ACTIVE);
	if (d->gone && !was_gone)
		tell(d, IBV_EVENT_DEVICE_FATAL);
}

/* rk_<ifname>; characters that have a meaning in paths, lists or port suffixes are replaced and the index added. */
static void name_device(struct sr_device *d)
{
	char clean[IF_NAMESIZE];
	bool changed = false;
	snprintf(clean, sizeof(clean), "%s", d->link.name);
	for (char *c = clean; *c; c++)
		if (!strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.", *c)) {
			*c = '_';
			changed = true;
		}
	if (changed)
		snprintf(d->dev.name, sizeof(d->dev.name), "rk_%s_%u", clean, d->link.ifindex);
	else
		snprintf(d->dev.name, sizeof(d->dev.name), "rk_%s", clean);
	/* Not uverbsN: that may be the name of a real device, which somebody would then open by path. */
	snprintf(d->dev.dev_name, sizeof(d->dev.dev_name), "%s", d->dev.name);
	snprintf(d->dev.dev_path, sizeof(d->dev.dev_path), "/sys/class/infiniband_verbs/%s", d->dev.name);
	snprintf(d->dev.ibdev_path, sizeof(d->dev.ibdev_path), "/sys/class/infiniband/%s", d->dev.name);
}

static struct sr_device *add(const struct sr_link_info *link, uint64_t netns)
{
	struct sr_device *d = calloc(1, sizeof(*d));
	if (!d)
		return NULL;
	sr_list_init(&d->users);
	d->netns = netns;
	d->link.ifindex = link->ifindex;
	memcpy(d->link.name, link->name, sizeof(d->link.name));
	d->guid = sr_guid_of(link, netns);
	d->dev.node_type = IBV_NODE_CA;
	d->dev.transport_type = IBV_TRANSPORT_IB;
	name_device(d);
	sr_list_add_tail(&sr_device_table, &d->node);
	return d;
}

/* The device of an interface, or NULL. */
static struct sr_device *find_device(const struct sr_link_info *link, uint64_t netns)
{
	sr_list_for(n, next, &sr_device_table) {
		struct sr_device *d = sr_list_entry(n, struct sr_device, node);
		if (d->netns == netns && !d->gone && d->link.ifindex == link->ifindex && !strcmp(d->link.name, link->name))
			return d;
	}
	return NULL;
}

static int refresh_locked(void)
{
	struct sr_net net;
	uint64_t netns = sr_netns_inode();
	int rc = sr_net_read(&net);
	if (rc)
		return rc;
	uint32_t *mbps = calloc(net.nlinks + 1, sizeof(*mbps));
	if (!mbps) {
		sr_net_free(&net);
		return ENOMEM;
	}
	for (size_t i = 0; i < net.nlinks; i++)
		if ((net.links[i].flags & IFF_UP) && has_address(&net, net.links[i].ifindex))
			mbps[i] = sr_speed_read_mbps(net.links[i].name);

	pthread_mutex_lock(&sr_device_lock);
	sr_list_for(n, next, &sr_device_table) {
		struct sr_device *d = sr_list_entry(n, struct sr_device, node);
		if (d->netns != netns || d->gone)
			continue;
		if (!find_link(&net, d)) {
			update(d, &net, NULL, 0);
			sr_device_drop_if_unused(d);
		}
	}
	for (size_t i = 0; i < net.nlinks; i++) {
		struct sr_device *d = find_device(&net.links[i], netns);
		if (!d && (net.links[i].flags & IFF_UP) && has_address(&net, net.links[i].ifindex)) {
			d = add(&net.links[i], netns);
			if (!d)
				rc = ENOMEM;
		}
		if (d)
			update(d, &net, &net.links[i], mbps[i]);
	}
	pthread_mutex_unlock(&sr_device_lock);
	free(mbps);
	sr_net_free(&net);
	return rc;
}

int sr_device_refresh(void)
{
	pthread_mutex_lock(&refresh_lock);
	int rc = refresh_locked();
	pthread_mutex_unlock(&refresh_lock);
	return rc;
}

void sr_device_link_changed(void)
{
	(void)sr_device_refresh(); /* out of memory or descriptors: the old picture stays until the next change */
}

void sr_device_freshen(void)
{
	pthread_mutex_lock(&refresh_lock);
	bool fresh = false;
	if (watch_fd < 0 || watch_pid != getpid()) {
		if (watch_fd >= 0)
			close(watch_fd); /* the parent's: reading it would steal the parent's notices */
		watch_fd = sr_netlink_open();
		watch_pid = getpid();
		fresh = true;
	}
	if (fresh || sr_netlink_drain(watch_fd, NULL))
		(void)refresh_locked();
	pthread_mutex_unlock(&refresh_lock);
}
