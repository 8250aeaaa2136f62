/*
 * test-vsocket-udp.c - UDP servers that wait in every way there is, under the library, against clients with and without it. A client that has
 * one datagram on its way must get every answer; one that has several gets them in the order in which it asked; and a server that is killed
 * and started again is found again. Then streams in one direction, whose order must hold. Each way runs for a moment, or for VSOCKET_UDP_MS
 * milliseconds; a stream has VSOCKET_UDP_STREAM datagrams. Names as arguments run only these.
 */
#define _GNU_SOURCE
#include "../vsocket/book.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE_MS 3000
#define CLIENTS 6
#define WINDOW 8
#define MOST 9000

enum how { BLOCKING, POLLED, SELECTED, LEVEL, EDGE, RAW, SEVERAL, NONBLOCKING, THREADS, PREFORK, KILLED, HOWS };
static const char *const names[HOWS] = { "blocking", "poll", "select", "epoll, level", "epoll, edge", "epoll, own system call",
					 "recvmmsg", "not blocking", "two threads", "two processes", "killed" };
/* A way in which the library must have carried most. */
static bool by_ring(enum how how) { return how != RAW && how != PREFORK && how != KILLED && how != THREADS; }

static void die(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	_exit(3);
}

static uint64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void pause_sometimes(unsigned *seed)
{
	unsigned r = (unsigned)rand_r(seed) % 64;
	if (r < 3)
		usleep(r == 0 ? 2000 : r == 1 ? 200 : 10);
}

/* The server. */

static void echo(int fd, struct mmsghdr *m, int n)
{
	for (int i = 0; i < n; i++) {
		m[i].msg_hdr.msg_iov->iov_len = m[i].msg_len;
		if (sendmsg(fd, &m[i].msg_hdr, 0) < 0 && errno != ECONNREFUSED)
			die("server: sendmsg");
		m[i].msg_hdr.msg_iov->iov_len = MOST;
	}
}

static int receive(int fd, struct mmsghdr *m, int room, int flags)
{
	for (int i = 0; i < room; i++)
		m[i].msg_hdr.msg_namelen = sizeof(struct sockaddr_storage);
	if (room > 1)
		return recvmmsg(fd, m, (unsigned)room, flags | MSG_WAITFORONE, NULL);
	ssize_t n = recvfrom(fd, m->msg_hdr.msg_iov->iov_base, MOST, flags, m->msg_hdr.msg_name, &m->msg_hdr.msg_namelen);
	m->msg_len = (unsigned)n;
	return n < 0 ? -1 : 1;
}

struct serve {
	enum how how;
	int fd;
	unsigned seed;
};

static void wait_for(enum how how, int fd, int ep)
{
	struct epoll_event event;
	struct pollfd p = { .fd = fd, .events = POLLIN };
	fd_set set;
	if (how == POLLED)
		poll(&p, 1, -1);
	if (how == SELECTED) {
		FD_ZERO(&set);
		FD_SET(fd, &set);
		select(fd + 1, &set, NULL, NULL, NULL);
	}
	if (how == LEVEL || how == EDGE)
		epoll_wait(ep, &event, 1, -1);
	if (how == RAW) {
		long r;
#if defined(__x86_64__)
		register long r10 __asm__("r10") = -1, r8 __asm__("r8") = 0, r9 __asm__("r9") = 8;
		__asm__ volatile("syscall" : "=a"(r) : "a"(SYS_epoll_pwait), "D"(ep), "S"(&event), "d"(1), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
#else
		r = epoll_wait(ep, &event, 1, -1);
#endif
		(void)r;
	}
}

static void *serve(void *arg)
{
	struct serve *s = arg;
	enum { ROOM = 4 };
	static __thread unsigned char buf[ROOM][MOST];
	struct sockaddr_storage name[ROOM];
	struct iovec iov[ROOM];
	struct mmsghdr m[ROOM];
	int ep = -1, room = s->how == SEVERAL ? ROOM : 1;
	memset(m, 0, sizeof m);
	for (int i = 0; i < ROOM; i++) {
		iov[i] = (struct iovec){ buf[i], MOST };
		m[i].msg_hdr = (struct msghdr){ .msg_name = &name[i], .msg_iov = &iov[i], .msg_iovlen = 1 };
	}
	if (s->how == LEVEL || s->how == EDGE || s->how == RAW) {
		struct epoll_event event = { .events = EPOLLIN | (s->how == EDGE ? EPOLLET : 0) };
		ep = epoll_create1(0);
		if (ep < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, s->fd, &event))
			die("server: epoll");
	}
	for (;;) {
		int n;
		wait_for(s->how, s->fd, ep);
		do {
			n = receive(s->fd, m, room, s->how == EDGE || s->how == NONBLOCKING ? MSG_DONTWAIT : 0);
			if (n > 0)
				echo(s->fd, m, n);
			else if (errno != EAGAIN && errno != ECONNREFUSED && errno != EINTR)
				die("server: receive");
			pause_sometimes(&s->seed);
		} while (s->how == EDGE && (n > 0 || errno == ECONNREFUSED));
	}
	return NULL;
}

static int run_server(enum how how, int port)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct serve s = { .how = how, .seed = (unsigned)port };
	s.fd = socket(AF_INET, SOCK_DGRAM, 0);
	if (s.fd < 0 || bind(s.fd, (void *)&at, sizeof at))
		die("server: bind");
	if (write(1, "!", 1) != 1)
		die("server: ready");
	if (how == PREFORK && fork() < 0)
		die("server: fork");
	pthread_t t;
	if (how == THREADS && pthread_create(&t, NULL, serve, &s))
		die("server: thread");
	serve(&s);
	return 0;
}

/* A client. */

struct question {
	uint32_t sequence, len;
};

static void ask(int fd, uint32_t sequence, unsigned *seed)
{
	static unsigned char buf[MOST];
	struct question q = { sequence, (uint32_t)(sizeof q + ((unsigned)rand_r(seed) % 16 ? (unsigned)rand_r(seed) % 120 : (unsigned)rand_r(seed) % (MOST - sizeof q))) };
	memset(buf, (int)(sequence * 7 + 1), q.len);
	memcpy(buf, &q, sizeof q);
	if (send(fd, buf, q.len, 0) < 0 && errno != ECONNREFUSED)
		die("client: send");
}

/* The number of the question that an answer is to; -1: none came in time, -2: it is wrong, -3: refused. */
static long answer(int fd, int patience_ms)
{
	static unsigned char buf[MOST];
	struct timeval t = { patience_ms / 1000, patience_ms % 1000 * 1000 };
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
	ssize_t n = recv(fd, buf, sizeof buf, 0);
	struct question q;
	if (n < 0)
		return errno == ECONNREFUSED ? -3 : -1;
	memcpy(&q, buf, sizeof q);
	if (n < (ssize_t)sizeof q || q.len != (uint32_t)n)
		return -2;
	for (ssize_t i = sizeof q; i < n; i++)
		if (buf[i] != (unsigned char)(q.sequence * 7 + 1))
			return -2;
	return q.sequence;
}

static int run_client(enum how how, int port, int index, int ms)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	unsigned seed = (unsigned)(port * 31 + index);
	/* What several serve at once may be answered in another order. */
	const uint32_t window = index % 2 && how != THREADS && how != PREFORK && how != KILLED ? WINDOW : 1;
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	uint64_t until = now_ms() + (uint64_t)ms, last_ms = now_ms(), worst_ms = 0;
	uint32_t sent = 0, got = 0;
	if (fd < 0 || connect(fd, (void *)&to, sizeof to))
		die("client: connect");
	while (now_ms() < until || got < sent) {
		for (; sent - got < window && now_ms() < until; sent++)
			ask(fd, sent, &seed);
		if (got == sent)
			break;
		long a = answer(fd, how == KILLED ? 100 : PATIENCE_MS);
		if (how == KILLED && (a == -1 || a == -3 || (a >= 0 && (uint32_t)a < got))) {
			/* Asked again; answers to earlier ones may still come. */
			if (a == -3)
				usleep(500);
			if (a < 0)
				sent = got;
			if (a < 0 && now_ms() >= until)
				break;
			continue;
		}
		if (a != (long)got) {
			fprintf(stderr, "%s, client %d: after %u answers %ld instead of the next\n", names[how], index, got, a);
			for (long b; (b = answer(fd, 100)) != -1;)
				fprintf(stderr, "  then %ld\n", b);
			return 1;
		}
		got++;
		worst_ms = now_ms() - last_ms > worst_ms ? now_ms() - last_ms : worst_ms;
		last_ms = now_ms();
		pause_sometimes(&seed);
	}
	if (got < 10 || (how == KILLED && worst_ms > PATIENCE_MS)) {
		fprintf(stderr, "%s, client %d: only %u answers, one after %lu ms\n", names[how], index, got, (unsigned long)worst_ms);
		return 1;
	}
	return 0;
}

/* A stream. */

static int run_stream(bool sends, int port, long count)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	unsigned seed = (unsigned)port + sends;
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	if (sends) {
		if (connect(fd, (void *)&at, sizeof at))
			die("stream: connect");
		for (uint32_t i = 1; i <= (uint32_t)count + 100; i++) {
			/* The last ones say that it ends, for some may be lost. */
			uint32_t v[16] = { i <= (uint32_t)count ? i : UINT32_MAX };
			if (send(fd, v, sizeof v, 0) < 0 && !(errno == ECONNREFUSED && i > (uint32_t)count))
				die("stream: send");
			if (i > (uint32_t)count)
				usleep(1000);
			else if (i % 64 == 0)
				pause_sometimes(&seed);
		}
		return 0;
	}
	if (bind(fd, (void *)&at, sizeof at) || write(1, "!", 1) != 1)
		die("stream: bind");
	struct timeval t = { 10, 0 };
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
	uint32_t last = 0, got = 0, v[16];
	while (last != UINT32_MAX) {
		if (recv(fd, v, sizeof v, 0) != sizeof v)
			die("stream: recv");
		if (v[0] < last) {
			fprintf(stderr, "stream: %u came after %u\n", v[0], last);
			return 1;
		}
		last = v[0];
		got++;
		if (got % 256 == 0)
			pause_sometimes(&seed);
	}
	fprintf(stderr, "stream: %u of %ld datagrams came, in order\n", got - 1, count);
	return got < 100;
}

/* The whole. */

static pid_t start(const char *self, bool library, int out, char *const argv[])
{
	pid_t p = fork();
	if (p == 0) {
		/* A receiver has its own group, so that what it forks is ended, too. */
		if (out >= 0)
			setpgid(0, 0);
		if (!library)
			unsetenv("LD_PRELOAD");
		if (out >= 0)
			dup2(out, 1);
		execv(self, argv);
		die("execv");
	}
	return p;
}

static pid_t start_receiver(const char *self, char *const argv[])
{
	int ready[2];
	char c;
	if (pipe2(ready, O_CLOEXEC))
		die("pipe");
	pid_t p = start(self, true, ready[1], argv);
	close(ready[1]);
	if (read(ready[0], &c, 1) != 1)
		die("the receiver has not begun");
	close(ready[0]);
	return p;
}

/* A port that nobody has. */
static int free_port(void)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof at;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, (void *)&at, sizeof at) || getsockname(fd, (void *)&at, &len))
		die("port");
	close(fd);
	return ntohs(at.sin_port);
}

static int book_fd = -1;

static void make_book(void)
{
	static char path[64];
	struct vs_book head = { .magic = VS_BOOK_MAGIC, .version = VS_BOOK_VERSION, .row_bytes = sizeof(struct vs_book_row), .rows = VS_BOOK_ROWS };
	if (book_fd >= 0)
		close(book_fd);
	book_fd = memfd_create("book", MFD_ALLOW_SEALING | MFD_CLOEXEC);
	if (book_fd < 0 || ftruncate(book_fd, VS_BOOK_SIZE) || pwrite(book_fd, &head, offsetof(struct vs_book, rest), 0) < 0 ||
	    fcntl(book_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW))
		die("book");
	snprintf(path, sizeof path, "/proc/%d/fd/%d", getpid(), book_fd);
	setenv(VS_ENV_BOOK, path, 1);
}

/* Percent of the datagrams' bytes that receivers took from rings. */
static unsigned ring_percent(void)
{
	static struct vs_book_row row;
	uint64_t ring = 0, kernel = 0;
	for (unsigned i = 0; i < VS_BOOK_ROWS; i++) {
		if (pread(book_fd, &row, sizeof row, (off_t)(offsetof(struct vs_book, row) + i * sizeof row)) != sizeof row)
			die("book");
		ring += row.rx.ring_bytes;
		kernel += row.rx.kernel_bytes;
	}
	return ring + kernel ? (unsigned)(ring * 100 / (ring + kernel)) : 0;
}

static int one_way(const char *self, enum how how, const char *ms)
{
	char port[16], way[16], index[16];
	pid_t clients[CLIENTS];
	int failed = 0;
	make_book();
	snprintf(port, sizeof port, "%d", free_port());
	snprintf(way, sizeof way, "%d", (int)how);
	char *server_argv[] = { (char *)(uintptr_t)self, "--server", way, port, NULL };
	pid_t server = start_receiver(self, server_argv);
	for (int i = 0; i < CLIENTS; i++) {
		snprintf(index, sizeof index, "%d", i);
		char *argv[] = { (char *)(uintptr_t)self, "--client", way, port, index, (char *)(uintptr_t)ms, NULL };
		clients[i] = start(self, i < CLIENTS - 2, -1, argv); /* the last two are strangers */
	}
	for (uint64_t until = now_ms() + (uint64_t)atoi(ms); how == KILLED && now_ms() + 200 < until;) {
		usleep(20000 + (useconds_t)(rand() % 80000));
		kill(server, SIGKILL);
		waitpid(server, NULL, 0);
		server = start_receiver(self, server_argv);
	}
	for (int i = 0; i < CLIENTS; i++) {
		int status;
		waitpid(clients[i], &status, 0);
		failed |= status != 0;
	}
	kill(-server, SIGKILL);
	waitpid(server, NULL, 0);
	unsigned percent = ring_percent();
	printf("%s: %u %% by ring%s\n", names[how], percent, failed ? ", FAILED" : "");
	if (by_ring(how) && percent < 20) {
		printf("%s: hardly anything went through rings\n", names[how]);
		failed = 1;
	}
	return failed;
}

static int stream(const char *self, const char *count)
{
	char port[16];
	int status, sent;
	make_book();
	snprintf(port, sizeof port, "%d", free_port());
	char *receiver_argv[] = { (char *)(uintptr_t)self, "--stream", "0", port, (char *)(uintptr_t)count, NULL };
	char *sender_argv[] = { (char *)(uintptr_t)self, "--stream", "1", port, (char *)(uintptr_t)count, NULL };
	pid_t receiver = start_receiver(self, receiver_argv);
	pid_t sender = start(self, true, -1, sender_argv);
	waitpid(receiver, &status, 0);
	waitpid(sender, &sent, 0);
	unsigned percent = ring_percent();
	printf("stream: %u %% by ring\n", percent);
	return status || sent || percent < 20;
}

int main(int argc, char **argv)
{
	if (argc == 4 && !strcmp(argv[1], "--server"))
		return run_server((enum how)atoi(argv[2]), atoi(argv[3]));
	if (argc == 6 && !strcmp(argv[1], "--client"))
		return run_client((enum how)atoi(argv[2]), atoi(argv[3]), atoi(argv[4]), atoi(argv[5]));
	if (argc == 5 && !strcmp(argv[1], "--stream"))
		return run_stream(atoi(argv[2]), atoi(argv[3]), atol(argv[4]));
	char self[4096] = "", library[8192], dir[] = "/tmp/vsocket-udp.XXXXXX";
	const char *libs = getenv("RDMAKIT_LIBS"), *ms = getenv("VSOCKET_UDP_MS"), *count = getenv("VSOCKET_UDP_STREAM");
	const char *first = getenv("VSOCKET_PRELOAD_FIRST"); /* the runtime of a sanitizer */
	setvbuf(stdout, NULL, _IOLBF, 0);
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
		if (wanted)
			failed += one_way(self, how, ms ? ms : how == KILLED ? "1000" : "300"), done++;
	}
	if (argc < 2 || !strcmp(argv[1], "stream"))
		failed += stream(self, count ? count : "200000"), done++;
	/* The roll of arenas. */
	char command[128];
	snprintf(command, sizeof command, "rm -rf %s", dir);
	unsetenv("LD_PRELOAD");
	if (system(command))
		return 1;
	printf("%d ways, %d failed\n", done, failed);
	return failed || !done;
}
