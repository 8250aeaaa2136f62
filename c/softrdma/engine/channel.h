/* channel.h - completion events; the channel's own lock nests inside sr.lock. */
#ifndef SR_CHANNEL_H
#define SR_CHANNEL_H
#include "../core.h"
void sr_channel_raise(struct sr_cq *cq);  /* no-op for a CQ without a channel */
/* Takes a CQ's unread events off its channel. */
void sr_channel_forget(struct sr_cq *cq);
#endif
