/*
 * ring.h - one direction of a link: messages in cache lines, no index shared on the fast path.
 *
 * A message is a header and its payload in consecutive lines. The receiver watches the header's `word`, which is zero until
 * the message is complete; it clears the first word of every line it consumed (when it has nothing else to do), so that a word
 * found later cannot be old payload. Its position is published now and then, for the sender to know what is free. A message does not wrap: a PAD
 * message fills the rest of the ring.
 */
#ifndef SR_RING_H
#define SR_RING_H
#include "segment.h"

enum sr_msg_type {
	SR_MSG_PAD = 1,
	SR_MSG_SEND,        /* RC and UC */
	SR_MSG_WRITE,
	SR_MSG_READ,        /* request */
	SR_MSG_READ_DATA,
	SR_MSG_ATOMIC,
	SR_MSG_ATOMIC_DATA,
	SR_MSG_ACK,
	SR_MSG_NAK,
	SR_MSG_UD,
};

enum sr_msg_flag {
	SR_MSGF_FIRST = 1,
	SR_MSGF_LAST = 2,
	SR_MSGF_IMM = 4,
	SR_MSGF_INV = 8,
	SR_MSGF_SOLICITED = 16,
	SR_MSGF_ACK = 32,    /* `ack` is valid */
	SR_MSGF_REF = 64,    /* the payload is a list of sr_msg_ref into the sender's arena */
	SR_MSGF_PLACED = 128,/* WRITE: the data is already in place, only the immediate is new */
	SR_MSGF_UC = 256,
	SR_MSGF_XRC = 512,   /* a request: a struct sr_msg_xrc follows the header */
};

enum sr_nak {
	SR_NAK_RNR = 1,
	SR_NAK_NOT_READY,    /* no such queue pair, or not in a receiving state: the wire would be silent */
	SR_NAK_INVALID_REQUEST,
	SR_NAK_REMOTE_ACCESS,
	SR_NAK_REMOTE_OPERATION,
	SR_NAK_XRC,          /* no such receive queue: an invalid request */
};

/* word: bit 31 set, bits 0-7 lines, 8-11 type, 12-23 flags */
#define SR_WORD(lines, type, flags) (0x80000000u | (uint32_t)(lines) | (uint32_t)(type) << 8 | (uint32_t)(flags) << 12)
#define SR_WORD_LINES(w) ((w) & 0xff)
#define SR_WORD_TYPE(w) ((w) >> 8 & 0xf)
#define SR_WORD_FLAGS(w) ((w) >> 12 & 0xfff)

/* 32 bytes, then the payload. */
struct sr_msg {
	_Atomic uint32_t word;
	uint32_t src_qpn;
	uint32_t dst_qpn;
	uint32_t number;     /* of the request; of the request answered in DATA and NAK */
	uint32_t ack;        /* requests below this were executed */
	uint32_t length;     /* payload bytes in this message, or in the memory referred to */
	uint32_t imm;        /* immediate or rkey to invalidate; NAK: enum sr_nak | rnr timer << 8; UD: qkey */
	uint32_t total;      /* bytes of the whole request; UD: immediate */
};

struct sr_msg_xrc {
	uint32_t srqn;
	uint32_t reserved;
};

/* Between header and payload of WRITE, READ and ATOMIC. */
struct sr_msg_rdma {
	uint64_t remote_addr;
	uint32_t rkey;
	uint32_t offset;     /* of this payload in the whole */
	uint64_t compare_add;
	uint64_t swap;
};

struct sr_msg_ref {
	uint64_t offset;     /* in the sender's segment */
	uint64_t length;
};

#define SR_MSG_PAYLOAD 8192u /* most in one message: 128 lines behind the header's */
#define SR_MSG_MAX_LINES 130u

struct sr_tx_ring {
	struct sr_ring_line *lines;
	struct sr_ring_ctl *ctl;
	uint32_t tail;
	uint32_t head_seen;
};

struct sr_rx_ring {
	struct sr_ring_line *lines;
	struct sr_ring_ctl *ctl;
	uint32_t head;
	uint32_t cleared;    /* published <= cleared <= head */
	uint32_t published;
};

static inline uint32_t sr_msg_lines(size_t bytes) { return (uint32_t)((bytes + SR_LINE - 1) / SR_LINE); }

/* Room for a message of `bytes` in all, or NULL. Nothing is visible until sr_tx_commit(). */
static inline void *sr_tx_reserve(struct sr_tx_ring *t, size_t bytes)
{
	uint32_t lines = sr_msg_lines(bytes), at = t->tail % SR_RING_LINES;
	uint32_t pad = at + lines > SR_RING_LINES ? SR_RING_LINES - at : 0;
	if (__builtin_expect(SR_RING_LINES - (t->tail - t->head_seen) < lines + pad, 0)) {
		uint32_t head = atomic_load_explicit(&t->ctl->head, memory_order_acquire);
		if (t->tail - head <= SR_RING_LINES) /* a hostile receiver could name any number */
			t->head_seen = head;
		if (SR_RING_LINES - (t->tail - t->head_seen) < lines + pad)
			return NULL;
	}
	while (pad) {
		uint32_t n = pad < SR_MSG_MAX_LINES ? pad : SR_MSG_MAX_LINES;
		struct sr_msg *m = (struct sr_msg *)&t->lines[t->tail % SR_RING_LINES];
		atomic_store_explicit(&m->word, SR_WORD(n, SR_MSG_PAD, 0), memory_order_release);
		t->tail += n;
		pad -= n;
	}
	return &t->lines[t->tail % SR_RING_LINES];
}

/* Gives up a message that was reserved and written in part: the first words of its lines are zero again, as the receiver wants those
 * behind the last message. */
static inline void sr_tx_cancel(struct sr_msg *m, size_t bytes)
{
	struct sr_ring_line *line = (struct sr_ring_line *)m;
	for (uint32_t i = 0, n = sr_msg_lines(bytes); i < n; i++)
		atomic_store_explicit((_Atomic uint32_t *)&line[i], 0, memory_order_relaxed);
}

static inline void sr_tx_commit(struct sr_tx_ring *t, struct sr_msg *m, size_t bytes, enum sr_msg_type type, uint32_t flags)
{
	uint32_t lines = sr_msg_lines(bytes);
	atomic_store_explicit(&m->word, SR_WORD(lines, type, flags), memory_order_release);
	t->tail += lines;
}

/* The next complete message, its word in *word, or NULL. */
static inline struct sr_msg *sr_rx_peek(struct sr_rx_ring *r, uint32_t *word)
{
	struct sr_msg *m = (struct sr_msg *)&r->lines[r->head % SR_RING_LINES];
	*word = atomic_load_explicit(&m->word, memory_order_acquire);
	if (!*word)
		return NULL;
	__builtin_prefetch((char *)m + SR_LINE); /* a message of up to 96 bytes: its rest is on the way while the header is read */
	return m;
}

/* Steps over a message. `lines` was checked by the caller. Its words are cleared later (sr_rx_clear): storing to lines that the sender
 * still caches is slow, and the next locked instruction, and any message we send, would wait for it. */
static inline void sr_rx_consume(struct sr_rx_ring *r, uint32_t lines) { r->head += lines; }

/* Before head comes round to a line again it must have been cleared, or it would look like a new message. */
#define SR_RX_UNCLEARED_MAX (SR_RING_LINES / 8)

static inline void sr_rx_clear(struct sr_rx_ring *r)
{
	for (; r->cleared != r->head; r->cleared++)
		atomic_store_explicit((_Atomic uint32_t *)&r->lines[r->cleared % SR_RING_LINES], 0, memory_order_relaxed);
}

/* Lets the sender use what was cleared. */
static inline void sr_rx_publish(struct sr_rx_ring *r)
{
	if (r->published != r->cleared) {
		r->published = r->cleared;
		atomic_store_explicit(&r->ctl->head, r->cleared, memory_order_release);
	}
}
#endif
