/*
 * test-vsocket-kills.c - one server that lives, clients that are killed at random moments. Whatever a client's sends had returned for must
 * reach the server, then the end of the stream, soon; and nothing of the dead may pile up in shared memory.
 *
 * VSOCKET_KILLS says how many (default 300, with a sanitizer 120; 10,000 take a minute). Delays are compared with those of the kernel's own connections in the
 * same run, for on a busy machine they are the scheduler's.
 */
#define _GNU_SOURCE
#include "../vsocket/arena.h"
#include <arpa/inet.h>
#include <dirent.h>
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

#define ROOM (200 << 10)
#define PATIENCE_MS 8000
/* Longer than the grace that a sweep gives. */
#define SWEEP_S 11

enum how { BLOCKING, POLL, LEVEL, EDGE, HOWS };

/* What the harness, the server and the client of the moment share. */
struct board {
	_Atomic uint64_t returned; /* bytes that the client's sends have returned for */
	_Atomic uint64_t killed_ns;
	_Atomic int trial, answered; /* the trial whose outcome is below */
	/* the server's */
	uint64_t received, ended_ns, last_ns;
	int how, error;
	bool wrong, late, ringed;
	int descriptors;
};
static struct board *board;

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

static unsigned char pattern(uint64_t at) { return (unsigned char)(at * 131 + (at >> 8) * 7 + (at >> 16)); }

static int count_descriptors(void)
{
	int n = 0;
	DIR *d = opendir("/proc/self/fd");
	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	return n;
}

/* Waits until there may be something to read; false when nothing comes. */
static bool wait_readable(enum how how, int fd, int ep)
{
	struct epoll_event e;
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int r = 1;
	do {
		if (how == POLL)
			r = poll(&p, 1, PATIENCE_MS);
		else if (how != BLOCKING)
			r = epoll_wait(ep, &e, 1, PATIENCE_MS);
	} while (r < 0 && errno == EINTR);
	return r > 0;
}

/* One client, to his end. */
static void serve(int fd, enum how how)
{
	static unsigned char in[ROOM];
	uint64_t at = 0;
	struct timeval patience = { PATIENCE_MS / 1000, 0 };
	struct epoll_event e = { .events = EPOLLIN | EPOLLRDHUP | (how == EDGE ? EPOLLET : 0) };
	int ep = epoll_create1(EPOLL_CLOEXEC);
	bool late = false, wrong = false;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	if (how != BLOCKING)
		fcntl(fd, F_SETFL, O_NONBLOCK);
	if (how >= LEVEL)
		epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
	board->how = (int)how;
	board->error = 0;
	board->last_ns = 0;
	for (bool ended = false; !ended && !late;) {
		late = !wait_readable(how, fd, ep);
		for (;;) {
			ssize_t r = recv(fd, in, at % 3 ? 4000 : sizeof in, 0);
			if (r < 0 && errno == EAGAIN) {
				late |= how == BLOCKING;
				break;
			}
			if (r < 0 && errno == EINTR)
				continue;
			if (r <= 0) {
				board->error = r < 0 ? errno : 0;
				ended = true;
				break;
			}
			for (ssize_t i = 0; i < r; i++)
				wrong |= in[i] != pattern(at + (uint64_t)i);
			at += (uint64_t)r;
			board->last_ns = now_ns();
			/* Unread bytes make the kernel reset the connection, and take with it what had not arrived: only now and then. */
			if (atomic_load(&board->trial) % 8 == 7 && at % 5 == 0)
				(void)!send(fd, "ok", 2, MSG_DONTWAIT | MSG_NOSIGNAL);
			if (how == LEVEL || how == POLL)
				break;
		}
	}
	board->ended_ns = now_ns();
	board->received = at;
	board->wrong = wrong;
	board->late = late;
	close(ep);
	close(fd);
	board->descriptors = count_descriptors();
	atomic_store(&board->answered, atomic_load(&board->trial));
}

static int run_server(int listener)
{
	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0)
			return 1;
		int trial = atomic_load(&board->trial);
		if (trial < 0) { /* an orderly connection: used a little, then closed by both */
			char b[2];
			while (recv(fd, b, 1, 0) == 1 && send(fd, b, 1, MSG_NOSIGNAL) == 1)
				;
			close(fd);
			continue;
		}
		serve(fd, (enum how)(trial % HOWS));
	}
}

static int dial(int port)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = (in_port_t)port, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	return fd >= 0 && connect(fd, (void *)&in, sizeof in) == 0 ? fd : -1;
}

/* Sends until it is killed. */
static int run_client(int port, unsigned seed)
{
	static unsigned char out[ROOM];
	uint64_t at = 0;
	int fd = dial(port);
	if (fd < 0)
		return 1;
	for (;;) {
		size_t n = rand_r(&seed) % 16 == 0 ? 1 + (unsigned)rand_r(&seed) % (ROOM - 1) : 1 + (unsigned)rand_r(&seed) % 300;
		for (size_t i = 0; i < n; i++)
			out[i] = pattern(at + i);
		ssize_t r = send(fd, out, n, MSG_NOSIGNAL);
		if (r != (ssize_t)n)
			return 2;
		at += n;
		atomic_store(&board->returned, at);
		char ok[64];
		while (recv(fd, ok, sizeof ok, MSG_DONTWAIT) > 0)
			;
		if (rand_r(&seed) % 64 == 0)
			pause_ns(20000);
	}
}

/* Orderly connections, so that what the dead have left is met. */
static int run_orderly(int port, int count)
{
	for (int i = 0; i < count; i++) {
		char b = 'x';
		int fd = dial(port);
		if (fd < 0)
			return 1;
		for (int k = 0; k < 4; k++)
			if (send(fd, &b, 1, MSG_NOSIGNAL) != 1 || recv(fd, &b, 1, 0) != 1)
				return 2;
		close(fd);
	}
	return 0;
}

static const char *self;
static char library[8192];

static pid_t start(bool with, char *const argv[])
{
	pid_t p = fork();
	if (p == 0) {
		if (with)
			setenv("LD_PRELOAD", library, 1);
		execv(self, argv);
		_exit(127);
	}
	return p;
}

static int by_size(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return x < y ? -1 : x > y;
}

/* Kills `count` clients. Returns how many trials went wrong. */
static int kill_many(bool with, int count, char *port, int listener, unsigned seed, uint64_t *delay_ns, pid_t *server)
{
	char l[16], s[16];
	int wrong = 0, first_descriptors = 0;
	snprintf(l, sizeof l, "%d", listener);
	atomic_store(&board->answered, -1);
	*server = start(with, (char *[]){ (char *)(uintptr_t)self, "--server", l, NULL });
	for (int i = 0; i < count; i++) {
		atomic_store(&board->trial, i);
		atomic_store(&board->returned, 0);
		snprintf(s, sizeof s, "%u", seed + (unsigned)i);
		pid_t c = start(with, (char *[]){ (char *)(uintptr_t)self, "--client", port, s, NULL });
		uint64_t since = now_ns();
		while (atomic_load(&board->returned) == 0 && now_ns() - since < 5000000000u)
			pause_ns(50000);
		pause_ns(rand_r(&seed) % 2000000);
		uint64_t killed = now_ns();
		kill(c, SIGKILL);
		/* Sometimes nobody waits for it for a while. */
		bool reap_late = i % 4 == 0;
		if (!reap_late)
			waitpid(c, NULL, 0);
		while (atomic_load(&board->answered) != i && now_ns() - killed < 20000000000u)
			pause_ns(20000);
		uint64_t returned = atomic_load(&board->returned);
		if (reap_late)
			waitpid(c, NULL, 0);
		bool answered = atomic_load(&board->answered) == i;
		bool may_reset = i % 8 == 7, reset = board->error == ECONNRESET;
		if (!answered || board->wrong || board->late || (board->received < returned && !may_reset) || (board->error && !(reset && may_reset))) {
			printf("trial %d (%s, way %d): %s received %llu of %llu, errno %d%s\n", i, with ? "library" : "kernel", i % HOWS,
			       !answered ? "no answer," : board->late ? "no end," : board->wrong ? "wrong bytes," : "", (unsigned long long)board->received,
			       (unsigned long long)returned, board->error, reset ? " (reset)" : "");
			wrong++;
			if (!answered)
				break;
		}
		uint64_t from = board->last_ns > killed ? board->last_ns : killed;
		delay_ns[i] = board->ended_ns > from ? board->ended_ns - from : 0;
		if (i == 10)
			first_descriptors = board->descriptors;
		if (i > 10 && board->descriptors > first_descriptors + 2) {
			printf("trial %d: the server has %d descriptors, it had %d\n", i, board->descriptors, first_descriptors);
			wrong++;
			break;
		}
	}
	qsort(delay_ns, (size_t)count, sizeof *delay_ns, by_size);
	printf("%s: %d kills, end of the stream seen after p50 %.0f us, p99 %.0f us, most %.0f us\n", with ? "library" : "kernel", count,
	       (double)delay_ns[count / 2] / 1e3, (double)delay_ns[count * 99 / 100] / 1e3, (double)delay_ns[count - 1] / 1e3);
	return wrong;
}

static void stop(pid_t p)
{
	kill(p, SIGKILL);
	waitpid(p, NULL, 0);
}

static int make_listener(char port[16])
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof in;
	int l = socket(AF_INET, SOCK_STREAM, 0);
	if (l < 0 || bind(l, (void *)&in, len) || listen(l, 64) || getsockname(l, (void *)&in, &len))
		exit(1);
	snprintf(port, 16, "%d", in.sin_port);
	return l;
}

int main(int argc, char **argv)
{
	static char own[4096];
	const char *fd = getenv("VSOCKET_KILLS_BOARD");
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (fd)
		board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED, atoi(fd), 0);
	if (argc == 3 && !strcmp(argv[1], "--server"))
		return run_server(atoi(argv[2]));
	if (argc == 4 && !strcmp(argv[1], "--client"))
		return run_client(atoi(argv[2]), (unsigned)atoi(argv[3]));
	if (argc == 4 && !strcmp(argv[1], "--orderly"))
		return run_orderly(atoi(argv[2]), atoi(argv[3]));
	const char *libs = getenv("RDMAKIT_LIBS"), *first = getenv("VSOCKET_PRELOAD_FIRST"), *kills = getenv("VSOCKET_KILLS");
	const char *wanted_seed = getenv("VSOCKET_KILLS_SEED");
	char dir[] = "/tmp/vsocket-kills.XXXXXX", text[64];
#ifdef __SANITIZE_THREAD__
	const bool slow = true;
#else
	const bool slow = first != NULL;
#endif
	int count = kills ? atoi(kills) : slow ? 120 : 300, failed = 0, shared = memfd_create("board", 0);
	unsigned seed = wanted_seed ? (unsigned)atoi(wanted_seed) : (unsigned)now_ns();
	if (readlink("/proc/self/exe", own, sizeof own - 1) < 0 || !mkdtemp(dir) || ftruncate(shared, sizeof *board) || count < 20)
		return 1;
	self = own;
	board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED, shared, 0);
	snprintf(text, sizeof text, "%d", shared);
	setenv("VSOCKET_KILLS_BOARD", text, 1);
	setenv("RDMAKIT_RUNTIME_DIR", dir, 1);
	setenv("ASAN_OPTIONS", "detect_leaks=0", 0);
	snprintf(library, sizeof library, "%s%s%s/librdmakit_vsocket.so", first ? first : "", first ? ":" : "", libs ? libs : "");
	uint64_t *delay = calloc((size_t)count, sizeof *delay);
	char port[16];
	pid_t server;
	printf("seed %u\n", seed);
	int l = make_listener(port);
	failed += kill_many(false, count < 1000 ? count : 1000, port, l, seed, delay, &server);
	stop(server);
	close(l);
	l = make_listener(port);
	failed += kill_many(true, count, port, l, seed, delay, &server);

	/* What is left of the dead, with the server still there. */
	struct stat st;
	if (vs_arena_look()) {
		printf("no arena is found\n");
		failed++;
	} else {
		fstat(vs_arena_fd(), &st);
		printf("slots ever used %u, in use %u; %lld KiB of memory\n", vs_arena->used_end, vs_arena->in_use, (long long)st.st_blocks / 2);
		atomic_store(&board->trial, -1);
		/* Each new connection looks at one slot. One whose ends are gone is freed when it is found so twice, some seconds apart. */
		for (int turn = 0; turn < 2; turn++) {
			char n[16];
			snprintf(n, sizeof n, "%u", vs_arena->used_end + 10);
			int how;
			waitpid(start(true, (char *[]){ own, "--orderly", port, n, NULL }), &how, 0);
			if (!WIFEXITED(how) || WEXITSTATUS(how)) {
				printf("orderly connections fail: %d\n", how);
				failed++;
			}
			if (turn == 0)
				sleep(SWEEP_S);
			pause_ns(50000000);
		}
		printf("slots in use after as many orderly connections, twice: %u\n", vs_arena->in_use);
		if (vs_arena->in_use > 0 || vs_arena->used_end > 200) {
			printf("the dead have left slots behind\n");
			failed++;
		}
	}
	stop(server);
	snprintf(text, sizeof text, "rm -rf %s", dir);
	if (system(text))
		failed++;
	free(delay);
	printf("%d kills, %d wrong\n", count, failed);
	return failed != 0;
}
