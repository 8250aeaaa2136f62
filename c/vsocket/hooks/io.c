/* io.c - reading and writing. */
#define _GNU_SOURCE
#include "hooks.h"
#include "../book.h"
#include "../sys.h"
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

ssize_t __read_chk(int fd, void *buf, size_t n, size_t room);
ssize_t __recv_chk(int fd, void *buf, size_t n, size_t room, int flags);
ssize_t __recvfrom_chk(int fd, void *buf, size_t n, size_t room, int flags, __SOCKADDR_ARG addr, socklen_t *len);
ssize_t __read(int fd, void *buf, size_t n);
ssize_t __write(int fd, const void *buf, size_t n);
ssize_t __send(int fd, const void *buf, size_t n, int flags);
ssize_t __recv(int fd, void *buf, size_t n, int flags);
int __vdprintf_chk(int fd, int flag, const char *format, va_list ap);
int __dprintf_chk(int fd, int flag, const char *format, ...);

/* As much as one call of the kernel's moves. */
#define SENDFILE_MAX ((size_t)0x7ffff000)
/* What a receive may ask for and a ring can give. */
#define RECV_FLAGS (MSG_PEEK | MSG_WAITALL | MSG_DONTWAIT | MSG_TRUNC | MSG_NOSIGNAL | MSG_CMSG_CLOEXEC)

void vs_hook_refuse(int fd, enum vs_plain why)
{
	struct vs_conn c;
	struct vs_udp *u = vs_udp_of(fd);
	if (u) {
		vs_udp_refuse(u, why);
	} else if (vs_fd_conn_checked(fd, &c)) {
		vs_tx_demote(&c, fd, why);
		vs_rx_demote(&c, fd, why);
	} else {
		vs_book_refused(fd, why);
		vs_fd_refuse(fd);
	}
}

bool vs_hook_send(int fd, const struct iovec *iov, int count, int flags, ssize_t *result, struct vs_native *n)
{
	n->counted = VS_N_NONE;
	n->fd = fd;
	enum vs_use use = vs_fd_use(fd, &n->c);
	vs_acts += use != VS_USE_CONN;
	if (use != VS_USE_CONN) {
		if (use == VS_USE_COUNTED)
			n->counted = VS_N_FD;
		/* The kernel's count of what was read says nothing sure of a stream that has had urgent data. */
		if (flags & MSG_OOB)
			vs_fd_refuse(fd);
		return false;
	}
	struct vs_cursor from;
	size_t done;
	if (!vs_cursor_init(&from, iov, count))
		return false;
	long r = vs_conn_send(&n->c, fd, &from, flags, &done);
	vs_acts += r == VS_NATIVE || r == VS_COUNTED;
	if (r == VS_NATIVE)
		return false;
	if (r != VS_COUNTED) {
		if (r == -EPIPE && !(flags & MSG_NOSIGNAL))
			return false; /* the kernel says it with its signal */
		*result = vs_result(r);
		return true;
	}
	n->counted = VS_N_TX;
	if (done == 0)
		return false;
	/* Part went through the ring: the rest follows through the twin, with the flow control of the kernel. */
	struct iovec rest[64];
	struct msghdr m = { .msg_iov = rest, .msg_iovlen = (size_t)vs_cursor_iov(&from, rest, 64, SIZE_MAX) };
	int saved = errno;
	ssize_t more = REAL(sendmsg)(fd, &m, flags | MSG_NOSIGNAL);
	errno = saved;
	vs_native_done(n, more);
	*result = (ssize_t)done + (more > 0 ? more : 0);
	return true;
}

bool vs_hook_recv(int fd, const struct iovec *iov, int count, int flags, ssize_t *result, struct vs_native *n)
{
	n->counted = VS_N_NONE;
	n->fd = fd;
	enum vs_use use = vs_fd_use(fd, &n->c);
	vs_acts += use != VS_USE_CONN;
	if (use == VS_USE_COUNTED) {
		n->counted = VS_N_FD;
		return false;
	}
	struct vs_cursor to;
	if (use != VS_USE_CONN || (flags & ~RECV_FLAGS) || !vs_cursor_init(&to, iov, count))
		return false;
	/* For no bytes at all one waits as for any, and takes none. */
	char byte;
	const struct iovec one = { &byte, 1 };
	const bool none = to.left == 0;
	if (none) {
		vs_cursor_init(&to, &one, 1);
		flags = (flags & ~(MSG_WAITALL | MSG_TRUNC)) | MSG_PEEK;
	}
	long r = vs_conn_recv(&n->c, fd, &to, flags, REAL(recv));
	if (none && r > 0)
		r = 0;
	if (r == VS_COUNTED)
		n->counted = VS_N_RX;
	if (r == VS_COUNTED || r == VS_NATIVE)
		return false;
	*result = vs_result(r);
	return true;
}

bool vs_hook_send_datagram(int fd, const struct msghdr *m, int flags, ssize_t *result, struct vs_native *n)
{
	n->udp = vs_udp_of(fd);
	n->counted = VS_N_NONE;
	if (!n->udp)
		return false;
	if (__builtin_expect(vs_book != NULL, 0))
		vs_udp_note_used(n->udp, fd);
	long r = vs_udp_send(n->udp, fd, m, flags, &n->to_inbox);
	if (r == VS_NATIVE) {
		vs_acts++;
		n->counted = VS_N_DATAGRAM_TX;
		return false;
	}
	*result = vs_result(r);
	return true;
}

bool vs_hook_recv_datagram(int fd, struct msghdr *m, int flags, ssize_t *result, struct vs_native *n)
{
	n->udp = vs_udp_of(fd);
	n->counted = VS_N_NONE;
	if (!n->udp)
		return false;
	if (__builtin_expect(vs_book != NULL, 0))
		vs_udp_note_used(n->udp, fd);
	long r = vs_udp_recv(n->udp, fd, m, flags, &n->wait);
	if (r == VS_NATIVE) {
		vs_acts++;
		n->counted = VS_N_DATAGRAM_RX;
		return false;
	}
	*result = vs_result(r);
	return true;
}

/* One buffer, or several, in either direction; NATIVE is the kernel's call. */
#define TRANSFER(kind, fd, iov, count, flags, name, len, NATIVE)                                                       \
	do {                                                                                                           \
		ssize_t result_;                                                                                       \
		struct vs_native n_;                                                                                   \
		if (vs_is_pass(fd))                                                                                    \
			return NATIVE;                                                                                 \
		if (vs_fd_is_datagram(vs_fd_word(fd))) {                                                               \
			struct msghdr m_ = { .msg_name = name, .msg_namelen = len, .msg_iov = iov, .msg_iovlen = (size_t)(count) }; \
			if (vs_hook_##kind##_datagram(fd, &m_, flags, &result_, &n_))                                  \
				return result_;                                                                        \
		} else if (vs_hook_##kind(fd, iov, count, flags, &result_, &n_)) {                                     \
			return result_;                                                                                \
		}                                                                                                      \
		result_ = NATIVE;                                                                                      \
		vs_native_done(&n_, result_);                                                                          \
		return result_;                                                                                        \
	} while (0)
#define SEND(fd, iov, count, flags, NATIVE) TRANSFER(send, fd, iov, count, flags, NULL, 0, NATIVE)
#define RECV(fd, iov, count, flags, NATIVE) TRANSFER(recv, fd, iov, count, flags, NULL, 0, NATIVE)

VS_EXPORT ssize_t send(int fd, const void *buf, size_t n, int flags)
{
	struct iovec iov = { (void *)(uintptr_t)buf, n };
	SEND(fd, &iov, 1, flags, REAL(send)(fd, buf, n, flags));
}

VS_EXPORT ssize_t __send(int fd, const void *buf, size_t n, int flags) { return send(fd, buf, n, flags); }

VS_EXPORT ssize_t sendto(int fd, const void *buf, size_t n, int flags, __CONST_SOCKADDR_ARG addr, socklen_t len)
{
	struct iovec iov = { (void *)(uintptr_t)buf, n };
	TRANSFER(send, fd, &iov, 1, flags, (void *)(uintptr_t)addr.__sockaddr__, len, REAL(sendto)(fd, buf, n, flags, addr, len));
}

VS_EXPORT ssize_t write(int fd, const void *buf, size_t n)
{
	struct iovec iov = { (void *)(uintptr_t)buf, n };
	SEND(fd, &iov, 1, 0, REAL(write)(fd, buf, n));
}

VS_EXPORT ssize_t __write(int fd, const void *buf, size_t n) { return write(fd, buf, n); }

VS_EXPORT ssize_t writev(int fd, const struct iovec *iov, int count)
{
	if (count <= 0 || count > IOV_MAX)
		return REAL(writev)(fd, iov, count);
	SEND(fd, (struct iovec *)(uintptr_t)iov, count, 0, REAL(writev)(fd, iov, count));
}

VS_EXPORT ssize_t pwritev2(int fd, const struct iovec *iov, int count, off64_t offset, int flags)
{
	if (offset != -1 || count <= 0 || count > IOV_MAX)
		return REAL(pwritev2)(fd, iov, count, offset, flags);
	SEND(fd, (struct iovec *)(uintptr_t)iov, count, (flags & RWF_NOWAIT) ? MSG_DONTWAIT : 0, REAL(pwritev2)(fd, iov, count, offset, flags));
}

/* Descriptors that go to another process may come to one that knows nothing of rings. */
static void demote_passed(const struct msghdr *m)
{
	for (struct cmsghdr *h = CMSG_FIRSTHDR(m); h; h = CMSG_NXTHDR((struct msghdr *)(uintptr_t)m, h)) {
		if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS || h->cmsg_len < CMSG_LEN(0))
			continue;
		size_t count = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(h) + i * sizeof fd, sizeof fd);
			struct vs_conn c;
			struct vs_udp *u = vs_udp_of(fd);
			if (u) {
				vs_udp_refuse(u, VS_PLAIN_PASSED);
			} else if (vs_fd_conn_checked(fd, &c)) {
				vs_tx_demote(&c, fd, VS_PLAIN_PASSED);
				vs_rx_demote(&c, fd, VS_PLAIN_HANDED);
			} else if ((unsigned)fd < VS_FD_MAX) {
				vs_fd_forget(fd);
			}
		}
	}
}

VS_EXPORT ssize_t sendmsg(int fd, const struct msghdr *m, int flags)
{
	if (m && m->msg_controllen >= sizeof(struct cmsghdr) && m->msg_control) {
		demote_passed(m);
		struct vs_conn c;
		if (vs_fd_conn(fd, &c))
			vs_tx_demote(&c, fd, VS_PLAIN_OPTION);
		if (!vs_fd_is_datagram(vs_fd_word(fd)))
			return REAL(sendmsg)(fd, m, flags);
	}
	if (!m || m->msg_iovlen > IOV_MAX || (m->msg_iovlen && !m->msg_iov))
		return REAL(sendmsg)(fd, m, flags);
	ssize_t result;
	struct vs_native native;
	if (vs_fd_is_datagram(vs_fd_word(fd))) {
		if (!vs_hook_send_datagram(fd, m, flags, &result, &native))
			vs_native_done(&native, result = REAL(sendmsg)(fd, m, flags));
		return result;
	}
	SEND(fd, m->msg_iov, (int)m->msg_iovlen, flags, REAL(sendmsg)(fd, m, flags));
}

VS_EXPORT ssize_t recv(int fd, void *buf, size_t n, int flags)
{
	struct iovec iov = { buf, n };
	RECV(fd, &iov, 1, flags, REAL(recv)(fd, buf, n, flags));
}

VS_EXPORT ssize_t __recv(int fd, void *buf, size_t n, int flags) { return recv(fd, buf, n, flags); }

VS_EXPORT ssize_t __recv_chk(int fd, void *buf, size_t n, size_t room, int flags)
{
	if (n > room)
		return REAL(__recv_chk)(fd, buf, n, room, flags);
	return recv(fd, buf, n, flags);
}

static ssize_t native_recvfrom(int fd, void *buf, size_t n, int flags, __SOCKADDR_ARG addr, socklen_t *len)
{
	return REAL(recvfrom)(fd, buf, n, flags, addr, len);
}

VS_EXPORT ssize_t recvfrom(int fd, void *buf, size_t n, int flags, __SOCKADDR_ARG addr, socklen_t *len)
{
	struct iovec iov = { buf, n };
	ssize_t result;
	struct vs_native native;
	if (vs_is_pass(fd))
		return native_recvfrom(fd, buf, n, flags, addr, len);
	if (vs_fd_is_datagram(vs_fd_word(fd))) {
		struct msghdr m = { .msg_name = len ? addr.__sockaddr__ : NULL, .msg_namelen = len ? *len : 0, .msg_iov = &iov, .msg_iovlen = 1 };
		if (vs_hook_recv_datagram(fd, &m, flags, &result, &native)) {
			if (result >= 0 && m.msg_name)
				*len = m.msg_namelen;
			return result;
		}
	} else if (vs_hook_recv(fd, &iov, 1, flags, &result, &native)) {
		if (result >= 0 && addr.__sockaddr__ && len)
			*len = 0; /* as the kernel does for a stream */
		return result;
	}
	result = native_recvfrom(fd, buf, n, flags, addr, len);
	vs_native_done(&native, result);
	return result;
}

VS_EXPORT ssize_t __recvfrom_chk(int fd, void *buf, size_t n, size_t room, int flags, __SOCKADDR_ARG addr, socklen_t *len)
{
	if (n > room)
		return REAL(__recvfrom_chk)(fd, buf, n, room, flags, addr, len);
	return recvfrom(fd, buf, n, flags, addr, len);
}

/* Reading nothing takes no datagram, as receiving nothing does. */
static bool reads_nothing(int fd, const struct iovec *iov, int count)
{
	for (int i = 0; i < count; i++)
		if (iov[i].iov_len)
			return false;
	return vs_fd_is_datagram(vs_fd_word(fd));
}

VS_EXPORT ssize_t read(int fd, void *buf, size_t n)
{
	struct iovec iov = { buf, n };
	if (reads_nothing(fd, &iov, 1))
		return REAL(read)(fd, buf, n);
	RECV(fd, &iov, 1, 0, REAL(read)(fd, buf, n));
}

VS_EXPORT ssize_t __read(int fd, void *buf, size_t n) { return read(fd, buf, n); }

VS_EXPORT ssize_t __read_chk(int fd, void *buf, size_t n, size_t room)
{
	if (n > room)
		return REAL(__read_chk)(fd, buf, n, room);
	return read(fd, buf, n);
}

VS_EXPORT ssize_t readv(int fd, const struct iovec *iov, int count)
{
	if (count <= 0 || count > IOV_MAX || reads_nothing(fd, iov, count))
		return REAL(readv)(fd, iov, count);
	RECV(fd, (struct iovec *)(uintptr_t)iov, count, 0, REAL(readv)(fd, iov, count));
}

VS_EXPORT ssize_t preadv2(int fd, const struct iovec *iov, int count, off64_t offset, int flags)
{
	if (offset != -1 || count <= 0 || count > IOV_MAX || reads_nothing(fd, iov, count))
		return REAL(preadv2)(fd, iov, count, offset, flags);
	RECV(fd, (struct iovec *)(uintptr_t)iov, count, (flags & RWF_NOWAIT) ? MSG_DONTWAIT : 0, REAL(preadv2)(fd, iov, count, offset, flags));
}

/* Descriptors that came with a message are new numbers here. */
static void note_received(struct msghdr *m)
{
	for (struct cmsghdr *h = CMSG_FIRSTHDR(m); h; h = CMSG_NXTHDR(m, h)) {
		if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS || h->cmsg_len < CMSG_LEN(0))
			continue;
		size_t count = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(h) + i * sizeof fd, sizeof fd);
			vs_fd_forget(fd);
		}
	}
}

VS_EXPORT ssize_t recvmsg(int fd, struct msghdr *m, int flags)
{
	ssize_t result;
	struct vs_native native = { .counted = VS_N_NONE };
	if (m && m->msg_iovlen <= IOV_MAX && (m->msg_iov || !m->msg_iovlen) && !vs_is_pass(fd)) {
		if (vs_fd_is_datagram(vs_fd_word(fd))) {
			if (vs_hook_recv_datagram(fd, m, flags, &result, &native))
				return result;
		} else if (vs_hook_recv(fd, m->msg_iov, (int)m->msg_iovlen, flags, &result, &native)) {
			if (result >= 0) {
				m->msg_namelen = 0;
				m->msg_controllen = 0;
				m->msg_flags = 0;
			}
			return result;
		}
	}
	result = REAL(recvmsg)(fd, m, flags);
	vs_native_done(&native, result);
	if (result >= 0 && m->msg_controllen > 0)
		note_received(m);
	return result;
}

VS_EXPORT int sendmmsg(int fd, struct mmsghdr *v, unsigned n, int flags)
{
	if (vs_is_pass(fd)) {
		for (unsigned i = 0; i < n && v; i++)
			if (v[i].msg_hdr.msg_controllen >= sizeof(struct cmsghdr) && v[i].msg_hdr.msg_control)
				demote_passed(&v[i].msg_hdr);
		return REAL(sendmmsg)(fd, v, n, flags);
	}
	unsigned i;
	for (i = 0; i < n && i < IOV_MAX; i++) {
		ssize_t r = sendmsg(fd, &v[i].msg_hdr, flags);
		if (r < 0)
			return i ? (int)i : -1;
		v[i].msg_len = (unsigned)r;
	}
	return (int)i;
}

/* As the kernel does it: the time-out is looked at after each datagram, and an error after the first one is told by the next call, or not at
 * all. */
static int recv_datagrams(int fd, struct mmsghdr *v, unsigned n, int flags, struct timespec *timeout)
{
	uint64_t start = vs_now_ns(), limit = timeout ? (uint64_t)timeout->tv_sec * 1000000000u + (uint64_t)timeout->tv_nsec : 0, used = 0;
	unsigned i;
	for (i = 0; i < n && (i == 0 || !timeout || used < limit); i++) {
		ssize_t r = recvmsg(fd, &v[i].msg_hdr, (flags & ~MSG_WAITFORONE) | (i && (flags & MSG_WAITFORONE) ? MSG_DONTWAIT : 0));
		if (r < 0 && i == 0)
			return -1;
		if (r < 0)
			break;
		v[i].msg_len = (unsigned)r;
		used = vs_now_ns() - start;
	}
	if (timeout) {
		uint64_t left = used < limit ? limit - used : 0;
		*timeout = (struct timespec){ (time_t)(left / 1000000000u), (long)(left % 1000000000u) };
	}
	return (int)i;
}

VS_EXPORT int recvmmsg(int fd, struct mmsghdr *v, unsigned n, int flags, struct timespec *timeout)
{
	struct vs_conn c;
	struct vs_udp *u = vs_udp_of(fd);
	if (u && v && n && n <= IOV_MAX && (!timeout || (timeout->tv_sec >= 0 && (unsigned long)timeout->tv_nsec < 1000000000u)))
		return recv_datagrams(fd, v, n, flags, timeout);
	if (vs_fd_use(fd, &c) != VS_USE_CONN) {
		int r = REAL(recvmmsg)(fd, v, n, flags, timeout);
		for (int i = 0; i < r; i++)
			if (v[i].msg_hdr.msg_controllen > 0)
				note_received(&v[i].msg_hdr);
		return r;
	}
	unsigned i;
	for (i = 0; i < n; i++) {
		ssize_t r = recvmsg(fd, &v[i].msg_hdr, (flags & ~MSG_WAITFORONE) | (i && (flags & MSG_WAITFORONE) ? MSG_DONTWAIT : 0));
		if (r < 0)
			return i ? (int)i : -1;
		v[i].msg_len = (unsigned)r;
		if (r == 0)
			return (int)i + 1;
	}
	return (int)i;
}

/* A file's bytes are read into the ring; what finds no room there is the kernel's. True when done; false: the kernel's call, then
 * vs_native_done(). */
static bool send_file(int out, int in, off64_t *offset, size_t count, ssize_t *result, struct vs_native *n)
{
	struct stat st;
	n->counted = VS_N_NONE;
	n->fd = out;
	enum vs_use use = vs_fd_use(out, &n->c);
	vs_acts++;
	if (use == VS_USE_COUNTED)
		n->counted = VS_N_FD;
	if (use != VS_USE_CONN)
		return false;
	off64_t at = offset ? *offset : lseek64(in, 0, SEEK_CUR);
	if (count == 0 || fstat(in, &st) || !S_ISREG(st.st_mode) || at < 0) {
		if (vs_tx_begin_native(&n->c, out))
			n->counted = VS_N_TX;
		return false;
	}
	struct vs_cursor from = { .left = count > SENDFILE_MAX ? SENDFILE_MAX : count, .file_plus_1 = in + 1, .at = at };
	size_t done;
	count = from.left;
	long r = vs_conn_send(&n->c, out, &from, 0, &done);
	if (r == VS_NATIVE || r == -EPIPE)
		return false;
	if (r < 0 && r != VS_COUNTED) {
		*result = vs_result(r);
		return true;
	}
	if (offset)
		*offset = from.at;
	else
		lseek64(in, from.at, SEEK_SET);
	*result = (ssize_t)done;
	if (r != VS_COUNTED)
		return true;
	n->counted = VS_N_TX;
	if (done == 0)
		return false;
	int saved = errno;
	ssize_t more = REAL(sendfile64)(out, in, offset, count - done);
	errno = saved;
	vs_native_done(n, more);
	*result += more > 0 ? more : 0;
	return true;
}

VS_EXPORT ssize_t sendfile64(int out, int in, off64_t *offset, size_t count)
{
	struct vs_native n;
	ssize_t r;
	if (!vs_is_pass(in))
		vs_hook_refuse(in, VS_PLAIN_SPLICE);
	if (vs_is_pass(out))
		return REAL(sendfile64)(out, in, offset, count);
	if (send_file(out, in, offset, count, &r, &n))
		return r;
	r = REAL(sendfile64)(out, in, offset, count);
	vs_native_done(&n, r);
	return r;
}

VS_EXPORT ssize_t sendfile(int out, int in, off_t *offset, size_t count)
{
	_Static_assert(sizeof(off_t) == sizeof(off64_t), "64-bit only");
	return sendfile64(out, in, offset, count);
}

VS_EXPORT ssize_t splice(int in, off64_t *in_offset, int out, off64_t *out_offset, size_t n, unsigned flags)
{
	if (!vs_is_pass(in))
		vs_hook_refuse(in, VS_PLAIN_SPLICE);
	if (!vs_is_pass(out))
		vs_hook_refuse(out, VS_PLAIN_SPLICE);
	return REAL(splice)(in, in_offset, out, out_offset, n, flags);
}

/* The C library writes these by itself. */
VS_EXPORT int vdprintf(int fd, const char *format, va_list ap)
{
	if (!vs_is_pass(fd))
		vs_hook_refuse(fd, VS_PLAIN_STREAM);
	return REAL(vdprintf)(fd, format, ap);
}

VS_EXPORT int dprintf(int fd, const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	int r = vdprintf(fd, format, ap);
	va_end(ap);
	return r;
}

VS_EXPORT int __vdprintf_chk(int fd, int flag, const char *format, va_list ap)
{
	if (!vs_is_pass(fd))
		vs_hook_refuse(fd, VS_PLAIN_STREAM);
	return REAL(__vdprintf_chk)(fd, flag, format, ap);
}

VS_EXPORT int __dprintf_chk(int fd, int flag, const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	int r = __vdprintf_chk(fd, flag, format, ap);
	va_end(ap);
	return r;
}
