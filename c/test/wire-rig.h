/*
 * wire-rig.h - two or more queue pairs of this process on the wire road, joined by a network that is a queue in memory with a
 * clock of its own: delay, rate, finite buffers, loss, duplication, reordering, corruption. No sockets, no threads, no waiting:
 * a minute of timeouts takes milliseconds, and the same seed gives the same run.
 */
#ifndef TEST_WIRE_RIG_H
#define TEST_WIRE_RIG_H
#include "softrdma/core.h"
#include "softrdma/wire/wire.h"

struct rig_net {
	uint64_t now_ns;
	uint64_t delay_ns;	/* one way */
	uint64_t bytes_per_s;	/* of the one bottleneck that all packets share, each direction; 0 = infinite */
	uint64_t queue_bytes;	/* buffer of the bottleneck; 0 = infinite */
	double loss, dup, reorder, corrupt;
	uint64_t seed;
	bool foreign;		/* the peer is not one of ours: marks are taken off */
	bool polls;		/* progress is made by polls of the application: acknowledgements wait for company */
	bool trace;		/* every packet on stderr */
	bool (*drop)(const struct sr_pkt *p); /* true: this packet is lost */
	uint64_t sent, lost, queue_drops, max_queue_ns;
};
extern struct rig_net rig;

struct rig_end {
	struct ibv_qp *qp;
	struct ibv_cq *scq, *rcq;
	uint8_t *mem;
	size_t len;
	struct sr_mr mr;
	struct ibv_srq *srq; /* XRC: of the target */
};

struct rig_conf {
	enum ibv_qp_type type; /* RC when 0; XRC_SEND: the first end is an initiator, the second a target with a receive queue */
	uint32_t mtu;	       /* 1024 when 0 */
	unsigned access;       /* all when 0 */
	uint8_t rd_atomic;     /* 16 when 0 */
	uint8_t timeout, retry, rnr_retry, rnr_timer;
	bool tuned;	       /* use the four above, else 14, 7, 7, 1 */
	uint32_t psn[2];       /* first PSN each end sends */
	size_t mem;	       /* 1 MiB when 0 */
	uint32_t depth;	       /* 64 when 0 */
};

void rig_start(void);
void rig_pair(struct rig_end e[2], const struct rig_conf *conf);
void rig_free(struct rig_end e[2]);
int rig_recv(struct rig_end *e, uint64_t wr_id, size_t at, uint32_t len);
int rig_post(struct rig_end *e, enum ibv_wr_opcode op, uint64_t wr_id, size_t at, uint32_t len, struct rig_end *peer, size_t to);
int rig_post_wr(struct rig_end *e, struct ibv_send_wr *wr);
/* Takes one completion; false when there is none. */
bool rig_poll(struct ibv_cq *cq, struct ibv_wc *wc);
/* Lets the clock run until `ns` have passed, or until something is in the queue (when not NULL). False: time is over. */
bool rig_run(uint64_t ns, struct ibv_cq *until);
/* Hands a packet to the device as if it came from the peer of `e`, with a right ICRC. `raw` holds everything but the ICRC. */
void rig_inject(struct rig_end *e, const uint8_t *raw, size_t len);
/* The same with something wrong about it: a bit of the ICRC, or an address that it does not come from. */
enum rig_wrong { RIG_RIGHT, RIG_WRONG_ICRC, RIG_WRONG_SOURCE };
void rig_inject_wrong(struct rig_end *e, const uint8_t *raw, size_t len, enum rig_wrong wrong);
/*
 * For fuzzers: the next record of the input at *at, which moves on: two bytes of length (below `most`) and a packet, which is made one for
 * this queue pair, whole words long. Returns the length; below RIG_RECORD_MIN it is no packet, but so much time.
 */
#define RIG_RECORD_MIN 16u
size_t rig_record(const uint8_t *data, size_t size, size_t *at, size_t most, uint8_t *raw, uint32_t qpn);
#endif
