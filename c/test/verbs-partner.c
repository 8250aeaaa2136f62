/* Tests of verbs: partner processes, started anew so that no state is inherited. See verbs-kit.h. */
#define _GNU_SOURCE
#include "verbs-kit.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define ROLE "--partner="
#define FD 3

bool vk_is_partner;

/* Fork tests start threads in children of threaded processes; ThreadSanitizer forbids that unless told otherwise. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void) { return "die_after_fork=0"; }

void vk_start(int argc, char **argv, const struct vk_role *roles, size_t n)
{
	signal(SIGPIPE, SIG_IGN);
	if (argc != 2 || strncmp(argv[1], ROLE, strlen(ROLE)))
		return;
	vk_is_partner = true;
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that failed leaves nobody behind */
	for (size_t i = 0; i < n; i++)
		if (!strcmp(argv[1] + strlen(ROLE), roles[i].name)) {
			roles[i].run(FD);
			exit(0);
		}
	exit(98);
}

void vk_spawn(struct vk_partner *p, const char *role)
{
	extern char **environ;
	char arg[64];
	char *argv[] = { "/proc/self/exe", arg, NULL };
	int fd[2];
	posix_spawn_file_actions_t actions;
	snprintf(arg, sizeof arg, ROLE "%s", role);
	VK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fd), 0);
	/* dup2 onto itself would keep close-on-exec */
	int theirs = fcntl(fd[1], F_DUPFD_CLOEXEC, FD + 1);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, theirs, FD);
	VK_EQ(posix_spawn(&p->pid, "/proc/self/exe", &actions, NULL, argv, environ), 0);
	posix_spawn_file_actions_destroy(&actions);
	close(fd[1]);
	close(theirs);
	p->fd = fd[0];
}

void vk_join(struct vk_partner *p)
{
	int status = 0;
	VK_EQ(waitpid(p->pid, &status, 0), p->pid);
	close(p->fd);
	VK(WIFEXITED(status));
	VK_EQ(WEXITSTATUS(status), 0);
}

void vk_kill(struct vk_partner *p)
{
	int status = 0;
	kill(p->pid, SIGKILL);
	VK_EQ(waitpid(p->pid, &status, 0), p->pid);
	close(p->fd);
}

void vk_put(int fd, const void *p, size_t len) { VK_EQ(send(fd, p, len, 0), len); }

void vk_get(int fd, void *p, size_t len)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	VK(poll(&pfd, 1, 2 * VK_WAIT_S * 1000) == 1 && "a word from the partner");
	VK_EQ(recv(fd, p, len, MSG_TRUNC), len);
}

void vk_sync(int fd)
{
	char c = 's';
	vk_put(fd, &c, 1);
	vk_get(fd, &c, 1);
}

struct vk_name vk_meet(struct vk_end *e, int fd, const struct ibv_mr *mine)
{
	struct vk_name me = { .qpn = e->qp->qp_num, .gid = e->dev->gid }, peer;
	if (mine) {
		me.rkey = mine->rkey;
		me.addr = (uintptr_t)mine->addr;
		me.length = mine->length;
	}
	vk_put(fd, &me, sizeof me);
	vk_get(fd, &peer, sizeof peer);
	vk_connect(e, peer.qpn, &peer.gid);
	vk_sync(fd);
	return peer;
}
