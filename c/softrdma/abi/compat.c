/*
 * compat.c - the @IBVERBS_1.0 versions: libibverbs before 1.1 (2006) had other struct layouts under the same names.
 *
 * No program of that age can be served by structs of today, so its first call, ibv_get_device_list(), answers that there is
 * no device, and everything else fails with ENOSYS. The names must exist for such a program to start at all. The kinds
 * differ in what failure looks like: a NULL pointer, an errno, -1, or nothing.
 */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>

#define RETURN_NULL(X) \
	X(alloc_pd) X(create_ah) X(create_cq) X(create_qp) X(create_srq) X(get_device_list) X(get_device_name) X(open_device) \
	X(reg_mr)
#define RETURN_ERRNO(X) \
	X(attach_mcast) X(dealloc_pd) X(dereg_mr) X(destroy_ah) X(destroy_cq) X(destroy_qp) X(destroy_srq) X(detach_mcast) \
	X(modify_qp) X(modify_srq) X(query_device) X(query_port) X(query_qp) X(query_srq) X(resize_cq)
#define RETURN_MINUS_ONE(X) X(close_device) X(get_async_event) X(get_cq_event) X(query_gid) X(query_pkey)
#define RETURN_NOTHING(X) X(ack_async_event) X(ack_cq_events) X(free_device_list)

#define VERSION_1_0(name) __asm__(".symver compat_" #name ", ibv_" #name "@IBVERBS_1.0");

#define X(name) \
	void *compat_##name(void); \
	void *compat_##name(void) \
	{ \
		errno = ENOSYS; \
		return NULL; \
	} \
	VERSION_1_0(name)
RETURN_NULL(X)
#undef X

#define X(name) \
	int compat_##name(void); \
	int compat_##name(void) \
	{ \
		errno = ENOSYS; \
		return ENOSYS; \
	} \
	VERSION_1_0(name)
RETURN_ERRNO(X)
#undef X

#define X(name) \
	int compat_##name(void); \
	int compat_##name(void) \
	{ \
		errno = ENOSYS; \
		return -1; \
	} \
	VERSION_1_0(name)
RETURN_MINUS_ONE(X)
#undef X

#define X(name) \
	void compat_##name(void); \
	void compat_##name(void) {} \
	VERSION_1_0(name)
RETURN_NOTHING(X)
#undef X

/* No device, no GUID. */
uint64_t compat_get_device_guid(void);
uint64_t compat_get_device_guid(void) { return 0; }
VERSION_1_0(get_device_guid)
