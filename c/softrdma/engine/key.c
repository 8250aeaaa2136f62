/* key.c - memory keys: rows with unpredictable numbers, and every check of a key's use, local or remote. */
#include "key.h"
#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include "../shm/shm.h"

static unsigned left;

void sr_key_after_fork(void) { left = 0; }

uint32_t sr_random32(void)
{
	static uint32_t pool[64];
	if (!left) {
		if (getrandom(pool, sizeof pool, 0) != sizeof pool)
			for (unsigned i = 0; i < 64; i++) /* getrandom cannot fail after boot; time is a poor but living fallback */
				pool[i] ^= (uint32_t)sr_now_ns() * 2654435761u + i;
		left = 64;
	}
	return pool[--left];
}

int sr_key_insert(struct sr_key *k)
{
	for (int tries = 0; tries < 1 << 16; tries++) {
		uint32_t key = sr_random32();
		uint32_t row = sr_key_row(key);
		/* Row 0 stays empty: programs use key 0 for "none". */
		if (row && !sr.keys[row]) {
			k->key = key;
			sr.keys[row] = k;
			return 0;
		}
	}
	return ENOMEM;
}

void sr_key_remove(struct sr_key *k)
{
	uint32_t row = sr_key_row(k->key);
	if (sr.keys && sr.keys[row] == k)
		sr.keys[row] = NULL;
}

void *sr_remote_ptr_in(struct sr_qp *qp, const struct sr_pd *pd, uint32_t rkey, uint64_t va, uint64_t len, unsigned access)
{
	static char nowhere[8];
	if (!(qp->access & access))
		return NULL;
	if (len == 0)
		return nowhere;
	struct sr_key *k = sr_key_find(rkey);
	if (!k || !pd || k->pd_id != pd->id || (k->access & access) != access || !sr_key_covers(k, va, len))
		return NULL;
	if (k->kind == SR_KEY_MW2 && k->qpn != qp->qpn)
		return NULL;
	return k->base + (va - k->iova);
}

void *sr_remote_ptr(struct sr_qp *qp, uint32_t rkey, uint64_t va, uint64_t len, unsigned access)
{
	return sr_remote_ptr_in(qp, qp->pd, rkey, va, len, access);
}

int sr_remote_invalidate(struct sr_qp *qp, uint32_t rkey)
{
	struct sr_key *k = sr_key_find(rkey);
	/* Only a type 2 window can be invalidated by a peer (regions made by ibv_reg_mr cannot), and only through its own QP. */
	if (!k || k->kind != SR_KEY_MW2 || k->pd_id != qp->pd->id || k->qpn != qp->qpn)
		return -1;
	struct sr_key *region = k->region;
	sr_shm_retract_key(k);
	k->dead = true;
	k->region = NULL;
	if (region)
		atomic_fetch_sub(&region->windows, 1);
	return 0;
}
