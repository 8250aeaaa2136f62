/* set.c - changes of epoll sets: what the application asks for, and how much of it the kernel is told at once. */
#define _GNU_SOURCE
#include "set-members.h"
#include "remote.h"
#include "sys.h"
#include "udp.h"
#include <errno.h>

/* The ring has data: also threads that sleep in the kernel must come to know. */
static void tell(struct vs_board *b, const struct vs_conn *c, int fd)
{
	if (vs_board_post(b, vs_board_bit(c->slot, c->side)))
		vs_rx_announce(c, fd);
}

bool vs_set_attached(int fd, const struct vs_conn *c, bool relax)
{
	struct vs_dir *d = vs_rx(c);
	struct vs_set *s = vs_is_remote(c) || (!relax && atomic_load(&d->eager)) ? NULL : vs_set_lock_of(fd);
	if (!s)
		return false;
	struct vs_member *m = &vs_members[fd];
	unsigned bit = vs_board_bit(c->slot, c->side);
	if (!s->board && !s->lent)
		s->board = vs_board_take();
	struct vs_board *b = s->board;
	bool ours = b && s->open && !s->lent && !m->many && m->bit == VS_NO_BIT && atomic_load(&vs_member_of_bit[bit]) == 0;
	if (ours) {
		m->bit = bit;
		m->ringed = true;
		atomic_store(&vs_member_of_bit[bit], fd + 1);
		atomic_fetch_add(&s->rings, 1);
		atomic_store(&d->board, vs_board_row(b));
		atomic_store(&d->eager, 0);
	}
	vs_unlock(&s->lock);
	if (ours && !vs_rx_list(c, fd))
		tell(b, c, fd);
	return ours;
}

static void note_one_shot(struct vs_set *s, struct vs_member *m)
{
	if (!(m->events & EPOLLONESHOT))
		return;
	s->one_shots = true;
	m->armed = atomic_fetch_add(&s->clock, 1) + 1;
}

/* A new member. Under the lock. */
static void add(struct vs_set *s, int fd, const struct epoll_event *event)
{
	struct vs_member *m = &vs_members[fd];
	if (atomic_load(&m->set)) { /* of another set */
		s->whole = false;
		m->many = true;
		return;
	}
	*m = (struct vs_member){ .events = event->events, .data = event->data.u64, .bit = VS_NO_BIT, .told = *event };
	note_one_shot(s, m);
	vs_set_link_data(s, fd);
	atomic_store(&m->set, (uint16_t)(s - vs_sets + 1));
}

static void modify(struct vs_set *s, int fd, const struct epoll_event *event)
{
	struct vs_member *m = &vs_members[fd];
	vs_set_unlink_data(s, fd);
	m->events = event->events;
	m->data = event->data.u64;
	m->spent = false;
	note_one_shot(s, m);
	vs_set_link_data(s, fd);
}

/* Whether all of the member's events come from rings. */
static bool only_rings(const struct vs_set *s, int fd)
{
	struct vs_conn c;
	return s->board && vs_member_conn(&vs_members[fd], fd, &c) && vs_rx_in_ring(&c) && vs_tx_in_ring(&c);
}

/* Whether the kernel need not be told at once: nobody is in the kernel to wait for it, and whoever will be tells the kernel before. Of what
 * the kernel has to say of a connection that is known only once all waits are seen. */
static bool can_wait(const struct vs_set *s, int op, int fd, const struct epoll_event *event)
{
	const uint32_t special = EPOLLONESHOT | EPOLLEXCLUSIVE | EPOLLWAKEUP;
	struct vs_conn c;
	return s->open && s->whole && !s->lent && (op == EPOLL_CTL_DEL || event) && atomic_load(&s->asleep) == 0 &&
	       !((vs_members[fd].events | (op == EPOLL_CTL_DEL ? 0 : event->events)) & special) &&
	       (only_rings(s, fd) || (atomic_load(&s->waited) && !s->inherited && vs_fd_conn(fd, &c)));
}

/* epoll_ctl() on our side only. Returns 0 or -errno. */
static int change(struct vs_set *s, int op, int fd, const struct epoll_event *event)
{
	struct vs_member *m = &vs_members[fd];
	struct vs_conn c;
	if (m->removed != (op == EPOLL_CTL_ADD))
		return m->removed ? -ENOENT : -EEXIST;
	if (op == EPOLL_CTL_DEL) {
		vs_set_unlist(s, fd);
		vs_set_unlink_data(s, fd);
		m->removed = true;
	} else {
		m->removed = false;
		modify(s, fd, event);
		if (vs_member_conn(m, fd, &c) && vs_member_ready(m, &c))
			vs_set_list(s, fd);
	}
	if (!m->untold) {
		m->untold = true;
		m->next_untold = s->untold;
		s->untold = fd + 1;
	}
	if (op != EPOLL_CTL_DEL && !only_rings(s, fd))
		atomic_store_explicit(&s->looked, 0, memory_order_relaxed);
	return 0;
}

/* For those who do not have the C library's function. */
static int kernel_ctl(int ep, int op, int fd, struct epoll_event *event)
{
	return vs_sys(SYS_epoll_ctl, ep, op, fd, event) < 0 ? -1 : 0;
}

/* Another set has given it up, which the kernel does not know yet. */
static void take_over(const struct vs_set *s, int fd)
{
	struct vs_set *other = vs_set_known(fd) && vs_set_at(atomic_load(&vs_members[fd].set)) != s ? vs_set_lock_of(fd) : NULL;
	if (!other)
		return;
	if (other != s && vs_members[fd].removed) {
		vs_set_forget_untold(other, fd);
		vs_set_tell_kernel(other, fd, kernel_ctl);
	}
	vs_unlock(&other->lock);
}

/* It is in more than one set, or was said to be in one that is not known: whoever waits for it may not look at its ring. */
static void make_eager(int fd)
{
	struct vs_conn c;
	struct vs_set *s = vs_set_lock_of(fd);
	if (s) {
		vs_set_drop_ring(s, fd);
		vs_unlock(&s->lock);
	}
	if (vs_fd_conn(fd, &c))
		vs_rx_set_eager(&c, fd);
	struct vs_udp *u = vs_udp_of(fd);
	if (u)
		vs_udp_watched(u, VS_UDP_UNSEEN);
}

int vs_set_ctl(int ep, int op, int fd, struct epoll_event *event, vs_ctl_fn *real)
{
	struct vs_set *s = vs_set_find(ep);
	if (!s && op == EPOLL_CTL_ADD && ep >= 0) {
		vs_set_create(ep, false);
		s = vs_set_find(ep);
	}
	if (op == EPOLL_CTL_ADD)
		take_over(s, fd);
	if (!s || !vs_set_lock(s)) {
		int r = real(ep, op, fd, event);
		if (r == 0 && op == EPOLL_CTL_ADD) {
			vs_fd_watched(fd);
			make_eager(fd);
		}
		return r;
	}
	bool mine = (unsigned)fd < VS_FD_MAX && vs_set_at(atomic_load(&vs_members[fd].set)) == s, has_data = false;
	bool known_op = op == EPOLL_CTL_ADD || op == EPOLL_CTL_MOD || op == EPOLL_CTL_DEL;
	if (mine && known_op && can_wait(s, op, fd, event)) {
		int r = change(s, op, fd, event);
		vs_unlock(&s->lock);
		return (int)(r < 0 ? (errno = -r, -1) : 0);
	}
	if (mine && vs_members[fd].untold) {
		vs_set_forget_untold(s, fd);
		vs_set_tell_kernel(s, fd, real);
		mine = vs_set_at(atomic_load(&vs_members[fd].set)) == s;
	}
	int r = real(ep, op, fd, event);
	struct vs_board *b = s->board;
	struct vs_conn c;
	if (r == 0 && s->open) {
		if (op == EPOLL_CTL_ADD && (unsigned)fd < VS_FD_MAX)
			add(s, fd, event);
		else if (op == EPOLL_CTL_ADD)
			s->whole = false;
		else if (op == EPOLL_CTL_MOD && mine) {
			modify(s, fd, event);
			vs_members[fd].told = *event;
		}
		else if (op == EPOLL_CTL_DEL && mine)
			vs_set_drop(s, fd);
		if (op != EPOLL_CTL_DEL && (unsigned)fd < VS_FD_MAX)
			vs_set_note_datagram(s, fd);
		/* The changed interest may be an event at once, as it is for the kernel. */
		if (op == EPOLL_CTL_MOD && mine && vs_member_conn(&vs_members[fd], fd, &c) && vs_member_ready(&vs_members[fd], &c)) {
			vs_set_list(s, fd);
			has_data = vs_rx_ring_ready(&c);
		}
		/* Or the kernel has something to say. */
		if (op != EPOLL_CTL_DEL && !(mine && vs_members[fd].ready))
			atomic_store_explicit(&s->looked, 0, memory_order_relaxed);
	}
	vs_unlock(&s->lock);
	if (r == 0 && op == EPOLL_CTL_ADD) {
		vs_set_force(fd); /* a set in a set */
		vs_fd_watched(fd);
		if (vs_fd_conn(fd, &c) && !vs_set_attached(fd, &c, false))
			make_eager(fd);
	}
	if (has_data)
		tell(b, &c, fd);
	return r;
}

void vs_set_flush(struct vs_set *s, vs_ctl_fn *real)
{
	if (!s->untold || !vs_set_lock(s))
		return;
	vs_set_tell_all(s, real);
	vs_unlock(&s->lock);
}

void vs_set_flush_all(vs_ctl_fn *real)
{
	for (unsigned i = 0; i < VS_SETS && vs_set_known(0); i++) {
		struct vs_set *s = &vs_sets[i];
		if (!s->open || !vs_set_lock(s))
			continue;
		s->inherited = true;
		vs_set_tell_all(s, real);
		vs_unlock(&s->lock);
	}
}

void vs_set_force(int ep)
{
	struct vs_set *s = vs_set_find(ep);
	if (!s || !vs_set_lock(s))
		return;
	bool news = !s->lent;
	s->lent = true;
	vs_set_lend_datagrams(s);
	vs_set_tell_all(s, kernel_ctl);
	if (s->board)
		atomic_store(&s->board->forced, 1);
	vs_unlock(&s->lock);
	for (int fd = 0, top = vs_fd_highest(); news && fd <= top; fd++)
		if (vs_set_at(atomic_load(&vs_members[fd].set)) == s)
			make_eager(fd);
}

void vs_set_forget(int fd)
{
	struct vs_conn c;
	struct vs_set *s = vs_set_lock_of(fd);
	if (s) {
		/* Copies of the descriptor keep it in the kernel's set. */
		struct vs_udp *u = vs_udp_of(fd);
		bool copies = vs_fd_conn(fd, &c) && vs_fd_copies(&c) > 1;
		if (copies)
			s->whole = false;
		if (vs_members[fd].untold) {
			vs_set_forget_untold(s, fd);
			vs_set_tell_kernel(s, fd, kernel_ctl);
		}
		if (vs_set_at(atomic_load(&vs_members[fd].set)) == s)
			vs_set_drop(s, fd);
		vs_unlock(&s->lock);
		if (copies)
			vs_rx_set_eager(&c, fd);
		if (u)
			vs_udp_watched(u, VS_UDP_UNSEEN); /* as long as there are copies */
	}
	s = vs_set_find(fd);
	if (!s || vs_lock(&vs_sets_lock) == VS_LOCK_NESTED)
		return;
	if (vs_set_lock(s)) {
		vs_set_unname(fd);
		for (int i = 0; i < VS_SET_BUCKETS; i++)
			while (s->bucket[i])
				vs_set_drop(s, s->bucket[i] - 1);
		s->open = false;
		if (atomic_load(&s->inside) == 0)
			vs_set_give_board(s);
		else if (s->board)
			atomic_store(&s->board->forced, 1);
		vs_unlock(&s->lock);
	}
	vs_unlock(&vs_sets_lock);
}
