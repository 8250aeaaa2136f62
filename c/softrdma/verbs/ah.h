/* ah.h - filling an address vector from what the application gave. */
#ifndef SR_AH_H
#define SR_AH_H
#include "../core.h"
/* 0; EINVAL: no GRH, wrong port, no such source GID, or families that do not go together. */
int sr_av_init(struct sr_av *av, struct ibv_context *ctx, const struct ibv_ah_attr *attr);
#endif
