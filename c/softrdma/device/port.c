/*
 * port.c - from a network interface to the attributes of an RDMA port.
 */
#include "device.h"
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define PHYS_DISABLED 3 /* PortPhysicalState of the InfiniBand specification */
#define PHYS_LINK_UP 5

/* What a packet carries besides the payload: IPv6, UDP, BTH, the longest extension headers and the ICRC fit in 80 bytes.
 * The kernel's Soft-RoCE keeps the same distance, and two ends must agree on the MTU. */
#define HEADROOM_BYTES 80

/* Loopback has no speed of its own. Its traffic never leaves the host, and a memory copy moves about as much as this. */
#define LOOPBACK_MBPS 100000
/* When a driver does not tell: the slowest link on which anybody runs RDMA. */
#define UNKNOWN_MBPS 10000

/* The greatest RDMA MTU that fits the interface; 256 is the least there is. */
enum ibv_mtu sr_mtu_of(uint32_t netdev_mtu_bytes)
{
	uint32_t room = netdev_mtu_bytes > HEADROOM_BYTES ? netdev_mtu_bytes - HEADROOM_BYTES : 0;
	enum ibv_mtu mtu = IBV_MTU_256;
	while (mtu < IBV_MTU_4096 && (256u << mtu) <= room)
		mtu++;
	return mtu;
}

bool sr_link_active(const struct sr_link_info *link)
{
	/* RUNNING follows the operational state, which the kernel updates with a delay; LOWER_UP is the carrier itself. */
	const uint32_t all = IFF_UP | IFF_RUNNING | SR_IFF_LOWER_UP;
	return (link->flags & all) == all;
}

uint32_t sr_speed_read_mbps(const char *ifname)
{
	/* Two steps: the first call, with no room for link modes, answers with how much room they need. */
	union {
		struct ethtool_link_settings s;
		char room[sizeof(struct ethtool_link_settings) + 3 * 128 * 4];
	} u;
	struct ifreq ifr;
	uint32_t speed = 0;
	memset(&u, 0, sizeof(u));
	memset(&ifr, 0, sizeof(ifr));
	strncpy(ifr.ifr_name, ifname, sizeof(ifr.ifr_name) - 1);
	ifr.ifr_data = (char *)&u;
	u.s.cmd = ETHTOOL_GLINKSETTINGS;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return 0;
	if (ioctl(fd, SIOCETHTOOL, &ifr) == 0 && u.s.link_mode_masks_nwords < 0) {
		int words = -u.s.link_mode_masks_nwords;
		memset(&u, 0, sizeof(u));
		u.s.cmd = ETHTOOL_GLINKSETTINGS;
		u.s.link_mode_masks_nwords = (int8_t)words;
		if (words <= 127 && ioctl(fd, SIOCETHTOOL, &ifr) == 0 && u.s.speed != (uint32_t)SPEED_UNKNOWN &&
		    u.s.speed <= 10000000)
			speed = u.s.speed;
	}
	close(fd);
	return speed;
}

/* Link speeds and the codes of PortInfo for them, as adapters of that speed report themselves. Ascending. */
static const struct {
	uint32_t mbps;
	uint8_t width; /* 1: 1X, 2: 4X, 4: 8X */
	uint8_t speed; /* of a lane: 1 SDR, 2 DDR, 8 FDR10, 16 FDR, 32 EDR, 64 HDR, 128 NDR */
} speeds[] = {
	{ 2500, 1, 1 },	  { 5000, 1, 2 },    { 10000, 1, 8 },	{ 14000, 1, 16 },  { 20000, 2, 2 },   { 25000, 1, 32 },
	{ 40000, 2, 8 },  { 50000, 1, 64 },  { 56000, 2, 16 },	{ 100000, 2, 32 }, { 200000, 2, 64 }, { 400000, 2, 128 },
	{ 800000, 4, 128 },
};
#define SPEEDS (sizeof(speeds) / sizeof(speeds[0]))

uint32_t sr_speed_decode_mbps(uint8_t width, uint8_t speed)
{
	for (unsigned i = 0; i < SPEEDS; i++)
		if (speeds[i].width == width && speeds[i].speed == speed)
			return speeds[i].mbps;
	return 0;
}

void sr_speed_encode(uint32_t mbps, uint8_t *width, uint8_t *speed)
{
	unsigned at = 0; /* nothing slower than the first has a code */
	while (at + 1 < SPEEDS && speeds[at + 1].mbps <= mbps)
		at++;
	*width = speeds[at].width;
	*speed = speeds[at].speed;
}

void sr_port_attr(struct sr_device *d, struct ibv_port_attr *attr)
{
	pthread_mutex_lock(&sr_device_lock);
	struct sr_link_info link = d->link;
	uint32_t mbps = d->speed_mbps;
	pthread_mutex_unlock(&sr_device_lock);
	bool active = sr_link_active(&link);
	*attr = (struct ibv_port_attr){
		.state = active ? IBV_PORT_ACTIVE : IBV_PORT_DOWN,
		.max_mtu = IBV_MTU_4096,
		.active_mtu = sr_mtu_of(link.mtu_bytes),
		.gid_tbl_len = SR_LIMIT_GIDS,
		.port_cap_flags = IBV_PORT_CM_SUP | IBV_PORT_IP_BASED_GIDS,
		.max_msg_sz = SR_LIMIT_MSG_BYTES,
		.pkey_tbl_len = 1,
		.max_vl_num = 1,
		.phys_state = active ? PHYS_LINK_UP : PHYS_DISABLED,
		.link_layer = IBV_LINK_LAYER_ETHERNET,
		.flags = IBV_QPF_GRH_REQUIRED,
	};
	if (!mbps)
		mbps = link.flags & IFF_LOOPBACK ? LOOPBACK_MBPS : UNKNOWN_MBPS;
	sr_speed_encode(mbps, &attr->active_width, &attr->active_speed);
}
