/* pd.c - protection domains, thread domains, parent domains. */
#include <errno.h>
#include <stdlib.h>
#include "../core.h"

static uint32_t next_pd_id(void)
{
	static _Atomic uint32_t last;
	uint32_t id;
	do
		id = atomic_fetch_add(&last, 1) + 1;
	while (id == 0);
	return id;
}

static struct sr_pd *make(struct ibv_context *ctx)
{
	struct sr_pd *pd = calloc(1, sizeof *pd);
	if (!pd) {
		errno = ENOMEM;
		return NULL;
	}
	pd->pd.context = ctx;
	pd->id = next_pd_id();
	pd->pd.handle = pd->id;
	atomic_fetch_add(&sr_ctx(ctx)->objects, 1);
	return pd;
}

struct ibv_pd *ibv_alloc_pd(struct ibv_context *ctx)
{
	struct sr_pd *pd = make(ctx);
	return pd ? &pd->pd : NULL;
}

int ibv_dealloc_pd(struct ibv_pd *ibpd)
{
	struct sr_pd *pd = (struct sr_pd *)ibpd;
	if (atomic_load(&pd->users))
		return EBUSY;
	if (pd->parent)
		atomic_fetch_sub(&pd->parent->users, 1);
	atomic_fetch_sub(&sr_ctx(ibpd->context)->objects, 1);
	free(pd);
	return 0;
}

/* A parent domain is its protection domain under another pointer: same id, so keys of one serve the other. */
struct ibv_pd *sr_alloc_parent_domain(struct ibv_context *ctx, struct ibv_parent_domain_init_attr *attr)
{
	if (!attr->pd || (attr->comp_mask & ~(uint32_t)(IBV_PARENT_DOMAIN_INIT_ATTR_ALLOCATORS | IBV_PARENT_DOMAIN_INIT_ATTR_PD_CONTEXT))) {
		errno = attr->pd ? EOPNOTSUPP : EINVAL;
		return NULL;
	}
	struct sr_pd *pd = make(ctx);
	if (!pd)
		return NULL;
	pd->parent = (struct sr_pd *)attr->pd;
	pd->id = pd->parent->id;
	atomic_fetch_add(&pd->parent->users, 1);
	return &pd->pd;
}

struct ibv_td *sr_alloc_td(struct ibv_context *ctx, struct ibv_td_init_attr *attr)
{
	if (attr->comp_mask) {
		errno = EINVAL;
		return NULL;
	}
	struct ibv_td *td = calloc(1, sizeof *td);
	if (td)
		td->context = ctx;
	return td;
}

int sr_dealloc_td(struct ibv_td *td)
{
	free(td);
	return 0;
}
