/*
 * test-vsocket-switch.c - two processes stream to each other over one connection while everything that moves a direction from ring to
 * twin and back happens to it at random: calls that only the kernel can make, full rings, descriptors passed to oneself, children that
 * send or receive for their parent. Every byte is compared with what its position says.
 *
 * VSOCKET_SWITCHES says how many changes of road are to be made (default 300; 10,000 take minutes), VSOCKET_SWITCH_SEED repeats the
 * choices of a run.
 */
#define _GNU_SOURCE
#include "../vsocket/arena.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ROOM (96 << 10)

/* What the two ends and the harness share. */
static struct board {
	_Atomic bool enough;
	struct {
		_Atomic uint64_t sent, received;
		_Atomic uint32_t passes, children, natives, floods;
		_Atomic bool failed;
	} end[2];
} *board;

static unsigned seed;
static int me, fd;
static uint64_t tx_at, rx_at;

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static unsigned some(unsigned below) { return (unsigned)rand_r(&seed) % below; }

/* The two directions differ. */
static unsigned char pattern(int from, uint64_t at) { return (unsigned char)(at * 131 + (at >> 8) * 7 + (at >> 16) + (unsigned)from * 77); }

static void fail(const char *what)
{
	fprintf(stderr, "end %d: %s (%s) at %llu sent, %llu received\n", me, what, strerror(errno), (unsigned long long)tx_at,
		(unsigned long long)rx_at);
	atomic_store(&board->end[me].failed, true);
	_exit(3);
}

static size_t some_size(void)
{
	unsigned r = some(32);
	return r == 0 ? 1 + some(ROOM - 1) : r < 8 ? 1 + some(6000) : 1 + some(300);
}

/* Sends up to `n` bytes; returns how many went. */
static size_t send_some(size_t n, int flags)
{
	static unsigned char out[ROOM];
	for (size_t i = 0; i < n; i++)
		out[i] = pattern(me, tx_at + i);
	ssize_t r = send(fd, out, n, MSG_NOSIGNAL | flags);
	if (r < 0 && errno != EAGAIN && errno != EINTR)
		fail("send");
	if (r > 0)
		tx_at += (size_t)r;
	return r > 0 ? (size_t)r : 0;
}

/* False at the end of the stream. */
static bool receive_some(size_t n)
{
	static unsigned char in[ROOM];
	ssize_t r = recv(fd, in, n, 0);
	if (r < 0 && errno != EAGAIN && errno != EINTR)
		fail("recv");
	for (ssize_t i = 0; i < r; i++)
		if (in[i] != pattern(!me, rx_at + (uint64_t)i))
			fail("wrong byte");
	if (r > 0)
		rx_at += (size_t)r;
	return r != 0;
}

/* A copy of the descriptor comes back through a local socket: for the library it is a stranger's, and then ours again. */
static void pass_to_self(void)
{
	int pair[2];
	char byte = 'x';
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec iov = { &byte, 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		fail("socketpair");
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);
	*h = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS };
	memcpy(CMSG_DATA(h), &fd, sizeof fd);
	if (sendmsg(pair[0], &m, 0) != 1)
		fail("sendmsg");
	if (some(2)) { /* for a moment nobody but the message has it */
		close(fd);
		fd = -1;
	}
	if (recvmsg(pair[1], &m, MSG_CMSG_CLOEXEC) != 1 || !(h = CMSG_FIRSTHDR(&m)))
		fail("recvmsg");
	int copy;
	memcpy(&copy, CMSG_DATA(h), sizeof copy);
	if (fd >= 0)
		close(fd);
	fd = copy;
	close(pair[0]);
	close(pair[1]);
	atomic_fetch_add(&board->end[me].passes, 1);
}

/* A child that sends or receives some, while the parent does the other. */
static struct {
	pid_t pid;
	bool sends;
} child;

static void start_child(void)
{
	child.sends = some(2);
	size_t n = 1 + some(20000);
	unsigned again = some(1u << 30);
	child.pid = fork();
	if (child.pid < 0)
		fail("fork");
	if (child.pid > 0) {
		atomic_fetch_add(&board->end[me].children, 1);
		return;
	}
	seed = again;
	for (uint64_t until = now_ns() + 20000000; n > 0 && now_ns() < until;) {
		struct pollfd p = { .fd = fd, .events = child.sends ? POLLOUT : POLLIN };
		poll(&p, 1, 2);
		size_t piece = some_size(), before = (size_t)(tx_at + rx_at);
		piece = piece < n ? piece : n;
		if (child.sends)
			send_some(piece, 0);
		else if (!receive_some(piece))
			break;
		n -= (size_t)(tx_at + rx_at) - before;
	}
	atomic_store(&board->end[me].sent, tx_at);
	atomic_store(&board->end[me].received, rx_at);
	_exit(0);
}

static void look_after_child(void)
{
	int st;
	if (child.pid <= 0 || waitpid(child.pid, &st, WNOHANG) != child.pid)
		return;
	if (!WIFEXITED(st) || WEXITSTATUS(st))
		fail("the child");
	if (child.sends)
		tx_at = atomic_load(&board->end[me].sent);
	else
		rx_at = atomic_load(&board->end[me].received);
	child.pid = 0;
}

static int run_end(int which)
{
	bool ended = false, shut = false;
	uint64_t flood_until = 0, deaf_until = 0;
	int ep = epoll_create1(EPOLL_CLOEXEC);
	me = which;
	fcntl(fd, F_SETFL, O_NONBLOCK);
	while (!ended || !shut || child.pid > 0) {
		uint64_t now = now_ns();
		look_after_child();
		bool sends = !shut && !(child.pid > 0 && child.sends), receives = !ended && !(child.pid > 0 && !child.sends) && now > deaf_until;
		unsigned what = some(1000);
		if (what < 20 && child.pid <= 0) {
			pass_to_self();
			ep = (close(ep), epoll_create1(EPOLL_CLOEXEC));
		} else if (what < 24 && child.pid <= 0 && !shut && !ended) {
			start_child();
		} else if (what < 30) {
			deaf_until = now + 1000u * some(3000); /* the other end's ring fills up */
		} else if (what < 36) {
			flood_until = now + 1000u * some(2000);
			atomic_fetch_add(&board->end[me].floods, 1);
		} else if (what < 60 && sends) {
			/* A flag that means nothing to a send, of which the library cannot know that. */
			if (send_some(some_size(), MSG_WAITALL))
				atomic_fetch_add(&board->end[me].natives, 1);
		} else if (what < 100) {
			struct epoll_event e = { .events = EPOLLIN | (some(2) ? EPOLLET : 0) };
			if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e) && errno == EEXIST)
				epoll_ctl(ep, some(2) ? EPOLL_CTL_MOD : EPOLL_CTL_DEL, fd, &e);
			if (receives && epoll_wait(ep, &e, 1, (int)some(2)) > 0)
				ended = !receive_some(some_size());
		} else if (what < 110 && receives) {
			struct pollfd p = { .fd = fd, .events = POLLIN };
			if (poll(&p, 1, 1) > 0)
				ended = !receive_some(some_size());
		} else if (sends && (what < 500 || now < flood_until)) {
			send_some(now < flood_until ? ROOM : some_size(), 0);
		} else if (receives) {
			ended = !receive_some(some(4) ? ROOM : some_size());
		}
		if (!shut && atomic_load(&board->enough) && child.pid <= 0) {
			shutdown(fd, SHUT_WR);
			shut = true;
		}
	}
	atomic_store(&board->end[me].sent, tx_at);
	atomic_store(&board->end[me].received, rx_at);
	return 0;
}

static pid_t start(const char *self, char *const argv[])
{
	pid_t p = fork();
	if (p == 0) {
		execv(self, argv);
		_exit(127);
	}
	return p;
}

/* Changes of road that the arena's slots have counted. */
static uint64_t count_switches(void)
{
	uint64_t sum = 0;
	if (!vs_arena && vs_arena_look())
		return 0;
	for (unsigned i = 0; i < vs_arena->used_end && i < VS_SLOTS; i++)
		for (int d = 0; d < 2; d++) {
			const struct vs_dir *dir = &vs_arena->slot[i].dir[d];
			sum += dir->epoch_tx;
		}
	return sum;
}

int main(int argc, char **argv)
{
	static char self[4096], library[8192];
	const char *shared_fd = getenv("VSOCKET_SWITCH_BOARD"), *first = getenv("VSOCKET_PRELOAD_FIRST");
	const char *libs = getenv("RDMAKIT_LIBS"), *wish = getenv("VSOCKET_SWITCHES"), *wanted_seed = getenv("VSOCKET_SWITCH_SEED");
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (shared_fd)
		board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED, atoi(shared_fd), 0);
	if (argc == 5 && !strcmp(argv[1], "--end")) {
		seed = (unsigned)atoi(argv[4]);
		fd = atoi(argv[3]);
		if (atoi(argv[2]) == 0) { /* connects; the other end accepts */
			struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = (in_port_t)fd, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
			fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
			if (connect(fd, (void *)&in, sizeof in))
				fail("connect");
		} else {
			fd = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
		}
		/* More than a ring's room cannot be given back: then the connection is reset. */
		int on = 1, small = 64 << 10;
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
		return run_end(atoi(argv[2]));
	}
	uint64_t wanted = wish ? strtoull(wish, NULL, 10) : 300;
	char dir[] = "/tmp/vsocket-switch.XXXXXX", text[4][24];
	int shared = memfd_create("board", 0);
	if (readlink("/proc/self/exe", self, sizeof self - 1) < 0 || !mkdtemp(dir) || ftruncate(shared, sizeof *board))
		return 1;
	board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED, shared, 0);
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof in;
	int l = socket(AF_INET, SOCK_STREAM, 0);
	if (l < 0 || bind(l, (void *)&in, len) || listen(l, 8) || getsockname(l, (void *)&in, &len))
		return 1;
	seed = wanted_seed ? (unsigned)atoi(wanted_seed) : (unsigned)now_ns();
	snprintf(text[0], sizeof text[0], "%d", shared);
	setenv("VSOCKET_SWITCH_BOARD", text[0], 1);
	setenv("RDMAKIT_RUNTIME_DIR", dir, 1);
	setenv("RDMAKIT_SOCKET_RING", "always", 1);
	setenv("ASAN_OPTIONS", "detect_leaks=0", 0);
	snprintf(library, sizeof library, "%s%s%s/librdmakit_vsocket.so", first ? first : "", first ? ":" : "", libs ? libs : "");
	setenv("LD_PRELOAD", library, 1);
	snprintf(text[1], sizeof text[1], "%d", in.sin_port);
	snprintf(text[2], sizeof text[2], "%d", l);
	snprintf(text[3], sizeof text[3], "%u", seed);
	pid_t pid[2];
	pid[1] = start(self, (char *[]){ self, "--end", "1", text[2], text[3], NULL });
	snprintf(text[3], sizeof text[3], "%u", seed + 1);
	pid[0] = start(self, (char *[]){ self, "--end", "0", text[1], text[3], NULL });
	close(l);
	unsetenv("LD_PRELOAD");
	uint64_t start_ns = now_ns(), switches = 0;
	int left = 2, failed = 0;
	bool late = false;
	while (left > 0) {
		int st;
		pid_t p = waitpid(-1, &st, WNOHANG);
		if (p > 0) {
			left--;
			failed += !WIFEXITED(st) || WEXITSTATUS(st);
		}
		uint64_t now = count_switches();
		switches = now > switches ? now : switches;
		late = now_ns() - start_ns > (60 + wanted / 10) * UINT64_C(1000000000);
		if (switches >= wanted || board->end[0].failed || board->end[1].failed)
			atomic_store(&board->enough, true);
		if (late || (failed && left == 1 && now_ns() - start_ns > 5000000000u)) {
			kill(pid[0], SIGKILL);
			kill(pid[1], SIGKILL);
		}
		struct timespec t = { 0, 5000000 };
		nanosleep(&t, NULL);
	}
	for (int i = 0; i < 2; i++) {
		printf("end %d: %llu bytes sent, %llu received; passed to itself %u times, %u children, %u calls of the kernel's, %u floods\n", i,
		       (unsigned long long)board->end[i].sent, (unsigned long long)board->end[i].received, board->end[i].passes,
		       board->end[i].children, board->end[i].natives, board->end[i].floods);
		if (board->end[i].sent != board->end[!i].received)
			failed++;
	}
	printf("seed %u: %llu changes of road in %.1f s%s, %d failed\n", seed, (unsigned long long)switches,
	       (double)(now_ns() - start_ns) / 1e9, late ? " (too late)" : "", failed);
	snprintf(self, sizeof self, "rm -rf %s", dir);
	if (system(self))
		failed++;
	return failed || late || switches < wanted;
}
