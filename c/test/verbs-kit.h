/*
 * verbs-kit.h - what the verbs tests share: a device, ends (a queue pair with its completion queues), connecting, posting,
 * waiting for completions, and partner processes that are started anew from the test program itself.
 *
 * Nothing returns an error: VK() ends the test (in a partner process: the process) with the place and the reason. Waiting
 * has a limit that only stands against hangs.
 */
#ifndef TEST_VERBS_KIT_H
#define TEST_VERBS_KIT_H

#include <errno.h>
#include <infiniband/verbs.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>
#include <cmocka.h>

#define VK_WAIT_S 30
#define VK_RW (IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC)
#define VK_QKEY 0x11223344u
#define VK_PAGE 4096u

/* Ends the test unless cond holds. */
#define VK(cond)                                                                                                        \
	do {                                                                                                            \
		if (!(cond))                                                                                            \
			vk_fail(__FILE__, __LINE__, #cond, NULL);                                                       \
	} while (0)
/* Ends the test unless two integers are equal; says both. */
#define VK_EQ(a, b) vk_equal(__FILE__, __LINE__, #a " == " #b, (long long)(a), (long long)(b))
_Noreturn void vk_fail(const char *file, int line, const char *what, const char *more);
void vk_equal(const char *file, int line, const char *what, long long a, long long b);

struct vk_dev {
	struct ibv_context *ctx;
	struct ibv_pd *pd;
	union ibv_gid gid;
	uint8_t gid_index;
	enum ibv_mtu mtu;
};

/* The loopback interface's device: there on every machine. */
void vk_open(struct vk_dev *d);
/* Fails the test when something of its protection domain was left over. */
void vk_close(struct vk_dev *d);

struct vk_conf {
	enum ibv_qp_type type; /* RC when 0 */
	uint32_t depth;	       /* WQEs each way; 64 when 0 */
	uint32_t sge;	       /* 4 when 0 */
	uint32_t inline_bytes;
	bool selective;	       /* only flagged WQEs complete */
	struct ibv_srq *srq;
	struct ibv_cq *send_cq, *recv_cq; /* own ones are made when NULL */
	int cqe;	       /* of those; 4 * depth when 0 */
	struct ibv_comp_channel *channel;
	struct ibv_pd *pd;     /* the device's when NULL */
	unsigned access;       /* qp_access_flags; all remote rights when 0; VK_NO_ACCESS for none */
	uint8_t rd_atomic;     /* 16 when 0 */
	uint8_t timeout;       /* 14 when 0 */
	uint8_t retry, rnr_retry, rnr_timer; /* as given, 0 included, when tuned; else 7, 7, 1 */
	bool tuned;
	uint32_t psn;
};
#define VK_NO_ACCESS 0x80000000u

struct vk_end {
	struct vk_dev *dev;
	struct vk_conf conf;
	struct ibv_cq *scq, *rcq;
	struct ibv_qp *qp;
	struct ibv_qp_ex *ex;
	struct ibv_ah *ah; /* UD: to the peer */
	uint32_t peer_qpn;
	bool own_scq, own_rcq;
};

/* How an end, and memory of it, is named to a peer. */
struct vk_name {
	uint32_t qpn, rkey;
	union ibv_gid gid;
	uint64_t addr, length;
};

void vk_end_make(struct vk_end *e, struct vk_dev *d, const struct vk_conf *conf);
void vk_end_free(struct vk_end *e);
void vk_to_init(struct vk_end *e);
int vk_try_rtr(struct vk_end *e, uint32_t qpn, const union ibv_gid *gid); /* errno of ibv_modify_qp */
void vk_to_rts(struct vk_end *e);
int vk_try_state(struct vk_end *e, enum ibv_qp_state state);
void vk_to_state(struct vk_end *e, enum ibv_qp_state state);
enum ibv_qp_state vk_state(struct vk_end *e);
/* INIT, RTR, RTS against a peer. */
void vk_connect(struct vk_end *e, uint32_t qpn, const union ibv_gid *gid);
/* Two ends of this process, connected to each other. */
void vk_pair_make(struct vk_end e[2], struct vk_dev *d, const struct vk_conf *conf);
void vk_pair_free(struct vk_end e[2]);

struct ibv_mr *vk_reg(struct vk_dev *d, void *p, size_t len, unsigned access);

/* Work requests; the address vector of UD is filled in. flags: enum ibv_send_flags, SIGNALED is always added unless `selective`. */
struct vk_wr {
	enum ibv_wr_opcode op;
	unsigned flags;
	uint64_t id;
	const struct ibv_sge *sge;
	int n;
	uint64_t remote;
	uint32_t rkey;
	uint32_t imm; /* or the rkey to invalidate */
	uint64_t add, swap;
	uint32_t qkey; /* UD: VK_QKEY when 0 */
};
int vk_try_post(struct vk_end *e, const struct vk_wr *w); /* errno of ibv_post_send */
void vk_post(struct vk_end *e, const struct vk_wr *w);
int vk_try_recv(struct vk_end *e, uint64_t id, const struct ibv_sge *sge, int n);
void vk_recv(struct vk_end *e, uint64_t id, const struct ibv_sge *sge, int n);
static inline struct ibv_sge vk_sge(const struct ibv_mr *mr, const void *p, size_t len)
{
	return (struct ibv_sge){ (uintptr_t)p, (uint32_t)len, mr ? mr->lkey : 0 };
}
/* One-sge shorthands. */
void vk_send(struct vk_end *e, uint64_t id, const struct ibv_mr *mr, const void *p, size_t len);
void vk_recv1(struct vk_end *e, uint64_t id, const struct ibv_mr *mr, void *p, size_t len);

/* The next completion. */
struct ibv_wc vk_wait(struct ibv_cq *cq);
/* The next completion must have this status. */
struct ibv_wc vk_wait_status(struct ibv_cq *cq, enum ibv_wc_status status);
#define vk_wait_ok(cq) vk_wait_status(cq, IBV_WC_SUCCESS)
/* Nothing in the queue after some rounds of polling. */
void vk_quiet(struct ibv_cq *cq);
/* The next asynchronous event; acknowledged. */
struct ibv_async_event vk_event(struct vk_dev *d);
/* The event's type if there is one already, else -1. */
int vk_event_now(struct vk_dev *d);
/* Polls the queue pair's state until it is this one. */
void vk_wait_state(struct vk_end *e, enum ibv_qp_state state);

/* Data that depends on every bit of seed and position. */
void vk_fill(void *p, size_t len, uint32_t seed);
bool vk_is(const void *p, size_t len, uint32_t seed);
/* Memory: pages of its own. */
void *vk_pages(size_t bytes);
void vk_unpages(void *p, size_t bytes);

/* Partner processes: the program started anew, in the role of this name, with a socket to us. */
struct vk_role {
	const char *name;
	void (*run)(int fd);
};
struct vk_partner {
	pid_t pid;
	int fd;
};
/* Runs the role when this process is a partner; otherwise returns. First thing in main(). */
void vk_start(int argc, char **argv, const struct vk_role *roles, size_t n);
void vk_spawn(struct vk_partner *p, const char *role);
/* Waits for its end, which must be in order. */
void vk_join(struct vk_partner *p);
void vk_kill(struct vk_partner *p); /* SIGKILL, and reaps */
/* Whole records over the socket. */
void vk_put(int fd, const void *p, size_t len);
void vk_get(int fd, void *p, size_t len);
/* A byte each way: both are here now. */
void vk_sync(int fd);
/* Connects an end with the one whose process is behind fd; both call it. `mine` may be NULL. Ends with vk_sync(). */
struct vk_name vk_meet(struct vk_end *e, int fd, const struct ibv_mr *mine);

#endif
