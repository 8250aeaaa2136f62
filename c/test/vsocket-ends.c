/* vsocket-ends.c - scenarios: how connections end. */
#define _GNU_SOURCE
#include "vsocket-kit.h"
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static void drain(int fd)
{
	char buf[64];
	for (int i = 0; i < 5; i++) {
		memset(buf, 0, sizeof buf);
		ssize_t r = recv(fd, buf, sizeof buf - 1, 0);
		vk_result("recv", r);
		if (r > 0)
			vk_say("%s", buf);
		if (r <= 0)
			break;
	}
}

static void close_clean(int c, int s)
{
	send(c, "last words", 10, 0);
	close(c);
	vk_sleep_ms(5);
	drain(s);
	drain(s);
}

static void half_close(int c, int s)
{
	send(c, "question", 8, 0);
	vk_result("shutdown", shutdown(c, SHUT_WR));
	vk_result("again", shutdown(c, SHUT_WR));
	drain(s);
	vk_result("send", send(s, "answer", 6, MSG_NOSIGNAL));
	vk_result("send", send(s, "more", 4, MSG_NOSIGNAL));
	close(s);
	vk_sleep_ms(5);
	drain(c);
	vk_result("send after shutdown", send(c, "x", 1, MSG_NOSIGNAL));
}

static void shut_reading(int c, int s)
{
	char b[4];
	send(c, "ab", 2, 0);
	vk_sleep_ms(2);
	vk_result("shutdown", shutdown(s, SHUT_RD));
	vk_result("recv", recv(s, b, 4, 0));
	vk_result("recv", recv(s, b, 4, 0));
	vk_result("send", send(s, "x", 1, MSG_NOSIGNAL));
	vk_result("recv", recv(c, b, 4, 0));
}

static void shut_both(int c, int s)
{
	char b;
	send(c, "x", 1, 0);
	vk_result("shutdown", shutdown(c, SHUT_RDWR));
	vk_result("recv", recv(c, &b, 1, 0));
	vk_result("send", send(c, &b, 1, MSG_NOSIGNAL));
	drain(s);
	vk_result("bad", shutdown(s, 77));
}

static void reset(int c, int s)
{
	struct linger l = { 1, 0 };
	setsockopt(c, SOL_SOCKET, SO_LINGER, &l, sizeof l);
	send(c, "before", 6, 0);
	vk_sleep_ms(5);
	close(c);
	vk_sleep_ms(10);
	vk_say("%s", vk_events(vk_poll(s, POLLIN | POLLOUT | POLLRDHUP, 1000)));
	drain(s);
	drain(s);
	vk_result("send", send(s, "x", 1, MSG_NOSIGNAL));
}

static void reset_unread(int c, int s)
{
	char b;
	send(s, "unread", 6, 0);
	vk_sleep_ms(5);
	recv(c, &b, 1, 0);
	close(c);
	vk_sleep_ms(10);
	vk_result("recv", recv(s, &b, 1, 0));
	vk_result("recv", recv(s, &b, 1, 0));
}

static void send_to_closed(int c, int s)
{
	char b;
	close(c);
	vk_sleep_ms(10);
	vk_result("recv", recv(s, &b, 1, 0));
	vk_result("first", send(s, "x", 1, MSG_NOSIGNAL));
	vk_sleep_ms(10);
	vk_result("second", send(s, "x", 1, MSG_NOSIGNAL));
	vk_result("third", send(s, "x", 1, MSG_NOSIGNAL));
	vk_result("recv", recv(s, &b, 1, 0));
}

static volatile sig_atomic_t pipes;
static void on_pipe(int n) { pipes += n == SIGPIPE; }

static void broken_pipe(int c, int s)
{
	signal(SIGPIPE, on_pipe);
	close(c);
	vk_sleep_ms(10);
	for (int i = 0; i < 3; i++) {
		vk_result("write", write(s, "x", 1));
		vk_sleep_ms(5);
	}
	vk_say("%d signals", (int)pipes);
	signal(SIGPIPE, SIG_DFL);
}

static void *late_close(void *arg)
{
	vk_sleep_ms(30);
	close(*(int *)arg);
	return NULL;
}

static void blocked_then_closed(int c, int s)
{
	pthread_t t;
	char b;
	pthread_create(&t, NULL, late_close, &c);
	vk_result("recv", recv(s, &b, 1, 0));
	pthread_join(t, NULL);
}

static void *late_shutdown(void *arg)
{
	vk_sleep_ms(30);
	shutdown(*(int *)arg, SHUT_RDWR);
	return NULL;
}

static void own_shutdown_wakes(int c, int s)
{
	pthread_t t;
	char b;
	(void)c;
	pthread_create(&t, NULL, late_shutdown, &s);
	vk_result("recv", recv(s, &b, 1, 0));
	pthread_join(t, NULL);
}

/* A process of its own at the other end, killed while `how`. */
static void killed(int c, int s, int how)
{
	char b[32] = "";
	pid_t p = fork();
	if (p == 0) {
		close(s);
		vk_warm(c, c, 0);
		send(c, "from the child", 14, 0);
		if (how == 1)
			recv(c, b, 1, 0);
		vk_sleep_ms(20);
		kill(getpid(), SIGKILL);
	}
	close(c);
	if (how == 2)
		send(s, "never read", 10, 0);
	if (how == 1)
		send(s, "x", 1, 0);
	int st;
	waitpid(p, &st, 0);
	vk_sleep_ms(10);
	vk_get(s, b, 14);
	vk_say("%s", b);
	ssize_t r = recv(s, b, 1, 0);
	/* Whether it is an end or a reset depends on what the dead had read. */
	vk_say("%s", how == 2 ? (r <= 0 ? "over" : "data") : r == 0 ? "end" : "other");
	vk_result("send", send(s, "x", 1, MSG_NOSIGNAL) > 0 ? 1 : -1);
	vk_sleep_ms(10);
	vk_say("%s", send(s, "x", 1, MSG_NOSIGNAL) < 0 ? "refused" : "ACCEPTED");
}

static void killed_idle(int c, int s) { killed(c, s, 0); }
static void killed_having_read(int c, int s) { killed(c, s, 1); }

static void write_only_to_dead(int c, int s)
{
	pid_t p = fork();
	if (p == 0) {
		close(c);
		vk_sleep_ms(20);
		_exit(0);
	}
	close(s);
	char buf[1000];
	memset(buf, 'z', sizeof buf);
	long r = 0;
	for (int i = 0; i < 100000 && r >= 0; i++) {
		r = send(c, buf, sizeof buf, MSG_NOSIGNAL);
		if (i > 30)
			vk_sleep_ms(1);
	}
	vk_say("%s", r < 0 && (errno == EPIPE || errno == ECONNRESET) ? "noticed" : "NEVER NOTICED");
	waitpid(p, NULL, 0);
}

static void large_then_close(int c, int s)
{
	enum { SIZE = 3 << 20 };
	unsigned char *p = malloc(SIZE);
	pid_t pid = fork();
	if (pid == 0) {
		close(s);
		vk_fill(p, SIZE, 0);
		vk_put(c, p, SIZE);
		close(c);
		_exit(0);
	}
	close(c);
	vk_get(s, p, SIZE);
	vk_say("%s", vk_check(p, SIZE, 0) ? "right" : "WRONG");
	char b;
	vk_result("recv", recv(s, &b, 1, 0));
	waitpid(pid, NULL, 0);
	free(p);
}

const struct vk_scenario vk_ends[] = {
	{ "close", close_clean, 0 },
	{ "half close", half_close, 0 },
	{ "shutdown for reading", shut_reading, 0 },
	{ "shutdown of both", shut_both, 0 },
	{ "reset by linger", reset, 0 },
	{ "reset by unread data", reset_unread, 0 },
	{ "sending to a closed end", send_to_closed, VK_KERNEL },
	{ "broken pipe", broken_pipe, VK_KERNEL },
	{ "closed while blocked", blocked_then_closed, VK_KERNEL },
	{ "own shutdown wakes", own_shutdown_wakes, VK_KERNEL },
	{ "killed, idle", killed_idle, VK_KERNEL },
	{ "killed, having read", killed_having_read, 0 },
	{ "writing to the dead", write_only_to_dead, 0 },
	{ "much, then close", large_then_close, 0 },
	{ NULL, NULL, 0 },
};
