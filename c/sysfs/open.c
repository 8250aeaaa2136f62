/* open.c - opening files: the attribute that is opened is written afresh first. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include "rewrite.h"

/* The mode of open(2) is there only with some flags; reading one that is not there does no harm here. */
#define MODE(last) \
	({ \
		va_list ap; \
		va_start(ap, last); \
		mode_t m = va_arg(ap, mode_t); \
		va_end(ap); \
		m; \
	})
#define OPEN(name) \
	int name(const char *path, int flags, ...) { RS_CALL(name, RS_OPENED(path), flags, MODE(flags)); }
#define OPENAT(name) \
	int name(int dir, const char *path, int flags, ...) { RS_CALL(name, dir, RS_OPENED(path), flags, MODE(flags)); }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

/* What -D_FORTIFY_SOURCE makes of calls without a mode. */
int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);
int __openat_2(int dir, const char *path, int flags);
int __openat64_2(int dir, const char *path, int flags);
int __open_2(const char *path, int flags) { RS_CALL(__open_2, RS_OPENED(path), flags); }
int __open64_2(const char *path, int flags) { RS_CALL(__open64_2, RS_OPENED(path), flags); }
int __openat_2(int dir, const char *path, int flags) { RS_CALL(__openat_2, dir, RS_OPENED(path), flags); }
int __openat64_2(int dir, const char *path, int flags) { RS_CALL(__openat64_2, dir, RS_OPENED(path), flags); }

FILE *fopen(const char *path, const char *mode) { RS_CALL(fopen, RS_OPENED(path), mode); }
FILE *fopen64(const char *path, const char *mode) { RS_CALL(fopen64, RS_OPENED(path), mode); }
