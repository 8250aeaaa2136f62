/*
 * address.c - address vectors from received datagrams, and the MAC address behind a GID.
 */
#include <endian.h>
#include <errno.h>
#include <string.h>
#include "../device/device.h"
#include "../device/neighbour.h"

/* A datagram's first 40 bytes are an IPv6 header, or 20 unused bytes and an IPv4 header. */
#define IPV4_AT 20
#define IPV4_VERSION_IHL 0x45 /* our senders and the kernel's use no options */

static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

static void map_ipv4(union ibv_gid *gid, const uint8_t *ip)
{
	memcpy(gid->raw, mapped, sizeof(mapped));
	memcpy(gid->raw + 12, ip, 4);
}

/* Sum of the header's 16-bit words is all ones when its checksum is right. */
static int ipv4_checksum_ok(const uint8_t *h)
{
	uint32_t sum = 0;
	for (int i = 0; i < 20; i += 2)
		sum += (uint32_t)h[i] << 8 | h[i + 1];
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum == 0xffff;
}

/* Row of a GID in the port's table, or -1. */
static int gid_index(struct ibv_context *context, uint8_t port_num, const union ibv_gid *gid)
{
	struct ibv_gid_entry e;
	for (uint32_t i = 0; i < SR_LIMIT_GIDS; i++)
		if (!ibv_query_gid_ex(context, port_num, i, &e, 0) && !memcmp(&e.gid, gid, sizeof(*gid)))
			return (int)i;
	return -1;
}

/* Fills an address vector that leads back to the sender of a received datagram. 0, or -1 and errno: EINVAL when the
 * completion has no GRH (RoCE addresses by nothing else), ENOENT when the datagram's destination is not in our table. */
int ibv_init_ah_from_wc(struct ibv_context *context, uint8_t port_num, struct ibv_wc *wc, struct ibv_grh *grh,
			struct ibv_ah_attr *ah_attr)
{
	const uint8_t *v4 = (const uint8_t *)grh + IPV4_AT;
	union ibv_gid local;
	memset(ah_attr, 0, sizeof(*ah_attr));
	if (!(wc->wc_flags & IBV_WC_GRH)) {
		errno = EINVAL;
		return -1;
	}
	ah_attr->dlid = wc->slid;
	ah_attr->sl = 0; /* wc->sl holds the type of the packet, see sr_ud_deliver() */
	ah_attr->src_path_bits = wc->dlid_path_bits;
	ah_attr->port_num = port_num;
	ah_attr->is_global = 1;
	/* What is left of the sender's hop limit says nothing about the way back. */
	ah_attr->grh.hop_limit = 0xff;
	uint32_t word = be32toh(grh->version_tclass_flow);
	/* Either version may be in bytes that the other leaves unused; the IPv4 checksum settles it. */
	if (v4[0] == IPV4_VERSION_IHL && (word >> 28 != 6 || ipv4_checksum_ok(v4))) {
		map_ipv4(&ah_attr->grh.dgid, v4 + 12);
		map_ipv4(&local, v4 + 16);
		ah_attr->grh.traffic_class = v4[1];
	} else if (word >> 28 == 6) {
		ah_attr->grh.dgid = grh->sgid;
		local = grh->dgid;
		ah_attr->grh.flow_label = word & 0xfffff;
		ah_attr->grh.traffic_class = (uint8_t)(word >> 20);
	} else {
		errno = EINVAL;
		return -1;
	}
	int i = gid_index(context, port_num, &local);
	/* A multicast destination is nobody's own address: answer from the first. */
	if (i < 0 && (local.raw[0] == 0xff || (!memcmp(local.raw, mapped, 12) && (local.raw[12] & 0xf0) == 0xe0))) {
		bool v4_sender = !memcmp(ah_attr->grh.dgid.raw, mapped, 12);
		struct ibv_gid_entry e;
		for (uint32_t g = 0; g < SR_LIMIT_GIDS && i < 0; g++)
			if (!ibv_query_gid_ex(context, port_num, g, &e, 0) && !memcmp(e.gid.raw, mapped, 12) == v4_sender)
				i = (int)g;
	}
	if (i < 0) {
		errno = ENOENT;
		return -1;
	}
	ah_attr->grh.sgid_index = (uint8_t)i;
	return 0;
}

/* The same as an address handle; NULL and errno on failure. Destroy with ibv_destroy_ah(). */
struct ibv_ah *ibv_create_ah_from_wc(struct ibv_pd *pd, struct ibv_wc *wc, struct ibv_grh *grh, uint8_t port_num)
{
	struct ibv_ah_attr attr;
	if (ibv_init_ah_from_wc(pd->context, port_num, wc, grh, &attr))
		return NULL;
	return ibv_create_ah(pd, &attr);
}

/* The MAC address that packets of this address vector go to, and no VLAN (0xffff). 0 or an errno: EHOSTUNREACH when the
 * kernel has no neighbour of that address (yet). */
int ibv_resolve_eth_l2_from_gid(struct ibv_context *context, struct ibv_ah_attr *attr, uint8_t eth_mac[ETHERNET_LL_SIZE],
				uint16_t *vid)
{
	const uint8_t *d = attr->grh.dgid.raw;
	if (!attr->is_global)
		return EINVAL;
	if (vid)
		*vid = 0xffff;
	if (d[0] == 0xff) { /* RFC 2464 */
		memcpy(eth_mac, (const uint8_t[]){ 0x33, 0x33, d[12], d[13], d[14], d[15] }, ETHERNET_LL_SIZE);
		return 0;
	}
	if (!memcmp(d, mapped, 12) && (d[12] & 0xf0) == 0xe0) { /* RFC 1112 */
		memcpy(eth_mac, (const uint8_t[]){ 0x01, 0x00, 0x5e, d[13] & 0x7f, d[14], d[15] }, ETHERNET_LL_SIZE);
		return 0;
	}
	return sr_neighbour_mac(sr_dev(context->device), d, eth_mac);
}
