/*
 * Many threads on one device: posting to one queue pair, polling one queue, making and destroying objects beside the traffic; and very
 * many queue pairs between two processes.
 */
#define _GNU_SOURCE
#include "verbs-world.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#define THREADS 4
#define EACH 400

struct shared {
	struct vk_dev *d;
	struct vk_end *e;
	struct ibv_mr *ma, *mb;
	uint8_t *a, *b;
	_Atomic uint32_t tickets, seen, sent_done;
	_Atomic uint8_t got[THREADS * EACH];
	_Atomic bool stop;
	int index;
};

/* Posts SENDs that carry a number; waits for credit so that the queues do not run over. */
static void *poster(void *arg)
{
	struct shared *s = arg;
	for (int i = 0; i < EACH; i++) {
		uint32_t n = atomic_fetch_add(&s->tickets, 1);
		while (n >= atomic_load(&s->sent_done) + 40)
			sched_yield();
		memcpy(s->a + 4 * n, &n, 4);
		struct ibv_sge sge = vk_sge(s->ma, s->a + 4 * n, 4);
		if (n % 2) {
			while (vk_try_post(&s->e[0], &(struct vk_wr){ .op = IBV_WR_SEND, .id = n, .sge = &sge, .n = 1 }))
				sched_yield();
		} else {
			struct ibv_qp_ex *q = s->e[0].ex;
			int err;
			do {
				ibv_wr_start(q);
				q->wr_id = n;
				q->wr_flags = IBV_SEND_SIGNALED;
				ibv_wr_send(q);
				ibv_wr_set_sge(q, s->ma->lkey, (uintptr_t)s->a + 4 * n, 4);
				err = ibv_wr_complete(q);
			} while (err && (sched_yield(), true));
		}
	}
	return NULL;
}

static void *send_poller(void *arg)
{
	struct shared *s = arg;
	struct ibv_wc wc[8];
	while (atomic_load(&s->sent_done) < THREADS * EACH) {
		int n = ibv_poll_cq(s->e[0].scq, 8, wc);
		VK(n >= 0);
		for (int i = 0; i < n; i++)
			VK_EQ(wc[i].status, IBV_WC_SUCCESS);
		atomic_fetch_add(&s->sent_done, (uint32_t)n);
		if (!n)
			sched_yield();
	}
	return NULL;
}

static void *recv_poller(void *arg)
{
	struct shared *s = arg;
	struct ibv_wc wc;
	while (atomic_load(&s->seen) < THREADS * EACH) {
		if (ibv_poll_cq(s->e[1].rcq, 1, &wc) != 1) {
			sched_yield();
			continue;
		}
		uint32_t n;
		VK_EQ(wc.status, IBV_WC_SUCCESS);
		memcpy(&n, s->b + 4 * wc.wr_id, 4);
		VK(n < THREADS * EACH);
		VK_EQ(atomic_fetch_add(&s->got[n], 1), 0); /* each once */
		atomic_fetch_add(&s->seen, 1);
		vk_recv1(&s->e[1], wc.wr_id, s->mb, s->b + 4 * wc.wr_id, 4);
	}
	return NULL;
}

/* Objects come and go meanwhile. */
static void *churner(void *arg)
{
	struct shared *s = arg;
	while (!atomic_load(&s->stop)) {
		struct vk_end e[2];
		struct ibv_qp_attr qa;
		struct ibv_qp_init_attr qi;
		uint8_t *p = malloc(20000);
		struct ibv_mr *mr = vk_reg(s->d, p, 20000, VK_RW);
		vk_pair_make(e, s->d, NULL);
		struct ibv_sge sge = vk_sge(mr, p, 9000);
		vk_post(&e[0], &(struct vk_wr){ .op = IBV_WR_RDMA_WRITE, .sge = &sge, .n = 1, .remote = (uintptr_t)p + 10000, .rkey = mr->rkey });
		vk_wait_ok(e[0].scq);
		VK_EQ(ibv_query_qp(e[0].qp, &qa, 0, &qi), 0);
		vk_pair_free(e);
		VK_EQ(ibv_dereg_mr(mr), 0);
		free(p);
	}
	return NULL;
}

static void shared_queues(void **state)
{
	(void)state;
	static struct shared s;
	struct vk_dev d;
	struct vk_end e[2];
	pthread_t t[THREADS], sp[2], rp[2], ch;
	memset(&s, 0, sizeof s);
	vk_open(&d);
	vk_pair_make(e, &d, NULL);
	s.d = &d;
	s.e = e;
	s.a = vk_pages(LEN);
	s.b = vk_pages(LEN);
	s.ma = vk_reg(&d, s.a, LEN, VK_RW);
	s.mb = vk_reg(&d, s.b, LEN, VK_RW);
	for (uint64_t i = 0; i < 50; i++)
		vk_recv1(&e[1], i, s.mb, s.b + 4 * i, 4);
	for (int i = 0; i < 2; i++) {
		VK_EQ(pthread_create(&sp[i], NULL, send_poller, &s), 0);
		VK_EQ(pthread_create(&rp[i], NULL, recv_poller, &s), 0);
	}
	VK_EQ(pthread_create(&ch, NULL, churner, &s), 0);
	for (int i = 0; i < THREADS; i++)
		VK_EQ(pthread_create(&t[i], NULL, poster, &s), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	for (int i = 0; i < 2; i++) {
		pthread_join(sp[i], NULL);
		pthread_join(rp[i], NULL);
	}
	atomic_store(&s.stop, true);
	pthread_join(ch, NULL);
	for (int i = 0; i < THREADS * EACH; i++)
		VK_EQ(s.got[i], 1);
	vk_pair_free(e);
	VK(!ibv_dereg_mr(s.ma) && !ibv_dereg_mr(s.mb));
	vk_close(&d);
	vk_unpages(s.a, LEN);
	vk_unpages(s.b, LEN);
}

/* One queue pair a thread, all kinds of operations, all on one pair of buffers' own parts. */
static void *worker(void *arg)
{
	struct shared *s = arg;
	struct vk_end e[2];
	int k = s->index;
	uint8_t *a = s->a + k * 16384, *b = s->b + k * 16384;
	vk_pair_make(e, s->d, &(struct vk_conf){ .type = k == 2 ? IBV_QPT_UD : k == 3 ? IBV_QPT_UC : IBV_QPT_RC });
	for (uint32_t i = 0; i < 150; i++) {
		size_t len = k == 2 ? 1 + i * 20 : 1 + i * 100;
		struct ibv_sge sge = vk_sge(s->ma, a, len);
		vk_fill(a, len, i);
		if (k < 2) {
			vk_post(&e[0], &(struct vk_wr){ .op = IBV_WR_RDMA_WRITE, .sge = &sge, .n = 1, .remote = (uintptr_t)b, .rkey = s->mb->rkey });
			vk_wait_ok(e[0].scq);
			VK(vk_is(b, len, i));
			memset(a, 0, len);
			vk_post(&e[0], &(struct vk_wr){ .op = IBV_WR_RDMA_READ, .sge = &sge, .n = 1, .remote = (uintptr_t)b, .rkey = s->mb->rkey });
			vk_wait_ok(e[0].scq);
			VK(vk_is(a, len, i));
			sge.length = 8;
			vk_post(&e[0], &(struct vk_wr){ .op = IBV_WR_ATOMIC_FETCH_AND_ADD, .sge = &sge, .n = 1, .remote = (uintptr_t)s->b + LEN - 8, .rkey = s->mb->rkey, .add = 1 });
			vk_wait_ok(e[0].scq);
		} else {
			vk_recv1(&e[1], i, s->mb, b, 16384);
			vk_post(&e[0], &(struct vk_wr){ .op = IBV_WR_SEND, .sge = &sge, .n = 1 });
			vk_wait_ok(e[0].scq);
			VK_EQ(vk_wait_ok(e[1].rcq).byte_len, len + (k == 2 ? 40 : 0));
			VK(vk_is(b + (k == 2 ? 40 : 0), len, i));
		}
	}
	vk_pair_free(e);
	return NULL;
}

static void own_queues(void **state)
{
	(void)state;
	static struct shared s[THREADS];
	struct vk_dev d;
	pthread_t t[THREADS];
	vk_open(&d);
	uint8_t *a = vk_pages(LEN), *b = vk_pages(LEN);
	struct ibv_mr *ma = vk_reg(&d, a, LEN, VK_RW), *mb = vk_reg(&d, b, LEN, VK_RW);
	for (int i = 0; i < THREADS; i++) {
		s[i] = (struct shared){ .d = &d, .a = a, .b = b, .ma = ma, .mb = mb, .index = i };
		VK_EQ(pthread_create(&t[i], NULL, worker, &s[i]), 0);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	VK_EQ(*(uint64_t *)(void *)(b + LEN - 8), 300);
	VK(!ibv_dereg_mr(ma) && !ibv_dereg_mr(mb));
	vk_close(&d);
	vk_unpages(a, LEN);
	vk_unpages(b, LEN);
}

/* ---- very many ------------------------------------------------------------------------------------------------------------- */

#define MANY 10000

struct many {
	struct vk_dev d;
	struct ibv_cq *cq;
	struct vk_end *e;
	uint32_t *qpn;
};

static void many_connect(struct many *m, int fd)
{
	uint32_t *theirs = calloc(MANY, 4);
	m->e = calloc(MANY, sizeof *m->e);
	m->qpn = calloc(MANY, 4);
	vk_open(&m->d);
	m->cq = ibv_create_cq(m->d.ctx, 4 * MANY, NULL, NULL, 0);
	for (int i = 0; i < MANY; i++) {
		vk_end_make(&m->e[i], &m->d, &(struct vk_conf){ .depth = 2, .sge = 1, .send_cq = m->cq, .recv_cq = m->cq });
		m->qpn[i] = m->e[i].qp->qp_num;
	}
	vk_put(fd, m->qpn, 4 * MANY);
	vk_get(fd, theirs, 4 * MANY);
	for (int i = 0; i < MANY; i++) {
		vk_to_init(&m->e[i]);
		vk_recv(&m->e[i], (uint64_t)i, NULL, 0);
		vk_connect(&m->e[i], theirs[i], &m->d.gid);
	}
	vk_sync(fd);
	free(theirs);
}

static void many_free(struct many *m)
{
	for (int i = 0; i < MANY; i++)
		vk_end_free(&m->e[i]);
	VK_EQ(ibv_destroy_cq(m->cq), 0);
	vk_close(&m->d);
	free(m->e);
	free(m->qpn);
}

static void many_side(int fd)
{
	struct many m;
	many_connect(&m, fd);
	int received = 0, sent = 0;
	while (received < MANY || sent < MANY) {
		struct ibv_wc wc = vk_wait_ok(m.cq);
		if (wc.opcode == IBV_WC_RECV) {
			VK_EQ(wc.wr_id, received); /* in the order sent, over all of them */
			received++;
			vk_post(&m.e[wc.wr_id], &(struct vk_wr){ .op = IBV_WR_SEND, .id = wc.wr_id });
		} else {
			sent++;
		}
	}
	vk_sync(fd);
	many_free(&m);
}

static void ten_thousand(void **state)
{
	(void)state;
	struct vk_partner p;
	struct many m;
	vk_spawn(&p, "many");
	many_connect(&m, p.fd);
	int received = 0, sent = 0, posted = 0;
	while (received < MANY || sent < MANY) {
		for (; posted < MANY && posted < received + 500; posted++)
			vk_post(&m.e[posted], &(struct vk_wr){ .op = IBV_WR_SEND, .id = (uint64_t)posted });
		struct ibv_wc wc = vk_wait_ok(m.cq);
		if (wc.opcode == IBV_WC_RECV)
			received++;
		else
			sent++;
	}
	vk_sync(p.fd);
	many_free(&m);
	vk_join(&p);
}

int main(int argc, char **argv)
{
	static const struct vk_role roles[] = { { "many", many_side } };
	vk_start(argc, argv, roles, 1);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shared_queues), cmocka_unit_test(own_queues), cmocka_unit_test(ten_thousand),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
