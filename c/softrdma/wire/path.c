/* path.c - from an address vector to what sendmsg() and the ICRC need. */
#define _GNU_SOURCE
#include "wire.h"

void sr_path_init(struct sr_path *path, const struct sr_av *av)
{
	memset(path, 0, sizeof(*path));
	path->to.sin6_family = AF_INET6;
	path->to.sin6_port = htons(SR_ROCE_PORT);
	memcpy(&path->to.sin6_addr, av->dgid.raw, 16);
	memcpy(&path->from.ipi6_addr, av->sgid.raw, 16);
	/* Only these need an interface; naming it otherwise would defeat routing, to our own other addresses above all. */
	bool scoped = IN6_IS_ADDR_LINKLOCAL(&path->to.sin6_addr) || av->multicast;
	if (scoped) {
		path->to.sin6_scope_id = av->scope_ifindex;
		path->from.ipi6_ifindex = av->scope_ifindex;
	}
	path->traffic_class = av->traffic_class;
	path->sender = sr_port_sender(&path->from.ipi6_addr, !scoped);
	sr_icrc_path_init(&path->icrc, av->sgid.raw, av->dgid.raw, path->sender->port, SR_ROCE_PORT);
}

void sr_path_init_gsi(struct sr_path *path, const struct sr_av *av)
{
	sr_path_init(path, av);
	path->sender = sr_port_gsi_sender();
	sr_icrc_path_init(&path->icrc, av->sgid.raw, av->dgid.raw, path->sender->port, SR_ROCE_PORT);
}

#define PATHS 64
#define EPOCH_US SR_CC_MIN_RTT_EPOCH_US

/* A cache: a collision costs a hint. */
static struct {
	struct in6_addr to;
	uint32_t min_us, since_us;
} paths[PATHS];

static __typeof__(&paths[0]) row_of(const struct sr_path *path)
{
	uint32_t words[4];
	memcpy(words, &path->to.sin6_addr, sizeof(words));
	uint32_t hash = (words[0] ^ words[1] ^ words[2] ^ words[3]) * 2654435761u;
	return &paths[hash >> 26];
}

uint32_t sr_path_min_rtt_us(const struct sr_path *path, uint32_t rtt_us)
{
	uint32_t now_us = sr_wire_now_us();
	__typeof__(&paths[0]) p = row_of(path);
	if (memcmp(&p->to, &path->to.sin6_addr, sizeof(p->to)) != 0 || now_us - p->since_us > EPOCH_US) {
		p->to = path->to.sin6_addr;
		p->min_us = rtt_us;
		p->since_us = now_us;
	} else if (rtt_us < p->min_us) {
		p->min_us = rtt_us;
	}
	return p->min_us;
}

void sr_path_forget(void) { memset(paths, 0, sizeof(paths)); }
