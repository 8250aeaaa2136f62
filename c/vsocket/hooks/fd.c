/* fd.c - descriptors that come, go and are copied, and their options. */
#define _GNU_SOURCE
#include "hooks.h"
#include "../arena.h"
#include "../book.h"
#include "../remote.h"
#include "../sys.h"
#include <fcntl.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

int close_range(unsigned first, unsigned last, int flags);
void closefrom(int first);

static void before_close(int fd)
{
	if (vs_fd_silent)
		return;
	struct vs_conn c;
	if (vs_in_vfork_child())
		return;
	if (vs_fd_conn_checked(fd, &c) && vs_fd_copies(&c) == 1)
		vs_conn_closing(&c, fd);
	struct vs_udp *u = vs_udp_of(fd);
	if (u)
		vs_udp_note_closing(u, fd);
	else
		vs_book_closing(fd);
	vs_fd_forget(fd);
}

VS_EXPORT int close(int fd)
{
	vs_acts++;
	if (fd >= 0 && fd == vs_arena_fd()) {
		errno = EBADF;
		return -1;
	}
	if (vs_fd_word(fd) != VS_FD_UNKNOWN)
		before_close(fd);
	return REAL(close)(fd);
}

static void before_close_range(unsigned first, unsigned last)
{
	for (unsigned fd = first; fd <= last && fd < VS_FD_MAX && (int)fd <= vs_fd_highest(); fd++)
		if (vs_fd_word((int)fd) != VS_FD_UNKNOWN)
			before_close((int)fd);
}

/* Around the descriptor of the arena. */
VS_EXPORT int close_range(unsigned first, unsigned last, int flags)
{
	int own = vs_arena_fd();
	if (first > last || flags)
		return REAL(close_range)(first, last, flags);
	before_close_range(first, last);
	if (own < 0 || (unsigned)own < first || (unsigned)own > last)
		return REAL(close_range)(first, last, flags);
	int r = (unsigned)own > first ? REAL(close_range)(first, (unsigned)own - 1, 0) : 0;
	return r == 0 && (unsigned)own < last ? REAL(close_range)((unsigned)own + 1, last, 0) : r;
}

VS_EXPORT void closefrom(int first)
{
	if (first < 0)
		first = 0;
	if (close_range((unsigned)first, ~0u, 0) < 0)
		REAL(closefrom)(first);
}

/* A stream reads and writes its descriptor inside the C library, where we see nothing. */
VS_EXPORT FILE *fdopen(int fd, const char *mode)
{
	struct vs_conn c;
	if (vs_fd_use(fd, &c) != VS_USE_PASS)
		vs_hook_refuse(fd, VS_PLAIN_STREAM);
	return REAL(fdopen)(fd, mode);
}

VS_EXPORT int fclose(FILE *f)
{
	int fd = f ? fileno(f) : -1;
	if (fd >= 0 && vs_fd_word(fd) != VS_FD_UNKNOWN)
		before_close(fd);
	return REAL(fclose)(f);
}

VS_EXPORT int dup(int fd)
{
	int r = REAL(dup)(fd);
	if (r >= 0 && !vs_in_vfork_child())
		vs_fd_copied(fd, r);
	return r;
}

static int copied_over(int from, int to, int r)
{
	vs_acts++;
	if (r >= 0 && from != to && !vs_in_vfork_child())
		vs_fd_copied(from, to);
	return r;
}

VS_EXPORT int dup2(int from, int to)
{
	if (from != to && vs_fd_word(to) != VS_FD_UNKNOWN)
		before_close(to);
	return copied_over(from, to, REAL(dup2)(from, to));
}

VS_EXPORT int dup3(int from, int to, int flags)
{
	if (from != to && vs_fd_word(to) != VS_FD_UNKNOWN)
		before_close(to);
	return copied_over(from, to, REAL(dup3)(from, to, flags));
}

/* A signal for everything that comes: a ring comes without. */
static void before_fcntl(int fd, int cmd, void *arg)
{
	struct vs_udp *u = cmd == F_SETFL ? vs_udp_of(fd) : NULL;
	if (u)
		vs_udp_set_nonblock(u, (uintptr_t)arg & O_NONBLOCK);
	if (cmd == F_SETFL && ((uintptr_t)arg & O_ASYNC) && !vs_is_pass(fd))
		vs_hook_refuse(fd, VS_PLAIN_OPTION);
}

VS_EXPORT int fcntl64(int fd, int cmd, ...)
{
	va_list ap;
	va_start(ap, cmd);
	void *arg = va_arg(ap, void *);
	va_end(ap);
	before_fcntl(fd, cmd, arg);
	int r = REAL(fcntl64)(fd, cmd, arg);
	if (r >= 0 && (cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC) && !vs_in_vfork_child())
		vs_fd_copied(fd, r);
	return r;
}

VS_EXPORT int fcntl(int fd, int cmd, ...)
{
	va_list ap;
	va_start(ap, cmd);
	void *arg = va_arg(ap, void *);
	va_end(ap);
	before_fcntl(fd, cmd, arg);
	int r = REAL(fcntl)(fd, cmd, arg);
	if (r >= 0 && (cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC) && !vs_in_vfork_child())
		vs_fd_copied(fd, r);
	return r;
}

VS_EXPORT int ioctl(int fd, unsigned long request, ...)
{
	va_list ap;
	va_start(ap, request);
	void *arg = va_arg(ap, void *);
	va_end(ap);
	if (request == FIOASYNC && arg && *(int *)arg && !vs_is_pass(fd))
		vs_hook_refuse(fd, VS_PLAIN_OPTION);
	struct vs_udp *u = request == FIONREAD || request == FIONBIO ? vs_udp_of(fd) : NULL;
	int r = REAL(ioctl)(fd, request, arg);
	struct vs_conn c;
	if (r == 0 && u && request == FIONBIO)
		vs_udp_set_nonblock(u, *(int *)arg != 0);
	if (r == 0 && u && request == FIONREAD) {
		int pending = vs_udp_pending(u);
		*(int *)arg = pending < 0 ? *(int *)arg : pending;
	}
	if (r == 0 && request == FIONREAD && vs_fd_conn(fd, &c))
		*(int *)arg = (int)vs_rx_pending(&c, fd, (size_t) * (int *)arg);
	return r;
}

/* Numbers that the kernel has just given out name something new. */
static int fresh_socket(int fd)
{
	vs_acts++;
	/* Of a number that nothing is known of, a child of vfork() can spoil nothing: no question, which would make connecting slower. */
	if (fd >= 0 && (vs_fd_word(fd) == VS_FD_UNKNOWN || !vs_in_vfork_child()))
		vs_fd_fresh(fd);
	return fd;
}

static int fresh_other(int fd)
{
	vs_acts++;
	if (fd >= 0 && vs_fd_word(fd) != VS_FD_UNKNOWN && !vs_in_vfork_child())
		vs_fd_forget(fd);
	return fd;
}

VS_EXPORT int socket(int domain, int type, int protocol)
{
	int fd = fresh_socket(REAL(socket)(domain, type, protocol));
	if (fd >= 0 && (type & 0xf) == SOCK_DGRAM && (domain == AF_INET || domain == AF_INET6) && (protocol == 0 || protocol == IPPROTO_UDP) &&
	    !vs_in_vfork_child())
		vs_udp_made(fd, domain == AF_INET6, type & SOCK_NONBLOCK);
	return fd;
}

VS_EXPORT int socketpair(int domain, int type, int protocol, int fd[2])
{
	int r = REAL(socketpair)(domain, type, protocol, fd);
	if (r == 0) {
		fresh_other(fd[0]);
		fresh_other(fd[1]);
	}
	return r;
}

VS_EXPORT int accept(int fd, __SOCKADDR_ARG addr, socklen_t *len) { return fresh_socket(REAL(accept)(fd, addr, len)); }

VS_EXPORT int accept4(int fd, __SOCKADDR_ARG addr, socklen_t *len, int flags)
{
	return fresh_socket(REAL(accept4)(fd, addr, len, flags));
}

/* A server may give its privileges up later, and then it could not find its user's arena any more. */
VS_EXPORT int listen(int fd, int backlog)
{
	int protocol = 0;
	socklen_t len = sizeof protocol;
	if (vs_sys_getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &len) >= 0 && protocol == IPPROTO_TCP)
		vs_arena_open();
	return REAL(listen)(fd, backlog);
}

VS_EXPORT int bind(int fd, __CONST_SOCKADDR_ARG addr, socklen_t len)
{
	struct vs_udp *u = vs_udp_of(fd);
	int r = REAL(bind)(fd, addr, len);
	if (u && r == 0)
		vs_udp_changed(u);
	return r;
}

VS_EXPORT int connect(int fd, __CONST_SOCKADDR_ARG addr, socklen_t len)
{
	vs_acts++;
	struct vs_udp *u = vs_udp_of(fd);
	if (u) {
		int r = REAL(connect)(fd, addr, len);
		vs_udp_changed(u);
		return r;
	}
	if ((vs_fd_word(fd) & 3) == VS_FD_PASS || (vs_fd_word(fd) & 3) == VS_FD_CONN) {
		/* AF_UNSPEC ends a connection; the next one is another. */
		struct vs_conn c;
		if (vs_fd_conn_checked(fd, &c) && addr.__sockaddr__ && addr.__sockaddr__->sa_family == AF_UNSPEC)
			vs_hook_refuse(fd, VS_PLAIN_SHUT);
	}
	return REAL(connect)(fd, addr, len);
}

#define MODE_OF(flags, last)                                                                                           \
	({                                                                                                             \
		unsigned mode_ = 0;                                                                                    \
		if ((flags) & (O_CREAT | __O_TMPFILE)) {                                                               \
			va_list ap_;                                                                                   \
			va_start(ap_, last);                                                                           \
			mode_ = va_arg(ap_, unsigned);                                                                 \
			va_end(ap_);                                                                                   \
		}                                                                                                      \
		mode_;                                                                                                 \
	})
VS_EXPORT int open(const char *path, int flags, ...) { return fresh_other(REAL(open)(path, flags, MODE_OF(flags, flags))); }
VS_EXPORT int open64(const char *path, int flags, ...) { return fresh_other(REAL(open64)(path, flags, MODE_OF(flags, flags))); }
VS_EXPORT int openat(int dir, const char *path, int flags, ...)
{
	return fresh_other(REAL(openat)(dir, path, flags, MODE_OF(flags, flags)));
}
VS_EXPORT int openat64(int dir, const char *path, int flags, ...)
{
	return fresh_other(REAL(openat64)(dir, path, flags, MODE_OF(flags, flags)));
}

VS_EXPORT int pipe(int fd[2])
{
	int r = REAL(pipe)(fd);
	if (r == 0) {
		fresh_other(fd[0]);
		fresh_other(fd[1]);
	}
	return r;
}

VS_EXPORT int pipe2(int fd[2], int flags)
{
	int r = REAL(pipe2)(fd, flags);
	if (r == 0) {
		fresh_other(fd[0]);
		fresh_other(fd[1]);
	}
	return r;
}

VS_EXPORT int eventfd(unsigned initial, int flags) { return fresh_other(REAL(eventfd)(initial, flags)); }

VS_EXPORT int shutdown(int fd, int how)
{
	struct vs_conn c;
	struct vs_udp *u = vs_udp_of(fd);
	vs_acts++;
	if (u)
		vs_udp_refuse(u, VS_PLAIN_SHUT);
	/* Also of one that came back from somewhere and was not used since: what its receiver has given back goes before the end. */
	if (how != SHUT_RD && vs_fd_use(fd, &c) == VS_USE_COUNTED)
		vs_fd_native_done(fd);
	if (how != SHUT_RD && vs_fd_conn_checked(fd, &c))
		vs_tx_closing(&c, fd, false);
	return REAL(shutdown)(fd, how);
}

/* Options under which a stream is more, or something else, than bytes that arrive. */
static bool forbids(int level, int name, const void *value, socklen_t len)
{
	if (level == SOL_SOCKET)
		switch (name) {
		case SO_RCVLOWAT:
			return len >= sizeof(int) && *(const int *)value > 1;
		case SO_ZEROCOPY:
		case SO_PEEK_OFF:
		case SO_ATTACH_FILTER:
		case SO_ATTACH_BPF:
		case SO_TIMESTAMP:
		case SO_TIMESTAMPNS:
		case SO_TIMESTAMPING:
		case SO_OOBINLINE:
			return true;
		default:
			return false;
		}
	if (level == IPPROTO_TCP)
		switch (name) {
		case TCP_ULP:
		case TCP_REPAIR:
		case TCP_INQ:
		case TCP_ZEROCOPY_RECEIVE:
		case TCP_MD5SIG:
			return true;
		default:
			return false;
		}
	return false;
}

/* Options of UDP sockets that say nothing of how a datagram between two sockets of this host arrives. Under all others they are the
 * kernel's. */
static bool harmless(int level, int name)
{
	if (level == SOL_SOCKET)
		return name == SO_RCVBUF || name == SO_SNDBUF || name == SO_RCVBUFFORCE || name == SO_SNDBUFFORCE || name == SO_REUSEADDR ||
		       name == SO_REUSEPORT || name == SO_RCVTIMEO || name == SO_SNDTIMEO || name == SO_PRIORITY || name == SO_BUSY_POLL ||
		       name == SO_BROADCAST || name == SO_INCOMING_CPU;
	if (level == IPPROTO_IP)
		return name == IP_TOS || name == IP_TTL || name == IP_MULTICAST_TTL || name == IP_MULTICAST_LOOP || name == IP_MULTICAST_IF ||
		       name == IP_ADD_MEMBERSHIP || name == IP_DROP_MEMBERSHIP || name == IP_MTU_DISCOVER;
	if (level == IPPROTO_IPV6)
		return name == IPV6_V6ONLY || name == IPV6_UNICAST_HOPS || name == IPV6_MULTICAST_HOPS || name == IPV6_MULTICAST_LOOP ||
		       name == IPV6_MULTICAST_IF || name == IPV6_JOIN_GROUP || name == IPV6_LEAVE_GROUP || name == IPV6_TCLASS ||
		       name == IPV6_MTU_DISCOVER;
	return false;
}

static void before_udp_option(struct vs_udp *u, int level, int name, const void *value, socklen_t len)
{
	/* What is set to nothing is as it was. */
	bool off = level == SOL_SOCKET && len >= sizeof(int) && value && *(const int *)value == 0;
	if (harmless(level, name))
		return;
	vs_udp_changed(u);
	if (!off)
		vs_udp_refuse(u, VS_PLAIN_OPTION);
}

static uint32_t kept_option(int level, int name)
{
	if (level != IPPROTO_TCP)
		return 0;
	return name == TCP_NODELAY ? VS_OPT_NODELAY : name == TCP_CORK ? VS_OPT_CORK : 0;
}

VS_EXPORT int setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
	struct vs_conn c;
	struct vs_udp *u = vs_udp_of(fd);
	if (u) {
		before_udp_option(u, level, name, value, len);
		return REAL(setsockopt)(fd, level, name, value, len);
	}
	uint32_t kept = kept_option(level, name);
	if (kept && len >= sizeof(int) && value && vs_fd_conn_checked(fd, &c)) {
		_Atomic uint32_t *options = &c.slot->end[c.side].options;
		if (atomic_load(options) & VS_OPT_KNOWN) {
			if (*(const int *)value)
				atomic_fetch_or(options, kept);
			else
				atomic_fetch_and(options, ~kept);
			return 0;
		}
	}
	if (forbids(level, name, value, len))
		vs_hook_refuse(fd, VS_PLAIN_OPTION);
	return REAL(setsockopt)(fd, level, name, value, len);
}

/* The counts of bytes are the stream's, not the twin's: with what went through rings, and without doorbells. */
static void count_rings(const struct vs_conn *c, struct tcp_info *info, socklen_t len)
{
	const struct vs_dir *tx = vs_tx(c), *rx = vs_rx(c);
	uint64_t out = atomic_load(&tx->tx_ring_bytes) - atomic_load(&tx->tx_bells);
	uint64_t in = atomic_load(vs_is_remote(c) ? &rx->rx_ring_bytes : &rx->tx_ring_bytes) - atomic_load(&rx->tx_bells);
	if (len >= offsetof(struct tcp_info, tcpi_bytes_received) + sizeof info->tcpi_bytes_received) {
		info->tcpi_bytes_acked += out;
		info->tcpi_bytes_received += in;
	}
	if (len >= offsetof(struct tcp_info, tcpi_bytes_sent) + sizeof info->tcpi_bytes_sent)
		info->tcpi_bytes_sent += out;
}

VS_EXPORT int getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
	struct vs_conn c;
	int r = REAL(getsockopt)(fd, level, name, value, len);
	if (r)
		return r;
	/* The twin's error, which it tells once, may have been told to us. */
	if (level == SOL_SOCKET && name == SO_ERROR && *len == sizeof(int) && *(int *)value == 0 && vs_fd_conn_checked(fd, &c))
		*(int *)value = (int)atomic_exchange(&vs_rx(&c)->rx_error, 0);
	if (level != IPPROTO_TCP)
		return r;
	uint32_t kept = kept_option(level, name);
	if (kept && *len > 0 && vs_fd_conn_checked(fd, &c)) {
		uint32_t options = atomic_load(&c.slot->end[c.side].options);
		int is = (options & kept) != 0;
		if (options & VS_OPT_KNOWN)
			memcpy(value, &is, *len < sizeof is ? *len : sizeof is);
	} else if (name == TCP_INFO && vs_fd_conn_checked(fd, &c)) {
		count_rings(&c, value, *len);
	}
	return r;
}
