/* set-datagrams.c - UDP sockets in epoll sets: their inboxes are looked at one by one, for there are few in a set. */
#define _GNU_SOURCE
#include "set-members.h"
#include "udp.h"

static int index_of(const struct vs_set *s, int fd)
{
	for (unsigned i = 0; i < atomic_load(&s->datagrams); i++)
		if (atomic_load(&s->datagram[i].fd) == fd)
			return (int)i;
	return -1;
}

void vs_set_drop_datagram(struct vs_set *s, int fd)
{
	int i = index_of(s, fd);
	if (i < 0)
		return;
	unsigned last = atomic_load(&s->datagrams) - 1;
	atomic_store(&s->datagram[i].told, atomic_load(&s->datagram[last].told));
	atomic_store(&s->datagram[i].fd, atomic_load(&s->datagram[last].fd));
	atomic_store(&s->datagrams, last);
	struct vs_udp *u = vs_udp_of(fd);
	if (u)
		vs_udp_watched(u, VS_UDP_ALONE);
}

void vs_set_note_datagram(struct vs_set *s, int fd)
{
	struct vs_udp *u = vs_udp_of(fd);
	const struct vs_member *m = &vs_members[fd];
	if (!u)
		return;
	int i = index_of(s, fd);
	bool ours = s->open && !s->lent && !m->many && vs_set_at(atomic_load(&m->set)) == s && !(m->events & (EPOLLONESHOT | EPOLLEXCLUSIVE)) &&
		    (i >= 0 || atomic_load(&s->datagrams) < VS_SET_DATAGRAMS);
	if (!ours) {
		vs_set_drop_datagram(s, fd);
		vs_udp_watched(u, VS_UDP_UNSEEN);
		return;
	}
	if (i < 0) {
		i = (int)atomic_load(&s->datagrams);
		atomic_store(&s->datagram[i].fd, fd);
		/* Who sleeps does not know of it. */
		if (atomic_load(&s->asleep))
			atomic_store(&s->waited, false);
		vs_udp_watched(u, atomic_load(&s->waited) ? VS_UDP_SEEN : VS_UDP_UNSEEN);
		atomic_store(&s->datagrams, (uint32_t)i + 1);
	}
	atomic_store(&s->datagram[i].told, 0);
}

static void watch_all(struct vs_set *s, enum vs_udp_watched how)
{
	for (unsigned i = 0; i < atomic_load(&s->datagrams); i++) {
		struct vs_udp *u = vs_udp_of(atomic_load(&s->datagram[i].fd));
		if (u)
			vs_udp_watched(u, how);
	}
}

void vs_set_lend_datagrams(struct vs_set *s)
{
	watch_all(s, VS_UDP_UNSEEN);
	atomic_store(&s->datagrams, 0);
}

void vs_set_begin_wait(struct vs_set *s)
{
	if (atomic_load(&s->inside) > 1 || !vs_set_lock(s))
		return;
	if (s->open && !s->lent && atomic_load(&s->asleep) == 0) {
		atomic_store(&s->waited, true);
		watch_all(s, VS_UDP_SEEN);
	}
	vs_unlock(&s->lock);
}

bool vs_set_has_inboxes(const struct vs_set *s)
{
	for (unsigned i = 0; i < atomic_load_explicit(&s->datagrams, memory_order_relaxed); i++) {
		struct vs_udp *u = vs_udp_of(atomic_load_explicit(&s->datagram[i].fd, memory_order_relaxed));
		if (u && vs_udp_has_inbox(u))
			return true;
	}
	return false;
}

/* Something to tell. */
static bool is_due(const struct vs_datagram_member *d, struct vs_udp *u)
{
	const uint32_t events = vs_members[atomic_load_explicit(&d->fd, memory_order_relaxed)].events;
	return (events & VS_IN_EVENTS) && vs_udp_ready(u) &&
	       (!(events & EPOLLET) || vs_udp_tail(u) != atomic_load_explicit(&d->told, memory_order_relaxed));
}

bool vs_set_datagrams_ready(struct vs_set *s)
{
	for (unsigned i = 0; i < atomic_load_explicit(&s->datagrams, memory_order_relaxed); i++) {
		struct vs_udp *u = vs_udp_of(atomic_load_explicit(&s->datagram[i].fd, memory_order_relaxed));
		if (u && is_due(&s->datagram[i], u))
			return true;
	}
	return false;
}

int vs_set_merge_datagrams(struct vs_set *s, struct epoll_event *events, int n, int max)
{
	for (unsigned i = 0; i < atomic_load(&s->datagrams); i++) {
		struct vs_datagram_member *d = &s->datagram[i];
		const struct vs_member *m = &vs_members[atomic_load(&d->fd)];
		struct vs_udp *u = vs_udp_of(atomic_load(&d->fd));
		if (!u || !is_due(d, u))
			continue;
		int at = 0;
		while (at < n && events[at].data.u64 != m->data)
			at++;
		if (at == max)
			break;
		uint64_t tail = vs_udp_tail(u);
		if (at == n)
			events[n++] = (struct epoll_event){ .data.u64 = m->data };
		events[at].events |= m->events & VS_IN_EVENTS;
		atomic_store(&d->told, tail);
	}
	return n;
}
