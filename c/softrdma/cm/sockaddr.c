/* sockaddr.c - socket addresses and GIDs. */
#include <string.h>
#include "cm.h"

static const struct sockaddr_in *in4(const struct sockaddr *sa) { return (const struct sockaddr_in *)(const void *)sa; }
static const struct sockaddr_in6 *in6(const struct sockaddr *sa) { return (const struct sockaddr_in6 *)(const void *)sa; }

socklen_t sr_cm_sockaddr_len(const struct sockaddr *sa)
{
	return sa->sa_family == AF_INET ? sizeof(struct sockaddr_in) : sa->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : 0;
}

bool sr_cm_gid_of(const struct sockaddr *sa, union ibv_gid *gid)
{
	if (sa->sa_family == AF_INET) {
		*gid = (union ibv_gid){ .raw = { [10] = 0xff, [11] = 0xff } };
		memcpy(gid->raw + 12, &in4(sa)->sin_addr, 4);
		return true;
	}
	if (sa->sa_family != AF_INET6)
		return false;
	memcpy(gid->raw, &in6(sa)->sin6_addr, 16);
	return true;
}

void sr_cm_sockaddr_of(const union ibv_gid *gid, uint16_t port, uint32_t scope, struct sockaddr_storage *sa)
{
	struct in6_addr a;
	memcpy(&a, gid->raw, sizeof(a));
	memset(sa, 0, sizeof(*sa));
	if (IN6_IS_ADDR_V4MAPPED(&a)) {
		struct sockaddr_in *s = (void *)sa;
		s->sin_family = AF_INET;
		s->sin_port = htons(port);
		memcpy(&s->sin_addr, gid->raw + 12, 4);
	} else {
		struct sockaddr_in6 *s = (void *)sa;
		s->sin6_family = AF_INET6;
		s->sin6_port = htons(port);
		s->sin6_addr = a;
		s->sin6_scope_id = IN6_IS_ADDR_LINKLOCAL(&a) ? scope : 0;
	}
}

uint16_t sr_cm_port_of(const struct sockaddr *sa)
{
	return sa->sa_family == AF_INET ? ntohs(in4(sa)->sin_port) : sa->sa_family == AF_INET6 ? ntohs(in6(sa)->sin6_port) : 0;
}

void sr_cm_set_port(struct sockaddr *sa, uint16_t port)
{
	if (sa->sa_family == AF_INET)
		((struct sockaddr_in *)(void *)sa)->sin_port = htons(port);
	else if (sa->sa_family == AF_INET6)
		((struct sockaddr_in6 *)(void *)sa)->sin6_port = htons(port);
}

bool sr_cm_is_any(const struct sockaddr *sa)
{
	return sa->sa_family == AF_INET ? in4(sa)->sin_addr.s_addr == INADDR_ANY : IN6_IS_ADDR_UNSPECIFIED(&in6(sa)->sin6_addr);
}

bool sr_cm_is_loopback(const struct sockaddr *sa)
{
	return sa->sa_family == AF_INET ? ntohl(in4(sa)->sin_addr.s_addr) >> 24 == 127 : IN6_IS_ADDR_LOOPBACK(&in6(sa)->sin6_addr);
}

bool sr_cm_is_multicast(const struct sockaddr *sa)
{
	return sa->sa_family == AF_INET ? IN_MULTICAST(ntohl(in4(sa)->sin_addr.s_addr)) : IN6_IS_ADDR_MULTICAST(&in6(sa)->sin6_addr);
}

uint32_t sr_cm_scope_of(const struct sockaddr *sa)
{
	return sa->sa_family == AF_INET6 && (IN6_IS_ADDR_LINKLOCAL(&in6(sa)->sin6_addr) || IN6_IS_ADDR_MC_LINKLOCAL(&in6(sa)->sin6_addr))
		       ? in6(sa)->sin6_scope_id
		       : 0;
}
