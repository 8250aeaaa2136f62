/*
 * ring.c - one process of a group of -n: a ring allreduce of numbers, -s bytes of them, over RDMA WRITEs with immediate data. Each
 * process has two queue pairs, from the one before it and to the one behind it (HOST), which may be on devices of different makers.
 * -m RANK. Rank 0 is started last: the others first wait for the one before them, and it waits for nobody.
 *
 *   done ROUNDS wrong N          N numbers were not the sum over all ranks
 */
#include "link.h"
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS 20

static unsigned long ranks, rank, words;
static uint64_t *numbers, *incoming;

static uint64_t number(unsigned long of_rank, unsigned long round, unsigned long i) { return (of_rank + 1) * (i + 1) * 2654435761u + round; }

static struct ibv_mr *must_register(struct link *l, void *memory, size_t len)
{
	struct ibv_mr *mr = ibv_reg_mr(l->pd, memory, len, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
	if (!mr)
		die("ibv_reg_mr of %zu bytes", len);
	return mr;
}

static void post_receive(struct link *l)
{
	struct ibv_recv_wr wr = { 0 }, *bad;
	if (ibv_post_recv(l->qp, &wr, &bad))
		die("ibv_post_recv");
}

static struct ibv_wc must_complete(struct link *l)
{
	struct ibv_wc wc;
	int got;
	while ((got = ibv_poll_cq(l->cq, 1, &wc)) == 0)
		;
	if (got < 0 || wc.status)
		die("rank %lu: completion with status %d", rank, got < 0 ? got : (int)wc.status);
	return wc;
}

/*
 * One step: my piece `out` goes to the next rank, into the slot of this step, and the piece before it comes from the previous one.
 * A slot a step: whoever is a step ahead never writes where its neighbour still reads.
 */
static const uint64_t *step(struct link *next, struct ibv_mr *mr, struct link *previous, unsigned long out, unsigned long in, unsigned long slot)
{
	size_t piece = words / ranks * sizeof(uint64_t);
	struct ibv_sge sge = { (uint64_t)(uintptr_t)numbers + out * piece, (uint32_t)piece, mr->lkey };
	struct ibv_send_wr wr = { .sg_list = &sge, .num_sge = 1, .opcode = IBV_WR_RDMA_WRITE_WITH_IMM, .imm_data = htonl((uint32_t)out) }, *bad;
	wr.wr.rdma.remote_addr = next->there.addr + slot * piece;
	wr.wr.rdma.rkey = next->there.rkey;
	if (ibv_post_send(next->qp, &wr, &bad))
		die("ibv_post_send");
	struct ibv_wc came = must_complete(previous);
	if (came.opcode != IBV_WC_RECV_RDMA_WITH_IMM || ntohl(came.imm_data) != in || came.byte_len != piece)
		die("rank %lu: piece %lu of %u bytes instead of %lu", rank, (unsigned long)ntohl(came.imm_data), came.byte_len, in);
	post_receive(previous);
	must_complete(next);
	return incoming + slot * piece / sizeof(uint64_t);
}

static unsigned long behind(unsigned long by) { return (rank + 2 * ranks - by) % ranks; }

static void allreduce(struct link *next, struct ibv_mr *mr, struct link *previous)
{
	unsigned long piece = words / ranks;
	for (unsigned long s = 0; s + 1 < ranks; s++) {
		const uint64_t *came = step(next, mr, previous, behind(s), behind(s + 1), s);
		for (unsigned long i = 0; i < piece; i++)
			numbers[behind(s + 1) * piece + i] += came[i];
	}
	for (unsigned long s = 0; s + 1 < ranks; s++) {
		const uint64_t *came = step(next, mr, previous, behind(s + ranks - 1), behind(s), ranks - 1 + s);
		memcpy(numbers + behind(s) * piece, came, piece * sizeof(uint64_t));
	}
}

int main(int argc, char **argv)
{
	struct link previous, next;
	struct options o = parse_options(argc, argv), from = o;
	char port[16], word = 'n';
	unsigned long wrong = 0;
	ranks = o.count;
	rank = strtoul(o.mode, NULL, 10);
	words = o.size / sizeof(uint64_t);
	if (ranks < 2 || !o.host || words % ranks)
		die("usage");
	size_t slots_len = 2 * (ranks - 1) * (words / ranks) * sizeof(uint64_t);
	numbers = calloc(words, sizeof *numbers);
	incoming = malloc(slots_len);
	if (!numbers || !incoming)
		die("memory");
	/* Each waits on a port of its own. */
	unsigned long base = strtoul(o.port, NULL, 10);
	snprintf(port, sizeof port, "%lu", base + rank);
	from.host = NULL;
	from.port = port;
	link_open(&previous, from);
	struct ibv_mr *slots = must_register(&previous, incoming, slots_len);
	for (int i = 0; i < 8; i++)
		post_receive(&previous);
	char next_port[16];
	snprintf(next_port, sizeof next_port, "%lu", base + (rank + 1) % ranks);
	o.port = next_port;
	link_open(&next, o);
	struct ibv_mr *mr = must_register(&next, numbers, words * sizeof *numbers);
	if (rank)
		link_connect(&previous, slots);
	link_connect(&next, NULL);
	if (!rank)
		link_connect(&previous, slots);
	for (unsigned long round = 0; round < ROUNDS; round++) {
		for (unsigned long i = 0; i < words; i++)
			numbers[i] = number(rank, round, i);
		allreduce(&next, mr, &previous);
		for (unsigned long i = 0; i < words; i++) {
			uint64_t sum = 0;
			for (unsigned long r = 0; r < ranks; r++)
				sum += number(r, round, i);
			wrong += numbers[i] != sum;
		}
		/* Nobody begins the next round before its neighbour has read this one's slots. */
		link_send(&previous, &word, 1);
		if (!link_receive(&next, &word, 1))
			die("rank %lu: the next rank has gone", rank);
	}
	printf("done %d wrong %lu\n", ROUNDS, wrong);
	return wrong != 0;
}
