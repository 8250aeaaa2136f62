/* udp-route.c - asking the kernel where datagrams go. */
#define _GNU_SOURCE
#include "udp-route.h"
#include "remote.h"
#include "sys.h"
#include "twin.h"
#include <string.h>
#include <sys/mman.h>

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif
/* Datagrams to one destination before the kernel is asked about it. */
#define ASK_AT 3
/* How long the answer is good that there is an inbox: within this time a receiver that was killed is noticed. */
#define INBOX_TICKS VS_TICKS_A_MS
/* And that there is none: from the first to the last. */
#define NONE_TICKS (VS_TICKS_A_MS * 4)
#define NONE_MAX_TICKS (VS_TICKS_A_MS * 1000)

/* How long it is kept whether another host can be reached otherwise than by the kernel. */
#define FAR_TICKS (VS_TICKS_A_MS * 1000)

/* How long what was laid in is waited for: a receiver may have to wait for a CPU. */
#define SETTLE_TICKS (VS_TICKS_A_MS * 20)
/* How long a destination keeps its place from others after its last datagrams. */
#define KEEP_TICKS (VS_TICKS_A_MS * 100)

static bool same(const struct vs_endpoint *a, const struct vs_endpoint *b) { return !memcmp(a, b, sizeof *a); }

static unsigned hash(const struct vs_endpoint *e)
{
	uint64_t a[2];
	memcpy(a, e->addr, sizeof a);
	return (unsigned)(((a[0] ^ a[1] ^ (uint64_t)e->port << 48) * UINT64_C(0x9e3779b97f4a7c15)) >> 54);
}

_Static_assert(VS_ROUTES == 1 << (64 - 54), "the hash is an index");

static bool is_group(const struct vs_endpoint *e) { return vs_twin_is_v4(e) ? e->addr[12] >= 224 : e->addr[0] == 0xff; }

static bool own_name(int fd, struct vs_endpoint *own, uint32_t *scope)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof ss;
	return vs_sys(SYS_getsockname, fd, &ss, &len) >= 0 && vs_twin_endpoint(&ss, own, scope);
}

bool vs_route_own_name(int fd, struct vs_endpoint *own)
{
	uint32_t scope = 0;
	return own_name(fd, own, &scope) && scope == 0;
}

/* The address that a socket without one gets for a destination: that of another socket which is connected there. */
static bool source_for(const struct vs_endpoint *to, struct vs_endpoint *from)
{
	struct sockaddr_storage ss;
	uint32_t scope = 0;
	const bool v4 = vs_twin_is_v4(to);
	socklen_t len = vs_twin_sockaddr(to, v4, &ss);
	long fd = vs_sys(SYS_socket, v4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	bool ok = vs_sys(SYS_connect, fd, &ss, len) >= 0 && own_name((int)fd, from, &scope) && scope == 0;
	vs_sys(SYS_close, fd);
	return ok;
}

/* From whom a datagram to `given` (NULL: to whom it is connected) would be, and `*to` whom. */
static enum { NOWHERE, HERE, ELSEWHERE } ends_of(int fd, const struct vs_endpoint *given, struct vs_endpoint *from, struct vs_endpoint *to)
{
	static const uint8_t nothing[16], v4_nothing[16] = { [10] = 0xff, [11] = 0xff };
	struct sockaddr_storage ss;
	uint32_t scope = 0;
	socklen_t len = sizeof ss;
	if (given)
		*to = *given;
	else if (vs_sys(SYS_getpeername, fd, &ss, &len) < 0 || !vs_twin_endpoint(&ss, to, &scope))
		return NOWHERE;
	if (scope || to->port == 0 || is_group(to) || !memcmp(to->addr, nothing, 16) || !memcmp(to->addr, v4_nothing, 16))
		return NOWHERE;
	if (!own_name(fd, from, &scope) || scope || from->port == 0)
		return NOWHERE;
	/* A broadcast address would be this host's, too; but nobody may connect to it. */
	struct vs_endpoint chosen = { 0 };
	if (!source_for(to, &chosen))
		return NOWHERE;
	if (!memcmp(from->addr, nothing, 16) || !memcmp(from->addr, v4_nothing, 16))
		memcpy(from->addr, chosen.addr, sizeof from->addr);
	vs_twin_sockaddr(to, vs_twin_is_v4(to), &ss);
	if (vs_twin_is_v4(from) != vs_twin_is_v4(to))
		return NOWHERE;
	return vs_twin_is_local(to, from, &ss) ? HERE : ELSEWHERE;
}

static void ask(struct vs_routes *routes, struct vs_route *r, int fd, const struct vs_endpoint *given)
{
	const uint32_t loopback = 1; /* which carries what a host sends to itself */
	uint64_t netns = 0, cookie = 0;
	socklen_t len = sizeof netns;
	struct vs_inbox *in = NULL;
	const bool known = r->inbox || r->far;
	int where = known ? r->far ? ELSEWHERE : HERE : vs_arena_open() ? NOWHERE : (int)ends_of(fd, given, &r->from, &r->to);
	if (where == HERE)
		cookie = vs_twin_udp_receiver(&r->from, &r->to, loopback);
	r->asked = vs_ticks();
	if (where == ELSEWHERE && vs_remote) {
		struct vs_far_sender s = routes->sender;
		s.fd = fd;
		s.connected = !given;
		r->far = vs_remote->far(&s, &r->from, &r->to);
		if (r->far)
			atomic_store(&routes->far, true);
		r->lasts = FAR_TICKS;
		return;
	}
	if (cookie && vs_sys_getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &netns, &len) < 0)
		cookie = 0;
	if (cookie)
		in = vs_inbox_find(cookie, netns, &r->gen);
	if (in) {
		/* What was sent before took the kernel, and comes first. */
		if (r->inbox != (uint32_t)(in - vs_arena->inbox) + 1) {
			atomic_store(&in->known, 1);
			atomic_fetch_add(&in->natives, 1);
		}
		r->inbox = (uint32_t)(in - vs_arena->inbox) + 1;
		r->lasts = INBOX_TICKS;
	} else {
		r->lasts = r->inbox || r->lasts == 0 ? NONE_TICKS : r->lasts * 2 < NONE_MAX_TICKS ? r->lasts * 2 : NONE_MAX_TICKS;
		r->inbox = 0;
	}
}

/* The place of a destination: the first one's is at hand, the others' are found by hash. */
static struct vs_route *place(struct vs_routes *r, const struct vs_endpoint *key)
{
	if (r->last.sends == 0 || same(&r->last.key, key))
		return &r->last;
	if (!r->more) {
		void *p = mmap(NULL, VS_ROUTES * sizeof *r->more, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (p == MAP_FAILED)
			return &r->last;
		r->more = p;
	}
	return &r->more[hash(key)];
}

struct vs_route *vs_routes_find(struct vs_routes *r, int fd, const struct vs_endpoint *to)
{
	static const struct vs_endpoint connected; /* port 0 stands for it */
	const struct vs_endpoint *key = to ? to : &connected;
	struct vs_route *e = place(r, key);
	const uint32_t changes = atomic_load_explicit(&r->changes, memory_order_relaxed);
	if (e->sends == 0 || e->changes != changes || !same(&e->key, key)) {
		/* Who is in use keeps its place. */
		if (e->inbox && e->changes == changes && vs_ticks() - e->asked < KEEP_TICKS) {
			r->none = (struct vs_route){ 0 };
			return &r->none;
		}
		vs_route_settle(e);
		*e = (struct vs_route){ .key = *key, .changes = changes };
	}
	if (e->sends < ASK_AT) {
		e->sends++;
		return e;
	}
	const struct vs_inbox *in = vs_route_inbox(e);
	if ((in && atomic_load_explicit(&in->gen, memory_order_relaxed) != e->gen) || vs_ticks() - e->asked > e->lasts)
		ask(r, e, fd, to);
	return e;
}

void vs_route_settle(struct vs_route *e)
{
	const uint64_t start = vs_ticks();
	if (!e->put_tail)
		return;
	struct vs_inbox *in = &vs_arena->inbox[e->put_inbox - 1];
	while ((int64_t)(e->put_tail - atomic_load(&in->head)) > 0 && vs_inbox_state(in) != VS_INBOX_SHUT && vs_ticks() - start < SETTLE_TICKS) {
		for (int i = 0; i < 64; i++)
			vs_pause();
		vs_sys_yield();
	}
	e->put_tail = 0;
}

void vs_routes_reset(struct vs_routes *r, const struct vs_far_sender *sender)
{
	uint32_t changes = atomic_load(&r->changes) + 1;
	atomic_store(&r->changes, changes);
	r->last = (struct vs_route){ 0 };
	r->sender = *sender;
	atomic_store(&r->far, false);
}
