/* ring.h - copying between application buffers and a byte ring. Positions are offsets since the beginning of time. */
#ifndef VS_RING_H
#define VS_RING_H

#include "sys.h"
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/uio.h>

/* A place in an array of application buffers. */
struct vs_cursor {
	const struct iovec *iov;
	int count;   /* buffers from iov on */
	size_t done; /* bytes of the first one that are used up */
	size_t left; /* bytes in all */
	/* Instead of buffers: a file, read at `at`. */
	int file_plus_1;
	int64_t at;
};

/* Returns false when the lengths add up to more than a call may transfer, as the kernel does (EINVAL). */
static inline bool vs_cursor_init(struct vs_cursor *c, const struct iovec *iov, int count)
{
	size_t sum = 0;
	for (int i = 0; i < count; i++) {
		if (iov[i].iov_len > (size_t)INT64_MAX - sum)
			return false;
		sum += iov[i].iov_len;
	}
	*c = (struct vs_cursor){ .iov = iov, .count = count, .left = sum };
	return true;
}

static inline void vs_cursor_skip(struct vs_cursor *c, size_t n)
{
	c->left -= n;
	while (c->count > 0 && n >= c->iov->iov_len - c->done) {
		n -= c->iov->iov_len - c->done;
		c->iov++, c->count--;
		c->done = 0;
	}
	c->done += n;
}

/* The rest as buffers for a system call, at most `max` bytes; `out` has room for `room`. */
static inline int vs_cursor_iov(const struct vs_cursor *c, struct iovec *out, int room, size_t max)
{
	int n = 0;
	size_t done = c->done;
	for (int i = 0; i < c->count && n < room && max > 0; i++, done = 0) {
		size_t len = c->iov[i].iov_len - done;
		if (len == 0)
			continue;
		if (len > max)
			len = max;
		out[n++] = (struct iovec){ (char *)c->iov[i].iov_base + done, len };
		max -= len;
	}
	return n;
}

/* Reads up to `n` bytes of a file into the ring at `at`. Returns how many: fewer at its end, and when it cannot be read. */
static inline size_t vs_ring_put_file(unsigned char *ring, uint32_t size, uint64_t at, struct vs_cursor *c, size_t n)
{
	size_t done = 0;
	while (done < n) {
		size_t pos = (at + done) & (size - 1), len = n - done < size - pos ? n - done : size - pos;
		long r = vs_sys(SYS_pread64, c->file_plus_1 - 1, ring + pos, len, c->at);
		if (r <= 0)
			break;
		done += (size_t)r;
		c->at += r;
		c->left -= (size_t)r;
	}
	return done;
}

/* Copies `n` bytes (not more than are left) into the ring at `at`. Returns how many there were: fewer of a file that ends. */
static inline size_t vs_ring_put(unsigned char *ring, uint32_t size, uint64_t at, struct vs_cursor *c, size_t n)
{
	if (__builtin_expect(c->file_plus_1 != 0, 0))
		return vs_ring_put_file(ring, size, at, c, n);
	for (size_t rest = n; rest > 0;) {
		size_t len = c->iov->iov_len - c->done, pos = at & (size - 1);
		if (len > rest)
			len = rest;
		if (len > size - pos)
			len = size - pos;
		memcpy(ring + pos, (const char *)c->iov->iov_base + c->done, len);
		at += len, rest -= len;
		vs_cursor_skip(c, len);
	}
	return n;
}

/* Copies `n` bytes (not more than there is room for) out of the ring; discards them when `discard`. */
static inline void vs_ring_get(const unsigned char *ring, uint32_t size, uint64_t at, struct vs_cursor *c, size_t n, bool discard)
{
	while (n > 0) {
		size_t len = c->iov->iov_len - c->done, pos = at & (size - 1);
		if (len > n)
			len = n;
		if (len > size - pos)
			len = size - pos;
		if (!discard)
			memcpy((char *)c->iov->iov_base + c->done, ring + pos, len);
		at += len, n -= len;
		vs_cursor_skip(c, len);
	}
}

#endif
