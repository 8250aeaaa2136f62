/*
 * devices.c - the devices as open contexts. rdma_cm opens each device once and keeps it open, because contexts handed out
 * here must stay valid after the list is freed and be the same in every list.
 */
#include <errno.h>
#include <fcntl.h>
#include <infiniband/verbs.h>
#include <pthread.h>
#include <rdma/rdma_cma.h>
#include <stdlib.h>
#include "cm.h"

struct opened {
	struct opened *next;
	struct ibv_context *context;
	struct ibv_pd *pd; /* these are made when somebody needs them */
	struct ibv_xrcd *xrcd;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct opened *all;

/* The context of a device, opened now or before. NULL and errno on failure. */
static struct ibv_context *context_of(struct ibv_device *device)
{
	for (struct opened *o = all; o; o = o->next)
		if (o->context->device == device)
			return o->context;
	struct opened *o = calloc(1, sizeof(*o));
	if (!o)
		return NULL;
	o->context = ibv_open_device(device);
	if (!o->context) {
		int err = errno;
		free(o);
		errno = err;
		return NULL;
	}
	o->next = all;
	all = o;
	return o->context;
}

/* Open contexts of all devices, NULL-terminated; free with rdma_free_devices(). NULL and errno on failure, ENODEV when
 * there is no device. Do not close the contexts. */
struct ibv_context **rdma_get_devices(int *num_devices)
{
	int n = 0, opened = 0;
	struct ibv_device **devices = ibv_get_device_list(&n);
	struct ibv_context **list = devices ? calloc((size_t)n + 1, sizeof(*list)) : NULL;
	int err = list ? ENODEV : errno;
	pthread_mutex_lock(&lock);
	for (int i = 0; list && i < n; i++) {
		list[opened] = context_of(devices[i]);
		if (list[opened])
			opened++;
		else
			err = errno;
	}
	pthread_mutex_unlock(&lock);
	if (devices)
		ibv_free_device_list(devices);
	if (num_devices)
		*num_devices = opened;
	if (opened)
		return list;
	free(list);
	errno = err;
	return NULL;
}

/* Frees the array only. */
void rdma_free_devices(struct ibv_context **list)
{
	free(list);
}

static bool on_interface(struct ibv_context *c, uint32_t ifindex)
{
	return !ifindex || rdmakit_device_ifindex(c->device) == ifindex;
}

static struct ibv_context *find_locked(const union ibv_gid *gid, uint32_t ifindex, int *gid_index)
{
	for (struct opened *o = all; o; o = o->next) {
		if (!on_interface(o->context, ifindex))
			continue;
		*gid_index = rdmakit_gid_index(o->context->device, gid);
		if (*gid_index >= 0)
			return o->context;
	}
	return NULL;
}

/* Opens what has come since the last look. */
static void open_all_locked(void)
{
	int n = 0;
	struct ibv_device **devices = ibv_get_device_list(&n);
	for (int i = 0; devices && i < n; i++)
		(void)context_of(devices[i]);
	if (devices)
		ibv_free_device_list(devices);
}

struct ibv_context *sr_cm_device_of(const union ibv_gid *gid, uint32_t ifindex, int *gid_index)
{
	pthread_mutex_lock(&lock);
	struct ibv_context *c = find_locked(gid, ifindex, gid_index);
	if (!c) {
		open_all_locked();
		c = find_locked(gid, ifindex, gid_index);
	}
	pthread_mutex_unlock(&lock);
	return c;
}

struct ibv_pd *sr_cm_default_pd(struct ibv_context *context)
{
	struct ibv_pd *pd = NULL;
	pthread_mutex_lock(&lock);
	for (struct opened *o = all; o; o = o->next)
		if (o->context == context)
			pd = o->pd ? o->pd : (o->pd = ibv_alloc_pd(context));
	pthread_mutex_unlock(&lock);
	return pd;
}

struct ibv_xrcd *sr_cm_default_xrcd(struct ibv_context *context)
{
	struct ibv_xrcd_init_attr anonymous = { .comp_mask = IBV_XRCD_INIT_ATTR_FD | IBV_XRCD_INIT_ATTR_OFLAGS, .fd = -1, .oflags = O_CREAT };
	struct ibv_xrcd *xrcd = NULL;
	pthread_mutex_lock(&lock);
	for (struct opened *o = all; o; o = o->next)
		if (o->context == context)
			xrcd = o->xrcd ? o->xrcd : (o->xrcd = ibv_open_xrcd(context, &anonymous));
	pthread_mutex_unlock(&lock);
	return xrcd;
}
