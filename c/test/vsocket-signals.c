/* vsocket-signals.c - scenarios: calls that signals interrupt, and threads that end in the middle of them. */
#define _GNU_SOURCE
#include "vsocket-kit.h"
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void exchange(int c, int s)
{
	vk_put(c, "there", 5);
	vk_recv("recv", s, 16, 0);
	vk_put(s, "and back", 8);
	vk_recv("recv", c, 16, 0);
}

enum call { C_RECV, C_READ, C_READV, C_RECVMSG, C_PEEK, C_WAITALL, CALLS };
static ssize_t call(enum call which, int fd)
{
	char b[4];
	struct iovec iov = { b, 4 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	switch (which) {
	case C_RECV:
		return recv(fd, b, 4, 0);
	case C_READ:
		return read(fd, b, 4);
	case C_READV:
		return readv(fd, &iov, 1);
	case C_RECVMSG:
		return recvmsg(fd, &m, 0);
	case C_PEEK:
		return recv(fd, b, 4, MSG_PEEK);
	default:
		return recv(fd, b, 4, MSG_WAITALL);
	}
}

static void interrupted_receives(int c, int s)
{
	exchange(c, s);
	vk_catch(0);
	for (int i = 0; i < CALLS; i++) {
		struct vk_late l = { .what = VK_SIGNAL, .ms = 12 };
		vk_late(&l);
		vk_result("call", call((enum call)i, s));
		vk_join(&l);
	}
	vk_say("%d signals", vk_signals);
	exchange(c, s);
}

static void restarted_receives(int c, int s)
{
	exchange(c, s);
	vk_catch(SA_RESTART);
	for (int i = 0; i < CALLS; i++) {
		struct vk_late l = { .what = VK_SIGNAL, .ms = 8 }, d = { .what = VK_SEND, .fd = c, .ms = 25, .text = "data" };
		vk_late(&l);
		vk_late(&d);
		vk_result("call", call((enum call)i, s));
		vk_join(&l);
		vk_join(&d);
		if (i == C_PEEK)
			vk_recv("peeked", s, 8, 0);
	}
	vk_say("%d signals", vk_signals);
}

static void waitall_interrupted(int c, int s)
{
	exchange(c, s);
	vk_catch(0);
	vk_put(c, "ab", 2);
	struct vk_late l = { .what = VK_SIGNAL, .ms = 20 };
	vk_late(&l);
	vk_recv("part", s, 8, MSG_WAITALL);
	vk_join(&l);
	exchange(c, s);
}

static void timeout_not_restarted(int c, int s)
{
	struct timeval t = { 3, 0 };
	exchange(c, s);
	vk_catch(SA_RESTART);
	setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
	struct vk_late l = { .what = VK_SIGNAL, .ms = 15 };
	vk_late(&l);
	vk_recv("recv", s, 8, 0);
	vk_join(&l);
	exchange(c, s);
}

static void alarm_interrupts(int c, int s)
{
	struct itimerval t = { .it_value = { 0, 20000 } };
	exchange(c, s);
	vk_catch(0);
	setitimer(ITIMER_REAL, &t, NULL);
	vk_recv("recv", s, 8, 0);
	vk_say("%d signals", vk_signals);
	exchange(c, s);
}

static void full_interrupted(int c, int s, int flags)
{
	static unsigned char p[4000];
	size_t n = vk_fill_up(c);
	vk_catch(flags);
	struct vk_late l = { .what = VK_SIGNAL, .ms = 15 }, d = { .what = VK_DRAIN, .fd = s, .ms = 40, .bytes = n };
	vk_late(&l);
	if (flags)
		vk_late(&d);
	vk_result("send", send(c, p, sizeof p, 0));
	vk_join(&l);
	if (flags) {
		vk_join(&d);
		vk_discard(s, sizeof p);
	} else {
		vk_discard(s, n);
	}
	vk_say("%d signals", vk_signals);
	exchange(c, s);
}
static void send_interrupted(int c, int s) { full_interrupted(c, s, 0); }
static void send_restarted(int c, int s) { full_interrupted(c, s, SA_RESTART); }

/* Interrupted in the middle: what went before is reported, whatever it is, and all of it arrives. */
static void large_send_interrupted(int c, int s)
{
	enum { SIZE = 48 << 20 };
	unsigned char *p = malloc(SIZE);
	vk_fill(p, SIZE, 0);
	vk_catch(0);
	struct vk_late l = { .what = VK_SIGNAL, .ms = 60 };
	vk_late(&l);
	ssize_t n = send(c, p, SIZE, 0);
	vk_join(&l);
	vk_say("%s, %d signals", n > 0 && n < SIZE ? "part" : n < 0 ? "nothing" : "all", vk_signals);
	unsigned char *q = malloc(SIZE);
	vk_get(s, q, n > 0 ? (size_t)n : 0);
	vk_say("%s", vk_check(q, n > 0 ? (size_t)n : 0, 0) ? "right" : "WRONG");
	vk_recv("nothing more", s, 4, MSG_DONTWAIT);
	free(p);
	free(q);
	exchange(c, s);
}

static void poll_interrupted(int c, int s)
{
	exchange(c, s);
	for (int i = 0; i < 2; i++) {
		struct pollfd p = { s, POLLIN, 0 };
		vk_catch(i ? SA_RESTART : 0); /* never restarted */
		struct vk_late l = { .what = VK_SIGNAL, .ms = 12 };
		vk_late(&l);
		vk_result("poll", poll(&p, 1, 3000));
		vk_join(&l);
	}
	exchange(c, s);
}

static void select_interrupted(int c, int s)
{
	exchange(c, s);
	for (int i = 0; i < 2; i++) {
		fd_set in;
		FD_ZERO(&in);
		FD_SET(s, &in);
		struct timeval t = { 3, 0 };
		vk_catch(i ? SA_RESTART : 0);
		struct vk_late l = { .what = VK_SIGNAL, .ms = 12 };
		vk_late(&l);
		vk_result("select", select(s + 1, &in, NULL, NULL, &t));
		vk_join(&l);
	}
	exchange(c, s);
}

static void block(sigset_t *none)
{
	sigset_t b;
	sigemptyset(none);
	sigemptyset(&b);
	sigaddset(&b, SIGUSR1);
	sigprocmask(SIG_BLOCK, &b, NULL);
}

static void pselect_mask(int c, int s)
{
	sigset_t none;
	fd_set in;
	struct timespec t = { 2, 0 };
	exchange(c, s);
	vk_catch(0);
	block(&none);
	raise(SIGUSR1);
	FD_ZERO(&in);
	FD_SET(s, &in);
	vk_result("pselect", pselect(s + 1, &in, NULL, NULL, &t, &none));
	vk_say("%d signals", vk_signals);
	vk_put(c, "x", 1);
	vk_wait(s);
	FD_SET(s, &in);
	raise(SIGUSR1);
	sigset_t blocked;
	sigprocmask(SIG_BLOCK, NULL, &blocked);
	vk_result("blocked", pselect(s + 1, &in, NULL, NULL, &t, &blocked));
	vk_say("%d signals", vk_signals);
	vk_recv("recv", s, 4, 0);
}

/* With data there, a pending signal that the mask lets through may still be taken first or not: only the data is certain. */
static void ppoll_mask(int c, int s)
{
	sigset_t none;
	struct timespec t = { 0, 20000000 };
	struct pollfd p = { s, POLLIN, 0 };
	exchange(c, s);
	vk_catch(0);
	block(&none);
	vk_result("nothing", ppoll(&p, 1, &t, &none));
	struct vk_late l = { .what = VK_SIGNAL, .ms = 12 };
	vk_late(&l);
	t = (struct timespec){ 3, 0 };
	vk_result("ppoll", ppoll(&p, 1, &t, &none));
	vk_join(&l);
	vk_say("%d signals", vk_signals);
	raise(SIGUSR1);
	vk_say("%d signals", vk_signals);
	vk_put(c, "x", 1);
	vk_result("data", ppoll(&p, 1, &t, NULL));
	vk_say("%d signals", vk_signals);
	vk_recv("recv", s, 4, 0);
}

static void accept_interrupted(int c, int s)
{
	struct sockaddr_storage a;
	socklen_t len;
	int l = vk_listen(false, &a, &len);
	exchange(c, s);
	vk_catch(0);
	struct vk_late late = { .what = VK_SIGNAL, .ms = 12 };
	vk_late(&late);
	vk_result("accept", accept(l, NULL, NULL));
	vk_join(&late);
	exchange(c, s);
}

static void pipe_default(int c, int s)
{
	exchange(c, s);
	pid_t p = fork();
	if (p == 0) {
		shutdown(s, SHUT_WR);
		send(s, "x", 1, 0);
		_exit(0);
	}
	vk_reap(p);
}

static void pipe_ignored(int c, int s)
{
	exchange(c, s);
	signal(SIGPIPE, SIG_IGN);
	vk_result("shutdown", shutdown(s, SHUT_WR));
	struct iovec iov = { "x", 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	vk_result("send", send(s, "x", 1, 0));
	vk_result("write", write(s, "x", 1));
	vk_result("writev", writev(s, &iov, 1));
	vk_result("sendmsg", sendmsg(s, &m, 0));
	vk_result("send 0", send(s, "x", 0, 0));
	vk_put(c, "y", 1);
	vk_recv("recv", s, 4, 0);
}

static volatile int pipes;
static void on_pipe(int n) { pipes += n == SIGPIPE; }

static void pipe_counted(int c, int s)
{
	int f = memfd_create("file", 0);
	exchange(c, s);
	pipes = 0;
	signal(SIGPIPE, on_pipe);
	shutdown(s, SHUT_WR);
	struct iovec iov = { "x", 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	if (write(f, "file", 4) != 4)
		return;
	vk_result("send", send(s, "x", 1, 0));
	vk_say("%d", pipes);
	vk_result("quietly", send(s, "x", 1, MSG_NOSIGNAL));
	vk_say("%d", pipes);
	vk_result("writev", writev(s, &iov, 1));
	vk_say("%d", pipes);
	vk_result("sendmsg quietly", sendmsg(s, &m, MSG_NOSIGNAL));
	vk_say("%d", pipes);
	off_t at = 0;
	vk_result("sendfile", sendfile(s, f, &at, 4));
	vk_say("%d", pipes);
}

static void pipe_after_reset(int c, int s)
{
	struct linger l = { 1, 0 };
	exchange(c, s);
	pipes = 0;
	signal(SIGPIPE, on_pipe);
	setsockopt(c, SOL_SOCKET, SO_LINGER, &l, sizeof l);
	close(c);
	vk_sleep_ms(4);
	vk_result("first", send(s, "x", 1, 0));
	vk_say("%d", pipes);
	vk_result("second", send(s, "x", 1, 0));
	vk_say("%d", pipes);
	vk_result("third", send(s, "x", 1, MSG_NOSIGNAL));
	vk_say("%d", pipes);
}

static sigjmp_buf back;
static void jump(int n)
{
	(void)n;
	siglongjmp(back, 1);
}

static void jumped_out(int c, int s)
{
	exchange(c, s);
	for (int i = 0; i < 3; i++) {
		struct sigaction a = { .sa_handler = jump };
		sigaction(SIGUSR1, &a, NULL);
		struct vk_late l = { .what = VK_SIGNAL, .ms = 15 };
		vk_late(&l);
		if (sigsetjmp(back, 1) == 0) {
			struct pollfd p = { s, POLLIN, 0 };
			if (i == 1)
				vk_result("poll", poll(&p, 1, 3000));
			else
				vk_recv("recv", s, 4, 0);
		} else {
			vk_say("jumped");
		}
		vk_join(&l);
		exchange(c, s);
	}
}

static int handler_fd;
static void send_from_handler(int n)
{
	(void)n;
	if (send(handler_fd, "handler", 7, 0) != 7)
		vk_signals = 100;
}

static void handler_sends(int c, int s)
{
	struct sigaction a = { .sa_handler = send_from_handler, .sa_flags = SA_RESTART };
	exchange(c, s);
	handler_fd = c;
	sigaction(SIGUSR1, &a, NULL);
	struct vk_late l = { .what = VK_SIGNAL, .ms = 15 };
	vk_late(&l);
	/* The handler, on top of this very call, is what ends it. */
	vk_recv("recv", s, 16, 0);
	vk_join(&l);
	exchange(c, s);
}

static void receive_in_handler(int n)
{
	(void)n;
	char b[8];
	vk_signals = (int)recv(handler_fd, b, 4, MSG_DONTWAIT);
}

static void handler_receives(int c, int s)
{
	struct sigaction a = { .sa_handler = receive_in_handler, .sa_flags = SA_RESTART };
	exchange(c, s);
	handler_fd = c;
	sigaction(SIGUSR1, &a, NULL);
	vk_put(s, "four", 4);
	vk_wait(c);
	struct vk_late l = { .what = VK_SIGNAL, .ms = 10 }, d = { .what = VK_SEND, .fd = c, .ms = 25, .text = "end" };
	vk_late(&l);
	vk_late(&d);
	vk_recv("recv", s, 16, 0);
	vk_join(&l);
	vk_join(&d);
	vk_say("the handler got %d", vk_signals);
	exchange(c, s);
}

static void told_by_signal(int c, int s)
{
	vk_catch(SA_RESTART);
	exchange(c, s);
	fcntl(s, F_SETSIG, SIGUSR1);
	fcntl(s, F_SETOWN, getpid());
	vk_result("async", fcntl(s, F_SETFL, fcntl(s, F_GETFL) | O_ASYNC));
	for (int i = 0; i < 3; i++) {
		int before = vk_signals;
		vk_put(c, "x", 1);
		for (int k = 0; k < 1000 && vk_signals == before; k++)
			vk_sleep_ms(1);
		vk_say("%s", vk_signals > before ? "told" : "NOT TOLD");
		vk_recv("recv", s, 4, 0);
	}
	vk_result("off", fcntl(s, F_SETFL, fcntl(s, F_GETFL) & ~O_ASYNC));
	exchange(c, s);
}

static volatile int urgents;
static void on_urgent(int n) { urgents += n == SIGURG; }

static void urgent_signal(int c, int s)
{
	exchange(c, s);
	urgents = 0;
	signal(SIGURG, on_urgent);
	fcntl(s, F_SETOWN, getpid());
	vk_put(c, "ab", 2);
	vk_result("oob", send(c, "!", 1, MSG_OOB));
	for (int k = 0; k < 1000 && !urgents; k++)
		vk_sleep_ms(1);
	vk_say("%s", urgents ? "told" : "NOT TOLD");
	vk_recv("oob", s, 4, MSG_OOB);
	vk_recv("recv", s, 4, 0);
}

static void with_signalfd(int c, int s)
{
	sigset_t m;
	exchange(c, s);
	sigemptyset(&m);
	sigaddset(&m, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &m, NULL);
	int f = signalfd(-1, &m, SFD_CLOEXEC);
	struct pollfd p[2] = { { s, POLLIN, 0 }, { f, POLLIN, 0 } };
	vk_result("poll", poll(p, 2, 5));
	kill(getpid(), SIGUSR1);
	vk_result("poll", poll(p, 2, 2000));
	vk_say("%s", vk_events((unsigned)p[1].revents));
	struct signalfd_siginfo i;
	vk_result("read", read(f, &i, sizeof i));
	vk_put(c, "x", 1);
	vk_result("poll", poll(p, 2, 2000));
	vk_say("%s", vk_events((unsigned)p[0].revents));
	vk_recv("recv", s, 4, 0);
}

static void killed_by_alarm(int c, int s)
{
	exchange(c, s);
	pid_t p = fork();
	if (p == 0) {
		struct itimerval t = { .it_value = { 0, 15000 } };
		signal(SIGALRM, SIG_DFL);
		setitimer(ITIMER_REAL, &t, NULL);
		char b;
		recv(s, &b, 1, 0);
		_exit(1);
	}
	vk_reap(p);
	exchange(c, s);
}

static void *pour(void *arg)
{
	unsigned char b[3000];
	for (size_t at = 0; at < 4 << 20;) {
		size_t n = (4u << 20) - at < sizeof b ? (4u << 20) - at : sizeof b;
		vk_fill(b, n, at);
		vk_put(*(int *)arg, b, n);
		at += n;
	}
	return NULL;
}

static void storm(int c, int s)
{
	struct itimerval t = { { 0, 300 }, { 0, 300 } }, off = { 0 };
	static unsigned char b[5000];
	pthread_t th;
	bool right = true;
	vk_catch(SA_RESTART);
	pthread_create(&th, NULL, pour, &c);
	setitimer(ITIMER_REAL, &t, NULL);
	for (size_t got = 0; got < 4 << 20;) {
		ssize_t r = recv(s, b, sizeof b, 0);
		if (r <= 0) {
			vk_result("recv", r);
			break;
		}
		right = right && vk_check(b, (size_t)r, got);
		got += (size_t)r;
	}
	pthread_join(th, NULL);
	setitimer(ITIMER_REAL, &off, NULL);
	vk_say("%s", right ? "right" : "WRONG");
}

/* Interrupted all the time, without SA_RESTART: every call is made again by hand. */
static void storm_by_hand(int c, int s)
{
	struct itimerval t = { { 0, 500 }, { 0, 500 } }, off = { 0 };
	static unsigned char b[5000];
	sigset_t m;
	pthread_t th;
	size_t got = 0;
	bool right = true, odd = false;
	sigemptyset(&m);
	sigaddset(&m, SIGALRM);
	vk_catch(0);
	pthread_sigmask(SIG_BLOCK, &m, NULL);
	pthread_create(&th, NULL, pour, &c);
	pthread_sigmask(SIG_UNBLOCK, &m, NULL);
	setitimer(ITIMER_REAL, &t, NULL);
	while (got < 4 << 20) {
		struct pollfd p = { s, POLLIN, 0 };
		int n = poll(&p, 1, 2000);
		odd |= n == 0 || (n < 0 && errno != EINTR);
		ssize_t r = recv(s, b, sizeof b, 0);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			break;
		right = right && vk_check(b, (size_t)r, got);
		got += (size_t)r;
	}
	setitimer(ITIMER_REAL, &off, NULL);
	pthread_join(th, NULL);
	vk_say("%zu %s %s", got, right ? "right" : "WRONG", odd ? "ODD" : "");
}

struct victim {
	int fd, how;
};
static void *victim(void *arg)
{
	struct victim *v = arg;
	struct pollfd p = { v->fd, POLLIN, 0 };
	fd_set in;
	static char block[65536];
	FD_ZERO(&in);
	FD_SET(v->fd, &in);
	switch (v->how) {
	case 0:
		poll(&p, 1, -1);
		break;
	case 1:
		select(v->fd + 1, &in, NULL, NULL, NULL);
		break;
	case 2:
		call(C_READ, v->fd);
		break;
	case 3:
		call(C_RECVMSG, v->fd);
		break;
	case 4:
		call(C_WAITALL, v->fd);
		break;
	default:
		while (send(v->fd, block, sizeof block, MSG_NOSIGNAL) > 0)
			;
	}
	return NULL;
}

static void cancelled_everywhere(int c, int s)
{
	exchange(c, s);
	for (int i = 0; i < 5; i++) {
		struct victim v = { s, i };
		pthread_t t;
		void *how;
		pthread_create(&t, NULL, victim, &v);
		vk_sleep_ms(10);
		pthread_cancel(t);
		pthread_join(t, &how);
		vk_say("%s", how == PTHREAD_CANCELED ? "cancelled" : "not cancelled");
	}
	exchange(c, s);
}

static void cancelled_send(int c, int s)
{
	struct victim v = { c, 9 };
	pthread_t t;
	void *how;
	exchange(c, s);
	pthread_create(&t, NULL, victim, &v);
	vk_sleep_ms(60);
	pthread_cancel(t);
	pthread_join(t, &how);
	vk_say("%s", how == PTHREAD_CANCELED ? "cancelled" : "not cancelled");
	/* What it had sent is there, and the connection works. */
	shutdown(c, SHUT_WR);
	static char b[65536];
	ssize_t r;
	while ((r = recv(s, b, sizeof b, 0)) > 0)
		;
	vk_result("end", r);
	vk_put(s, "ok", 2);
	vk_recv("recv", c, 4, 0);
}

static int cleaned;
static void clean(void *arg) { cleaned += *(int *)arg; }
static void *uncancellable(void *arg)
{
	int fd = *(int *)arg, one = 1, old;
	char b[4];
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
	ssize_t r = recv(fd, b, 4, 0);
	pthread_setcancelstate(old, &old);
	pthread_cleanup_push(clean, &one);
	vk_result("not cancelled here", r);
	recv(fd, b, 4, 0);
	pthread_cleanup_pop(0);
	return NULL;
}

static void cancel_disabled(int c, int s)
{
	pthread_t t;
	void *how;
	cleaned = 0;
	exchange(c, s);
	pthread_create(&t, NULL, uncancellable, &s);
	vk_sleep_ms(10);
	pthread_cancel(t);
	vk_sleep_ms(10);
	vk_put(c, "x", 1);
	pthread_join(t, &how);
	vk_say("%s, cleaned %d", how == PTHREAD_CANCELED ? "cancelled" : "not cancelled", cleaned);
	exchange(c, s);
}

const struct vk_scenario vk_signalled[] = {
	{ "signal, receives interrupted", interrupted_receives, 0 },
	{ "signal, receives restarted", restarted_receives, 0 },
	{ "signal, part of a whole", waitall_interrupted, 0 },
	{ "signal, time-out not restarted", timeout_not_restarted, 0 },
	{ "signal, alarm", alarm_interrupts, 0 },
	{ "signal, full, interrupted", send_interrupted, 0 },
	{ "signal, full, restarted", send_restarted, 0 },
	{ "signal, large send interrupted", large_send_interrupted, 0 },
	{ "signal, poll", poll_interrupted, 0 },
	{ "signal, select", select_interrupted, 0 },
	{ "signal, mask of pselect", pselect_mask, 0 },
	{ "signal, mask of ppoll", ppoll_mask, 0 },
	{ "signal, accept", accept_interrupted, 0 },
	{ "broken pipe kills", pipe_default, 0 },
	{ "broken pipe ignored", pipe_ignored, 0 },
	{ "broken pipe counted", pipe_counted, 0 },
	{ "broken pipe after a reset", pipe_after_reset, 0 },
	{ "signal, jumped out", jumped_out, 0 },
	{ "signal, handler sends", handler_sends, 0 },
	{ "signal, handler receives", handler_receives, 0 },
	{ "signal for input", told_by_signal, 0 },
	{ "signal for urgent data", urgent_signal, 0 },
	{ "signalfd", with_signalfd, 0 },
	{ "signal, killed by alarm", killed_by_alarm, 0 },
	{ "signal, storm", storm, 0 },
	{ "signal, storm by hand", storm_by_hand, 0 },
	{ "cancelled in other calls", cancelled_everywhere, 0 },
	{ "cancelled while sending", cancelled_send, 0 },
	{ "cancellation disabled", cancel_disabled, 0 },
	{ NULL, NULL, 0 },
};
