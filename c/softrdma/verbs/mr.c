/* mr.c - memory regions. */
#include <errno.h>
#include <stdlib.h>
#include "../abi/exports.h"
#include "../engine/guard.h"
#include "../engine/key.h"
#include "../engine/lock.h"
#include "../shm/export.h"
#include "../shm/shm.h"

#undef ibv_reg_mr
#undef ibv_reg_mr_iova

#define ACCESS_KNOWN                                                                                                    \
	(IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC |        \
	 IBV_ACCESS_MW_BIND | IBV_ACCESS_ZERO_BASED | IBV_ACCESS_HUGETLB)

static int check_access(unsigned access)
{
	if (access & ~(unsigned)(ACCESS_KNOWN | IBV_ACCESS_OPTIONAL_RANGE))
		return EOPNOTSUPP; /* on-demand paging among them */
	if ((access & (IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_ATOMIC)) && !(access & IBV_ACCESS_LOCAL_WRITE))
		return EINVAL;
	return 0;
}

static int check_memory(void *addr, size_t length, unsigned access)
{
	if (!length)
		return 0;
	if ((uintptr_t)addr + length < (uintptr_t)addr)
		return EINVAL;
	switch (sr_map_check(addr, length, access & IBV_ACCESS_LOCAL_WRITE)) {
	case SR_MAP_OK:
		return 0;
	default:
		return EFAULT;
	}
}

static void fill_key(struct sr_key *k, struct sr_pd *pd, void *addr, size_t length, uint64_t iova, unsigned access)
{
	k->kind = SR_KEY_MR;
	k->access = access;
	k->pd_id = pd->id;
	k->iova = iova;
	k->length = length;
	k->base = addr;
}

static struct ibv_mr *reg(struct ibv_pd *ibpd, void *addr, size_t length, uint64_t iova, unsigned access)
{
	struct sr_pd *pd = (struct sr_pd *)ibpd;
	int err = check_access(access);
	if (!err)
		err = check_memory(addr, length, access);
	struct sr_mr *mr = err ? NULL : calloc(1, sizeof *mr);
	if (!mr) {
		errno = err ? err : ENOMEM;
		return NULL;
	}
	if (access & IBV_ACCESS_ZERO_BASED)
		iova = 0;
	fill_key(&mr->key, pd, addr, length, iova, access);

	pthread_mutex_lock(&sr.control);
	sr_guard_install();
	mr->key.export = sr_export_get(addr, length);
	sr_lock();
	err = sr_key_insert(&mr->key);
	if (!err)
		sr_shm_publish_key(&mr->key);
	sr_unlock();
	if (err && mr->key.export)
		sr_export_put(mr->key.export, true);
	pthread_mutex_unlock(&sr.control);
	if (err) {
		free(mr);
		errno = err;
		return NULL;
	}
	mr->mr = (struct ibv_mr){
		.context = ibpd->context,
		.pd = ibpd,
		.addr = addr,
		.length = length,
		.handle = sr_key_row(mr->key.key),
		.lkey = mr->key.key,
		.rkey = mr->key.key,
	};
	atomic_fetch_add(&pd->users, 1);
	return &mr->mr;
}

struct ibv_mr *ibv_reg_mr(struct ibv_pd *pd, void *addr, size_t length, int access)
{
	return reg(pd, addr, length, (uintptr_t)addr, (unsigned)access);
}

struct ibv_mr *ibv_reg_mr_iova(struct ibv_pd *pd, void *addr, size_t length, uint64_t iova, int access)
{
	return reg(pd, addr, length, iova, (unsigned)access);
}

struct ibv_mr *ibv_reg_mr_iova2(struct ibv_pd *pd, void *addr, size_t length, uint64_t iova, unsigned int access)
{
	return reg(pd, addr, length, iova, access);
}

struct ibv_mr *ibv_reg_dmabuf_mr(struct ibv_pd *pd, uint64_t offset, size_t length, uint64_t iova, int fd, int access)
{
	(void)pd, (void)offset, (void)length, (void)iova, (void)fd, (void)access;
	errno = EOPNOTSUPP; /* device memory needs a device */
	return NULL;
}

int ibv_dereg_mr(struct ibv_mr *ibmr)
{
	struct sr_mr *mr = (struct sr_mr *)ibmr;
	if (atomic_load(&mr->key.windows))
		return EBUSY;
	pthread_mutex_lock(&sr.control);
	sr_lock();
	bool clean = sr_shm_retract_key(&mr->key);
	sr_key_remove(&mr->key);
	sr_unlock();
	if (mr->key.export)
		sr_export_put(mr->key.export, clean);
	pthread_mutex_unlock(&sr.control);
	atomic_fetch_sub(&((struct sr_pd *)ibmr->pd)->users, 1);
	free(mr);
	return 0;
}

/* The new region keeps the old one's key when it can, as rdma-core's drivers do not promise either way. */
int ibv_rereg_mr(struct ibv_mr *ibmr, int flags, struct ibv_pd *pd, void *addr, size_t length, int access)
{
	struct sr_mr *mr = (struct sr_mr *)ibmr;
	if (!flags || (flags & ~IBV_REREG_MR_FLAGS_SUPPORTED) ||
	    ((flags & IBV_REREG_MR_CHANGE_TRANSLATION) && (!addr || !length)) ||
	    ((flags & IBV_REREG_MR_CHANGE_PD) && !pd)) {
		errno = EINVAL;
		return IBV_REREG_MR_ERR_INPUT;
	}
	bool move = flags & IBV_REREG_MR_CHANGE_TRANSLATION;
	unsigned new_access = flags & IBV_REREG_MR_CHANGE_ACCESS ? (unsigned)access : mr->key.access;
	void *new_addr = move ? addr : ibmr->addr;
	size_t new_length = move ? length : ibmr->length;
	struct sr_pd *new_pd = (struct sr_pd *)(flags & IBV_REREG_MR_CHANGE_PD ? pd : ibmr->pd);
	int err = check_access(new_access);
	if (!err)
		err = check_memory(new_addr, new_length, new_access);
	if (!err && atomic_load(&mr->key.windows))
		err = EBUSY;
	if (err) {
		errno = err;
		return IBV_REREG_MR_ERR_CMD;
	}
	pthread_mutex_lock(&sr.control);
	struct sr_export *fresh = move ? sr_export_get(addr, length) : mr->key.export;
	struct sr_export *stale = move ? mr->key.export : NULL;
	sr_lock();
	bool clean = sr_shm_retract_key(&mr->key);
	fill_key(&mr->key, new_pd, new_addr, new_length,
		 new_access & IBV_ACCESS_ZERO_BASED ? 0 : move ? (uintptr_t)new_addr : mr->key.iova, new_access);
	mr->key.export = fresh;
	sr_shm_publish_key(&mr->key);
	sr_unlock();
	if (stale)
		sr_export_put(stale, clean);
	pthread_mutex_unlock(&sr.control);
	atomic_fetch_sub(&((struct sr_pd *)ibmr->pd)->users, 1);
	atomic_fetch_add(&new_pd->users, 1);
	ibmr->pd = &new_pd->pd;
	ibmr->addr = new_addr;
	ibmr->length = new_length;
	return 0;
}

struct ibv_mr *sr_alloc_null_mr(struct ibv_pd *pd)
{
	(void)pd;
	errno = EOPNOTSUPP;
	return NULL;
}

int sr_advise_mr(struct ibv_pd *pd, enum ibv_advise_mr_advice advice, uint32_t flags, struct ibv_sge *sg, uint32_t n)
{
	(void)pd, (void)advice, (void)flags, (void)sg, (void)n;
	return EOPNOTSUPP; /* advice concerns on-demand paging, which this device does not need */
}

/* Objects shared between processes by file descriptor have no counterpart here. */
struct ibv_pd *ibv_import_pd(struct ibv_context *ctx, uint32_t handle)
{
	(void)ctx, (void)handle;
	errno = EOPNOTSUPP;
	return NULL;
}
void ibv_unimport_pd(struct ibv_pd *pd) { (void)pd; }
struct ibv_mr *ibv_import_mr(struct ibv_pd *pd, uint32_t handle)
{
	(void)pd, (void)handle;
	errno = EOPNOTSUPP;
	return NULL;
}
void ibv_unimport_mr(struct ibv_mr *mr) { (void)mr; }
struct ibv_dm *ibv_import_dm(struct ibv_context *ctx, uint32_t handle)
{
	(void)ctx, (void)handle;
	errno = EOPNOTSUPP;
	return NULL;
}
void ibv_unimport_dm(struct ibv_dm *dm) { (void)dm; }
struct ibv_context *ibv_import_device(int fd)
{
	(void)fd;
	errno = EOPNOTSUPP;
	return NULL;
}

/* Registered memory survives a fork as it is (engine.c): there is nothing to switch on or to exclude from children. */
static bool fork_initialized;
int ibv_fork_init(void)
{
	fork_initialized = true;
	return 0;
}
enum ibv_fork_status ibv_is_fork_initialized(void) { return fork_initialized ? IBV_FORK_ENABLED : IBV_FORK_DISABLED; }
int ibv_dontfork_range(void *base, size_t size)
{
	(void)base, (void)size;
	return 0;
}
int ibv_dofork_range(void *base, size_t size)
{
	(void)base, (void)size;
	return 0;
}
