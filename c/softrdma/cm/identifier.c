/*
 * identifier.c - small questions about events and identifiers that need no connection manager.
 */
#include <netinet/in.h>
#include <rdma/rdma_cma.h>
#include <sys/socket.h>

/* Name of an event. Static storage, never NULL. */
const char *rdma_event_str(enum rdma_cm_event_type event)
{
	switch (event) {
#define NAME(e) \
	case e: \
		return #e;
		NAME(RDMA_CM_EVENT_ADDR_RESOLVED)
		NAME(RDMA_CM_EVENT_ADDR_ERROR)
		NAME(RDMA_CM_EVENT_ROUTE_RESOLVED)
		NAME(RDMA_CM_EVENT_ROUTE_ERROR)
		NAME(RDMA_CM_EVENT_CONNECT_REQUEST)
		NAME(RDMA_CM_EVENT_CONNECT_RESPONSE)
		NAME(RDMA_CM_EVENT_CONNECT_ERROR)
		NAME(RDMA_CM_EVENT_UNREACHABLE)
		NAME(RDMA_CM_EVENT_REJECTED)
		NAME(RDMA_CM_EVENT_ESTABLISHED)
		NAME(RDMA_CM_EVENT_DISCONNECTED)
		NAME(RDMA_CM_EVENT_DEVICE_REMOVAL)
		NAME(RDMA_CM_EVENT_MULTICAST_JOIN)
		NAME(RDMA_CM_EVENT_MULTICAST_ERROR)
		NAME(RDMA_CM_EVENT_ADDR_CHANGE)
		NAME(RDMA_CM_EVENT_TIMEWAIT_EXIT)
#undef NAME
	}
	return "UNKNOWN EVENT";
}

static __be16 port_of(const struct sockaddr *sa)
{
	if (sa->sa_family == AF_INET)
		return ((const struct sockaddr_in *)(const void *)sa)->sin_port;
	if (sa->sa_family == AF_INET6)
		return ((const struct sockaddr_in6 *)(const void *)sa)->sin6_port;
	return 0;
}

/* Local port of the identifier in network byte order; 0 when it has no address yet. */
__be16 rdma_get_src_port(struct rdma_cm_id *id)
{
	return port_of(&id->route.addr.src_addr);
}

/* The peer's port, likewise. */
__be16 rdma_get_dst_port(struct rdma_cm_id *id)
{
	return port_of(&id->route.addr.dst_addr);
}
