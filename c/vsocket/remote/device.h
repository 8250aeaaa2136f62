/* device.h - the RDMA device of this process, opened when the first peer with the library was found. Plain verbs, looked up at run time, so
 * that the embedded device and an adapter's libibverbs do equally. */
#ifndef VS_DEVICE_H
#define VS_DEVICE_H

#include <infiniband/verbs.h>
#include <stdbool.h>

struct vs_device {
	struct ibv_context *context;
	struct ibv_pd *pd;
	struct ibv_cq *cq;
	struct ibv_comp_channel *channel;
	uint8_t port, gid_index, mtu;
	uint16_t lid;
	union ibv_gid gid;
	char name[32];
};

#define VS_CQ_DEPTH 8192
#define VS_SENDS 128u /* outstanding a queue pair */
#define VS_RECVS 512u

/* The functions that are not inline in verbs.h. */
struct vs_verbs {
	struct ibv_mr *(*reg_mr)(struct ibv_pd *, void *, size_t, int);
	int (*dereg_mr)(struct ibv_mr *);
	struct ibv_qp *(*create_qp)(struct ibv_pd *, struct ibv_qp_init_attr *);
	int (*modify_qp)(struct ibv_qp *, struct ibv_qp_attr *, int);
	int (*destroy_qp)(struct ibv_qp *);
	struct ibv_ah *(*create_ah)(struct ibv_pd *, struct ibv_ah_attr *);
	int (*destroy_ah)(struct ibv_ah *);
	int (*get_cq_event)(struct ibv_comp_channel *, struct ibv_cq **, void **);
	void (*ack_cq_events)(struct ibv_cq *, unsigned);
	int (*poll_cq_now)(struct ibv_cq *, int, struct ibv_wc *); /* the embedded device's own: never sleeps */
};
extern struct vs_verbs vs_verbs;

/* Opens the device that has `address` (an IPv6 or mapped IPv4 address) as a GID; the same one every time. NULL: there is none, or it could
 * not be opened, or another address's was opened before; `*why` says which. */
struct vs_device *vs_device_open(const uint8_t address[16], const char **why);

/* Whether there may be one later for an address for which there is none now: the interface may be about to come up. */
bool vs_device_may_come(const uint8_t address[16]);

/* A queue pair in INIT; NULL with errno. */
struct ibv_qp *vs_device_qp(struct vs_device *d);
/* To RTS towards `peer`; 0 or an errno. */
struct vs_qp_address;
int vs_device_connect(struct vs_device *d, struct ibv_qp *qp, uint32_t psn, const struct vs_qp_address *peer);

/* A UD queue pair that is ready to send, with `receives` and `sends`; NULL with errno. */
struct ibv_qp *vs_device_ud(struct vs_device *d, uint32_t qkey, uint32_t sends, uint32_t receives);
/* The way to a device's GID; NULL with errno. */
struct ibv_ah *vs_device_way(struct vs_device *d, const struct vs_qp_address *peer);

/* In a forked child: what was opened is the parent's. */
void vs_device_forget(void);

#endif
