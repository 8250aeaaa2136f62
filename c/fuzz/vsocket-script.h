/*
 * vsocket-script.h - what fuzzers of the socket library share: an input is a script of calls of applications and of what others write into
 * shared memory in between.
 */
#ifndef VSOCKET_SCRIPT_H
#define VSOCKET_SCRIPT_H

#include <arpa/inet.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

struct script {
	const uint8_t *at, *end;
};

static inline void need(bool yes)
{
	if (!yes)
		abort();
}

static inline uint64_t take(struct script *in, unsigned bytes)
{
	uint64_t v = 0;
	for (unsigned i = 0; i < bytes && in->at < in->end; i++)
		v |= (uint64_t)*in->at++ << (8 * i);
	return v;
}

/* Mostly values that are nearly right. */
static inline uint64_t some_value(struct script *in, uint64_t there)
{
	uint32_t how = (uint32_t)take(in, 1);
	switch (how % 6) {
	case 0: return there + how / 6;
	case 1: return there - how / 6;
	case 2: return there ^ UINT64_C(1) << how / 6;
	case 3: return UINT64_C(1) << how / 6 % 64;
	case 4: return 0 - (uint64_t)(how / 6);
	default: return take(in, 8);
	}
}

static inline void remove_runtime_dir(void)
{
	char command[128];
	snprintf(command, sizeof command, "rm -rf '%s'", getenv("RDMAKIT_RUNTIME_DIR"));
	(void)!system(command);
}

/* A runtime directory of this process's own, until it ends. */
static inline void make_runtime_dir(void)
{
	static char dir[] = "/tmp/fuzz-vsocket.XXXXXX";
	need(mkdtemp(dir) != NULL);
	setenv("RDMAKIT_RUNTIME_DIR", dir, 1);
	atexit(remove_runtime_dir);
}

/* Listens on a loopback port of the kernel's choice; its address is left in `at`. */
static inline int listen_here(struct sockaddr_in *at)
{
	socklen_t len = sizeof *at;
	*at = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	need(fd >= 0 && bind(fd, (void *)at, len) == 0 && listen(fd, 16) == 0 && getsockname(fd, (void *)at, &len) == 0);
	return fd;
}

#endif
