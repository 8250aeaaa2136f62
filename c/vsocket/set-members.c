/* set-members.c - which epoll sets there are, their members, and the lists they are in. */
#define _GNU_SOURCE
#include "set-members.h"
#include "remote.h"
#include "sys.h"
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

struct vs_set *vs_sets;	       /* VS_SETS of them */
struct vs_member *vs_members;	       /* VS_FD_MAX */
static _Atomic uint16_t *set_of;       /* VS_FD_MAX: index + 1 of the set that an epoll descriptor names */
_Atomic int32_t *vs_member_of_bit; /* number + 1 */
_Atomic uint32_t vs_sets_lock;   /* which sets there are; taken before a set's own */
static _Atomic bool there;

static void *sparse(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return p == MAP_FAILED ? NULL : p;
}

/* Under vs_sets_lock. */
static bool make_tables(void)
{
	if (atomic_load(&there))
		return true;
	vs_sets = vs_sets ? vs_sets : sparse(VS_SETS * sizeof *vs_sets);
	vs_members = vs_members ? vs_members : sparse(VS_FD_MAX * sizeof *vs_members);
	set_of = set_of ? set_of : sparse(VS_FD_MAX * sizeof *set_of);
	vs_member_of_bit = vs_member_of_bit ? vs_member_of_bit : sparse(VS_SLOTS * 2 * sizeof *vs_member_of_bit);
	if (!vs_sets || !vs_members || !set_of || !vs_member_of_bit)
		return false;
	atomic_store(&there, true);
	return true;
}

bool vs_set_known(int fd) { return (unsigned)fd < VS_FD_MAX && atomic_load_explicit(&there, memory_order_acquire); }

struct vs_set *vs_set_find(int ep)
{
	return vs_set_known(ep) ? vs_set_at(atomic_load_explicit(&set_of[ep], memory_order_acquire)) : NULL;
}

/* Makes our side of an epoll descriptor. */
void vs_set_create(int ep, bool whole)
{
	if ((unsigned)ep >= VS_FD_MAX || vs_lock(&vs_sets_lock) == VS_LOCK_NESTED)
		return;
	for (unsigned i = 0; make_tables() && i < VS_SETS; i++) {
		struct vs_set *s = &vs_sets[i];
		if (s->open || s->board || atomic_load(&s->inside))
			continue;
		memset(s, 0, sizeof *s);
		s->open = true;
		s->whole = whole;
		s->ep = ep;
		atomic_store(&set_of[ep], (uint16_t)(i + 1));
		break;
	}
	vs_unlock(&vs_sets_lock);
	vs_fd_watched(ep);
}

void vs_set_created(int ep) { vs_set_create(ep, true); }

/* The rest, up to where it says otherwise, is under the set's lock. */

void vs_set_list(struct vs_set *s, int fd)
{
	struct vs_member *m = &vs_members[fd];
	if (m->ready)
		return;
	m->ready = true;
	m->before = s->last;
	m->after = 0;
	if (s->last)
		vs_members[s->last - 1].after = fd + 1;
	else
		atomic_store_explicit(&s->first, fd + 1, memory_order_relaxed);
	s->last = fd + 1;
}

void vs_set_unlist(struct vs_set *s, int fd)
{
	struct vs_member *m = &vs_members[fd];
	if (!m->ready)
		return;
	m->ready = false;
	if (m->before)
		vs_members[m->before - 1].after = m->after;
	else
		atomic_store_explicit(&s->first, m->after, memory_order_relaxed);
	if (m->after)
		vs_members[m->after - 1].before = m->before;
	else
		s->last = m->before;
}

static unsigned bucket_of(uint64_t data) { return (unsigned)((data * UINT64_C(0x9e3779b97f4a7c15)) >> 32) % VS_SET_BUCKETS; }

void vs_set_link_data(struct vs_set *s, int fd)
{
	int *head = &s->bucket[bucket_of(vs_members[fd].data)];
	vs_members[fd].next = *head;
	*head = fd + 1;
}

void vs_set_unlink_data(struct vs_set *s, int fd)
{
	for (int *p = &s->bucket[bucket_of(vs_members[fd].data)]; *p; p = &vs_members[*p - 1].next) {
		if (*p == fd + 1) {
			*p = vs_members[fd].next;
			return;
		}
	}
}

#define VS_NOBODY (-1)
#define VS_SEVERAL (-2)
/* The only member with this data, VS_NOBODY or VS_SEVERAL. */
int vs_set_member_with(const struct vs_set *s, uint64_t data)
{
	int found = VS_NOBODY;
	for (int at = s->bucket[bucket_of(data)]; at; at = vs_members[at - 1].next) {
		if (vs_members[at - 1].data != data)
			continue;
		if (found >= 0)
			return VS_SEVERAL;
		found = at - 1;
	}
	return found;
}

/* Its ring is nobody's to look at any more. */
void vs_set_drop_ring(struct vs_set *s, int fd)
{
	struct vs_member *m = &vs_members[fd];
	if (m->bit == VS_NO_BIT)
		return;
	vs_set_unlist(s, fd);
	uint32_t row = vs_board_row(s->board);
	struct vs_dir *d = &vs_arena->slot[m->bit / 2].dir[!(m->bit & 1)];
	atomic_compare_exchange_strong(&d->board, &row, 0);
	if (atomic_load(&vs_member_of_bit[m->bit]) == fd + 1)
		atomic_store(&vs_member_of_bit[m->bit], 0);
	m->bit = VS_NO_BIT;
	atomic_fetch_sub(&s->rings, 1);
}

void vs_set_forget_untold(struct vs_set *s, int fd)
{
	for (int *p = &s->untold; vs_members[fd].untold && *p; p = &vs_members[*p - 1].next_untold) {
		if (*p == fd + 1) {
			*p = vs_members[fd].next_untold;
			break;
		}
	}
	vs_members[fd].untold = false;
}

void vs_set_drop(struct vs_set *s, int fd)
{
	vs_set_drop_ring(s, fd);
	vs_set_drop_datagram(s, fd);
	vs_set_unlink_data(s, fd);
	vs_set_forget_untold(s, fd);
	atomic_store(&vs_members[fd].set, 0);
}

/* Tells the kernel about one member that is not in the list any more. */
void vs_set_tell_kernel(struct vs_set *s, int fd, vs_ctl_fn *real)
{
	struct vs_member *m = &vs_members[fd];
	struct epoll_event event = { .events = m->events, .data.u64 = m->data };
	int saved = errno;
	m->untold = false;
	if (m->removed) {
		real(s->ep, EPOLL_CTL_DEL, fd, &event);
		vs_set_drop(s, fd);
	} else if (m->told.events != m->events || m->told.data.u64 != m->data || (m->events & EPOLLET)) {
		/* An edge is due anew even when nothing has changed in the end. */
		if (real(s->ep, EPOLL_CTL_MOD, fd, &event) == 0)
			m->told = event;
	}
	errno = saved;
}

void vs_set_tell_all(struct vs_set *s, vs_ctl_fn *real)
{
	while (s->untold) {
		int fd = s->untold - 1;
		s->untold = vs_members[fd].next_untold;
		vs_set_tell_kernel(s, fd, real);
	}
}

void vs_set_give_board(struct vs_set *s)
{
	vs_board_give(s->board);
	s->board = NULL;
}

/* Whether the member's end is still the connection that it was enlisted for. */
bool vs_member_conn(const struct vs_member *m, int fd, struct vs_conn *c)
{
	return m->bit != VS_NO_BIT && vs_fd_conn(fd, c) && vs_board_bit(c->slot, c->side) == m->bit;
}

/* What our side knows to be ready of what the member asks for: a ring with data, and room in one (the twin under it is as good as
 * empty). Of directions outside of rings the kernel tells. */
uint32_t vs_member_ready(const struct vs_member *m, const struct vs_conn *c)
{
	uint32_t events = 0;
	if (m->removed)
		return 0;
	if ((m->events & VS_IN_EVENTS) && vs_rx_ring_ready(c))
		events |= m->events & VS_IN_EVENTS;
	if ((m->events & VS_OUT_EVENTS) && vs_tx_in_ring(c))
		events |= m->events & VS_OUT_EVENTS;
	return events;
}

void vs_set_collected(unsigned bit, void *arg)
{
	struct vs_set *s = arg;
	int fd = atomic_load(&vs_member_of_bit[bit]) - 1;
	if (fd >= 0 && vs_set_at(atomic_load(&vs_members[fd].set)) == s && vs_members[fd].bit == bit)
		vs_set_list(s, fd);
}
/* Not under the lock any more. */

bool vs_set_lock(struct vs_set *s) { return vs_lock(&s->lock) != VS_LOCK_NESTED; }

/* Locks the set that a descriptor is in; NULL: in none. */
struct vs_set *vs_set_lock_of(int fd)
{
	for (;;) {
		struct vs_set *s = vs_set_known(fd) ? vs_set_at(atomic_load(&vs_members[fd].set)) : NULL;
		if (!s || !vs_set_lock(s))
			return NULL;
		if (vs_set_at(atomic_load(&vs_members[fd].set)) == s)
			return s;
		vs_unlock(&s->lock);
	}
}

void vs_set_forked(void)
{
	atomic_store(&vs_sets_lock, 0);
	vs_board_forked();
	if (!atomic_load(&there))
		return;
	/* Fresh zeros: of the parent's sets nothing is known here. */
	size_t up = (size_t)(vs_fd_highest() + 1);
	madvise(vs_sets, VS_SETS * sizeof *vs_sets, MADV_DONTNEED);
	madvise(vs_members, up * sizeof *vs_members, MADV_DONTNEED);
	madvise((void *)set_of, up * sizeof *set_of, MADV_DONTNEED);
	madvise((void *)vs_member_of_bit, VS_SLOTS * 2 * sizeof *vs_member_of_bit, MADV_DONTNEED);
}

void vs_set_unname(int ep) { atomic_store(&set_of[ep], 0); }
