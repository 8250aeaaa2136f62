/* vsocket-udp.c - scenarios: datagrams. Each makes UDP sockets of its own; the connection it is given stays unused. */
#define _GNU_SOURCE
#include "vsocket-kit.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define UDP_MAX 65507

/* A UDP socket on a loopback port of the kernel's choice; its address is left in `at`. */
static int bound(bool v6, struct sockaddr_storage *at, socklen_t *len)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_addr = in6addr_loopback };
	*len = v6 ? sizeof in6 : sizeof in;
	memset(at, 0, sizeof *at);
	memcpy(at, v6 ? (void *)&in6 : (void *)&in, *len);
	int fd = socket(at->ss_family, SOCK_DGRAM, 0);
	if (fd < 0 || bind(fd, (void *)at, *len) || getsockname(fd, (void *)at, len))
		vk_result("scenario broken: bound", -1);
	return fd;
}

/* Two sockets connected to each other, with datagrams exchanged in both directions. */
static void pair(int *a, int *b, bool v6)
{
	struct sockaddr_storage at[2];
	socklen_t len[2];
	*a = bound(v6, &at[0], &len[0]);
	*b = bound(v6, &at[1], &len[1]);
	if (connect(*a, (void *)&at[1], len[1]) || connect(*b, (void *)&at[0], len[0]))
		vk_result("scenario broken: connect", -1);
	vk_warm(*a, *b, 4);
}

static void echo_on(bool v6)
{
	int a, b;
	pair(&a, &b, v6);
	vk_result("send", send(a, "hello", 5, 0));
	vk_recv("recv", b, 63, 0);
	vk_result("write", write(b, "world!", 6));
	vk_recv("recv", a, 63, 0);
	vk_recv("none left", a, 63, MSG_DONTWAIT);
}
static void echo(int c, int s) { (void)c, (void)s, echo_on(false); }
static void echo_v6(int c, int s) { (void)c, (void)s, echo_on(true); }

static void boundaries(int c, int s)
{
	(void)c, (void)s;
	int a, b;
	pair(&a, &b, false);
	vk_result("send", send(a, "one", 3, 0));
	vk_result("send", send(a, "", 0, 0));
	vk_result("send", send(a, "three", 5, 0));
	for (int i = 0; i < 4; i++)
		vk_recv("recv", b, 63, MSG_DONTWAIT);
}

static void short_buffers(int c, int s)
{
	(void)c, (void)s;
	int a, b;
	char text[8] = "";
	pair(&a, &b, false);
	for (int i = 0; i < 4; i++)
		send(a, "abcdefghij", 10, 0);
	vk_recv("cut", b, 4, 0);
	vk_recv("peek", b, 4, MSG_PEEK);
	vk_result("real length", recv(b, text, 4, MSG_TRUNC));
	vk_say("%.4s", text);
	struct iovec v = { text, 3 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };
	vk_result("recvmsg", recvmsg(b, &m, 0));
	vk_say("%.3s, cut %d", text, !!(m.msg_flags & MSG_TRUNC));
	vk_result("read of nothing", read(b, text, 0));
	vk_recv("the next", b, 63, MSG_DONTWAIT);
	send(a, "last", 4, 0);
	vk_recv("last", b, 63, MSG_DONTWAIT);
}

static void sizes(int c, int s)
{
	static const size_t n[] = { 0, 1, 1471, 1472, 1473, 4096, 16384, 65000, UDP_MAX - 1, UDP_MAX, UDP_MAX + 1, 100000 };
	static unsigned char out[100000], in[100000];
	(void)c, (void)s;
	int a, b;
	pair(&a, &b, false);
	for (size_t i = 0; i < sizeof n / sizeof *n; i++) {
		vk_fill(out, n[i], i);
		memset(in, 0, sizeof in);
		vk_say("%zu bytes", n[i]);
		vk_result("send", send(a, out, n[i], 0));
		ssize_t r = recv(b, in, sizeof in, MSG_DONTWAIT);
		vk_result("recv", r);
		vk_say("%s", r >= 0 && vk_check(in, (size_t)r, i) ? "equal" : "not equal");
	}
}

static void addresses_on(bool v6)
{
	struct sockaddr_storage at[3], from;
	socklen_t len[3], n;
	int fd[3];
	char text[8];
	for (int i = 0; i < 3; i++)
		fd[i] = bound(v6, &at[i], &len[i]);
	for (int round = 0; round < 5; round++)
		for (int i = 1; i < 3; i++) {
			vk_result("sendto", sendto(fd[i], "abc", 3, 0, (void *)&at[0], len[0]));
			memset(&from, 0, sizeof from);
			n = sizeof from;
			vk_result("recvfrom", recvfrom(fd[0], text, sizeof text, 0, (void *)&from, &n));
			vk_say("%s, length %u", n == len[i] && !memcmp(&from, &at[i], n) ? "its sender" : "another", n);
			vk_result("answer", sendto(fd[0], "de", 2, 0, (void *)&from, n));
			vk_recv("recv", fd[i], 63, 0);
		}
	n = 4;
	sendto(fd[1], "abc", 3, 0, (void *)&at[0], len[0]);
	vk_result("short address", recvfrom(fd[0], text, sizeof text, 0, (void *)&from, &n));
	vk_say("length %u", n);
	vk_result("not connected", send(fd[0], "a", 1, 0));
}
static void addresses(int c, int s) { (void)c, (void)s, addresses_on(false); }
static void addresses_v6(int c, int s) { (void)c, (void)s, addresses_on(true); }

static void only_the_peer(int c, int s)
{
	(void)c, (void)s;
	struct sockaddr_storage at, other;
	socklen_t len, other_len;
	int a, b, stranger = bound(false, &other, &other_len);
	pair(&a, &b, false);
	len = sizeof at;
	getsockname(b, (void *)&at, &len);
	vk_result("sendto", sendto(stranger, "spam", 4, 0, (void *)&at, len));
	vk_result("send", send(a, "ham", 3, 0));
	vk_recv("recv", b, 63, 0);
	vk_recv("recv", b, 63, MSG_DONTWAIT);
	vk_result("sendto of a connected one", sendto(a, "out", 3, 0, (void *)&other, other_len));
	vk_recv("recv", stranger, 63, 0);
}

static void connected_anew(int c, int s)
{
	(void)c, (void)s;
	struct sockaddr_storage at[3];
	socklen_t len[3];
	struct sockaddr none = { .sa_family = AF_UNSPEC };
	int fd[3];
	for (int i = 0; i < 3; i++)
		fd[i] = bound(false, &at[i], &len[i]);
	for (int i = 1; i < 3; i++) {
		vk_result("connect", connect(fd[0], (void *)&at[i], len[i]));
		for (int k = 0; k < 4; k++) {
			vk_result("send", send(fd[0], "to you", 6, 0));
			vk_recv("recv", fd[i], 63, 0);
		}
	}
	vk_result("disconnect", connect(fd[0], &none, sizeof none));
	vk_result("send", send(fd[0], "a", 1, 0));
	vk_result("getpeername", getpeername(fd[0], (void *)&at[1], &len[1]));
}

static void refused(int c, int s)
{
	(void)c, (void)s;
	int a, b, error = 0;
	socklen_t n = sizeof error;
	pair(&a, &b, false);
	close(b);
	vk_result("send", send(a, "a", 1, 0));
	vk_say("%s", vk_events(vk_poll(a, POLLIN, 1000)));
	vk_recv("recv", a, 63, MSG_DONTWAIT);
	vk_recv("recv", a, 63, MSG_DONTWAIT);
	vk_result("send", send(a, "a", 1, 0));
	vk_poll(a, POLLIN, 1000);
	vk_result("send", send(a, "a", 1, 0));
	vk_poll(a, POLLIN, 1000);
	vk_result("getsockopt", getsockopt(a, SOL_SOCKET, SO_ERROR, &error, &n));
	vk_say("%s", strerrorname_np(error));
}

static void refused_while_waiting(int c, int s)
{
	(void)c, (void)s;
	struct sockaddr_storage at;
	socklen_t len;
	int a = socket(AF_INET, SOCK_DGRAM, 0), b = bound(false, &at, &len);
	close(b);
	vk_result("connect", connect(a, (void *)&at, len));
	vk_result("send", send(a, "a", 1, 0));
	vk_recv("recv", a, 63, 0);
}

static void messages(int c, int s)
{
	(void)c, (void)s;
	int a, b;
	char out[6][8], in[8][8];
	struct mmsghdr m[8];
	struct iovec v[8];
	pair(&a, &b, false);
	memset(m, 0, sizeof m);
	for (int i = 0; i < 6; i++) {
		memset(out[i], 'a' + i, sizeof out[i]);
		v[i] = (struct iovec){ out[i], (size_t)i };
		m[i].msg_hdr = (struct msghdr){ .msg_iov = &v[i], .msg_iovlen = 1 };
	}
	vk_result("sendmmsg", sendmmsg(a, m, 6, 0));
	for (int i = 0; i < 6; i++)
		vk_say("%u", m[i].msg_len);
	memset(m, 0, sizeof m);
	for (int i = 0; i < 8; i++) {
		v[i] = (struct iovec){ in[i], 4 };
		m[i].msg_hdr = (struct msghdr){ .msg_iov = &v[i], .msg_iovlen = 1 };
	}
	int got = recvmmsg(b, m, 8, MSG_DONTWAIT, NULL);
	vk_result("recvmmsg", got);
	for (int i = 0; i < got; i++)
		vk_say("%u '%.*s' cut %d", m[i].msg_len, (int)m[i].msg_len, in[i], !!(m[i].msg_hdr.msg_flags & MSG_TRUNC));
	vk_result("recvmmsg", recvmmsg(b, m, 8, MSG_DONTWAIT, NULL));
}

static void vectors(int c, int s)
{
	(void)c, (void)s;
	int a, b;
	char x[4] = "", y[8] = "";
	pair(&a, &b, false);
	struct iovec out[3] = { { "ab", 2 }, { "", 0 }, { "cdefg", 5 } }, in[2] = { { x, 3 }, { y, 7 } };
	vk_result("writev", writev(a, out, 3));
	vk_result("readv", readv(b, in, 2));
	vk_say("%s %s", x, y);
}

static void pending(int c, int s)
{
	(void)c, (void)s;
	int a, b, n = -1;
	pair(&a, &b, false);
	vk_result("FIONREAD", ioctl(b, FIONREAD, &n));
	vk_say("%d", n);
	send(a, "1234567", 7, 0);
	send(a, "12", 2, 0);
	for (int i = 0; i < 2; i++) {
		vk_result("FIONREAD", ioctl(b, FIONREAD, &n));
		vk_say("%d", n);
		vk_recv("recv", b, 63, 0);
	}
}

static void shut(int c, int s)
{
	(void)c, (void)s;
	int a, b;
	pair(&a, &b, false);
	send(a, "before", 6, 0);
	vk_result("shutdown", shutdown(b, SHUT_RD));
	vk_recv("recv", b, 63, 0);
	vk_recv("recv", b, 63, 0);
	vk_say("%s", vk_events(vk_poll(b, POLLIN | POLLRDHUP, 0)));
	vk_result("shutdown", shutdown(a, SHUT_WR));
	vk_result("send", send(a, "x", 1, MSG_NOSIGNAL));
	vk_result("send back", send(b, "still", 5, 0));
	vk_recv("recv", a, 63, 0);
}

static void time_out(int c, int s)
{
	(void)c, (void)s;
	int a, b;
	struct timeval t = { 0, 50000 };
	pair(&a, &b, false);
	setsockopt(b, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
	long start = vk_now_ms();
	vk_recv("recv", b, 63, 0);
	vk_took(start, 50);
	send(a, "after", 5, 0);
	vk_recv("recv", b, 63, 0);
}

static void interrupted(int c, int s)
{
	(void)c, (void)s;
	int a, b;
	pair(&a, &b, false);
	vk_catch(0);
	struct vk_late l = { .what = VK_SIGNAL, .ms = 30 };
	vk_late(&l);
	vk_recv("recv", b, 63, 0);
	vk_say("%d signals", vk_signals);
	vk_join(&l);
	send(a, "after", 5, 0);
	vk_recv("recv", b, 63, 0);
}

static void late(int c, int s)
{
	(void)c, (void)s;
	int a, b;
	pair(&a, &b, false);
	for (int i = 0; i < 3; i++) {
		struct vk_late l = { .what = VK_SEND, .fd = a, .ms = 10, .text = "late" };
		vk_late(&l);
		vk_recv("recv", b, 63, 0);
		vk_join(&l);
	}
}

static void polled(int c, int s)
{
	(void)c, (void)s;
	int a, b;
	pair(&a, &b, false);
	vk_say("%s", vk_events(vk_poll(b, POLLIN | POLLOUT, 0)));
	for (int i = 0; i < 3; i++) {
		struct vk_late l = { .what = VK_SEND, .fd = a, .ms = 10, .text = "polled" };
		vk_late(&l);
		vk_say("%s", vk_events(vk_poll(b, POLLIN, 2000)));
		vk_join(&l);
		vk_recv("recv", b, 63, MSG_DONTWAIT);
		vk_say("%s", vk_events(vk_poll(b, POLLIN, 0)));
	}
}

static void selected(int c, int s)
{
	(void)c, (void)s;
	int a, b;
	pair(&a, &b, false);
	for (int i = 0; i < 3; i++) {
		struct vk_late l = { .what = VK_SEND, .fd = a, .ms = 10, .text = "selected" };
		struct timeval t = { 2, 0 };
		fd_set r;
		FD_ZERO(&r);
		FD_SET(b, &r);
		vk_late(&l);
		vk_result("select", select(b + 1, &r, NULL, NULL, &t));
		vk_join(&l);
		vk_recv("recv", b, 63, MSG_DONTWAIT);
	}
}

static void edges(int c, int s)
{
	(void)c, (void)s;
	int a, b, e = epoll_create1(0);
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET };
	pair(&a, &b, false);
	vk_result("add", epoll_ctl(e, EPOLL_CTL_ADD, b, &ev));
	for (int i = 0; i < 3; i++) {
		send(a, "edge", 4, 0);
		vk_result("wait", epoll_wait(e, &ev, 1, 1000));
		vk_say("%s", vk_events(ev.events));
		vk_result("wait", epoll_wait(e, &ev, 1, 0));
	}
	for (int i = 0; i < 4; i++)
		vk_recv("recv", b, 63, MSG_DONTWAIT);
}

static void duplicates(int c, int s)
{
	(void)c, (void)s;
	int a, b;
	pair(&a, &b, false);
	int d = dup(b);
	send(a, "one", 3, 0);
	send(a, "two", 3, 0);
	vk_recv("copy", d, 63, 0);
	close(d);
	vk_recv("original", b, 63, 0);
	send(a, "three", 5, 0);
	vk_recv("original", b, 63, 0);
}

static void forked(int c, int s)
{
	(void)c, (void)s;
	int a, b;
	pair(&a, &b, false);
	fflush(NULL);
	send(a, "for the child", 13, 0);
	send(a, "for the parent", 14, 0);
	pid_t p = fork();
	if (!p) {
		vk_recv("child", b, 63, 0);
		vk_result("send", send(b, "child here", 10, 0));
		fflush(NULL);
		_exit(3);
	}
	vk_reap(p);
	vk_recv("parent", b, 63, MSG_DONTWAIT);
	vk_recv("parent", a, 63, MSG_DONTWAIT);
}

static void in_order(int c, int s)
{
	(void)c, (void)s;
	int a, b;
	unsigned bad = 0, n = 0;
	pair(&a, &b, false);
	/* A window that the receive buffer holds; the reads alternate between keeping up and lagging. */
	for (unsigned sent = 0, read = 0; read < 20000;) {
		for (unsigned i = 0; i < 1 + read % 32 && sent < 20000; i++, sent++)
			if (send(a, &sent, sizeof sent, 0) != sizeof sent)
				bad++;
		while (recv(b, &n, sizeof n, MSG_DONTWAIT) == sizeof n)
			bad += n != read++;
	}
	vk_say("%u out of order", bad);
}

static void itself(int c, int s)
{
	(void)c, (void)s;
	struct sockaddr_storage at;
	socklen_t len;
	int a = bound(false, &at, &len);
	vk_result("connect", connect(a, (void *)&at, len));
	for (int i = 0; i < 4; i++) {
		vk_result("send", send(a, "me", 2, 0));
		vk_recv("recv", a, 63, 0);
	}
}

static void overrun(int c, int s)
{
	static char block[8192];
	(void)c, (void)s;
	int a, b, size = 16384, got = 0;
	pair(&a, &b, false);
	setsockopt(b, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
	for (int i = 0; i < 100; i++)
		if (send(a, block, sizeof block, 0) != sizeof block)
			vk_result("send", -1);
	while (recv(b, block, sizeof block, MSG_DONTWAIT) > 0)
		got++;
	vk_say("%s", got > 0 && got < 100 ? "some were dropped" : "none were dropped");
	send(a, "after", 5, 0);
	vk_recv("recv", b, 63, MSG_DONTWAIT);
}

static void bad_arguments(int c, int s)
{
	(void)c, (void)s;
	int a, b;
	pair(&a, &b, false);
	vk_result("send", send(a, (void *)1, 10, 0));
	send(a, "x", 1, 0);
	vk_result("recv", recv(b, (void *)1, 10, MSG_DONTWAIT));
	vk_result("sendto", sendto(a, "x", 1, 0, (void *)1, sizeof(struct sockaddr_in)));
	vk_result("urgent", recv(b, (char[1]){ 0 }, 1, MSG_OOB | MSG_DONTWAIT));
	vk_result("listen", listen(a, 1));
	vk_result("accept", accept(a, NULL, NULL));
}

const struct vk_scenario vk_udp[] = {
	{ "udp: echo", echo, 0 },
	{ "udp: echo, IPv6", echo_v6, 0 },
	{ "udp: boundaries", boundaries, 0 },
	{ "udp: short buffers", short_buffers, 0 },
	{ "udp: sizes", sizes, 0 },
	{ "udp: addresses", addresses, 0 },
	{ "udp: addresses, IPv6", addresses_v6, 0 },
	{ "udp: only the peer", only_the_peer, 0 },
	{ "udp: connected anew", connected_anew, 0 },
	{ "udp: refused", refused, 0 },
	{ "udp: refused while waiting", refused_while_waiting, VK_KERNEL },
	{ "udp: messages", messages, 0 },
	{ "udp: vectors", vectors, 0 },
	{ "udp: pending", pending, 0 },
	{ "udp: shutdown", shut, 0 },
	{ "udp: time-out", time_out, 0 },
	{ "udp: interrupted", interrupted, 0 },
	{ "udp: late", late, 0 },
	{ "udp: poll", polled, 0 },
	{ "udp: select", selected, 0 },
	{ "udp: edges", edges, 0 },
	{ "udp: duplicates", duplicates, 0 },
	{ "udp: fork", forked, 0 },
	{ "udp: in order", in_order, 0 },
	{ "udp: to itself", itself, 0 },
	{ "udp: overrun", overrun, 0 },
	{ "udp: bad arguments", bad_arguments, 0 },
	{ NULL, NULL, 0 },
};
