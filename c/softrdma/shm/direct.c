/*
 * direct.c - see direct.h. We first write the key into our `user` line of the target's segment, then look at the key's row; an
 * owner who retracts a key first clears the row, then looks at the user lines. A Dekker pair: one of the two sees the
 * other. The owner has the expensive half of the fence.
 */
#include "direct.h"
#include "../engine/guard.h"
#include "link.h"

static unsigned needed_access(uint8_t opcode)
{
	switch (opcode) {
	case IBV_WR_RDMA_READ:
		return IBV_ACCESS_REMOTE_READ;
	case IBV_WR_ATOMIC_CMP_AND_SWP:
	case IBV_WR_ATOMIC_FETCH_AND_ADD:
		return IBV_ACCESS_REMOTE_ATOMIC;
	default:
		return IBV_ACCESS_REMOTE_WRITE;
	}
}

/* The address in our mapping of the target's segment, or NULL. */
static char *resolve(struct sr_qp *qp, const struct sr_swqe *w, struct sr_key_row *k)
{
	struct sr_qp_row *q = sr_seg_qp(qp->link->peer, qp->dest_qpn);
	unsigned access = needed_access(w->opcode);
	if (atomic_load_explicit(&q->qpn, memory_order_acquire) != qp->dest_qpn || q->dest_qpn != qp->qpn ||
	    !(q->access & access))
		return NULL;
	if (atomic_load_explicit(&k->key, memory_order_acquire) != w->rkey || k->pd_id != q->pd_id || !(k->access & access) ||
	    (k->qpn && k->qpn != qp->dest_qpn))
		return NULL;
	uint64_t iova = k->iova, length = k->length, offset = k->offset;
	if (w->remote_addr < iova || w->length > length || w->remote_addr - iova > length - w->length)
		return NULL;
	offset += w->remote_addr - iova;
	if (offset < SR_OFF_ARENA || offset > SR_SEGMENT_BYTES - w->length)
		return NULL; /* the row itself is not to be trusted */
	if (access == IBV_ACCESS_REMOTE_ATOMIC && (offset & 7))
		return NULL;
	return (char *)qp->link->peer + offset;
}

bool sr_direct_possible(struct sr_qp *qp, const struct sr_swqe *w)
{
	return w->length && resolve(qp, w, sr_seg_key(qp->link->peer, w->rkey));
}

/* False: the local memory is gone. */
static bool execute(struct sr_swqe *w, char *remote, const struct iovec *iov, int n)
{
	switch (w->opcode) {
	case IBV_WR_RDMA_READ:
		return sr_guard_spread(iov, n, remote);
	case IBV_WR_ATOMIC_CMP_AND_SWP:
	case IBV_WR_ATOMIC_FETCH_AND_ADD: {
		uint64_t old;
		return sr_guard_atomic(remote, w->opcode, w->atomic.compare_add, w->atomic.swap, &old) && sr_guard_spread(iov, n, &old);
	}
	default:
		for (int i = 0; i < n - 1; i++) {
			if (!sr_guard_copy(remote, iov[i].iov_base, iov[i].iov_len))
				return false;
			remote += iov[i].iov_len;
		}
		return sr_guard_copy_ordered(remote, iov[n - 1].iov_base, iov[n - 1].iov_len);
	}
}

enum sr_direct sr_direct_execute(struct sr_qp *qp, struct sr_swqe *w)
{
	struct iovec iov[SR_MAX_SGE];
	if (!w->length)
		return SR_DIRECT_NO;
	struct sr_key_row *k = sr_seg_key(qp->link->peer, w->rkey);
	if (atomic_load_explicit(&k->key, memory_order_relaxed) != w->rkey)
		return SR_DIRECT_NO;
	int n = sr_swqe_iov(qp, w, 0, w->length, sr_opcode_is_read(w->opcode), iov, SR_MAX_SGE);
	if (n < 0)
		return SR_DIRECT_LOCAL_ERROR;
	struct sr_user *user = sr_seg_user(qp->link->peer, sr.slot);
	atomic_store_explicit(&user->key, w->rkey, memory_order_relaxed);
	sr_segment_light_fence(qp->link->peer);
	char *remote = resolve(qp, w, k);
	bool done = remote && execute(w, remote, iov, n);
	atomic_store_explicit(&user->key, 0, memory_order_release);
	if (!done)
		return remote ? SR_DIRECT_LOCAL_ERROR : SR_DIRECT_NO;
	SR_COUNT(shm_direct_operations);
	SR_COUNT_N(shm_direct_bytes, w->length);
	return SR_DIRECT_DONE;
}
