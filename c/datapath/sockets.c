/* Kernel sockets for the reference rows: listening and connecting, with the options a latency test wants. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "datapath.h"

struct address {
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	};
	socklen_t length;
};

/* Numeric addresses only: name resolution blocks, and belongs to the caller. */
static int parse_address(const char *text, uint16_t port, struct address *out)
{
	memset(out, 0, sizeof(*out));
	if (!text)
		return -EINVAL;
	if (inet_pton(AF_INET, text, &out->v4.sin_addr) == 1) {
		out->v4.sin_family = AF_INET;
		out->v4.sin_port = htons(port);
		out->length = sizeof(out->v4);
		return 0;
	}
	/* A link-local address means nothing without its interface: fe80::1%eth0. */
	char plain[INET6_ADDRSTRLEN];
	size_t length = strcspn(text, "%");
	if (length >= sizeof(plain))
		return -EINVAL;
	memcpy(plain, text, length);
	plain[length] = '\0';
	if (inet_pton(AF_INET6, plain, &out->v6.sin6_addr) == 1) {
		if (text[length] == '%' && (out->v6.sin6_scope_id = if_nametoindex(text + length + 1)) == 0)
			return -ENODEV;
		out->v6.sin6_family = AF_INET6;
		out->v6.sin6_port = htons(port);
		out->length = sizeof(out->v6);
		return 0;
	}
	return -EINVAL;
}

static int open_socket(uint32_t protocol, int family)
{
	if (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP)
		return -EPROTONOSUPPORT;
	int fd = socket(family, (protocol == IPPROTO_TCP ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC, (int)protocol);
	return fd < 0 ? -errno : fd;
}

static int fail_close(int fd)
{
	int error = errno;
	close(fd);
	return -error;
}

int32_t rk_dp_socket_listen(uint32_t protocol, const char *address, uint16_t *port)
{
	struct address local;
	if (!port)
		return -EINVAL;
	int error = parse_address(address, *port, &local);
	if (error)
		return error;
	int fd = open_socket(protocol, local.any.sa_family);
	if (fd < 0)
		return fd;
	int on = 1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, &local.any, local.length) != 0 || (protocol == IPPROTO_TCP && listen(fd, 1) != 0) ||
	    getsockname(fd, &local.any, &local.length) != 0)
		return fail_close(fd);
	*port = ntohs(local.any.sa_family == AF_INET ? local.v4.sin_port : local.v6.sin6_port);
	return fd;
}

/* Waits for a non-blocking connect. */
static int wait_connected(int fd, uint32_t timeout_ms)
{
	struct timespec start, now;
	clock_gettime(CLOCK_MONOTONIC, &start);
	for (;;) {
		clock_gettime(CLOCK_MONOTONIC, &now);
		int64_t spent_ms = (now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1000000;
		if (spent_ms >= timeout_ms)
			return -ETIMEDOUT;
		struct pollfd ready = {.fd = fd, .events = POLLOUT};
		int n = poll(&ready, 1, (int)(timeout_ms - spent_ms));
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0) {
			int error = 0;
			socklen_t length = sizeof(error);
			getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
			return -error;
		}
	}
}

int32_t rk_dp_socket_connect(uint32_t protocol, const char *address, uint16_t port, uint32_t timeout_ms)
{
	struct address remote;
	int error = parse_address(address, port, &remote);
	if (error)
		return error;
	int fd = open_socket(protocol, remote.any.sa_family);
	if (fd < 0)
		return fd;
	fcntl(fd, F_SETFL, O_NONBLOCK);
	if (connect(fd, &remote.any, remote.length) != 0) {
		error = errno == EINPROGRESS ? wait_connected(fd, timeout_ms) : -errno;
		if (error) {
			close(fd);
			return error;
		}
	}
	fcntl(fd, F_SETFL, 0);
	return fd;
}

int32_t rk_dp_socket_close(int32_t fd)
{
	return close(fd) == 0 ? 0 : -errno;
}
