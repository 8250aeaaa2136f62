/*
 * test-vsocket-diff.c - the same program with and without the socket library. Each scenario runs in processes of its own, natively and
 * with the library, with a new connection, with one that has been used, and with such a one over IPv6; what it prints (results, errno, events,
 * bytes) must be the same. The book of the run says how many bytes went through rings: a used connection must be in one when the scenario
 * begins, and the scenario itself must move some, unless it says that they are the kernel's. Names as arguments run only these.
 */
#define _GNU_SOURCE
#include "../vsocket/book.h"
#include "../vsocket/layout.h"
#include "vsocket-kit.h"
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct vk_scenario *const groups[] = { vk_transfer, vk_ready, vk_ends, vk_processes, vk_epoll, vk_options,
						    vk_signalled, vk_connects, vk_names, vk_finishes, vk_interest, vk_udp };
static const char *const group_names[] = { "transfer", "waiting", "ends", "processes", "epoll", "options", "signals", "connecting",
					   "names", "ends and threads", "interest", "udp" };
enum { GROUPS = sizeof groups / sizeof *groups };

enum { WARM = 1, V6 = 2, ALWAYS = 4, BOOK = 8, MODES = 4 };
/* `native`: the mode whose run without the library it is compared with. */
static const struct {
	const char *name;
	int bits, native;
} modes[MODES] = {
	{ "new", ALWAYS, 0 },
	{ "used", WARM | ALWAYS | BOOK, 1 },
	{ "used, IPv6", WARM | V6 | ALWAYS, 2 },
	{ "used, as users have it", WARM | BOOK, 1 },
};
static int modes_run = MODES; /* with a sanitizer the first two: the others take the same ways through the library */
#define LIMIT_S 8 /* without a line from the scenario */
#define AHEAD 3	  /* scenarios that run at the same time: most of the time they wait */

static void nothing(int c, int s)
{
	(void)c;
	(void)s;
}
static const struct vk_scenario idle = { "idle", nothing, 0 };

static const struct vk_scenario *find(const char *name)
{
	for (size_t g = 0; g < GROUPS; g++)
		for (const struct vk_scenario *s = groups[g]; s->name; s++)
			if (!strcmp(s->name, name))
				return s;
	return &idle;
}

/* In a process of its own: prints to stdout. */
static int run_here(const char *name, int bits)
{
	int c, s;
	setvbuf(stdout, NULL, _IOLBF, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (bits & WARM)
		vk_pair(&c, &s, bits & V6);
	else
		vk_raw_pair(&c, &s, bits & V6);
	find(name)->run(c, s);
	return 0;
}

static char library[8192], self[4096];

/* A scenario in a process of its own. */
struct run {
	pid_t pid;
	int from, book; /* book: -1 for none */
	size_t n;
	char out[16384];
};

/* A book as rdmakit-attend makes it. */
static int make_book(void)
{
	int fd = memfd_create("book", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct vs_book head = { .magic = VS_BOOK_MAGIC, .version = VS_BOOK_VERSION, .row_bytes = sizeof(struct vs_book_row), .rows = VS_BOOK_ROWS };
	if (fd < 0 || ftruncate(fd, VS_BOOK_SIZE) || pwrite(fd, &head, offsetof(struct vs_book, rest), 0) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW)) {
		perror("book");
		exit(1);
	}
	return fd;
}

/* Bytes that were sent through rings. */
static uint64_t ring_bytes(int book)
{
	static struct vs_book b;
	uint64_t sum = 0;
	if (pread(book, &b, sizeof b, 0) != sizeof b)
		return 0;
	for (unsigned i = 0; i < VS_BOOK_ROWS; i++)
		if (b.row[i].cookie)
			sum += b.row[i].tx.ring_bytes;
	return sum;
}

static void start(struct run *r, const char *name, int bits, bool with)
{
	int p[2];
	char m[4], path[64];
	if (pipe2(p, O_CLOEXEC))
		exit(1);
	r->book = with && (bits & BOOK) ? make_book() : -1;
	snprintf(m, sizeof m, "%d", bits);
	snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)getpid(), r->book);
	r->n = 0;
	r->from = p[0];
	r->pid = fork();
	if (r->pid == 0) {
		setpgid(0, 0);
		dup2(p[1], 1);
		if (with)
			setenv("LD_PRELOAD", library, 1);
		if (bits & ALWAYS)
			setenv("RDMAKIT_SOCKET_RING", "always", 1);
		if (r->book >= 0)
			setenv(VS_ENV_BOOK, path, 1);
		execl(self, self, "--run", name, m, (char *)NULL);
		_exit(127);
	}
	close(p[1]);
}

/* Reads what it prints to the end, or until it has been silent for too long, and adds how it ended. Returns bytes in rings. */
static uint64_t finish(struct run *r)
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
	uint64_t bytes = r->book >= 0 ? ring_bytes(r->book) : 0;
	if (r->book >= 0)
		close(r->book);
	return bytes;
}

/* A scenario under way. */
struct trial {
	const struct vk_scenario *sc;
	long begun_ms;
	struct run native[MODES], with[MODES];
};
static struct trial trials[AHEAD];
static uint64_t idle_bytes[MODES];
static unsigned done, failed, once, in_rings; /* once: not when repeated */
#define REPEATS 4

static void begin(struct trial *t, const struct vk_scenario *sc)
{
	t->sc = sc;
	t->begun_ms = vk_now_ms();
	for (int mode = 0; mode < modes_run; mode++) {
		if (modes[mode].native == mode)
			start(&t->native[mode], sc->name, modes[mode].bits, false);
		start(&t->with[mode], sc->name, modes[mode].bits, true);
	}
}

/* Whether a difference shows again when the scenario runs alone: many of them share two cores with others here, and some of what they
 * measure in milliseconds then comes out otherwise, natively too. */
static bool again(const struct trial *t, int mode)
{
	static struct run native, with;
	bool kernels = t->sc->flags & VK_KERNEL;
	for (int i = 0; i < REPEATS; i++) {
		start(&native, t->sc->name, modes[modes[mode].native].bits, false);
		finish(&native);
		start(&with, t->sc->name, modes[mode].bits, true);
		uint64_t bytes = finish(&with);
		if (strcmp(native.out, with.out) || strstr(native.out, "broken") || strstr(native.out, "hangs\n") ||
		    (!kernels && (modes[mode].bits & BOOK) && bytes <= idle_bytes[mode]))
			return true;
	}
	return false;
}

static void judge(struct trial *t)
{
	bool kernels = t->sc->flags & VK_KERNEL, moved = true;
	for (int mode = 0; mode < modes_run; mode++) {
		if (modes[mode].native == mode)
			finish(&t->native[mode]);
		const char *native = t->native[modes[mode].native].out, *with = t->with[mode].out;
		uint64_t bytes = finish(&t->with[mode]);
		done++;
		if (strcmp(native, with) || strstr(native, "broken") || strstr(native, "hangs\n")) {
			bool still = again(t, mode);
			failed += still;
			once += !still;
			printf("DIFFERS%s %s (%s)\n--- kernel\n%s--- library\n%s\n", still ? "" : " ONCE", t->sc->name, modes[mode].name, native, with);
		} else if ((modes[mode].bits & BOOK) && bytes <= idle_bytes[mode]) {
			moved = false;
			if (!kernels) {
				bool still = again(t, mode);
				failed += still;
				once += !still;
				printf("NOT IN A RING%s %s (%s)\n", still ? "" : " ONCE", t->sc->name, modes[mode].name);
			}
		}
	}
	in_rings += moved;
	if (getenv("VSOCKET_DIFF_VERBOSE"))
		printf("%6ld ms  %s%s\n", vk_now_ms() - t->begun_ms, t->sc->name, kernels && moved ? " (in a ring, though not expected)" : "");
}

int main(int argc, char **argv)
{
	char dir[] = "/tmp/vsocket-diff.XXXXXX";
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc == 4 && !strcmp(argv[1], "--run"))
		return run_here(argv[2], atoi(argv[3]));
	if (readlink("/proc/self/exe", self, sizeof self - 1) < 0)
		return 1;
	const char *libs = getenv("RDMAKIT_LIBS");
	const char *first = getenv("VSOCKET_PRELOAD_FIRST"); /* the runtime of a sanitizer */
	snprintf(library, sizeof library, "%s/librdmakit_vsocket.so", libs ? libs : "");
	if (!libs || access(library, R_OK)) {
		fprintf(stderr, "RDMAKIT_LIBS must name the folder of librdmakit_vsocket.so\n");
		return 1;
	}
	if (first) {
		modes_run = 2;
		snprintf(library, sizeof library, "%s:%s/librdmakit_vsocket.so", first, libs);
	}
	setenv("ASAN_OPTIONS", "detect_leaks=0", 0);
	if (!mkdtemp(dir))
		return 1;
	setenv("RDMAKIT_RUNTIME_DIR", dir, 1);
	unsetenv("RDMAKIT_SOCKET_RING");

	/* What is moved before a scenario begins. */
	for (int mode = 0; mode < modes_run; mode++) {
		if (!(modes[mode].bits & BOOK))
			continue;
		start(&trials[0].with[mode], idle.name, modes[mode].bits, true);
		idle_bytes[mode] = finish(&trials[0].with[mode]);
		if (idle_bytes[mode] == 0) {
			failed++;
			printf("NOT IN A RING: a used connection (%s)\n%s", modes[mode].name, trials[0].with[mode].out);
		}
	}
	unsigned begun = 0, judged = 0;
	for (size_t g = 0; g < GROUPS; g++) {
		unsigned count = 0;
		for (const struct vk_scenario *sc = groups[g]; sc->name; sc++) {
			bool wanted = argc < 2;
			for (int i = 1; i < argc; i++)
				wanted |= !strcmp(argv[i], sc->name) || !strcmp(argv[i], group_names[g]);
			if (!wanted)
				continue;
			if (begun - judged == AHEAD)
				judge(&trials[judged++ % AHEAD]);
			begin(&trials[begun++ % AHEAD], sc);
			count++;
		}
		if (count)
			printf("%s: %u scenarios\n", group_names[g], count);
	}
	while (judged < begun)
		judge(&trials[judged++ % AHEAD]);
	char path[64];
	snprintf(path, sizeof path, "%s/sockets-%d", dir, VS_VERSION);
	unlink(path);
	rmdir(dir);
	printf("%u scenarios, %u with bytes in rings; %u comparisons, %u failures, %u differences that did not show again\n", begun, in_rings, done, failed,
	       once);
	return failed || !done;
}
