/* send.c - see send.h. */
#include "send.h"
#include <errno.h>
#include <string.h>
#include "../wire/bytes.h"

#define FIRST_REPEAT_NS 250000000u

int sr_cm_message(struct sr_cm_conn *c, struct sr_cm_mad *out, enum sr_cm_attr attr, struct sr_cm_data data)
{
	static const uint8_t room[] = {
		[SR_CM_REQ] = SR_CM_REQ_PRIVATE, [SR_CM_MRA] = SR_CM_MRA_PRIVATE, [SR_CM_REJ] = SR_CM_REJ_PRIVATE,
		[SR_CM_REP] = SR_CM_REP_PRIVATE, [SR_CM_RTU] = SR_CM_RTU_PRIVATE, [SR_CM_DREQ] = SR_CM_DREQ_PRIVATE,
		[SR_CM_DREP] = SR_CM_DREP_PRIVATE, [SR_CM_SIDR_REQ] = SR_CM_SIDR_REQ_PRIVATE,
		[SR_CM_SIDR_REP] = SR_CM_SIDR_REP_PRIVATE,
	};
	if (data.len > room[attr])
		return EMSGSIZE;
	memset(out, 0, sizeof(*out));
	out->attr = (uint16_t)attr;
	out->tid = c->tid;
	out->local_id = c->local_id;
	out->remote_id = c->remote_id;
	out->private_len = data.len;
	if (data.len)
		memcpy(out->private_data, data.bytes, data.len);
	return 0;
}

void sr_cm_say(struct sr_cm_machine *m, const struct sr_gsi_path *path, const struct sr_cm_mad *out)
{
	uint8_t mad[SR_CM_MAD_BYTES];
	if (sr_cm_encode(out, mad))
		m->ops.send(m->ops.arg, path, mad);
}

void sr_cm_say_again(struct sr_cm_machine *m, struct sr_cm_conn *c)
{
	m->ops.send(m->ops.arg, &c->path, c->last);
}

void sr_cm_say_last(struct sr_cm_machine *m, struct sr_cm_conn *c, const struct sr_cm_mad *out)
{
	if (sr_cm_encode(out, c->last))
		sr_cm_say_again(m, c);
}

void sr_cm_ask(struct sr_cm_machine *m, struct sr_cm_conn *c, const struct sr_cm_mad *out)
{
	c->response_ns = sr_cm_code_ns(SR_CM_RESPONSE_TIMEOUT) + 2 * sr_cm_code_ns(SR_CM_PACKET_LIFE_TIME);
	c->asked_ns = m->now_ns;
	c->interval_ns = FIRST_REPEAT_NS;
	c->give_up_ns = m->now_ns + (SR_CM_MAX_RETRIES + 1) * c->response_ns;
	sr_cm_timer_set(&m->timers, &c->timer, m->now_ns + c->interval_ns);
	sr_cm_say_last(m, c, out);
}

void sr_cm_send_mra(struct sr_cm_machine *m, struct sr_cm_conn *c, uint8_t about)
{
	struct sr_cm_mad out;
	sr_cm_message(c, &out, SR_CM_MRA, (struct sr_cm_data){ 0 });
	out.mra.about = about;
	out.mra.service_timeout = SR_CM_SERVICE_TIMEOUT;
	sr_cm_say(m, &c->path, &out);
}

int sr_cm_send_rej(struct sr_cm_machine *m, struct sr_cm_conn *c, uint8_t about, uint16_t reason, struct sr_cm_data data)
{
	struct sr_cm_mad out;
	int err = sr_cm_message(c, &out, SR_CM_REJ, data);
	if (err)
		return err;
	out.rej.about = about;
	out.rej.reason = reason;
	sr_cm_say(m, &c->path, &out);
	return 0;
}

int sr_cm_send_dreq(struct sr_cm_machine *m, struct sr_cm_conn *c)
{
	struct sr_cm_mad out;
	c->tid = (uint64_t)m->ops.random(m->ops.arg) << 32 | c->local_id;
	sr_cm_message(c, &out, SR_CM_DREQ, (struct sr_cm_data){ 0 });
	out.dreq.qpn = c->terms.remote_qpn;
	c->state = SR_CM_DREQ_SENT;
	sr_cm_ask(m, c, &out);
	return 0;
}

void sr_cm_send_drep(struct sr_cm_machine *m, struct sr_cm_conn *c, uint64_t tid)
{
	struct sr_cm_mad out;
	c->tid = tid;
	sr_cm_message(c, &out, SR_CM_DREP, (struct sr_cm_data){ 0 });
	sr_cm_say(m, &c->path, &out);
}
