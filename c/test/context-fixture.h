/*
 * context-fixture.h - a context without an engine behind it: enough for events, nothing more.
 */
#ifndef TEST_CONTEXT_FIXTURE_H
#define TEST_CONTEXT_FIXTURE_H
#include "softrdma/core.h"

/* Fills in a zeroed context; its eventfd blocks. 0 or errno. */
int bare_context_open(struct sr_context *c);
void bare_context_close(struct sr_context *c);
/* Makes ibv_get_async_event() return EAGAIN instead of waiting. */
void bare_context_nonblocking(struct sr_context *c);
/* Is an event announced? */
int bare_context_readable(struct sr_context *c);
#endif
