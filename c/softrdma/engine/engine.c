/* engine.c - the one engine of a process: start-up, what a fork leaves behind, time. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include "../shm/export.h"
#include "../shm/registry.h"
#include "../shm/shm.h"
#include "../wire/gsi.h"
#include "helper.h"
#include "key.h"
#include "lock.h"

struct sr_engine sr = {
	.control = PTHREAD_MUTEX_INITIALIZER,
	.contexts = SR_LIST_INIT(sr.contexts),
	.links = SR_LIST_INIT(sr.links),
	.shm_timers = SR_LIST_INIT(sr.shm_timers),
	.mcast_qps = SR_LIST_INIT(sr.mcast_qps),
	.xrc_targets = SR_LIST_INIT(sr.xrc_targets),
};

uint64_t sr_now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Tables indexed by queue pair and by memory key: address space only, a page becomes real when a row is used. */
static void *table(size_t rows)
{
	void *p = mmap(NULL, rows * sizeof(void *), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return p == MAP_FAILED ? NULL : p;
}

static int copied[2] = { -1, -1 }; /* a pipe whose end says that the child has its copies, or died; under sr.control */

static void fork_prepare(void)
{
	pthread_mutex_lock(&sr.control);
	if (sr.started && sr_export_any() && pipe2(copied, O_CLOEXEC))
		copied[0] = copied[1] = -1;
	sr_lock();
}

/* The child copies what it shares with us; until then this thread must not change it. */
static void fork_parent(void)
{
	char none;
	sr_unlock();
	if (copied[0] >= 0) {
		close(copied[1]);
		while (read(copied[0], &none, 1) < 0 && errno == EINTR)
			;
		close(copied[0]);
		copied[0] = copied[1] = -1;
	}
	pthread_mutex_unlock(&sr.control);
}

/* The parent's objects may still be destroyed by the child; they must not reach for the parent's roads then. */
static void disown_objects(void)
{
	for (unsigned i = 0; i < SR_QP_INDEX_MAX; i++) {
		struct sr_qp *qp = sr.qps[i];
		if (!qp)
			continue;
		qp->ex.qp_base.state = IBV_QPS_ERR;
		qp->road = SR_ROAD_NONE;
		qp->link = NULL;
		qp->wire = NULL;
		sr_list_init(&qp->shm.ack_node);
		sr_list_init(&qp->shm.blocked_node);
		sr_list_init(&qp->shm.timer_node);
		sr_list_init(&qp->shm.link_node);
		sr_list_init(&qp->mcast_node);
		sr_list_init(&qp->xrc_node);
	}
	sr_list_for(n, tmp, &sr.contexts) sr_list_init(n);
	sr.qps = NULL; /* left mapped: a fork is no place to free */
	sr.keys = NULL;
	sr.srqs = NULL;
}

/* The child gets private copies of registered memory and forgets the device: the parent's objects are not its own, but it may
 * open the device anew. Descriptors are closed so that the parent's death can be seen by its peers. */
static void fork_child(void)
{
	if (sr.started) {
		sr_shm_after_fork();
		sr_key_after_fork();
		sr_wire_stop();
		sr_gsi_after_fork();
		sr_helper_after_fork();
		sr.started = false;
		disown_objects();
		sr_list_init(&sr.contexts);
		sr_list_init(&sr.links);
		sr_list_init(&sr.shm_timers);
		sr_list_init(&sr.mcast_qps);
		sr_list_init(&sr.xrc_targets);
		for (int i = 0; i < SR_SLOTS; i++)
			sr.link_by_slot[i] = NULL;
		sr.wire_users = 0;
		sr.wire_connected = 0;
		sr.helper_asleep = false;
	}
	if (copied[0] >= 0) {
		close(copied[0]);
		close(copied[1]);
		copied[0] = copied[1] = -1;
	}
	sr_unlock();
	pthread_mutex_init(&sr.control, NULL);
}

int sr_engine_start(void)
{
	static bool fork_hooked;
	int err = 0;

	pthread_mutex_lock(&sr.control);
	if (sr.started)
		goto out;
	if (!sr.qps)
		sr.qps = table(SR_QP_INDEX_MAX);
	if (!sr.keys)
		sr.keys = table(SR_KEY_INDEX_MAX);
	if (!sr.srqs)
		sr.srqs = table(SR_QP_INDEX_MAX);
	if (!sr.qps || !sr.keys || !sr.srqs) {
		err = ENOMEM;
		goto out;
	}
	err = sr_shm_start();
	if (err)
		goto out;
	/* Another user may hold the port; the device then still serves this host's own processes. */
	sr_wire_start(sr.slot);
	err = sr_helper_start();
	if (err)
		goto out;
	if (!fork_hooked) {
		pthread_atfork(fork_prepare, fork_parent, fork_child);
		fork_hooked = true;
	}
	sr.started = true;
out:
	pthread_mutex_unlock(&sr.control);
	return err;
}

/* A process that ends without closing the device still acknowledges what it received. */
__attribute__((destructor)) static void at_exit(void)
{
	if (!sr.started)
		return;
	sr_lock();
	sr_shm_flush_acks();
	sr_wire_flush_acks();
	sr_unlock();
	sr_registry_leave();
	sr_counters_report();
}

struct sr_qp *sr_qp_find(uint32_t qpn)
{
	struct sr_qp *qp = sr.qps ? sr.qps[sr_qpn_index(qpn)] : NULL;
	return qp && qp->qpn == qpn ? qp : NULL;
}
