/* direct.h - one-sided operations done by the requester in the target's memory, without the target's help. Under sr.lock. */
#ifndef SR_DIRECT_H
#define SR_DIRECT_H
#include "../core.h"

enum sr_direct { SR_DIRECT_DONE, SR_DIRECT_NO, SR_DIRECT_LOCAL_ERROR };

/* Executes the data part of a WRITE (with or without immediate), READ or atomic. NO: not reachable or not allowed; the
 * target must be asked by message, and will say why. LOCAL_ERROR: a bad local key. */
enum sr_direct sr_direct_execute(struct sr_qp *qp, struct sr_swqe *w);
/* Would it be reachable now? For deciding whether waiting one's turn is worth it. */
bool sr_direct_possible(struct sr_qp *qp, const struct sr_swqe *w);
#endif
