/* twin.c - counters, identity and existence of kernel TCP sockets. */
#define _GNU_SOURCE
#include "twin.h"
#include "sys.h"
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif
#define STATE_ESTABLISHED 1
#define STATE_CLOSED 7
/* States in which the peer's FIN has arrived; it counts as a byte in tcpi_bytes_received. */
#define STATES_AFTER_FIN ((1u << 6) | (1u << 7) | (1u << 8) | (1u << 9) | (1u << 11))

/* The same of the own FIN, which waits to be acknowledged or was. */
#define STATES_AFTER_OWN_FIN ((1u << 4) | (1u << 5) | (1u << 6) | (1u << 9) | (1u << 11))

/* What an older kernel than 4.19 does not tell, we cannot do without. */
#define INFO_LEN (offsetof(struct tcp_info, tcpi_bytes_retrans) + 8)

static int get_info(int fd, struct tcp_info *info)
{
	socklen_t len = sizeof *info;
	memset(info, 0, sizeof *info);
	int r = (int)vs_sys_getsockopt(fd, IPPROTO_TCP, TCP_INFO, info, &len);
	if (r < 0)
		return r;
	return len >= INFO_LEN ? 0 : -ENOSYS;
}

/* What has been written, given how much of it waits to be acknowledged. Two ways to know it: `bytes_sent` counts a transmission that fails
 * for want of a route each time it is tried; `bytes_acked` may contain a SYN and a FIN. The smaller one is wrong by those at most. */
static uint64_t sent_of(const struct tcp_info *info, uint32_t unacked)
{
	uint64_t sent = info->tcpi_bytes_sent - info->tcpi_bytes_retrans + info->tcpi_notsent_bytes, acked = info->tcpi_bytes_acked + unacked;
	return sent < acked ? sent : acked;
}

/* TCP_INFO and the bytes that wait to be acknowledged, of one moment. */
static int get_info_unacked(int fd, struct tcp_info *info, uint32_t *unacked)
{
	for (;;) {
		int before = 0, after = 0;
		int r = (int)vs_sys(SYS_ioctl, fd, SIOCOUTQ, &before);
		if (r >= 0)
			r = get_info(fd, info);
		if (r >= 0)
			r = (int)vs_sys(SYS_ioctl, fd, SIOCOUTQ, &after);
		if (r < 0)
			return r;
		/* Only an acknowledgement in between can make them differ. */
		if (before == after) {
			*unacked = (uint32_t)after;
			return 0;
		}
	}
}

static uint64_t received_of(const struct tcp_info *info)
{
	return info->tcpi_bytes_received - ((STATES_AFTER_FIN >> info->tcpi_state) & 1);
}

bool vs_twin_is_over(int fd)
{
	struct tcp_info info;
	return get_info(fd, &info) == 0 && info.tcpi_state == STATE_CLOSED && info.tcpi_bytes_received > 0;
}

int vs_twin_counts(int fd, uint64_t *sent, uint64_t *received)
{
	struct tcp_info info;
	uint32_t unacked;
	int r = get_info_unacked(fd, &info, &unacked);
	if (r < 0)
		return r;
	*sent = sent_of(&info, unacked);
	*received = received_of(&info);
	return 0;
}

int vs_twin_sent(int fd, uint32_t *syn, uint64_t *bytes, bool *open)
{
	struct tcp_info info;
	uint32_t unacked = 0;
	int r = syn ? get_info_unacked(fd, &info, &unacked) : get_info(fd, &info);
	if (r < 0)
		return r;
	*open = info.tcpi_state == STATE_ESTABLISHED;
	if (!syn) {
		*bytes = info.tcpi_bytes_sent - info.tcpi_bytes_retrans + info.tcpi_notsent_bytes;
		return 0;
	}
	uint64_t acked = info.tcpi_bytes_acked + unacked - ((STATES_AFTER_OWN_FIN >> info.tcpi_state) & 1);
	if (!*syn) {
		uint64_t more = acked - (info.tcpi_bytes_sent - info.tcpi_bytes_retrans + info.tcpi_notsent_bytes);
		if (more > 1) /* transmissions have failed already */
			return -ERANGE;
		*syn = more ? VS_SYN_COUNTED : VS_SYN_NOT_COUNTED;
	}
	*bytes = acked - (*syn == VS_SYN_COUNTED);
	return 0;
}

int vs_twin_read(int fd, uint64_t *bytes)
{
	for (;;) {
		struct tcp_info info;
		int before = 0, after = 0;
		int r = (int)vs_sys(SYS_ioctl, fd, SIOCINQ, &before);
		if (r >= 0)
			r = get_info(fd, &info);
		if (r >= 0)
			r = (int)vs_sys(SYS_ioctl, fd, SIOCINQ, &after);
		if (r < 0)
			return r;
		/* Only what arrives in between can make them differ. */
		if (before == after) {
			*bytes = received_of(&info) - (uint64_t)after;
			return 0;
		}
	}
}

bool vs_twin_endpoint(const struct sockaddr_storage *ss, struct vs_endpoint *e, uint32_t *scope)
{
	memset(e, 0, sizeof *e);
	if (ss->ss_family == AF_INET) {
		const struct sockaddr_in *in = (const void *)ss;
		e->addr[10] = e->addr[11] = 0xff;
		memcpy(e->addr + 12, &in->sin_addr, 4);
		e->port = in->sin_port;
		return true;
	}
	if (ss->ss_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const void *)ss;
		memcpy(e->addr, &in6->sin6_addr, 16);
		e->port = in6->sin6_port;
		*scope = in6->sin6_scope_id;
		return true;
	}
	return false;
}

static bool is_mapped(const uint8_t *addr)
{
	static const uint8_t prefix[12] = { [10] = 0xff, [11] = 0xff };
	return !memcmp(addr, prefix, 12);
}

bool vs_twin_is_v4(const struct vs_endpoint *e) { return is_mapped(e->addr); }

socklen_t vs_twin_sockaddr(const struct vs_endpoint *e, bool v4, struct sockaddr_storage *ss)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = e->port };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = e->port };
	memcpy(&in.sin_addr, e->addr + 12, 4);
	memcpy(&in6.sin6_addr, e->addr, 16);
	memset(ss, 0, sizeof *ss);
	memcpy(ss, v4 ? (void *)&in : (void *)&in6, v4 ? sizeof in : sizeof in6);
	return v4 ? sizeof in : sizeof in6;
}

/* The usual cases need no question; for others the kernel is asked whether the address is one of this host's: a bind succeeds. */
bool vs_twin_is_local(const struct vs_endpoint *peer, const struct vs_endpoint *own, const struct sockaddr_storage *ss)
{
	if (!memcmp(peer->addr, own->addr, 16))
		return true;
	if (is_mapped(peer->addr) && peer->addr[12] == 127)
		return true;
	struct sockaddr_storage any = *ss;
	((struct sockaddr_in *)&any)->sin_port = 0; /* the port is at the same place in both families */
	long fd = vs_sys(SYS_socket, ss->ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	long r = vs_sys(SYS_bind, fd, &any, ss->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6));
	vs_sys(SYS_close, fd);
	return r == 0;
}

/* How long an address is taken for another host's without asking again, where a mistake costs nothing. */
#define ELSEWHERE_NS UINT64_C(1000000000)

enum vs_kind vs_twin_glance(int fd)
{
	static __thread struct {
		uint8_t addr[16];
		uint64_t asked_ns;
	} elsewhere;
	int protocol = 0;
	struct sockaddr_storage own, peer;
	struct vs_endpoint e[2];
	uint32_t scope;
	socklen_t len = sizeof protocol;
	if (vs_sys_getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &len) < 0 || protocol != IPPROTO_TCP)
		return VS_KIND_OTHER;
	len = sizeof peer;
	if (vs_sys(SYS_getpeername, fd, &peer, &len) < 0)
		return VS_KIND_WAITING;
	if (!vs_twin_endpoint(&peer, &e[1], &scope))
		return VS_KIND_OTHER;
	uint64_t now = vs_now_ns();
	if (elsewhere.asked_ns && now - elsewhere.asked_ns < ELSEWHERE_NS && !memcmp(elsewhere.addr, e[1].addr, 16))
		return VS_KIND_REMOTE;
	len = sizeof own;
	if (vs_sys(SYS_getsockname, fd, &own, &len) < 0 || !vs_twin_endpoint(&own, &e[0], &scope))
		return VS_KIND_OTHER;
	if (vs_twin_is_local(&e[1], &e[0], &peer))
		return VS_KIND_LOCAL;
	memcpy(elsewhere.addr, e[1].addr, 16);
	elsewhere.asked_ns = now;
	return VS_KIND_REMOTE;
}

static int get_u64(int fd, int name, uint64_t *v)
{
	socklen_t len = sizeof *v;
	return (int)vs_sys_getsockopt(fd, SOL_SOCKET, name, v, &len);
}

enum vs_kind vs_twin_identify(int fd, uint64_t *cookie, struct vs_key *key, int *side)
{
	int protocol = 0;
	socklen_t len = sizeof protocol;
	if (vs_sys_getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &len) < 0 || protocol != IPPROTO_TCP)
		return VS_KIND_OTHER;
	struct sockaddr_storage own, peer;
	struct vs_endpoint e[2];
	len = sizeof peer;
	if (vs_sys(SYS_getpeername, fd, &peer, &len) < 0)
		return VS_KIND_WAITING;
	len = sizeof own;
	memset(key, 0, sizeof *key);
	if (vs_sys(SYS_getsockname, fd, &own, &len) < 0 || !vs_twin_endpoint(&own, &e[0], &key->scope) ||
	    !vs_twin_endpoint(&peer, &e[1], &key->scope))
		return VS_KIND_OTHER;
	if (is_mapped(e[0].addr))
		key->scope = 0;
	int order = memcmp(e[0].addr, e[1].addr, 16);
	if (order == 0)
		order = memcmp(&e[0].port, &e[1].port, sizeof e[0].port);
	*side = order > 0;
	key->end[*side] = e[0];
	key->end[!*side] = e[1];
	*cookie = 0;
	if (order == 0)
		return VS_KIND_REMOTE;
	bool local = vs_twin_is_local(&e[1], &e[0], &peer);
	if (get_u64(fd, SO_COOKIE, cookie) < 0 || get_u64(fd, SO_NETNS_COOKIE, &key->netns) < 0 || *cookie == 0) {
		*cookie = 0;
		return VS_KIND_REMOTE;
	}
	return local ? VS_KIND_LOCAL : VS_KIND_REMOTE;
}

bool vs_twin_forbids(int fd)
{
	static const struct {
		int level, name, most;
	} options[] = { { SOL_SOCKET, SO_RCVLOWAT, 1 },	   { SOL_SOCKET, SO_OOBINLINE, 0 },    { SOL_SOCKET, SO_TIMESTAMP, 0 },
			{ SOL_SOCKET, SO_TIMESTAMPNS, 0 }, { SOL_SOCKET, SO_TIMESTAMPING, 0 }, { IPPROTO_TCP, TCP_INQ, 0 } };
	for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
		int v = 0;
		socklen_t len = sizeof v;
		if (vs_sys_getsockopt(fd, options[i].level, options[i].name, &v, &len) >= 0 && v > options[i].most)
			return true;
	}
	return false;
}

/* The counters of the answer's attribute INET_DIAG_INFO. */
static void read_info(const unsigned char *p, size_t len, struct vs_twin_facts *facts)
{
	struct rtattr head;
	struct tcp_info info;
	while (len >= sizeof head) {
		memcpy(&head, p, sizeof head);
		if (head.rta_len < sizeof head || head.rta_len > len)
			return;
		size_t body = head.rta_len - sizeof head;
		if (head.rta_type == INET_DIAG_INFO && body >= INFO_LEN) {
			memset(&info, 0, sizeof info);
			memcpy(&info, p + sizeof head, body < sizeof info ? body : sizeof info);
			facts->counted = true;
			/* Not by what is acknowledged: that queue was looked at earlier, and what has been written since would be missing. */
			facts->sent = info.tcpi_bytes_sent - info.tcpi_bytes_retrans + info.tcpi_notsent_bytes;
			facts->received = received_of(&info);
		}
		size_t step = RTA_ALIGN(head.rta_len);
		if (step >= len)
			return;
		p += step, len -= step;
	}
}

/* An answer of NETLINK_SOCK_DIAG. */
union answer {
	struct nlmsghdr head;
	unsigned char bytes[4096];
};
#define ANSWER_FIXED NLMSG_LENGTH(sizeof(struct inet_diag_msg))

/* Asks NETLINK_SOCK_DIAG for one socket, as the sender of `own` -> `peer` or, of a connection, as the one at `own`: 1 found, 0 there is none,
 * -errno. A cookie of 0 is any. */
static int ask(int protocol, const struct vs_endpoint *own, const struct vs_endpoint *peer, uint32_t device, uint64_t cookie, union answer *a)
{
	bool v4 = is_mapped(own->addr);
	struct {
		struct nlmsghdr head;
		struct inet_diag_req_v2 req;
	} q = {
		.head = { .nlmsg_len = sizeof q, .nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_flags = NLM_F_REQUEST },
		.req = { .sdiag_family = v4 ? AF_INET : AF_INET6, .sdiag_protocol = (uint8_t)protocol, .idiag_states = ~0u },
	};
	q.req.idiag_ext = protocol == IPPROTO_TCP ? 1 << (INET_DIAG_INFO - 1) : 0;
	q.req.id.idiag_sport = own->port;
	q.req.id.idiag_dport = peer->port;
	memcpy(q.req.id.idiag_src, own->addr + (v4 ? 12 : 0), v4 ? 4 : 16);
	memcpy(q.req.id.idiag_dst, peer->addr + (v4 ? 12 : 0), v4 ? 4 : 16);
	q.req.id.idiag_if = device;
	q.req.id.idiag_cookie[0] = cookie ? (uint32_t)cookie : INET_DIAG_NOCOOKIE;
	q.req.id.idiag_cookie[1] = cookie ? (uint32_t)(cookie >> 32) : INET_DIAG_NOCOOKIE;

	long fd = vs_sys(SYS_socket, AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	if (fd < 0)
		return (int)fd;
	long n = vs_sys_send((int)fd, &q, sizeof q, 0);
	/* The answer is in the queue when the question has been sent: the kernel handles it in the sender's context. */
	if (n >= 0)
		n = vs_sys_recv((int)fd, a, sizeof *a, MSG_DONTWAIT);
	vs_sys(SYS_close, fd);
	if (n < 0)
		return (int)n;
	if (n >= (long)NLMSG_LENGTH(sizeof(int)) && a->head.nlmsg_type == NLMSG_ERROR) {
		int err;
		memcpy(&err, NLMSG_DATA(&a->head), sizeof err);
		return err == -ENOENT || err == -ESTALE ? 0 : err;
	}
	if (n < (long)ANSWER_FIXED || a->head.nlmsg_type != SOCK_DIAG_BY_FAMILY || a->head.nlmsg_len > (size_t)n || a->head.nlmsg_len < ANSWER_FIXED)
		return -EPROTO;
	return 1;
}

int vs_twin_ask(const struct vs_key *key, int side, uint64_t cookie, struct vs_twin_facts *facts)
{
	union answer a;
	int r = ask(IPPROTO_TCP, &key->end[side], &key->end[!side], key->scope, cookie, &a);
	if (r != 1)
		return r;
	const struct inet_diag_msg *m = NLMSG_DATA(&a.head);
	*facts = (struct vs_twin_facts){ .uid = m->idiag_uid, .inode = m->idiag_inode };
	read_info(a.bytes + ANSWER_FIXED, a.head.nlmsg_len - ANSWER_FIXED, facts);
	return !cookie || (m->id.idiag_cookie[0] == (uint32_t)cookie && m->id.idiag_cookie[1] == (uint32_t)(cookie >> 32));
}

/* For UDP the kernel looks up where a datagram from idiag_src to idiag_dst would go (udp_dump_one() of net/ipv4/udp_diag.c). */
uint64_t vs_twin_udp_receiver(const struct vs_endpoint *from, const struct vs_endpoint *to, uint32_t device)
{
	union answer a;
	if (is_mapped(from->addr) != is_mapped(to->addr) || ask(IPPROTO_UDP, from, to, device, 0, &a) != 1)
		return 0;
	const struct inet_diag_msg *m = NLMSG_DATA(&a.head);
	return m->idiag_inode ? m->id.idiag_cookie[0] | (uint64_t)m->id.idiag_cookie[1] << 32 : 0;
}

int vs_twin_exists(const struct vs_key *key, int side, uint64_t cookie)
{
	struct vs_twin_facts facts;
	int r = vs_twin_ask(key, side, cookie, &facts);
	return r == 1 ? facts.inode != 0 : r;
}
