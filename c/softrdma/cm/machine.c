/* machine.c - what the application asks for, and what time brings; receive.c has what the peer says. */
#include "machine.h"
#include <errno.h>
#include <string.h>
#include "send.h"
#include "state.h"
#include "table.h"

#define NO_DATA (struct sr_cm_data){ 0 }
#define LEAVE_AGAIN_NS 20000000u /* first repetition of a goodbye that nobody waits for */

uint8_t sr_cm_ack_timeout(uint8_t ack_delay, uint8_t packet_life_time)
{
	/* 2 * life time + delay, in codes: powers of two add up to the larger one, or one more when they are alike. */
	uint8_t t = (uint8_t)(packet_life_time + 1);
	if (t >= ack_delay)
		t = (uint8_t)(t + (ack_delay >= t - 1));
	else
		t = (uint8_t)(ack_delay + (t >= ack_delay - 1));
	return t < 31 ? t : 31;
}

void sr_cm_tell(struct sr_cm_machine *m, struct sr_cm_conn *c, enum sr_cm_happening_type type, int status,
		const struct sr_cm_mad *in)
{
	struct sr_cm_happening h = { .type = type, .status = status };
	if (in) {
		h.private_data = in->private_data;
		h.private_len = in->private_len;
	}
	if (c->user)
		m->ops.event(m->ops.arg, c, &h);
}

void sr_cm_end(struct sr_cm_machine *m, struct sr_cm_conn *c)
{
	c->state = SR_CM_IDLE;
	sr_cm_timer_stop(&m->timers, &c->timer);
	sr_list_del(&c->by_remote);
	sr_list_del(&c->by_qpn);
	if (!c->user)
		sr_cm_conn_free(m, c);
}

void sr_cm_time_wait(struct sr_cm_machine *m, struct sr_cm_conn *c)
{
	c->state = SR_CM_TIMEWAIT;
	sr_list_del(&c->by_qpn);
	/* A peer names the time; what it may cost us is bounded. */
	uint8_t code = c->terms.ack_timeout < SR_CM_RESPONSE_TIMEOUT ? c->terms.ack_timeout : SR_CM_RESPONSE_TIMEOUT;
	sr_cm_timer_set(&m->timers, &c->timer, m->now_ns + sr_cm_code_ns(code));
}

static void choose_numbers(struct sr_cm_machine *m, struct sr_cm_conn *c)
{
	c->terms.rq_psn = m->ops.random(m->ops.arg) & 0xffffff;
	c->tid = (uint64_t)m->ops.random(m->ops.arg) << 32 | c->local_id;
}

int sr_cm_connect(struct sr_cm_machine *m, struct sr_cm_conn *c, uint64_t now_ns, uint64_t service_id, uint64_t guid,
		  struct sr_cm_data data)
{
	struct sr_cm_mad out;
	m->now_ns = now_ns;
	if (c->state != SR_CM_IDLE)
		return EINVAL;
	choose_numbers(m, c);
	c->remote_id = 0;
	c->service_id = service_id;
	int err = sr_cm_message(c, &out, SR_CM_REQ, data);
	if (err)
		return err;
	const struct sr_cm_terms *t = &c->terms;
	out.req = (struct sr_cm_req){
		.service_id = service_id,
		.ca_guid = guid,
		.qpn = t->local_qpn,
		.responder_resources = t->responder_resources,
		.initiator_depth = t->initiator_depth,
		.remote_response_timeout = SR_CM_RESPONSE_TIMEOUT,
		.transport = t->transport,
		.flow_control = t->flow_control,
		.psn = t->rq_psn,
		.local_response_timeout = SR_CM_RESPONSE_TIMEOUT,
		.retry_count = t->retry_count,
		.pkey = 0xffff,
		.mtu = t->mtu,
		.rnr_retry_count = t->rnr_retry_count,
		.max_cm_retries = SR_CM_MAX_RETRIES,
		.srq = t->srq,
		.primary = { .local_lid = 0xffff, .remote_lid = 0xffff, .flow_label = c->path.flow_label,
			     .traffic_class = c->path.traffic_class, .hop_limit = 64, .ack_timeout = t->ack_timeout },
	};
	memcpy(out.req.primary.local_gid, c->path.local.raw, 16);
	memcpy(out.req.primary.remote_gid, c->path.remote.raw, 16);
	c->state = SR_CM_REQ_SENT;
	sr_cm_ask(m, c, &out);
	return 0;
}

int sr_cm_accept(struct sr_cm_machine *m, struct sr_cm_conn *c, uint64_t now_ns, uint64_t guid, struct sr_cm_data data)
{
	struct sr_cm_mad out;
	m->now_ns = now_ns;
	if (c->state != SR_CM_REQ_RCVD)
		return EINVAL;
	int err = sr_cm_message(c, &out, SR_CM_REP, data);
	if (err)
		return err;
	const struct sr_cm_terms *t = &c->terms;
	out.rep = (struct sr_cm_rep){
		.qpn = t->transport == SR_CM_XRC ? 0 : t->local_qpn,
		.eecn = t->transport == SR_CM_XRC ? t->local_qpn : 0,
		.psn = t->rq_psn,
		.responder_resources = t->responder_resources,
		.initiator_depth = t->initiator_depth,
		.target_ack_delay = 15,
		.flow_control = t->flow_control,
		.rnr_retry_count = t->rnr_retry_count,
		.srq = t->srq,
		.ca_guid = guid,
	};
	c->state = SR_CM_REP_SENT;
	sr_cm_ask(m, c, &out);
	return 0;
}

int sr_cm_establish(struct sr_cm_machine *m, struct sr_cm_conn *c, uint64_t now_ns)
{
	struct sr_cm_mad out;
	m->now_ns = now_ns;
	switch (c->state) {
	case SR_CM_REP_RCVD:
		c->state = SR_CM_ESTABLISHED;
		sr_cm_message(c, &out, SR_CM_RTU, NO_DATA);
		sr_cm_say_last(m, c, &out);
		return 0;
	case SR_CM_REP_SENT:
		c->state = SR_CM_ESTABLISHED;
		sr_cm_timer_stop(&m->timers, &c->timer);
		sr_cm_tell(m, c, SR_CM_HAPPENED_ESTABLISHED, 0, NULL);
		return 0;
	case SR_CM_ESTABLISHED:
		return EISCONN;
	default:
		return EINVAL;
	}
}

int sr_cm_reject(struct sr_cm_machine *m, struct sr_cm_conn *c, uint64_t now_ns, uint16_t reason, struct sr_cm_data data)
{
	m->now_ns = now_ns;
	bool about_req = c->state == SR_CM_REQ_RCVD;
	if (!about_req && c->state != SR_CM_REP_RCVD && c->state != SR_CM_REP_SENT)
		return EINVAL;
	int err = sr_cm_send_rej(m, c, about_req ? SR_CM_ABOUT_REQ : SR_CM_ABOUT_REP, reason, data);
	if (!err)
		sr_cm_end(m, c);
	return err;
}

int sr_cm_disconnect(struct sr_cm_machine *m, struct sr_cm_conn *c, uint64_t now_ns)
{
	m->now_ns = now_ns;
	switch (c->state) {
	case SR_CM_ESTABLISHED:
	case SR_CM_REP_SENT:
		return sr_cm_send_dreq(m, c);
	case SR_CM_DREQ_SENT:
	case SR_CM_TIMEWAIT:
		return 0;
	default:
		return EINVAL;
	}
}

int sr_cm_sidr_ask(struct sr_cm_machine *m, struct sr_cm_conn *c, uint64_t now_ns, uint64_t service_id, struct sr_cm_data data)
{
	struct sr_cm_mad out;
	m->now_ns = now_ns;
	if (c->state != SR_CM_IDLE)
		return EINVAL;
	choose_numbers(m, c);
	c->service_id = service_id;
	int err = sr_cm_message(c, &out, SR_CM_SIDR_REQ, data);
	if (err)
		return err;
	out.sidr_req.pkey = 0xffff;
	out.sidr_req.service_id = service_id;
	c->state = SR_CM_SIDR_REQ_SENT;
	sr_cm_ask(m, c, &out);
	return 0;
}

int sr_cm_sidr_answer(struct sr_cm_machine *m, struct sr_cm_conn *c, uint64_t now_ns, enum sr_cm_sidr_status status,
		      uint32_t qpn, uint32_t qkey, struct sr_cm_data data)
{
	struct sr_cm_mad out;
	m->now_ns = now_ns;
	if (c->state != SR_CM_SIDR_REQ_RCVD)
		return EINVAL;
	int err = sr_cm_message(c, &out, SR_CM_SIDR_REP, data);
	if (err)
		return err;
	out.sidr_rep.status = (uint8_t)status;
	out.sidr_rep.qpn = qpn;
	out.sidr_rep.qkey = qkey;
	out.sidr_rep.service_id = c->service_id;
	c->state = SR_CM_SIDR_ANSWERED;
	sr_cm_say_last(m, c, &out);
	sr_cm_timer_set(&m->timers, &c->timer, now_ns + sr_cm_code_ns(SR_CM_RESPONSE_TIMEOUT));
	return 0;
}

/* Who asks and does not wait for the answer says so, with its GUID: the peer knows us by nothing else. */
static void withdraw(struct sr_cm_machine *m, struct sr_cm_conn *c)
{
	struct sr_cm_mad asked, out;
	if (!sr_cm_decode(&asked, c->last))
		return;
	sr_cm_message(c, &out, SR_CM_REJ, NO_DATA);
	out.rej.about = asked.attr == SR_CM_REP ? SR_CM_ABOUT_REP : SR_CM_ABOUT_REQ;
	out.rej.reason = SR_CM_REJ_TIMEOUT;
	out.rej.info_len = sizeof(uint64_t);
	/* The GUID as the message has it: 16 bytes into a request, 28 into a reply. */
	memcpy(out.rej.info, c->last + 24 + (asked.attr == SR_CM_REP ? 28 : 16), sizeof(uint64_t));
	sr_cm_say(m, &c->path, &out);
}

/* The process may be about to end: what is lost now is lost for good. */
static void leave_soon(struct sr_cm_machine *m, struct sr_cm_conn *c)
{
	c->interval_ns = LEAVE_AGAIN_NS;
	sr_cm_timer_set(&m->timers, &c->timer, m->now_ns + c->interval_ns);
}

void sr_cm_release(struct sr_cm_machine *m, struct sr_cm_conn *c, uint64_t now_ns)
{
	m->now_ns = now_ns;
	c->user = NULL;
	switch (c->state) {
	case SR_CM_REQ_SENT:
		withdraw(m, c);
		break;
	case SR_CM_REQ_RCVD:
		sr_cm_send_rej(m, c, SR_CM_ABOUT_REQ, SR_CM_REJ_CONSUMER, NO_DATA);
		break;
	case SR_CM_REP_SENT:
	case SR_CM_REP_RCVD:
		sr_cm_send_rej(m, c, SR_CM_ABOUT_REP, SR_CM_REJ_CONSUMER, NO_DATA);
		break;
	case SR_CM_ESTABLISHED:
		sr_cm_send_dreq(m, c);
		leave_soon(m, c);
		c->give_up_ns = now_ns + c->response_ns;
		return;
	case SR_CM_DREQ_SENT:
		leave_soon(m, c);
		if (c->give_up_ns > now_ns + c->response_ns)
			c->give_up_ns = now_ns + c->response_ns;
		return;
	case SR_CM_TIMEWAIT:
	case SR_CM_SIDR_ANSWERED:
		return;
	case SR_CM_SIDR_REQ_RCVD:
		sr_cm_sidr_answer(m, c, now_ns, SR_CM_SIDR_REJECT, 0, 0, NO_DATA);
		return;
	case SR_CM_SIDR_REQ_SENT:
	case SR_CM_IDLE:
		break;
	}
	sr_cm_end(m, c);
}

static void give_up(struct sr_cm_machine *m, struct sr_cm_conn *c)
{
	switch (c->state) {
	case SR_CM_REQ_SENT:
	case SR_CM_REP_SENT:
		withdraw(m, c);
		/* fall through */
	case SR_CM_SIDR_REQ_SENT:
		sr_cm_tell(m, c, SR_CM_HAPPENED_UNREACHABLE, -ETIMEDOUT, NULL);
		sr_cm_end(m, c);
		break;
	case SR_CM_DREQ_SENT:
		sr_cm_tell(m, c, SR_CM_HAPPENED_DISCONNECTED, -ETIMEDOUT, NULL);
		sr_cm_time_wait(m, c);
		break;
	default:
		sr_cm_timer_stop(&m->timers, &c->timer);
		break;
	}
}

static void expire(struct sr_cm_machine *m, struct sr_cm_conn *c)
{
	if (c->state == SR_CM_TIMEWAIT) {
		sr_cm_tell(m, c, SR_CM_HAPPENED_TIMEWAIT_EXIT, 0, NULL);
		sr_cm_end(m, c);
	} else if (c->state == SR_CM_SIDR_ANSWERED) {
		sr_cm_end(m, c);
	} else if (m->now_ns >= c->give_up_ns) {
		give_up(m, c);
	} else {
		m->counters.retransmits++;
		c->interval_ns = c->interval_ns * 2 < c->response_ns ? c->interval_ns * 2 : c->response_ns;
		uint64_t next_ns = m->now_ns + c->interval_ns;
		sr_cm_timer_set(&m->timers, &c->timer, next_ns < c->give_up_ns ? next_ns : c->give_up_ns);
		sr_cm_say_again(m, c);
	}
}

uint64_t sr_cm_run_timers(struct sr_cm_machine *m, uint64_t now_ns)
{
	m->now_ns = now_ns;
	for (;;) {
		struct sr_cm_timer *t = sr_cm_timers_first(&m->timers);
		if (!t || t->due_ns > now_ns)
			return t ? t->due_ns : UINT64_MAX;
		expire(m, sr_list_entry(t, struct sr_cm_conn, timer));
	}
}
