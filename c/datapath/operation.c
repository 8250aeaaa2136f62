/* Operations and their limits: see operation.h. */
#include "operation.h"

enum ibv_wr_opcode rk_opcode_of(uint32_t op)
{
	switch (op) {
	case RK_DP_WRITE:
		return IBV_WR_RDMA_WRITE;
	case RK_DP_WRITE_IMM:
		return IBV_WR_RDMA_WRITE_WITH_IMM;
	case RK_DP_READ:
		return IBV_WR_RDMA_READ;
	case RK_DP_FETCH_ADD:
		return IBV_WR_ATOMIC_FETCH_AND_ADD;
	case RK_DP_CMP_SWAP:
		return IBV_WR_ATOMIC_CMP_AND_SWP;
	default:
		return IBV_WR_SEND;
	}
}

const char *rk_refuse_operation(const struct rk_operation *o)
{
	if (o->abi != RK_DP_ABI)
		return "the caller was built for another version of the data path";
	if (o->role > RK_DP_SERVER || o->op > RK_DP_CMP_SWAP)
		return "unknown role or operation";
	if (o->transport != IBV_QPT_RC && o->transport != IBV_QPT_UC && o->transport != IBV_QPT_UD)
		return "the transport must be RC, UC or UD";
	if (o->transport == IBV_QPT_UD && o->op != RK_DP_SEND)
		return "UD carries sends only";
	if (o->transport == IBV_QPT_UC && rk_pulls(o->op))
		return "UC has no read and no atomics";
	if (o->role == RK_DP_SERVER && rk_pulls(o->op))
		return "a one-sided operation has no server loop";
	if (!o->qp || !o->send_cq || !o->recv_cq || !o->buffer)
		return "a queue pair, its completion queues and a buffer are needed";
	if (o->posts && o->transport == IBV_QPT_UD && !o->ah)
		return "UD needs an address handle";
	if (o->posts && o->op != RK_DP_SEND && !o->remote_addr)
		return "a one-sided operation needs the peer's address";
	if (o->size > (UINT32_C(1) << 30))
		return "messages end at 1 GiB";
	if (rk_is_atomic(o->op) && o->size != 8)
		return "atomics work on 8 bytes";
	return NULL;
}
