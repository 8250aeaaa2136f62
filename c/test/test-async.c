/*
 * Asynchronous events: order, announcement by the descriptor, and that destroying waits for acknowledgements.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include "context-fixture.h"

static struct sr_context ctx;
static struct ibv_qp qp_a, qp_b;

static int setup(void **state)
{
	(void)state;
	memset(&ctx, 0, sizeof(ctx));
	struct ibv_qp *all[] = { &qp_a, &qp_b };
	for (int i = 0; i < 2; i++) {
		memset(all[i], 0, sizeof(*all[i]));
		all[i]->context = &ctx.vctx.context;
		pthread_mutex_init(&all[i]->mutex, NULL);
		pthread_cond_init(&all[i]->cond, NULL);
	}
	return bare_context_open(&ctx);
}

static int teardown(void **state)
{
	(void)state;
	bare_context_close(&ctx);
	return 0;
}

static void forget(struct ibv_qp *qp)
{
	sr_async_forget(&ctx.vctx.context, qp, &qp->mutex, &qp->cond, &qp->events_completed);
}

static void events_come_in_order(void **state)
{
	struct ibv_async_event ev;
	(void)state;
	assert_false(bare_context_readable(&ctx));
	sr_async_event(&ctx.vctx.context, IBV_EVENT_COMM_EST, &qp_a, 0);
	sr_async_event(&ctx.vctx.context, IBV_EVENT_PORT_ERR, NULL, 1);
	sr_async_event(&ctx.vctx.context, IBV_EVENT_QP_FATAL, &qp_b, 0);
	assert_true(bare_context_readable(&ctx));

	assert_int_equal(ibv_get_async_event(&ctx.vctx.context, &ev), 0);
	assert_int_equal(ev.event_type, IBV_EVENT_COMM_EST);
	assert_ptr_equal(ev.element.qp, &qp_a);
	ibv_ack_async_event(&ev);
	assert_int_equal(qp_a.events_completed, 1);

	assert_int_equal(ibv_get_async_event(&ctx.vctx.context, &ev), 0);
	assert_int_equal(ev.event_type, IBV_EVENT_PORT_ERR);
	assert_int_equal(ev.element.port_num, 1);
	ibv_ack_async_event(&ev);

	assert_int_equal(ibv_get_async_event(&ctx.vctx.context, &ev), 0);
	assert_ptr_equal(ev.element.qp, &qp_b);
	ibv_ack_async_event(&ev);
	assert_false(bare_context_readable(&ctx));
	forget(&qp_a);
	forget(&qp_b);
}

static void nothing_to_get_is_eagain_when_nonblocking(void **state)
{
	struct ibv_async_event ev;
	(void)state;
	bare_context_nonblocking(&ctx);
	errno = 0;
	assert_int_equal(ibv_get_async_event(&ctx.vctx.context, &ev), -1);
	assert_int_equal(errno, EAGAIN);
}

static void forgetting_drops_what_was_not_fetched(void **state)
{
	struct ibv_async_event ev;
	(void)state;
	bare_context_nonblocking(&ctx);
	sr_async_event(&ctx.vctx.context, IBV_EVENT_COMM_EST, &qp_a, 0);
	sr_async_event(&ctx.vctx.context, IBV_EVENT_COMM_EST, &qp_b, 0);
	sr_async_event(&ctx.vctx.context, IBV_EVENT_QP_FATAL, &qp_a, 0);
	forget(&qp_a);
	assert_int_equal(ibv_get_async_event(&ctx.vctx.context, &ev), 0);
	assert_ptr_equal(ev.element.qp, &qp_b);
	ibv_ack_async_event(&ev);
	assert_false(bare_context_readable(&ctx));
	assert_int_equal(ibv_get_async_event(&ctx.vctx.context, &ev), -1);
	assert_int_equal(errno, EAGAIN);
}

static void port_events_are_told_once_and_last_wins(void **state)
{
	struct ibv_async_event ev;
	(void)state;
	bare_context_nonblocking(&ctx);
	for (int i = 0; i < 1000; i++) {
		sr_async_event(&ctx.vctx.context, IBV_EVENT_PORT_ERR, NULL, 1);
		sr_async_event(&ctx.vctx.context, IBV_EVENT_PORT_ACTIVE, NULL, 1);
	}
	assert_int_equal(ibv_get_async_event(&ctx.vctx.context, &ev), 0);
	assert_int_equal(ev.event_type, IBV_EVENT_PORT_ERR);
	assert_int_equal(ibv_get_async_event(&ctx.vctx.context, &ev), 0);
	assert_int_equal(ev.event_type, IBV_EVENT_PORT_ACTIVE);
	assert_false(bare_context_readable(&ctx));
}

static _Atomic int destroyed;

static void *destroyer(void *arg)
{
	(void)arg;
	forget(&qp_a);
	atomic_store(&destroyed, 1);
	return NULL;
}

static void destroying_waits_for_every_acknowledgement(void **state)
{
	struct ibv_async_event ev[2];
	pthread_t t;
	(void)state;
	atomic_store(&destroyed, 0);
	sr_async_event(&ctx.vctx.context, IBV_EVENT_COMM_EST, &qp_a, 0);
	sr_async_event(&ctx.vctx.context, IBV_EVENT_QP_ACCESS_ERR, &qp_a, 0);
	assert_int_equal(ibv_get_async_event(&ctx.vctx.context, &ev[0]), 0);
	assert_int_equal(ibv_get_async_event(&ctx.vctx.context, &ev[1]), 0);
	assert_int_equal(pthread_create(&t, NULL, destroyer, NULL), 0);
	ibv_ack_async_event(&ev[0]);
	/* One event is out: whatever the thread has done so far, it cannot have come to its end. */
	for (int i = 0; i < 100; i++)
		sched_yield();
	assert_int_equal(atomic_load(&destroyed), 0);
	ibv_ack_async_event(&ev[1]);
	assert_int_equal(pthread_join(t, NULL), 0);
	assert_int_equal(atomic_load(&destroyed), 1);
	assert_int_equal(qp_a.events_completed, 2);
}

static void *getter(void *arg)
{
	return (void *)(intptr_t)ibv_get_async_event(&ctx.vctx.context, arg);
}

static void a_waiting_reader_is_woken(void **state)
{
	struct ibv_async_event ev;
	pthread_t t;
	void *rc;
	(void)state;
	assert_int_equal(pthread_create(&t, NULL, getter, &ev), 0);
	/* Events that are dropped again before, while or after it wakes must not end its wait with nothing. */
	for (int i = 0; i < 50; i++) {
		sr_async_event(&ctx.vctx.context, IBV_EVENT_PORT_ACTIVE, NULL, 1);
		pthread_mutex_lock(&ctx.events_lock);
		bool taken = sr_list_empty(&ctx.events);
		pthread_mutex_unlock(&ctx.events_lock);
		if (taken)
			break;
	}
	assert_int_equal(pthread_join(t, &rc), 0);
	assert_null(rc);
	assert_int_equal(ev.event_type, IBV_EVENT_PORT_ACTIVE);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(events_come_in_order),
		TEST(nothing_to_get_is_eagain_when_nonblocking),
		TEST(forgetting_drops_what_was_not_fetched),
		TEST(port_events_are_told_once_and_last_wins),
		TEST(destroying_waits_for_every_acknowledgement),
		TEST(a_waiting_reader_is_woken),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
