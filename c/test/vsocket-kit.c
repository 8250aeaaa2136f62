/* vsocket-kit.c - helpers of the socket scenarios. */
#define _GNU_SOURCE
#include "vsocket-kit.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

void vk_say(const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	vprintf(format, ap);
	va_end(ap);
	putchar('\n');
}

void vk_result(const char *what, long result)
{
	if (result < 0)
		vk_say("%s %ld %s", what, result, strerrorname_np(errno));
	else
		vk_say("%s %ld", what, result);
}

static void fail(const char *what)
{
	vk_say("scenario broken: %s: %s", what, strerror(errno));
	fflush(stdout);
	_exit(99);
}

void vk_raw_pair(int *c, int *s, bool v6)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_addr = in6addr_loopback };
	struct sockaddr *a = v6 ? (void *)&in6 : (void *)&in;
	socklen_t len = v6 ? sizeof in6 : sizeof in;
	int l = socket(a->sa_family, SOCK_STREAM, 0);
	if (l < 0 || bind(l, a, len) || listen(l, 8) || getsockname(l, a, &len))
		fail("listen");
	*c = socket(a->sa_family, SOCK_STREAM, 0);
	if (connect(*c, a, len))
		fail("connect");
	*s = accept(l, NULL, NULL);
	if (*s < 0)
		fail("accept");
	close(l);
	/* Without it, the kernel joins small sends when it thinks fit. */
	int on = 1;
	setsockopt(*c, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	setsockopt(*s, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

void vk_warm(int c, int s, int times)
{
	for (int i = 0; i < times; i++) {
		char b = 'w';
		vk_put(c, &b, 1);
		vk_get(s, &b, 1);
		vk_put(s, &b, 1);
		vk_get(c, &b, 1);
	}
}

void vk_pair(int *c, int *s, bool v6)
{
	vk_raw_pair(c, s, v6);
	vk_warm(*c, *s, 4);
}

void vk_fill(unsigned char *p, size_t n, unsigned long at)
{
	for (size_t i = 0; i < n; i++)
		p[i] = vk_byte(at + i);
}

bool vk_check(const unsigned char *p, size_t n, unsigned long at)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] != vk_byte(at + i))
			return false;
	return true;
}

void vk_put(int fd, const void *p, size_t n)
{
	for (size_t done = 0; done < n;) {
		ssize_t r = send(fd, (const char *)p + done, n - done, MSG_NOSIGNAL);
		if (r <= 0)
			fail("send");
		done += (size_t)r;
	}
}

void vk_get(int fd, void *p, size_t n)
{
	for (size_t done = 0; done < n;) {
		ssize_t r = recv(fd, (char *)p + done, n - done, 0);
		if (r <= 0)
			fail("recv");
		done += (size_t)r;
	}
}

void vk_nonblock(int fd, bool on)
{
	int flags = fcntl(fd, F_GETFL);
	fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK);
}

const char *vk_events(unsigned events)
{
	static const struct {
		unsigned bit;
		const char *name;
	} names[] = { { POLLIN, "IN" }, { POLLPRI, "PRI" }, { POLLOUT, "OUT" }, { POLLERR, "ERR" }, { POLLHUP, "HUP" },
		      { POLLNVAL, "NVAL" }, { POLLRDNORM, "RDNORM" }, { POLLRDHUP, "RDHUP" }, { POLLWRNORM, "WRNORM" } };
	static char text[128];
	text[0] = 0;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (events & names[i].bit)
			sprintf(text + strlen(text), "%s%s", text[0] ? "|" : "", names[i].name);
	return text[0] ? text : "none";
}

unsigned vk_poll(int fd, int events, int ms)
{
	struct pollfd p = { .fd = fd, .events = (short)events };
	int r = poll(&p, 1, ms);
	if (r < 0)
		fail("poll");
	return (unsigned short)p.revents;
}

void vk_sleep_ms(int ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000L };
	while (nanosleep(&t, &t) && errno == EINTR)
		;
}
