/* What an operation is in verbs terms, and which transport has it: one place for all loops. Internal. */
#ifndef RK_OPERATION_H
#define RK_OPERATION_H

#include <infiniband/verbs.h>

#include "datapath.h"

static inline int rk_is_atomic(uint32_t op)
{
	return op == RK_DP_FETCH_ADD || op == RK_DP_CMP_SWAP;
}

/* Does the data come to the one who posts? */
static inline int rk_pulls(uint32_t op)
{
	return op == RK_DP_READ || rk_is_atomic(op);
}

/* Does a message use up a receive at its target? */
static inline int rk_consumes_recv(uint32_t op)
{
	return op == RK_DP_SEND || op == RK_DP_WRITE_IMM;
}

enum ibv_wr_opcode rk_opcode_of(uint32_t op);

/* The fields that every verbs loop's configuration has. */
struct rk_operation {
	uint32_t abi, role, transport, op, size;
	uint64_t qp, send_cq, recv_cq, buffer, ah, remote_addr;
	int posts; /* this end posts requests: it needs to know where to */
};

/* Why these fields make no sense together, or NULL. */
const char *rk_refuse_operation(const struct rk_operation *o);

#endif
