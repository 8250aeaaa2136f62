/*
 * identifier.c - making, configuring and destroying identifiers, and small questions about them and about events.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "../shm/ports.h"
#include "cm.h"

struct sr_cm_id *sr_cm_id_new(struct rdma_event_channel *channel, void *context, enum rdma_port_space ps, enum ibv_qp_type type)
{
	struct sr_cm_id *id = calloc(1, sizeof(*id));
	if (!id)
		return NULL;
	id->id.channel = channel;
	id->id.context = context;
	id->id.ps = ps;
	id->id.qp_type = type;
	id->port_row = -1;
	id->options.afonly = -1;
	sr_list_init(&id->node);
	sr_list_init(&id->groups);
	pthread_cond_init(&id->all_acknowledged, NULL);
	return id;
}

void sr_cm_id_free(struct sr_cm_id *id)
{
	pthread_cond_destroy(&id->all_acknowledged);
	free(id->id.route.path_rec);
	free(id->qp_init_attr);
	free(id->connect_data);
	free(id);
}

static int check_space(enum rdma_port_space ps)
{
	return ps == RDMA_PS_TCP || ps == RDMA_PS_UDP || ps == RDMA_PS_IPOIB || ps == RDMA_PS_IB ? 0 : EPROTONOSUPPORT;
}

/* Makes an identifier. Without a channel it gets its own and its calls wait for their event. 0, or -1 and errno. Free with
 * rdma_destroy_id(). */
int rdma_create_id(struct rdma_event_channel *channel, struct rdma_cm_id **id, void *context, enum rdma_port_space ps)
{
	int err = check_space(ps);
	if (!err)
		err = sr_cm_start();
	if (err)
		return sr_cm_result(err);
	struct sr_cm_channel *own = channel ? NULL : sr_cm_channel_new();
	if (!channel && !own)
		return -1;
	enum ibv_qp_type type = ps == RDMA_PS_UDP || ps == RDMA_PS_IPOIB ? IBV_QPT_UD : IBV_QPT_RC;
	struct sr_cm_id *made = sr_cm_id_new(own ? &own->channel : channel, context, ps, type);
	if (!made) {
		if (own)
			sr_cm_channel_free(own);
		return sr_cm_result(ENOMEM);
	}
	made->sync = own != NULL;
	sr_cm_lock();
	sr_list_add_tail(&cm.ids, &made->node);
	sr_cm_unlock();
	*id = &made->id;
	return 0;
}

static void drop_event(struct sr_cm_event *e)
{
	if (e->ev.event == RDMA_CM_EVENT_CONNECT_REQUEST)
		sr_cm_drop_request(e);
	if (e->group)
		sr_cm_acknowledge_join(e->group);
}

/* Ends whatever the identifier is doing; the peer is told. Waits until its fetched events were acknowledged. Its queue pair must
 * have been destroyed. 0. */
int rdma_destroy_id(struct rdma_cm_id *p)
{
	struct sr_cm_id *id = sr_cm_id(p);
	if (!id)
		return sr_cm_result(EINVAL);
	sr_cm_leave_all(id);
	sr_cm_lock();
	id->listening = false;
	if (id->port_row >= 0)
		rdmakit_port_release(id->port_row);
	id->port_row = -1;
	if (id->conn)
		sr_cm_release(&cm.machine, id->conn, sr_cm_now_ns());
	id->conn = NULL;
	sr_list_del(&id->node); /* no event comes from here on */
	sr_cm_events_drop_locked(id, drop_event);
	sr_cm_unlock();
	if (p->event)
		rdma_ack_cm_event(p->event);
	p->event = NULL;
	sr_cm_lock();
	while (id->acknowledged != id->handed_out)
		pthread_cond_wait(&id->all_acknowledged, &cm.lock);
	sr_cm_unlock();
	if (id->sync)
		sr_cm_channel_free(sr_cm_channel(p->channel));
	sr_cm_id_free(id);
	return 0;
}

static int as_int(const void *value, size_t len, int *out)
{
	if (!value || len != sizeof(*out))
		return EINVAL;
	memcpy(out, value, sizeof(*out));
	return 0;
}

static int as_byte(const void *value, size_t len, uint8_t *out)
{
	if (!value || len != sizeof(*out))
		return EINVAL;
	*out = *(const uint8_t *)value;
	return 0;
}

static int set_id_option(struct sr_cm_id *id, int name, const void *value, size_t len)
{
	struct sr_cm_options *o = &id->options;
	int n = 0, err;
	switch (name) {
	case RDMA_OPTION_ID_TOS:
		return as_byte(value, len, &o->tos);
	case RDMA_OPTION_ID_REUSEADDR:
		err = as_int(value, len, &n);
		if (!err)
			o->reuse = n != 0;
		return err;
	case RDMA_OPTION_ID_AFONLY:
		err = id->bound ? EINVAL : as_int(value, len, &n);
		if (!err)
			o->afonly = n != 0;
		return err;
	case RDMA_OPTION_ID_ACK_TIMEOUT:
		err = as_byte(value, len, &o->ack_timeout);
		if (!err && o->ack_timeout > 31)
			err = EINVAL;
		o->ack_timeout_set = !err;
		return err;
	default:
		return ENOSYS;
	}
}

/* Options of rdma_cma.h: type of service, address reuse, one address family only, acknowledgement time-out. RDMA_OPTION_IB_PATH
 * is taken and ignored: on RoCE the kernel's routing decides. 0, or -1 and errno. */
int rdma_set_option(struct rdma_cm_id *p, int level, int name, void *value, size_t len)
{
	int err = ENOSYS;
	sr_cm_lock();
	if (level == RDMA_OPTION_ID)
		err = set_id_option(sr_cm_id(p), name, value, len);
	else if (level == RDMA_OPTION_IB && name == RDMA_OPTION_IB_PATH)
		err = value && len && len % sizeof(struct ibv_path_data) == 0 ? 0 : EINVAL;
	sr_cm_unlock();
	return sr_cm_result(err);
}

/* Enhanced connection establishment concerns vendors' devices; the values are kept for who asks. 0. */
int rdma_set_local_ece(struct rdma_cm_id *p, struct ibv_ece *ece)
{
	if (!p || !ece || !ece->vendor_id)
		return sr_cm_result(EINVAL);
	sr_cm_id(p)->ece = *ece;
	return 0;
}

/* The peer's; zero, because none is sent. 0. */
int rdma_get_remote_ece(struct rdma_cm_id *p, struct ibv_ece *ece)
{
	if (!p || !ece)
		return sr_cm_result(EINVAL);
	*ece = (struct ibv_ece){ 0 };
	return 0;
}

/* Local port of the identifier in network byte order; 0 when it has no address yet. */
__be16 rdma_get_src_port(struct rdma_cm_id *id) { return htons(sr_cm_port_of(&id->route.addr.src_addr)); }

/* The peer's port, likewise. */
__be16 rdma_get_dst_port(struct rdma_cm_id *id) { return htons(sr_cm_port_of(&id->route.addr.dst_addr)); }

/* Name of an event. Static storage, never NULL. */
const char *rdma_event_str(enum rdma_cm_event_type event)
{
	switch (event) {
#define NAME(e) \
	case e: \
		return #e;
		NAME(RDMA_CM_EVENT_ADDR_RESOLVED)
		NAME(RDMA_CM_EVENT_ADDR_ERROR)
		NAME(RDMA_CM_EVENT_ROUTE_RESOLVED)
		NAME(RDMA_CM_EVENT_ROUTE_ERROR)
		NAME(RDMA_CM_EVENT_CONNECT_REQUEST)
		NAME(RDMA_CM_EVENT_CONNECT_RESPONSE)
		NAME(RDMA_CM_EVENT_CONNECT_ERROR)
		NAME(RDMA_CM_EVENT_UNREACHABLE)
		NAME(RDMA_CM_EVENT_REJECTED)
		NAME(RDMA_CM_EVENT_ESTABLISHED)
		NAME(RDMA_CM_EVENT_DISCONNECTED)
		NAME(RDMA_CM_EVENT_DEVICE_REMOVAL)
		NAME(RDMA_CM_EVENT_MULTICAST_JOIN)
		NAME(RDMA_CM_EVENT_MULTICAST_ERROR)
		NAME(RDMA_CM_EVENT_ADDR_CHANGE)
		NAME(RDMA_CM_EVENT_TIMEWAIT_EXIT)
#undef NAME
	}
	return "UNKNOWN EVENT";
}
