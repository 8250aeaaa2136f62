/* steer.c - joining the group of sockets on UDP 4791, and passing on what came to the wrong one; see steer.h. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "../shm/registry.h"
#include "steer.h"
#include "wire.h"

#ifndef SO_ATTACH_REUSEPORT_CBPF
#define SO_ATTACH_REUSEPORT_CBPF 51
#endif

#define LEARN_EVERY_NS 50000000u /* corrections take a file lock: not more often than this */

_Static_assert(sizeof(struct sr_steer_map) <= SR_REGISTRY_WIRE_BYTES, "the registry's area is too small");

static int attach(int fd, int fd4, const struct sr_steer_map *map)
{
	struct sock_filter code[SR_STEER_PROGRAM_MAX];
	struct sock_fprog program = { .filter = code, .len = (unsigned short)sr_steer_program(map, code) };
	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program, sizeof(program)) ||
			       setsockopt(fd4, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program, sizeof(program))
		       ? errno
		       : 0;
}

struct join {
	int fd, fd4;
	unsigned slot;
};

/* Generation of the living owner of a slot, 0 when there is none: a dead process's generation stays in its row. */
static uint64_t owner_of(unsigned slot)
{
	return sr_registry_alive(slot) ? sr_registry_generation(slot) : 0;
}

/* Sharing works among processes of one registry, who agree on one program. Is the port free of others: the kernel's rxe,
 * another user, a registry in another directory? 0 or EADDRINUSE. */
static int port_is_ours(void)
{
	struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_port = htons(SR_ROCE_PORT) };
	int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0), off = 0, err = 0;
	if (fd < 0)
		return errno;
	(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	if (bind(fd, (struct sockaddr *)&any, sizeof(any)))
		err = errno;
	close(fd);
	return err;
}

/* The binds happen under the registry's lock, so that map and kernel append in the same order: IPv6 and IPv4 have a group each,
 * with the same processes at the same places. */
static int join_locked(void *arg, const uint8_t *live, int count, void *area)
{
	struct join *j = arg;
	struct sr_steer_map *map = area;
	(void)live, (void)count;
	sr_steer_map_prune(map, owner_of);
	if (map->count == 0) {
		int err = port_is_ours();
		if (err)
			return err;
	}
	struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_port = htons(SR_ROCE_PORT) };
	struct sockaddr_in any4 = { .sin_family = AF_INET, .sin_port = htons(SR_ROCE_PORT) };
	if (bind(j->fd, (struct sockaddr *)&any, sizeof(any)) || bind(j->fd4, (struct sockaddr *)&any4, sizeof(any4)))
		return errno;
	if (sr_steer_map_append(map, j->slot, owner_of(j->slot)))
		return ENOSPC;
	return attach(j->fd, j->fd4, map);
}

int sr_steer_join(int fd, int fd4, unsigned slot)
{
	struct join j = { fd, fd4, slot };
	int err = sr_registry_locked(join_locked, &j);
	return err < 0 ? -err : err;
}

static struct {
	uint64_t next_ns;
	uint32_t seen_version;
} correction;

static int learn_locked(void *arg, const uint8_t *live, int count, void *area)
{
	struct sr_steer_map *map = area;
	unsigned slot = *(unsigned *)arg;
	(void)live, (void)count;
	uint32_t before = map->version;
	sr_steer_map_prune(map, owner_of);
	/* Only when nobody else has just corrected the map: the packet was steered by the map as it was. */
	if (map->version == before && before == correction.seen_version)
		sr_steer_map_learn(map, slot, sr_wire.slot);
	correction.seen_version = map->version;
	return attach(sr_wire.fd, sr_wire.fd4, map);
}

/* The owner's generation is a random number only this user can read, so nobody else can take the name. */
static socklen_t forward_name(uint64_t generation, struct sockaddr_un *name)
{
	memset(name, 0, sizeof(*name));
	name->sun_family = AF_UNIX;
	int n = snprintf(name->sun_path + 1, sizeof(name->sun_path) - 1, "rdmakit-roce-%016llx", (unsigned long long)generation);
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
}

int sr_steer_forward_socket(unsigned slot)
{
	struct sockaddr_un name;
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -1;
	int on = 1;
	(void)setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on));
	socklen_t len = forward_name(sr_registry_generation(slot), &name);
	if (bind(fd, (struct sockaddr *)&name, len)) {
		close(fd);
		return -1;
	}
	return fd;
}

struct forwarded {
	struct sockaddr_in6 from;
	struct in6_addr to;
};

bool sr_steer_hand_over(unsigned slot, const struct sockaddr_in6 *from, const struct in6_addr *to, const uint8_t *packet,
			size_t len)
{
	uint64_t owner = owner_of(slot);
	if (owner == 0 || slot == sr_wire.slot || sr_wire.forward_fd < 0) {
		SR_COUNT(rx_no_qp);
		return false;
	}
	struct sockaddr_un name;
	struct forwarded head = { *from, *to };
	struct iovec pieces[2] = { { &head, sizeof(head) }, { (void *)packet, len } };
	struct msghdr m = { .msg_name = &name, .msg_namelen = forward_name(owner, &name), .msg_iov = pieces, .msg_iovlen = 2 };
	if (sendmsg(sr_wire.forward_fd, &m, MSG_DONTWAIT) >= 0)
		SR_COUNT(rx_misrouted);
	else if (errno != EAGAIN || !sr_steer_keep(slot, from, to, packet, len))
		SR_COUNT(rx_misrouted_lost);
	return true;
}

void sr_steer_forward(unsigned slot, const struct sockaddr_in6 *from, const struct in6_addr *to, const uint8_t *packet, size_t len)
{
	if (sr_steer_hand_over(slot, from, to, packet, len) && sr_wire.now_ns >= correction.next_ns) {
		correction.next_ns = sr_wire.now_ns + LEARN_EVERY_NS;
		sr_registry_locked(learn_locked, &slot);
	}
}

size_t sr_steer_receive(uint8_t *buf, size_t size, struct sockaddr_in6 *from, struct in6_addr *to)
{
	struct forwarded head;
	union {
		struct cmsghdr align;
		uint8_t bytes[CMSG_SPACE(sizeof(struct ucred))];
	} control;
	struct iovec pieces[2] = { { &head, sizeof(head) }, { buf, size } };
	struct msghdr m = { .msg_iov = pieces, .msg_iovlen = 2, .msg_control = &control, .msg_controllen = sizeof(control) };
	ssize_t n = recvmsg(sr_wire.forward_fd, &m, MSG_DONTWAIT);
	if (n < 0)
		return 0;
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	struct ucred who;
	if (n <= (ssize_t)sizeof(head) || m.msg_flags & MSG_TRUNC || !c || c->cmsg_type != SCM_CREDENTIALS)
		return 1; /* shorter than any packet: the decoder drops and counts it */
	memcpy(&who, CMSG_DATA(c), sizeof(who));
	if (who.uid != geteuid())
		return 1;
	*from = head.from;
	*to = head.to;
	return (size_t)n - sizeof(head);
}
