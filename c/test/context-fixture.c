/* context-fixture.c - see context-fixture.h. */
#include "context-fixture.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "softrdma/device/context.h"

int bare_context_open(struct sr_context *c)
{
	c->events_fd = eventfd(0, EFD_SEMAPHORE | EFD_CLOEXEC);
	c->vctx.context.async_fd = c->events_fd;
	sr_list_init(&c->events);
	return c->events_fd < 0 ? errno : pthread_mutex_init(&c->events_lock, NULL);
}

void bare_context_close(struct sr_context *c)
{
	sr_async_discard(c);
	close(c->events_fd);
	pthread_mutex_destroy(&c->events_lock);
}

void bare_context_nonblocking(struct sr_context *c)
{
	fcntl(c->events_fd, F_SETFL, fcntl(c->events_fd, F_GETFL) | O_NONBLOCK);
}

int bare_context_readable(struct sr_context *c)
{
	struct pollfd p = { .fd = c->vctx.context.async_fd, .events = POLLIN };
	return poll(&p, 1, 0) == 1;
}
