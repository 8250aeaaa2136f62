/* cqe.c - the engine's end of a completion queue. */
#include <unistd.h>
#include "../core.h"
#include "channel.h"

static void raise(struct sr_cq *cq, const struct ibv_wc *wc, bool solicited)
{
	if (cq->armed && (cq->armed == 2 || solicited || wc->status != IBV_WC_SUCCESS)) {
		cq->armed = 0;
		cq->notified = atomic_load_explicit(&cq->head, memory_order_relaxed);
		sr_channel_raise(cq);
	}
}

void sr_cq_push(struct sr_cq *cq, const struct ibv_wc *wc, bool solicited)
{
	uint32_t head = atomic_load_explicit(&cq->head, memory_order_relaxed);
	uint32_t tail = atomic_load_explicit(&cq->tail, memory_order_acquire);
	if (cq == sr.sink.cq && head == tail && sr.sink.count < sr.sink.room) {
		sr.sink.wc[sr.sink.count++] = *wc;
		raise(cq, wc, solicited);
		return;
	}
	if (head - tail > cq->mask) {
		if (!cq->overrun) {
			cq->overrun = true;
			sr_async_event(cq->cq.context, IBV_EVENT_CQ_ERR, &cq->cq, 0);
		}
		return;
	}
	struct sr_cqe *e = &cq->ring[head & cq->mask];
	e->wc = *wc;
	if (cq->timestamps)
		e->timestamp_ns = sr_now_ns();
	atomic_store_explicit(&cq->head, head + 1, memory_order_release);
	raise(cq, wc, solicited);
}

void sr_cq_clean(struct sr_cq *cq, uint32_t qpn)
{
	pthread_spin_lock(&cq->lock);
	uint32_t head = atomic_load(&cq->head), kept = head;
	/* Backwards, so that what stays keeps its order and the head its place. */
	for (uint32_t i = head, tail = atomic_load(&cq->tail); i != tail;) {
		struct sr_cqe *e = &cq->ring[--i & cq->mask];
		if (e->wc.qp_num != qpn)
			cq->ring[--kept & cq->mask] = *e;
	}
	atomic_store(&cq->tail, kept);
	pthread_spin_unlock(&cq->lock);
}
