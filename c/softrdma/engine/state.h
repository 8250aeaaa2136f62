/* state.h - a queue pair's way into the error states, and executing a window bind. Under sr.lock. */
#ifndef SR_STATE_H
#define SR_STATE_H
#include "../core.h"
void sr_sq_flush(struct sr_qp *qp);
void sr_rq_flush(struct sr_qp *qp);
/* Is no send WQE in progress? */
bool sr_sq_drained(const struct sr_qp *qp);
/* Leaves the roads: no packet or message of this queue pair is sent or accepted any more. */
void sr_qp_leave_roads(struct sr_qp *qp);
/* Binds (length > 0) or unbinds a window; new_key is the type 2 key chosen by the application, 0 for type 1. */
enum ibv_wc_status sr_mw_bind_execute(struct sr_qp *qp, struct sr_mw *mw, uint32_t new_key, const struct ibv_mw_bind_info *info);
#endif
