/*
 * Two connection managers, one of them hearing what the fuzzer says: each byte is a step (time passes, an application acts, a
 * message of the fuzzer's arrives that names real or invented IDs). Applications must see events in a possible order, and when all
 * is over nothing may be left.
 */
#include <stdlib.h>
#include <string.h>
#include "test/cm-net.h"

#define USERS 16

struct input {
	const uint8_t *at, *end;
};

static uint8_t byte(struct input *in) { return in->at < in->end ? *in->at++ : 0; }

static struct cm_net_user *some_user(struct cm_net_host *h, uint8_t which)
{
	unsigned i = 0;
	sr_list_for(n, next, &h->users)
		if (i++ == which % USERS)
			return sr_list_entry(n, struct cm_net_user, node);
	return NULL;
}

/* A message made of the input, its IDs those of living connections or near them. */
static void forge(struct cm_net *n, struct input *in)
{
	struct cm_net_host *to = &n->host[byte(in) & 1], *from = cm_net_other(to);
	struct cm_net_user *u = some_user(to, byte(in)), *v = some_user(from, byte(in));
	uint8_t mad[SR_CM_MAD_BYTES], how = byte(in);
	struct sr_cm_mad m = { .attr = (uint16_t)(SR_CM_REQ + byte(in) % 9) };
	union ibv_gid gid = from->gid;
	if (how & 1)
		gid.raw[15] = byte(in);
	m.local_id = v ? v->conn->local_id : byte(in);
	m.remote_id = u ? u->conn->local_id : byte(in);
	if (how & 2)
		m.local_id ^= byte(in);
	if (how & 4)
		m.remote_id ^= byte(in);
	uint8_t *body = (uint8_t *)&m.req;
	if (m.attr == SR_CM_REQ) {
		m.req = (struct sr_cm_req){ .service_id = CM_NET_SERVICE, .qpn = byte(in), .mtu = byte(in) % 8, .transport = byte(in) % 4,
					    .primary.ack_timeout = byte(in) % 32 };
	} else if (m.attr == SR_CM_DREQ) {
		m.dreq.qpn = u ? u->conn->terms.local_qpn ^ (how & 8) : 0;
	} else {
		for (int i = 0; i < 8; i++)
			body[i] = byte(in);
	}
	if (m.attr == SR_CM_REJ)
		m.rej.info_len %= SR_CM_ARI_BYTES + 1;
	if (sr_cm_encode(&m, mad))
		cm_net_inject(to, &gid, mad);
}

static void act(struct cm_net *n, struct input *in, uint8_t what)
{
	struct cm_net_host *h = &n->host[what >> 3 & 1];
	struct cm_net_user *u = some_user(h, byte(in));
	switch (what & 7) {
	case 0:
		cm_net_connect(h, byte(in));
		break;
	case 1:
		cm_net_ask(h);
		break;
	case 2:
		if (u)
			(void)cm_net_disconnect(u);
		break;
	case 3:
		if (u)
			cm_net_release(u);
		break;
	case 4:
		if (u)
			(void)sr_cm_reject(&h->machine, u->conn, n->now_ns, byte(in), (struct sr_cm_data){ 0 });
		break;
	case 5:
		if (u)
			(void)sr_cm_establish(&h->machine, u->conn, n->now_ns);
		break;
	case 6:
		h->accept = byte(in) & 1;
		h->answer = h->accept ? 0 : (int8_t)byte(in);
		break;
	case 7:
		h->mute = byte(in) & 1;
		h->closed = byte(in) & 1;
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, data + size };
	struct cm_net *n = cm_net_new(byte(&in));
	if (!n)
		return 0;
	n->loss = byte(&in);
	n->dup = byte(&in);
	n->late = byte(&in);
	for (unsigned steps = 0; in.at < in.end && steps < 200; steps++) {
		uint8_t what = byte(&in);
		if (what < 96)
			act(n, &in, what);
		else if (what < 192)
			forge(n, &in);
		else
			cm_net_run(n, UINT64_C(1000000) << (what & 15));
	}
	if (!cm_net_end(n))
		abort();
	return 0;
}
