/* wire-rig.c - see wire-rig.h. */
#define _GNU_SOURCE
#include "wire-rig.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "context-fixture.h"
#include "softrdma/engine/key.h"
#include "softrdma/engine/lock.h"
#include "softrdma/engine/state.h"
#include "softrdma/shm/segment.h"
#include "softrdma/wire/bytes.h"

#define QUEUE_MAX 65536
#define RIG_SEGMENT_BYTES (UINT64_C(1) << 30) /* the tables that road 1 shares, and room */
#define HOP_NS 2000 /* what a host takes to look at its socket again */

struct flying {
	uint64_t due_ns;
	uint64_t order; /* packets due at the same time keep their order */
	struct sr_rx_meta meta;
	size_t len;
	uint8_t *bytes;
};

struct rig_net rig;
static struct flying heap[QUEUE_MAX];
static size_t flying_count;
static uint64_t last_order, busy_until_ns[2];
static struct sr_context context;
static struct sr_pd pd = { .id = 77 };
static struct sr_xrcd xrcd = { .domain = { .ino = 5 } };
static const uint8_t address[2][16] = { { [10] = 0xff, [11] = 0xff, [12] = 10, [15] = 1 },
					{ [10] = 0xff, [11] = 0xff, [12] = 10, [15] = 2 } };

static double chance(void)
{
	rig.seed = rig.seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (double)(rig.seed >> 33) / 2147483648.0;
}

static bool earlier(const struct flying *a, const struct flying *b)
{
	return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->order < b->order;
}

static void swap(size_t a, size_t b)
{
	struct flying t = heap[a];
	heap[a] = heap[b];
	heap[b] = t;
}

static void launch(const struct sr_rx_meta *meta, const uint8_t *bytes, size_t len, uint64_t due_ns)
{
	if (flying_count == QUEUE_MAX)
		abort();
	size_t i = flying_count++;
	heap[i] = (struct flying){ due_ns, last_order++, *meta, len, malloc(len ? len : 1) };
	memcpy(heap[i].bytes, bytes, len);
	for (; i && earlier(&heap[i], &heap[(i - 1) / 2]); i = (i - 1) / 2)
		swap(i, (i - 1) / 2);
}

static struct flying land(void)
{
	struct flying first = heap[0];
	heap[0] = heap[--flying_count];
	for (size_t i = 0;;) {
		size_t small = i, left = 2 * i + 1;
		if (left < flying_count && earlier(&heap[left], &heap[small]))
			small = left;
		if (left + 1 < flying_count && earlier(&heap[left + 1], &heap[small]))
			small = left + 1;
		if (small == i)
			return first;
		swap(i, small);
		i = small;
	}
}

static void send_one(const struct sr_path *path, const uint8_t *packet, size_t len, uint16_t segment)
{
	struct sr_rx_meta meta = { .from = { .sin6_family = AF_INET6, .sin6_port = htons(sr_port_sender(&in6addr_any, false)->port) }, .segment = segment };
	uint8_t copy[SR_HEADERS_MAX + SR_PMTU_MAX + 64];
	struct sr_pkt p;
	int way = path->to.sin6_addr.s6_addr[15] == 2;
	memcpy(&meta.from.sin6_addr, &path->from.ipi6_addr, 16);
	memcpy(&meta.to, &path->to.sin6_addr, 16);
	sr_icrc_path_init(&meta.icrc, meta.from.sin6_addr.s6_addr, meta.to.s6_addr, sr_port_sender(&in6addr_any, false)->port, SR_ROCE_PORT);
	rig.sent++;
	memcpy(copy, packet, len);
	if (rig.trace && sr_pkt_decode(&p, copy, len) == SR_PKT_OK)
		fprintf(stderr, "%10.3f us %s op %02x psn %06x len %u dma %u\n", (double)rig.now_ns / 1e3, way ? "->" : "<-", p.opcode,
			p.psn, p.payload_len, p.flags & SR_H_RETH ? p.dma_len : 0);
	bool dropped = rig.drop && sr_pkt_decode(&p, copy, len) == SR_PKT_OK && rig.drop(&p);
	if (dropped || (rig.loss > 0 && chance() < rig.loss)) {
		rig.lost++;
		if (rig.trace)
			fprintf(stderr, "           lost\n");
		return;
	}
	uint64_t due_ns = rig.now_ns;
	if (rig.bytes_per_s) {
		uint64_t start_ns = busy_until_ns[way] > rig.now_ns ? busy_until_ns[way] : rig.now_ns;
		if (rig.queue_bytes && start_ns - rig.now_ns > rig.queue_bytes * UINT64_C(1000000000) / rig.bytes_per_s) {
			rig.queue_drops++;
			return;
		}
		if (start_ns - rig.now_ns > rig.max_queue_ns)
			rig.max_queue_ns = start_ns - rig.now_ns;
		due_ns = busy_until_ns[way] = start_ns + len * UINT64_C(1000000000) / rig.bytes_per_s;
	}
	due_ns += rig.delay_ns;
	if (rig.foreign)
		copy[4] = 0;
	if (rig.corrupt > 0 && chance() < rig.corrupt)
		copy[(size_t)(chance() * (double)len)] ^= (uint8_t)(1 << (int)(chance() * 8));
	if (rig.dup > 0 && chance() < rig.dup)
		launch(&meta, copy, len, due_ns);
	if (rig.reorder > 0 && chance() < rig.reorder)
		due_ns += rig.delay_ns / 2 + 5000;
	launch(&meta, copy, len, due_ns);
}

static void output(const struct sr_path *path, const struct iovec *pieces, size_t count, uint32_t segment)
{
	static uint8_t all[65536];
	size_t len = 0;
	for (size_t i = 0; i < count; i++) {
		memcpy(all + len, pieces[i].iov_base, pieces[i].iov_len);
		len += pieces[i].iov_len;
	}
	uint16_t index = 0;
	for (size_t at = 0; at < len; at += segment, index++)
		send_one(path, all + at, len - at < segment ? len - at : segment, index);
}

static int input(void)
{
	int n = 0;
	for (; flying_count && heap[0].due_ns <= rig.now_ns; n++) {
		struct flying f = land();
		f.meta.arrived_ns = f.due_ns;
		sr_demux(&f.meta, f.bytes, f.len, false);
		free(f.bytes);
	}
	return n;
}

static uint64_t rig_now(void) { return rig.now_ns; }
static const struct sr_wire_hooks hooks = { .output = output, .input = input, .now_ns = rig_now };

void rig_start(void)
{
	while (flying_count)
		free(heap[--flying_count].bytes);
	rig = (struct rig_net){ .now_ns = 1000000000, .delay_ns = 10000, .seed = 42 };
	busy_until_ns[0] = busy_until_ns[1] = 0;
	memset(&sr.counters, 0, sizeof(sr.counters));
	sr_path_forget();
	if (sr.qps) {
		sr_wire.timers_due_ns = UINT64_MAX;
		return;
	}
	sr.slot = 5;
	sr.qps = calloc(SR_QP_INDEX_MAX, sizeof(*sr.qps));
	sr.keys = calloc(SR_KEY_INDEX_MAX, sizeof(*sr.keys));
	sr.srqs = calloc(SR_QP_INDEX_MAX, sizeof(*sr.srqs));
	sr_own.base = mmap(NULL, RIG_SEGMENT_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	bare_context_open(&context);
	bare_context_nonblocking(&context);
	context.vctx.context.num_comp_vectors = 1;
	pd.pd.context = &context.vctx.context;
	sr_wire_start_hooked(sr.slot, &hooks);
}

static void connect_end(struct rig_end *e, struct rig_end *peer, int me, const struct rig_conf *conf, bool rts)
{
	struct sr_qp *qp = sr_qp(e->qp);
	if (rts) {
		sr_wire_qp_rts(qp);
		qp->ex.qp_base.state = IBV_QPS_RTS;
		return;
	}
	qp->attr = (struct ibv_qp_attr){ .rq_psn = conf->psn[!me], .sq_psn = conf->psn[me],
					 .max_rd_atomic = conf->rd_atomic ? conf->rd_atomic : 16,
					 .max_dest_rd_atomic = conf->rd_atomic ? conf->rd_atomic : 16,
					 .timeout = conf->tuned ? conf->timeout : 14, .retry_cnt = conf->tuned ? conf->retry : 7,
					 .rnr_retry = conf->tuned ? conf->rnr_retry : 7,
					 .min_rnr_timer = conf->tuned ? conf->rnr_timer : 1 };
	qp->access = conf->access ? conf->access : IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC;
	qp->path_mtu_bytes = conf->mtu ? conf->mtu : 1024;
	qp->dest_qpn = peer->qp->qp_num;
	memcpy(qp->av.sgid.raw, address[me], 16);
	memcpy(qp->av.dgid.raw, address[!me], 16);
	qp->av.ipv4 = true;
	if (sr_wire_qp_rtr(qp))
		abort();
	qp->road = SR_ROAD_WIRE;
	sr.wire_users++;
	sr.wire_connected++;
	qp->ex.qp_base.state = IBV_QPS_RTR;
}

static void open_target(struct rig_end *e, uint32_t depth)
{
	struct ibv_srq_init_attr_ex srq = { .attr = { .max_wr = depth, .max_sge = 4 },
					    .comp_mask = IBV_SRQ_INIT_ATTR_TYPE | IBV_SRQ_INIT_ATTR_PD | IBV_SRQ_INIT_ATTR_XRCD |
							 IBV_SRQ_INIT_ATTR_CQ,
					    .srq_type = IBV_SRQT_XRC, .pd = &pd.pd, .xrcd = &xrcd.xrcd, .cq = e->rcq };
	struct ibv_qp_init_attr_ex init = { .qp_type = IBV_QPT_XRC_RECV, .comp_mask = IBV_QP_INIT_ATTR_XRCD, .xrcd = &xrcd.xrcd };
	e->srq = sr_create_srq_ex(pd.pd.context, &srq);
	e->qp = e->srq ? sr_create_qp_ex(pd.pd.context, &init) : NULL;
}

static void open_end(struct rig_end *e, const struct rig_conf *conf, int me)
{
	uint32_t depth = conf->depth ? conf->depth : 64;
	*e = (struct rig_end){ .len = conf->mem ? conf->mem : 1 << 20 };
	e->mem = calloc(1, e->len);
	e->scq = ibv_create_cq(pd.pd.context, (int)depth * 2, NULL, NULL, 0);
	e->rcq = ibv_create_cq(pd.pd.context, (int)depth * 2, NULL, NULL, 0);
	struct ibv_qp_init_attr init = { .send_cq = e->scq, .recv_cq = e->rcq, .sq_sig_all = 1,
					 .qp_type = conf->type ? conf->type : IBV_QPT_RC,
					 .cap = { .max_send_wr = depth, .max_recv_wr = depth, .max_send_sge = 4, .max_recv_sge = 4 } };
	if (me == 1 && conf->type == IBV_QPT_XRC_SEND)
		open_target(e, depth);
	else
		e->qp = ibv_create_qp(&pd.pd, &init);
	if (!e->mem || !e->scq || !e->rcq || !e->qp)
		abort();
}

/* The key table remembers the address, so this comes when the end has its final place. */
static void register_memory(struct rig_end *e)
{
	e->mr.key = (struct sr_key){ .kind = SR_KEY_MR, .pd_id = pd.id, .iova = (uintptr_t)e->mem, .length = e->len,
				     .base = (char *)e->mem,
				     .access = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ |
					       IBV_ACCESS_REMOTE_ATOMIC };
	sr_key_insert(&e->mr.key);
}

void rig_pair(struct rig_end e[2], const struct rig_conf *conf)
{
	for (int i = 0; i < 2; i++) {
		open_end(&e[i], conf, i);
		register_memory(&e[i]);
	}
	for (int rts = 0; rts < 2; rts++)
		for (int i = 0; i < 2; i++)
			connect_end(&e[i], &e[!i], i, conf, rts);
}

void rig_free(struct rig_end e[2])
{
	for (int i = 0; i < 2; i++) {
		ibv_destroy_qp(e[i].qp);
		if (e[i].srq)
			ibv_destroy_srq(e[i].srq);
		ibv_destroy_cq(e[i].scq);
		ibv_destroy_cq(e[i].rcq);
		sr_key_remove(&e[i].mr.key);
		free(e[i].mem);
	}
	sr_wire_progress(); /* buries */
}

int rig_recv(struct rig_end *e, uint64_t wr_id, size_t at, uint32_t len)
{
	struct ibv_sge sge = { (uintptr_t)e->mem + at, len, e->mr.key.key };
	struct ibv_recv_wr *bad, wr = { .wr_id = wr_id, .sg_list = &sge, .num_sge = 1 };
	return e->srq ? sr_post_srq_recv(e->srq, &wr, &bad) : sr_post_recv(e->qp, &wr, &bad);
}

int rig_post_wr(struct rig_end *e, struct ibv_send_wr *wr)
{
	struct ibv_send_wr *bad;
	return sr_post_send(e->qp, wr, &bad);
}

int rig_post(struct rig_end *e, enum ibv_wr_opcode op, uint64_t wr_id, size_t at, uint32_t len, struct rig_end *peer, size_t to)
{
	struct ibv_sge sge = { (uintptr_t)e->mem + at, len, e->mr.key.key };
	struct ibv_send_wr wr = { .wr_id = wr_id, .opcode = op, .sg_list = &sge, .num_sge = 1 };
	if (peer->srq)
		sr_get_srq_num(peer->srq, &wr.qp_type.xrc.remote_srqn);
	if (op == IBV_WR_ATOMIC_CMP_AND_SWP || op == IBV_WR_ATOMIC_FETCH_AND_ADD) {
		wr.wr.atomic.remote_addr = (uintptr_t)peer->mem + to;
		wr.wr.atomic.rkey = peer->mr.key.key;
		wr.wr.atomic.compare_add = 1;
	} else {
		wr.wr.rdma.remote_addr = (uintptr_t)peer->mem + to;
		wr.wr.rdma.rkey = peer->mr.key.key;
	}
	return rig_post_wr(e, &wr);
}

bool rig_poll(struct ibv_cq *ibcq, struct ibv_wc *wc)
{
	struct sr_cq *cq = sr_cq(ibcq);
	uint32_t tail = atomic_load(&cq->tail);
	if (tail == atomic_load(&cq->head))
		return false;
	*wc = cq->ring[tail & cq->mask].wc;
	atomic_store(&cq->tail, tail + 1);
	return true;
}

bool rig_run(uint64_t ns, struct ibv_cq *until)
{
	uint64_t end_ns = rig.now_ns + ns;
	for (;;) {
		sr_lock();
		sr.in_poll = rig.polls;
		int done = sr_wire_progress();
		sr.in_poll = false;
		if (!rig.polls)
			sr_wire_flush_acks();
		uint64_t next_ns = sr_wire_next_deadline_ns();
		sr_unlock();
		if (until && atomic_load(&sr_cq(until)->tail) != atomic_load(&sr_cq(until)->head))
			return true;
		if (done)
			continue;
		if (flying_count && heap[0].due_ns < next_ns)
			next_ns = heap[0].due_ns;
		if (next_ns <= rig.now_ns)
			next_ns = rig.now_ns + HOP_NS;
		if (next_ns > end_ns) {
			rig.now_ns = end_ns;
			return false;
		}
		rig.now_ns = next_ns;
	}
}

void rig_inject(struct rig_end *e, const uint8_t *raw, size_t len) { rig_inject_wrong(e, raw, len, RIG_RIGHT); }

void rig_inject_wrong(struct rig_end *e, const uint8_t *raw, size_t len, enum rig_wrong wrong)
{
	struct sr_qp *qp = sr_qp(e->qp);
	struct sr_rx_meta meta = { .from = { .sin6_family = AF_INET6, .sin6_port = htons(sr_port_sender(&in6addr_any, false)->port) }, .arrived_ns = rig.now_ns };
	uint8_t copy[SR_HEADERS_MAX + SR_PMTU_MAX + 64];
	struct sr_pkt p;
	if (len < SR_BTH_BYTES || len + SR_ICRC_BYTES > sizeof(copy))
		return;
	memcpy(copy, raw, len);
	memset(copy + len, 0, SR_ICRC_BYTES);
	len += SR_ICRC_BYTES;
	memcpy(&meta.from.sin6_addr, qp->av.dgid.raw, 16);
	meta.from.sin6_addr.s6_addr[15] ^= wrong == RIG_WRONG_SOURCE ? 0x40 : 0;
	memcpy(&meta.to, qp->av.sgid.raw, 16);
	sr_icrc_path_init(&meta.icrc, meta.from.sin6_addr.s6_addr, qp->av.sgid.raw, sr_port_sender(&in6addr_any, false)->port, SR_ROCE_PORT);
	if (sr_pkt_decode(&p, copy, len) == SR_PKT_OK) {
		uint32_t crc = sr_icrc_begin(&meta.icrc, 0, len, copy, p.header_len);
		sr_put32le(copy + len - 4, ~sr_crc32(crc, copy + p.header_len, len - 4 - p.header_len));
	}
	if (wrong == RIG_WRONG_ICRC)
		copy[len - 1 - rig.now_ns % SR_ICRC_BYTES] ^= (uint8_t)(1u << (len % 8));
	sr_lock();
	sr_wire.now_ns = rig.now_ns;
	sr_demux(&meta, copy, len, false);
	sr_unlock();
}

size_t rig_record(const uint8_t *data, size_t size, size_t *at, size_t most, uint8_t *raw, uint32_t qpn)
{
	size_t len = sr_get16(data + *at) % most, have = size - *at - 2;
	if (len > have)
		len = have;
	memcpy(raw, data + *at + 2, len);
	*at += 2 + len;
	if (len < RIG_RECORD_MIN)
		return len;
	raw[1] &= 0xf0;
	raw[2] = raw[3] = 0xff;
	sr_put32(raw + 4, (uint32_t)raw[4] << 24 | qpn);
	return len & ~(size_t)3;
}
