/* ah.c - address handles and the address vectors in them. */
#include "ah.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool is_v4_mapped(const union ibv_gid *g)
{
	static const uint8_t prefix[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };
	return !memcmp(g->raw, prefix, sizeof prefix);
}

int sr_av_init(struct sr_av *av, struct ibv_context *ctx, const struct ibv_ah_attr *attr)
{
	memset(av, 0, sizeof *av);
	if (!attr->is_global || attr->port_num != 1)
		return EINVAL; /* RoCE has no LIDs: every address is a GID */
	if (sr_device_gid(ctx->device, attr->grh.sgid_index, &av->sgid))
		return EINVAL;
	av->dgid = attr->grh.dgid;
	av->flow_label = attr->grh.flow_label & 0xfffff;
	av->sgid_index = attr->grh.sgid_index;
	av->hop_limit = attr->grh.hop_limit ? attr->grh.hop_limit : 64;
	av->traffic_class = attr->grh.traffic_class;
	av->sl = attr->sl;
	av->ipv4 = is_v4_mapped(&av->dgid);
	av->scope_ifindex = (uint32_t)sr_device_ifindex(ctx->device);
	av->multicast = av->dgid.raw[0] == 0xff || (av->ipv4 && (av->dgid.raw[12] & 0xf0) == 0xe0);
	if (!av->multicast && av->ipv4 != is_v4_mapped(&av->sgid))
		return EINVAL; /* an IPv4 packet cannot come from an IPv6 address */
	av->local = !av->multicast && sr_gid_is_local(&av->dgid);
	return 0;
}

struct ibv_ah *ibv_create_ah(struct ibv_pd *pd, struct ibv_ah_attr *attr)
{
	struct sr_ah *ah = calloc(1, sizeof *ah);
	if (!ah)
		return NULL;
	int err = sr_av_init(&ah->av, pd->context, attr);
	if (err) {
		free(ah);
		errno = err;
		return NULL;
	}
	ah->attr = *attr;
	ah->ah = (struct ibv_ah){ .context = pd->context, .pd = pd };
	atomic_fetch_add(&((struct sr_pd *)pd)->users, 1);
	return &ah->ah;
}

int ibv_destroy_ah(struct ibv_ah *ah)
{
	atomic_fetch_sub(&((struct sr_pd *)ah->pd)->users, 1);
	free(ah);
	return 0;
}
