/* cq.h - what classic and extended polling share. */
#ifndef SR_VERBS_CQ_H
#define SR_VERBS_CQ_H
#include "../core.h"
/* NULL with errno set. */
struct sr_cq *sr_cq_create(struct ibv_context *ctx, int cqe, void *context, struct ibv_comp_channel *channel, int vector);
/* Runs the engine for a poller that found the queue empty; is there something now? */
bool sr_cq_progress(struct sr_cq *cq);
#endif
