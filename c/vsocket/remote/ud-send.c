/* ud-send.c - receivers of datagrams on other hosts: finding them, and choosing the way to them. */
#define _GNU_SOURCE
#include "ud.h"
#include "choice.h"
#include "link.h"
#include "../sys.h"
#include "../twin.h"
#include <string.h>
#include <sys/random.h>

#define FARS 1024u
#define PROBES 8u
/* Datagrams to one receiver before its host is asked about it. */
#define ASK_AT 16u
/* How often it is asked while datagrams are sent, and how long its answer is good. */
#define ASK_NS UINT64_C(20000000)
/* And while it is waited for. */
#define WAITING_NS UINT64_C(2000000)
#define FRESH_NS UINT64_C(80000000)
/* When nobody answers: three times quickly, then after longer and longer, up to an hour. */
#define QUICK_ASKS 3u
#define SLOW_NS UINT64_C(250000000)
#define SLOW_DOUBLINGS 14u
/* Unanswered questions after which a receiver that had answered counts as gone, when they took this long. */
#define LOST_ASKS 5u
#define LOST_NS UINT64_C(100000000)
/* A receiver that nothing was sent to for so long loses its place when another one needs it. */
#define IDLE_NS UINT64_C(10000000000)
/* How long what the other end wishes is remembered. */
#define FOLLOW_NS UINT64_C(200000000)
#define WARM 2u
/* What was sent on the queue pair so shortly before the socket is closed is waited for, so long. */
#define RECENT_NS UINT64_C(100000000)
#define LAST_NS UINT64_C(20000000)
/* What was sent on the queue pair is given this time to arrive before the kernel carries what follows. */
#define SETTLE_NS UINT64_C(300000)

struct far {
	/* of the socket that sends; all below under its lock, but for the atomic ones */
	struct vs_far_sender sender;
	_Atomic bool used;
	uint32_t gen;
	struct vs_endpoint from, to;
	uint64_t cookie[2];
	_Atomic uint64_t due_ns; /* when to ask again, if anything is sent */
	_Atomic bool ask_wanted, stop_wanted, wish; /* wish: to use the queue pair */
	_Atomic bool peer_wish; /* what the receiver wishes as a sender to us */
	_Atomic uint64_t peer_heard_ns;
	uint32_t warm; /* datagrams that the kernel is still to carry, so that the receiver looks at its inbox when the first one comes there */
	_Atomic uint32_t unanswered;
	_Atomic uint32_t port; /* of the receiver's process; 0: not known */
	uint64_t last_ns;
	uint32_t sends;
	_Atomic uint64_t answered_ns;
	_Atomic bool open; /* it takes datagrams */
	bool on_queue;	   /* the last one went there */
	struct vs_qp_address peer;
	struct ibv_ah *way;
	struct vs_ud_part next; /* of the next datagram */
	_Atomic uint32_t stop_round, stop_number;
	uint32_t stopped_round; /* the last one that was, or 0 */
	uint64_t stops;
	struct vs_choice choice;
};

static struct far fars[FARS];
/* Those that the agent is to look at: a bit for each, so that it need not go through all of them. */
static _Atomic uint64_t marked[FARS / 64];
static _Atomic uint32_t fars_lock; /* who has which place */

static bool same(const struct vs_endpoint *a, const struct vs_endpoint *b) { return !memcmp(a->addr, b->addr, 16) && a->port == b->port; }

static void mark(const struct far *f)
{
	const unsigned i = (unsigned)(f - fars);
	atomic_fetch_or(&marked[i / 64], UINT64_C(1) << (i % 64));
}

static uint64_t handle_of(const struct far *f) { return (uint64_t)f->gen << 32 | ((uint64_t)(f - fars) + 1); }

static struct far *far_of(uint64_t handle)
{
	uint32_t index = (uint32_t)handle - 1;
	struct far *f = index < FARS ? &fars[index] : NULL;
	return f && atomic_load_explicit(&f->used, memory_order_acquire) && f->gen == handle >> 32 ? f : NULL;
}

static unsigned place_of(const struct vs_endpoint *from, const struct vs_endpoint *to)
{
	uint64_t x = 0;
	for (int i = 0; i < 16; i++)
		x = (x ^ from->addr[i] ^ (uint64_t)to->addr[i] << 8) * UINT64_C(0x100000001b3);
	x = (x ^ from->port ^ (uint64_t)to->port << 16) * UINT64_C(0x9e3779b97f4a7c15);
	return (unsigned)(x >> 40) % FARS;
}

static void take_place(struct far *f, const struct vs_far_sender *s, const struct vs_endpoint *from, const struct vs_endpoint *to)
{
	const uint32_t gen = f->gen + 1;
	if (f->way)
		vs_ud_drop_way(f->way);
	memset(f, 0, sizeof *f);
	f->gen = gen;
	f->sender = *s;
	f->from = *from;
	f->to = *to;
	f->last_ns = vs_now_ns();
	f->next.round = 1;
	atomic_store(&f->used, vs_sys(SYS_getrandom, f->cookie, sizeof f->cookie, 0) == sizeof f->cookie);
}

uint64_t vs_ud_far(const struct vs_far_sender *s, const struct vs_endpoint *from, const struct vs_endpoint *to)
{
	struct far *free_one = NULL, *found = NULL;
	if (vs_lock(&fars_lock) == VS_LOCK_NESTED)
		return 0;
	for (unsigned i = 0, at = place_of(from, to); !found && i < PROBES; i++) {
		struct far *f = &fars[(at + i) % FARS];
		if (!atomic_load(&f->used))
			free_one = free_one ? free_one : f;
		else if (f->sender.owner == s->owner && same(&f->from, from) && same(&f->to, to))
			found = f;
		else if (!free_one && f->sender.owner == s->owner && vs_now_ns() - f->last_ns > IDLE_NS)
			free_one = f; /* its lock is the one that the caller has */
	}
	if (!found && free_one)
		take_place(found = free_one, s, from, to);
	vs_unlock(&fars_lock);
	return found && atomic_load(&found->used) ? handle_of(found) : 0;
}

/* Leaves the queue pair; what follows is of another round. */
static void next_round(struct far *f)
{
	f->next.round++;
	f->next.number = 0;
	f->on_queue = false;
}

static void put_on_kernel(const unsigned char *bytes, size_t len, void *arg)
{
	struct far *f = arg;
	struct sockaddr_storage ss;
	struct iovec iov = { (void *)(uintptr_t)bytes, len };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	if (!f->sender.connected) {
		m.msg_name = &ss;
		m.msg_namelen = vs_twin_sockaddr(&f->to, !f->sender.v6, &ss);
	}
	vs_sys_sendmsg(f->sender.fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* What the receiver has not taken goes by the kernel. Under the socket's lock. */
static void obey_stop(struct far *f)
{
	if (!atomic_load_explicit(&f->stop_wanted, memory_order_acquire) || !atomic_exchange(&f->stop_wanted, false))
		return;
	struct vs_ud_part of = f->next;
	of.round = atomic_load(&f->stop_round);
	of.number = atomic_load(&f->stop_number);
	if ((int32_t)(of.round - f->stopped_round) <= 0)
		return; /* said again */
	f->stopped_round = of.round;
	f->stops++;
	vs_ud_recall(&of, put_on_kernel, f);
	if (of.round == f->next.round) {
		f->open = false;
		next_round(f);
		atomic_store(&f->due_ns, 0);
	}
}

/* Where datagrams go both ways, one end chooses for both: one that spins for what the other's kernel sends gains nothing. */
static bool wants_queue(struct far *f, uint64_t now)
{
	if (vs_link_always())
		return true;
	const uint64_t heard = atomic_load_explicit(&f->peer_heard_ns, memory_order_relaxed);
	bool follow = heard && (int64_t)(now - heard) < (int64_t)FOLLOW_NS && memcmp(&f->from, &f->to, sizeof f->from) > 0;
	return follow ? atomic_load_explicit(&f->peer_wish, memory_order_relaxed) : f->choice.rc;
}

static void wake_agent(struct far *f, uint64_t now)
{
	const bool wish = wants_queue(f, now);
	if (atomic_load_explicit(&f->wish, memory_order_relaxed) != wish) {
		atomic_store(&f->wish, wish);
		if (atomic_load(&f->port))
			atomic_store(&f->due_ns, 0);
	}
	if (f->sends >= ASK_AT && now >= atomic_load_explicit(&f->due_ns, memory_order_relaxed) && vs_agent_start() &&
	    !atomic_exchange(&f->ask_wanted, true)) {
		mark(f);
		vs_agent_wake();
	}
}

long vs_ud_send(uint64_t handle, struct vs_cursor *c)
{
	struct far *f = far_of(handle);
	if (!f)
		return VS_NATIVE;
	const uint64_t now = vs_now_ns();
	const size_t len = c->left;
	f->last_ns = now;
	f->sends += f->sends < ASK_AT;
	obey_stop(f);
	wake_agent(f, now);
	if (f->open && f->warm > 0)
		f->warm--;
	else if (f->open && wants_queue(f, now) && now - f->answered_ns < FRESH_NS && vs_ud_is_open()) {
		f->next.len = (uint32_t)len;
		if (vs_ud_post(f->way, &f->peer, vs_ud_room(f->peer.mtu), f->next, c)) {
			f->next.number++;
			f->on_queue = true;
			vs_choice_moved(&f->choice, now, len, true, f->stops);
			return (long)len;
		}
		f->open = false;
	}
	if (f->on_queue) {
		while (vs_now_ns() - now < SETTLE_NS) {
			vs_remote->poll();
			obey_stop(f);
		}
		if (f->on_queue)
			next_round(f);
	}
	if (atomic_load_explicit(&f->port, memory_order_relaxed))
		vs_choice_moved(&f->choice, now, len, false, f->stops);
	return VS_NATIVE;
}

/* What was sent last may find a receiver that sleeps, and only we have it. Its host's next answer comes after that is known. */
static void wait_for_last(struct far *f)
{
	const uint64_t start = vs_now_ns();
	if (!f->on_queue || start - f->last_ns > RECENT_NS)
		return;
	atomic_store(&f->ask_wanted, true);
	mark(f);
	vs_agent_wake();
	while (atomic_load(&f->answered_ns) < start && vs_now_ns() - start < LAST_NS && atomic_load(&f->port))
		vs_sys_yield();
	/* The agent may not have come to it. */
	if (atomic_load(&f->stop_wanted) && vs_lock_within(f->sender.lock, 20) <= VS_LOCK_STOLEN) {
		obey_stop(f);
		vs_unlock(f->sender.lock);
	}
}

void vs_ud_left(const void *owner, _Atomic uint32_t *lock)
{
	for (unsigned i = 0; i < FARS; i++)
		if (atomic_load_explicit(&fars[i].used, memory_order_relaxed) && fars[i].sender.owner == owner)
			wait_for_last(&fars[i]);
	/* The agent may be in the middle of an answer. */
	enum vs_locked k = vs_lock_within(lock, 20);
	if (vs_lock(&fars_lock) == VS_LOCK_NESTED)
		goto out;
	for (unsigned i = 0; i < FARS; i++)
		if (atomic_load_explicit(&fars[i].used, memory_order_relaxed) && fars[i].sender.owner == owner)
			atomic_store(&fars[i].used, false);
	vs_unlock(&fars_lock);
out:
	if (k <= VS_LOCK_STOLEN)
		vs_unlock(lock);
}

/* The one that an answer is for. Its cookie went only to the receiver's host. */
static struct far *meant(const struct vs_datagram *d)
{
	struct far *f = NULL;
	for (unsigned i = 0, at = place_of(&d->to, &d->from); !f && i < PROBES; i++) {
		struct far *one = &fars[(at + i) % FARS];
		if (atomic_load(&one->used) && same(&one->from, &d->to) && same(&one->to, &d->from) && one->cookie[0] == d->your_cookie[0] &&
		    one->cookie[1] == d->your_cookie[1])
			f = one;
	}
	return f;
}

void vs_ud_take_answer(const struct vs_datagram *d)
{
	struct far *f = meant(d);
	if (!f || !d->port || !vs_ud_open(d->to.addr))
		return;
	_Atomic uint32_t *lock = f->sender.lock;
	if (vs_lock_within(lock, 5) > VS_LOCK_STOLEN)
		return; /* it is asked again */
	if (meant(d) == f) {
		if (!f->way || memcmp(f->peer.gid, d->qp.gid, 16)) {
			if (f->way)
				vs_ud_drop_way(f->way);
			f->way = vs_ud_way(&d->qp);
		}
		const bool another = f->next.lease != (uint32_t)d->qp.ring || f->next.token[0] != d->cookie[0] || f->next.token[1] != d->cookie[1];
		if (another) {
			next_round(f);
			f->next.lease = (uint32_t)d->qp.ring;
			memcpy(f->next.token, d->cookie, sizeof f->next.token);
		}
		f->peer = d->qp;
		const bool open = f->way && (d->twin & 1) && !atomic_load(&f->stop_wanted);
		if (open && !f->open)
			f->warm = WARM;
		f->open = open;
		f->answered_ns = vs_now_ns();
		atomic_store(&f->unanswered, 0);
		atomic_store(&f->port, d->port);
	}
	vs_unlock(lock);
}

static void note_stop(struct far *f, const struct vs_datagram *d)
{
	atomic_store(&f->stop_round, (uint32_t)d->twin);
	atomic_store(&f->stop_number, (uint32_t)d->ring);
	atomic_store(&f->stop_wanted, true);
	mark(f);
}

void vs_ud_take_stop(const struct vs_datagram *d)
{
	struct far *f = meant(d);
	if (!f || f->next.token[0] != d->cookie[0] || f->next.token[1] != d->cookie[1])
		return;
	/* Whoever sends at the moment obeys. */
	if (!atomic_load(&f->stop_wanted)) {
		note_stop(f, d);
		return;
	}
	/* That of an earlier round is still to be obeyed. */
	_Atomic uint32_t *lock = f->sender.lock;
	if (vs_lock_within(lock, 5) > VS_LOCK_STOLEN)
		return; /* it is said again */
	if (meant(d) == f) {
		obey_stop(f);
		note_stop(f, d);
		obey_stop(f);
	}
	vs_unlock(lock);
}

void vs_ud_heed(const struct vs_endpoint *here, const struct vs_endpoint *there, bool wish)
{
	for (unsigned i = 0, at = place_of(here, there); i < PROBES; i++) {
		struct far *f = &fars[(at + i) % FARS];
		if (!atomic_load(&f->used) || !same(&f->from, here) || !same(&f->to, there))
			continue;
		bool news = atomic_exchange(&f->peer_wish, wish) != wish;
		atomic_store(&f->peer_heard_ns, vs_now_ns());
		if (news && atomic_load(&f->port) && memcmp(here, there, sizeof *here) > 0) {
			atomic_store(&f->wish, wish);
			atomic_store(&f->ask_wanted, true);
			mark(f);
		}
	}
}

static void lose(struct far *f)
{
	_Atomic uint32_t *lock = f->sender.lock;
	if (vs_lock_within(lock, 5) > VS_LOCK_STOLEN)
		return;
	if (atomic_load(&f->used)) {
		f->open = false;
		atomic_store(&f->port, 0);
	}
	vs_unlock(lock);
}

void vs_ud_nobody(const struct vs_datagram *d, uint16_t port)
{
	for (unsigned i = 0, at = place_of(&d->from, &d->to); i < PROBES; i++) {
		struct far *f = &fars[(at + i) % FARS];
		if (!atomic_load(&f->used) || !same(&f->from, &d->from) || !same(&f->to, &d->to) || f->cookie[0] != d->cookie[0] || f->cookie[1] != d->cookie[1])
			continue;
		const uint32_t known = atomic_load(&f->port);
		if (known && port == known)
			lose(f);
		if (!known || port == known) { /* nobody is there: no need to ask quickly */
			if (atomic_load(&f->unanswered) < QUICK_ASKS)
				atomic_store(&f->unanswered, QUICK_ASKS);
			atomic_store(&f->due_ns, vs_now_ns() + SLOW_NS);
		}
	}
}

static void ask(struct far *f, uint64_t now)
{
	struct vs_datagram d = { .kind = VS_UD_ASK, .from = f->from, .to = f->to, .twin = atomic_load(&f->wish) };
	const uint32_t unanswered = atomic_fetch_add(&f->unanswered, 1), port = atomic_load(&f->port);
	uint64_t next = atomic_load(&f->wish) && !atomic_load(&f->open) && unanswered < QUICK_ASKS ? WAITING_NS : ASK_NS;
	memcpy(d.cookie, f->cookie, sizeof d.cookie);
	if (port && unanswered >= LOST_ASKS && now - atomic_load(&f->answered_ns) > LOST_NS)
		lose(f);
	if (!port && unanswered >= QUICK_ASKS) {
		uint32_t slow = unanswered - QUICK_ASKS;
		next = SLOW_NS << (slow < SLOW_DOUBLINGS ? slow : SLOW_DOUBLINGS);
	}
	atomic_store(&f->due_ns, now + next);
	vs_agent_say(&d, d.from.addr, d.to.addr, port ? (uint16_t)port : 0);
}

/* False: its sender is in the middle of something. */
static bool attend(struct far *f, uint64_t now_ns)
{
	if (!atomic_load_explicit(&f->used, memory_order_acquire))
		return true;
	if (atomic_exchange(&f->ask_wanted, false))
		ask(f, now_ns);
	if (!atomic_load(&f->stop_wanted))
		return true;
	_Atomic uint32_t *lock = f->sender.lock;
	if (!vs_try_lock(lock))
		return false;
	if (atomic_load(&f->used))
		obey_stop(f);
	vs_unlock(lock);
	return true;
}

uint64_t vs_ud_tick_senders(uint64_t now_ns)
{
	uint64_t next = UINT64_MAX;
	for (unsigned w = 0; w < FARS / 64; w++) {
		if (!atomic_load_explicit(&marked[w], memory_order_relaxed))
			continue;
		for (uint64_t bits = atomic_exchange(&marked[w], 0); bits; bits &= bits - 1) {
			struct far *f = &fars[w * 64 + (unsigned)__builtin_ctzll(bits)];
			if (!attend(f, now_ns)) {
				mark(f);
				next = now_ns + 200000;
			}
		}
	}
	return next;
}

void vs_ud_forget_senders(void)
{
	memset(fars, 0, sizeof fars);
	memset((void *)marked, 0, sizeof marked);
	atomic_store(&fars_lock, 0);
}
