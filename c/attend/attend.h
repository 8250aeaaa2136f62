/* attend.h - the parts of rdmakit-attend. */
#ifndef ATTEND_H
#define ATTEND_H

#include "../vsocket/book.h"
#include <signal.h>
#include <sys/types.h>

/* A program to run, and what to become afterwards. */
struct attend_run {
	uint32_t wanted; /* enum vs_watched */
	char **set;	 /* NAME=VALUE for the program's environment, NULL at the end */
	char **then;	 /* path and arguments of what follows, NULL at the end */
	char *path, **argv;
};

/* Runs the program, attends to it and all that it starts, and becomes `then` with VS_ATTEND_ENDED set. Returns an exit status only when
 * the program could not be started. */
int attend_run(const struct attend_run *run);
/* "DESCRIPTOR:STATUS": the book, and what waitpid() said of the program. */
#define VS_ATTEND_ENDED "RDMAKIT_SOCKET_ENDED"

/* Makes the book of a run and sets vs_book; returns its descriptor or -1. */
int attend_make_book(uint32_t wanted);
/* Writes down what the living connections have come to, so that little is lost when their processes are killed. */
void attend_refresh(void);
/* All processes have ended: what is still open was left by one that was killed. */
void attend_conclude(void);

/* Prints the connections of the user's arena on standard output, as a book with as many rows as there are. Returns an exit status. */
int attend_list(void);

#endif
