/* link.c - moving bytes and notes through queue pairs. */
#define _GNU_SOURCE
#include "link.h"
#include "ud.h"
#include "../inbox.h"
#include "../sys.h"
#include "../twin.h"
#include "../watch.h"
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <stdio.h>
#include <sys/mman.h>

#define WR_RECV (UINT64_C(1) << 32)
/* How long a grant is waited for before it is asked for again. */
#define ASK_NS UINT64_C(20000000)
/* After a failure, doubled each time. */
#define RESTART_NS UINT64_C(100000000)
#define GONE_NS UINT64_C(1000000)
/* How long who closes waits for those who are sending. */
#define POSTING_NS UINT64_C(1000000000)
/* How long a failed queue pair's receiver is waited for; descriptors that must not block belong to applications with more to do. */
#define END_NS UINT64_C(300000000000)
#define END_NONBLOCKING_NS UINT64_C(10000000000)
#define DEAD (POLLERR | POLLHUP)

_Atomic uint32_t vs_poll_lock;
_Atomic uint32_t vs_polls;
static struct vs_link *links[VS_SLOTS];
static struct vs_device *_Atomic device;
/* Between the preparation of a fork and its end: no ring epoch begins. */
static _Atomic bool forking;

void vs_link_use_device(struct vs_device *d) { device = d; }
struct vs_device *vs_link_device(void) { return device; }

static unsigned index_of(const struct vs_conn *c) { return (unsigned)(c->slot - vs_arena->slot); }

struct vs_link *vs_link_of(const struct vs_conn *c)
{
	struct vs_link *l = __atomic_load_n(&links[index_of(c)], __ATOMIC_ACQUIRE);
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
	struct vs_link *l = links[index_of(c)];
	if (!l && !(l = calloc(1, sizeof *l)))
		return NULL;
	if (atomic_load(&l->state) != VS_LINK_NONE)
		return NULL;
	memset(l, 0, sizeof *l);
	l->c = *c;
	l->fd = fd;
	__atomic_store_n(&links[index_of(c)], l, __ATOMIC_RELEASE);
	return l;
}

/* The other host's address. */
static const uint8_t *there(const struct vs_link *l) { return l->c.slot->key.end[!l->c.side].addr; }

static bool usable(struct vs_link *l) { return l->qp && !atomic_load(&l->broken) && atomic_load(&l->state) == VS_LINK_UP; }

void vs_link_gone(struct vs_link *l)
{
	atomic_store(&l->gone, true);
	atomic_store(&l->peer_grants, false);
	if (atomic_load(&l->state) == VS_LINK_UP)
		atomic_store(&l->state, VS_LINK_OVER);
}

static void break_link(struct vs_link *l)
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
	atomic_store(&forking, true);
	vs_link_each(leave_for_fork, NULL);
}

static void after_fork(void) { atomic_store(&forking, false); }

static bool create(struct vs_link *l, struct vs_device *d, const char **why)
{
	unsigned char *tx = vs_ring_of(l->c.slot, l->c.side), *rx = vs_ring_of(l->c.slot, !l->c.side);
	const size_t notes = (VS_RECVS + 2 * VS_SENDS) * sizeof *l->notes;
	device = d;
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
		struct ibv_recv_wr wr = { .wr_id = WR_RECV | (uint64_t)index_of(&l->c) << 16 | i, .sg_list = &sge, .num_sge = 1 }, *bad;
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
	/* Side 0 chooses for both. */
	if (l->c.side == 0)
		vs_group_join(&l->member, there(l));
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
	atomic_store(&peer->cookie, 1);
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

static bool try_lock(_Atomic uint32_t *lock)
{
	uint32_t none = 0;
	return atomic_compare_exchange_strong(lock, &none, (uint32_t)vs_self());
}

/* Waits until the send queue has room. */
static bool has_room(struct vs_link *l)
{
	while (atomic_load(&l->outstanding) >= VS_SENDS - 8) {
		vs_link_poll();
		if (!usable(l))
			return false;
		vs_pause();
	}
	return usable(l);
}

/* Around everything that is sent: the application may close the connection while the agent sends for it. False: there is nothing to send with. */
static bool begin_post(struct vs_link *l)
{
	atomic_fetch_add(&l->posting, 1);
	if (usable(l))
		return true;
	atomic_fetch_sub(&l->posting, 1);
	return false;
}

static bool post(struct vs_link *l, struct ibv_send_wr *wr)
{
	struct ibv_send_wr *bad;
	wr->wr_id = (uint64_t)index_of(&l->c) << 16;
	wr->send_flags = IBV_SEND_SIGNALED;
	atomic_fetch_add(&l->outstanding, 1);
	if (ibv_post_send(l->qp, wr, &bad) == 0)
		return true;
	atomic_fetch_sub(&l->outstanding, 1);
	break_link(l);
	return false;
}

/* Does not wait for room: there is some for notes, because data leaves it. */
static bool post_note(struct vs_link *l, struct vs_note n)
{
	if (!begin_post(l))
		return false;
	unsigned i = VS_RECVS + atomic_fetch_add(&l->next_note, 1) % (2 * VS_SENDS);
	n.magic = VS_NOTE_MAGIC;
	l->notes[i] = n;
	struct ibv_sge sge = { (uintptr_t)&l->notes[i], sizeof n, l->mr[2]->lkey };
	struct ibv_send_wr wr = { .sg_list = &sge, .num_sge = 1, .opcode = IBV_WR_SEND };
	bool posted = post(l, &wr);
	atomic_fetch_sub(&l->posting, 1);
	return posted;
}

void vs_link_position(struct vs_link *l, uint8_t flags, uint64_t seen)
{
	struct vs_dir *d = vs_rx(&l->c);
	struct vs_note n = { .kind = VS_NOTE_POS, .flags = flags, .epoch = atomic_load(&d->epoch_rx), .ring = atomic_load(&d->head), .seen = seen };
	if (vs_group_wants_rc(&l->member))
		n.flags |= VS_NOTE_RC;
	if (!atomic_load(&l->heard) && l->c.side == 1)
		return; /* the other queue pair may not be ready */
	l->told_head = n.ring;
	l->told_epoch = n.epoch;
	if (has_room(l))
		post_note(l, n);
}

static void grant(struct vs_link *l)
{
	struct vs_dir *d = vs_rx(&l->c);
	uint32_t e = atomic_load(&d->epoch_tx);
	if (atomic_load(&d->native_readers) || atomic_load(&d->plain) || vs_epoch_is_ring(e) || !usable(l) || atomic_load(&forking) ||
	    atomic_load(&l->c.slot->end[l->c.side].holders) != 1)
		return;
	if (!atomic_exchange(&l->grant_wanted, false))
		return;
	atomic_store(&d->expecting, 1);
	atomic_store(&l->granted, true);
	post_note(l, (struct vs_note){ .kind = VS_NOTE_GRANT, .epoch = e, .seen = l->grant_number });
}

/* Its descriptor, if that is still the connection's. */
static bool has_fd(const struct vs_link *l)
{
	struct vs_conn at;
	return vs_fd_conn(l->fd, &at) && at.slot == l->c.slot && at.gen == l->c.gen;
}

/* Under tx_lock. */
static void ring_now(struct vs_link *l)
{
	struct vs_dir *d = vs_tx(&l->c);
	uint32_t e = atomic_load(&d->epoch_tx), armed = VS_BELL(e, VS_ARMED);
	atomic_store(&l->bell_wanted, false);
	if (!vs_epoch_is_ring(e) || !usable(l) || atomic_load(&d->tail) == atomic_load(&d->head) || !has_fd(l))
		return;
	if (!atomic_compare_exchange_strong(&d->bell, &armed, VS_BELL(e, VS_RINGING)))
		return;
	if (vs_tx_ring_bell(d, l->fd))
		post_note(l, (struct vs_note){ .kind = VS_NOTE_BELL });
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

static bool random_mode(void) { return wish() == WISH_RANDOM; }
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

bool vs_link_restart(struct vs_link *l, uint64_t now_ns)
{
	struct vs_dir *tx = vs_tx(&l->c), *rx = vs_rx(&l->c);
	bool done = false;
	if (!try_lock(&tx->tx_lock))
		return false;
	if (try_lock(&rx->rx_lock)) {
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

bool vs_link_ring(struct vs_link *l)
{
	if (!try_lock(&vs_tx(&l->c)->tx_lock))
		return false;
	if (atomic_load(&l->bell_wanted))
		ring_now(l);
	vs_unlock(&vs_tx(&l->c)->tx_lock);
	return true;
}

void vs_link_arm_again(struct vs_link *l)
{
	struct vs_dir *d = vs_rx(&l->c);
	const uint32_t e = atomic_load(&d->epoch_tx);
	uint32_t rung = VS_BELL(e, VS_RUNG);
	const uint64_t head = atomic_load(&d->head);
	if (vs_epoch_is_ring(e) && atomic_compare_exchange_strong(&d->bell, &rung, VS_BELL(e, VS_ARMED)))
		vs_link_position(l, VS_NOTE_ARM, head); /* also for what has come meanwhile */
}

static void take_note(struct vs_link *l, const struct vs_note *n)
{
	uint8_t flags = 0;
	if (n->kind == VS_NOTE_POS && atomic_load(&l->answered))
		return; /* it has been asked how far it is */
	switch (vs_note_take(vs_rx(&l->c), vs_tx(&l->c), n, &flags)) {
	case VS_NOTE_BAD:
		break_link(l);
		return;
	case VS_NOTE_RING:
		atomic_store(&l->bell_wanted, true);
		if (!vs_link_ring(l))
			vs_agent_wake();
		break;
	case VS_NOTE_OK:
		break;
	}
	switch (n->kind) {
	case VS_NOTE_POS:
		atomic_store(&l->peer_wants_rc, (flags & VS_NOTE_RC) != 0);
		break;
	case VS_NOTE_ASK:
		l->grant_number = n->seen;
		atomic_store(&l->grant_wanted, true);
		grant(l);
		break;
	case VS_NOTE_GRANT:
		if (n->epoch == atomic_load(&vs_tx(&l->c)->epoch_tx) && n->seen == atomic_load(&l->ask_number))
			atomic_store(&l->peer_grants, true);
		break;
	case VS_NOTE_END:
	case VS_NOTE_WITHDRAW:
		atomic_store(&l->granted, false);
		atomic_store(&vs_rx(&l->c)->expecting, 0);
		ibv_req_notify_cq(device->cq, 0); /* applications need not poll any more */
		break;
	case VS_NOTE_BELL:
		/* Its data has been read already, perhaps by one who took the word for ARMED still. */
		if (atomic_load(&vs_rx(&l->c)->tail) == atomic_load(&vs_rx(&l->c)->head)) {
			atomic_store(&l->arm_wanted, true);
			vs_agent_wake();
		}
		break;
	case VS_NOTE_HASH:
		vs_watch_heard(l->c.slot, !l->c.side, &(struct vs_hash){ .at = n->ring, .hash = n->seen, .word = n->twin });
		break;
	case VS_NOTE_GONE:
		vs_link_gone(l);
		break;
	default:
		break;
	}
}

static void again(struct vs_link *l, unsigned i)
{
	struct ibv_sge sge = { (uintptr_t)&l->notes[i], sizeof l->notes[i], l->mr[2]->lkey };
	struct ibv_recv_wr wr = { .wr_id = WR_RECV | (uint64_t)index_of(&l->c) << 16 | i, .sg_list = &sge, .num_sge = 1 }, *bad;
	if (ibv_post_recv(l->qp, &wr, &bad))
		break_link(l);
}

static void take_completion(const struct ibv_wc *wc)
{
	if (wc->wr_id & VS_WR_UD) {
		vs_ud_completion(wc);
		return;
	}
	unsigned slot = (unsigned)(wc->wr_id >> 16) & 0xffff, i = (unsigned)(wc->wr_id & 0xffff);
	struct vs_link *l = slot < VS_SLOTS ? links[slot] : NULL;
	if (!l || !l->qp || wc->qp_num != l->qp_number)
		return;
	if (!(wc->wr_id & WR_RECV))
		atomic_fetch_sub(&l->outstanding, 1);
	if (wc->status != IBV_WC_SUCCESS) {
		break_link(l);
		return;
	}
	if (!(wc->wr_id & WR_RECV))
		return;
	bool first = !atomic_exchange(&l->heard, true);
	if (!l->rx_frozen) {
		if (wc->opcode == IBV_WC_RECV_RDMA_WITH_IMM) {
			uint32_t imm = be32toh(wc->imm_data);
			if (wc->byte_len != (imm & VS_IMM_LENGTH) || !vs_note_data(vs_rx(&l->c), imm))
				break_link(l);
		} else if (wc->byte_len == sizeof(struct vs_note)) {
			struct vs_note n = l->notes[i];
			take_note(l, &n);
		} else {
			break_link(l);
		}
	}
	again(l, i);
	if (first && l->c.side == 1)
		vs_agent_wake();
}

/* Under vs_poll_lock. */
static void take_all(bool patient)
{
	struct ibv_wc wc[16];
	int n;
	if (!device)
		return;
	do {
		n = vs_verbs.poll_cq_now && !patient ? vs_verbs.poll_cq_now(device->cq, 16, wc) : ibv_poll_cq(device->cq, 16, wc);
		for (int i = 0; i < n; i++)
			take_completion(&wc[i]);
	} while (n == 16);
}

void vs_link_poll(void)
{
	if (!try_lock(&vs_poll_lock))
		return;
	take_all(false);
	vs_unlock(&vs_poll_lock);
}

static void op_nap(void)
{
	if (!try_lock(&vs_poll_lock))
		return;
	take_all(true);
	vs_unlock(&vs_poll_lock);
}

/* Operations (remote.h). */

static void op_poll(void)
{
	atomic_fetch_add_explicit(&vs_polls, 1, memory_order_relaxed);
	vs_link_poll();
}

static void op_sync(void)
{
	enum vs_locked k = vs_lock(&vs_poll_lock);
	if (k == VS_LOCK_NESTED)
		return;
	take_all(false);
	vs_unlock(&vs_poll_lock);
}

static void op_doze(void)
{
	if (device)
		ibv_req_notify_cq(device->cq, 0);
	vs_link_poll();
}

static bool toss(struct vs_link *l)
{
	static __thread uint64_t x;
	x = (x ? x : vs_ticks() | 1) * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	if ((x >> 33) % 4096 == 0)
		break_link(l);
	return (x >> 40) % 8 != 0;
}

static bool wants_rc(struct vs_link *l)
{
	if (random_mode())
		return toss(l);
	return vs_link_always() || (l->c.side == 0 ? vs_group_wants_rc(&l->member) : atomic_load(&l->peer_wants_rc));
}

static bool op_may_start(const struct vs_conn *c)
{
	struct vs_link *l = vs_link_of(c);
	/* Of a queue pair that has failed, the ring takes what it has room for until the receiver has said how far he is. */
	if (l && atomic_load(&l->broken) && atomic_load(&l->state) == VS_LINK_UP && !atomic_load(&l->answered) && !atomic_load(&l->freeze_asked) &&
	    vs_epoch_is_ring(atomic_load(&vs_tx(c)->epoch_tx)))
		return true;
	if (!l || !usable(l) || l->rx_frozen || atomic_load(&l->answered) || atomic_load(&forking))
		return false;
	if (!wants_rc(l) || atomic_load(&c->slot->end[c->side].holders) != 1) {
		/* Looking here after every read costs the receiver time. */
		if (atomic_exchange(&l->peer_grants, false) && has_room(l)) {
			atomic_fetch_add(&l->ask_number, 1);
			post_note(l, (struct vs_note){ .kind = VS_NOTE_WITHDRAW });
		}
		return false;
	}
	if (vs_epoch_is_ring(atomic_load(&vs_tx(c)->epoch_tx)) || atomic_exchange(&l->peer_grants, false))
		return true;
	uint64_t now = vs_now_ns();
	if (now - l->asked_ns > (random_mode() ? ASK_NS / 100 : ASK_NS) && (c->side == 0 || atomic_load(&l->heard)) && has_room(l)) {
		l->asked_ns = now;
		post_note(l, (struct vs_note){ .kind = VS_NOTE_ASK, .seen = atomic_fetch_add(&l->ask_number, 1) + 1 });
		ibv_req_notify_cq(device->cq, 0); /* the answer is for the agent */
	}
	return false;
}

static bool op_start(const struct vs_conn *c)
{
	struct vs_link *l = vs_link_of(c);
	struct vs_dir *d = vs_tx(c);
	uint32_t e = atomic_load(&d->epoch_tx);
	struct vs_boundary *b = vs_boundary_of(d, e);
	struct vs_note n = { .kind = VS_NOTE_START, .epoch = e, .size = atomic_load(&b->size), .twin = atomic_load(&b->twin),
			     .ring = atomic_load(&b->ring) };
	if (!l)
		return false;
	l->begun = false;
	vs_watch_fresh(c->slot, c->side, true, n.ring);
	if (!has_room(l) || !post_note(l, n))
		return false;
	/* Its doorbell must not overtake it: in a plain epoch it would be taken for data. */
	while (atomic_load(&l->outstanding) > 0 && usable(l)) {
		vs_link_poll();
		vs_pause();
	}
	l->begun = atomic_load(&l->outstanding) == 0 && usable(l);
	return l->begun;
}

static bool post_data(struct vs_link *l, uint64_t at, size_t n, uint32_t size, uint32_t bell)
{
	uint32_t pos = (uint32_t)(at & (size - 1));
	if (!begin_post(l))
		return false;
	struct ibv_sge sge = { (uintptr_t)vs_ring_of(l->c.slot, l->c.side) + pos, (uint32_t)n, l->mr[0]->lkey };
	struct ibv_send_wr wr = {
		.sg_list = &sge,
		.num_sge = 1,
		.opcode = IBV_WR_RDMA_WRITE_WITH_IMM,
		.imm_data = htobe32((uint32_t)n | bell),
		.wr.rdma = { .remote_addr = l->peer.ring + pos, .rkey = l->peer.rkey },
	};
	bool posted = post(l, &wr);
	atomic_fetch_sub(&l->posting, 1);
	return posted;
}

/* For a receiver that compares: at each block's end and at the end, so that it can wherever it stops reading. */
static void say_hashes(struct vs_link *l, uint64_t at, size_t n)
{
	struct vs_hash h;
	for (uint64_t to = at; to != at + n;) {
		uint64_t left = at + n - to, block = VS_WATCH_BLOCK - to % VS_WATCH_BLOCK;
		to += left < block ? left : block;
		if (vs_watch_hash_at(l->c.slot, l->c.side, to, &h) && has_room(l))
			post_note(l, (struct vs_note){ .kind = VS_NOTE_HASH, .ring = h.at, .seen = h.hash, .twin = h.word });
	}
}

static bool op_sent(const struct vs_conn *c, int fd, uint64_t at, size_t n)
{
	struct vs_link *l = vs_link_of(c);
	struct vs_dir *d = vs_tx(c);
	uint32_t e = atomic_load(&d->epoch_tx), size = atomic_load(&vs_boundary_of(d, e)->size);
	if (!l || !vs_size_ok(size))
		return false;
	l->fd = fd;
	if (vs_watched(d))
		say_hashes(l, at, n);
	while (n > 0) {
		/* What a broken link has not carried stays in the ring until the receiver has said what it has. */
		if (!has_room(l))
			return true;
		size_t piece = size - (at & (size - 1));
		if (piece > n)
			piece = n;
		uint32_t bell = atomic_load(&d->bell);
		bool ring = VS_BELL_EPOCH(bell) != e || VS_BELL_STATE(bell) == VS_ARMED;
		/* Said before the data goes: the receiver may have read it, and asked for the next doorbell, before this one is on its way. */
		ring = ring && atomic_compare_exchange_strong(&d->bell, &bell, VS_BELL(e, VS_RUNG));
		if (!post_data(l, at, piece, size, ring ? VS_IMM_BELL : 0)) {
			if (ring)
				atomic_store(&d->bell, VS_BELL(e, VS_ARMED));
			return true;
		}
		if (ring && !vs_tx_send_bell(d, fd))
			return false;
		at += piece, n -= piece;
	}
	return true;
}

static bool twin_dead(int fd)
{
	struct pollfd p = { .fd = fd };
	return vs_sys_poll_now(&p, 1) == 1 && (p.revents & (DEAD | POLLNVAL));
}

/* The other end sends no more: it has shut its direction down, or is no more. */
static bool twin_ended(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLRDHUP };
	return vs_sys_poll_now(&p, 1) == 1;
}

static void rest(uint64_t since)
{
	uint64_t now = vs_now_ns();
	struct timespec nap = { 0, 200000 };
	if (now - since > 2000000)
		vs_sys(SYS_nanosleep, &nap, 0);
	else if (now - since > 20000)
		vs_sys_yield();
	else
		vs_pause();
}

static uint64_t end_limit(int fd)
{
	return vs_sys(SYS_fcntl, fd, 3 /* F_GETFL */) & 04000 /* O_NONBLOCK */ ? END_NONBLOCKING_NS : END_NS;
}

static bool op_end(const struct vs_conn *c, int fd)
{
	struct vs_link *l = vs_link_of(c);
	struct vs_dir *d = vs_tx(c);
	uint32_t e = (atomic_load(&d->epoch_tx) + 1) & VS_EPOCH_MASK;
	bool told = false;
	if (!l)
		return true;
	const uint64_t limit = end_limit(fd);
	/* He may have read all that he knew of, and be about to ask for a doorbell that nobody can ring any more when the epoch is over. And a socket
	 * that has no owner any more answers with a reset. */
	if (l->begun && (twin_ended(fd) || atomic_load(&d->tail) != atomic_load(&d->head)) && vs_tx_ring_bell(d, fd) &&
	    has_room(l))
		post_note(l, (struct vs_note){ .kind = VS_NOTE_BELL });
	for (uint64_t start = vs_now_ns(); vs_now_ns() - start < limit; rest(start)) {
		if (atomic_load(&l->gone))
			return true;
		if (atomic_load(&l->freeze_asked)) {
			vs_link_thaw(l);
			return true;
		}
		if (!told && has_room(l)) {
			struct vs_note n = { .kind = VS_NOTE_END, .epoch = e, .twin = atomic_load(&d->twin_sent), .ring = atomic_load(&d->tail) };
			told = post_note(l, n);
		}
		vs_link_poll();
		if (told && usable(l) && atomic_load(&l->outstanding) == 0)
			return true;
		if (twin_dead(fd))
			return true;
	}
	return false;
}

void vs_link_thaw(struct vs_link *l)
{
	struct vs_dir *d = vs_tx(&l->c);
	uint32_t e = atomic_load(&d->epoch_tx), asked = l->ask_epoch;
	uint64_t ring = l->ask_ring, head, tail = atomic_load(&d->tail);
	bool in_ring = vs_epoch_is_ring(e);
	struct vs_boundary *b = vs_boundary_of(d, e);
	/* Nobody else wakes him for what came unannounced. */
	if (!l->answered && in_ring && asked == e && has_fd(l))
		vs_tx_send_bell(d, l->fd);
	enum vs_locked k = vs_lock(&vs_poll_lock); /* no position may come in between */
	head = atomic_load(&d->head);
	if (!l->answered) {
		struct vs_datagram a = { .epoch = e & ~1u };
		if (in_ring && asked == ((e + 1) & VS_EPOCH_MASK)) { /* it has all, and knows the end of the epoch */
			vs_tx_end_ring(d);
		} else if (in_ring && (asked == e || asked == ((e - 1) & VS_EPOCH_MASK))) {
			uint64_t from = asked == e ? ring : atomic_load(&b->ring);
			if (from - head > tail - head) {
				vs_corrupt(d);
				from = tail;
			}
			a = (struct vs_datagram){ .epoch = e, .ring = from, .twin_start = atomic_load(&b->twin) };
			l->known_head = head;
			atomic_store(&d->head, from);
			vs_tx_end_ring(d);
			b = vs_boundary_of(d, e + 1);
			atomic_store(&b->ring, from);
			a.twin = atomic_load(&b->twin);
			if (from != tail)
				atomic_store(&d->bell, VS_BELL((e + 1) & VS_EPOCH_MASK, VS_FROZEN));
			else
				atomic_store(&d->head, head);
		} else if (!in_ring && e > 0 && asked == e - 1) { /* we had ended it, and it had all */
			a = (struct vs_datagram){ .epoch = e - 1, .ring = atomic_load(&b->ring), .twin = atomic_load(&b->twin),
						  .twin_start = atomic_load(&vs_boundary_of(d, e - 1)->twin) };
		}
		l->answer = a;
		l->answered = true;
	}
	if (k != VS_LOCK_NESTED)
		vs_unlock(&vs_poll_lock);
	atomic_store(&l->peer_grants, false);
	atomic_store(&l->freeze_asked, false);
	vs_agent_send(l, VS_THAW);
}

static void op_rung(const struct vs_conn *c)
{
	struct vs_link *l = vs_link_of(c);
	if (l)
		post_note(l, (struct vs_note){ .kind = VS_NOTE_BELL });
}

static void op_consumed(const struct vs_conn *c)
{
	struct vs_link *l = vs_link_of(c);
	struct vs_dir *d = vs_rx(c);
	if (!l)
		return;
	uint32_t e = atomic_load_explicit(&d->epoch_rx, memory_order_relaxed);
	uint32_t size = vs_epoch_is_ring(e) ? atomic_load(&vs_boundary_of(d, e)->size) : 0;
	if (e != l->told_epoch || atomic_load_explicit(&d->head, memory_order_relaxed) - l->told_head >= size / 4)
		vs_link_position(l, 0, 0);
}

static void op_arm(const struct vs_conn *c, uint64_t seen)
{
	struct vs_link *l = vs_link_of(c);
	if (l)
		vs_link_position(l, VS_NOTE_ARM, seen);
}

void vs_link_stop(struct vs_link *l, bool keep)
{
	struct vs_dir *d = vs_rx(&l->c);
	struct ibv_qp_attr error = { .qp_state = IBV_QPS_ERR };
	enum vs_locked k = vs_lock(&vs_poll_lock);
	/* From here on the peer is told of nothing more that it has arrived; what it was told of is taken. */
	if (l->qp)
		vs_verbs.modify_qp(l->qp, &error, IBV_QP_STATE);
	take_all(false);
	atomic_store(&l->broken, true);
	l->rx_frozen = true;
	l->freeze_epoch = atomic_load(&d->epoch_tx);
	/* When it has ended the epoch, what follows is on the twin, and the rest of the ring is for readers with the library. */
	l->freeze_ring = keep || !vs_epoch_is_ring(l->freeze_epoch) ? atomic_load(&d->tail) : atomic_load(&d->head);
	atomic_store(&l->granted, false);
	atomic_store(&l->grant_wanted, false);
	atomic_store(&l->freezing, true);
	if (k != VS_LOCK_NESTED)
		vs_unlock(&vs_poll_lock);
}

void vs_link_settle(struct vs_link *l)
{
	struct vs_dir *d = vs_rx(&l->c);
	if (!atomic_load(&l->thawed) || !atomic_load(&l->freezing))
		return;
	const struct vs_datagram *a = &l->thaw;
	uint32_t e = a->epoch, here = atomic_load(&d->epoch_tx);
	if (vs_epoch_is_ring(e) && (here == e || here == ((e - 1) & VS_EPOCH_MASK))) {
		struct vs_boundary *b = vs_boundary_of(d, e);
		uint64_t ring = here == e && a->ring == l->freeze_ring ? a->ring : atomic_load(&d->tail);
		if (here != e) {
			atomic_store(&b->twin, a->twin_start);
			atomic_store(&b->ring, ring);
			atomic_store(&b->size, VS_RING_MIN);
		}
		b = vs_boundary_of(d, e + 1);
		atomic_store(&b->twin, a->twin);
		atomic_store(&b->ring, ring);
		atomic_store(&b->size, 0);
		atomic_store(&d->twin_sent, a->twin);
		atomic_store(&d->tail, ring);
		atomic_store(&d->epoch_tx, (e + 1) & VS_EPOCH_MASK);
	}
	atomic_store(&d->expecting, 0);
	atomic_store(&l->freezing, false);
}

static void op_settle(const struct vs_conn *c)
{
	struct vs_link *l = vs_link_of(c);
	if (l)
		vs_link_settle(l);
}

static bool op_freeze(const struct vs_conn *c, int fd)
{
	struct vs_link *l = vs_link_of(c);
	if (!l)
		return true;
	if (atomic_load(&l->state) == VS_LINK_UP && !atomic_load(&l->freezing))
		vs_link_stop(l, false);
	const uint64_t limit = end_limit(fd);
	for (uint64_t start = vs_now_ns(), next = 0; atomic_load(&l->freezing) && !atomic_load(&l->thawed); rest(start)) {
		uint64_t now = vs_now_ns();
		if (now - start > limit || twin_dead(fd) || atomic_load(&l->gone))
			break;
		if (now >= next) {
			vs_agent_send(l, VS_FREEZE);
			next = now + 20000000;
		}
	}
	vs_link_settle(l);
	return !atomic_load(&l->freezing);
}

static uint64_t op_reader(const struct vs_conn *c, uint64_t ring)
{
	struct vs_link *l = vs_link_of(c);
	return l ? l->known_head : ring;
}

static void op_reading(const struct vs_conn *c)
{
	struct vs_link *l = vs_link_of(c);
	if (l && __builtin_expect(atomic_load_explicit(&l->grant_wanted, memory_order_relaxed), 0))
		grant(l);
}

static void op_moved(const struct vs_conn *c, size_t n, bool rc)
{
	struct vs_link *l = vs_link_of(c);
	if (!l || c->side != 0 || vs_link_always() || random_mode() || !try_lock(&l->choosing))
		return;
	bool decided_rc;
	/* Who leaves has said so before he takes the lock. */
	bool changed = usable(l) && vs_group_moved(&l->member, there(l), vs_now_ns(), n, rc, atomic_load(&vs_tx(c)->tx_bells));
	if (changed && vs_group_decided(&l->member, &decided_rc))
		atomic_store(&c->slot->road, decided_rc ? VS_ROAD_FASTER : VS_ROAD_SLOWER);
	vs_unlock(&l->choosing);
	if (changed) {
		atomic_store(&l->position_wanted, true);
		vs_agent_wake();
	}
}

static bool op_died(const struct vs_conn *c)
{
	struct vs_link *l = vs_link_of(c);
	vs_link_poll();
	return l && (!atomic_load(&l->freezing) || atomic_load(&l->gone));
}

static void op_left(const struct vs_conn *c)
{
	struct vs_link *l = vs_link_of(c);
	if (!l)
		return;
	/* What waits for us over there shall not wait. */
	if (usable(l) && post_note(l, (struct vs_note){ .kind = VS_NOTE_GONE }))
		for (uint64_t start = vs_now_ns(); vs_now_ns() - start < GONE_NS && atomic_load(&l->outstanding) > 0 && usable(l); vs_pause())
			vs_link_poll();
	if (l->qp)
		vs_agent_send(l, VS_BYE);
	/* First, so that the agent begins nothing with a queue pair that goes. */
	atomic_store(&l->state, VS_LINK_NONE);
	enum vs_locked k = vs_lock(&l->choosing);
	vs_group_leave(&l->member);
	if (k != VS_LOCK_NESTED)
		vs_unlock(&l->choosing);
	vs_link_destroy(l);
	atomic_store(&c->slot->end[!c->side].closed, 1);
}

static void op_wanted(const struct vs_conn *c, int fd)
{
	struct vs_link *l = vs_agent_start() ? vs_link_make(c, fd) : NULL;
	if (!l)
		return;
	atomic_store(&c->slot->end[c->side].port, vs_agent_port());
	atomic_store(&c->slot->road, VS_ROAD_SEARCHED);
	atomic_store(&l->state, VS_LINK_FINDING);
	l->next_ns = 1;
	vs_agent_wake();
}

static void op_forked(void)
{
	memset(links, 0, sizeof links);
	device = NULL;
	atomic_store(&vs_poll_lock, 0);
	vs_device_forget();
	vs_group_forget();
	vs_ud_forked();
	vs_agent_forked();
}

static void op_far_receiver(struct vs_inbox *in)
{
	if (vs_agent_start())
		atomic_store(&in->port, vs_agent_port());
}

static const struct vs_remote_ops ops = {
	.wanted = op_wanted,
	.poll = op_poll,
	.sync = op_sync,
	.nap = op_nap,
	.doze = op_doze,
	.may_start = op_may_start,
	.start = op_start,
	.sent = op_sent,
	.rung = op_rung,
	.end = op_end,
	.consumed = op_consumed,
	.arm = op_arm,
	.freeze = op_freeze,
	.settle = op_settle,
	.reader = op_reader,
	.reading = op_reading,
	.moved = op_moved,
	.died = op_died,
	.left = op_left,
	.forked = op_forked,
	.far = vs_ud_far,
	.far_send = vs_ud_send,
	.far_left = vs_ud_left,
	.far_receiver = op_far_receiver,
};

__attribute__((constructor)) static void install(void) { vs_remote = &ops; }
