/* vsocket-kit.c - helpers of the socket scenarios. */
#define _GNU_SOURCE
#include "vsocket-kit.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
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

int vk_listen(bool v6, struct sockaddr_storage *addr, socklen_t *len)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_addr = in6addr_loopback };
	*len = v6 ? sizeof in6 : sizeof in;
	memset(addr, 0, sizeof *addr);
	memcpy(addr, v6 ? (void *)&in6 : (void *)&in, *len);
	int l = socket(addr->ss_family, SOCK_STREAM, 0);
	if (l < 0 || bind(l, (void *)addr, *len) || listen(l, 64) || getsockname(l, (void *)addr, len))
		fail("listen");
	return l;
}

void vk_raw_pair(int *c, int *s, bool v6)
{
	struct sockaddr_storage a;
	socklen_t len;
	int l = vk_listen(v6, &a, &len);
	*c = socket(a.ss_family, SOCK_STREAM, 0);
	if (connect(*c, (void *)&a, len))
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

long vk_now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void vk_took(long start_ms, long least_ms)
{
	long ms = vk_now_ms() - start_ms;
	vk_say("%s", ms >= least_ms - 2 && ms < least_ms + 1500 ? "in time" : "at another time");
}

void vk_wait(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int r;
	while ((r = poll(&p, 1, 2000)) < 0 && errno == EINTR)
		;
	if (r <= 0)
		vk_say("nothing came");
}

void vk_recv(const char *what, int fd, size_t n, int flags)
{
	char text[64] = "";
	ssize_t r = recv(fd, text, n < sizeof text ? n : sizeof text - 1, flags);
	if (r > 0)
		vk_say("%s %zd '%.*s'", what, r, (int)r, text);
	else
		vk_result(what, r);
}

void vk_reap(pid_t p)
{
	int st = 0;
	if (waitpid(p, &st, 0) != p)
		fail("waitpid");
	vk_say("child: %s %d", WIFEXITED(st) ? "exit" : "signal", WIFEXITED(st) ? WEXITSTATUS(st) : WTERMSIG(st));
}

void vk_until_asleep(int tid)
{
	char path[64], line[512];
	snprintf(path, sizeof path, "/proc/self/task/%d/stat", tid ? tid : (int)getpid());
	for (int i = 0, asleep = 0; i < 300 && asleep < 2; i++) {
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		ssize_t n = read(fd, line, sizeof line - 1);
		close(fd);
		line[n > 0 ? n : 0] = 0;
		const char *state = strrchr(line, ')');
		asleep = state && state[1] && state[2] == 'S' ? asleep + 1 : 0;
		vk_sleep_ms(1);
	}
}

static void *act(void *arg)
{
	struct vk_late *l = arg;
	vk_sleep_ms(l->ms);
	vk_until_asleep(l->tid);
	switch (l->what) {
	case VK_SEND:
		vk_put(l->fd, l->text, strlen(l->text));
		break;
	case VK_CLOSE:
		close(l->fd);
		break;
	case VK_SHUT_WR:
		shutdown(l->fd, SHUT_WR);
		break;
	case VK_SHUT_BOTH:
		shutdown(l->fd, SHUT_RDWR);
		break;
	case VK_SIGNAL:
		pthread_kill(l->to, SIGUSR1);
		break;
	case VK_DRAIN:
		vk_discard(l->fd, l->bytes);
		break;
	}
	return NULL;
}

void vk_late(struct vk_late *l)
{
	pthread_t t;
	l->to = pthread_self();
	l->tid = gettid();
	if (pthread_create(&t, NULL, act, l))
		fail("pthread_create");
	l->thread = t;
}

void vk_join(struct vk_late *l) { pthread_join(l->thread, NULL); }

volatile int vk_signals;
static void count(int n)
{
	(void)n;
	vk_signals++;
}

void vk_catch(int flags)
{
	struct sigaction a = { .sa_handler = count, .sa_flags = flags };
	vk_signals = 0;
	sigaction(SIGUSR1, &a, NULL);
	sigaction(SIGALRM, &a, NULL);
}

size_t vk_fill_up(int fd)
{
	static const char block[65536];
	size_t sum = 0;
	/* A buffer of a given size does not grow with what is acknowledged. */
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &(int){ 300000 }, sizeof(int));
	/* The kernel may take more a moment later, when the receiver has been given its part. */
	for (int idle = 0; idle < 4;) {
		ssize_t r = send(fd, block, sizeof block, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (r > 0) {
			sum += (size_t)r;
			idle = 0;
		} else if (r < 0 && errno == EAGAIN) {
			idle++;
			vk_sleep_ms(5);
		} else {
			fail("send");
		}
	}
	return sum;
}

void vk_discard(int fd, size_t n)
{
	static __thread char block[65536];
	while (n > 0) {
		ssize_t r = recv(fd, block, n < sizeof block ? n : sizeof block, 0);
		if (r <= 0)
			fail("recv");
		n -= (size_t)r;
	}
}
