/* vsocket-names.c - scenarios: what else shows a connection: names, /proc, descriptors. */
#define _GNU_SOURCE
#include "vsocket-kit.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static void exchange(int c, int s)
{
	vk_put(c, "there", 5);
	vk_recv("recv", s, 16, 0);
	vk_put(s, "and back", 8);
	vk_recv("recv", c, 16, 0);
}

static int port_of(int fd, bool peer)
{
	struct sockaddr_storage a;
	socklen_t len = sizeof a;
	int r = peer ? getpeername(fd, (void *)&a, &len) : getsockname(fd, (void *)&a, &len);
	if (r)
		return -errno;
	return ntohs(((struct sockaddr_in *)(void *)&a)->sin_port);
}

static void both_ends(int c, int s)
{
	exchange(c, s);
	vk_say("%d %d", port_of(c, false) == port_of(s, true), port_of(s, false) == port_of(c, true));
	struct sockaddr_storage a, b;
	socklen_t la = 6, lb = sizeof b;
	memset(&a, 0, sizeof a);
	vk_result("short", getsockname(c, (void *)&a, &la));
	vk_say("len %u family %d", la, a.ss_family);
	vk_result("peer", getpeername(c, (void *)&b, &lb));
	char text[64] = "";
	vk_result("getnameinfo", getnameinfo((void *)&b, lb, text, sizeof text, NULL, 0, NI_NUMERICHOST));
	vk_say("%s", text);
	la = (socklen_t)-1;
	vk_result("negative", getsockname(c, (void *)&a, &la));
}

static void after_the_peer(int c, int s)
{
	exchange(c, s);
	int port = port_of(s, true);
	close(c);
	vk_sleep_ms(2);
	vk_say("%d %d", port_of(s, true) == port, port_of(s, false) > 0);
	vk_recv("recv", s, 4, 0);
	vk_say("%d", port_of(s, true) == port);
}

static void after_own_end(int c, int s)
{
	exchange(c, s);
	shutdown(s, SHUT_RDWR);
	vk_sleep_ms(2);
	vk_say("%d", port_of(s, true) > 0);
	close(c);
	vk_sleep_ms(2);
	vk_say("%d %d", port_of(s, true) > 0 ? 1 : port_of(s, true), port_of(s, false) > 0);
}

static void after_reset(int c, int s)
{
	struct linger l = { 1, 0 };
	exchange(c, s);
	setsockopt(c, SOL_SOCKET, SO_LINGER, &l, sizeof l);
	close(c);
	vk_sleep_ms(3);
	vk_say("%d", port_of(s, true));
	vk_recv("recv", s, 4, 0);
	vk_say("%d %d", port_of(s, true), port_of(s, false) > 0);
}

/* The line of /proc/net/tcp for a port: its state, -1: none. */
static int state_in_proc(int local, int remote)
{
	int state = -1;
	for (int v6 = 0; v6 < 2; v6++) {
		FILE *f = fopen(v6 ? "/proc/net/tcp6" : "/proc/net/tcp", "r");
		char line[512];
		while (f && fgets(line, sizeof line, f)) {
			char a[64], b[64];
			unsigned p, q, st;
			if (sscanf(line, " %*u: %63[0-9A-F]:%x %63[0-9A-F]:%x %x", a, &p, b, &q, &st) == 5 && (int)p == local && (int)q == remote)
				state = (int)st;
		}
		if (f)
			fclose(f);
	}
	return state;
}

static void in_proc(int c, int s)
{
	exchange(c, s);
	int p = port_of(c, false), q = port_of(s, false);
	vk_say("%d %d", state_in_proc(p, q), state_in_proc(q, p));
	for (int i = 0; i < 4; i++)
		exchange(c, s);
	vk_say("%d %d", state_in_proc(p, q), state_in_proc(q, p));
	shutdown(c, SHUT_WR);
	vk_sleep_ms(2);
	int first = state_in_proc(p, q); /* FIN_WAIT1 or, once it is acknowledged, FIN_WAIT2 */
	vk_say("%d %d", first == 4 ? 5 : first, state_in_proc(q, p));
	close(s);
	vk_sleep_ms(2);
	vk_say("%d", state_in_proc(q, p));
}

static void file_of_socket(int c, int s)
{
	struct stat st;
	char path[64], link[64] = "", expected[64];
	exchange(c, s);
	vk_result("fstat", fstat(s, &st));
	vk_say("socket %d, mode %o", S_ISSOCK(st.st_mode), st.st_mode & 07777);
	snprintf(path, sizeof path, "/proc/self/fd/%d", s);
	snprintf(expected, sizeof expected, "socket:[%lu]", (unsigned long)st.st_ino);
	if (readlink(path, link, sizeof link - 1) < 0)
		vk_say("no link");
	vk_say("%s", strcmp(link, expected) ? link : "its socket");
	vk_result("open", open(path, O_RDWR));
	vk_result("isfdtype", isfdtype(s, S_IFSOCK));
	vk_result("isfdtype", isfdtype(s, S_IFREG));
	struct statx x;
	vk_result("statx", statx(s, "", AT_EMPTY_PATH, STATX_TYPE, &x));
	vk_say("%d", S_ISSOCK(x.stx_mode));
	vk_result("isatty", isatty(s));
	int d = dup(s);
	struct stat st2;
	fstat(d, &st2);
	vk_say("copy %s", st.st_ino == st2.st_ino ? "the same" : "another");
	exchange(c, d);
}

static void flags_of_descriptor(int c, int s)
{
	exchange(c, s);
	vk_say("%o %d", (unsigned)fcntl(s, F_GETFL), fcntl(s, F_GETFD));
	vk_result("setfd", fcntl(s, F_SETFD, FD_CLOEXEC));
	vk_say("%d", fcntl(s, F_GETFD));
	int d = fcntl(s, F_DUPFD_CLOEXEC, 50), e = fcntl(s, F_DUPFD, 50);
	vk_say("%d %d %d %d", d, fcntl(d, F_GETFD), e, fcntl(e, F_GETFD));
	vk_nonblock(e, true);
	vk_say("%d", (fcntl(s, F_GETFL) & O_NONBLOCK) != 0);
	vk_recv("recv", d, 4, 0);
	vk_nonblock(s, false);
	exchange(c, d);
	exchange(c, e);
	close(s);
	close(d);
	exchange(c, e);
	vk_result("dup high", fcntl(e, F_DUPFD, 1 << 30));
	vk_result("owner", fcntl(e, F_GETOWN));
	vk_result("bad", fcntl(e, 7777));
}

static void not_a_file(int c, int s)
{
	char b[4];
	struct iovec iov = { b, 4 };
	exchange(c, s);
	vk_result("lseek", lseek(s, 0, SEEK_SET));
	vk_result("pread", pread(s, b, 4, 0));
	vk_result("pwrite", pwrite(s, b, 4, 0));
	vk_result("preadv", preadv(s, &iov, 1, 0));
	vk_result("pwritev", pwritev(s, &iov, 1, 0));
	vk_result("preadv2", preadv2(s, &iov, 1, 5, 0));
	vk_result("ftruncate", ftruncate(s, 0));
	vk_result("fsync", fsync(s));
	vk_result("fchdir", fchdir(s));
	vk_result("getdents", posix_fadvise(s, 0, 0, POSIX_FADV_NORMAL));
	vk_result("mmap", mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, s, 0) == MAP_FAILED ? -1 : 0);
	exchange(c, s);
}

static void nowait_reads(int c, int s)
{
	char b[8] = "";
	struct iovec iov = { b, 4 };
	exchange(c, s);
	vk_result("empty", preadv2(s, &iov, 1, -1, RWF_NOWAIT));
	vk_put(c, "data", 4);
	vk_wait(s);
	vk_result("data", preadv2(s, &iov, 1, -1, RWF_NOWAIT));
	vk_result("write", pwritev2(s, &iov, 1, -1, 0));
	vk_recv("recv", c, 16, 0);
}

/* Numbers above FD_SETSIZE. */
static void high_number(int c, int s)
{
	struct rlimit r = { 4096, 4096 };
	vk_result("limit", setrlimit(RLIMIT_NOFILE, &r));
	int h = fcntl(s, F_DUPFD, 2000);
	vk_say("%d", h);
	exchange(c, h);
	vk_put(c, "x", 1);
	vk_say("%s", vk_events(vk_poll(h, POLLIN, 1000)));
	fd_set *in = calloc(1, 512);
	((unsigned long *)(void *)in)[h / 64] |= 1ul << h % 64;
	struct timeval t = { 1, 0 };
	vk_result("select", select(h + 1, in, NULL, NULL, &t));
	vk_say("%d", (int)(((unsigned long *)(void *)in)[h / 64] >> h % 64 & 1));
	vk_recv("recv", h, 4, 0);
	free(in);
	close(s);
	exchange(c, h);
}

static void poll_oddities(int c, int s)
{
	int closed = dup(s);
	close(closed);
	exchange(c, s);
	vk_put(c, "x", 1);
	vk_wait(s);
	vk_sleep_ms(1);
	struct pollfd p[7] = { { -1, POLLIN, 7 }, { s, POLLIN, 0 }, { s, POLLIN | POLLRDNORM, 0 }, { s, POLLOUT, 0 }, { closed, POLLIN, 0 }, { -1000, POLLOUT, 0 }, { s, 0, 0 } };
	vk_result("poll", poll(p, 7, 1000));
	for (int i = 0; i < 7; i++)
		vk_say("  %s", vk_events((unsigned short)p[i].revents));
	vk_recv("recv", s, 4, 0);
	vk_result("poll", poll(p, 3, 5));
	vk_result("poll none", poll(NULL, 0, 1));
	struct timespec t = { 0, 1000000 };
	vk_result("ppoll none", ppoll(NULL, 0, &t, NULL));
}

static void select_oddities(int c, int s)
{
	fd_set in, out;
	struct timeval t = { 0, 0 };
	exchange(c, s);
	FD_ZERO(&in);
	FD_ZERO(&out);
	FD_SET(s, &in);
	FD_SET(s, &out);
	vk_result("both", select(s + 1, &in, &out, NULL, &t));
	vk_say("%d %d", FD_ISSET(s, &in), FD_ISSET(s, &out));
	vk_put(c, "x", 1);
	vk_wait(s);
	vk_sleep_ms(1); /* while rings have data, the kernel is asked 20 us after it was asked last */
	FD_SET(s, &in);
	vk_result("both", select(s + 1, &in, &out, NULL, &t));
	FD_SET(s, &in);
	vk_result("below", select(s, &in, NULL, NULL, &t));
	vk_say("%d", FD_ISSET(s, &in));
	vk_result("negative", select(-1, &in, NULL, NULL, &t));
	t.tv_usec = -1;
	FD_SET(s, &in);
	vk_result("time", select(s + 1, &in, NULL, NULL, &t));
	t = (struct timeval){ 0, 0 };
	vk_recv("recv", s, 4, 0);
	struct timespec bad = { 0, 2000000000 };
	FD_ZERO(&in);
	FD_SET(s, &in);
	vk_result("pselect", pselect(s + 1, &in, NULL, NULL, &bad, NULL));
}

static void unix_sockets(int c, int s)
{
	int st[2], dg[2], sq[2];
	char b[16] = "";
	exchange(c, s);
	vk_result("stream", socketpair(AF_UNIX, SOCK_STREAM, 0, st));
	vk_result("dgram", socketpair(AF_UNIX, SOCK_DGRAM, 0, dg));
	vk_result("seqpacket", socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sq));
	for (int i = 0; i < 4; i++) {
		vk_put(st[0], "stream", 6);
		vk_put(st[0], "stream", 6);
		vk_result("recv", recv(st[1], b, 16, 0));
		send(dg[0], "one", 3, 0);
		send(dg[0], "three", 5, 0);
		vk_result("recv", recv(dg[1], b, 16, 0));
		vk_result("recv", recv(dg[1], b, 16, 0));
		send(sq[0], "packet", 6, 0);
		vk_result("recv", recv(sq[1], b, 3, MSG_TRUNC));
	}
	struct pollfd p[2] = { { s, POLLIN, 0 }, { st[1], POLLIN, 0 } };
	vk_put(st[0], "x", 1);
	vk_result("poll", poll(p, 2, 1000));
	vk_say("%s", vk_events((unsigned)p[1].revents));
	close(st[0]);
	vk_recv("recv", st[1], 4, 0);
	vk_recv("end", st[1], 4, 0);
	exchange(c, s);
}

static void unix_by_name(int c, int s)
{
	struct {
		sa_family_t family;
		char name[32];
	} a = { AF_UNIX, "" };
	exchange(c, s);
	snprintf(a.name + 1, sizeof a.name - 1, "vsocket-%d", (int)getpid());
	int l = socket(AF_UNIX, SOCK_STREAM, 0), k = socket(AF_UNIX, SOCK_STREAM, 0);
	vk_result("bind", bind(l, (void *)&a, sizeof a));
	vk_result("listen", listen(l, 2));
	vk_result("connect", connect(k, (void *)&a, sizeof a));
	int n = accept(l, NULL, NULL);
	for (int i = 0; i < 5; i++) {
		vk_put(k, "unix", 4);
		vk_recv("recv", n, 8, 0);
	}
	shutdown(k, SHUT_WR);
	vk_recv("end", n, 8, 0);
	exchange(c, s);
}

const struct vk_scenario vk_names[] = {
	{ "names of both ends", both_ends, 0 },
	{ "names after the peer", after_the_peer, 0 },
	{ "names after the own end", after_own_end, 0 },
	{ "names after a reset", after_reset, 0 },
	{ "in /proc/net/tcp", in_proc, 0 },
	{ "file of a socket", file_of_socket, 0 },
	{ "flags of a descriptor", flags_of_descriptor, 0 },
	{ "not a file", not_a_file, 0 },
	{ "reads that do not wait", nowait_reads, 0 },
	{ "number above FD_SETSIZE", high_number, 0 },
	{ "poll, oddities", poll_oddities, 0 },
	{ "select, oddities", select_oddities, 0 },
	{ "sockets inside the host", unix_sockets, 0 },
	{ "sockets inside the host, by name", unix_by_name, 0 },
	{ NULL, NULL, 0 },
};
