/* rq.h - the ring of receive WQEs that queue pairs and shared receive queues have. */
#ifndef SR_RQ_H
#define SR_RQ_H
#include "../core.h"
/* 0 or ENOMEM. A queue of 0 WQEs is legal. */
int sr_rq_init(struct sr_rq *rq, uint32_t max_wr, uint32_t max_sge);
void sr_rq_free(struct sr_rq *rq);
/* Appends a list of receive requests; on error *bad is the first that was not taken. Under sr.lock. */
int sr_rq_post(struct sr_rq *rq, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad);
#endif
