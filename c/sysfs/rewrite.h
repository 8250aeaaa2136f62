/*
 * rewrite.h - which paths are answered from elsewhere. librdmakit_sysfs.so is preloaded by verbs-run, because some programs
 * look at /sys/class/infiniband and /dev/infiniband themselves before they ask libibverbs (UCX, ibstat), and no process without
 * privilege can put files there. Calls with any other path go straight on: a comparison of a few bytes.
 */
#ifndef RS_REWRITE_H
#define RS_REWRITE_H
#include <dlfcn.h>
#include <stdbool.h>
#include <stddef.h>

#define RS_PATH_MAX 512

/* Does the absolute path lie at or below one of our folders? */
bool rs_is_ours(const char *path);

/* The path to use instead: `path` itself when it is not ours (or nothing can be put in its place), otherwise in buf. `opening`:
 * the file is about to be read, its content must be that of now. errno is left alone. */
const char *rs_rewrite(const char *path, bool opening, char buf[RS_PATH_MAX]);

/* The other way round, in place: a path into the tree gets the name by which the program knows it. */
void rs_restore(char *path);

/* The libc function of this name. Threads may look it up at once; all find the same. */
#define RS_NEXT(name) \
	({ \
		static __typeof__(name) *next; \
		__typeof__(name) *known = __atomic_load_n(&next, __ATOMIC_RELAXED); \
		if (!known) { \
			known = (__typeof__(name) *)dlsym(RTLD_NEXT, #name); \
			__atomic_store_n(&next, known, __ATOMIC_RELAXED); \
		} \
		known; \
	})

/* Body of a function that passes on to the libc function `name`; RS() around its path. The buffer stays uninitialised. */
#define RS_CALL(name, ...) \
	char rs_buf[RS_PATH_MAX]; \
	return RS_NEXT(name)(__VA_ARGS__)
#define RS(path) rs_rewrite(path, false, rs_buf)
#define RS_OPENED(path) rs_rewrite(path, true, rs_buf)
#endif
