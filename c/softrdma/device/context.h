/* context.h - what context.c needs of its neighbours in device/. */
#ifndef SR_CONTEXT_H
#define SR_CONTEXT_H
#include "../core.h"

/* async.c: frees the events nobody fetched. */
void sr_async_discard(struct sr_context *c);
#endif
