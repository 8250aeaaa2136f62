/*
 * qp_misc.c - calls about a queue pair whose answer is the same for every one of ours.
 */
#include <errno.h>
#include <string.h>
#include <infiniband/verbs.h>

/* Enhanced connection establishment is a dialect of one vendor's hardware. EOPNOTSUPP, which rdma_cm treats as "none". */
int ibv_query_ece(struct ibv_qp *qp, struct ibv_ece *ece)
{
	(void)qp;
	memset(ece, 0, sizeof(*ece));
	return EOPNOTSUPP;
}

/* See ibv_query_ece(). */
int ibv_set_ece(struct ibv_qp *qp, struct ibv_ece *ece)
{
	(void)qp;
	(void)ece;
	return EOPNOTSUPP;
}

/* 1 when incoming data is written in ascending order of address. Never promised: memcpy() may go either way. */
int ibv_query_qp_data_in_order(struct ibv_qp *qp, enum ibv_wr_opcode op, uint32_t flags)
{
	(void)qp;
	(void)op;
	(void)flags;
	return 0;
}
