/*
 * Peers that are killed, stopped, busy or many: a killed one ends its partners' queue pairs, a stopped or computing one is read and
 * written all the same, and the helper thread answers for who does not poll.
 */
#define _GNU_SOURCE
#include "verbs-world.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* A partner with one end, a registered buffer, 16 receives, that then never polls: it sleeps. With `computes` it burns the CPU. */
static void passive(int fd, bool computes)
{
	struct vk_dev d;
	struct vk_end e;
	uint8_t *mem = vk_pages(LEN);
	vk_open(&d);
	struct ibv_mr *mr = vk_reg(&d, mem, LEN, VK_RW);
	vk_end_make(&e, &d, NULL);
	vk_to_init(&e);
	for (int i = 0; i < 16; i++)
		vk_recv1(&e, (uint64_t)i, mr, mem, LEN);
	vk_meet(&e, fd, mr);
	struct pollfd p = { .fd = fd, .events = POLLIN };
	while (poll(&p, 1, computes ? 0 : -1) == 0)
		for (volatile int i = 0; i < 100000; i++)
			;
	vk_sync(fd);
	int received = 0;
	for (struct ibv_wc wc; ibv_poll_cq(e.rcq, 1, &wc) == 1; received++)
		VK_EQ(wc.status, IBV_WC_SUCCESS);
	vk_put(fd, &received, sizeof received);
	vk_end_free(&e);
	VK_EQ(ibv_dereg_mr(mr), 0);
	vk_close(&d);
}
static void sleeper(int fd) { passive(fd, false); }
static void computer(int fd) { passive(fd, true); }

/* All kinds of operations against who does not poll; `messages` as well when it is not stopped. */
static void operate(struct vk_end *e, struct ibv_mr *mr, uint8_t *mem, const struct vk_name *peer, bool messages)
{
	struct ibv_sge s = vk_sge(mr, mem, LEN), word = vk_sge(mr, mem, 8);
	for (uint32_t i = 0; i < 8; i++) {
		vk_fill(mem, LEN, i);
		vk_post(e, &(struct vk_wr){ .op = IBV_WR_RDMA_WRITE, .sge = &s, .n = 1, .remote = peer->addr, .rkey = peer->rkey });
		vk_wait_ok(e->scq);
		memset(mem, 0, LEN);
		vk_post(e, &(struct vk_wr){ .op = IBV_WR_RDMA_READ, .sge = &s, .n = 1, .remote = peer->addr, .rkey = peer->rkey });
		vk_wait_ok(e->scq);
		VK(vk_is(mem, LEN, i));
		vk_post(e, &(struct vk_wr){ .op = IBV_WR_ATOMIC_FETCH_AND_ADD, .sge = &word, .n = 1, .remote = peer->addr, .rkey = peer->rkey, .add = 1 });
		vk_wait_ok(e->scq);
		VK(vk_is(mem, 8, i));
		if (messages) {
			vk_post(e, &(struct vk_wr){ .op = IBV_WR_RDMA_WRITE_WITH_IMM, .sge = &s, .n = 1, .remote = peer->addr, .rkey = peer->rkey });
			vk_post(e, &(struct vk_wr){ .op = IBV_WR_SEND, .sge = &s, .n = 1 });
			vk_wait_ok(e->scq);
			vk_wait_ok(e->scq);
		}
	}
}

static void against(const char *role, bool stop)
{
	struct vk_partner p;
	struct vk_dev d;
	struct vk_end e;
	uint8_t *mem = vk_pages(LEN);
	int received, status;
	vk_spawn(&p, role);
	vk_open(&d);
	struct ibv_mr *mr = vk_reg(&d, mem, LEN, VK_RW);
	vk_end_make(&e, &d, NULL);
	struct vk_name peer = vk_meet(&e, p.fd, mr);
	if (stop) {
		VK_EQ(kill(p.pid, SIGSTOP), 0);
		VK_EQ(waitpid(p.pid, &status, WUNTRACED), p.pid);
		VK(WIFSTOPPED(status));
	}
	operate(&e, mr, mem, &peer, !stop);
	if (stop) {
		/* a message waits, and is answered when it goes on */
		vk_send(&e, 1, mr, mem, 100);
		for (int i = 0; i < 5; i++)
			vk_quiet(e.scq);
		VK_EQ(kill(p.pid, SIGCONT), 0);
		vk_wait_ok(e.scq);
	}
	vk_sync(p.fd);
	vk_get(p.fd, &received, sizeof received);
	VK_EQ(received, stop ? 1 : 16);
	vk_join(&p);
	vk_end_free(&e);
	VK_EQ(ibv_dereg_mr(mr), 0);
	vk_close(&d);
	vk_unpages(mem, LEN);
}

static void sleeping(void **state) { (void)state; against("sleeper", false); }
static void computing(void **state) { (void)state; against("computer", false); }
static void stopped(void **state) { (void)state; against("sleeper", true); }

/* ---- killed ------------------------------------------------------------------------------------------------------------- */

static int shm_files(void)
{
	int n = 0;
	DIR *dir = opendir("/dev/shm");
	for (struct dirent *f; dir && (f = readdir(dir));)
		n += f->d_name[0] != '.';
	if (dir)
		closedir(dir);
	return n;
}

/* Streams to us without end, every way there is. */
static void streamer(int fd)
{
	struct vk_dev d;
	struct vk_end e;
	uint8_t *mem = vk_pages(LEN);
	vk_open(&d);
	struct ibv_mr *mr = vk_reg(&d, mem, LEN, VK_RW);
	vk_end_make(&e, &d, NULL);
	struct vk_name peer = vk_meet(&e, fd, mr);
	struct ibv_sge s = vk_sge(mr, mem, LEN), small = vk_sge(mr, mem, 16);
	for (uint64_t i = 0;; i++) {
		static const enum ibv_wr_opcode ops[] = { IBV_WR_RDMA_WRITE, IBV_WR_SEND, IBV_WR_RDMA_READ, IBV_WR_RDMA_WRITE_WITH_IMM };
		if (i >= 32)
			vk_wait(e.scq);
		vk_try_post(&e, &(struct vk_wr){ .op = ops[i % 4], .sge = i % 8 < 4 ? &s : &small, .n = 1, .remote = peer.addr, .rkey = peer.rkey });
	}
}

static void killed(void **state)
{
	(void)state;
	int before = shm_files();
	struct vk_dev d;
	uint8_t *mem = vk_pages(LEN);
	vk_open(&d);
	struct ibv_mr *mr = vk_reg(&d, mem, LEN, VK_RW);
	for (int round = 0; round < 8; round++) {
		struct vk_partner p;
		struct vk_end e;
		struct ibv_wc wc;
		vk_spawn(&p, round % 2 ? "streamer" : "sleeper");
		vk_end_make(&e, &d, NULL);
		vk_to_init(&e);
		for (int i = 0; i < 20; i++)
			vk_recv1(&e, 1000 + (uint64_t)i, mr, mem, LEN);
		struct vk_name peer = vk_meet(&e, p.fd, mr);
		int posted = 0;
		if (round % 4 >= 2) {
			if (round % 2 == 0) {
				VK_EQ(kill(p.pid, SIGSTOP), 0);
				VK_EQ(waitpid(p.pid, &(int){ 0 }, WUNTRACED), p.pid);
			}
			for (; posted < 10; posted++)
				vk_send(&e, (uint64_t)posted, mr, mem, posted % 2 ? LEN : 10);
		}
		for (int i = 0; i < round * 3; i++)
			ibv_poll_cq(e.scq, 0, &wc);
		vk_kill(&p);
		vk_wait_state(&e, IBV_QPS_ERR);
		(void)peer;
		/* every WQE completes, in order, successes first */
		int failed = 0, recvs = 0;
		for (int i = 0; i < posted; i++) {
			wc = vk_wait(e.scq);
			VK_EQ(wc.wr_id, i);
			if (wc.status != IBV_WC_SUCCESS)
				VK(wc.status == (failed++ ? IBV_WC_WR_FLUSH_ERR : IBV_WC_RETRY_EXC_ERR));
			else
				VK_EQ(failed, 0);
		}
		for (int i = 0; i < 20; i++) {
			wc = vk_wait(e.rcq);
			VK_EQ(wc.wr_id, 1000 + i);
			recvs += wc.status == IBV_WC_SUCCESS;
		}
		VK(round % 2 || recvs == 0);
		/* the queue pair serves a new partner */
		vk_to_state(&e, IBV_QPS_RESET);
		while (vk_event_now(&d) >= 0)
			;
		vk_spawn(&p, "sleeper");
		peer = vk_meet(&e, p.fd, mr);
		operate(&e, mr, mem, &peer, true);
		vk_sync(p.fd);
		vk_get(p.fd, &recvs, sizeof recvs);
		VK_EQ(recvs, 16);
		vk_join(&p);
		vk_end_free(&e);
	}
	VK_EQ(ibv_dereg_mr(mr), 0);
	vk_close(&d);
	vk_unpages(mem, LEN);
	VK_EQ(shm_files(), before);
}

/* What a process sent before it ended still arrives. */
/* As a daemon does that closes all descriptors it does not know: here those to its peers, not the one it listens on. */
static void close_links(void)
{
	for (int fd = 4; fd < 100; fd++) {
		struct sockaddr_storage name;
		socklen_t len = sizeof name;
		if (!getpeername(fd, (struct sockaddr *)&name, &len) && name.ss_family == AF_UNIX)
			close(fd);
	}
}

static void recluse(int fd)
{
	struct vk_dev d;
	struct vk_end e;
	uint8_t *mem = vk_pages(LEN);
	vk_open(&d);
	struct ibv_mr *mr = vk_reg(&d, mem, LEN, VK_RW);
	vk_end_make(&e, &d, NULL);
	vk_to_init(&e);
	vk_meet(&e, fd, mr);
	close_links();
	vk_sync(fd);
	for (;;)
		pause();
}

/* A peer whose link socket has gone still serves, and its death is noticed all the same. */
static void recluse_dies(void **state)
{
	(void)state;
	struct vk_partner p;
	struct vk_dev d;
	struct vk_end e;
	uint8_t *mem = vk_pages(LEN);
	vk_spawn(&p, "recluse");
	vk_open(&d);
	struct ibv_mr *mr = vk_reg(&d, mem, LEN, VK_RW);
	vk_end_make(&e, &d, NULL);
	vk_to_init(&e);
	struct vk_name peer = vk_meet(&e, p.fd, mr);
	vk_sync(p.fd);
	usleep(200000); /* the sockets' end is looked into meanwhile */
	operate(&e, mr, mem, &peer, false);
	VK_EQ(vk_state(&e), IBV_QPS_RTS);
	vk_kill(&p);
	vk_wait_state(&e, IBV_QPS_ERR);
	vk_end_free(&e);
	VK_EQ(ibv_dereg_mr(mr), 0);
	vk_close(&d);
	vk_unpages(mem, LEN);
}

static void joiner(int fd)
{
	struct vk_dev d;
	(void)fd;
	vk_open(&d);
	vk_close(&d);
}

static void make_empty(int dir, const char *name)
{
	int fd = openat(dir, name, O_RDWR | O_CREAT | O_EXCL, 0600);
	VK(fd >= 0);
	close(fd);
}

/* Who joins removes what processes left in network namespaces without living ones, and nothing else. */
static void deserted_namespaces(void **state)
{
	(void)state;
	static const char *const gone[] = { "net-1", "1-7.sock", "3-8.sock" };
	static const char *const stay[] = { "net-2", "2-5.sock", "net-1x", "notes" };
	char name[] = "/tmp/rdmakit-test-XXXXXX";
	VK(mkdtemp(name));
	int dir = open(name, O_RDONLY | O_DIRECTORY);
	VK(dir >= 0);
	for (size_t i = 0; i < 3; i++)
		make_empty(dir, gone[i]);
	for (size_t i = 0; i < 4; i++)
		make_empty(dir, stay[i]);
	int living = openat(dir, "net-2", O_RDWR);
	struct flock row = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 5, .l_len = 1 };
	VK_EQ(fcntl(living, F_OFD_SETLK, &row), 0);

	char *before = getenv("RDMAKIT_RUNTIME_DIR"), *kept = before ? strdup(before) : NULL;
	setenv("RDMAKIT_RUNTIME_DIR", name, 1);
	struct vk_partner p;
	vk_spawn(&p, "joiner");
	vk_join(&p);
	if (kept)
		setenv("RDMAKIT_RUNTIME_DIR", kept, 1);
	else
		unsetenv("RDMAKIT_RUNTIME_DIR");
	free(kept);
	for (size_t i = 0; i < 3; i++)
		VK(faccessat(dir, gone[i], F_OK, 0) && errno == ENOENT);
	for (size_t i = 0; i < 4; i++)
		VK_EQ(faccessat(dir, stay[i], F_OK, 0), 0);
	close(living);
	DIR *d = fdopendir(dir);
	for (struct dirent *e; (e = readdir(d));)
		unlinkat(dir, e->d_name, 0);
	closedir(d);
	VK_EQ(rmdir(name), 0);
}

static void last_words(int fd)
{
	struct vk_dev d;
	struct vk_end rc, uc;
	uint8_t *mem = vk_pages(LEN);
	vk_open(&d);
	struct ibv_mr *mr = vk_reg(&d, mem, LEN, VK_RW);
	vk_end_make(&rc, &d, NULL);
	vk_end_make(&uc, &d, &(struct vk_conf){ .type = IBV_QPT_UC });
	vk_meet(&rc, fd, mr);
	vk_meet(&uc, fd, mr);
	for (int i = 0; i < 20; i++)
		vk_send(&uc, 1, mr, mem, 100);
	vk_put(fd, "x", 1);
	kill(getpid(), SIGKILL);
}

static void last_words_arrive(void **state)
{
	(void)state;
	struct vk_dev d;
	uint8_t *mem = vk_pages(LEN);
	vk_open(&d);
	struct ibv_mr *mr = vk_reg(&d, mem, LEN, VK_RW);
	for (int round = 0; round < 10; round++) {
		struct vk_partner p;
		struct vk_end rc, uc;
		char x;
		vk_spawn(&p, "last_words");
		vk_end_make(&rc, &d, NULL);
		vk_end_make(&uc, &d, &(struct vk_conf){ .type = IBV_QPT_UC });
		vk_to_init(&uc);
		for (int i = 0; i < 20; i++)
			vk_recv1(&uc, (uint64_t)i, mr, mem, LEN);
		vk_meet(&rc, p.fd, mr);
		vk_meet(&uc, p.fd, mr);
		vk_get(p.fd, &x, 1);
		vk_wait_state(&uc, IBV_QPS_ERR);
		for (int i = 0; i < 20; i++)
			VK_EQ(vk_wait_ok(uc.rcq).wr_id, i);
		vk_kill(&p);
		vk_end_free(&rc);
		vk_end_free(&uc);
	}
	VK_EQ(ibv_dereg_mr(mr), 0);
	vk_close(&d);
	vk_unpages(mem, LEN);
}

/* ---- many ---------------------------------------------------------------------------------------------------------------- */

#define CROWD 5
/* Everyone adds to one word of the first one's memory, by all others. */
static void crowd_member(int fd)
{
	struct vk_dev d;
	struct vk_end e;
	uint64_t old;
	vk_open(&d);
	struct ibv_mr *mr = vk_reg(&d, &old, 8, VK_RW);
	vk_end_make(&e, &d, NULL);
	struct vk_name peer = vk_meet(&e, fd, NULL);
	struct ibv_sge s = vk_sge(mr, &old, 8);
	for (uint64_t i = 0; i < 1000; i++) {
		bool swap = i % 2;
		uint64_t *counter = swap ? (uint64_t *)(peer.addr + 8) : (uint64_t *)peer.addr;
		for (uint64_t guess = 0;;) {
			vk_post(&e, &(struct vk_wr){ .op = swap ? IBV_WR_ATOMIC_CMP_AND_SWP : IBV_WR_ATOMIC_FETCH_AND_ADD, .sge = &s, .n = 1, .remote = (uintptr_t)counter,
						     .rkey = peer.rkey, .add = swap ? guess : 1, .swap = guess + 1 });
			vk_wait_ok(e.scq);
			if (!swap || old == guess)
				break;
			guess = old;
		}
	}
	vk_sync(fd);
	vk_end_free(&e);
	VK_EQ(ibv_dereg_mr(mr), 0);
	vk_close(&d);
}

/* Two words on a page of their own (direct), then at the edge of a region (by message). */
static void crowd_counts(void **state)
{
	(void)state;
	for (int edge = 0; edge < 2; edge++) {
		struct vk_partner p[CROWD];
		struct vk_end e[CROWD];
		struct vk_dev d;
		uint64_t *mem = vk_pages(2 * VK_PAGE);
		vk_open(&d);
		struct ibv_mr *mr = vk_reg(&d, mem, edge ? 100 : VK_PAGE, VK_RW);
		for (int i = 0; i < CROWD; i++) {
			vk_spawn(&p[i], "crowd_member");
			vk_end_make(&e[i], &d, NULL);
		}
		for (int i = 0; i < CROWD; i++)
			vk_meet(&e[i], p[i].fd, mr);
		for (int i = 0; i < CROWD; i++) {
			vk_sync(p[i].fd);
			vk_join(&p[i]);
			vk_end_free(&e[i]);
		}
		VK_EQ(mem[0], CROWD * 500);
		VK_EQ(mem[1], CROWD * 500);
		VK_EQ(ibv_dereg_mr(mr), 0);
		vk_close(&d);
		vk_unpages(mem, 2 * VK_PAGE);
	}
}

/* Connected and idle costs nothing: the CPU time of the process does not grow. */
static void idle(void **state)
{
	(void)state;
	struct world w;
	struct rusage before, after;
	world_make(&w, NULL);
	vk_recv(&w.e[1], 1, NULL, 0);
	vk_post(&w.e[0], &(struct vk_wr){ .op = IBV_WR_SEND });
	vk_wait_ok(w.e[0].scq);
	/* Counted, not timed: a sleeping thread is not scheduled. On a busy machine it takes its time to fall asleep. */
	long switches;
	int tries = 0;
	do {
		getrusage(RUSAGE_SELF, &before);
		usleep(200000);
		getrusage(RUSAGE_SELF, &after);
		switches = after.ru_nvcsw + after.ru_nivcsw - before.ru_nvcsw - before.ru_nivcsw;
	} while (switches >= 20 && ++tries < 50);
	VK(switches < 20);
	world_free(&w);
}

int main(int argc, char **argv)
{
	static const struct vk_role roles[] = {
		{ "sleeper", sleeper }, { "computer", computer }, { "streamer", streamer }, { "recluse", recluse }, { "joiner", joiner }, { "last_words", last_words }, { "crowd_member", crowd_member },
	};
	vk_start(argc, argv, roles, sizeof roles / sizeof *roles);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sleeping), cmocka_unit_test(computing), cmocka_unit_test(stopped), cmocka_unit_test(killed),
		cmocka_unit_test(recluse_dies), cmocka_unit_test(deserted_namespaces),
		cmocka_unit_test(last_words_arrive), cmocka_unit_test(crowd_counts), cmocka_unit_test(idle),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
