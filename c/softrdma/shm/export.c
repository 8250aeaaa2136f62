/* export.c - see export.h. */
#define _GNU_SOURCE
#include "export.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "../engine/lock.h"
#include "arena.h"
#include "maps.h"
#include "segment.h"

#define PAGE 4096ull
#define HUGE (2ull << 20)

static struct sr_list exports = SR_LIST_INIT(exports); /* under sr.control */

/* ---- what is mapped there --------------------------------------------------------------------------------------- */

struct survey {
	uint64_t at, end;          /* the part not yet accounted for */
	bool need_write, readonly;
	bool convertible;          /* all of it private, anonymous, read-write */
	bool ours;                 /* all of it pages of the own segment */
	uint64_t stack;            /* an address on this thread's stack */
};

static bool survey_one(void *arg, const struct sr_map *m)
{
	struct survey *s = arg;
	if (m->end <= s->at)
		return true;
	if (m->start > s->at || !m->r)
		return false; /* a hole, or not readable */
	if (!m->w)
		s->readonly = true;
	if (!m->anonymous || m->shared || !m->w || (s->stack >= m->start && s->stack < m->end))
		s->convertible = false;
	if (m->ino != sr_own.ino || !m->shared)
		s->ours = false;
	s->at = m->end;
	return s->at < s->end;
}

static struct survey survey(const void *addr, size_t len)
{
	struct survey s = {
		.at = (uintptr_t)addr,
		.end = (uintptr_t)addr + len,
		.convertible = true,
		.ours = true,
		.stack = (uintptr_t)&s,
	};
	sr_maps_each(survey_one, &s);
	return s;
}

enum sr_map_check sr_map_check(const void *addr, size_t len, bool write)
{
	struct survey s = survey(addr, len);
	if (s.at < s.end)
		return SR_MAP_MISSING;
	return write && s.readonly ? SR_MAP_READONLY : SR_MAP_OK;
}

/* ---- holding writers ---------------------------------------------------------------------------------------------- */

/* With no threads but this one and the helper nobody else writes: the helper touches registered memory only under sr.lock. */
static bool alone_but_for_helper(void)
{
	int n = 0;
	DIR *d = opendir("/proc/self/task");
	if (!d)
		return false;
	for (struct dirent *e; (e = readdir(d));)
		n += e->d_name[0] != '.';
	closedir(d);
	return n <= 2;
}

/* Makes every write to the range, and every first touch of an untouched page, wait. Returns the userfaultfd, or -1. */
static int hold(char *addr, size_t len, uint64_t features)
{
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	if (fd < 0)
		fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	if (fd < 0)
		return -1;
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	struct uffdio_register reg = {
		.range = { (uintptr_t)addr, len },
		.mode = UFFDIO_REGISTER_MODE_WP | UFFDIO_REGISTER_MODE_MISSING,
	};
	struct uffdio_writeprotect wp = { .range = reg.range, .mode = UFFDIO_WRITEPROTECT_MODE_WP };
	if (ioctl(fd, UFFDIO_API, &api) || ioctl(fd, UFFDIO_REGISTER, &reg) || ioctl(fd, UFFDIO_WRITEPROTECT, &wp)) {
		close(fd); /* unregisters; nobody waits for long */
		return -1;
	}
	return fd;
}

static void let_go(int fd, char *addr, size_t len)
{
	struct uffdio_range r = { (uintptr_t)addr, len };
	if (fd < 0)
		return;
	ioctl(fd, UFFDIO_WAKE, &r);
	close(fd);
}

/* ---- exchanging pages ----------------------------------------------------------------------------------------------- */

#define PAGEMAP_PRESENT (1ull << 63)
#define PAGEMAP_SWAPPED (1ull << 62)

/* Copies the pages that exist; the others read as zeros on both sides. Touching a page that does not exist would wait on our
 * own userfaultfd, so the page table is asked first. */
static int copy_present(char *to, const char *from, size_t len)
{
	uint64_t flags[512];
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno;
	for (size_t done = 0; done < len;) {
		size_t pages = (len - done) / PAGE < 512 ? (len - done) / PAGE : 512;
		off_t at = (off_t)(((uintptr_t)from + done) / PAGE * sizeof *flags);
		if (pread(fd, flags, pages * sizeof *flags, at) != (ssize_t)(pages * sizeof *flags)) {
			close(fd);
			return EIO;
		}
		for (size_t i = 0; i < pages; i++, done += PAGE)
			if (flags[i] & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED))
				memcpy(to + done, from + done, PAGE);
	}
	close(fd);
	return 0;
}

/* Copies what the segment holds; holes stay untouched, so that reading does not fill them. */
static bool copy_data(char *to, uint64_t offset, size_t len)
{
	off_t start = (off_t)offset, end = start + (off_t)len;
	for (off_t at = start; at < end;) {
		off_t data = lseek(sr_own.fd, at, SEEK_DATA);
		if (data < 0 || data >= end)
			return true;
		off_t hole = lseek(sr_own.fd, data, SEEK_HOLE);
		at = hole < 0 || hole > end ? end : hole;
		while (data < at) {
			ssize_t n = pread(sr_own.fd, to + (data - start), (size_t)(at - data), data);
			if (n <= 0)
				return false;
			data += n;
		}
	}
	return true;
}

/* Puts pages of the segment in the place of private ones. */
static int make_shared(char *addr, size_t len, uint64_t offset)
{
	char *alias = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, sr_own.fd, (off_t)offset);
	if (alias == MAP_FAILED)
		return errno;
	if (len >= HUGE)
		madvise(alias, len, MADV_HUGEPAGE);
	bool alone = alone_but_for_helper();
	int uffd = alone ? -1 : hold(addr, len, UFFD_FEATURE_PAGEFAULT_FLAG_WP);
	if (alone)
		sr_lock();
	int err = !alone && uffd < 0 ? EOPNOTSUPP : copy_present(alias, addr, len);
	if (!err && mmap(addr, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, sr_own.fd, (off_t)offset) == MAP_FAILED)
		err = errno;
	if (alone)
		sr_unlock();
	let_go(uffd, addr, len);
	if (!err && len >= HUGE)
		madvise(addr, len, MADV_HUGEPAGE);
	munmap(alias, len);
	return err;
}

/* ---- the way back ---------------------------------------------------------------------------------------------------- */

/* Where the application has pages of [from, to) of the segment now: it may have moved, split or unmapped what it registered. */
struct found {
	uint64_t from, to;
	struct {
		char *addr;
		size_t length;
		uint64_t offset;
	} part[256];
	int n;
};

static bool collect(void *arg, const struct sr_map *m)
{
	struct found *f = arg;
	uint64_t end = m->offset + (m->end - m->start);
	/* A mapping from the file's beginning is our link to ourselves, as a peer would have it. */
	if (m->ino != sr_own.ino || m->dev != sr_own.dev || !m->shared || m->offset < SR_OFF_ARENA || m->offset >= f->to || end <= f->from)
		return true;
	uint64_t first = m->offset > f->from ? m->offset : f->from, last = end < f->to ? end : f->to;
	f->part[f->n].addr = (char *)(uintptr_t)(m->start + (first - m->offset));
	f->part[f->n].length = (size_t)(last - first);
	f->part[f->n].offset = first;
	return ++f->n < 256;
}

static bool replace(char *addr, size_t len, uint64_t offset, bool alone)
{
	char *copy = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (copy == MAP_FAILED)
		return false;
	int uffd = alone ? -1 : hold(addr, len, UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_HUGETLBFS_SHMEM);
	bool ok = (alone || uffd >= 0) && copy_data(copy, offset, len) &&
		  mremap(copy, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, addr) == addr;
	let_go(uffd, addr, len);
	if (!ok)
		munmap(copy, len);
	return ok;
}

/* Where writers cannot be held, the pages stay shared: correct, but their place in the segment is never used again. */
static bool make_private(const struct sr_export *e)
{
	static struct found f; /* under sr.control */
	bool ok = true, alone = alone_but_for_helper();
	do {
		f.from = e->offset;
		f.to = e->offset + e->reserved;
		f.n = 0;
		if (sr_maps_each(collect, &f))
			return false;
		if (alone)
			sr_lock();
		for (int i = 0; i < f.n && ok; i++)
			ok = replace(f.part[i].addr, f.part[i].length, f.part[i].offset, alone);
		if (alone)
			sr_unlock();
	} while (ok && f.n == 256);
	return ok;
}

/* ---- exports ------------------------------------------------------------------------------------------------------- */

struct sr_export *sr_export_get(void *addr, size_t len)
{
	char *first = (char *)(((uintptr_t)addr + PAGE - 1) & ~(PAGE - 1));
	char *last = (char *)(((uintptr_t)addr + len) & ~(PAGE - 1));
	if (len < PAGE || first >= last)
		return NULL;
	size_t bytes = (size_t)(last - first);
	sr_list_for(n, tmp, &exports) {
		struct sr_export *e = sr_list_entry(n, struct sr_export, node);
		if (first >= e->addr && last <= e->addr + e->length) {
			struct survey s = survey(first, bytes);
			if (s.at < s.end || !s.ours)
				return NULL; /* the application replaced the mapping under a living registration */
			e->refs++;
			return e;
		}
		if (first < e->addr + e->length && last > e->addr)
			return NULL; /* overlaps in part: messages serve it */
	}
	struct survey s = survey(first, bytes);
	if (s.at < s.end || !s.convertible)
		return NULL;
	struct sr_export *e = calloc(1, sizeof *e);
	/* realloc() of a registered block makes its mapping grow over what follows in the file: that is kept free. */
	size_t reserved = 2 * bytes;
	uint64_t offset = e ? sr_arena_take(reserved, (uintptr_t)first) : 0;
	if (e && !offset)
		offset = sr_arena_take(reserved = bytes, (uintptr_t)first);
	if (!offset || make_shared(first, bytes, offset)) {
		if (offset)
			sr_arena_give(offset, reserved);
		free(e);
		return NULL;
	}
	*e = (struct sr_export){ .addr = first, .length = bytes, .offset = offset, .reserved = reserved, .refs = 1 };
	sr_list_add_tail(&exports, &e->node);
	return e;
}

void sr_export_put(struct sr_export *e, bool clean)
{
	e->quarantined |= !clean;
	if (--e->refs)
		return;
	sr_list_del(&e->node);
	if (!e->foreign && make_private(e) && !e->quarantined)
		sr_arena_give(e->offset, e->reserved);
	free(e);
}

bool sr_export_lookup(const struct sr_key *k, const void *p, size_t len, uint64_t *offset)
{
	const struct sr_export *e = k->export;
	const char *c = p;
	if (!e || c < e->addr || len > e->length || (size_t)(c - e->addr) > e->length - len)
		return false;
	*offset = e->offset + (uint64_t)(c - e->addr);
	return true;
}

/* ---- fork ------------------------------------------------------------------------------------------------------------ */

bool sr_export_any(void) { return !sr_list_empty(&exports); }

void sr_export_after_fork(void)
{
	static struct found f; /* the child has one thread */
	do {
		f.from = SR_OFF_ARENA;
		f.to = SR_SEGMENT_BYTES;
		f.n = 0;
		sr_maps_each(collect, &f);
		for (int i = 0; i < f.n; i++)
			if (!replace(f.part[i].addr, f.part[i].length, f.part[i].offset, true))
				return;
	} while (f.n == 256);
	/* Regions made before the fork may still be deregistered: their pages are private already, the segment is another's. */
	sr_list_for(n, tmp, &exports) {
		struct sr_export *e = sr_list_entry(n, struct sr_export, node);
		sr_list_del(n);
		e->quarantined = e->foreign = true;
	}
}
