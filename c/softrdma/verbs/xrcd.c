/* xrcd.c - XRC domains: of a file, shared by all processes that open it, or anonymous. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "../engine/key.h"
#include "../engine/lock.h"
#include "../shm/domains.h"

/* The domain of the file behind attr->fd. */
static int open_shared(struct sr_xrcd *x, const struct ibv_xrcd_init_attr *attr)
{
	struct stat st;
	if (fstat(attr->fd, &st))
		return errno;
	x->fd = fcntl(attr->fd, F_DUPFD_CLOEXEC, 0);
	if (x->fd < 0)
		return errno;
	x->domain.dev = st.st_dev;
	x->domain.ino = st.st_ino;
	x->row = sr_domain_open(&x->domain, attr->oflags);
	return x->row < 0 ? -x->row : 0;
}

static void drop(struct sr_xrcd *x)
{
	if (x->fd >= 0)
		close(x->fd);
	free(x);
}

/* fd and oflags must both be given. NULL and errno; see sr_domain_open() for O_CREAT and O_EXCL. */
struct ibv_xrcd *sr_open_xrcd(struct ibv_context *ctx, struct ibv_xrcd_init_attr *attr)
{
	const uint32_t needed = IBV_XRCD_INIT_ATTR_FD | IBV_XRCD_INIT_ATTR_OFLAGS;
	if (attr->comp_mask != needed) {
		errno = attr->comp_mask & ~needed ? EOPNOTSUPP : EINVAL;
		return NULL;
	}
	struct sr_xrcd *x = calloc(1, sizeof *x);
	if (!x)
		return NULL;
	x->xrcd.context = ctx;
	x->fd = x->row = -1;
	x->domain.ifindex = (uint64_t)sr_device_ifindex(ctx->device);
	int err = 0;
	if (attr->fd == -1) {
		sr_lock();
		x->domain.ino = (uint64_t)sr_random32() << 32 | sr_random32();
		sr_unlock();
	} else {
		err = open_shared(x, attr);
	}
	if (err) {
		drop(x);
		errno = err;
		return NULL;
	}
	return &x->xrcd;
}

/* 0, or EBUSY: queue pairs or receive queues were made with this handle. */
int sr_close_xrcd(struct ibv_xrcd *xrcd)
{
	struct sr_xrcd *x = (struct sr_xrcd *)xrcd;
	if (atomic_load(&x->users))
		return EBUSY;
	if (x->row >= 0)
		sr_domain_close(x->row);
	drop(x);
	return 0;
}
