/* channel.c - event channels and events. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "cm.h"

/*
 * Programs (rping is one) destroy a channel while another thread of theirs waits in it, or comes to wait in it. The kernel's descriptor
 * allows that: who waits goes on waiting, who comes is told EBADF. So a channel stays in memory while somebody is in it, and whether
 * one lives is asked of this list and not of the memory it was in.
 */
static pthread_mutex_t living_lock = PTHREAD_MUTEX_INITIALIZER;
static struct sr_list living = { &living, &living };

/* False: it was destroyed. Else its memory stays until leave(). */
static bool enter(struct sr_cm_channel *c)
{
	bool found = false;
	pthread_mutex_lock(&living_lock);
	sr_list_for(n, next, &living)
		found |= sr_list_entry(n, struct sr_cm_channel, node) == c;
	if (found)
		c->waiters++;
	pthread_mutex_unlock(&living_lock);
	return found;
}

static void leave(struct sr_cm_channel *c)
{
	pthread_mutex_lock(&living_lock);
	bool last = --c->waiters == 0 && c->dead;
	pthread_mutex_unlock(&living_lock);
	if (last)
		free(c);
}

static bool is_dead(struct sr_cm_channel *c)
{
	pthread_mutex_lock(&living_lock);
	bool dead = c->dead;
	pthread_mutex_unlock(&living_lock);
	return dead;
}

struct sr_cm_channel *sr_cm_channel_new(void)
{
	struct sr_cm_channel *c = calloc(1, sizeof(*c));
	if (!c)
		return NULL;
	c->channel.fd = eventfd(0, EFD_CLOEXEC);
	if (c->channel.fd < 0) {
		free(c);
		return NULL;
	}
	sr_list_init(&c->events);
	pthread_mutex_lock(&living_lock);
	sr_list_add_tail(&living, &c->node);
	pthread_mutex_unlock(&living_lock);
	return c;
}

void sr_cm_channel_free(struct sr_cm_channel *c)
{
	pthread_mutex_lock(&living_lock);
	sr_list_del(&c->node);
	c->dead = true;
	bool last = c->waiters == 0;
	pthread_mutex_unlock(&living_lock);
	close(c->channel.fd);
	if (last)
		free(c);
}

/* A channel whose fd polls readable exactly while events wait; it may be made non-blocking with fcntl(). NULL and errno on
 * failure. Free with rdma_destroy_event_channel(). */
struct rdma_event_channel *rdma_create_event_channel(void)
{
	int err = sr_cm_start();
	if (err) {
		errno = err;
		return NULL;
	}
	struct sr_cm_channel *c = sr_cm_channel_new();
	return c ? &c->channel : NULL;
}

/* All identifiers of the channel must have been destroyed or migrated. */
void rdma_destroy_event_channel(struct rdma_event_channel *channel)
{
	if (channel)
		sr_cm_channel_free(sr_cm_channel(channel));
}

struct sr_cm_event *sr_cm_event_new(struct sr_cm_id *id, enum rdma_cm_event_type type, int status)
{
	struct sr_cm_event *e = calloc(1, sizeof(*e));
	if (!e)
		return NULL;
	e->ev.id = &id->id;
	e->ev.event = type;
	e->ev.status = status;
	e->owner = id;
	sr_list_init(&e->node);
	return e;
}

/* The eventfd's counter is not zero exactly while the list is not empty. */
static void ring(struct sr_cm_channel *c)
{
	uint64_t one = 1;
	if (write(c->channel.fd, &one, sizeof(one)) < 0) {
		/* full: readable */
	}
}

static void unlink_locked(struct sr_cm_channel *c, struct sr_cm_event *e)
{
	uint64_t n;
	sr_list_del(&e->node);
	if (sr_list_empty(&c->events) && read(c->channel.fd, &n, sizeof(n)) < 0) {
		/* never: the counter was not zero */
	}
}

void sr_cm_event_push_locked(struct sr_cm_event *e)
{
	struct sr_cm_channel *c = sr_cm_channel(e->owner->id.channel);
	sr_list_add_tail(&c->events, &e->node);
	ring(c);
}

void sr_cm_post_locked(struct sr_cm_id *id, enum rdma_cm_event_type type, int status)
{
	struct sr_cm_event *e = sr_cm_event_new(id, type, status);
	if (e)
		sr_cm_event_push_locked(e);
}

void sr_cm_events_drop_locked(struct sr_cm_id *id, void (*drop)(struct sr_cm_event *e))
{
	struct sr_cm_channel *c = sr_cm_channel(id->id.channel);
	sr_list_for(n, next, &c->events) {
		struct sr_cm_event *e = sr_list_entry(n, struct sr_cm_event, node);
		if (e->owner != id)
			continue;
		unlink_locked(c, e);
		drop(e);
		free(e);
	}
}

static struct sr_cm_event *take(struct sr_cm_channel *c)
{
	struct sr_cm_event *e = NULL;
	sr_cm_lock();
	if (!sr_list_empty(&c->events)) {
		e = sr_list_entry(c->events.next, struct sr_cm_event, node);
		unlink_locked(c, e);
		e->owner->handed_out++;
		if (e->ev.event == RDMA_CM_EVENT_CONNECT_REQUEST)
			e->owner->waiting--;
	}
	sr_cm_unlock();
	return e;
}

/* What is left to do when the application hears of it, in its own thread. */
static void finish(struct sr_cm_event *e)
{
	switch (e->ev.event) {
	case RDMA_CM_EVENT_CONNECT_REQUEST:
		if (e->owner->sync)
			rdma_migrate_id(e->ev.id, NULL);
		break;
	case RDMA_CM_EVENT_CONNECT_RESPONSE:
		sr_cm_finish_connect(e);
		break;
	case RDMA_CM_EVENT_REJECTED:
		sr_cm_qp_to_error(e->owner);
		break;
	case RDMA_CM_EVENT_MULTICAST_JOIN:
		sr_cm_finish_join(e);
		break;
	default:
		break;
	}
}

/* Until there may be an event. 0 or errno. In a channel that was destroyed meanwhile it waits for ever, or for a signal. */
static int await(struct sr_cm_channel *c)
{
	bool dead = is_dead(c);
	struct pollfd readable = { .fd = dead ? -1 : c->channel.fd, .events = POLLIN };
	int flags = dead ? 0 : fcntl(c->channel.fd, F_GETFL);
	if (flags < 0)
		return is_dead(c) ? 0 : errno;
	if (flags & O_NONBLOCK)
		return EAGAIN;
	return poll(&readable, 1, -1) < 0 ? errno : 0;
}

/* Waits for the next event; with a non-blocking channel fd fails with EAGAIN instead. 0, or -1 and errno (EINTR too). Every event
 * must be acknowledged with rdma_ack_cm_event(). */
int rdma_get_cm_event(struct rdma_event_channel *channel, struct rdma_cm_event **event)
{
	if (!channel || !event)
		return sr_cm_result(EINVAL);
	struct sr_cm_channel *c = sr_cm_channel(channel);
	if (!enter(c))
		return sr_cm_result(EBADF);
	struct sr_cm_event *e;
	int err = 0;
	while (!err && !(e = is_dead(c) ? NULL : take(c)))
		err = await(c);
	leave(c);
	if (err)
		return sr_cm_result(err);
	finish(e);
	*event = &e->ev;
	return 0;
}

/* Frees the event. The identifier can be destroyed once all its events were acknowledged. */
int rdma_ack_cm_event(struct rdma_cm_event *event)
{
	if (!event)
		return sr_cm_result(EINVAL);
	struct sr_cm_event *e = sr_list_entry(event, struct sr_cm_event, ev);
	sr_cm_lock();
	if (e->group)
		sr_cm_acknowledge_join(e->group);
	if (++e->owner->acknowledged == e->owner->handed_out)
		pthread_cond_broadcast(&e->owner->all_acknowledged);
	sr_cm_unlock();
	free(e);
	return 0;
}

int sr_cm_complete(struct sr_cm_id *id)
{
	struct rdma_cm_id *p = &id->id;
	if (!id->sync)
		return 0;
	if (p->event) {
		rdma_ack_cm_event(p->event);
		p->event = NULL;
	}
	if (rdma_get_cm_event(p->channel, &p->event))
		return -1;
	if (!p->event->status)
		return 0;
	if (p->event->event == RDMA_CM_EVENT_REJECTED)
		return sr_cm_result(ECONNREFUSED);
	return sr_cm_result(p->event->status < 0 ? -p->event->status : EPROTO);
}

/* Moves the identifier and its waiting events to another channel; NULL: to one of its own, and its calls become synchronous.
 * Waits until its fetched events were acknowledged. 0, or -1 and errno. */
int rdma_migrate_id(struct rdma_cm_id *p, struct rdma_event_channel *channel)
{
	struct sr_cm_id *id = sr_cm_id(p);
	bool sync = !channel;
	if (sync) {
		struct sr_cm_channel *own = sr_cm_channel_new();
		if (!own)
			return -1;
		channel = &own->channel;
	} else if (id->sync && p->event) {
		rdma_ack_cm_event(p->event);
		p->event = NULL;
	}
	sr_cm_lock();
	while (id->acknowledged != id->handed_out)
		pthread_cond_wait(&id->all_acknowledged, &cm.lock);
	struct sr_cm_channel *old = sr_cm_channel(p->channel);
	p->channel = channel;
	sr_list_for(n, next, &old->events) {
		struct sr_cm_event *e = sr_list_entry(n, struct sr_cm_event, node);
		if (e->owner != id)
			continue;
		unlink_locked(old, e);
		sr_cm_event_push_locked(e);
	}
	bool was_sync = id->sync;
	id->sync = sync;
	sr_cm_unlock();
	if (was_sync)
		sr_cm_channel_free(old);
	return 0;
}
