/* path.c - from an address vector to what sendmsg() and the ICRC need. */
#define _GNU_SOURCE
#include "wire.h"

void sr_path_init(struct sr_path *path, const struct sr_av *av, uint16_t src_port)
{
	memset(path, 0, sizeof(*path));
	path->to.sin6_family = AF_INET6;
	path->to.sin6_port = htons(SR_ROCE_PORT);
	memcpy(&path->to.sin6_addr, av->dgid.raw, 16);
	memcpy(&path->from.ipi6_addr, av->sgid.raw, 16);
	/* Only these need an interface; naming it otherwise would defeat routing, to our own other addresses above all. */
	if (IN6_IS_ADDR_LINKLOCAL(&path->to.sin6_addr) || av->multicast) {
		path->to.sin6_scope_id = av->scope_ifindex;
		path->from.ipi6_ifindex = av->scope_ifindex;
	}
	path->traffic_class = av->traffic_class;
	sr_icrc_path_init(&path->icrc, av->sgid.raw, av->dgid.raw, src_port, SR_ROCE_PORT);
}
