/*
 * multicast.c - joining multicast groups. On RoCE there is no subnet administrator to ask: the group's GID follows from its IP
 * address (IPv4: ::ffff:a.b.c.d), and the switches learn of it by IGMP or MLD when the queue pair is attached.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "cm.h"

struct sr_cm_group {
	struct sr_list node; /* in id->groups; alone when left and not yet acknowledged */
	struct sockaddr_storage addr;
	union ibv_gid mgid;
	bool attached;
	bool left;
	uint32_t events; /* that point here; under cm.lock */
};

static void free_if_unused(struct sr_cm_group *g)
{
	if (g->left && !g->events)
		free(g);
}

void sr_cm_acknowledge_join(struct sr_cm_group *g)
{
	g->events--;
	free_if_unused(g);
}

/* In the thread that fetches the event: the queue pair, if the library has it, listens to the group from here on. */
void sr_cm_finish_join(struct sr_cm_event *e)
{
	struct rdma_cm_id *p = e->ev.id;
	struct sr_cm_group *g = e->group;
	if (!p->qp || !g || g->left)
		return;
	int err = ibv_attach_mcast(p->qp, &g->mgid, 0);
	g->attached = !err;
	if (err) {
		e->ev.event = RDMA_CM_EVENT_MULTICAST_ERROR;
		e->ev.status = -err;
	}
}

static struct sr_cm_event *join_event(struct sr_cm_id *id, struct sr_cm_group *g, void *context)
{
	struct sr_cm_event *e = sr_cm_event_new(id, RDMA_CM_EVENT_MULTICAST_JOIN, 0);
	if (!e)
		return NULL;
	e->group = g;
	g->events++;
	e->ev.param.ud = (struct rdma_ud_param){
		.private_data = context,
		.ah_attr = { .is_global = 1, .port_num = id->id.port_num,
			     .grh = { .dgid = g->mgid, .sgid_index = (uint8_t)id->gid_index, .hop_limit = 64,
				      .traffic_class = id->options.tos } },
		.qp_num = 0xffffff,
		.qkey = RDMA_UDP_QKEY,
	};
	return e;
}

static int same_address(const struct sockaddr_storage *a, const struct sockaddr *b)
{
	union ibv_gid x, y;
	return sr_cm_gid_of((const struct sockaddr *)a, &x) && sr_cm_gid_of(b, &y) && !memcmp(&x, &y, sizeof(x));
}

static int join(struct sr_cm_id *id, const struct sockaddr *addr, void *context)
{
	struct sr_cm_group *g = calloc(1, sizeof(*g));
	if (!g)
		return ENOMEM;
	memcpy(&g->addr, addr, sr_cm_sockaddr_len(addr));
	sr_cm_gid_of(addr, &g->mgid);
	struct sr_cm_event *e = join_event(id, g, context);
	if (!e) {
		free(g);
		return ENOMEM;
	}
	sr_cm_lock();
	sr_list_add_tail(&id->groups, &g->node);
	sr_cm_event_push_locked(e);
	sr_cm_unlock();
	return 0;
}

/* Joins the group of a multicast IP address; the identifier must be bound to a device. MULTICAST_JOIN follows, with what sending to
 * the group needs. 0, or -1 and errno. */
int rdma_join_multicast_ex(struct rdma_cm_id *p, struct rdma_cm_join_mc_attr_ex *a, void *context)
{
	if (!a || !(a->comp_mask & RDMA_CM_JOIN_MC_ATTR_ADDRESS) || a->comp_mask >= RDMA_CM_JOIN_MC_ATTR_RESERVED ||
	    ((a->comp_mask & RDMA_CM_JOIN_MC_ATTR_JOIN_FLAGS) && a->join_flags >= RDMA_MC_JOIN_FLAG_RESERVED))
		return sr_cm_result(EINVAL);
	if (!a->addr || !sr_cm_sockaddr_len(a->addr) || !sr_cm_is_multicast(a->addr) || !p->verbs)
		return sr_cm_result(EINVAL);
	int err = join(sr_cm_id(p), a->addr, context);
	return err ? sr_cm_result(err) : sr_cm_complete(sr_cm_id(p));
}

/* The same, as a full member. */
int rdma_join_multicast(struct rdma_cm_id *p, struct sockaddr *addr, void *context)
{
	struct rdma_cm_join_mc_attr_ex a = { .comp_mask = RDMA_CM_JOIN_MC_ATTR_ADDRESS, .addr = addr };
	return rdma_join_multicast_ex(p, &a, context);
}

/* Takes the group out of the list, and detaches the queue pair. */
static int leave(struct sr_cm_id *id, struct sr_cm_group *g)
{
	int err = g->attached && id->id.qp ? ibv_detach_mcast(id->id.qp, &g->mgid, 0) : 0;
	sr_cm_lock();
	sr_list_del(&g->node);
	g->left = true;
	free_if_unused(g);
	sr_cm_unlock();
	return err;
}

/* Leaves the group. 0, or -1 and errno: EADDRNOTAVAIL when it was not joined. */
int rdma_leave_multicast(struct rdma_cm_id *p, struct sockaddr *addr)
{
	struct sr_cm_id *id = sr_cm_id(p);
	struct sr_cm_group *found = NULL;
	if (!addr || !sr_cm_sockaddr_len(addr))
		return sr_cm_result(EINVAL);
	sr_cm_lock();
	sr_list_for(n, next, &id->groups) {
		struct sr_cm_group *g = sr_list_entry(n, struct sr_cm_group, node);
		if (same_address(&g->addr, addr))
			found = g;
	}
	sr_cm_unlock();
	return sr_cm_result(found ? leave(id, found) : EADDRNOTAVAIL);
}

void sr_cm_leave_all(struct sr_cm_id *id)
{
	while (!sr_list_empty(&id->groups))
		(void)leave(id, sr_list_entry(id->groups.next, struct sr_cm_group, node));
}
