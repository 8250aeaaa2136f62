/*
 * rewrite.c - asks the embedded libibverbs for the file that stands for a path of ours.
 */
#define _GNU_SOURCE
#include "rewrite.h"
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

static const char *const folders[] = { "/sys/class/infiniband", "/sys/class/infiniband_verbs", "/sys/class/infiniband_mad",
				       "/dev/infiniband" };

typedef const char *sysfs_path_fn(const char *path, int opening, char *buf, size_t size);
static sysfs_path_fn *sysfs_path;
static pthread_once_t once = PTHREAD_ONCE_INIT;
/* Set while the library works: its own look at a path must not come back here. */
static __thread bool inside __attribute__((tls_model("initial-exec")));

/* The library that the program uses, or would use: the system's has no such function, and then nothing is rewritten. */
static void find_library(void)
{
	void *lib = dlopen("libibverbs.so.1", RTLD_LAZY | RTLD_LOCAL);
	sysfs_path = lib ? (sysfs_path_fn *)dlsym(lib, "rdmakit_sysfs_path") : NULL;
}

bool rs_is_ours(const char *path)
{
	/* Most paths of most programs end here. */
	if (!path || path[0] != '/' || (strncmp(path, "/sys/c", 6) && strncmp(path, "/dev/i", 6)))
		return false;
	for (size_t i = 0; i < sizeof(folders) / sizeof(*folders); i++) {
		size_t n = strlen(folders[i]);
		if (!strncmp(path, folders[i], n) && (path[n] == '/' || path[n] == 0))
			return true;
	}
	return false;
}

const char *rs_rewrite(const char *path, bool opening, char buf[RS_PATH_MAX])
{
	int saved = errno;
	if (inside || !rs_is_ours(path))
		return path;
	inside = true;
	pthread_once(&once, find_library);
	const char *found = sysfs_path ? sysfs_path(path, opening, buf, RS_PATH_MAX) : NULL;
	inside = false;
	errno = saved;
	return found ? found : path;
}

void rs_restore(char *path)
{
	char tree[RS_PATH_MAX];
	for (size_t i = 0; i < sizeof(folders) / sizeof(*folders); i++) {
		const char *real = rs_rewrite(folders[i], false, tree);
		size_t n = strlen(real);
		if (real == tree && !strncmp(path, real, n) && (path[n] == '/' || path[n] == 0)) {
			size_t root = n - strlen(folders[i]);
			memmove(path, path + root, strlen(path + root) + 1);
			return;
		}
	}
}
