/*
 * rsocket.c - sockets over RDMA, which are not implemented: ENOSYS. rpoll() and rselect()
 * are different: they also serve ordinary descriptors, and since there are no others, they are poll() and select().
 */
#include <errno.h>
#include <poll.h>
#include <rdma/rsocket.h>
#include <sys/select.h>
#include "unsupported.h"

#define UNUSED __attribute__((unused))
#define FAILS(type, name, ...) \
	type name(__VA_ARGS__) { return (type)sr_cm_unsupported(#name); }

FAILS(int, rsocket, UNUSED int domain, UNUSED int type, UNUSED int protocol)
FAILS(int, rbind, UNUSED int s, UNUSED const struct sockaddr *addr, UNUSED socklen_t len)
FAILS(int, rlisten, UNUSED int s, UNUSED int backlog)
FAILS(int, raccept, UNUSED int s, UNUSED struct sockaddr *addr, UNUSED socklen_t *len)
FAILS(int, rconnect, UNUSED int s, UNUSED const struct sockaddr *addr, UNUSED socklen_t len)
FAILS(int, rshutdown, UNUSED int s, UNUSED int how)
FAILS(int, rclose, UNUSED int s)
FAILS(ssize_t, rrecv, UNUSED int s, UNUSED void *buf, UNUSED size_t n, UNUSED int flags)
FAILS(ssize_t, rrecvfrom, UNUSED int s, UNUSED void *buf, UNUSED size_t n, UNUSED int flags, UNUSED struct sockaddr *src,
      UNUSED socklen_t *len)
FAILS(ssize_t, rrecvmsg, UNUSED int s, UNUSED struct msghdr *msg, UNUSED int flags)
FAILS(ssize_t, rsend, UNUSED int s, UNUSED const void *buf, UNUSED size_t n, UNUSED int flags)
FAILS(ssize_t, rsendto, UNUSED int s, UNUSED const void *buf, UNUSED size_t n, UNUSED int flags,
      UNUSED const struct sockaddr *dst, UNUSED socklen_t len)
FAILS(ssize_t, rsendmsg, UNUSED int s, UNUSED const struct msghdr *msg, UNUSED int flags)
FAILS(ssize_t, rread, UNUSED int s, UNUSED void *buf, UNUSED size_t n)
FAILS(ssize_t, rreadv, UNUSED int s, UNUSED const struct iovec *iov, UNUSED int n)
FAILS(ssize_t, rwrite, UNUSED int s, UNUSED const void *buf, UNUSED size_t n)
FAILS(ssize_t, rwritev, UNUSED int s, UNUSED const struct iovec *iov, UNUSED int n)
FAILS(int, rgetpeername, UNUSED int s, UNUSED struct sockaddr *addr, UNUSED socklen_t *len)
FAILS(int, rgetsockname, UNUSED int s, UNUSED struct sockaddr *addr, UNUSED socklen_t *len)
FAILS(int, rsetsockopt, UNUSED int s, UNUSED int level, UNUSED int name, UNUSED const void *value, UNUSED socklen_t len)
FAILS(int, rgetsockopt, UNUSED int s, UNUSED int level, UNUSED int name, UNUSED void *value, UNUSED socklen_t *len)
FAILS(int, rfcntl, UNUSED int s, UNUSED int cmd, ...)
FAILS(off_t, riomap, UNUSED int s, UNUSED void *buf, UNUSED size_t n, UNUSED int prot, UNUSED int flags, UNUSED off_t offset)
FAILS(int, riounmap, UNUSED int s, UNUSED void *buf, UNUSED size_t n)
FAILS(size_t, riowrite, UNUSED int s, UNUSED const void *buf, UNUSED size_t n, UNUSED off_t offset, UNUSED int flags)

/* poll(): every descriptor is an ordinary one. */
int rpoll(struct pollfd *fds, nfds_t nfds, int timeout)
{
	return poll(fds, nfds, timeout);
}

/* select(): every descriptor is an ordinary one. */
int rselect(int nfds, fd_set *readfds, fd_set *writefds, fd_set *exceptfds, struct timeval *timeout)
{
	return select(nfds, readfds, writefds, exceptfds, timeout);
}
