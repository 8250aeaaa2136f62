/*
 * A process forks with the device open and memory registered: the child finds the contents of the moment, in pages of its own; what
 * either side writes afterwards stays with it; peers go on with the parent; the child may open the device anew.
 */
#define _GNU_SOURCE
#include "verbs-kit.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define LEN (40u * VK_PAGE)

extern bool vk_is_partner;

/* Forks; the child runs f and must end well. */
static pid_t child(void (*f)(void *arg), void *arg)
{
	pid_t pid = fork();
	VK(pid >= 0);
	if (pid)
		return pid;
	vk_is_partner = true; /* reports, does not unwind into cmocka */
	alarm(60);
	f(arg);
	_exit(0);
}

static void reap(pid_t pid)
{
	int status;
	VK_EQ(waitpid(pid, &status, 0), pid);
	VK(WIFEXITED(status));
	VK_EQ(WEXITSTATUS(status), 0);
}

struct set {
	struct vk_dev d;
	struct vk_end e[2];
	uint8_t *p, *q;
	struct ibv_mr *mp, *mq;
	int go[2];
};

static void set_make(struct set *s)
{
	vk_open(&s->d);
	vk_pair_make(s->e, &s->d, NULL);
	s->p = vk_pages(LEN);
	s->q = vk_pages(LEN);
	s->mp = vk_reg(&s->d, s->p, LEN, VK_RW);
	s->mq = vk_reg(&s->d, s->q, LEN, VK_RW);
	VK_EQ(pipe(s->go), 0);
}

static void set_free(struct set *s)
{
	vk_pair_free(s->e);
	VK(!ibv_dereg_mr(s->mp) && !ibv_dereg_mr(s->mq));
	vk_close(&s->d);
	vk_unpages(s->p, LEN);
	vk_unpages(s->q, LEN);
	close(s->go[0]);
	close(s->go[1]);
}

static void transfer(struct set *s, uint32_t seed)
{
	struct ibv_sge sge = vk_sge(s->mp, s->p, LEN);
	vk_fill(s->p, LEN, seed);
	vk_post(&s->e[0], &(struct vk_wr){ .op = IBV_WR_RDMA_WRITE, .sge = &sge, .n = 1, .remote = (uintptr_t)s->q, .rkey = s->mq->rkey });
	vk_wait_ok(s->e[0].scq);
	VK(vk_is(s->q, LEN, seed));
	vk_recv1(&s->e[1], 1, s->mq, s->q, 100);
	vk_send(&s->e[0], 1, s->mp, s->p, 100);
	vk_wait_ok(s->e[0].scq);
	vk_wait_ok(s->e[1].rcq);
}

/* Sees the contents at the fork although the parent goes on writing; writes without being seen. */
static void look_and_write(void *arg)
{
	struct set *s = arg;
	char c;
	VK(vk_is(s->p, LEN, 1));
	memset(s->p, 0xcc, LEN);
	memset(s->q, 0xcc, LEN);
	VK_EQ(read(s->go[0], &c, 1), 1); /* the parent has written and transferred */
	for (size_t i = 0; i < LEN; i++)
		VK(s->p[i] == 0xcc && s->q[i] == 0xcc);
}

static void private_copies(void **state)
{
	(void)state;
	for (int init = 0; init < 2; init++) {
		struct set s;
		if (init)
			VK_EQ(ibv_fork_init(), 0);
		set_make(&s);
		for (int round = 0; round < 5; round++) {
			transfer(&s, 1);
			pid_t pid = child(look_and_write, &s);
			memset(s.p, 0xdd, LEN); /* at once: the child must not see it */
			transfer(&s, 2);
			usleep(1000);
			VK(vk_is(s.p, LEN, 2));
			VK_EQ(write(s.go[1], "x", 1), 1);
			reap(pid);
			transfer(&s, 3);
		}
		set_free(&s);
	}
}

/* Opens the device anew and talks with itself; the parent's objects are left alone, or even cleaned up. */
static void open_anew(void *arg)
{
	struct set *s = arg, own;
	set_make(&own);
	for (uint32_t i = 10; i < 20; i++)
		transfer(&own, i);
	VK(vk_is(s->p, LEN, 5));
	set_free(&own);
	VK(vk_is(s->p, LEN, 5));
}

static void clean_up(void *arg)
{
	struct set *s = arg, own;
	struct ibv_wc wc;
	VK_EQ(ibv_poll_cq(s->e[0].scq, 1, &wc), 0);
	VK_EQ(ibv_dereg_mr(s->mp), 0);
	set_make(&own);
	vk_fill(own.p, LEN, 77);
	VK_EQ(ibv_dereg_mr(s->mq), 0);
	vk_pair_free(s->e);
	VK(vk_is(own.p, LEN, 77));
	transfer(&own, 6);
	set_free(&own);
	VK(vk_is(s->p, LEN, 5));
}

static void child_opens(void **state)
{
	(void)state;
	struct set s;
	set_make(&s);
	void (*what[])(void *) = { open_anew, clean_up };
	for (int i = 0; i < 4; i++) {
		transfer(&s, 5);
		pid_t pid = child(what[i % 2], &s);
		reap(pid);
		VK(vk_is(s.p, LEN, 5));
		transfer(&s, 8);
	}
	set_free(&s);
}

/* The child talks with the parent over queue pairs of its own. */
static void talk(void *arg)
{
	int fd = *(int *)arg;
	struct vk_dev d;
	struct vk_end e;
	uint8_t *mem = vk_pages(LEN);
	vk_open(&d);
	struct ibv_mr *mr = vk_reg(&d, mem, LEN, VK_RW);
	vk_end_make(&e, &d, NULL);
	struct vk_name peer = vk_meet(&e, fd, mr);
	vk_fill(mem, LEN, 3);
	struct ibv_sge s = vk_sge(mr, mem, LEN);
	vk_post(&e, &(struct vk_wr){ .op = IBV_WR_RDMA_WRITE, .sge = &s, .n = 1, .remote = peer.addr, .rkey = peer.rkey });
	vk_post(&e, &(struct vk_wr){ .op = IBV_WR_SEND });
	vk_wait_ok(e.scq);
	vk_wait_ok(e.scq);
	vk_end_free(&e);
	VK_EQ(ibv_dereg_mr(mr), 0);
	vk_close(&d);
}

static void with_own_child(void **state)
{
	(void)state;
	struct set s;
	set_make(&s);
	for (int i = 0; i < 3; i++) {
		struct vk_end e;
		int fd[2];
		VK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fd), 0);
		pid_t pid = child(talk, &fd[1]);
		vk_end_make(&e, &s.d, NULL);
		vk_to_init(&e);
		vk_recv(&e, 1, NULL, 0);
		vk_meet(&e, fd[0], s.mq);
		vk_wait_ok(e.rcq);
		VK(vk_is(s.q, LEN, 3));
		reap(pid);
		vk_end_free(&e);
		close(fd[0]);
		close(fd[1]);
	}
	set_free(&s);
}

/* Children of a process whose memory another thread keeps writing, while it is registered and deregistered. */
struct busy {
	_Atomic bool stop;
	uint64_t *words;
};

/* See test-verbs-memory.c about the attribute. */
__attribute__((no_sanitize("thread"))) static void *write_pairs(void *arg)
{
	struct busy *b = arg;
	for (uint64_t i = 1; !atomic_load(&b->stop); i++) {
		size_t at = (i % (LEN / 8 - 8));
		*(volatile uint64_t *)&b->words[at] = i;
		VK(*(volatile uint64_t *)&b->words[at] == i);
	}
	return NULL;
}

static void just_read(void *arg)
{
	volatile uint8_t *p = arg;
	unsigned sum = 0;
	for (size_t i = 0; i < LEN; i++)
		sum += p[i];
	(void)sum;
}

static void fork_under_writers(void **state)
{
	(void)state;
	struct set s;
	pthread_t t;
	set_make(&s);
	uint8_t *mem = vk_pages(LEN);
	struct busy b = { .words = (uint64_t *)(void *)mem };
	VK_EQ(pthread_create(&t, NULL, write_pairs, &b), 0);
	for (int i = 0; i < 15; i++) {
		struct ibv_mr *mr = vk_reg(&s.d, mem, LEN, VK_RW);
		pid_t pid = child(just_read, mem);
		VK_EQ(ibv_dereg_mr(mr), 0);
		reap(pid);
	}
	atomic_store(&b.stop, true);
	VK_EQ(pthread_join(t, NULL), 0);
	vk_unpages(mem, LEN);
	set_free(&s);
}

/* The parent dies, the child lives: the parent's peer must notice although the child has inherited everything. */
static void parent(int fd)
{
	struct vk_dev d;
	struct vk_end e;
	vk_open(&d);
	vk_end_make(&e, &d, NULL);
	vk_meet(&e, fd, NULL);
	pid_t pid = fork();
	VK(pid >= 0);
	if (!pid) {
		sleep(20); /* ends with its killer */
		_exit(0);
	}
	vk_put(fd, &pid, sizeof pid);
	pause();
}

static void orphan_holds_nothing(void **state)
{
	(void)state;
	struct vk_partner p;
	struct vk_dev d;
	struct vk_end e;
	pid_t orphan;
	vk_spawn(&p, "parent");
	vk_open(&d);
	vk_end_make(&e, &d, NULL);
	vk_meet(&e, p.fd, NULL);
	vk_get(p.fd, &orphan, sizeof orphan);
	vk_kill(&p);
	vk_wait_state(&e, IBV_QPS_ERR);
	VK_EQ(kill(orphan, SIGKILL), 0);
	vk_end_free(&e);
	vk_close(&d);
}

int main(int argc, char **argv)
{
	static const struct vk_role roles[] = { { "parent", parent } };
	vk_start(argc, argv, roles, 1);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(private_copies), cmocka_unit_test(child_opens), cmocka_unit_test(with_own_child),
		cmocka_unit_test(fork_under_writers), cmocka_unit_test(orphan_holds_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
