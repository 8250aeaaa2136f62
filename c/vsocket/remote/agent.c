/*
 * agent.c - one thread a process that has used a connection to another host: it looks for the other ends, makes queue pairs, and acts for
 * connections whose application does something else. It sleeps in the kernel when there is nothing to do.
 */
#define _GNU_SOURCE
#include "link.h"
#include "talk.h"
#include "ud.h"
#include "../book.h"
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

static struct vs_talk talk;
static int wake; /* an eventfd */
static _Atomic bool running, impossible;
static _Atomic uint32_t start_lock;
static struct vs_device *device;

uint16_t vs_agent_port(void) { return talk.port; }
uint64_t vs_agent_netns(void) { return talk.netns; }

static const uint8_t loopback[16] = { [10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1 };

void vs_agent_say(const struct vs_datagram *d, const uint8_t from[16], const uint8_t to[16], uint16_t port)
{
	struct vs_datagram ours = *d;
	ours.port = talk.port;
	vs_talk_send(&talk, &ours, from, to, port ? port : vs_talk_well_known_port());
}

void vs_agent_pass_on(const struct vs_datagram *d, uint32_t network_device, uint16_t port)
{
	struct vs_datagram passed = *d;
	passed.epoch = network_device;
	vs_talk_send(&talk, &passed, NULL, loopback, port);
}

void vs_agent_wake(void)
{
	uint64_t one = 1;
	if (atomic_load(&running))
		vs_sys(SYS_write, wake, &one, sizeof one);
}

static bool open_sockets(void)
{
	if (!vs_talk_open(&talk))
		return false;
	wake = vs_talk_above((int)vs_sys(SYS_eventfd2, 0, EFD_CLOEXEC | EFD_NONBLOCK));
	return wake >= 0;
}

static void send_kind(struct vs_link *l, enum vs_datagram_kind kind, uint16_t port)
{
	const struct vs_key *k = &l->c.slot->key;
	struct vs_datagram d = { .kind = kind, .from = k->end[l->c.side], .to = k->end[!l->c.side], .port = talk.port };
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
	vs_talk_send(&talk, &d, d.from.addr, d.to.addr, port);
}

void vs_agent_send(struct vs_link *l, enum vs_datagram_kind kind) { send_kind(l, kind, l->peer_port); }

static void answer_again(struct vs_link *l)
{
	const struct vs_key *k = &l->c.slot->key;
	struct vs_datagram d = l->past.answer;
	d.kind = VS_THAW;
	d.from = k->end[l->c.side];
	d.to = k->end[!l->c.side];
	d.port = talk.port;
	memcpy(d.cookie, l->past.cookie, sizeof d.cookie);
	memcpy(d.your_cookie, l->past.peer_cookie, sizeof d.your_cookie);
	vs_talk_send(&talk, &d, d.from.addr, d.to.addr, l->past.peer_port);
}

static bool random_cookie(uint64_t cookie[2])
{
	return vs_sys(SYS_getrandom, cookie, 16, 0) == 16 && (cookie[0] | cookie[1]);
}

static bool same(const uint64_t a[2], const uint64_t b[2]) { return a[0] == b[0] && a[1] == b[1]; }

/* For now, when the interface has just come up, or is down. */
static void give_up(struct vs_link *l)
{
	vs_link_destroy(l);
	atomic_store(&l->c.slot->road, VS_ROAD_IMPOSSIBLE);
	if (vs_device_may_come(l->c.slot->key.end[l->c.side].addr) && vs_link_retry(l, vs_now_ns()))
		return;
	l->next_ns = 0;
	vs_link_go_on(l, VS_LINK_OVER);
}

static bool make_pair(struct vs_link *l)
{
	const char *why = "";
	if (l->qp)
		return true;
	device = vs_device_open(l->c.slot->key.end[l->c.side].addr, &why);
	return device && vs_link_create(l, device, &why);
}

/* Side 1 cannot do what it was asked for; side 0 will ask again. */
static void not_now(struct vs_link *l)
{
	if (!vs_device_may_come(l->c.slot->key.end[l->c.side].addr)) {
		give_up(l);
		return;
	}
	vs_link_destroy(l);
	atomic_store(&l->c.slot->road, VS_ROAD_IMPOSSIBLE);
}

static void repeat(struct vs_link *l, enum vs_link_state state)
{
	vs_link_go_on(l, state);
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
	struct vs_datagram a = { .kind = VS_COOKIE, .from = d->to, .to = d->from, .port = talk.port };
	memcpy(a.cookie, l->cookie, sizeof a.cookie);
	memcpy(a.your_cookie, d->cookie, sizeof a.your_cookie);
	vs_talk_send(&talk, &a, a.from.addr, a.to.addr, d->port);
}

static void take_cookie(struct vs_link *l, const struct vs_datagram *d)
{
	if (l->c.side != 0 || atomic_load(&l->state) != VS_LINK_HELLO || !same(d->your_cookie, l->cookie))
		return;
	memcpy(l->peer_cookie, d->cookie, sizeof l->peer_cookie);
	l->peer_port = d->port;
	if (make_pair(l))
		repeat(l, VS_LINK_OFFERED);
	else
		give_up(l);
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
	if (!make_pair(l) || !vs_link_connect(l, device)) {
		not_now(l);
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
		if (atomic_load(&l->state) != VS_LINK_OFFERED)
			return;
		vs_agent_send(l, VS_BROKEN); /* it is up there */
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

/* The connection's key as this host has it. */
static void key_of(const struct vs_endpoint *here, const struct vs_endpoint *there, struct vs_key *key, int *side)
{
	int order = memcmp(here->addr, there->addr, 16);
	if (order == 0)
		order = memcmp(&here->port, &there->port, sizeof here->port);
	memset(key, 0, sizeof *key);
	*side = order > 0;
	key->netns = talk.netns;
	key->end[*side] = *here;
	key->end[!*side] = *there;
}

static void receive(int fd, bool at_door)
{
	struct vs_datagram d;
	uint8_t from[16];
	uint32_t network_device;
	while (vs_talk_receive(fd, &d, from, &network_device)) {
		struct vs_key key;
		uint32_t gen;
		int side;
		bool local = !at_door && (d.kind == VS_FIND || d.kind == VS_UD_ASK) && !memcmp(from, loopback, 16);
		/* Who speaks for an address must have it. */
		if (!local && memcmp(from, d.from.addr, 16)) {
			vs_book_dropped();
			continue;
		}
		if (d.kind >= VS_UD_ASK) {
			vs_ud_heard(&d, network_device, local);
			continue;
		}
		key_of(&d.to, &d.from, &key, &side);
		struct vs_slot *slot = vs_arena_find(&key, &gen);
		if (!slot)
			continue;
		struct vs_conn c = { slot, side, gen };
		struct vs_link *l = vs_link_of(&c);
		uint32_t port = atomic_load(&slot->end[side].port);
		if (l)
			handle(l, &d);
		else if (at_door && port && d.kind == VS_FIND)
			vs_talk_send(&talk, &d, NULL, loopback, (uint16_t)port);
	}
}

/* Nobody has the port that a datagram was sent to. It comes back whole, with what no forger knows. */
static void returned(const struct vs_datagram *d, uint16_t port)
{
	struct vs_key key;
	uint32_t gen;
	int side;
	if (d->kind >= VS_UD_ASK) {
		vs_ud_returned(d, port);
		return;
	}
	key_of(&d->from, &d->to, &key, &side);
	struct vs_slot *slot = vs_arena_find(&key, &gen);
	if (!slot)
		return;
	struct vs_conn c = { slot, side, gen };
	struct vs_link *l = vs_link_of(&c);
	if (!l)
		return;
	if (d->kind == VS_FIND) { /* nobody there has the library at the moment; who gets it later looks for us */
		if (port == vs_talk_well_known_port() && atomic_load(&l->state) == VS_LINK_FINDING)
			l->next_ns = 0;
	} else if (port == l->peer_port && same(d->your_cookie, l->peer_cookie) && same(d->cookie, l->cookie) && atomic_load(&l->state) == VS_LINK_UP) {
		vs_link_gone(l);
	}
}

static void take_returned(void)
{
	struct vs_datagram d;
	uint16_t port;
	while (vs_talk_returned(&talk, &d, &port))
		returned(&d, port);
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
	send_kind(l, VS_FIND, vs_talk_well_known_port());
	later(l, now, l->up_ns ? TRIES : FINDS);
}

/* Of a link that failed or was left. */
static void wind_up(struct vs_link *l, uint64_t now)
{
	struct vs_dir *tx = vs_tx(&l->c), *rx = vs_rx(&l->c);
	l->next_ns = now + (REPEAT_NS << (l->tries < 4 ? l->tries : 4));
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
	if (atomic_load(&l->thawed) && atomic_load(&l->freezing) && vs_try_lock(&rx->rx_lock)) {
		vs_link_settle(l);
		vs_unlock(&rx->rx_lock);
	}
	if ((atomic_load(&l->freeze_asked) || VS_BELL_STATE(atomic_load(&tx->bell)) == VS_FROZEN) && vs_try_lock(&tx->tx_lock)) {
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
	if (state == VS_LINK_UP && (atomic_load(&l->position_wanted) || atomic_load(&l->arm_wanted))) {
		if (vs_try_lock(&vs_rx(&l->c)->rx_lock)) {
			if (atomic_exchange(&l->position_wanted, false))
				vs_link_position(l, 0, 0);
			if (atomic_exchange(&l->arm_wanted, false))
				vs_link_arm_again(l);
			vs_unlock(&vs_rx(&l->c)->rx_lock);
		} else if (p->next_ns > p->now_ns + 200000)
			p->next_ns = p->now_ns + 200000;
	}
	/* Whoever sends at the moment may be waiting for us: the lock is not waited for. */
	if (state == VS_LINK_UP && atomic_load(&l->bell_wanted) && !vs_link_ring(l) && p->next_ns > p->now_ns + 200000)
		p->next_ns = p->now_ns + 200000;
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
	struct vs_device *d = vs_link_device();
	if (!d)
		return;
	while (vs_verbs.get_cq_event(d->channel, &cq, &context) == 0)
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
	ibv_req_notify_cq(d->cq, 0);
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
		const uint64_t datagrams = vs_ud_tick(p.now_ns);
		p.next_ns = datagrams < p.next_ns ? datagrams : p.next_ns;
		const struct vs_device *d = vs_link_device();
		struct pollfd fd[4] = { { .fd = wake, .events = POLLIN }, { .fd = talk.own, .events = POLLIN },
					{ .fd = talk.door, .events = POLLIN }, { .fd = d ? d->channel->fd : -1, .events = POLLIN } };
		uint64_t now = vs_now_ns(), left = p.next_ns > now ? p.next_ns - now : 0;
		struct timespec t = { (time_t)(left / 1000000000u), (long)(left % 1000000000u) };
		vs_sys(SYS_ppoll, fd, 4, p.next_ns == UINT64_MAX ? NULL : &t, 0, 8);
		uint64_t count;
		if (fd[0].revents)
			vs_sys(SYS_read, wake, &count, sizeof count);
		if (fd[1].revents & POLLERR)
			take_returned();
		if (fd[1].revents)
			receive(talk.own, false);
		if (fd[2].revents)
			receive(talk.door, true);
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
		vs_talk_close(&talk);
		vs_sys(SYS_close, wake);
	}
	atomic_store(&running, false);
	atomic_store(&start_lock, 0);
	device = NULL;
}
