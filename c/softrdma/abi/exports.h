/*
 * exports.h - prototypes of exported functions that no public header of rdma-core declares any more, but that programs and
 * plug-ins still import. What each does is said where it is defined.
 */
#ifndef SR_EXPORTS_H
#define SR_EXPORTS_H
#include <infiniband/verbs.h>
#include <stddef.h>

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

int ibv_dontfork_range(void *base, size_t size);
int ibv_dofork_range(void *base, size_t size);
#endif
