/* ud-receive.c - who on other hosts may send to the UDP sockets of this process by the queue pair, and what they send. */
#define _GNU_SOURCE
#include "ud.h"
#include "link.h"
#include "../book.h"
#include "../inbox.h"
#include "../sys.h"
#include "../twin.h"
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define LEASES 1024u
#define PROBES 8u
/* How long the kernel's word is good that a datagram would come to the inbox. */
#define GOOD_NS UINT64_C(150000000)
/* A lease that was not asked for this long loses its place when another one needs it. */
#define IDLE_NS UINT64_C(1000000000)
/* How long a receiver that was found asleep is left to the kernel: not at all at first, because both ends have to get into step; then doubled
 * each time, unless the queue pair has served it well in between. */
#define PATIENCE 32u
#define REST_NS UINT64_C(1000000)
#define REST_MAX_NS UINT64_C(1000000000)
#define SERVED_WELL 256u
/* STOP may be lost: it is said again when so many further datagrams were not taken. */
#define STOP_EVERY 8u

/* Of one sender's address to one of ours. All under vs_poll_lock. */
struct lease {
	bool used;
	struct vs_endpoint from, to;
	uint64_t cookie[2], token[2]; /* the sender's, ours */
	uint16_t port;		      /* of the sender's agent */
	uint32_t inbox, gen;	      /* index */
	uint64_t checked_ns;
	uint32_t round;
	bool stopped; /* what follows in this round is not taken */
	uint32_t stop_number, refused;
	unsigned stops; /* in a row */
	uint64_t rest_ns, rests_until_ns;
	uint64_t served; /* datagrams since it was stopped last */
	struct vs_ud_whole whole;
};

static struct lease leases[LEASES];

static bool same(const struct vs_endpoint *a, const struct vs_endpoint *b) { return !memcmp(a->addr, b->addr, 16) && a->port == b->port; }

static struct lease *lease_for(const struct vs_datagram *d, uint64_t now)
{
	struct lease *free_one = NULL;
	for (unsigned i = 0, at = (unsigned)(d->cookie[0] % LEASES); i < PROBES; i++) {
		struct lease *l = &leases[(at + i) % LEASES];
		if (l->used && l->cookie[0] == d->cookie[0] && l->cookie[1] == d->cookie[1] && same(&l->from, &d->from) && same(&l->to, &d->to))
			return l;
		if (!free_one && (!l->used || now - l->checked_ns > IDLE_NS))
			free_one = l;
	}
	if (!free_one)
		return NULL;
	free(free_one->whole.bytes);
	*free_one = (struct lease){ .from = d->from, .to = d->to, .rest_ns = REST_NS };
	memcpy(free_one->cookie, d->cookie, sizeof free_one->cookie);
	free_one->used = vs_sys(SYS_getrandom, free_one->token, sizeof free_one->token, 0) == sizeof free_one->token;
	return free_one->used ? free_one : NULL;
}

static void say(struct lease *l, struct vs_datagram *d)
{
	d->from = l->to;
	d->to = l->from;
	memcpy(d->cookie, l->token, sizeof d->cookie);
	memcpy(d->your_cookie, l->cookie, sizeof d->your_cookie);
	vs_agent_say(d, d->from.addr, d->to.addr, l->port);
}

static void say_stop(struct lease *l) { say(l, &(struct vs_datagram){ .kind = VS_UD_STOP, .ring = l->stop_number, .twin = l->round }); }

static void answer(struct lease *l, bool open)
{
	struct vs_datagram d = { .kind = VS_UD_ANSWER, .twin = open };
	vs_ud_address(&d.qp);
	d.qp.ring = (uint64_t)(l - leases);
	say(l, &d);
	if (l->stopped && l->refused)
		say_stop(l);
}

void vs_ud_take_ask(const struct vs_datagram *d, uint32_t network_device)
{
	uint32_t gen;
	uint64_t cookie = d->port ? vs_twin_udp_receiver(&d->from, &d->to, network_device) : 0;
	struct vs_inbox *in = cookie ? vs_inbox_find(cookie, vs_agent_netns(), &gen) : NULL;
	const uint32_t port = in ? atomic_load(&in->port) : 0;
	if (!port)
		return;
	if (port != vs_agent_port()) {
		vs_agent_pass_on(d, network_device, (uint16_t)port);
		return;
	}
	if (!vs_ud_open(d->to.addr))
		return;
	/* Who asks because he leaves wants to know of what he sent before. */
	vs_remote->sync();
	if (vs_lock(&vs_poll_lock) == VS_LOCK_NESTED)
		return;
	const uint64_t now = vs_now_ns();
	struct lease *l = lease_for(d, now);
	if (l) {
		const uint32_t index = (uint32_t)(in - vs_arena->inbox);
		const bool open = (d->twin & 1) && vs_inbox_state(in) != VS_INBOX_SHUT && (vs_link_always() || now >= l->rests_until_ns);
		if (open) {
			atomic_store(&in->far_until, vs_ticks() + GOOD_NS / 1000000 * VS_TICKS_A_MS);
			atomic_store(&in->far_credit, VS_INBOX_CREDIT);
		}
		l->inbox = index;
		l->gen = gen;
		l->checked_ns = now;
		l->port = d->port;
		answer(l, open);
	}
	vs_unlock(&vs_poll_lock);
	vs_ud_heed(&d->to, &d->from, d->twin & 1);
}

static void stop(struct lease *l, uint32_t number, uint64_t now)
{
	l->stopped = true;
	l->stop_number = number;
	l->refused = 1;
	if (l->served >= SERVED_WELL)
		l->stops = 0, l->rest_ns = REST_NS;
	else if (++l->stops > PATIENCE)
		l->rest_ns = l->rest_ns * 2 < REST_MAX_NS ? l->rest_ns * 2 : REST_MAX_NS;
	l->rests_until_ns = l->stops > PATIENCE ? now + l->rest_ns : now;
	l->served = 0;
	say_stop(l);
}

static void deliver(struct lease *l, const struct vs_ud_part *p, const unsigned char *bytes)
{
	struct vs_inbox *in = &vs_arena->inbox[l->inbox];
	struct iovec iov = { (void *)(uintptr_t)bytes, p->len };
	struct vs_cursor c;
	uint64_t tail;
	const uint64_t now = vs_now_ns();
	if (p->round != l->round) {
		if ((int32_t)(p->round - l->round) < 0)
			return; /* late: it went by the kernel again */
		l->round = p->round;
		l->stopped = false;
		l->refused = 0;
		/* What the sender gave to the kernel before comes first. */
		atomic_fetch_add(&in->natives, 1);
	}
	if (l->stopped) {
		if (++l->refused % STOP_EVERY == 0)
			say_stop(l);
		return;
	}
	long r = now - l->checked_ns < GOOD_NS && vs_cursor_init(&c, &iov, 1) ? vs_inbox_put(in, l->gen, &l->from, &c, &tail) : VS_INBOX_KERNEL;
	if (r == VS_INBOX_KERNEL)
		stop(l, p->number, now);
	else if (r >= 0) {
		l->served++;
		atomic_store_explicit(&in->far_credit, VS_INBOX_CREDIT, memory_order_relaxed);
	}
}

void vs_ud_arrived(const unsigned char *bytes, size_t n)
{
	struct vs_ud_part p;
	struct lease *l = vs_ud_part_read(&p, bytes, n) && p.lease < LEASES ? &leases[p.lease] : NULL;
	if (!l || !l->used || l->token[0] != p.token[0] || l->token[1] != p.token[1]) {
		vs_book_dropped();
		return;
	}
	const unsigned char *whole = vs_ud_whole_add(&l->whole, &p, bytes + VS_UD_HEAD, n - VS_UD_HEAD);
	if (whole)
		deliver(l, &p, whole);
}

void vs_ud_forget_receivers(void)
{
	for (unsigned i = 0; i < LEASES; i++)
		free(leases[i].whole.bytes);
	memset(leases, 0, sizeof leases);
}
