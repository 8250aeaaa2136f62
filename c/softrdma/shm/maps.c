/* maps.c - see maps.h. */
#define _GNU_SOURCE
#include "maps.h"
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static uint64_t number(const char **p, int base)
{
	char *end;
	uint64_t v = strtoull(*p, &end, base);
	*p = *end ? end + 1 : end;
	return v;
}

/* start-end perms offset major:minor inode   name */
static void parse(const char *line, struct sr_map *m)
{
	memset(m, 0, sizeof *m);
	m->start = number(&line, 16);
	m->end = number(&line, 16);
	m->r = line[0] == 'r';
	m->w = line[1] == 'w';
	m->shared = line[3] == 's';
	line += 5;
	m->offset = number(&line, 16);
	unsigned major = (unsigned)number(&line, 16), minor = (unsigned)number(&line, 16);
	m->dev = makedev(major, minor);
	m->ino = number(&line, 10);
	line += strspn(line, " ");
	m->anonymous = m->ino == 0 && (!*line || !strcmp(line, "[heap]") || !strncmp(line, "[anon:", 6));
}

int sr_maps_each(bool (*cb)(void *arg, const struct sr_map *m), void *arg)
{
	char buf[8192];
	size_t have = 0;
	int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	for (;;) {
		ssize_t n = read(fd, buf + have, sizeof buf - 1 - have);
		if (n <= 0)
			break;
		have += (size_t)n;
		buf[have] = 0;
		char *line = buf, *nl;
		while ((nl = strchr(line, '\n'))) {
			struct sr_map m;
			*nl = 0;
			parse(line, &m);
			if (!cb(arg, &m)) {
				close(fd);
				return 0;
			}
			line = nl + 1;
		}
		have -= (size_t)(line - buf);
		memmove(buf, line, have);
		if (have == sizeof buf - 1)
			have = 0; /* a path longer than the buffer: drop the pieces, its numbers were read with the first */
	}
	close(fd);
	return 0;
}
