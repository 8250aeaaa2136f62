/* address.c - from addresses to devices and routes: binding and resolving. */
#define _GNU_SOURCE
#include <stdatomic.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "../device/limits.h"
#include "../shm/ports.h"
#include "cm.h"

#define ROCE_PORT 4791

int sr_cm_attach_device(struct sr_cm_id *id, const union ibv_gid *gid, uint32_t ifindex)
{
	struct rdma_cm_id *p = &id->id;
	int index;
	struct ibv_context *c = sr_cm_device_of(gid, ifindex, &index);
	if (!c)
		return ENODEV;
	struct ibv_pd *pd = p->pd ? p->pd : sr_cm_default_pd(c);
	if (!pd)
		return errno;
	p->verbs = c;
	p->port_num = 1;
	p->pd = pd;
	id->gid = *gid;
	id->gid_index = index;
	atomic_store_explicit(&id->watched, c, memory_order_release);
	return 0;
}

/* The system's default for sockets of both families is the default here too. */
static bool serves_v4(const struct sr_cm_id *id)
{
	return id->options.afonly <= 0;
}

static int take_port(struct sr_cm_id *id, const struct sockaddr *addr)
{
	struct sr_port_bind b = { .space = (uint16_t)id->id.ps, .port = sr_cm_port_of(addr), .v4_too = serves_v4(id),
				  .reuse = id->options.reuse };
	sr_cm_gid_of(addr, &b.addr);
	int row = rdmakit_port_bind(&b);
	if (row < 0)
		return -row;
	id->port_row = row;
	sr_cm_set_port(&id->id.route.addr.src_addr, b.port);
	return 0;
}

/* Gives the identifier a local address: any address, or one of a device, which it is then bound to; port 0 chooses one. 0, or
 * -1 and errno: EADDRINUSE, EADDRNOTAVAIL, EAFNOSUPPORT, EINVAL when it has one. */
int rdma_bind_addr(struct rdma_cm_id *p, struct sockaddr *addr)
{
	struct sr_cm_id *id = sr_cm_id(p);
	union ibv_gid gid;
	if (!addr || id->bound)
		return sr_cm_result(EINVAL);
	if (!sr_cm_gid_of(addr, &gid))
		return sr_cm_result(EAFNOSUPPORT);
	/* The kernel takes loopback addresses for "any" here, and gives no device. libfabric counts on it: it binds to localhost to
	 * learn which devices there are, and does without the others when it gets one. */
	if (!sr_cm_is_any(addr) && !sr_cm_is_loopback(addr)) {
		int err = sr_cm_attach_device(id, &gid, sr_cm_scope_of(addr));
		if (err)
			return sr_cm_result(err == ENODEV ? EADDRNOTAVAIL : err);
	}
	memcpy(&p->route.addr.src_storage, addr, sr_cm_sockaddr_len(addr));
	int err = take_port(id, addr);
	if (err) {
		memset(&p->route.addr.src_storage, 0, sizeof(p->route.addr.src_storage));
		return sr_cm_result(err);
	}
	id->bound = true;
	return 0;
}

/* The source address that the kernel's routing chooses for a destination. 0 or errno. */
static int route(struct sockaddr_storage *src, const struct sockaddr *dst, uint8_t tos)
{
	struct sockaddr_storage to = { 0 };
	const struct sockaddr *from = (const struct sockaddr *)src;
	socklen_t len = sr_cm_sockaddr_len(dst);
	memcpy(&to, dst, len);
	sr_cm_set_port((struct sockaddr *)&to, ROCE_PORT);
	int fd = socket(dst->sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0), value = tos, err = 0;
	if (fd < 0)
		return errno;
	if (tos)
		(void)setsockopt(fd, dst->sa_family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6,
				 dst->sa_family == AF_INET ? IP_TOS : IPV6_TCLASS, &value, sizeof(value));
	if (from->sa_family && !sr_cm_is_any(from)) {
		struct sockaddr_storage mine = *src;
		sr_cm_set_port((struct sockaddr *)&mine, 0);
		if (bind(fd, (struct sockaddr *)&mine, len))
			err = errno;
	}
	socklen_t got = sizeof(*src);
	struct sockaddr_storage found = { 0 };
	if (!err && (connect(fd, (struct sockaddr *)&to, len) || getsockname(fd, (struct sockaddr *)&found, &got)))
		err = errno;
	close(fd);
	if (!err) {
		sr_cm_set_port((struct sockaddr *)&found, sr_cm_port_of(from));
		*src = found;
	}
	return err;
}

static void loopback(struct sockaddr *sa)
{
	if (sa->sa_family == AF_INET)
		((struct sockaddr_in *)(void *)sa)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	else
		((struct sockaddr_in6 *)(void *)sa)->sin6_addr = in6addr_loopback;
}

/* Port of a client that named none: it identifies nothing, so the table of ports need not know it. */
static uint16_t client_port(void)
{
	static _Atomic uint32_t next;
	if (!next)
		next = rdmakit_random32();
	return (uint16_t)(32768 + next++ % 28232);
}

static int resolve(struct sr_cm_id *id)
{
	struct rdma_addr *a = &id->id.route.addr;
	union ibv_gid gid;
	int err = route(&a->src_storage, &a->dst_addr, id->options.tos);
	if (err)
		return err;
	if (!id->bound)
		sr_cm_set_port(&a->src_addr, client_port());
	sr_cm_gid_of(&a->src_addr, &gid);
	id->bound = true;
	/* The scope of a link-local source is the interface; with IPv4 the same address may be on several. */
	uint32_t ifindex = sr_cm_scope_of(&a->src_addr);
	return sr_cm_attach_device(id, &gid, ifindex);
}

/* Finds the way to dst: which local address and device. Binds to src, if given. The outcome is an event, ADDR_RESOLVED or
 * ADDR_ERROR. 0, or -1 and errno. */
int rdma_resolve_addr(struct rdma_cm_id *p, struct sockaddr *src, struct sockaddr *dst, int timeout_ms)
{
	struct sr_cm_id *id = sr_cm_id(p);
	(void)timeout_ms; /* nothing is waited for */
	if (!dst || id->addr_resolved || id->listening)
		return sr_cm_result(EINVAL);
	if (!sr_cm_sockaddr_len(dst))
		return sr_cm_result(EAFNOSUPPORT);
	if (src && src->sa_family && !id->bound && rdma_bind_addr(p, src))
		return -1;
	const struct sockaddr *bound = &p->route.addr.src_addr;
	if (bound->sa_family && bound->sa_family != dst->sa_family)
		return sr_cm_result(EINVAL);
	memcpy(&p->route.addr.dst_storage, dst, sr_cm_sockaddr_len(dst));
	if (sr_cm_is_any(dst))
		loopback(&p->route.addr.dst_addr);
	int err = resolve(id);
	id->addr_resolved = !err;
	sr_cm_lock();
	sr_cm_post_locked(id, err ? RDMA_CM_EVENT_ADDR_ERROR : RDMA_CM_EVENT_ADDR_RESOLVED, -err);
	sr_cm_unlock();
	return sr_cm_complete(id);
}

void sr_cm_path_of(const struct sr_cm_id *id, struct sr_gsi_path *path)
{
	const struct rdma_addr *a = &id->id.route.addr;
	*path = (struct sr_gsi_path){ .local = id->gid, .traffic_class = id->options.tos,
				      .flow_label = rdmakit_random32() & 0xfffff };
	sr_cm_gid_of(&a->dst_addr, &path->remote);
	path->ifindex = sr_cm_scope_of(&a->dst_addr);
}

/* The path record, as the kernel's rdma_cm makes one up for RoCE. 0 or errno. */
int sr_cm_fill_path(struct sr_cm_id *id)
{
	struct rdma_route *r = &id->id.route;
	struct ibv_port_attr port;
	union ibv_gid dgid;
	if (!r->path_rec)
		r->path_rec = calloc(1, sizeof(*r->path_rec));
	if (!r->path_rec)
		return ENOMEM;
	int err = ibv_query_port(id->id.verbs, id->id.port_num, &port);
	if (err)
		return err;
	sr_cm_gid_of(&r->addr.dst_addr, &dgid);
	*r->path_rec = (struct ibv_sa_path_rec){
		.dgid = dgid,
		.sgid = id->gid,
		.hop_limit = 64,
		.traffic_class = id->options.tos,
		.reversible = 1,
		.numb_path = 1,
		.pkey = htons(SR_PKEY),
		.mtu_selector = 2, /* exactly */
		.mtu = (uint8_t)port.active_mtu,
		.rate_selector = 2,
		.rate = IBV_RATE_10_GBPS,
		.packet_life_time_selector = 2,
		.packet_life_time = SR_CM_PACKET_LIFE_TIME,
	};
	r->num_paths = 1;
	r->addr.addr.ibaddr = (struct rdma_ib_addr){ .sgid = id->gid, .dgid = dgid, .pkey = htons(SR_PKEY) };
	return 0;
}

/* Finds the path record. The outcome is an event, ROUTE_RESOLVED or ROUTE_ERROR. 0, or -1 and errno: EINVAL before the address
 * is resolved. */
int rdma_resolve_route(struct rdma_cm_id *p, int timeout_ms)
{
	struct sr_cm_id *id = sr_cm_id(p);
	(void)timeout_ms;
	if (!id->addr_resolved || id->route_resolved)
		return sr_cm_result(EINVAL);
	int err = sr_cm_fill_path(id);
	id->route_resolved = !err;
	sr_cm_lock();
	sr_cm_post_locked(id, err ? RDMA_CM_EVENT_ROUTE_ERROR : RDMA_CM_EVENT_ROUTE_RESOLVED, -err);
	sr_cm_unlock();
	return sr_cm_complete(id);
}
