/* qp.h - between the files of queue pairs. */
#ifndef SR_VERBS_QP_H
#define SR_VERBS_QP_H
#include "../core.h"

/* Fills in the wr_* functions; ibv_qp_to_qp_ex() works on every queue pair. */
void sr_qp_ex_init(struct sr_qp *qp);
/* 0 or EOPNOTSUPP: an operation this transport does not have. */
int sr_qp_ex_check_ops(enum ibv_qp_type type, uint64_t flags);
/* Back to RESET: leaves the roads, empties the queues, removes its completions. Under sr.lock. */
void sr_qp_reset(struct sr_qp *qp);

/* The queue pair behind a handle of ibv_open_qp(), or itself. */
static inline struct sr_qp *sr_qp_of_handle(struct ibv_qp *ibqp) { return sr_qp(ibqp)->shared ? sr_qp(ibqp)->shared : sr_qp(ibqp); }

/* post.c. All under sr.lock. */
/* May this queue pair post this operation? */
bool sr_post_legal(const struct sr_qp *qp, uint8_t opcode);
/* Does the state accept posts? */
bool sr_post_allowed(const struct sr_qp *qp);
/* Waits while another thread builds WQEs on this queue pair (releases and retakes sr.lock). */
void sr_post_reserve(struct sr_qp *qp);
/* Opens the road to a UD destination if it is another process of this host. Without sr.lock. */
void sr_post_prepare_ud(const struct sr_av *av, uint32_t qpn);
#endif
