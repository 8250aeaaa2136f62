/* folder.c - listing folders and going into them. */
#define _GNU_SOURCE
#include <dirent.h>
#include <unistd.h>
#include "rewrite.h"

DIR *opendir(const char *path) { RS_CALL(opendir, RS(path)); }

int scandir(const char *path, struct dirent ***list, int (*filter)(const struct dirent *),
	    int (*compare)(const struct dirent **, const struct dirent **))
{
	RS_CALL(scandir, RS(path), list, filter, compare);
}

int scandir64(const char *path, struct dirent64 ***list, int (*filter)(const struct dirent64 *),
	      int (*compare)(const struct dirent64 **, const struct dirent64 **))
{
	RS_CALL(scandir64, RS(path), list, filter, compare);
}

int chdir(const char *path) { RS_CALL(chdir, RS(path)); }
