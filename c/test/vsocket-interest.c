/* vsocket-interest.c - scenarios: interest in a connection that changes between waits, with data in rings and in the kernel. */
#define _GNU_SOURCE
#include "vsocket-kit.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static int new_set(int fd, unsigned events)
{
	struct epoll_event e = { .events = events, .data.u32 = 1 };
	int ep = epoll_create1(EPOLL_CLOEXEC);
	vk_result("add", epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
	vk_result("nothing", epoll_wait(ep, &e, 1, 0));
	return ep;
}

static void ctl(int ep, int op, int fd, unsigned events)
{
	static const char *const names[] = { "", "add", "del", "mod" };
	struct epoll_event e = { .events = events, .data.u32 = events };
	vk_result(names[op], epoll_ctl(ep, op, fd, &e));
}

static void look(int ep, int ms)
{
	struct epoll_event e = { 0, { 0 } };
	int n = epoll_wait(ep, &e, 1, ms);
	vk_result("events", n);
	if (n == 1)
		vk_say("  %x: %s", e.data.u32, vk_events(e.events & 0xffff));
}

/* By the kernel, whatever the connection's road is. */
static void put_natively(int fd, const char *p, size_t n)
{
	int way[2];
	if (pipe(way) || write(way[1], p, n) != (ssize_t)n || splice(way[0], NULL, fd, NULL, n, 0) != (ssize_t)n)
		vk_say("splice: errno %d", errno);
	close(way[0]);
	close(way[1]);
}

static void put(int fd, bool natively)
{
	if (natively)
		put_natively(fd, "data", 4);
	else
		vk_put(fd, "data", 4);
}

/* A client that takes its interest back and states it anew with every message, on both roads. */
static void alternates(int c, int s)
{
	struct epoll_event out = { .events = EPOLLOUT, .data.u32 = 7 }, in = { .events = EPOLLIN, .data.u32 = 8 }, e;
	int ep = epoll_create1(EPOLL_CLOEXEC), wrong = 0;
	char b[8];
	wrong += epoll_ctl(ep, EPOLL_CTL_ADD, c, &out) != 0;
	for (int i = 0; i < 300 && !wrong; i++) {
		wrong += epoll_wait(ep, &e, 1, 2000) != 1 || e.data.u32 != 7 || e.events != EPOLLOUT;
		put(c, i % 3 == 2);
		wrong += epoll_ctl(ep, EPOLL_CTL_DEL, c, NULL) != 0 || epoll_ctl(ep, EPOLL_CTL_ADD, c, &in) != 0;
		vk_get(s, b, 4);
		put(s, i % 5 == 4);
		wrong += epoll_wait(ep, &e, 1, 2000) != 1 || e.data.u32 != 8 || e.events != EPOLLIN;
		vk_get(c, b, 4);
		in.events |= EPOLLOUT;
		wrong += epoll_ctl(ep, EPOLL_CTL_MOD, c, &in) != 0;
		in.events = EPOLLIN;
		wrong += epoll_ctl(ep, EPOLL_CTL_MOD, c, &in) != 0 || epoll_ctl(ep, EPOLL_CTL_DEL, c, NULL) != 0;
		if (i % 7 == 0)
			wrong += epoll_wait(ep, &e, 1, 0) != 0;
		wrong += epoll_ctl(ep, EPOLL_CTL_ADD, c, &out) != 0;
		if (wrong)
			vk_say("wrong in round %d", i);
	}
	vk_say("%d wrong", wrong);
}

static void wrong_changes(int c, int s)
{
	int ep = new_set(s, EPOLLIN);
	ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN);
	ctl(ep, EPOLL_CTL_DEL, s, 0);
	ctl(ep, EPOLL_CTL_DEL, s, 0);
	ctl(ep, EPOLL_CTL_MOD, s, EPOLLIN);
	vk_put(c, "x", 1);
	look(ep, 5);
	ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN);
	ctl(ep, EPOLL_CTL_ADD, s, EPOLLOUT);
	look(ep, 2000);
	vk_recv("recv", s, 4, 0);
}

static void to_another_set(int c, int s)
{
	int a = new_set(s, EPOLLIN), b = epoll_create1(EPOLL_CLOEXEC);
	for (int i = 0; i < 4; i++) {
		int from = i % 2 ? b : a, to = i % 2 ? a : b;
		ctl(from, EPOLL_CTL_DEL, s, 0);
		ctl(to, EPOLL_CTL_ADD, s, EPOLLIN);
		put(c, i >= 2);
		look(to, 2000);
		look(from, 0);
		vk_recv("recv", s, 8, 0);
	}
}

static void then_polled(int c, int s)
{
	int ep = new_set(s, EPOLLIN);
	vk_put(c, "w", 1);
	vk_recv("recv", s, 4, 0);
	ctl(ep, EPOLL_CTL_DEL, s, 0);
	put_natively(c, "x", 1);
	vk_wait(s);
	vk_say("%s", vk_events(vk_poll(ep, POLLIN, 5)));
	ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN);
	vk_say("%s", vk_events(vk_poll(ep, POLLIN, 2000)));
	look(ep, 2000);
	vk_recv("recv", s, 4, 0);
	vk_put(c, "y", 1);
	vk_say("%s", vk_events(vk_poll(ep, POLLIN, 2000)));
	vk_recv("recv", s, 4, 0);
}

/* Taken out, copied, closed: what is left in the set is nothing. */
static void then_copied(int c, int s)
{
	int ep = new_set(s, EPOLLIN);
	ctl(ep, EPOLL_CTL_DEL, s, 0);
	int other = dup(s);
	close(s);
	vk_put(c, "x", 1);
	vk_wait(other);
	look(ep, 5);
	vk_recv("recv", other, 4, 0);
	struct epoll_event e = { .events = EPOLLIN, .data.u32 = 9 };
	vk_result("add", epoll_ctl(ep, EPOLL_CTL_ADD, other, &e));
	put(c, true);
	look(ep, 2000);
	vk_recv("recv", other, 8, 0);
	close(other);
}

static void edges(int c, int s)
{
	int ep = new_set(s, EPOLLIN | EPOLLET);
	for (int i = 0; i < 4; i++) {
		put(c, i % 2);
		look(ep, 2000);
		ctl(ep, EPOLL_CTL_MOD, s, EPOLLIN | EPOLLET); /* due anew */
		look(ep, 2000);
		ctl(ep, EPOLL_CTL_DEL, s, 0);
		ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN | EPOLLET);
		look(ep, 2000);
		vk_recv("recv", s, 8, 0);
	}
}

/* The parent changes what a child that has the same set waits for. */
static void child_waits(int c, int s)
{
	int ep = new_set(s, EPOLLIN), go[2], done[2];
	char b;
	if (pipe(go) || pipe(done))
		return;
	ctl(ep, EPOLL_CTL_DEL, s, 0);
	pid_t child = fork();
	if (child == 0) {
		struct epoll_event e;
		int before = epoll_wait(ep, &e, 1, 20);
		if (write(done[1], "", 1) != 1 || read(go[0], &b, 1) != 1)
			_exit(1);
		int after = epoll_wait(ep, &e, 1, 2000);
		_exit(before == 0 && after == 1 && e.events == EPOLLIN ? 0 : 2);
	}
	vk_put(c, "x", 1);
	if (read(done[0], &b, 1) != 1)
		vk_say("no child");
	ctl(ep, EPOLL_CTL_ADD, s, EPOLLIN);
	vk_result("write", write(go[1], "", 1));
	vk_reap(child);
	vk_recv("recv", s, 4, 0);
	for (int i = 0; i < 2; i++)
		close(go[i]), close(done[i]);
}

const struct vk_scenario vk_interest[] = {
	{ "interest, alternates", alternates, 0 },
	{ "interest, wrong changes", wrong_changes, 0 },
	{ "interest, to another set", to_another_set, 0 },
	{ "interest, then the set is polled", then_polled, 0 },
	{ "interest, then copied", then_copied, 0 },
	{ "interest, edges", edges, 0 },
	{ "interest, a child waits", child_waits, 0 },
	{ NULL, NULL, 0 },
};
