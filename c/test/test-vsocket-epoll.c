/*
 * test-vsocket-epoll.c - echo servers that wait in epoll in every way there is, under the library, against clients who stop being patient
 * after some seconds: no wake-up may be lost, and no byte. Each way runs for a moment, or for VSOCKET_EPOLL_MS milliseconds.
 * Names as arguments run only these.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CONNECTIONS 24
#define CLIENT_THREADS 3
#define PATIENCE_S 3
#define ROOM (256 << 10)

enum how { LEVEL, EDGE, EDGE_SLOW, ONE_SHOT, TOGGLE, READD, NESTED, POLLED, RAW, PWAIT2, HOWS };
static const char *const names[HOWS] = { "level", "edge", "edge, one read a time", "one-shot", "interest toggled", "removed and added",
					 "set in a set", "polled set", "raw system call", "pwait2" };

/* One connection of the server: what was read and could not be written yet. */
struct peer {
	int fd;
	size_t n, done;
	unsigned char buf[ROOM];
};

static struct {
	enum how how;
	int threads;
	int ep, outer, listener;
	struct peer *peer[4096];
} server;

static void die(const char *what)
{
	fprintf(stderr, "%s: %s: %s\n", names[server.how], what, strerror(errno));
	_exit(3);
}

static uint32_t events_for(const struct peer *p)
{
	uint32_t e = p->done < p->n ? EPOLLOUT : EPOLLIN;
	if (server.how == EDGE || server.how == EDGE_SLOW)
		e = EPOLLIN | EPOLLOUT | EPOLLET;
	if (server.how == ONE_SHOT)
		e |= EPOLLONESHOT;
	return e | EPOLLRDHUP;
}

static void interest(int op, struct peer *p)
{
	struct epoll_event e = { .events = events_for(p), .data.ptr = p };
	if (epoll_ctl(server.ep, op, p->fd, &e))
		die("epoll_ctl");
}

/* Writes what it can; false when it must wait for room. */
static bool flush(struct peer *p)
{
	while (p->done < p->n) {
		ssize_t r = send(p->fd, p->buf + p->done, p->n - p->done, MSG_NOSIGNAL);
		if (r < 0 && errno == EAGAIN)
			return false;
		if (r < 0) { /* the client has gone */
			p->n = p->done = 0;
			return true;
		}
		p->done += (size_t)r;
	}
	p->n = p->done = 0;
	return true;
}

/* False when the connection has ended. */
static bool serve(struct peer *p)
{
	for (;;) {
		if (!flush(p))
			return true;
		/* The slow one does not read until there is nothing left: what comes later must be told anew. */
		ssize_t r = recv(p->fd, p->buf, ROOM, 0);
		if (r < 0 && errno == EAGAIN)
			return true;
		if (r <= 0)
			return false;
		p->n = (size_t)r;
		p->done = 0;
		if (server.how != EDGE)
			return flush(p), true;
	}
}

static int wait_raw(struct epoll_event *e, int max, int ms)
{
	long r;
#if defined(__x86_64__)
	/* Read before: a sanitizer makes that a call, which would not spare the registers. */
	const long ep = server.ep;
	register long r10 __asm__("r10") = ms;
	register long r8 __asm__("r8") = 0;
	register long r9 __asm__("r9") = 8;
	__asm__ volatile("syscall" : "=a"(r) : "a"(SYS_epoll_pwait), "D"(ep), "S"(e), "d"((long)max), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
	if (r < 0) {
		errno = (int)-r;
		r = -1;
	}
#else
	r = epoll_wait(server.ep, e, max, ms);
#endif
	return (int)r;
}

static int wait_for(struct epoll_event *e, int max)
{
	struct timespec t = { 0, 100000000 };
	struct pollfd p = { .fd = server.ep, .events = POLLIN };
	switch (server.how) {
	case NESTED:
		return epoll_wait(server.outer, e, 1, 100) > 0 ? epoll_wait(server.ep, e, max, 0) : 0;
	case POLLED:
		return poll(&p, 1, 100) > 0 ? epoll_wait(server.ep, e, max, 0) : 0;
	case RAW:
		return wait_raw(e, max, 100);
	case PWAIT2:
		return epoll_pwait2(server.ep, e, max, &t, NULL);
	default:
		return epoll_wait(server.ep, e, max, 100);
	}
}

static void greet(void)
{
	int fd = accept4(server.listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0 && (errno == EAGAIN || errno == ECONNABORTED))
		return;
	struct peer *p = calloc(1, sizeof *p);
	if (fd < 0 || !p)
		die("accept");
	p->fd = fd;
	interest(EPOLL_CTL_ADD, p);
}

static void *server_thread(void *arg)
{
	struct epoll_event e[8];
	for (;;) {
		int n = wait_for(e, 8);
		if (n < 0 && errno != EINTR)
			die("epoll_wait");
		for (int i = 0; i < n; i++) {
			struct peer *p = e[i].data.ptr;
			if (!p) {
				greet();
				continue;
			}
			if (!serve(p)) {
				close(p->fd);
				free(p);
			} else if (server.how == READD) {
				if (epoll_ctl(server.ep, EPOLL_CTL_DEL, p->fd, NULL))
					die("epoll_ctl del");
				interest(EPOLL_CTL_ADD, p);
			} else if (server.how != EDGE && server.how != EDGE_SLOW) {
				interest(EPOLL_CTL_MOD, p);
			}
		}
	}
	return arg;
}

static int run_server(enum how how, int threads, int listener)
{
	server.how = how;
	server.threads = threads;
	server.listener = listener;
	server.ep = epoll_create1(EPOLL_CLOEXEC);
	server.outer = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event e = { .events = EPOLLIN };
	if (epoll_ctl(server.ep, EPOLL_CTL_ADD, listener, &e) || (how == NESTED && epoll_ctl(server.outer, EPOLL_CTL_ADD, server.ep, &e)))
		die("epoll_ctl");
	for (int i = 1; i < threads; i++) {
		pthread_t t;
		pthread_create(&t, NULL, server_thread, NULL);
	}
	server_thread(NULL);
	return 0;
}

static struct {
	struct sockaddr_in to;
	uint64_t until_ns;
	_Atomic unsigned long exchanges, failures;
	unsigned seed;
} client;

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void pause_ns(long ns)
{
	struct timespec t = { 0, ns };
	nanosleep(&t, NULL);
}

static unsigned char pattern(unsigned long at) { return (unsigned char)(at * 131 + (at >> 8) * 7 + (at >> 16)); }

static void fill(unsigned char *p, size_t n, unsigned long at)
{
	for (size_t i = 0; i < n; i++)
		p[i] = pattern(at + i);
}

static bool check(const unsigned char *p, size_t n, unsigned long at)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] != pattern(at + i))
			return false;
	return true;
}

/* Sizes and pauses of every order, most of them small. */
static size_t some_size(unsigned *seed)
{
	unsigned r = (unsigned)rand_r(seed);
	return r % 64 == 0 ? 1 + (unsigned)rand_r(seed) % 150000 : r % 8 == 0 ? 1 + r / 8 % 5000 : 1 + r / 8 % 200;
}

static int dial(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
	struct timeval patience = { PATIENCE_S, 0 };
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	if (fd < 0 || connect(fd, (void *)&client.to, sizeof client.to))
		return -1;
	return fd;
}

static void *client_thread(void *arg)
{
	unsigned seed = client.seed + (unsigned)(uintptr_t)arg;
	const int mine = CONNECTIONS / CLIENT_THREADS;
	int fd[CONNECTIONS];
	unsigned long at[CONNECTIONS] = { 0 };
	unsigned char *out = malloc(ROOM), *in = malloc(ROOM);
	for (int i = 0; i < mine; i++)
		if ((fd[i] = dial()) < 0) {
			perror("connect");
			atomic_fetch_add(&client.failures, 1);
			return NULL;
		}
	while (now_ns() < client.until_ns && !atomic_load(&client.failures)) {
		int i = rand_r(&seed) % mine;
		size_t n = some_size(&seed), got = 0;
		fill(out, n, at[i]);
		if (send(fd[i], out, n, MSG_NOSIGNAL) != (ssize_t)n) {
			perror("send");
			atomic_fetch_add(&client.failures, 1);
			break;
		}
		while (got < n) {
			ssize_t r = recv(fd[i], in + got, n - got, 0);
			if (r <= 0) {
				fprintf(stderr, "recv %zd (%s) after %zu of %zu bytes\n", r, r < 0 ? strerror(errno) : "end", got, n);
				atomic_fetch_add(&client.failures, 1);
				if (getenv("VSOCKET_EPOLL_HOLD")) { /* for a debugger */
					fprintf(stderr, "held, descriptor %d\n", fd[i]);
					pause();
				}
				break;
			}
			got += (size_t)r;
		}
		if (got == n && !check(in, n, at[i])) {
			fprintf(stderr, "wrong bytes\n");
			atomic_fetch_add(&client.failures, 1);
		}
		at[i] += n;
		atomic_fetch_add(&client.exchanges, 1);
		unsigned pause = (unsigned)rand_r(&seed) % 256;
		if (pause == 0)
			pause_ns(2000000);
		else if (pause < 16)
			pause_ns(30000);
		if (rand_r(&seed) % 500 == 0) {
			close(fd[i]);
			fd[i] = dial();
			at[i] = 0;
		}
	}
	for (int i = 0; i < mine; i++)
		close(fd[i]);
	free(out);
	free(in);
	return NULL;
}

static int run_client(int port, unsigned ms)
{
	client.to = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = (in_port_t)port, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	client.until_ns = now_ns() + ms * UINT64_C(1000000);
	const char *seed = getenv("VSOCKET_EPOLL_SEED");
	client.seed = seed ? (unsigned)atoi(seed) : (unsigned)now_ns();
	pthread_t t[CLIENT_THREADS];
	for (uintptr_t i = 0; i < CLIENT_THREADS; i++)
		pthread_create(&t[i], NULL, client_thread, (void *)i);
	for (int i = 0; i < CLIENT_THREADS; i++)
		pthread_join(t[i], NULL);
	printf("%lu exchanges", client.exchanges);
	if (client.failures)
		printf(", %lu failed (VSOCKET_EPOLL_SEED=%u)", client.failures, client.seed);
	printf("\n");
	return client.failures || client.exchanges < 10;
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

static int one_way(const char *self, int how, int threads, const char *ms)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof in;
	int l = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), st, st2;
	if (l < 0 || bind(l, (void *)&in, len) || listen(l, 64) || getsockname(l, (void *)&in, &len))
		return 1;
	char a[4][16];
	snprintf(a[0], 16, "%d", how);
	snprintf(a[1], 16, "%d", threads);
	snprintf(a[2], 16, "%d", l);
	snprintf(a[3], 16, "%d", in.sin_port);
	printf("%s, %d thread%s: ", names[how], threads, threads > 1 ? "s" : "");
	fflush(stdout);
	pid_t s = start(self, (char *[]){ (char *)(uintptr_t)self, "--server", a[0], a[1], a[2], NULL });
	close(l);
	pid_t c = start(self, (char *[]){ (char *)(uintptr_t)self, "--client", a[3], (char *)(uintptr_t)ms, NULL });
	waitpid(c, &st, 0);
	bool died = waitpid(s, &st2, WNOHANG) == s;
	if (died) {
		printf("the server has ended\n");
	} else {
		kill(s, SIGKILL);
		waitpid(s, &st2, 0);
	}
	return !WIFEXITED(st) || WEXITSTATUS(st) || died;
}

int main(int argc, char **argv)
{
	if (argc == 5 && !strcmp(argv[1], "--server"))
		return run_server((enum how)atoi(argv[2]), atoi(argv[3]), atoi(argv[4]));
	if (argc == 4 && !strcmp(argv[1], "--client"))
		return run_client(atoi(argv[2]), (unsigned)atoi(argv[3]));
	char self[4096] = "", library[8192], dir[] = "/tmp/vsocket-epoll.XXXXXX";
	const char *libs = getenv("RDMAKIT_LIBS"), *ms = getenv("VSOCKET_EPOLL_MS");
	const char *first = getenv("VSOCKET_PRELOAD_FIRST"); /* the runtime of a sanitizer */
	if (readlink("/proc/self/exe", self, sizeof self - 1) < 0 || !mkdtemp(dir))
		return 1;
	snprintf(library, sizeof library, "%s%s%s/librdmakit_vsocket.so", first ? first : "", first ? ":" : "", libs ? libs : "");
	setenv("LD_PRELOAD", library, 1);
	setenv("RDMAKIT_RUNTIME_DIR", dir, 1);
	setenv("ASAN_OPTIONS", "detect_leaks=0", 0);
	int failed = 0, done = 0;
	for (int how = 0; how < HOWS; how++) {
		bool wanted = argc < 2;
		for (int i = 1; i < argc; i++)
			wanted |= !strcmp(argv[i], names[how]);
		/* Only one-shot members are one thread's at a time. */
		for (int threads = 1; wanted && threads <= (how == ONE_SHOT ? 3 : 1); threads += 2, done++)
			failed += one_way(self, how, threads, ms ? ms : "300");
	}
	/* The roll of arenas. */
	char command[128];
	snprintf(command, sizeof command, "rm -rf %s", dir);
	unsetenv("LD_PRELOAD");
	if (system(command))
		return 1;
	printf("%d ways, %d failed\n", done, failed);
	return failed || !done;
}
