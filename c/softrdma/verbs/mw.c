/* mw.c - memory windows, type 1 and type 2B. */
#include <errno.h>
#include <stdlib.h>
#include "../engine/key.h"
#include "../engine/lock.h"
#include "../engine/state.h"
#include "../shm/shm.h"

struct ibv_mw *sr_alloc_mw(struct ibv_pd *ibpd, enum ibv_mw_type type)
{
	if (type != IBV_MW_TYPE_1 && type != IBV_MW_TYPE_2) {
		errno = EINVAL;
		return NULL;
	}
	struct sr_mw *mw = calloc(1, sizeof *mw);
	if (!mw)
		return NULL;
	mw->key.kind = type == IBV_MW_TYPE_1 ? SR_KEY_MW1 : SR_KEY_MW2;
	mw->key.dead = true; /* nothing is bound */
	mw->key.pd_id = ((struct sr_pd *)ibpd)->id;
	sr_lock();
	int err = sr_key_insert(&mw->key);
	sr_unlock();
	if (err) {
		free(mw);
		errno = err;
		return NULL;
	}
	mw->mw = (struct ibv_mw){ .context = ibpd->context, .pd = ibpd, .rkey = mw->key.key, .type = type };
	atomic_fetch_add(&((struct sr_pd *)ibpd)->users, 1);
	return &mw->mw;
}

int sr_dealloc_mw(struct ibv_mw *ibmw)
{
	struct sr_mw *mw = (struct sr_mw *)ibmw;
	sr_lock();
	sr_shm_retract_key(&mw->key);
	sr_key_remove(&mw->key);
	if (mw->key.region)
		atomic_fetch_sub(&mw->key.region->windows, 1);
	sr_unlock();
	atomic_fetch_sub(&((struct sr_pd *)ibmw->pd)->users, 1);
	free(mw);
	return 0;
}

enum ibv_wc_status sr_mw_bind_execute(struct sr_qp *qp, struct sr_mw *mw, uint32_t new_key, const struct ibv_mw_bind_info *info)
{
	struct sr_key *k = &mw->key;
	struct sr_key *region = info->mr ? &((struct sr_mr *)info->mr)->key : NULL;
	unsigned access = info->mw_access_flags;

	if (k->pd_id != qp->pd->id)
		return IBV_WC_MW_BIND_ERR;
	if (info->length) {
		if (!region || region->pd_id != k->pd_id || !(region->access & IBV_ACCESS_MW_BIND) ||
		    !sr_key_covers(region, info->addr, info->length))
			return IBV_WC_MW_BIND_ERR;
		if ((access & (IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_ATOMIC)) && !(region->access & IBV_ACCESS_LOCAL_WRITE))
			return IBV_WC_MW_BIND_ERR;
	} else if (k->kind == SR_KEY_MW2) {
		return IBV_WC_MW_BIND_ERR; /* type 2 is unbound by invalidation */
	}
	if (k->kind == SR_KEY_MW2 && (!k->dead || sr_key_row(new_key) != sr_key_row(k->key)))
		return IBV_WC_MW_BIND_ERR; /* still bound, or a key that is not this window's */

	sr_shm_retract_key(k);
	if (k->region)
		atomic_fetch_sub(&k->region->windows, 1);
	k->region = NULL;
	k->dead = true;
	k->key = new_key;
	if (!info->length)
		return IBV_WC_SUCCESS;
	k->dead = false;
	k->region = region;
	k->access = access;
	k->iova = access & IBV_ACCESS_ZERO_BASED ? 0 : info->addr;
	k->length = info->length;
	k->base = region->base + (info->addr - region->iova);
	k->qpn = k->kind == SR_KEY_MW2 ? qp->qpn : 0;
	k->export = region->export;
	atomic_fetch_add(&region->windows, 1);
	sr_shm_publish_key(k);
	return IBV_WC_SUCCESS;
}
