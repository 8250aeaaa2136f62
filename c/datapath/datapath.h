/*
 * librdmakit_datapath: the loops that post and poll, on threads of their own.
 *
 * The caller (whatever language) opens devices, makes and connects queue pairs, allocates and registers buffers, and hands
 * the pointers over in a plain configuration struct. A loop runs on one C thread, publishes counters and a histogram in a
 * `struct rk_dp_stats` that the caller maps and reads at leisure, and ends by itself or when its stop flag is set. Errors
 * are recorded in the same struct: nothing here prints, exits or blocks for ever.
 *
 * Every struct is plain data of fixed-width fields without padding surprises; pointers travel as uint64_t. The sizes are
 * part of the contract: rk_dp_sizeof() lets a binding check them. RK_DP_ABI changes when a layout changes.
 */
#ifndef RK_DATAPATH_H
#define RK_DATAPATH_H

#include <stdint.h>

#include "../common/histogram.h"

#define RK_DP_ABI 2u
#define RK_DP_STATS_MAGIC 0x53504452u /* "RDPS" as little-endian bytes */
#define RK_DP_SAMPLES 1024u	      /* ring of recent samples, a power of two */
#define RK_DP_GRH_BYTES 40u	      /* what UD puts before the payload in a receive buffer */
#define RK_DP_MESSAGE_BYTES 256u

enum rk_dp_role {
	RK_DP_CLIENT = 0, /* starts every exchange and measures it */
	RK_DP_SERVER = 1, /* answers until stopped */
};

enum rk_dp_op {
	RK_DP_SEND = 0,
	RK_DP_WRITE = 1,
	RK_DP_WRITE_IMM = 2,
	RK_DP_READ = 3,	     /* one-sided: there is no server loop */
	RK_DP_FETCH_ADD = 4, /* one-sided, 8 bytes */
	RK_DP_CMP_SWAP = 5,  /* one-sided, 8 bytes */
};

/* Configuration flags. */
enum rk_dp_flag {
	RK_DP_EVENTS = 1u << 0,	 /* sleep on the completion channel instead of polling (not for RK_DP_WRITE) */
	RK_DP_VERIFY = 1u << 1,	 /* fill each message with a pattern of its own and check what arrives */
	RK_DP_RECORD = 1u << 2,	 /* keep each sample in the ring (paced, ping-like use) */
	RK_DP_BUSY = 1u << 3,	 /* socket loops: non-blocking receive in a spin instead of a blocking receive */
	RK_DP_TIME_OPS = 1u << 4 /* stream loops: histogram of post-to-completion times of signalled requests */
};

enum rk_dp_state {
	RK_DP_IDLE = 0,
	RK_DP_RUNNING = 1,
	RK_DP_DONE = 2,	  /* finished its count, its duration, or was stopped */
	RK_DP_FAILED = 3, /* see error_stage and message */
};

/* Where a loop failed. */
enum rk_dp_stage {
	RK_DP_STAGE_NONE = 0,
	RK_DP_STAGE_CONFIG = 1,	    /* the configuration makes no sense */
	RK_DP_STAGE_POST_RECV = 2,  /* error_errno */
	RK_DP_STAGE_POST_SEND = 3,  /* error_errno */
	RK_DP_STAGE_POLL = 4,	    /* ibv_poll_cq failed */
	RK_DP_STAGE_COMPLETION = 5, /* wc_status, wc_opcode, wc_vendor_error */
	RK_DP_STAGE_EVENT = 6,	    /* ibv_get_cq_event or ibv_req_notify_cq; error_errno */
	RK_DP_STAGE_TIMEOUT = 7,    /* a reliable exchange got no answer within timeout_ns */
	RK_DP_STAGE_SOCKET = 8,	    /* error_errno */
	RK_DP_STAGE_PEER_GONE = 9,  /* the other end closed its socket */
	RK_DP_STAGE_THREAD = 10,    /* the thread could not be started; error_errno */
	RK_DP_STAGE_CONNECT = 11,   /* a step of the connection manager; error_errno */
};

struct rk_dp_sample {
	uint64_t sequence; /* iteration number, from 0 */
	uint64_t rtt_ns;   /* UINT64_MAX: lost */
};

/*
 * What a loop publishes. Written only by the loop's thread, except `stop`. Offsets are fixed:
 * header 0, first counters 64, errors 256, sample ring 1024, histogram 1024 + 16384 = 17408.
 */
struct rk_dp_stats {
	uint32_t magic;
	uint32_t abi;
	uint32_t state; /* enum rk_dp_state; stored last (release), so a reader that sees DONE sees everything */
	uint32_t stop;	/* set to non-zero by anyone to end the loop */
	uint32_t thread_id;
	int32_t core;		/* core the thread is pinned to, -1 when it floats */
	uint32_t pin_errno;	/* why pinning failed, 0 when it did not */
	uint32_t clock_source;	/* enum rk_clock_source */
	uint32_t clock_cost_ns; /* cost of one clock reading; two of them are in every sample */
	uint32_t inline_used;	/* 1 when messages went inline */
	uint32_t reserved0[6];

	/* offset 64 */
	uint64_t posted;	    /* messages started (measured part) */
	uint64_t completed;	    /* exchanges finished (measured part); server: answers sent */
	uint64_t lost;		    /* no answer within timeout_ns (unreliable transports) */
	uint64_t late;		    /* answers that came after their timeout; they are in `lost` too */
	uint64_t bytes;		    /* payload bytes moved one way */
	uint64_t begin_ns;	    /* CLOCK_MONOTONIC_RAW at the first measured message */
	uint64_t elapsed_ns;	    /* from begin_ns to the newest finished message; live */
	uint64_t warmed_up;	    /* warm-up exchanges finished */
	uint64_t verified;	    /* messages whose payload was checked */
	uint64_t mismatches;	    /* messages with at least one wrong byte */
	uint64_t mismatch_sequence; /* the first of them: iteration, */
	uint64_t mismatch_offset;   /* offset of its first wrong byte, */
	uint32_t mismatch_expected; /* what should have been there, */
	uint32_t mismatch_found;    /* and what was. */
	uint64_t spins;		    /* empty polls, a measure of waiting */
	uint64_t wakeups;	    /* completion events taken (RK_DP_EVENTS) */
	uint64_t samples_written;   /* total written to the ring; slot = n % RK_DP_SAMPLES */
	uint64_t reserved1[8];

	/* offset 256 */
	uint32_t error_stage; /* enum rk_dp_stage */
	uint32_t error_errno;
	uint32_t wc_status; /* enum ibv_wc_status */
	uint32_t wc_opcode; /* enum ibv_wc_opcode, valid only with wc_status success */
	uint32_t wc_vendor_error;
	uint32_t wc_queue;	     /* 0 send side, 1 receive side */
	uint64_t error_sequence;     /* iteration at which it happened */
	char message[RK_DP_MESSAGE_BYTES]; /* one English sentence, NUL terminated, empty while all is well */
	uint64_t reserved2[60];

	/* offset 1024 */
	struct rk_dp_sample samples[RK_DP_SAMPLES];
	/* offset 17408 */
	struct rk_hist hist; /* round-trip times (ping-pong) or post-to-completion times (stream), ns */
};

/*
 * Ping-pong over a connected queue pair (UD: over an address handle). Latencies are full round trips; for READ and the
 * atomics the time from posting to completion, which is a round trip of the fabric too.
 *
 * A queue pair serves one ping-pong: its receive queue must be empty at the start, and is not emptied at the end.
 *
 * Buffer layout, the same at both ends for the same size and rx_slots: the outgoing message at 0, then rx_slots incoming
 * slots from rk_dp_rx_offset(size) on, rk_dp_rx_stride(size) apart. A WRITE, WRITE_IMM, READ or atomic of the peer goes to
 * this end's slot 0: tell it buffer + rk_dp_rx_offset(size) as its remote_addr.
 */
struct rk_dp_pingpong {
	uint32_t abi;	    /* RK_DP_ABI */
	uint32_t role;	    /* enum rk_dp_role */
	uint32_t transport; /* enum ibv_qp_type: 2 RC, 3 UC, 4 UD */
	uint32_t op;	    /* enum rk_dp_op */
	uint64_t qp;	    /* struct ibv_qp *, in RTS (client) or RTR/RTS */
	uint64_t send_cq;   /* struct ibv_cq * of the QP */
	uint64_t recv_cq;   /* struct ibv_cq *; may be the same as send_cq */
	uint64_t channel;   /* struct ibv_comp_channel * of both CQs with RK_DP_EVENTS, otherwise 0 */
	uint64_t ah;	    /* struct ibv_ah * for UD, otherwise 0 */
	uint64_t buffer;    /* registered memory, at least rk_dp_buffer_length(size, rx_slots) bytes */
	uint64_t buffer_length;
	uint64_t remote_addr; /* the peer's slot 0; unused for SEND */
	uint32_t lkey;
	uint32_t rkey;	      /* of the peer's memory */
	uint32_t remote_qpn;  /* UD */
	uint32_t remote_qkey; /* UD */
	uint32_t size;	      /* payload bytes; 8 for atomics; at least 1 for WRITE */
	uint32_t rx_slots;    /* receives kept posted, at least 1 and at most the QP's max_recv_wr */
	uint32_t sq_depth;    /* the QP's max_send_wr */
	uint32_t max_inline;  /* the QP's max_inline_data; messages that fit go inline */
	uint32_t flags;	      /* enum rk_dp_flag */
	int32_t core;	      /* pin to this core, -1 for none */
	uint64_t seed;	      /* of the verification patterns; equal at both ends */
	uint64_t iterations;  /* measured exchanges, 0 = no limit */
	uint64_t warmup;      /* exchanges before measuring begins */
	uint64_t duration_ns; /* of the measured part, 0 = no limit */
	uint64_t interval_ns; /* from start to start, 0 = back to back */
	uint64_t timeout_ns;  /* per exchange: loss for UC and UD, failure for RC; must not be 0 */
};

/* Ping-pong over a kernel TCP or UDP socket, the reference beside the verbs. */
struct rk_dp_sockpp {
	uint32_t abi;
	uint32_t role;
	uint32_t protocol; /* IPPROTO_TCP 6 or IPPROTO_UDP 17 */
	int32_t fd;	   /* client: from rk_dp_socket_connect; server: from rk_dp_socket_listen. The caller closes it. */
	uint32_t size;
	uint32_t flags; /* BUSY, VERIFY, RECORD */
	int32_t core;
	uint32_t reserved;
	uint64_t seed;
	uint64_t iterations;
	uint64_t warmup;
	uint64_t duration_ns;
	uint64_t interval_ns;
	uint64_t timeout_ns;
};

/*
 * One-way traffic: as many messages as the queue takes. The client posts, the server of a SEND or WRITE_IMM stream keeps
 * receives posted and counts; other operations need no server loop. `completed` counts acknowledged messages.
 */
struct rk_dp_stream {
	uint32_t abi;
	uint32_t role;
	uint32_t transport;
	uint32_t op;
	uint64_t qp;
	uint64_t send_cq;
	uint64_t recv_cq;
	uint64_t channel; /* reserved, 0: streams poll */
	uint64_t ah;
	uint64_t buffer; /* at least slots * round_up(size, 64) bytes (server of UD: + 40 each) */
	uint64_t buffer_length;
	uint64_t remote_addr; /* same layout at the peer */
	uint32_t lkey;
	uint32_t rkey;
	uint32_t remote_qpn;
	uint32_t remote_qkey;
	uint32_t size;
	uint32_t slots;	       /* distinct places in the buffer that messages cycle through, at least 1 */
	uint32_t depth;	       /* requests in flight at most (server: receives kept posted) */
	uint32_t signal_every; /* one signalled request in so many, 1..depth */
	uint32_t post_list;    /* requests handed over in one ibv_post_send, 1..signal_every */
	uint32_t max_inline;
	uint32_t flags; /* TIME_OPS */
	int32_t core;
	uint64_t iterations; /* measured messages, 0 = no limit; rounded up to whole post lists */
	uint64_t warmup;
	uint64_t duration_ns;
	uint64_t timeout_ns; /* without any completion while some are due: failure */
};

/*
 * rping's exchange over a connection made by librdmacm, so that the other end may be rping of rdmacm-utils. All integers of its
 * messages are big-endian: { u64 address, u32 rkey, u32 length }.
 *
 *   client                                      server
 *   SEND where its data lies         ------->   READ of the data
 *                                    <-------   SEND: go on
 *   SEND where the echo is wanted    ------->   WRITE of the data up to its NUL
 *                                    <-------   SEND: go on
 *
 * One exchange is all of that. The data are printable bytes with a NUL at the end, as rping's; a verifying client compares the echo.
 * A server serves clients until it is stopped, each on a thread of its own.
 */
struct rk_dp_rping {
	uint32_t abi;
	uint32_t role;
	uint32_t size;	/* client: bytes of data with the NUL, 1..RK_DP_RPING_BYTES; rping serves up to its -S, 64 without */
	uint32_t flags; /* EVENTS, VERIFY, RECORD */
	int32_t core;	/* of the thread of a client, or of those of all of a server's clients; -1 for none */
	uint32_t port;	/* server: 0 takes a free one */
	uint64_t iterations;
	uint64_t warmup;
	uint64_t duration_ns;
	uint64_t interval_ns;
	uint64_t timeout_ns; /* of an exchange, and of each step of connecting; must not be 0 */
};
#define RK_DP_RPING_BYTES 65536u

/* What became known when a connection was made. The loop writes it before its first exchange (server: before start returns). */
struct rk_dp_rping_info {
	char device[64];
	char local[64];	 /* numeric address */
	char remote[64]; /* client */
	uint8_t gid[16]; /* the one sent from */
	uint32_t port;	 /* server: the one it listens on */
	uint32_t mtu;	 /* path MTU in bytes; 0 when unknown */
	uint64_t accepted; /* server: clients so far; live */
	uint64_t connected; /* server: clients now; live */
	uint64_t failed; /* server: clients that were refused or ended with an error so far; live */
	char failure[RK_DP_MESSAGE_BYTES]; /* server: why the first of them did; written before `failed` is */
};

struct rk_dp_clock_info {
	uint32_t source;
	uint32_t overhead_ns;
	uint64_t ticks_per_s;
};

struct rk_dp_loop; /* opaque: one running loop */

#define RK_DP_API __attribute__((visibility("default")))

enum rk_dp_struct {
	RK_DP_SIZEOF_STATS = 0,
	RK_DP_SIZEOF_PINGPONG = 1,
	RK_DP_SIZEOF_SOCKPP = 2,
	RK_DP_SIZEOF_STREAM = 3,
	RK_DP_SIZEOF_HIST = 4,
	RK_DP_SIZEOF_CLOCK_INFO = 5,
	RK_DP_SIZEOF_RPING = 6,
	RK_DP_SIZEOF_RPING_INFO = 7,
};

/* RK_DP_ABI of the library that was loaded. */
RK_DP_API uint32_t rk_dp_abi(void);
/* Size in bytes of a struct above (enum rk_dp_struct), 0 when unknown. */
RK_DP_API uint64_t rk_dp_sizeof(uint32_t which);

/* Zeroed, page-aligned statistics block, NULL without memory. One loop at a time may own it. */
RK_DP_API struct rk_dp_stats *rk_dp_stats_new(void);
/* Only after the loop that used it was joined. NULL is allowed. */
RK_DP_API void rk_dp_stats_free(struct rk_dp_stats *stats);

/* Zeroed page-aligned memory, the length rounded up to whole pages; NULL without memory. */
RK_DP_API void *rk_dp_buffer_new(uint64_t length);
/* Frees what rk_dp_buffer_new(length) gave. 0, or -errno. */
RK_DP_API int32_t rk_dp_buffer_free(void *buffer, uint64_t length);

RK_DP_API uint64_t rk_dp_rx_offset(uint32_t size);
RK_DP_API uint64_t rk_dp_rx_stride(uint32_t size);
/* Bytes a ping-pong buffer needs. */
RK_DP_API uint64_t rk_dp_buffer_length(uint32_t size, uint32_t rx_slots);

/* Writes the verification pattern of one iteration: what a READ's target holds (iteration 0, role SERVER). */
RK_DP_API void rk_dp_pattern_fill(void *buffer, uint32_t size, uint64_t seed, uint64_t iteration, uint32_t role);
/* Offset of the first byte that differs from that pattern, -1 when all are right. */
RK_DP_API int64_t rk_dp_pattern_check(const void *buffer, uint32_t size, uint64_t seed, uint64_t iteration, uint32_t role);

/*
 * Start a loop on a new thread. Receives are posted before the call returns, so the peer may send as soon as it does.
 * 0 and *loop, or -errno with the reason in stats. The configuration is copied; stats, the verbs objects, the buffer and
 * the descriptor stay the caller's and must outlive the loop.
 */
RK_DP_API int32_t rk_dp_pingpong_start(const struct rk_dp_pingpong *config, struct rk_dp_stats *stats,
				       struct rk_dp_loop **loop);
RK_DP_API int32_t rk_dp_sockpp_start(const struct rk_dp_sockpp *config, struct rk_dp_stats *stats,
				     struct rk_dp_loop **loop);
RK_DP_API int32_t rk_dp_stream_start(const struct rk_dp_stream *config, struct rk_dp_stats *stats,
				     struct rk_dp_loop **loop);
/*
 * As above. `address`: a numeric address or a name, where to connect to or (NULL or empty: everywhere) to listen on. Needs rk_dp_cm_open() before.
 * `info` is the caller's and must outlive the loop.
 */
RK_DP_API int32_t rk_dp_rping_start(const struct rk_dp_rping *config, const char *address, struct rk_dp_rping_info *info,
				    struct rk_dp_stats *stats, struct rk_dp_loop **loop);
/* Opens the librdmacm that goes with the libibverbs in use; a path, or NULL for what is in the process. 0, or -errno. */
RK_DP_API int32_t rk_dp_cm_open(const char *path);
/* Asks the loop to end; returns at once. Safe from any thread and after the loop ended. */
RK_DP_API void rk_dp_loop_stop(struct rk_dp_loop *loop);
/* 1 when the loop has ended, 0 while it runs. */
RK_DP_API int32_t rk_dp_loop_poll(const struct rk_dp_loop *loop);
/* Waits for the end and frees the loop. 0 when it ended well, otherwise -errno of what is recorded in stats. */
RK_DP_API int32_t rk_dp_loop_join(struct rk_dp_loop *loop);

/*
 * Sockets for the reference rows, made here because the runtimes hide their descriptors. `address` is a numeric IPv4 or
 * IPv6 address, a link-local one with its interface (fe80::1%eth0). Return a descriptor, or -errno. rk_dp_socket_listen stores the port it got in *port (in: wish, 0 = any).
 */
RK_DP_API int32_t rk_dp_socket_listen(uint32_t protocol, const char *address, uint16_t *port);
RK_DP_API int32_t rk_dp_socket_connect(uint32_t protocol, const char *address, uint16_t port, uint32_t timeout_ms);
RK_DP_API int32_t rk_dp_socket_close(int32_t fd);

/* The clock the loops use; calibrates it on the first call (about 10 ms). */
RK_DP_API int32_t rk_dp_clock_info(struct rk_dp_clock_info *info);
/* Stops, joins and frees every loop still known: runtimes do not run library destructors. Their stats stay valid, their
 * loop pointers do not. */
RK_DP_API void rk_dp_shutdown(void);

#endif
