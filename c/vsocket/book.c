/* book.c - writing connections down for a report. Nothing here runs unless somebody asked for one. */
#define _GNU_SOURCE
#include "book.h"
#include "sys.h"
#include "twin.h"
#include "watch.h"
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif
/* Rows that are looked at for one cookie. */
#define PROBES 64
#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW)

struct vs_book *vs_book;
_Static_assert(sizeof(struct rk_hist) <= VS_BOOK_HISTOGRAM_ROOM, "a histogram fits its place");

bool vs_book_map(int fd)
{
	struct stat st;
	if (fstat(fd, &st) || (uint64_t)st.st_size != VS_BOOK_SIZE || (vs_sys(SYS_fcntl, fd, F_GET_SEALS) & SEALS) != SEALS)
		return false;
	struct vs_book *b = mmap(NULL, VS_BOOK_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (b == MAP_FAILED)
		return false;
	if (b->magic != VS_BOOK_MAGIC || b->version != VS_BOOK_VERSION || b->row_bytes != sizeof(struct vs_book_row)) {
		munmap(b, VS_BOOK_SIZE);
		return false;
	}
	madvise(b, VS_BOOK_SIZE, MADV_DONTDUMP);
	vs_book = b;
	return true;
}

void vs_book_open(void)
{
	const char *path = secure_getenv(VS_ENV_BOOK);
	if (!path || !*path)
		return;
	int saved = errno;
	long fd = vs_sys(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
	if (fd >= 0) {
		if (vs_book_map((int)fd))
			vs_watch_wanted = vs_book->wanted;
		vs_sys(SYS_close, fd);
	}
	errno = saved;
}

void *vs_book_histogram(const struct vs_book_row *row)
{
	return (unsigned char *)vs_book + VS_BOOK_HISTOGRAMS_AT + (uint64_t)(row - vs_book->row) * VS_BOOK_HISTOGRAM_ROOM;
}

static _Atomic uint64_t *atomic64(uint64_t *p) { return (_Atomic uint64_t *)p; }

/* NULL: there is none, and for `make` no room for one. */
static struct vs_book_row *find(uint64_t cookie, bool make)
{
	uint64_t at = cookie * UINT64_C(0x9e3779b97f4a7c15) >> 40;
	for (unsigned i = 0; cookie && i < PROBES; i++) {
		struct vs_book_row *row = &vs_book->row[(at + i) % VS_BOOK_ROWS];
		uint64_t there = atomic_load(atomic64(&row->cookie));
		if (there == 0 && (!make || atomic_compare_exchange_strong(atomic64(&row->cookie), &there, cookie)))
			return make ? row : NULL;
		if (there == cookie)
			return row;
	}
	return NULL;
}

static bool lock_row(struct vs_book_row *row) { return vs_lock((_Atomic uint32_t *)&row->lock) != VS_LOCK_NESTED; }
static void unlock_row(struct vs_book_row *row) { vs_unlock((_Atomic uint32_t *)&row->lock); }

/* The cookie of a TCP socket, else 0. */
static uint64_t cookie_of(int fd)
{
	int protocol = 0;
	uint64_t cookie = 0;
	socklen_t len = sizeof protocol;
	if (vs_sys_getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &len) < 0 || protocol != IPPROTO_TCP)
		return 0;
	len = sizeof cookie;
	return vs_sys_getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len) < 0 ? 0 : cookie;
}

static void write_key(struct vs_book_row *row, const struct vs_key *key, int side)
{
	row->protocol = IPPROTO_TCP;
	memcpy(row->local, key->end[side].addr, 16);
	memcpy(row->remote, key->end[!side].addr, 16);
	row->local_port = ntohs(key->end[side].port);
	row->remote_port = ntohs(key->end[!side].port);
	row->scope = key->scope;
	row->netns = key->netns;
	row->side = (uint32_t)side;
}

static void read_key(const struct vs_book_row *row, struct vs_key *key, int side)
{
	memset(key, 0, sizeof *key);
	memcpy(key->end[side].addr, row->local, 16);
	memcpy(key->end[!side].addr, row->remote, 16);
	key->end[side].port = htons(row->local_port);
	key->end[!side].port = htons(row->remote_port);
	key->scope = row->scope;
}

/* Whose the other end is. The kernel knows only while some process has it. */
static void ask_peer(struct vs_book_row *row, const struct vs_key *key, int side)
{
	struct vs_twin_facts facts;
	if (row->local_host && row->peer_uid == UINT32_MAX && vs_twin_ask(key, !side, 0, &facts) == 1 && facts.inode)
		row->peer_uid = facts.uid;
}

/* A new row, or one that another process of this run has made: who uses it, and between which addresses. False when `fd` is not
 * connected. Under the row's lock. */
static bool identify(struct vs_book_row *row, int fd)
{
	struct vs_key key;
	uint64_t cookie;
	int side;
	if (row->state == 0) {
		row->peer_uid = UINT32_MAX;
		row->tx.kernel_bytes = row->rx.kernel_bytes = VS_BOOK_UNKNOWN;
	}
	enum vs_kind kind = vs_twin_identify(fd, &cookie, &key, &side);
	if (kind != VS_KIND_LOCAL && kind != VS_KIND_REMOTE)
		return row->state != 0;
	if (row->state == 0) {
		socklen_t len = sizeof key.netns;
		vs_sys_getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &key.netns, &len);
		row->local_host = kind == VS_KIND_LOCAL;
		write_key(row, &key, side);
		ask_peer(row, &key, side);
		row->state = VS_BOOK_OPEN;
	}
	if (row->pid == 0) {
		row->pid = (uint32_t)vs_sys_getpid();
		strncpy(row->program, program_invocation_short_name, sizeof row->program - 1);
	}
	return true;
}

/* The one who moves bytes is named, not the one who accepted and forked. */
static void use(struct vs_book_row *row, int fd)
{
	row->pid = 0;
	if (identify(row, fd))
		row->state = VS_BOOK_OPEN;
}

#define WITH_ROW(row, cookie, body)                                                                                    \
	do {                                                                                                           \
		struct vs_book_row *row = find(cookie, true);                                                          \
		if (row && lock_row(row)) {                                                                            \
			body;                                                                                          \
			unlock_row(row);                                                                               \
		}                                                                                                      \
	} while (0)

void vs_book_note_seen(int fd) { WITH_ROW(row, cookie_of(fd), use(row, fd)); }

void vs_book_note_attached(int fd, const struct vs_conn *c)
{
	WITH_ROW(row, cookie_of(fd), {
		use(row, fd);
		row->attached = 1;
		row->slot = (uint32_t)(c->slot - vs_arena->slot);
		row->gen = c->gen;
	});
}

void vs_book_note_refused(int fd, enum vs_plain why) { WITH_ROW(row, cookie_of(fd), row->refused |= (uint32_t)why); }

void vs_book_note_failed(int fd, int error)
{
	WITH_ROW(row, cookie_of(fd), {
		if (error)
			row->error = (uint32_t)-error;
		else
			row->refused |= VS_PLAIN_URING;
	});
}

static void add(uint64_t *sum, uint64_t n)
{
	if (n != VS_BOOK_UNKNOWN)
		atomic_fetch_add(atomic64(sum), n);
}

/* There was no row for it. */
static void add_to_rest(const struct vs_book_row *row)
{
	struct vs_book_rest *rest = &vs_book->rest;
	add(&rest->connections, 1);
	add(&rest->accelerated, row->tx.ring_bytes + row->rx.ring_bytes > 0);
	add(&rest->tx_ring_bytes, row->tx.ring_bytes);
	add(&rest->tx_kernel_bytes, row->tx.kernel_bytes);
	add(&rest->rx_ring_bytes, row->rx.ring_bytes);
	add(&rest->rx_kernel_bytes, row->rx.kernel_bytes);
	add(&rest->wrong_count, row->rx.wrong_count);
}

struct vs_book_row *vs_book_udp(int fd)
{
	uint64_t cookie = 0;
	socklen_t len = sizeof cookie;
	if (!vs_book || vs_sys_getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len) < 0)
		return NULL;
	struct vs_book_row *row = find(cookie, true);
	if (!row || !lock_row(row))
		return NULL;
	if (row->state == 0) {
		row->protocol = IPPROTO_UDP;
		row->local_host = 1;
		row->peer_uid = UINT32_MAX;
		row->pid = (uint32_t)vs_sys_getpid();
		strncpy(row->program, program_invocation_short_name, sizeof row->program - 1);
		row->state = VS_BOOK_OPEN;
	}
	unlock_row(row);
	return row;
}

static void write_udp_end(uint8_t addr[16], uint16_t *port, const struct sockaddr_storage *ss)
{
	struct vs_endpoint e;
	uint32_t scope;
	if (!vs_twin_endpoint(ss, &e, &scope))
		return;
	memcpy(addr, e.addr, 16);
	__atomic_store_n(port, ntohs(e.port), __ATOMIC_RELAXED);
}

bool vs_book_udp_is_noted(const struct vs_book_row *row, bool attached)
{
	return __atomic_load_n(&row->local_port, __ATOMIC_RELAXED) != 0 && __atomic_load_n(&row->attached, __ATOMIC_RELAXED) == attached;
}

void vs_book_udp_note(struct vs_book_row *row, int fd, const struct vs_udp_facts *facts)
{
	struct sockaddr_storage own, peer;
	socklen_t own_len = sizeof own, peer_len = sizeof peer;
	bool bound = vs_sys(SYS_getsockname, fd, &own, &own_len) >= 0, connected = vs_sys(SYS_getpeername, fd, &peer, &peer_len) >= 0;
	if (!lock_row(row))
		return;
	if (bound)
		write_udp_end(row->local, &row->local_port, &own);
	if (connected)
		write_udp_end(row->remote, &row->remote_port, &peer);
	__atomic_store_n(&row->attached, facts->attached, __ATOMIC_RELAXED);
	row->refused = facts->plain;
	row->rx.eager = facts->unseen;
	row->road = facts->far ? VS_ROAD_OPEN : VS_ROAD_NONE;
	if (facts->closed)
		row->state = VS_BOOK_CLOSED;
	unlock_row(row);
}

void vs_book_udp_unlisted(const struct vs_book_flow *tx, const struct vs_book_flow *rx)
{
	struct vs_book_row one = { .tx = *tx, .rx = *rx };
	add_to_rest(&one);
}

bool vs_book_from_inbox(struct vs_book_row *row, struct vs_inbox *in)
{
	uint64_t word = atomic_load(&in->word);
	*row = (struct vs_book_row){ .cookie = atomic_load(&in->cookie), .state = VS_BOOK_OPEN, .attached = 1, .protocol = IPPROTO_UDP, .local_host = 1,
				    .road = atomic_load(&in->far_until) ? VS_ROAD_OPEN : VS_ROAD_NONE };
	if (row->cookie == 0 || row->cookie == UINT64_MAX)
		return false;
	row->pid = atomic_load(&in->pid);
	row->netns = atomic_load(&in->netns);
	row->peer_uid = UINT32_MAX;
	memcpy(row->local, in->at.addr, 16);
	row->local_port = ntohs(in->at.port);
	row->tx.kernel_bytes = row->rx.kernel_bytes = VS_BOOK_UNKNOWN;
	row->rx.ring_bytes = atomic_load(&in->read_bytes);
	row->rx.datagrams = atomic_load(&in->read);
	row->rx.natives = atomic_load(&in->natives);
	row->rx.overflows = atomic_load(&in->drops);
	row->rx.in_ring = VS_INBOX_STATE(word) == VS_INBOX_OPEN;
	return true;
}

static void close_row(struct vs_book_row *row, int fd, bool listed)
{
	struct vs_conn c;
	struct vs_key key;
	uint64_t sent, received;
	bool others = false;
	if (!identify(row, fd))
		return;
	if (vs_fd_conn(fd, &c) && atomic_load(&c.slot->gen) == c.gen) {
		row->attached = 1;
		row->slot = (uint32_t)(c.slot - vs_arena->slot);
		row->gen = c.gen;
		vs_book_from_slot(row, c.slot, c.side, listed ? vs_book_histogram(row) : NULL);
		others = atomic_load(&c.slot->end[c.side].holders) > 1 || vs_fd_copies(&c) > 1;
	}
	read_key(row, &key, (int)row->side & 1);
	ask_peer(row, &key, (int)row->side & 1);
	if (vs_twin_counts(fd, &sent, &received) == 0)
		vs_book_count_kernel(row, sent, received);
	if (!others)
		row->state = VS_BOOK_CLOSED;
}

void vs_book_note_closing(int fd)
{
	uint64_t cookie = cookie_of(fd);
	struct vs_book_row *row = cookie ? find(cookie, true) : NULL, one = { .cookie = cookie };
	if (row && lock_row(row)) {
		close_row(row, fd, true);
		unlock_row(row);
	} else if (cookie && !row) {
		close_row(&one, fd, false);
		if (one.state == VS_BOOK_CLOSED)
			add_to_rest(&one);
	}
}

void vs_book_note_stranger(const char *path)
{
	uint32_t i = atomic_fetch_add((_Atomic uint32_t *)&vs_book->strangers, 1);
	if (i >= VS_BOOK_STRANGERS)
		return;
	vs_book->stranger[i].pid = (uint32_t)vs_sys_getpid();
	strncpy(vs_book->stranger[i].path, path, sizeof vs_book->stranger[i].path - 1);
}

void vs_book_note_dropped(void) { atomic_fetch_add_explicit((_Atomic uint64_t *)&vs_book->dropped, 1, memory_order_relaxed); }

static void from_watch(struct vs_book_flow *flow, const struct vs_dir *d, struct vs_watch *w)
{
	uint32_t watched = atomic_load(&d->watched);
	flow->hashed = (watched & VS_WATCH_HASH) != 0;
	flow->verified_bytes = w->verified_bytes;
	flow->wrong_count = w->wrong_count;
	flow->wrong_from = w->wrong_from;
	flow->wrong_to = w->wrong_to;
}

/* The latencies of a direction, read from the file: looking at the mapping would take memory for all that was never used. The copy is
 * complete between the buckets of its smallest and largest value only. NULL: there are none. */
static const struct rk_hist *read_latencies(const struct vs_watch *w)
{
	static __thread struct rk_hist *copy;
	const uint64_t at = (uint64_t)((const unsigned char *)&w->latency - (const unsigned char *)vs_arena);
	const size_t head = sizeof *copy - sizeof copy->counts;
	if (!copy && !(copy = malloc(sizeof *copy)))
		return NULL;
	if (vs_sys(SYS_pread64, vs_arena_fd(), copy, head, at) != (long)head || copy->total == 0 || copy->min_ns > copy->max_ns)
		return NULL;
	uint32_t first = rk_hist_index(copy->min_ns), last = rk_hist_index(copy->max_ns);
	long len = (long)((last - first + 1) * sizeof copy->counts[0]);
	if (vs_sys(SYS_pread64, vs_arena_fd(), &copy->counts[first], len, at + head + first * sizeof copy->counts[0]) != len)
		return NULL;
	return copy;
}

static uint64_t percentile(const struct rk_hist *h, unsigned percent)
{
	uint64_t rank = h->total / 100 * percent + (h->total % 100 * percent + 99) / 100, seen = 0;
	uint32_t last = rk_hist_index(h->max_ns);
	for (uint32_t i = rk_hist_index(h->min_ns); i < last; i++) {
		seen += h->counts[i];
		if (seen >= rank)
			return rk_hist_upper_bound(i);
	}
	return h->max_ns;
}

static void from_latencies(struct vs_book_flow *flow, const struct rk_hist *h)
{
	flow->latency_count = h->total;
	flow->latency_min_ns = h->min_ns;
	flow->latency_p50_ns = percentile(h, 50);
	flow->latency_p99_ns = percentile(h, 99);
	flow->latency_max_ns = h->max_ns;
}

/* Only what is in use, so that no memory is taken for the rest. */
static void keep_latencies(struct rk_hist *to, const struct rk_hist *from)
{
	memcpy(to, from, sizeof *to - sizeof to->counts);
	for (uint32_t i = rk_hist_index(from->min_ns), last = rk_hist_index(from->max_ns); i <= last; i++)
		if (from->counts[i])
			to->counts[i] = from->counts[i];
}

static void from_dir(struct vs_book_flow *flow, struct vs_slot *slot, int dir, bool sending, void *histogram)
{
	struct vs_dir *d = &slot->dir[dir];
	flow->ring_bytes = atomic_load(sending ? &d->tx_ring_bytes : &d->rx_ring_bytes);
	flow->promotions = atomic_load(&d->tx_promotions);
	flow->overflows = atomic_load(&d->tx_overflows);
	flow->natives = atomic_load(&d->tx_natives);
	flow->bells = atomic_load(&d->tx_bells);
	flow->sleeps = atomic_load(&d->rx_sleeps);
	flow->plain = atomic_load(&d->plain);
	flow->in_ring = vs_epoch_is_ring(atomic_load(&d->epoch_tx));
	flow->eager = atomic_load(&d->eager);
	struct vs_watch *w = vs_watch_of(slot, dir);
	if (!atomic_load(&d->watched) || atomic_load(&w->gen) != atomic_load(&slot->gen))
		return;
	from_watch(flow, d, w);
	/* Over there it is known what became of it. */
	if (sending && atomic_load(&slot->remote))
		flow->hashed = false;
	const struct rk_hist *latencies = read_latencies(w);
	if (latencies)
		from_latencies(flow, latencies);
	if (latencies && histogram)
		keep_latencies(histogram, latencies);
}

void vs_book_from_slot(struct vs_book_row *row, struct vs_slot *slot, int side, void *histogram)
{
	const struct vs_end *peer = &slot->end[!side];
	from_dir(&row->tx, slot, side, true, NULL);
	from_dir(&row->rx, slot, !side, false, histogram);
	row->side = (uint32_t)side;
	row->peer = atomic_load(&peer->cookie) ? VS_BOOK_PEER_LIBRARY : VS_BOOK_PEER_NEVER;
	row->peer_pid = atomic_load(&peer->pid);
	row->road = atomic_load(&slot->road);
	bool remote = row->road != VS_ROAD_NONE;
	if (row->peer == VS_BOOK_PEER_LIBRARY && !remote)
		row->peer_uid = (uint32_t)geteuid(); /* the arena is one user's */
	if (remote)
		row->peer_pid = 0;
	if (row->local_port == 0) {
		write_key(row, &slot->key, side);
		row->local_host = !remote;
	}
}

void vs_book_count_kernel(struct vs_book_row *row, uint64_t sent, uint64_t received)
{
	row->tx.kernel_bytes = sent > row->tx.bells ? sent - row->tx.bells : 0;
	row->rx.kernel_bytes = received > row->rx.bells ? received - row->rx.bells : 0;
}

bool vs_book_ask_kernel(struct vs_book_row *row)
{
	struct vs_key key;
	struct vs_twin_facts facts;
	read_key(row, &key, (int)row->side & 1);
	ask_peer(row, &key, (int)row->side & 1);
	if (vs_twin_ask(&key, (int)row->side & 1, row->cookie, &facts) != 1)
		return false;
	if (facts.counted)
		vs_book_count_kernel(row, facts.sent, facts.received);
	return facts.inode != 0;
}
