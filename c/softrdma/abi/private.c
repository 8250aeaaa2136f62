/*
 * private.c - the private half of libibverbs: what vendor provider plug-ins (libmlx5, libmlx4, libefa, ...) import.
 *
 * Programs such as perftest and UCX link those plug-ins directly and are bound at start, so every name must resolve or the
 * program never runs. Nothing here can work, because there is no kernel device behind it; each call fails cleanly, and
 * registering a driver is accepted and ignored, which leaves the plug-in unused. All names stand in the lists below.
 *
 * The private ABI is numbered by release: 34 up to rdma-core 56, then 57, 59, 64 and 65. Since every stub fails alike,
 * the later nodes are aliases of the first. Implementations are called rk_private_<name>, because the linker drops the
 * default version of a symbol whose plain name is also an alias in the same object.
 */
#include <errno.h>
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

/* symbol serves name in a node; "@@" is the default version. */
#define SERVE(symbol, name, at_node) __asm__(".symver " #symbol ", " #name #at_node);
#define SERVE_LATER(symbol, name) \
	SERVE(symbol, name, @IBVERBS_PRIVATE_57) \
	SERVE(symbol, name, @IBVERBS_PRIVATE_59) \
	SERVE(symbol, name, @IBVERBS_PRIVATE_64) \
	SERVE(symbol, name, @IBVERBS_PRIVATE_65)
#define SERVE_ALL(name) \
	SERVE(rk_private_##name, name, @@IBVERBS_PRIVATE_34) \
	SERVE_LATER(rk_private_##name, name)

#define X(name) \
	int rk_private_ibv_cmd_##name(void); \
	int rk_private_ibv_cmd_##name(void) { return ENOSYS; } \
	SERVE_ALL(ibv_cmd_##name)
KERNEL_COMMANDS(X)
#undef X
#define X(name) \
	int rk_private_ibv_cmd_##name(void); \
	int rk_private_ibv_cmd_##name(void) { return ENOSYS; } \
	SERVE_LATER(rk_private_ibv_cmd_##name, ibv_cmd_##name)
LATER_KERNEL_COMMANDS(X)
#undef X

/* One of the helpers that need a body of their own. */
#define HELPER(type, name, ...) \
	SERVE_ALL(name) \
	type rk_private_##name(__VA_ARGS__); \
	type rk_private_##name(__VA_ARGS__)
#define UNUSED __attribute__((unused))

/* Plug-ins read it to learn whether a vanished device may be destroyed; ours never vanishes that way. */
extern bool rk_private_verbs_allow_disassociate_destroy;
bool rk_private_verbs_allow_disassociate_destroy = false;
SERVE_ALL(verbs_allow_disassociate_destroy)

/* An ioctl to the kernel. Returns an errno. */
HELPER(int, execute_ioctl, UNUSED void *context, UNUSED void *cmd) { return ENOSYS; }

/* How many attributes a command buffer needs; 0, because it is never sent. */
HELPER(unsigned, __ioctl_final_num_attrs, UNUSED unsigned num_attrs, UNUSED void *link) { return 0; }

/* Plug-ins' debug log. Dropped: none of them has a device to tell about. */
HELPER(void, __verbs_log, UNUSED void *context, UNUSED uint32_t level, UNUSED const char *format, ...) {}

/* Polls a CQ through the kernel. Returns a negative number: no completions and an error. */
HELPER(int, ibv_cmd_poll_cq, void)
{
	errno = ENOSYS;
	return -1;
}

/* Reads an attribute of a kernel device; -1 and errno, because there is none. */
HELPER(int, ibv_read_ibdev_sysfs_file, UNUSED char *buf, UNUSED size_t size, UNUSED void *dev, UNUSED const char *format, ...)
{
	errno = ENOENT;
	return -1;
}

/* What sysfs calls the type of a GID, which is not enum ibv_gid_type. */
enum gid_type_sysfs {
	GID_TYPE_SYSFS_IB_ROCE_V1,
	GID_TYPE_SYSFS_ROCE_V2,
};

/* Type of a GID as sysfs numbers it. 0, or -1 and errno. Works: ibv_devinfo asks. */
HELPER(int, ibv_query_gid_type, struct ibv_context *context, uint8_t port_num, unsigned index, enum gid_type_sysfs *type)
{
	struct ibv_gid_entry e;
	int rc = ibv_query_gid_ex(context, port_num, index, &e, 0);
	if (rc) {
		errno = rc;
		return -1;
	}
	*type = GID_TYPE_SYSFS_ROCE_V2; /* we have no others */
	return 0;
}

static void *no_kernel_device(void)
{
	errno = ENOSYS;
	return NULL;
}

HELPER(void *, _verbs_init_and_alloc_context, void) { return no_kernel_device(); }
HELPER(void *, verbs_open_device, void) { return no_kernel_device(); }
HELPER(void, verbs_init_cq, void) {}
HELPER(void, verbs_set_ops, void) {}
HELPER(void, verbs_uninit_context, void) {}

/* Constructors of plug-ins offer themselves here. Accepted and ignored: the only device is ours. */
void rk_private_register_driver(const void *ops);
void rk_private_register_driver(UNUSED const void *ops) {}
SERVE(rk_private_register_driver, verbs_register_driver_34, @@IBVERBS_PRIVATE_34)
SERVE(rk_private_register_driver, verbs_register_driver_57, @IBVERBS_PRIVATE_57)
SERVE(rk_private_register_driver, verbs_register_driver_59, @IBVERBS_PRIVATE_59)
SERVE(rk_private_register_driver, verbs_register_driver_64, @IBVERBS_PRIVATE_64)
SERVE(rk_private_register_driver, verbs_register_driver_65, @IBVERBS_PRIVATE_65)

/* The same before libibverbs had a private half. */
void rk_private_register_driver_2006(const char *name, void *init);
void rk_private_register_driver_2006(UNUSED const char *name, UNUSED void *init) {}
SERVE(rk_private_register_driver_2006, ibv_register_driver, @IBVERBS_1.1)
