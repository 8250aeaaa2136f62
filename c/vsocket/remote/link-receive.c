/* link-receive.c - operations of the receiving half, and what becomes of a receiver whose queue pair has failed. */
#define _GNU_SOURCE
#include "link-parts.h"

void vs_link_grant(struct vs_link *l)
{
	struct vs_dir *d = vs_rx(&l->c);
	uint32_t e = atomic_load(&d->epoch_tx);
	if (atomic_load(&d->native_readers) || atomic_load(&d->plain) || vs_epoch_is_ring(e) || !vs_link_usable(l) || atomic_load(&vs_link_forking) ||
	    atomic_load(&l->c.slot->end[l->c.side].holders) != 1)
		return;
	if (!atomic_exchange(&l->grant_wanted, false))
		return;
	atomic_store(&d->expecting, 1);
	atomic_store(&l->granted, true);
	vs_link_note(l, (struct vs_note){ .kind = VS_NOTE_GRANT, .epoch = e, .seen = l->grant_number });
}

void vs_link_op_consumed(const struct vs_conn *c)
{
	struct vs_link *l = vs_link_of(c);
	struct vs_dir *d = vs_rx(c);
	if (!l)
		return;
	uint32_t e = atomic_load_explicit(&d->epoch_rx, memory_order_relaxed);
	uint32_t size = vs_epoch_is_ring(e) ? atomic_load(&vs_boundary_of(d, e)->size) : 0;
	if (e != l->told_epoch || atomic_load_explicit(&d->head, memory_order_relaxed) - l->told_head >= size / 4)
		vs_link_position(l, 0, 0);
}

void vs_link_op_arm(const struct vs_conn *c, uint64_t seen)
{
	struct vs_link *l = vs_link_of(c);
	if (l)
		vs_link_position(l, VS_NOTE_ARM, seen);
}

void vs_link_stop(struct vs_link *l, bool keep)
{
	struct vs_dir *d = vs_rx(&l->c);
	struct ibv_qp_attr error = { .qp_state = IBV_QPS_ERR };
	enum vs_locked k = vs_lock(&vs_poll_lock);
	/* From here on the peer is told of nothing more that it has arrived; what it was told of is taken. */
	if (l->qp)
		vs_verbs.modify_qp(l->qp, &error, IBV_QP_STATE);
	vs_link_take(false);
	atomic_store(&l->broken, true);
	l->rx_frozen = true;
	l->freeze_epoch = atomic_load(&d->epoch_tx);
	/* When it has ended the epoch, what follows is on the twin, and the rest of the ring is for readers with the library. */
	l->freeze_ring = keep || !vs_epoch_is_ring(l->freeze_epoch) ? atomic_load(&d->tail) : atomic_load(&d->head);
	atomic_store(&l->granted, false);
	atomic_store(&l->grant_wanted, false);
	atomic_store(&l->freezing, true);
	if (k != VS_LOCK_NESTED)
		vs_unlock(&vs_poll_lock);
}

void vs_link_settle(struct vs_link *l)
{
	struct vs_dir *d = vs_rx(&l->c);
	if (!atomic_load(&l->thawed) || !atomic_load(&l->freezing))
		return;
	const struct vs_datagram *a = &l->thaw;
	uint32_t e = a->epoch, here = atomic_load(&d->epoch_tx);
	if (vs_epoch_is_ring(e) && (here == e || here == ((e - 1) & VS_EPOCH_MASK))) {
		struct vs_boundary *b = vs_boundary_of(d, e);
		uint64_t ring = here == e && a->ring == l->freeze_ring ? a->ring : atomic_load(&d->tail);
		if (here != e) {
			atomic_store(&b->twin, a->twin_start);
			atomic_store(&b->ring, ring);
			atomic_store(&b->size, VS_RING_MIN);
		}
		b = vs_boundary_of(d, e + 1);
		atomic_store(&b->twin, a->twin);
		atomic_store(&b->ring, ring);
		atomic_store(&b->size, 0);
		atomic_store(&d->twin_sent, a->twin);
		atomic_store(&d->tail, ring);
		atomic_store(&d->epoch_tx, (e + 1) & VS_EPOCH_MASK);
	}
	atomic_store(&d->expecting, 0);
	atomic_store(&l->freezing, false);
}

void vs_link_op_settle(const struct vs_conn *c)
{
	struct vs_link *l = vs_link_of(c);
	if (l)
		vs_link_settle(l);
}

bool vs_link_op_freeze(const struct vs_conn *c, int fd)
{
	struct vs_link *l = vs_link_of(c);
	if (!l)
		return true;
	if (atomic_load(&l->state) == VS_LINK_UP && !atomic_load(&l->freezing))
		vs_link_stop(l, false);
	const uint64_t limit = vs_link_patience_ns(fd);
	for (uint64_t start = vs_now_ns(), next = 0; atomic_load(&l->freezing) && !atomic_load(&l->thawed); vs_link_rest(start)) {
		uint64_t now = vs_now_ns();
		if (now - start > limit || vs_link_twin_dead(fd) || atomic_load(&l->gone))
			break;
		if (now >= next) {
			vs_agent_send(l, VS_FREEZE);
			next = now + 20000000;
		}
	}
	vs_link_settle(l);
	return !atomic_load(&l->freezing);
}

void vs_link_op_reading(const struct vs_conn *c)
{
	struct vs_link *l = vs_link_of(c);
	if (l && __builtin_expect(atomic_load_explicit(&l->grant_wanted, memory_order_relaxed), 0))
		vs_link_grant(l);
}

bool vs_link_op_died(const struct vs_conn *c)
{
	struct vs_link *l = vs_link_of(c);
	/* Another thread may be in the middle of taking the epoch's end, which came before the stream's. */
	vs_link_op_sync();
	/* Its answer to a freeze came before it left: it is applied at the next look. */
	if (l && atomic_load(&l->freezing) && atomic_load(&l->thawed))
		return false;
	return l && (!atomic_load(&l->freezing) || atomic_load(&l->gone));
}
