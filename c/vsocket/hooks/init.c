/* init.c - start of the library, and the functions it stands before. */
#define _GNU_SOURCE
#include "../book.h"
#include "../lock.h"
#include "../remote.h"
#include "../set.h"
#include "hooks.h"
#include "../sys.h"
#include <dlfcn.h>
#include <pthread.h>

static int own_pid;

void *vs_real(const char *name)
{
	int saved = errno;
	void *f = dlsym(RTLD_NEXT, name);
	errno = saved;
	return f;
}

bool vs_in_vfork_child(void) { return vs_sys_getpid() != own_pid; }
void vs_note_pid(void) { own_pid = vs_sys_getpid(); }

static void before_fork(void)
{
	vs_set_flush_all(REAL(epoll_ctl));
	vs_fd_before_fork();
	vs_udp_fork(1);
}

static void in_parent(void) { vs_fd_forked(false); }

static void in_child(void)
{
	vs_note_pid();
	vs_tid = 0;
	vs_set_forked();
	vs_fd_forked(true);
	vs_udp_forked();
	vs_conn_forked();
	if (vs_remote)
		vs_remote->forked();
	vs_arena_enlist();
}

/* What another program has left us as standard streams, and which may be in a ring. */
static void look_at_stdio(void)
{
	int saved = errno;
	for (int fd = 0; fd <= VS_FD_STDIO; fd++) {
		struct vs_conn c;
		if (vs_fd_use(fd, &c) == VS_USE_COUNTED)
			vs_fd_native_done(fd);
	}
	errno = saved;
}

__attribute__((constructor)) static void start(void)
{
	vs_note_pid();
	vs_fd_init();
	vs_book_open();
	pthread_atfork(before_fork, in_parent, in_child);
	look_at_stdio();
}
