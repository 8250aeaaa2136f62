/*
 * stream.c - how fast RDMA WRITEs of one size go through one queue pair, and how fast this thread's memcpy moves the same
 * source to a buffer of its own, in turns in one run. The other end (no HOST) sleeps.
 *
 * -s bytes a WRITE, -n milliseconds of each of the two measurements. The client prints one line:
 *   write_per_s X write_bytes_per_s Y memcpy_bytes_per_s Z
 */
#include "../../integration/programs/link.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DEPTH 512
#define LIST 32 /* posted at once; the last one makes a completion */
#define OUTSTANDING_BYTES (8u << 20)
#define INLINE 64

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void wait_list(struct link *l)
{
	struct ibv_wc wc;
	int got;
	while ((got = ibv_poll_cq(l->cq, 1, &wc)) == 0)
		;
	if (got < 0 || wc.status)
		die("completion status %d", got < 0 ? got : (int)wc.status);
}

/* WRITEs a second for about that time. */
static double write_rate(struct link *l, struct ibv_mr *mr, uint64_t duration_ns)
{
	struct ibv_send_wr wr[LIST], *bad;
	struct ibv_sge sge = { (uint64_t)(uintptr_t)mr->addr, (uint32_t)l->opt.size, mr->lkey };
	unsigned long lists_allowed = DEPTH / LIST, outstanding = 0, done = 0, list = LIST;
	if (l->opt.size * LIST > OUTSTANDING_BYTES / 2) {
		list = 1;
		lists_allowed = OUTSTANDING_BYTES / l->opt.size < 2 ? 2 : OUTSTANDING_BYTES / l->opt.size;
	}
	for (unsigned long i = 0; i < list; i++) {
		wr[i] = (struct ibv_send_wr){ .sg_list = &sge, .num_sge = 1, .opcode = IBV_WR_RDMA_WRITE,
					      .next = i + 1 < list ? &wr[i + 1] : NULL,
					      .send_flags = i + 1 < list ? 0 : IBV_SEND_SIGNALED };
		wr[i].send_flags |= l->opt.size <= INLINE ? IBV_SEND_INLINE : 0;
		wr[i].wr.rdma.remote_addr = l->there.addr;
		wr[i].wr.rdma.rkey = l->there.rkey;
	}
	uint64_t start = now_ns();
	while (now_ns() - start < duration_ns) {
		for (; outstanding < lists_allowed; outstanding++)
			if (ibv_post_send(l->qp, wr, &bad))
				die("ibv_post_send");
		wait_list(l);
		outstanding--;
		done += list;
	}
	uint64_t elapsed = now_ns() - start;
	for (; outstanding; outstanding--)
		wait_list(l);
	return (double)done * 1e9 / (double)elapsed;
}

static double copy_rate(const void *from, size_t size, uint64_t duration_ns)
{
	void *to = aligned_alloc(4096, (size + 4095) & ~(size_t)4095);
	unsigned long copies = 0;
	memset(to, 1, size);
	uint64_t start = now_ns();
	while (now_ns() - start < duration_ns) {
		for (int i = 0; i < 8; i++, copies++) {
			memcpy(to, from, size);
			__asm__ volatile("" : : "r"(to) : "memory");
		}
	}
	uint64_t elapsed = now_ns() - start;
	free(to);
	return (double)copies * 1e9 / (double)elapsed;
}

int main(int argc, char **argv)
{
	struct link l;
	struct options o = parse_options(argc, argv);
	char word = 'q';
	o.tx_depth = DEPTH;
	o.rx_depth = 1;
	o.sig_all = 0;
	o.max_inline = INLINE;
	size_t room = (o.size + 4095) & ~(size_t)4095;
	unsigned char *memory = aligned_alloc(4096, room);
	link_open(&l, o);
	memset(memory, 1, room);
	struct ibv_mr *mr = ibv_reg_mr(l.pd, memory, room, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
	if (!mr)
		die("ibv_reg_mr");
	link_connect(&l, mr);
	if (o.host) {
		uint64_t duration_ns = o.count * 1000000ull;
		write_rate(&l, mr, duration_ns / 4);
		double copies = copy_rate(memory, o.size, duration_ns), writes = write_rate(&l, mr, duration_ns);
		printf("write_per_s %.0f write_bytes_per_s %.0f memcpy_bytes_per_s %.0f\n", writes, writes * (double)o.size,
		       copies * (double)o.size);
		link_send(&l, &word, 1);
	} else {
		link_receive(&l, &word, 1);
	}
	ibv_dereg_mr(mr);
	link_close(&l);
	free(memory);
	return 0;
}
