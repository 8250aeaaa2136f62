/* mcast.c - multicast groups of UD queue pairs. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "../core.h"
#include "../engine/lock.h"

/* Does another queue pair of this process listen to the group on the interface? The kernel counts a socket's membership once. */
static bool joined(const union ibv_gid *gid, uint32_t ifindex)
{
	sr_list_for(q, tmp_q, &sr.mcast_qps) {
		struct sr_qp *qp = sr_list_entry(q, struct sr_qp, mcast_node);
		if ((uint32_t)sr_device_ifindex(qp->ex.qp_base.context->device) != ifindex)
			continue;
		sr_list_for(m, tmp, &qp->mcast)
			if (!memcmp(&sr_list_entry(m, struct sr_mcast, node)->gid, gid, sizeof *gid))
				return true;
	}
	return false;
}

int ibv_attach_mcast(struct ibv_qp *ibqp, const union ibv_gid *gid, uint16_t lid)
{
	struct sr_qp *qp = sr_qp(ibqp);
	uint32_t ifindex = (uint32_t)sr_device_ifindex(ibqp->context->device);
	(void)lid;
	bool v4 = !memcmp(gid->raw, "\0\0\0\0\0\0\0\0\0\0\xff\xff", 12) && (gid->raw[12] & 0xf0) == 0xe0;
	if (qp->type != IBV_QPT_UD || (gid->raw[0] != 0xff && !v4))
		return EINVAL;
	struct sr_mcast *m = calloc(1, sizeof *m);
	if (!m)
		return ENOMEM;
	m->gid = *gid;
	sr_lock();
	int err = 0;
	sr_list_for(n, tmp, &qp->mcast)
		if (!memcmp(&sr_list_entry(n, struct sr_mcast, node)->gid, gid, sizeof *gid))
			err = EEXIST; /* attaching twice is one attachment */
	if (!err && !joined(gid, ifindex))
		err = sr_wire_mcast_join(gid, ifindex);
	if (!err) {
		if (sr_list_empty(&qp->mcast))
			sr_list_add_tail(&sr.mcast_qps, &qp->mcast_node);
		sr_list_add_tail(&qp->mcast, &m->node);
	}
	sr_unlock();
	if (err)
		free(m);
	return err == EEXIST ? 0 : err;
}

int ibv_detach_mcast(struct ibv_qp *ibqp, const union ibv_gid *gid, uint16_t lid)
{
	struct sr_qp *qp = sr_qp(ibqp);
	struct sr_mcast *found = NULL;
	uint32_t ifindex = (uint32_t)sr_device_ifindex(ibqp->context->device);
	(void)lid;
	sr_lock();
	sr_list_for(n, tmp, &qp->mcast)
		if (!memcmp(&sr_list_entry(n, struct sr_mcast, node)->gid, gid, sizeof *gid))
			found = sr_list_entry(n, struct sr_mcast, node);
	if (found) {
		sr_list_del(&found->node);
		if (sr_list_empty(&qp->mcast))
			sr_list_del(&qp->mcast_node);
		if (!joined(gid, ifindex))
			sr_wire_mcast_leave(gid, ifindex);
	}
	sr_unlock();
	free(found);
	return found ? 0 : EINVAL;
}
