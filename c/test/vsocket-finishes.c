/* vsocket-finishes.c - scenarios: more ways in which connections end, and threads that meet at one. */
#define _GNU_SOURCE
#include "vsocket-kit.h"
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
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

static void end_again_and_again(int c, int s)
{
	exchange(c, s);
	vk_put(c, "last", 4);
	close(c);
	vk_recv("part", s, 2, 0);
	vk_recv("rest", s, 8, MSG_WAITALL);
	for (int i = 0; i < 3; i++) {
		vk_recv("end", s, 8, i ? MSG_DONTWAIT : 0);
		vk_recv("peek", s, 8, MSG_PEEK);
	}
	vk_say("%s", vk_events(vk_poll(s, POLLIN | POLLOUT | POLLRDHUP, 10)));
}

static void reset_once(int c, int s)
{
	exchange(c, s);
	vk_put(s, "unread", 6);
	vk_wait(c);
	close(c);
	vk_sleep_ms(3);
	int v = -1;
	socklen_t len = sizeof v;
	vk_say("%s", vk_events(vk_poll(s, POLLIN | POLLOUT | POLLRDHUP, 100)));
	vk_result("SO_ERROR", getsockopt(s, SOL_SOCKET, SO_ERROR, &v, &len));
	vk_say("%d", v);
	getsockopt(s, SOL_SOCKET, SO_ERROR, &v, &len);
	vk_say("%d", v);
	vk_recv("recv", s, 4, 0);
	vk_result("send", send(s, "x", 1, MSG_NOSIGNAL));
}

static void reset_by_recv(int c, int s)
{
	exchange(c, s);
	vk_put(s, "unread", 6);
	vk_wait(c);
	close(c);
	vk_sleep_ms(3);
	vk_recv("first", s, 4, 0);
	vk_recv("second", s, 4, 0);
	vk_recv("third", s, 4, MSG_DONTWAIT);
	vk_result("send", send(s, "x", 1, MSG_NOSIGNAL));
	vk_recv("after", s, 4, 0);
}

static void reset_by_send(int c, int s)
{
	struct linger l = { 1, 0 };
	exchange(c, s);
	setsockopt(c, SOL_SOCKET, SO_LINGER, &l, sizeof l);
	close(c);
	vk_sleep_ms(3);
	vk_result("first", send(s, "x", 1, MSG_NOSIGNAL));
	vk_result("second", send(s, "x", 1, MSG_NOSIGNAL));
	vk_recv("recv", s, 4, 0);
}

/* Data waits at both ends when one of them is reset. */
static void reset_with_data(int c, int s)
{
	struct linger l = { 1, 0 };
	exchange(c, s);
	vk_put(c, "to read", 7);
	vk_wait(s);
	setsockopt(c, SOL_SOCKET, SO_LINGER, &l, sizeof l);
	close(c);
	vk_sleep_ms(3);
	vk_recv("data", s, 3, 0);
	vk_recv("data", s, 16, 0);
	vk_recv("then", s, 16, 0);
	vk_recv("then", s, 16, 0);
}

static void reset_while_blocked(int c, int s)
{
	struct linger l = { 1, 0 };
	exchange(c, s);
	setsockopt(c, SOL_SOCKET, SO_LINGER, &l, sizeof l);
	struct vk_late late = { .what = VK_CLOSE, .fd = c, .ms = 15 };
	vk_late(&late);
	vk_recv("recv", s, 4, 0);
	vk_recv("recv", s, 4, 0);
	vk_join(&late);
}

static void reset_while_full(int c, int s)
{
	exchange(c, s);
	vk_fill_up(c);
	struct vk_late late = { .what = VK_CLOSE, .fd = s, .ms = 15 };
	vk_late(&late);
	static char p[1000];
	vk_result("send", send(c, p, sizeof p, MSG_NOSIGNAL));
	vk_result("send", send(c, p, sizeof p, MSG_NOSIGNAL));
	vk_join(&late);
}

static void own_end_while_full(int c, int s)
{
	exchange(c, s);
	vk_fill_up(c);
	struct vk_late late = { .what = VK_SHUT_WR, .fd = c, .ms = 15 };
	vk_late(&late);
	static char p[1000];
	vk_result("send", send(c, p, sizeof p, MSG_NOSIGNAL));
	vk_join(&late);
}

static void one_direction_each(int c, int s)
{
	exchange(c, s);
	vk_result("c", shutdown(c, SHUT_WR));
	vk_recv("end at s", s, 4, 0);
	for (int i = 0; i < 5; i++) {
		vk_put(s, "one way", 7);
		vk_recv("recv", c, 16, 0);
	}
	vk_result("s", shutdown(s, SHUT_WR));
	vk_recv("end at c", c, 4, 0);
	vk_result("c", shutdown(c, SHUT_RDWR));
	vk_result("s", shutdown(s, SHUT_RDWR));
	vk_say("%s", vk_events(vk_poll(c, POLLIN | POLLOUT | POLLRDHUP, 10)));
}

static void half_closed_stream(int c, int s)
{
	enum { SIZE = 600000 };
	unsigned char *p = malloc(SIZE), *q = malloc(SIZE);
	exchange(c, s);
	shutdown(s, SHUT_WR);
	vk_recv("end", c, 4, 0);
	pid_t child = fork();
	if (child == 0) {
		vk_fill(p, SIZE, 3);
		vk_put(c, p, SIZE);
		_exit(0);
	}
	close(c);
	vk_get(s, q, SIZE);
	vk_say("%s", vk_check(q, SIZE, 3) ? "right" : "WRONG");
	vk_reap(child);
	vk_recv("end", s, 4, 0);
	free(p);
	free(q);
}

static void reading_shut(int c, int s)
{
	exchange(c, s);
	vk_put(c, "waits", 5);
	vk_wait(s);
	vk_result("shutdown", shutdown(s, SHUT_RD));
	vk_say("%s", vk_events(vk_poll(s, POLLIN | POLLOUT | POLLRDHUP, 100)));
	vk_recv("recv", s, 8, 0);
	vk_recv("recv", s, 8, 0);
	/* What still comes is read as before. */
	vk_put(c, "later", 5);
	vk_sleep_ms(2);
	vk_recv("recv", s, 8, MSG_DONTWAIT);
	vk_put(s, "answer", 6);
	vk_recv("recv", c, 8, 0);
}

static void *shut_read(void *arg)
{
	vk_sleep_ms(15);
	shutdown(*(int *)arg, SHUT_RD);
	return NULL;
}

static void reading_shut_while_blocked(int c, int s)
{
	pthread_t t;
	exchange(c, s);
	pthread_create(&t, NULL, shut_read, &s);
	vk_recv("recv", s, 8, 0);
	pthread_join(t, NULL);
	vk_put(s, "answer", 6);
	vk_recv("recv", c, 8, 0);
}

static void lingers(int c, int s)
{
	struct linger l = { 1, 1 };
	exchange(c, s);
	vk_put(c, "last", 4);
	setsockopt(c, SOL_SOCKET, SO_LINGER, &l, sizeof l);
	long start = vk_now_ms();
	vk_result("close", close(c));
	vk_took(start, 0);
	vk_recv("recv", s, 8, 0);
	vk_recv("recv", s, 8, 0);
}

static void a_copy_stays(int c, int s)
{
	int d = dup(c);
	exchange(c, s);
	vk_result("close", close(c));
	vk_recv("nothing", s, 8, MSG_DONTWAIT);
	exchange(d, s);
	vk_result("shutdown", shutdown(d, SHUT_WR));
	vk_recv("end", s, 8, 0);
	vk_put(s, "x", 1);
	vk_recv("recv", d, 8, 0);
}

static void shut_by_a_child(int c, int s)
{
	exchange(c, s);
	pid_t p = fork();
	if (p == 0) {
		close(c);
		_exit(0);
	}
	vk_reap(p);
	exchange(c, s);
	p = fork();
	if (p == 0) {
		shutdown(c, SHUT_WR);
		_exit(0);
	}
	vk_reap(p);
	vk_recv("end", s, 8, 0);
	vk_result("send", send(c, "x", 1, MSG_NOSIGNAL));
	vk_put(s, "back", 4);
	vk_recv("recv", c, 8, 0);
}

/* A process ends without closing: with unread data, its peer is told of a reset. */
static void left(int c, int s, int how, bool unread)
{
	exchange(c, s);
	pid_t p = fork();
	if (p == 0) {
		close(s);
		vk_put(c, "from the child", 14);
		if (unread)
			vk_wait(c);
		if (how == 0)
			exit(0);
		if (how == 1)
			_exit(0);
		if (how == 2)
			abort();
		kill(getpid(), SIGKILL);
	}
	close(c);
	if (unread)
		vk_put(s, "unread", 6);
	int st;
	waitpid(p, &st, 0);
	vk_sleep_ms(3);
	vk_recv("recv", s, 32, 0);
	vk_recv("then", s, 32, 0);
	vk_recv("then", s, 32, 0);
}
static void left_by_exit(int c, int s) { left(c, s, 0, false); }
static void left_by_exit_unread(int c, int s) { left(c, s, 0, true); }
static void left_by_own_exit(int c, int s) { left(c, s, 1, false); }
static void left_by_own_exit_unread(int c, int s) { left(c, s, 1, true); }
static void left_by_abort(int c, int s) { left(c, s, 2, false); }

static void closed_range(int c, int s)
{
	int c2, s2;
	vk_pair(&c2, &s2, false);
	exchange(c, s);
	exchange(c2, s2);
	vk_result("close_range", close_range((unsigned)s, (unsigned)s, 0));
	vk_recv("end", c, 8, 0);
	exchange(c2, s2);
	int lo = c2 < s2 ? c2 : s2, hi = c2 < s2 ? s2 : c2;
	vk_result("cloexec", close_range((unsigned)lo, (unsigned)hi, CLOSE_RANGE_CLOEXEC));
	vk_say("%d", fcntl(s2, F_GETFD));
	exchange(c2, s2);
	vk_result("wrong", close_range(9, 8, 0));
	vk_result("bad", close(99));
}

/* Threads. */

static void *reader(void *arg)
{
	char b[8] = "";
	return (void *)(intptr_t)recv(*(int *)arg, b, 8, 0);
}

static void *poller(void *arg)
{
	struct pollfd p = { *(int *)arg, POLLIN, 0 };
	poll(&p, 1, 2000);
	return (void *)(intptr_t)p.revents;
}

static void pollers(int c, int s)
{
	pthread_t t[3];
	exchange(c, s);
	for (int i = 0; i < 3; i++)
		pthread_create(&t[i], NULL, poller, &s);
	vk_sleep_ms(15);
	vk_put(c, "x", 1);
	for (int i = 0; i < 3; i++) {
		void *r;
		pthread_join(t[i], &r);
		vk_say("%s", vk_events((unsigned)(intptr_t)r));
	}
	vk_recv("recv", s, 8, 0);
}

static void readers_of_copies(int c, int s)
{
	pthread_t t[2];
	int fd[2] = { s, dup(s) };
	long sum = 0;
	exchange(c, s);
	for (int i = 0; i < 2; i++)
		pthread_create(&t[i], NULL, reader, &fd[i]);
	vk_sleep_ms(10);
	vk_put(c, "x", 1);
	vk_sleep_ms(10);
	vk_put(c, "y", 1);
	for (int i = 0; i < 2; i++) {
		void *r;
		pthread_join(t[i], &r);
		sum += (long)(intptr_t)r;
	}
	vk_say("%ld", sum);
}

static void readers_at_the_end(int c, int s)
{
	pthread_t t[4];
	exchange(c, s);
	for (int i = 0; i < 4; i++)
		pthread_create(&t[i], NULL, reader, &s);
	vk_sleep_ms(10);
	shutdown(c, SHUT_WR);
	for (int i = 0; i < 4; i++) {
		void *r;
		pthread_join(t[i], &r);
		vk_say("%ld", (long)(intptr_t)r);
	}
}

static void *echo_thread(void *arg)
{
	char b[64];
	ssize_t r;
	while ((r = recv(*(int *)arg, b, sizeof b, 0)) > 0)
		vk_put(*(int *)arg, b, (size_t)r);
	return NULL;
}

static void connections_of_threads(int c, int s)
{
	enum { N = 6 };
	pthread_t t[N];
	int cs[N], ss[N], right = 0;
	exchange(c, s);
	for (int i = 0; i < N; i++) {
		vk_pair(&cs[i], &ss[i], i & 1);
		pthread_create(&t[i], NULL, echo_thread, &ss[i]);
	}
	for (int j = 0; j < 100; j++)
		for (int i = 0; i < N; i++) {
			char b[16] = "";
			vk_put(cs[i], "0123456789", 10);
			vk_get(cs[i], b, 10);
			right += !memcmp(b, "0123456789", 10);
		}
	for (int i = 0; i < N; i++) {
		close(cs[i]);
		pthread_join(t[i], NULL);
	}
	vk_say("%d", right);
}

static void forked_while_read(int c, int s)
{
	pthread_t t;
	void *r;
	exchange(c, s);
	pthread_create(&t, NULL, reader, &s);
	vk_sleep_ms(10);
	pid_t p = fork();
	if (p == 0)
		_exit(send(c, "child", 5, 0) == 5 ? 0 : 1);
	vk_reap(p);
	pthread_join(t, &r);
	vk_say("%ld", (long)(intptr_t)r);
	exchange(c, s);
}

static void urgent_while_blocked(int c, int s)
{
	pthread_t t;
	void *r;
	exchange(c, s);
	pthread_create(&t, NULL, reader, &s);
	vk_sleep_ms(10);
	/* Leaves the ring under the reader. */
	vk_result("oob", send(c, "ab!", 3, MSG_OOB));
	pthread_join(t, &r);
	vk_say("%ld", (long)(intptr_t)r);
	vk_recv("oob", s, 4, MSG_OOB);
	exchange(c, s);
}

static void *change_options(void *arg)
{
	for (int i = 0; i < 3000; i++) {
		int v = i & 1;
		setsockopt(*(int *)arg, IPPROTO_TCP, TCP_NODELAY, &v, sizeof v);
	}
	return NULL;
}

static void options_meanwhile(int c, int s)
{
	pthread_t t;
	int right = 0;
	pthread_create(&t, NULL, change_options, &c);
	for (int i = 0; i < 1000; i++) {
		char b[4];
		vk_put(c, "ping", 4);
		vk_get(s, b, 4);
		vk_put(s, b, 4);
		vk_get(c, b, 4);
		right += !memcmp(b, "ping", 4);
	}
	pthread_join(t, NULL);
	vk_say("%d", right);
}

static void *peeks(void *arg)
{
	char b[8];
	for (int i = 0; i < 2000; i++)
		recv(*(int *)arg, b, 8, MSG_PEEK | MSG_DONTWAIT);
	return NULL;
}

static void peeked_meanwhile(int c, int s)
{
	pthread_t t;
	int right = 0;
	pthread_create(&t, NULL, peeks, &s);
	for (int i = 0; i < 1000; i++) {
		char b[4];
		vk_put(c, "ping", 4);
		vk_get(s, b, 4);
		right += !memcmp(b, "ping", 4);
	}
	pthread_join(t, NULL);
	vk_say("%d", right);
}

const struct vk_scenario vk_finishes[] = {
	{ "end, again and again", end_again_and_again, 0 },
	{ "end, one direction each", one_direction_each, 0 },
	{ "end, half closed stream", half_closed_stream, 0 },
	{ "end, reading shut down", reading_shut, 0 },
	{ "end, reading shut down while blocked", reading_shut_while_blocked, 0 },
	{ "end, lingers", lingers, 0 },
	{ "end, a copy stays", a_copy_stays, 0 },
	{ "end, by a child", shut_by_a_child, 0 },
	{ "end, of descriptors in a range", closed_range, 0 },
	{ "reset, told once by SO_ERROR", reset_once, 0 },
	{ "reset, told once by recv", reset_by_recv, 0 },
	{ "reset, told once by send", reset_by_send, 0 },
	{ "reset, with data", reset_with_data, 0 },
	{ "reset, while blocked", reset_while_blocked, 0 },
	{ "reset, while full", reset_while_full, 0 },
	{ "own end while full", own_end_while_full, 0 },
	{ "left by exit", left_by_exit, 0 },
	{ "left by exit, unread data", left_by_exit_unread, 0 },
	{ "left by _exit", left_by_own_exit, 0 },
	{ "left by _exit, unread data", left_by_own_exit_unread, 0 },
	{ "left by abort", left_by_abort, 0 },
	{ "threads, pollers", pollers, 0 },
	{ "threads, readers of copies", readers_of_copies, 0 },
	{ "threads, readers at the end", readers_at_the_end, 0 },
	{ "threads, a connection each", connections_of_threads, 0 },
	{ "threads, fork while one reads", forked_while_read, 0 },
	{ "threads, urgent data while one reads", urgent_while_blocked, 0 },
	{ "threads, options meanwhile", options_meanwhile, 0 },
	{ "threads, peeked meanwhile", peeked_meanwhile, 0 },
	{ NULL, NULL, 0 },
};
