/*
 * unsupported.c - the one answer of every rsocket call: ENOSYS, and an explanation for who asks for it.
 */
#include "unsupported.h"
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

int sr_cm_unsupported(const char *what)
{
	static atomic_flag said = ATOMIC_FLAG_INIT;
	const char *debug = getenv("RDMAKIT_DEBUG");
	if (debug && *debug && !atomic_flag_test_and_set(&said))
		fprintf(stderr,
			"rdmakit: %s: the embedded device has no rsockets. Run the program's ordinary sockets under "
			"`rdmakit socket-run` instead.\n",
			what);
	errno = ENOSYS;
	return -1;
}
