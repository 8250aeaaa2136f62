/* publish.c - keeping the rows that peers read in step with the private objects. */
#include "../engine/lock.h"
#include "export.h"
#include "segment.h"
#include "shm.h"

void sr_shm_publish_qp(struct sr_qp *qp)
{
	if (!sr_own.base) /* in a forked child */
		return;
	struct sr_qp_row *r = sr_seg_qp(sr_own.base, qp->qpn);
	bool open = qp->road == SR_ROAD_SHM && sr_qp_can_receive(qp);
	if (!open) {
		if (atomic_load_explicit(&r->qpn, memory_order_relaxed))
			atomic_store(&r->qpn, 0);
		return;
	}
	r->dest_qpn = qp->dest_qpn;
	r->pd_id = sr_qp_requests(qp) ? qp->pd->id : 0; /* an XRC target has none: all it is asked for goes by message */
	r->access = qp->access;
	atomic_store_explicit(&r->qpn, qp->qpn, memory_order_release);
}

void sr_shm_retract_qp(struct sr_qp *qp)
{
	if (!sr_own.base) /* in a forked child */
		return;
	struct sr_qp_row *r = sr_seg_qp(sr_own.base, qp->qpn);
	if (atomic_load_explicit(&r->qpn, memory_order_relaxed))
		atomic_store(&r->qpn, 0);
}

void sr_shm_publish_key(struct sr_key *k)
{
	const unsigned remote = IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC;
	if (!k->export || !(k->access & remote))
		return;
	/* What the region and the exported pages have in common. */
	char *start = k->base > k->export->addr ? k->base : k->export->addr;
	char *end = k->base + k->length, *export_end = k->export->addr + k->export->length;
	if (end > export_end)
		end = export_end;
	if (start >= end)
		return;
	struct sr_key_row *r = sr_seg_key(sr_own.base, k->key);
	r->access = k->access;
	r->pd_id = k->pd_id;
	r->qpn = k->qpn;
	r->iova = k->iova + (uint64_t)(start - k->base);
	r->length = (uint64_t)(end - start);
	r->offset = k->export->offset + (uint64_t)(start - k->export->addr);
	atomic_store_explicit(&r->key, k->key, memory_order_release);
}

bool sr_shm_retract_key(struct sr_key *k)
{
	if (!sr_own.base) /* in a forked child */
		return true;
	struct sr_key_row *r = sr_seg_key(sr_own.base, k->key);
	if (atomic_load_explicit(&r->key, memory_order_relaxed) != k->key)
		return true;
	atomic_store(&r->key, 0);
	sr_segment_heavy_fence();
	/* An access in flight lasts microseconds; a peer that was stopped in the middle of one is not waited for. */
	for (unsigned slot = 0, spins = 0; slot < SR_SLOTS; slot++)
		while (atomic_load_explicit(&sr_seg_user(sr_own.base, slot)->key, memory_order_acquire) == k->key) {
			if (++spins > 100000)
				return false;
			sr_cpu_relax();
		}
	return true;
}
