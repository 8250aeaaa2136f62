/* stat.c - asking about files: existence, permission, kind, links. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>
#include "rewrite.h"

int stat(const char *path, struct stat *st) { RS_CALL(stat, RS(path), st); }
int stat64(const char *path, struct stat64 *st) { RS_CALL(stat64, RS(path), st); }
int lstat(const char *path, struct stat *st) { RS_CALL(lstat, RS(path), st); }
int lstat64(const char *path, struct stat64 *st) { RS_CALL(lstat64, RS(path), st); }
int fstatat(int dir, const char *path, struct stat *st, int flags) { RS_CALL(fstatat, dir, RS(path), st, flags); }
int fstatat64(int dir, const char *path, struct stat64 *st, int flags) { RS_CALL(fstatat64, dir, RS(path), st, flags); }
int statx(int dir, const char *path, int flags, unsigned mask, struct statx *st)
{
	RS_CALL(statx, dir, RS(path), flags, mask, st);
}

/* Programs linked before glibc 2.33 call these. */
int __xstat(int version, const char *path, struct stat *st);
int __xstat64(int version, const char *path, struct stat64 *st);
int __lxstat(int version, const char *path, struct stat *st);
int __lxstat64(int version, const char *path, struct stat64 *st);
int __fxstatat(int version, int dir, const char *path, struct stat *st, int flags);
int __fxstatat64(int version, int dir, const char *path, struct stat64 *st, int flags);
int __xstat(int version, const char *path, struct stat *st) { RS_CALL(__xstat, version, RS(path), st); }
int __xstat64(int version, const char *path, struct stat64 *st) { RS_CALL(__xstat64, version, RS(path), st); }
int __lxstat(int version, const char *path, struct stat *st) { RS_CALL(__lxstat, version, RS(path), st); }
int __lxstat64(int version, const char *path, struct stat64 *st) { RS_CALL(__lxstat64, version, RS(path), st); }
int __fxstatat(int version, int dir, const char *path, struct stat *st, int flags)
{
	RS_CALL(__fxstatat, version, dir, RS(path), st, flags);
}
int __fxstatat64(int version, int dir, const char *path, struct stat64 *st, int flags)
{
	RS_CALL(__fxstatat64, version, dir, RS(path), st, flags);
}

int access(const char *path, int mode) { RS_CALL(access, RS(path), mode); }
int eaccess(const char *path, int mode) { RS_CALL(eaccess, RS(path), mode); }
int euidaccess(const char *path, int mode) { RS_CALL(euidaccess, RS(path), mode); }
int faccessat(int dir, const char *path, int mode, int flags) { RS_CALL(faccessat, dir, RS(path), mode, flags); }

ssize_t readlink(const char *path, char *buf, size_t size) { RS_CALL(readlink, RS(path), buf, size); }
ssize_t readlinkat(int dir, const char *path, char *buf, size_t size) { RS_CALL(readlinkat, dir, RS(path), buf, size); }
ssize_t __readlink_chk(const char *path, char *buf, size_t size, size_t room);
ssize_t __readlink_chk(const char *path, char *buf, size_t size, size_t room)
{
	RS_CALL(__readlink_chk, RS(path), buf, size, room);
}

/* The answer is a path again, which the program may open or compare: it gets the name it knows. */
static char *restored(const char *asked, char *answer)
{
	if (answer && rs_is_ours(asked))
		rs_restore(answer);
	return answer;
}

char *realpath(const char *path, char *buf)
{
	char rs_buf[RS_PATH_MAX];
	return restored(path, RS_NEXT(realpath)(RS(path), buf));
}

char *canonicalize_file_name(const char *path)
{
	char rs_buf[RS_PATH_MAX];
	return restored(path, RS_NEXT(canonicalize_file_name)(RS(path)));
}

char *__realpath_chk(const char *path, char *buf, size_t room);
char *__realpath_chk(const char *path, char *buf, size_t room)
{
	char rs_buf[RS_PATH_MAX];
	return restored(path, RS_NEXT(__realpath_chk)(RS(path), buf, room));
}

/* ls -l looks for access lists. */
ssize_t getxattr(const char *path, const char *name, void *value, size_t size) { RS_CALL(getxattr, RS(path), name, value, size); }
ssize_t lgetxattr(const char *path, const char *name, void *value, size_t size) { RS_CALL(lgetxattr, RS(path), name, value, size); }
ssize_t listxattr(const char *path, char *list, size_t size) { RS_CALL(listxattr, RS(path), list, size); }
ssize_t llistxattr(const char *path, char *list, size_t size) { RS_CALL(llistxattr, RS(path), list, size); }
