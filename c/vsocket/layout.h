/*
 * layout.h - what processes under socket-run share: one memory file (the arena) with a slot for every connection.
 *
 * A connection is an ordinary kernel TCP connection (the twin) and, in each direction, a byte ring beside it. The stream of
 * a direction is a sequence of epochs: even ones travel through the twin, odd ones through the ring. Every boundary between
 * two epochs is published as a pair of offsets: how many bytes of the twin and how many bytes of the ring lie before it.
 * Bytes that the sender puts on the twin during a ring epoch are doorbells: they carry nothing but "the ring has data",
 * so that whatever waits on the descriptor in the kernel wakes up. A receiver tells them apart by counting, with the
 * kernel's own counters of the twin as the origin.
 *
 * Nothing read from here is trusted with memory: indices are masked and lengths are checked by the reader.
 */
#ifndef VS_LAYOUT_H
#define VS_LAYOUT_H

#include "reasons.h"
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define VS_MAGIC UINT64_C(0x316b636f73766b72) /* "rkvsock1" */
#define VS_VERSION 9
#define VS_SLOTS 4096
#define VS_BUCKETS 8192
#define VS_RING_MIN (UINT32_C(64) << 10)
#define VS_RING_MAX (UINT32_C(1) << 20)
#define VS_BOUNDARIES 4
#define VS_LINE 64

/* What the doorbell word of a direction says, in its low four bits; above them is the ring epoch it is valid in. */
enum vs_bell {
	VS_AWAKE,   /* the receiver looks at the ring by itself: do not ring */
	VS_ARMED,   /* the ring is empty and the receiver may sleep: the next data needs a doorbell */
	VS_RINGING, /* the sender is putting a doorbell on the twin */
	VS_RUNG,    /* a doorbell lies in the twin */
	VS_SEEN,    /* as RUNG, but an edge-triggered waiter has used up its edge: new data needs another doorbell (or post) */
	VS_FROZEN,  /* the receiver has left the ring: the sender must move what is in it to the twin before it sends anything else */
	VS_LISTED,  /* the receiver waits in an epoll set: the next data must be posted on its board */
	/* As RINGING, and the receiver has read the ring to its end meanwhile. With AWAKE, ARMED or LISTED: what the sender makes of it. */
	VS_ANSWERED = 8,
};
#define VS_BELL(epoch, state) ((uint32_t)(epoch) << 4 | (uint32_t)(state))
#define VS_BELL_STATE(word) ((word)&15u)
#define VS_BELL_EPOCH(word) ((word) >> 4)
/* The sender is between the doorbell's byte and its word. */
#define VS_BELL_IS_RINGING(word) (VS_BELL_STATE(word) == VS_RINGING || (VS_BELL_STATE(word) & VS_ANSWERED))
/* Epoch numbers as the doorbell word can hold them. */
#define VS_EPOCH_MASK UINT32_C(0x0fffffff)

/* The start of an epoch. */
struct vs_boundary {
	_Atomic uint64_t twin; /* bytes of the twin before it */
	_Atomic uint64_t ring; /* bytes of the ring before it */
	_Atomic uint32_t size; /* of a ring epoch: bytes of the ring in use, a power of two */
};

enum vs_syn { VS_SYN_UNKNOWN, VS_SYN_COUNTED, VS_SYN_NOT_COUNTED };

/* One direction. Lines are grouped by who writes them. */
struct vs_dir {
	/* the sender, on every message */
	_Alignas(VS_LINE) _Atomic uint64_t tail; /* ring bytes ever written */
	_Atomic uint32_t epoch_tx;		  /* epoch the sender is in */
	_Atomic uint32_t tx_cpu;		  /* CPU + 1 of the last message's sender */
	_Atomic uint64_t twin_sent;		  /* during a ring epoch: twin bytes ever sent */
	/* the receiver, on every message */
	_Alignas(VS_LINE) _Atomic uint64_t head; /* ring bytes ever read */
	_Atomic uint32_t epoch_rx;		  /* epoch the receiver is in */
	/* both, rarely */
	_Alignas(VS_LINE) _Atomic uint32_t bell;
	_Atomic uint32_t plain;		 /* reasons (enum vs_plain) for which no ring epoch may begin */
	_Atomic uint32_t native_readers; /* calls that read the twin without looking here */
	_Atomic uint32_t watched;	 /* what is to be measured of it (enum vs_watched): watch.h */
	_Atomic uint32_t board;		 /* row + 1 of the board of the epoll set that the receiver waits in; 0: none */
	_Alignas(VS_LINE) struct vs_boundary boundary[VS_BOUNDARIES];
	/* the sending end's own */
	_Alignas(VS_LINE) _Atomic uint32_t tx_lock;
	_Atomic uint32_t native_senders;
	uint64_t head_seen;	/* the last head that was read */
	uint64_t checked_ticks; /* when the twin was last asked whether the receiver is there */
	uint32_t ring_next;	/* size of the next ring epoch */
	uint32_t full_spin_ns;	/* how long to wait for space */
	uint32_t syn;		/* whether the kernel counts the SYN with the acknowledged bytes of the twin (enum vs_syn) */
	_Atomic uint64_t tx_ring_bytes, tx_bells, tx_promotions, tx_overflows, tx_natives;
	/* the receiving end's own */
	_Alignas(VS_LINE) _Atomic uint32_t rx_lock;
	_Atomic uint32_t reading; /* the owner of rx_lock is about to read the twin of a plain epoch: none may follow it now */
	_Atomic uint8_t twin_read_known; /* not bool: others can write here, and a bool may hold nothing but 0 and 1 */
	_Atomic uint32_t rx_error; /* an errno that the twin has told and the application has not heard yet */
	uint64_t twin_read;	/* twin bytes ever read */
	uint8_t bell_owed;		 /* the doorbell of an ANSWERED word is still to be taken off the twin */
	uint32_t spin_ns;	/* how long a blocked reader looks at the ring before it sleeps */
	_Atomic uint32_t eager; /* somebody may wait in the kernel without our knowing: arm whenever the ring is empty */
	_Atomic uint32_t expecting; /* the queue pair from the other host may begin a ring epoch, or is in one (remote/) */
	_Atomic uint32_t sleepers; /* threads that wait in the kernel for a doorbell */
	_Atomic uint64_t rx_ring_bytes, rx_sleeps;
};

/* The cookie of an end that is on another host. */
#define VS_COOKIE_REMOTE UINT64_C(1)

/* One end of a connection. */
struct vs_end {
	_Atomic uint64_t cookie;  /* SO_COOKIE of its socket; 0: has not come yet */
	_Atomic uint32_t holders; /* processes that use it; those that were killed are never subtracted */
	_Atomic uint32_t verified;/* 1: the kernel has confirmed that the other end is this connection's */
	_Atomic uint32_t options; /* TCP_NODELAY and TCP_CORK as the application set them (enum vs_option) */
	_Atomic uint32_t closed;
	_Atomic uint32_t helper; /* row + 1 of a process that can be asked to send for it */
	_Atomic uint32_t pid; /* the process that attached last, or was forked last */
	_Atomic uint32_t port; /* UDP port of its process, where the other host's may speak of it (remote/); 0: none */
	_Atomic uint32_t shared; /* processes that are not counted may hold it: it came here by exec or in a message, or was forked unattached */
	_Atomic uint32_t heir; /* a process that held it and became another program: it is counted already */
};

/* A process whose helper thread sends what a receiver has given back. */
struct vs_helper_row {
	_Atomic uint32_t pid;
	_Atomic uint32_t wake; /* futex: counts requests */
};
#define VS_HELPERS 1024

/* An epoll set, as senders see it: who has something for it says so here (board.h). */
struct vs_board {
	_Alignas(VS_LINE) _Atomic uint32_t pid; /* its process; 0: free */
	_Atomic uint32_t sleepers;		/* threads that wait in the kernel and look here only when they are woken */
	_Atomic uint32_t forced;		/* somebody may wait for the set without looking here: always ring, too */
	_Alignas(VS_LINE) _Atomic uint64_t summary[2];		 /* a bit for each word below */
	_Alignas(VS_LINE) _Atomic uint64_t posted[VS_SLOTS * 2 / 64]; /* a bit for each end of a slot */
};
#define VS_BOARDS 512

enum vs_option { VS_OPT_KNOWN = 1, VS_OPT_NODELAY = 2, VS_OPT_CORK = 4 };

/* An address; IPv4 as mapped IPv6. */
struct vs_endpoint {
	uint8_t addr[16];
	uint16_t port; /* network order */
};

/* A connection by its addresses; end 0 is the smaller one. */
struct vs_key {
	uint64_t netns;
	struct vs_endpoint end[2];
	uint32_t scope;
};

struct vs_slot {
	_Alignas(VS_LINE) _Atomic uint32_t gen; /* odd while in use */
	_Atomic uint32_t remote;		/* process that has the queue pair to the other host; 0: both ends are here */
	_Atomic uint32_t road;			/* enum vs_road */
	uint8_t filed;				/* in a bucket, so that the other end can find it */
	uint32_t next; /* slot + 1 of the next one in the bucket or in the free list */
	uint64_t suspect_ns; /* when a sweep first found nobody at either end; 0: somebody was there */
	struct vs_key key;
	_Alignas(VS_LINE) struct vs_end end[2];
	struct vs_dir dir[2]; /* by sending end */
};

/* What a UDP socket that receives does about its inbox. */
enum vs_inbox_state {
	VS_INBOX_OPEN,	/* it looks before it sleeps: datagrams may be laid in */
	VS_INBOX_ARMED, /* it is empty, and the receiver may sleep: datagrams take the kernel, which wakes it */
	VS_INBOX_SHUT,	/* datagrams take the kernel; what lies in is still read */
};
#define VS_INBOX_WORD(tail, state) ((uint64_t)(tail) << 2 | (state))
#define VS_INBOX_TAIL(word) ((word) >> 2)
#define VS_INBOX_STATE(word) ((word)&3u)

/* The inbox of a UDP socket: a ring of datagrams that many senders write and one socket reads (inbox.h). Its end and its state are one
 * word, so that a sender cannot lay anything in after the receiver has found it empty and gone to sleep. */
struct vs_inbox {
	_Alignas(VS_LINE) _Atomic uint64_t word; /* bytes ever written, and enum vs_inbox_state */
	/* datagrams that senders who know of the inbox have given to the kernel: they come before what was laid in after them */
	_Atomic uint64_t natives;
	/* the receiver's */
	_Alignas(VS_LINE) _Atomic uint64_t head; /* bytes ever read */
	_Atomic uint64_t natives_seen;		 /* of those, how many were looked for */
	_Atomic uint64_t looked;		 /* when the kernel's queue was last looked at (vs_ticks()) */
	_Atomic uint32_t rx_lock;
	_Atomic uint64_t read, read_bytes; /* datagrams and their bytes ever taken out */
	_Atomic uint32_t known;		   /* some sender of this host has found it */
	/* Some sender of another host uses it, or is about to: so many datagrams may come from the kernel before that is over. */
	_Atomic uint32_t far_credit;
	_Atomic uint64_t far_until; /* vs_ticks(): how long something may come from there without asking again */
	_Atomic uint32_t holders; /* processes that have the socket; those that were killed are never subtracted */
	_Alignas(VS_LINE) _Atomic uint64_t cookie; /* SO_COOKIE of the socket; 0: the inbox is free */
	_Atomic uint64_t netns;
	_Atomic uint32_t gen;
	_Atomic uint32_t pid; /* of the process that used it last */
	_Atomic uint32_t port; /* UDP port of that process, where other hosts may ask for it (remote/); 0: none */
	struct vs_endpoint at; /* where the socket was bound when the inbox was made */
	/* the senders' */
	_Alignas(VS_LINE) _Atomic uint32_t tx_lock;
	_Atomic uint64_t full_head; /* where the receiver was when something last found no room */
	_Atomic uint64_t drops;
};
#define VS_INBOXES 1024
#define VS_INBOX_ROOM (UINT32_C(256) << 10)

struct vs_arena {
	uint64_t magic;
	uint32_t version, slot_size;
	_Atomic uint32_t lock;
	uint32_t free_first; /* slot + 1; 0: none */
	uint32_t used_end;   /* slots from here on were never used */
	uint32_t sweep;	     /* the next slot to ask the kernel about */
	uint32_t in_use;
	struct vs_helper_row helper[VS_HELPERS];
	struct vs_board board[VS_BOARDS];
	struct vs_inbox inbox[VS_INBOXES];
	_Atomic uint32_t inbox_next; /* where a free one is looked for */
	uint16_t bucket[VS_BUCKETS]; /* slot + 1 of the first one */
	struct vs_slot slot[VS_SLOTS];
};

#define VS_RINGS_AT ((sizeof(struct vs_arena) + 0xfffff) & ~(uint64_t)0xfffff)
/* Behind the rings, a struct vs_watch (watch.h) for each direction; no memory is used for those that nobody watches. */
#define VS_WATCHES_AT (VS_RINGS_AT + (uint64_t)VS_SLOTS * 2 * VS_RING_MAX)
#define VS_WATCH_ROOM (UINT32_C(256) << 10)
/* Behind them the rings of the inboxes. */
#define VS_INBOXES_AT (VS_WATCHES_AT + (uint64_t)VS_SLOTS * 2 * VS_WATCH_ROOM)
#define VS_ARENA_SIZE (VS_INBOXES_AT + (uint64_t)VS_INBOXES * VS_INBOX_ROOM)

#endif
