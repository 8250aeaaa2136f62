/*
 * gid.c - rows of a device's GID table, and the facts of a device that verbs/ and wire/ ask for. No system calls here.
 */
#include <errno.h>
#include "../core.h"
#include "device.h"

int sr_gid_row(struct sr_device *d, uint32_t index, struct ibv_gid_entry *e)
{
	if (index >= SR_LIMIT_GIDS)
		return EINVAL;
	*e = (struct ibv_gid_entry){ .gid_index = index, .port_num = 1, .gid_type = IBV_GID_TYPE_ROCE_V2 };
	pthread_mutex_lock(&sr_device_lock);
	bool valid = d->gids[index].valid;
	e->gid = d->gids[index].gid;
	e->ndev_ifindex = d->link.ifindex;
	pthread_mutex_unlock(&sr_device_lock);
	return valid ? 0 : ENODATA;
}

int sr_device_ifindex(struct ibv_device *dev)
{
	return (int)sr_dev(dev)->link.ifindex; /* never changes */
}

int sr_device_gid(struct ibv_device *dev, int index, union ibv_gid *gid)
{
	struct ibv_gid_entry e;
	int rc = index < 0 ? EINVAL : sr_gid_row(sr_dev(dev), (uint32_t)index, &e);
	if (!rc)
		*gid = e.gid;
	return rc;
}

int sr_device_active_mtu(struct ibv_device *dev)
{
	struct ibv_port_attr attr;
	sr_port_attr(sr_dev(dev), &attr);
	return attr.active_mtu;
}
