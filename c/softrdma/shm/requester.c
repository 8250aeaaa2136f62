/*
 * requester.c - the sending half of RC and UC on road 1.
 *
 * WQEs go out in order. A one-sided operation is done directly when nothing of this queue pair is still to be executed by the
 * target (order must hold); otherwise it goes as a message behind the others, or, when large, waits for its turn.
 * Messages are numbered; an acknowledgement names the first number not executed.
 */
#include "../engine/guard.h"
#include "../engine/key.h"
#include "../engine/rnr.h"
#include "direct.h"
#include "export.h"
#include "road.h"
#include "shm.h"

/* Below this, copying into the ring is cheaper than making the receiver fetch from our memory. */
#define REF_MIN 1024u
#define UNACKED_TIMEOUT_NS 10000000u /* attr.timeout 0 means for ever: ask again at this pace, without counting */

enum { PLACED = 1 }; /* sr_swqe.road_flags: WRITE_WITH_IMM data is in the target's memory */

static bool is_write(uint8_t op) { return op == IBV_WR_RDMA_WRITE || op == IBV_WR_RDMA_WRITE_WITH_IMM; }
static bool has_imm(uint8_t op) { return op == IBV_WR_RDMA_WRITE_WITH_IMM || op == IBV_WR_SEND_WITH_IMM; }
static bool before(uint32_t a, uint32_t b) { return (int32_t)(a - b) < 0; }

/* Completes what is finished, in order. */
static void reap(struct sr_qp *qp)
{
	uint32_t end = qp->sq.tail;
	while (end != qp->sq.next) {
		struct sr_swqe *w = sr_sq_at(&qp->sq, end);
		if (!(w->flags & SR_WQE_DONE) && (sr_opcode_is_read(w->opcode) || !before(w->message, qp->shm.acked)))
			break;
		end++;
	}
	if (end != qp->sq.tail)
		sr_sq_complete(qp, end);
}

/* The WQE's memory as places in our segment; the number of them, or 0 when some of it is not exported. */
static int refs_of(struct sr_qp *qp, struct sr_swqe *w, struct sr_msg_ref *refs)
{
	int n = 0;
	if (w->flags & SR_WQE_INLINE)
		return 0;
	for (unsigned i = 0; i < w->num_sge; i++) {
		const struct ibv_sge *s = &w->sge[i];
		if (!s->length)
			continue;
		struct sr_key *k = sr_key_find(s->lkey);
		if (!k || k->kind != SR_KEY_MR || k->pd_id != qp->pd->id || !sr_key_covers(k, s->addr, s->length) ||
		    !sr_export_lookup(k, k->base + (s->addr - k->iova), s->length, &refs[n].offset))
			return 0;
		refs[n++].length = s->length;
	}
	return n;
}

static uint32_t kind_flag(const struct sr_qp *qp)
{
	return qp->type == IBV_QPT_UC ? SR_MSGF_UC : qp->type == IBV_QPT_XRC_SEND ? SR_MSGF_XRC : 0;
}

static size_t head_bytes(const struct sr_qp *qp)
{
	return sizeof(struct sr_msg) + (qp->type == IBV_QPT_XRC_SEND ? sizeof(struct sr_msg_xrc) : 0);
}

/* What an XRC request names comes first; returns where the rest goes. */
static char *put_srqn(const struct sr_qp *qp, const struct sr_swqe *w, struct sr_msg *m)
{
	if (qp->type != IBV_QPT_XRC_SEND)
		return (char *)(m + 1);
	*(struct sr_msg_xrc *)(m + 1) = (struct sr_msg_xrc){ .srqn = w->srqn };
	return (char *)(m + 1) + sizeof(struct sr_msg_xrc);
}

/* One SEND or WRITE as messages, from w->progress_bytes on. 1 all is in the ring, 0 no room, negative wc status. */
static int send_data(struct sr_qp *qp, struct sr_swqe *w)
{
	struct sr_link *l = qp->link;
	bool write = is_write(w->opcode), placed = w->road_flags & PLACED;
	size_t head = head_bytes(qp) + (write ? sizeof(struct sr_msg_rdma) : 0);
	uint32_t common = kind_flag(qp) | (placed ? SR_MSGF_PLACED : 0);
	struct sr_msg_ref refs[SR_MAX_SGE];
	int nrefs = 0;

	if (w->length > REF_MIN && sr_qp_reliable(qp) && !placed && w->progress_bytes == 0)
		nrefs = refs_of(qp, w, refs);
	do {
		uint32_t off = w->progress_bytes, left = placed ? 0 : w->length - off;
		uint32_t chunk = nrefs ? left : left < SR_MSG_PAYLOAD ? left : SR_MSG_PAYLOAD;
		size_t payload = nrefs ? (size_t)nrefs * sizeof *refs : chunk;
		uint32_t flags = common | (off == 0 ? SR_MSGF_FIRST : 0) | (nrefs ? SR_MSGF_REF : 0);
		struct iovec iov[SR_MAX_SGE];
		int n = 0;
		if (!nrefs && (n = sr_swqe_iov(qp, w, off, chunk, false, iov, SR_MAX_SGE)) < 0)
			return n;
		struct sr_msg *m = sr_link_reserve(l, head + payload);
		if (!m)
			return 0;
		sr_shm_header(qp, m);
		m->number = qp->shm.sent;
		m->length = chunk;
		m->imm = w->imm;
		m->total = w->length;
		char *to = put_srqn(qp, w, m);
		if (write) {
			struct sr_msg_rdma *r = (struct sr_msg_rdma *)to;
			r->remote_addr = w->remote_addr;
			r->rkey = w->rkey;
			r->offset = off;
			to += sizeof *r;
		}
		if (nrefs) {
			memcpy(to, refs, payload);
		} else if (!sr_guard_gather(to, iov, n)) {
			sr_tx_cancel(m, head + payload);
			return -IBV_WC_LOC_PROT_ERR;
		}
		w->progress_bytes = off + chunk;
		if (placed || w->progress_bytes == w->length)
			flags |= SR_MSGF_LAST | (has_imm(w->opcode) ? SR_MSGF_IMM : 0) |
				 (w->opcode == IBV_WR_SEND_WITH_INV ? SR_MSGF_INV : 0) |
				 (w->flags & SR_WQE_SOLICITED ? SR_MSGF_SOLICITED : 0);
		if (sr_qp_reliable(qp))
			flags |= sr_shm_piggyback(qp, m);
		sr_link_commit(l, m, head + payload, write ? SR_MSG_WRITE : SR_MSG_SEND, flags);
		SR_COUNT(shm_messages_sent);
		if (flags & SR_MSGF_LAST)
			return 1;
	} while (1);
}

/* A READ or atomic request. */
static int send_request(struct sr_qp *qp, struct sr_swqe *w)
{
	size_t bytes = head_bytes(qp) + sizeof(struct sr_msg_rdma);
	struct sr_msg *m = sr_link_reserve(qp->link, bytes);
	if (!m)
		return 0;
	sr_shm_header(qp, m);
	m->number = qp->shm.sent;
	m->length = 0;
	m->imm = w->opcode;
	m->total = w->length;
	struct sr_msg_rdma *r = (struct sr_msg_rdma *)put_srqn(qp, w, m);
	r->remote_addr = w->remote_addr;
	r->rkey = w->rkey;
	r->offset = 0;
	r->compare_add = w->opcode == IBV_WR_RDMA_READ ? 0 : w->atomic.compare_add;
	r->swap = w->opcode == IBV_WR_RDMA_READ ? 0 : w->atomic.swap;
	w->progress_bytes = 0;
	sr_link_commit(qp->link, m, bytes, w->opcode == IBV_WR_RDMA_READ ? SR_MSG_READ : SR_MSG_ATOMIC,
		       SR_MSGF_FIRST | SR_MSGF_LAST | kind_flag(qp) | sr_shm_piggyback(qp, m));
	SR_COUNT(shm_messages_sent);
	return 1;
}

/* A WQE can only fail when it is the oldest; until then it waits at sq.next. */
static bool fail_in_turn(struct sr_qp *qp, enum ibv_wc_status status)
{
	reap(qp);
	if (qp->sq.tail != qp->sq.next)
		return false;
	qp->sq.next++;
	sr_sq_fail(qp, status, 0);
	return true;
}

/* Has the target executed all that this queue pair sent? RC is told; UC sees how far the ring was read. */
static bool all_executed(struct sr_qp *qp)
{
	if (qp->shm.sent == qp->shm.acked)
		return true;
	if (qp->type != IBV_QPT_UC)
		return false;
	struct sr_ring_ctl *ctl = qp->link->tx.ctl;
	if ((int32_t)(atomic_load_explicit(&ctl->head, memory_order_acquire) - qp->shm.ring_end) < 0) {
		atomic_store_explicit(&ctl->blocked, 1, memory_order_relaxed); /* asks the reader to say how far it is */
		return false;
	}
	qp->shm.acked = qp->shm.sent;
	return true;
}

/* Tries to hand one WQE over. False: stop here for now. */
static bool advance(struct sr_qp *qp, struct sr_swqe *w)
{
	if (w->flags & SR_WQE_DONE) { /* met again after a rewind */
		qp->sq.next++;
		return true;
	}
	if ((w->flags & SR_WQE_FENCE) && qp->reads_outstanding)
		return false;
	if (sr_opcode_is_local(w->opcode)) {
		enum ibv_wc_status status = sr_swqe_local(qp, w);
		if (status != IBV_WC_SUCCESS) {
			fail_in_turn(qp, status);
			return false;
		}
		w->flags |= SR_WQE_DONE;
		qp->sq.next++;
		return true;
	}
	bool read = sr_opcode_is_read(w->opcode);
	if (read && qp->reads_outstanding >= (qp->attr.max_rd_atomic ? qp->attr.max_rd_atomic : 1u))
		return false;

	bool one_sided = read || is_write(w->opcode);
	if (one_sided && w->progress_bytes == 0 && !(w->road_flags & PLACED)) {
		if (all_executed(qp)) {
			enum sr_direct d = sr_direct_execute(qp, w);
			if (d == SR_DIRECT_LOCAL_ERROR) {
				fail_in_turn(qp, IBV_WC_LOC_PROT_ERR);
				return false;
			}
			if (d == SR_DIRECT_DONE && w->opcode == IBV_WR_RDMA_WRITE_WITH_IMM) {
				w->road_flags |= PLACED;
			} else if (d == SR_DIRECT_DONE) {
				w->flags |= SR_WQE_DONE;
				qp->reads_outstanding += read;
				qp->sq.next++;
				return true;
			}
		} else if (sr_qp_reliable(qp) && (read || w->length > SR_MSG_PAYLOAD) && sr_direct_possible(qp, w)) {
			return false; /* the acknowledgement that it waits for brings us back here */
		}
	}
	if (read && sr_swqe_iov(qp, w, 0, w->length, true, (struct iovec[SR_MAX_SGE]){ { 0 } }, SR_MAX_SGE) < 0) {
		fail_in_turn(qp, IBV_WC_LOC_PROT_ERR);
		return false;
	}
	int sent = read ? send_request(qp, w) : send_data(qp, w);
	if (sent < 0) {
		fail_in_turn(qp, (enum ibv_wc_status)-sent);
		return false;
	}
	if (!sent) {
		sr_shm_wait_room(qp->link, qp);
		return false;
	}
	w->message = qp->shm.sent++;
	w->progress_bytes = 0;
	if (qp->type == IBV_QPT_UC) {
		w->flags |= SR_WQE_DONE;
		qp->shm.ring_end = qp->link->tx.tail;
	}
	qp->reads_outstanding += read;
	qp->sq.next++;
	return true;
}

bool sr_shm_begun(const struct sr_qp *qp)
{
	const struct sr_sq *sq = &qp->sq;
	return sq->next != sq->head && (before(sq->next, qp->shm.begun) || sr_sq_at((struct sr_sq *)sq, sq->next)->progress_bytes);
}

void sr_shm_kick(struct sr_qp *qp)
{
	uint32_t tail;
	do {
		while (qp->road == SR_ROAD_SHM && !qp->shm.waiting && qp->sq.next != qp->sq.head) {
			struct sr_swqe *w = sr_sq_at(&qp->sq, qp->sq.next);
			enum ibv_qp_state s = sr_qp_state(qp);
			if (s != IBV_QPS_RTS && !(s == IBV_QPS_SQD && sr_shm_begun(qp)))
				break; /* SQD finishes what was begun */
			if (!advance(qp, w))
				break;
		}
		if (qp->road != SR_ROAD_SHM)
			return;
		tail = qp->sq.tail;
		reap(qp); /* may make way for a READ that its predecessors' number held back */
	} while (tail != qp->sq.tail && qp->sq.next != qp->sq.head && !qp->shm.waiting && sr_list_empty(&qp->shm.blocked_node));
	sr_link_ring_bell(qp->link);
}

/* ---- answers ---------------------------------------------------------------------------------------------------------- */

void sr_shm_on_ack(struct sr_qp *qp, uint32_t ack)
{
	/* Only what was sent can be acknowledged, and never backwards. */
	if (!before(qp->shm.acked, ack) || before(qp->shm.sent, ack))
		return;
	qp->shm.acked = ack;
	qp->shm.rnr_left = qp->attr.rnr_retry;
	qp->shm.retry_left = qp->attr.retry_cnt;
	reap(qp);
	if (qp->sq.next != qp->sq.head)
		sr_shm_kick(qp);
}

/* The WQE sent under a number, at or after tail; sq.next when there is none. */
static uint32_t find(struct sr_qp *qp, uint32_t number)
{
	uint32_t i = qp->sq.tail;
	for (; i != qp->sq.next; i++) {
		struct sr_swqe *w = sr_sq_at(&qp->sq, i);
		if (!(w->flags & SR_WQE_DONE) && w->message == number && !sr_opcode_is_local(w->opcode))
			break;
	}
	return i;
}

/* Sends again from `number` on, after a while. */
static void rewind_to(struct sr_qp *qp, uint32_t number, uint64_t delay_ns)
{
	uint32_t i = find(qp, number);
	if (before(qp->shm.begun, qp->sq.next))
		qp->shm.begun = qp->sq.next;
	/* A message cut off by the NAK may be half sent: it begins anew too. */
	if (qp->sq.next != qp->sq.head && sr_sq_at(&qp->sq, qp->sq.next)->progress_bytes) {
		sr_sq_at(&qp->sq, qp->sq.next)->progress_bytes = 0;
		qp->shm.begun = qp->sq.next + 1;
	}
	for (uint32_t j = i; j != qp->sq.next; j++) {
		struct sr_swqe *w = sr_sq_at(&qp->sq, j);
		w->progress_bytes = 0;
		if (sr_opcode_is_read(w->opcode) && !(w->flags & SR_WQE_DONE))
			qp->reads_outstanding--;
	}
	qp->sq.next = i;
	qp->shm.sent = number;
	sr_shm_set_timer(qp, delay_ns);
}

static void fail_oldest(struct sr_qp *qp, enum ibv_wc_status status)
{
	if (qp->sq.tail == qp->sq.next)
		qp->sq.next++; /* it was rewound, or is half sent */
	sr_sq_fail(qp, status, 0);
}

static void not_ready(struct sr_qp *qp, uint32_t number)
{
	uint64_t timeout_ns = qp->attr.timeout ? 4096ull << qp->attr.timeout : UNACKED_TIMEOUT_NS;
	SR_COUNT(local_ack_timeout_err);
	if (qp->attr.timeout) {
		if (!qp->shm.retry_left) {
			fail_oldest(qp, IBV_WC_RETRY_EXC_ERR);
			return;
		}
		qp->shm.retry_left--;
	}
	rewind_to(qp, number, timeout_ns);
}

void sr_shm_on_nak(struct sr_qp *qp, const struct sr_msg *m)
{
	uint32_t number = SR_ONCE(m->number), imm = SR_ONCE(m->imm);
	if (!sr_qp_reliable(qp))
		return;
	bool half = qp->sq.next != qp->sq.head && sr_sq_at(&qp->sq, qp->sq.next)->progress_bytes && number == qp->shm.sent;
	/* A READ is acknowledged before its data, which may yet turn out to be unreadable. */
	uint32_t at = find(qp, number);
	bool reading = at != qp->sq.next && sr_opcode_is_read(sr_sq_at(&qp->sq, at)->opcode) && (imm & 0xff) > SR_NAK_NOT_READY;
	if (!reading && (before(number, qp->shm.acked) || (!half && !before(number, qp->shm.sent))))
		return; /* of something long finished, or never sent */
	if (before(qp->shm.acked, number)) {
		qp->shm.acked = number;
		qp->shm.rnr_left = qp->attr.rnr_retry;
		qp->shm.retry_left = qp->attr.retry_cnt;
	}
	reap(qp);
	switch (imm & 0xff) {
	case SR_NAK_RNR:
		SR_COUNT(rnr_nak_retry_err);
		if (qp->attr.rnr_retry != 7) {
			if (!qp->shm.rnr_left) {
				fail_oldest(qp, IBV_WC_RNR_RETRY_EXC_ERR);
				return;
			}
			qp->shm.rnr_left--;
		}
		rewind_to(qp, number, sr_rnr_timer_ns(imm >> 8 & 31));
		break;
	case SR_NAK_NOT_READY:
		not_ready(qp, number);
		break;
	case SR_NAK_REMOTE_ACCESS:
		fail_oldest(qp, IBV_WC_REM_ACCESS_ERR);
		break;
	case SR_NAK_REMOTE_OPERATION:
		fail_oldest(qp, IBV_WC_REM_OP_ERR);
		break;
	default:
		fail_oldest(qp, IBV_WC_REM_INV_REQ_ERR);
		break;
	}
}

void sr_shm_on_data(struct sr_qp *qp, const struct sr_msg *m, size_t room, bool atomic)
{
	uint32_t length = SR_ONCE(m->length);
	uint32_t i = find(qp, m->number);
	struct sr_swqe *w = sr_sq_at(&qp->sq, i);
	if (i == qp->sq.next || !sr_opcode_is_read(w->opcode) || (w->opcode == IBV_WR_RDMA_READ) == atomic ||
	    m->total != w->progress_bytes || length > room || length > w->length - w->progress_bytes) {
		SR_COUNT(shm_bad_messages);
		return;
	}
	int err = sr_swqe_store(qp, w, w->progress_bytes, m + 1, length);
	if (err) {
		reap(qp);
		fail_oldest(qp, (enum ibv_wc_status)-err);
		return;
	}
	w->progress_bytes += length;
	if (w->progress_bytes < w->length)
		return;
	w->flags |= SR_WQE_DONE;
	reap(qp);
	if (qp->sq.next != qp->sq.head)
		sr_shm_kick(qp);
}

void sr_shm_on_timer(struct sr_qp *qp)
{
	qp->shm.waiting = false;
	sr_list_del(&qp->shm.timer_node);
	if (qp->type == IBV_QPT_UD && qp->sq.next != qp->sq.head)
		sr_shm_ud_give_up(qp);
	sr_qp_kick(qp);
}

/* ---- binding ------------------------------------------------------------------------------------------------------------ */

void sr_shm_qp_rtr(struct sr_qp *qp, struct sr_link *link)
{
	qp->link = link;
	qp->shm.sent = qp->shm.acked = qp->shm.expect = 0;
	qp->shm.begun = qp->sq.next;
	qp->shm.in_message = qp->shm.refused = false;
	qp->shm.refusal = 0;
	qp->shm.rnr_left = 7;
	qp->shm.retry_left = 7;
	qp->shm.waiting = false;
	sr_list_add_tail(&link->qps, &qp->shm.link_node);
}

void sr_shm_qp_reset(struct sr_qp *qp)
{
	if (!sr_list_empty(&qp->shm.ack_node)) /* what was executed is acknowledged, even when this is the end */
		sr_shm_leave_ack(qp);
	sr_list_del(&qp->shm.blocked_node);
	sr_list_del(&qp->shm.timer_node);
	sr_list_del(&qp->shm.link_node);
	sr_shm_forget_replies(qp);
	qp->shm.waiting = false;
	qp->link = NULL;
}
