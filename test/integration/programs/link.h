/*
 * link.h - what the test programs share: an RDMA device chosen by name, one queue pair, and a TCP connection over which both
 * ends tell each other where they are. Plain verbs code against Debian's headers. Any failure here ends the program: exit
 * code 3 and a line on standard error, so that a broken set-up is never taken for a result.
 */
#ifndef LINK_H
#define LINK_H
#include <infiniband/verbs.h>
#include <stddef.h>
#include <stdint.h>

struct options {
	const char *device, *port, *host; /* host: NULL on the listening side */
	const char *mode;                 /* what the listening side does meanwhile */
	enum ibv_qp_type type;
	int gid_index, timeout, retry;
	unsigned long count, size, seed;
	/* Not from the command line: */
	unsigned int tx_depth, rx_depth, max_inline;
	int sig_all; /* every send makes a completion */
	int rnr_retry;
	unsigned int access; /* qp_access_flags, unless it is UC or UD */
};

/* What one end must know of the other. */
struct place {
	union ibv_gid gid;
	uint32_t qpn, psn, rkey, filler;
	uint64_t addr;
};

struct link {
	struct options opt;
	struct ibv_context *ctx;
	struct ibv_pd *pd;
	struct ibv_cq *cq;
	struct ibv_qp *qp;
	struct ibv_ah *ah; /* UD only */
	struct place here, there;
	enum ibv_mtu mtu; /* that of the port */
	int tcp;
};

#define RX_DEPTH 512
#define TX_DEPTH 64
#define UD_QKEY 0x11111111u

/* Ends the program with exit code 3. */
__attribute__((noreturn, format(printf, 1, 2))) void die(const char *format, ...);
struct options parse_options(int argc, char **argv);
/* Opens the device and makes PD, CQ and QP. */
void link_open(struct link *l, struct options opt);
/* Tells the other end this buffer (NULL: none) and connects; receives must be posted already. */
void link_connect(struct link *l, struct ibv_mr *mr);
void link_send(struct link *l, const void *data, size_t len);
/* False at the end of the stream. */
int link_receive(struct link *l, void *data, size_t len);
void link_close(struct link *l);
/* What link_open() and link_connect() do, for further queue pairs of the same kind: made and in INIT; to RTS. */
struct ibv_qp *qp_create(struct link *l);
void qp_to_ready(struct link *l, struct ibv_qp *qp, const struct place *here, const struct place *there);
/* A reproducible stream of numbers: xorshift64*. */
uint64_t next_random(uint64_t *state);
/* FNV-1a, to compare whole buffers through TCP. */
uint64_t hash(const void *data, size_t len);
#endif
