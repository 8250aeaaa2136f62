/*
 * The connection manager's state machine on a simulated network: every message that can be lost, doubled, late, stale or
 * forged, and that both ends agree in the end and keep nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include "cm-net.h"

#define S UINT64_C(1000000000)
#define MS UINT64_C(1000000)

static struct cm_net *n;
static struct cm_net_host *a, *b;

static int begin(void **state)
{
	(void)state;
	n = cm_net_new(42);
	a = &n->host[0];
	b = &n->host[1];
	return n == NULL;
}

/* Whatever happened: no rule of event order was broken, and with all users gone nothing is left. */
static int end(void **state)
{
	(void)state;
	int bad = n->broken != 0;
	for (int i = 0; i < 2; i++)
		sr_list_for(u, next, &n->host[i].users) cm_net_release(sr_list_entry(u, struct cm_net_user, node));
	n->loss = n->dup = n->late = 0;
	cm_net_run(n, 200 * S);
	bad |= a->machine.count != 0 || b->machine.count != 0 || sr_cm_timers_first(&a->machine.timers) != NULL;
	if (bad)
		print_error("broken %u, left %u and %u\n", n->broken, a->machine.count, b->machine.count);
	cm_net_free(n);
	return bad;
}

static void a_connection(void **state)
{
	(void)state;
	struct cm_net_user *u = cm_net_connect(a, 0);
	cm_net_run(n, 10 * MS);
	struct cm_net_user *v = b->newest;
	assert_int_equal(u->conn->state, SR_CM_ESTABLISHED);
	assert_int_equal(v->conn->state, SR_CM_ESTABLISHED);
	const struct sr_cm_terms *x = &u->conn->terms, *y = &v->conn->terms;
	assert_int_equal(x->remote_qpn, y->local_qpn);
	assert_int_equal(y->remote_qpn, x->local_qpn);
	assert_int_equal(x->rq_psn, y->sq_psn);
	assert_int_equal(y->rq_psn, x->sq_psn);
	assert_int_equal(y->initiator_depth, 3); /* READs we may answer are READs it may send */
	assert_int_equal(y->responder_resources, 5);
	assert_int_equal(x->responder_resources, 3);
	assert_int_equal(x->initiator_depth, 5);
	assert_int_equal(y->rnr_retry_count, 6);
	assert_string_equal((char *)u->last_private, "accept");
	assert_int_equal(a->sent + b->sent, 3);
	assert_int_equal(u->conn->local_id >> 24, 1);
	assert_int_equal(v->conn->local_id >> 24, 2);

	assert_int_equal(cm_net_disconnect(u), 0);
	cm_net_run(n, 10 * MS);
	assert_int_equal(u->seen[SR_CM_HAPPENED_DISCONNECTED], 1);
	assert_int_equal(v->seen[SR_CM_HAPPENED_DISCONNECTED], 1);
	assert_int_equal(u->last_status, 0);
	assert_int_equal(cm_net_disconnect(v), 0); /* agreeing to what has happened */
	assert_int_equal(a->sent + b->sent, 5);
	cm_net_run(n, 1 * S);
	assert_int_equal(u->seen[SR_CM_HAPPENED_TIMEWAIT_EXIT], 1);
	assert_int_equal(v->seen[SR_CM_HAPPENED_TIMEWAIT_EXIT], 1);
	assert_int_equal(cm_net_disconnect(u), EINVAL);
}

/* XRC: the request says so, and the reply names the target where an EE context stood. */
static void an_xrc_connection(void **state)
{
	(void)state;
	struct cm_net_user *u = cm_net_connect_xrc(a, 0xabc);
	assert_int_equal(a->last_sent[24 + 43] >> 1 & 3, 3); /* transport service type */
	assert_int_equal(a->last_sent[24 + 51] & 7, 1);	     /* extended transport type */
	cm_net_run(n, 10 * MS);
	struct cm_net_user *v = b->newest;
	struct sr_cm_mad rep;
	assert_true(sr_cm_decode(&rep, b->last_sent));
	assert_int_equal(rep.attr, SR_CM_REP);
	assert_int_equal(rep.rep.qpn, 0);
	assert_int_equal(u->conn->state, SR_CM_ESTABLISHED);
	assert_int_equal(u->conn->terms.remote_qpn, rep.rep.eecn);
	assert_int_equal(u->conn->terms.remote_qpn, v->conn->terms.local_qpn);
	assert_int_equal(v->conn->terms.remote_qpn, 0xabc);
	assert_int_equal(v->conn->terms.transport, SR_CM_XRC);
	assert_int_equal(cm_net_disconnect(v), 0);
	cm_net_run(n, 10 * MS);
	assert_int_equal(u->seen[SR_CM_HAPPENED_DISCONNECTED], 1);
}

static void many_on_a_bad_network(void **state)
{
	enum { MANY = 400 };
	static struct cm_net_user *users[MANY];
	(void)state;
	n->loss = 300;
	n->dup = 200;
	n->late = 300;
	for (int i = 0; i < MANY; i++)
		users[i] = cm_net_connect(&n->host[i % 2], 0);
	cm_net_run(n, 120 * S);
	for (int i = 0; i < MANY; i++)
		assert_int_equal(users[i]->seen[SR_CM_HAPPENED_REP], 1);
	assert_int_equal(a->requests + b->requests, MANY); /* repeated ones were recognised */
	/* A third by one side, a third by the other, a third by both at once. */
	int k = 0;
	for (int h = 0; h < 2; h++)
		sr_list_for(node, next, &n->host[h].users) {
			struct cm_net_user *u = sr_list_entry(node, struct cm_net_user, node);
			assert_int_equal(u->conn->state, SR_CM_ESTABLISHED);
			if (k++ % 3)
				assert_int_equal(cm_net_disconnect(u), 0);
		}
	cm_net_run(n, 200 * S);
	for (int h = 0; h < 2; h++)
		sr_list_for(node, next, &n->host[h].users) {
			struct cm_net_user *u = sr_list_entry(node, struct cm_net_user, node);
			assert_int_equal(u->seen[SR_CM_HAPPENED_ESTABLISHED] + u->seen[SR_CM_HAPPENED_REP], 1);
			assert_in_range(u->seen[SR_CM_HAPPENED_DISCONNECTED], 0, 1);
		}
}

static void one_lost(enum sr_cm_attr attr)
{
	struct cm_net_user *u = cm_net_connect(a, 0);
	b->accept = attr != SR_CM_REP;
	a->accept = attr != SR_CM_RTU;
	cm_net_run(n, 5 * MS);
	(attr == SR_CM_REP ? b : a)->mute = true;
	a->accept = b->accept = true;
	cm_net_run(n, 5 * MS);
	a->mute = b->mute = false;
	cm_net_run(n, 1 * S);
	assert_int_equal(u->conn->state, SR_CM_ESTABLISHED);
	assert_int_equal(b->newest->conn->state, SR_CM_ESTABLISHED);
	assert_int_equal(b->requests, 1);
}

static void a_lost_reply(void **state)
{
	(void)state;
	one_lost(SR_CM_REP);
}

static void a_lost_rtu(void **state)
{
	(void)state;
	one_lost(SR_CM_RTU);
}

/* The RTU is lost, and the peer goes at once: it was connected before it was disconnected. */
static void a_lost_rtu_and_a_disconnect(void **state)
{
	(void)state;
	a->accept = false;
	struct cm_net_user *u = cm_net_connect(a, 0);
	cm_net_run(n, 5 * MS);
	a->mute = true;
	assert_int_equal(sr_cm_establish(&a->machine, u->conn, n->now_ns), 0);
	a->mute = false;
	assert_int_equal(cm_net_disconnect(u), 0);
	cm_net_run(n, 5 * MS);
	assert_int_equal(b->newest->seen[SR_CM_HAPPENED_ESTABLISHED], 1);
	assert_int_equal(b->newest->seen[SR_CM_HAPPENED_DISCONNECTED], 1);
}

static void nobody_there(void **state)
{
	(void)state;
	struct cm_net_user *u = cm_net_connect(a, 0);
	b->mute = true;
	b->answer = -1;
	cm_net_run(n, 60 * S);
	assert_int_equal(u->seen[SR_CM_HAPPENED_UNREACHABLE], 0);
	cm_net_run(n, 30 * S); /* sixteen times the 4.8 s of the kernel */
	assert_int_equal(u->seen[SR_CM_HAPPENED_UNREACHABLE], 1);
	assert_int_equal(u->last_status, -ETIMEDOUT);
	struct sr_cm_mad last;
	assert_true(sr_cm_decode(&last, a->last_sent));
	assert_int_equal(last.attr, SR_CM_REJ);
	assert_int_equal(last.rej.reason, SR_CM_REJ_TIMEOUT);
	assert_int_equal(b->machine.count, 0);
	assert_int_equal(b->machine.counters.unanswered, b->requests);
}

/* No process has the port there: known after a moment, in which one may come up; also when most of what comes back is lost. */
static void a_host_without_the_port(void **state)
{
	(void)state;
	b->closed = true;
	for (n->loss = 0; n->loss < 1000; n->loss += 700) {
		struct cm_net_user *u = cm_net_connect(a, 0), *asks = cm_net_ask(a);
		cm_net_run(n, 200 * MS);
		assert_int_equal(u->seen[SR_CM_HAPPENED_UNREACHABLE] + asks->seen[SR_CM_HAPPENED_UNREACHABLE], 0);
		cm_net_run(n, n->loss ? 30 * S : 200 * MS);
		assert_int_equal(u->seen[SR_CM_HAPPENED_UNREACHABLE], 1);
		assert_int_equal(u->last_status, -ECONNREFUSED);
		assert_int_equal(asks->last_status, -ECONNREFUSED);
	}
	n->loss = 0;
	struct cm_net_user *u = cm_net_connect(a, 0);
	cm_net_run(n, 200 * MS);
	b->closed = false;
	cm_net_run(n, 1 * S);
	assert_int_equal(u->conn->state, SR_CM_ESTABLISHED);
}

/* The peer answered the goodbye and ended; the answer was lost. */
static void a_lost_goodbye(void **state)
{
	(void)state;
	struct cm_net_user *u = cm_net_connect(a, 0);
	cm_net_run(n, 10 * MS);
	b->mute = true;
	assert_int_equal(cm_net_disconnect(u), 0);
	cm_net_run(n, 10 * MS);
	b->mute = false;
	b->closed = true;
	cm_net_run(n, 1 * S);
	assert_int_equal(u->seen[SR_CM_HAPPENED_DISCONNECTED], 1);
	assert_int_equal(u->last_status, 0);
}

/* "Returned" is believed of what was sent last, to that host, and only while it waits for an answer. */
static void forged_returns_change_nothing(void **state)
{
	(void)state;
	struct cm_net_user *u = cm_net_connect(a, 0);
	uint8_t mad[SR_CM_MAD_BYTES];
	struct sr_gsi_path path = { .local = a->gid, .remote = b->gid };
	memcpy(mad, a->last_sent, sizeof(mad));
	for (unsigned i = 0; i < sizeof(mad); i++) {
		mad[i] ^= 1;
		for (int times = 0; times < 10; times++)
			sr_cm_returned(&a->machine, n->now_ns + S, &path, mad);
		mad[i] ^= 1;
	}
	path.remote.raw[15] ^= 1;
	for (int times = 0; times < 10; times++)
		sr_cm_returned(&a->machine, n->now_ns + S, &path, mad);
	assert_int_equal(u->conn->state, SR_CM_REQ_SENT);
	assert_int_equal(a->machine.counters.unknown_id, 10 * (sizeof(mad) + 1));
	cm_net_run(n, 2 * S);
	assert_int_equal(u->conn->state, SR_CM_ESTABLISHED);
	path.remote.raw[15] ^= 1;
	sr_cm_returned(&a->machine, n->now_ns, &path, a->last_sent);
	assert_int_equal(u->conn->state, SR_CM_ESTABLISHED);
}

/* The application takes its time: repeated requests are answered with patience, and waiting goes on beyond the usual end. */
static void a_slow_application(void **state)
{
	(void)state;
	b->accept = false;
	struct cm_net_user *u = cm_net_connect(a, 0);
	cm_net_run(n, 100 * S);
	assert_int_equal(b->requests, 1);
	assert_true(a->sent < 8);
	b->accept = true;
	cm_net_run(n, 1 * S);
	assert_int_equal(u->conn->state, SR_CM_ESTABLISHED);
}

/* The client gives up before the server answers; the server hears of it. */
static void a_withdrawn_request(void **state)
{
	(void)state;
	b->accept = false;
	struct cm_net_user *u = cm_net_connect(a, 0);
	cm_net_run(n, 1 * S);
	cm_net_release(u);
	cm_net_run(n, 1 * S);
	assert_int_equal(b->newest->seen[SR_CM_HAPPENED_REJECTED], 1);
	assert_int_equal(b->newest->last_status, SR_CM_REJ_TIMEOUT);
	assert_int_equal(cm_net_accept(b->newest), EINVAL);
}

static void a_rejection(void **state)
{
	(void)state;
	b->accept = false;
	struct cm_net_user *u = cm_net_connect(a, 0);
	cm_net_run(n, 10 * MS);
	assert_int_equal(sr_cm_reject(&b->machine, b->newest->conn, n->now_ns, SR_CM_REJ_CONSUMER,
				      (struct sr_cm_data){ "go away", 8 }), 0);
	assert_int_equal(sr_cm_reject(&b->machine, b->newest->conn, n->now_ns, SR_CM_REJ_CONSUMER, (struct sr_cm_data){ 0 }), EINVAL);
	cm_net_run(n, 10 * MS);
	assert_int_equal(u->seen[SR_CM_HAPPENED_REJECTED], 1);
	assert_int_equal(u->last_status, SR_CM_REJ_CONSUMER);
	assert_string_equal((char *)u->last_private, "go away");
	uint8_t much[200] = { 0 };
	assert_int_equal(sr_cm_connect(&a->machine, u->conn, n->now_ns, 1, 1, (struct sr_cm_data){ much, 93 }), EMSGSIZE);
}

/* A service that comes a moment later is found; one that does not come is reported soon. */
static void no_such_service(void **state)
{
	(void)state;
	b->answer = SR_CM_REJ_INVALID_SERVICE_ID;
	struct cm_net_user *u = cm_net_connect(a, 0), *w;
	cm_net_run(n, 1 * S);
	assert_int_equal(u->seen[SR_CM_HAPPENED_REJECTED], 1);
	assert_int_equal(u->last_status, SR_CM_REJ_INVALID_SERVICE_ID);
	assert_int_equal(b->requests, 6);
	w = cm_net_connect(a, 0);
	cm_net_run(n, 50 * MS);
	b->answer = 0;
	cm_net_run(n, 300 * MS);
	assert_int_equal(w->conn->state, SR_CM_ESTABLISHED);
}

static void both_disconnect(void **state)
{
	(void)state;
	struct cm_net_user *u = cm_net_connect(a, 0);
	cm_net_run(n, 10 * MS);
	struct cm_net_user *v = b->newest;
	assert_int_equal(cm_net_disconnect(u), 0);
	assert_int_equal(cm_net_disconnect(v), 0);
	cm_net_run(n, 10 * MS);
	assert_int_equal(u->seen[SR_CM_HAPPENED_DISCONNECTED], 1);
	assert_int_equal(v->seen[SR_CM_HAPPENED_DISCONNECTED], 1);
	assert_int_equal(u->conn->state, SR_CM_TIMEWAIT);
	assert_int_equal(v->conn->state, SR_CM_TIMEWAIT);
}

/* The peer died without a word: its end of the connection is not answered for, and ours ends all the same. */
static void a_dead_peer(void **state)
{
	(void)state;
	struct cm_net_user *u = cm_net_connect(a, 0);
	cm_net_run(n, 10 * MS);
	b->mute = true;
	assert_int_equal(cm_net_disconnect(u), 0);
	cm_net_run(n, 90 * S);
	assert_int_equal(u->seen[SR_CM_HAPPENED_DISCONNECTED], 1);
	assert_int_equal(u->last_status, -ETIMEDOUT);
	b->mute = false;
}

/* It died and came back, and asks from the same queue pair number: the old connection is ended, then the new one can be. */
static void a_stale_connection(void **state)
{
	(void)state;
	struct cm_net_user *u = cm_net_connect(a, 0x5555);
	cm_net_run(n, 10 * MS);
	struct cm_net_user *old = b->newest;
	a->mute = true;
	cm_net_release(u); /* its goodbye is lost */
	cm_net_run(n, 60 * S);
	a->mute = false;
	assert_int_equal(old->conn->state, SR_CM_ESTABLISHED);
	u = cm_net_connect(a, 0x5555);
	cm_net_run(n, 100 * MS);
	assert_int_equal(u->seen[SR_CM_HAPPENED_REJECTED], 1);
	assert_int_equal(u->last_status, SR_CM_REJ_STALE_CONN);
	assert_int_equal(old->seen[SR_CM_HAPPENED_DISCONNECTED], 1); /* "I know of none" ends it */
	assert_int_equal(b->machine.counters.stale, 1);
	u = cm_net_connect(a, 0x5555);
	cm_net_run(n, 100 * MS);
	assert_int_equal(u->conn->state, SR_CM_ESTABLISHED);
}

static void forged(struct cm_net_user *u, enum sr_cm_attr attr, const union ibv_gid *from, uint32_t to_id, uint32_t from_id)
{
	uint8_t mad[SR_CM_MAD_BYTES];
	struct sr_cm_mad m = { .attr = (uint16_t)attr, .local_id = from_id, .remote_id = to_id };
	if (attr == SR_CM_DREQ)
		m.dreq.qpn = u->conn->terms.local_qpn;
	assert_true(sr_cm_encode(&m, mad));
	cm_net_inject(u->host, from, mad);
}

static void forgeries_change_nothing(void **state)
{
	static const enum sr_cm_attr all[] = { SR_CM_MRA, SR_CM_REJ, SR_CM_REP, SR_CM_RTU, SR_CM_DREQ, SR_CM_DREP, SR_CM_SIDR_REP };
	union ibv_gid stranger = { .raw = { [10] = 0xff, [11] = 0xff, [12] = 66 } };
	(void)state;
	b->accept = false;
	struct cm_net_user *u = cm_net_connect(a, 0), *v;
	cm_net_run(n, 10 * MS);
	v = b->newest;
	for (int phase = 0; phase < 2; phase++) {
		enum sr_cm_state before = u->conn->state, there = v->conn->state;
		uint32_t count = b->machine.count;
		for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
			forged(u, all[i], &stranger, u->conn->local_id, v->conn->local_id);
			forged(v, all[i], &stranger, v->conn->local_id, u->conn->local_id);
			forged(v, all[i], &a->gid, v->conn->local_id ^ 1, u->conn->local_id);
			if (all[i] != SR_CM_REJ && all[i] != SR_CM_MRA)
				forged(v, all[i], &a->gid, v->conn->local_id, u->conn->local_id ^ 1);
		}
		assert_int_equal(u->conn->state, before);
		assert_int_equal(v->conn->state, there);
		assert_int_equal(b->machine.count, count);
		assert_true(b->machine.counters.unknown_id > 0 && b->machine.counters.wrong_peer > 0);
		b->accept = true;
		cm_net_run(n, 1 * S);
		assert_int_equal(v->conn->state, SR_CM_ESTABLISHED);
	}
}

static void a_replayed_request(void **state)
{
	uint8_t req[SR_CM_MAD_BYTES];
	(void)state;
	struct cm_net_user *u = cm_net_connect(a, 0);
	memcpy(req, a->last_sent, sizeof(req));
	cm_net_run(n, 10 * MS);
	for (int i = 0; i < 100; i++)
		cm_net_inject(b, &a->gid, req);
	cm_net_run(n, 10 * MS);
	assert_int_equal(b->requests, 1);
	assert_int_equal(b->machine.count, 1);
	assert_int_equal(b->newest->conn->state, SR_CM_ESTABLISHED);
	assert_int_equal(u->conn->state, SR_CM_ESTABLISHED);
	cm_net_disconnect(u);
	cm_net_run(n, 10 * MS);
	cm_net_inject(b, &a->gid, req); /* in time-wait it is refused */
	assert_int_equal(b->requests, 1);
}

static void garbage_is_counted(void **state)
{
	uint8_t mad[SR_CM_MAD_BYTES] = { 1, 7, 2, 3 };
	(void)state;
	for (unsigned attr = 0; attr < 256; attr++) {
		mad[17] = (uint8_t)attr;
		memset(mad + 24, 0xff, sizeof(mad) - 24);
		cm_net_inject(b, &a->gid, mad);
	}
	memset(mad, 0, sizeof(mad));
	cm_net_inject(b, &a->gid, mad);
	assert_int_equal(b->requests, 1); /* a UD service of all ones */
	assert_true(b->machine.counters.malformed > 240);
	assert_int_equal(b->machine.count, 1);
}

static void a_service_lookup(void **state)
{
	(void)state;
	struct cm_net_user *u = cm_net_ask(a);
	cm_net_run(n, 10 * MS);
	assert_int_equal(u->seen[SR_CM_HAPPENED_SIDR], 1);
	assert_int_equal(u->last_status, SR_CM_SIDR_SUCCESS);
	assert_int_equal(u->terms.remote_qpn, 77);
	assert_int_equal(u->terms.qkey, 0x01234567);
	b->mute = true; /* the answer is lost; it is given again without asking the application */
	u = cm_net_ask(a);
	cm_net_run(n, 10 * MS);
	b->mute = false;
	cm_net_run(n, 1 * S);
	assert_int_equal(u->seen[SR_CM_HAPPENED_SIDR], 1);
	assert_int_equal(b->requests, 2);
	b->answer = SR_CM_SIDR_UNSUPPORTED;
	u = cm_net_ask(a);
	cm_net_run(n, 1 * S);
	assert_int_equal(u->last_status, SR_CM_SIDR_UNSUPPORTED);
}

static void wrong_calls_are_refused(void **state)
{
	(void)state;
	struct cm_net_user *u = cm_net_connect(a, 0);
	const struct sr_cm_data none = { 0 };
	assert_int_equal(sr_cm_connect(&a->machine, u->conn, n->now_ns, 1, 1, none), EINVAL);
	assert_int_equal(sr_cm_accept(&a->machine, u->conn, n->now_ns, 1, none), EINVAL);
	assert_int_equal(sr_cm_establish(&a->machine, u->conn, n->now_ns), EINVAL);
	assert_int_equal(cm_net_disconnect(u), EINVAL);
	assert_int_equal(sr_cm_sidr_ask(&a->machine, u->conn, n->now_ns, 1, none), EINVAL);
	cm_net_run(n, 10 * MS);
	assert_int_equal(sr_cm_establish(&a->machine, u->conn, n->now_ns), EISCONN);
}

/* Time-outs of queue pairs: the values of the kernel's formula. */
static void acknowledgement_timeouts(void **state)
{
	(void)state;
	assert_int_equal(sr_cm_ack_timeout(15, 18), 19); /* what the kernel's Soft-RoCE says, see the captures */
	assert_int_equal(sr_cm_ack_timeout(15, 16), 17);
	assert_int_equal(sr_cm_ack_timeout(15, 14), 16);
	assert_int_equal(sr_cm_ack_timeout(20, 10), 20);
	assert_int_equal(sr_cm_ack_timeout(31, 31), 31);
}

#define T(f) cmocka_unit_test_setup_teardown(f, begin, end)
int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_connection), T(many_on_a_bad_network), T(a_lost_reply), T(a_lost_rtu), T(a_lost_rtu_and_a_disconnect),
		T(nobody_there), T(a_host_without_the_port), T(a_lost_goodbye), T(forged_returns_change_nothing),
		T(a_slow_application), T(a_withdrawn_request), T(a_rejection), T(no_such_service),
		T(both_disconnect), T(a_dead_peer), T(a_stale_connection), T(forgeries_change_nothing), T(a_replayed_request),
		T(an_xrc_connection), T(garbage_is_counted), T(a_service_lookup), T(wrong_calls_are_refused), cmocka_unit_test(acknowledgement_timeouts),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
