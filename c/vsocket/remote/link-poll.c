/* link-poll.c - completions: what the other end says and sends. */
#define _GNU_SOURCE
#include "link-parts.h"
#include "ud.h"
#include "../watch.h"

_Atomic uint32_t vs_poll_lock;
_Atomic uint32_t vs_polls;
static struct vs_device *_Atomic device;

void vs_link_use_device(struct vs_device *d) { device = d; }
struct vs_device *vs_link_device(void) { return device; }

/* Under tx_lock. */
static void ring_now(struct vs_link *l)
{
	struct vs_dir *d = vs_tx(&l->c);
	uint32_t e = atomic_load(&d->epoch_tx), armed = VS_BELL(e, VS_ARMED);
	atomic_store(&l->bell_wanted, false);
	if (!vs_epoch_is_ring(e) || !vs_link_usable(l) || atomic_load(&d->tail) == atomic_load(&d->head) || !vs_link_has_fd(l))
		return;
	if (!atomic_compare_exchange_strong(&d->bell, &armed, VS_BELL(e, VS_RINGING)))
		return;
	if (vs_tx_ring_bell(d, l->fd))
		vs_link_note(l, (struct vs_note){ .kind = VS_NOTE_BELL });
}

bool vs_link_ring(struct vs_link *l)
{
	if (!vs_try_lock(&vs_tx(&l->c)->tx_lock))
		return false;
	if (atomic_load(&l->bell_wanted))
		ring_now(l);
	vs_unlock(&vs_tx(&l->c)->tx_lock);
	return true;
}

void vs_link_arm_again(struct vs_link *l)
{
	struct vs_dir *d = vs_rx(&l->c);
	const uint32_t e = atomic_load(&d->epoch_tx);
	uint32_t rung = VS_BELL(e, VS_RUNG);
	const uint64_t head = atomic_load(&d->head);
	if (vs_epoch_is_ring(e) && atomic_compare_exchange_strong(&d->bell, &rung, VS_BELL(e, VS_ARMED)))
		vs_link_position(l, VS_NOTE_ARM, head); /* also for what has come meanwhile */
}

static void take_note(struct vs_link *l, const struct vs_note *n)
{
	uint8_t flags = 0;
	if (n->kind == VS_NOTE_POS && atomic_load(&l->answered))
		return; /* it has been asked how far it is */
	switch (vs_note_take(vs_rx(&l->c), vs_tx(&l->c), n, &flags)) {
	case VS_NOTE_BAD:
		vs_link_break(l);
		return;
	case VS_NOTE_RING:
		atomic_store(&l->bell_wanted, true);
		if (!vs_link_ring(l))
			vs_agent_wake();
		break;
	case VS_NOTE_OK:
		break;
	}
	switch (n->kind) {
	case VS_NOTE_POS:
		atomic_store(&l->peer_wants_rc, (flags & VS_NOTE_RC) != 0);
		break;
	case VS_NOTE_ASK:
		l->grant_number = n->seen;
		atomic_store(&l->grant_wanted, true);
		vs_link_grant(l);
		break;
	case VS_NOTE_GRANT:
		if (n->epoch == atomic_load(&vs_tx(&l->c)->epoch_tx) && n->seen == atomic_load(&l->ask_number))
			atomic_store(&l->peer_grants, true);
		break;
	case VS_NOTE_END:
	case VS_NOTE_WITHDRAW:
		atomic_store(&l->granted, false);
		atomic_store(&vs_rx(&l->c)->expecting, 0);
		ibv_req_notify_cq(device->cq, 0); /* applications need not poll any more */
		break;
	case VS_NOTE_BELL:
		/* Its data has been read already, perhaps by one who took the word for ARMED still. */
		if (atomic_load(&vs_rx(&l->c)->tail) == atomic_load(&vs_rx(&l->c)->head)) {
			atomic_store(&l->arm_wanted, true);
			vs_agent_wake();
		}
		break;
	case VS_NOTE_HASH:
		vs_watch_heard(l->c.slot, !l->c.side, &(struct vs_hash){ .at = n->ring, .hash = n->seen, .word = n->twin });
		break;
	case VS_NOTE_GONE:
		vs_link_gone(l);
		break;
	default:
		break;
	}
}

static void again(struct vs_link *l, unsigned i)
{
	struct ibv_sge sge = { (uintptr_t)&l->notes[i], sizeof l->notes[i], l->mr[2]->lkey };
	struct ibv_recv_wr wr = { .wr_id = VS_WR_RECV | (uint64_t)vs_link_index(&l->c) << 16 | i, .sg_list = &sge, .num_sge = 1 }, *bad;
	if (ibv_post_recv(l->qp, &wr, &bad))
		vs_link_break(l);
}

static void take_completion(const struct ibv_wc *wc)
{
	if (wc->wr_id & VS_WR_UD) {
		vs_ud_completion(wc);
		return;
	}
	unsigned slot = (unsigned)(wc->wr_id >> 16) & 0xffff, i = (unsigned)(wc->wr_id & 0xffff);
	struct vs_link *l = vs_link_at(slot);
	if (!l || !l->qp || wc->qp_num != l->qp_number)
		return;
	/* In this order: who waits for nothing to be outstanding takes it for arrived while the link is whole. */
	if (wc->status != IBV_WC_SUCCESS)
		vs_link_break(l);
	if (!(wc->wr_id & VS_WR_RECV))
		atomic_fetch_sub(&l->outstanding, 1);
	if (wc->status != IBV_WC_SUCCESS || !(wc->wr_id & VS_WR_RECV))
		return;
	bool first = !atomic_exchange(&l->heard, true);
	if (!l->rx_frozen) {
		if (wc->opcode == IBV_WC_RECV_RDMA_WITH_IMM) {
			uint32_t imm = be32toh(wc->imm_data);
			if (wc->byte_len != (imm & VS_IMM_LENGTH) || !vs_note_data(vs_rx(&l->c), imm))
				vs_link_break(l);
		} else if (wc->byte_len == sizeof(struct vs_note)) {
			struct vs_note n = l->notes[i];
			take_note(l, &n);
		} else {
			vs_link_break(l);
		}
	}
	again(l, i);
	if (first && l->c.side == 1)
		vs_agent_wake();
}

/* Under vs_poll_lock. */
void vs_link_take(bool patient)
{
	struct ibv_wc wc[16];
	int n;
	if (!device)
		return;
	do {
		n = vs_verbs.poll_cq_now && !patient ? vs_verbs.poll_cq_now(device->cq, 16, wc) : ibv_poll_cq(device->cq, 16, wc);
		for (int i = 0; i < n; i++)
			take_completion(&wc[i]);
	} while (n == 16);
}

void vs_link_poll(void)
{
	if (!vs_try_lock(&vs_poll_lock))
		return;
	vs_link_take(false);
	vs_unlock(&vs_poll_lock);
}

void vs_link_op_nap(void)
{
	if (!vs_try_lock(&vs_poll_lock))
		return;
	vs_link_take(true);
	vs_unlock(&vs_poll_lock);
}

void vs_link_op_poll(void)
{
	atomic_fetch_add_explicit(&vs_polls, 1, memory_order_relaxed);
	vs_link_poll();
}

void vs_link_op_sync(void)
{
	enum vs_locked k = vs_lock(&vs_poll_lock);
	if (k == VS_LOCK_NESTED)
		return;
	vs_link_take(false);
	vs_unlock(&vs_poll_lock);
}

void vs_link_op_doze(void)
{
	if (device)
		ibv_req_notify_cq(device->cq, 0);
	vs_link_poll();
}
