/* listen.c - the passive side: listening, and requests on their way to the application. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "../shm/ports.h"
#include "cm.h"

#define BACKLOG_MAX 1024 /* the kernel's limit */

/* Requests that arrive become CONNECT_REQUEST events. Unbound identifiers get a port of any address. No more than `backlog`
 * requests wait to be fetched; what comes beyond is not answered, so its sender tries again. 0, or -1 and errno. */
int rdma_listen(struct rdma_cm_id *p, int backlog)
{
	struct sr_cm_id *id = sr_cm_id(p);
	if (id->listening || id->addr_resolved)
		return sr_cm_result(EINVAL);
	struct sockaddr_in any = { .sin_family = AF_INET };
	if (!id->bound && rdma_bind_addr(p, (struct sockaddr *)&any))
		return -1;
	sr_cm_lock();
	id->backlog = backlog > 0 && backlog < BACKLOG_MAX ? backlog : BACKLOG_MAX;
	int err = rdmakit_port_listen(id->port_row);
	id->listening = !err;
	sr_cm_unlock();
	return sr_cm_result(err);
}

/* How well a listener's address covers a destination; see shm/ports.c, which chooses the process by the same rule. */
static int covers(const struct sr_cm_id *l, const union ibv_gid *to)
{
	struct sockaddr_storage sa;
	union ibv_gid at;
	const struct sockaddr *src = &l->id.route.addr.src_addr;
	sr_cm_sockaddr_of(to, 0, 0, &sa);
	sr_cm_gid_of(src, &at);
	if (!memcmp(&at, to, sizeof(at)))
		return 3;
	if (!sr_cm_is_any(src))
		return 0;
	if (src->sa_family == sa.ss_family)
		return 2;
	return src->sa_family == AF_INET6 && l->options.afonly <= 0 ? 1 : 0;
}

static struct sr_cm_id *listener_of(uint64_t service_id, const union ibv_gid *to)
{
	struct sr_cm_id *found = NULL;
	int best = 0;
	sr_list_for(n, next, &cm.ids) {
		struct sr_cm_id *l = sr_list_entry(n, struct sr_cm_id, node);
		if (!l->listening || sr_cm_service_id((uint16_t)l->id.ps, sr_cm_port_of(&l->id.route.addr.src_addr)) != service_id)
			continue;
		int how = covers(l, to);
		if (how > best) {
			best = how;
			found = l;
		}
	}
	return found;
}

/* The identifier of a request, as yet in nobody's hands. */
static struct sr_cm_id *make_id(struct sr_cm_id *l, struct sr_cm_conn *c, uint16_t port)
{
	enum ibv_qp_type type = c->terms.transport == SR_CM_UC ? IBV_QPT_UC : l->id.qp_type;
	struct sr_cm_id *id = sr_cm_id_new(l->id.channel, l->id.context, l->id.ps, type);
	if (!id)
		return NULL;
	struct rdma_addr *a = &id->id.route.addr;
	sr_cm_sockaddr_of(&c->path.local, sr_cm_port_of(&l->id.route.addr.src_addr), c->path.ifindex, &a->src_storage);
	sr_cm_sockaddr_of(&c->path.remote, port, c->path.ifindex, &a->dst_storage);
	if (sr_cm_attach_device(id, &c->path.local, c->path.ifindex) || sr_cm_fill_path(id)) {
		sr_cm_id_free(id);
		return NULL;
	}
	id->bound = id->addr_resolved = id->route_resolved = true;
	id->options.tos = c->path.traffic_class;
	id->responder_resources = c->terms.responder_resources;
	id->initiator_depth = c->terms.initiator_depth;
	if (c->terms.mtu)
		id->id.route.path_rec->mtu = c->terms.mtu;
	id->conn = c;
	return id;
}

static void fill_event(struct sr_cm_event *e, const struct sr_cm_conn *c, const uint8_t *data, uint8_t len)
{
	memcpy(e->private_data, data, len);
	if (c->state == SR_CM_SIDR_REQ_RCVD) {
		e->ev.param.ud.private_data = e->private_data;
		e->ev.param.ud.private_data_len = len;
		return;
	}
	e->ev.param.conn = (struct rdma_conn_param){
		.private_data = e->private_data,
		.private_data_len = len,
		.responder_resources = c->terms.responder_resources,
		.initiator_depth = c->terms.initiator_depth,
		.flow_control = c->terms.flow_control,
		.retry_count = c->terms.retry_count,
		.rnr_retry_count = c->terms.rnr_retry_count,
		.srq = c->terms.srq,
		.qp_num = c->terms.remote_qpn,
	};
}

int sr_cm_on_request(void *arg, struct sr_cm_conn *c, const struct sr_cm_mad *m)
{
	(void)arg;
	bool sidr = m->attr == SR_CM_SIDR_REQ;
	struct sr_cm_id *l = listener_of(c->service_id, &c->path.local);
	struct sr_cm_ip ip;
	if (!l || (l->id.qp_type == IBV_QPT_UD) != sidr)
		return sidr ? (int)SR_CM_SIDR_UNSUPPORTED : (int)SR_CM_REJ_INVALID_SERVICE_ID;
	if (!sidr && (l->id.qp_type == IBV_QPT_XRC_RECV) != (c->terms.transport == SR_CM_XRC))
		return (int)SR_CM_REJ_INVALID_TRANSPORT;
	if (!sr_cm_ip_decode(&ip, m->private_data))
		return sidr ? (int)SR_CM_SIDR_REJECT : (int)SR_CM_REJ_CONSUMER;
	if (l->waiting >= l->backlog)
		return -1;
	struct sr_cm_id *id = make_id(l, c, ip.src_port);
	if (!id)
		return sidr ? (int)SR_CM_SIDR_NO_QP : (int)SR_CM_REJ_NO_RESOURCES;
	struct sr_cm_event *e = sr_cm_event_new(id, RDMA_CM_EVENT_CONNECT_REQUEST, 0);
	if (!e) {
		sr_cm_id_free(id);
		return -1;
	}
	e->owner = l;
	e->ev.listen_id = &l->id;
	fill_event(e, c, m->private_data + SR_CM_IP_BYTES, (uint8_t)(m->private_len - SR_CM_IP_BYTES));
	l->waiting++;
	c->user = id;
	sr_list_add_tail(&cm.ids, &id->node);
	sr_cm_event_push_locked(e);
	return 0;
}

void sr_cm_drop_request(struct sr_cm_event *e)
{
	struct sr_cm_id *id = sr_cm_id(e->ev.id);
	const struct sr_cm_data none = { 0 };
	if (id->conn) { /* nobody saw it: as if the listener had been gone when it came */
		if (id->id.qp_type == IBV_QPT_UD)
			(void)sr_cm_sidr_answer(&cm.machine, id->conn, sr_cm_now_ns(), SR_CM_SIDR_UNSUPPORTED, 0, 0, none);
		else
			(void)sr_cm_reject(&cm.machine, id->conn, sr_cm_now_ns(), SR_CM_REJ_INVALID_SERVICE_ID, none);
		sr_cm_release(&cm.machine, id->conn, sr_cm_now_ns());
	}
	id->conn = NULL;
	sr_list_del(&id->node);
	sr_cm_events_drop_locked(id, sr_cm_drop_request); /* it may have been withdrawn meanwhile; never a request of its own */
	sr_cm_id_free(id);
}

/* Waits for a request to a synchronous listener. With a queue pair asked for at rdma_create_ep() the new identifier has one.
 * 0, or -1 and errno. */
int rdma_get_request(struct rdma_cm_id *listen, struct rdma_cm_id **request)
{
	struct sr_cm_id *l = sr_cm_id(listen);
	struct rdma_cm_event *event;
	if (!l->sync || !request)
		return sr_cm_result(EINVAL);
	if (listen->event) {
		rdma_ack_cm_event(listen->event);
		listen->event = NULL;
	}
	if (rdma_get_cm_event(listen->channel, &event))
		return -1;
	int err = event->status < 0 ? -event->status : event->event != RDMA_CM_EVENT_CONNECT_REQUEST ? EINVAL : 0;
	if (!err && l->qp_init_attr) {
		struct ibv_qp_init_attr attr = *l->qp_init_attr;
		attr.qp_type = event->id->qp_type;
		if (rdma_create_qp(event->id, listen->pd, &attr))
			err = errno;
	}
	if (err) {
		struct rdma_cm_id *id = event->event == RDMA_CM_EVENT_CONNECT_REQUEST ? event->id : NULL;
		rdma_ack_cm_event(event);
		if (id)
			rdma_destroy_id(id);
		return sr_cm_result(err);
	}
	*request = event->id;
	(*request)->event = event;
	return 0;
}
