/* vsocket-epoll.c - scenarios: epoll in all its forms. */
#define _GNU_SOURCE
#include "vsocket-kit.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int new_set(void) { return epoll_create1(EPOLL_CLOEXEC); }

static void ctl(int ep, int op, int fd, unsigned events, unsigned data)
{
	struct epoll_event e = { .events = events, .data.u32 = data };
	static const char *const names[] = { "", "add", "del", "mod" };
	vk_result(names[op], epoll_ctl(ep, op, fd, &e));
}

static void show(const struct epoll_event *e, int n)
{
	unsigned shown = 0;
	vk_result("events", n);
	/* By data: the order of several is no promise. */
	for (int k = 0; k < n; k++) {
		int least = -1;
		for (int i = 0; i < n; i++)
			if (!(shown & 1u << i) && (least < 0 || e[i].data.u32 < e[least].data.u32))
				least = i;
		shown |= 1u << least;
		vk_say("  %u: %s", e[least].data.u32, vk_events(e[least].events & 0xffff));
	}
}

static int look(int ep, int ms)
{
	struct epoll_event e[16];
	int n = epoll_wait(ep, e, 16, ms);
	show(e, n);
	return n;
}

/* Whatever an edge is told of once more, which is harmless. */
static void settle(int ep)
{
	struct epoll_event e;
	for (int i = 0; i < 3 && epoll_wait(ep, &e, 1, 3) == 1; i++)
		;
}

/* As look(), of sets with other descriptors in them: while rings have data these are asked for 20 us after they were asked for last. */
static int look_at_all(int ep)
{
	vk_sleep_ms(1);
	return look(ep, 1000);
}

static void level_one_at_a_time(int c, int s)
{
	int c2, s2, ep = new_set(), seen[3] = { 0 };
	vk_pair(&c2, &s2, false);
	ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN, 1);
	ctl(ep, EPOLL_CTL_ADD, s2, EPOLLIN, 2);
	vk_put(c, "a", 1);
	vk_put(c2, "b", 1);
	vk_wait(s);
	vk_wait(s2);
	for (int i = 0; i < 4; i++) {
		struct epoll_event e;
		vk_result("wait", epoll_wait(ep, &e, 1, 1000));
		seen[e.data.u32 & 1]++;
	}
	vk_say("%s", seen[0] && seen[1] ? "both have their turn" : "one starves");
}

static void level_until_empty(int c, int s)
{
	int ep = new_set(), turns = 0;
	char b;
	ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN, 1);
	vk_put(c, "0123456789", 10);
	vk_wait(s);
	struct epoll_event e;
	while (turns < 20 && epoll_wait(ep, &e, 1, 20) == 1 && recv(s, &b, 1, MSG_DONTWAIT) == 1)
		turns++;
	vk_say("%d turns", turns);
}

static void edge_before_add(int c, int s)
{
	int ep = new_set();
	vk_put(c, "abc", 3);
	vk_wait(s);
	ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN | EPOLLET, 1);
	look(ep, 1000);
	settle(ep);
	vk_recv("recv", s, 8, MSG_DONTWAIT);
	look(ep, 10);
}

static void edge_after_add(int c, int s)
{
	int ep = new_set();
	ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN | EPOLLET, 1);
	vk_put(c, "abc", 3);
	look(ep, 1000);
	look(ep, 10);
	vk_recv("recv", s, 8, MSG_DONTWAIT);
	look(ep, 10);
}

static void edge_each_arrival(int c, int s)
{
	int ep = new_set();
	ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN | EPOLLET, 1);
	for (int i = 0; i < 6; i++) {
		vk_put(c, "x", 1);
		look(ep, 1000);
		look(ep, 5);
	}
	vk_recv("recv", s, 16, MSG_DONTWAIT);
}

static void edge_partial(int c, int s)
{
	int ep = new_set();
	ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN | EPOLLET, 1);
	vk_put(c, "0123456789", 10);
	look(ep, 1000);
	vk_recv("recv", s, 3, MSG_DONTWAIT);
	look(ep, 10);
	vk_recv("recv", s, 3, MSG_DONTWAIT);
	vk_put(c, "ab", 2);
	look(ep, 1000);
	vk_recv("recv", s, 6, MSG_DONTWAIT);
	look(ep, 10);
	vk_recv("recv", s, 6, MSG_DONTWAIT);
	vk_put(c, "cd", 2);
	look(ep, 1000);
	vk_recv("recv", s, 6, MSG_DONTWAIT);
}

static void edge_emptied_without_eagain(int c, int s)
{
	int ep = new_set();
	ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN | EPOLLET, 1);
	for (int i = 0; i < 20; i++) {
		struct epoll_event e;
		vk_put(c, "four", 4);
		if (epoll_wait(ep, &e, 1, 1000) != 1)
			vk_say("no event %d", i);
		char b[4];
		if (recv(s, b, 4, MSG_DONTWAIT) != 4)
			vk_say("no data %d", i);
	}
	look(ep, 5);
}

static void edge_mod(int c, int s)
{
	int ep = new_set();
	ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN | EPOLLET, 1);
	vk_put(c, "abc", 3);
	look(ep, 1000);
	look(ep, 5);
	ctl(ep, EPOLL_CTL_MOD, s, EPOLLIN | EPOLLET, 2);
	look(ep, 1000);
	settle(ep);
	vk_recv("recv", s, 8, MSG_DONTWAIT);
	ctl(ep, EPOLL_CTL_MOD, s, EPOLLIN | EPOLLET, 3);
	look(ep, 5);
	vk_put(c, "d", 1);
	look(ep, 1000);
}

static void edge_peeked(int c, int s)
{
	int ep = new_set();
	ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN | EPOLLET, 1);
	vk_put(c, "abc", 3);
	look(ep, 1000);
	vk_recv("peek", s, 8, MSG_PEEK | MSG_DONTWAIT);
	look(ep, 5);
	vk_put(c, "def", 3);
	look(ep, 1000);
	vk_recv("recv", s, 8, MSG_DONTWAIT);
}

static void edge_in_and_out(int c, int s)
{
	int ep = new_set();
	ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN | EPOLLOUT | EPOLLET, 1);
	look(ep, 1000);
	look(ep, 5);
	vk_put(c, "x", 1);
	look(ep, 1000);
	look(ep, 5);
	vk_recv("recv", s, 8, MSG_DONTWAIT);
	vk_put(s, "y", 1);
	vk_recv("recv", c, 8, 0);
}

static void edge_end(int c, int s)
{
	int ep = new_set();
	ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN | EPOLLRDHUP | EPOLLET, 1);
	vk_put(c, "last", 4);
	look(ep, 1000);
	shutdown(c, SHUT_WR);
	look(ep, 1000);
	look(ep, 5);
	vk_recv("recv", s, 8, MSG_DONTWAIT);
	vk_recv("recv", s, 8, MSG_DONTWAIT);
	look(ep, 5);
}

static void out_when_room(int c, int s)
{
	int ep = new_set();
	size_t n = vk_fill_up(c);
	ctl(ep, EPOLL_CTL_ADD, c, EPOLLOUT, 1);
	look(ep, 20);
	vk_discard(s, n);
	look(ep, 2000);
	vk_put(c, "x", 1);
	vk_recv("recv", s, 4, 0);
}

static void out_edge(int c, int s)
{
	int ep = new_set();
	ctl(ep, EPOLL_CTL_ADD, c, EPOLLOUT | EPOLLET, 1);
	look(ep, 1000);
	look(ep, 5);
	size_t n = vk_fill_up(c);
	struct vk_late l = { .what = VK_DRAIN, .fd = s, .ms = 20, .bytes = n };
	vk_late(&l);
	struct epoll_event e;
	vk_result("room", epoll_wait(ep, &e, 1, 2000));
	vk_say("%s", vk_events(e.events & 0xffff));
	vk_join(&l);
	vk_put(c, "x", 1);
	vk_recv("recv", s, 4, 0);
}

static void oneshot(int c, int s)
{
	int ep = new_set();
	ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN | EPOLLONESHOT, 1);
	for (int i = 0; i < 3; i++) {
		vk_put(c, "xy", 2);
		look(ep, 1000);
		look(ep, 5);
		vk_recv("recv", s, 1, MSG_DONTWAIT);
		look(ep, 5);
		ctl(ep, EPOLL_CTL_MOD, s, EPOLLIN | EPOLLONESHOT, 2);
		look(ep, 1000);
		vk_recv("recv", s, 8, MSG_DONTWAIT);
		ctl(ep, EPOLL_CTL_MOD, s, EPOLLIN | EPOLLONESHOT, 3);
		look(ep, 5);
	}
}

static void oneshot_edge(int c, int s)
{
	int ep = new_set();
	ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN | EPOLLONESHOT | EPOLLET, 1);
	vk_put(c, "abc", 3);
	look(ep, 1000);
	vk_put(c, "def", 3);
	look(ep, 5);
	ctl(ep, EPOLL_CTL_MOD, s, EPOLLIN | EPOLLONESHOT | EPOLLET, 2);
	look(ep, 1000);
	look(ep, 5);
	vk_recv("recv", s, 8, MSG_DONTWAIT);
}

static void oneshot_disarmed_end(int c, int s)
{
	int ep = new_set();
	ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN | EPOLLONESHOT, 1);
	vk_put(c, "x", 1);
	look(ep, 1000);
	close(c);
	vk_sleep_ms(5);
	look(ep, 5);
	vk_recv("recv", s, 4, 0);
	ctl(ep, EPOLL_CTL_MOD, s, EPOLLIN | EPOLLRDHUP | EPOLLONESHOT, 2);
	look(ep, 1000);
	vk_recv("recv", s, 4, 0);
}

static void *wait_once(void *arg)
{
	struct epoll_event e;
	return (void *)(intptr_t)epoll_wait(((int *)arg)[0], &e, 1, ((int *)arg)[1]);
}

/* How many of `threads` are told within `ms`. */
static int woken(const int *eps, int threads, int ms, int c)
{
	pthread_t t[8];
	int args[8][2], sum = 0;
	for (int i = 0; i < threads; i++) {
		args[i][0] = eps[i];
		args[i][1] = ms;
		pthread_create(&t[i], NULL, wait_once, args[i]);
	}
	vk_sleep_ms(20);
	vk_put(c, "x", 1);
	for (int i = 0; i < threads; i++) {
		void *r;
		pthread_join(t[i], &r);
		sum += (int)(intptr_t)r;
	}
	return sum;
}

static void exclusive(int c, int s)
{
	int a = new_set(), b = new_set();
	ctl(a, EPOLL_CTL_ADD, s, EPOLLIN | EPOLLEXCLUSIVE, 1);
	ctl(b, EPOLL_CTL_ADD, s, EPOLLIN | EPOLLEXCLUSIVE, 1);
	ctl(a, EPOLL_CTL_MOD, s, EPOLLIN, 1);
	ctl(a, EPOLL_CTL_DEL, s, 0, 0);
	ctl(a, EPOLL_CTL_ADD, s, EPOLLIN | EPOLLEXCLUSIVE | EPOLLONESHOT, 1);
	ctl(a, EPOLL_CTL_ADD, s, EPOLLIN | EPOLLEXCLUSIVE, 1);
	vk_say("%s", woken((int[]){ a, b }, 2, 200, c) >= 1 ? "somebody woke" : "nobody woke");
	vk_recv("recv", s, 4, 0);
	look(a, 5);
	look(b, 5);
}

static void two_sets(int c, int s)
{
	int a = new_set(), b = new_set();
	ctl(a, EPOLL_CTL_ADD, s, EPOLLIN, 1);
	ctl(b, EPOLL_CTL_ADD, s, EPOLLIN, 2);
	vk_say("%d woken", woken((int[]){ a, b }, 2, 2000, c));
	look(a, 1000);
	look(b, 1000);
	vk_recv("recv", s, 4, 0);
	look(a, 5);
	look(b, 5);
}

static void two_sets_edge(int c, int s)
{
	int a = new_set(), b = new_set();
	ctl(a, EPOLL_CTL_ADD, s, EPOLLIN | EPOLLET, 1);
	ctl(b, EPOLL_CTL_ADD, s, EPOLLIN | EPOLLET, 2);
	for (int i = 0; i < 3; i++) {
		vk_put(c, "x", 1);
		look(a, 1000);
		look(b, 1000);
		look(a, 5);
		vk_recv("recv", s, 4, 0);
	}
}

static void threads_edge(int c, int s)
{
	int ep = new_set();
	ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN | EPOLLET, 1);
	vk_say("%d woken", woken((int[]){ ep, ep, ep }, 3, 120, c));
	vk_recv("recv", s, 4, 0);
}

struct crew {
	int ep, fd, got;
	pthread_mutex_t lock;
};

static void *crew_member(void *arg)
{
	struct crew *w = arg;
	for (;;) {
		struct epoll_event e;
		char b[4];
		if (epoll_wait(w->ep, &e, 1, 3000) != 1)
			return "no event";
		/* One-shot: nobody else reads now. */
		ssize_t r = recv(w->fd, b, 1, MSG_DONTWAIT);
		if (r == 1)
			w->got++;
		e.events = EPOLLIN | EPOLLONESHOT;
		epoll_ctl(w->ep, EPOLL_CTL_MOD, w->fd, &e);
		if (r != 1)
			return r == 0 ? "end" : "nothing";
	}
}

static void threads_oneshot(int c, int s)
{
	struct crew w = { .ep = new_set(), .fd = s };
	pthread_t t[3];
	ctl(w.ep, EPOLL_CTL_ADD, s, EPOLLIN | EPOLLONESHOT, 1);
	for (int i = 0; i < 3; i++)
		pthread_create(&t[i], NULL, crew_member, &w);
	for (int i = 0; i < 300; i++) {
		vk_put(c, "x", 1);
		if (i % 50 == 0)
			vk_sleep_ms(2);
	}
	shutdown(c, SHUT_WR);
	for (int i = 0; i < 3; i++) {
		void *how;
		pthread_join(t[i], &how);
		vk_say("%s", (char *)how);
	}
	vk_say("%d", w.got);
}

static void nested_edge(int c, int s)
{
	int inner = new_set(), outer = new_set();
	ctl(inner, EPOLL_CTL_ADD, s, EPOLLIN, 1);
	ctl(outer, EPOLL_CTL_ADD, inner, EPOLLIN | EPOLLET, 2);
	vk_put(c, "x", 1);
	look(outer, 1000);
	look(inner, 1000);
	vk_recv("recv", s, 4, 0);
	look(inner, 5);
	vk_put(c, "y", 1);
	look(outer, 1000);
	look(inner, 1000);
	vk_recv("recv", s, 4, 0);
}

static void nested_deep(int c, int s)
{
	int set[4];
	for (int i = 0; i < 4; i++) {
		set[i] = new_set();
		ctl(set[i], EPOLL_CTL_ADD, i ? set[i - 1] : s, EPOLLIN, (unsigned)i);
	}
	look(set[3], 5);
	struct vk_late l = { .what = VK_SEND, .fd = c, .ms = 20, .text = "deep" };
	vk_late(&l);
	look(set[3], 2000);
	look(set[0], 1000);
	vk_join(&l);
	vk_recv("recv", s, 8, 0);
	look(set[3], 5);
}

static void nested_wrong(int c, int s)
{
	int a = new_set(), b = new_set();
	(void)c;
	ctl(a, EPOLL_CTL_ADD, a, EPOLLIN, 1);
	ctl(a, EPOLL_CTL_ADD, b, EPOLLIN, 1);
	ctl(b, EPOLL_CTL_ADD, a, EPOLLIN, 1);
	ctl(a, EPOLL_CTL_ADD, s, EPOLLIN, 1);
	ctl(s, EPOLL_CTL_ADD, a, EPOLLIN, 1);
}

static void wrong_calls(int c, int s)
{
	struct epoll_event e;
	int ep = new_set(), f = open("/proc/self/exe", O_RDONLY);
	ctl(ep, EPOLL_CTL_MOD, s, EPOLLIN, 1);
	ctl(ep, EPOLL_CTL_DEL, s, 0, 1);
	ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN, 1);
	ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN, 1);
	ctl(ep, EPOLL_CTL_ADD, f, EPOLLIN, 1);
	ctl(ep, EPOLL_CTL_ADD, -1, EPOLLIN, 1);
	ctl(-1, EPOLL_CTL_ADD, s, EPOLLIN, 1);
	vk_result("bad op", epoll_ctl(ep, 77, c, &e));
	vk_result("max 0", epoll_wait(ep, &e, 0, 0));
	volatile int wrong = -1; /* volatile: the compiler must not see it */
	vk_result("max -1", epoll_wait(ep, &e, wrong, 0));
	vk_result("no set", epoll_wait(s, &e, 1, 0));
	vk_result("bad set", epoll_wait(-1, &e, 1, 0));
	struct timespec bad = { 0, -1 };
	vk_result("bad time", epoll_pwait2(ep, &e, 1, &bad, NULL));
	vk_result("create 0", epoll_create(0));
	vk_result("create flags", epoll_create1(77));
}

static void hung_up(int c, int s)
{
	int ep = new_set();
	ctl(ep, EPOLL_CTL_ADD, s, 0, 1);
	vk_put(c, "x", 1);
	look(ep, 5);
	vk_recv("recv", s, 4, 0);
	shutdown(c, SHUT_WR);
	vk_sleep_ms(2);
	look(ep, 5);
	shutdown(s, SHUT_WR);
	look(ep, 1000);
	vk_recv("recv", s, 4, 0);
}

static void half_closed(int c, int s)
{
	int ep = new_set();
	ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN | EPOLLOUT | EPOLLRDHUP, 1);
	vk_put(c, "data", 4);
	shutdown(c, SHUT_WR);
	vk_sleep_ms(5);
	look_at_all(ep);
	vk_recv("recv", s, 8, 0);
	look_at_all(ep);
	vk_recv("recv", s, 8, 0);
	vk_put(s, "still", 5);
	vk_recv("recv", c, 8, 0);
}

static void reset_told(int c, int s)
{
	int ep = new_set();
	struct linger l = { 1, 0 };
	vk_put(c, "x", 1);
	vk_wait(s);
	ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN | EPOLLOUT | EPOLLRDHUP, 1);
	setsockopt(c, SOL_SOCKET, SO_LINGER, &l, sizeof l);
	close(c);
	vk_sleep_ms(5);
	look(ep, 1000);
	vk_recv("recv", s, 8, MSG_DONTWAIT);
	vk_recv("recv", s, 8, MSG_DONTWAIT);
	vk_recv("recv", s, 8, MSG_DONTWAIT);
}

static void copies_in_set(int c, int s)
{
	int ep = new_set(), d = dup(s);
	ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN, 1);
	ctl(ep, EPOLL_CTL_ADD, d, EPOLLIN, 2);
	vk_put(c, "ab", 2);
	vk_wait(s);
	look_at_all(ep);
	vk_recv("recv", d, 1, 0);
	look_at_all(ep);
	close(s);
	vk_recv("recv", d, 1, 0);
	/* The set has the open file, whatever number it had. */
	vk_put(c, "c", 1);
	vk_wait(d);
	look_at_all(ep);
	close(d);
	look(ep, 5);
}

static void copy_keeps_member(int c, int s)
{
	int ep = new_set();
	ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN, 1);
	int d = dup(s);
	close(s);
	vk_put(c, "x", 1);
	look(ep, 1000);
	ctl(ep, EPOLL_CTL_DEL, s, 0, 0);
	ctl(ep, EPOLL_CTL_MOD, d, EPOLLIN, 2);
	vk_recv("recv", d, 4, 0);
	look(ep, 5);
	close(d);
	vk_recv("end", c, 4, 0);
}

static void closed_leaves(int c, int s)
{
	int ep = new_set(), c2, s2;
	ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN, 1);
	vk_put(c, "x", 1);
	look(ep, 1000);
	close(s);
	look(ep, 5);
	vk_pair(&c2, &s2, false);
	vk_put(c2, "y", 1);
	look(ep, 5);
	ctl(ep, EPOLL_CTL_ADD, s2, EPOLLIN, 2);
	look(ep, 1000);
	vk_recv("recv", s2, 4, 0);
}

static void number_again(int c, int s)
{
	int ep = new_set();
	for (int i = 0; i < 3; i++) {
		ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN | EPOLLONESHOT, (unsigned)i);
		vk_put(c, "x", 1);
		look(ep, 1000);
		vk_recv("recv", s, 4, 0);
		int before = s;
		close(s);
		close(c);
		vk_pair(&c, &s, false);
		c = fcntl(c, F_DUPFD, 100 + i); /* out of the way */
		dup2(s, before);		/* the same number for another connection */
		if (s != before)
			close(s);
		s = before;
	}
	look(ep, 5);
}

static void deleted_and_added(int c, int s)
{
	int ep = new_set();
	ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN, 1);
	vk_put(c, "abc", 3);
	look(ep, 1000);
	ctl(ep, EPOLL_CTL_DEL, s, 0, 0);
	look(ep, 5);
	vk_put(c, "d", 1);
	look(ep, 5);
	ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN | EPOLLET, 2);
	look(ep, 1000);
	settle(ep);
	ctl(ep, EPOLL_CTL_DEL, s, 0, 0);
	ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN, 3);
	look(ep, 1000);
	vk_recv("recv", s, 8, 0);
	look(ep, 5);
}

static void interest_changes(int c, int s)
{
	int ep = new_set();
	ctl(ep, EPOLL_CTL_ADD, s, EPOLLOUT, 1);
	vk_put(c, "x", 1);
	vk_wait(s);
	look(ep, 1000);
	ctl(ep, EPOLL_CTL_MOD, s, EPOLLIN, 2);
	look(ep, 1000);
	ctl(ep, EPOLL_CTL_MOD, s, 0, 3);
	look(ep, 5);
	ctl(ep, EPOLL_CTL_MOD, s, EPOLLIN | EPOLLOUT, 4);
	look(ep, 1000);
	vk_recv("recv", s, 4, 0);
	look(ep, 1000);
	ctl(ep, EPOLL_CTL_MOD, s, EPOLLRDNORM, 5);
	look(ep, 5);
	vk_put(c, "y", 1);
	look(ep, 1000);
	vk_recv("recv", s, 4, 0);
}

static void added_while_waiting(int c, int s)
{
	int ep = new_set();
	pthread_t t;
	int arg[2] = { ep, 3000 };
	void *r;
	vk_put(c, "x", 1);
	vk_wait(s);
	pthread_create(&t, NULL, wait_once, arg);
	vk_sleep_ms(20);
	ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN, 1);
	pthread_join(t, &r);
	vk_say("%ld woken", (long)(intptr_t)r);
	vk_recv("recv", s, 4, 0);
}

static void added_while_waiting_then_data(int c, int s)
{
	int ep = new_set();
	pthread_t t;
	int arg[2] = { ep, 3000 };
	void *r;
	pthread_create(&t, NULL, wait_once, arg);
	vk_sleep_ms(20);
	ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN, 1);
	vk_sleep_ms(10);
	vk_put(c, "x", 1);
	pthread_join(t, &r);
	vk_say("%ld woken", (long)(intptr_t)r);
	vk_recv("recv", s, 4, 0);
}

static void changed_while_waiting(int c, int s)
{
	int ep = new_set();
	pthread_t t;
	int arg[2] = { ep, 3000 };
	void *r;
	ctl(ep, EPOLL_CTL_ADD, s, 0, 1);
	vk_put(c, "x", 1);
	pthread_create(&t, NULL, wait_once, arg);
	vk_sleep_ms(20);
	ctl(ep, EPOLL_CTL_MOD, s, EPOLLIN, 1);
	pthread_join(t, &r);
	vk_say("%ld woken", (long)(intptr_t)r);
	vk_recv("recv", s, 4, 0);
}

static void deleted_while_waiting(int c, int s)
{
	int ep = new_set();
	pthread_t t;
	int arg[2] = { ep, 80 };
	void *r;
	ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN, 1);
	pthread_create(&t, NULL, wait_once, arg);
	vk_sleep_ms(20);
	ctl(ep, EPOLL_CTL_DEL, s, 0, 1);
	vk_put(c, "x", 1);
	pthread_join(t, &r);
	vk_say("%ld woken", (long)(intptr_t)r);
	vk_recv("recv", s, 4, 0);
}

static void with_others(int c, int s)
{
	int ep = new_set(), p[2], ev = eventfd(0, 0), timer = timerfd_create(CLOCK_MONOTONIC, 0);
	uint64_t one = 1;
	struct itimerspec soon = { .it_value = { 0, 20000000 } };
	if (pipe(p))
		return;
	ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN, 1);
	ctl(ep, EPOLL_CTL_ADD, p[0], EPOLLIN, 2);
	ctl(ep, EPOLL_CTL_ADD, ev, EPOLLIN, 3);
	ctl(ep, EPOLL_CTL_ADD, timer, EPOLLIN, 4);
	look(ep, 5);
	vk_result("pipe", write(p[1], "x", 1));
	look_at_all(ep);
	vk_put(c, "x", 1);
	vk_wait(s);
	look_at_all(ep);
	vk_result("eventfd", write(ev, &one, 8));
	look_at_all(ep);
	char b[8];
	vk_result("read", read(p[0], b, 1));
	vk_result("read", read(ev, b, 8));
	look_at_all(ep);
	vk_recv("recv", s, 4, 0);
	timerfd_settime(timer, 0, &soon, NULL);
	look(ep, 2000);
}

static void *raise_eventfd(void *arg)
{
	uint64_t one = 1;
	vk_sleep_ms(30);
	if (write(*(int *)arg, &one, 8) != 8)
		vk_say("no event");
	return NULL;
}

static void other_wakes(int c, int s)
{
	int ep = new_set(), ev = eventfd(0, 0);
	pthread_t t;
	ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN, 1);
	ctl(ep, EPOLL_CTL_ADD, ev, EPOLLIN, 2);
	vk_put(c, "x", 1);
	look(ep, 1000);
	vk_recv("recv", s, 4, 0);
	pthread_create(&t, NULL, raise_eventfd, &ev);
	look(ep, 3000);
	pthread_join(t, NULL);
}

/* A busy connection must not keep the others of its set from being told. */
static void busy_and_quiet(int c, int s)
{
	int ep = new_set(), p[2], quiet = 0;
	char b[4];
	if (pipe(p))
		return;
	ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN, 1);
	ctl(ep, EPOLL_CTL_ADD, p[0], EPOLLIN, 2);
	for (int i = 0; i < 3000 && !quiet; i++) {
		struct epoll_event e[1];
		vk_put(c, "x", 1);
		if (i == 10 && write(p[1], "y", 1) != 1)
			return;
		if (epoll_wait(ep, e, 1, 1000) != 1)
			break;
		if (e->data.u32 == 1)
			vk_get(s, b, 1);
		else
			quiet = 1;
	}
	vk_say("%s", quiet ? "told" : "never told");
}

static void timeouts(int c, int s)
{
	int ep = new_set();
	struct epoll_event e;
	struct timespec t = { 0, 30000000 };
	(void)c;
	ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN, 1);
	long start = vk_now_ms();
	look(ep, 0);
	vk_took(start, 0);
	start = vk_now_ms();
	look(ep, 30);
	vk_took(start, 30);
	start = vk_now_ms();
	vk_result("pwait2", epoll_pwait2(ep, &e, 1, &t, NULL));
	vk_took(start, 30);
	vk_put(c, "x", 1);
	vk_wait(s);
	start = vk_now_ms();
	look(ep, -1);
	vk_took(start, 0);
	vk_recv("recv", s, 4, 0);
}

static void polled(int c, int s)
{
	int ep = new_set();
	fd_set in;
	struct timeval t = { 2, 0 };
	ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN, 1);
	vk_say("%s", vk_events(vk_poll(ep, POLLIN, 5)));
	struct vk_late l = { .what = VK_SEND, .fd = c, .ms = 20, .text = "x" };
	vk_late(&l);
	vk_say("%s", vk_events(vk_poll(ep, POLLIN, 2000)));
	vk_join(&l);
	FD_ZERO(&in);
	FD_SET(ep, &in);
	vk_result("select", select(ep + 1, &in, NULL, NULL, &t));
	vk_recv("recv", s, 4, 0);
	vk_say("%s", vk_events(vk_poll(ep, POLLIN, 5)));
}

static void polled_edge(int c, int s)
{
	int ep = new_set();
	ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN | EPOLLET, 1);
	vk_put(c, "x", 1);
	vk_say("%s", vk_events(vk_poll(ep, POLLIN, 1000)));
	look(ep, 1000);
	vk_say("%s", vk_events(vk_poll(ep, POLLIN, 5)));
	vk_recv("recv", s, 4, 0);
	vk_put(c, "y", 1);
	vk_say("%s", vk_events(vk_poll(ep, POLLIN, 1000)));
	look(ep, 1000);
	vk_recv("recv", s, 4, 0);
}

static void interrupted_wait(int c, int s)
{
	int ep = new_set();
	(void)c;
	ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN, 1);
	for (int i = 0; i < 2; i++) {
		vk_catch(i ? SA_RESTART : 0); /* epoll_wait is never restarted */
		struct vk_late l = { .what = VK_SIGNAL, .ms = 30 };
		vk_late(&l);
		look(ep, 3000);
		vk_join(&l);
		vk_say("%d signals", vk_signals);
	}
}

static void masked(int c, int s)
{
	int ep = new_set();
	sigset_t block, none;
	struct epoll_event e;
	struct timespec t = { 2, 0 };
	ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN, 1);
	vk_catch(0);
	sigemptyset(&none);
	sigemptyset(&block);
	sigaddset(&block, SIGUSR1);
	sigprocmask(SIG_BLOCK, &block, NULL);
	raise(SIGUSR1);
	vk_result("pwait", epoll_pwait(ep, &e, 1, 2000, &none));
	vk_say("%d signals", vk_signals);
	raise(SIGUSR1);
	vk_result("pwait2", epoll_pwait2(ep, &e, 1, &t, &none));
	vk_say("%d signals", vk_signals);
	raise(SIGUSR1);
	vk_result("blocked", epoll_pwait(ep, &e, 1, 20, &block));
	vk_say("%d signals", vk_signals);
	vk_put(c, "x", 1);
	vk_wait(s);
	vk_result("data", epoll_pwait(ep, &e, 1, 2000, &block));
	vk_say("%d signals", vk_signals);
}

/* Bytes as they are waited for by a system call of the program's own. */
static long raw_pwait2(int ep, struct epoll_event *e, int ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000L };
#if defined(__x86_64__)
	long n;
	register long r10 __asm__("r10") = (long)&t;
	register long r8 __asm__("r8") = 0;
	register long r9 __asm__("r9") = 8;
	__asm__ volatile("syscall" : "=a"(n) : "a"(SYS_epoll_pwait2), "D"(ep), "S"(e), "d"(1), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
	return n;
#else
	return syscall(SYS_epoll_pwait2, ep, e, 1, &t, NULL, 8);
#endif
}

static void raw(int c, int s, unsigned flags)
{
	int ep = new_set();
	struct epoll_event e;
	ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN | flags, 1);
	for (int i = 0; i < 6; i++) {
		struct vk_late l = { .what = VK_SEND, .fd = c, .ms = i % 2 ? 10 : 0, .text = "raw" };
		vk_late(&l);
		vk_result("wait", raw_pwait2(ep, &e, 3000));
		vk_recv("recv", s, 8, MSG_DONTWAIT);
		vk_join(&l);
		if (flags & EPOLLONESHOT) {
			vk_result("disarmed", raw_pwait2(ep, &e, 5));
			ctl(ep, EPOLL_CTL_MOD, s, EPOLLIN | flags, 1);
		}
		/* A doorbell may come when its data has been read already: an event without data, after which one arms again. */
		if (raw_pwait2(ep, &e, 5) != 0) {
			char b;
			if (recv(s, &b, 1, MSG_DONTWAIT) >= 0 || errno != EAGAIN)
				vk_say("UNEXPECTED");
			e.events = EPOLLIN | flags;
			epoll_ctl(ep, EPOLL_CTL_MOD, s, &e);
		}
	}
	shutdown(c, SHUT_WR);
	vk_result("wait", raw_pwait2(ep, &e, 3000));
	vk_recv("recv", s, 8, MSG_DONTWAIT);
}
static void raw_level(int c, int s) { raw(c, s, 0); }
static void raw_edge(int c, int s) { raw(c, s, EPOLLET); }
static void raw_oneshot(int c, int s) { raw(c, s, EPOLLONESHOT); }

/* Now through syscall(), now through the C library. */
static void syscall_and_ours(int c, int s)
{
	int ep = new_set();
	struct epoll_event e;
	struct timespec t = { 3, 0 }, soon = { 0, 2000000 };
	ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN, 1);
	for (int i = 0; i < 10; i++) {
		vk_put(c, "ab", 2);
		vk_result("wait", i & 1 ? syscall(SYS_epoll_pwait2, ep, &e, 1, &t, NULL, 8) : (long)epoll_wait(ep, &e, 1, 3000));
		vk_recv("recv", s, 1, MSG_DONTWAIT);
		vk_result("wait", i & 2 ? syscall(SYS_epoll_pwait2, ep, &e, 1, &t, NULL, 8) : (long)epoll_wait(ep, &e, 1, 3000));
		vk_recv("recv", s, 1, MSG_DONTWAIT);
		vk_result("wait", i & 4 ? syscall(SYS_epoll_pwait2, ep, &e, 1, &soon, NULL, 8) : (long)epoll_wait(ep, &e, 1, 2));
	}
}

static void by_syscall(int c, int s)
{
	int ep = (int)syscall(SYS_epoll_create1, 0);
	struct epoll_event e = { .events = EPOLLIN, .data.u32 = 1 };
	struct timespec t = { 3, 0 };
	vk_result("add", syscall(SYS_epoll_ctl, ep, EPOLL_CTL_ADD, s, &e));
	for (int i = 0; i < 4; i++) {
		struct vk_late l = { .what = VK_SEND, .fd = c, .ms = 10, .text = "sys" };
		vk_late(&l);
		vk_result("wait", i & 1 ? syscall(SYS_epoll_pwait2, ep, &e, 1, &t, NULL, 8) : syscall(SYS_epoll_pwait, ep, &e, 1, 3000, NULL, 8));
		vk_recv("recv", s, 8, MSG_DONTWAIT);
		vk_join(&l);
	}
	vk_result("empty", syscall(SYS_epoll_pwait, ep, &e, 1, 5, NULL, 8));
}

static void many_members(int c, int s)
{
	enum { N = 40 };
	int ep = new_set(), cs[N], ss[N];
	unsigned long seen = 0;
	ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN, N);
	for (int i = 0; i < N; i++) {
		vk_pair(&cs[i], &ss[i], false);
		struct epoll_event e = { .events = EPOLLIN, .data.u32 = (unsigned)i };
		epoll_ctl(ep, EPOLL_CTL_ADD, ss[i], &e);
	}
	for (int round = 0; round < 3; round++) {
		int told = 0;
		vk_put(c, "x", 1);
		for (int i = 0; i < N; i += round + 1)
			vk_put(cs[i], "x", 1);
		for (int turns = 0; turns < 200; turns++) {
			struct epoll_event e[7];
			int n = epoll_wait(ep, e, 7, 20);
			if (n <= 0)
				break;
			for (int i = 0; i < n; i++) {
				char b;
				told += recv(e[i].data.u32 == N ? s : ss[e[i].data.u32], &b, 1, MSG_DONTWAIT) == 1;
				seen |= 1ul << e[i].data.u32;
			}
		}
		vk_say("%d told, seen %lx", told, seen);
	}
}

static void in_child(int c, int s)
{
	int ep = new_set();
	ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN, 1);
	vk_put(c, "for the parent", 14);
	look(ep, 1000);
	vk_recv("recv", s, 32, 0);
	pid_t p = fork();
	if (p == 0) {
		for (int i = 0; i < 3; i++) {
			struct epoll_event e;
			if (epoll_wait(ep, &e, 1, 3000) != 1)
				_exit(20);
			char b[8];
			if (recv(s, b, 4, MSG_DONTWAIT) != 4)
				_exit(21);
			vk_put(s, b, 4);
		}
		_exit(0);
	}
	for (int i = 0; i < 3; i++) {
		vk_sleep_ms(5);
		vk_put(c, "ping", 4);
		vk_recv("recv", c, 8, 0);
	}
	vk_reap(p);
	vk_put(c, "again", 5);
	look(ep, 1000);
	vk_recv("recv", s, 8, 0);
}

static void set_copied(int c, int s)
{
	int ep = new_set(), other = dup(ep), third = fcntl(ep, F_DUPFD, 300);
	ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN, 1);
	vk_put(c, "x", 1);
	look(other, 1000);
	close(ep);
	look(third, 1000);
	ctl(other, EPOLL_CTL_MOD, s, EPOLLIN | EPOLLET, 2);
	look(third, 1000);
	look(other, 5);
	vk_recv("recv", s, 4, 0);
	vk_put(c, "y", 1);
	look(other, 1000);
	vk_recv("recv", s, 4, 0);
}

static void listener(int c, int s)
{
	struct sockaddr_storage a;
	socklen_t len;
	int ep = new_set(), l = vk_listen(false, &a, &len), k = socket(AF_INET, SOCK_STREAM, 0);
	ctl(ep, EPOLL_CTL_ADD, l, EPOLLIN, 1);
	ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN, 2);
	look(ep, 5);
	vk_result("connect", connect(k, (void *)&a, len));
	look_at_all(ep);
	vk_put(c, "x", 1);
	vk_wait(s);
	look_at_all(ep);
	int n = accept(l, NULL, NULL);
	ctl(ep, EPOLL_CTL_ADD, n, EPOLLIN, 3);
	vk_put(k, "new", 3);
	vk_wait(n);
	look_at_all(ep);
	vk_recv("recv", n, 8, 0);
	vk_recv("recv", s, 8, 0);
	look(ep, 5);
}

static void connecting(int c, int s)
{
	struct sockaddr_storage a;
	socklen_t len;
	int ep = new_set(), l = vk_listen(false, &a, &len), k = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), error = -1;
	(void)c;
	(void)s;
	vk_result("connect", connect(k, (void *)&a, len));
	ctl(ep, EPOLL_CTL_ADD, k, EPOLLOUT | EPOLLIN | EPOLLET, 1);
	look(ep, 1000);
	len = sizeof error;
	getsockopt(k, SOL_SOCKET, SO_ERROR, &error, &len);
	vk_say("error %d", error);
	int n = accept(l, NULL, NULL);
	vk_warm(n, n, 0);
	for (int i = 0; i < 5; i++) {
		vk_put(n, "hello", 5);
		look(ep, 1000);
		vk_recv("recv", k, 8, 0);
		vk_recv("recv", k, 8, 0);
		vk_put(k, "answer", 6);
		vk_recv("recv", n, 8, 0);
	}
}

static void urgent_told(int c, int s)
{
	int ep = new_set();
	ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN | EPOLLPRI, 1);
	vk_put(c, "ab", 2);
	look(ep, 1000);
	vk_result("oob", send(c, "!", 1, MSG_OOB));
	vk_sleep_ms(5);
	look(ep, 1000);
	char b;
	vk_result("recv oob", recv(s, &b, 1, MSG_OOB));
	vk_recv("recv", s, 8, 0);
	look(ep, 5);
}

/* Client and server in one set and one thread. */
static void ping_pong_edge(int c, int s)
{
	int ep = new_set(), turns = 0;
	ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN | EPOLLET, 1);
	ctl(ep, EPOLL_CTL_ADD, c, EPOLLIN | EPOLLET, 2);
	vk_put(c, "ball", 4);
	while (turns < 2000) {
		struct epoll_event e;
		char b[8];
		if (epoll_wait(ep, &e, 1, 2000) != 1)
			break;
		int fd = e.data.u32 == 1 ? s : c;
		ssize_t r = recv(fd, b, 8, MSG_DONTWAIT);
		if (r == 4)
			vk_put(fd, b, 4);
		turns += r == 4;
	}
	vk_say("%d turns", turns);
}

static void *echo_by_epoll(void *arg)
{
	int fd = *(int *)arg, ep = epoll_create1(0);
	struct epoll_event e = { .events = EPOLLIN };
	char b[64];
	epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
	for (;;) {
		if (epoll_wait(ep, &e, 1, 3000) != 1)
			return "no event";
		ssize_t r = recv(fd, b, sizeof b, MSG_DONTWAIT);
		if (r < 0)
			return "empty";
		if (r == 0)
			return "end";
		vk_put(fd, b, (size_t)r);
	}
}

static void ping_pong_threads(int c, int s)
{
	pthread_t t;
	void *how;
	char b[8];
	pthread_create(&t, NULL, echo_by_epoll, &s);
	for (int i = 0; i < 2000; i++) {
		vk_put(c, "ball", 4);
		vk_get(c, b, 4);
	}
	shutdown(c, SHUT_WR);
	pthread_join(t, &how);
	vk_say("%s", (char *)how);
}

struct pour {
	int fd;
	size_t size;
};
static void *pour(void *arg)
{
	struct pour *p = arg;
	unsigned char b[3000];
	unsigned seed = 3;
	for (size_t at = 0; at < p->size;) {
		size_t n = 1 + (size_t)rand_r(&seed) % sizeof b;
		if (n > p->size - at)
			n = p->size - at;
		vk_fill(b, n, at);
		vk_put(p->fd, b, n);
		at += n;
		if (rand_r(&seed) % 200 == 0)
			vk_sleep_ms(1);
	}
	shutdown(p->fd, SHUT_WR);
	return NULL;
}

static void stream(int c, int s, unsigned flags, bool by_raw)
{
	struct pour p = { c, 3 << 20 };
	int ep = new_set();
	pthread_t t;
	static unsigned char b[2000];
	size_t got = 0;
	bool right = true, ended = false;
	vk_nonblock(s, true);
	ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN | flags, 1);
	pthread_create(&t, NULL, pour, &p);
	while (!ended) {
		struct epoll_event e;
		if ((by_raw ? raw_pwait2(ep, &e, 3000) : (long)epoll_wait(ep, &e, 1, 3000)) != 1) {
			vk_say("no event at %zu", got);
			break;
		}
		do {
			ssize_t r = read(s, b, sizeof b);
			if (r <= 0) {
				ended = r == 0;
				break;
			}
			right = right && vk_check(b, (size_t)r, got);
			got += (size_t)r;
		} while (flags & EPOLLET);
		if (flags & EPOLLONESHOT) {
			e.events = EPOLLIN | flags;
			epoll_ctl(ep, EPOLL_CTL_MOD, s, &e);
		}
	}
	pthread_join(t, NULL);
	vk_say("%zu %s %s", got, right ? "right" : "WRONG", ended ? "ended" : "not ended");
}
static void stream_level(int c, int s) { stream(c, s, 0, false); }
static void stream_edge(int c, int s) { stream(c, s, EPOLLET, false); }
static void stream_oneshot(int c, int s) { stream(c, s, EPOLLONESHOT, false); }
static void stream_raw_level(int c, int s) { stream(c, s, 0, true); }
static void stream_raw_edge(int c, int s) { stream(c, s, EPOLLET, true); }

static void *cancelled_wait(void *arg)
{
	struct epoll_event e;
	epoll_wait(*(int *)arg, &e, 1, -1);
	return "returned";
}

static void cancelled(int c, int s)
{
	int ep = new_set();
	pthread_t t;
	void *how;
	ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN, 1);
	pthread_create(&t, NULL, cancelled_wait, &ep);
	vk_sleep_ms(20);
	pthread_cancel(t);
	pthread_join(t, &how);
	vk_say("%s", how == PTHREAD_CANCELED ? "cancelled" : "not cancelled");
	vk_put(c, "x", 1);
	look(ep, 1000);
	vk_recv("recv", s, 4, 0);
}

static void not_asked_for_input(int c, int s)
{
	int ep = new_set();
	ctl(ep, EPOLL_CTL_ADD, s, EPOLLRDHUP, 1);
	for (int i = 0; i < 5; i++) {
		vk_put(c, "x", 1);
		look(ep, 2);
		vk_recv("recv", s, 4, 0);
	}
	close(c);
	look(ep, 1000);
}

static void set_of_two(int c, int s)
{
	int ep = new_set(), p[2];
	ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN, 1);
	if (pipe(p))
		return;
	pid_t child = fork();
	if (child == 0) {
		char b[4];
		if (read(p[0], b, 1) != 1)
			_exit(9);
		struct epoll_event e;
		int n = epoll_wait(ep, &e, 1, 3000);
		_exit(n == 1 && e.data.u32 == 1 ? 0 : 10);
	}
	vk_put(c, "x", 1);
	vk_result("write", write(p[1], "x", 1));
	vk_reap(child);
	vk_recv("recv", s, 4, 0);
}

const struct vk_scenario vk_epoll[] = {
	{ "epoll, level, one at a time", level_one_at_a_time, 0 },
	{ "epoll, level, until empty", level_until_empty, 0 },
	{ "epoll, edge, data before it was added", edge_before_add, 0 },
	{ "epoll, edge, data between adding and waiting", edge_after_add, 0 },
	{ "epoll, edge, each arrival", edge_each_arrival, 0 },
	{ "epoll, edge, partial reads", edge_partial, 0 },
	{ "epoll, edge, emptied without EAGAIN", edge_emptied_without_eagain, 0 },
	{ "epoll, edge, changed while data waits", edge_mod, 0 },
	{ "epoll, edge, peeked", edge_peeked, 0 },
	{ "epoll, edge, in and out", edge_in_and_out, 0 },
	{ "epoll, edge, end", edge_end, 0 },
	{ "epoll, out when there is room", out_when_room, 0 },
	{ "epoll, out, edge", out_edge, 0 },
	{ "epoll, oneshot, armed again", oneshot, 0 },
	{ "epoll, oneshot and edge", oneshot_edge, 0 },
	{ "epoll, oneshot, end while disarmed", oneshot_disarmed_end, 0 },
	{ "epoll, exclusive", exclusive, 0 },
	{ "epoll, in two sets", two_sets, 0 },
	{ "epoll, in two sets, edge", two_sets_edge, 0 },
	{ "epoll, threads, edge", threads_edge, 0 },
	{ "epoll, threads, oneshot", threads_oneshot, 0 },
	{ "epoll, nested, edge", nested_edge, 0 },
	{ "epoll, nested deeply", nested_deep, 0 },
	{ "epoll, nested wrongly", nested_wrong, VK_KERNEL },
	{ "epoll, wrong calls", wrong_calls, VK_KERNEL },
	{ "epoll, hung up", hung_up, 0 },
	{ "epoll, half closed", half_closed, 0 },
	{ "epoll, reset", reset_told, 0 },
	{ "epoll, copies in a set", copies_in_set, 0 },
	{ "epoll, a copy keeps the member", copy_keeps_member, 0 },
	{ "epoll, closed", closed_leaves, 0 },
	{ "epoll, same number again", number_again, 0 },
	{ "epoll, deleted and added", deleted_and_added, 0 },
	{ "epoll, interest changes", interest_changes, 0 },
	{ "epoll, added while waiting", added_while_waiting, 0 },
	{ "epoll, added while waiting, then data", added_while_waiting_then_data, 0 },
	{ "epoll, changed while waiting", changed_while_waiting, 0 },
	{ "epoll, deleted while waiting", deleted_while_waiting, 0 },
	{ "epoll, with other descriptors", with_others, 0 },
	{ "epoll, another descriptor wakes", other_wakes, 0 },
	{ "epoll, busy and quiet", busy_and_quiet, 0 },
	{ "epoll, time-outs", timeouts, 0 },
	{ "epoll, the set is polled", polled, 0 },
	{ "epoll, the set is polled, edge", polled_edge, 0 },
	{ "epoll, interrupted", interrupted_wait, VK_KERNEL },
	{ "epoll, signal mask", masked, 0 },
	{ "epoll, own system call, level", raw_level, 0 },
	{ "epoll, own system call, edge", raw_edge, 0 },
	{ "epoll, own system call, oneshot", raw_oneshot, 0 },
	{ "epoll, syscall() and ours", syscall_and_ours, 0 },
	{ "epoll, syscall()", by_syscall, 0 },
	{ "epoll, many members", many_members, 0 },
	{ "epoll, in a child", in_child, 0 },
	{ "epoll, set copied", set_copied, 0 },
	{ "epoll, set of two processes", set_of_two, 0 },
	{ "epoll, listener", listener, 0 },
	{ "epoll, connecting", connecting, 0 },
	{ "epoll, urgent data", urgent_told, 0 },
	{ "epoll, ping-pong in one thread", ping_pong_edge, 0 },
	{ "epoll, ping-pong of threads", ping_pong_threads, 0 },
	{ "epoll, stream, level", stream_level, 0 },
	{ "epoll, stream, edge", stream_edge, 0 },
	{ "epoll, stream, oneshot", stream_oneshot, 0 },
	{ "epoll, stream, own system call, level", stream_raw_level, 0 },
	{ "epoll, stream, own system call, edge", stream_raw_edge, 0 },
	{ "epoll, cancelled", cancelled, 0 },
	{ "epoll, input not asked for", not_asked_for_input, 0 },
	{ NULL, NULL, 0 },
};
