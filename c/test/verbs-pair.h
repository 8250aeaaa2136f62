/* Test helper: two connected queue pairs of one device in this process, each with its own CQs, channel and buffer. */
#ifndef TEST_VERBS_PAIR_H
#define TEST_VERBS_PAIR_H

#include <infiniband/verbs.h>
#include <stdint.h>

struct verbs_end {
	struct ibv_comp_channel *channel;
	struct ibv_cq *send_cq, *recv_cq;
	struct ibv_qp *qp;
	struct ibv_mr *mr;
	struct ibv_ah *ah;
	uint8_t *buffer;
	uint64_t length;
};

struct verbs_pair {
	struct ibv_context *context;
	struct ibv_pd *pd;
	uint8_t port, gid_index;
	union ibv_gid gid;
	enum ibv_mtu mtu;
	uint32_t max_inline;
	enum ibv_qp_type type;
	struct verbs_end end[2];
};

#define VERBS_PAIR_DEPTH 64
#define VERBS_PAIR_QKEY 0x11111111u

/* 0, or -1 with the step that failed in *step. Everything that was made is released by verbs_pair_close() in both cases. */
int verbs_pair_open(struct verbs_pair *pair, enum ibv_qp_type type, uint64_t buffer_length, const char **step);
void verbs_pair_close(struct verbs_pair *pair);

#endif
