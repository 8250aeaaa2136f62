/*
 * attend.c - rdmakit-attend: what socket-run leaves behind while a program runs that is to be reported on, and what looks at the arena for
 * `socket-run ps`. A program of its own, because a JavaScript runtime would cost the program memory and CPU time, and cannot see who
 * sent a signal.
 *
 *   rdmakit-attend ps
 *   rdmakit-attend run WANTED NSET SET... NTHEN THEN... PATH ARGV...
 */
#include "attend.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Takes a counted list off the arguments; NULL when they are too few. The word after it is kept in `next`. */
static char **take_list(char ***next)
{
	char *end, **list = *next;
	unsigned long n = *list ? strtoul(*list, &end, 10) : 0;
	if (!*list || *end)
		return NULL;
	for (unsigned long i = 0; i <= n; i++)
		if (!list[i])
			return NULL;
	/* The count's place is given up, so that the list can end in NULL. */
	memmove(list, list + 1, n * sizeof *list);
	list[n] = NULL;
	*next = list + n + 1;
	return list;
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "ps"))
		return attend_list();
	if (argc > 3 && !strcmp(argv[1], "run")) {
		struct attend_run run = { .wanted = (uint32_t)strtoul(argv[2], NULL, 10) };
		char **next = argv + 3;
		if ((run.set = take_list(&next)) && (run.then = take_list(&next)) && run.then[0] && next[0] && next[1]) {
			run.path = next[0];
			run.argv = next + 1;
			return attend_run(&run);
		}
	}
	fprintf(stderr, "rdmakit-attend: started by rdmakit socket-run; not to be started by hand\n");
	return 2;
}
