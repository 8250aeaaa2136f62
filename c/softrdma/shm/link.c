/* link.c - introductions, death, doorbells. */
#define _GNU_SOURCE
#include "link.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "../engine/lock.h"
#include "../engine/state.h"
#include "export.h"
#include "registry.h"
#include "road.h"
#include "shm.h"

#define INTRODUCTION_MS 10000 /* a peer's helper thread may wait long for a CPU; giving up means taking the wire for good */
#define DATAGRAM_INTRODUCTION_MS 1000 /* UD: another datagram may try again */
#define DATAGRAM_RETRY_NS 5000000000u

static int listener = -1;
static struct sr_watch listen_watch;
static uint64_t prepared[SR_SLOTS]; /* generation of the peer that our ring to its slot was last emptied for; sr.control */

/* A socket to a peer. Watched, and freed only by its own handler on the helper thread. */
struct conn {
	struct sr_watch watch;
	unsigned slot; /* 0 until its hello came */
	uint64_t generation;
	struct conn *next; /* all, for a forked child to close */
};

static struct conn *conns; /* under sr.control */

#define LOOK_EVERY_NS 500000000u
static _Atomic unsigned unwatched; /* links; written under sr.lock */
static uint64_t look_at_ns;        /* when to look for dead ones among them; the helper thread's, written under sr.lock */

/* ---- hello ----------------------------------------------------------------------------------------------------------- */

static int send_hello(int fd)
{
	struct sr_hello h = { SR_SEGMENT_MAGIC, SR_SEGMENT_VERSION, sr.slot, sr_own.base->generation };
	struct iovec iov = { &h, sizeof h };
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(2 * sizeof(int))];
	} control;
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
	int fds[2] = { sr_own.fd, sr_helper_doorbell_fd() };
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof fds);
	memcpy(CMSG_DATA(c), fds, sizeof fds);
	return sendmsg(fd, &msg, MSG_NOSIGNAL) == sizeof h ? 0 : EPIPE;
}

/* Reads a hello without waiting. 0 and two descriptors that the caller owns, or an errno (ECONNRESET: the socket ended). */
static int recv_hello(int fd, struct sr_hello *h, int fds[2])
{
	struct iovec iov = { h, sizeof *h };
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(4 * sizeof(int))];
	} control;
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
	ssize_t n = recvmsg(fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n < 0)
		return errno;
	int got[4], count = 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c))
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
			size_t k = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
			for (size_t i = 0; i < k && count < 4; i++)
				memcpy(&got[count++], CMSG_DATA(c) + i * sizeof(int), sizeof(int));
		}
	if (n == sizeof *h && count == 2 && h->magic == SR_SEGMENT_MAGIC && h->version == SR_SEGMENT_VERSION && h->slot > 0 &&
	    h->slot < SR_SLOTS - 1) {
		memcpy(fds, got, 2 * sizeof(int));
		return 0;
	}
	while (count)
		close(got[--count]);
	return n == 0 ? ECONNRESET : EPROTO;
}

static bool same_user(int fd)
{
	struct ucred cred;
	socklen_t len = sizeof cred;
	return !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) && cred.uid == geteuid();
}

/* ---- links ------------------------------------------------------------------------------------------------------------ */

/* Our ring to a slot begins empty for each new owner of the slot. Under sr.control. */
static void prepare_tx(unsigned slot, uint64_t generation)
{
	if (prepared[slot] == generation)
		return;
	prepared[slot] = generation;
	memset(sr_seg_ring(sr_own.base, slot), 0, SR_RING_LINES * sizeof(struct sr_ring_line));
	memset(sr_seg_ctl(sr_own.base, slot), 0, sizeof(struct sr_ring_ctl));
}

static void lost(unsigned slot, uint64_t generation);

/* Under sr.control. Takes over both descriptors. */
static struct sr_link *install(unsigned slot, uint64_t generation, int segment_fd, int doorbell)
{
	struct sr_link *l = sr.link_by_slot[slot];
	if (l && l->generation == generation) { /* introduced from both sides at once */
		close(segment_fd);
		close(doorbell);
		return l;
	}
	l = calloc(1, sizeof *l);
	if (sr.link_by_slot[slot])
		lost(slot, sr.link_by_slot[slot]->generation); /* of a dead owner of the slot, whose end was not noticed yet */
	if (!l || !(l->peer = sr_segment_map(segment_fd, slot, generation))) {
		close(segment_fd);
		close(doorbell);
		free(l);
		return NULL;
	}
	close(segment_fd);
	prepare_tx(slot, generation);
	l->slot = slot;
	l->generation = generation;
	l->doorbell = doorbell;
	l->tx.lines = sr_seg_ring(sr_own.base, slot);
	l->tx.ctl = sr_seg_ctl(sr_own.base, slot);
	l->rx.lines = sr_seg_ring(l->peer, sr.slot);
	l->rx.ctl = sr_seg_ctl(l->peer, sr.slot);
	sr_list_init(&l->acks);
	sr_list_init(&l->owed);
	sr_list_init(&l->blocked);
	sr_list_init(&l->qps);
	sr_lock();
	sr_list_add_tail(&sr.links, &l->node);
	__atomic_store_n(&sr.link_by_slot[slot], l, __ATOMIC_RELEASE);
	sr_unlock();
	return l;
}

static void lost(unsigned slot, uint64_t generation)
{
	struct sr_link *l = NULL;
	sr_lock();
	sr_list_for(n, tmp, &sr.links) {
		struct sr_link *i = sr_list_entry(n, struct sr_link, node);
		if (i->slot == slot && i->generation == generation)
			l = i;
	}
	if (!l) {
		sr_unlock();
		return;
	}
	SR_COUNT(shm_links_lost);
	unwatched -= l->unwatched;
	sr_shm_drain(l);
	sr_list_del(&l->node);
	if (sr.link_by_slot[slot] == l)
		__atomic_store_n(&sr.link_by_slot[slot], NULL, __ATOMIC_RELAXED);
	sr_list_for(n, tmp, &l->blocked) {
		struct sr_qp *qp = sr_list_entry(n, struct sr_qp, shm.blocked_node);
		sr_list_del(n);
		if (qp->type == IBV_QPT_UD)
			sr_shm_on_timer(qp);
	}
	sr_list_for(n, tmp, &l->qps) {
		struct sr_qp *qp = sr_list_entry(n, struct sr_qp, shm.link_node);
		/* A queue pair that the peer had closed before is not our peer's death: as on a wire, we learn of it when we send. */
		bool was_alive = atomic_load(&sr_seg_qp(l->peer, qp->dest_qpn)->qpn) == qp->dest_qpn;
		if (!was_alive && qp->sq.tail == qp->sq.head) {
			sr_shm_qp_reset(qp);
			qp->road = SR_ROAD_NONE;
			sr_shm_publish_qp(qp);
			continue;
		}
		sr_qp_event(qp, IBV_EVENT_QP_FATAL);
		if (sr_qp_reliable(qp) && qp->sq.tail != qp->sq.head) {
			if (qp->sq.tail == qp->sq.next) /* it waits for its turn, or was sent in part */
				qp->sq.next++;
			sr_sq_fail(qp, IBV_WC_RETRY_EXC_ERR, 0);
		}
		sr_qp_to_error(qp);
	}
	sr_shm_forget_control(l);
	sr_unlock();
	sr_segment_unmap(l->peer);
	close(l->doorbell);
	free(l);
}

/* ---- sockets ------------------------------------------------------------------------------------------------------------ */

static void drop(struct conn *c)
{
	pthread_mutex_lock(&sr.control);
	for (struct conn **p = &conns; *p; p = &(*p)->next)
		if (*p == c) {
			*p = c->next;
			break;
		}
	pthread_mutex_unlock(&sr.control);
	sr_helper_unwatch(&c->watch);
	close(c->watch.fd);
	free(c);
}

static bool dead(unsigned slot, uint64_t generation)
{
	return !sr_registry_alive(slot) || sr_registry_generation(slot) != generation;
}

/* A socket's end is not yet a death: an introduction may have been given up, another socket may serve the link, or the program
 * closed all descriptors it did not know. The registry's lock decides; it falls within moments of the socket when a process ends. */
static void socket_ended(unsigned slot, uint64_t generation)
{
	for (int i = 0; i < 10; i++) {
		if (dead(slot, generation)) {
			lost(slot, generation);
			return;
		}
		usleep(2000);
	}
	sr_lock();
	struct sr_link *l = sr.link_by_slot[slot];
	if (l && l->generation == generation && !l->unwatched) {
		l->unwatched = true;
		unwatched++;
	}
	sr_unlock();
}

void sr_shm_look_for_dead(void)
{
	unsigned slots[SR_SLOTS];
	uint64_t generations[SR_SLOTS];
	unsigned n = 0;
	if (!atomic_load_explicit(&unwatched, memory_order_relaxed) || sr_now_ns() < look_at_ns)
		return;
	sr_lock();
	look_at_ns = sr_now_ns() + LOOK_EVERY_NS;
	sr_list_for(node, tmp, &sr.links) {
		struct sr_link *l = sr_list_entry(node, struct sr_link, node);
		if (l->unwatched) {
			slots[n] = l->slot;
			generations[n++] = l->generation;
		}
	}
	sr_unlock();
	while (n--)
		if (dead(slots[n], generations[n]))
			lost(slots[n], generations[n]);
}

uint64_t sr_shm_look_at_ns(void)
{
	return atomic_load_explicit(&unwatched, memory_order_relaxed) ? look_at_ns : UINT64_MAX;
}

static void conn_ready(void *arg)
{
	struct conn *c = arg;
	struct sr_hello h;
	int fds[2];
	int err = recv_hello(c->watch.fd, &h, fds);
	if (err == EAGAIN || err == EINTR)
		return;
	if (err || c->slot) { /* the peer went away, or talks out of turn */
		if (!err) {
			close(fds[0]);
			close(fds[1]);
		}
		if (c->slot)
			socket_ended(c->slot, c->generation);
		drop(c);
		return;
	}
	pthread_mutex_lock(&sr.control);
	struct sr_link *l = NULL;
	/* Only the present owner of a slot speaks for it. */
	if (h.slot != sr.slot && sr_registry_alive(h.slot) && sr_registry_generation(h.slot) == h.generation) {
		l = install(h.slot, h.generation, fds[0], fds[1]);
	} else {
		close(fds[0]);
		close(fds[1]);
	}
	pthread_mutex_unlock(&sr.control);
	if (!l || send_hello(c->watch.fd)) {
		if (l) /* it went away before it was greeted: without a socket its death would never be seen */
			socket_ended(h.slot, h.generation);
		drop(c);
		return;
	}
	c->slot = h.slot;
	c->generation = h.generation;
}

/* Under sr.control. */
static struct conn *adopt(int fd, unsigned slot, uint64_t generation)
{
	struct conn *c = calloc(1, sizeof *c);
	if (!c)
		return NULL;
	c->watch = (struct sr_watch){ fd, conn_ready, c };
	c->slot = slot;
	c->generation = generation;
	c->next = conns;
	conns = c;
	if (sr_helper_watch(&c->watch)) {
		conns = c->next;
		free(c);
		return NULL;
	}
	return c;
}

static void listener_ready(void *arg)
{
	(void)arg;
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0)
		return;
	pthread_mutex_lock(&sr.control);
	if (!same_user(fd) || !adopt(fd, 0, 0))
		close(fd);
	pthread_mutex_unlock(&sr.control);
}

int sr_shm_listen(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (listener < 0)
		return errno;
	sr_registry_socket_path(sr.slot, addr.sun_path, sizeof addr.sun_path);
	unlink(addr.sun_path); /* of a dead owner of our slot */
	/* The socket file takes its mode from here: 0600. */
	if (fchmod(listener, 0600) || bind(listener, (struct sockaddr *)&addr, sizeof addr) || listen(listener, 128)) {
		int err = errno;
		close(listener);
		listener = -1;
		return err;
	}
	listen_watch = (struct sr_watch){ listener, listener_ready, NULL };
	return sr_helper_watch(&listen_watch);
}

static struct sr_link *self_link(void)
{
	pthread_mutex_lock(&sr.control);
	struct sr_link *l = sr.link_by_slot[sr.slot];
	if (!l) {
		int bell = fcntl(sr_helper_doorbell_fd(), F_DUPFD_CLOEXEC, 0), seg = fcntl(sr_own.fd, F_DUPFD_CLOEXEC, 0);
		l = install(sr.slot, sr_own.base->generation, seg, bell);
	}
	pthread_mutex_unlock(&sr.control);
	return l;
}

/* The link to the slot's owner of this generation, if there is one already. */
static struct sr_link *existing(unsigned slot, uint64_t generation)
{
	sr_lock(); /* it could be lost, and freed, while we look */
	struct sr_link *l = sr.link_by_slot[slot];
	if (l && l->generation != generation)
		l = NULL;
	sr_unlock();
	return l;
}

static struct sr_link *introduce(unsigned slot, int wait_ms)
{
	if (slot == sr.slot) {
		struct sr_link *self = existing(slot, sr_own.base->generation);
		return self ? self : sr_registry_shm_ok(slot) ? self_link() : NULL;
	}
	if (!sr_registry_alive(slot) || !sr_registry_shm_ok(slot) || !sr_registry_shm_ok(sr.slot))
		return NULL;
	uint64_t generation = sr_registry_generation(slot);
	struct sr_link *l = existing(slot, generation);
	if (l)
		return l;

	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	sr_registry_socket_path(slot, addr.sun_path, sizeof addr.sun_path);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return NULL;
	pthread_mutex_lock(&sr.control);
	l = sr.link_by_slot[slot];
	if (l && l->generation != generation)
		lost(slot, l->generation); /* it must not write to the ring that is emptied now */
	if (!sr.link_by_slot[slot])
		prepare_tx(slot, generation);
	pthread_mutex_unlock(&sr.control);

	/* The peer answers on its helper thread, which may itself be waiting for ours: nothing is locked here. */
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct sr_hello h;
	int fds[2];
	l = NULL;
	if (connect(fd, (struct sockaddr *)&addr, sizeof addr) || !same_user(fd) || send_hello(fd) ||
	    poll(&p, 1, wait_ms) != 1 || recv_hello(fd, &h, fds)) {
		close(fd);
		return NULL;
	}
	pthread_mutex_lock(&sr.control);
	if (h.slot == slot && h.generation == generation) {
		l = install(slot, generation, fds[0], fds[1]);
	} else {
		close(fds[0]);
		close(fds[1]);
	}
	if (!l || !adopt(fd, slot, generation)) {
		close(fd);
		if (l)
			lost(slot, generation);
		l = NULL;
	}
	pthread_mutex_unlock(&sr.control);
	return l;
}

struct sr_link *sr_shm_link(unsigned slot) { return introduce(slot, INTRODUCTION_MS); }

struct sr_link *sr_shm_link_for_datagram(unsigned slot)
{
	static _Atomic uint64_t not_before_ns[SR_SLOTS];
	uint64_t now = sr_now_ns();
	if (now < atomic_load_explicit(&not_before_ns[slot], memory_order_relaxed))
		return NULL;
	struct sr_link *l = introduce(slot, DATAGRAM_INTRODUCTION_MS);
	uint64_t then = sr_now_ns();
	if (!l && then - now > DATAGRAM_INTRODUCTION_MS * 500000ull) /* a slot without a process is found out at once */
		atomic_store_explicit(&not_before_ns[slot], then + DATAGRAM_RETRY_NS, memory_order_relaxed);
	return l;
}

/* ---- bells and sleep ----------------------------------------------------------------------------------------------- */

void sr_link_write_bell(struct sr_link *l)
{
	uint64_t one = 1;
	/* Who finds it asleep wakes it, once. */
	if (!atomic_exchange(&l->peer->asleep, 0))
		return;
	SR_COUNT(shm_doorbells);
	if (write(l->doorbell, &one, sizeof one) < 0) {
		/* full counter: it is being woken */
	}
}

void sr_shm_set_asleep(bool asleep)
{
	if (atomic_load_explicit(&sr_own.base->asleep, memory_order_relaxed) == asleep)
		return;
	atomic_store(&sr_own.base->asleep, asleep);
	if (asleep)
		sr_segment_heavy_fence();
}

bool sr_link_block(struct sr_link *l)
{
	atomic_store(&l->tx.ctl->blocked, 1); /* sequentially consistent: before the look below */
	uint32_t head = atomic_load(&l->tx.ctl->head);
	if (head == l->tx.head_seen) {
		l->dirty = true; /* a receiver that sleeps with lines it has not published must be woken */
		return false;
	}
	atomic_store_explicit(&l->tx.ctl->blocked, 0, memory_order_relaxed);
	return true;
}

int sr_shm_start(void)
{
	int err = sr_registry_join();
	return err ? err : sr_segment_create();
}

void sr_shm_after_fork(void)
{
	sr_export_after_fork();
	for (struct conn *c = conns; c; c = c->next)
		close(c->watch.fd);
	conns = NULL;
	sr_list_for(n, tmp, &sr.links) close(sr_list_entry(n, struct sr_link, node)->doorbell);
	if (listener >= 0)
		close(listener);
	listener = -1;
	memset(prepared, 0, sizeof prepared);
	unwatched = 0;
	sr_segment_abandon();
	sr_registry_abandon();
}
