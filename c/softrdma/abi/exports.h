/*
 * exports.h - prototypes of exported functions that no public header of rdma-core declares any more, but that programs and
 * plug-ins still import. What each does is said where it is defined.
 */
#ifndef SR_EXPORTS_H
#define SR_EXPORTS_H
#include <infiniband/verbs.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct ib_uverbs_ah_attr;
struct ib_uverbs_qp_attr;
struct ib_user_path_rec;
struct ibv_sa_path_rec;

void ibv_copy_ah_attr_from_kern(struct ibv_ah_attr *dst, struct ib_uverbs_ah_attr *src);
void ibv_copy_qp_attr_from_kern(struct ibv_qp_attr *dst, struct ib_uverbs_qp_attr *src);
void ibv_copy_path_rec_from_kern(struct ibv_sa_path_rec *dst, struct ib_user_path_rec *src);
void ibv_copy_path_rec_to_kern(struct ib_user_path_rec *dst, struct ibv_sa_path_rec *src);

const char *ibv_get_sysfs_path(void);
int ibv_read_sysfs_file(const char *dir, const char *file, char *buf, size_t size);

/* What sysfs calls the type of a GID, which is not enum ibv_gid_type. */
enum ibv_gid_type_sysfs {
	IBV_GID_TYPE_SYSFS_IB_ROCE_V1,
	IBV_GID_TYPE_SYSFS_ROCE_V2,
};
int ibv_query_gid_type(struct ibv_context *context, uint8_t port_num, unsigned int index, enum ibv_gid_type_sysfs *type);

int ibv_dontfork_range(void *base, size_t size);
int ibv_dofork_range(void *base, size_t size);

/* private.c */
extern bool verbs_allow_disassociate_destroy;
int execute_ioctl(void *context, void *cmd);
unsigned __ioctl_final_num_attrs(unsigned num_attrs, void *link);
void __verbs_log(void *context, uint32_t level, const char *format, ...);
int ibv_cmd_poll_cq(void);
int ibv_read_ibdev_sysfs_file(char *buf, size_t size, void *sysfs_dev, const char *format, ...);
void *_verbs_init_and_alloc_context(void);
void *verbs_open_device(void);
void verbs_init_cq(void);
void verbs_set_ops(void);
void verbs_uninit_context(void);
void verbs_register_driver_34(const void *ops);
void rk_register_driver(const char *name, void *init);
#endif
