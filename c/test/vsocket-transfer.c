/* vsocket-transfer.c - scenarios: moving bytes. */
#define _GNU_SOURCE
#include "vsocket-kit.h"
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

static void echo(int c, int s)
{
	char buf[16] = "";
	vk_result("send", send(c, "hello", 5, 0));
	vk_result("recv", recv(s, buf, sizeof buf, 0));
	vk_say("%s", buf);
	vk_result("write", write(s, "world!", 6));
	vk_result("read", read(c, buf, sizeof buf));
	vk_say("%s", buf);
}

static void partial_reads(int c, int s)
{
	char buf[4];
	vk_result("send", send(c, "abcdefghij", 10, 0));
	for (int i = 0; i < 3; i++) {
		memset(buf, '.', sizeof buf);
		vk_result("recv", recv(s, buf, 4, MSG_DONTWAIT));
		vk_say("%.4s", buf);
	}
	vk_result("recv", recv(s, buf, 4, MSG_DONTWAIT));
}

static void joined_sends(int c, int s)
{
	char buf[16] = "";
	send(c, "ab", 2, 0);
	send(c, "cd", 2, 0);
	send(c, "ef", 2, 0);
	vk_sleep_ms(5);
	vk_result("recv", recv(s, buf, sizeof buf, 0));
	vk_say("%s", buf);
}

static void peek(int c, int s)
{
	char buf[16] = "";
	send(c, "peekaboo", 8, 0);
	vk_result("peek", recv(s, buf, 4, MSG_PEEK));
	vk_say("%s", buf);
	vk_result("peek all", recv(s, buf, sizeof buf, MSG_PEEK));
	vk_say("%s", buf);
	memset(buf, 0, sizeof buf);
	vk_result("recv", recv(s, buf, 3, 0));
	vk_say("%s", buf);
	memset(buf, 0, sizeof buf);
	vk_result("peek", recv(s, buf, sizeof buf, MSG_PEEK | MSG_DONTWAIT));
	vk_say("%s", buf);
	memset(buf, 0, sizeof buf);
	vk_result("recv", recv(s, buf, sizeof buf, 0));
	vk_say("%s", buf);
	vk_result("peek empty", recv(s, buf, sizeof buf, MSG_PEEK | MSG_DONTWAIT));
}

static void *late_sender(void *arg)
{
	int fd = *(int *)arg;
	for (int i = 0; i < 5; i++) {
		vk_sleep_ms(3);
		send(fd, &"0123456789"[i], 2, 0);
	}
	return NULL;
}

static void waitall(int c, int s)
{
	char buf[16] = "";
	pthread_t t;
	pthread_create(&t, NULL, late_sender, &c);
	vk_result("recv", recv(s, buf, 10, MSG_WAITALL));
	vk_say("%s", buf);
	pthread_join(t, NULL);
}

static void waitall_ended(int c, int s)
{
	char buf[16] = "";
	send(c, "abc", 3, 0);
	shutdown(c, SHUT_WR);
	vk_result("recv", recv(s, buf, 10, MSG_WAITALL));
	vk_say("%s", buf);
	vk_result("recv", recv(s, buf, 10, MSG_WAITALL));
}

static void truncated(int c, int s)
{
	char buf[16] = "untouched";
	send(c, "abcdefgh", 8, 0);
	vk_result("trunc", recv(s, buf, 5, MSG_TRUNC));
	vk_say("%s", buf);
	vk_result("recv", recv(s, buf, 5, 0));
	vk_say("%.3s", buf);
}

static void vectors(int c, int s)
{
	char a[3], b[5], d[9];
	struct iovec out[4] = { { "one", 3 }, { "", 0 }, { "twotwo", 6 }, { "three", 5 } };
	struct iovec in[4] = { { a, 3 }, { NULL, 0 }, { b, 5 }, { d, 9 } };
	vk_result("writev", writev(c, out, 4));
	vk_result("readv", readv(s, in, 4));
	vk_say("%.3s %.5s %.6s", a, b, d);
	vk_result("writev 0", writev(c, out, 0));
	volatile int wrong = -1; /* volatile: the compiler must not see it */
	vk_result("writev -1", writev(c, out, wrong));
	wrong = 2000;
	vk_result("readv 2000", readv(s, in, wrong));
	struct iovec huge[2] = { { a, (size_t)-1 / 2 }, { b, (size_t)-1 / 2 } };
	vk_result("writev huge", writev(c, huge, 2));
	vk_result("pwritev2", pwritev2(c, out, 4, -1, 0));
	vk_result("preadv2", preadv2(s, in, 4, -1, 0));
	vk_result("pwrite", pwrite(c, "x", 1, 0));
	vk_result("pread", pread(s, a, 1, 0));
}

static void messages(int c, int s)
{
	char a[4], b[8], control[64];
	struct sockaddr_in from;
	struct iovec out[2] = { { "abcd", 4 }, { "efghij", 6 } }, in[2] = { { a, 4 }, { b, 8 } };
	struct msghdr mo = { .msg_iov = out, .msg_iovlen = 2 };
	struct msghdr mi = { .msg_iov = in, .msg_iovlen = 2, .msg_name = &from, .msg_namelen = sizeof from, .msg_control = control,
			     .msg_controllen = sizeof control, .msg_flags = 77 };
	vk_result("sendmsg", sendmsg(c, &mo, 0));
	vk_result("recvmsg", recvmsg(s, &mi, 0));
	vk_say("%.4s %.6s name %u control %zu flags %d", a, b, mi.msg_namelen, mi.msg_controllen, mi.msg_flags);
	vk_result("recvmsg", recvmsg(s, &mi, MSG_DONTWAIT));
	mo.msg_iovlen = 5000;
	vk_result("sendmsg", sendmsg(c, &mo, 0));
}

static void many_messages(int c, int s)
{
	char a[4], b[8];
	struct iovec out[2] = { { "abcd", 4 }, { "efghij", 6 } }, in[2] = { { a, 4 }, { b, 6 } };
	struct mmsghdr mo[2] = { { .msg_hdr = { .msg_iov = &out[0], .msg_iovlen = 1 } }, { .msg_hdr = { .msg_iov = &out[1], .msg_iovlen = 1 } } };
	struct mmsghdr mi[2] = { { .msg_hdr = { .msg_iov = &in[0], .msg_iovlen = 1 } }, { .msg_hdr = { .msg_iov = &in[1], .msg_iovlen = 1 } } };
	vk_result("sendmmsg", sendmmsg(c, mo, 2, 0));
	vk_say("%u %u", mo[0].msg_len, mo[1].msg_len);
	vk_result("recvmmsg", recvmmsg(s, mi, 2, MSG_WAITFORONE, NULL));
	vk_say("%u %u %.4s %.6s", mi[0].msg_len, mi[1].msg_len, a, b);
	vk_result("recvmmsg", recvmmsg(s, mi, 2, MSG_DONTWAIT, NULL));
}

static void addresses(int c, int s)
{
	struct sockaddr_storage a, b;
	socklen_t la = sizeof a, lb = sizeof b;
	vk_result("getsockname", getsockname(c, (void *)&a, &la));
	vk_result("getpeername", getpeername(s, (void *)&b, &lb));
	vk_say("%u %u %d", la, lb, memcmp(&a, &b, la));
	char buf[4];
	socklen_t len = sizeof a;
	send(c, "x", 1, 0);
	vk_result("recvfrom", recvfrom(s, buf, 4, 0, (void *)&a, &len));
	vk_say("addrlen %u", len);
	vk_result("sendto", sendto(c, "y", 1, 0, (void *)&b, lb));
	vk_result("recv", recv(s, buf, 4, 0));
}

static void zero_lengths(int c, int s)
{
	char b = 'x';
	vk_result("send 0", send(c, &b, 0, 0));
	vk_result("write 0", write(c, &b, 0));
	/* Without data it waits as any other. */
	vk_result("recv 0", recv(s, &b, 0, MSG_DONTWAIT));
	send(c, "q", 1, 0);
	vk_wait(s);
	vk_result("recv 0", recv(s, &b, 0, 0));
	vk_result("read 0", read(s, &b, 0));
	vk_result("recv", recv(s, &b, 1, 0));
}

static void bad_pointers(int c, int s)
{
	vk_result("send", send(c, (void *)8, 0, 0));
	vk_result("recv nothing", recv(s, NULL, 0, MSG_DONTWAIT));
	vk_result("sendmsg NULL", sendmsg(c, (void *)0, 0));
}

static void empty_nonblocking(int c, int s)
{
	char b;
	(void)c;
	vk_result("dontwait", recv(s, &b, 1, MSG_DONTWAIT));
	vk_nonblock(s, true);
	vk_result("nonblock", recv(s, &b, 1, 0));
	vk_result("read", read(s, &b, 1));
	vk_result("waitall", recv(s, &b, 1, MSG_WAITALL));
	int on = 0;
	ioctl(s, FIONBIO, &on);
	vk_result("flags", fcntl(s, F_GETFL) & O_NONBLOCK);
}

static void pending(int c, int s)
{
	int n = -1;
	char buf[600];
	vk_result("FIONREAD", ioctl(s, FIONREAD, &n));
	vk_say("%d", n);
	memset(buf, 'p', sizeof buf);
	send(c, buf, 600, 0);
	vk_sleep_ms(2);
	vk_result("FIONREAD", ioctl(s, FIONREAD, &n));
	vk_say("%d", n);
	recv(s, buf, 100, 0);
	ioctl(s, FIONREAD, &n);
	vk_say("%d", n);
	recv(s, buf, 500, 0);
	ioctl(s, FIONREAD, &n);
	vk_say("%d", n);
	shutdown(c, SHUT_WR);
	vk_sleep_ms(2);
	ioctl(s, FIONREAD, &n);
	vk_say("after end %d", n);
}

struct stream {
	int fd;
	size_t size, piece;
	int peer;
};

static void *stream_out(void *arg)
{
	struct stream *st = arg;
	unsigned char *p = malloc(st->piece);
	for (size_t at = 0; at < st->size; at += st->piece) {
		size_t n = st->size - at < st->piece ? st->size - at : st->piece;
		vk_fill(p, n, at);
		vk_put(st->fd, p, n);
	}
	free(p);
	return NULL;
}

/* `size` bytes in pieces of `out`, read in pieces of `in`. */
static void stream(int c, int s, size_t size, size_t out, size_t in, int pause_every)
{
	struct stream st = { c, size, out, s };
	pthread_t t;
	unsigned char *p = malloc(in);
	size_t got = 0;
	bool right = true;
	pthread_create(&t, NULL, stream_out, &st);
	for (int i = 1; got < size; i++) {
		ssize_t r = recv(s, p, in, 0);
		if (r <= 0) {
			vk_result("recv", r);
			break;
		}
		right = right && vk_check(p, (size_t)r, got);
		got += (size_t)r;
		if (pause_every && i % pause_every == 0)
			vk_sleep_ms(2);
	}
	pthread_join(t, NULL);
	free(p);
	vk_say("%zu bytes, %s", got, right ? "right" : "WRONG");
}

static void stream_small(int c, int s) { stream(c, s, 200000, 7, 64, 0); }
static void stream_1(int c, int s) { stream(c, s, 20000, 1, 1, 0); }
static void stream_large(int c, int s) { stream(c, s, 20 << 20, 1 << 20, 100000, 0); }
static void stream_huge_reads(int c, int s) { stream(c, s, 20 << 20, 65536, 4 << 20, 0); }
static void stream_back(int c, int s) { stream(s, c, 8 << 20, 65536, 65536, 0); }
static void stream_odd(int c, int s) { stream(c, s, 5000011, 12345, 6789, 0); }
static void stream_slow_reader(int c, int s) { stream(c, s, 12 << 20, 300000, 400000, 4); }

static void *duplex(void *arg)
{
	stream(((int *)arg)[0], ((int *)arg)[1], 4 << 20, 32768, 50000, 0);
	return NULL;
}

static void both_ways(int c, int s)
{
	int forth[2] = { c, s }, back[2] = { s, c };
	pthread_t a, b;
	pthread_create(&a, NULL, duplex, forth);
	pthread_create(&b, NULL, duplex, back);
	pthread_join(a, NULL);
	pthread_join(b, NULL);
}

/* MSG_ZEROCOPY without its socket option means nothing to the kernel, and a ring does not take it: every change of the flag is a change
 * of the road, at a random byte. The reader keeps up, or the way back would stay closed. */
static void *switch_out(void *arg)
{
	struct stream *st = arg;
	unsigned seed = 1;
	static unsigned char p[4096];
	for (size_t at = 0; at < st->size;) {
		size_t n = 1 + (size_t)rand_r(&seed) % (rand_r(&seed) % 8 ? 100 : sizeof p);
		if (n > st->size - at)
			n = st->size - at;
		vk_fill(p, n, at);
		ssize_t r = send(st->fd, p, n, MSG_NOSIGNAL | (rand_r(&seed) & 1 ? MSG_ZEROCOPY : 0));
		if (r <= 0)
			break;
		at += (size_t)r;
		int waiting = 1;
		for (int i = 0; i < 1000 && waiting > 0 && rand_r(&seed) % 4; i++)
			ioctl(st->peer, FIONREAD, &waiting);
	}
	shutdown(st->fd, SHUT_WR);
	return NULL;
}

static void switches(int c, int s)
{
	struct stream st = { c, 6 << 20, 0, s };
	static unsigned char p[8192];
	unsigned seed = 2;
	size_t got = 0;
	bool right = true;
	pthread_t t;
	pthread_create(&t, NULL, switch_out, &st);
	ssize_t r;
	for (bool look = false;; look = rand_r(&seed) % 5 == 0) {
		r = recv(s, p, 1 + (size_t)rand_r(&seed) % sizeof p, look ? MSG_PEEK : 0);
		if (r <= 0)
			break;
		right = right && vk_check(p, (size_t)r, got);
		if (!look)
			got += (size_t)r;
	}
	pthread_join(t, NULL);
	vk_say("%zu %s", got, right ? "right" : "WRONG");
}

static void full_nonblocking(int c, int s)
{
	static unsigned char p[65536];
	size_t sent = 0, got = 0;
	bool right = true;
	vk_nonblock(c, true);
	for (;;) {
		vk_fill(p, sizeof p, sent);
		ssize_t r = send(c, p, sizeof p, 0);
		if (r < 0) {
			vk_result("full", r);
			break;
		}
		sent += (size_t)r;
	}
	vk_say("out %s", vk_events(vk_poll(c, POLLOUT, 0)));
	while (got < sent) {
		ssize_t r = recv(s, p, sizeof p, MSG_DONTWAIT);
		if (r < 0 && errno == EAGAIN) {
			vk_sleep_ms(1);
			continue;
		}
		if (r <= 0)
			break;
		right = right && vk_check(p, (size_t)r, got);
		got += (size_t)r;
	}
	vk_say("%s %s, out %s", got == sent ? "all" : "LOST", right ? "right" : "WRONG", vk_events(vk_poll(c, POLLOUT, 1000)));
	vk_result("again", send(c, "x", 1, 0));
}

static void file_sent(int c, int s)
{
	static unsigned char p[300000];
	int f = memfd_create("file", 0);
	vk_fill(p, sizeof p, 0);
	if (write(f, p, sizeof p) != sizeof p)
		vk_say("no file");
	off_t at = 1000;
	vk_result("sendfile", sendfile(c, f, &at, 5000));
	vk_say("offset %ld position %ld", (long)at, (long)lseek(f, 0, SEEK_CUR));
	vk_get(s, p, 5000);
	vk_say("%s", vk_check(p, 5000, 1000) ? "right" : "WRONG");
	lseek(f, 200, SEEK_SET);
	vk_result("sendfile", sendfile(c, f, NULL, 3000));
	vk_say("position %ld", (long)lseek(f, 0, SEEK_CUR));
	vk_get(s, p, 3000);
	vk_say("%s", vk_check(p, 3000, 200) ? "right" : "WRONG");
	at = (off_t)sizeof p - 10;
	vk_result("sendfile over the end", sendfile(c, f, &at, 100));
	vk_result("sendfile at the end", sendfile(c, f, &at, 100));
	vk_get(s, p, 10);
	vk_result("sendfile 0", sendfile(c, f, &at, 0));
	vk_result("sendfile bad", sendfile(c, -1, &at, 10));
	close(f);
}

static void spliced(int c, int s)
{
	int p[2], q[2];
	char buf[64] = "";
	if (pipe(p) || pipe(q))
		return;
	send(c, "before ", 7, 0);
	if (write(p[1], "through a pipe", 14) != 14)
		return;
	vk_result("splice in", splice(p[0], NULL, c, NULL, 14, 0));
	vk_get(s, buf, 21);
	vk_say("%s", buf);
	send(s, "answer", 6, 0);
	vk_sleep_ms(10);
	vk_result("splice out", splice(c, NULL, q[1], NULL, 64, 0));
	memset(buf, 0, sizeof buf);
	vk_result("read", read(q[0], buf, sizeof buf));
	vk_say("%s", buf);
	send(c, "after", 5, 0);
	memset(buf, 0, sizeof buf);
	vk_get(s, buf, 5);
	vk_say("%s", buf);
}

static void urgent(int c, int s)
{
	char b[8] = "";
	send(c, "abc", 3, 0);
	vk_result("oob", send(c, "!", 1, MSG_OOB));
	send(c, "def", 3, 0);
	vk_sleep_ms(10);
	vk_say("%s", vk_events(vk_poll(s, POLLIN | POLLPRI, 100)));
	vk_result("recv oob", recv(s, b, 1, MSG_OOB));
	vk_say("%c", b[0]);
	memset(b, 0, sizeof b);
	vk_result("recv", recv(s, b, sizeof b, 0));
	vk_say("%s", b);
	memset(b, 0, sizeof b);
	vk_result("recv", recv(s, b, sizeof b, 0));
	vk_say("%s", b);
}

static void stdio(int c, int s)
{
	char line[32] = "";
	FILE *f = fdopen(dup(s), "r+");
	send(c, "first line\nsecond line\n", 23, 0);
	vk_say("%s", fgets(line, sizeof line, f));
	vk_say("%s", fgets(line, sizeof line, f));
	fprintf(f, "answer %d\n", 42);
	fflush(f);
	memset(line, 0, sizeof line);
	vk_get(c, line, 10);
	vk_say("%s", line);
	dprintf(s, "%s", "direct\n");
	memset(line, 0, sizeof line);
	vk_get(c, line, 7);
	vk_say("%s", line);
	fclose(f);
	send(c, "still", 5, 0);
	memset(line, 0, sizeof line);
	vk_get(s, line, 5);
	vk_say("%s", line);
}

static void options(int c, int s)
{
	int v = -1;
	socklen_t len = sizeof v;
	vk_result("get", getsockopt(c, IPPROTO_TCP, TCP_NODELAY, &v, &len));
	vk_say("nodelay %d", v);
	v = 1;
	vk_result("set", setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &v, sizeof v));
	v = -1;
	getsockopt(c, IPPROTO_TCP, TCP_NODELAY, &v, &len);
	vk_say("nodelay %d", v);
	v = 0;
	setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &v, sizeof v);
	getsockopt(c, IPPROTO_TCP, TCP_NODELAY, &v, &len);
	vk_say("nodelay %d", v);
	v = 1;
	vk_result("cork", setsockopt(s, IPPROTO_TCP, TCP_CORK, &v, sizeof v));
	getsockopt(s, IPPROTO_TCP, TCP_CORK, &v, &len);
	vk_say("cork %d", v);
	vk_result("bad", setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &v, 1));
	getsockopt(c, SOL_SOCKET, SO_ERROR, &v, &len);
	vk_say("error %d", v);
	getsockopt(c, SOL_SOCKET, SO_TYPE, &v, &len);
	vk_say("type %d", v);
	v = 0;
	setsockopt(s, IPPROTO_TCP, TCP_CORK, &v, sizeof v);
	vk_warm(c, s, 2);
}

static void low_water(int c, int s)
{
	int v = 10;
	char buf[16] = "";
	vk_result("set", setsockopt(s, SOL_SOCKET, SO_RCVLOWAT, &v, sizeof v));
	send(c, "short", 5, 0);
	vk_say("%s", vk_events(vk_poll(s, POLLIN, 20)));
	send(c, "longer", 6, 0);
	vk_say("%s", vk_events(vk_poll(s, POLLIN, 1000)));
	vk_result("recv", recv(s, buf, sizeof buf, 0));
	vk_say("%s", buf);
}

static void bad_descriptors(int c, int s)
{
	char b = 0;
	close(s);
	vk_result("send", send(s, &b, 1, 0));
	vk_result("recv", recv(s, &b, 1, 0));
	vk_result("write", write(-1, &b, 1));
	vk_result("read", read(1 << 25, &b, 1));
	vk_result("close", close(s));
	vk_result("dup", dup(s));
	(void)c;
}

static void reused_number(int c, int s)
{
	char buf[8] = "";
	int p[2];
	(void)c;
	close(s);
	vk_result("pipe", pipe(p));
	vk_result("write", write(p[1], "pipe", 4));
	vk_result("read", read(p[0], buf, sizeof buf));
	vk_say("%s", buf);
}

const struct vk_scenario vk_transfer[] = {
	{ "echo", echo, 0 },
	{ "partial reads", partial_reads, 0 },
	{ "joined sends", joined_sends, 0 },
	{ "peek", peek, 0 },
	{ "waitall", waitall, 0 },
	{ "waitall, ended", waitall_ended, 0 },
	{ "truncated", truncated, 0 },
	{ "vectors", vectors, 0 },
	{ "messages", messages, 0 },
	{ "many messages", many_messages, 0 },
	{ "addresses", addresses, 0 },
	{ "zero lengths", zero_lengths, 0 },
	{ "bad pointers", bad_pointers, VK_KERNEL },
	{ "empty, nonblocking", empty_nonblocking, VK_KERNEL },
	{ "pending", pending, 0 },
	{ "stream, single bytes", stream_1, 0 },
	{ "stream, small pieces", stream_small, 0 },
	{ "stream, large pieces", stream_large, 0 },
	{ "stream, huge reads", stream_huge_reads, 0 },
	{ "stream, back", stream_back, 0 },
	{ "stream, odd sizes", stream_odd, 0 },
	{ "stream, slow reader", stream_slow_reader, 0 },
	{ "both ways at once", both_ways, 0 },
	{ "switches", switches, 0 },
	{ "full, nonblocking", full_nonblocking, 0 },
	{ "sendfile", file_sent, 0 },
	{ "splice", spliced, 0 },
	{ "urgent data", urgent, 0 },
	{ "stdio", stdio, VK_KERNEL },
	{ "options", options, 0 },
	{ "low water mark", low_water, VK_KERNEL },
	{ "bad descriptors", bad_descriptors, VK_KERNEL },
	{ "reused number", reused_number, VK_KERNEL },
	{ NULL, NULL, 0 },
};
