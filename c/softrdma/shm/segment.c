/* segment.c - making the own segment, mapping others'. */
#define _GNU_SOURCE
#include "segment.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/membarrier.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include "registry.h"

struct sr_own_segment sr_own = { .fd = -1 };

int sr_segment_create(void)
{
	int fd = memfd_create("rdmakit", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return errno;
	struct stat st;
	void *p = MAP_FAILED;
	if (!ftruncate(fd, SR_SEGMENT_BYTES) && !fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) &&
	    !fstat(fd, &st))
		p = mmap(NULL, SR_OFF_ARENA, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (p == MAP_FAILED) {
		int err = errno;
		close(fd);
		return err;
	}
	madvise(p, SR_OFF_ARENA, MADV_DONTDUMP);
	sr_own.fd = fd;
	sr_own.dev = st.st_dev;
	sr_own.ino = st.st_ino;
	struct sr_segment *s = sr_own.base = p;
	s->magic = SR_SEGMENT_MAGIC;
	s->version = SR_SEGMENT_VERSION;
	s->slot = sr.slot;
	s->generation = sr_registry_generation(sr.slot);
	/* Every process registers to be fenced by others, see sr_segment_heavy_fence(). */
	s->needs_fence = syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0) != 0;
	return 0;
}

void sr_segment_heavy_fence(void)
{
	if (sr_own.base->needs_fence || syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0))
		atomic_thread_fence(memory_order_seq_cst);
}

struct sr_segment *sr_segment_map(int fd, unsigned slot, uint64_t generation)
{
	struct stat st;
	struct statfs fs;
	const int seals = F_SEAL_SHRINK | F_SEAL_GROW;
	int have = fcntl(fd, F_GET_SEALS);
	if (have < 0 || (have & seals) != seals || fstat(fd, &st) || (uint64_t)st.st_size != SR_SEGMENT_BYTES ||
	    fstatfs(fd, &fs) || fs.f_type != TMPFS_MAGIC) { /* huge pages could run out under our hands */
		errno = EPROTO;
		return NULL;
	}
	struct sr_segment *s = mmap(NULL, SR_SEGMENT_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (s == MAP_FAILED)
		return NULL;
	if (s->magic != SR_SEGMENT_MAGIC || s->version != SR_SEGMENT_VERSION || s->slot != slot || s->generation != generation) {
		munmap(s, SR_SEGMENT_BYTES);
		errno = EPROTO;
		return NULL;
	}
	madvise(s, SR_SEGMENT_BYTES, MADV_DONTDUMP);
	madvise(s, SR_SEGMENT_BYTES, MADV_DONTFORK);
	return s;
}

void sr_segment_unmap(struct sr_segment *seg) { munmap(seg, SR_SEGMENT_BYTES); }

void sr_segment_abandon(void)
{
	if (sr_own.fd >= 0)
		close(sr_own.fd);
	if (sr_own.base)
		munmap(sr_own.base, SR_OFF_ARENA);
	sr_own = (struct sr_own_segment){ .fd = -1 };
}
