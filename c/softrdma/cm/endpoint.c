/* endpoint.c - identifiers made in one step from an address of rdma_getaddrinfo(). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <rdma/rdma_verbs.h>
#include "cm.h"

#define RESOLVE_MS 2000

static int copy(void **to, const void *from, size_t len)
{
	*to = malloc(len);
	if (!*to)
		return ENOMEM;
	memcpy(*to, from, len);
	return 0;
}

static int passive(struct sr_cm_id *id, const struct rdma_addrinfo *res, struct ibv_pd *pd, struct ibv_qp_init_attr *attr)
{
	if (rdma_bind_addr(&id->id, res->ai_src_addr))
		return errno;
	id->id.pd = pd;
	if (!attr)
		return 0;
	attr->qp_type = (enum ibv_qp_type)res->ai_qp_type;
	return copy((void **)&id->qp_init_attr, attr, sizeof(*attr));
}

static int active(struct sr_cm_id *id, const struct rdma_addrinfo *res, struct ibv_pd *pd, struct ibv_qp_init_attr *attr)
{
	if (rdma_resolve_addr(&id->id, res->ai_src_addr, res->ai_dst_addr, RESOLVE_MS) || rdma_resolve_route(&id->id, RESOLVE_MS))
		return errno;
	if (attr) {
		attr->qp_type = (enum ibv_qp_type)res->ai_qp_type;
		if (rdma_create_qp(&id->id, pd, attr))
			return errno;
	}
	if (!res->ai_connect_len)
		return 0;
	id->connect_len = res->ai_connect_len;
	return copy(&id->connect_data, res->ai_connect, res->ai_connect_len);
}

/* Makes a synchronous identifier: a bound one that can listen (RAI_PASSIVE), or one that is ready to connect. With `attr` it has
 * a queue pair (a listener: its requests will). 0, or -1 and errno. Free with rdma_destroy_ep(). */
int rdma_create_ep(struct rdma_cm_id **p, struct rdma_addrinfo *res, struct ibv_pd *pd, struct ibv_qp_init_attr *attr)
{
	struct rdma_cm_id *made;
	if (!res || !p)
		return sr_cm_result(EINVAL);
	if (rdma_create_id(NULL, &made, NULL, (enum rdma_port_space)res->ai_port_space))
		return -1;
	made->qp_type = (enum ibv_qp_type)res->ai_qp_type;
	int err = res->ai_flags & RAI_PASSIVE ? passive(sr_cm_id(made), res, pd, attr) : active(sr_cm_id(made), res, pd, attr);
	if (err) {
		rdma_destroy_ep(made);
		return sr_cm_result(err);
	}
	*p = made;
	return 0;
}

/* Frees the identifier and what was made with it. */
void rdma_destroy_ep(struct rdma_cm_id *p)
{
	rdma_destroy_qp(p);
	rdma_destroy_srq(p);
	rdma_destroy_id(p);
}
