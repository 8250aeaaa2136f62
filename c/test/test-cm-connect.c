/*
 * rdma_cm as a program uses it, in a network namespace of its own: both ends in this process, or one in a child. What travels
 * are real messages on queue pair 1. Needs the right to make a namespace (root, or user namespaces).
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <rdma/rdma_cma.h>
#include <rdma/rdma_verbs.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "netns.h"
#include "softrdma/cm/cm.h"

#define PATIENCE_MS 20000

static struct rdma_event_channel *channel;

static struct sockaddr *v4(const char *ip, uint16_t port)
{
	static struct sockaddr_in sa[4];
	static int next;
	struct sockaddr_in *s = &sa[next++ % 4];
	*s = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(port) };
	assert_int_equal(inet_pton(AF_INET, ip, &s->sin_addr), 1);
	return (struct sockaddr *)s;
}

static struct sockaddr *v6(const char *ip, uint16_t port)
{
	static struct sockaddr_in6 sa[4];
	static int next;
	struct sockaddr_in6 *s = &sa[next++ % 4];
	*s = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_port = htons(port) };
	assert_int_equal(inet_pton(AF_INET6, ip, &s->sin6_addr), 1);
	return (struct sockaddr *)s;
}

static bool waiting(void)
{
	struct pollfd f = { .fd = channel->fd, .events = POLLIN };
	return poll(&f, 1, 0) == 1;
}

/* The next event, which must be of that type, except that time-wait exits are passed over. The caller acknowledges it. */
static struct rdma_cm_event *next(enum rdma_cm_event_type type)
{
	struct rdma_cm_event *e;
	for (;;) {
		struct pollfd f = { .fd = channel->fd, .events = POLLIN };
		assert_int_equal(poll(&f, 1, PATIENCE_MS), 1);
		assert_int_equal(rdma_get_cm_event(channel, &e), 0);
		if (e->event != RDMA_CM_EVENT_TIMEWAIT_EXIT || type == RDMA_CM_EVENT_TIMEWAIT_EXIT)
			break;
		rdma_ack_cm_event(e);
	}
	if (e->event != type)
		print_error("%s (%d) instead of %s\n", rdma_event_str(e->event), e->status, rdma_event_str(type));
	assert_int_equal(e->event, type);
	return e;
}

static struct rdma_cm_id *expect(enum rdma_cm_event_type type, int status)
{
	struct rdma_cm_event *e = next(type);
	struct rdma_cm_id *id = e->id;
	assert_int_equal(e->status, status);
	rdma_ack_cm_event(e);
	return id;
}

static struct rdma_cm_id *create(enum rdma_port_space ps)
{
	struct rdma_cm_id *id;
	assert_int_equal(rdma_create_id(channel, &id, (void *)0x77, ps), 0);
	return id;
}

static struct rdma_cm_id *listener(struct sockaddr *at, enum rdma_port_space ps)
{
	struct rdma_cm_id *l = create(ps);
	assert_int_equal(rdma_bind_addr(l, at), 0);
	assert_int_equal(rdma_listen(l, 0), 0);
	return l;
}

static struct rdma_cm_id *resolved(struct sockaddr *to, enum rdma_port_space ps)
{
	struct rdma_cm_id *c = create(ps);
	assert_int_equal(rdma_resolve_addr(c, NULL, to, 1000), 0);
	assert_ptr_equal(expect(RDMA_CM_EVENT_ADDR_RESOLVED, 0), c);
	assert_int_equal(rdma_resolve_route(c, 1000), 0);
	assert_ptr_equal(expect(RDMA_CM_EVENT_ROUTE_RESOLVED, 0), c);
	return c;
}

static struct ibv_cq *shared_cq; /* of all queue pairs, if there is one: each its own takes two descriptors */

static void make_qp(struct rdma_cm_id *id)
{
	struct ibv_qp_init_attr attr = { .cap = { 4, 4, 1, 1, 16 }, .qp_type = id->qp_type, .sq_sig_all = 1,
					 .send_cq = shared_cq, .recv_cq = shared_cq };
	assert_int_equal(rdma_create_qp(id, NULL, &attr), 0);
	assert_non_null(id->qp);
	assert_true(shared_cq || id->send_cq);
}

static void destroy(struct rdma_cm_id *id)
{
	rdma_destroy_qp(id);
	assert_int_equal(rdma_destroy_id(id), 0);
}

static struct rdma_conn_param param(const char *text)
{
	return (struct rdma_conn_param){ .private_data = text, .private_data_len = text ? (uint8_t)(strlen(text) + 1) : 0,
					 .responder_resources = 2, .initiator_depth = 3, .retry_count = 5, .rnr_retry_count = 4 };
}

struct pair {
	struct rdma_cm_id *client, *server;
};

static struct pair connect_to(struct sockaddr *to)
{
	struct pair p;
	struct rdma_conn_param ask = param("hello"), answer = param("welcome");
	p.client = resolved(to, RDMA_PS_TCP);
	make_qp(p.client);
	assert_int_equal(rdma_connect(p.client, &ask), 0);
	struct rdma_cm_event *e = next(RDMA_CM_EVENT_CONNECT_REQUEST);
	p.server = e->id;
	assert_int_equal(e->param.conn.private_data_len, 56);
	assert_string_equal(e->param.conn.private_data, "hello");
	assert_int_equal(e->param.conn.responder_resources, 3);
	assert_int_equal(e->param.conn.initiator_depth, 2);
	assert_int_equal(e->param.conn.qp_num, p.client->qp->qp_num);
	assert_ptr_equal(p.server->context, (void *)0x77);
	rdma_ack_cm_event(e);
	make_qp(p.server);
	answer.responder_resources = 3;
	answer.initiator_depth = 2;
	assert_int_equal(rdma_accept(p.server, &answer), 0);
	for (int i = 0; i < 2; i++) {
		e = next(RDMA_CM_EVENT_ESTABLISHED);
		assert_int_equal(e->status, 0);
		if (e->id == p.client)
			assert_string_equal(e->param.conn.private_data, "welcome");
		rdma_ack_cm_event(e);
	}
	return p;
}

static void disconnect(struct pair p)
{
	assert_int_equal(rdma_disconnect(p.client), 0);
	expect(RDMA_CM_EVENT_DISCONNECTED, 0);
	expect(RDMA_CM_EVENT_DISCONNECTED, 0);
	assert_int_equal(rdma_disconnect(p.server), 0);
	destroy(p.client);
	destroy(p.server);
}

static void send_over(struct pair p)
{
	char out[32] = "over the new connection", in[32] = "";
	struct ibv_wc wc;
	struct ibv_mr *mr = rdma_reg_msgs(p.server, in, sizeof(in)), *ms = rdma_reg_msgs(p.client, out, sizeof(out));
	assert_non_null(mr);
	assert_non_null(ms);
	assert_int_equal(rdma_post_recv(p.server, NULL, in, sizeof(in), mr), 0);
	assert_int_equal(rdma_post_send(p.client, NULL, out, sizeof(out), ms, 0), 0);
	assert_int_equal(rdma_get_recv_comp(p.server, &wc), 1);
	assert_int_equal(wc.status, IBV_WC_SUCCESS);
	assert_int_equal(rdma_get_send_comp(p.client, &wc), 1);
	assert_int_equal(wc.status, IBV_WC_SUCCESS);
	assert_string_equal(in, out);
	rdma_dereg_mr(mr);
	rdma_dereg_mr(ms);
}

static void connections(void **state)
{
	struct sockaddr *to[] = { v4("127.0.0.1", 7000), v4("10.5.0.1", 7000), v6("fd05::1", 7000), v4("0.0.0.0", 7000) };
	(void)state;
	struct rdma_cm_id *l = listener(v6("::", 7000), RDMA_PS_TCP);
	for (size_t i = 0; i < sizeof(to) / sizeof(*to); i++) {
		struct pair p = connect_to(to[i]);
		assert_int_equal(ntohs(rdma_get_dst_port(p.client)), 7000);
		assert_int_equal(ntohs(rdma_get_src_port(p.server)), 7000);
		assert_int_equal(rdma_get_dst_port(p.server), rdma_get_src_port(p.client));
		assert_int_equal(p.client->route.num_paths, 1);
		assert_int_equal(ntohs(p.client->route.path_rec->pkey), 0xffff);
		struct ibv_qp_attr attr;
		struct ibv_qp_init_attr init;
		assert_int_equal(ibv_query_qp(p.server->qp, &attr, IBV_QP_STATE, &init), 0);
		assert_int_equal(attr.qp_state, IBV_QPS_RTS);
		assert_int_equal(attr.max_rd_atomic, 2);
		assert_int_equal(attr.max_dest_rd_atomic, 3);
		assert_int_equal(attr.retry_cnt, 5);
		send_over(p);
		disconnect(p);
	}
	destroy(l);
}

static void the_descriptor_tells_the_truth(void **state)
{
	struct rdma_cm_event *e;
	(void)state;
	assert_false(waiting());
	assert_int_equal(fcntl(channel->fd, F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(rdma_get_cm_event(channel, &e), -1);
	assert_int_equal(errno, EAGAIN);
	struct rdma_cm_id *id = create(RDMA_PS_TCP);
	assert_int_equal(rdma_resolve_addr(id, NULL, v4("127.0.0.1", 1), 0), 0);
	assert_true(waiting());
	assert_int_equal(rdma_get_cm_event(channel, &e), 0);
	assert_false(waiting());
	rdma_ack_cm_event(e);
	assert_int_equal(rdma_resolve_route(id, 0), 0);
	assert_true(waiting());
	assert_int_equal(rdma_destroy_id(id), 0); /* with an event nobody has fetched */
	assert_false(waiting());
	assert_int_equal(fcntl(channel->fd, F_SETFL, 0), 0);
}

static void ports(void **state)
{
	int on = 1, off = 0;
	(void)state;
	struct rdma_cm_id *l = listener(v4("10.5.0.1", 7001), RDMA_PS_TCP), *m = create(RDMA_PS_TCP);
	assert_int_equal(rdma_bind_addr(m, v4("10.5.0.1", 7001)), -1);
	assert_int_equal(errno, EADDRINUSE);
	assert_int_equal(rdma_bind_addr(m, v6("::", 7001)), -1); /* of both families */
	assert_int_equal(rdma_set_option(m, RDMA_OPTION_ID, RDMA_OPTION_ID_AFONLY, &on, sizeof(on)), 0);
	assert_int_equal(rdma_bind_addr(m, v6("::", 7001)), 0);
	assert_int_equal(rdma_set_option(m, RDMA_OPTION_ID, RDMA_OPTION_ID_AFONLY, &off, sizeof(off)), -1);
	destroy(m);
	m = listener(v4("127.0.0.1", 7001), RDMA_PS_TCP); /* another address */
	struct rdma_cm_id *u = listener(v4("10.5.0.1", 7001), RDMA_PS_UDP); /* another space */
	destroy(u);
	destroy(m);
	m = create(RDMA_PS_TCP);
	assert_int_equal(rdma_bind_addr(m, v4("10.5.0.99", 7001)), -1);
	assert_int_equal(errno, EADDRNOTAVAIL);
	assert_int_equal(rdma_bind_addr(m, v4("10.5.0.1", 0)), 0);
	assert_in_range(ntohs(rdma_get_src_port(m)), 32768, 60999);
	assert_int_equal(rdma_bind_addr(m, v4("10.5.0.1", 0)), -1);
	assert_non_null(m->verbs);
	destroy(m);
	destroy(l);
	/* Two that agree to share may bind, one of them may listen. */
	l = create(RDMA_PS_TCP), m = create(RDMA_PS_TCP);
	assert_int_equal(rdma_set_option(l, RDMA_OPTION_ID, RDMA_OPTION_ID_REUSEADDR, &on, sizeof(on)), 0);
	assert_int_equal(rdma_set_option(m, RDMA_OPTION_ID, RDMA_OPTION_ID_REUSEADDR, &on, sizeof(on)), 0);
	assert_int_equal(rdma_bind_addr(l, v4("10.5.0.1", 7001)), 0);
	assert_int_equal(rdma_bind_addr(m, v4("10.5.0.1", 7001)), 0);
	assert_int_equal(rdma_listen(l, 1), 0);
	assert_int_equal(rdma_listen(m, 1), -1);
	assert_int_equal(errno, EADDRINUSE);
	destroy(l);
	destroy(m);
	l = create(RDMA_PS_TCP);
	assert_int_equal(rdma_listen(l, 1), 0); /* unbound: any address, some port */
	assert_true(ntohs(rdma_get_src_port(l)) >= 32768);
	destroy(l);
}

/* The listener of the most specific address gets the request. */
static void the_nearest_listener(void **state)
{
	(void)state;
	struct rdma_cm_id *any = listener(v6("::", 7002), RDMA_PS_TCP), *l;
	int on = 1;
	l = create(RDMA_PS_TCP);
	assert_int_equal(rdma_set_option(l, RDMA_OPTION_ID, RDMA_OPTION_ID_REUSEADDR, &on, sizeof(on)), 0);
	assert_int_equal(rdma_bind_addr(l, v4("10.5.0.1", 7002)), -1); /* overlaps */
	destroy(l);
	destroy(any);
	any = listener(v4("127.0.0.1", 7002), RDMA_PS_TCP);
	l = listener(v4("10.5.0.1", 7002), RDMA_PS_TCP);
	struct rdma_cm_id *c = resolved(v4("10.5.0.1", 7002), RDMA_PS_TCP);
	struct rdma_conn_param p = param(NULL);
	assert_int_equal(rdma_connect(c, &p), 0);
	struct rdma_cm_event *e = next(RDMA_CM_EVENT_CONNECT_REQUEST);
	assert_ptr_equal(e->listen_id, l);
	struct rdma_cm_id *s = e->id;
	rdma_ack_cm_event(e);
	assert_int_equal(rdma_reject(s, "no", 3), 0);
	e = next(RDMA_CM_EVENT_REJECTED);
	assert_ptr_equal(e->id, c);
	assert_int_equal(e->status, 28);
	assert_string_equal(e->param.conn.private_data, "no");
	rdma_ack_cm_event(e);
	destroy(s);
	destroy(c);
	destroy(l);
	destroy(any);
}

/* A listener that goes away with requests in its queue: their senders are told that there is no such service. */
static void an_unfetched_request(void **state)
{
	(void)state;
	struct rdma_cm_id *l = listener(v4("10.5.0.1", 7003), RDMA_PS_TCP), *c = resolved(v4("10.5.0.1", 7003), RDMA_PS_TCP);
	struct rdma_conn_param p = param(NULL);
	assert_int_equal(rdma_connect(c, &p), 0);
	struct pollfd f = { .fd = channel->fd, .events = POLLIN };
	assert_int_equal(poll(&f, 1, PATIENCE_MS), 1);
	destroy(l);
	assert_ptr_equal(expect(RDMA_CM_EVENT_REJECTED, 8), c);
	destroy(c);
}

/* An application that manages its own queue pair. */
static void without_a_queue_pair(void **state)
{
	(void)state;
	struct rdma_cm_id *l = listener(v4("10.5.0.1", 7004), RDMA_PS_TCP), *c = resolved(v4("10.5.0.1", 7004), RDMA_PS_TCP), *s;
	struct rdma_conn_param p = param(NULL);
	p.qp_num = 0x4711;
	assert_int_equal(rdma_connect(c, &p), 0);
	struct rdma_cm_event *e = next(RDMA_CM_EVENT_CONNECT_REQUEST);
	assert_int_equal(e->param.conn.qp_num, 0x4711);
	s = e->id;
	rdma_ack_cm_event(e);
	p.qp_num = 0x4712;
	assert_int_equal(rdma_accept(s, &p), 0);
	e = next(RDMA_CM_EVENT_CONNECT_RESPONSE);
	assert_int_equal(e->param.conn.qp_num, 0x4712);
	rdma_ack_cm_event(e);
	struct ibv_qp_attr mine = { .qp_state = IBV_QPS_RTR }, theirs = { .qp_state = IBV_QPS_RTS };
	int mask;
	assert_int_equal(rdma_init_qp_attr(c, &mine, &mask), 0);
	assert_int_equal(mine.dest_qp_num, 0x4712);
	assert_true(mask & IBV_QP_AV);
	assert_int_equal(rdma_init_qp_attr(s, &theirs, &mask), 0);
	assert_int_equal(theirs.sq_psn, mine.rq_psn);
	assert_int_equal(rdma_establish(c), 0);
	expect(RDMA_CM_EVENT_ESTABLISHED, 0);
	assert_int_equal(rdma_notify(s, IBV_EVENT_COMM_EST), 0); /* nothing new */
	assert_int_equal(rdma_notify(s, IBV_EVENT_QP_FATAL), -1);
	assert_int_equal(rdma_disconnect(s), 0);
	expect(RDMA_CM_EVENT_DISCONNECTED, 0);
	expect(RDMA_CM_EVENT_DISCONNECTED, 0);
	expect(RDMA_CM_EVENT_TIMEWAIT_EXIT, 0);
	destroy(s);
	destroy(c);
	destroy(l);
}

static void a_udp_service(void **state)
{
	(void)state;
	struct rdma_cm_id *l = listener(v4("10.5.0.1", 7005), RDMA_PS_UDP), *c = resolved(v4("10.5.0.1", 7005), RDMA_PS_UDP), *s;
	struct rdma_conn_param p = param("who is there");
	make_qp(c);
	assert_int_equal(c->qp->qp_type, IBV_QPT_UD);
	assert_int_equal(rdma_connect(c, &p), 0);
	struct rdma_cm_event *e = next(RDMA_CM_EVENT_CONNECT_REQUEST);
	assert_string_equal(e->param.ud.private_data, "who is there");
	s = e->id;
	rdma_ack_cm_event(e);
	make_qp(s);
	p = param("me");
	assert_int_equal(rdma_accept(s, &p), 0);
	e = next(RDMA_CM_EVENT_ESTABLISHED);
	assert_ptr_equal(e->id, c);
	assert_int_equal(e->param.ud.qp_num, s->qp->qp_num);
	assert_int_equal(e->param.ud.qkey, RDMA_UDP_QKEY);
	assert_string_equal(e->param.ud.private_data, "me");
	struct ibv_ah *ah = ibv_create_ah(c->pd, &e->param.ud.ah_attr);
	assert_non_null(ah);
	ibv_destroy_ah(ah);
	rdma_ack_cm_event(e);
	assert_int_equal(rdma_disconnect(c), -1);
	destroy(s);
	destroy(c);
	destroy(l);
	c = resolved(v4("10.5.0.1", 7005), RDMA_PS_UDP);
	assert_int_equal(rdma_connect(c, NULL), 0);
	assert_ptr_equal(expect(RDMA_CM_EVENT_UNREACHABLE, 1), c);
	destroy(c);
}

static void groups(void **state)
{
	(void)state;
	struct rdma_cm_id *id = create(RDMA_PS_UDP);
	assert_int_equal(rdma_join_multicast(id, v4("239.1.1.1", 0), NULL), -1); /* not bound to a device */
	assert_int_equal(rdma_bind_addr(id, v4("10.5.0.1", 0)), 0);
	make_qp(id);
	assert_int_equal(rdma_join_multicast(id, v4("10.5.0.1", 0), NULL), -1);
	assert_int_equal(rdma_join_multicast(id, v4("239.1.1.1", 0), (void *)0x99), 0);
	struct rdma_cm_event *e = next(RDMA_CM_EVENT_MULTICAST_JOIN);
	static const uint8_t mgid[16] = { [10] = 0xff, [11] = 0xff, [12] = 239, 1, 1, 1 };
	assert_memory_equal(e->param.ud.ah_attr.grh.dgid.raw, mgid, 16);
	assert_int_equal(e->param.ud.qp_num, 0xffffff);
	assert_int_equal(e->param.ud.qkey, RDMA_UDP_QKEY);
	assert_ptr_equal(e->param.ud.private_data, (void *)0x99);
	rdma_ack_cm_event(e);
	assert_int_equal(rdma_leave_multicast(id, v4("239.1.1.2", 0)), -1);
	assert_int_equal(rdma_leave_multicast(id, v4("239.1.1.1", 0)), 0);
	struct rdma_cm_join_mc_attr_ex ex = { .comp_mask = RDMA_CM_JOIN_MC_ATTR_ADDRESS | RDMA_CM_JOIN_MC_ATTR_JOIN_FLAGS,
					      .join_flags = RDMA_MC_JOIN_FLAG_SENDONLY_FULLMEMBER, .addr = v6("ff0e::77", 0) };
	assert_int_equal(rdma_join_multicast_ex(id, &ex, NULL), 0);
	ex.join_flags = RDMA_MC_JOIN_FLAG_RESERVED;
	assert_int_equal(rdma_join_multicast_ex(id, &ex, NULL), -1);
	destroy(id); /* with an event nobody has fetched */
	assert_false(waiting());
}

static void *serve(void *arg)
{
	struct rdma_cm_id *l = arg, *s;
	struct ibv_wc wc;
	char in[16] = "";
	if (rdma_get_request(l, &s))
		return "rdma_get_request";
	struct ibv_mr *mr = rdma_reg_msgs(s, in, sizeof(in));
	if (!mr || rdma_post_recv(s, NULL, in, sizeof(in), mr))
		return "rdma_post_recv";
	if (rdma_accept(s, NULL))
		return "rdma_accept";
	if (rdma_get_recv_comp(s, &wc) != 1 || wc.status || strcmp(in, "synchronous") != 0)
		return "rdma_get_recv_comp";
	if (rdma_disconnect(s))
		return "rdma_disconnect";
	rdma_dereg_mr(mr);
	rdma_destroy_ep(s);
	return NULL;
}

static void the_synchronous_way(void **state)
{
	struct rdma_addrinfo hints = { .ai_flags = RAI_PASSIVE, .ai_port_space = RDMA_PS_TCP }, *res;
	struct ibv_qp_init_attr attr = { .cap = { 2, 2, 1, 1, 16 }, .sq_sig_all = 1 };
	struct rdma_cm_id *l, *c;
	struct ibv_wc wc;
	pthread_t thread;
	void *failed;
	(void)state;
	assert_int_equal(rdma_getaddrinfo("10.5.0.1", "7006", &hints, &res), 0);
	assert_int_equal(rdma_create_ep(&l, res, NULL, &attr), 0);
	rdma_freeaddrinfo(res);
	assert_int_equal(rdma_listen(l, 0), 0);
	assert_int_equal(pthread_create(&thread, NULL, serve, l), 0);
	hints.ai_flags = 0;
	assert_int_equal(rdma_getaddrinfo("10.5.0.1", "7006", &hints, &res), 0);
	assert_int_equal(rdma_create_ep(&c, res, NULL, &attr), 0);
	assert_int_equal(rdma_connect(c, NULL), 0);
	assert_int_equal(rdma_post_send(c, NULL, "synchronous", 12, NULL, IBV_SEND_INLINE), 0);
	assert_int_equal(rdma_get_send_comp(c, &wc), 1);
	pthread_join(thread, &failed);
	if (failed)
		print_error("%s: %s\n", (char *)failed, strerror(errno));
	assert_null(failed);
	assert_int_equal(rdma_disconnect(c), 0);
	rdma_destroy_ep(c);
	rdma_destroy_ep(l);
	assert_int_equal(rdma_create_ep(&c, res, NULL, &attr), 0);
	rdma_freeaddrinfo(res);
	assert_int_equal(rdma_connect(c, NULL), -1);
	assert_int_equal(errno, ECONNREFUSED);
	rdma_destroy_ep(c);
}

static void another_channel(void **state)
{
	struct rdma_event_channel *other = rdma_create_event_channel();
	struct rdma_cm_id *id = create(RDMA_PS_TCP);
	struct rdma_cm_event *e;
	(void)state;
	assert_int_equal(rdma_resolve_addr(id, NULL, v4("127.0.0.1", 1), 0), 0);
	assert_int_equal(rdma_migrate_id(id, other), 0);
	assert_false(waiting());
	assert_int_equal(rdma_get_cm_event(other, &e), 0);
	assert_ptr_equal(e->id, id);
	rdma_ack_cm_event(e);
	destroy(id);
	rdma_destroy_event_channel(other);
}

static void wrong_calls(void **state)
{
	struct rdma_cm_id *id;
	uint8_t tos = 0x20, timeout = 40;
	(void)state;
	assert_int_equal(rdma_create_id(channel, &id, NULL, (enum rdma_port_space)5), -1);
	id = create(RDMA_PS_TCP);
	assert_int_equal(rdma_resolve_route(id, 0), -1);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(rdma_connect(id, NULL), -1);
	assert_int_equal(rdma_accept(id, NULL), -1);
	assert_int_equal(rdma_disconnect(id), -1);
	assert_int_equal(rdma_reject(id, NULL, 0), -1);
	assert_int_equal(rdma_establish(id), -1);
	assert_int_equal(rdma_get_cm_event(NULL, NULL), -1);
	assert_int_equal(rdma_set_option(id, RDMA_OPTION_ID, RDMA_OPTION_ID_TOS, &tos, 1), 0);
	assert_int_equal(rdma_set_option(id, RDMA_OPTION_ID, RDMA_OPTION_ID_TOS, &tos, 2), -1);
	assert_int_equal(rdma_set_option(id, RDMA_OPTION_ID, RDMA_OPTION_ID_ACK_TIMEOUT, &timeout, 1), -1);
	assert_int_equal(rdma_set_option(id, 9, 9, &tos, 1), -1);
	assert_int_equal(errno, ENOSYS);
	struct sockaddr_un_like {
		sa_family_t family;
		char rest[26];
	} strange = { .family = AF_UNIX };
	assert_int_equal(rdma_bind_addr(id, (struct sockaddr *)&strange), -1);
	assert_int_equal(errno, EAFNOSUPPORT);
	assert_int_equal(rdma_resolve_addr(id, NULL, v4("203.0.113.1", 1), 0), 0); /* no route */
	expect(RDMA_CM_EVENT_ADDR_ERROR, -ENETUNREACH);
	destroy(id);
	char much[60] = "";
	struct rdma_conn_param p = { .private_data = much, .private_data_len = 57 };
	id = resolved(v4("127.0.0.1", 7), RDMA_PS_TCP);
	assert_int_equal(rdma_connect(id, &p), -1);
	assert_int_equal(errno, EMSGSIZE);
	destroy(id);
}

static void a_device_that_goes_away(void **state)
{
	(void)state;
	assert_int_equal(netns_veth("cmgone0", "cmgone1"), 0);
	assert_int_equal(netns_address("cmgone0", "10.7.0.1", 24, 1), 0);
	assert_int_equal(netns_updown("cmgone0", 1), 0);
	assert_int_equal(netns_updown("cmgone1", 1), 0);
	struct rdma_cm_id *id = create(RDMA_PS_TCP);
	assert_int_equal(rdma_bind_addr(id, v4("10.7.0.1", 0)), 0);
	assert_int_equal(netns_delete("cmgone0"), 0);
	assert_ptr_equal(expect(RDMA_CM_EVENT_DEVICE_REMOVAL, 0), id);
	destroy(id);
}

static int open_descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static uint32_t kept(void)
{
	sr_cm_lock();
	uint32_t n = cm.machine.count;
	sr_cm_unlock();
	return n;
}

/* Connections come and go; what is left is what there was. RDMAKIT_CM_CYCLES sets how many (100000 by hand, 300 here). */
static void nothing_leaks(void **state)
{
	const char *text = getenv("RDMAKIT_CM_CYCLES");
	int cycles = text ? atoi(text) : 300;
	struct rdma_cm_id *l = listener(v4("10.5.0.1", 7007), RDMA_PS_TCP);
	(void)state;
	disconnect(connect_to(v4("10.5.0.1", 7007)));
	int before = open_descriptors();
	for (int i = 0; i < cycles; i++)
		disconnect(connect_to(v4("10.5.0.1", 7007)));
	assert_int_equal(open_descriptors(), before);
	for (int i = 0; kept() && i < 200; i++)
		nanosleep(&(struct timespec){ .tv_nsec = 50000000 }, NULL);
	assert_int_equal(kept(), 0); /* time-wait is over */
	destroy(l);
}

static void send_shared(struct pair p)
{
	char word[8] = "alive", in[8] = "";
	struct ibv_mr *mr = rdma_reg_msgs(p.server, in, sizeof(in));
	struct ibv_wc wc;
	int done = 0;
	assert_int_equal(rdma_post_recv(p.server, NULL, in, sizeof(in), mr), 0);
	assert_int_equal(rdma_post_send(p.client, NULL, word, sizeof(word), NULL, IBV_SEND_INLINE), 0);
	while (done < 2) {
		int n = ibv_poll_cq(shared_cq, 1, &wc);
		assert_true(n >= 0 && (!n || wc.status == IBV_WC_SUCCESS));
		done += n;
	}
	assert_string_equal(in, word);
	rdma_dereg_mr(mr);
}

/* Many at once, all alive. RDMAKIT_CM_ALIVE sets how many (10000 by hand, 200 here). */
static void many_alive(void **state)
{
	const char *text = getenv("RDMAKIT_CM_ALIVE");
	int many = text ? atoi(text) : 200;
	struct rdma_cm_id *l = listener(v4("10.5.0.1", 7008), RDMA_PS_TCP);
	struct pair *all = calloc((size_t)many, sizeof(*all));
	(void)state;
	shared_cq = ibv_create_cq(l->verbs, 100, NULL, NULL, 0);
	assert_non_null(shared_cq);
	for (int i = 0; i < many; i++)
		all[i] = connect_to(v4("10.5.0.1", 7008));
	assert_int_equal(kept(), 2 * many);
	for (int i = 0; i < many; i += 1 + many / 50)
		send_shared(all[i]);
	for (int i = 0; i < many; i++)
		disconnect(all[i]);
	free(all);
	ibv_destroy_cq(shared_cq);
	shared_cq = NULL;
	destroy(l);
}

#ifndef __SANITIZE_THREAD__
/* A child connects and is killed: its goodbye never comes, but who says goodbye to it is answered by whoever lives. */
static void a_killed_peer(void **state)
{
	int told[2];
	(void)state;
	assert_int_equal(pipe(told), 0);
	struct rdma_cm_id *l = listener(v4("10.5.0.1", 7009), RDMA_PS_TCP);
	pid_t pid = fork();
	if (pid == 0) {
		struct rdma_cm_id *c;
		channel = rdma_create_event_channel();
		struct rdma_conn_param p = { .retry_count = 7 };
		bool ok = channel && !rdma_create_id(NULL, &c, NULL, RDMA_PS_TCP) &&
			  !rdma_resolve_addr(c, NULL, v4("10.5.0.1", 7009), 1000) && !rdma_resolve_route(c, 1000);
		if (ok) {
			struct ibv_qp_init_attr attr = { .cap = { 1, 1, 1, 1, 0 }, .qp_type = IBV_QPT_RC };
			ok = !rdma_create_qp(c, NULL, &attr) && !rdma_connect(c, &p);
		}
		(void)!write(told[1], ok ? "y" : "n", 1);
		pause();
		_exit(0);
	}
	struct rdma_cm_event *e = next(RDMA_CM_EVENT_CONNECT_REQUEST);
	struct rdma_cm_id *s = e->id;
	rdma_ack_cm_event(e);
	make_qp(s);
	struct rdma_conn_param p = { .retry_count = 7 };
	assert_int_equal(rdma_accept(s, &p), 0);
	expect(RDMA_CM_EVENT_ESTABLISHED, 0);
	char answer = 0;
	assert_int_equal(read(told[0], &answer, 1), 1);
	assert_int_equal(answer, 'y');
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	assert_int_equal(rdma_disconnect(s), 0);
	expect(RDMA_CM_EVENT_DISCONNECTED, 0);
	destroy(s);
	destroy(l);
	close(told[0]);
	close(told[1]);
}
#endif

static int begin(void **state)
{
	(void)state;
	channel = rdma_create_event_channel();
	return channel == NULL;
}

static int end(void **state)
{
	(void)state;
	rdma_destroy_event_channel(channel);
	return 0;
}

static struct {
	struct rdma_event_channel *channel;
	atomic_int entered, result;
} waiter;

static void interrupted(int signal) { (void)signal; }

static void *wait_in_it(void *arg)
{
	struct rdma_cm_event *event;
	(void)arg;
	atomic_store(&waiter.entered, 1);
	int result = rdma_get_cm_event(waiter.channel, &event);
	atomic_store(&waiter.result, result < 0 ? errno : 1000);
	return NULL;
}

/* As with a descriptor of the kernel's: who waits in a channel that is destroyed goes on waiting, who comes later is told. */
static void a_destroyed_channel(void **state)
{
	struct sigaction act = { .sa_handler = interrupted }, old;
	struct rdma_cm_event *event;
	pthread_t thread;
	(void)state;
	for (int late = 0; late < 2; late++) {
		waiter.channel = rdma_create_event_channel();
		assert_non_null(waiter.channel);
		atomic_store(&waiter.entered, 0);
		atomic_store(&waiter.result, 0);
		assert_int_equal(pthread_create(&thread, NULL, wait_in_it, NULL), 0);
		while (!atomic_load(&waiter.entered))
			usleep(100);
		usleep(late ? 20000 : 0); /* it waits, or is about to */
		rdma_destroy_event_channel(waiter.channel);
		assert_int_equal(rdma_get_cm_event(waiter.channel, &event), -1);
		assert_int_equal(errno, EBADF);
		usleep(20000);
		int result = atomic_load(&waiter.result);
		if (late || result == 0) {
			assert_int_equal(result, 0);
			sigaction(SIGUSR1, &act, &old);
			/* A poll() that is interrupted looks once more first, and finds a closed descriptor. */
			while (!atomic_load(&waiter.result)) {
				pthread_kill(thread, SIGUSR1);
				usleep(1000);
			}
			pthread_join(thread, NULL);
			sigaction(SIGUSR1, &old, NULL);
			assert_int_equal(atomic_load(&waiter.result), EINTR);
		} else {
			pthread_join(thread, NULL);
			assert_int_equal(result, EBADF);
		}
	}
}

static int world(void **state)
{
	(void)state;
	alarm(100 + 100 * (getenv("RDMAKIT_CM_CYCLES") || getenv("RDMAKIT_CM_ALIVE"))); /* never runs away */
	char dir[] = "/tmp/rdmakit-cm-XXXXXX";
	if (!mkdtemp(dir) || setenv("RDMAKIT_RUNTIME_DIR", dir, 1))
		return -1;
	return netns_enter() || netns_updown("lo", 1) || netns_veth("cm0", "cm1") || netns_address("cm0", "10.5.0.1", 24, 1) ||
	       netns_address("cm0", "fd05::1", 64, 1) || netns_updown("cm0", 1) || netns_updown("cm1", 1);
}

#define T(f) cmocka_unit_test_setup_teardown(f, begin, end)
int main(void)
{
	const struct CMUnitTest tests[] = {
		T(connections), T(the_descriptor_tells_the_truth), T(ports), T(the_nearest_listener), T(an_unfetched_request),
		T(without_a_queue_pair), T(a_udp_service), T(groups), T(the_synchronous_way), T(another_channel), T(a_destroyed_channel), T(wrong_calls),
		T(a_device_that_goes_away), T(nothing_leaks), T(many_alive),
#ifndef __SANITIZE_THREAD__ /* it cannot follow a fork into threads */
		T(a_killed_peer),
#endif
	};
	return cmocka_run_group_tests(tests, world, NULL);
}
