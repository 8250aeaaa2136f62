/*
 * bulk.c - much data through one RC queue pair: -n MiB are WRITTEN to the other process, READ back, and SENT to it in messages of
 * -s bytes, several at a time; hashes of all of it are compared. The process that owns the target has no HOST.
 *
 *   done MIB write same|different read same|different send same|different seconds S
 *   status N in write|read|send                         a work request failed, with its ibv_wc_status: exit code 4
 */
#include "link.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DEPTH 8

/* FNV-1a over words: this also runs on an emulated processor. */
static uint64_t hash_words(const unsigned char *data, size_t len)
{
	uint64_t h = 14695981039346656037ull, word;
	for (size_t i = 0; i + sizeof word <= len; i += sizeof word) {
		memcpy(&word, data + i, sizeof word);
		h = (h ^ word) * 1099511628211ull;
	}
	return h;
}

static unsigned char *allocate(size_t len)
{
	unsigned char *memory = aligned_alloc(4096, len);
	if (!memory)
		die("%zu bytes of memory", len);
	memset(memory, 0, len);
	return memory;
}

static struct ibv_mr *must_register(struct link *l, void *memory, size_t len)
{
	struct ibv_mr *mr = ibv_reg_mr(l->pd, memory, len, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ);
	if (!mr)
		die("ibv_reg_mr of %zu bytes", len);
	return mr;
}

static void must_complete(struct link *l, const char *what)
{
	struct ibv_wc wc;
	int got;
	while ((got = ibv_poll_cq(l->cq, 1, &wc)) == 0)
		;
	if (got < 0)
		die("ibv_poll_cq");
	if (wc.status) {
		printf("status %d in %s\n", wc.status, what);
		exit(4);
	}
}

/* Moves the buffer piece by piece, DEPTH of them under way. */
static void move(struct link *l, struct ibv_mr *mr, enum ibv_wr_opcode opcode, const char *what)
{
	size_t len = mr->length, piece = l->opt.size, posted = 0, done = 0, pieces = len / piece;
	while (done < pieces) {
		if (posted < pieces && posted - done < DEPTH) {
			struct ibv_sge sge = { (uint64_t)(uintptr_t)mr->addr + posted * piece, (uint32_t)piece, mr->lkey };
			struct ibv_send_wr wr = { .sg_list = &sge, .num_sge = 1, .opcode = opcode }, *bad;
			wr.wr.rdma.remote_addr = l->there.addr + posted * piece;
			wr.wr.rdma.rkey = l->there.rkey;
			if (ibv_post_send(l->qp, &wr, &bad))
				die("ibv_post_send");
			posted++;
		} else {
			must_complete(l, what);
			done++;
		}
	}
}

static void post_receive(struct link *l, struct ibv_mr *mr, size_t piece)
{
	struct ibv_sge sge = { (uint64_t)(uintptr_t)mr->addr + piece * l->opt.size, (uint32_t)l->opt.size, mr->lkey };
	struct ibv_recv_wr wr = { .sg_list = &sge, .num_sge = 1 }, *bad;
	if (ibv_post_recv(l->qp, &wr, &bad))
		die("ibv_post_recv");
}

static int be_target(struct link *l, unsigned char *memory, size_t len)
{
	struct ibv_mr *mr = must_register(l, memory, len);
	size_t pieces = len / l->opt.size, posted = 0;
	uint64_t h;
	char word;
	for (; posted < pieces && posted < l->opt.rx_depth; posted++)
		post_receive(l, mr, posted);
	link_connect(l, mr);
	if (!link_receive(l, &word, 1))
		exit(5);
	h = hash_words(memory, len);
	memset(memory, 0, len);
	link_send(l, &h, sizeof h);
	for (size_t done = 0; done < pieces; done++) {
		must_complete(l, "receive");
		if (posted < pieces)
			post_receive(l, mr, posted++);
	}
	h = hash_words(memory, len);
	link_send(l, &h, sizeof h);
	link_receive(l, &word, 1);
	return 0;
}

static double seconds(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int be_source(struct link *l, unsigned char *memory, size_t len)
{
	unsigned char *back = allocate(len);
	struct ibv_mr *mr = must_register(l, memory, len), *back_mr = must_register(l, back, len);
	uint64_t random = l->opt.seed, theirs;
	for (size_t i = 0; i < len; i += sizeof random) {
		uint64_t word = next_random(&random);
		memcpy(memory + i, &word, sizeof word);
	}
	uint64_t mine = hash_words(memory, len);
	link_connect(l, NULL);
	double start = seconds();
	move(l, mr, IBV_WR_RDMA_WRITE, "write");
	move(l, back_mr, IBV_WR_RDMA_READ, "read");
	link_send(l, "h", 1);
	if (!link_receive(l, &theirs, sizeof theirs))
		die("no hash from the other end");
	int written = theirs == mine, read = hash_words(back, len) == mine;
	move(l, mr, IBV_WR_SEND, "send");
	if (!link_receive(l, &theirs, sizeof theirs))
		die("no hash from the other end");
	int sent = theirs == mine;
	printf("done %lu write %s read %s send %s seconds %.2f\n", l->opt.count, written ? "same" : "different",
	       read ? "same" : "different", sent ? "same" : "different", seconds() - start);
	link_send(l, "q", 1);
	return written && read && sent ? 0 : 1;
}

int main(int argc, char **argv)
{
	struct link l;
	struct options o = parse_options(argc, argv);
	size_t len = o.count << 20;
	if (len == 0 || o.size == 0 || len % o.size)
		die("-n MiB must be a multiple of -s bytes");
	unsigned char *memory = allocate(len);
	link_open(&l, o);
	return o.host ? be_source(&l, memory, len) : be_target(&l, memory, len);
}
