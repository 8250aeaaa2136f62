/* vsocket-processes.c - scenarios: sockets shared, copied and handed on. */
#define _GNU_SOURCE
#include "vsocket-kit.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static void reap(pid_t p)
{
	int st = 0;
	waitpid(p, &st, 0);
	vk_say("child %d", WIFEXITED(st) ? WEXITSTATUS(st) : -WTERMSIG(st));
}

static void copies(int c, int s)
{
	char b[8] = "";
	int d = dup(s), e = dup2(s, 200), f = dup3(s, 201, O_CLOEXEC), g = fcntl(s, F_DUPFD, 210);
	vk_say("%d %d %d", e, f, g);
	close(s);
	for (int i = 0; i < 4; i++) {
		int fd = (int[]){ d, e, f, g }[i];
		send(c, "copy", 4, 0);
		vk_result("recv", recv(fd, b, sizeof b, 0));
		vk_result("send", send(fd, "back", 4, 0));
		vk_get(c, b, 4);
		close(fd);
	}
	vk_result("end", recv(c, b, 8, 0));
}

static void dup_over(int c, int s)
{
	int c2, s2;
	char b[8] = "";
	vk_pair(&c2, &s2, false);
	vk_result("dup2", dup2(s2, s) == s ? 0 : -1);
	vk_result("old", recv(c, b, 1, 0));
	send(c2, "new", 3, 0);
	vk_result("recv", recv(s, b, 8, 0));
	vk_say("%s", b);
	close(s2);
	send(s, "on", 2, 0);
	vk_get(c2, b, 2);
}

static void child_echo(int c, int s)
{
	char b[8] = "";
	pid_t p = fork();
	if (p == 0) {
		close(c);
		for (int i = 0; i < 100; i++) {
			vk_get(s, b, 4);
			vk_put(s, b, 4);
		}
		_exit(7);
	}
	close(s);
	for (int i = 0; i < 100; i++) {
		vk_put(c, "ping", 4);
		vk_get(c, b, 4);
	}
	vk_say("%s", b);
	reap(p);
	vk_result("end", recv(c, b, 1, 0));
}

/* Parent and children use one end in turns; data waits at the time of the fork. */
static void shared_end(int c, int s)
{
	char b[8] = "";
	vk_put(c, "abcdef", 6);
	vk_get(s, b, 1);
	for (int i = 0; i < 3; i++) {
		pid_t p = fork();
		if (p == 0) {
			char x;
			vk_get(s, &x, 1);
			vk_put(s, &x, 1);
			_exit(x);
		}
		reap(p);
		vk_get(c, b, 1);
		vk_say("%c", b[0]);
	}
	vk_get(s, b, 2);
	vk_say("%.2s", b);
	vk_put(s, "end", 3);
	vk_get(c, b, 3);
}

/* One process reads, another writes. */
static void reader_and_writer(int c, int s)
{
	enum { SIZE = 2 << 20 };
	unsigned char *p = malloc(SIZE);
	pid_t w = fork();
	if (w == 0) {
		vk_fill(p, SIZE, 0);
		vk_put(s, p, SIZE);
		shutdown(s, SHUT_WR);
		_exit(0);
	}
	pid_t r = fork();
	if (r == 0) {
		vk_get(s, p, SIZE);
		_exit(vk_check(p, SIZE, 5) ? 3 : 4);
	}
	close(s);
	pid_t put = fork();
	if (put == 0) {
		vk_fill(p, SIZE, 5);
		vk_put(c, p, SIZE);
		_exit(0);
	}
	vk_get(c, p, SIZE);
	vk_say("%s", vk_check(p, SIZE, 0) ? "right" : "WRONG");
	reap(w);
	reap(r);
	reap(put);
	free(p);
}

static void run_on(int fd, const char *path, const char *a, const char *b, const char *d)
{
	char *argv[] = { (char *)(uintptr_t)path, (char *)(uintptr_t)a, (char *)(uintptr_t)b, (char *)(uintptr_t)d, NULL };
	dup2(fd, 0);
	dup2(fd, 1);
	execv(path, argv);
	_exit(127);
}

/* A dynamic program as inetd starts it. */
static void exec_dynamic(int c, int s)
{
	char b[64] = "";
	vk_put(c, "before the exec\n", 16);
	pid_t p = fork();
	if (p == 0)
		run_on(s, "/bin/cat", NULL, NULL, NULL);
	close(s);
	vk_put(c, "and after\n", 10);
	vk_get(c, b, 26);
	vk_say("%s", b);
	shutdown(c, SHUT_WR);
	vk_result("end", recv(c, b, 1, 0));
	reap(p);
}

/* The library is not in this one: its variable is taken away. */
static void exec_stranger(int c, int s)
{
	char b[64] = "";
	vk_put(c, "before the exec\n", 16);
	pid_t p = fork();
	if (p == 0) {
		char *argv[] = { "cat", NULL }, *envp[] = { NULL };
		dup2(s, 0);
		dup2(s, 1);
		execve("/bin/cat", argv, envp);
		_exit(127);
	}
	close(s);
	vk_put(c, "and after\n", 10);
	vk_get(c, b, 26);
	vk_say("%s", b);
	shutdown(c, SHUT_WR);
	vk_result("end", recv(c, b, 1, 0));
	reap(p);
}

static void spawn_stranger(int c, int s)
{
	char b[64] = "";
	pid_t p;
	posix_spawn_file_actions_t fa;
	char *argv[] = { "cat", NULL }, *envp[] = { NULL };
	vk_put(c, "spawned\n", 8);
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_adddup2(&fa, s, 0);
	posix_spawn_file_actions_adddup2(&fa, s, 1);
	vk_result("spawn", posix_spawn(&p, "/bin/cat", &fa, NULL, argv, envp));
	close(s);
	vk_get(c, b, 8);
	vk_say("%s", b);
	shutdown(c, SHUT_WR);
	vk_result("end", recv(c, b, 1, 0));
	reap(p);
}

static void pass(int via, int fd)
{
	char control[CMSG_SPACE(sizeof fd)] = { 0 };
	struct iovec iov = { "f", 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);
	h->cmsg_level = SOL_SOCKET;
	h->cmsg_type = SCM_RIGHTS;
	h->cmsg_len = CMSG_LEN(sizeof fd);
	memcpy(CMSG_DATA(h), &fd, sizeof fd);
	vk_result("pass", sendmsg(via, &m, 0));
}

static int take(int via)
{
	char control[CMSG_SPACE(sizeof(int))], b;
	struct iovec iov = { &b, 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
	int fd = -1;
	if (recvmsg(via, &m, 0) == 1 && m.msg_controllen >= CMSG_LEN(sizeof fd))
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof fd);
	return fd;
}

static void passed(int c, int s)
{
	int via[2];
	char b[32] = "";
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, via))
		return;
	pid_t p = fork();
	if (p == 0) {
		close(s);
		close(c);
		int fd = take(via[1]);
		for (int i = 0; i < 20; i++) {
			vk_get(fd, b, 5);
			vk_put(fd, b, 5);
		}
		_exit(fd >= 0 ? 5 : 6);
	}
	/* Some of it is on its way when the socket is passed. */
	vk_put(c, "first", 5);
	vk_put(s, "extra", 5);
	pass(via[0], s);
	close(s);
	vk_get(c, b, 10);
	vk_say("%s", b);
	for (int i = 1; i < 20; i++) {
		vk_put(c, "other", 5);
		vk_get(c, b, 5);
	}
	vk_say("%.5s", b);
	reap(p);
	vk_result("end", recv(c, b, 1, 0));
}

/* Both ends in this process; the accepted one is passed to itself. */
static void passed_to_self(int c, int s)
{
	int via[2];
	char b[8] = "";
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, via))
		return;
	vk_put(c, "ab", 2);
	pass(via[0], s);
	close(s);
	int fd = take(via[1]);
	vk_get(fd, b, 2);
	vk_say("%s", b);
	vk_warm(c, fd, 5);
	close(fd);
	vk_result("end", recv(c, b, 1, 0));
}

static void by_syscall(int c, int s)
{
	char b[8] = "";
	vk_result("write", syscall(SYS_write, c, "abcd", 4));
	vk_result("read", syscall(SYS_read, s, b, 8));
	vk_say("%s", b);
	vk_result("sendto", syscall(SYS_sendto, s, "efg", 3, 0, NULL, 0));
	vk_result("recvfrom", syscall(SYS_recvfrom, c, b, 8, 0, NULL, NULL));
	vk_say("%.3s", b);
	vk_result("close", syscall(SYS_close, s));
	vk_result("end", recv(c, b, 1, 0));
}

static void system_between(int c, int s)
{
	vk_put(c, "a", 1);
	vk_result("system", system("exit 3"));
	FILE *f = popen("echo popen", "r");
	char line[16] = "", b;
	if (f && fgets(line, sizeof line, f))
		vk_say("%s", line);
	if (f)
		pclose(f);
	vk_get(s, &b, 1);
	vk_warm(c, s, 5);
}

static void close_all(int c, int s)
{
	char b;
	(void)s;
	pid_t p = fork();
	if (p == 0) {
		vk_result("close_range", syscall(SYS_close_range, 3, ~0u, 0));
		_exit(0);
	}
	reap(p);
	vk_warm(c, s, 5);
	closefrom(s > c ? c : s);
	vk_result("recv", recv(c, &b, 1, 0));
	int c2, s2;
	vk_pair(&c2, &s2, false);
	vk_warm(c2, s2, 5);
}

/* As sshd: before it speaks to strangers a process forbids itself all but a few system calls, and one more would end it. */
static void restrict_self(void)
{
	static const uint32_t allowed[] = { SYS_read, SYS_write, SYS_recvfrom, SYS_sendto, SYS_exit_group, SYS_exit, SYS_close, SYS_futex, SYS_munmap };
	enum { N = sizeof allowed / sizeof *allowed };
	struct sock_filter f[N + 3];
	f[0] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
	for (unsigned i = 0; i < N; i++)
		f[1 + i] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, allowed[i], (uint8_t)(N - i), 0);
	f[N + 1] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
	f[N + 2] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog prog = { N + 3, f };
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog, 0, 0))
		_exit(9);
}

static void restricted(int c, int s)
{
	char b[8];
	vk_warm(c, s, 10);
	pid_t p = fork();
	if (p == 0) {
		restrict_self();
		for (int i = 0; i < 5; i++)
			if (recv(s, b, 4, 0) != 4 || send(s, b, 4, 0) != 4)
				_exit(8);
		close(c);
		close(s);
		_exit(0);
	}
	for (int i = 0; i < 5; i++) {
		send(c, "ping", 4, 0);
		vk_get(c, b, 4);
	}
	reap(p);
	send(c, "last", 4, 0);
	vk_get(s, b, 4);
}

const struct vk_scenario vk_processes[] = {
	{ "copies", copies, 0 },
	{ "dup2 over a connection", dup_over, 0 },
	{ "child echoes", child_echo, 0 },
	{ "shared end", shared_end, 0 },
	{ "reader and writer", reader_and_writer, 0 },
	{ "exec", exec_dynamic, 0 },
	{ "exec without the library", exec_stranger, 0 },
	{ "spawn without the library", spawn_stranger, 0 },
	{ "passed", passed, 0 },
	{ "passed to itself", passed_to_self, 0 },
	{ "syscall()", by_syscall, 0 },
	{ "system and popen", system_between, 0 },
	{ "close_range and closefrom", close_all, 0 },
	{ "restricted by seccomp", restricted, 0 },
	{ NULL, NULL, 0 },
};
