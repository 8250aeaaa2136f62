/*
 * context.c - opening and closing a device: the context with its tables of operations.
 *
 * The inline functions of verbs.h call through these tables. The sentinel in abi_compat tells them that the extended table
 * lies before the context, and `sz` how long it is; an operation left NULL there is answered EOPNOTSUPP by the header.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "../core.h"
#include "context.h"
#include "device.h"

struct open_device {
	struct sr_context ctx;
	struct sr_device_user user;
};

static void fill_operations(struct verbs_context *v)
{
	struct ibv_context_ops *ops = &v->context.ops;
	ops->_compat_query_device = ibv_query_device;
	ops->_compat_query_port = (ibv_query_port);
	ops->alloc_mw = sr_alloc_mw;
	ops->bind_mw = sr_bind_mw;
	ops->dealloc_mw = sr_dealloc_mw;
	ops->poll_cq = sr_poll_cq;
	ops->req_notify_cq = sr_req_notify_cq;
	ops->post_srq_recv = sr_post_srq_recv;
	ops->post_send = sr_post_send;
	ops->post_recv = sr_post_recv;

	v->sz = sizeof(*v);
	v->query_port = sr_query_port;
	v->query_device_ex = sr_query_device_ex;
	v->query_rt_values = sr_query_rt_values;
	v->create_cq_ex = sr_create_cq_ex;
	v->modify_cq = sr_modify_cq;
	v->create_qp_ex = sr_create_qp_ex;
	v->create_srq_ex = sr_create_srq_ex;
	v->get_srq_num = sr_get_srq_num;
	v->open_xrcd = sr_open_xrcd;
	v->close_xrcd = sr_close_xrcd;
	v->open_qp = sr_open_qp;
	v->alloc_td = sr_alloc_td;
	v->dealloc_td = sr_dealloc_td;
	v->alloc_parent_domain = sr_alloc_parent_domain;
	v->alloc_null_mr = sr_alloc_null_mr;
	v->advise_mr = sr_advise_mr;
	v->context.abi_compat = __VERBS_ABI_IS_EXTENDED;
}

/* Opens a device; the first open of a process starts the engine. NULL and errno on failure. Close with
 * ibv_close_device(). */
struct ibv_context *ibv_open_device(struct ibv_device *device)
{
	struct open_device *o = calloc(1, sizeof(*o));
	if (!o)
		return NULL;
	struct sr_context *c = &o->ctx;
	struct ibv_context *v = &c->vctx.context;
	c->events_fd = eventfd(0, EFD_SEMAPHORE | EFD_CLOEXEC);
	int rc = c->events_fd < 0 ? errno : sr_engine_start();
	if (rc) {
		if (c->events_fd >= 0)
			close(c->events_fd);
		free(o);
		errno = rc;
		return NULL;
	}
	sr_list_init(&c->events);
	pthread_mutex_init(&c->events_lock, NULL);
	pthread_mutex_init(&v->mutex, NULL);
	v->device = device;
	v->cmd_fd = open("/dev/null", O_RDWR | O_CLOEXEC); /* no kernel device behind it; programs duplicate and pass it on */
	v->async_fd = c->events_fd;
	v->num_comp_vectors = SR_LIMIT_COMP_VECTORS;
	fill_operations(&c->vctx);
	o->user.context = v;
	sr_device_attach(sr_dev(device), &o->user);
	pthread_mutex_lock(&sr.control);
	sr_list_add_tail(&sr.contexts, &c->node);
	pthread_mutex_unlock(&sr.control);
	return v;
}

/* Closes a context. Always 0, as rdma-core's: programs close with objects still alive, and for those the memory stays. */
int ibv_close_device(struct ibv_context *context)
{
	struct open_device *o = (struct open_device *)sr_ctx(context);
	struct sr_context *c = &o->ctx;
	if (atomic_load(&c->objects))
		return 0;
	pthread_mutex_lock(&sr.control);
	sr_list_del(&c->node);
	pthread_mutex_unlock(&sr.control);
	sr_device_detach(sr_dev(context->device), &o->user);
	sr_async_discard(c);
	close(c->events_fd);
	if (context->cmd_fd >= 0)
		close(context->cmd_fd);
	pthread_mutex_destroy(&c->events_lock);
	pthread_mutex_destroy(&context->mutex);
	free(o);
	return 0;
}
