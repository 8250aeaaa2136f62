/* registry.c - the private directory, the per-namespace file in it, rows and their locks. */
#define _GNU_SOURCE
#include "registry.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>
#include "domains.h"
#include "ports.h"

#define MAGIC 0x3352474552746b72ull /* "rktREGR3" */
#define MUTEX_BYTE SR_SLOTS
#define PORTS_BYTE (SR_SLOTS + 1)
#define DOMAINS_BYTE (SR_SLOTS + 2)

struct row {
	_Atomic uint64_t generation; /* 0: never used */
	_Atomic uint64_t joined;     /* order of joining */
	_Atomic uint32_t pid;        /* for people; liveness is the lock */
	_Atomic uint32_t shm_ok;
};

struct file {
	uint64_t magic;
	uint64_t last_joined;
	struct row rows[SR_SLOTS];
	_Alignas(64) unsigned char wire[SR_REGISTRY_WIRE_BYTES];
	struct sr_port_table ports;
	struct sr_domain_table domains;
};

static struct {
	int fd;
	struct file *file;
	char dir[108 - 24];
	uint64_t netns;
} reg = { .fd = -1 };

/* 0700 and ours, or it is not used: in a shared /tmp anybody may have made it before us. */
static bool private_dir(const char *path)
{
	struct stat st;
	if (mkdir(path, 0700) && errno != EEXIST)
		return false;
	return !lstat(path, &st) && S_ISDIR(st.st_mode) && st.st_uid == geteuid() && !(st.st_mode & 077) &&
	       !access(path, W_OK | X_OK);
}

static bool try_dir(char *dir, size_t size, const char *format)
{
	int n = snprintf(dir, size, format, (unsigned)geteuid());
	return n > 0 && (size_t)n < size && private_dir(dir);
}

/* All processes of a user must come to the same answer, whatever their environment is: a login shell knows XDG_RUNTIME_DIR, a
 * cron job does not. Hence fixed places; the override is for people who know what they do. */
int sr_registry_dir(char *dir, size_t size)
{
	const char *own = getenv("RDMAKIT_RUNTIME_DIR");
	if (own && *own) {
		int n = snprintf(dir, size, "%s", own);
		return n > 0 && (size_t)n < size && private_dir(dir) ? 0 : EACCES;
	}
	static const char *const places[] = { "/run/user/%u/rdmakit", "/tmp/rdmakit-%u", "/var/tmp/rdmakit-%u",
					      "/dev/shm/rdmakit-%u" };
	for (size_t i = 0; i < sizeof places / sizeof *places; i++)
		if (try_dir(dir, size, places[i]))
			return 0;
	return EACCES;
}

static int lock_byte(off_t byte, short type, bool wait)
{
	struct flock l = { .l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };
	int r;
	do
		r = fcntl(reg.fd, wait ? F_OFD_SETLKW : F_OFD_SETLK, &l);
	while (r && errno == EINTR);
	return r ? errno : 0;
}

/* Opens, or makes, this namespace's file and takes its mutex. EAGAIN: somebody removed it between the two (sweep_namespaces()). */
static int open_and_lock(void)
{
	char path[160];
	struct stat st;
	snprintf(path, sizeof path, "%s/net-%llu", reg.dir, (unsigned long long)reg.netns);
	reg.fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (reg.fd < 0)
		return errno;
	int err = lock_byte(MUTEX_BYTE, F_WRLCK, true);
	if (err)
		return err;
	if (fstat(reg.fd, &st) || st.st_uid != geteuid() || !S_ISREG(st.st_mode))
		return EACCES;
	if (!st.st_nlink)
		return EAGAIN;
	if ((size_t)st.st_size < sizeof(struct file) && ftruncate(reg.fd, sizeof(struct file)))
		return errno;
	reg.file = mmap(NULL, sizeof(struct file), PROT_READ | PROT_WRITE, MAP_SHARED, reg.fd, 0);
	if (reg.file == MAP_FAILED) {
		reg.file = NULL;
		return errno;
	}
	if (reg.file->magic != MAGIC) {
		if (reg.file->magic) /* of another version: nobody of ours can be alive in it. A new file is zero, and sparse */
			memset(reg.file, 0, sizeof *reg.file);
		reg.file->magic = MAGIC;
	}
	return 0;
}

/* Comes back with the mutex taken. */
static int open_file(void)
{
	struct stat st;
	int err = sr_registry_dir(reg.dir, sizeof reg.dir);
	if (err)
		return err;
	if (stat("/proc/self/ns/net", &st))
		return errno;
	reg.netns = st.st_ino;
	while ((err = open_and_lock()) == EAGAIN)
		close(reg.fd);
	return err;
}

char *sr_registry_socket_path(unsigned slot, char *buf, size_t len)
{
	snprintf(buf, len, "%s/%llu-%u.sock", reg.dir, (unsigned long long)reg.netns, slot);
	return buf;
}

/* Our own row's lock is invisible to our own test. */
bool sr_registry_alive(unsigned slot)
{
	if (slot == sr.slot && sr.slot)
		return true;
	if (slot == 0 || slot >= SR_SLOTS - 1 || reg.fd < 0)
		return false;
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = slot, .l_len = 1 };
	return !fcntl(reg.fd, F_OFD_GETLK, &l) && l.l_type != F_UNLCK;
}

uint64_t sr_registry_generation(unsigned slot)
{
	return reg.file && slot < SR_SLOTS ? atomic_load(&reg.file->rows[slot].generation) : 0;
}

bool sr_registry_shm_ok(unsigned slot) { return reg.file && slot < SR_SLOTS && atomic_load(&reg.file->rows[slot].shm_ok); }

static uint64_t random64(void)
{
	uint64_t r = 0;
	while (!r && getrandom(&r, sizeof r, 0) != sizeof r)
		r = sr_now_ns();
	return r | 1;
}

static bool road_wanted(void)
{
	const char *road = getenv("RDMAKIT_ROAD");
	return !road || strcmp(road, "wire");
}

/* Removes the socket files of processes that were killed. Under the registry's lock. */
static void sweep(void)
{
	char path[108];
	for (unsigned slot = 1; slot < SR_SLOTS - 1; slot++) {
		struct row *row = &reg.file->rows[slot];
		if (!atomic_load(&row->generation) || sr_registry_alive(slot))
			continue;
		unlink(sr_registry_socket_path(slot, path, sizeof path));
		atomic_store(&row->generation, 0);
	}
}

/* Of a name "net-N" of another namespace's file, or "N-SLOT.sock", the namespace's number; 0 for other names. */
static unsigned long long namespace_of(const char *name)
{
	unsigned long long netns = 0;
	unsigned slot;
	int end = 0;
	if (sscanf(name, "net-%llu%n", &netns, &end) == 1 && !name[end])
		return netns;
	return sscanf(name, "%llu-%u.sock%n", &netns, &slot, &end) == 2 && end && !name[end] ? netns : 0;
}

/* Removes the file of a namespace in which no process of ours lives any more; most such namespaces are gone. Returns whether there is
 * none now. Who opens it at this moment finds out (open_and_lock()). */
static bool remove_deserted(int dir, unsigned long long netns)
{
	char name[40];
	snprintf(name, sizeof name, "net-%llu", netns);
	int fd = openat(dir, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return errno == ENOENT;
	struct flock all = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = MUTEX_BYTE + 1 }; /* the rows and the mutex */
	bool deserted = !fcntl(fd, F_OFD_SETLK, &all) && !unlinkat(dir, name, 0);
	close(fd);
	return deserted;
}

/* Files that processes left in namespaces which are gone would otherwise stay for ever. */
static void sweep_namespaces(void)
{
	int fd = open(reg.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	if (!d) {
		if (fd >= 0)
			close(fd);
		return;
	}
	for (struct dirent *e; (e = readdir(d));) {
		unsigned long long netns = namespace_of(e->d_name);
		if (netns && netns != reg.netns && remove_deserted(fd, netns))
			unlinkat(fd, e->d_name, 0); /* the file itself, or a socket of it */
	}
	closedir(d);
}

/* A file that was opened when all slots were taken may have been removed since. */
static int reopen(void)
{
	struct stat st;
	int err = lock_byte(MUTEX_BYTE, F_WRLCK, true);
	if (err || fstat(reg.fd, &st) || st.st_nlink)
		return err;
	sr_registry_abandon();
	return open_file();
}

int sr_registry_join(void)
{
	if (sr.slot)
		return 0;
	int err = reg.file ? reopen() : open_file();
	if (err) {
		sr_registry_abandon();
		return err;
	}
	sweep();
	sweep_namespaces();
	/* From a random start, so that queue pair numbers of a past process are not met again at once. */
	unsigned start = (unsigned)(random64() >> 8);
	err = ENOSPC;
	for (unsigned i = 0; i < SR_SLOTS - 2; i++) {
		unsigned slot = 1 + (start + i) % (SR_SLOTS - 2);
		if (lock_byte(slot, F_WRLCK, false))
			continue;
		struct row *row = &reg.file->rows[slot];
		atomic_store(&row->generation, random64());
		atomic_store(&row->joined, ++reg.file->last_joined);
		atomic_store(&row->pid, (uint32_t)getpid());
		atomic_store(&row->shm_ok, road_wanted());
		sr.slot = slot;
		err = 0;
		break;
	}
	lock_byte(MUTEX_BYTE, F_UNLCK, false);
	return err;
}

int sr_registry_locked(sr_registry_cb cb, void *arg)
{
	uint8_t live[SR_SLOTS];
	int n = 0;
	if (reg.fd < 0)
		return -ENOENT;
	int err = lock_byte(MUTEX_BYTE, F_WRLCK, true);
	if (err)
		return -err;
	for (unsigned slot = 1; slot < SR_SLOTS - 1; slot++)
		if (sr_registry_alive(slot)) {
			int i = n++; /* insertion by order of joining */
			for (; i > 0 && reg.file->rows[live[i - 1]].joined > reg.file->rows[slot].joined; i--)
				live[i] = live[i - 1];
			live[i] = (uint8_t)slot;
		}
	int result = cb(arg, live, n, reg.file->wire);
	lock_byte(MUTEX_BYTE, F_UNLCK, false);
	return result;
}

struct sr_port_table *sr_registry_ports(void) { return reg.file ? &reg.file->ports : NULL; }

struct sr_port_table *sr_registry_ports_lock(void)
{
	return reg.file && !lock_byte(PORTS_BYTE, F_WRLCK, true) ? &reg.file->ports : NULL;
}

void sr_registry_ports_unlock(void) { lock_byte(PORTS_BYTE, F_UNLCK, false); }

struct sr_domain_table *sr_registry_domains_lock(void)
{
	return reg.file && !lock_byte(DOMAINS_BYTE, F_WRLCK, true) ? &reg.file->domains : NULL;
}

void sr_registry_domains_unlock(void) { lock_byte(DOMAINS_BYTE, F_UNLCK, false); }

void sr_registry_leave(void)
{
	char path[108];
	if (!sr.slot || reg.fd < 0)
		return;
	unlink(sr_registry_socket_path(sr.slot, path, sizeof path));
}

void sr_registry_abandon(void)
{
	if (reg.file)
		munmap(reg.file, sizeof *reg.file);
	if (reg.fd >= 0)
		close(reg.fd);
	reg.file = NULL;
	reg.fd = -1;
	sr.slot = 0;
}
