/*
 * private.c - the private half of libibverbs: what vendor provider plug-ins (libmlx5, libmlx4, libefa, ...) import.
 *
 * Programs such as perftest and UCX link those plug-ins directly and are bound at start, so every name must resolve or the
 * program never runs. Nothing here can work, because there is no kernel device behind it; each call fails cleanly, and
 * registering a driver is accepted and ignored, which leaves the plug-in unused. All names stand in the lists below.
 *
 * The private ABI is numbered by release: 34 up to rdma-core 56, then 57, 59, 64 and 65. Since every stub fails alike,
 * the later nodes are aliases of the first.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "exports.h"

/* ibv_cmd_*(): one a kernel command. All return 0 or an errno. */
#define KERNEL_COMMANDS(X) \
	X(advise_mr) X(alloc_dm) X(alloc_mw) X(alloc_pd) X(attach_mcast) X(close_xrcd) X(create_ah) \
	X(create_counters) X(create_cq) X(create_cq_ex) X(create_flow) X(create_flow_action_esp) X(create_qp) \
	X(create_qp_ex2) X(create_qp_ex) X(create_rwq_ind_table) X(create_srq) X(create_srq_ex) X(create_wq) \
	X(dealloc_mw) X(dealloc_pd) X(dereg_mr) X(destroy_ah) X(destroy_counters) X(destroy_cq) X(destroy_flow) \
	X(destroy_flow_action) X(destroy_qp) X(destroy_rwq_ind_table) X(destroy_srq) X(destroy_wq) X(detach_mcast) \
	X(free_dm) X(get_context) X(modify_cq) X(modify_flow_action_esp) X(modify_qp) X(modify_qp_ex) \
	X(modify_srq) X(modify_wq) X(open_qp) X(open_xrcd) X(post_recv) X(post_send) X(post_srq_recv) \
	X(query_context) X(query_device_any) X(query_mr) X(query_port) X(query_qp) X(query_srq) X(read_counters) \
	X(reg_dm_mr) X(reg_dmabuf_mr) X(reg_mr) X(req_notify_cq) X(rereg_mr) X(resize_cq)

/* Later commands: they exist only in the later nodes. */
#define LATER_KERNEL_COMMANDS(X) X(reg_mr_ex) X(alloc_dmah) X(free_dmah) X(create_cq_ex2)

/* The rest, defined one by one below. */
#define PRIVATE_HELPERS(X) \
	X(__ioctl_final_num_attrs) X(__verbs_log) X(_verbs_init_and_alloc_context) X(execute_ioctl) X(ibv_cmd_poll_cq) \
	X(ibv_query_gid_type) X(ibv_read_ibdev_sysfs_file) X(verbs_allow_disassociate_destroy) X(verbs_init_cq) \
	X(verbs_open_device) X(verbs_set_ops) X(verbs_uninit_context)

#define X(name) \
	int ibv_cmd_##name(void); \
	int ibv_cmd_##name(void) { return ENOSYS; }
KERNEL_COMMANDS(X)
#undef X
#define X(name) \
	int rk_cmd_##name(void); \
	int rk_cmd_##name(void) { return ENOSYS; }
LATER_KERNEL_COMMANDS(X)
#undef X

/* Plug-ins read it to learn whether a vanished device may be destroyed; ours never vanishes that way. */
bool verbs_allow_disassociate_destroy;

/* An ioctl to the kernel. Returns an errno. */
int execute_ioctl(void *context, void *cmd)
{
	(void)context;
	(void)cmd;
	return ENOSYS;
}

/* How many attributes a command buffer needs; 0, because it is never sent. */
unsigned __ioctl_final_num_attrs(unsigned num_attrs, void *link)
{
	(void)num_attrs;
	(void)link;
	return 0;
}

/* Plug-ins' debug log. Dropped: none of them has a device to tell about. */
void __verbs_log(void *context, uint32_t level, const char *format, ...)
{
	(void)context;
	(void)level;
	(void)format;
}

/* Polls a CQ through the kernel. Returns a negative number: no completions and an error. */
int ibv_cmd_poll_cq(void)
{
	errno = ENOSYS;
	return -1;
}

/* Reads an attribute of a kernel device; -1 and errno, because there is none. */
int ibv_read_ibdev_sysfs_file(char *buf, size_t size, void *sysfs_dev, const char *format, ...)
{
	(void)buf;
	(void)size;
	(void)sysfs_dev;
	(void)format;
	errno = ENOENT;
	return -1;
}

/* Type of a GID as sysfs numbers it. 0, or -1 and errno. Works: ibv_devinfo asks. */
int ibv_query_gid_type(struct ibv_context *context, uint8_t port_num, unsigned int index, enum ibv_gid_type_sysfs *type)
{
	struct ibv_gid_entry e;
	int rc = ibv_query_gid_ex(context, port_num, index, &e, 0);
	if (rc) {
		errno = rc;
		return -1;
	}
	*type = IBV_GID_TYPE_SYSFS_ROCE_V2; /* we have no others */
	return 0;
}

static void *no_kernel_device(void)
{
	errno = ENOSYS;
	return NULL;
}

void *_verbs_init_and_alloc_context(void) { return no_kernel_device(); }
void *verbs_open_device(void) { return no_kernel_device(); }
void verbs_init_cq(void) {}
void verbs_set_ops(void) {}
void verbs_uninit_context(void) {}

/* Constructors of plug-ins offer themselves here. Accepted and ignored: the only device is ours. */
void verbs_register_driver_34(const void *ops) { (void)ops; }

/* What verbs_register_driver_N was called in 2006. */
void rk_register_driver(const char *name, void *init)
{
	(void)name;
	(void)init;
}
__asm__(".symver rk_register_driver, ibv_register_driver@IBVERBS_1.1");

#define ALIAS(name, node) __asm__(".symver " #name ", " #name "@IBVERBS_PRIVATE_" #node);
#define LATER_ALIAS(name, node) __asm__(".symver rk_cmd_" #name ", ibv_cmd_" #name "@IBVERBS_PRIVATE_" #node);
#define DRIVER_ALIAS(node) \
	__asm__(".symver verbs_register_driver_34, verbs_register_driver_" #node "@IBVERBS_PRIVATE_" #node);

#define X(name) ALIAS(ibv_cmd_##name, 57) ALIAS(ibv_cmd_##name, 59) ALIAS(ibv_cmd_##name, 64) ALIAS(ibv_cmd_##name, 65)
KERNEL_COMMANDS(X)
#undef X
#define X(name) ALIAS(name, 57) ALIAS(name, 59) ALIAS(name, 64) ALIAS(name, 65)
PRIVATE_HELPERS(X)
#undef X
#define X(name) LATER_ALIAS(name, 57) LATER_ALIAS(name, 59) LATER_ALIAS(name, 64) LATER_ALIAS(name, 65)
LATER_KERNEL_COMMANDS(X)
#undef X
DRIVER_ALIAS(57)
DRIVER_ALIAS(59)
DRIVER_ALIAS(64)
DRIVER_ALIAS(65)
