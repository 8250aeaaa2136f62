/*
 * addrinfo.c - rdma_getaddrinfo(): names and services to addresses for rdma_cm, by getaddrinfo(). Routes are not filled in:
 * on RoCE the kernel's routing decides.
 */
#include <errno.h>
#include <netdb.h>
#include <rdma/rdma_cma.h>
#include <stdlib.h>
#include <string.h>

void rdma_freeaddrinfo(struct rdma_addrinfo *res)
{
	while (res) {
		struct rdma_addrinfo *next = res->ai_next;
		free(res->ai_src_addr);
		free(res->ai_dst_addr);
		free(res->ai_src_canonname);
		free(res->ai_dst_canonname);
		free(res->ai_route);
		free(res->ai_connect);
		free(res);
		res = next;
	}
}

/* Copies an address; 0 or EAI_MEMORY. An absent one stays absent. */
static int copy_address(struct sockaddr **to, socklen_t *to_len, const struct sockaddr *from, socklen_t len)
{
	if (!from || !len)
		return 0;
	*to = malloc(len);
	if (!*to)
		return EAI_MEMORY;
	memcpy(*to, from, len);
	*to_len = len;
	return 0;
}

/* Port space and queue-pair type imply each other; hints may give either. */
static void choose_type(struct rdma_addrinfo *r, const struct rdma_addrinfo *hints)
{
	r->ai_qp_type = hints->ai_qp_type;
	r->ai_port_space = hints->ai_port_space;
	if (!r->ai_port_space)
		r->ai_port_space = r->ai_qp_type == IBV_QPT_UD ? RDMA_PS_UDP : RDMA_PS_TCP;
	if (!r->ai_qp_type)
		r->ai_qp_type = r->ai_port_space == RDMA_PS_UDP || r->ai_port_space == RDMA_PS_IPOIB ? IBV_QPT_UD : IBV_QPT_RC;
}

/* One result. On failure what was built so far hangs on r and is freed by the caller. */
static int fill(struct rdma_addrinfo *r, const struct addrinfo *ai, const struct rdma_addrinfo *hints)
{
	int rc;
	r->ai_flags = hints->ai_flags;
	choose_type(r, hints);
	if (!ai) {
		const struct sockaddr *any = hints->ai_src_addr ? hints->ai_src_addr : hints->ai_dst_addr;
		r->ai_family = any ? any->sa_family : hints->ai_family;
		rc = copy_address(&r->ai_dst_addr, &r->ai_dst_len, hints->ai_dst_addr, hints->ai_dst_len);
		return rc ? rc : copy_address(&r->ai_src_addr, &r->ai_src_len, hints->ai_src_addr, hints->ai_src_len);
	}
	r->ai_family = ai->ai_family;
	char **canon = hints->ai_flags & RAI_PASSIVE ? &r->ai_src_canonname : &r->ai_dst_canonname;
	if (ai->ai_canonname && !(*canon = strdup(ai->ai_canonname)))
		return EAI_MEMORY;
	if (hints->ai_flags & RAI_PASSIVE)
		return copy_address(&r->ai_src_addr, &r->ai_src_len, ai->ai_addr, ai->ai_addrlen);
	rc = copy_address(&r->ai_dst_addr, &r->ai_dst_len, ai->ai_addr, ai->ai_addrlen);
	return rc ? rc : copy_address(&r->ai_src_addr, &r->ai_src_len, hints->ai_src_addr, hints->ai_src_len);
}

/* Translates node and service (either may be NULL) into rdma_cm addresses. Returns 0 and a list to be freed with
 * rdma_freeaddrinfo(), or an EAI_* code; with EAI_SYSTEM errno tells more. */
int rdma_getaddrinfo(const char *node, const char *service, const struct rdma_addrinfo *hints, struct rdma_addrinfo **res)
{
	static const struct rdma_addrinfo no_hints;
	struct addrinfo *found = NULL, ask = { 0 };
	struct rdma_addrinfo *first = NULL, **tail = &first;
	if (!node && !service && !hints) {
		errno = EINVAL;
		return EAI_SYSTEM;
	}
	if (!hints)
		hints = &no_hints;
	if (node || service) {
		ask.ai_family = hints->ai_flags & RAI_FAMILY || hints->ai_family ? hints->ai_family : AF_UNSPEC;
		ask.ai_socktype = hints->ai_port_space == RDMA_PS_UDP || hints->ai_qp_type == IBV_QPT_UD ? SOCK_DGRAM : SOCK_STREAM;
		ask.ai_flags = (hints->ai_flags & RAI_PASSIVE ? AI_PASSIVE : 0) |
			       (hints->ai_flags & RAI_NUMERICHOST ? AI_NUMERICHOST : 0);
		int rc = getaddrinfo(node, service, &ask, &found);
		if (rc)
			return rc;
	}
	int rc = 0;
	const struct addrinfo *ai = found;
	do {
		struct rdma_addrinfo *r = calloc(1, sizeof(*r));
		if (!r) {
			rc = EAI_MEMORY;
			break;
		}
		*tail = r;
		tail = &r->ai_next;
		rc = fill(r, ai, hints);
		ai = ai ? ai->ai_next : NULL;
	} while (!rc && ai);
	if (found)
		freeaddrinfo(found);
	if (rc) {
		rdma_freeaddrinfo(first);
		return rc;
	}
	*res = first;
	return 0;
}
