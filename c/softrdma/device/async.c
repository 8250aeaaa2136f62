/*
 * async.c - asynchronous events of a context: queued here, announced by an eventfd the application may poll, fetched with
 * ibv_get_async_event() and acknowledged with ibv_ack_async_event().
 *
 * Destroying an object waits until each of its fetched events was acknowledged, because the application may still hold the
 * object's address in one; events not yet fetched are dropped. So a fetched event about an object is kept in a table
 * until its acknowledgement.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <infiniband/verbs.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>
#include "context.h"

struct event {
	struct sr_list node; /* in the context's queue, then in a bucket of `fetched` */
	struct ibv_async_event ev;
	void *object;	     /* NULL: about a port */
};

#define BUCKETS 64
static pthread_mutex_t fetched_lock = PTHREAD_MUTEX_INITIALIZER;
static struct sr_list fetched[BUCKETS]; /* zeroed heads are empty ones not used yet */

static struct sr_list *bucket(const void *object)
{
	struct sr_list *b = &fetched[((uintptr_t)object >> 6) % BUCKETS];
	if (!b->next)
		sr_list_init(b);
	return b;
}

/* The oldest fetched event about the object, or NULL. Under fetched_lock. */
static struct event *find_fetched(const void *object)
{
	struct sr_list *b = bucket(object);
	sr_list_for(n, next, b) {
		struct event *e = sr_list_entry(n, struct event, node);
		if (e->object == object)
			return e;
	}
	return NULL;
}

/* A port event that nobody fetched yet says all that a second one would. */
static bool already_queued(struct sr_context *c, enum ibv_event_type type, int port)
{
	sr_list_for(n, next, &c->events) {
		struct event *e = sr_list_entry(n, struct event, node);
		if (!e->object && e->ev.event_type == type && e->ev.element.port_num == port)
			return true;
	}
	return false;
}

/* Every element of the union is a pointer or a port number, so the type does not matter when it is set. */
void sr_async_event(struct ibv_context *ctx, enum ibv_event_type type, void *element, int port)
{
	struct sr_context *c = sr_ctx(ctx);
	struct event *e = calloc(1, sizeof(*e));
	uint64_t one = 1;
	if (!e)
		return; /* as on hardware whose event queue is full */
	e->ev.event_type = type;
	e->object = element;
	if (element)
		e->ev.element.qp = element;
	else
		e->ev.element.port_num = port;
	pthread_mutex_lock(&c->events_lock);
	if (!element && already_queued(c, type, port)) {
		/* ERR after ACTIVE after ERR must end in the right state: the latest goes last. */
		sr_list_for(n, next, &c->events) {
			struct event *old = sr_list_entry(n, struct event, node);
			if (!old->object && old->ev.event_type == type && old->ev.element.port_num == port) {
				sr_list_del(&old->node);
				sr_list_add_tail(&c->events, &old->node);
				break;
			}
		}
		free(e);
	} else {
		sr_list_add_tail(&c->events, &e->node);
		while (write(c->events_fd, &one, sizeof(one)) < 0 && errno == EINTR)
			;
	}
	pthread_mutex_unlock(&c->events_lock);
}

/* Waits for the next event (or fails with EAGAIN when the application made async_fd non-blocking). Returns 0, or -1 and
 * errno. The event must be acknowledged. */
int ibv_get_async_event(struct ibv_context *context, struct ibv_async_event *event)
{
	struct sr_context *c = sr_ctx(context);
	for (;;) {
		uint64_t n;
		if (read(c->events_fd, &n, sizeof(n)) != sizeof(n))
			return -1;
		pthread_mutex_lock(&c->events_lock);
		if (sr_list_empty(&c->events)) { /* its object was destroyed between our read and here */
			pthread_mutex_unlock(&c->events_lock);
			continue;
		}
		struct event *e = sr_list_entry(c->events.next, struct event, node);
		sr_list_del(&e->node);
		*event = e->ev;
		if (e->object) {
			pthread_mutex_lock(&fetched_lock);
			sr_list_add_tail(bucket(e->object), &e->node);
			pthread_mutex_unlock(&fetched_lock);
			e = NULL;
		}
		pthread_mutex_unlock(&c->events_lock);
		free(e);
		return 0;
	}
}

static void acknowledge(void *object, pthread_mutex_t *mutex, pthread_cond_t *cond, uint32_t *completed)
{
	/* All under the object's mutex: once it is released without a fetched event, the object may be freed. */
	pthread_mutex_lock(mutex);
	pthread_mutex_lock(&fetched_lock);
	struct event *e = find_fetched(object);
	if (e)
		sr_list_del(&e->node);
	pthread_mutex_unlock(&fetched_lock);
	(*completed)++;
	pthread_cond_broadcast(cond);
	pthread_mutex_unlock(mutex);
	free(e);
}

/* Acknowledges a fetched event; afterwards the object it is about may be destroyed. */
void ibv_ack_async_event(struct ibv_async_event *event)
{
	switch (event->event_type) {
	case IBV_EVENT_CQ_ERR: {
		struct ibv_cq *cq = event->element.cq;
		acknowledge(cq, &cq->mutex, &cq->cond, &cq->async_events_completed);
		return;
	}
	case IBV_EVENT_QP_FATAL:
	case IBV_EVENT_QP_REQ_ERR:
	case IBV_EVENT_QP_ACCESS_ERR:
	case IBV_EVENT_COMM_EST:
	case IBV_EVENT_SQ_DRAINED:
	case IBV_EVENT_PATH_MIG:
	case IBV_EVENT_PATH_MIG_ERR:
	case IBV_EVENT_QP_LAST_WQE_REACHED: {
		struct ibv_qp *qp = event->element.qp;
		acknowledge(qp, &qp->mutex, &qp->cond, &qp->events_completed);
		return;
	}
	case IBV_EVENT_SRQ_ERR:
	case IBV_EVENT_SRQ_LIMIT_REACHED: {
		struct ibv_srq *srq = event->element.srq;
		acknowledge(srq, &srq->mutex, &srq->cond, &srq->events_completed);
		return;
	}
	default:
		return; /* about the port or the device: nothing can be destroyed under the reader's feet */
	}
}

/* Drops the object's queued events and waits until the fetched ones were acknowledged. The object must be unable to raise
 * new ones. `completed` is the object's count of acknowledgements; it is only raised, by ibv_ack_async_event(). */
void sr_async_forget(struct ibv_context *ctx, void *element, pthread_mutex_t *mutex, pthread_cond_t *cond,
		     uint32_t *completed)
{
	struct sr_context *c = sr_ctx(ctx);
	(void)completed;
	pthread_mutex_lock(&c->events_lock);
	sr_list_for(n, next, &c->events) {
		struct event *e = sr_list_entry(n, struct event, node);
		if (e->object != element)
			continue;
		uint64_t token;
		struct iovec iov = { &token, sizeof(token) };
		sr_list_del(&e->node);
		free(e);
		/* Take back its announcement. It may have been read already by a thread that will find the queue empty; then
		 * there is nothing to take, and waiting for it would take another's. */
		(void)!preadv2(c->events_fd, &iov, 1, -1, RWF_NOWAIT);
	}
	pthread_mutex_unlock(&c->events_lock);

	pthread_mutex_lock(mutex);
	for (;;) {
		pthread_mutex_lock(&fetched_lock);
		bool waits = find_fetched(element) != NULL;
		pthread_mutex_unlock(&fetched_lock);
		if (!waits)
			break;
		pthread_cond_wait(cond, mutex);
	}
	pthread_mutex_unlock(mutex);
}

/* For closing a context: frees what was never fetched. */
void sr_async_discard(struct sr_context *c)
{
	sr_list_for(n, next, &c->events)
		free(sr_list_entry(n, struct event, node));
	sr_list_init(&c->events);
}
