/*
 * onesided.c - random RDMA WRITEs, READs, FETCH_ADDs and COMPARE_SWAPs on a buffer of the other process, each result compared
 * with a model of that buffer kept here. The process that owns the buffer (no HOST) never calls verbs once connected: it
 * sleeps (-m sleep) or computes (-m compute), and at the end tells the hash of its buffer, which must be the model's. With -m wait
 * the client waits where it would fence: rxe of Linux 6.1 now and then misses the wake-up of a fenced request and stands still.
 *
 * The client prints `progress N` lines as it goes and in the end one line:
 *   done OPERATIONS bytes BYTES mismatches N hash same|different
 *   status N after OPERATIONS                       when a work request failed, with its ibv_wc_status: exit code 4
 */
#include "link.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define REGION (1u << 20)
#define COUNTERS 64 /* uint64_t at the beginning of the region, only touched by atomics */
#define BATCH 16

struct slot {
	unsigned char *buffer; /* source of a WRITE, destination of a READ or atomic */
	unsigned char *expect; /* what a READ or atomic must give */
	size_t len;            /* to compare; 0 for WRITE */
	size_t offset;         /* in the region */
};

static unsigned char *model;
static struct slot slots[BATCH];
static unsigned long operations, bytes, mismatches;

static struct ibv_mr *must_register(struct link *l, void *memory, size_t len)
{
	struct ibv_mr *mr = ibv_reg_mr(l->pd, memory, len, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE |
						       IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC);
	if (!mr)
		die("ibv_reg_mr of %zu bytes", len);
	return mr;
}

/* Owns the buffer and does nothing with it. */
static int be_target(struct link *l, unsigned char *region)
{
	struct ibv_mr *mr = must_register(l, region, REGION);
	char word;
	link_connect(l, mr);
	printf("connected\n");
	fflush(stdout);
	if (!strcmp(l->opt.mode, "compute")) {
		volatile double x = 1;
		while (recv(l->tcp, &word, 1, MSG_PEEK | MSG_DONTWAIT) < 0)
			for (int i = 0; i < 1000000; i++)
				x = x * 1.0000001 + 1;
	}
	if (!link_receive(l, &word, 1))
		exit(5); /* the client has gone; what it still has under way may write here until this process has ended */
	uint64_t h = hash(region, REGION);
	link_send(l, &h, sizeof h);
	link_receive(l, &word, 1);
	ibv_dereg_mr(mr);
	link_close(l);
	return 0;
}

/*
 * READs and atomics may be carried out after later WRITEs and atomics of the same queue pair unless these are fenced (IBA
 * 10.8.3.3, work request ordering). Fenced are just the ones whose result depends on it: what else may overtake, may.
 */
static unsigned int fence_for(int i, size_t offset, size_t len)
{
	for (int k = 0; k < i; k++)
		if (slots[k].len && slots[k].offset < offset + len && offset < slots[k].offset + slots[k].len)
			return IBV_SEND_FENCE;
	return 0;
}

/* Fills one work request at random and does the same to the model. */
static void choose(struct link *l, uint64_t *random, int i, struct ibv_send_wr *wr, struct ibv_sge *sge)
{
	struct slot *s = &slots[i];
	uint64_t r = next_random(random);
	size_t len = 1 + next_random(random) % l->opt.size;
	size_t offset = COUNTERS * 8 + next_random(random) % (REGION - COUNTERS * 8 - len);
	uint64_t *counter = (uint64_t *)model + r / 8 % COUNTERS;
	memset(wr, 0, sizeof *wr);
	wr->wr_id = (uint64_t)i;
	switch (r % 8) {
	case 0:
	case 1:
	case 2:
		wr->opcode = IBV_WR_RDMA_WRITE;
		for (size_t k = 0; k < len; k += 8) {
			uint64_t word = next_random(random);
			memcpy(s->buffer + k, &word, len - k < 8 ? len - k : 8);
		}
		memcpy(model + offset, s->buffer, len);
		break;
	case 3:
	case 4:
	case 5:
		wr->opcode = IBV_WR_RDMA_READ;
		memcpy(s->expect, model + offset, len);
		break;
	default:
		wr->opcode = r % 8 == 6 ? IBV_WR_ATOMIC_FETCH_AND_ADD : IBV_WR_ATOMIC_CMP_AND_SWP;
		len = 8;
		offset = (size_t)((unsigned char *)counter - model);
		memcpy(s->expect, counter, 8);
		wr->wr.atomic.remote_addr = l->there.addr + offset;
		wr->wr.atomic.rkey = l->there.rkey;
		/* Every other comparison is made to fail. */
		wr->wr.atomic.compare_add = r % 8 == 6 ? next_random(random) : *counter + (r >> 32 & 1);
		wr->wr.atomic.swap = next_random(random);
		if (r % 8 == 6)
			*counter += wr->wr.atomic.compare_add;
		else if (wr->wr.atomic.compare_add == *counter)
			*counter = wr->wr.atomic.swap;
	}
	if (wr->opcode == IBV_WR_RDMA_WRITE || wr->opcode == IBV_WR_RDMA_READ) {
		wr->wr.rdma.remote_addr = l->there.addr + offset;
		wr->wr.rdma.rkey = l->there.rkey;
	}
	if (wr->opcode != IBV_WR_RDMA_READ)
		wr->send_flags = fence_for(i, offset, len);
	s->offset = offset;
	s->len = wr->opcode == IBV_WR_RDMA_WRITE ? 0 : len;
	sge->addr = (uint64_t)(uintptr_t)s->buffer;
	sge->length = (uint32_t)len;
	wr->sg_list = sge;
	wr->num_sge = 1;
	bytes += len;
}

static void finish(struct link *l, int n)
{
	struct ibv_wc wc;
	for (int done = 0; done < n;) {
		int got = ibv_poll_cq(l->cq, 1, &wc);
		if (got < 0)
			die("ibv_poll_cq");
		if (got == 0)
			continue;
		if (wc.status) {
			printf("status %d after %lu\n", wc.status, operations);
			exit(4);
		}
		struct slot *s = &slots[wc.wr_id];
		if (s->len && memcmp(s->buffer, s->expect, s->len))
			mismatches++;
		operations++;
		done++;
	}
}

static int be_client(struct link *l, unsigned char *memory)
{
	struct ibv_mr *mr = must_register(l, memory, BATCH * l->opt.size);
	uint64_t random = l->opt.seed, theirs = 0;
	int waits = !strcmp(l->opt.mode, "wait");
	struct ibv_send_wr wr[BATCH], *bad;
	struct ibv_sge sge[BATCH];
	for (int i = 0; i < BATCH; i++)
		slots[i] = (struct slot){ memory + (size_t)i * l->opt.size, malloc(l->opt.size), 0, 0 };
	link_connect(l, NULL);
	while (!l->opt.count || operations < l->opt.count) {
		int pending = 0;
		for (int i = 0; i < BATCH; i++) {
			choose(l, &random, i, &wr[i], &sge[i]);
			sge[i].lkey = mr->lkey;
			if (waits && wr[i].send_flags & IBV_SEND_FENCE) {
				finish(l, pending);
				pending = 0;
				wr[i].send_flags = 0;
			}
			if (ibv_post_send(l->qp, &wr[i], &bad))
				die("ibv_post_send");
			pending++;
		}
		finish(l, pending);
		if (operations % (BATCH * 8) == 0) {
			printf("progress %lu\n", operations);
			fflush(stdout);
		}
	}
	link_send(l, "q", 1);
	if (!link_receive(l, &theirs, sizeof theirs))
		die("no hash from the other end");
	int same = theirs == hash(model, REGION);
	printf("done %lu bytes %lu mismatches %lu hash %s\n", operations, bytes, mismatches, same ? "same" : "different");
	link_send(l, "q", 1);
	for (int i = 0; i < BATCH; i++)
		free(slots[i].expect);
	ibv_dereg_mr(mr);
	link_close(l);
	return same && !mismatches ? 0 : 1;
}

int main(int argc, char **argv)
{
	struct link l;
	struct options o = parse_options(argc, argv);
	unsigned char *memory = aligned_alloc(4096, o.host ? BATCH * o.size : REGION);
	model = calloc(1, REGION);
	if (!memory || !model)
		die("memory");
	link_open(&l, o);
	memset(memory, 0, o.host ? BATCH * o.size : REGION);
	int code = o.host ? be_client(&l, memory) : be_target(&l, memory);
	free(memory);
	free(model);
	return code;
}
