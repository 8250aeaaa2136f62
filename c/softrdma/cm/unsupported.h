/* unsupported.h - how an rsocket call, which this library does not implement, fails. */
#ifndef SR_CM_UNSUPPORTED_H
#define SR_CM_UNSUPPORTED_H

/* Sets errno to ENOSYS and returns -1. With RDMAKIT_DEBUG in the environment it says once on stderr what was called. */
int sr_cm_unsupported(const char *what);
#endif
