/* link.c - the life of a link: queue pair, epochs around fork, failure and a new beginning. */
#define _GNU_SOURCE
#include "link-parts.h"
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <stdio.h>
#include <sys/mman.h>

/* After a failure, doubled each time. */
#define RESTART_NS UINT64_C(100000000)
/* How often a device that is not ready is waited for, twice as long each time. */
#define RETRIES 6u
/* How long who closes waits for those who are sending. */
#define POSTING_NS UINT64_C(1000000000)

static struct vs_link *links[VS_SLOTS];
_Atomic bool vs_link_forking;

struct vs_link *vs_link_at(unsigned slot) { return slot < VS_SLOTS ? __atomic_load_n(&links[slot], __ATOMIC_ACQUIRE) : NULL; }

void vs_link_forget(void) { memset(links, 0, sizeof links); }

struct vs_link *vs_link_of(const struct vs_conn *c)
{
	struct vs_link *l = __atomic_load_n(&links[vs_link_index(c)], __ATOMIC_ACQUIRE);
	return l && atomic_load_explicit(&l->state, memory_order_acquire) != VS_LINK_NONE && l->c.gen == c->gen && l->c.side == c->side ? l : NULL;
}

void vs_link_each(void (*f)(struct vs_link *l, void *arg), void *arg)
{
	for (unsigned i = 0; i < VS_SLOTS; i++) {
		struct vs_link *l = __atomic_load_n(&links[i], __ATOMIC_ACQUIRE);
		if (l && atomic_load(&l->state) != VS_LINK_NONE)
			f(l, arg);
	}
}

struct vs_link *vs_link_make(const struct vs_conn *c, int fd)
{
	/* Never freed: others may be looking at it. */
	struct vs_link *l = links[vs_link_index(c)];
	if (!l && !(l = calloc(1, sizeof *l)))
		return NULL;
	if (atomic_load(&l->state) != VS_LINK_NONE)
		return NULL;
	memset(l, 0, sizeof *l);
	l->c = *c;
	l->fd = fd;
	__atomic_store_n(&links[vs_link_index(c)], l, __ATOMIC_RELEASE);
	return l;
}

void vs_link_gone(struct vs_link *l)
{
	atomic_store(&l->gone, true);
	atomic_store(&l->peer_grants, false);
	if (atomic_load(&l->state) == VS_LINK_UP)
		atomic_store(&l->state, VS_LINK_OVER);
}

void vs_link_break(struct vs_link *l)
{
	if (!atomic_exchange(&l->broken, true))
		vs_agent_wake();
}

/* The parent's queue pairs mean nothing to a child: what both may use must be the kernel's. */
static void leave_for_fork(struct vs_link *l, void *arg)
{
	(void)arg;
	if (atomic_load(&l->state) != VS_LINK_UP)
		return;
	vs_tx_demote(&l->c, l->fd, 0);
	if (atomic_load(&vs_rx(&l->c)->expecting))
		vs_rx_demote(&l->c, l->fd, 0);
}

static void before_fork(void)
{
	atomic_store(&vs_link_forking, true);
	vs_link_each(leave_for_fork, NULL);
}

static void after_fork(void) { atomic_store(&vs_link_forking, false); }

static bool create(struct vs_link *l, struct vs_device *d, const char **why)
{
	unsigned char *tx = vs_ring_of(l->c.slot, l->c.side), *rx = vs_ring_of(l->c.slot, !l->c.side);
	const size_t notes = (VS_RECVS + 2 * VS_SENDS) * sizeof *l->notes;
	vs_link_use_device(d);
	*why = "no memory that the device can use";
	l->notes = mmap(NULL, notes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (l->notes == MAP_FAILED) {
		l->notes = NULL;
		return false;
	}
	l->mr[0] = vs_verbs.reg_mr(d->pd, tx, VS_RING_MAX, IBV_ACCESS_LOCAL_WRITE);
	l->mr[1] = vs_verbs.reg_mr(d->pd, rx, VS_RING_MAX, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
	l->mr[2] = vs_verbs.reg_mr(d->pd, l->notes, notes, IBV_ACCESS_LOCAL_WRITE);
	if (!l->mr[0] || !l->mr[1] || !l->mr[2])
		return false;
	*why = "no queue pair";
	l->qp = vs_device_qp(d);
	if (!l->qp)
		return false;
	l->qp_number = l->qp->qp_num;
	/* After the device's own, which therefore comes later: from there on its queue pairs stand still. */
	static bool registered;
	if (!registered)
		registered = pthread_atfork(before_fork, after_fork, after_fork) == 0;
	for (unsigned i = 0; i < VS_RECVS; i++) {
		struct ibv_sge sge = { (uintptr_t)&l->notes[i], sizeof l->notes[i], l->mr[2]->lkey };
		struct ibv_recv_wr wr = { .wr_id = VS_WR_RECV | (uint64_t)vs_link_index(&l->c) << 16 | i, .sg_list = &sge, .num_sge = 1 }, *bad;
		if (ibv_post_recv(l->qp, &wr, &bad))
			return false;
	}
	l->own = (struct vs_qp_address){ .number = l->qp_number, .rkey = l->mr[1]->rkey, .ring = (uintptr_t)rx, .mtu = d->mtu, .lid = d->lid };
	memcpy(l->own.gid, d->gid.raw, 16);
	l->own.psn = (uint32_t)l->cookie[0] & 0xffffff;
	return true;
}

bool vs_link_create(struct vs_link *l, struct vs_device *d, const char **why)
{
	/* Whoever closes the connection meanwhile says so, and waits until there is something whole to be destroyed. */
	atomic_fetch_add(&l->posting, 1);
	*why = "the connection is closed";
	bool done = atomic_load(&l->state) != VS_LINK_NONE && create(l, d, why);
	atomic_fetch_sub(&l->posting, 1);
	return done;
}

bool vs_link_go_on(struct vs_link *l, enum vs_link_state state)
{
	uint32_t now = atomic_load(&l->state);
	while (now != VS_LINK_NONE)
		if (atomic_compare_exchange_weak(&l->state, &now, state))
			return true;
	return false;
}

bool vs_link_connect(struct vs_link *l, struct vs_device *d)
{
	/* Whoever closes the connection destroys the queue pair, at any time until here. */
	enum vs_locked k = vs_lock(&vs_poll_lock);
	bool done = l->qp && vs_device_connect(d, l->qp, l->own.psn, &l->peer) == 0;
	if (k != VS_LOCK_NESTED)
		vs_unlock(&vs_poll_lock);
	return done;
}

void vs_link_up(struct vs_link *l)
{
	struct vs_end *peer = &l->c.slot->end[!l->c.side], *own = &l->c.slot->end[l->c.side];
	l->told_head = atomic_load(&vs_rx(&l->c)->head);
	l->told_epoch = atomic_load(&vs_rx(&l->c)->epoch_rx);
	l->up_ns = vs_now_ns();
	/* How the kernel counts what we send can be told only until a transmission fails, which may be before the first ring epoch. */
	struct vs_dir *tx = vs_tx(&l->c);
	if (vs_link_has_fd(l) && vs_try_lock(&tx->tx_lock)) {
		uint64_t sent;
		bool open;
		vs_twin_sent(l->fd, &tx->syn, &sent, &open);
		vs_unlock(&tx->tx_lock);
	}
	/* Side 0 chooses for both. */
	if (l->c.side == 0)
		vs_group_join(&l->member, vs_link_there(l));
	if (!vs_link_go_on(l, VS_LINK_UP)) {
		vs_group_leave(&l->member);
		return;
	}
	atomic_store(&peer->pid, (uint32_t)vs_sys_getpid());
	atomic_store(&peer->closed, 0);
	atomic_store(&own->verified, 1);
	atomic_store(&l->c.slot->road, VS_ROAD_OPEN);
	atomic_store(&l->c.slot->remote, (uint32_t)vs_sys_getpid());
	/* From here on nobody begins a read that does not look here. */
	atomic_store(&peer->cookie, VS_COOKIE_REMOTE);
}

void vs_link_destroy(struct vs_link *l)
{
	enum vs_locked k = vs_lock(&vs_poll_lock);
	struct ibv_qp *qp = atomic_exchange(&l->qp, NULL);
	/* Not for ever: it may be this very thread, in a signal handler. */
	for (uint64_t start = vs_now_ns(); atomic_load(&l->posting) > 0 && vs_now_ns() - start < POSTING_NS;)
		vs_sys_yield();
	if (qp)
		vs_verbs.destroy_qp(qp);
	for (int i = 0; i < 3; i++) {
		if (l->mr[i])
			vs_verbs.dereg_mr(l->mr[i]);
		l->mr[i] = NULL;
	}
	if (l->notes)
		munmap(l->notes, (VS_RECVS + 2 * VS_SENDS) * sizeof *l->notes);
	l->notes = NULL;
	if (k != VS_LOCK_NESTED)
		vs_unlock(&vs_poll_lock);
}

/* Everything of `l` behind `restarts` begins anew. */
static void clear(struct vs_link *l)
{
	const size_t kept = offsetof(struct vs_link, restarts) + sizeof l->restarts;
	memset((char *)l + kept, 0, sizeof *l - kept);
}

/* RDMAKIT_SOCKET_RING, for tests: `always` whatever is faster; `random` with changes at random, and failures of the link. */
static enum { WISH_UNKNOWN, WISH_NONE, WISH_ALWAYS, WISH_RANDOM } wish(void)
{
	static _Atomic int known = WISH_UNKNOWN;
	if (known == WISH_UNKNOWN) {
		const char *text = getenv("RDMAKIT_SOCKET_RING");
		known = text && !strcmp(text, "random") ? WISH_RANDOM : text && !strcmp(text, "always") ? WISH_ALWAYS : WISH_NONE;
	}
	return known;
}

bool vs_link_random(void) { return wish() == WISH_RANDOM; }
bool vs_link_always(void) { return wish() == WISH_ALWAYS; }

static bool finished(const struct vs_link *l)
{
	const struct vs_dir *tx = vs_tx(&l->c), *rx = vs_rx(&l->c);
	return !atomic_load(&l->freezing) && !atomic_load(&l->freeze_asked) && VS_BELL_STATE(atomic_load(&tx->bell)) != VS_FROZEN &&
	       !vs_epoch_is_ring(atomic_load(&tx->epoch_tx)) && !vs_epoch_is_ring(atomic_load(&rx->epoch_tx)) &&
	       atomic_load(&rx->epoch_rx) == atomic_load(&rx->epoch_tx);
}

/* A road that fails soon, again and again, is tried ever more rarely. */
static uint64_t restart_wait(struct vs_link *l, uint64_t now_ns)
{
	if (wish() != WISH_NONE)
		return RESTART_NS / 5;
	uint64_t wait = RESTART_NS << l->restarts;
	if (now_ns - l->up_ns > wait * 100)
		l->restarts = 0;
	else if (l->restarts < 8)
		l->restarts++;
	return RESTART_NS << l->restarts;
}

/* Of a link that is not up: the device was not ready. Such a thing passes in seconds, or stays. */
bool vs_link_retry(struct vs_link *l, uint64_t now_ns)
{
	struct vs_dir *tx = vs_tx(&l->c), *rx = vs_rx(&l->c);
	bool done = false;
	if (l->restarts >= RETRIES || !vs_try_lock(&tx->tx_lock))
		return false;
	/* Who closes has the locks, and then the link may be another connection's. */
	if (vs_try_lock(&rx->rx_lock)) {
		done = atomic_load(&l->state) != VS_LINK_NONE;
		if (done) {
			clear(l);
			l->next_ns = now_ns + (RESTART_NS << l->restarts++);
			atomic_store(&l->state, VS_LINK_FINDING);
		}
		vs_unlock(&rx->rx_lock);
	}
	vs_unlock(&tx->tx_lock);
	return done;
}

bool vs_link_restart(struct vs_link *l, uint64_t now_ns)
{
	struct vs_dir *tx = vs_tx(&l->c), *rx = vs_rx(&l->c);
	bool done = false;
	if (!vs_try_lock(&tx->tx_lock))
		return false;
	if (vs_try_lock(&rx->rx_lock)) {
		done = finished(l) && atomic_load(&l->state) == VS_LINK_UP;
		if (done) {
			atomic_store(&l->state, VS_LINK_FINDING);
			atomic_store(&l->c.slot->road, VS_ROAD_FAILED);
			vs_link_destroy(l);
			if (atomic_load(&l->answered)) {
				l->past = (struct vs_past){ .peer_port = l->peer_port, .answer = l->answer };
				memcpy(l->past.cookie, l->cookie, sizeof l->cookie);
				memcpy(l->past.peer_cookie, l->peer_cookie, sizeof l->peer_cookie);
			}
			clear(l);
			atomic_store(&rx->expecting, 0);
			l->next_ns = now_ns + restart_wait(l, now_ns);
		}
		vs_unlock(&rx->rx_lock);
	}
	vs_unlock(&tx->tx_lock);
	return done;
}

/* Operations (remote.h). */

