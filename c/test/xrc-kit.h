/* xrc-kit.h - what the tests of extended reliable connections share: domains, receive queues, targets and initiators. See verbs-kit.h. */
#ifndef TEST_XRC_KIT_H
#define TEST_XRC_KIT_H
#include "verbs-kit.h"

/* An anonymous domain. */
struct ibv_xrcd *xk_domain(struct vk_dev *d);
/* The domain of a file; NULL and errno. */
struct ibv_xrcd *xk_open(struct vk_dev *d, int fd, int oflags);

/* A receive queue with a completion queue, a protection domain (the device's when NULL) and memory of its own: VK_PAGE * 16 bytes. */
struct xk_queue {
	struct ibv_srq *srq;
	struct ibv_cq *cq;
	struct ibv_pd *pd;
	struct ibv_mr *mr;
	uint8_t *mem;
	uint32_t number;
};
#define XK_MEM (16u * VK_PAGE)
void xk_queue_make(struct xk_queue *q, struct vk_dev *d, struct ibv_xrcd *xrcd, struct ibv_pd *pd);
void xk_queue_free(struct xk_queue *q);
/* Posts a receive at mem + at. */
void xk_recv(struct xk_queue *q, uint64_t id, size_t at, uint32_t len);

/* How a queue pair is connected; 0 stands for what verbs-kit.h takes. */
struct xk_conf {
	unsigned access;
	uint8_t rd_atomic, timeout;
	bool tuned;
	uint8_t retry, rnr_retry, rnr_timer;
};
struct ibv_qp *xk_target(struct vk_dev *d, struct ibv_xrcd *xrcd);
/* With a completion queue of its own (qp->send_cq). */
struct ibv_qp *xk_initiator(struct vk_dev *d);
void xk_initiator_free(struct ibv_qp *qp);
/* RESET to RTS. */
void xk_connect(struct vk_dev *d, struct ibv_qp *qp, uint32_t peer, const union ibv_gid *gid, const struct xk_conf *conf);

/* One signalled work request of one sge; vk_wr's sge and n are not looked at. `flags` are added. */
int xk_try_post(struct ibv_qp *qp, const struct vk_wr *w, const struct ibv_sge *sge, uint32_t srqn);
void xk_post(struct ibv_qp *qp, const struct vk_wr *w, const struct ibv_sge *sge, uint32_t srqn);

/* The usual set: a device, an anonymous domain, a target with its initiator connected to each other, a queue, 64 KiB of memory to send. */
struct xk_world {
	struct vk_dev d;
	struct ibv_xrcd *xrcd;
	struct ibv_qp *ini, *tgt;
	struct xk_queue q;
	uint8_t *mem;
	struct ibv_mr *mr;
};
void xk_world_make(struct xk_world *w, const struct xk_conf *conf);
void xk_world_free(struct xk_world *w);
#endif
