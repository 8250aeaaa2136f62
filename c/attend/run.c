/* run.c - running a program as its parent, as if nobody stood in between. */
#define _GNU_SOURCE
#include "attend.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Exit status of a shell for a program that could not be executed. */
#define NOT_EXECUTABLE 126
#define REFRESH_NS 250000000L

/* Signals of faults are ours if they ever come. */
static void block_signals(sigset_t *set, sigset_t *before)
{
	static const int own[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS };
	sigfillset(set);
	for (unsigned i = 0; i < sizeof own / sizeof own[0]; i++)
		sigdelset(set, own[i]);
	sigprocmask(SIG_SETMASK, set, before);
}

/* The child's side; returns only by ending. */
static void become(const struct attend_run *run, const sigset_t *mask, const char *book, pid_t parent, int told)
{
	/* A kill -9 that was meant for the program reaches only us. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	for (char **s = run->set; *s; s++)
		putenv(*s);
	setenv(VS_ENV_BOOK, book, 1);
	sigprocmask(SIG_SETMASK, mask, NULL);
	execv(run->path, run->argv);
	int error = errno;
	if (write(told, &error, sizeof error) < 0)
		_exit(NOT_EXECUTABLE);
	_exit(NOT_EXECUTABLE);
}

/* Starts the program; 0 when it could not be, having said why. */
static pid_t start(const struct attend_run *run, const sigset_t *mask, int book_fd)
{
	char book[48];
	int ends[2], error;
	pid_t parent = getpid();
	snprintf(book, sizeof book, "/proc/%d/fd/%d", (int)parent, book_fd);
	if (pipe2(ends, O_CLOEXEC)) {
		perror("rdmakit socket-run: pipe");
		return 0;
	}
	pid_t pid = fork();
	if (pid == 0)
		become(run, mask, book, parent, ends[1]);
	close(ends[1]);
	/* Ends without a word when the program has begun. */
	bool failed = pid < 0 || read(ends[0], &error, sizeof error) == sizeof error;
	close(ends[0]);
	if (!failed)
		return pid;
	fprintf(stderr, "rdmakit socket-run: %s: %s\n", run->path, strerror(pid < 0 ? errno : error));
	return 0;
}

/* What a terminal sends, it sends to the program too: both are in its group. */
static void pass_on(pid_t program, const siginfo_t *info)
{
	if (info->si_code != SI_KERNEL)
		kill(program, info->si_signo);
}

/* Collects what has ended. False when there is no child left. */
static bool collect(pid_t program, bool *ended, int *status)
{
	for (;;) {
		int s;
		pid_t pid = waitpid(-1, &s, WNOHANG | WUNTRACED);
		if (pid <= 0)
			return pid == 0;
		if (pid != program)
			continue;
		if (WIFSTOPPED(s)) {
			/* Our parent, a shell perhaps, must see it; when it lets us go on, so does the program. */
			kill(getpid(), SIGSTOP);
			kill(program, SIGCONT);
		} else {
			*ended = true;
			*status = s;
		}
	}
}

static void attend(pid_t program, const sigset_t *all, int *status)
{
	bool ended = false;
	while (collect(program, &ended, status)) {
		siginfo_t info;
		struct timespec soon = { 0, REFRESH_NS };
		int sig = sigtimedwait(all, &info, &soon);
		if (sig < 0)
			attend_refresh();
		else if (sig == SIGCHLD || sig == SIGCONT)
			continue;
		else if (!ended)
			pass_on(program, &info);
		else if (sig == SIGINT || sig == SIGTERM || sig == SIGHUP || sig == SIGQUIT)
			return; /* only what it left in the background runs: that may go on */
	}
}

int attend_run(const struct attend_run *run)
{
	sigset_t all, before;
	int status = 0, book = attend_make_book(run->wanted);
	if (book < 0) {
		perror("rdmakit socket-run: the book of the report");
		return 3;
	}
	/* What the program leaves in the background becomes our child. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	block_signals(&all, &before);
	pid_t program = start(run, &before, book);
	if (!program)
		return NOT_EXECUTABLE;
	attend(program, &all, &status);
	attend_conclude();
	char ended[48];
	snprintf(ended, sizeof ended, "%d:%d", book, status);
	setenv(VS_ATTEND_ENDED, ended, 1);
	fcntl(book, F_SETFD, 0);
	sigprocmask(SIG_SETMASK, &before, NULL);
	execv(run->then[0], run->then + 1);
	perror("rdmakit socket-run: the report could not be made");
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
