/*
 * core.h - the embedded RDMA device from the inside: every object, the engine
 * that all objects share, and the contracts between its parts.
 *
 *   verbs/   what an application calls: objects, posting, polling
 *   engine/  what both roads share: WQE fetch, completions, memory checks, errors, progress, helper thread
 *   shm/     road 1: other processes of the same user in the same network namespace
 *   wire/    road 2: RoCEv2 over UDP
 *   device/  which devices, ports and GIDs exist
 *   abi/     exported symbols that touch no object
 *
 * Locking. ONE lock a process, sr.lock (engine/lock.h), guards all data-path state: queue pairs, memory keys, links and
 * the wire. It is held for nanoseconds to microseconds and nothing sleeps under it. Control calls that may sleep
 * (opening a link, changing mappings) hold sr.control, a mutex, and take sr.lock inside it. Order: sr.control,
 * sr.lock, cq->lock. A completion queue's ring is written under sr.lock and read under cq->lock, so a poller with
 * something to read never waits for the engine.
 *
 * Progress. Whoever polls an empty CQ runs sr_progress() inline. The helper thread (engine/helper.c) runs it when
 * nobody polls. Functions whose name ends in _locked are called with sr.lock held.
 */
#ifndef SR_CORE_H
#define SR_CORE_H

#include <infiniband/verbs.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "counters.h"
#include "list.h"

#define SR_QP_INDEX_BITS 16
#define SR_QP_INDEX_MAX (1u << SR_QP_INDEX_BITS)
#define SR_KEY_INDEX_BITS 20
#define SR_KEY_INDEX_MAX (1u << SR_KEY_INDEX_BITS)
#define SR_SLOTS 256 /* processes of one user in one network namespace; slot = qpn >> 16, 0 and 255 are never given out */
#define SR_MAX_SGE 32
#define SR_MAX_INLINE 1024
#define SR_GRH_BYTES 40
#define SR_QPN_MULTICAST 0xffffffu

/* A key's row stands above its low byte, which belongs to the application (ibv_inc_rkey, type 2 windows). */
static inline uint32_t sr_key_row(uint32_t key) { return (key >> 8) & (SR_KEY_INDEX_MAX - 1); }
static inline unsigned sr_qpn_slot(uint32_t qpn) { return (qpn >> SR_QP_INDEX_BITS) & 0xff; }
static inline unsigned sr_qpn_index(uint32_t qpn) { return qpn & (SR_QP_INDEX_MAX - 1); }

struct sr_link;    /* shm/link.h: the road to one process of this host */
struct sr_wire_qp; /* wire/: private state of a queue pair on the UDP road */

/* ---- context ------------------------------------------------------------------------------------------------- */

/* What ibv_open_device() returns, seen from inside; allocated and filled in by device/context.c. */
struct sr_context {
	struct verbs_context vctx; /* vctx.context is what the application holds */
	struct sr_list events;     /* of sr_async, waiting for ibv_get_async_event(); device/async.c */
	pthread_mutex_t events_lock;
	int events_fd;             /* eventfd in semaphore mode; is also vctx.context.async_fd */
	struct sr_list node;       /* in sr.contexts, under sr.control */
	_Atomic uint32_t objects;  /* alive children, for honest EBUSY on close */
};

static inline struct sr_context *sr_ctx(struct ibv_context *c)
{
	return (struct sr_context *)((char *)c - offsetof(struct sr_context, vctx.context));
}

/* ---- protection domain, memory --------------------------------------------------------------------------------- */

struct sr_pd {
	struct ibv_pd pd;
	uint32_t id;               /* unique in the process, never 0 */
	_Atomic uint32_t users;
	struct sr_pd *parent;      /* set in a parent domain */
};

enum sr_key_kind { SR_KEY_MR = 1, SR_KEY_MW1, SR_KEY_MW2 };

/* One row of the key table, for memory regions and bound windows alike. Guarded by sr.lock. */
struct sr_key {
	uint32_t key;              /* lkey == rkey; see sr_key_row() */
	uint8_t kind;              /* enum sr_key_kind */
	bool dead;                 /* invalidated: every use is refused */
	unsigned access;           /* enum ibv_access_flags */
	uint32_t pd_id;
	uint32_t qpn;              /* type 2 window: the only queue pair that may use it; else 0 */
	uint64_t iova;             /* first address a peer names */
	uint64_t length;
	char *base;                /* where iova lies in this process */
	_Atomic uint32_t windows;  /* bound windows on this region */
	struct sr_key *region;     /* a window's region */
	struct sr_export *export;  /* shm/export.h: the part peers can reach on their own, or NULL */
};

struct sr_mr {
	struct ibv_mr mr;
	struct sr_key key;
};

struct sr_mw {
	struct ibv_mw mw;
	struct sr_key key;         /* key.region is NULL while unbound */
};

/* ---- XRC domains --------------------------------------------------------------------------------------------------- */

/* Which domain an ibv_xrcd is a handle of: all that were opened on one device and one inode name the same one. */
struct sr_xrc_domain {
	uint64_t dev, ino;         /* of the file; an anonymous domain has a random number and dev 0, which no file has */
	uint64_t ifindex;          /* of the device's interface */
};

struct sr_xrcd {
	struct ibv_xrcd xrcd;
	struct sr_xrc_domain domain;
	int fd;                    /* keeps the inode from being used again; -1 anonymous */
	int row;                   /* shm/domains.h; -1 anonymous */
	_Atomic uint32_t users;    /* queue pairs and receive queues made with this handle */
};

/* ---- completion queues --------------------------------------------------------------------------------------------- */

struct sr_channel {
	struct ibv_comp_channel channel;
	pthread_mutex_t lock;
	struct sr_list ready;      /* of sr_cq.channel_node: events waiting */
};

struct sr_cqe {
	struct ibv_wc wc;
	uint64_t timestamp_ns;
};

struct sr_cq {
	union {
		struct ibv_cq cq;
		struct ibv_cq_ex ex;
	};
	pthread_spinlock_t lock;   /* pollers */
	struct sr_cqe *ring;       /* size is a power of two >= cq.cqe */
	uint32_t mask;
	bool overrun;
	bool timestamps;
	_Atomic uint32_t head;     /* written by the engine */
	_Atomic uint32_t tail;     /* written by pollers */
	uint8_t armed;             /* 0 no, 1 solicited only, 2 any; under sr.lock */
	uint32_t notified;         /* head when the last event was raised; under sr.lock */
	uint32_t events_pending;   /* raised on the channel and not yet fetched; under the channel's lock */
	uint32_t events_delivered; /* fetched; the application acknowledges them one day */
	struct sr_list channel_node;
	_Atomic uint32_t users;    /* queue pairs */
	uint32_t id;
	struct sr_cqe current;     /* extended polling */
	_Atomic uint32_t empty_polls; /* in a row; pollers may lose counts to each other, which does not matter */
};

static inline struct sr_cq *sr_cq(struct ibv_cq *cq) { return (struct sr_cq *)cq; }

/* ---- receive queues ------------------------------------------------------------------------------------------------ */

struct sr_rwqe {
	uint64_t wr_id;
	uint32_t num_sge;
	struct ibv_sge sge[];
};

/* A ring of receive WQEs; sr_qp and sr_srq each own one. Guarded by sr.lock. */
struct sr_rq {
	char *ring;
	uint32_t stride;
	uint32_t mask;
	uint32_t max_wr;
	uint32_t max_sge;
	uint32_t head;             /* posted */
	uint32_t tail;             /* consumed */
};

static inline struct sr_rwqe *sr_rq_at(struct sr_rq *rq, uint32_t i)
{
	return (struct sr_rwqe *)(rq->ring + (size_t)(i & rq->mask) * rq->stride);
}

struct sr_srq {
	struct ibv_srq srq;
	struct sr_rq rq;
	uint32_t id;
	uint32_t limit;            /* IBV_EVENT_SRQ_LIMIT_REACHED below this; 0 disarmed */
	_Atomic uint32_t users;
	struct sr_xrcd *xrcd;      /* XRC: id is then a number as queue pairs have them, in a space of its own */
	struct sr_cq *cq;          /* XRC: where its completions go */
};

/* ---- address vectors ------------------------------------------------------------------------------------------------ */

/* Where packets go. Filled by sr_av_init() from an ibv_ah_attr. */
struct sr_av {
	union ibv_gid dgid;
	union ibv_gid sgid;        /* of sgid_index, when the vector was made */
	uint32_t flow_label;       /* 20 bits */
	uint8_t sgid_index;
	uint8_t hop_limit;
	uint8_t traffic_class;
	uint8_t sl;
	bool ipv4;                 /* both GIDs are IPv4-mapped */
	bool local;                /* dgid is an address of this host in this network namespace */
	bool multicast;
	uint32_t scope_ifindex;    /* the device's interface, for link-local and multicast */
};

struct sr_ah {
	struct ibv_ah ah;
	struct sr_av av;
	struct ibv_ah_attr attr;
};

/* ---- queue pairs ---------------------------------------------------------------------------------------------------- */

enum sr_wqe_flag {
	SR_WQE_SIGNALED = 1,
	SR_WQE_FENCE = 2,
	SR_WQE_SOLICITED = 4,
	SR_WQE_INLINE = 8,
	SR_WQE_DONE = 16,          /* executed out of turn; completes when the ones before it have */
};

/* A send WQE. Behind the struct follow either the sges or the inline data. */
struct sr_swqe {
	uint64_t wr_id;
	uint8_t opcode;            /* enum ibv_wr_opcode */
	uint8_t flags;             /* enum sr_wqe_flag */
	uint16_t num_sge;
	uint32_t length;           /* sum of the sges or inline bytes; 8 for atomics */
	uint32_t imm;              /* immediate in network byte order, or the rkey to invalidate */
	uint32_t rkey;
	uint64_t remote_addr;
	union {
		struct {
			uint64_t compare_add;
			uint64_t swap;
		} atomic;
		struct {
			struct sr_av *av; /* copied at post: the ring owns storage, see sr_sq.av */
			uint32_t qpn;
			uint32_t qkey;
		} ud;
		struct {
			struct sr_mw *mw;
			struct ibv_mw_bind_info *info; /* in the WQE's own tail */
		} bind;
	};
	uint32_t psn_first;        /* wire: PSNs this WQE took */
	uint32_t psn_last;
	uint32_t progress_bytes;   /* bytes sent (shm) or, for reads, received so far */
	uint32_t message;          /* shm: the number this WQE was sent under */
	uint32_t road_flags;       /* free for the road */
	uint32_t srqn;             /* XRC: the receive queue over there */
	struct ibv_sge sge[];
};

/* The send queue: indices run freely and are masked. tail <= next <= head. Guarded by sr.lock. */
struct sr_sq {
	char *ring;
	struct sr_av *av;          /* UD: one a WQE */
	uint32_t stride;
	uint32_t mask;
	uint32_t max_wr;
	uint32_t max_sge;
	uint32_t max_inline;
	uint32_t head;             /* one past the last posted */
	uint32_t next;             /* first not yet handed to the road */
	uint32_t tail;             /* oldest not yet completed */
};

static inline struct sr_swqe *sr_sq_at(struct sr_sq *sq, uint32_t i)
{
	return (struct sr_swqe *)(sq->ring + (size_t)(i & sq->mask) * sq->stride);
}

static inline char *sr_swqe_inline(struct sr_swqe *w) { return (char *)w->sge; }

enum sr_road { SR_ROAD_NONE, SR_ROAD_SHM, SR_ROAD_WIRE };

/* The receive WQE that an arriving message is filling. Copied out of the ring when the message begins. */
struct sr_rx {
	bool active;
	bool discard;              /* UC/UD: swallow the rest of this message */
	uint64_t wr_id;
	uint32_t num_sge;
	uint32_t capacity;         /* bytes the sges hold */
	struct ibv_sge sge[SR_MAX_SGE];
};

struct sr_qp {
	struct ibv_qp_ex ex;       /* ex.qp_base is what the application holds */
	uint32_t qpn;
	uint8_t type;              /* enum ibv_qp_type */
	uint8_t road;              /* enum sr_road; UD chooses for each WQE */
	bool sig_all;
	bool sqd_draining;         /* SQD was asked for and IBV_EVENT_SQ_DRAINED is still owed */
	bool last_wqe_event;       /* IBV_EVENT_QP_LAST_WQE_REACHED was raised */
	uint32_t dest_qpn;
	uint32_t qkey;
	uint32_t path_mtu_bytes;
	unsigned access;           /* qp_access_flags */
	uint8_t port_mtu;
	/* An XRC target has none of these four: it borrows them of the receive queue that a request names (engine/xrc.h). */
	struct sr_pd *pd;
	struct sr_cq *send_cq, *recv_cq;
	struct sr_srq *srq;        /* or NULL */
	struct sr_xrcd *xrcd;      /* XRC target, and handles of one; NULL when disowned */
	struct sr_xrc_domain domain;
	struct sr_list xrc_node;   /* XRC target: in sr.xrc_targets */
	struct sr_list handles;    /* XRC target: of sr_qp.xrc_node, made by ibv_open_qp() */
	struct sr_qp *shared;      /* such a handle's queue pair; NULL in all others */
	bool disowned;             /* who made it has destroyed, or is about to destroy, its own handle */
	uint32_t opens;            /* handles, that one included */
	struct ibv_qp_attr attr;   /* as last modified, for ibv_query_qp */
	struct ibv_qp_init_attr init;
	struct sr_av av;           /* RC, UC */
	struct sr_sq sq;
	struct sr_rq rq;
	struct sr_rx *rx;
	uint32_t reads_outstanding;/* READs and atomics handed to the road and not completed */

	/* extended posting: WQE under construction */
	struct sr_swqe *building;
	uint32_t build_start, build_head;
	int build_err;
	bool build_active;         /* between ibv_wr_start and complete or abort; other posters wait */

	/* road 1 */
	struct sr_link *link;
	struct {
		uint32_t sent;         /* requester: number of the next message */
		uint32_t acked;        /* requester: messages below this were executed by the peer */
		uint32_t begun;        /* requester: when a NAK rewinds the send queue, one past the last WQE that had been begun */
		uint32_t ring_end;     /* UC requester: where its last message ends in the ring */
		uint32_t expect;       /* responder: the next message's number */
		uint32_t received;     /* responder: bytes of the message in progress */
		bool in_message;
		bool refused;          /* responder: the message `expect` was answered with a NAK, those behind it are dropped */
		uint8_t refusal;       /* responder: a fatal NAK that waits until earlier READs are answered */
		uint8_t rnr_left, retry_left;
		uint64_t patience_until_ns; /* UD: datagrams wait in the ring for a receive WQE until then; 0 not waiting */
		bool impatient;        /* UD: that was in vain; dropped until the receive queue's head moves on */
		uint32_t impatient_head;
		bool waiting;          /* requester: a retry timer runs until deadline_ns */
		uint64_t deadline_ns;
		struct sr_list ack_node;     /* in link->acks: an acknowledgement is owed */
		struct sr_list blocked_node; /* in link->blocked: no room in the ring, or waits its turn */
		struct sr_list timer_node;   /* in sr.shm_timers */
		struct sr_list link_node;    /* in link->qps */
		struct sr_list reads;        /* READ requests being answered, of sr_shm_read */
	} shm;

	/* road 2 */
	struct sr_wire_qp *wire;
	struct sr_list mcast;      /* attached groups, of sr_mcast */
	struct sr_list mcast_node; /* in sr.mcast_qps while attached to any */
};

static inline struct sr_qp *sr_qp(struct ibv_qp *qp) { return (struct sr_qp *)qp; }
static inline enum ibv_qp_state sr_qp_state(const struct sr_qp *qp) { return qp->ex.qp_base.state; }
/* Its requests are acknowledged. */
static inline bool sr_qp_reliable(const struct sr_qp *qp) { return qp->type != IBV_QPT_UC && qp->type != IBV_QPT_UD; }
/* An XRC initiator has no responder half, an XRC target no requester half. */
static inline bool sr_qp_responds(const struct sr_qp *qp) { return qp->type != IBV_QPT_XRC_SEND; }
static inline bool sr_qp_requests(const struct sr_qp *qp) { return qp->type != IBV_QPT_XRC_RECV; }
/* May the responder half work? Receiving goes on in SQD and SQE. */
static inline bool sr_qp_can_receive(const struct sr_qp *qp)
{
	enum ibv_qp_state s = sr_qp_state(qp);
	return s == IBV_QPS_RTR || s == IBV_QPS_RTS || s == IBV_QPS_SQD || s == IBV_QPS_SQE;
}

struct sr_mcast {
	struct sr_list node;
	union ibv_gid gid;
};

/* ---- the engine: one a process ------------------------------------------------------------------------------------- */

struct sr_engine {
	_Atomic uint32_t lock;     /* engine/lock.h */
	_Atomic bool lock_wanted;  /* somebody found it taken */
	pthread_mutex_t control;
	bool started;
	unsigned slot;             /* this process's slot; QPNs are slot << 16 | random */
	struct sr_qp **qps;        /* [SR_QP_INDEX_MAX] */
	struct sr_key **keys;      /* [SR_KEY_INDEX_MAX] */
	struct sr_srq **srqs;      /* [SR_QP_INDEX_MAX]: XRC receive queues */
	struct sr_list contexts;
	struct sr_list links;      /* of sr_link.node */
	struct sr_link *link_by_slot[SR_SLOTS];
	struct sr_list shm_timers;
	struct sr_list mcast_qps;  /* queue pairs attached to a group */
	struct sr_list xrc_targets;
	_Atomic uint32_t wire_users; /* queue pairs (RC, UC on the wire; every UD) that need sr_wire_progress() */
	_Atomic uint32_t wire_connected; /* of these, connected ones: the socket is looked at on every poll */
	_Atomic uint64_t polls;    /* counts inline progress, so that the helper sees somebody polls */
	uint32_t polls_asleep;     /* inline polls since the helper fell asleep */
	_Atomic bool helper_asleep;
	_Atomic bool armed;        /* somebody asked for an event, and may sleep soon: set for the helper, which takes it away */
	struct sr_sink {           /* a poller that found its CQ empty takes completions straight from the engine */
		struct sr_cq *cq;
		struct ibv_wc *wc;
		int room, count;
	} sink;
	bool in_poll;              /* progress runs inside an application's poll: acknowledgements may be deferred */
	struct sr_counters counters;
};

extern struct sr_engine sr;

/* Starts the process's engine (slot, shared segment, UDP port, helper thread) when it is not running. Called by ibv_open_device.
 * Returns 0 or an errno. */
int sr_engine_start(void);

/* ---- engine services, for both roads (all _locked unless said) --------------------------------------------------- */

/* Monotonic time. */
uint64_t sr_now_ns(void);

/* Gives the WQE's data as iovecs, bytes [off, off+len). Checks every lkey (exists, same PD, in bounds, LOCAL_WRITE when
 * `writing`: the target of a READ or atomic). Inline data gives one iovec. Returns the number of iovecs (<= max) or
 * -IBV_WC_LOC_PROT_ERR / -IBV_WC_LOC_LEN_ERR. */
int sr_swqe_iov(struct sr_qp *qp, struct sr_swqe *w, uint32_t off, uint32_t len, bool writing, struct iovec *iov, int max);

/* Copies data into the WQE's sges at off (READ data, the old value of an atomic). 0 or a negative wc status. Memory that is registered
 * may still be unmapped: whoever reads or writes what these functions return an address of does it by engine/guard.h. */
int sr_swqe_store(struct sr_qp *qp, struct sr_swqe *w, uint32_t off, const void *data, uint32_t len);

/* Executes LOCAL_INV and BIND_MW WQEs, which never leave the host. Returns a wc status. */
enum ibv_wc_status sr_swqe_local(struct sr_qp *qp, struct sr_swqe *w);
static inline bool sr_opcode_is_local(uint8_t op) { return op == IBV_WR_LOCAL_INV || op == IBV_WR_BIND_MW; }
static inline bool sr_opcode_is_read(uint8_t op)
{
	return op == IBV_WR_RDMA_READ || op == IBV_WR_ATOMIC_CMP_AND_SWP || op == IBV_WR_ATOMIC_FETCH_AND_ADD;
}

/* Completes send WQEs [tail, end) with success, in order; CQEs for the signaled. */
void sr_sq_complete(struct sr_qp *qp, uint32_t end);

/* WQE `tail` failed: CQE with `status` (always), then the queue pair's error state: RC goes to ERR and everything is
 * flushed; UC and UD go to SQE and the send queue is flushed. WQEs before it must have been completed. */
void sr_sq_fail(struct sr_qp *qp, enum ibv_wc_status status, uint32_t vendor_err);

/* Raises an event about a queue pair, on every handle of it. */
void sr_qp_event(struct sr_qp *qp, enum ibv_event_type event);

/* Moves the queue pair to ERR: flushes both queues, resets the roads, tells peers on road 1. Idempotent. */
void sr_qp_to_error(struct sr_qp *qp);

/* The responder met an error of its own (bad request, access violation): raises the event on the QP and moves it to ERR. */
void sr_qp_responder_error(struct sr_qp *qp, enum ibv_event_type event);

/* Takes a receive WQE for an arriving message into qp->rx. Returns 0, or -1 when the queue is empty (RNR). */
int sr_rx_take(struct sr_qp *qp);

/* Scatters bytes to offset `off` of the receive WQE in qp->rx. Returns IBV_WC_SUCCESS, IBV_WC_LOC_LEN_ERR (too small;
 * nothing written) or IBV_WC_LOC_PROT_ERR. */
enum ibv_wc_status sr_rx_scatter(struct sr_qp *qp, uint32_t off, const void *data, uint32_t len);

/* The same two for a road that holds several receive WQEs at once (packets placed out of order): the caller owns *rx. */
int sr_rx_take_into(struct sr_qp *qp, struct sr_rx *rx);
enum ibv_wc_status sr_rx_scatter_into(struct sr_qp *qp, struct sr_rx *rx, uint32_t off, const void *data, uint32_t len);
void sr_rx_complete_from(struct sr_qp *qp, struct sr_rx *rx, enum ibv_wc_status status, struct ibv_wc *wc, bool solicited);

/* Ends the message: makes the receive CQE from *wc (wr_id, qp_num and status filled here) and frees qp->rx.
 * `solicited` = the sender set SE. */
void sr_rx_complete(struct sr_qp *qp, enum ibv_wc_status status, struct ibv_wc *wc, bool solicited);

/* Checks a remote access [va, va+len) with rkey for one operation (IBV_ACCESS_REMOTE_WRITE, _READ or _ATOMIC), the queue
 * pair's own qp_access_flags included. Zero length is always granted. Returns the address in this process or NULL. */
void *sr_remote_ptr(struct sr_qp *qp, uint32_t rkey, uint64_t va, uint64_t len, unsigned access);
/* The same for memory of another protection domain than the queue pair's present one; NULL: of none. */
void *sr_remote_ptr_in(struct sr_qp *qp, const struct sr_pd *pd, uint32_t rkey, uint64_t va, uint64_t len, unsigned access);

/* SEND_WITH_INV arrived: invalidates the rkey. 0, or -1 when that is not allowed (remote access error). */
int sr_remote_invalidate(struct sr_qp *qp, uint32_t rkey);

/* Hands posted WQEs to the road, or flushes them, as the state says. */
void sr_qp_kick(struct sr_qp *qp);

struct sr_qp *sr_qp_find(uint32_t qpn); /* by full 24-bit number, or NULL */

/* Wakes the helper thread (a deadline became earlier than it knows, a fd must be watched). Not locked. */
void sr_helper_expect_sleep(void);               /* somebody asked for an event and may stop polling; under sr.lock */
void sr_helper_kick(void);
/* Something is due then: wakes the helper thread if it sleeps beyond. Under sr.lock. */
void sr_helper_remind(uint64_t deadline_ns);

/* One round of progress on both roads; `in_poll` when an application's poll runs it. Returns how much was done. */
int sr_progress_locked(bool in_poll);

/* Appends to a completion queue and raises its event when it is armed for this completion. */
void sr_cq_push(struct sr_cq *cq, const struct ibv_wc *wc, bool solicited);
/* Removes what is left of a queue pair that is reset or destroyed. */
void sr_cq_clean(struct sr_cq *cq, uint32_t qpn);

/* ---- contract of the wire road (wire/wire.h has the implementation; all _locked) ----------------------------------- */

int sr_wire_start(unsigned slot);              /* opens and steers the UDP port; 0 or errno (the device then works on road 1 only) */
void sr_wire_stop(void);                       /* also in a forked child: closes descriptors, touches nothing shared */
#define SR_WIRE_FDS 2
int sr_wire_fds(int fds[SR_WIRE_FDS]);         /* readable when packets wait; returns how many there are: SR_WIRE_FDS or 0 */
int sr_wire_forward_fd(void);                  /* likewise: packets that other processes received for us; -1 when there is none */
bool sr_wire_keeps(void);                      /* packets for other processes wait to be passed on. Not locked */
int sr_wire_qp_rtr(struct sr_qp *qp);          /* RC, UC: attr and av are set; allocates qp->wire. 0 or errno */
void sr_wire_qp_rts(struct sr_qp *qp);         /* sq_psn, timeout, retry counts are known now */
void sr_wire_qp_reset(struct sr_qp *qp);       /* to RESET or ERR, or destroyed: forget everything, free qp->wire */
void sr_wire_kick(struct sr_qp *qp);           /* WQEs [sq.next, sq.head) may be sent; RC, UC in RTS */
bool sr_wire_ud_send(struct sr_qp *qp, struct sr_swqe *w); /* UD: one datagram; the caller completes the WQE. False: its memory is gone */
int sr_wire_progress(void);                    /* receive, answer, run timers, flush acks; returns how much it did (0 = idle) */
void sr_wire_active(void);                     /* something was done, on whichever road */
uint64_t sr_wire_quiet_ns(void);               /* for how long nothing was done. Not locked */
void sr_wire_flush_acks(void);                 /* send acknowledgements that were deferred inside a poll (sr.in_poll) */
uint64_t sr_wire_next_deadline_ns(void);       /* earliest timer, UINT64_MAX when none */
int sr_wire_mcast_join(const union ibv_gid *gid, uint32_t ifindex);
int sr_wire_mcast_leave(const union ibv_gid *gid, uint32_t ifindex);

/* UD arriving on either road: checks qkey, takes a receive WQE, scatters the 40 bytes of GRH and the payload, completes.
 * `grh` is 40 bytes (for IPv4: 20 zero bytes and the header). imm valid when has_imm. Drops and counts otherwise. */
void sr_ud_deliver(struct sr_qp *qp, const void *grh, const struct iovec *payload, int n, uint32_t src_qpn, uint32_t qkey,
		   bool has_imm, uint32_t imm, bool solicited);
/* To every queue pair attached to the group, on this process. */
void sr_ud_deliver_mcast(const union ibv_gid *mgid, const void *grh, const struct iovec *payload, int n, uint32_t src_qpn,
			 uint32_t qkey, bool has_imm, uint32_t imm, bool solicited);

/* ---- contract of device/ ------------------------------------------------------------------------------------------- */

/* Puts an event into the context's queue; element is the ibv_qp/ibv_cq/ibv_srq or NULL with port. Callable with sr.lock held. */
void sr_async_event(struct ibv_context *ctx, enum ibv_event_type type, void *element, int port);
/* Drops undelivered events of an object and waits until the delivered ones were acknowledged. Called without sr.lock. */
void sr_async_forget(struct ibv_context *ctx, void *element, pthread_mutex_t *mutex, pthread_cond_t *cond,
		     uint32_t *completed);
/* Port facts of a context's device. */
int sr_device_ifindex(struct ibv_device *dev);
int sr_device_gid(struct ibv_device *dev, int index, union ibv_gid *gid); /* 0 or errno */
int sr_device_active_mtu(struct ibv_device *dev);                         /* enum ibv_mtu */
/* Is it an address of this host in this network namespace? Not locked. */
bool sr_gid_is_local(const union ibv_gid *gid);
/* Asks `found` about the addresses of this host until it says yes. Never waits: false also when the table is being changed. */
bool sr_gid_search(bool (*found)(void *arg, const union ibv_gid *gid), void *arg);

/* ---- contract of verbs/: filled into the ops tables by device/context.c ---------------------------------------------- */

struct ibv_mw *sr_alloc_mw(struct ibv_pd *pd, enum ibv_mw_type type);
int sr_bind_mw(struct ibv_qp *qp, struct ibv_mw *mw, struct ibv_mw_bind *bind);
int sr_dealloc_mw(struct ibv_mw *mw);
int sr_poll_cq(struct ibv_cq *cq, int num, struct ibv_wc *wc);
int sr_req_notify_cq(struct ibv_cq *cq, int solicited_only);
int sr_post_srq_recv(struct ibv_srq *srq, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad);
int sr_post_send(struct ibv_qp *qp, struct ibv_send_wr *wr, struct ibv_send_wr **bad);
int sr_post_recv(struct ibv_qp *qp, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad);
struct ibv_cq_ex *sr_create_cq_ex(struct ibv_context *ctx, struct ibv_cq_init_attr_ex *attr);
struct ibv_qp *sr_create_qp_ex(struct ibv_context *ctx, struct ibv_qp_init_attr_ex *attr);
struct ibv_srq *sr_create_srq_ex(struct ibv_context *ctx, struct ibv_srq_init_attr_ex *attr);
int sr_get_srq_num(struct ibv_srq *srq, uint32_t *num);
struct ibv_xrcd *sr_open_xrcd(struct ibv_context *ctx, struct ibv_xrcd_init_attr *attr);
int sr_close_xrcd(struct ibv_xrcd *xrcd);
struct ibv_qp *sr_open_qp(struct ibv_context *ctx, struct ibv_qp_open_attr *attr);
int sr_modify_cq(struct ibv_cq *cq, struct ibv_modify_cq_attr *attr);
int sr_query_rt_values(struct ibv_context *ctx, struct ibv_values_ex *values);
struct ibv_td *sr_alloc_td(struct ibv_context *ctx, struct ibv_td_init_attr *attr);
int sr_dealloc_td(struct ibv_td *td);
struct ibv_pd *sr_alloc_parent_domain(struct ibv_context *ctx, struct ibv_parent_domain_init_attr *attr);
struct ibv_mr *sr_alloc_null_mr(struct ibv_pd *pd);
int sr_advise_mr(struct ibv_pd *pd, enum ibv_advise_mr_advice advice, uint32_t flags, struct ibv_sge *sg, uint32_t n);

#endif
