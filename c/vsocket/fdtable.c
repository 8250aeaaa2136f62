/* fdtable.c - descriptors of this process. */
#define _GNU_SOURCE
#include "fdtable.h"
#include "book.h"
#include "conn.h"
#include "lock.h"
#include "remote.h"
#include "set.h"
#include "sys.h"
#include "twin.h"
#include "udp.h"
#include <string.h>
#include <sys/mman.h>

/* The transfer with which a connection is attached: one request, one answer and close are not worth it. */
#define ATTACH_AT 3
/* To other hosts searches are made, and a process that has no device yet opens one, which costs more. As many as are counted. */
#define ATTACH_REMOTE_AT 15

_Atomic uint64_t *vs_fds;
static _Atomic uint16_t *in_flight; /* native calls on a descriptor that is not attached */
static _Atomic uint16_t *copies;    /* descriptors of this process by slot and side */
static _Atomic uint32_t table_lock;
static _Atomic int highest = -1;
static _Atomic bool given_up;

_Atomic bool vs_fd_silent;
void vs_fd_fall_silent(void)
{
	atomic_store(&given_up, true);
	atomic_store(&vs_fd_silent, true);
}
void vs_fd_give_up(void) { atomic_store(&given_up, true); }

static void *sparse(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return p == MAP_FAILED ? NULL : p;
}

void vs_fd_init(void)
{
	in_flight = sparse(VS_FD_MAX * sizeof *in_flight);
	copies = sparse(VS_SLOTS * 2 * sizeof *copies);
	_Atomic uint64_t *table = sparse(VS_FD_MAX * sizeof *table);
	if (in_flight && copies)
		vs_fds = table;
}

static _Atomic uint16_t *copies_of(const struct vs_fd *f) { return &copies[f->slot * 2 + f->side]; }

static void note_highest(int fd)
{
	int h = atomic_load_explicit(&highest, memory_order_relaxed);
	while (fd > h && !atomic_compare_exchange_weak(&highest, &h, fd))
		;
}

/* The word may only be exchanged under the lock, so that the count of copies is right. */
static void set_word(int fd, uint64_t w)
{
	struct vs_fd old = vs_fd_unpack(atomic_load(&vs_fds[fd])), new = vs_fd_unpack(w);
	if (new.state == VS_FD_CONN)
		atomic_fetch_add(copies_of(&new), 1);
	if (new.datagram)
		vs_udp_hold(new.slot);
	if (w != VS_FD_UNKNOWN)
		note_highest(fd);
	atomic_store_explicit(&vs_fds[fd], w, memory_order_release);
	if (old.datagram)
		vs_udp_release(old.slot);
	if (old.state == VS_FD_CONN && atomic_fetch_sub(copies_of(&old), 1) == 1) {
		struct vs_conn c = { &vs_arena->slot[old.slot], (int)old.side, old.gen };
		vs_conn_left(&c);
	}
}

void vs_fd_forget(int fd)
{
	if ((unsigned)fd >= VS_FD_MAX || !vs_fds || vs_fd_silent || atomic_load_explicit(&vs_fds[fd], memory_order_relaxed) == VS_FD_UNKNOWN)
		return;
	vs_set_forget(fd);
	enum vs_locked l = vs_lock(&table_lock);
	set_word(fd, VS_FD_UNKNOWN);
	if (l != VS_LOCK_NESTED)
		vs_unlock(&table_lock);
}

void vs_fd_fresh(int fd)
{
	vs_fd_forget(fd);
	if ((unsigned)fd >= VS_FD_MAX || !vs_fds)
		return;
	note_highest(fd);
	atomic_store_explicit(&vs_fds[fd], vs_fd_pack((struct vs_fd){ .fresh = true }), memory_order_release);
}

void vs_fd_set_datagram(int fd, unsigned index)
{
	if ((unsigned)fd >= VS_FD_MAX || !vs_fds || vs_lock(&table_lock) == VS_LOCK_NESTED)
		return;
	set_word(fd, vs_fd_pack((struct vs_fd){ .state = VS_FD_PASS, .datagram = true, .slot = index }));
	vs_unlock(&table_lock);
}

void vs_fd_watched(int fd)
{
	uint64_t w = vs_fd_word(fd);
	struct vs_fd f = vs_fd_unpack(w);
	if (f.watched || f.state == VS_FD_PASS || vs_lock(&table_lock) == VS_LOCK_NESTED)
		return;
	w = atomic_load(&vs_fds[fd]);
	f = vs_fd_unpack(w);
	if (f.state == VS_FD_UNKNOWN || f.state == VS_FD_TCP) {
		f.watched = true;
		note_highest(fd);
		atomic_compare_exchange_strong(&vs_fds[fd], &w, vs_fd_pack(f));
	}
	vs_unlock(&table_lock);
}

int vs_fd_highest(void) { return atomic_load(&highest); }

void vs_fd_copied(int from, int to)
{
	if ((unsigned)from >= VS_FD_MAX || (unsigned)to >= VS_FD_MAX || !vs_fds || from == to)
		return;
	vs_set_force(from);
	enum vs_locked l = vs_lock(&table_lock);
	uint64_t w = atomic_load(&vs_fds[from]);
	/* Calls under way are counted by number: what is not attached yet will be at its next use, or never when one is under way. */
	if ((w & 3) == VS_FD_TCP || (w & 3) == VS_FD_UNKNOWN) {
		atomic_store(&vs_fds[from], VS_FD_UNKNOWN);
		w = atomic_load(&in_flight[from]) > 0 ? VS_FD_PASS : VS_FD_UNKNOWN;
		atomic_store(&vs_fds[from], w);
	}
	set_word(to, w);
	if (l != VS_LOCK_NESTED)
		vs_unlock(&table_lock);
}

void vs_fd_refuse(int fd)
{
	if ((unsigned)fd >= VS_FD_MAX || !vs_fds)
		return;
	enum vs_locked l = vs_lock(&table_lock);
	uint64_t w = atomic_load(&vs_fds[fd]);
	if ((w & 3) != VS_FD_CONN)
		set_word(fd, VS_FD_PASS);
	if (l != VS_LOCK_NESTED)
		vs_unlock(&table_lock);
}

bool vs_fd_conn_checked(int fd, struct vs_conn *c)
{
	uint64_t cookie = 0;
	socklen_t len = sizeof cookie;
	if (!vs_fd_conn(fd, c))
		return false;
	if (vs_sys_getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len) >= 0 && cookie == atomic_load(&c->slot->end[c->side].cookie))
		return true;
	vs_fd_forget(fd);
	return false;
}

/* A connection that is over, and of which this user's arena knows. */
static bool find_past(int fd, uint64_t *cookie, struct vs_key *key, int *side)
{
	socklen_t len = sizeof *cookie;
	return vs_arena && vs_twin_is_over(fd) && vs_sys_getsockopt(fd, SOL_SOCKET, SO_COOKIE, cookie, &len) >= 0 &&
	       vs_arena_find_cookie(*cookie, key, side);
}

/* Finds out what an unknown descriptor is. */
static uint64_t classify(int fd)
{
	uint64_t w, cookie;
	struct vs_key key;
	int side;
	enum vs_kind kind = vs_twin_glance(fd);
	if (kind == VS_KIND_WAITING && find_past(fd, &cookie, &key, &side))
		kind = VS_KIND_LOCAL;
	if (kind == VS_KIND_WAITING)
		return VS_FD_UNKNOWN;
	if (kind != VS_KIND_OTHER)
		vs_book_seen(fd);
	enum vs_locked l = vs_lock(&table_lock);
	if (l == VS_LOCK_NESTED) {
		w = VS_FD_UNKNOWN;
	} else {
		struct vs_fd f = vs_fd_unpack(atomic_load(&vs_fds[fd]));
		if (f.state == VS_FD_UNKNOWN && !f.busy) {
			f.remote = kind == VS_KIND_REMOTE && vs_remote;
			f.state = kind == VS_KIND_LOCAL || f.remote ? VS_FD_TCP : VS_FD_PASS;
			set_word(fd, vs_fd_pack(f));
		}
		w = atomic_load(&vs_fds[fd]);
		vs_unlock(&table_lock);
	}
	return w;
}

static bool attach(int fd)
{
	uint64_t cookie;
	struct vs_key key;
	int side;
	uint32_t gen;
	bool done = false, relax = false;
	struct vs_conn conn = { 0 };
	if (atomic_load(&given_up) || vs_arena_open()) {
		vs_book_failed(fd, atomic_load(&given_up) ? 0 : vs_arena_open());
		return false;
	}
	enum vs_kind kind = vs_twin_identify(fd, &cookie, &key, &side);
	if (kind == VS_KIND_WAITING && find_past(fd, &cookie, &key, &side))
		kind = VS_KIND_LOCAL;
	if (kind != VS_KIND_LOCAL && !(kind == VS_KIND_REMOTE && vs_remote && cookie)) {
		vs_fd_refuse(fd);
		return false;
	}
	if (vs_lock(&table_lock) == VS_LOCK_NESTED)
		return false;
	uint64_t w = atomic_load(&vs_fds[fd]);
	struct vs_fd f = vs_fd_unpack(w);
	if (f.state == VS_FD_TCP) {
		/* Other threads may be inside native calls of which nobody else knows: then it is too early. */
		atomic_store(&vs_fds[fd], vs_fd_pack((struct vs_fd){ .state = VS_FD_UNKNOWN, .busy = true }));
		atomic_thread_fence(memory_order_seq_cst);
		if (atomic_load(&in_flight[fd]) > 0) {
			atomic_store(&vs_fds[fd], vs_fd_pack(f));
		} else {
			/* The first descriptor of a process for this end makes it a holder. */
			struct vs_slot *slot = vs_arena_attach(&key, side, cookie, !f.fresh, &gen);
			if (slot) {
				struct vs_fd c = { .state = VS_FD_CONN, .side = (unsigned)side, .gen = gen };
				c.slot = (unsigned)(slot - vs_arena->slot);
				if (atomic_load(copies_of(&c)) > 0)
					atomic_fetch_sub(&slot->end[side].holders, 1);
				/* In an epoll set, or of a history that we do not know. */
				if (f.watched || !f.fresh)
					atomic_store(&slot->dir[!side].eager, 1);
				if (!f.fresh)
					atomic_store(&slot->end[side].shared, 1);
				relax = f.watched && f.fresh && kind == VS_KIND_LOCAL;
				set_word(fd, vs_fd_pack(c));
				conn = (struct vs_conn){ slot, side, gen };
				vs_conn_returned(&conn);
				vs_book_attached(fd, &conn);
				if (kind == VS_KIND_REMOTE) {
					vs_remotes = true;
					vs_remote->wanted(&conn, fd);
				}
				done = true;
			} else {
				vs_book_failed(fd, -ENOSPC);
				atomic_store(&vs_fds[fd], vs_fd_pack((struct vs_fd){ .state = VS_FD_PASS }));
			}
		}
	} else {
		done = f.state == VS_FD_CONN;
	}
	vs_unlock(&table_lock);
	if (relax)
		vs_set_attached(fd, &conn, true);
	if (conn.slot)
		vs_tx_resume(&conn, fd);
	/* The other end may send through the ring already. */
	uint32_t why = !conn.slot ? 0 : fd <= VS_FD_STDIO ? VS_PLAIN_STREAM : vs_twin_forbids(fd) ? VS_PLAIN_OPTION : 0;
	if (why) {
		vs_tx_demote(&conn, fd, why);
		vs_rx_demote(&conn, fd, why);
	}
	return done;
}

/* The first calls on a socket of our own making need no answer yet: they are the kernel's whatever the socket is, and questions would make
 * short connections slower. True when this one was counted as under way. */
static bool untouched(int fd, uint64_t w)
{
	struct vs_fd f = vs_fd_unpack(w);
	if (!f.fresh || f.busy || f.ops + 1 >= ATTACH_AT || vs_book)
		return false;
	f.ops++;
	atomic_fetch_add(&in_flight[fd], 1);
	if (atomic_compare_exchange_strong(&vs_fds[fd], &w, vs_fd_pack(f)))
		return true;
	atomic_fetch_sub(&in_flight[fd], 1);
	return false;
}

enum vs_use vs_fd_use(int fd, struct vs_conn *c)
{
	for (unsigned tries = 0; tries < 64; tries++) {
		uint64_t w = vs_fd_word(fd);
		if ((w & 3) == VS_FD_CONN)
			return vs_fd_conn(fd, c) ? VS_USE_CONN : VS_USE_PASS;
		if ((w & 3) == VS_FD_PASS)
			return VS_USE_PASS;
		if ((w & 3) == VS_FD_UNKNOWN) {
			if (untouched(fd, w))
				return VS_USE_COUNTED;
			if (vs_fd_unpack(w).busy)
				vs_sys_yield();
			else if ((classify(fd) & 3) == VS_FD_UNKNOWN)
				return VS_USE_PASS;
			continue;
		}
		struct vs_fd f = vs_fd_unpack(w);
		if (f.ops + 1 >= (f.remote ? ATTACH_REMOTE_AT : ATTACH_AT) || (!f.fresh && !f.remote)) {
			if (attach(fd))
				continue;
			w = vs_fd_word(fd);
			f = vs_fd_unpack(w);
			if (f.state != VS_FD_TCP)
				continue;
		}
		atomic_fetch_add(&in_flight[fd], 1);
		uint64_t now = atomic_load(&vs_fds[fd]);
		if ((now & 3) == VS_FD_TCP) {
			if (f.ops < 14) {
				f.ops++;
				atomic_compare_exchange_strong(&vs_fds[fd], &now, vs_fd_pack(f));
			}
			return VS_USE_COUNTED;
		}
		atomic_fetch_sub(&in_flight[fd], 1);
	}
	return VS_USE_PASS;
}

void vs_fd_native_done(int fd)
{
	atomic_fetch_sub(&in_flight[fd], 1);
}

void vs_fd_forked(bool child)
{
	if (!vs_fds)
		return;
	if (child)
		atomic_store(&table_lock, 0);
	for (int fd = 0, top = atomic_load(&highest); fd <= top; fd++) {
		uint64_t w = atomic_load(&vs_fds[fd]);
		struct vs_fd f = vs_fd_unpack(w);
		if (child)
			atomic_store(&in_flight[fd], 0);
		if (f.fresh || (child && f.busy)) {
			f.fresh = f.busy = false;
			atomic_compare_exchange_strong(&vs_fds[fd], &w, vs_fd_pack(f));
		}
		if (child && f.state == VS_FD_CONN)
			atomic_store(&vs_arena->slot[f.slot].end[f.side].pid, (uint32_t)vs_sys_getpid());
	}
}

void vs_fd_before_fork(void)
{
	/* Of a socket that is attached already it is known who has it: a server that forks for each connection closes its own copy. */
	for (int fd = 0, top = atomic_load(&highest); vs_fds && fd <= top; fd++) {
		struct vs_fd f = vs_fd_unpack(vs_fd_word(fd));
		if (f.fresh && f.state == VS_FD_UNKNOWN && !f.busy)
			f = vs_fd_unpack(classify(fd));
		if (f.fresh && f.state == VS_FD_TCP && !f.remote)
			attach(fd);
	}
	vs_fd_hold(1);
	/* The other process may wait for it as it likes. */
	for (int fd = 0, top = atomic_load(&highest); vs_fds && fd <= top; fd++) {
		struct vs_conn c;
		if (vs_fd_conn(fd, &c) && atomic_load(&vs_rx(&c)->board) && !vs_rx_list(&c, fd))
			vs_rx_announce(&c, fd);
	}
}

void vs_fd_hold(int change)
{
	for (unsigned i = 0; i < VS_SLOTS * 2 && vs_fds && vs_arena; i++)
		if (atomic_load_explicit(&copies[i], memory_order_relaxed) > 0)
			atomic_fetch_add(&vs_arena->slot[i / 2].end[i & 1].holders, (uint32_t)change);
}

void vs_fd_bequeath(bool begin)
{
	for (unsigned i = 0; i < VS_SLOTS * 2 && vs_fds && vs_arena; i++)
		if (atomic_load_explicit(&copies[i], memory_order_relaxed) > 0)
			atomic_store(&vs_arena->slot[i / 2].end[i & 1].heir, begin ? (uint32_t)vs_sys_getpid() : 0);
}

void vs_fd_close_all(void)
{
	for (int fd = 0, top = atomic_load(&highest); vs_fds && !vs_fd_silent && fd <= top; fd++) {
		struct vs_conn c;
		bool conn = vs_fd_conn_checked(fd, &c);
		if (conn && vs_fd_copies(&c) == 1)
			vs_conn_closing(&c, fd);
		struct vs_udp *u = vs_udp_of(fd);
		if (u)
			vs_udp_note_closing(u, fd);
		else if (vs_fd_word(fd) != VS_FD_UNKNOWN)
			vs_book_closing(fd);
		if (conn || vs_fd_is_datagram(vs_fd_word(fd)))
			vs_fd_forget(fd);
	}
}

unsigned vs_fd_copies(const struct vs_conn *c)
{
	return atomic_load(&copies[(unsigned)(c->slot - vs_arena->slot) * 2 + (unsigned)c->side]);
}

void vs_fd_each(void (*f)(int fd, const struct vs_conn *c, void *arg), void *arg)
{
	for (int fd = 0, top = atomic_load(&highest); vs_fds && fd <= top; fd++) {
		struct vs_conn c;
		if (vs_fd_conn(fd, &c))
			f(fd, &c, arg);
	}
}
