/*
 * verdicts.c - requests that a responder must refuse, or must keep waiting, and what each end is told of it. -m SCENARIO on both
 * ends. The requester (HOST given) posts the request of the scenario and a SEND behind it. Each end prints one line of names and
 * numbers, all of enum ibv_wc_status and enum ibv_qp_state:
 *
 *   requester first STATUS second STATUS state STATE         of the request, of the SEND behind it, of the queue pair
 *   responder receive STATUS state STATE changed 0|1         of the receive (-1: none completed); bytes of the target changed
 */
#include "link.h"
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define REGION 65536u
#define FILL 0x5a
#define PATIENCE_S 10

struct scenario {
	const char *name;
	unsigned int mr_access, qp_access;
	int receives;           /* that the responder posts before it connects */
	uint32_t receive_bytes; /* of each of them */
	int rnr_retry;
	int late_ms;            /* the responder posts a receive that much after connecting; 0: never */
	int vanishes;           /* the responder destroys its queue pair before the request is posted */
	enum ibv_wr_opcode opcode;
	uint32_t length;
	int64_t offset;         /* into the responder's region */
	uint32_t rkey_xor;
};

#define ALL (IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC)
#define QP_ALL (IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC)
#define WITHOUT(flag) (ALL & ~(unsigned int)(flag))
#define QP_WITHOUT(flag) (QP_ALL & ~(unsigned int)(flag))

static const struct scenario scenarios[] = {
	{ "granted", ALL, QP_ALL, 1, REGION, 7, 0, 0, IBV_WR_RDMA_WRITE, 5000, 0, 0 },
	{ "late-receive", ALL, QP_ALL, 0, REGION, 7, 400, 0, IBV_WR_SEND, 5000, 0, 0 },
	{ "no-receive", ALL, QP_ALL, 0, REGION, 2, 0, 0, IBV_WR_SEND, 5000, 0, 0 },
	{ "vanished", ALL, QP_ALL, 0, REGION, 7, 0, 1, IBV_WR_SEND, 5000, 0, 0 },
	{ "write-bad-key", ALL, QP_ALL, 1, REGION, 7, 0, 0, IBV_WR_RDMA_WRITE, 5000, 0, 0x3300 },
	{ "write-past-end", ALL, QP_ALL, 1, REGION, 7, 0, 0, IBV_WR_RDMA_WRITE, 5000, REGION - 4999, 0 },
	{ "write-before-start", ALL, QP_ALL, 1, REGION, 7, 0, 0, IBV_WR_RDMA_WRITE, 5000, -1, 0 },
	{ "write-mr-forbids", WITHOUT(IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_ATOMIC), QP_ALL, 1, REGION, 7, 0, 0, IBV_WR_RDMA_WRITE, 5000, 0, 0 },
	{ "write-qp-forbids", ALL, QP_WITHOUT(IBV_ACCESS_REMOTE_WRITE), 1, REGION, 7, 0, 0, IBV_WR_RDMA_WRITE, 5000, 0, 0 },
	{ "read-bad-key", ALL, QP_ALL, 1, REGION, 7, 0, 0, IBV_WR_RDMA_READ, 5000, 0, 0x3300 },
	{ "read-past-end", ALL, QP_ALL, 1, REGION, 7, 0, 0, IBV_WR_RDMA_READ, 5000, REGION - 4999, 0 },
	{ "read-mr-forbids", WITHOUT(IBV_ACCESS_REMOTE_READ), QP_ALL, 1, REGION, 7, 0, 0, IBV_WR_RDMA_READ, 5000, 0, 0 },
	{ "read-qp-forbids", ALL, QP_WITHOUT(IBV_ACCESS_REMOTE_READ), 1, REGION, 7, 0, 0, IBV_WR_RDMA_READ, 5000, 0, 0 },
	{ "atomic-bad-key", ALL, QP_ALL, 1, REGION, 7, 0, 0, IBV_WR_ATOMIC_FETCH_AND_ADD, 8, 0, 0x3300 },
	{ "atomic-past-end", ALL, QP_ALL, 1, REGION, 7, 0, 0, IBV_WR_ATOMIC_FETCH_AND_ADD, 8, REGION, 0 },
	{ "atomic-misaligned", ALL, QP_ALL, 1, REGION, 7, 0, 0, IBV_WR_ATOMIC_CMP_AND_SWP, 8, 4, 0 },
	{ "atomic-mr-forbids", WITHOUT(IBV_ACCESS_REMOTE_ATOMIC), QP_ALL, 1, REGION, 7, 0, 0, IBV_WR_ATOMIC_FETCH_AND_ADD, 8, 0, 0 },
	{ "atomic-qp-forbids", ALL, QP_WITHOUT(IBV_ACCESS_REMOTE_ATOMIC), 1, REGION, 7, 0, 0, IBV_WR_ATOMIC_FETCH_AND_ADD, 8, 0, 0 },
	{ "send-too-long", ALL, QP_ALL, 2, 100, 7, 0, 0, IBV_WR_SEND, 101, 0, 0 },
	{ "send-too-long-multi", ALL, QP_ALL, 2, 4999, 7, 0, 0, IBV_WR_SEND, 5000, 0, 0 },
};

static const struct scenario *find(const char *name)
{
	for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++)
		if (!strcmp(scenarios[i].name, name))
			return &scenarios[i];
	die("no scenario %s", name);
}

static double seconds(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* The next completion; ends the program when there is none for long. */
static struct ibv_wc completion(struct link *l)
{
	struct ibv_wc wc;
	for (double end = seconds() + PATIENCE_S; seconds() < end;) {
		int got = ibv_poll_cq(l->cq, 1, &wc);
		if (got < 0)
			die("ibv_poll_cq");
		if (got > 0)
			return wc;
	}
	die("no completion in %d s", PATIENCE_S);
}

static int state_of(struct link *l)
{
	struct ibv_qp_attr attr;
	struct ibv_qp_init_attr init;
	if (ibv_query_qp(l->qp, &attr, IBV_QP_STATE, &init))
		die("ibv_query_qp");
	return attr.qp_state;
}

static void post_receive(struct link *l, struct ibv_mr *mr, uint32_t bytes)
{
	struct ibv_sge sge = { (uint64_t)(uintptr_t)mr->addr + REGION, bytes, mr->lkey };
	struct ibv_recv_wr wr = { .sg_list = &sge, .num_sge = 1 }, *bad;
	if (ibv_post_recv(l->qp, &wr, &bad))
		die("ibv_post_recv");
}

static int changed(const unsigned char *memory)
{
	for (size_t i = 0; i < REGION; i++)
		if (memory[i] != FILL)
			return 1;
	return 0;
}

/* The region that it offers lies in the middle of memory of its own, so that what lands beside it is seen and not fatal. */
static void respond(struct link *l, const struct scenario *s)
{
	unsigned char *memory = aligned_alloc(4096, 4 * REGION), *offered = memory + REGION;
	char word;
	memset(memory, FILL, 4 * REGION);
	struct ibv_mr *mr = ibv_reg_mr(l->pd, offered, REGION, (int)s->mr_access);
	struct ibv_mr *own = ibv_reg_mr(l->pd, memory + 2 * REGION, 2 * REGION, IBV_ACCESS_LOCAL_WRITE);
	if (!mr || !own)
		die("ibv_reg_mr");
	for (int i = 0; i < s->receives; i++)
		post_receive(l, own, s->receive_bytes);
	link_connect(l, mr);
	if (s->vanishes && ibv_destroy_qp(l->qp))
		die("ibv_destroy_qp");
	link_send(l, "g", 1);
	if (s->late_ms) {
		nanosleep(&(struct timespec){ s->late_ms / 1000, s->late_ms % 1000 * 1000000L }, NULL);
		post_receive(l, own, s->receive_bytes);
		post_receive(l, own, s->receive_bytes);
	}
	if (!link_receive(l, &word, 1))
		die("the requester has gone");
	struct ibv_wc wc = { .status = (enum ibv_wc_status)-1 };
	int got = ibv_poll_cq(l->cq, 1, &wc);
	printf("responder receive %d state %d changed %d\n", got > 0 ? (int)wc.status : -1, s->vanishes ? -1 : state_of(l),
	       changed(memory) || changed(offered) || changed(offered + REGION + REGION));
	link_send(l, "e", 1);
}

static void request(struct link *l, const struct scenario *s)
{
	unsigned char *memory = calloc(1, REGION);
	struct ibv_mr *mr = ibv_reg_mr(l->pd, memory, REGION, IBV_ACCESS_LOCAL_WRITE);
	char word;
	if (!mr)
		die("ibv_reg_mr");
	memset(memory, ~FILL, REGION);
	link_connect(l, NULL);
	if (!link_receive(l, &word, 1))
		die("the responder has gone");
	struct ibv_sge sge = { (uint64_t)(uintptr_t)memory, s->length, mr->lkey }, small = { (uint64_t)(uintptr_t)memory, 1, mr->lkey };
	struct ibv_send_wr behind = { .wr_id = 1, .sg_list = &small, .num_sge = 1, .opcode = IBV_WR_SEND }, *bad;
	struct ibv_send_wr first = { .sg_list = &sge, .num_sge = 1, .opcode = s->opcode, .next = &behind };
	uint64_t at = l->there.addr + (uint64_t)s->offset;
	uint32_t rkey = l->there.rkey ^ s->rkey_xor;
	if (s->opcode == IBV_WR_ATOMIC_FETCH_AND_ADD || s->opcode == IBV_WR_ATOMIC_CMP_AND_SWP) {
		first.wr.atomic.remote_addr = at;
		first.wr.atomic.rkey = rkey;
		memset(&first.wr.atomic.compare_add, FILL, sizeof first.wr.atomic.compare_add);
	} else {
		first.wr.rdma.remote_addr = at;
		first.wr.rdma.rkey = rkey;
	}
	if (ibv_post_send(l->qp, &first, &bad))
		die("ibv_post_send");
	struct ibv_wc one = completion(l), two = completion(l);
	if (one.wr_id != 0 || two.wr_id != 1)
		die("completions in the wrong order");
	printf("requester first %d second %d state %d\n", one.status, two.status, state_of(l));
	fflush(stdout);
	link_send(l, "d", 1);
	link_receive(l, &word, 1);
}

int main(int argc, char **argv)
{
	struct link l;
	struct options o = parse_options(argc, argv);
	const struct scenario *s = find(o.mode);
	o.access = s->qp_access;
	o.rnr_retry = s->rnr_retry;
	link_open(&l, o);
	if (o.host)
		request(&l, s);
	else
		respond(&l, s);
	return 0;
}
