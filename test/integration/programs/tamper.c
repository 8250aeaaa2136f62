/* tamper.c - flips one byte that waits in a ring: tamper PID LOCAL_PORT RING_POSITION. The connection is found by the port of the end
 * that sends, in the shared memory that PID has open. For tests of --verify. */
#include "vsocket/layout.h"
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int open_arena(const char *pid)
{
	char folder[64], path[400], target[64];
	snprintf(folder, sizeof folder, "/proc/%s/fd", pid);
	DIR *d = opendir(folder);
	for (struct dirent *e; d && (e = readdir(d));) {
		snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
		ssize_t n = readlink(path, target, sizeof target - 1);
		target[n > 0 ? n : 0] = 0;
		if (strstr(target, "memfd:rdmakit-sockets"))
			return open(path, O_RDWR);
	}
	return -1;
}

int main(int argc, char **argv)
{
	if (argc != 4)
		return 2;
	int fd = open_arena(argv[1]);
	uint16_t port = htons((uint16_t)atoi(argv[2]));
	uint64_t at = strtoull(argv[3], NULL, 10);
	struct vs_arena *a = fd < 0 ? MAP_FAILED : mmap(NULL, VS_ARENA_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (a == MAP_FAILED)
		return 3;
	for (unsigned i = 0; i < a->used_end; i++)
		for (int side = 0; side < 2; side++) {
			struct vs_slot *s = &a->slot[i];
			struct vs_dir *d = &s->dir[side];
			if (!(s->gen & 1) || s->key.end[side].port != port || at < d->head || at >= d->tail)
				continue;
			uint32_t size = d->boundary[d->epoch_tx % VS_BOUNDARIES].size;
			((unsigned char *)a + VS_RINGS_AT + ((uint64_t)i * 2 + (uint64_t)side) * VS_RING_MAX)[at & (size - 1)] ^= 1;
			printf("flipped\n");
			return 0;
		}
	fprintf(stderr, "no such byte waits\n");
	return 1;
}
