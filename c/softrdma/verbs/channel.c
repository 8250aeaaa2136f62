/* channel.c - completion channels. The descriptor is a semaphore eventfd: one readable unit an event, so poll, epoll and
 * O_NONBLOCK work on it as on the kernel's. */
#include "../engine/channel.h"
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct ibv_comp_channel *ibv_create_comp_channel(struct ibv_context *ctx)
{
	struct sr_channel *ch = calloc(1, sizeof *ch);
	if (!ch)
		return NULL;
	ch->channel.context = ctx;
	ch->channel.fd = eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE);
	if (ch->channel.fd < 0) {
		free(ch);
		return NULL;
	}
	pthread_mutex_init(&ch->lock, NULL);
	sr_list_init(&ch->ready);
	atomic_fetch_add(&sr_ctx(ctx)->objects, 1);
	return &ch->channel;
}

int ibv_destroy_comp_channel(struct ibv_comp_channel *channel)
{
	struct sr_channel *ch = (struct sr_channel *)channel;
	pthread_mutex_lock(&ch->lock);
	int busy = channel->refcnt;
	pthread_mutex_unlock(&ch->lock);
	if (busy)
		return EBUSY;
	atomic_fetch_sub(&sr_ctx(channel->context)->objects, 1);
	close(channel->fd);
	pthread_mutex_destroy(&ch->lock);
	free(ch);
	return 0;
}

void sr_channel_raise(struct sr_cq *cq)
{
	struct sr_channel *ch = (struct sr_channel *)cq->cq.channel;
	uint64_t one = 1;
	if (!ch)
		return;
	pthread_mutex_lock(&ch->lock);
	cq->events_pending++;
	if (sr_list_empty(&cq->channel_node))
		sr_list_add_tail(&ch->ready, &cq->channel_node);
	pthread_mutex_unlock(&ch->lock);
	while (write(ch->channel.fd, &one, sizeof one) < 0 && errno == EINTR)
		;
}

void sr_channel_forget(struct sr_cq *cq)
{
	struct sr_channel *ch = (struct sr_channel *)cq->cq.channel;
	uint64_t unit;
	pthread_mutex_lock(&ch->lock);
	uint32_t unread = cq->events_pending;
	cq->events_pending = 0;
	sr_list_del(&cq->channel_node);
	pthread_mutex_unlock(&ch->lock);
	while (unread--) {
		struct pollfd p = { .fd = ch->channel.fd, .events = POLLIN };
		if (poll(&p, 1, 0) != 1 || read(ch->channel.fd, &unit, sizeof unit) < 0)
			break;
	}
}

int ibv_get_cq_event(struct ibv_comp_channel *channel, struct ibv_cq **cq, void **cq_context)
{
	struct sr_channel *ch = (struct sr_channel *)channel;
	for (;;) {
		uint64_t unit;
		if (read(channel->fd, &unit, sizeof unit) < 0) /* blocks unless the application made it non-blocking */
			return -1;
		pthread_mutex_lock(&ch->lock);
		if (!sr_list_empty(&ch->ready)) {
			struct sr_cq *c = sr_list_entry(ch->ready.next, struct sr_cq, channel_node);
			c->events_pending--;
			c->events_delivered++;
			sr_list_del(&c->channel_node);
			if (c->events_pending)
				sr_list_add_tail(&ch->ready, &c->channel_node);
			pthread_mutex_unlock(&ch->lock);
			*cq = &c->cq;
			*cq_context = c->cq.cq_context;
			return 0;
		}
		pthread_mutex_unlock(&ch->lock); /* its CQ was destroyed in between */
	}
}

void ibv_ack_cq_events(struct ibv_cq *cq, unsigned int nevents)
{
	pthread_mutex_lock(&cq->mutex);
	cq->comp_events_completed += nevents;
	pthread_cond_signal(&cq->cond);
	pthread_mutex_unlock(&cq->mutex);
}
