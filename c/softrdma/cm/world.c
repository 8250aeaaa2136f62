/* world.c - the process's one state machine, the lock around it, and the thread that feeds it with messages and time. */
#define _GNU_SOURCE
#include <stdatomic.h>
#include <errno.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>
#include "cm.h"

#define BATCH 16

struct sr_cm_world cm = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.ids = SR_LIST_INIT(cm.ids),
	.wake_ns = UINT64_MAX,
	.gsi_fd = -1,
	.wake_fd = -1,
	.netlink_fd = -1,
	.returns_fd = -1,
};

int sr_cm_result(int err)
{
	if (!err)
		return 0;
	errno = err;
	return -1;
}

uint64_t sr_cm_now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void sr_cm_lock(void) { pthread_mutex_lock(&cm.lock); }

void sr_cm_unlock(void)
{
	struct sr_cm_timer *first = sr_cm_timers_first(&cm.machine.timers);
	bool wake = cm.started && first && first->due_ns < cm.wake_ns;
	if (wake) {
		uint64_t one = 1;
		cm.wake_ns = 0;
		if (write(cm.wake_fd, &one, sizeof(one)) < 0) {
			/* the counter is full: it is awake */
		}
	}
	pthread_mutex_unlock(&cm.lock);
}

static int send_mad(void *arg, const struct sr_gsi_path *path, const uint8_t *mad)
{
	(void)arg;
	return rdmakit_gsi_send(path, mad);
}

static uint32_t random32(void *arg)
{
	(void)arg;
	return rdmakit_random32();
}

/* Interfaces come and go; identifiers on one that is gone are told once. */
static void look_for_removed_devices(void)
{
	char buf[8192];
	while (recv(cm.netlink_fd, buf, sizeof(buf), MSG_DONTWAIT) > 0)
		;
	sr_cm_lock();
	sr_list_for(n, next, &cm.ids) {
		struct sr_cm_id *id = sr_list_entry(n, struct sr_cm_id, node);
		struct ibv_context *c = atomic_load_explicit(&id->watched, memory_order_acquire);
		if (id->removed || !c || !rdmakit_device_gone(c->device))
			continue;
		id->removed = true;
		sr_cm_post_locked(id, RDMA_CM_EVENT_DEVICE_REMOVAL, 0);
	}
	sr_cm_unlock();
}

static void receive(void)
{
	static struct sr_gsi_mad mads[BATCH];
	int n;
	while ((n = rdmakit_gsi_receive(mads, BATCH)) > 0) {
		sr_cm_lock(); /* for each batch anew: the application has something to say too */
		for (int i = 0; i < n; i++)
			sr_cm_receive(&cm.machine, sr_cm_now_ns(), &mads[i].path, mads[i].bytes);
		sr_cm_unlock();
	}
}

static void take_returned(void)
{
	static struct sr_gsi_mad mads[BATCH];
	int n = rdmakit_gsi_returned(mads, BATCH);
	sr_cm_lock();
	for (int i = 0; i < n; i++)
		sr_cm_returned(&cm.machine, sr_cm_now_ns(), &mads[i].path, mads[i].bytes);
	sr_cm_unlock();
}

static void *run(void *arg)
{
	(void)arg;
	for (;;) {
		sr_cm_lock();
		uint64_t now_ns = sr_cm_now_ns(), next_ns = sr_cm_run_timers(&cm.machine, now_ns);
		cm.wake_ns = next_ns;
		sr_cm_unlock();
		struct pollfd fds[4] = { { .fd = cm.gsi_fd, .events = POLLIN }, { .fd = cm.wake_fd, .events = POLLIN },
					 { .fd = cm.netlink_fd, .events = POLLIN }, { .fd = cm.returns_fd } };
		struct timespec left = { 0 };
		if (next_ns != UINT64_MAX) {
			uint64_t wait_ns = next_ns > now_ns ? next_ns - now_ns : 0;
			left = (struct timespec){ (time_t)(wait_ns / 1000000000u), (long)(wait_ns % 1000000000u) };
		}
		if (ppoll(fds, 4, next_ns == UINT64_MAX ? NULL : &left, NULL) <= 0)
			continue;
		if (fds[0].revents)
			receive();
		uint64_t woken;
		if (fds[1].revents && read(cm.wake_fd, &woken, sizeof(woken)) < 0) {
			/* nothing to read: fine */
		}
		if (fds[2].revents)
			look_for_removed_devices();
		if (fds[3].revents)
			take_returned();
	}
	return NULL;
}

static void before_fork(void) { pthread_mutex_lock(&cm.lock); }
static void after_fork(void) { pthread_mutex_unlock(&cm.lock); }

/* The parent's connections stay the parent's. The child may destroy its copies of the identifiers and begin anew. */
static void after_fork_child(void)
{
	sr_list_for(n, next, &cm.ids) {
		struct sr_cm_id *id = sr_list_entry(n, struct sr_cm_id, node);
		id->conn = NULL;
		id->port_row = -1;
	}
	if (cm.started) {
		close(cm.wake_fd);
		if (cm.netlink_fd >= 0)
			close(cm.netlink_fd);
	}
	cm.started = false;
	cm.machine = (struct sr_cm_machine){ 0 }; /* a fork is no place to free */
	cm.wake_ns = UINT64_MAX;
	pthread_mutex_init(&cm.lock, NULL);
}

static int open_netlink(void)
{
	struct sockaddr_nl to = { .nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
	if (fd >= 0 && bind(fd, (struct sockaddr *)&to, sizeof(to))) {
		close(fd);
		return -1;
	}
	return fd;
}

static int start_thread(void)
{
	sigset_t all, old;
	pthread_t thread;
	pthread_attr_t attr;
	sigfillset(&all); /* signals belong to the application's threads */
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 256 * 1024);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	int err = pthread_create(&thread, &attr, run, NULL);
	pthread_attr_destroy(&attr);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (!err)
		pthread_setname_np(thread, "rdmakit-cm");
	return err;
}

static int start_locked(void)
{
	static bool fork_hooked;
	const struct sr_cm_ops ops = { .send = send_mad, .event = sr_cm_on_event, .request = sr_cm_on_request, .random = random32 };
	int fd = rdmakit_gsi_open();
	if (fd < 0)
		return -fd;
	cm.gsi_fd = fd;
	cm.returns_fd = rdmakit_gsi_returns_fd();
	int err = sr_cm_machine_init(&cm.machine, &ops, rdmakit_gsi_slot());
	if (err)
		return err;
	cm.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	cm.netlink_fd = open_netlink();
	err = cm.wake_fd < 0 ? errno : start_thread();
	if (err) {
		if (cm.wake_fd >= 0)
			close(cm.wake_fd);
		if (cm.netlink_fd >= 0)
			close(cm.netlink_fd);
		sr_cm_machine_free(&cm.machine);
		return err;
	}
	if (!fork_hooked) {
		pthread_atfork(before_fork, after_fork, after_fork_child);
		fork_hooked = true;
	}
	cm.started = true;
	return 0;
}

int sr_cm_start(void)
{
	pthread_mutex_lock(&cm.lock);
	int err = cm.started ? 0 : start_locked();
	pthread_mutex_unlock(&cm.lock);
	return err;
}

#define GOODBYE_LOOKS 50
#define GOODBYE_LOOK_NS 10000000

/* Who exits without a word is missed by its peers only after a time-out; and a word may be lost. */
__attribute__((destructor)) static void at_exit(void)
{
	if (!cm.started)
		return;
	sr_cm_lock();
	sr_list_for(n, next, &cm.ids) {
		struct sr_cm_id *id = sr_list_entry(n, struct sr_cm_id, node);
		if (id->conn)
			sr_cm_release(&cm.machine, id->conn, sr_cm_now_ns());
		id->conn = NULL;
	}
	for (int i = 0; i < GOODBYE_LOOKS && sr_cm_leaving(&cm.machine); i++) {
		sr_cm_unlock();
		nanosleep(&(struct timespec){ .tv_nsec = i ? GOODBYE_LOOK_NS : GOODBYE_LOOK_NS / 10 }, NULL);
		sr_cm_lock();
	}
	sr_cm_unlock();
}
