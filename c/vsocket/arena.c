/* arena.c - finding the shared memory, and its slots. */
#define _GNU_SOURCE
#include "arena.h"
#include "gone.h"
#include "lock.h"
#include "sys.h"
#include "twin.h"
#include "watch.h"
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define ROWS 1024
#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)
/* The descriptor sits above what select() can name and what most programs close in a loop. */
#define FD_PLACE 1000
/* How long a process that was stopped with the lock is waited for. Closing leaves the rest to a sweep; a new connection can do without;
 * but one that others have, too, must not be taken for the kernel's alone. */
#define LOCK_MS 100
#define LOCK_SHARED_MS 10000
#define GRACE_NS UINT64_C(10000000000)

/* The file in the runtime directory. */
struct roll {
	uint64_t dev, ino; /* of the arena's memory file */
	struct {
		int32_t pid, fd;
	} row[ROWS];
};

struct vs_arena *vs_arena;
static int arena_fd = -1;
static _Atomic int opened = 1; /* 1: not tried; else what the attempt returned */
static _Atomic uint32_t open_lock;
static char roll_path[128];

int vs_arena_fd(void) { return arena_fd; }

/* 0700 and ours, or it is not used: in a shared /tmp anybody may have made it before us. */
static bool private_dir(const char *path)
{
	struct stat st;
	if (vs_sys(SYS_mkdirat, AT_FDCWD, path, 0700) < 0 && lstat(path, &st))
		return false;
	return !lstat(path, &st) && S_ISDIR(st.st_mode) && st.st_uid == geteuid() && !(st.st_mode & 077) && !access(path, W_OK | X_OK);
}

static bool try_dir(const char *format)
{
	char dir[96];
	int n = snprintf(dir, sizeof dir, format, (unsigned)geteuid());
	if (n <= 0 || (size_t)n >= sizeof dir || !private_dir(dir))
		return false;
	snprintf(roll_path, sizeof roll_path, "%s/sockets-%d", dir, VS_VERSION);
	return true;
}

/* The same places in the same order as the embedded device: processes of a user must come to the same answer. */
static bool find_dir(void)
{
	const char *own = secure_getenv("RDMAKIT_RUNTIME_DIR");
	if (own && *own)
		return strlen(own) < 90 && !strchr(own, '%') && try_dir(own);
	return try_dir("/run/user/%u/rdmakit") || try_dir("/tmp/rdmakit-%u") || try_dir("/var/tmp/rdmakit-%u") ||
	       try_dir("/dev/shm/rdmakit-%u");
}

static int open_roll(void)
{
	long fd = vs_sys(SYS_openat, AT_FDCWD, roll_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	struct stat st;
	if (fd < 0)
		return (int)fd;
	if (fstat((int)fd, &st) || !S_ISREG(st.st_mode) || st.st_uid != geteuid()) {
		vs_sys(SYS_close, fd);
		return -EACCES;
	}
	long r;
	do
		r = vs_sys(SYS_flock, fd, LOCK_EX);
	while (r == -EINTR);
	return (int)fd;
}

static bool is_arena(int fd, const struct roll *roll)
{
	struct stat st;
	return !fstat(fd, &st) && st.st_dev == roll->dev && st.st_ino == roll->ino && (uint64_t)st.st_size == VS_ARENA_SIZE &&
	       (vs_sys(SYS_fcntl, fd, F_GET_SEALS) & SEALS) == SEALS;
}

static int open_of_holder(const struct roll *roll)
{
	for (unsigned i = 0; i < ROWS; i++) {
		char path[48];
		if (roll->row[i].pid <= 0)
			continue;
		snprintf(path, sizeof path, "/proc/%d/fd/%d", roll->row[i].pid, roll->row[i].fd);
		/* Looked at before it is opened: the number may be a device's by now, to which opening alone does something. */
		struct stat st;
		if (stat(path, &st) || st.st_dev != roll->dev || st.st_ino != roll->ino)
			continue;
		long fd = vs_sys(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
		if (fd < 0)
			continue;
		if (is_arena((int)fd, roll))
			return (int)fd;
		vs_sys(SYS_close, fd);
	}
	return -1;
}

static int make_arena(struct roll *roll)
{
	struct stat st;
	long fd = vs_sys(SYS_memfd_create, "rdmakit-sockets", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return (int)fd;
	long r = vs_sys(SYS_ftruncate, fd, VS_ARENA_SIZE);
	if (r >= 0)
		r = vs_sys(SYS_fcntl, fd, F_ADD_SEALS, SEALS);
	if (r < 0 || fstat((int)fd, &st)) {
		vs_sys(SYS_close, fd);
		return r < 0 ? (int)r : -EIO;
	}
	memset(roll, 0, sizeof *roll);
	roll->dev = st.st_dev;
	roll->ino = st.st_ino;
	return (int)fd;
}

/* One that has ended and was not waited for counts as alive: whoever asks this can wait. */
static bool alive(int pid) { return pid > 0 && vs_sys(SYS_kill, pid, 0) != -ESRCH; }

static void enter_roll(struct roll *roll, int pid, int fd)
{
	unsigned place = ROWS;
	for (unsigned i = 0; i < ROWS; i++) {
		if (roll->row[i].pid == pid) {
			place = i;
			break;
		}
		if (place == ROWS && !alive(roll->row[i].pid))
			place = i;
	}
	if (place < ROWS) {
		roll->row[place].pid = pid;
		roll->row[place].fd = fd;
	}
}

static void write_roll(int roll_fd, const struct roll *roll) { vs_sys(SYS_pwrite64, roll_fd, roll, sizeof *roll, 0); }

static int map_arena(int fd, int protection)
{
	void *p = mmap(NULL, VS_ARENA_SIZE, protection, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	madvise(p, VS_ARENA_SIZE, MADV_DONTDUMP);
	struct vs_arena *a = p;
	if (a->magic == 0 && (protection & PROT_WRITE)) {
		a->version = VS_VERSION;
		a->slot_size = sizeof(struct vs_slot);
		a->magic = VS_MAGIC;
	}
	if (a->magic != VS_MAGIC || a->version != VS_VERSION || a->slot_size != sizeof(struct vs_slot)) {
		munmap(p, VS_ARENA_SIZE);
		return -EPROTO;
	}
	vs_arena = a;
	return 0;
}

static int open_arena(void)
{
	if (!find_dir())
		return -EACCES;
	int roll_fd = open_roll();
	if (roll_fd < 0)
		return roll_fd;
	struct roll roll;
	if (vs_sys(SYS_pread64, roll_fd, &roll, sizeof roll, 0) != sizeof roll)
		memset(&roll, 0, sizeof roll);
	int fd = open_of_holder(&roll);
	if (fd < 0)
		fd = make_arena(&roll);
	int r = fd < 0 ? fd : map_arena(fd, PROT_READ | PROT_WRITE);
	if (r == 0) {
		long high = vs_sys(SYS_fcntl, fd, F_DUPFD_CLOEXEC, FD_PLACE);
		if (high >= 0) {
			vs_sys(SYS_close, fd);
			fd = (int)high;
		}
		arena_fd = fd;
		enter_roll(&roll, vs_sys_getpid(), fd);
		write_roll(roll_fd, &roll);
	} else if (fd >= 0) {
		vs_sys(SYS_close, fd);
	}
	vs_sys(SYS_close, roll_fd);
	return r;
}

int vs_arena_open(void)
{
	int r = atomic_load_explicit(&opened, memory_order_acquire);
	if (r <= 0)
		return r;
	if (vs_lock(&open_lock) == VS_LOCK_NESTED)
		return -EDEADLK;
	r = atomic_load(&opened);
	if (r > 0) {
		int saved = errno;
		r = open_arena();
		errno = saved;
		atomic_store_explicit(&opened, r, memory_order_release);
	}
	vs_unlock(&open_lock);
	return r;
}

int vs_arena_look(void)
{
	struct roll roll;
	if (!find_dir() || access(roll_path, R_OK))
		return -ENOENT;
	int roll_fd = open_roll(), fd = -1;
	if (roll_fd < 0)
		return roll_fd;
	if (vs_sys(SYS_pread64, roll_fd, &roll, sizeof roll, 0) == sizeof roll)
		fd = open_of_holder(&roll);
	vs_sys(SYS_close, roll_fd);
	if (fd < 0)
		return -ENOENT;
	int r = map_arena(fd, PROT_READ);
	if (r < 0)
		vs_sys(SYS_close, fd);
	else
		arena_fd = fd;
	return r;
}

void vs_arena_enlist(void)
{
	if (!vs_arena || arena_fd < 0)
		return;
	struct roll roll;
	int roll_fd = open_roll();
	if (roll_fd < 0)
		return;
	if (vs_sys(SYS_pread64, roll_fd, &roll, sizeof roll, 0) == sizeof roll && is_arena(arena_fd, &roll)) {
		enter_roll(&roll, vs_sys_getpid(), arena_fd);
		write_roll(roll_fd, &roll);
	}
	vs_sys(SYS_close, roll_fd);
}

static uint32_t bucket_of(const struct vs_key *key)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
	const unsigned char *p = (const void *)key;
	for (size_t i = 0; i < sizeof *key; i++)
		h = (h ^ p[i]) * UINT64_C(0x100000001b3);
	return (uint32_t)(h >> 32) % VS_BUCKETS;
}

static struct vs_slot *slot_at(uint32_t index_plus_1)
{
	return index_plus_1 > 0 && index_plus_1 <= VS_SLOTS ? &vs_arena->slot[index_plus_1 - 1] : NULL;
}

static bool in_use(const struct vs_slot *s) { return atomic_load(&s->gen) & 1; }

/* How many slots were ever used: never more than there are, whatever is written there. */
static uint32_t used_end(void)
{
	uint32_t n = *(volatile uint32_t *)&vs_arena->used_end;
	return n < VS_SLOTS ? n : VS_SLOTS;
}

static struct vs_slot *find(const struct vs_key *key)
{
	unsigned hops = 0;
	struct vs_slot *s = slot_at(vs_arena->bucket[bucket_of(key)]);
	while (s && (!in_use(s) || memcmp(&s->key, key, sizeof *key)))
		s = ++hops < VS_SLOTS ? slot_at(s->next) : NULL;
	return s;
}

static void unfile(struct vs_slot *slot)
{
	uint32_t b = bucket_of(&slot->key), own = (uint32_t)(slot - vs_arena->slot) + 1;
	unsigned hops = 0;
	if (!slot->filed)
		return;
	slot->filed = false;
	if (vs_arena->bucket[b] == own) {
		vs_arena->bucket[b] = (uint16_t)slot->next;
		return;
	}
	for (struct vs_slot *s = slot_at(vs_arena->bucket[b]); s && hops < VS_SLOTS; s = slot_at(s->next), hops++) {
		if (s->next == own) {
			s->next = slot->next;
			return;
		}
	}
}

/* Makes the lists of slots anew: whoever had the lock was killed in the middle of something. */
static void rebuild(void)
{
	struct vs_arena *a = vs_arena;
	memset(a->bucket, 0, sizeof a->bucket);
	a->free_first = a->in_use = 0;
	for (uint32_t i = used_end(); i > 0; i--) {
		struct vs_slot *s = &a->slot[i - 1];
		if (!in_use(s)) {
			s->next = a->free_first;
			a->free_first = i;
			continue;
		}
		a->in_use++;
		if (s->filed) {
			uint32_t b = bucket_of(&s->key);
			s->next = a->bucket[b];
			a->bucket[b] = (uint16_t)i;
		}
	}
}

/* False: do without; its owner is stopped, or this thread is in a signal handler on top of it. */
static bool lock_arena(uint32_t limit_ms)
{
	enum vs_locked l = vs_lock_within(&vs_arena->lock, limit_ms);
	if (l == VS_LOCK_STOLEN)
		rebuild();
	return l == VS_LOCKED || l == VS_LOCK_STOLEN;
}

/* Gives ring memory back that a new connection would not soon use. */
static void trim(struct vs_slot *slot)
{
	for (int d = 0; d < 2; d++) {
		if (slot->dir[d].tail > VS_RING_MIN)
			madvise(vs_ring_of(slot, d) + VS_RING_MIN, VS_RING_MAX - VS_RING_MIN, MADV_REMOVE);
		if (vs_watched(&slot->dir[d]))
			madvise(vs_watch_of(slot, d), VS_WATCH_ROOM, MADV_REMOVE);
	}
}

/* Takes a lock that is free or whose owner was killed. */
static bool take_lock(_Atomic uint32_t *lock)
{
	uint32_t owner = 0;
	return atomic_compare_exchange_strong(lock, &owner, (uint32_t)vs_self()) ||
	       (vs_gone((int)owner) && atomic_compare_exchange_strong(lock, &owner, (uint32_t)vs_self()));
}

/* A slot in which a thread is still at work is left to a later sweep. */
static void release(struct vs_slot *slot)
{
	_Atomic uint32_t *lock[4] = { &slot->dir[0].tx_lock, &slot->dir[0].rx_lock, &slot->dir[1].tx_lock, &slot->dir[1].rx_lock };
	int held = 0;
	while (held < 4 && take_lock(lock[held]))
		held++;
	if (held == 4) {
		unfile(slot);
		trim(slot);
		atomic_fetch_add(&slot->gen, 1);
	}
	while (held > 0)
		vs_unlock(lock[--held]);
	if (in_use(slot))
		return;
	slot->next = vs_arena->free_first;
	vs_arena->free_first = (uint32_t)(slot - vs_arena->slot) + 1;
	vs_arena->in_use--;
}

/* The kernel forgets a socket's addresses when its connection has ended, but the application may still read what is in the ring:
 * hence also the process must be gone. */
static bool gone(const struct vs_slot *slot, int side)
{
	const struct vs_end *e = &slot->end[side];
	uint64_t cookie = atomic_load(&e->cookie);
	return cookie == 0 || atomic_load(&e->closed) ||
	       ((atomic_load(&e->holders) == 0 || !alive((int)atomic_load(&e->pid))) && vs_twin_exists(&slot->key, side, cookie) == 0);
}

/* Processes that are killed free nothing: with every new connection one slot is asked after. It is freed when nobody was found twice,
 * some time apart, because another process than the one that is noted may be a holder. */
static void sweep_one(bool at_once)
{
	const uint32_t end = used_end();
	if (end == 0)
		return;
	struct vs_slot *s = &vs_arena->slot[vs_arena->sweep++ % end];
	if (!in_use(s))
		return;
	if (!gone(s, 0) || !gone(s, 1)) {
		s->suspect_ns = 0;
		return;
	}
	if (s->suspect_ns == 0)
		s->suspect_ns = vs_now_ns();
	if (at_once || vs_now_ns() - s->suspect_ns > GRACE_NS)
		release(s);
}

/* A list that leads to a slot in use is wrong as a whole. */
static struct vs_slot *first_free(void)
{
	struct vs_slot *s = slot_at(vs_arena->free_first);
	if (s && in_use(s)) {
		rebuild();
		s = slot_at(vs_arena->free_first);
	}
	return s && !in_use(s) ? s : NULL;
}

static struct vs_slot *take(void)
{
	struct vs_slot *s = first_free();
	uint32_t end = used_end();
	for (unsigned i = 0; i < VS_SLOTS && !s && end >= VS_SLOTS; i++) {
		sweep_one(true);
		s = first_free();
	}
	/* Beyond the end nobody has one, unless something else than we has written the number. */
	while (!s && end < VS_SLOTS && in_use(&vs_arena->slot[end]))
		end++;
	if (s) {
		vs_arena->free_first = s->next;
	} else if (end < VS_SLOTS) {
		s = &vs_arena->slot[end];
		vs_arena->used_end = end + 1;
	} else {
		return NULL;
	}
	vs_arena->in_use++;
	uint32_t gen = atomic_load(&s->gen);
	memset((char *)s + sizeof s->gen, 0, sizeof *s - sizeof s->gen);
	for (int d = 0; d < 2; d++)
		s->dir[d].bell = VS_BELL(0, VS_ARMED);
	atomic_store(&s->gen, gen + 1);
	return s;
}

struct vs_slot *vs_arena_attach(const struct vs_key *key, int side, uint64_t cookie, bool shared, uint32_t *gen)
{
	if (!lock_arena(shared ? LOCK_SHARED_MS : LOCK_MS))
		return NULL;
	sweep_one(false);
	struct vs_slot *s = find(key);
	/* Addresses repeat: another socket at our end means that the slot was made by an earlier connection. */
	uint64_t there = s ? atomic_load(&s->end[side].cookie) : 0;
	if (s && there != 0 && there != cookie) {
		unfile(s);
		s = NULL;
	}
	if (!s && (s = take())) {
		uint32_t b = bucket_of(key);
		s->key = *key;
		s->next = vs_arena->bucket[b];
		vs_arena->bucket[b] = (uint16_t)(s - vs_arena->slot + 1);
		s->filed = true;
	}
	if (s) {
		struct vs_end *e = &s->end[side];
		uint32_t heir = (uint32_t)vs_sys_getpid();
		atomic_store(&e->pid, heir);
		if (!atomic_compare_exchange_strong(&e->heir, &heir, 0))
			atomic_fetch_add(&e->holders, 1);
		atomic_store(&e->closed, 0);
		*gen = atomic_load(&s->gen);
		if (vs_watch_wanted)
			vs_watch_begin(s, vs_watch_wanted);
		atomic_store(&e->cookie, cookie);
	}
	vs_unlock(&vs_arena->lock);
	return s;
}

struct vs_slot *vs_arena_find(const struct vs_key *key, uint32_t *gen)
{
	if (!vs_arena || !lock_arena(LOCK_MS))
		return NULL;
	struct vs_slot *s = find(key);
	if (s)
		*gen = atomic_load(&s->gen);
	vs_unlock(&vs_arena->lock);
	return s;
}

bool vs_arena_find_cookie(uint64_t cookie, struct vs_key *key, int *side)
{
	bool found = false;
	if (!vs_arena || cookie == 0 || !lock_arena(LOCK_MS))
		return false;
	for (uint32_t i = 0, n = vs_arena->used_end; i < n && i < VS_SLOTS && !found; i++) {
		const struct vs_slot *s = &vs_arena->slot[i];
		for (int end = 0; end < 2 && !found && s->filed && (atomic_load(&s->gen) & 1); end++) {
			found = atomic_load(&s->end[end].cookie) == cookie;
			*key = s->key;
			*side = end;
		}
	}
	vs_unlock(&vs_arena->lock);
	return found;
}

void vs_arena_unfile(struct vs_slot *slot)
{
	if (!lock_arena(LOCK_MS))
		return;
	unfile(slot);
	vs_unlock(&vs_arena->lock);
}

/* The process that is noted for an end need not be its only one: nobody at all has the socket. */
static bool killed(const struct vs_slot *slot, int side)
{
	const struct vs_end *e = &slot->end[side];
	return vs_gone((int)atomic_load(&e->pid)) && vs_twin_exists(&slot->key, side, atomic_load(&e->cookie)) == 0;
}

void vs_arena_detach(struct vs_slot *slot, int side)
{
	struct vs_end *e = &slot->end[side];
	const struct vs_end *peer = &slot->end[!side];
	const bool locked = lock_arena(LOCK_MS);
	/* Others may have it of whom nothing is known yet: a sweep will find out. */
	const bool lives_on = atomic_load(&e->shared) || (atomic_load(&slot->dir[!side].plain) & (VS_PLAIN_HANDED | VS_PLAIN_FOREIGN));
	uint32_t holders = atomic_load(&e->holders);
	while (holders > 0 && !atomic_compare_exchange_weak(&e->holders, &holders, holders - 1))
		;
	if (holders <= 1 && !lives_on)
		atomic_store(&e->closed, 1);
	/* A peer that was killed says nothing. When another process may have its end, too, a sweep finds out. */
	if (locked && in_use(slot) && holders <= 1 && !lives_on &&
	    (atomic_load(&peer->cookie) == 0 || atomic_load(&peer->closed) ||
	     (atomic_load(&peer->holders) <= 1 && killed(slot, !side))))
		release(slot);
	if (locked)
		vs_unlock(&vs_arena->lock);
}
