/* cm-net.c - see cm-net.h. */
#include "cm-net.h"
#include <stdlib.h>
#include <string.h>

struct cm_net_packet {
	struct sr_list node;
	struct cm_net_host *to;
	bool returned;
	uint64_t due_ns;
	struct sr_gsi_path path;
	uint8_t mad[SR_CM_MAD_BYTES];
};

uint32_t cm_net_random(struct cm_net *n)
{
	n->random = n->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)(n->random >> 32);
}

struct cm_net_host *cm_net_other(struct cm_net_host *h) { return &h->net->host[h == &h->net->host[0]]; }

static bool happens(struct cm_net *n, unsigned of_1000) { return cm_net_random(n) % 1000 < of_1000; }

static void fly(struct cm_net *n, struct cm_net_host *to, bool returned, const struct sr_gsi_path *path, const uint8_t *mad)
{
	struct cm_net_packet *p = calloc(1, sizeof(*p));
	if (!p)
		return;
	p->to = to;
	p->returned = returned;
	p->path = *path;
	p->due_ns = n->now_ns + 100000 + (happens(n, n->late) ? (uint64_t)cm_net_random(n) % 400000000u : 0);
	memcpy(p->mad, mad, sizeof(p->mad));
	sr_list_add_tail(&n->flying, &p->node);
}

static int send_mad(void *arg, const struct sr_gsi_path *path, const uint8_t *mad)
{
	struct cm_net_host *h = arg;
	struct sr_gsi_path turned = { .local = path->remote, .remote = path->local };
	h->sent++;
	memcpy(h->last_sent, mad, sizeof(h->last_sent));
	if (h->mute)
		return 0;
	bool returned = cm_net_other(h)->closed;
	for (int copies = happens(h->net, h->net->dup) ? 2 : 1; copies; copies--)
		if (!happens(h->net, h->net->loss))
			fly(h->net, returned ? h : cm_net_other(h), returned, returned ? path : &turned, mad);
	return 0;
}

static struct cm_net_user *new_user(struct cm_net_host *h, struct sr_cm_conn *c)
{
	struct cm_net_user *u = calloc(1, sizeof(*u));
	u->host = h;
	u->conn = c;
	sr_list_add_tail(&h->users, &u->node);
	return u;
}

static int request(void *arg, struct sr_cm_conn *c, const struct sr_cm_mad *m)
{
	struct cm_net_host *h = arg;
	(void)m;
	h->requests++;
	if (h->answer)
		return h->answer;
	c->user = h->newest = new_user(h, c);
	return 0;
}

/* What no application should have to cope with. */
static bool in_order(const struct cm_net_user *u, enum sr_cm_happening_type t)
{
	const unsigned *s = u->seen;
	bool up = s[SR_CM_HAPPENED_ESTABLISHED] || s[SR_CM_HAPPENED_REP];
	switch (t) {
	case SR_CM_HAPPENED_REP:
	case SR_CM_HAPPENED_ESTABLISHED:
		return !up && !s[SR_CM_HAPPENED_REJECTED] && !s[SR_CM_HAPPENED_UNREACHABLE];
	case SR_CM_HAPPENED_REJECTED:
	case SR_CM_HAPPENED_UNREACHABLE:
		return !s[SR_CM_HAPPENED_ESTABLISHED] && !s[SR_CM_HAPPENED_DISCONNECTED] && !s[t];
	case SR_CM_HAPPENED_DISCONNECTED:
		return !s[t];
	case SR_CM_HAPPENED_TIMEWAIT_EXIT:
		return s[SR_CM_HAPPENED_DISCONNECTED] && !s[t];
	case SR_CM_HAPPENED_SIDR:
		return !s[t];
	}
	return false;
}

static void event(void *arg, struct sr_cm_conn *c, const struct sr_cm_happening *h)
{
	struct cm_net_host *host = arg;
	struct cm_net_user *u = c->user;
	if (!in_order(u, h->type) || u->conn != c)
		host->net->broken++;
	u->seen[h->type]++;
	if (h->type != SR_CM_HAPPENED_TIMEWAIT_EXIT)
		u->last_status = h->status;
	u->terms = c->terms;
	if (h->private_len >= sizeof(u->last_private))
		memcpy(u->last_private, h->private_data, sizeof(u->last_private));
}

static uint32_t random32(void *arg) { return cm_net_random(((struct cm_net_host *)arg)->net); }

struct cm_net *cm_net_new(uint64_t seed)
{
	struct cm_net *n = calloc(1, sizeof(*n));
	if (!n)
		return NULL;
	n->random = seed;
	n->now_ns = 1;
	sr_list_init(&n->flying);
	for (unsigned i = 0; i < 2; i++) {
		struct cm_net_host *h = &n->host[i];
		struct sr_cm_ops ops = { h, send_mad, event, request, random32 };
		h->net = n;
		h->gid = (union ibv_gid){ .raw = { [10] = 0xff, [11] = 0xff, [12] = 10, [15] = (uint8_t)(i + 1) } };
		h->accept = true;
		h->next_qpn = 0x100 * (i + 1);
		sr_list_init(&h->users);
		if (sr_cm_machine_init(&h->machine, &ops, i + 1)) {
			if (i)
				sr_cm_machine_free(&n->host[0].machine);
			free(n);
			return NULL;
		}
	}
	return n;
}

void cm_net_free(struct cm_net *n)
{
	sr_list_for(f, next, &n->flying) free(sr_list_entry(f, struct cm_net_packet, node));
	for (int i = 0; i < 2; i++) {
		sr_list_for(u, next, &n->host[i].users) free(sr_list_entry(u, struct cm_net_user, node));
		sr_cm_machine_free(&n->host[i].machine);
	}
	free(n);
}

int cm_net_accept(struct cm_net_user *u)
{
	static const uint8_t word[8] = "accept";
	struct sr_cm_machine *m = &u->host->machine;
	uint64_t now = u->host->net->now_ns;
	if (u->conn->state == SR_CM_SIDR_REQ_RCVD)
		return sr_cm_sidr_answer(m, u->conn, now, SR_CM_SIDR_SUCCESS, 77, 0x01234567, (struct sr_cm_data){ word, 8 });
	u->conn->terms.local_qpn = u->host->next_qpn++;
	return sr_cm_accept(m, u->conn, now, 2, (struct sr_cm_data){ word, 8 });
}

/* The applications: accept, and say RTU. */
static void answer(struct cm_net_host *h)
{
	sr_list_for(n, next, &h->users) {
		struct cm_net_user *u = sr_list_entry(n, struct cm_net_user, node);
		enum sr_cm_state s = u->conn->state;
		if (h->accept && (s == SR_CM_REQ_RCVD || s == SR_CM_SIDR_REQ_RCVD))
			(void)cm_net_accept(u);
		else if (h->accept && s == SR_CM_REP_RCVD)
			(void)sr_cm_establish(&h->machine, u->conn, h->net->now_ns);
	}
}

void cm_net_run(struct cm_net *n, uint64_t for_ns)
{
	uint64_t end = n->now_ns + for_ns;
	for (;;) {
		struct cm_net_packet *first = NULL;
		uint64_t due = end;
		for (int i = 0; i < 2; i++) {
			uint64_t next = sr_cm_run_timers(&n->host[i].machine, n->now_ns);
			due = next < due ? next : due;
			answer(&n->host[i]);
		}
		sr_list_for(f, next, &n->flying) {
			struct cm_net_packet *p = sr_list_entry(f, struct cm_net_packet, node);
			if (!first || p->due_ns < first->due_ns)
				first = p;
		}
		if (first && first->due_ns <= due) {
			if (first->due_ns > n->now_ns)
				n->now_ns = first->due_ns;
			sr_list_del(&first->node);
			(first->returned ? sr_cm_returned : sr_cm_receive)(&first->to->machine, n->now_ns, &first->path, first->mad);
			free(first);
			continue;
		}
		n->now_ns = due;
		if (due == end)
			return;
	}
}

void cm_net_inject(struct cm_net_host *to, const union ibv_gid *from, const uint8_t mad[SR_CM_MAD_BYTES])
{
	struct sr_gsi_path path = { .local = to->gid, .remote = *from };
	sr_cm_receive(&to->machine, to->net->now_ns, &path, mad);
}

static struct cm_net_user *begin(struct cm_net_host *h)
{
	struct sr_gsi_path path = { .local = h->gid, .remote = cm_net_other(h)->gid };
	struct cm_net_user *u = new_user(h, NULL);
	u->conn = sr_cm_conn_new(&h->machine, u, &path);
	return u;
}

static struct cm_net_user *connect_as(struct cm_net_host *h, uint32_t qpn, enum sr_cm_transport transport)
{
	static const uint8_t word[8] = "connect";
	struct cm_net_user *u = begin(h);
	u->conn->terms = (struct sr_cm_terms){ .local_qpn = qpn ? qpn : h->next_qpn++, .responder_resources = 3, .initiator_depth = 5,
					       .retry_count = 7, .rnr_retry_count = 6, .mtu = 3, .ack_timeout = 17,
					       .transport = transport };
	(void)sr_cm_connect(&h->machine, u->conn, h->net->now_ns, CM_NET_SERVICE, 1, (struct sr_cm_data){ word, 8 });
	return u;
}

struct cm_net_user *cm_net_connect(struct cm_net_host *h, uint32_t qpn) { return connect_as(h, qpn, SR_CM_RC); }
struct cm_net_user *cm_net_connect_xrc(struct cm_net_host *h, uint32_t qpn) { return connect_as(h, qpn, SR_CM_XRC); }

struct cm_net_user *cm_net_ask(struct cm_net_host *h)
{
	struct cm_net_user *u = begin(h);
	(void)sr_cm_sidr_ask(&h->machine, u->conn, h->net->now_ns, CM_NET_UD_SERVICE, (struct sr_cm_data){ 0 });
	return u;
}

int cm_net_disconnect(struct cm_net_user *u) { return sr_cm_disconnect(&u->host->machine, u->conn, u->host->net->now_ns); }

void cm_net_release(struct cm_net_user *u)
{
	sr_cm_release(&u->host->machine, u->conn, u->host->net->now_ns);
	sr_list_del(&u->node);
	if (u->host->newest == u)
		u->host->newest = NULL;
	free(u);
}

bool cm_net_end(struct cm_net *n)
{
	for (int i = 0; i < 2; i++) {
		n->host[i].mute = n->host[i].closed = false;
		n->host[i].answer = -1; /* nobody takes what comes late */
		sr_list_for(u, next, &n->host[i].users) cm_net_release(sr_list_entry(u, struct cm_net_user, node));
	}
	cm_net_run(n, UINT64_C(400) * 1000000000);
	bool well = !n->broken && !n->host[0].machine.count && !n->host[1].machine.count;
	cm_net_free(n);
	return well;
}
