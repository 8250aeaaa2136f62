/*
 * messages.c - a stream of SENDs with immediate data over RC, UC or UD, each filled by its number, which is also the immediate.
 * The receiver (no HOST) checks every byte and the order; at the end it tells how many came and how many of them were wrong.
 *
 * The sender prints, after `progress N` lines:
 *   done SENT received N bad N disordered N           exit code 1 when a message was bad, or RC lost or disordered one
 *   status N after SENT                               when a send failed, with its ibv_wc_status: exit code 4
 */
#include "link.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <arpa/inet.h>
#include <sys/socket.h>
#include <time.h>

#define GRH 40
#define WINDOW 32
/* Unreliable services do not hold the sender back: it waits this long after each window, or it would only measure drops. */
#define PAUSE_NS 2000000

struct tally {
	uint64_t received, bad, disordered;
};

static size_t length_of(uint32_t number, size_t max) { return 1 + (number * 2654435761u >> 7) % max; }

static void fill(unsigned char *to, uint32_t number, size_t len)
{
	for (size_t i = 0; i < len; i++)
		to[i] = (unsigned char)(number * 31 + i + (i >> 8));
}

static int right(const unsigned char *got, uint32_t number, size_t len, size_t max)
{
	if (len != length_of(number, max))
		return 0;
	for (size_t i = 0; i < len; i++)
		if (got[i] != (unsigned char)(number * 31 + i + (i >> 8)))
			return 0;
	return 1;
}

static void post_receive(struct link *l, struct ibv_mr *mr, uint64_t slot, size_t slot_size)
{
	struct ibv_sge sge = { (uint64_t)(uintptr_t)mr->addr + slot * slot_size, (uint32_t)slot_size, mr->lkey };
	struct ibv_recv_wr wr = { .wr_id = slot, .sg_list = &sge, .num_sge = 1 }, *bad;
	if (ibv_post_recv(l->qp, &wr, &bad))
		die("ibv_post_recv");
}

static int be_receiver(struct link *l)
{
	size_t grh = l->opt.type == IBV_QPT_UD ? GRH : 0, slot_size = l->opt.size + grh;
	unsigned char *memory = malloc(RX_DEPTH * slot_size), quit = 0;
	struct ibv_mr *mr = ibv_reg_mr(l->pd, memory, RX_DEPTH * slot_size, IBV_ACCESS_LOCAL_WRITE);
	struct tally tally = { 0 };
	uint32_t expected = 0;
	uint64_t empty = 0;
	if (!mr)
		die("ibv_reg_mr");
	for (uint64_t i = 0; i < RX_DEPTH; i++)
		post_receive(l, mr, i, slot_size);
	link_connect(l, NULL);
	printf("connected\n");
	fflush(stdout);
	/* Until the sender says that it is done and nothing more came for a while. */
	while (!quit || empty < 2000) {
		struct ibv_wc wc;
		if (ibv_poll_cq(l->cq, 1, &wc) == 0) {
			char word;
			ssize_t got = recv(l->tcp, &word, 1, MSG_DONTWAIT);
			if (got == 0)
				exit(5); /* the sender has gone */
			quit |= got == 1;
			empty++;
			continue;
		}
		empty = 0;
		if (wc.status)
			die("receive status %d", wc.status);
		uint32_t number = ntohl(wc.imm_data);
		tally.received++;
		tally.bad += !right((unsigned char *)mr->addr + wc.wr_id * slot_size + grh, number, wc.byte_len - grh, l->opt.size);
		tally.disordered += l->opt.type == IBV_QPT_RC ? number != expected : number < expected;
		expected = number + 1;
		post_receive(l, mr, wc.wr_id, slot_size);
	}
	link_send(l, &tally, sizeof tally);
	link_receive(l, &quit, 1);
	ibv_dereg_mr(mr);
	link_close(l);
	free(memory);
	return 0;
}

static int be_sender(struct link *l)
{
	unsigned char *memory = malloc(WINDOW * l->opt.size);
	struct ibv_mr *mr = ibv_reg_mr(l->pd, memory, WINDOW * l->opt.size, 0);
	struct tally tally;
	uint32_t sent = 0;
	if (!mr)
		die("ibv_reg_mr");
	link_connect(l, NULL);
	while (!l->opt.count || sent < l->opt.count) {
		for (uint32_t i = 0; i < WINDOW; i++) {
			struct ibv_sge sge = { (uint64_t)(uintptr_t)(memory + i * l->opt.size), 0, mr->lkey };
			struct ibv_send_wr wr = { .sg_list = &sge, .num_sge = 1, .opcode = IBV_WR_SEND_WITH_IMM, .imm_data = htonl(sent + i) }, *bad;
			sge.length = (uint32_t)length_of(sent + i, l->opt.size);
			fill(memory + i * l->opt.size, sent + i, sge.length);
			if (l->ah) {
				wr.wr.ud.ah = l->ah;
				wr.wr.ud.remote_qpn = l->there.qpn;
				wr.wr.ud.remote_qkey = UD_QKEY;
			}
			if (ibv_post_send(l->qp, &wr, &bad))
				die("ibv_post_send");
		}
		for (uint32_t i = 0; i < WINDOW;) {
			struct ibv_wc wc;
			if (ibv_poll_cq(l->cq, 1, &wc) == 0)
				continue;
			if (wc.status) {
				printf("status %d after %u\n", wc.status, sent + i);
				return 4;
			}
			i++;
		}
		sent += WINDOW;
		if (l->opt.type != IBV_QPT_RC)
			nanosleep(&(struct timespec){ 0, PAUSE_NS }, NULL);
		if (sent % (WINDOW * 4) == 0) {
			printf("progress %u\n", sent);
			fflush(stdout);
		}
	}
	link_send(l, "q", 1);
	if (!link_receive(l, &tally, sizeof tally))
		die("no tally from the other end");
	printf("done %u received %lu bad %lu disordered %lu\n", sent, tally.received, tally.bad, tally.disordered);
	link_send(l, "q", 1);
	ibv_dereg_mr(mr);
	link_close(l);
	free(memory);
	return tally.bad || (l->opt.type == IBV_QPT_RC && (tally.disordered || tally.received != sent));
}

int main(int argc, char **argv)
{
	struct link l;
	link_open(&l, parse_options(argc, argv));
	return l.opt.host ? be_sender(&l) : be_receiver(&l);
}
