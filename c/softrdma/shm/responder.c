/*
 * responder.c - the receiving half of RC and UC on road 1: executes requests in order, answers, says why not.
 *
 * Everything in a message comes from another process and is checked here: lengths against the lines it came in (progress.c),
 * references against the sender's segment, addresses and keys against our own tables.
 */
#include <stdlib.h>
#include "../engine/guard.h"
#include "../engine/xrc.h"
#include "road.h"
#include "shm.h"

struct sr_shm_read {
	struct sr_list node;
	uint32_t number;
	bool atomic;
	uint32_t rkey;
	uint32_t srqn; /* XRC: of the request */
	uint64_t addr;
	uint32_t length, done;
	uint64_t old; /* atomic: the value before */
};

#define REPLIES_MAX 128

void sr_shm_owe_ack(struct sr_qp *qp)
{
	if (sr_list_empty(&qp->shm.ack_node))
		sr_list_add_tail(&qp->link->acks, &qp->shm.ack_node);
}

void sr_shm_send_ack(struct sr_qp *qp)
{
	struct sr_msg *m = sr_link_reserve(qp->link, sizeof *m);
	if (!m)
		return;
	sr_shm_header(qp, m);
	m->number = 0;
	m->length = 0;
	m->imm = 0;
	m->total = 0;
	sr_link_commit(qp->link, m, sizeof *m, SR_MSG_ACK, SR_MSGF_FIRST | SR_MSGF_LAST | sr_shm_piggyback(qp, m));
	SR_COUNT(shm_messages_sent);
}

/* A fatal answer: the requester's queue pair ends with the NAK, ours with the event. */
static void refuse_now(struct sr_qp *qp, uint32_t number, enum sr_nak code)
{
	enum ibv_event_type event = code == SR_NAK_REMOTE_ACCESS || code == SR_NAK_XRC ? IBV_EVENT_QP_ACCESS_ERR : IBV_EVENT_QP_REQ_ERR;
	sr_shm_send_nak(qp->link, qp->qpn, qp->dest_qpn, number, code, 0);
	sr_link_ring_bell(qp->link);
	if (code == SR_NAK_REMOTE_ACCESS)
		SR_COUNT(resp_remote_access_errors);
	sr_qp_responder_error(qp, event);
}

/* UC has no answers: it drops the message and keeps the receive WQE for the next. In RC, READs that came before are answered first. */
static void refuse(struct sr_qp *qp, enum sr_nak code)
{
	qp->shm.in_message = false;
	if (qp->type == IBV_QPT_UC)
		SR_COUNT(rx_uc_dropped);
	else if (!sr_list_empty(&qp->shm.reads))
		qp->shm.refusal = code;
	else
		refuse_now(qp, qp->shm.expect, code);
}

/* The receive WQE for a message; one that a broken-off message took and did not fill serves again. */
static int take_receive(struct sr_qp *qp) { return qp->rx->active ? 0 : sr_rx_take(qp); }

/* No receive WQE. RC: come back later; UC: the message is lost. */
static void receiver_not_ready(struct sr_qp *qp)
{
	qp->shm.in_message = false;
	if (qp->type == IBV_QPT_UC) {
		SR_COUNT(rx_uc_dropped);
		return;
	}
	qp->shm.refused = true;
	sr_shm_send_nak(qp->link, qp->qpn, qp->dest_qpn, qp->shm.expect, SR_NAK_RNR, qp->attr.min_rnr_timer);
}

static void executed(struct sr_qp *qp)
{
	qp->shm.in_message = false;
	if (qp->type == IBV_QPT_UC)
		return;
	qp->shm.expect++;
	sr_shm_owe_ack(qp);
}

/* The pieces of a payload: behind the header, or in the sender's arena. Returns their number, -1 when they are not valid. */
static int pieces(struct sr_link *l, uint32_t length, const void *payload, size_t payload_bytes, uint32_t flags, struct iovec *iov)
{
	if (!(flags & SR_MSGF_REF)) {
		if (length > payload_bytes)
			return -1;
		iov[0] = (struct iovec){ (void *)(uintptr_t)payload, length };
		return 1;
	}
	const struct sr_msg_ref *ref = payload;
	uint64_t total = 0;
	int n = 0;
	while (total < length) {
		if (n == SR_MAX_SGE || (size_t)(n + 1) * sizeof *ref > payload_bytes)
			return -1;
		uint64_t off = SR_ONCE(ref[n].offset), len = SR_ONCE(ref[n].length);
		if (!len || len > length - total || off < SR_OFF_ARENA || off > SR_SEGMENT_BYTES - len)
			return -1;
		iov[n++] = (struct iovec){ (char *)l->peer + off, len };
		total += len;
	}
	return n;
}

static void finish_receive(struct sr_qp *qp, const struct sr_msg *m, uint32_t flags, enum ibv_wc_opcode opcode, uint32_t bytes)
{
	struct ibv_wc wc = { .opcode = opcode, .byte_len = bytes, .src_qp = qp->dest_qpn };
	if (flags & SR_MSGF_IMM) {
		wc.imm_data = m->imm;
		wc.wc_flags = IBV_WC_WITH_IMM;
	} else if (flags & SR_MSGF_INV) {
		wc.invalidated_rkey = m->imm;
		wc.wc_flags = IBV_WC_WITH_INV;
	}
	sr_rx_complete(qp, IBV_WC_SUCCESS, &wc, flags & SR_MSGF_SOLICITED);
}

static void fail_receive(struct sr_qp *qp, enum ibv_wc_status status, enum sr_nak code)
{
	struct ibv_wc wc = { .opcode = IBV_WC_RECV };
	if (qp->type == IBV_QPT_UC && status == IBV_WC_LOC_PROT_ERR) { /* the WQE would fail every message */
		qp->shm.in_message = false;
		sr_rx_complete(qp, status, &wc, false);
		sr_qp_to_error(qp);
		return;
	}
	if (qp->type != IBV_QPT_UC)
		sr_rx_complete(qp, status, &wc, false);
	refuse(qp, code);
}

/* An operation that the queue pair does not serve at all is an invalid request; a bad key or address is an access error. */
static enum sr_nak refusal_of(const struct sr_qp *qp, unsigned access)
{
	return qp->access & access ? SR_NAK_REMOTE_ACCESS : SR_NAK_INVALID_REQUEST;
}

static void on_send(struct sr_link *l, struct sr_qp *qp, const struct sr_msg *m, const char *body, size_t payload_bytes,
		    uint32_t flags)
{
	struct iovec iov[SR_MAX_SGE];
	if (flags & SR_MSGF_FIRST) {
		if (take_receive(qp)) {
			receiver_not_ready(qp);
			return;
		}
		qp->shm.received = 0;
		qp->shm.in_message = true;
	}
	int n = pieces(l, SR_ONCE(m->length), body, payload_bytes, flags, iov);
	if (n < 0) {
		SR_COUNT(shm_bad_messages);
		fail_receive(qp, IBV_WC_LOC_QP_OP_ERR, SR_NAK_INVALID_REQUEST);
		return;
	}
	for (int i = 0; i < n; i++) {
		enum ibv_wc_status s = sr_rx_scatter(qp, qp->shm.received, iov[i].iov_base, (uint32_t)iov[i].iov_len);
		if (s != IBV_WC_SUCCESS) {
			fail_receive(qp, s, s == IBV_WC_LOC_LEN_ERR ? SR_NAK_INVALID_REQUEST : SR_NAK_REMOTE_OPERATION);
			return;
		}
		qp->shm.received += (uint32_t)iov[i].iov_len;
	}
	if (!(flags & SR_MSGF_LAST))
		return;
	if ((flags & SR_MSGF_INV) && sr_remote_invalidate(qp, m->imm)) {
		fail_receive(qp, IBV_WC_LOC_ACCESS_ERR, SR_NAK_REMOTE_ACCESS);
		return;
	}
	finish_receive(qp, m, flags, IBV_WC_RECV, qp->shm.received);
	executed(qp);
}

static void on_write(struct sr_link *l, struct sr_qp *qp, const struct sr_msg *m, const char *body, size_t payload_bytes,
		     uint32_t flags)
{
	const struct sr_msg_rdma *r = (const struct sr_msg_rdma *)body;
	struct iovec iov[SR_MAX_SGE];
	if (payload_bytes < sizeof *r) {
		SR_COUNT(shm_bad_messages);
		refuse(qp, SR_NAK_INVALID_REQUEST);
		return;
	}
	uint32_t off = SR_ONCE(r->offset), length = SR_ONCE(m->length), total = SR_ONCE(m->total), rkey = SR_ONCE(r->rkey);
	uint64_t addr = SR_ONCE(r->remote_addr);
	if (flags & SR_MSGF_FIRST) {
		qp->shm.received = 0;
		qp->shm.in_message = true;
		if (!sr_remote_ptr(qp, rkey, addr, total, IBV_ACCESS_REMOTE_WRITE)) {
			refuse(qp, refusal_of(qp, IBV_ACCESS_REMOTE_WRITE));
			return;
		}
	}
	if (!(flags & SR_MSGF_PLACED)) {
		int n = pieces(l, length, r + 1, payload_bytes - sizeof *r, flags, iov);
		if (n < 0 || off != qp->shm.received || off > total || length > total - off) {
			SR_COUNT(shm_bad_messages);
			refuse(qp, SR_NAK_INVALID_REQUEST);
			return;
		}
		char *to = sr_remote_ptr(qp, rkey, addr + off, length, IBV_ACCESS_REMOTE_WRITE);
		if (!to) { /* deregistered since the first fragment */
			refuse(qp, SR_NAK_REMOTE_ACCESS);
			return;
		}
		for (int i = 0; i < n; to += iov[i++].iov_len)
			if (!sr_guard_copy_ordered(to, iov[i].iov_base, iov[i].iov_len)) {
				refuse(qp, SR_NAK_REMOTE_ACCESS);
				return;
			}
		qp->shm.received += length;
	}
	if (!(flags & SR_MSGF_LAST))
		return;
	if (flags & SR_MSGF_IMM) {
		if (take_receive(qp)) {
			receiver_not_ready(qp);
			return;
		}
		finish_receive(qp, m, flags, IBV_WC_RECV_RDMA_WITH_IMM, total);
	}
	executed(qp);
}

/* ---- READ and atomics ------------------------------------------------------------------------------------------------- */

static bool send_reply(struct sr_qp *qp, struct sr_shm_read *r)
{
	do {
		uint32_t chunk = r->length - r->done < SR_MSG_PAYLOAD ? r->length - r->done : SR_MSG_PAYLOAD;
		const void *from = r->atomic ? (void *)&r->old :
					       sr_remote_ptr_in(qp, sr_xrc_pd(qp, r->srqn), r->rkey, r->addr + r->done, chunk,
								IBV_ACCESS_REMOTE_READ);
		if (!from) {
			refuse_now(qp, r->number, SR_NAK_REMOTE_ACCESS);
			return true; /* the queue pair has left the road, replies and all */
		}
		struct sr_msg *m = sr_link_reserve(qp->link, sizeof *m + chunk);
		if (!m)
			return false;
		sr_shm_header(qp, m);
		m->number = r->number;
		m->length = chunk;
		m->imm = 0;
		m->total = r->done;
		if (!sr_guard_copy(m + 1, from, chunk)) {
			sr_tx_cancel(m, sizeof *m + chunk);
			refuse_now(qp, r->number, SR_NAK_REMOTE_ACCESS);
			return true;
		}
		sr_link_commit(qp->link, m, sizeof *m + chunk, r->atomic ? SR_MSG_ATOMIC_DATA : SR_MSG_READ_DATA,
			       SR_MSGF_FIRST | SR_MSGF_LAST | sr_shm_piggyback(qp, m));
		SR_COUNT(shm_messages_sent);
		r->done += chunk;
	} while (r->done < r->length);
	return true;
}

void sr_shm_forget_replies(struct sr_qp *qp)
{
	sr_list_for(n, tmp, &qp->shm.reads) {
		sr_list_del(n);
		free(sr_list_entry(n, struct sr_shm_read, node));
	}
}

bool sr_shm_continue_replies(struct sr_qp *qp)
{
	while (!sr_list_empty(&qp->shm.reads)) {
		struct sr_shm_read *r = sr_list_entry(qp->shm.reads.next, struct sr_shm_read, node);
		if (!send_reply(qp, r))
			return false;
		if (qp->road != SR_ROAD_SHM)
			return true;
		sr_list_del(&r->node);
		free(r);
	}
	if (qp->shm.refusal)
		refuse_now(qp, qp->shm.expect, qp->shm.refusal);
	return true;
}

static void reply(struct sr_qp *qp, struct sr_shm_read *r)
{
	if (sr_list_empty(&qp->shm.reads) && send_reply(qp, r))
		return;
	unsigned waiting = 0;
	sr_list_for(n, tmp, &qp->shm.reads) waiting++;
	struct sr_shm_read *keep = waiting < REPLIES_MAX ? malloc(sizeof *keep) : NULL;
	if (!keep) {
		refuse(qp, SR_NAK_INVALID_REQUEST); /* more outstanding than this device ever grants */
		return;
	}
	*keep = *r;
	sr_list_add_tail(&qp->shm.reads, &keep->node);
	sr_shm_wait_room(qp->link, qp);
}

static void on_read(struct sr_qp *qp, const struct sr_msg *m, const char *body, size_t payload_bytes, bool atomic)
{
	const struct sr_msg_rdma *a = (const struct sr_msg_rdma *)body;
	struct sr_shm_read r = { .number = m->number, .atomic = atomic, .srqn = qp->type == IBV_QPT_XRC_RECV ? qp->srq->id : 0 };
	if (payload_bytes < sizeof *a || !sr_qp_reliable(qp) || !qp->attr.max_dest_rd_atomic) {
		refuse(qp, SR_NAK_INVALID_REQUEST);
		return;
	}
	r.rkey = SR_ONCE(a->rkey);
	r.addr = SR_ONCE(a->remote_addr);
	r.length = atomic ? 8 : SR_ONCE(m->total);
	if (atomic && (r.addr & 7)) {
		refuse(qp, SR_NAK_INVALID_REQUEST);
		return;
	}
	void *p = sr_remote_ptr(qp, r.rkey, r.addr, r.length, atomic ? IBV_ACCESS_REMOTE_ATOMIC : IBV_ACCESS_REMOTE_READ);
	if (!p || (atomic && ((uintptr_t)p & 7))) {
		refuse(qp, p ? SR_NAK_INVALID_REQUEST : refusal_of(qp, atomic ? IBV_ACCESS_REMOTE_ATOMIC : IBV_ACCESS_REMOTE_READ));
		return;
	}
	uint8_t op = (uint8_t)m->imm == IBV_WR_ATOMIC_FETCH_AND_ADD ? IBV_WR_ATOMIC_FETCH_AND_ADD : IBV_WR_ATOMIC_CMP_AND_SWP;
	if (atomic && !sr_guard_atomic(p, op, a->compare_add, a->swap, &r.old)) {
		refuse(qp, SR_NAK_REMOTE_ACCESS);
		return;
	}
	executed(qp);
	reply(qp, &r);
}

/* The message is not the one expected. Ahead of one that was refused: it will be sent again. Otherwise the ends count differently,
 * because one was connected anew: the requester is told that nobody here waits for it. */
static void out_of_turn(struct sr_qp *qp, uint32_t number, uint32_t flags)
{
	if ((int32_t)(number - qp->shm.expect) < 0)
		SR_COUNT(duplicate_request);
	else if (qp->shm.refused)
		return;
	if (!sr_list_empty(&qp->shm.ack_node))
		sr_shm_leave_ack(qp); /* first, so that a NAK of something finished is seen to be that */
	if (flags & SR_MSGF_FIRST)
		sr_shm_send_nak(qp->link, qp->qpn, qp->dest_qpn, number, SR_NAK_NOT_READY, 0);
}

void sr_shm_on_request(struct sr_link *l, struct sr_qp *qp, const struct sr_msg *m, size_t room, enum sr_msg_type type, uint32_t flags)
{
	bool uc = qp->type == IBV_QPT_UC, xrc = qp->type == IBV_QPT_XRC_RECV;
	uint32_t number = SR_ONCE(m->number);
	const char *body = (const char *)(m + 1);
	if (uc != !!(flags & SR_MSGF_UC) || xrc != !!(flags & SR_MSGF_XRC) || (xrc && room < sizeof(struct sr_msg_xrc))) {
		SR_COUNT(shm_bad_messages);
		return;
	}
	if (qp->shm.refusal)
		return;
	if (!uc && number != qp->shm.expect) {
		out_of_turn(qp, number, flags);
		return;
	}
	if (!(flags & SR_MSGF_FIRST) && !qp->shm.in_message)
		return; /* the rest of a message that was refused */
	if (flags & SR_MSGF_FIRST) /* UC: the sender may have failed in the middle of the last one. RC never begins anew. */
		qp->shm.in_message = qp->shm.refused = false;
	if (xrc) {
		const struct sr_msg_xrc *x = (const struct sr_msg_xrc *)body;
		if (!sr_xrc_aim(qp, SR_ONCE(x->srqn), flags & SR_MSGF_FIRST)) {
			refuse(qp, SR_NAK_XRC);
			return;
		}
		body += sizeof *x;
		room -= sizeof *x;
	}
	switch (type) {
	case SR_MSG_SEND:
		on_send(l, qp, m, body, room, flags);
		break;
	case SR_MSG_WRITE:
		on_write(l, qp, m, body, room, flags);
		break;
	default:
		on_read(qp, m, body, room, type == SR_MSG_ATOMIC);
		break;
	}
}
