/*
 * guid.c - node GUIDs. With a MAC: its EUI-64 form, as the kernel does for RoCE. Without one (loopback, tunnels): a hash
 * of boot, namespace and interface, so that it is the same for all processes of one namespace and different elsewhere.
 */
#define _GNU_SOURCE
#include "device.h"
#include <endian.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

uint64_t sr_netns_inode(void)
{
	struct stat st;
	return stat("/proc/thread-self/ns/net", &st) == 0 ? (uint64_t)st.st_ino : 0;
}

/* FNV-1a with a finishing mix (the last steps of MurmurHash3), because FNV alone changes few high bits. */
static uint64_t hash(uint64_t h, const void *data, size_t n)
{
	const uint8_t *p = data;
	for (size_t i = 0; i < n; i++)
		h = (h ^ p[i]) * UINT64_C(0x100000001b3);
	return h;
}

static uint64_t mix(uint64_t h)
{
	h = (h ^ (h >> 33)) * UINT64_C(0xff51afd7ed558ccd);
	h = (h ^ (h >> 33)) * UINT64_C(0xc4ceb9fe1a85ec53);
	return h ^ (h >> 33);
}

uint64_t sr_guid_of(const struct sr_link_info *link, uint64_t netns)
{
	static const uint8_t no_mac[6];
	uint8_t g[8];
	if (link->mac_len == 6 && memcmp(link->mac, no_mac, 6) != 0) {
		const uint8_t eui[8] = { link->mac[0] ^ 2, link->mac[1], link->mac[2], 0xff, 0xfe,
					 link->mac[3],	   link->mac[4], link->mac[5] };
		memcpy(g, eui, sizeof(g));
	} else {
		char boot[64] = "";
		int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
		ssize_t n = fd >= 0 ? read(fd, boot, sizeof(boot)) : 0;
		if (fd >= 0)
			close(fd);
		uint64_t h = hash(UINT64_C(0xcbf29ce484222325), boot, n > 0 ? (size_t)n : 0);
		h = hash(h, &netns, sizeof(netns));
		h = htobe64(mix(hash(h, link->name, strlen(link->name))));
		memcpy(g, &h, sizeof(g));
		g[0] = (uint8_t)((g[0] | 2) & ~1); /* locally administered, of one node */
	}
	uint64_t out;
	memcpy(&out, g, sizeof(out));
	return out;
}
