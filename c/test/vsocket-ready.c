/* vsocket-ready.c - scenarios: waiting, time-outs and signals. */
#define _GNU_SOURCE
#include "vsocket-kit.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long ms_since(const struct timespec *t)
{
	struct timespec n;
	clock_gettime(CLOCK_MONOTONIC, &n);
	return (n.tv_sec - t->tv_sec) * 1000 + (n.tv_nsec - t->tv_nsec) / 1000000;
}

static void poll_states(int c, int s)
{
	char b;
	vk_say("idle %s", vk_events(vk_poll(s, POLLIN | POLLOUT, 0)));
	send(c, "xy", 2, 0);
	vk_say("data %s", vk_events(vk_poll(s, POLLIN | POLLOUT, 1000)));
	vk_say("data, other bits %s", vk_events(vk_poll(s, POLLIN | POLLRDNORM | POLLPRI | POLLRDHUP, 1000)));
	vk_say("data, not asked %s", vk_events(vk_poll(s, POLLOUT, 0)));
	recv(s, &b, 1, 0);
	vk_say("rest %s", vk_events(vk_poll(s, POLLIN, 1000)));
	recv(s, &b, 1, 0);
	vk_say("empty %s", vk_events(vk_poll(s, POLLIN, 10)));
	shutdown(c, SHUT_WR);
	vk_sleep_ms(5);
	vk_say("ended %s", vk_events(vk_poll(s, POLLIN | POLLRDHUP, 1000)));
	close(c);
	shutdown(s, SHUT_WR);
	vk_sleep_ms(5);
	vk_say("gone %s", vk_events(vk_poll(s, POLLIN | POLLOUT | POLLRDHUP, 1000)));
}

static void *send_late(void *arg)
{
	vk_sleep_ms(30);
	send(*(int *)arg, "late", 4, 0);
	return NULL;
}

static void poll_wakes(int c, int s)
{
	for (int i = 0; i < 3; i++) {
		pthread_t t;
		char buf[8];
		pthread_create(&t, NULL, send_late, &c);
		vk_say("%s", vk_events(vk_poll(s, POLLIN, 5000)));
		vk_result("recv", recv(s, buf, sizeof buf, MSG_DONTWAIT));
		pthread_join(t, NULL);
	}
}

static void poll_mixed(int c, int s)
{
	int p[2];
	if (pipe(p))
		return;
	struct pollfd set[4] = { { s, POLLIN, 0 }, { p[0], POLLIN, 0 }, { -5, POLLIN, 0 }, { c, POLLIN | POLLOUT, 0 } };
	vk_result("poll", poll(set, 4, 0));
	if (write(p[1], "x", 1) != 1)
		return;
	vk_result("poll", poll(set, 4, 1000));
	vk_say("%s %s %s", vk_events((unsigned)set[0].revents), vk_events((unsigned)set[1].revents), "");
	send(c, "x", 1, 0);
	vk_sleep_ms(5);
	vk_result("poll", poll(set, 4, 1000));
	for (int i = 0; i < 4; i++)
		vk_say("%s", vk_events((unsigned)set[i].revents));
	close(p[0]);
	vk_result("poll", poll(set, 4, 1000));
	vk_say("%s", vk_events((unsigned)set[1].revents));
}

static void select_states(int c, int s)
{
	fd_set in, out, except;
	struct timeval t = { 0, 20000 };
	FD_ZERO(&in);
	FD_ZERO(&out);
	FD_ZERO(&except);
	FD_SET(s, &in);
	vk_result("empty", select(s + 1, &in, NULL, NULL, &t));
	vk_say("%d left %ld", FD_ISSET(s, &in), (long)t.tv_usec);
	send(c, "x", 1, 0);
	FD_SET(s, &in);
	FD_SET(s, &out);
	FD_SET(c, &out);
	FD_SET(s, &except);
	t.tv_sec = 5;
	vk_sleep_ms(2);
	vk_result("data", select((s > c ? s : c) + 1, &in, &out, &except, &t));
	vk_say("%d %d %d %d", FD_ISSET(s, &in), FD_ISSET(s, &out), FD_ISSET(c, &out), FD_ISSET(s, &except));
	pthread_t th;
	char buf[8];
	recv(s, buf, 1, 0);
	pthread_create(&th, NULL, send_late, &c);
	FD_ZERO(&in);
	FD_SET(s, &in);
	struct timespec ts = { 5, 0 };
	vk_result("pselect", pselect(s + 1, &in, NULL, NULL, &ts, NULL));
	pthread_join(th, NULL);
	recv(s, buf, 8, 0);
	shutdown(c, SHUT_WR);
	FD_SET(s, &in);
	vk_result("ended", select(s + 1, &in, NULL, NULL, NULL));
	close(s);
	vk_result("closed", select(s + 1, &in, NULL, NULL, NULL));
}

static int wait_events(int ep, int ms)
{
	struct epoll_event e[8];
	int n = epoll_wait(ep, e, 8, ms);
	if (n <= 0) {
		vk_result("epoll_wait", n);
		return n;
	}
	for (int i = 0; i < n; i++)
		vk_say("event %s data %d", vk_events(e[i].events & 0xffff), (int)e[i].data.u32);
	return n;
}

static int make_epoll(int fd, unsigned events, unsigned data)
{
	int ep = epoll_create1(0);
	struct epoll_event e = { .events = events, .data.u32 = data };
	vk_result("add", epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
	return ep;
}

static void epoll_level(int c, int s)
{
	char b[4];
	int ep = make_epoll(s, EPOLLIN, 7);
	wait_events(ep, 0);
	send(c, "xy", 2, 0);
	wait_events(ep, 1000);
	wait_events(ep, 1000);
	recv(s, b, 1, 0);
	wait_events(ep, 1000);
	recv(s, b, 1, 0);
	wait_events(ep, 10);
	send(c, "z", 1, 0);
	wait_events(ep, 1000);
	vk_result("recv", recv(s, b, 4, 0));
	shutdown(c, SHUT_WR);
	wait_events(ep, 1000);
	close(ep);
}

static void epoll_edge(int c, int s)
{
	char b[8];
	int ep = make_epoll(s, EPOLLIN | EPOLLET, 8);
	send(c, "abcd", 4, 0);
	wait_events(ep, 1000);
	wait_events(ep, 10);
	recv(s, b, 2, 0);
	wait_events(ep, 10);
	send(c, "ef", 2, 0);
	wait_events(ep, 1000);
	vk_result("recv", recv(s, b, 8, MSG_DONTWAIT));
	vk_result("recv", recv(s, b, 8, MSG_DONTWAIT));
	wait_events(ep, 10);
	send(c, "g", 1, 0);
	wait_events(ep, 1000);
	vk_result("recv", recv(s, b, 8, MSG_DONTWAIT));
	shutdown(c, SHUT_WR);
	wait_events(ep, 1000);
	wait_events(ep, 10);
	close(ep);
}

static void epoll_oneshot(int c, int s)
{
	char b[8];
	struct epoll_event e = { .events = EPOLLIN | EPOLLONESHOT, .data.u32 = 9 };
	int ep = make_epoll(s, EPOLLIN | EPOLLONESHOT, 9);
	send(c, "a", 1, 0);
	wait_events(ep, 1000);
	wait_events(ep, 10);
	recv(s, b, 1, 0);
	send(c, "b", 1, 0);
	wait_events(ep, 10);
	vk_result("mod", epoll_ctl(ep, EPOLL_CTL_MOD, s, &e));
	wait_events(ep, 1000);
	vk_result("del", epoll_ctl(ep, EPOLL_CTL_DEL, s, NULL));
	vk_result("mod", epoll_ctl(ep, EPOLL_CTL_MOD, s, &e));
	wait_events(ep, 10);
	close(ep);
}

static void epoll_out(int c, int s)
{
	int ep = make_epoll(c, EPOLLOUT | EPOLLIN, 1);
	wait_events(ep, 1000);
	send(s, "x", 1, 0);
	vk_sleep_ms(5);
	wait_events(ep, 1000);
	close(ep);
}

static void epoll_nested(int c, int s)
{
	char b[4];
	int inner = make_epoll(s, EPOLLIN, 3), outer = make_epoll(inner, EPOLLIN, 4);
	wait_events(outer, 10);
	send(c, "x", 1, 0);
	wait_events(outer, 1000);
	wait_events(inner, 1000);
	vk_say("inner %s", vk_events(vk_poll(inner, POLLIN, 1000)));
	recv(s, b, 1, 0);
	wait_events(outer, 10);
	close(inner);
	close(outer);
}

/* A program that makes its own system call to wait. */
static void epoll_raw(int c, int s)
{
	struct epoll_event e;
	char b[8];
	int ep = make_epoll(s, EPOLLIN, 5);
	for (int i = 0; i < 5; i++) {
		pthread_t t;
		pthread_create(&t, NULL, send_late, &c);
		long n;
#if defined(__x86_64__)
		register long r10 __asm__("r10") = 5000;
		register long r8 __asm__("r8") = 0;
		register long r9 __asm__("r9") = 8;
		__asm__ volatile("syscall" : "=a"(n) : "a"(SYS_epoll_pwait), "D"(ep), "S"(&e), "d"(1), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
#else
		n = epoll_wait(ep, &e, 1, 5000);
#endif
		vk_result("raw", n);
		vk_result("recv", recv(s, b, sizeof b, MSG_DONTWAIT));
		vk_result("recv", recv(s, b, sizeof b, MSG_DONTWAIT));
		pthread_join(t, NULL);
	}
	close(ep);
}

/* Registered only when it has been read for a while. */
static void epoll_late(int c, int s)
{
	vk_warm(c, s, 10);
	int ep = make_epoll(s, EPOLLIN, 6);
	send(c, "x", 1, 0);
	wait_events(ep, 1000);
	char b;
	recv(s, &b, 1, 0);
	wait_events(ep, 10);
	close(ep);
}

/* ... and while data is waiting. */
static void epoll_late_data(int c, int s)
{
	char b[4];
	vk_warm(c, s, 10);
	send(c, "abc", 3, 0);
	vk_sleep_ms(2);
	recv(s, b, 1, 0);
	int ep = make_epoll(s, EPOLLIN, 6);
	wait_events(ep, 1000);
	vk_result("recv", recv(s, b, 4, 0));
	wait_events(ep, 10);
	close(ep);
}

static void epoll_both_threads(int c, int s)
{
	char b[8];
	int ep = make_epoll(s, EPOLLIN | EPOLLET, 6);
	for (int i = 0; i < 5; i++) {
		pthread_t t;
		pthread_create(&t, NULL, send_late, &c);
		wait_events(ep, 5000);
		while (recv(s, b, 1, MSG_DONTWAIT) == 1)
			;
		pthread_join(t, NULL);
	}
	close(ep);
}

static void receive_timeout(int c, int s)
{
	struct timeval t = { 0, 50000 };
	struct timespec start;
	char b;
	(void)c;
	vk_result("set", setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t));
	clock_gettime(CLOCK_MONOTONIC, &start);
	vk_result("recv", recv(s, &b, 1, 0));
	long ms = ms_since(&start);
	vk_say("%s", ms >= 48 && ms < 2000 ? "in time" : "at another time");
	send(c, "x", 1, 0);
	vk_result("recv", recv(s, &b, 1, 0));
}

static volatile sig_atomic_t signals;
static void on_signal(int n) { signals += n == SIGUSR1; }

static void *signal_late(void *arg)
{
	vk_sleep_ms(40);
	vk_until_asleep(0);
	pthread_kill(*(pthread_t *)arg, SIGUSR1);
	return NULL;
}

static void *signal_then_send(void *arg)
{
	pthread_t *t = ((void **)arg)[0];
	vk_sleep_ms(40);
	vk_until_asleep(0);
	pthread_kill(*t, SIGUSR1);
	vk_sleep_ms(40);
	send(*(int *)((void **)arg)[1], "x", 1, 0);
	return NULL;
}

static void interrupted(int c, int s)
{
	struct sigaction a = { .sa_handler = on_signal };
	pthread_t self = pthread_self(), t;
	char b;
	(void)c;
	sigaction(SIGUSR1, &a, NULL);
	pthread_create(&t, NULL, signal_late, &self);
	vk_result("recv", recv(s, &b, 1, 0));
	pthread_join(t, NULL);
	pthread_create(&t, NULL, signal_late, &self);
	struct pollfd p = { s, POLLIN, 0 };
	vk_result("poll", poll(&p, 1, 5000));
	pthread_join(t, NULL);
	vk_say("%d signals", (int)signals);
}

static void restarted(int c, int s)
{
	struct sigaction a = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	pthread_t self = pthread_self(), t;
	char b = 0;
	void *args[2] = { &self, &c };
	signals = 0;
	sigaction(SIGUSR1, &a, NULL);
	pthread_create(&t, NULL, signal_then_send, args);
	vk_result("recv", recv(s, &b, 1, 0));
	vk_say("%c %d signals", b, (int)signals);
	pthread_join(t, NULL);
}

static void masked_wait(int c, int s)
{
	struct sigaction a = { .sa_handler = on_signal };
	sigset_t block, none;
	(void)c;
	signals = 0;
	sigaction(SIGUSR1, &a, NULL);
	sigemptyset(&none);
	sigemptyset(&block);
	sigaddset(&block, SIGUSR1);
	sigprocmask(SIG_BLOCK, &block, NULL);
	raise(SIGUSR1);
	struct pollfd p = { s, POLLIN, 0 };
	struct timespec t = { 2, 0 };
	vk_result("ppoll", ppoll(&p, 1, &t, &none));
	vk_say("%d signals", (int)signals);
	sigprocmask(SIG_UNBLOCK, &block, NULL);
}

static void *blocked_reader(void *arg)
{
	char b;
	recv(*(int *)arg, &b, 1, 0);
	return "returned";
}

static void cancelled(int c, int s)
{
	pthread_t t;
	void *result;
	pthread_create(&t, NULL, blocked_reader, &s);
	vk_sleep_ms(30);
	pthread_cancel(t);
	pthread_join(t, &result);
	vk_say("%s", result == PTHREAD_CANCELED ? "cancelled" : "not cancelled");
	send(c, "x", 1, 0);
	char b;
	vk_result("recv", recv(s, &b, 1, 0));
}

static void poll_deadline(int c, int s)
{
	struct timespec start;
	(void)c;
	clock_gettime(CLOCK_MONOTONIC, &start);
	vk_say("%s", vk_events(vk_poll(s, POLLIN, 60)));
	long ms = ms_since(&start);
	vk_say("%s", ms >= 59 && ms < 2000 ? "in time" : "at another time");
	struct pollfd p = { s, POLLIN, 0 };
	struct timespec bad = { 1, -5 };
	vk_result("ppoll", ppoll(&p, 1, &bad, NULL));
}

static void *read_one(void *arg)
{
	char b = 0;
	return (void *)(long)(recv(*(int *)arg, &b, 1, 0) == 1 ? b : -1);
}

static void several_readers(int c, int s)
{
	pthread_t t[4];
	long sum = 0;
	for (int i = 0; i < 4; i++)
		pthread_create(&t[i], NULL, read_one, &s);
	vk_sleep_ms(20);
	for (int i = 0; i < 4; i++)
		send(c, &"\1\2\4\10"[i], 1, 0);
	for (int i = 0; i < 4; i++) {
		void *r;
		pthread_join(t[i], &r);
		sum += (long)r;
	}
	vk_say("%ld", sum);
}

static void *write_many(void *arg)
{
	int *a = arg;
	char line[16];
	for (int i = 0; i < 2000; i++) {
		memset(line, a[1], sizeof line);
		vk_put(a[0], line, sizeof line);
	}
	return NULL;
}

/* Small sends of several threads are not torn apart. */
static void several_writers(int c, int s)
{
	pthread_t t[4];
	int args[4][2], seen[4] = { 0 };
	bool whole = true;
	for (int i = 0; i < 4; i++) {
		args[i][0] = c;
		args[i][1] = 'a' + i;
		pthread_create(&t[i], NULL, write_many, args[i]);
	}
	for (int i = 0; i < 8000; i++) {
		char line[16];
		vk_get(s, line, sizeof line);
		for (size_t k = 1; k < sizeof line; k++)
			whole = whole && line[k] == line[0];
		seen[(line[0] - 'a') & 3]++;
	}
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	vk_say("%d %d %d %d %s", seen[0], seen[1], seen[2], seen[3], whole ? "whole" : "TORN");
}

const struct vk_scenario vk_ready[] = {
	{ "poll, states", poll_states, 0 },
	{ "poll, wakes", poll_wakes, 0 },
	{ "poll, mixed", poll_mixed, 0 },
	{ "poll, deadline", poll_deadline, VK_KERNEL },
	{ "select", select_states, 0 },
	{ "epoll, level", epoll_level, 0 },
	{ "epoll, edge", epoll_edge, 0 },
	{ "epoll, oneshot", epoll_oneshot, 0 },
	{ "epoll, out", epoll_out, 0 },
	{ "epoll, nested", epoll_nested, 0 },
	{ "epoll, raw system call", epoll_raw, 0 },
	{ "epoll, added late", epoll_late, 0 },
	{ "epoll, added while data waits", epoll_late_data, 0 },
	{ "epoll, edge, threads", epoll_both_threads, 0 },
	{ "receive time-out", receive_timeout, 0 },
	{ "interrupted", interrupted, VK_KERNEL },
	{ "restarted", restarted, 0 },
	{ "signal mask", masked_wait, VK_KERNEL },
	{ "cancelled", cancelled, 0 },
	{ "several readers", several_readers, 0 },
	{ "several writers", several_writers, 0 },
	{ NULL, NULL, 0 },
};
