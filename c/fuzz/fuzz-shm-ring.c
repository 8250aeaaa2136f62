/*
 * Road 1 against a hostile peer. The peer may write whatever it likes into everything both processes share: messages in its ring, raw
 * bytes anywhere in it, ring positions, the rows of its keys and queue pairs, and our own segment's control part, which it maps too.
 * The input is a script of such writes between steps of an application that posts, polls, resets and reconnects.
 *
 * Checked: the sanitizers stay quiet; a region the peer has no right to write keeps its contents; every send WQE that was posted
 * completes at most once; the queue pairs can be reset at the end.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "softrdma/engine/lock.h"
#include "softrdma/engine/key.h"
#include "softrdma/shm/road.h"
#include "softrdma/shm/shm.h"
#include "softrdma/verbs/qp.h"
#include "test/context-fixture.h"

#define QPS 6
#define REGION 3000u /* less than a page: never exported, and a heap block with guards */
#define PAGES (8 * 4096u)

static struct {
	struct sr_context ctx;
	struct ibv_pd *pd;
	struct ibv_cq *cq;
	struct ibv_qp *qp[QPS]; /* RC, RC, UC, UD, XRC target, XRC initiator */
	struct sr_xrcd xrcd;
	struct ibv_srq *srq;
	struct sr_link link;
	unsigned slot;
	uint8_t *heap, *readonly, *pages;
	struct ibv_mr *mr_heap, *mr_readonly, *mr_pages;
	struct ibv_mw *mw;
	uint32_t posted, completed;
} f;

struct input {
	const uint8_t *at, *end;
};

static uint32_t take(struct input *in, unsigned bytes)
{
	uint32_t v = 0;
	while (bytes-- && in->at < in->end)
		v = v << 8 | *in->at++;
	return v;
}

static void need(bool ok)
{
	if (!ok)
		abort();
}

static uint32_t peer_qpn(unsigned i) { return f.slot << SR_QP_INDEX_BITS | (0x100 + i); }

/* A key that means something: one of ours, or the peer's exported one. */
static uint32_t some_key(unsigned i)
{
	uint32_t keys[] = { f.mr_heap->rkey, f.mr_readonly->rkey, f.mr_pages->rkey, f.mw->rkey, 0x00123400, 0 };
	return keys[i % 6];
}

static uint64_t some_addr(unsigned i, uint32_t off)
{
	uint64_t base[] = { (uintptr_t)f.heap, (uintptr_t)f.readonly, (uintptr_t)f.pages, 0x10000 };
	return base[i % 4] + (off & 0x8000 ? (uint64_t)-(int64_t)(off & 0xff) : off & 0x3fff);
}

static void setup(void)
{
	int n = 0;
	setenv("RDMAKIT_RUNTIME_DIR", mkdtemp((char[]){ "/tmp/rdmakit-fuzz-XXXXXX" }), 1);
	sr.qps = calloc(SR_QP_INDEX_MAX, sizeof *sr.qps);
	sr.keys = calloc(SR_KEY_INDEX_MAX, sizeof *sr.keys);
	sr.srqs = calloc(SR_QP_INDEX_MAX, sizeof *sr.srqs);
	need(sr.qps && sr.keys && sr.srqs && !sr_shm_start());
	sr.started = true;
	need(!bare_context_open(&f.ctx));
	bare_context_nonblocking(&f.ctx);
	static struct ibv_device **list; /* kept, and so not leaked */
	list = ibv_get_device_list(&n);
	need(list && n);
	f.ctx.vctx.context.device = list[0];
	f.ctx.vctx.context.num_comp_vectors = 1;
	f.slot = sr.slot == 200 ? 201 : 200;
	need((f.pd = ibv_alloc_pd(&f.ctx.vctx.context)) && (f.cq = ibv_create_cq(&f.ctx.vctx.context, 4096, NULL, NULL, 0)));
	f.heap = malloc(REGION);
	f.readonly = malloc(REGION);
	f.pages = mmap(NULL, PAGES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	const int all = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC | IBV_ACCESS_MW_BIND;
	f.mr_heap = ibv_reg_mr(f.pd, f.heap, REGION, all);
	f.mr_readonly = ibv_reg_mr(f.pd, f.readonly, REGION, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_MW_BIND);
	f.mr_pages = ibv_reg_mr(f.pd, f.pages, PAGES, all);
	f.mw = sr_alloc_mw(f.pd, IBV_MW_TYPE_2);
	need(f.mr_heap && f.mr_readonly && f.mr_pages && f.mw);
	struct ibv_srq_init_attr_ex srq = { .attr = { .max_wr = 16, .max_sge = 4 },
					    .comp_mask = IBV_SRQ_INIT_ATTR_TYPE | IBV_SRQ_INIT_ATTR_PD | IBV_SRQ_INIT_ATTR_XRCD |
							 IBV_SRQ_INIT_ATTR_CQ,
					    .srq_type = IBV_SRQT_XRC, .pd = f.pd, .xrcd = &f.xrcd.xrcd, .cq = f.cq };
	need((f.srq = sr_create_srq_ex(&f.ctx.vctx.context, &srq)));
	static const enum ibv_qp_type types[QPS] = { IBV_QPT_RC, IBV_QPT_RC, IBV_QPT_UC, IBV_QPT_UD, IBV_QPT_XRC_RECV, IBV_QPT_XRC_SEND };
	for (int i = 0; i < QPS; i++) {
		struct ibv_qp_init_attr_ex a = { .send_cq = f.cq, .recv_cq = f.cq, .qp_type = types[i], .cap = { 16, 16, 4, 4, 64 },
						 .comp_mask = IBV_QP_INIT_ATTR_PD | IBV_QP_INIT_ATTR_XRCD, .pd = f.pd, .xrcd = &f.xrcd.xrcd };
		need((f.qp[i] = sr_create_qp_ex(&f.ctx.vctx.context, &a)));
	}
	/* The peer's segment, as ours would look to it. */
	int fd = memfd_create("peer", MFD_CLOEXEC);
	need(fd >= 0 && !ftruncate(fd, SR_SEGMENT_BYTES));
	f.link.peer = mmap(NULL, SR_SEGMENT_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	need(f.link.peer != MAP_FAILED);
	f.link.slot = f.slot;
	f.link.doorbell = -1;
	sr_list_init(&f.link.acks);
	sr_list_init(&f.link.owed);
	sr_list_init(&f.link.blocked);
	sr_list_init(&f.link.qps);
	sr_list_add_tail(&sr.links, &f.link.node);
	sr.link_by_slot[f.slot] = &f.link;
}

/* A queue pair connected to the peer, as ibv_modify_qp would have done it. */
static void connect_one(int i)
{
	struct sr_qp *qp = sr_qp(f.qp[i]);
	sr_lock();
	sr_qp_reset(qp);
	qp->attr = (struct ibv_qp_attr){ .dest_qp_num = peer_qpn((unsigned)i), .max_dest_rd_atomic = 4, .max_rd_atomic = 2, .rnr_retry = 3, .retry_cnt = 1,
					 .timeout = 1, .min_rnr_timer = 1 };
	qp->access = qp->attr.qp_access_flags = IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC;
	qp->dest_qpn = qp->attr.dest_qp_num;
	qp->qkey = 7;
	qp->path_mtu_bytes = 4096;
	f.qp[i]->state = IBV_QPS_RTS;
	if (qp->type != IBV_QPT_UD) {
		qp->road = SR_ROAD_SHM;
		sr_shm_qp_rtr(qp, &f.link);
		sr_shm_publish_qp(qp);
	}
	sr_unlock();
}

static void begin(void)
{
	struct sr_link *l = &f.link;
	for (int i = 0; i < QPS; i++)
		connect_one(i);
	sr_shm_forget_control(l);
	memset(sr_seg_ring(sr_own.base, f.slot), 0, SR_RING_LINES * sizeof(struct sr_ring_line));
	memset(sr_seg_ring(l->peer, sr.slot), 0, SR_RING_LINES * sizeof(struct sr_ring_line));
	memset(sr_seg_ctl(sr_own.base, f.slot), 0, sizeof(struct sr_ring_ctl));
	memset(sr_seg_ctl(l->peer, sr.slot), 0, sizeof(struct sr_ring_ctl));
	l->tx = (struct sr_tx_ring){ .lines = sr_seg_ring(sr_own.base, f.slot), .ctl = sr_seg_ctl(sr_own.base, f.slot) };
	l->rx = (struct sr_rx_ring){ .lines = sr_seg_ring(l->peer, sr.slot), .ctl = sr_seg_ctl(l->peer, sr.slot) };
	l->poisoned = l->dirty = false;
	/* an exported region of the peer */
	struct sr_key_row *k = sr_seg_key(l->peer, 0x00123400);
	*k = (struct sr_key_row){ .key = 0x00123400, .access = 15, .pd_id = 9, .iova = 0x10000, .length = 0x4000, .offset = SR_OFF_ARENA };
	for (unsigned i = 0; i < QPS; i++) {
		struct sr_qp_row *q = sr_seg_qp(l->peer, peer_qpn(i));
		*q = (struct sr_qp_row){ .qpn = peer_qpn(i), .dest_qpn = f.qp[i]->qp_num, .pd_id = 9, .access = 15 };
	}
	memset(f.readonly, 0x5a, REGION);
	f.posted = f.completed = 0;
}

/* A message of the peer, mostly well-formed. */
static void message(struct input *in)
{
	struct sr_rx_ring *r = &f.link.rx;
	uint32_t at = r->head % SR_RING_LINES;
	while (((struct sr_msg *)(void *)&r->lines[at])->word && at + 1 < SR_RING_LINES) /* behind what is there */
		at += SR_WORD_LINES(((struct sr_msg *)(void *)&r->lines[at])->word) ? SR_WORD_LINES(((struct sr_msg *)(void *)&r->lines[at])->word) : 1;
	if (at + 140 > SR_RING_LINES)
		return;
	struct sr_msg *m = (struct sr_msg *)(void *)&r->lines[at];
	uint32_t type = take(in, 1), flags = take(in, 2), who = take(in, 1);
	struct sr_qp *qp = sr_qp(f.qp[who % QPS]);
	m->src_qpn = who & 0x40 ? take(in, 3) : peer_qpn(who % QPS);
	m->dst_qpn = who & 0x80 ? take(in, 3) : qp->qpn;
	uint32_t n = take(in, 1);
	m->number = n & 0x80 ? take(in, 4) : (n & 0x40 ? qp->shm.acked : qp->shm.expect) + (n & 7) - (n & 8);
	m->ack = n & 0x20 ? take(in, 4) : qp->shm.acked + (n & 3);
	uint32_t l = take(in, 2);
	m->length = l & 0x8000 ? take(in, 4) : l & 0x3fff;
	m->imm = type & 0x80 ? take(in, 4) : (type & 0x40 ? some_key(l) : take(in, 1));
	m->total = type & 0x20 ? take(in, 4) : m->length;
	uint32_t a = take(in, 1);
	struct sr_msg_rdma *x = (struct sr_msg_rdma *)(m + 1);
	if (qp->type == IBV_QPT_XRC_RECV && !(flags & 0x1000)) {
		((struct sr_msg_xrc *)x)->srqn = n & 0x10 ? take(in, 3) : f.srq->handle;
		x = (struct sr_msg_rdma *)((struct sr_msg_xrc *)x + 1);
		flags |= SR_MSGF_XRC;
	}
	x->remote_addr = some_addr(a, take(in, 2));
	x->rkey = some_key(a >> 4);
	x->offset = a & 8 ? take(in, 4) : qp->shm.received;
	x->compare_add = take(in, 2);
	struct sr_msg_ref *ref = (struct sr_msg_ref *)(x + 1);
	if (flags & 0x8000) {
		ref[-2].offset = ref->offset = SR_OFF_ARENA + take(in, 2);
		ref[-2].length = ref->length = take(in, 2);
	}
	for (unsigned i = take(in, 1) % 32; i; i--)
		((uint8_t *)(ref + 1))[i * 7] = (uint8_t)take(in, 1);
	unsigned lines = flags & 0x4000 ? take(in, 1) : sr_msg_lines(sizeof *m + sizeof(struct sr_msg_xrc) + sizeof *x + (m->length < 8192 ? m->length : 64));
	if (!(flags & 0x2000))
		flags |= SR_MSGF_FIRST | SR_MSGF_LAST;
	if (qp->type == IBV_QPT_UC && !(flags & 0x1000))
		flags |= SR_MSGF_UC;
	m->word = SR_WORD(lines & 0xff, type & 15, flags & 0xfff);
}

/* Raw bytes where the peer can write. */
static void scribble(struct input *in)
{
	uint32_t where = take(in, 1), off = take(in, 3);
	uint8_t *to;
	switch (where % 8) {
	case 0: to = f.link.rx.lines[off % (SR_RING_LINES - 1)].bytes; break;
	case 1: to = f.link.tx.lines[off % (SR_RING_LINES - 1)].bytes; break;
	case 2: to = (uint8_t *)f.link.tx.ctl; break;
	case 3: to = (uint8_t *)f.link.rx.ctl; break;
	case 4: to = (uint8_t *)sr_seg_key(f.link.peer, some_key(off)) + off / 8 % 40; break;
	case 5: to = (uint8_t *)sr_seg_qp(f.link.peer, peer_qpn(off % QPS)); break;
	case 6: to = (uint8_t *)sr_seg_key(sr_own.base, some_key(off)) + off / 8 % 40; break;
	default: to = (uint8_t *)sr_seg_qp(sr_own.base, f.qp[off % QPS]->qp_num); break;
	}
	for (unsigned i = 1 + take(in, 1) % 16; i; i--)
		*to++ = (uint8_t)take(in, 1);
}

static void application(struct input *in)
{
	uint32_t what = take(in, 1), who = take(in, 1);
	struct ibv_qp *qp = f.qp[who % QPS];
	uint32_t len = take(in, 2) % 3000;
	struct ibv_mr *mr = what & 0x40 ? f.mr_pages : f.mr_heap;
	struct ibv_sge sge = { (uintptr_t)mr->addr, len, mr->lkey };
	struct ibv_recv_wr *bad_recv, recv = { .sg_list = &sge, .num_sge = 1 };
	struct ibv_send_wr *bad, wr = { .sg_list = &sge, .num_sge = 1, .send_flags = IBV_SEND_SIGNALED };
	static const enum ibv_wr_opcode ops[] = { IBV_WR_SEND, IBV_WR_RDMA_WRITE, IBV_WR_RDMA_READ, IBV_WR_ATOMIC_FETCH_AND_ADD, IBV_WR_RDMA_WRITE_WITH_IMM };
	switch (what % 5) {
	case 0:
	case 1:
		if (qp->qp_type == IBV_QPT_XRC_RECV)
			sr_post_srq_recv(f.srq, &recv, &bad_recv);
		else
			sr_post_recv(qp, &recv, &bad_recv);
		break;
	case 2:
		if (qp->qp_type == IBV_QPT_UD)
			break;
		wr.opcode = ops[(what >> 3) % 5];
		wr.qp_type.xrc.remote_srqn = f.slot << SR_QP_INDEX_BITS | 0x77;
		if (wr.opcode == IBV_WR_ATOMIC_FETCH_AND_ADD) {
			sge.length = 8;
			wr.wr.atomic.remote_addr = 0x10000 + len;
			wr.wr.atomic.rkey = 0x00123400;
		} else {
			wr.wr.rdma.remote_addr = 0x10000 + len;
			wr.wr.rdma.rkey = who & 0x80 ? take(in, 4) : 0x00123400;
		}
		if (!sr_post_send(qp, &wr, &bad))
			f.posted++;
		break;
	case 3:
		if (who & 0x40)
			connect_one((int)(who % QPS));
		else if (who & 0x20) {
			sr_lock();
			sr_qp_to_error(sr_qp(qp));
			sr_unlock();
		}
		break;
	default: {
		struct ibv_send_wr bind = { .opcode = IBV_WR_BIND_MW, .send_flags = IBV_SEND_SIGNALED,
					    .bind_mw = { f.mw, ibv_inc_rkey(f.mw->rkey), { f.mr_pages, (uintptr_t)f.pages, 5000, IBV_ACCESS_REMOTE_WRITE } } };
		if (qp->qp_type == IBV_QPT_RC && !sr_post_send(qp, &bind, &bad)) {
			f.posted++;
			f.mw->rkey = bind.bind_mw.rkey;
		}
		break;
	}
	}
}

static void step(void)
{
	struct ibv_wc wc[16];
	sr_lock();
	sr_progress_locked(false);
	sr_shm_flush_acks();
	sr_unlock();
	for (int n; (n = sr_poll_cq(f.cq, 16, wc)) > 0;)
		for (int i = 0; i < n; i++)
			f.completed += !(wc[i].opcode & IBV_WC_RECV) || wc[i].status != IBV_WC_SUCCESS;
	for (struct ibv_async_event ev; !ibv_get_async_event(&f.ctx.vctx.context, &ev);)
		ibv_ack_async_event(&ev);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, data + size };
	if (!f.pd)
		setup();
	begin();
	while (in.at < in.end) {
		switch (take(&in, 1) % 8) {
		case 0:
		case 1:
		case 2:
			message(&in);
			break;
		case 3:
			scribble(&in);
			break;
		case 4:
		case 5:
			application(&in);
			break;
		default:
			step();
			break;
		}
	}
	step();
	for (unsigned i = 0; i < REGION; i++)
		need(f.readonly[i] == 0x5a);
	return 0;
}
