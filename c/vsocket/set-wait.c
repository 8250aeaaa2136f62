/* set-wait.c - waits for epoll sets: who sleeps, and what the kernel and the rings have to tell. */
#define _GNU_SOURCE
#include "remote.h"
#include "set-members.h"
#include "sys.h"
#include "udp.h"

struct vs_set *vs_set_enter(int ep)
{
	struct vs_set *s = vs_set_find(ep);
	if (!s)
		return NULL;
	atomic_fetch_add(&s->inside, 1);
	if (s == vs_set_find(ep)) {
		if (!atomic_load_explicit(&s->waited, memory_order_relaxed))
			vs_set_begin_wait(s);
		return s;
	}
	atomic_fetch_sub(&s->inside, 1);
	return NULL;
}

void vs_set_leave(struct vs_set *s)
{
	if (atomic_fetch_sub(&s->inside, 1) > 1 || s->open || !vs_set_lock(s))
		return;
	if (!s->open && atomic_load(&s->inside) == 0)
		vs_set_give_board(s);
	vs_unlock(&s->lock);
}

bool vs_set_has_rings(const struct vs_set *s)
{
	return atomic_load_explicit(&s->rings, memory_order_relaxed) > 0 || vs_set_has_inboxes(s);
}

bool vs_set_ready(struct vs_set *s)
{
	struct vs_board *b = s->board;
	return atomic_load_explicit(&s->first, memory_order_relaxed) || (b && vs_board_any(b)) || vs_set_datagrams_ready(s);
}

void vs_set_sleep(struct vs_set *s, vs_ctl_fn *real, struct vs_sleep *how)
{
	/* Under the lock, so that no change is kept from the kernel from now on. */
	bool locked = vs_set_lock(s);
	struct vs_board *b = s->board;
	atomic_fetch_add(&s->asleep, 1);
	if (b)
		atomic_fetch_add(&b->sleepers, 1);
	else
		atomic_fetch_add(&s->blind, 1);
	if (b && atomic_load_explicit(&b->forced, memory_order_relaxed) && atomic_load(&s->blind) == 0 && !s->lent && s->open)
		atomic_store(&b->forced, 0);
	how->kind = b ? VS_SLEEP_POSTED : VS_SLEEP_BLIND;
	how->sockets = 0;
	for (unsigned i = 0; locked && i < atomic_load(&s->datagrams); i++) {
		struct vs_datagram_member *d = &s->datagram[i];
		struct vs_udp *u = vs_udp_of(atomic_load(&d->fd));
		if (!u)
			continue;
		/* What was told once is no reason to stay awake. */
		const uint32_t events = vs_members[atomic_load(&d->fd)].events;
		vs_udp_sleep(u, !(events & VS_IN_EVENTS) || ((events & EPOLLET) && vs_udp_tail(u) == atomic_load(&d->told)));
		how->socket[how->sockets++] = u;
	}
	if (locked) {
		vs_set_tell_all(s, real);
		vs_unlock(&s->lock);
	}
}

void vs_set_wake(struct vs_set *s, const struct vs_sleep *how)
{
	for (unsigned i = 0; i < how->sockets; i++)
		vs_udp_wake(how->socket[i]);
	if (how->kind == VS_SLEEP_BLIND)
		atomic_fetch_sub(&s->blind, 1);
	else
		atomic_fetch_sub(&s->board->sleepers, 1);
	atomic_fetch_sub(&s->asleep, 1);
}

/* The kernel takes a one-shot member for told, and it was not. Under the lock. */
static void arm_again(struct vs_set *s, int fd, vs_ctl_fn *real)
{
	struct epoll_event again = { .events = vs_members[fd].events, .data.u64 = vs_members[fd].data };
	real(s->ep, EPOLL_CTL_MOD, fd, &again);
}

static bool is_remote_member(const struct vs_member *m, int fd, struct vs_conn *c)
{
	return m->bit == VS_NO_BIT && !m->many && vs_fd_conn(fd, c) && vs_is_remote(c);
}

/* Between hosts a doorbell comes before its data or long after it, and some programs take a read that finds nothing for an error. */
static bool remote_in_vain(struct epoll_event *event, const struct vs_conn *c, int fd)
{
	if (!(event->events & VS_IN_EVENTS) || (event->events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)))
		return false;
	if (atomic_load_explicit(&vs_rx(c)->expecting, memory_order_relaxed))
		vs_remote->sync();
	if (!vs_rx_in_ring(c) || vs_rx_woken(c, fd))
		return false;
	event->events &= ~(uint32_t)VS_IN_EVENTS;
	return event->events == 0;
}

/* Whether an event that the kernel has told, in a call made when the set's clock was `since`, is to be kept from the application: because
 * it was only a doorbell, or because a ring has told it already. Takes doorbells out of it. */
static bool told_in_vain(struct vs_set *s, struct epoll_event *event, uint64_t since, vs_ctl_fn *real)
{
	struct vs_conn c;
	if (!vs_set_lock(s))
		return false;
	int fd = s->whole ? vs_set_member_with(s, event->data.u64) : -1;
	if (fd < 0) {
		/* Of one that a ring told to another thread, who has closed it meanwhile. */
		bool gone = s->whole && s->one_shots && fd == VS_NOBODY && vs_set_has_rings(s);
		vs_unlock(&s->lock);
		return gone;
	}
	struct vs_member *m = &vs_members[fd];
	if (is_remote_member(m, fd, &c)) {
		const bool shot = m->events & EPOLLONESHOT;
		vs_unlock(&s->lock);
		return !shot && remote_in_vain(event, &c, fd);
	}
	const bool one_shot = m->events & EPOLLONESHOT, ring = vs_member_conn(m, fd, &c);
	/* Asked for anew while the kernel's call was under way: the event may be of the time before, when a ring told it to another thread. If
	 * it is not, it comes again. */
	bool gone = m->ringed && one_shot && (m->spent || m->armed > since);
	if (gone && !m->spent)
		arm_again(s, fd, real);
	if (one_shot)
		m->spent |= !gone;
	/* The doorbell of an edge that has been told already may come late. */
	if (ring && s->board)
		vs_board_collect(s->board, vs_set_collected, s);
	bool edge = m->events & EPOLLET, told = ring && edge && !m->ready && !(event->events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) &&
						vs_rx_only_ring(&c) && vs_rx_ring_ready(&c) && vs_rx_is_edge_used(&c);
	vs_unlock(&s->lock);
	/* Asked without the lock: it may read the twin. */
	if (ring && !gone && (event->events & VS_IN_EVENTS) && vs_rx_in_ring(&c) && (told || !vs_rx_woken(&c, fd))) {
		event->events &= ~(uint32_t)VS_IN_EVENTS;
		gone = event->events == 0;
		if (gone && one_shot && vs_set_lock(s)) {
			if (vs_member_conn(m, fd, &c) && m->spent) {
				m->spent = false;
				arm_again(s, fd, real);
				if (vs_member_ready(m, &c))
					vs_set_list(s, fd);
			}
			vs_unlock(&s->lock);
		}
	}
	/* Looked at again while the sender rings: its doorbell may have come and gone already. */
	if (ring && edge && (!(event->events & VS_IN_EVENTS) || !vs_rx_edge_used(&c)) && vs_set_lock(s)) {
		if (vs_member_conn(m, fd, &c))
			vs_set_list(s, fd);
		vs_unlock(&s->lock);
	}
	return gone;
}

int vs_set_merge(struct vs_set *s, struct epoll_event *events, int n, int max, uint64_t since, vs_ctl_fn *real)
{
	int kept = 0;
	for (int i = 0; i < n; i++)
		if (!(vs_set_has_rings(s) || s->one_shots || vs_remotes) || !told_in_vain(s, &events[i], since, real))
			events[kept++] = events[i];
	if (!vs_set_ready(s) || !vs_set_lock(s))
		return kept;
	n = kept;
	uint32_t round = ++s->round;
	for (int i = 0; i < n && s->whole; i++) {
		int fd = vs_set_member_with(s, events[i].data.u64);
		if (fd < 0)
			continue;
		vs_members[fd].round = round;
		vs_members[fd].at = i;
	}
	if (s->board)
		vs_board_collect(s->board, vs_set_collected, s);
	/* Each of the list once; what stays ready goes to its end, so that all have their turn. */
	int last = s->last, fd = s->first - 1;
	while (fd >= 0) {
		struct vs_member *m = &vs_members[fd];
		int next = m->after - 1;
		bool is_last = fd + 1 == last;
		struct vs_conn c;
		bool known_conn = vs_member_conn(m, fd, &c);
		/* Read before its post came: the next data must be posted anew. */
		bool quiet = !known_conn || vs_rx_ring_ready(&c) || vs_rx_quiet(&c, fd);
		uint32_t now = known_conn ? vs_member_ready(m, &c) : 0;
		bool once = m->events & (EPOLLET | EPOLLONESHOT);
		if (now == 0 || (m->spent && m->round != round)) {
			if (quiet || m->removed || m->spent)
				vs_set_unlist(s, fd);
		} else if (m->round == round) { /* the kernel has told of it, too */
			events[m->at].events |= now;
			if (once)
				vs_set_unlist(s, fd);
		} else if (n < max) {
			events[n++] = (struct epoll_event){ .events = now, .data.u64 = m->data };
			vs_set_unlist(s, fd);
			if (m->events & EPOLLONESHOT) {
				struct epoll_event none = { .events = EPOLLONESHOT, .data.u64 = m->data };
				m->spent = true;
				real(s->ep, EPOLL_CTL_MOD, fd, &none);
			} else if (!once) {
				vs_set_list(s, fd);
			}
		} else {
			break;
		}
		if (once && now && !vs_rx_edge_used(&c) && (m->events & EPOLLET))
			vs_set_list(s, fd);
		if (is_last)
			break;
		fd = next;
	}
	n = vs_set_merge_datagrams(s, events, n, max);
	vs_unlock(&s->lock);
	return n;
}

uint64_t vs_set_clock(struct vs_set *s) { return atomic_load(&s->clock); }
_Atomic uint32_t *vs_set_spin_ns(struct vs_set *s) { return &s->spin_ns; }
_Atomic uint64_t *vs_set_looked(struct vs_set *s) { return &s->looked; }

_Static_assert(sizeof((struct vs_sleep *)0)->socket / sizeof(struct vs_udp *) >= VS_SET_DATAGRAMS, "a sleeper has room for all");
