/*
 * An application that posts and then waits for the event, and never polls meanwhile: the helper thread, which was asleep without a
 * deadline, must repeat what gets lost and tell when that was in vain. The peer is stopped, so nothing arrives that could wake it.
 */
#include "verbs-kit.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>

#define QUIET_NS 60000000 /* longer than any nap of the helper's */

static void partner(int fd)
{
	struct vk_dev d;
	struct vk_end e;
	vk_open(&d);
	vk_end_make(&e, &d, NULL);
	vk_to_init(&e);
	vk_recv(&e, 1, NULL, 0);
	vk_meet(&e, fd, NULL);
	vk_sync(fd);
	vk_end_free(&e);
	vk_close(&d);
}

static void wait_event(struct ibv_comp_channel *channel, struct ibv_cq *cq)
{
	struct pollfd p = { .fd = channel->fd, .events = POLLIN };
	struct ibv_cq *ready;
	void *context;
	VK_EQ(poll(&p, 1, VK_WAIT_S * 1000), 1);
	VK_EQ(ibv_get_cq_event(channel, &ready, &context), 0);
	VK(ready == cq);
	ibv_ack_cq_events(cq, 1);
}

/* `again`: the peer goes on while the message is being repeated. */
static void silent_peer(bool again)
{
	struct vk_partner p;
	struct vk_dev d;
	struct vk_end e;
	int status;
	vk_spawn(&p, "partner");
	vk_open(&d);
	struct ibv_comp_channel *channel = ibv_create_comp_channel(d.ctx);
	VK(channel);
	struct ibv_cq *cq = ibv_create_cq(d.ctx, 16, NULL, channel, 0);
	VK(cq);
	vk_end_make(&e, &d, &(struct vk_conf){ .send_cq = cq, .tuned = true, .retry = again ? 7 : 1, .timeout = again ? 18 : 8 });
	vk_meet(&e, p.fd, NULL);
	VK_EQ(kill(p.pid, SIGSTOP), 0);
	VK_EQ(waitpid(p.pid, &status, WUNTRACED), p.pid);
	VK_EQ(ibv_req_notify_cq(cq, 0), 0);
	nanosleep(&(struct timespec){ .tv_nsec = QUIET_NS }, NULL);
	vk_post(&e, &(struct vk_wr){ .op = IBV_WR_SEND, .id = 1 });
	if (again) {
		nanosleep(&(struct timespec){ .tv_nsec = QUIET_NS }, NULL);
		VK_EQ(kill(p.pid, SIGCONT), 0);
	}
	wait_event(channel, cq);
	vk_wait_status(cq, again ? IBV_WC_SUCCESS : IBV_WC_RETRY_EXC_ERR);
	VK_EQ(kill(p.pid, SIGCONT), 0);
	vk_sync(p.fd);
	vk_join(&p);
	vk_end_free(&e);
	VK_EQ(ibv_destroy_cq(cq), 0);
	VK_EQ(ibv_destroy_comp_channel(channel), 0);
	vk_close(&d);
}

static void a_peer_that_is_gone(void **state)
{
	(void)state;
	silent_peer(false);
}

static void a_peer_that_comes_back(void **state)
{
	(void)state;
	silent_peer(true);
}

int main(int argc, char **argv)
{
	const struct vk_role roles[] = { { "partner", partner } };
	setenv("RDMAKIT_ROAD", "wire", 1);
	vk_start(argc, argv, roles, 1);
	const struct CMUnitTest tests[] = { cmocka_unit_test(a_peer_that_is_gone), cmocka_unit_test(a_peer_that_comes_back) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
