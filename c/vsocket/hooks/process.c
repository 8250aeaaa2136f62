/* process.c - other programs: what they inherit must be the kernel's unless they have the library too. */
#define _GNU_SOURCE
#include "hooks.h"
#include "../book.h"
#include "../remote.h"
#include "../set.h"
#include "../sys.h"
#include <elf.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

extern char **environ;

/* Whether the dynamic linker will load us into this program: it is dynamic, keeps our variable, and runs with no more rights than
 * its caller. Scripts are as good as their interpreters. */
static bool takes_library(const char *path, char *const envp[], int depth)
{
	union {
		char bytes[4096];
		Elf64_Ehdr head;
	} u;
	bool told = false;
	for (char *const *e = envp; e && *e; e++)
		if (!strncmp(*e, "LD_PRELOAD=", 11) && strstr(*e, "librdmakit_vsocket"))
			told = true;
	if (!told || depth > 4)
		return false;
	long fd = vs_sys(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return true; /* it will not start */
	struct stat st;
	long n = vs_sys(SYS_pread64, fd, &u, sizeof u, 0);
	bool raised = fstat((int)fd, &st) || (st.st_mode & S_ISUID) || ((st.st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP));
	bool dynamic = false;
	if (n > 2 && u.bytes[0] == '#' && u.bytes[1] == '!') {
		char *p = u.bytes + 2;
		u.bytes[n < (long)sizeof u ? n : (long)sizeof u - 1] = 0;
		p += strspn(p, " \t");
		p[strcspn(p, " \t\n")] = 0;
		vs_sys(SYS_close, fd);
		return takes_library(p, envp, depth + 1);
	}
	if (n >= (long)sizeof u.head && !memcmp(u.bytes, ELFMAG, SELFMAG) && u.head.e_ident[EI_CLASS] == ELFCLASS64) {
		for (unsigned i = 0; i < u.head.e_phnum; i++) {
			Elf64_Phdr ph;
			if (vs_sys(SYS_pread64, fd, &ph, sizeof ph, u.head.e_phoff + i * sizeof ph) != sizeof ph)
				break;
			dynamic |= ph.p_type == PT_INTERP;
		}
	}
	vs_sys(SYS_close, fd);
	return dynamic && !raised;
}

/* `arg`: of connections to other hosts only, whose queue pairs no program inherits; they may come back to one with the library. */
static void demote_inherited(int fd, const struct vs_conn *c, void *arg)
{
	long flags = vs_sys(SYS_fcntl, fd, F_GETFD);
	if (flags >= 0 && !(flags & FD_CLOEXEC) && (!arg || vs_is_remote(c))) {
		vs_tx_demote(c, fd, arg ? 0 : VS_PLAIN_FOREIGN);
		vs_rx_demote(c, fd, arg ? 0 : VS_PLAIN_FOREIGN);
	}
}

static void prepare(const char *path, char *const envp[])
{
	bool remote_only = true;
	if (!path || !(vs_arena || vs_book))
		return;
	if (takes_library(path, envp, 0)) {
		if (vs_arena)
			vs_fd_each(demote_inherited, &remote_only);
		return;
	}
	vs_book_stranger(path);
	vs_fd_each(demote_inherited, NULL);
}

/* As the shell and execvp() search. */
static const char *find(const char *name, char *buf, size_t room)
{
	if (!name || strchr(name, '/'))
		return name;
	const char *path = getenv("PATH");
	for (path = path ? path : "/bin:/usr/bin"; *path;) {
		size_t len = strcspn(path, ":");
		int n = snprintf(buf, room, "%.*s/%s", (int)len, len ? path : ".", name);
		if (n > 0 && (size_t)n < room && !access(buf, X_OK))
			return buf;
		path += len + (path[len] == ':');
	}
	return name;
}

/* A new program attaches anew what it uses of ours. */
#define REPLACE(call)                                                                                                  \
	({                                                                                                             \
		bool own_ = !vs_in_vfork_child();                                                                      \
		if (own_) {                                                                                            \
			vs_set_flush_all(REAL(epoll_ctl));                                                             \
			vs_fd_bequeath(true);                                                                          \
			vs_udp_exec(true);                                                                             \
		}                                                                                                      \
		int r_ = (call);                                                                                       \
		if (own_) {                                                                                            \
			vs_udp_exec(false);                                                                            \
			vs_fd_bequeath(false);                                                                         \
		}                                                                                                      \
		r_;                                                                                                    \
	})

VS_EXPORT int execve(const char *path, char *const argv[], char *const envp[])
{
	prepare(path, envp);
	return REPLACE(REAL(execve)(path, argv, envp));
}

VS_EXPORT int execv(const char *path, char *const argv[])
{
	prepare(path, environ);
	return REPLACE(REAL(execv)(path, argv));
}

VS_EXPORT int execvp(const char *name, char *const argv[])
{
	char buf[4096];
	prepare(find(name, buf, sizeof buf), environ);
	return REPLACE(REAL(execvp)(name, argv));
}

VS_EXPORT int execvpe(const char *name, char *const argv[], char *const envp[])
{
	char buf[4096];
	prepare(find(name, buf, sizeof buf), envp);
	return REPLACE(REAL(execvpe)(name, argv, envp));
}

VS_EXPORT int fexecve(int fd, char *const argv[], char *const envp[])
{
	char path[32];
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	prepare(path, envp);
	return REPLACE(REAL(fexecve)(fd, argv, envp));
}

/* The variadic ones, as lists. */
#define MAX_ARGS 4096
#define COLLECT(argv, first, last)                                                                                     \
	do {                                                                                                           \
		int n_ = 0;                                                                                            \
		va_start(ap, last);                                                                                    \
		for (const char *a_ = first; n_ < MAX_ARGS - 1; a_ = va_arg(ap, const char *)) {                       \
			argv[n_++] = (char *)(uintptr_t)a_;                                                            \
			if (!a_)                                                                                       \
				break;                                                                                 \
		}                                                                                                      \
		argv[n_] = NULL;                                                                                       \
	} while (0)

VS_EXPORT int execl(const char *path, const char *arg, ...)
{
	char *argv[MAX_ARGS + 1];
	va_list ap;
	COLLECT(argv, arg, arg);
	va_end(ap);
	return execv(path, argv);
}

VS_EXPORT int execlp(const char *name, const char *arg, ...)
{
	char *argv[MAX_ARGS + 1];
	va_list ap;
	COLLECT(argv, arg, arg);
	va_end(ap);
	return execvp(name, argv);
}

VS_EXPORT int execle(const char *path, const char *arg, ...)
{
	char *argv[MAX_ARGS + 1];
	va_list ap;
	COLLECT(argv, arg, arg);
	char **envp = va_arg(ap, char **);
	va_end(ap);
	return execve(path, argv, envp);
}

VS_EXPORT int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attr,
			  char *const argv[], char *const envp[])
{
	prepare(path, envp);
	return REAL(posix_spawn)(pid, path, actions, attr, argv, envp);
}

VS_EXPORT int posix_spawnp(pid_t *pid, const char *name, const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attr,
			   char *const argv[], char *const envp[])
{
	char buf[4096];
	prepare(find(name, buf, sizeof buf), envp);
	return REAL(posix_spawnp)(pid, name, actions, attr, argv, envp);
}

VS_EXPORT pid_t fork(void)
{
	pid_t r = REAL(fork)();
	if (r < 0) {
		vs_fd_hold(-1);
		vs_udp_fork(-1);
	}
	return r;
}

VS_EXPORT void _exit(int status)
{
	if (!vs_fd_silent && !vs_in_vfork_child())
		vs_fd_close_all();
	REAL(_exit)(status);
	__builtin_unreachable();
}

VS_EXPORT void _Exit(int status) { _exit(status); }

__attribute__((destructor)) static void at_exit(void) { vs_fd_close_all(); }
