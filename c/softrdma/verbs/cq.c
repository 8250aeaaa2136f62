/* cq.c - completion queues and the classic way of polling them. */
#define _GNU_SOURCE
#include "cq.h"
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include "../device/limits.h"
#include "../engine/channel.h"
#include "../engine/guard.h"
#include "../engine/lock.h"

static uint32_t ring_size(int cqe)
{
	uint32_t n = 1;
	while (n < (uint32_t)cqe)
		n <<= 1;
	return n;
}

struct sr_cq *sr_cq_create(struct ibv_context *ctx, int cqe, void *context, struct ibv_comp_channel *channel, int vector)
{
	static _Atomic uint32_t last_id;
	if (cqe < 1 || cqe > SR_LIMIT_CQE || vector < 0 || vector >= ctx->num_comp_vectors) {
		errno = EINVAL;
		return NULL;
	}
	struct sr_cq *cq = calloc(1, sizeof *cq);
	uint32_t n = ring_size(cqe);
	if (!cq || !(cq->ring = calloc(n, sizeof *cq->ring))) {
		free(cq);
		errno = ENOMEM;
		return NULL;
	}
	cq->mask = n - 1;
	cq->cq.context = ctx;
	cq->cq.channel = channel;
	cq->cq.cq_context = context;
	cq->cq.cqe = (int)n;
	cq->id = atomic_fetch_add(&last_id, 1) + 1;
	cq->cq.handle = cq->id;
	pthread_mutex_init(&cq->cq.mutex, NULL);
	pthread_cond_init(&cq->cq.cond, NULL);
	pthread_spin_init(&cq->lock, PTHREAD_PROCESS_PRIVATE);
	sr_list_init(&cq->channel_node);
	if (channel) {
		struct sr_channel *ch = (struct sr_channel *)channel;
		pthread_mutex_lock(&ch->lock);
		channel->refcnt++;
		pthread_mutex_unlock(&ch->lock);
	}
	atomic_fetch_add(&sr_ctx(ctx)->objects, 1);
	return cq;
}

struct ibv_cq *ibv_create_cq(struct ibv_context *ctx, int cqe, void *context, struct ibv_comp_channel *channel, int vector)
{
	struct sr_cq *cq = sr_cq_create(ctx, cqe, context, channel, vector);
	return cq ? &cq->cq : NULL;
}

int ibv_destroy_cq(struct ibv_cq *ibcq)
{
	struct sr_cq *cq = sr_cq(ibcq);
	if (atomic_load(&cq->users))
		return EBUSY;
	if (ibcq->channel) {
		struct sr_channel *ch = (struct sr_channel *)ibcq->channel;
		sr_channel_forget(cq);
		pthread_mutex_lock(&ibcq->mutex);
		while (ibcq->comp_events_completed != cq->events_delivered)
			pthread_cond_wait(&ibcq->cond, &ibcq->mutex);
		pthread_mutex_unlock(&ibcq->mutex);
		pthread_mutex_lock(&ch->lock);
		ibcq->channel->refcnt--;
		pthread_mutex_unlock(&ch->lock);
	}
	sr_async_forget(ibcq->context, ibcq, &ibcq->mutex, &ibcq->cond, &ibcq->async_events_completed);
	atomic_fetch_sub(&sr_ctx(ibcq->context)->objects, 1);
	pthread_spin_destroy(&cq->lock);
	free(cq->ring);
	free(cq);
	return 0;
}

int ibv_resize_cq(struct ibv_cq *ibcq, int cqe)
{
	struct sr_cq *cq = sr_cq(ibcq);
	if (cqe < 1 || cqe > SR_LIMIT_CQE)
		return EINVAL;
	uint32_t n = ring_size(cqe);
	struct sr_cqe *ring = calloc(n, sizeof *ring), *old = ring;
	if (!ring)
		return ENOMEM;
	sr_lock();
	pthread_spin_lock(&cq->lock);
	uint32_t head = atomic_load(&cq->head), tail = atomic_load(&cq->tail);
	int err = head - tail > n ? EINVAL : 0; /* what is in it must fit */
	if (!err) {
		for (uint32_t i = tail; i != head; i++)
			ring[i & (n - 1)] = cq->ring[i & cq->mask];
		old = cq->ring;
		cq->ring = ring;
		cq->mask = n - 1;
		ibcq->cqe = (int)n;
	}
	pthread_spin_unlock(&cq->lock);
	sr_unlock();
	free(old);
	return err;
}

int sr_modify_cq(struct ibv_cq *cq, struct ibv_modify_cq_attr *attr)
{
	(void)cq;
	return attr->attr_mask & ~(uint32_t)IBV_CQ_ATTR_MODERATE ? EINVAL : 0; /* events are never held back: any moderation is met */
}

static int take(struct sr_cq *cq, int num, struct ibv_wc *wc)
{
	uint32_t tail = atomic_load_explicit(&cq->tail, memory_order_relaxed);
	uint32_t head = atomic_load_explicit(&cq->head, memory_order_acquire);
	int n = 0;
	if (head == tail)
		return 0;
	pthread_spin_lock(&cq->lock);
	tail = atomic_load_explicit(&cq->tail, memory_order_relaxed);
	while (n < num && tail != head) {
		wc[n++] = cq->ring[tail++ & cq->mask].wc;
		if (tail == head)
			head = atomic_load_explicit(&cq->head, memory_order_acquire);
	}
	atomic_store_explicit(&cq->tail, tail, memory_order_release);
	pthread_spin_unlock(&cq->lock);
	return n;
}

bool sr_cq_progress(struct sr_cq *cq)
{
	if (sr_trylock()) {
		sr_guard_this_thread();
		sr_progress_locked(true);
		sr_unlock();
	} else {
		sr_lock_want(); /* whoever holds it makes the progress */
		sr_cpu_relax();
	}
	return atomic_load_explicit(&cq->head, memory_order_relaxed) != atomic_load_explicit(&cq->tail, memory_order_relaxed);
}

/* A poller that has waited for long lets others run now and then: with more pollers than cores the one it waits for may be
 * among them. On a core of its own this costs one short system call in 64 polls, and only when nothing happens. */
#define YIELD_AFTER 4096u
#define YIELD_EVERY 64u
#define WIRE_WAIT_NS 50000
#define WIRE_SLEEP_AFTER_NS 50000 /* some round trips; whoever it waits for may be waiting for this core */

/* Another host's answer that has not come for so long will not come within the microsecond that sleeping costs. A poller that
 * sleeps keeps its claim on the CPU for the moment when the packet arrives. */
static void wait_for_packets(void)
{
	struct pollfd packets[SR_WIRE_FDS] = { 0 };
	int fds[SR_WIRE_FDS], n = sr_wire_fds(fds);
	for (int i = 0; i < n; i++)
		packets[i] = (struct pollfd){ .fd = fds[i], .events = POLLIN };
	ppoll(packets, (nfds_t)n, &(struct timespec){ .tv_nsec = WIRE_WAIT_NS }, NULL);
}

static void be_patient(struct sr_cq *cq)
{
	uint32_t n = atomic_load_explicit(&cq->empty_polls, memory_order_relaxed) + 1;
	atomic_store_explicit(&cq->empty_polls, n, memory_order_relaxed);
	if (sr.wire_connected) {
		/* Not by this CQ's luck: another one of the program's may be the busy one. */
		if (sr_wire_quiet_ns() > WIRE_SLEEP_AFTER_NS)
			wait_for_packets();
	} else if (n > YIELD_AFTER && n % YIELD_EVERY == 0) {
		sched_yield();
	}
}

static inline int poll_queue(struct ibv_cq *ibcq, int num, struct ibv_wc *wc, bool patient)
{
	struct sr_cq *cq = sr_cq(ibcq);
	int n = take(cq, num, wc);
	if (n || num <= 0)
		return n;
	if (cq->overrun)
		return -EINVAL;
	if (!sr_trylock()) {
		sr_lock_want(); /* whoever holds it makes the progress */
		sr_cpu_relax();
		if (patient)
			be_patient(cq);
		return 0;
	}
	sr_guard_this_thread();
	sr.sink = (struct sr_sink){ cq, wc, num, 0 };
	sr_progress_locked(true);
	n = sr.sink.count;
	sr.sink.cq = NULL;
	sr_unlock();
	if (n)
		atomic_store_explicit(&cq->empty_polls, 0, memory_order_relaxed);
	else if (patient)
		be_patient(cq);
	return n;
}

int sr_poll_cq(struct ibv_cq *ibcq, int num, struct ibv_wc *wc) { return poll_queue(ibcq, num, wc, true); }

/* As ibv_poll_cq(), but never sleeps, however long nothing has come: for programs that wait for other things too. */
int rdmakit_poll_cq_now(struct ibv_cq *cq, int num, struct ibv_wc *wc);
int rdmakit_poll_cq_now(struct ibv_cq *cq, int num, struct ibv_wc *wc) { return poll_queue(cq, num, wc, false); }

int sr_req_notify_cq(struct ibv_cq *ibcq, int solicited_only)
{
	struct sr_cq *cq = sr_cq(ibcq);
	sr_lock();
	/* Adapters arm with the consumer's position: completions that it has neither polled nor been told of raise the event at once.
	 * Programs rely on both: perftest's bandwidth tools take at most 16 completions an event, so several waiting ones are told
	 * of again; its latency tools arm before they poll the one they were woken for, and expect no second event for it. */
	uint32_t head = atomic_load(&cq->head), waiting = head - atomic_load(&cq->tail);
	if (!solicited_only && cq->cq.channel && waiting > 0 && (head != cq->notified || waiting > 1)) {
		cq->armed = 0;
		cq->notified = head;
		sr_channel_raise(cq);
	} else if (!solicited_only) {
		cq->armed = 2;
	} else if (!cq->armed) {
		cq->armed = 1;
	}
	if (cq->cq.channel)
		sr_helper_expect_sleep();
	sr_unlock();
	return 0;
}
