/* set.c - members of epoll sets, their rings, and the list of those that are ready. */
#define _GNU_SOURCE
#include "set.h"
#include "board.h"
#include "conn.h"
#include "lock.h"
#include "remote.h"
#include "sys.h"
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define SETS 256
#define BUCKETS 512
#define IN_EVENTS (EPOLLIN | EPOLLRDNORM)
#define OUT_EVENTS (EPOLLOUT | EPOLLWRNORM)
#define NO_BIT UINT32_MAX

/* A descriptor in a set; found by its number. Links are numbers + 1. */
struct member {
	_Atomic uint16_t set; /* index + 1; 0: in none */
	bool spent;	      /* one-shot, and told */
	bool ready;	      /* in the list */
	bool ringed;	      /* its ring is, or was, looked at */
	bool many;	      /* in another set as well, of which nothing is known */
	bool removed;	      /* the application has taken it out, and the kernel does not know */
	uint64_t armed;	      /* one-shot: the set's clock when it was last asked for */
	bool untold;	      /* in the list of those of which the kernel does not know everything */
	uint32_t events;
	uint32_t bit; /* its end of a connection; NO_BIT: the kernel tells all of it */
	uint64_t data;
	int next; /* in the bucket */
	int next_untold;
	struct epoll_event told; /* what the kernel knows */
	int before, after; /* in the list of ready ones */
	uint32_t round;	   /* of the merge that told of it last */
	int at;		   /* and where */
};

struct vs_set {
	_Atomic uint32_t lock;
	_Atomic uint32_t inside; /* threads that wait for it */
	_Atomic uint32_t blind;	 /* of these, in the kernel and not counted on the board */
	bool open, whole;	 /* whole: all members are known */
	bool lent;		 /* somebody may wait for it who does not look here */
	bool one_shots;		 /* some member is, or was, one-shot */
	int ep;
	struct vs_board *board;
	_Atomic uint32_t rings; /* members with a bit */
	_Atomic int first;	/* of the list of ready ones, number + 1 */
	int last;
	int untold; /* the first of which the kernel does not know everything, number + 1 */
	uint32_t round;
	_Atomic uint64_t clock; /* counts what was asked for with one-shot */
	_Atomic uint32_t spin_ns;
	_Atomic uint64_t looked;
	int bucket[BUCKETS];
};

static struct vs_set *sets;	       /* SETS of them */
static struct member *members;	       /* VS_FD_MAX */
static _Atomic uint16_t *set_of;       /* VS_FD_MAX: index + 1 of the set that an epoll descriptor names */
static _Atomic int32_t *member_of_bit; /* number + 1 */
static _Atomic uint32_t tables_lock;   /* which sets there are; taken before a set's own */
static _Atomic bool there;

static void *sparse(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return p == MAP_FAILED ? NULL : p;
}

/* Under tables_lock. */
static bool make_tables(void)
{
	if (atomic_load(&there))
		return true;
	sets = sets ? sets : sparse(SETS * sizeof *sets);
	members = members ? members : sparse(VS_FD_MAX * sizeof *members);
	set_of = set_of ? set_of : sparse(VS_FD_MAX * sizeof *set_of);
	member_of_bit = member_of_bit ? member_of_bit : sparse(VS_SLOTS * 2 * sizeof *member_of_bit);
	if (!sets || !members || !set_of || !member_of_bit)
		return false;
	atomic_store(&there, true);
	return true;
}

static bool known(int fd) { return (unsigned)fd < VS_FD_MAX && atomic_load_explicit(&there, memory_order_acquire); }

static struct vs_set *set_at(unsigned index_plus_1) { return index_plus_1 ? &sets[index_plus_1 - 1] : NULL; }

static struct vs_set *find(int ep)
{
	return known(ep) ? set_at(atomic_load_explicit(&set_of[ep], memory_order_acquire)) : NULL;
}

/* Makes our side of an epoll descriptor. */
static void create(int ep, bool whole)
{
	if ((unsigned)ep >= VS_FD_MAX || vs_lock(&tables_lock) == VS_LOCK_NESTED)
		return;
	for (unsigned i = 0; make_tables() && i < SETS; i++) {
		struct vs_set *s = &sets[i];
		if (s->open || s->board || atomic_load(&s->inside))
			continue;
		memset(s, 0, sizeof *s);
		s->open = true;
		s->whole = whole;
		s->ep = ep;
		atomic_store(&set_of[ep], (uint16_t)(i + 1));
		break;
	}
	vs_unlock(&tables_lock);
	vs_fd_watched(ep);
}

void vs_set_created(int ep) { create(ep, true); }

/* The rest, up to where it says otherwise, is under the set's lock. */

static void list_ready(struct vs_set *s, int fd)
{
	struct member *m = &members[fd];
	if (m->ready)
		return;
	m->ready = true;
	m->before = s->last;
	m->after = 0;
	if (s->last)
		members[s->last - 1].after = fd + 1;
	else
		atomic_store_explicit(&s->first, fd + 1, memory_order_relaxed);
	s->last = fd + 1;
}

static void unlist(struct vs_set *s, int fd)
{
	struct member *m = &members[fd];
	if (!m->ready)
		return;
	m->ready = false;
	if (m->before)
		members[m->before - 1].after = m->after;
	else
		atomic_store_explicit(&s->first, m->after, memory_order_relaxed);
	if (m->after)
		members[m->after - 1].before = m->before;
	else
		s->last = m->before;
}

static unsigned bucket_of(uint64_t data) { return (unsigned)((data * UINT64_C(0x9e3779b97f4a7c15)) >> 32) % BUCKETS; }

static void link_data(struct vs_set *s, int fd)
{
	int *head = &s->bucket[bucket_of(members[fd].data)];
	members[fd].next = *head;
	*head = fd + 1;
}

static void unlink_data(struct vs_set *s, int fd)
{
	for (int *p = &s->bucket[bucket_of(members[fd].data)]; *p; p = &members[*p - 1].next) {
		if (*p == fd + 1) {
			*p = members[fd].next;
			return;
		}
	}
}

#define NOBODY (-1)
#define SEVERAL (-2)
/* The only member with this data, NOBODY or SEVERAL. */
static int member_with(const struct vs_set *s, uint64_t data)
{
	int found = NOBODY;
	for (int at = s->bucket[bucket_of(data)]; at; at = members[at - 1].next) {
		if (members[at - 1].data != data)
			continue;
		if (found >= 0)
			return SEVERAL;
		found = at - 1;
	}
	return found;
}

/* Its ring is nobody's to look at any more. */
static void drop_ring(struct vs_set *s, int fd)
{
	struct member *m = &members[fd];
	if (m->bit == NO_BIT)
		return;
	unlist(s, fd);
	uint32_t row = vs_board_row(s->board);
	struct vs_dir *d = &vs_arena->slot[m->bit / 2].dir[!(m->bit & 1)];
	atomic_compare_exchange_strong(&d->board, &row, 0);
	if (atomic_load(&member_of_bit[m->bit]) == fd + 1)
		atomic_store(&member_of_bit[m->bit], 0);
	m->bit = NO_BIT;
	atomic_fetch_sub(&s->rings, 1);
}

static void forget_untold(struct vs_set *s, int fd)
{
	for (int *p = &s->untold; members[fd].untold && *p; p = &members[*p - 1].next_untold) {
		if (*p == fd + 1) {
			*p = members[fd].next_untold;
			break;
		}
	}
	members[fd].untold = false;
}

static void drop(struct vs_set *s, int fd)
{
	drop_ring(s, fd);
	unlink_data(s, fd);
	forget_untold(s, fd);
	atomic_store(&members[fd].set, 0);
}

/* Tells the kernel about one member that is not in the list any more. */
static void tell_kernel(struct vs_set *s, int fd, vs_ctl_fn *real)
{
	struct member *m = &members[fd];
	struct epoll_event event = { .events = m->events, .data.u64 = m->data };
	int saved = errno;
	m->untold = false;
	if (m->removed) {
		real(s->ep, EPOLL_CTL_DEL, fd, &event);
		drop(s, fd);
	} else if (m->told.events != m->events || m->told.data.u64 != m->data || (m->events & EPOLLET)) {
		/* An edge is due anew even when nothing has changed in the end. */
		if (real(s->ep, EPOLL_CTL_MOD, fd, &event) == 0)
			m->told = event;
	}
	errno = saved;
}

static void flush(struct vs_set *s, vs_ctl_fn *real)
{
	while (s->untold) {
		int fd = s->untold - 1;
		s->untold = members[fd].next_untold;
		tell_kernel(s, fd, real);
	}
}

static void give_board(struct vs_set *s)
{
	vs_board_give(s->board);
	s->board = NULL;
}

/* Whether the member's end is still the connection that it was enlisted for. */
static bool member_conn(const struct member *m, int fd, struct vs_conn *c)
{
	return m->bit != NO_BIT && vs_fd_conn(fd, c) && vs_board_bit(c->slot, c->side) == m->bit;
}

/* What our side knows to be ready of what the member asks for: a ring with data, and room in one (the twin under it is as good as
 * empty). Of directions outside of rings the kernel tells. */
static uint32_t ready_events(const struct member *m, const struct vs_conn *c)
{
	uint32_t events = 0;
	if (m->removed)
		return 0;
	if ((m->events & IN_EVENTS) && vs_rx_ring_ready(c))
		events |= m->events & IN_EVENTS;
	if ((m->events & OUT_EVENTS) && vs_tx_in_ring(c))
		events |= m->events & OUT_EVENTS;
	return events;
}

static void collected(unsigned bit, void *arg)
{
	struct vs_set *s = arg;
	int fd = atomic_load(&member_of_bit[bit]) - 1;
	if (fd >= 0 && set_at(atomic_load(&members[fd].set)) == s && members[fd].bit == bit)
		list_ready(s, fd);
}

/* Not under the lock any more. */

static bool lock_set(struct vs_set *s) { return vs_lock(&s->lock) != VS_LOCK_NESTED; }

/* Locks the set that a descriptor is in; NULL: in none. */
static struct vs_set *lock_set_of(int fd)
{
	for (;;) {
		struct vs_set *s = known(fd) ? set_at(atomic_load(&members[fd].set)) : NULL;
		if (!s || !lock_set(s))
			return NULL;
		if (set_at(atomic_load(&members[fd].set)) == s)
			return s;
		vs_unlock(&s->lock);
	}
}

/* The ring has data: also threads that sleep in the kernel must come to know. */
static void tell(struct vs_board *b, const struct vs_conn *c, int fd)
{
	if (vs_board_post(b, vs_board_bit(c->slot, c->side)))
		vs_rx_announce(c, fd);
}

bool vs_set_attached(int fd, const struct vs_conn *c, bool relax)
{
	struct vs_dir *d = vs_rx(c);
	struct vs_set *s = vs_is_remote(c) || (!relax && atomic_load(&d->eager)) ? NULL : lock_set_of(fd);
	if (!s)
		return false;
	struct member *m = &members[fd];
	unsigned bit = vs_board_bit(c->slot, c->side);
	if (!s->board && !s->lent)
		s->board = vs_board_take();
	struct vs_board *b = s->board;
	bool ours = b && s->open && !s->lent && !m->many && m->bit == NO_BIT && atomic_load(&member_of_bit[bit]) == 0;
	if (ours) {
		m->bit = bit;
		m->ringed = true;
		atomic_store(&member_of_bit[bit], fd + 1);
		atomic_fetch_add(&s->rings, 1);
		atomic_store(&d->board, vs_board_row(b));
		atomic_store(&d->eager, 0);
	}
	vs_unlock(&s->lock);
	if (ours && !vs_rx_list(c, fd))
		tell(b, c, fd);
	return ours;
}

static void note_one_shot(struct vs_set *s, struct member *m)
{
	if (!(m->events & EPOLLONESHOT))
		return;
	s->one_shots = true;
	m->armed = atomic_fetch_add(&s->clock, 1) + 1;
}

/* A new member. Under the lock. */
static void add(struct vs_set *s, int fd, const struct epoll_event *event)
{
	struct member *m = &members[fd];
	if (atomic_load(&m->set)) { /* of another set */
		s->whole = false;
		m->many = true;
		return;
	}
	*m = (struct member){ .events = event->events, .data = event->data.u64, .bit = NO_BIT, .told = *event };
	note_one_shot(s, m);
	link_data(s, fd);
	atomic_store(&m->set, (uint16_t)(s - sets + 1));
}

static void modify(struct vs_set *s, int fd, const struct epoll_event *event)
{
	struct member *m = &members[fd];
	unlink_data(s, fd);
	m->events = event->events;
	m->data = event->data.u64;
	m->spent = false;
	note_one_shot(s, m);
	link_data(s, fd);
}

/* Whether the kernel need not be told at once: all of the member's events come from rings, and nobody is in the kernel to wait for it. */
static bool can_wait(struct vs_set *s, int op, int fd, const struct epoll_event *event)
{
	const uint32_t special = EPOLLONESHOT | EPOLLEXCLUSIVE | EPOLLWAKEUP;
	struct vs_conn c;
	return s->open && s->whole && !s->lent && s->board && (op == EPOLL_CTL_DEL || event) && atomic_load(&s->board->sleepers) == 0 &&
	       atomic_load(&s->blind) == 0 && !((members[fd].events | (op == EPOLL_CTL_DEL ? 0 : event->events)) & special) &&
	       member_conn(&members[fd], fd, &c) && vs_rx_in_ring(&c) && vs_tx_in_ring(&c);
}

/* epoll_ctl() on our side only. Returns 0 or -errno. */
static int change(struct vs_set *s, int op, int fd, const struct epoll_event *event)
{
	struct member *m = &members[fd];
	struct vs_conn c;
	if (m->removed != (op == EPOLL_CTL_ADD))
		return m->removed ? -ENOENT : -EEXIST;
	if (op == EPOLL_CTL_DEL) {
		unlist(s, fd);
		unlink_data(s, fd);
		m->removed = true;
	} else {
		m->removed = false;
		modify(s, fd, event);
		if (member_conn(m, fd, &c) && ready_events(m, &c))
			list_ready(s, fd);
	}
	if (!m->untold) {
		m->untold = true;
		m->next_untold = s->untold;
		s->untold = fd + 1;
	}
	return 0;
}

/* It is in more than one set, or was said to be in one that is not known: whoever waits for it may not look at its ring. */
static void make_eager(int fd)
{
	struct vs_conn c;
	struct vs_set *s = lock_set_of(fd);
	if (s) {
		drop_ring(s, fd);
		vs_unlock(&s->lock);
	}
	if (vs_fd_conn(fd, &c))
		vs_rx_set_eager(&c, fd);
}

int vs_set_ctl(int ep, int op, int fd, struct epoll_event *event, vs_ctl_fn *real)
{
	struct vs_set *s = find(ep);
	if (!s && op == EPOLL_CTL_ADD && ep >= 0) {
		create(ep, false);
		s = find(ep);
	}
	if (!s || !lock_set(s)) {
		int r = real(ep, op, fd, event);
		if (r == 0 && op == EPOLL_CTL_ADD) {
			vs_fd_watched(fd);
			make_eager(fd);
		}
		return r;
	}
	bool mine = (unsigned)fd < VS_FD_MAX && set_at(atomic_load(&members[fd].set)) == s, has_data = false;
	bool known_op = op == EPOLL_CTL_ADD || op == EPOLL_CTL_MOD || op == EPOLL_CTL_DEL;
	if (mine && known_op && can_wait(s, op, fd, event)) {
		int r = change(s, op, fd, event);
		vs_unlock(&s->lock);
		return (int)(r < 0 ? (errno = -r, -1) : 0);
	}
	if (mine && members[fd].untold) {
		forget_untold(s, fd);
		tell_kernel(s, fd, real);
		mine = set_at(atomic_load(&members[fd].set)) == s;
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
			members[fd].told = *event;
		}
		else if (op == EPOLL_CTL_DEL && mine)
			drop(s, fd);
		/* The changed interest may be an event at once, as it is for the kernel. */
		if (op == EPOLL_CTL_MOD && mine && member_conn(&members[fd], fd, &c) && ready_events(&members[fd], &c)) {
			list_ready(s, fd);
			has_data = vs_rx_ring_ready(&c);
		}
		/* Or the kernel has something to say. */
		if (op != EPOLL_CTL_DEL && !(mine && members[fd].ready))
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
	if (!s->untold || !lock_set(s))
		return;
	flush(s, real);
	vs_unlock(&s->lock);
}

void vs_set_flush_all(vs_ctl_fn *real)
{
	for (unsigned i = 0; i < SETS && atomic_load(&there); i++)
		vs_set_flush(&sets[i], real);
}

/* For those who do not have the C library's function. */
static int kernel_ctl(int ep, int op, int fd, struct epoll_event *event)
{
	return vs_sys(SYS_epoll_ctl, ep, op, fd, event) < 0 ? -1 : 0;
}

void vs_set_force(int ep)
{
	struct vs_set *s = find(ep);
	if (!s || !lock_set(s))
		return;
	bool news = !s->lent;
	s->lent = true;
	flush(s, kernel_ctl);
	if (s->board)
		atomic_store(&s->board->forced, 1);
	vs_unlock(&s->lock);
	for (int fd = 0, top = vs_fd_highest(); news && fd <= top; fd++)
		if (set_at(atomic_load(&members[fd].set)) == s)
			make_eager(fd);
}

void vs_set_forget(int fd)
{
	struct vs_conn c;
	struct vs_set *s = lock_set_of(fd);
	if (s) {
		/* Copies of the descriptor keep it in the kernel's set. */
		bool copies = vs_fd_conn(fd, &c) && vs_fd_copies(&c) > 1;
		if (copies)
			s->whole = false;
		if (members[fd].untold) {
			forget_untold(s, fd);
			tell_kernel(s, fd, kernel_ctl);
		}
		if (set_at(atomic_load(&members[fd].set)) == s)
			drop(s, fd);
		vs_unlock(&s->lock);
		if (copies)
			vs_rx_set_eager(&c, fd);
	}
	s = find(fd);
	if (!s || vs_lock(&tables_lock) == VS_LOCK_NESTED)
		return;
	if (lock_set(s)) {
		atomic_store(&set_of[fd], 0);
		for (int i = 0; i < BUCKETS; i++)
			while (s->bucket[i])
				drop(s, s->bucket[i] - 1);
		s->open = false;
		if (atomic_load(&s->inside) == 0)
			give_board(s);
		else if (s->board)
			atomic_store(&s->board->forced, 1);
		vs_unlock(&s->lock);
	}
	vs_unlock(&tables_lock);
}

struct vs_set *vs_set_enter(int ep)
{
	struct vs_set *s = find(ep);
	if (!s)
		return NULL;
	atomic_fetch_add(&s->inside, 1);
	if (s == find(ep))
		return s;
	atomic_fetch_sub(&s->inside, 1);
	return NULL;
}

void vs_set_leave(struct vs_set *s)
{
	if (atomic_fetch_sub(&s->inside, 1) > 1 || s->open || !lock_set(s))
		return;
	if (!s->open && atomic_load(&s->inside) == 0)
		give_board(s);
	vs_unlock(&s->lock);
}

bool vs_set_has_rings(const struct vs_set *s) { return atomic_load_explicit(&s->rings, memory_order_relaxed) > 0; }

bool vs_set_ready(struct vs_set *s)
{
	return atomic_load_explicit(&s->first, memory_order_relaxed) || (s->board && vs_board_any(s->board));
}

enum vs_sleep vs_set_sleep(struct vs_set *s, vs_ctl_fn *real)
{
	/* Under the lock, so that no change is kept from the kernel from now on. */
	bool locked = lock_set(s);
	struct vs_board *b = s->board;
	if (b)
		atomic_fetch_add(&b->sleepers, 1);
	else
		atomic_fetch_add(&s->blind, 1);
	if (b && atomic_load_explicit(&b->forced, memory_order_relaxed) && atomic_load(&s->blind) == 0 && !s->lent && s->open)
		atomic_store(&b->forced, 0);
	if (locked) {
		flush(s, real);
		vs_unlock(&s->lock);
	}
	return b ? VS_SLEEP_POSTED : VS_SLEEP_BLIND;
}

void vs_set_wake(struct vs_set *s, enum vs_sleep how)
{
	if (how == VS_SLEEP_BLIND)
		atomic_fetch_sub(&s->blind, 1);
	else
		atomic_fetch_sub(&s->board->sleepers, 1);
}

/* The kernel takes a one-shot member for told, and it was not. Under the lock. */
static void arm_again(struct vs_set *s, int fd, vs_ctl_fn *real)
{
	struct epoll_event again = { .events = members[fd].events, .data.u64 = members[fd].data };
	real(s->ep, EPOLL_CTL_MOD, fd, &again);
}

/* Whether an event that the kernel has told, in a call made when the set's clock was `since`, is to be kept from the application: because
 * it was only a doorbell, or because a ring has told it already. Takes doorbells out of it. */
static bool told_in_vain(struct vs_set *s, struct epoll_event *event, uint64_t since, vs_ctl_fn *real)
{
	struct vs_conn c;
	if (!lock_set(s))
		return false;
	int fd = s->whole ? member_with(s, event->data.u64) : -1;
	if (fd < 0) {
		/* Of one that a ring told to another thread, who has closed it meanwhile. */
		bool gone = s->whole && s->one_shots && fd == NOBODY && vs_set_has_rings(s);
		vs_unlock(&s->lock);
		return gone;
	}
	struct member *m = &members[fd];
	const bool one_shot = m->events & EPOLLONESHOT, ring = member_conn(m, fd, &c);
	/* Asked for anew while the kernel's call was under way: the event may be of the time before, when a ring told it to another thread. If
	 * it is not, it comes again. */
	bool gone = m->ringed && one_shot && (m->spent || m->armed > since);
	if (gone && !m->spent)
		arm_again(s, fd, real);
	if (one_shot)
		m->spent |= !gone;
	/* The doorbell of an edge that has been told already may come late. */
	if (ring && s->board)
		vs_board_collect(s->board, collected, s);
	bool edge = m->events & EPOLLET, told = ring && edge && !m->ready && !(event->events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) &&
						vs_rx_only_ring(&c) && vs_rx_ring_ready(&c) && vs_rx_is_edge_used(&c);
	vs_unlock(&s->lock);
	/* Asked without the lock: it may read the twin. */
	if (ring && !gone && (event->events & IN_EVENTS) && vs_rx_in_ring(&c) && (told || !vs_rx_woken(&c, fd))) {
		event->events &= ~(uint32_t)IN_EVENTS;
		gone = event->events == 0;
		if (gone && one_shot && lock_set(s)) {
			if (member_conn(m, fd, &c) && m->spent) {
				m->spent = false;
				arm_again(s, fd, real);
				if (ready_events(m, &c))
					list_ready(s, fd);
			}
			vs_unlock(&s->lock);
		}
	}
	/* Looked at again while the sender rings: its doorbell may have come and gone already. */
	if (ring && edge && (!(event->events & IN_EVENTS) || !vs_rx_edge_used(&c)) && lock_set(s)) {
		if (member_conn(m, fd, &c))
			list_ready(s, fd);
		vs_unlock(&s->lock);
	}
	return gone;
}

int vs_set_merge(struct vs_set *s, struct epoll_event *events, int n, int max, uint64_t since, vs_ctl_fn *real)
{
	int kept = 0;
	for (int i = 0; i < n; i++)
		if (!(vs_set_has_rings(s) || s->one_shots) || !told_in_vain(s, &events[i], since, real))
			events[kept++] = events[i];
	if (!vs_set_ready(s) || !lock_set(s))
		return kept;
	n = kept;
	uint32_t round = ++s->round;
	for (int i = 0; i < n && s->whole; i++) {
		int fd = member_with(s, events[i].data.u64);
		if (fd < 0)
			continue;
		members[fd].round = round;
		members[fd].at = i;
	}
	if (s->board)
		vs_board_collect(s->board, collected, s);
	/* Each of the list once; what stays ready goes to its end, so that all have their turn. */
	int last = s->last, fd = s->first - 1;
	while (fd >= 0) {
		struct member *m = &members[fd];
		int next = m->after - 1;
		bool is_last = fd + 1 == last;
		struct vs_conn c;
		bool known_conn = member_conn(m, fd, &c);
		/* Read before its post came: the next data must be posted anew. */
		bool quiet = !known_conn || vs_rx_ring_ready(&c) || vs_rx_quiet(&c, fd);
		uint32_t now = known_conn ? ready_events(m, &c) : 0;
		bool once = m->events & (EPOLLET | EPOLLONESHOT);
		if (now == 0 || (m->spent && m->round != round)) {
			if (quiet || m->removed || m->spent)
				unlist(s, fd);
		} else if (m->round == round) { /* the kernel has told of it, too */
			events[m->at].events |= now;
			if (once)
				unlist(s, fd);
		} else if (n < max) {
			events[n++] = (struct epoll_event){ .events = now, .data.u64 = m->data };
			unlist(s, fd);
			if (m->events & EPOLLONESHOT) {
				struct epoll_event none = { .events = EPOLLONESHOT, .data.u64 = m->data };
				m->spent = true;
				real(s->ep, EPOLL_CTL_MOD, fd, &none);
			} else if (!once) {
				list_ready(s, fd);
			}
		} else {
			break;
		}
		if (once && now && !vs_rx_edge_used(&c) && (m->events & EPOLLET))
			list_ready(s, fd);
		if (is_last)
			break;
		fd = next;
	}
	vs_unlock(&s->lock);
	return n;
}

uint64_t vs_set_clock(struct vs_set *s) { return atomic_load(&s->clock); }
_Atomic uint32_t *vs_set_spin_ns(struct vs_set *s) { return &s->spin_ns; }
_Atomic uint64_t *vs_set_looked(struct vs_set *s) { return &s->looked; }

void vs_set_forked(void)
{
	atomic_store(&tables_lock, 0);
	vs_board_forked();
	if (!atomic_load(&there))
		return;
	/* Fresh zeros: of the parent's sets nothing is known here. */
	size_t up = (size_t)(vs_fd_highest() + 1);
	madvise(sets, SETS * sizeof *sets, MADV_DONTNEED);
	madvise(members, up * sizeof *members, MADV_DONTNEED);
	madvise((void *)set_of, up * sizeof *set_of, MADV_DONTNEED);
	madvise((void *)member_of_bit, VS_SLOTS * 2 * sizeof *member_of_bit, MADV_DONTNEED);
}
