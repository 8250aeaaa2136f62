/*
 * A flood of hostile packets into a living connection, and of hostile connection-manager messages. Two queue pairs work with each
 * other while made-up packets arrive for both: wrong keys, PSNs, opcodes, lengths, ICRCs, sources, answers nobody asked for. Whatever
 * comes: memory that was not opened stays as it is, requests complete once and in order, what must be dropped is counted and
 * changes nothing.
 *
 *   FLOOD_PACKETS=100000000 FLOOD_SEED=7 test-flood-wire     as many as asked for; a line each million
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "softrdma/wire/bytes.h"
#include "test/cm-net.h"
#include "test/wire-rig.h"

#define GUARD 64u
#define MEM 16384u
#define RECV_BYTES 512u
#define LIFE 4000u	 /* packets until new queue pairs are made, at most */
#define DEAD_LIFE 40u	 /* once both ends are in error */
#define CM_LIFE 400u
#define OUTSTANDING 12u
/* The sanitized builds are ten times slower. */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define PACKETS 300000u
#else
#define PACKETS 2000000u
#endif

static uint64_t state;

/* splitmix64 (Steele, Lea, Flood 2014). */
static uint64_t random64(void)
{
	uint64_t z = state += UINT64_C(0x9e3779b97f4a7c15);
	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

static uint32_t below(uint32_t n) { return (uint32_t)((random64() >> 32) * n >> 32); }
static bool once_in(uint32_t n) { return below(n) == 0; }

static uint64_t number_of(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);
	return text && *text ? strtoull(text, NULL, 0) : otherwise;
}

struct life {
	struct rig_end e[2];
	enum ibv_qp_type type;
	uint32_t mtu;
	uint64_t posted[2], completed[2];
};

static void begin(struct life *l)
{
	static const enum ibv_qp_type types[] = { IBV_QPT_RC, IBV_QPT_RC, IBV_QPT_RC, IBV_QPT_RC, IBV_QPT_RC, IBV_QPT_UC, IBV_QPT_XRC_SEND };
	*l = (struct life){ .type = types[below(7)], .mtu = 256u << below(3) };
	rig_start();
	rig.seed = random64();
	rig.loss = once_in(2) ? 0 : 0.02;
	rig.dup = once_in(2) ? 0 : 0.02;
	rig.reorder = once_in(2) ? 0 : 0.05;
	rig_pair(l->e, &(struct rig_conf){ .type = l->type, .mtu = l->mtu, .mem = MEM, .rd_atomic = (uint8_t)(1 + below(4)),
					   .psn = { (uint32_t)random64() & SR_PSN_MASK, (uint32_t)random64() & SR_PSN_MASK } });
	for (int i = 0; i < 2; i++) {
		struct rig_end *e = &l->e[i];
		/* Only the middle may be reached from outside. */
		e->mr.key.iova += GUARD;
		e->mr.key.base += GUARD;
		e->mr.key.length -= 2 * GUARD;
		memset(e->mem, 0xa5, GUARD);
		memset(e->mem + MEM - GUARD, 0xa5, GUARD);
	}
}

static void check_guards(const struct life *l)
{
	for (int i = 0; i < 2; i++)
		for (uint32_t at = 0; at < GUARD; at++)
			if (l->e[i].mem[at] != 0xa5 || l->e[i].mem[MEM - GUARD + at] != 0xa5)
				fail_msg("memory outside of the region was written");
}

static void take_completions(struct life *l)
{
	struct ibv_wc wc;
	for (int i = 0; i < 2; i++) {
		while (rig_poll(l->e[i].scq, &wc))
			if (wc.wr_id != l->completed[i]++)
				fail_msg("request %llu completed in the place of %llu", (unsigned long long)wc.wr_id, (unsigned long long)l->completed[i] - 1);
		while (rig_poll(l->e[i].rcq, &wc))
			;
		assert_true(l->completed[i] <= l->posted[i]);
	}
}

/* Keeps requests and receives outstanding, as a program does. */
static void work(struct life *l)
{
	static const enum ibv_wr_opcode ops[] = { IBV_WR_SEND, IBV_WR_RDMA_WRITE, IBV_WR_RDMA_WRITE_WITH_IMM, IBV_WR_RDMA_READ, IBV_WR_ATOMIC_FETCH_AND_ADD };
	for (int i = 0; i < 2; i++) {
		struct rig_end *e = &l->e[i], *peer = &l->e[!i];
		for (unsigned n = below(4); n; n--)
			(void)rig_recv(e, n, GUARD + RECV_BYTES * below(8), RECV_BYTES);
		if (l->type == IBV_QPT_XRC_SEND && i == 1)
			continue; /* a target asks for nothing */
		for (unsigned n = below(3); n && l->posted[i] - l->completed[i] < OUTSTANDING; n--) {
			enum ibv_wr_opcode op = ops[below(l->type == IBV_QPT_UC ? 3 : 5)];
			uint32_t len = op == IBV_WR_ATOMIC_FETCH_AND_ADD ? 8 : op == IBV_WR_SEND ? below(RECV_BYTES + 1) : below(3000);
			if (rig_post(e, op, l->posted[i], GUARD, len, peer, GUARD + 8 * below(1000)) == 0)
				l->posted[i]++;
		}
	}
}

/* The drops before any queue pair is asked. */
static uint64_t dropped(void)
{
	const struct sr_counters *c = &sr.counters;
	return c->rx_malformed + c->rx_unknown_opcode + c->rx_pkey_mismatch + c->rx_no_qp + c->rx_wrong_peer + c->rx_icrc_encapsulated +
	       c->rx_misrouted_lost;
}

static size_t headers_of(uint32_t flags)
{
	return (flags & SR_H_RETH ? SR_RETH_BYTES : 0) + (flags & SR_H_ATOMIC ? SR_ATOMICETH_BYTES : 0) + (flags & SR_H_AETH ? SR_AETH_BYTES : 0) +
	       (flags & SR_H_ATOMICACK ? SR_ATOMICACK_BYTES : 0) + (flags & SR_H_IMM ? SR_IMM_BYTES : 0) + (flags & SR_H_IETH ? SR_IETH_BYTES : 0);
}

/* A packet made for one end, most of it plausible. Returns its length without the ICRC. */
static size_t make(const struct life *l, int to, uint8_t *raw, size_t room)
{
	const struct rig_end *e = &l->e[to];
	const struct sr_wire_qp *w = sr_qp(e->qp)->wire;
	uint8_t transport = l->type == IBV_QPT_UC ? SR_OP_UC : l->type == IBV_QPT_XRC_SEND ? SR_OP_XRC : 0;
	uint8_t op = once_in(12) ? (uint8_t)random64() : once_in(8) ? SR_OP_SACK : (uint8_t)(transport | below(0x18));
	for (size_t at = 0; at < room; at += 8) {
		uint64_t some = random64();
		memcpy(raw + at, &some, room - at < 8 ? room - at : 8);
	}
	raw[0] = op;
	sr_put16(raw + 2, once_in(60) ? (uint16_t)random64() : SR_DEFAULT_PKEY);
	raw[4] = once_in(10) ? (uint8_t)random64() : once_in(4) ? 0 : SR_BTH_MARK;
	uint32_t qpn = once_in(60) ? (uint32_t)random64() : e->qp->qp_num;
	raw[5] = (uint8_t)(qpn >> 16);
	sr_put16(raw + 6, (uint16_t)qpn);
	uint32_t flags = sr_op_flags[op];
	if (w && !once_in(12)) {
		bool answer = flags & SR_M_RESPONSE || op == SR_OP_SACK;
		uint32_t psn = (answer ? w->req.una + below(40) : w->rsp.psn + below(5) * below(5)) - (once_in(6) ? below(40) : 0);
		sr_put32(raw + 8, (uint32_t)raw[8] << 24 | (psn & SR_PSN_MASK));
	}
	uint8_t *x = raw + SR_BTH_BYTES;
	if (flags & SR_H_XRC) {
		uint32_t srqn = 0;
		if (e->srq && !once_in(10) && sr_get_srq_num(e->srq, &srqn) == 0)
			sr_put32(x, srqn);
		x += SR_XRCETH_BYTES;
	}
	uint32_t dma = 0;
	if (flags & (SR_H_RETH | SR_H_ATOMIC) && !once_in(15)) {
		sr_put64(x, e->mr.key.iova + below(MEM) - (once_in(4) ? below(2 * GUARD) : 0));
		sr_put32(x + 8, once_in(10) ? e->mr.key.key ^ 1u << below(32) : e->mr.key.key);
		if (flags & SR_H_RETH) {
			dma = once_in(15) ? (uint32_t)random64() : below(3000);
			sr_put32(x + 12, dma);
		}
	}
	if (flags & SR_H_AETH && !once_in(5)) /* acknowledgements more often than what ends a connection */
		x[0] = once_in(6) ? (uint8_t)(0x20 | below(32)) : once_in(30) ? (uint8_t)(0x60 | below(5)) : (uint8_t)below(32);
	size_t payload = once_in(4) ? below(l->mtu + 80) : dma && dma <= l->mtu ? dma : flags & (SR_M_READ | SR_H_RETH) || once_in(2) ? l->mtu : below(l->mtu);
	size_t pad = -payload & 3;
	raw[1] = (uint8_t)(raw[1] & 0xc0) | (uint8_t)((once_in(10) ? below(4) : pad) << 4);
	size_t len = (size_t)(x - raw) + headers_of(flags) + payload + pad;
	if (once_in(25))
		len = below(60);
	return len > room ? room : len & ~(size_t)3;
}

struct quiet {
	uint64_t dropped;
	uint32_t una, rsp_psn;
	enum ibv_qp_state state;
};

static struct quiet note(const struct rig_end *e)
{
	const struct sr_qp *qp = sr_qp(e->qp);
	struct quiet q = { .dropped = dropped(), .state = qp->ex.qp_base.state };
	if (qp->wire) {
		q.una = qp->wire->req.una;
		q.rsp_psn = qp->wire->rsp.psn;
	}
	return q;
}

static void inject(struct life *l)
{
	static uint8_t raw[1024 + 256];
	int to = below(4) == 0 ? 0 : (int)below(2);
	size_t len = make(l, to, raw, sizeof(raw));
	enum rig_wrong wrong = once_in(40) ? RIG_WRONG_ICRC : once_in(40) ? RIG_WRONG_SOURCE : RIG_RIGHT;
	struct rig_end *e = &l->e[to];
	if (wrong == RIG_RIGHT) {
		rig_inject(e, raw, len);
		return;
	}
	if (len < SR_BTH_BYTES)
		return; /* the rig makes no packet of it */
	struct quiet before = note(e);
	rig_inject_wrong(e, raw, len, wrong);
	struct quiet after = note(e);
	/* A packet of another queue pair's is passed on, and not ours to count; all others are dropped here. */
	bool elsewhere = sr_qpn_slot(sr_get32(raw + 4) & SR_PSN_MASK) != sr_wire.slot;
	if (!elsewhere && after.dropped != before.dropped + 1)
		fail_msg("a packet that had to be dropped was not, or was not counted");
	if (after.una != before.una || after.rsp_psn != before.rsp_psn || after.state != before.state)
		fail_msg("a packet that had to be dropped changed the queue pair");
}

/* Returns how many packets it took. */
static uint64_t live(void)
{
	struct life l;
	uint64_t n = 0;
	begin(&l);
	unsigned dead = 0;
	for (; n < LIFE && dead < DEAD_LIFE; n++) {
		if (n % 8 == 0)
			work(&l);
		inject(&l);
		if (n % 4 == 0)
			rig_run(once_in(200) ? UINT64_C(200000000) : below(40000), NULL);
		if (n % 16 == 0) {
			take_completions(&l);
			check_guards(&l);
		}
		dead += sr_qp(l.e[0].qp)->ex.qp_base.state == IBV_QPS_ERR || sr_qp(l.e[1].qp)->ex.qp_base.state == IBV_QPS_ERR;
	}
	rig_run(UINT64_C(20000000000), NULL);
	take_completions(&l);
	check_guards(&l);
	for (int i = 0; i < 2; i++)
		if (sr_qp(l.e[i].qp)->ex.qp_base.state == IBV_QPS_ERR)
			assert_int_equal(l.completed[i], l.posted[i]);
	rig_free(l.e);
	return n;
}

/* ---- the connection manager -------------------------------------------------------------------------------------------- */

static struct cm_net_user *some_user(struct cm_net_host *h)
{
	unsigned skip = below(16);
	sr_list_for(n, next, &h->users)
		if (skip-- == 0)
			return sr_list_entry(n, struct cm_net_user, node);
	return NULL;
}

/* A message whose IDs are those of living connections, or near them, or none at all. */
static void forge(struct cm_net *n)
{
	struct cm_net_host *to = &n->host[below(2)], *from = cm_net_other(to);
	struct cm_net_user *u = some_user(to), *v = some_user(from);
	uint8_t mad[SR_CM_MAD_BYTES];
	union ibv_gid gid = from->gid;
	if (once_in(4))
		gid.raw[15] = (uint8_t)random64();
	if (once_in(8)) { /* anything at all */
		for (unsigned at = 0; at < sizeof(mad); at += 8) {
			uint64_t some = random64();
			memcpy(mad + at, &some, 8);
		}
	} else {
		struct sr_cm_mad m = { .attr = (uint16_t)(SR_CM_REQ + below(9)) };
		uint8_t *body = (uint8_t *)&m.req;
		m.local_id = v && !once_in(4) ? v->conn->local_id : (uint32_t)random64();
		m.remote_id = u && !once_in(4) ? u->conn->local_id : (uint32_t)random64();
		if (m.attr == SR_CM_REQ)
			m.req = (struct sr_cm_req){ .service_id = once_in(6) ? random64() : CM_NET_SERVICE, .qpn = below(1 << 24), .mtu = (uint8_t)below(8),
						    .transport = (uint8_t)below(4), .primary.ack_timeout = (uint8_t)below(32) };
		else if (m.attr == SR_CM_DREQ)
			m.dreq.qpn = u && !once_in(3) ? u->conn->terms.local_qpn : (uint32_t)random64();
		else
			for (int i = 0; i < 8; i++)
				body[i] = (uint8_t)random64();
		if (m.attr == SR_CM_REJ)
			m.rej.info_len %= SR_CM_ARI_BYTES + 1;
		if (!sr_cm_encode(&m, mad))
			return;
		if (once_in(10))
			mad[below(sizeof(mad))] ^= (uint8_t)(1u << below(8));
	}
	cm_net_inject(to, &gid, mad);
}

static void act(struct cm_net *n)
{
	struct cm_net_host *h = &n->host[below(2)];
	struct cm_net_user *u = some_user(h);
	switch (below(6)) {
	case 0:
		cm_net_connect(h, below(1 << 24));
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
		h->accept = once_in(2);
		h->answer = h->accept ? 0 : -(int)below(3);
		break;
	case 5:
		h->mute = once_in(3);
		break;
	}
}

static uint64_t live_cm(void)
{
	struct cm_net *n = cm_net_new(random64());
	assert_non_null(n);
	n->loss = below(200);
	n->dup = below(200);
	n->late = below(200);
	for (unsigned i = 0; i < CM_LIFE; i++) {
		forge(n);
		if (once_in(6))
			act(n);
		if (once_in(4))
			cm_net_run(n, UINT64_C(1000000) << below(14));
	}
	if (!cm_net_end(n))
		fail_msg("events out of order, or connections left over");
	return CM_LIFE;
}

/* ---- */

static void flood(void **unused)
{
	(void)unused;
	uint64_t want = number_of("FLOOD_PACKETS", PACKETS), seed = number_of("FLOOD_SEED", 1), done = 0, told = 0;
	for (uint64_t turn = 0; done < want; turn++) {
		/* Each life can be had again by itself. */
		state = seed * UINT64_C(1000003) + turn;
		if (getenv("FLOOD_TURNS"))
			fprintf(stderr, "FLOOD_SEED=%llu, turn %llu\n", (unsigned long long)seed, (unsigned long long)turn);
		done += turn % 8 == 7 ? live_cm() : live();
		if (getenv("FLOOD_PACKETS") && done / 1000000 != told) {
			told = done / 1000000;
			fprintf(stderr, "%llu million packets, %llu lives\n", (unsigned long long)told, (unsigned long long)turn + 1);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(flood) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
