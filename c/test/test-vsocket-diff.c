/*
 * test-vsocket-diff.c - the same program with and without the socket library. Each scenario runs in processes of its own, natively and
 * with the library, with a new connection, with one that has been used, and with such a one over IPv6; what it prints (results, errno, events,
 * bytes) must be the same. Names as arguments run only these.
 */
#define _GNU_SOURCE
#include "vsocket-kit.h"
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct vk_scenario *const groups[] = { vk_transfer, vk_ready, vk_ends, vk_processes };
enum { WARM = 1, V6 = 2, MODES = 3 };
static const char *const mode_names[MODES] = { "new", "used", "used, IPv6" };
static const int mode_bits[MODES] = { 0, WARM, WARM | V6 };
#define LIMIT_S 8 /* without a line from the scenario */

static const struct vk_scenario *find(const char *name)
{
	for (size_t g = 0; g < sizeof groups / sizeof *groups; g++)
		for (const struct vk_scenario *s = groups[g]; s->name; s++)
			if (!strcmp(s->name, name))
				return s;
	return NULL;
}

/* In a process of its own: prints to stdout. */
static int run_here(const char *name, int mode)
{
	int c, s;
	const struct vk_scenario *sc = find(name);
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (mode & WARM)
		vk_pair(&c, &s, mode & V6);
	else
		vk_raw_pair(&c, &s, mode & V6);
	sc->run(c, s);
	return 0;
}

static char library[8192];

/* A scenario in a process of its own. */
struct run {
	pid_t pid;
	int from;
	size_t n;
	char out[16384];
};

static void start(struct run *r, const char *self, const char *name, int mode, bool with)
{
	int p[2];
	char m[4];
	if (pipe2(p, O_CLOEXEC))
		exit(1);
	snprintf(m, sizeof m, "%d", mode_bits[mode]);
	r->n = 0;
	r->from = p[0];
	r->pid = fork();
	if (r->pid == 0) {
		setpgid(0, 0);
		dup2(p[1], 1);
		if (with)
			setenv("LD_PRELOAD", library, 1);
		execl(self, self, "--run", name, m, (char *)NULL);
		_exit(127);
	}
	close(p[1]);
}

/* Reads what it prints to the end, or until it has been silent for too long, and adds how it ended. */
static void finish(struct run *r)
{
	ssize_t n = 1;
	struct pollfd more = { r->from, POLLIN, 0 };
	while (n > 0 && poll(&more, 1, LIMIT_S * 1000) > 0 && (n = read(r->from, r->out + r->n, sizeof r->out - 100 - r->n)) > 0)
		r->n += (size_t)n;
	if (n > 0) {
		r->n += (size_t)sprintf(r->out + r->n, "hangs\n");
		kill(-r->pid, SIGKILL);
	}
	close(r->from);
	int st;
	waitpid(r->pid, &st, 0);
	kill(-r->pid, SIGKILL); /* whatever it has left behind */
	sprintf(r->out + r->n, "ended: %s %d\n", WIFEXITED(st) ? "exit" : "signal", WIFEXITED(st) ? WEXITSTATUS(st) : WTERMSIG(st));
}

int main(int argc, char **argv)
{
	int failed = 0, done = 0;
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc == 4 && !strcmp(argv[1], "--run"))
		return run_here(argv[2], atoi(argv[3]));
	char self[4096] = "", dir[] = "/tmp/vsocket-diff.XXXXXX";
	if (readlink("/proc/self/exe", self, sizeof self - 1) < 0)
		return 1;
	const char *libs = getenv("RDMAKIT_LIBS");
	const char *first = getenv("VSOCKET_PRELOAD_FIRST"); /* the runtime of a sanitizer */
	snprintf(library, sizeof library, "%s/librdmakit_vsocket.so", libs ? libs : "");
	if (!libs || access(library, R_OK)) {
		fprintf(stderr, "RDMAKIT_LIBS must name the folder of librdmakit_vsocket.so\n");
		return 1;
	}
	if (first)
		snprintf(library, sizeof library, "%s:%s/librdmakit_vsocket.so", first, libs);
	setenv("RDMAKIT_SOCKET_RING", "always", 1);
	setenv("ASAN_OPTIONS", "detect_leaks=0", 0);
	if (!mkdtemp(dir))
		return 1;
	setenv("RDMAKIT_RUNTIME_DIR", dir, 1);
	for (size_t g = 0; g < sizeof groups / sizeof *groups; g++)
		for (const struct vk_scenario *sc = groups[g]; sc->name; sc++) {
			bool wanted = argc < 2;
			for (int i = 1; i < argc; i++)
				wanted |= !strcmp(argv[i], sc->name);
			static struct run native[MODES], with[MODES];
			for (int mode = 0; wanted && mode < MODES; mode++) {
				start(&native[mode], self, sc->name, mode, false);
				start(&with[mode], self, sc->name, mode, true);
			}
			for (int mode = 0; wanted && mode < MODES; mode++) {
				finish(&native[mode]);
				finish(&with[mode]);
				done++;
				if (strcmp(native[mode].out, with[mode].out) || strstr(native[mode].out, "broken")) {
					failed++;
					printf("DIFFERS %s (%s)\n--- kernel\n%s--- library\n%s\n", sc->name, mode_names[mode],
					       native[mode].out, with[mode].out);
				}
			}
		}
	char path[64];
	snprintf(path, sizeof path, "%s/sockets-1", dir);
	unlink(path);
	rmdir(dir);
	printf("%d comparisons, %d differ\n", done, failed);
	return failed || !done;
}
