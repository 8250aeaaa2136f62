/* connect.c - connecting, accepting, rejecting and disconnecting, and the events that come of it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "../device/limits.h"
#include "cm.h"

#define QKEY 0x01234567u /* RDMA_UDP_QKEY */

static bool is_ud(const struct sr_cm_id *id) { return id->id.qp_type == IBV_QPT_UD; }

static bool is_xrc(const struct sr_cm_id *id) { return id->id.qp_type == IBV_QPT_XRC_SEND || id->id.qp_type == IBV_QPT_XRC_RECV; }

static uint64_t guid_of(const struct sr_cm_id *id) { return be64toh(ibv_get_device_guid(id->id.verbs->device)); }

static uint8_t at_most_reads(uint8_t n) { return n < SR_LIMIT_RD_ATOMIC ? n : SR_LIMIT_RD_ATOMIC; }

static void take_param(struct sr_cm_id *id, const struct rdma_conn_param *param, struct sr_cm_terms *t)
{
	t->local_qpn = id->id.qp ? id->id.qp->qp_num : param ? param->qp_num : 0;
	t->srq = id->id.qp_type == IBV_QPT_XRC_RECV ? true : id->id.qp ? id->id.qp->srq != NULL : param && param->srq;
	t->responder_resources = at_most_reads(id->responder_resources);
	t->initiator_depth = at_most_reads(id->initiator_depth);
	t->flow_control = param && param->flow_control;
	t->transport = id->id.qp_type == IBV_QPT_UC ? SR_CM_UC : is_xrc(id) ? SR_CM_XRC : SR_CM_RC;
}

static void take_depths(struct sr_cm_id *id, const struct rdma_conn_param *param, bool active)
{
	if (param && param->initiator_depth != RDMA_MAX_INIT_DEPTH)
		id->initiator_depth = param->initiator_depth;
	else if (active)
		id->initiator_depth = SR_LIMIT_RD_ATOMIC;
	if (param && param->responder_resources != RDMA_MAX_RESP_RES)
		id->responder_resources = param->responder_resources;
	else if (active)
		id->responder_resources = SR_LIMIT_RD_ATOMIC;
}

/* The IP header, what rdma_create_ep() was given, and the application's own private data. Returns the length, or -EMSGSIZE. */
static int request_data(const struct sr_cm_id *id, const struct rdma_conn_param *param, uint8_t *out, size_t room)
{
	const struct rdma_addr *a = &id->id.route.addr;
	size_t own = param && param->private_data ? param->private_data_len : 0;
	struct sr_cm_ip ip = { .v4 = a->src_addr.sa_family == AF_INET, .src_port = sr_cm_port_of(&a->src_addr) };
	union ibv_gid dst;
	sr_cm_gid_of(&a->dst_addr, &dst);
	memcpy(ip.src, id->gid.raw, 16);
	memcpy(ip.dst, dst.raw, 16);
	if (SR_CM_IP_BYTES + id->connect_len + own > room)
		return -EMSGSIZE;
	sr_cm_ip_encode(&ip, out);
	if (id->connect_len)
		memcpy(out + SR_CM_IP_BYTES, id->connect_data, id->connect_len);
	if (own)
		memcpy(out + SR_CM_IP_BYTES + id->connect_len, param->private_data, own);
	return (int)(SR_CM_IP_BYTES + id->connect_len + own);
}

static int connect_locked(struct sr_cm_id *id, const struct rdma_conn_param *param)
{
	struct sr_gsi_path path;
	uint8_t data[SR_CM_PRIVATE_MAX];
	int len = request_data(id, param, data, is_ud(id) ? SR_CM_SIDR_REQ_PRIVATE : SR_CM_REQ_PRIVATE);
	if (len < 0)
		return -len;
	uint64_t service = sr_cm_service_id((uint16_t)id->id.ps, sr_cm_port_of(&id->id.route.addr.dst_addr));
	if (id->conn) /* of an attempt that failed */
		sr_cm_release(&cm.machine, id->conn, sr_cm_now_ns());
	sr_cm_path_of(id, &path);
	struct sr_cm_conn *c = id->conn = sr_cm_conn_new(&cm.machine, id, &path);
	if (!c)
		return ENOMEM;
	struct sr_cm_data d = { data, (uint8_t)len };
	if (is_ud(id))
		return sr_cm_sidr_ask(&cm.machine, c, sr_cm_now_ns(), service, d);
	take_param(id, param, &c->terms);
	c->terms.retry_count = param ? param->retry_count & 7 : 7;
	c->terms.rnr_retry_count = param ? param->rnr_retry_count & 7 : 7;
	c->terms.mtu = id->id.route.path_rec->mtu;
	c->terms.ack_timeout = sr_cm_ack_timeout(SR_ACK_DELAY, SR_CM_PACKET_LIFE_TIME);
	return sr_cm_connect(&cm.machine, c, sr_cm_now_ns(), service, guid_of(id), d);
}

static int check_param(const struct sr_cm_id *id, const struct rdma_conn_param *param)
{
	if (is_ud(id) || !param)
		return 0;
	if (param->responder_resources != RDMA_MAX_RESP_RES && param->responder_resources > SR_LIMIT_RD_ATOMIC)
		return EINVAL;
	if (param->initiator_depth != RDMA_MAX_INIT_DEPTH && param->initiator_depth > SR_LIMIT_RD_ATOMIC)
		return EINVAL;
	return 0;
}

/* Asks the peer for a connection, or for the queue pair of a UD service. The outcome is an event: ESTABLISHED (CONNECT_RESPONSE
 * when the identifier has no queue pair), REJECTED or UNREACHABLE. 0, or -1 and errno. */
int rdma_connect(struct rdma_cm_id *p, struct rdma_conn_param *param)
{
	struct sr_cm_id *id = sr_cm_id(p);
	int err = check_param(id, param);
	if (!err && (!id->route_resolved || id->connecting))
		err = EINVAL;
	if (err)
		return sr_cm_result(err);
	take_depths(id, param, true);
	sr_cm_lock();
	err = connect_locked(id, param);
	id->connecting = !err;
	sr_cm_unlock();
	return err ? sr_cm_result(err) : sr_cm_complete(id);
}

static int accept_locked(struct sr_cm_id *id, const struct rdma_conn_param *param)
{
	struct sr_cm_data d = { 0 };
	if (!id->conn)
		return EINVAL;
	if (param && param->private_data)
		d = (struct sr_cm_data){ param->private_data, param->private_data_len };
	if (is_ud(id)) {
		uint32_t qpn = id->id.qp ? id->id.qp->qp_num : param ? param->qp_num : 0;
		return sr_cm_sidr_answer(&cm.machine, id->conn, sr_cm_now_ns(), SR_CM_SIDR_SUCCESS, qpn, QKEY, d);
	}
	take_param(id, param, &id->conn->terms);
	if (param)
		id->conn->terms.rnr_retry_count = param->rnr_retry_count & 7;
	return sr_cm_accept(&cm.machine, id->conn, sr_cm_now_ns(), guid_of(id), d);
}

/* Accepts the request; NULL takes what it asked for. The queue pair is made ready first; ESTABLISHED follows when the peer is.
 * 0, or -1 and errno. */
int rdma_accept(struct rdma_cm_id *p, struct rdma_conn_param *param)
{
	struct sr_cm_id *id = sr_cm_id(p);
	int err = check_param(id, param);
	if (err)
		return sr_cm_result(err);
	take_depths(id, param, false);
	sr_cm_lock();
	err = id->conn ? 0 : EINVAL;
	if (!err && !is_ud(id)) { /* chosen before the queue pair needs it */
		id->conn->terms.responder_resources = at_most_reads(id->responder_resources);
		id->conn->terms.initiator_depth = at_most_reads(id->initiator_depth);
	}
	sr_cm_unlock();
	if (!err && p->qp && !is_ud(id))
		err = sr_cm_qp_to_rts(id);
	if (err) {
		sr_cm_qp_to_error(id);
		return sr_cm_result(err);
	}
	sr_cm_lock();
	err = accept_locked(id, param);
	id->connecting = !err;
	sr_cm_unlock();
	if (err) {
		sr_cm_qp_to_error(id);
		return sr_cm_result(err);
	}
	return is_ud(id) ? 0 : sr_cm_complete(id);
}

/* Rejects a request, or a reply. 0, or -1 and errno. */
int rdma_reject(struct rdma_cm_id *p, const void *data, uint8_t len)
{
	struct sr_cm_id *id = sr_cm_id(p);
	struct sr_cm_data d = { data, data ? len : 0 };
	sr_cm_lock();
	int err = EINVAL;
	if (id->conn)
		err = is_ud(id) ? sr_cm_sidr_answer(&cm.machine, id->conn, sr_cm_now_ns(), SR_CM_SIDR_REJECT, 0, 0, d)
				: sr_cm_reject(&cm.machine, id->conn, sr_cm_now_ns(), SR_CM_REJ_CONSUMER, d);
	sr_cm_unlock();
	return sr_cm_result(err);
}

/* The same: enhanced connection establishment is not negotiated. */
int rdma_reject_ece(struct rdma_cm_id *p, const void *data, uint8_t len) { return rdma_reject(p, data, len); }

/* After CONNECT_RESPONSE: the application has made its own queue pair ready. 0, or -1 and errno. */
int rdma_establish(struct rdma_cm_id *p)
{
	struct sr_cm_id *id = sr_cm_id(p);
	if (p->qp) /* done by the library */
		return sr_cm_result(EINVAL);
	sr_cm_lock();
	int err = id->conn ? sr_cm_establish(&cm.machine, id->conn, sr_cm_now_ns()) : EINVAL;
	sr_cm_unlock();
	return sr_cm_result(err);
}

/* The application saw IBV_EVENT_COMM_EST: the peer is ready, whatever became of its message. 0, or -1 and errno. */
int rdma_notify(struct rdma_cm_id *p, enum ibv_event_type event)
{
	struct sr_cm_id *id = sr_cm_id(p);
	sr_cm_lock();
	int err = event == IBV_EVENT_COMM_EST && id->conn ? sr_cm_establish(&cm.machine, id->conn, sr_cm_now_ns()) : EINVAL;
	sr_cm_unlock();
	return sr_cm_result(err == EISCONN ? 0 : err);
}

/* Ends the connection, or agrees to its end. The queue pair goes to the error state, so what was posted is flushed. DISCONNECTED
 * follows. 0, or -1 and errno: EINVAL when there is no connection. */
int rdma_disconnect(struct rdma_cm_id *p)
{
	struct sr_cm_id *id = sr_cm_id(p);
	if (is_ud(id))
		return sr_cm_result(EINVAL);
	sr_cm_qp_to_error(id);
	sr_cm_lock();
	int err = id->conn ? sr_cm_disconnect(&cm.machine, id->conn, sr_cm_now_ns()) : EINVAL;
	sr_cm_unlock();
	return err ? sr_cm_result(err) : sr_cm_complete(id);
}

static void fill_conn(struct sr_cm_event *e, const struct sr_cm_conn *c, const struct sr_cm_happening *h)
{
	e->ev.param.conn = (struct rdma_conn_param){
		.private_data = h->private_len ? e->private_data : NULL,
		.private_data_len = h->private_len,
		.responder_resources = c->terms.responder_resources,
		.initiator_depth = c->terms.initiator_depth,
		.flow_control = c->terms.flow_control,
		.retry_count = c->terms.retry_count,
		.rnr_retry_count = c->terms.rnr_retry_count,
		.srq = c->terms.srq,
		.qp_num = c->terms.remote_qpn,
	};
}

static void fill_ud(struct sr_cm_event *e, const struct sr_cm_conn *c, const struct sr_cm_happening *h)
{
	struct sr_cm_id *id = e->owner;
	e->ev.param.ud = (struct rdma_ud_param){
		.private_data = h->private_len ? e->private_data : NULL,
		.private_data_len = h->private_len,
		.ah_attr = { .is_global = 1, .port_num = id->id.port_num,
			     .grh = { .dgid = c->path.remote, .sgid_index = (uint8_t)id->gid_index, .hop_limit = 64,
				      .traffic_class = c->path.traffic_class, .flow_label = c->path.flow_label } },
		.qp_num = c->terms.remote_qpn,
		.qkey = c->terms.qkey,
	};
}

void sr_cm_on_event(void *arg, struct sr_cm_conn *c, const struct sr_cm_happening *h)
{
	static const enum rdma_cm_event_type types[] = {
		[SR_CM_HAPPENED_REP] = RDMA_CM_EVENT_CONNECT_RESPONSE,
		[SR_CM_HAPPENED_ESTABLISHED] = RDMA_CM_EVENT_ESTABLISHED,
		[SR_CM_HAPPENED_REJECTED] = RDMA_CM_EVENT_REJECTED,
		[SR_CM_HAPPENED_UNREACHABLE] = RDMA_CM_EVENT_UNREACHABLE,
		[SR_CM_HAPPENED_DISCONNECTED] = RDMA_CM_EVENT_DISCONNECTED,
		[SR_CM_HAPPENED_TIMEWAIT_EXIT] = RDMA_CM_EVENT_TIMEWAIT_EXIT,
		[SR_CM_HAPPENED_SIDR] = RDMA_CM_EVENT_ESTABLISHED,
	};
	(void)arg;
	struct sr_cm_id *id = c->user;
	struct sr_cm_event *e = sr_cm_event_new(id, types[h->type], h->status);
	if (!e)
		return;
	if (h->private_len)
		memcpy(e->private_data, h->private_data, h->private_len);
	if (h->type == SR_CM_HAPPENED_SIDR && h->status)
		e->ev.event = RDMA_CM_EVENT_UNREACHABLE;
	if (is_ud(id))
		fill_ud(e, c, h);
	else
		fill_conn(e, c, h);
	if (h->type == SR_CM_HAPPENED_REJECTED || h->type == SR_CM_HAPPENED_UNREACHABLE)
		id->connecting = false;
	sr_cm_event_push_locked(e);
}

/* The peer accepted. Without a queue pair it is the application's turn; else the connection is made ready here. */
void sr_cm_finish_connect(struct sr_cm_event *e)
{
	struct sr_cm_id *id = e->owner;
	if (!id->id.qp)
		return;
	int err = sr_cm_qp_to_rts(id);
	sr_cm_lock();
	if (!err)
		err = id->conn ? sr_cm_establish(&cm.machine, id->conn, sr_cm_now_ns()) : EINVAL;
	else if (id->conn)
		sr_cm_reject(&cm.machine, id->conn, sr_cm_now_ns(), SR_CM_REJ_CONSUMER, (struct sr_cm_data){ 0 });
	sr_cm_unlock();
	e->ev.event = err ? RDMA_CM_EVENT_CONNECT_ERROR : RDMA_CM_EVENT_ESTABLISHED;
	e->ev.status = -err;
	if (err)
		sr_cm_qp_to_error(id);
}
