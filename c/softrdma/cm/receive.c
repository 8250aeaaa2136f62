/* receive.c - what the peer says, in every state. */
#include <errno.h>
#include <string.h>
#include "machine.h"
#include "send.h"
#include "state.h"
#include "table.h"

#define NO_DATA (struct sr_cm_data){ 0 }

static bool same_gid(const union ibv_gid *a, const union ibv_gid *b) { return !memcmp(a, b, sizeof(*a)); }

/* The connection that a message names by our ID, if it comes from its peer. NULL: counted. */
static struct sr_cm_conn *named(struct sr_cm_machine *m, const struct sr_gsi_path *path, const struct sr_cm_mad *in)
{
	struct sr_cm_conn *c = sr_cm_find(m, in->remote_id);
	if (!c) {
		m->counters.unknown_id++;
		return NULL;
	}
	if (!same_gid(&c->path.remote, &path->remote) || !same_gid(&c->path.local, &path->local)) {
		m->counters.wrong_peer++;
		return NULL;
	}
	return c;
}

/* The same for those who know the peer's ID already. */
static struct sr_cm_conn *known(struct sr_cm_machine *m, const struct sr_gsi_path *path, const struct sr_cm_mad *in)
{
	struct sr_cm_conn *c = named(m, path, in);
	if (c && c->remote_id != in->local_id) {
		m->counters.wrong_peer++;
		return NULL;
	}
	return c;
}

static void refuse(struct sr_cm_machine *m, const struct sr_gsi_path *path, const struct sr_cm_mad *in)
{
	uint8_t mad[SR_CM_MAD_BYTES], answer[SR_CM_MAD_BYTES];
	if (sr_cm_encode(in, mad) && sr_cm_refusal(mad, answer))
		m->ops.send(m->ops.arg, path, answer);
}

static void repeated_request(struct sr_cm_machine *m, struct sr_cm_conn *c)
{
	m->counters.duplicates++;
	switch (c->state) {
	case SR_CM_REQ_RCVD:
		sr_cm_send_mra(m, c, SR_CM_ABOUT_REQ);
		break;
	case SR_CM_REP_SENT:
	case SR_CM_SIDR_ANSWERED:
		sr_cm_say_again(m, c);
		break;
	case SR_CM_TIMEWAIT:
		sr_cm_send_rej(m, c, SR_CM_ABOUT_REQ, SR_CM_REJ_STALE_CONN, NO_DATA);
		break;
	default:
		break;
	}
}

/* A queue pair that we believe to be connected to asks for a new connection: its owner has forgotten the old one. Returns
 * whether the new one has to wait until the old one is gone. */
static bool stale(struct sr_cm_machine *m, struct sr_cm_conn *old)
{
	m->counters.stale++;
	switch (old->state) {
	case SR_CM_ESTABLISHED:
		sr_cm_send_dreq(m, old);
		return true;
	case SR_CM_DREQ_SENT:
		return true;
	default: /* it never came to be */
		sr_cm_tell(m, old, SR_CM_HAPPENED_REJECTED, SR_CM_REJ_TIMEOUT, NULL);
		sr_cm_end(m, old);
		return false;
	}
}

static void take_req(struct sr_cm_conn *c, const struct sr_cm_req *r)
{
	c->state = SR_CM_REQ_RCVD;
	c->service_id = r->service_id;
	c->remote_guid = r->ca_guid;
	c->path.traffic_class = r->primary.traffic_class;
	c->path.flow_label = r->primary.flow_label;
	c->terms = (struct sr_cm_terms){
		.remote_qpn = r->qpn,
		.sq_psn = r->psn,
		.responder_resources = r->initiator_depth,
		.initiator_depth = r->responder_resources,
		.retry_count = r->retry_count,
		.rnr_retry_count = r->rnr_retry_count,
		.mtu = r->mtu,
		.ack_timeout = r->primary.ack_timeout,
		.flow_control = r->flow_control,
		.srq = r->srq,
		.transport = r->transport,
	};
}

static void reject_new(struct sr_cm_machine *m, struct sr_cm_conn *c, uint16_t reason)
{
	sr_cm_send_rej(m, c, SR_CM_ABOUT_REQ, reason, NO_DATA);
	sr_cm_end(m, c);
}

/* Either kind of request makes a connection, unless the table of services has no place for it. */
static struct sr_cm_conn *new_request(struct sr_cm_machine *m, const struct sr_gsi_path *path, const struct sr_cm_mad *in)
{
	struct sr_cm_conn *c = sr_cm_conn_new(m, NULL, path);
	if (!c) {
		m->counters.unanswered++;
		return NULL;
	}
	c->passive = true;
	c->remote_id = in->local_id;
	c->tid = in->tid;
	return c;
}

static void on_req(struct sr_cm_machine *m, const struct sr_gsi_path *path, const struct sr_cm_mad *in)
{
	struct sr_cm_conn *c = sr_cm_find_remote(m, in->local_id, &path->remote);
	if (c && c->remote_guid == in->req.ca_guid && c->state != SR_CM_IDLE) {
		repeated_request(m, c);
		return;
	}
	struct sr_cm_conn *old = sr_cm_find_qpn(m, in->req.qpn, &path->remote, NULL);
	bool wait = old && stale(m, old);
	c = new_request(m, path, in);
	if (!c)
		return;
	take_req(c, &in->req);
	c->terms.rq_psn = m->ops.random(m->ops.arg) & 0xffffff;
	if (wait) {
		reject_new(m, c, SR_CM_REJ_STALE_CONN);
		return;
	}
	bool known_transport = in->req.transport == SR_CM_RC || in->req.transport == SR_CM_UC || in->req.transport == SR_CM_XRC;
	if (!known_transport || in->req.mtu < 1 || in->req.mtu > 5) {
		reject_new(m, c, SR_CM_REJ_INVALID_TRANSPORT);
		return;
	}
	int rc = m->ops.request(m->ops.arg, c, in);
	if (rc < 0) {
		m->counters.unanswered++;
		sr_cm_end(m, c);
	} else if (rc > 0) {
		reject_new(m, c, (uint16_t)rc);
	} else {
		sr_cm_know_remote(m, c);
		sr_cm_know_qpn(m, c);
	}
}

static void on_sidr_req(struct sr_cm_machine *m, const struct sr_gsi_path *path, const struct sr_cm_mad *in)
{
	struct sr_cm_conn *c = sr_cm_find_remote(m, in->local_id, &path->remote);
	if (c && c->service_id == in->sidr_req.service_id) {
		repeated_request(m, c);
		return;
	}
	c = new_request(m, path, in);
	if (!c)
		return;
	c->state = SR_CM_SIDR_REQ_RCVD;
	c->service_id = in->sidr_req.service_id;
	int rc = m->ops.request(m->ops.arg, c, in);
	if (rc < 0) {
		m->counters.unanswered++;
		sr_cm_end(m, c);
		return;
	}
	sr_cm_know_remote(m, c);
	if (rc > 0)
		sr_cm_sidr_answer(m, c, m->now_ns, (enum sr_cm_sidr_status)rc, 0, 0, NO_DATA);
}

static void on_mra(struct sr_cm_machine *m, const struct sr_gsi_path *path, const struct sr_cm_mad *in)
{
	struct sr_cm_conn *c = named(m, path, in);
	if (!c)
		return;
	if (c->state != SR_CM_REQ_SENT && c->state != SR_CM_REP_SENT) {
		m->counters.wrong_state++;
		return;
	}
	uint8_t code = in->mra.service_timeout < SR_CM_SERVICE_TIMEOUT ? in->mra.service_timeout : SR_CM_SERVICE_TIMEOUT;
	uint64_t until_ns = m->now_ns + sr_cm_code_ns(code) + 2 * sr_cm_code_ns(SR_CM_PACKET_LIFE_TIME);
	if (c->give_up_ns < until_ns + c->response_ns)
		c->give_up_ns = until_ns + c->response_ns;
	sr_cm_timer_set(&m->timers, &c->timer, until_ns);
}

static void on_rep(struct sr_cm_machine *m, const struct sr_gsi_path *path, const struct sr_cm_mad *in)
{
	struct sr_cm_conn *c = named(m, path, in);
	if (!c) {
		refuse(m, path, in);
		return;
	}
	if (c->state != SR_CM_REQ_SENT) {
		bool again = !c->passive && c->remote_id == in->local_id;
		if (again && c->state == SR_CM_ESTABLISHED)
			sr_cm_say_again(m, c); /* the RTU */
		else if (again && c->state == SR_CM_REP_RCVD)
			sr_cm_send_mra(m, c, SR_CM_ABOUT_REP);
		else
			m->counters.wrong_state++;
		m->counters.duplicates += again;
		return;
	}
	uint32_t qpn = c->terms.transport == SR_CM_XRC ? in->rep.eecn : in->rep.qpn;
	struct sr_cm_conn *old = sr_cm_find_qpn(m, qpn, &path->remote, c);
	if (old)
		stale(m, old);
	c->remote_id = in->local_id;
	c->remote_guid = in->rep.ca_guid;
	c->terms.remote_qpn = qpn;
	c->terms.sq_psn = in->rep.psn;
	c->terms.responder_resources = in->rep.initiator_depth;
	c->terms.initiator_depth = in->rep.responder_resources;
	c->terms.rnr_retry_count = in->rep.rnr_retry_count;
	c->terms.flow_control = in->rep.flow_control;
	c->terms.srq = in->rep.srq;
	c->state = SR_CM_REP_RCVD;
	sr_cm_timer_stop(&m->timers, &c->timer);
	sr_cm_know_qpn(m, c);
	sr_cm_tell(m, c, SR_CM_HAPPENED_REP, 0, in);
}

static void on_rtu(struct sr_cm_machine *m, const struct sr_gsi_path *path, const struct sr_cm_mad *in)
{
	struct sr_cm_conn *c = known(m, path, in);
	if (!c)
		return;
	if (c->state != SR_CM_REP_SENT) {
		m->counters.duplicates++;
		return;
	}
	c->state = SR_CM_ESTABLISHED;
	sr_cm_timer_stop(&m->timers, &c->timer);
	sr_cm_tell(m, c, SR_CM_HAPPENED_ESTABLISHED, 0, in);
}

#define REFUSALS 5
#define REFUSED_NS 10000000u

/* Asks again after a moment, unless that was in vain often enough. */
static bool ask_again(struct sr_cm_machine *m, struct sr_cm_conn *c)
{
	if (c->refusals == REFUSALS)
		return false;
	sr_cm_timer_set(&m->timers, &c->timer, m->now_ns + ((uint64_t)REFUSED_NS << c->refusals++));
	return true;
}

/* No process listens there, or not yet: as much as "no such service" from one. Hosts return only so
 * many messages a second, so it is time that counts. */
static void nobody_listens(struct sr_cm_machine *m, struct sr_cm_conn *c)
{
	if (m->now_ns - c->asked_ns < (REFUSED_NS << REFUSALS) && ask_again(m, c))
		return;
	sr_cm_tell(m, c, SR_CM_HAPPENED_UNREACHABLE, -ECONNREFUSED, NULL);
	sr_cm_end(m, c);
}

void sr_cm_returned(struct sr_cm_machine *m, uint64_t now_ns, const struct sr_gsi_path *path, const uint8_t mad[SR_CM_MAD_BYTES])
{
	struct sr_cm_mad sent;
	m->now_ns = now_ns;
	struct sr_cm_conn *c = sr_cm_decode(&sent, mad) ? sr_cm_find(m, sent.local_id) : NULL;
	/* Whoever has not seen the message cannot know its random numbers. */
	if (!c || memcmp(c->last, mad, sizeof(c->last)) != 0 || !same_gid(&c->path.remote, &path->remote)) {
		m->counters.unknown_id++;
		return;
	}
	switch (c->state) {
	case SR_CM_REQ_SENT:
	case SR_CM_SIDR_REQ_SENT:
		nobody_listens(m, c);
		break;
	case SR_CM_REP_SENT:
		sr_cm_tell(m, c, SR_CM_HAPPENED_UNREACHABLE, -ECONNREFUSED, NULL);
		sr_cm_end(m, c);
		break;
	case SR_CM_DREQ_SENT:
		sr_cm_tell(m, c, SR_CM_HAPPENED_DISCONNECTED, 0, NULL);
		sr_cm_time_wait(m, c);
		break;
	default:
		m->counters.wrong_state++;
	}
}

static void on_rej(struct sr_cm_machine *m, const struct sr_gsi_path *path, const struct sr_cm_mad *in)
{
	struct sr_cm_conn *c = NULL;
	/* Who gives up before we have answered does not know our ID. */
	if (in->rej.reason == SR_CM_REJ_TIMEOUT && !in->remote_id)
		c = sr_cm_find_remote(m, in->local_id, &path->remote);
	else
		c = named(m, path, in);
	if (!c)
		return;
	if (c->state == SR_CM_REQ_SENT && in->rej.about == SR_CM_ABOUT_REP) { /* we have sent none: somebody else did in our name */
		m->counters.wrong_state++;
		return;
	}
	if (c->state == SR_CM_REQ_SENT && in->rej.reason == SR_CM_REJ_INVALID_SERVICE_ID && ask_again(m, c))
		return;
	switch (c->state) {
	case SR_CM_REQ_SENT:
	case SR_CM_REQ_RCVD:
	case SR_CM_REP_SENT:
	case SR_CM_REP_RCVD:
		sr_cm_tell(m, c, SR_CM_HAPPENED_REJECTED, in->rej.reason, in);
		sr_cm_end(m, c);
		break;
	case SR_CM_DREQ_SENT: /* the peer never was connected */
		sr_cm_tell(m, c, SR_CM_HAPPENED_DISCONNECTED, 0, NULL);
		sr_cm_time_wait(m, c);
		break;
	default:
		m->counters.wrong_state++;
	}
}

static void on_dreq(struct sr_cm_machine *m, const struct sr_gsi_path *path, const struct sr_cm_mad *in)
{
	struct sr_cm_conn *c = sr_cm_find(m, in->remote_id);
	if (!c) {
		m->counters.unknown_id++;
		refuse(m, path, in);
		return;
	}
	c = known(m, path, in);
	if (!c)
		return;
	if (in->dreq.qpn != c->terms.local_qpn) {
		m->counters.wrong_peer++;
		return;
	}
	switch (c->state) {
	case SR_CM_REP_SENT: /* its RTU was lost: nobody disconnects before that */
		sr_cm_tell(m, c, SR_CM_HAPPENED_ESTABLISHED, 0, NULL);
		/* fall through */
	case SR_CM_ESTABLISHED:
	case SR_CM_REP_RCVD:
	case SR_CM_DREQ_SENT: /* both at once */
		sr_cm_send_drep(m, c, in->tid);
		sr_cm_tell(m, c, SR_CM_HAPPENED_DISCONNECTED, 0, in);
		sr_cm_time_wait(m, c);
		break;
	case SR_CM_TIMEWAIT:
		m->counters.duplicates++;
		sr_cm_send_drep(m, c, in->tid);
		break;
	default:
		m->counters.wrong_state++;
	}
}

static void on_drep(struct sr_cm_machine *m, const struct sr_gsi_path *path, const struct sr_cm_mad *in)
{
	struct sr_cm_conn *c = known(m, path, in);
	if (!c)
		return;
	if (c->state != SR_CM_DREQ_SENT) {
		m->counters.duplicates++;
		return;
	}
	sr_cm_tell(m, c, SR_CM_HAPPENED_DISCONNECTED, 0, in);
	sr_cm_time_wait(m, c);
}

static void on_sidr_rep(struct sr_cm_machine *m, const struct sr_gsi_path *path, const struct sr_cm_mad *in)
{
	struct sr_cm_conn *c = named(m, path, in);
	if (!c)
		return;
	if (c->state != SR_CM_SIDR_REQ_SENT || in->sidr_rep.service_id != c->service_id) {
		m->counters.wrong_state++;
		return;
	}
	if (in->sidr_rep.status == SR_CM_SIDR_UNSUPPORTED && ask_again(m, c))
		return;
	c->terms.remote_qpn = in->sidr_rep.qpn;
	c->terms.qkey = in->sidr_rep.qkey;
	sr_cm_tell(m, c, SR_CM_HAPPENED_SIDR, in->sidr_rep.status, in);
	sr_cm_end(m, c);
}

void sr_cm_receive(struct sr_cm_machine *m, uint64_t now_ns, const struct sr_gsi_path *path, const uint8_t mad[SR_CM_MAD_BYTES])
{
	static void (*const handlers[])(struct sr_cm_machine *, const struct sr_gsi_path *, const struct sr_cm_mad *) = {
		[SR_CM_REQ] = on_req,   [SR_CM_MRA] = on_mra,   [SR_CM_REJ] = on_rej,
		[SR_CM_REP] = on_rep,   [SR_CM_RTU] = on_rtu,   [SR_CM_DREQ] = on_dreq,
		[SR_CM_DREP] = on_drep, [SR_CM_SIDR_REQ] = on_sidr_req, [SR_CM_SIDR_REP] = on_sidr_rep,
	};
	struct sr_cm_mad in;
	m->now_ns = now_ns;
	if (sr_cm_decode(&in, mad))
		handlers[in.attr](m, path, &in);
	else
		m->counters.malformed++;
}
