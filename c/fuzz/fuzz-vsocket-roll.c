/*
 * The file in the runtime directory that lists who has the arena, written by anybody of this user: processes and descriptors that are not,
 * are others', or are no arena; half a file; more than one. Whoever looks finds the arena or nothing, opens nothing else for good, and leaves
 * no descriptor.
 */
#define _GNU_SOURCE
#include "vsocket-script.h"
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include "vsocket/arena.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct vs_arena *arena;
static int arena_fd = -1, other_fd, roll_fd;
static unsigned char good[1 << 16];
static size_t good_size;

static void setup(void)
{
	char path[128];
	make_runtime_dir();
	need(vs_arena_open() == 0);
	arena = vs_arena;
	arena_fd = vs_arena_fd();
	other_fd = memfd_create("another", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	snprintf(path, sizeof path, "%s/sockets-%d", getenv("RDMAKIT_RUNTIME_DIR"), VS_VERSION);
	roll_fd = open(path, O_RDWR | O_CLOEXEC);
	need(other_fd >= 0 && roll_fd >= 0);
	ssize_t n = pread(roll_fd, good, sizeof good, 0);
	need(n > 0 && n < (ssize_t)sizeof good);
	good_size = (size_t)n;
}

/* The lowest free number: the same before and after when nothing is left open. */
static int lowest(void)
{
	int fd = dup(0);
	need(fd >= 0);
	close(fd);
	return fd;
}

/* Half of the values mean something in this place. */
static uint32_t word(struct script *in, uint32_t there)
{
	struct stat st;
	switch (take(in, 1) % 10) {
	case 0: return (uint32_t)getpid();
	case 1: return 1;
	case 2: return (uint32_t)arena_fd;
	case 3: return (uint32_t)other_fd;
	case 4: return (uint32_t)roll_fd;
	case 5: need(fstat(other_fd, &st) == 0); return (uint32_t)st.st_ino;
	default: return (uint32_t)some_value(in, there);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct script in = { data, data + size };
	unsigned char bytes[sizeof good + 64];
	if (arena_fd < 0)
		setup();
	if (size < 2)
		return 0;
	memcpy(bytes, good, good_size);
	size_t length = take(&in, 1) % 4 ? good_size : take(&in, 2) % (good_size + 64);
	for (unsigned i = 0; in.at < in.end && i < 100; i++) {
		uint32_t at = (uint32_t)take(&in, 1) % 4 ? (uint32_t)take(&in, 1) : (uint32_t)take(&in, 2), there;
		at = at * 4 % (uint32_t)good_size;
		memcpy(&there, bytes + at, 4);
		there = word(&in, there);
		memcpy(bytes + at, &there, 4);
	}
	need(ftruncate(roll_fd, 0) == 0 && pwrite(roll_fd, bytes, length, 0) == (ssize_t)length);
	const int before = lowest();
	vs_arena = NULL;
	if (vs_arena_look() == 0) {
		struct stat found, ours;
		need(fstat(vs_arena_fd(), &found) == 0 && fstat(arena_fd, &ours) == 0 && found.st_ino == ours.st_ino);
		need(vs_arena != NULL && munmap(vs_arena, VS_ARENA_SIZE) == 0 && close(vs_arena_fd()) == 0);
	}
	need(lowest() == before);
	vs_arena = arena;
	return 0;
}
