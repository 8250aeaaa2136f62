/*
 * Memory that goes away while it is registered: unmapped, made read-only, its file truncated. The operation that needs it fails, at the end
 * where the specification has it fail, or is served from pages that are kept; the process lives, and its own faults stay its own.
 *
 * All of it runs in partner processes: cmocka puts handlers of its own in place of whatever is installed during a test.
 */
#define _GNU_SOURCE
#include "verbs-world.h"

#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include "softrdma/core.h"

/* ---- memory that vanishes --------------------------------------------------------------------------------------------- */

#define BYTES (16u * VK_PAGE)

enum kind { PRIVATE, SHARED, READONLY, TRUNCATED, KINDS };
static const char *const names[] = { "unmapped", "unmapped, shared", "read-only", "truncated file" };

struct volatile_memory {
	enum kind kind;
	int fd;
	uint8_t *p;
	struct ibv_mr *mr;
};

static void appear(struct volatile_memory *m, enum kind kind, struct vk_dev *d)
{
	*m = (struct volatile_memory){ .kind = kind, .fd = -1 };
	if (kind == TRUNCATED) {
		char name[] = "/tmp/rdmakit-test-XXXXXX";
		m->fd = mkstemp(name);
		VK(m->fd >= 0);
		VK_EQ(unlink(name), 0);
		VK_EQ(ftruncate(m->fd, BYTES), 0);
	}
	m->p = mmap(NULL, BYTES, PROT_READ | PROT_WRITE,
		    kind == TRUNCATED ? MAP_SHARED : MAP_ANONYMOUS | (kind == PRIVATE ? MAP_PRIVATE : MAP_SHARED), m->fd, 0);
	VK(m->p != MAP_FAILED);
	vk_fill(m->p, BYTES, 5);
	m->mr = vk_reg(d, m->p, BYTES, VK_RW);
}

/* From the second half of its pages on, or all of it. */
static void vanish(struct volatile_memory *m, size_t from)
{
	switch (m->kind) {
	case READONLY:
		VK_EQ(mprotect(m->p + from, BYTES - from, PROT_READ), 0);
		break;
	case TRUNCATED:
		VK_EQ(ftruncate(m->fd, (off_t)from), 0);
		break;
	default: /* nothing else may get the place meanwhile: not another thread's heap, and not the device */
		VK(mmap(m->p + from, BYTES - from, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) == m->p + from);
		break;
	}
}

static void forget(struct volatile_memory *m)
{
	VK_EQ(ibv_dereg_mr(m->mr), 0);
	munmap(m->p, BYTES);
	if (m->fd >= 0)
		close(m->fd);
}

/* ---- every operation ----------------------------------------------------------------------------------------------------- */

/* Who meets the missing memory: the target of a one-sided operation, the receiver, or the sender's own. */
enum place { TARGET, RECEIVER, OWN };

struct operation {
	enum ibv_wr_opcode op;
	enum place place;
	bool reads; /* that memory is only read */
};

static const struct operation operations[] = {
	{ IBV_WR_RDMA_WRITE, TARGET, false },      { IBV_WR_RDMA_WRITE_WITH_IMM, TARGET, false }, { IBV_WR_RDMA_READ, TARGET, true },
	{ IBV_WR_ATOMIC_FETCH_AND_ADD, TARGET, false }, { IBV_WR_ATOMIC_CMP_AND_SWP, TARGET, false },
	{ IBV_WR_SEND, RECEIVER, false },          { IBV_WR_SEND, OWN, true },
	{ IBV_WR_RDMA_WRITE, OWN, true },          { IBV_WR_RDMA_READ, OWN, false },
	{ IBV_WR_ATOMIC_FETCH_AND_ADD, OWN, false },
};

/* What the requester must see when the memory is missed; success as well where pages are kept. */
static enum ibv_wc_status expected(const struct operation *o)
{
	return o->place == TARGET ? IBV_WC_REM_ACCESS_ERR : o->place == RECEIVER ? IBV_WC_REM_OP_ERR : IBV_WC_LOC_PROT_ERR;
}

static void one(const struct operation *o, enum kind kind, size_t len, size_t gone_from)
{
	struct world w;
	struct volatile_memory m;
	bool atomic = o->op == IBV_WR_ATOMIC_FETCH_AND_ADD || o->op == IBV_WR_ATOMIC_CMP_AND_SWP;
	if (atomic)
		len = 8;
	world_make(&w, NULL);
	appear(&m, kind, &w.d);
	/* `len` bytes that end in, or after, what goes away */
	size_t off = gone_from && !atomic ? gone_from - (len / 2) : gone_from;
	uint8_t *at = m.p + (off + len > BYTES ? BYTES - len : off);
	vanish(&m, gone_from);
	uint64_t faults = sr.counters.memory_faults;
	if (o->place == RECEIVER)
		vk_recv1(&w.e[1], 7, m.mr, at, len);
	else
		vk_recv1(&w.e[1], 7, w.mb, w.b, LEN);
	struct ibv_sge s = o->place == OWN ? vk_sge(m.mr, at, len) : vk_sge(w.ma, w.a, len);
	vk_post(&w.e[0], &(struct vk_wr){ .op = o->op, .id = 1, .sge = &s, .n = 1,
					  .remote = o->place == TARGET ? (uintptr_t)at : (uintptr_t)w.b,
					  .rkey = o->place == TARGET ? m.mr->rkey : w.mb->rkey, .add = 1 });
	struct ibv_wc wc = vk_wait(w.e[0].scq);
	faults = sr.counters.memory_faults - faults;
	if (kind == READONLY && o->reads) {
		VK_EQ(wc.status, IBV_WC_SUCCESS);
		VK_EQ(faults, 0);
	} else if (wc.status == IBV_WC_SUCCESS) {
		VK((kind == PRIVATE || kind == READONLY) && faults == 0); /* only where the device holds the pages itself */
	} else {
		VK_EQ(wc.status, expected(o));
		VK(faults > 0);
		VK_EQ(vk_state(&w.e[0]), IBV_QPS_ERR);
		if (o->place == RECEIVER)
			VK_EQ(vk_wait_status(w.e[1].rcq, IBV_WC_LOC_PROT_ERR).wr_id, 7);
		if (o->place != OWN)
			vk_wait_state(&w.e[1], IBV_QPS_ERR);
	}
	forget(&m);
	world_free(&w);
}

static void all_operations(int fd)
{
	static const size_t lens[] = { 1, 64, 100, 3000, 40000 };
	(void)fd;
	for (int kind = 0; kind < KINDS; kind++)
		for (size_t i = 0; i < sizeof operations / sizeof *operations; i++)
			for (size_t l = 0; l < sizeof lens / sizeof *lens; l++)
				for (size_t from = 0; from < BYTES; from += 12 * VK_PAGE) {
					printf("%s from %zu, operation %zu, %zu bytes\n", names[kind], from, i, lens[l]);
					fflush(stdout);
					one(&operations[i], kind, lens[l], from);
				}
}

static void datagrams(int fd)
{
	(void)fd;
	for (int kind = 0; kind < KINDS; kind++)
		for (size_t len = 64; len <= 1024; len += 960)
			for (int receiver = 0; receiver < 2; receiver++) {
				struct world w;
				struct volatile_memory m;
				printf("%s, datagram of %zu, %s\n", names[kind], len, receiver ? "receiver" : "sender");
				fflush(stdout);
				world_make(&w, &(struct vk_conf){ .type = IBV_QPT_UD });
				appear(&m, kind, &w.d);
				vanish(&m, 0);
				vk_recv1(&w.e[1], 7, receiver ? m.mr : w.mb, receiver ? m.p : w.b, 2000);
				struct ibv_sge s = receiver ? vk_sge(w.ma, w.a, len) : vk_sge(m.mr, m.p, len);
				vk_post(&w.e[0], &(struct vk_wr){ .op = IBV_WR_SEND, .id = 1, .sge = &s, .n = 1 });
				if (receiver) {
					vk_wait_ok(w.e[0].scq);
					VK_EQ(vk_wait_status(w.e[1].rcq, IBV_WC_LOC_PROT_ERR).wr_id, 7);
				} else if (kind != READONLY) {
					vk_wait_status(w.e[0].scq, IBV_WC_LOC_PROT_ERR);
					VK_EQ(vk_state(&w.e[0]), IBV_QPS_SQE);
				} else {
					vk_wait_ok(w.e[0].scq);
					vk_wait_ok(w.e[1].rcq);
				}
				forget(&m);
				world_free(&w);
			}
}

/* UC: a WRITE that cannot be placed is dropped like a lost one, both ends go on. */
static void unreliable(int fd)
{
	(void)fd;
	for (int kind = 0; kind < KINDS; kind++) {
		struct world w;
		struct volatile_memory m;
		world_make(&w, &(struct vk_conf){ .type = IBV_QPT_UC });
		appear(&m, kind, &w.d);
		vanish(&m, 0);
		struct ibv_sge s = vk_sge(w.ma, w.a, 5000);
		vk_recv(&w.e[1], 5, NULL, 0);
		vk_post(&w.e[0], &(struct vk_wr){ .op = IBV_WR_RDMA_WRITE, .sge = &s, .n = 1, .remote = (uintptr_t)m.p, .rkey = m.mr->rkey });
		vk_post(&w.e[0], &(struct vk_wr){ .op = IBV_WR_SEND });
		vk_wait_ok(w.e[0].scq);
		vk_wait_ok(w.e[0].scq);
		VK_EQ(vk_wait_ok(w.e[1].rcq).opcode, IBV_WC_RECV);
		s = vk_sge(m.mr, m.p, 5000);
		vk_post(&w.e[0], &(struct vk_wr){ .op = IBV_WR_SEND, .sge = &s, .n = 1 });
		if (kind != READONLY) {
			vk_wait_status(w.e[0].scq, IBV_WC_LOC_PROT_ERR);
			VK_EQ(vk_state(&w.e[0]), IBV_QPS_SQE);
		} else {
			vk_wait_ok(w.e[0].scq);
		}
		forget(&m);
		world_free(&w);
	}
}

/* ---- a process that does not poll: its helper thread meets the fault -------------------------------------------------------- */

static void loser(int fd)
{
	for (int kind = 0; kind < KINDS; kind++) {
		struct vk_dev d;
		struct vk_end e;
		struct volatile_memory m;
		vk_open(&d);
		appear(&m, kind, &d);
		vk_end_make(&e, &d, NULL);
		vk_to_init(&e);
		vanish(&m, 0);
		for (uint64_t i = 0; i < 4; i++) /* the helper knows of the memory from here on */
			vk_recv1(&e, i, m.mr, m.p, BYTES);
		vk_meet(&e, fd, m.mr);
		vk_sync(fd); /* sleeps meanwhile */
		vk_end_free(&e);
		forget(&m);
		vk_close(&d);
	}
}

static void against_sleeper(int fd)
{
	static const size_t lens[] = { 64, 40000 };
	(void)fd;
	struct vk_partner p;
	for (size_t l = 0; l < 2; l++) {
		vk_spawn(&p, "loser");
		for (int kind = 0; kind < KINDS; kind++) {
			struct vk_dev d;
			struct vk_end e;
			uint8_t *mem = vk_pages(LEN);
			vk_open(&d);
			struct ibv_mr *mr = vk_reg(&d, mem, LEN, VK_RW);
			vk_end_make(&e, &d, NULL);
			vk_to_init(&e);
			struct vk_name peer = vk_meet(&e, p.fd, mr);
			struct ibv_sge s = vk_sge(mr, mem, lens[l]);
			enum ibv_wc_status status = IBV_WC_REM_ACCESS_ERR;
			vk_post(&e, &(struct vk_wr){ .op = IBV_WR_RDMA_WRITE, .sge = &s, .n = 1, .remote = peer.addr, .rkey = peer.rkey });
			struct ibv_wc wc = vk_wait(e.scq);
			if (wc.status == IBV_WC_SUCCESS && (kind == PRIVATE || kind == READONLY)) { /* the pages are kept for peers */
				status = IBV_WC_REM_OP_ERR;
				vk_post(&e, &(struct vk_wr){ .op = IBV_WR_SEND, .sge = &s, .n = 1 });
				wc = vk_wait(e.scq);
			}
			VK_EQ(wc.status, status);
			vk_sync(p.fd);
			vk_end_free(&e);
			VK_EQ(ibv_dereg_mr(mr), 0);
			vk_close(&d);
			vk_unpages(mem, LEN);
		}
		vk_join(&p);
	}
}

/* ---- faults that are not ours ------------------------------------------------------------------------------------------------ */

static sigjmp_buf back;
static void *_Atomic fault_at;
static _Atomic int fault_signal;

static void informed(int sig, siginfo_t *info, void *uc)
{
	(void)uc;
	fault_signal = sig;
	fault_at = info->si_addr;
	siglongjmp(back, 1);
}

static void uninformed(int sig)
{
	fault_signal = sig;
	siglongjmp(back, 1);
}

/* The program's own mistake, then one of registered memory, then its own again: each is told from the other. */
static void own_fault(char *nowhere)
{
	fault_signal = 0;
	if (!sigsetjmp(back, 1)) {
		*(volatile char *)nowhere = 1;
		VK(!"reached");
	}
	VK_EQ(fault_signal, SIGSEGV);
	VK(!fault_at || fault_at == nowhere);
}

static void faults_in_turn(void)
{
	char *nowhere = mmap(NULL, VK_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (int i = 0; i < 3; i++) {
		own_fault(nowhere + 16 * i);
		one(&operations[0], TRUNCATED, 64, 0);
		one(&operations[0], TRUNCATED, 40000, 0);
	}
}

static void with_informed(int fd)
{
	(void)fd;
	struct sigaction sa = { .sa_sigaction = informed, .sa_flags = SA_SIGINFO };
	sigaction(SIGSEGV, &sa, NULL);
	faults_in_turn();
	VK(fault_at);
}

static void with_uninformed(int fd)
{
	(void)fd;
	struct sigaction sa = { .sa_handler = uninformed };
	sigaction(SIGSEGV, &sa, NULL);
	faults_in_turn();
}

static void without_core(void)
{
	setrlimit(RLIMIT_CORE, &(struct rlimit){ 0 });
	signal(SIGSEGV, SIG_DFL); /* a sanitizer's handler would report and exit */
	signal(SIGBUS, SIG_DFL);
}

/* Ends by its own SIGSEGV. */
static void crashes(int fd)
{
	(void)fd;
	without_core();
	one(&operations[0], TRUNCATED, 64, 0);
	char *volatile nowhere = mmap(NULL, VK_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	nowhere[0] = 1;
}

/* Ends by a signal that somebody sends. */
static void is_signalled(int fd)
{
	(void)fd;
	without_core();
	one(&operations[0], TRUNCATED, 64, 0);
	kill(getpid(), SIGBUS);
	sleep(5);
}

static void ignores(int fd)
{
	(void)fd;
	signal(SIGSEGV, SIG_IGN);
	one(&operations[0], TRUNCATED, 64, 0);
	kill(getpid(), SIGSEGV);
	one(&operations[0], PRIVATE, 64, 0);
}

/* Resets itself: the first fault is handled, the second is not. */
static void once(int fd)
{
	(void)fd;
	without_core();
	struct sigaction sa = { .sa_handler = uninformed, .sa_flags = (int)SA_RESETHAND };
	sigaction(SIGSEGV, &sa, NULL);
	one(&operations[0], TRUNCATED, 64, 0);
	char *nowhere = mmap(NULL, VK_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	own_fault(nowhere);
	*(volatile char *)nowhere = 1;
}

/* Threads of daemons block all signals; on an alternate stack or without. */
static void *blocked_thread(void *arg)
{
	sigset_t all;
	stack_t st = { .ss_sp = arg, .ss_size = 1 << 16 }, none = { .ss_flags = SS_DISABLE }, before;
	sigaltstack(arg ? &st : &none, &before); /* a sanitizer has set one */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	one(&operations[0], TRUNCATED, 64, 0);
	one(&operations[6], SHARED, 40000, 0);
	sigaltstack(&before, NULL);
	return NULL;
}

static void blocked(int fd)
{
	(void)fd;
	static char stack[1 << 16];
	for (int i = 0; i < 2; i++) {
		pthread_t t;
		VK_EQ(pthread_create(&t, NULL, blocked_thread, i ? stack : NULL), 0);
		VK_EQ(pthread_join(t, NULL), 0);
	}
}

/* ---- tests ---------------------------------------------------------------------------------------------------------------- */

static void lives(const char *role)
{
	struct vk_partner p;
	vk_spawn(&p, role);
	vk_join(&p);
}

static void dies(const char *role, int sig)
{
	struct vk_partner p;
	int status;
	vk_spawn(&p, role);
	VK_EQ(waitpid(p.pid, &status, 0), p.pid);
	close(p.fd);
	VK(WIFSIGNALED(status));
	VK_EQ(WTERMSIG(status), sig);
}

static void connected(void **s) { (void)s, lives("all_operations"); }
static void datagram(void **s) { (void)s, lives("datagrams"); }
static void unconnected(void **s) { (void)s, lives("unreliable"); }
static void helper_meets_it(void **s) { (void)s, lives("against_sleeper"); }
static void own_faults(void **s)
{
	(void)s;
	lives("with_informed");
	lives("with_uninformed");
	lives("ignores");
	lives("blocked");
	dies("crashes", SIGSEGV);
	dies("is_signalled", SIGBUS);
	dies("once", SIGSEGV);
}

int main(int argc, char **argv)
{
#define ROLE(name) { #name, name }
	static const struct vk_role roles[] = {
		ROLE(all_operations), ROLE(datagrams), ROLE(unreliable), ROLE(loser), ROLE(against_sleeper), ROLE(with_informed),
		ROLE(with_uninformed), ROLE(ignores), ROLE(blocked), ROLE(crashes), ROLE(is_signalled), ROLE(once),
	};
	vk_start(argc, argv, roles, sizeof roles / sizeof *roles);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(connected), cmocka_unit_test(datagram), cmocka_unit_test(unconnected), cmocka_unit_test(helper_meets_it),
		cmocka_unit_test(own_faults),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
