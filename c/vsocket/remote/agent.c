/*
 * agent.c - one thread a process that has used a connection to another host: it looks for the other ends, makes queue pairs, and acts for
 * connections whose application does something else. It sleeps in the kernel when there is nothing to do.
 */
#define _GNU_SOURCE
#include "link.h"
#include "../sys.h"
#include <arpa/inet.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/random.h>

/* How long no application may have polled before the agent waits for completions itself. */
#define HANDOVER_NS UINT64_C(2000000)
#define REPEAT_NS UINT64_C(20000000)
/* FIND is sent three times, in case one is lost or the other end is not attached yet; after that the other end finds us. */
#define FINDS 3u
#define TRIES 8u
#define PATIENCE_NS UINT64_C(100000000)

static struct {
	int talk, door, wake; /* our own UDP port; the well-known one or -1; eventfd */
	uint16_t port;
	uint64_t netns;
} agent;
static _Atomic bool running, impossible;
static _Atomic uint32_t start_lock;
static struct vs_device *device;

uint16_t vs_agent_port(void) { return agent.port; }

static uint16_t well_known_port(void)
{
	const char *wish = secure_getenv("RDMAKIT_SOCKET_PORT");
	long port = wish ? strtol(wish, NULL, 10) : 0;
	return port > 0 && port < 65536 ? (uint16_t)port : VS_DATAGRAM_PORT;
}

void vs_agent_wake(void)
{
	uint64_t one = 1;
	if (atomic_load(&running))
		vs_sys(SYS_write, agent.wake, &one, sizeof one);
}

static long above(long fd)
{
	/* Where programs do not look for descriptors of their own. */
	long high = fd >= 0 ? vs_sys(SYS_fcntl, fd, 1030 /* F_DUPFD_CLOEXEC */, 1000) : -1;
	if (high < 0)
		return fd;
	vs_sys(SYS_close, fd);
	return high;
}

/* For IPv4 too. */
static int udp_socket(uint16_t port, bool shared)
{
	long fd = vs_sys(SYS_socket, AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int on = 1, off = 0;
	struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	if (fd < 0)
		return (int)fd;
	vs_sys_setsockopt((int)fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
	if (shared)
		vs_sys_setsockopt((int)fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
	long r = vs_sys(SYS_bind, fd, &any, sizeof any);
	if (r < 0) {
		vs_sys(SYS_close, fd);
		return (int)r;
	}
	return (int)above(fd);
}

static bool open_sockets(void)
{
	struct sockaddr_in6 own;
	socklen_t len = sizeof own;
	agent.talk = udp_socket(0, false);
	if (agent.talk < 0 || vs_sys(SYS_getsockname, agent.talk, &own, &len) < 0)
		return false;
	agent.port = ntohs(own.sin6_port);
	len = sizeof agent.netns;
	if (vs_sys_getsockopt(agent.talk, SOL_SOCKET, 71 /* SO_NETNS_COOKIE */, &agent.netns, &len) < 0)
		return false;
	/* Another user may have it; then only our own searches find anybody. */
	agent.door = udp_socket(well_known_port(), true);
	agent.wake = (int)above(vs_sys(SYS_eventfd2, 0, EFD_CLOEXEC | EFD_NONBLOCK));
	return agent.wake >= 0;
}

static void send_to(const struct vs_datagram *d, const uint8_t from[16], const uint8_t to[16], uint16_t port)
{
	uint8_t bytes[VS_DATAGRAM_BYTES];
	struct sockaddr_in6 a = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(struct in6_pktinfo))];
	} control = { { 0 } };
	struct iovec iov = { bytes, sizeof bytes };
	struct msghdr m = { .msg_name = &a, .msg_namelen = sizeof a, .msg_iov = &iov, .msg_iovlen = 1 };
	memcpy(&a.sin6_addr, to, 16);
	vs_datagram_write(d, bytes);
	if (from) { /* the address that the peer knows */
		struct in6_pktinfo info = { 0 };
		memcpy(&info.ipi6_addr, from, 16);
		m.msg_control = &control;
		m.msg_controllen = sizeof control.room;
		control.head = (struct cmsghdr){ .cmsg_level = IPPROTO_IPV6, .cmsg_type = IPV6_PKTINFO, .cmsg_len = CMSG_LEN(sizeof info) };
		memcpy(CMSG_DATA(&control.head), &info, sizeof info);
	}
	vs_sys_sendmsg(agent.talk, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void send_kind(struct vs_link *l, enum vs_datagram_kind kind, uint16_t port)
{
	const struct vs_key *k = &l->c.slot->key;
	struct vs_datagram d = { .kind = kind, .from = k->end[l->c.side], .to = k->end[!l->c.side], .port = agent.port };
	if (kind != VS_FIND)
		memcpy(d.cookie, l->cookie, sizeof d.cookie);
	if (kind != VS_FIND && kind != VS_HELLO)
		memcpy(d.your_cookie, l->peer_cookie, sizeof d.your_cookie);
	if (kind == VS_OFFER || kind == VS_ACCEPT)
		d.qp = l->own;
	if (kind == VS_FREEZE) {
		d.epoch = l->freeze_epoch;
		d.ring = l->freeze_ring;
	}
	if (kind == VS_THAW) {
		d.epoch = l->answer.epoch;
		d.ring = l->answer.ring;
		d.twin = l->answer.twin;
		d.twin_start = l->answer.twin_start;
	}
	send_to(&d, d.from.addr, d.to.addr, port);
}

void vs_agent_send(struct vs_link *l, enum vs_datagram_kind kind) { send_kind(l, kind, l->peer_port); }

static void answer_again(struct vs_link *l)
{
	const struct vs_key *k = &l->c.slot->key;
	struct vs_datagram d = l->past.answer;
	d.kind = VS_THAW;
	d.from = k->end[l->c.side];
	d.to = k->end[!l->c.side];
	d.port = agent.port;
	memcpy(d.cookie, l->past.cookie, sizeof d.cookie);
	memcpy(d.your_cookie, l->past.peer_cookie, sizeof d.your_cookie);
	send_to(&d, d.from.addr, d.to.addr, l->past.peer_port);
}

static bool random_cookie(uint64_t cookie[2])
{
	return vs_sys(SYS_getrandom, cookie, 16, 0) == 16 && (cookie[0] | cookie[1]);
}

static bool same(const uint64_t a[2], const uint64_t b[2]) { return a[0] == b[0] && a[1] == b[1]; }

static void give_up(struct vs_link *l)
{
	vs_link_destroy(l);
	atomic_store(&l->c.slot->road, VS_ROAD_IMPOSSIBLE);
	l->next_ns = 0;
	atomic_store(&l->state, VS_LINK_OVER);
}

static bool make_pair(struct vs_link *l)
{
	const char *why = "";
	if (l->qp)
		return true;
	device = vs_device_open(l->c.slot->key.end[l->c.side].addr, &why);
	if (device && vs_link_create(l, device, &why))
		return true;
	give_up(l);
	return false;
}

static void repeat(struct vs_link *l, enum vs_link_state state)
{
	atomic_store(&l->state, state);
	l->tries = 0;
	l->next_ns = 1;
}

/* The other end has been heard of. */
static void found(struct vs_link *l, const struct vs_datagram *d)
{
	uint32_t state = atomic_load(&l->state);
	if (state != VS_LINK_FINDING && state != VS_LINK_HELLO)
		return;
	if (l->c.side == 1) {
		send_kind(l, VS_FIND, d->port); /* side 0 leads */
		return;
	}
	l->peer_port = d->port;
	if (!(l->cookie[0] | l->cookie[1]) && !random_cookie(l->cookie))
		return;
	repeat(l, VS_LINK_HELLO);
}

static void answer_hello(struct vs_link *l, const struct vs_datagram *d)
{
	if (l->c.side != 1 || atomic_load(&l->state) != VS_LINK_FINDING || (!(l->cookie[0] | l->cookie[1]) && !random_cookie(l->cookie)))
		return;
	/* Nothing is kept of it: anybody may have sent it. */
	struct vs_datagram a = { .kind = VS_COOKIE, .from = d->to, .to = d->from, .port = agent.port };
	memcpy(a.cookie, l->cookie, sizeof a.cookie);
	memcpy(a.your_cookie, d->cookie, sizeof a.your_cookie);
	send_to(&a, a.from.addr, a.to.addr, d->port);
}

static void take_cookie(struct vs_link *l, const struct vs_datagram *d)
{
	if (l->c.side != 0 || atomic_load(&l->state) != VS_LINK_HELLO || !same(d->your_cookie, l->cookie))
		return;
	memcpy(l->peer_cookie, d->cookie, sizeof l->peer_cookie);
	l->peer_port = d->port;
	if (make_pair(l))
		repeat(l, VS_LINK_OFFERED);
}

static void take_offer(struct vs_link *l, const struct vs_datagram *d)
{
	uint32_t state = atomic_load(&l->state);
	if (l->c.side != 1 || !same(d->your_cookie, l->cookie) || !(l->cookie[0] | l->cookie[1]))
		return;
	if (state == VS_LINK_UP && same(d->cookie, l->peer_cookie)) {
		vs_agent_send(l, VS_ACCEPT);
		return;
	}
	if (state != VS_LINK_FINDING)
		return;
	memcpy(l->peer_cookie, d->cookie, sizeof l->peer_cookie);
	l->peer_port = d->port;
	l->peer = d->qp;
	if (!make_pair(l))
		return;
	if (!vs_link_connect(l, device)) {
		give_up(l);
		return;
	}
	l->next_ns = 0;
	vs_link_up(l);
	vs_agent_send(l, VS_ACCEPT);
}

static void take_accept(struct vs_link *l, const struct vs_datagram *d)
{
	if (l->c.side != 0 || atomic_load(&l->state) != VS_LINK_OFFERED)
		return;
	l->peer = d->qp;
	if (!vs_link_connect(l, device)) {
		give_up(l);
		return;
	}
	l->next_ns = 0;
	vs_link_up(l);
}

static void take_freeze(struct vs_link *l, const struct vs_datagram *d)
{
	if (l->answered) {
		vs_agent_send(l, VS_THAW);
		return;
	}
	l->ask_epoch = d->epoch;
	l->ask_ring = d->ring;
	atomic_store(&l->freeze_asked, true);
}

static void take_thaw(struct vs_link *l, const struct vs_datagram *d)
{
	if (!atomic_load(&l->freezing) || atomic_load(&l->thawed))
		return;
	l->thaw = *d;
	atomic_store(&l->thawed, true);
}

static void take_broken(struct vs_link *l)
{
	if (atomic_load(&l->state) == VS_LINK_UP)
		atomic_store(&l->broken, true);
}

static void handle(struct vs_link *l, const struct vs_datagram *d)
{
	switch (d->kind) {
	case VS_FIND:
		found(l, d);
		return;
	case VS_HELLO:
		answer_hello(l, d);
		return;
	case VS_COOKIE:
		take_cookie(l, d);
		return;
	case VS_OFFER:
		take_offer(l, d);
		return;
	default:
		break;
	}
	if (d->kind == VS_FREEZE && l->past.peer_port && same(d->cookie, l->past.peer_cookie) && same(d->your_cookie, l->past.cookie)) {
		answer_again(l);
		return;
	}
	/* Of the other end for certain. */
	if (!same(d->cookie, l->peer_cookie) || !same(d->your_cookie, l->cookie) || !(l->cookie[0] | l->cookie[1]))
		return;
	switch (d->kind) {
	case VS_ACCEPT:
		take_accept(l, d);
		return;
	case VS_FREEZE:
		take_freeze(l, d);
		return;
	case VS_THAW:
		take_thaw(l, d);
		return;
	case VS_BROKEN:
		take_broken(l);
		return;
	case VS_BYE:
		vs_link_gone(l);
		return;
	default:
		return;
	}
}

/* The connection's key as this host has it, from what the other host says. */
static void key_of(const struct vs_datagram *d, struct vs_key *key, int *side)
{
	int order = memcmp(d->to.addr, d->from.addr, 16);
	if (order == 0)
		order = memcmp(&d->to.port, &d->from.port, sizeof d->to.port);
	memset(key, 0, sizeof *key);
	*side = order > 0;
	key->netns = agent.netns;
	key->end[*side] = d->to;
	key->end[!*side] = d->from;
}

static void receive(int fd, bool at_door)
{
	static const uint8_t loopback[16] = { [10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1 };
	for (;;) {
		uint8_t bytes[VS_DATAGRAM_BYTES + 1];
		struct sockaddr_in6 from;
		socklen_t len = sizeof from;
		struct vs_datagram d;
		struct vs_key key;
		uint32_t gen;
		int side;
		long n = vs_sys(SYS_recvfrom, fd, bytes, sizeof bytes, MSG_DONTWAIT, &from, &len);
		if (n < 0)
			return;
		if (!vs_datagram_read(&d, bytes, (size_t)n))
			continue;
		bool local = !at_door && d.kind == VS_FIND && !memcmp(&from.sin6_addr, loopback, 16);
		/* Who speaks for an address must have it. */
		if (!local && memcmp(&from.sin6_addr, d.from.addr, 16))
			continue;
		key_of(&d, &key, &side);
		struct vs_slot *slot = vs_arena_find(&key, &gen);
		if (!slot)
			continue;
		struct vs_conn c = { slot, side, gen };
		struct vs_link *l = vs_link_of(&c);
		uint32_t port = atomic_load(&slot->end[side].port);
		if (l)
			handle(l, &d);
		else if (at_door && port && d.kind == VS_FIND)
			send_to(&d, NULL, loopback, (uint16_t)port);
	}
}

struct plan {
	uint64_t now_ns, next_ns;
};

static void later(struct vs_link *l, uint64_t now, unsigned tries)
{
	l->tries++;
	l->next_ns = l->tries >= tries ? 0 : now + (REPEAT_NS << (l->tries < 6 ? l->tries : 6));
}

static void find(struct vs_link *l, uint64_t now)
{
	send_kind(l, VS_FIND, well_known_port());
	later(l, now, FINDS);
}

/* Of a link that failed or was left. */
static void wind_up(struct vs_link *l, uint64_t now)
{
	struct vs_dir *tx = vs_tx(&l->c), *rx = vs_rx(&l->c);
	l->next_ns = now + (REPEAT_NS << (l->tries < 6 ? l->tries : 6));
	l->tries++;
	if (atomic_load(&l->broken) && !l->rx_frozen) {
		l->tries = 0;
		vs_link_stop(l, true);
		vs_agent_send(l, VS_BROKEN);
	}
	if (atomic_load(&l->freezing) && !atomic_load(&l->thawed))
		vs_agent_send(l, VS_FREEZE);
	if (atomic_load(&l->broken) && !l->answered)
		vs_agent_send(l, VS_BROKEN);
	uint32_t none = 0;
	if (atomic_load(&l->thawed) && atomic_load(&l->freezing) &&
	    atomic_compare_exchange_strong(&rx->rx_lock, &none, (uint32_t)vs_self())) {
		vs_link_settle(l);
		vs_unlock(&rx->rx_lock);
	}
	none = 0;
	if ((atomic_load(&l->freeze_asked) || VS_BELL_STATE(atomic_load(&tx->bell)) == VS_FROZEN) &&
	    atomic_compare_exchange_strong(&tx->tx_lock, &none, (uint32_t)vs_self())) {
		struct vs_conn at;
		if (atomic_load(&l->freeze_asked))
			vs_link_thaw(l);
		if (vs_fd_conn(l->fd, &at) && at.slot == l->c.slot && at.gen == l->c.gen)
			vs_tx_give_back(&l->c, l->fd);
		vs_unlock(&tx->tx_lock);
	}
	if ((atomic_load(&l->freezing) && atomic_load(&l->thawed)) || VS_BELL_STATE(atomic_load(&tx->bell)) == VS_FROZEN)
		l->next_ns = now + 2000000;
	else if (vs_link_restart(l, now))
		return;
	/* What the application has still to read or to send. */
	else if (l->answered || !atomic_load(&l->broken))
		l->next_ns = now + PATIENCE_NS;
}

static void tick(struct vs_link *l, void *arg)
{
	struct plan *p = arg;
	uint32_t state = atomic_load(&l->state);
	/* Each end tells its place; with that side 1 knows that side 0 is ready. */
	if (state == VS_LINK_UP && !l->greeted && (l->c.side == 0 || atomic_load(&l->heard))) {
		atomic_store(&l->greeted, true);
		atomic_store(&l->position_wanted, true);
	}
	if (state == VS_LINK_UP && atomic_load(&l->position_wanted)) {
		uint32_t none = 0;
		if (atomic_compare_exchange_strong(&vs_rx(&l->c)->rx_lock, &none, (uint32_t)vs_self())) {
			if (atomic_exchange(&l->position_wanted, false))
				vs_link_position(l, 0, 0);
			vs_unlock(&vs_rx(&l->c)->rx_lock);
		} else if (p->next_ns > p->now_ns + 200000)
			p->next_ns = p->now_ns + 200000;
	}
	if (state == VS_LINK_UP && atomic_load(&l->bell_wanted))
		vs_link_ring(l);
	if (state == VS_LINK_UP && atomic_load(&l->grant_wanted) && !l->rx_frozen)
		vs_remote->reading(&l->c);
	bool trouble = l->qp && !atomic_load(&l->gone) && (l->rx_frozen || l->answered || atomic_load(&l->broken) || atomic_load(&l->freeze_asked) || atomic_load(&l->freezing));
	if (trouble && l->next_ns == 0)
		l->next_ns = 1;
	if (l->next_ns && l->next_ns <= p->now_ns) {
		if (state == VS_LINK_FINDING)
			find(l, p->now_ns);
		else if (state == VS_LINK_HELLO || state == VS_LINK_OFFERED) {
			vs_agent_send(l, state == VS_LINK_HELLO ? VS_HELLO : VS_OFFER);
			later(l, p->now_ns, TRIES);
		} else
			wind_up(l, p->now_ns);
	}
	if (l->next_ns && l->next_ns < p->next_ns)
		p->next_ns = l->next_ns;
}

/* Completions: taken by applications while they poll, else by us. */
static void attend_queue(uint32_t *seen_polls, uint64_t *quiet_since, struct plan *p)
{
	struct ibv_cq *cq;
	void *context;
	if (!device)
		return;
	while (vs_verbs.get_cq_event(device->channel, &cq, &context) == 0)
		vs_verbs.ack_cq_events(cq, 1);
	vs_link_poll();
	uint32_t polls = atomic_load_explicit(&vs_polls, memory_order_relaxed);
	if (polls != *seen_polls) {
		*seen_polls = polls;
		*quiet_since = p->now_ns;
	}
	if (p->now_ns - *quiet_since < HANDOVER_NS) {
		uint64_t look = p->now_ns + HANDOVER_NS;
		p->next_ns = look < p->next_ns ? look : p->next_ns;
		return;
	}
	ibv_req_notify_cq(device->cq, 0);
	vs_link_poll();
}

static void *run(void *arg)
{
	(void)arg;
	uint32_t seen_polls = 0;
	uint64_t quiet_since = 0;
	for (;;) {
		struct plan p = { vs_now_ns(), UINT64_MAX };
		attend_queue(&seen_polls, &quiet_since, &p);
		vs_link_each(tick, &p);
		struct pollfd fd[4] = { { .fd = agent.wake, .events = POLLIN }, { .fd = agent.talk, .events = POLLIN },
					{ .fd = agent.door, .events = POLLIN }, { .fd = device ? device->channel->fd : -1, .events = POLLIN } };
		uint64_t now = vs_now_ns(), left = p.next_ns > now ? p.next_ns - now : 0;
		struct timespec t = { (time_t)(left / 1000000000u), (long)(left % 1000000000u) };
		vs_sys(SYS_ppoll, fd, 4, p.next_ns == UINT64_MAX ? NULL : &t, 0, 8);
		uint64_t count;
		if (fd[0].revents)
			vs_sys(SYS_read, agent.wake, &count, sizeof count);
		if (fd[1].revents)
			receive(agent.talk, false);
		if (fd[2].revents)
			receive(agent.door, true);
	}
	return NULL;
}

static bool start(void)
{
	pthread_t thread;
	pthread_attr_t attr;
	sigset_t all, before;
	if (!open_sockets())
		return false;
	sigfillset(&all);
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, 512 << 10);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int err = pthread_create(&thread, &attr, run, NULL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	return err == 0;
}

bool vs_agent_start(void)
{
	if (atomic_load_explicit(&running, memory_order_acquire))
		return true;
	if (atomic_load(&impossible) || vs_lock(&start_lock) == VS_LOCK_NESTED)
		return false;
	if (!atomic_load(&running)) {
		int saved = errno;
		if (start())
			atomic_store(&running, true);
		else
			atomic_store(&impossible, true);
		errno = saved;
	}
	vs_unlock(&start_lock);
	return atomic_load(&running);
}

void vs_agent_forked(void)
{
	if (atomic_load(&running)) {
		vs_sys(SYS_close, agent.talk);
		vs_sys(SYS_close, agent.wake);
		if (agent.door >= 0)
			vs_sys(SYS_close, agent.door);
	}
	atomic_store(&running, false);
	atomic_store(&start_lock, 0);
	device = NULL;
}
