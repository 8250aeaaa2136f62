/*
 * connection.c - the connection calls of rdma_cm. All fail with ENOSYS; since no identifier can be made, the ones that take
 * one are never reached by a correct program. They exist so that programs linked with librdmacm start.
 */
#include <errno.h>
#include <rdma/rdma_cma.h>
#include <rdma/rdma_verbs.h>
#include "unsupported.h"

/* int f(...) that fails. The parameters have names only to satisfy the compiler. */
#define FAILS(name, ...) \
	int name(__VA_ARGS__) { return sr_cm_unsupported(#name); }
#define NOTHING(name, ...) \
	void name(__VA_ARGS__) { (void)sr_cm_unsupported(#name); }
#define UNUSED __attribute__((unused))

/* NULL and ENOSYS. */
struct rdma_event_channel *rdma_create_event_channel(void)
{
	(void)sr_cm_unsupported("rdma_create_event_channel");
	return NULL;
}

NOTHING(rdma_destroy_event_channel, UNUSED struct rdma_event_channel *c)
FAILS(rdma_create_id, UNUSED struct rdma_event_channel *c, UNUSED struct rdma_cm_id **id, UNUSED void *context,
      UNUSED enum rdma_port_space ps)
FAILS(rdma_create_ep, UNUSED struct rdma_cm_id **id, UNUSED struct rdma_addrinfo *res, UNUSED struct ibv_pd *pd,
      UNUSED struct ibv_qp_init_attr *attr)
NOTHING(rdma_destroy_ep, UNUSED struct rdma_cm_id *id)
FAILS(rdma_destroy_id, UNUSED struct rdma_cm_id *id)
FAILS(rdma_bind_addr, UNUSED struct rdma_cm_id *id, UNUSED struct sockaddr *addr)
FAILS(rdma_resolve_addr, UNUSED struct rdma_cm_id *id, UNUSED struct sockaddr *src, UNUSED struct sockaddr *dst,
      UNUSED int timeout_ms)
FAILS(rdma_resolve_route, UNUSED struct rdma_cm_id *id, UNUSED int timeout_ms)
FAILS(rdma_create_qp, UNUSED struct rdma_cm_id *id, UNUSED struct ibv_pd *pd, UNUSED struct ibv_qp_init_attr *attr)
FAILS(rdma_create_qp_ex, UNUSED struct rdma_cm_id *id, UNUSED struct ibv_qp_init_attr_ex *attr)
NOTHING(rdma_destroy_qp, UNUSED struct rdma_cm_id *id)
FAILS(rdma_create_srq, UNUSED struct rdma_cm_id *id, UNUSED struct ibv_pd *pd, UNUSED struct ibv_srq_init_attr *attr)
FAILS(rdma_create_srq_ex, UNUSED struct rdma_cm_id *id, UNUSED struct ibv_srq_init_attr_ex *attr)
NOTHING(rdma_destroy_srq, UNUSED struct rdma_cm_id *id)
FAILS(rdma_connect, UNUSED struct rdma_cm_id *id, UNUSED struct rdma_conn_param *param)
FAILS(rdma_establish, UNUSED struct rdma_cm_id *id)
FAILS(rdma_listen, UNUSED struct rdma_cm_id *id, UNUSED int backlog)
FAILS(rdma_get_request, UNUSED struct rdma_cm_id *listen, UNUSED struct rdma_cm_id **id)
FAILS(rdma_accept, UNUSED struct rdma_cm_id *id, UNUSED struct rdma_conn_param *param)
FAILS(rdma_reject, UNUSED struct rdma_cm_id *id, UNUSED const void *data, UNUSED uint8_t len)
FAILS(rdma_reject_ece, UNUSED struct rdma_cm_id *id, UNUSED const void *data, UNUSED uint8_t len)
FAILS(rdma_notify, UNUSED struct rdma_cm_id *id, UNUSED enum ibv_event_type event)
FAILS(rdma_disconnect, UNUSED struct rdma_cm_id *id)
FAILS(rdma_join_multicast, UNUSED struct rdma_cm_id *id, UNUSED struct sockaddr *addr, UNUSED void *context)
FAILS(rdma_join_multicast_ex, UNUSED struct rdma_cm_id *id, UNUSED struct rdma_cm_join_mc_attr_ex *attr,
      UNUSED void *context)
FAILS(rdma_leave_multicast, UNUSED struct rdma_cm_id *id, UNUSED struct sockaddr *addr)
FAILS(rdma_get_cm_event, UNUSED struct rdma_event_channel *c, UNUSED struct rdma_cm_event **event)
FAILS(rdma_ack_cm_event, UNUSED struct rdma_cm_event *event)
FAILS(rdma_set_option, UNUSED struct rdma_cm_id *id, UNUSED int level, UNUSED int name, UNUSED void *value, UNUSED size_t n)
FAILS(rdma_migrate_id, UNUSED struct rdma_cm_id *id, UNUSED struct rdma_event_channel *c)
FAILS(rdma_init_qp_attr, UNUSED struct rdma_cm_id *id, UNUSED struct ibv_qp_attr *attr, UNUSED int *mask)
FAILS(rdma_set_local_ece, UNUSED struct rdma_cm_id *id, UNUSED struct ibv_ece *ece)
FAILS(rdma_get_remote_ece, UNUSED struct rdma_cm_id *id, UNUSED struct ibv_ece *ece)
