/*
 * Registering memory that is in use: nothing a thread writes may be lost when its pages change places, whatever kind of memory it
 * is, and after deregistration it is ordinary memory again. What a fork leaves to both sides.
 */
#define _GNU_SOURCE
#include "verbs-kit.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <unistd.h>

static struct vk_dev dev;
static struct vk_end end[2];

static void setup_pair(void)
{
	vk_open(&dev);
	vk_pair_make(end, &dev, NULL);
}

static void teardown_pair(void)
{
	vk_pair_free(end);
	vk_close(&dev);
}

/* Writes to and reads from the region through the device, and by hand; all must agree. */
static void exercise(uint8_t *p, size_t len, struct ibv_mr *mr, bool writable)
{
	static uint8_t local[100000];
	static struct ibv_mr *ml;
	static struct ibv_context *of;
	if (of != dev.ctx || !ml) {
		ml = vk_reg(&dev, local, sizeof local, VK_RW);
		of = dev.ctx;
	}
	size_t n = len < sizeof local ? len : sizeof local;
	if (writable) {
		vk_fill(p, n, 1);
		vk_fill(local, n, 2);
		struct ibv_sge s = vk_sge(ml, local, n);
		vk_post(&end[0], &(struct vk_wr){ .op = IBV_WR_RDMA_WRITE, .sge = &s, .n = 1, .remote = (uintptr_t)p, .rkey = mr->rkey });
		vk_wait_ok(end[0].scq);
		VK(vk_is(p, n, 2));
	}
	memset(local, 0, n);
	struct ibv_sge s = vk_sge(ml, local, n);
	vk_post(&end[0], &(struct vk_wr){ .op = IBV_WR_RDMA_READ, .sge = &s, .n = 1, .remote = (uintptr_t)p, .rkey = mr->rkey });
	vk_wait_ok(end[0].scq);
	VK(!memcmp(local, p, n));
	/* as source of a message */
	vk_recv1(&end[1], 1, ml, local, n);
	memset(local, 0, n);
	vk_send(&end[0], 1, mr, p, n);
	vk_wait_ok(end[0].scq);
	vk_wait_ok(end[1].rcq);
	VK(!memcmp(local, p, n));
	VK_EQ(ibv_dereg_mr(ml), 0);
	ml = NULL;
}

static void kinds(void **state)
{
	(void)state;
	const size_t len = 20 * VK_PAGE;
	setup_pair();
	/* pages never touched before */
	uint8_t *p = vk_pages(len);
	struct ibv_mr *mr = vk_reg(&dev, p, len, VK_RW);
	for (size_t i = 0; i < len; i += 511)
		VK_EQ(p[i], 0);
	exercise(p, len, mr, true);
	VK_EQ(ibv_dereg_mr(mr), 0);
	/* the same again, with contents, twice over */
	vk_fill(p, len, 9);
	for (int i = 0; i < 3; i++) {
		mr = vk_reg(&dev, p, len, VK_RW);
		VK(vk_is(p, len, 9));
		VK_EQ(ibv_dereg_mr(mr), 0);
		VK(vk_is(p, len, 9));
	}
	vk_unpages(p, len);

	/* stack */
	uint8_t stack[5 * VK_PAGE];
	mr = vk_reg(&dev, stack, sizeof stack, VK_RW);
	exercise(stack, sizeof stack, mr, true);
	VK_EQ(ibv_dereg_mr(mr), 0);

	/* static data */
	static uint8_t data[6 * VK_PAGE] = { 1 };
	mr = vk_reg(&dev, data, sizeof data, VK_RW);
	exercise(data, sizeof data, mr, true);
	VK_EQ(ibv_dereg_mr(mr), 0);

	/* a small heap block in the break area */
	uint8_t *h = malloc(10 * VK_PAGE);
	memset(h, 4, 10 * VK_PAGE);
	mr = vk_reg(&dev, h + 1, 10 * VK_PAGE - 1, VK_RW);
	exercise(h + 1, 10 * VK_PAGE - 1, mr, true);
	VK_EQ(ibv_dereg_mr(mr), 0);
	free(h);

	/* files, shared and private */
	char name[] = "/tmp/rdmakit-test-XXXXXX";
	int fd = mkstemp(name);
	VK(fd >= 0);
	VK_EQ(unlink(name), 0);
	VK_EQ(ftruncate(fd, (off_t)len), 0);
	for (int shared = 0; shared < 2; shared++) {
		p = mmap(NULL, len, PROT_READ | PROT_WRITE, shared ? MAP_SHARED : MAP_PRIVATE, fd, 0);
		VK(p != MAP_FAILED);
		mr = vk_reg(&dev, p, len, VK_RW);
		exercise(p, len, mr, true);
		VK_EQ(ibv_dereg_mr(mr), 0);
		uint8_t *check = malloc(len);
		VK_EQ(pread(fd, check, len, 0), len);
		VK_EQ(!memcmp(check, p, len), shared);
		free(check);
		vk_unpages(p, len);
	}
	/* read-only memory: may be read, may not be registered for writing */
	p = mmap(NULL, len, PROT_READ, MAP_SHARED, fd, 0);
	VK(p != MAP_FAILED);
	errno = 0;
	VK(!ibv_reg_mr(dev.pd, p, len, VK_RW));
	VK_EQ(errno, EFAULT);
	mr = vk_reg(&dev, p, len, IBV_ACCESS_REMOTE_READ);
	exercise(p, len, mr, false);
	VK_EQ(ibv_dereg_mr(mr), 0);
	vk_unpages(p, len);
	close(fd);

	/* nothing mapped, a hole in the middle, an overflow */
	p = vk_pages(4 * VK_PAGE);
	VK_EQ(munmap(p + VK_PAGE, VK_PAGE), 0);
	VK(!ibv_reg_mr(dev.pd, p, 3 * VK_PAGE, VK_RW) && errno == EFAULT);
	VK(!ibv_reg_mr(dev.pd, p + VK_PAGE, 10, VK_RW) && errno == EFAULT);
	VK(!ibv_reg_mr(dev.pd, p, SIZE_MAX - 10, VK_RW));
	munmap(p, 4 * VK_PAGE);

	/* nothing at all */
	mr = ibv_reg_mr(dev.pd, NULL, 0, VK_RW);
	VK(mr);
	vk_post(&end[0], &(struct vk_wr){ .op = IBV_WR_RDMA_WRITE, .remote = 0, .rkey = mr->rkey });
	vk_wait_ok(end[0].scq);
	VK_EQ(ibv_dereg_mr(mr), 0);
	/* rights that make no sense */
	uint64_t x;
	VK(!ibv_reg_mr(dev.pd, &x, 8, IBV_ACCESS_REMOTE_WRITE) && errno == EINVAL);
	VK(!ibv_reg_mr(dev.pd, &x, 8, IBV_ACCESS_REMOTE_ATOMIC) && errno == EINVAL);
	teardown_pair();
}

/* ---- kinds of memory with owners of their own ------------------------------------------------------------------------ */

#define HUGE (2u << 20)

/* The system's number of huge pages, which only root may set; -1 when it cannot be told. */
static long huge_pages(long set)
{
	char text[32] = "";
	int fd = open("/proc/sys/vm/nr_hugepages", set >= 0 ? O_RDWR : O_RDONLY);
	if (fd < 0)
		return -1;
	if (set >= 0 && dprintf(fd, "%ld", set) < 0)
		set = -1;
	ssize_t n = pread(fd, text, sizeof text - 1, 0);
	close(fd);
	return n > 0 ? strtol(text, NULL, 10) : -1;
}

static void *map_hugetlb(int fd, int flags)
{
	void *p = mmap(NULL, 2 * HUGE, PROT_READ | PROT_WRITE, flags, fd, 0);
	return p == MAP_FAILED ? NULL : p;
}

static void *make_private_hugetlb(void) { return map_hugetlb(-1, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB); }
static void *make_shared_hugetlb(void) { return map_hugetlb(-1, MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB); }

static void *make_file(int fd)
{
	VK(fd >= 0);
	VK_EQ(ftruncate(fd, 2 * HUGE), 0);
	void *p = mmap(NULL, 2 * HUGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	VK(p != MAP_FAILED);
	return p;
}

static void *make_hugetlb_memfd(void)
{
	int fd = memfd_create("rdmakit-test", MFD_HUGETLB | MFD_CLOEXEC);
	if (fd < 0 || ftruncate(fd, 2 * HUGE)) {
		close(fd);
		return NULL;
	}
	void *p = map_hugetlb(fd, MAP_SHARED);
	close(fd);
	return p;
}

static void *make_memfd(void) { return make_file(memfd_create("rdmakit-test", MFD_CLOEXEC)); }

static void *make_sysv(void)
{
	int id = shmget(IPC_PRIVATE, 2 * HUGE, IPC_CREAT | 0600);
	VK(id >= 0);
	void *p = shmat(id, NULL, 0);
	shmctl(id, IPC_RMID, NULL);
	VK(p != (void *)-1);
	return p;
}

static void *make_shared(void)
{
	void *p = mmap(NULL, 2 * HUGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	VK(p != MAP_FAILED);
	return p;
}

/* Transparent huge pages: touched after the advice, aligned. */
static void *make_thp(void)
{
	char *p = mmap(NULL, 3 * HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	VK(p != MAP_FAILED);
	char *aligned = (char *)(((uintptr_t)p + HUGE - 1) & ~(uintptr_t)(HUGE - 1));
	if (aligned > p)
		munmap(p, (size_t)(aligned - p));
	munmap(aligned + 2 * HUGE, (size_t)(p + HUGE - aligned));
	madvise(aligned, 2 * HUGE, MADV_HUGEPAGE);
	memset(aligned, 1, 2 * HUGE);
	return aligned;
}

/* Operations in both directions at both ends of the memory, then a fork under registration: the child sees what was there and writes; the
 * parent's memory changes only where it is shared by its nature, and goes on serving the device. */
static void serves(const char *what, uint8_t *p, bool shared, unsigned access)
{
	int status;
	print_message("%s\n", what);
	struct ibv_mr *mr = vk_reg(&dev, p, 2 * HUGE, access);
	exercise(p, 2 * HUGE, mr, true);
	exercise(p + 2 * HUGE - 5000, 5000, mr, true);
	vk_fill(p, 2 * HUGE, 3);
	uint8_t first = p[0];
	pid_t pid = fork();
	if (pid == 0) {
		bool same = vk_is(p, 2 * HUGE, 3);
		p[0]++;
		_exit(same ? 0 : 1);
	}
	VK_EQ(waitpid(pid, &status, 0), pid);
	VK(WIFEXITED(status));
	VK_EQ(WEXITSTATUS(status), 0);
	VK_EQ(p[0], (uint8_t)(first + shared));
	exercise(p, 2 * HUGE, mr, true);
	VK_EQ(ibv_dereg_mr(mr), 0);
	vk_fill(p, 2 * HUGE, 4);
	VK(vk_is(p, 2 * HUGE, 4));
	munmap(p, 2 * HUGE);
}

static void owned_by_others(void **state)
{
	(void)state;
	setup_pair();
	serves("transparent huge pages", make_thp(), false, VK_RW);
	serves("shared anonymous", make_shared(), true, VK_RW);
	serves("memfd", make_memfd(), true, VK_RW);
	serves("System V", make_sysv(), true, VK_RW); /* munmap detaches it too */

	long before = huge_pages(-1);
	if (before >= 0 && before < 8)
		huge_pages(before + 8);
	void *(*const makers[])(void) = { make_private_hugetlb, make_shared_hugetlb, make_hugetlb_memfd };
	static const char *const names[] = { "hugetlb, private", "hugetlb, shared", "hugetlb memfd" };
	for (int i = 0; i < 3; i++) {
		void *p = makers[i]();
		if (p)
			serves(names[i], p, i > 0, VK_RW | IBV_ACCESS_HUGETLB);
		else
			print_message("%s: left out, there are no huge pages and /proc/sys/vm/nr_hugepages cannot be set\n", names[i]);
	}
	if (before >= 0 && before < 8)
		huge_pages(before);
	teardown_pair();
}

/* Regions over the same pages: equal, inside, overlapping; each works until its own end. */
static void overlapping(void **state)
{
	(void)state;
	setup_pair();
	const size_t len = 64 * VK_PAGE;
	uint8_t *p = vk_pages(len);
	static const struct {
		size_t at, pages;
	} part[] = { { 0, 64 }, { 0, 64 }, { 10, 5 }, { 12, 30 }, { 60, 4 }, { 40, 10 } };
	for (int order = 0; order < 4; order++) {
		struct ibv_mr *mr[6];
		for (int k = 0; k < 6; k++) {
			int i = order & 1 ? 5 - k : k;
			mr[i] = vk_reg(&dev, p + part[i].at * VK_PAGE, part[i].pages * VK_PAGE, VK_RW);
		}
		for (int k = 0; k < 6; k++) {
			int gone = order & 2 ? 5 - k : k;
			for (int j = k; j < 6; j++) {
				int i = order & 2 ? 5 - j : j;
				exercise(mr[i]->addr, mr[i]->length, mr[i], true);
			}
			vk_fill(p, len, (uint32_t)k);
			VK_EQ(ibv_dereg_mr(mr[gone]), 0);
			VK(vk_is(p, len, (uint32_t)k));
		}
	}
	vk_unpages(p, len);
	teardown_pair();
}

/* ---- threads that write meanwhile ------------------------------------------------------------------------------------- */

struct writer {
	pthread_t thread;
	uint64_t *words;
	size_t n;
	_Atomic bool stop;
	_Atomic uint64_t rounds;
};

/* Each word always holds what this thread wrote last. ThreadSanitizer takes the mapping that is put in place for a write to
 * all of it, so it is told to look away here. */
__attribute__((no_sanitize("thread"))) static void *write_on(void *arg)
{
	struct writer *w = arg;
	uint64_t *mine = calloc(w->n, sizeof *mine);
	uint64_t seed = (uintptr_t)w;
	while (!atomic_load(&w->stop)) {
		for (int k = 0; k < 2000; k++) {
			seed = seed * 6364136223846793005u + 1442695040888963407u;
			size_t i = (seed >> 33) % w->n;
			VK(*(volatile uint64_t *)&w->words[i] == mine[i] && "no write is lost");
			*(volatile uint64_t *)&w->words[i] = mine[i] = seed;
		}
		atomic_fetch_add(&w->rounds, 1);
	}
	for (size_t i = 0; i < w->n; i++)
		VK(w->words[i] == mine[i] && "no write is lost in the end");
	free(mine);
	return NULL;
}

static void writers_on(uint8_t *p, size_t len, unsigned threads, int rounds)
{
	struct writer w[2];
	memset(p, 0, len);
	for (unsigned i = 0; i < threads; i++) {
		w[i] = (struct writer){ .words = (uint64_t *)(void *)(p + i * (len / threads)), .n = len / threads / 8 };
		VK_EQ(pthread_create(&w[i].thread, NULL, write_on, &w[i]), 0);
	}
	for (int r = 0; r < rounds; r++) {
		struct ibv_mr *mr = vk_reg(&dev, p + (r % 3) * 100, len - (size_t)(r % 3) * 5000, VK_RW);
		struct ibv_mr *second = r % 2 ? vk_reg(&dev, p + VK_PAGE, 4 * VK_PAGE, VK_RW) : NULL;
		if (r % 5 == 4)
			VK_EQ(ibv_rereg_mr(mr, IBV_REREG_MR_CHANGE_TRANSLATION, NULL, p, len, 0), 0);
		uint64_t before = atomic_load(&w[0].rounds);
		for (int spin = 0; atomic_load(&w[0].rounds) == before && spin < 100; spin++)
			sched_yield();
		if (second)
			VK_EQ(ibv_dereg_mr(second), 0);
		VK_EQ(ibv_dereg_mr(mr), 0);
	}
	for (unsigned i = 0; i < threads; i++) {
		atomic_store(&w[i].stop, true);
		VK_EQ(pthread_join(w[i].thread, NULL), 0);
	}
}

static void concurrent_writers(void **state)
{
	(void)state;
	setup_pair();
	size_t len = 50 * VK_PAGE;
	uint8_t *p = vk_pages(len);
	writers_on(p, len, 1, 60);
	writers_on(p, len, 2, 60);
	vk_unpages(p, len);
	len = 5u << 20; /* with huge pages inside, where they are on */
	p = vk_pages(len);
	madvise(p, len, MADV_HUGEPAGE);
	writers_on(p, len, 2, 12);
	vk_unpages(p, len);
	uint8_t *h = malloc(30 * VK_PAGE);
	writers_on(h + 16, 29 * VK_PAGE, 2, 40);
	free(h);
	teardown_pair();
}

/* Another process hammers atomics on the region while it is registered over again beside: every one is counted. */
static void adder(int fd)
{
	struct vk_dev d;
	struct vk_end e;
	uint64_t old;
	vk_open(&d);
	struct ibv_mr *mr = vk_reg(&d, &old, 8, VK_RW);
	vk_end_make(&e, &d, NULL);
	struct vk_name peer = vk_meet(&e, fd, NULL);
	struct ibv_sge s = vk_sge(mr, &old, 8);
	for (int i = 0; i < 20000; i++) {
		vk_post(&e, &(struct vk_wr){ .op = IBV_WR_ATOMIC_FETCH_AND_ADD, .sge = &s, .n = 1, .remote = peer.addr, .rkey = peer.rkey, .add = 1 });
		vk_wait_ok(e.scq);
	}
	vk_sync(fd);
	vk_end_free(&e);
	VK_EQ(ibv_dereg_mr(mr), 0);
	vk_close(&d);
}

static void atomics_while_registering(void **state)
{
	(void)state;
	struct vk_partner p[2];
	struct vk_end e[2];
	uint8_t *mem = vk_pages(8 * VK_PAGE);
	vk_open(&dev);
	struct ibv_mr *mr = vk_reg(&dev, mem, 8 * VK_PAGE, VK_RW);
	for (int i = 0; i < 2; i++) {
		vk_spawn(&p[i], "adder");
		vk_end_make(&e[i], &dev, NULL);
		vk_meet(&e[i], p[i].fd, mr);
	}
	/* ours: plain CPU atomics on the same word, and registrations that come and go over and beside it */
	for (int i = 0; i < 500; i++) {
		__atomic_fetch_add((uint64_t *)(void *)mem, 1, __ATOMIC_SEQ_CST);
		struct ibv_mr *other = vk_reg(&dev, mem + (i % 4) * VK_PAGE, 2 * VK_PAGE, VK_RW);
		VK_EQ(ibv_dereg_mr(other), 0);
	}
	for (int i = 0; i < 2; i++) {
		vk_sync(p[i].fd);
		vk_join(&p[i]);
		vk_end_free(&e[i]);
	}
	VK_EQ(*(uint64_t *)(void *)mem, 500 + 2 * 20000);
	VK_EQ(ibv_dereg_mr(mr), 0);
	VK_EQ(*(uint64_t *)(void *)mem, 500 + 2 * 20000);
	vk_unpages(mem, 8 * VK_PAGE);
	vk_close(&dev);
}

static bool untouched_from(const uint8_t *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (p[i])
			return false;
	return true;
}

/* The application frees, moves or splits memory before it deregisters it. */
static void memory_goes_first(void **state)
{
	(void)state;
	setup_pair();
	const size_t len = 16 * VK_PAGE;
	/* gone */
	uint8_t *p = vk_pages(len);
	struct ibv_mr *mr = vk_reg(&dev, p, len, VK_RW);
	vk_unpages(p, len);
	VK_EQ(ibv_dereg_mr(mr), 0);
	/* half of it gone, the rest keeps its contents, also after others used the space */
	p = vk_pages(len);
	mr = vk_reg(&dev, p, len, VK_RW);
	vk_fill(p, len, 1);
	VK_EQ(munmap(p, len / 2), 0);
	VK_EQ(ibv_dereg_mr(mr), 0);
	uint8_t *q = vk_pages(len), copy[VK_PAGE];
	struct ibv_mr *mq = vk_reg(&dev, q, len, VK_RW);
	memset(q, 0x77, len);
	vk_fill(copy, sizeof copy, 5);
	uint8_t *whole = malloc(len);
	vk_fill(whole, len, 1);
	VK(!memcmp(p + len / 2, whole + len / 2, len / 2));
	VK_EQ(munmap(p + len / 2, len / 2), 0);
	VK_EQ(ibv_dereg_mr(mq), 0);
	/* replaced by another mapping: that one is not touched */
	mr = vk_reg(&dev, q, len, VK_RW);
	VK(mmap(q + VK_PAGE, VK_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == q + VK_PAGE);
	memset(q + VK_PAGE, 0x55, VK_PAGE);
	VK_EQ(ibv_dereg_mr(mr), 0);
	VK_EQ(q[0], 0x77);
	VK_EQ(q[VK_PAGE], 0x55);
	VK_EQ(q[2 * VK_PAGE], 0x77);
	vk_unpages(q, len);
	/* moved, as realloc does */
	p = vk_pages(len);
	mr = vk_reg(&dev, p, len, VK_RW);
	memcpy(p, whole, len);
	uint8_t *moved = vk_pages(len);
	VK(mremap(p, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, moved) == moved);
	VK_EQ(ibv_dereg_mr(mr), 0);
	q = vk_pages(len);
	mq = vk_reg(&dev, q, len, VK_RW);
	memset(q, 0x66, len);
	VK(!memcmp(moved, whole, len));
	VK_EQ(ibv_dereg_mr(mq), 0);
	vk_unpages(q, len);
	/* grown: the new part is zero, and stays the application's own */
	mr = vk_reg(&dev, moved, len, VK_RW);
	q = vk_pages(len);
	mq = vk_reg(&dev, q, len, VK_RW);
	memset(q, 0x66, len);
	moved = mremap(moved, len, 2 * len, MREMAP_MAYMOVE);
	VK(moved != MAP_FAILED);
	VK(untouched_from(moved + len, len));
	memset(moved + len, 0x44, len);
	for (size_t i = 0; i < len; i++)
		VK_EQ(q[i], 0x66);
	VK_EQ(ibv_dereg_mr(mr), 0);
	VK(!memcmp(moved, whole, len) && moved[len] == 0x44 && moved[2 * len - 1] == 0x44);
	struct ibv_mr *again = vk_reg(&dev, moved, 2 * len, VK_RW);
	VK(!memcmp(moved, whole, len) && moved[len] == 0x44 && moved[2 * len - 1] == 0x44);
	VK(!ibv_dereg_mr(again) && !ibv_dereg_mr(mq));
	vk_unpages(moved, 2 * len);
	vk_unpages(q, len);
	free(whole);
	teardown_pair();
}

int main(int argc, char **argv)
{
	static const struct vk_role roles[] = { { "adder", adder } };
	vk_start(argc, argv, roles, 1);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(kinds), cmocka_unit_test(owned_by_others), cmocka_unit_test(overlapping), cmocka_unit_test(concurrent_writers),
		cmocka_unit_test(atomics_while_registering), cmocka_unit_test(memory_goes_first),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
