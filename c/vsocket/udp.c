/* udp.c - sending and receiving datagrams of this process's UDP sockets. */
#define _GNU_SOURCE
#include "udp.h"
#include "book.h"
#include "conn.h"
#include "hooks/spin.h"
#include "lock.h"
#include "remote.h"
#include "sys.h"
#include "twin.h"
#include "udp-route.h"
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif
/* The receive at which a socket gets an inbox: most sockets are read once or twice (a question about a name). */
#define OPEN_AT 3
/* What a receive may ask for and an inbox can give; and a send. */
#define RECV_FLAGS (MSG_PEEK | MSG_DONTWAIT | MSG_TRUNC | MSG_NOSIGNAL | MSG_CMSG_CLOEXEC | MSG_WAITALL)
#define SEND_FLAGS (MSG_DONTWAIT | MSG_NOSIGNAL)

struct vs_udp {
	_Atomic uint32_t descriptors; /* of this process; 0: free */
	_Atomic uint32_t lock;	      /* of `route` and of the making of the inbox */
	_Atomic uint32_t inbox;	      /* index + 1; 0: none */
	_Atomic uint64_t cookie;      /* of the socket, when it has one */
	_Atomic bool kernel_first;    /* the last datagram was the kernel's */
	_Atomic uint32_t receives;
	_Atomic uint32_t sleepers; /* threads that sleep in the kernel, or may, until a datagram comes */
	_Atomic uint32_t plain;	   /* enum vs_plain: why it is the kernel's */
	_Atomic uint32_t watched;  /* enum vs_udp_watched */
	_Atomic uint32_t spin_ns;
	_Atomic bool nonblock;
	_Atomic bool far; /* something was sent to another host by the queue pair */
	bool v6;
	_Atomic int fd; /* one of its descriptors */
	_Atomic bool booked;			/* `row` has been asked for */
	struct vs_book_row *_Atomic row;	/* of a report */
	struct vs_book_flow own_tx, own_rx;	/* counters, when there is no row */
	struct vs_book_flow *_Atomic tx, *_Atomic rx;
	_Atomic uint32_t from_kernel, next_look; /* datagrams that were received from the kernel; at which of them their sender is looked at */
	struct vs_routes routes;
};
/* That one, and four times as many each time that he is of this host; the socket has an inbox then. */
#define FIRST_LOOK 16u

static void count(uint64_t *counter, uint64_t n) { atomic_fetch_add_explicit((_Atomic uint64_t *)counter, n, memory_order_relaxed); }

static struct vs_udp *udps;
static _Atomic uint32_t udps_lock;
static _Atomic uint32_t udps_used; /* places from here on were never used */

struct vs_udp *vs_udp_at(unsigned index) { return udps && index < VS_UDPS ? &udps[index] : NULL; }

static bool make_table(void)
{
	if (!udps) {
		void *p = mmap(NULL, VS_UDPS * sizeof *udps, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		udps = p == MAP_FAILED ? NULL : p;
	}
	return udps != NULL;
}

void vs_udp_made(int fd, bool v6, bool nonblock)
{
	if (vs_lock(&udps_lock) == VS_LOCK_NESTED)
		return;
	for (unsigned i = 0; make_table() && i < VS_UDPS; i++) {
		struct vs_udp *u = &udps[i];
		if (atomic_load(&u->descriptors))
			continue;
		struct vs_routes routes = u->routes;
		uint32_t sleepers = atomic_load(&u->sleepers); /* of its last life, who have not noticed yet */
		memset(u, 0, sizeof *u);
		vs_routes_reset(&routes, &(struct vs_far_sender){ .owner = u, .lock = &u->lock, .v6 = v6 });
		u->routes = routes;
		atomic_store(&u->sleepers, sleepers);
		u->v6 = v6;
		atomic_store(&u->tx, &u->own_tx);
		atomic_store(&u->rx, &u->own_rx);
		atomic_store(&u->nonblock, nonblock);
		atomic_store(&u->fd, fd);
		atomic_store(&u->next_look, FIRST_LOOK);
		if (i >= atomic_load(&udps_used))
			atomic_store(&udps_used, i + 1);
		vs_fd_set_datagram(fd, i);
		break;
	}
	vs_unlock(&udps_lock);
}

/* The socket's inbox, while it is its. */
static struct vs_inbox *inbox_of(struct vs_udp *u)
{
	uint32_t index = atomic_load_explicit(&u->inbox, memory_order_acquire);
	struct vs_inbox *in = index ? &vs_arena->inbox[index - 1] : NULL;
	return in && atomic_load_explicit(&in->cookie, memory_order_relaxed) == atomic_load_explicit(&u->cookie, memory_order_relaxed) ? in : NULL;
}

/* Whether other hosts may send to the inbox. */
static bool is_far(const struct vs_inbox *in)
{
	const uint64_t until = atomic_load_explicit(&in->far_until, memory_order_relaxed);
	return __builtin_expect(until != 0, 0) && (int64_t)(until - vs_ticks()) > 0;
}

/* Lays in what has come from there. */
static void poll_far(const struct vs_inbox *in)
{
	if (is_far(in))
		vs_remote->poll();
}

/* A thread is going to sleep in the kernel: somebody else must look. */
static void doze_far(const struct vs_inbox *in)
{
	if (is_far(in))
		vs_remote->doze();
}

bool vs_udp_has_inbox(struct vs_udp *u) { return inbox_of(u) != NULL; }

bool vs_udp_ready(struct vs_udp *u)
{
	struct vs_inbox *in = inbox_of(u);
	if (in && !vs_inbox_has(in))
		poll_far(in);
	return in && vs_inbox_has(in);
}

uint64_t vs_udp_tail(struct vs_udp *u)
{
	struct vs_inbox *in = inbox_of(u);
	return in ? VS_INBOX_TAIL(atomic_load_explicit(&in->word, memory_order_acquire)) : 0;
}

void vs_udp_hold(unsigned index)
{
	struct vs_udp *u = vs_udp_at(index);
	if (u)
		atomic_fetch_add(&u->descriptors, 1);
}

void vs_udp_release(unsigned index)
{
	struct vs_udp *u = vs_udp_at(index);
	if (!u)
		return;
	struct vs_inbox *in = inbox_of(u);
	if (atomic_load(&u->descriptors) == 1) {
		atomic_store(&u->inbox, 0);
		if (in)
			vs_inbox_leave(in);
		if (atomic_load_explicit(&u->routes.far, memory_order_relaxed))
			vs_remote->far_left(u, &u->lock);
	}
	atomic_fetch_sub(&u->descriptors, 1);
}

void vs_udp_each(void (*f)(int fd, struct vs_udp *u, void *arg), void *arg)
{
	for (int fd = 0, top = vs_fd_highest(); udps && fd <= top; fd++) {
		struct vs_udp *u = vs_udp_of(fd);
		if (u)
			f(fd, u, arg);
	}
}

/* Addresses of nothing at all, as which programs pass what they have forgotten to set: the kernel says EFAULT. */
#define LOWEST_ADDRESS 0x1000u
static bool may_be_memory(const struct msghdr *m)
{
	if (m->msg_name && (uintptr_t)m->msg_name < LOWEST_ADDRESS)
		return false;
	for (size_t i = 0; i < m->msg_iovlen; i++)
		if (m->msg_iov[i].iov_len && (uintptr_t)m->msg_iov[i].iov_base < LOWEST_ADDRESS)
			return false;
	return true;
}

/* Sending. */

static bool name_of(const struct msghdr *m, struct vs_endpoint *to)
{
	struct sockaddr_storage ss;
	uint32_t scope = 0;
	if ((uintptr_t)m->msg_name < LOWEST_ADDRESS || m->msg_namelen < sizeof(struct sockaddr_in) || m->msg_namelen > sizeof ss)
		return false;
	memset(&ss, 0, sizeof ss);
	memcpy(&ss, m->msg_name, m->msg_namelen);
	if (ss.ss_family == AF_INET6 && m->msg_namelen < sizeof(struct sockaddr_in6))
		return false;
	return vs_twin_endpoint(&ss, to, &scope) && scope == 0;
}

/* Whether it is a datagram that an inbox can have. */
static bool can_be_put(struct vs_udp *u, const struct msghdr *m, int flags, struct vs_cursor *c)
{
	return !atomic_load_explicit(&u->plain, memory_order_relaxed) && !(flags & ~SEND_FLAGS) && !(m->msg_control && m->msg_controllen) &&
	       m->msg_iovlen <= 1024 && may_be_memory(m) && vs_cursor_init(c, m->msg_iov, (int)m->msg_iovlen) && c->left <= VS_DATAGRAM_MAX;
}

long vs_udp_send(struct vs_udp *u, int fd, const struct msghdr *m, int flags, struct vs_inbox **to_inbox)
{
	struct vs_endpoint to;
	struct vs_cursor c;
	uint64_t tail;
	*to_inbox = NULL;
	if ((m->msg_name && !name_of(m, &to)) || vs_lock(&u->lock) == VS_LOCK_NESTED)
		return VS_NATIVE;
	struct vs_route *e = vs_routes_find(&u->routes, fd, m->msg_name ? &to : NULL);
	struct vs_inbox *in = vs_route_inbox(e);
	long r = VS_INBOX_KERNEL;
	if ((in || e->far) && can_be_put(u, m, flags, &c))
		r = in ? vs_inbox_put(in, e->gen, &e->from, &c, &tail) : vs_remote->far_send(e->far, &c);
	if (r >= 0 && in)
		vs_route_put(e, tail);
	if (r == VS_INBOX_KERNEL)
		vs_route_settle(e);
	vs_unlock(&u->lock);
	if (r == VS_INBOX_KERNEL) {
		*to_inbox = in;
		return VS_NATIVE;
	}
	if (r < 0) { /* what finds no room is lost, as it is when the kernel's buffer is full */
		count(&u->tx->overflows, 1);
		vs_cursor_init(&c, m->msg_iov, (int)m->msg_iovlen);
		return (long)c.left;
	}
	if (!in && !atomic_load_explicit(&u->far, memory_order_relaxed))
		atomic_store(&u->far, true);
	count(&u->tx->ring_bytes, (uint64_t)r);
	count(&u->tx->datagrams, 1);
	return r;
}

void vs_udp_sent(struct vs_udp *u, struct vs_inbox *to_inbox, ssize_t result)
{
	if (result > 0)
		count(&u->tx->kernel_bytes, (uint64_t)result);
	if (to_inbox)
		atomic_fetch_add(&to_inbox->natives, 1);
}

/* Receiving. */

/* Every wait for the socket looks at the inbox before it sleeps. */
static bool all_seen(struct vs_udp *u, struct vs_inbox *in)
{
	return !atomic_load(&u->plain) && atomic_load(&u->watched) != VS_UDP_UNSEEN && atomic_load(&in->holders) == 1;
}

/* A receiver that sleeps before each datagram would ask the kernel each time. */
static _Atomic uint32_t pid;
static uint32_t own_pid(void)
{
	if (!atomic_load_explicit(&pid, memory_order_relaxed))
		atomic_store(&pid, (uint32_t)vs_sys_getpid());
	return atomic_load_explicit(&pid, memory_order_relaxed);
}

/* Opens the inbox when nobody sleeps. Under rx_lock. */
static void open_inbox(struct vs_udp *u, struct vs_inbox *in)
{
	uint64_t w = atomic_load(&in->word);
	if (VS_INBOX_STATE(w) == VS_INBOX_OPEN || atomic_load(&u->sleepers) > 0 || !all_seen(u, in) ||
	    VS_INBOX_TAIL(w) != atomic_load(&in->head))
		return;
	atomic_store(&in->pid, own_pid());
	atomic_compare_exchange_strong(&in->word, &w, VS_INBOX_WORD(VS_INBOX_TAIL(w), VS_INBOX_OPEN));
}

static struct vs_inbox *make_inbox(struct vs_udp *u, int fd)
{
	uint64_t cookie = 0, netns = 0;
	socklen_t len = sizeof cookie;
	if (atomic_load_explicit(&u->plain, memory_order_relaxed) || atomic_load_explicit(&u->watched, memory_order_relaxed) == VS_UDP_UNSEEN ||
	    atomic_load_explicit(&u->receives, memory_order_relaxed) + 1 < OPEN_AT) {
		atomic_fetch_add_explicit(&u->receives, 1, memory_order_relaxed);
		return NULL;
	}
	if (vs_arena_open() || vs_lock(&u->lock) == VS_LOCK_NESTED)
		return NULL;
	struct vs_inbox *in = inbox_of(u);
	struct vs_endpoint at = { 0 };
	vs_route_own_name(fd, &at);
	if (!in && vs_sys_getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len) >= 0 &&
	    vs_sys_getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &netns, &len) >= 0 && (in = vs_inbox_take(cookie, netns, &at))) {
		atomic_store(&u->cookie, cookie);
		atomic_store(&u->inbox, (uint32_t)(in - vs_arena->inbox) + 1);
	} else if (!in) {
		atomic_store(&u->receives, 0); /* all are taken: again later */
	}
	vs_unlock(&u->lock);
	return in;
}

static void put_name(struct vs_udp *u, struct msghdr *m, const struct vs_endpoint *from)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = from->port };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = from->port };
	socklen_t len = u->v6 ? sizeof in6 : sizeof in;
	memcpy(&in.sin_addr, from->addr + 12, 4);
	memcpy(&in6.sin6_addr, from->addr, 16);
	if (m->msg_name)
		memcpy(m->msg_name, u->v6 ? (const void *)&in6 : &in, m->msg_namelen < len ? m->msg_namelen : len);
	m->msg_namelen = m->msg_name ? len : 0;
}

/* From the inbox, under its lock; -EAGAIN when it is empty. */
static long take(struct vs_udp *u, struct vs_inbox *in, struct msghdr *m, int flags)
{
	struct vs_endpoint from;
	struct vs_cursor c;
	size_t copied;
	if (!vs_cursor_init(&c, m->msg_iov, (int)m->msg_iovlen))
		return -EINVAL;
	long len = vs_inbox_get(in, &c, flags & MSG_PEEK, &from, &copied);
	if (len < 0)
		return len;
	put_name(u, m, &from);
	m->msg_controllen = 0;
	m->msg_flags = (size_t)len > copied ? MSG_TRUNC : 0;
	if (!(flags & MSG_PEEK)) {
		count(&u->rx->ring_bytes, (uint64_t)len);
		count(&u->rx->datagrams, 1);
	}
	return flags & MSG_TRUNC ? len : (long)copied;
}

/* A datagram has come from the kernel. Other hosts' processes can ask for the inbox only when they are listened to. */
static void look_at_sender(struct vs_udp *u, struct vs_inbox *in, const void *name, socklen_t namelen)
{
	uint32_t credit = in ? atomic_load_explicit(&in->far_credit, memory_order_relaxed) : 0;
	if (credit)
		atomic_compare_exchange_strong(&in->far_credit, &credit, credit - 1);
	const uint32_t n = atomic_fetch_add_explicit(&u->from_kernel, 1, memory_order_relaxed) + 1,
		       look = atomic_load_explicit(&u->next_look, memory_order_relaxed);
	if (!in || n < look || !vs_remote)
		return;
	struct sockaddr_storage ss;
	struct vs_endpoint from, own;
	uint32_t scope = 0;
	socklen_t len = sizeof ss;
	atomic_store(&u->next_look, look < UINT32_MAX / 4 ? look * 4 : UINT32_MAX);
	memset(&ss, 0, sizeof ss);
	if (name && namelen <= sizeof ss)
		memcpy(&ss, name, namelen);
	else if (vs_sys(SYS_getpeername, atomic_load(&u->fd), &ss, &len) < 0)
		return;
	if (!vs_twin_endpoint(&ss, &from, &scope) || scope || !vs_route_own_name(atomic_load(&u->fd), &own))
		return;
	vs_twin_sockaddr(&from, vs_twin_is_v4(&from), &ss);
	if (!vs_twin_is_local(&from, &own, &ss)) {
		atomic_store(&u->next_look, UINT32_MAX);
		vs_remote->far_receiver(in);
	}
}

/* The kernel's queue, without waiting. */
static long look_at_kernel(struct vs_udp *u, struct vs_inbox *in, int fd, struct msghdr *m, int flags)
{
	uint64_t natives = atomic_load(&in->natives);
	long r = vs_sys_recvmsg(fd, m, flags | MSG_DONTWAIT);
	atomic_store_explicit(&in->looked, vs_ticks(), memory_order_relaxed);
	if (r == -EAGAIN)
		atomic_store_explicit(&in->natives_seen, natives, memory_order_relaxed);
	else if (r > 0 && !(flags & MSG_PEEK))
		count(&u->rx->kernel_bytes, (uint64_t)r);
	if (r >= 0)
		look_at_sender(u, in, m->msg_name, m->msg_namelen);
	if (r >= 0)
		atomic_store_explicit(&u->kernel_first, true, memory_order_relaxed);
	return r;
}

static bool natives_due(const struct vs_inbox *in)
{
	return atomic_load_explicit(&in->natives, memory_order_acquire) != atomic_load_explicit(&in->natives_seen, memory_order_relaxed);
}

/* What there is, without waiting, under the lock: in the order in which one sender has sent it. */
static long poll_both(struct vs_udp *u, struct vs_inbox *in, int fd, struct msghdr *m, int flags, bool *looked)
{
	/* What lies in was laid in before what the kernel was given when the inbox had been shut, and after it otherwise. What comes while we ask
	 * the kernel may be of a sender who gave it something just before. */
	const uint64_t w = atomic_load(&in->word);
	const bool has = VS_INBOX_TAIL(w) != atomic_load(&in->head), first = has && VS_INBOX_STATE(w) == VS_INBOX_SHUT;
	*looked = false;
	if (!first && (natives_due(in) || vs_ticks() - atomic_load_explicit(&in->looked, memory_order_relaxed) > VS_FAIR_TICKS)) {
		long r = look_at_kernel(u, in, fd, m, flags);
		*looked = true;
		if (r != -EAGAIN)
			return r;
	}
	long r = has ? take(u, in, m, flags) : -EAGAIN;
	if (r >= 0) {
		if (atomic_load_explicit(&u->kernel_first, memory_order_relaxed))
			atomic_store_explicit(&u->kernel_first, false, memory_order_relaxed);
	} else if (r == -EAGAIN && !*looked && atomic_load_explicit(&u->kernel_first, memory_order_relaxed)) {
		*looked = true;
		r = look_at_kernel(u, in, fd, m, flags);
	}
	return r;
}

/* Some sender has found the inbox; until then there is nothing to look for in it. */
static bool is_known(struct vs_inbox *in)
{
	return atomic_load_explicit(&in->known, memory_order_relaxed) || atomic_load_explicit(&in->far_credit, memory_order_relaxed) || vs_inbox_has(in);
}

/* Looks for as long as it is worth it; true when something may have come. */
static bool spin(struct vs_inbox *in, int fd, uint32_t budget_ns)
{
	uint64_t start = vs_now_ns(), looked = start, now = start;
	const int pauses = is_far(in) ? 2 : 32; /* looking at a queue is longer than a pause */
	while (now - start < budget_ns) {
		for (int i = 0; i < pauses; i++) {
			if (vs_inbox_has(in) || natives_due(in))
				return true;
			vs_pause();
		}
		poll_far(in);
		now = vs_now_ns();
		if (now - looked > VS_LOOK_NS) {
			struct pollfd p = { .fd = fd, .events = POLLIN };
			looked = now;
			if (vs_sys_poll_now(&p, 1) != 0) {
				atomic_store_explicit(&in->looked, 0, memory_order_relaxed);
				return true;
			}
		}
		if (now - start > VS_PURE_SPIN_NS)
			vs_sys_yield();
	}
	return false;
}

/* Whoever finds a receiver on another host asleep must send again by the kernel what it did not take: dear enough to be patient, and
 * what such waits last teaches nothing. */
#define FAR_SPIN_NS 200000u
static uint32_t spin_budget(struct vs_udp *u, struct vs_inbox *in)
{
	if (atomic_load_explicit(&in->far_credit, memory_order_relaxed))
		return FAR_SPIN_NS;
	return vs_spin_budget(atomic_load_explicit(&u->spin_ns, memory_order_relaxed));
}

static void learn(struct vs_udp *u, struct vs_inbox *in, const struct vs_udp_wait *w, bool by_ring)
{
	if (!w->since_ns || atomic_load_explicit(&in->far_credit, memory_order_relaxed))
		return;
	const uint32_t budget = vs_spin_budget(atomic_load_explicit(&u->spin_ns, memory_order_relaxed));
	atomic_store_explicit(&u->spin_ns, vs_spin_learn(budget, vs_now_ns() - w->since_ns, by_ring), memory_order_relaxed);
}

static bool is_nonblocking(struct vs_udp *u, int fd)
{
	long flags = vs_sys(SYS_fcntl, fd, F_GETFL);
	bool nonblock = flags >= 0 && (flags & O_NONBLOCK);
	atomic_store_explicit(&u->nonblock, nonblock, memory_order_relaxed);
	return nonblock;
}

/* As the kernel does it: the datagram is lost. */
static long bad_memory(struct vs_inbox *in)
{
	struct vs_cursor none = { 0 };
	struct vs_endpoint from;
	size_t copied;
	if (vs_lock(&in->rx_lock) == VS_LOCK_NESTED)
		return -EFAULT;
	vs_inbox_get(in, &none, false, &from, &copied);
	vs_unlock(&in->rx_lock);
	return -EFAULT;
}

long vs_udp_recv(struct vs_udp *u, int fd, struct msghdr *m, int flags, struct vs_udp_wait *w)
{
	struct vs_inbox *in = inbox_of(u);
	if (!in)
		in = make_inbox(u, fd);
	if (in && !may_be_memory(m) && vs_inbox_has(in))
		return bad_memory(in);
	*w = (struct vs_udp_wait){ .natives = in ? atomic_load(&in->natives) : 0, .name = m->msg_name, .namelen = m->msg_namelen };
	if (in && !vs_inbox_has(in))
		poll_far(in);
	const bool strange = (flags & ~RECV_FLAGS) || m->msg_iovlen > 1024 || !may_be_memory(m);
	if (!in || strange || !is_known(in)) {
		atomic_fetch_add(&u->sleepers, 1);
		const bool empty = !in || vs_inbox_arm(in);
		if (!empty && strange)
			vs_inbox_set(in, VS_INBOX_SHUT);
		if (in)
			doze_far(in);
		if (empty || strange)
			return VS_NATIVE;
		/* Something has come just now. */
		atomic_fetch_sub(&u->sleepers, 1);
	}
	for (bool spun = false;; spun = true) {
		bool looked;
		enum vs_locked l = vs_lock(&in->rx_lock);
		if (l == VS_LOCK_NESTED) {
			atomic_fetch_add(&u->sleepers, 1);
			return VS_NATIVE;
		}
		const socklen_t namelen = m->msg_namelen;
		const size_t controllen = m->msg_controllen;
		long r = poll_both(u, in, fd, m, flags, &looked);
		m->msg_namelen = r < 0 ? namelen : m->msg_namelen;
		m->msg_controllen = r < 0 ? controllen : m->msg_controllen;
		if (r == -EAGAIN)
			open_inbox(u, in);
		if (r != -EAGAIN) {
			vs_unlock(&in->rx_lock);
			if (spun)
				learn(u, in, w, true);
			return r;
		}
		const bool opened = vs_inbox_state(in) == VS_INBOX_OPEN;
		const bool dont_wait = (flags & MSG_DONTWAIT) || (atomic_load_explicit(&u->nonblock, memory_order_relaxed) && is_nonblocking(u, fd));
		if (dont_wait && !looked)
			r = look_at_kernel(u, in, fd, m, flags);
		if (dont_wait) {
			vs_unlock(&in->rx_lock);
			return r;
		}
		if (spun || !opened) {
			/* Now to sleep: with the lock, so that nobody opens it again after us. */
			atomic_fetch_add(&u->sleepers, 1);
			bool empty = vs_inbox_arm(in);
			if (!empty)
				atomic_fetch_sub(&u->sleepers, 1);
			vs_unlock(&in->rx_lock);
			if (empty) {
				doze_far(in);
				return VS_NATIVE;
			}
			continue;
		}
		vs_unlock(&in->rx_lock);
		w->since_ns = vs_now_ns();
		spin(in, fd, spin_budget(u, in));
	}
}

/* Somebody has woken up. */
static void awake(struct vs_udp *u)
{
	struct vs_inbox *in = inbox_of(u);
	if (atomic_fetch_sub(&u->sleepers, 1) > 1 || !in || vs_inbox_state(in) == VS_INBOX_OPEN || vs_lock(&in->rx_lock) == VS_LOCK_NESTED)
		return;
	open_inbox(u, in);
	vs_unlock(&in->rx_lock);
}

void vs_udp_received(struct vs_udp *u, struct vs_udp_wait *w, ssize_t result)
{
	struct vs_inbox *in = inbox_of(u);
	if (result > 0)
		count(&u->rx->kernel_bytes, (uint64_t)result);
	if (result >= 0)
		look_at_sender(u, in, w->name, w->namelen);
	if (in)
		learn(u, in, w, atomic_load(&in->natives) != w->natives);
	awake(u);
}

bool vs_udp_sleep(struct vs_udp *u, bool shut)
{
	struct vs_inbox *in = inbox_of(u);
	atomic_fetch_add(&u->sleepers, 1);
	if (!in)
		return true;
	/* With the lock, so that nobody opens it again after us. */
	enum vs_locked l = vs_lock(&in->rx_lock);
	bool empty = vs_inbox_arm(in);
	if (!empty && shut)
		vs_inbox_set(in, VS_INBOX_SHUT);
	if (l != VS_LOCK_NESTED)
		vs_unlock(&in->rx_lock);
	doze_far(in);
	return empty || shut;
}

void vs_udp_wake(struct vs_udp *u) { awake(u); }

int vs_udp_pending(struct vs_udp *u)
{
	struct vs_inbox *in = inbox_of(u);
	if (!in || natives_due(in) || vs_lock(&in->rx_lock) == VS_LOCK_NESTED)
		return -1;
	long r = vs_inbox_next(in);
	vs_unlock(&in->rx_lock);
	return r < 0 ? -1 : (int)r;
}

/* What may change how it is waited for. Whoever may sleep without looking must be woken by the kernel from now on. */
static void shut(struct vs_udp *u)
{
	struct vs_inbox *in = inbox_of(u);
	if (in && !vs_inbox_arm(in))
		vs_inbox_set(in, VS_INBOX_SHUT);
}

void vs_udp_changed(struct vs_udp *u)
{
	struct vs_inbox *in = inbox_of(u);
	atomic_fetch_add(&u->routes.changes, 1);
	/* Senders must ask anew, too. */
	if (in)
		atomic_fetch_add(&in->gen, 1);
}

void vs_udp_set_nonblock(struct vs_udp *u, bool nonblock) { atomic_store(&u->nonblock, nonblock); }

void vs_udp_watched(struct vs_udp *u, enum vs_udp_watched how)
{
	atomic_store(&u->watched, how);
	if (how == VS_UDP_UNSEEN)
		shut(u);
}

void vs_udp_refuse(struct vs_udp *u, uint32_t why)
{
	atomic_fetch_or(&u->plain, why);
	shut(u);
}

static void hold_more(int fd, struct vs_udp *u, void *arg)
{
	struct vs_inbox *in = inbox_of(u);
	if (!in || fd != atomic_load(&u->fd))
		return;
	atomic_fetch_add(&in->holders, (uint32_t) * (int *)arg);
	shut(u);
}

/* One of the descriptors stands for all. */
static void choose_fd(int fd, struct vs_udp *u, void *arg)
{
	(void)arg;
	atomic_store(&u->fd, fd);
}

void vs_udp_fork(int change)
{
	vs_udp_each(choose_fd, NULL);
	vs_udp_each(hold_more, &change);
}

void vs_udp_forked(void)
{
	atomic_store(&udps_lock, 0);
	atomic_store(&pid, 0);
	for (unsigned i = 0; i < atomic_load(&udps_used); i++) {
		atomic_store(&udps[i].lock, 0);
		atomic_store(&udps[i].sleepers, 0);
		/* The parent's sets are not known here. */
		if (atomic_load(&udps[i].watched) != VS_UDP_ALONE)
			atomic_store(&udps[i].watched, VS_UDP_UNSEEN);
	}
}

static void exec_one(int fd, struct vs_udp *u, void *arg)
{
	struct vs_inbox *in = inbox_of(u);
	long flags = vs_sys(SYS_fcntl, fd, F_GETFD);
	if (!in || fd != atomic_load(&u->fd) || flags < 0)
		return;
	if (!(flags & FD_CLOEXEC))
		shut(u);
	else if (*(bool *)arg)
		vs_inbox_leave(in);
	else
		atomic_fetch_add(&in->holders, 1);
}

void vs_udp_exec(bool begins)
{
	vs_udp_each(choose_fd, NULL);
	vs_udp_each(exec_one, &begins);
}

/* Reports. */

static void note(struct vs_udp *u, int fd, bool closed)
{
	struct vs_book_row *row = atomic_load(&u->row);
	struct vs_inbox *in = inbox_of(u);
	if (row)
		vs_book_udp_note(row, fd,
				 &(struct vs_udp_facts){ .attached = in != NULL,
							 .far = atomic_load(&u->far) || (in && atomic_load(&in->far_until)),
							 .unseen = atomic_load(&u->watched) == VS_UDP_UNSEEN,
							 .plain = atomic_load(&u->plain),
							 .closed = closed && atomic_load(&u->descriptors) == 1 });
	else if (closed && atomic_load(&u->booked) && atomic_load(&u->descriptors) == 1)
		vs_book_udp_unlisted(atomic_load(&u->tx), atomic_load(&u->rx));
}

void vs_udp_note_used(struct vs_udp *u, int fd)
{
	if (!atomic_exchange(&u->booked, true)) {
		struct vs_book_row *row = vs_book_udp(fd);
		atomic_store(&u->row, row);
		if (row) {
			atomic_store(&u->tx, &row->tx);
			atomic_store(&u->rx, &row->rx);
		}
	}
	/* Its address may have come with this call. */
	struct vs_book_row *row = atomic_load(&u->row);
	if (row && !vs_book_udp_is_noted(row, inbox_of(u) != NULL))
		note(u, fd, false);
}

void vs_udp_note_closing(struct vs_udp *u, int fd) { note(u, fd, true); }
