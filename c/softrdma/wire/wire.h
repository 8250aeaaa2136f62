/*
 * wire.h - road 2 from the inside: RoCEv2 over ordinary UDP sockets. The contract with the rest of the device is in
 * ../core.h; this is what the files of this folder share.
 *
 *   packet, bytes     headers: decode, encode
 *   crc32, icrc*      the invariant CRC
 *   port, steer       the UDP socket that processes share, and who gets which packet
 *   tx, rx            batches of packets to and from the socket
 *   demux             from a received packet to a queue pair
 *   requester*        sends requests, takes responses
 *   responder*        executes requests, sends responses
 *   ride              acknowledgements in reserved bits of requests
 *   sack, cc, timers  selective acknowledgement, congestion window, timeouts
 *   ud, fault         datagrams; errors injected for tests
 *
 * Everything runs under sr.lock. Nothing here allocates once a queue pair is connected, except the first out-of-order
 * packet of a queue pair.
 */
#ifndef SR_WIRE_H
#define SR_WIRE_H

#include <netinet/in.h>
#include "../core.h"
#include "cc.h"
#include "icrc.h"
#include "packet.h"

#define SR_DEFAULT_PKEY 0xffff
#define SR_UNACKED_MAX_OTHERS 128 /* PSNs in flight to an implementation that is not ours: rxe's own limit */
#define SR_ACK_EVERY 64		  /* ask for an acknowledgement at least this often (rxe does the same) */
#define SR_WINDOW 4096		  /* PSNs a requester may be ahead; a power of two */
#define SR_READ_CHUNK 256	  /* packets that one READ request asks for at most; long READs are several requests */
#define SR_SACK_FROM 8	  /* packets after which an acknowledgement to our own device is a SACK: it carries timing */
#define SR_READS_MAX 128	  /* outstanding READ requests and atomics of a queue pair */
#define SR_TX_BUDGET 192	  /* packets a queue pair may send before others get a turn */

#define SR_ACK_DEFER_NS 1000000u /* an acknowledgement waits at most this long for something to travel with */

/* ---- where packets of a queue pair go ---------------------------------------------------------------------------- */

/* A socket that sends. Bound to one source address it has the shortest way through the kernel; the general one, bound to none,
 * names source and interface with every datagram. */
struct sr_sender {
	int fd;
	sa_family_t family;  /* AF_INET or AF_INET6 */
	bool general;
	bool returns;	     /* what a host sends back (ICMP) can be read from it */
	uint16_t port;	     /* the UDP source port, host order */
	struct in6_addr from; /* unless general */
};

struct sr_path {
	const struct sr_sender *sender;
	struct sockaddr_in6 to;
	struct in6_pktinfo from; /* source address and interface */
	uint8_t traffic_class;
	struct sr_icrc_path icrc;
};

/* ---- requester ------------------------------------------------------------------------------------------------------- */

#define SR_BITMAP_WORDS (SR_WINDOW / 64)

/* What is known of every PSN in [una, una + SR_WINDOW), indexed by PSN modulo SR_WINDOW. */
struct sr_inflight {
	uint64_t done[SR_BITMAP_WORDS];	 /* arrived at the responder, executed or not; of a READ: its data arrived here */
	uint64_t lost[SR_BITMAP_WORDS];	 /* to be sent again */
	uint8_t sends[SR_WINDOW];	 /* how often it was sent again, up to SR_SENDS_MAX; travels in the packet (packet.h) */
	uint32_t sent_us[SR_WINDOW];	 /* when it was sent last */
};

/* A READ request or atomic that is out. Several of them make one long READ. */
struct sr_read_out {
	uint32_t psn;
	uint32_t npsn;
};

struct sr_requester {
	uint32_t psn;	      /* next new PSN */
	uint32_t una;	      /* oldest that is not done */
	uint32_t una_seen;    /* una when sr_req_advance() looked last: the difference is progress */
	uint32_t cursor;      /* send queue index of the WQE being cut into packets */
	uint32_t packet;      /* packets of it already sent */
	uint32_t lost_count;  /* bits set in inflight->lost */
	uint32_t done_count;  /* bits set in inflight->done */
	uint32_t since_ackreq;
	uint32_t highest;     /* one past the highest PSN known to have arrived (or been answered) */
	uint32_t expected;    /* the responder waits for this PSN: all before it was executed, which alone completes WQEs */
	uint32_t newest_us;   /* send time of the most recently sent packet known to have arrived (RACK) */
	uint32_t found;	      /* send queue index that sr_req_find() returned last: lookups come in order */
	struct sr_inflight *inflight;
	struct sr_read_out reads[SR_READS_MAX];
	uint32_t read_head, read_tail;
	uint8_t retries_left, rnr_left;
	bool waiting_rnr;     /* an RNR NAK came: silence until deadline_ns */
	bool refused;	      /* ... and then packets up to refused_psn only, until that one is executed */
	uint32_t refused_psn;
	uint32_t answer_us;   /* smoothed: from sending a packet to working on its acknowledgement, whoever was slow; 0 none yet */
	uint32_t answer_var_us;
	uint8_t probes;	      /* sent since the last progress */
	uint8_t forced;	      /* retransmissions that may go out although the window is full of what may be lost too */
	uint8_t fail_status;  /* enum ibv_wc_status of WQE fail_index, reported when the ones before it are complete */
	uint32_t fail_index;
	uint64_t deadline_ns; /* retransmission or RNR timer; 0 = not running */
	uint64_t probe_ns;    /* selective peers: when to provoke an acknowledgement; 0 = not running */
	struct sr_cc cc;
	uint32_t confirmed;   /* PSNs that responses confirmed since the last request was taken in order (ride.c) */
};

/* ---- responder ------------------------------------------------------------------------------------------------------- */

/* An atomic that was executed, remembered so that it can be answered again. */
struct sr_res {
	uint8_t kind; /* its opcode; 0 none */
	uint32_t psn;
	uint32_t msn;
	uint64_t orig;
};

/* An answer being sent: a READ's data, or an atomic's old value. */
struct sr_reply {
	uint8_t kind;
	bool again;	/* asked for once more: goes before what has not begun */
	uint8_t sends;	/* of the request: goes back in the answer */
	uint64_t arrived_ns; /* the request, at the kernel */
	uint32_t psn;	/* of its first packet */
	uint32_t npsn;
	uint32_t sent;	/* packets */
	uint32_t msn;
	uint32_t rkey;
	uint32_t srqn;	/* XRC: of the request */
	uint64_t va;
	uint32_t length;
	uint64_t orig;
};

struct sr_ooo; /* reorder.c: packets that came ahead of a gap */

struct sr_responder {
	uint32_t psn;	    /* expected */
	uint32_t msn;
	uint32_t acked;	    /* packets taken since the last acknowledgement went out, */
	uint32_t untimed;   /* and since the last that carried timing */
	uint32_t confirmed; /* PSNs that were confirmed in responses since the last request left (ride.c) */
	uint32_t echo_psn;  /* the request that arrived last, */
	uint8_t echo_sends; /* which of its transmissions it was, */
	uint64_t echo_ns;   /* and when the kernel got it */
	bool ack_due;
	bool sack_due;
	bool nak_sent;	    /* silence until the expected packet arrives */
	uint8_t nak_due;    /* syndrome to send instead of an ACK, behind the replies already queued; 0 none */
	bool nak_fatal;	    /* then move the queue pair to ERR; meanwhile nothing is executed */
	int nak_event;	    /* enum ibv_event_type to raise then, or -1 */
	bool in_message;    /* between FIRST and LAST */
	bool in_write;
	bool uc_skip;	    /* UC: the rest of this message was given up */
	uint32_t offset;    /* bytes of the message so far */
	uint32_t rkey;	    /* WRITE in progress */
	uint64_t va;
	uint32_t length;
	struct sr_res *res; /* ring of res_max */
	uint32_t res_max, res_head;
	struct sr_reply *replies; /* ring, room for every remembered request and as many replays */
	uint32_t reply_mask, reply_head, reply_tail;
	struct sr_ooo *ooo;
};

struct sr_wire_qp {
	struct sr_qp *qp;
	struct sr_path path;
	struct sr_icrc_path from_peer; /* the way back, once the peer's source port is known */
	in_port_t peer_port;
	bool ours;	      /* the peer is one of our devices */
	in_port_t port;	      /* `ours` and connected: the one it sends from (network order) */
	bool rts;
	bool dead;	      /* reset while it was being worked on; freed at the end of the round */
	bool established;     /* the first packet was seen */
	uint8_t transport;    /* the upper bits of its opcodes */
	uint32_t mtu;
	uint8_t mtu_shift;
	uint64_t ack_since_ns; /* when the oldest deferred acknowledgement was owed */
	struct sr_list tx_node;	   /* in wire.tx_work */
	struct sr_list ack_node;   /* in wire.acks */
	struct sr_list timer_node; /* in wire.timers; in wire.graveyard when dead */
	struct sr_requester req;
	struct sr_responder rsp;
};

/* ---- a network made of functions, for tests and fuzzers -------------------------------------------------------------- */

struct sr_wire_hooks {
	/* Takes a datagram of `segment`-sized packets in place of the socket. */
	void (*output)(const struct sr_path *path, const struct iovec *pieces, size_t count, uint32_t segment);
	/* Delivers what has arrived, by sr_demux(); returns the number of packets. */
	int (*input)(void);
	uint64_t (*now_ns)(void);
};
extern const struct sr_wire_hooks *sr_wire_hooks; /* NULL: the real network */
/* Readies the road without sockets. */
void sr_wire_start_hooked(unsigned slot, const struct sr_wire_hooks *hooks);

/* ---- the process's wire -------------------------------------------------------------------------------------------- */

struct sr_wire {
	int fd;		/* receives IPv6, port 4791; -1 when the road is closed */
	int fd4;	/* receives IPv4 */
	int start_error; /* why the road is closed: errno of sr_wire_start() */
	int forward_fd; /* packets that another process received for us */
	unsigned slot;
	bool gso_off;
	uint64_t now_ns;
	uint64_t active_ns;  /* when something was done last */
	uint64_t arrived_ns; /* the packet being worked on reached the kernel then */
	uint64_t timers_due_ns; /* no timer is due before; UINT64_MAX none */
	struct sr_list tx_work; /* queue pairs with something to send now */
	struct sr_list acks;	/* queue pairs that owe an acknowledgement */
	struct sr_list timers;
	struct sr_list graveyard;
};

extern struct sr_wire sr_wire;

static inline uint64_t sr_wire_clock_ns(void) { return sr_wire_hooks ? sr_wire_hooks->now_ns() : sr_now_ns(); }
/* now_ns is read under the lock as usual, and without it by sr_wire_quiet_ns(). */
static inline void sr_wire_set_now(uint64_t now_ns) { __atomic_store_n(&sr_wire.now_ns, now_ns, __ATOMIC_RELAXED); }
static inline uint32_t sr_wire_now_us(void) { return (uint32_t)(sr_wire.now_ns / 1000); }
static inline bool sr_bit(const uint64_t *map, uint32_t i) { return map[i / 64 % SR_BITMAP_WORDS] >> (i % 64) & 1; }
static inline void sr_bit_set(uint64_t *map, uint32_t i) { map[i / 64 % SR_BITMAP_WORDS] |= UINT64_C(1) << (i % 64); }
static inline void sr_bit_clear(uint64_t *map, uint32_t i) { map[i / 64 % SR_BITMAP_WORDS] &= ~(UINT64_C(1) << (i % 64)); }
/* The headers that all packets of a queue pair have in common. An operation (by the names of RC) is sent by its own transport. */
static inline struct sr_pkt sr_wire_header(const struct sr_wire_qp *w, uint8_t opcode, uint32_t psn)
{
	uint8_t transport = opcode & SR_OP_TRANSPORT ? 0 : w->transport;
	return (struct sr_pkt){ .opcode = opcode | transport, .migreq = true, .pkey = SR_DEFAULT_PKEY, .resv_fb = SR_BTH_MARK,
				.qpn = w->qp->dest_qpn, .psn = psn & SR_PSN_MASK };
}
static inline void sr_wire_mark(struct sr_list *head, struct sr_list *node)
{
	if (sr_list_empty(node))
		sr_list_add_tail(head, node);
}

/* port.c */
int sr_port_open(unsigned slot);
void sr_port_close(void);
/* The socket to send from that address with; the general one unless a plain unicast path allows better. Never NULL once the
 * road is open. */
const struct sr_sender *sr_port_sender(const struct in6_addr *from, bool plain);
/* The socket for queue pair 1; another one than that of data. */
const struct sr_sender *sr_port_gsi_sender(void);
/* For a network made of functions: everything goes from `port`. */
void sr_port_hooked(uint16_t port);
/* steer.c: `slot` of a packet that arrived here is not ours: passes it on. */
int sr_steer_join(int fd, int fd4, unsigned slot);
void sr_steer_forward(unsigned slot, const struct sockaddr_in6 *from, const struct in6_addr *to, const uint8_t *packet, size_t len);
/* Gives a packet to the process in `slot`; false when there is none. */
bool sr_steer_hand_over(unsigned slot, const struct sockaddr_in6 *from, const struct in6_addr *to, const uint8_t *packet,
			size_t len);
int sr_steer_forward_socket(unsigned slot);
/* steer_keep.c: a small packet for a process whose socket is full (the kernel queues ten) is tried again; false: no room. */
bool sr_steer_keep(unsigned slot, const struct sockaddr_in6 *from, const struct in6_addr *to, const uint8_t *packet, size_t len);
void sr_steer_kept_round(void);
size_t sr_steer_receive(uint8_t *buf, size_t size, struct sockaddr_in6 *from, struct in6_addr *to);

/* path.c */
void sr_path_init(struct sr_path *path, const struct sr_av *av);
void sr_path_init_gsi(struct sr_path *path, const struct sr_av *av); /* of queue pair 1 */
/* Smallest round trip that any queue pair of this process measured on the way to that address lately, `rtt_us` included. */
uint32_t sr_path_min_rtt_us(const struct sr_path *path, uint32_t rtt_us);
/* Forgets these measurements: another network begins. */
void sr_path_forget(void);

/* tx.c: packets are gathered until sr_tx_flush(). Payload must stay until then, unless it is small: then it was copied. */
#define SR_TX_COPY_BYTES 256
bool sr_tx_packet(const struct sr_path *path, const struct sr_pkt *p, const struct iovec *payload, int n);
void sr_tx_flush(void);
bool sr_tx_pending(void);

void sr_rx_open(void);
/* rx.c: receives a batch and hands each packet to sr_demux(); returns the number of packets. */
int sr_rx_batch(void);
/* A packet's origin as far as the socket tells. */
struct sr_rx_meta {
	struct sockaddr_in6 from;
	struct in6_addr to;	   /* not known, like icrc, when icrc.len is 0: then it can only be the queue pair's own */
	struct sr_icrc_path icrc;
	uint16_t segment; /* index within a coalesced datagram */
	uint64_t arrived_ns; /* at the kernel; monotonic */
};

/* demux.c */
void sr_demux(const struct sr_rx_meta *meta, uint8_t *packet, size_t len, bool forwarded);

/* requester.c: from WQEs to packets */
void sr_req_init(struct sr_wire_qp *w);
void sr_req_transmit(struct sr_wire_qp *w); /* lost packets, then new ones, as far as the windows allow */
struct sr_swqe *sr_req_find(struct sr_wire_qp *w, uint32_t psn, uint32_t *index);
/* The WQE at `index` will complete with an error once those before it are complete; nothing new is sent meanwhile. */
void sr_req_fail(struct sr_wire_qp *w, uint32_t index, enum ibv_wc_status status);
static inline uint32_t sr_req_packets(const struct sr_wire_qp *w, const struct sr_swqe *e)
{
	return e->length ? (e->length + w->mtu - 1) >> w->mtu_shift : 1;
}

/* requester_ack.c: from responses to completions */
void sr_req_response(struct sr_wire_qp *w, const struct sr_pkt *p);
void sr_req_ack_upto(struct sr_wire_qp *w, uint32_t psn); /* everything up to psn but READs and atomics */
void sr_req_advance(struct sr_wire_qp *w);
/* The transmission of psn that had this number was answered. An answer to an earlier one says nothing about when the latest was
 * sent. */
void sr_req_note_answer(struct sr_requester *r, uint32_t psn, uint8_t sends);
/* Everything up to psn arrived, and the peer said so just now. */
void sr_req_acked(struct sr_wire_qp *w, uint32_t psn);
static inline uint32_t sr_req_inflight(const struct sr_requester *r)
{
	return ((r->psn - r->una) & SR_PSN_MASK) - r->done_count - r->lost_count;
}

/* requester_loss.c: what to send again */
void sr_req_mark_done(struct sr_wire_qp *w, uint32_t psn);
void sr_req_mark_lost(struct sr_wire_qp *w, uint32_t psn);
void sr_req_lost_from(struct sr_wire_qp *w, uint32_t psn);
void sr_req_doubt(struct sr_wire_qp *w, uint32_t psn);
void sr_req_detect_loss(struct sr_wire_qp *w);
uint32_t sr_req_next_lost(const struct sr_wire_qp *w);
const struct sr_read_out *sr_req_read_of(const struct sr_wire_qp *w, uint32_t psn);
void sr_req_timeout(struct sr_wire_qp *w);
void sr_req_probe(struct sr_wire_qp *w);

/* responder.c, responder_reply.c */
int sr_rsp_init(struct sr_wire_qp *w);
void sr_rsp_free(struct sr_wire_qp *w);
void sr_rsp_request(struct sr_wire_qp *w, const struct sr_pkt *p, const uint8_t *raw, size_t len);
void sr_rsp_execute(struct sr_wire_qp *w, const struct sr_pkt *p);
void sr_rsp_duplicate(struct sr_wire_qp *w, const struct sr_pkt *p);
void sr_rsp_nak(struct sr_wire_qp *w, uint8_t syndrome, bool fatal, int event);
bool sr_rsp_queue(struct sr_wire_qp *w, const struct sr_reply *reply);
void sr_rsp_ack(struct sr_wire_qp *w); /* sends what is owed: an ACK or a SACK */
void sr_rsp_owe_ack(struct sr_wire_qp *w);
void sr_rsp_transmit(struct sr_wire_qp *w); /* READ data, atomic answers, then NAKs and ACKs that wait behind them */
void sr_rsp_uc(struct sr_wire_qp *w, const struct sr_pkt *p);
static inline bool sr_rsp_has_replies(const struct sr_wire_qp *w) { return w->rsp.reply_head != w->rsp.reply_tail; }

/* timers.c */
void sr_timers_update(struct sr_wire_qp *w);
int sr_timers_run(void);
uint64_t sr_ack_timeout_ns(uint8_t code);

/* reorder.c */
bool sr_ooo_keep(struct sr_wire_qp *w, uint32_t psn, const uint8_t *raw, size_t len);
void sr_ooo_drain(struct sr_wire_qp *w);
/* Forgets packets kept at [psn, psn + n): a READ that was executed takes these numbers. */
void sr_ooo_forget(struct sr_wire_qp *w, uint32_t psn, uint32_t n);
void sr_ooo_free(struct sr_wire_qp *w);
bool sr_ooo_any(const struct sr_wire_qp *w);
/* Copies the bitmap of packets kept at [first, first + 64 * words) and returns the number of words that matter. */
int sr_ooo_bitmap(const struct sr_wire_qp *w, uint64_t *bits, int words);

/* ride.c */
/* Lets the acknowledgement owed ride in that request, which goes out now, if it may. */
void sr_ride_put(struct sr_wire_qp *w, struct sr_pkt *p);
/* Takes what rides in a request that is the next in order. */
void sr_ride_take(struct sr_wire_qp *w, const struct sr_pkt *p);

/* sack.c */
struct sr_sack {
	uint32_t echo_psn, held_us;
	uint8_t echo_sends;
	int words;
	uint64_t bits[SR_BITMAP_WORDS];
};
#define SR_SACK_BYTES_MAX (8 + SR_BITMAP_WORDS * 8)
size_t sr_sack_build(const struct sr_sack *sack, uint8_t *out);
bool sr_sack_parse(struct sr_sack *sack, const uint8_t *payload, size_t len);
void sr_sack_send(struct sr_wire_qp *w);
void sr_sack_before_data(struct sr_wire_qp *w, const struct sr_reply *reply);
void sr_sack_receive(struct sr_wire_qp *w, const struct sr_pkt *p);

/* ud.c */
void sr_ud_receive(const struct sr_rx_meta *meta, const struct sr_pkt *p, size_t len);

/* fault.c */
struct sr_fault_rates {
	bool on;
	uint32_t loss, dup, reorder, corrupt; /* of 2^32 */
	uint64_t seed;
};
extern struct sr_fault_rates sr_fault;
void sr_fault_init(const char *text);
/* Hands the packet on zero, one or two times, now or later, whole or damaged. */
void sr_fault_deliver(const struct sr_rx_meta *meta, uint8_t *packet, size_t len);
void sr_fault_flush(void);

#endif
