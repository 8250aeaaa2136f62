/* vsocket-connects.c - scenarios: connecting, listening and accepting. */
#define _GNU_SOURCE
#include "vsocket-kit.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static void exchange(int c, int s)
{
	vk_put(c, "there", 5);
	vk_recv("recv", s, 16, 0);
	vk_put(s, "and back", 8);
	vk_recv("recv", c, 16, 0);
}

static void several(int c, int s)
{
	for (int i = 0; i < 3; i++)
		exchange(c, s);
}

static int error_of(int fd)
{
	int v = -1;
	socklen_t len = sizeof v;
	getsockopt(fd, SOL_SOCKET, SO_ERROR, &v, &len);
	return v;
}

/* An address at which nobody listens. */
static struct sockaddr_storage nobody(socklen_t *len)
{
	struct sockaddr_storage a;
	close(vk_listen(false, &a, len));
	return a;
}

static void refused(int c, int s)
{
	socklen_t len;
	struct sockaddr_storage a = nobody(&len);
	int k = socket(AF_INET, SOCK_STREAM, 0);
	exchange(c, s);
	vk_result("connect", connect(k, (void *)&a, len));
	vk_say("error %d", error_of(k));
	vk_result("send", send(k, "x", 1, MSG_NOSIGNAL));
	vk_recv("recv", k, 4, 0);
	vk_say("%s", vk_events(vk_poll(k, POLLIN | POLLOUT, 100)));
}

static void refused_later(int c, int s)
{
	socklen_t len;
	struct sockaddr_storage a = nobody(&len);
	int k = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	exchange(c, s);
	vk_result("connect", connect(k, (void *)&a, len));
	vk_say("%s", vk_events(vk_poll(k, POLLIN | POLLOUT, 1000)));
	vk_say("error %d", error_of(k));
	vk_say("error %d", error_of(k));
	vk_say("%s", vk_events(vk_poll(k, POLLIN | POLLOUT, 1000)));
}

static void refused_then_again(int c, int s)
{
	socklen_t len;
	struct sockaddr_storage a = nobody(&len);
	int k = socket(AF_INET, SOCK_STREAM, 0);
	exchange(c, s);
	vk_result("connect", connect(k, (void *)&a, len));
	int l = vk_listen(false, &a, &len);
	vk_result("connect", connect(k, (void *)&a, len));
	int n = accept(l, NULL, NULL);
	several(k, n);
}

static void nonblocking(int c, int s)
{
	struct sockaddr_storage a;
	socklen_t len;
	int l = vk_listen(false, &a, &len), k = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	exchange(c, s);
	vk_result("connect", connect(k, (void *)&a, len));
	vk_say("%s", vk_events(vk_poll(k, POLLOUT, 1000)));
	vk_say("error %d", error_of(k));
	vk_result("again", connect(k, (void *)&a, len));
	vk_result("again", connect(k, (void *)&a, len));
	int n = accept(l, NULL, NULL);
	vk_nonblock(k, false);
	several(k, n);
}

static void connected_by_select(int c, int s)
{
	struct sockaddr_storage a;
	socklen_t len;
	int l = vk_listen(true, &a, &len), k = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, 0);
	fd_set out, in;
	struct timeval t = { 2, 0 };
	exchange(c, s);
	FD_ZERO(&out);
	FD_SET(k, &out);
	FD_ZERO(&in);
	FD_SET(l, &in);
	vk_result("connect", connect(k, (void *)&a, len));
	vk_result("select", select(k + 1, NULL, &out, NULL, &t));
	vk_result("select", select(l + 1, &in, NULL, NULL, &t));
	int n = accept(l, NULL, NULL);
	vk_nonblock(k, false);
	several(k, n);
}

static void unconnected(int c, int s)
{
	int k = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_storage a = { .ss_family = AF_INET };
	socklen_t len = sizeof a;
	exchange(c, s);
	vk_result("send", send(k, "x", 1, MSG_NOSIGNAL));
	vk_recv("recv", k, 4, 0);
	vk_result("shutdown", shutdown(k, SHUT_WR));
	vk_result("getpeername", getpeername(k, (void *)&a, &len));
	vk_say("%s", vk_events(vk_poll(k, POLLIN | POLLOUT | POLLRDHUP, 10)));
	vk_result("accept", accept(k, NULL, NULL));
	vk_result("connect short", connect(k, (void *)&a, 2));
	a.ss_family = AF_UNIX;
	vk_result("connect family", connect(k, (void *)&a, 16));
}

static void connected_twice(int c, int s)
{
	struct sockaddr_storage a;
	socklen_t len;
	int l = vk_listen(false, &a, &len);
	exchange(c, s);
	vk_result("connect", connect(c, (void *)&a, len));
	vk_result("bind", bind(c, (void *)&a, len));
	vk_result("listen", listen(c, 1));
	close(l);
	several(c, s);
}

static void disconnected(int c, int s)
{
	struct sockaddr_storage a;
	socklen_t len;
	struct sockaddr none = { .sa_family = AF_UNSPEC };
	int domain = 0;
	len = sizeof domain;
	getsockopt(c, SOL_SOCKET, SO_DOMAIN, &domain, &len);
	int l = vk_listen(domain == AF_INET6, &a, &len);
	exchange(c, s);
	vk_result("disconnect", connect(c, &none, sizeof none));
	vk_recv("peer", s, 4, 0);
	vk_result("send", send(c, "x", 1, MSG_NOSIGNAL));
	vk_result("connect", connect(c, (void *)&a, len));
	int n = accept(l, NULL, NULL);
	several(c, n);
}

static void accepted_flags(int c, int s)
{
	struct sockaddr_storage a, b;
	socklen_t len, blen = sizeof b;
	int l = vk_listen(false, &a, &len), k = socket(AF_INET, SOCK_STREAM, 0), k2 = socket(AF_INET, SOCK_STREAM, 0);
	exchange(c, s);
	vk_nonblock(l, true);
	vk_result("accept", accept(l, NULL, NULL));
	vk_result("connect", connect(k, (void *)&a, len));
	vk_wait(l);
	int n = accept4(l, (void *)&b, &blen, SOCK_NONBLOCK | SOCK_CLOEXEC);
	vk_say("%d %d len %u", (fcntl(n, F_GETFL) & O_NONBLOCK) != 0, fcntl(n, F_GETFD), blen);
	vk_recv("recv", n, 4, 0);
	vk_nonblock(n, false);
	several(k, n);
	vk_result("connect", connect(k2, (void *)&a, len));
	vk_wait(l);
	n = accept(l, NULL, NULL);
	vk_say("%d %d", (fcntl(n, F_GETFL) & O_NONBLOCK) != 0, fcntl(n, F_GETFD));
	several(k2, n);
	vk_result("flags", accept4(l, NULL, NULL, 0x77));
}

static void listener_polled(int c, int s)
{
	struct sockaddr_storage a;
	socklen_t len;
	int l = vk_listen(false, &a, &len), k = socket(AF_INET, SOCK_STREAM, 0);
	struct pollfd p[2] = { { l, POLLIN | POLLOUT, 0 }, { s, POLLIN, 0 } };
	exchange(c, s);
	vk_result("poll", poll(p, 2, 5));
	vk_result("connect", connect(k, (void *)&a, len));
	vk_result("poll", poll(p, 2, 1000));
	vk_say("%s", vk_events((unsigned)p[0].revents));
	vk_put(c, "x", 1);
	vk_wait(s);
	vk_sleep_ms(1); /* while rings have data, other descriptors are asked for 20 us after they were asked for last */
	vk_result("poll", poll(p, 2, 1000));
	vk_say("%s", vk_events((unsigned)p[1].revents));
	int n = accept(l, NULL, NULL);
	vk_result("poll", poll(p, 2, 1000));
	vk_say("%s", vk_events((unsigned)p[0].revents));
	vk_recv("recv", s, 4, 0);
	several(k, n);
}

static void *shut_listener(void *arg)
{
	vk_sleep_ms(15);
	shutdown(*(int *)arg, SHUT_RD);
	return NULL;
}

static void listener_shut(int c, int s)
{
	struct sockaddr_storage a;
	socklen_t len;
	pthread_t t;
	int l = vk_listen(false, &a, &len);
	exchange(c, s);
	pthread_create(&t, NULL, shut_listener, &l);
	vk_result("accept", accept(l, NULL, NULL));
	pthread_join(t, NULL);
	int k = socket(AF_INET, SOCK_STREAM, 0);
	vk_result("connect", connect(k, (void *)&a, len));
}

static void data_before_accept(int c, int s)
{
	struct sockaddr_storage a;
	socklen_t len;
	int l = vk_listen(false, &a, &len), k = socket(AF_INET, SOCK_STREAM, 0);
	exchange(c, s);
	vk_result("connect", connect(k, (void *)&a, len));
	for (int i = 0; i < 5; i++)
		vk_put(k, "early", 5);
	int n = accept(l, NULL, NULL);
	char b[32] = "";
	vk_get(n, b, 25);
	vk_say("%s", b);
	several(k, n);
}

static void closed_before_accept(int c, int s)
{
	struct sockaddr_storage a;
	socklen_t len;
	int l = vk_listen(false, &a, &len), k = socket(AF_INET, SOCK_STREAM, 0);
	exchange(c, s);
	vk_result("connect", connect(k, (void *)&a, len));
	vk_put(k, "gone", 4);
	vk_put(k, "soon", 4);
	close(k);
	int n = accept(l, NULL, NULL);
	vk_sleep_ms(2);
	vk_recv("recv", n, 16, 0);
	vk_recv("recv", n, 16, 0);
}

static void listener_closed(int c, int s)
{
	struct sockaddr_storage a;
	socklen_t len;
	int l = vk_listen(false, &a, &len), k = socket(AF_INET, SOCK_STREAM, 0), k2 = socket(AF_INET, SOCK_STREAM, 0);
	exchange(c, s);
	vk_result("connect", connect(k, (void *)&a, len));
	int n = accept(l, NULL, NULL);
	vk_result("connect", connect(k2, (void *)&a, len));
	vk_put(k2, "x", 1);
	close(l);
	vk_sleep_ms(2);
	vk_recv("never accepted", k2, 4, 0);
	several(k, n);
}

static void prefork(int c, int s)
{
	struct sockaddr_storage a;
	socklen_t len;
	int l = vk_listen(false, &a, &len);
	pid_t w[4];
	exchange(c, s);
	for (int i = 0; i < 4; i++) {
		w[i] = fork();
		if (w[i] == 0) {
			for (;;) {
				int n = accept(l, NULL, NULL);
				char b[8];
				if (n < 0)
					_exit(3);
				ssize_t r;
				while ((r = recv(n, b, sizeof b, 0)) > 0 && b[0] != 'q')
					vk_put(n, b, (size_t)r);
				close(n);
				if (r > 0)
					_exit(0);
			}
		}
	}
	int right = 0;
	for (int i = 0; i < 24; i++) {
		int k = socket(AF_INET, SOCK_STREAM, 0), on = 1;
		connect(k, (void *)&a, len);
		setsockopt(k, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
		for (int j = 0; j < 6; j++) {
			char b[4];
			vk_put(k, "ping", 4);
			vk_get(k, b, 4);
			right += !memcmp(b, "ping", 4);
		}
		close(k);
	}
	vk_say("%d right", right);
	for (int i = 0; i < 4; i++) {
		int k = socket(AF_INET, SOCK_STREAM, 0);
		connect(k, (void *)&a, len);
		vk_put(k, "q", 1);
		vk_recv("end", k, 4, 0);
		close(k);
	}
	for (int i = 0; i < 4; i++)
		vk_reap(w[i]);
}

static void reused_port(int c, int s)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof a;
	int l[2], on = 1;
	exchange(c, s);
	for (int i = 0; i < 2; i++) {
		l[i] = socket(AF_INET, SOCK_STREAM, 0);
		setsockopt(l[i], SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
		vk_result("bind", bind(l[i], (void *)&a, sizeof a));
		vk_result("listen", listen(l[i], 8));
		getsockname(l[i], (void *)&a, &len);
	}
	for (int i = 0; i < 6; i++) {
		int k = socket(AF_INET, SOCK_STREAM, 0);
		connect(k, (void *)&a, len);
		struct pollfd p[2] = { { l[0], POLLIN, 0 }, { l[1], POLLIN, 0 } };
		vk_result("poll", poll(p, 2, 1000));
		int n = accept(p[0].revents ? l[0] : l[1], NULL, NULL);
		several(k, n);
		close(k);
		close(n);
	}
}

/* A socket that is connected to itself. */
static void to_itself(int c, int s)
{
	socklen_t len;
	struct sockaddr_storage a = nobody(&len);
	int k = socket(AF_INET, SOCK_STREAM, 0), on = 1;
	exchange(c, s);
	setsockopt(k, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	vk_result("bind", bind(k, (void *)&a, len));
	vk_result("connect", connect(k, (void *)&a, len));
	for (int i = 0; i < 4; i++) {
		vk_put(k, "hello me", 8);
		vk_recv("recv", k, 16, 0);
	}
	shutdown(k, SHUT_WR);
	vk_recv("end", k, 16, 0);
}

/* The same two addresses again and again, each time another connection. */
static void same_addresses(int c, int s)
{
	struct sockaddr_storage a;
	struct sockaddr_in own = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000000u | ((unsigned)getpid() & 0x7fffff) << 1 | 1) }; /* nobody else's */
	socklen_t len, olen = sizeof own;
	int l = vk_listen(false, &a, &len);
	struct linger now = { 1, 0 };
	exchange(c, s);
	for (int i = 0; i < 8; i++) {
		int k = socket(AF_INET, SOCK_STREAM, 0), on = 1;
		setsockopt(k, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
		vk_result("bind", bind(k, (void *)&own, sizeof own));
		getsockname(k, (void *)&own, &olen);
		vk_result("connect", connect(k, (void *)&a, len));
		int n = accept(l, NULL, NULL);
		several(k, n);
		if (i & 1) {
			vk_put(n, "unread", 6);
			vk_wait(k);
		}
		setsockopt(k, SOL_SOCKET, SO_LINGER, &now, sizeof now);
		close(k);
		vk_sleep_ms(1);
		vk_recv("reset", n, 4, 0);
		close(n);
	}
}

static void many_short(int c, int s)
{
	struct sockaddr_storage a;
	socklen_t len;
	int l = vk_listen(false, &a, &len), right = 0;
	exchange(c, s);
	for (int i = 0; i < 200; i++) {
		int k = socket(AF_INET, SOCK_STREAM, 0);
		char b[8];
		connect(k, (void *)&a, len);
		int n = accept(l, NULL, NULL);
		for (int j = 0; j < i % 4; j++) {
			vk_put(k, "ask", 3);
			vk_get(n, b, 3);
			vk_put(n, "told", 4);
			vk_get(k, b, 4);
		}
		close(i & 1 ? k : n);
		right += recv(i & 1 ? n : k, b, 8, 0) == 0;
		close(i & 1 ? n : k);
	}
	vk_say("%d", right);
}

static void mapped(int c, int s)
{
	struct sockaddr_in6 a = { .sin6_family = AF_INET6, .sin6_addr = in6addr_any };
	socklen_t len = sizeof a;
	int l = socket(AF_INET6, SOCK_STREAM, 0), off = 0, on = 1;
	exchange(c, s);
	setsockopt(l, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
	vk_result("bind", bind(l, (void *)&a, sizeof a));
	vk_result("listen", listen(l, 4));
	getsockname(l, (void *)&a, &len);
	struct sockaddr_in four = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = a.sin6_port };
	int k = socket(AF_INET, SOCK_STREAM, 0);
	vk_result("connect", connect(k, (void *)&four, sizeof four));
	setsockopt(k, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	int n = accept(l, (void *)&a, &len);
	char text[64] = "";
	vk_say("%s", inet_ntop(AF_INET6, &a.sin6_addr, text, sizeof text));
	for (int i = 0; i < 10; i++)
		exchange(k, n);
}

static void another_loopback(int c, int s)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000305) }, own = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f010203) };
	socklen_t len = sizeof a;
	int l = socket(AF_INET, SOCK_STREAM, 0), k = socket(AF_INET, SOCK_STREAM, 0);
	exchange(c, s);
	vk_result("bind", bind(l, (void *)&a, sizeof a));
	vk_result("listen", listen(l, 4));
	getsockname(l, (void *)&a, &len);
	vk_result("bind", bind(k, (void *)&own, sizeof own));
	vk_result("connect", connect(k, (void *)&a, sizeof a));
	int n = accept(l, NULL, NULL);
	for (int i = 0; i < 10; i++)
		exchange(k, n);
}

static void *accept_one(void *arg)
{
	int n = accept(*(int *)arg, NULL, NULL);
	char b[4];
	while (n >= 0 && recv(n, b, 4, 0) == 4)
		vk_put(n, b, 4);
	close(n);
	return NULL;
}

static void accepting_threads(int c, int s)
{
	struct sockaddr_storage a;
	socklen_t len;
	pthread_t t[6];
	int l = vk_listen(false, &a, &len), k[6], right = 0;
	exchange(c, s);
	for (int i = 0; i < 6; i++)
		pthread_create(&t[i], NULL, accept_one, &l);
	for (int i = 0; i < 6; i++) {
		k[i] = socket(AF_INET, SOCK_STREAM, 0);
		connect(k[i], (void *)&a, len);
	}
	for (int j = 0; j < 10; j++)
		for (int i = 0; i < 6; i++) {
			char b[4];
			vk_put(k[i], "ping", 4);
			vk_get(k[i], b, 4);
			right += !memcmp(b, "ping", 4);
		}
	for (int i = 0; i < 6; i++)
		close(k[i]);
	for (int i = 0; i < 6; i++)
		pthread_join(t[i], NULL);
	vk_say("%d", right);
}

static void wrong_listening(int c, int s)
{
	struct sockaddr_storage a;
	socklen_t len;
	int l = vk_listen(false, &a, &len), k = socket(AF_INET, SOCK_STREAM, 0);
	exchange(c, s);
	vk_result("bind taken", bind(k, (void *)&a, len));
	vk_result("bind twice", bind(l, (void *)&a, len));
	vk_result("listen twice", listen(l, 2));
	vk_result("listen connected", listen(s, 2));
	vk_result("accept connected", accept(s, NULL, NULL));
	vk_recv("recv", l, 4, 0);
	vk_result("send", send(l, "x", 1, MSG_NOSIGNAL));
	vk_result("socket", socket(AF_INET, 77, 0));
	vk_result("socket", socket(999, SOCK_STREAM, 0));
	several(c, s);
}

const struct vk_scenario vk_connects[] = {
	{ "connect, refused", refused, 0 },
	{ "connect, refused later", refused_later, 0 },
	{ "connect, refused, then again", refused_then_again, 0 },
	{ "connect, nonblocking", nonblocking, 0 },
	{ "connect, select", connected_by_select, 0 },
	{ "connect, not at all", unconnected, 0 },
	{ "connect, twice", connected_twice, 0 },
	{ "connect, undone", disconnected, 0 },
	{ "connect, to itself", to_itself, 0 },
	{ "connect, same addresses again", same_addresses, 0 },
	{ "connect, many short ones", many_short, 0 },
	{ "connect, mapped address", mapped, 0 },
	{ "connect, another loopback address", another_loopback, 0 },
	{ "accept, flags", accepted_flags, 0 },
	{ "accept, data before", data_before_accept, 0 },
	{ "accept, closed before", closed_before_accept, 0 },
	{ "accept, prefork", prefork, 0 },
	{ "accept, threads", accepting_threads, 0 },
	{ "listener, polled", listener_polled, 0 },
	{ "listener, shut down", listener_shut, 0 },
	{ "listener, closed", listener_closed, 0 },
	{ "listener, two on a port", reused_port, 0 },
	{ "listener, wrong calls", wrong_listening, 0 },
	{ NULL, NULL, 0 },
};
