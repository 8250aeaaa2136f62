/*
 * book.h - the book of a run: one memory file in which every process of a run under `socket-run --report` writes down its connections, and
 * which rdmakit reads when all have ended. It belongs to rdmakit-attend, who passes its name in the environment (VS_ENV_BOOK).
 * A row belongs to one end of a connection and is found by the socket's cookie. `socket-run ps` prints rows of the same kind.
 *
 * Plain numbers only: TypeScript reads them (ffi/gen). Whoever reads trusts none of them.
 */
#ifndef VS_BOOK_H
#define VS_BOOK_H

#include "reasons.h"
#include <stdbool.h>
#include <stdint.h>

#define VS_ENV_BOOK "RDMAKIT_SOCKET_BOOK"
#define VS_BOOK_MAGIC UINT64_C(0x316b6f6f62736b72) /* "rksbook1" */
#define VS_BOOK_VERSION 4
#define VS_BOOK_ROWS 4096
#define VS_BOOK_STRANGERS 64
#define VS_BOOK_UNKNOWN UINT64_MAX

enum vs_book_state {
	VS_BOOK_OPEN = 1,
	VS_BOOK_CLOSED,
	VS_BOOK_LOST, /* its process ended without closing it: what the kernel moved last is not known */
};

enum vs_book_peer {
	VS_BOOK_PEER_NEVER,   /* the other end has not been seen to have the library */
	VS_BOOK_PEER_LIBRARY, /* it is attached too */
};

/* One direction, as one of its ends knows it. */
struct vs_book_flow {
	uint64_t ring_bytes, kernel_bytes; /* kernel_bytes may be VS_BOOK_UNKNOWN */
	uint64_t datagrams; /* of UDP: how many went through the ring */
	uint64_t promotions, overflows, natives, bells, sleeps;
	uint32_t plain;	  /* enum vs_plain: what forbids the ring */
	uint32_t in_ring; /* the direction is in a ring epoch */
	uint32_t eager;	  /* its receiver waits in ways that need a doorbell for each message */
	uint32_t hashed;  /* both applications' bytes are compared */
	uint64_t verified_bytes, wrong_count, wrong_from, wrong_to; /* positions in the ring's stream */
	uint64_t latency_count, latency_min_ns, latency_p50_ns, latency_p99_ns, latency_max_ns;
};

struct vs_book_row {
	uint64_t cookie; /* 0: unused */
	uint32_t lock;
	uint32_t state, pid;
	char program[16];
	uint8_t local[16], remote[16]; /* IPv4 as mapped IPv6 addresses */
	uint16_t local_port, remote_port;
	uint32_t scope;
	uint64_t netns;
	uint32_t protocol;   /* IPPROTO_TCP or IPPROTO_UDP: then the row is a socket's, and without a remote end unless it is connected */
	uint32_t local_host; /* the other end is on this host */
	uint32_t refused;    /* enum vs_plain: from before it had a slot */
	uint32_t error;	     /* errno for which it has none: ENOSPC no free one, others of opening the arena */
	uint32_t attached, slot, gen, side;
	uint32_t road; /* enum vs_road */
	uint32_t peer, peer_pid, peer_uid; /* UINT32_MAX: not known */
	struct vs_book_flow tx, rx;
};

/* What was left out because all rows were used. */
struct vs_book_rest {
	uint64_t connections, accelerated, tx_ring_bytes, tx_kernel_bytes, rx_ring_bytes, rx_kernel_bytes, wrong_count;
};

/* A program that was started and does not take the library. */
struct vs_book_stranger {
	uint32_t pid;
	char path[124];
};

struct vs_book {
	uint64_t magic;
	uint32_t version, row_bytes, rows;
	uint32_t wanted; /* enum vs_watched */
	uint32_t strangers; /* ever seen */
	uint32_t uid;
	uint64_t dropped; /* messages from other hosts that made no sense, or were not from whom they said */
	struct vs_book_rest rest;
	struct vs_book_stranger stranger[VS_BOOK_STRANGERS];
	struct vs_book_row row[VS_BOOK_ROWS];
};

/* Behind the book lies a struct rk_hist for each row: latencies of what this end received. */
#define VS_BOOK_HISTOGRAM_ROOM (UINT32_C(220) << 10)
#define VS_BOOK_HISTOGRAMS_AT ((sizeof(struct vs_book) + 0xfff) & ~(uint64_t)0xfff)
#define VS_BOOK_SIZE (VS_BOOK_HISTOGRAMS_AT + (uint64_t)VS_BOOK_ROWS * VS_BOOK_HISTOGRAM_ROOM)

extern struct vs_book *vs_book; /* NULL: nobody asked */

/* Opens the book that the environment names. Without one, or when it cannot be opened, nothing is written. */
void vs_book_open(void);
/* Maps a book; false when it is none. */
bool vs_book_map(int fd);

struct vs_conn;
struct vs_slot;
void vs_book_note_seen(int fd);
void vs_book_note_attached(int fd, const struct vs_conn *c);
void vs_book_note_refused(int fd, enum vs_plain why);
void vs_book_note_failed(int fd, int error);
void vs_book_note_closing(int fd);
void vs_book_note_stranger(const char *path);
void vs_book_note_dropped(void);

/* A connected TCP socket is used for the first time. */
static inline void vs_book_seen(int fd)
{
	if (__builtin_expect(vs_book != 0, 0))
		vs_book_note_seen(fd);
}
/* It has a slot now. */
static inline void vs_book_attached(int fd, const struct vs_conn *c)
{
	if (__builtin_expect(vs_book != 0, 0))
		vs_book_note_attached(fd, c);
}
/* It will never get one. */
static inline void vs_book_refused(int fd, enum vs_plain why)
{
	if (__builtin_expect(vs_book != 0, 0))
		vs_book_note_refused(fd, why);
}
/* It got none; `error` is -errno, 0 when this process has given up acceleration. */
static inline void vs_book_failed(int fd, int error)
{
	if (__builtin_expect(vs_book != 0, 0))
		vs_book_note_failed(fd, error);
}
/* A descriptor is about to be closed. */
static inline void vs_book_closing(int fd)
{
	if (__builtin_expect(vs_book != 0, 0))
		vs_book_note_closing(fd);
}
/* A program without the library takes this process's place, or is started. */
static inline void vs_book_stranger(const char *path)
{
	if (__builtin_expect(vs_book != 0, 0))
		vs_book_note_stranger(path);
}
/* A message from another host is not listened to. */
static inline void vs_book_dropped(void)
{
	if (__builtin_expect(vs_book != 0, 0))
		vs_book_note_dropped();
}

/* What the arena says of end `side` of `slot`. `histogram`: where latencies are copied to, or NULL. */
void vs_book_from_slot(struct vs_book_row *row, struct vs_slot *slot, int side, void *histogram);
/* What the kernel counts, less the doorbells that the row already knows of. */
void vs_book_count_kernel(struct vs_book_row *row, uint64_t sent, uint64_t received);
/* The addresses and the kernel's counts of a connection that another process may have; false when no process has its socket any more. */
bool vs_book_ask_kernel(struct vs_book_row *row);
/* The row of a UDP socket, whose counters the caller keeps; NULL when there is none left, or nobody asked. */
struct vs_book_row *vs_book_udp(int fd);
struct vs_udp_facts {
	bool attached;	/* it has an inbox */
	bool unseen;	/* it is waited for in ways that are not seen */
	bool far;	/* datagrams have gone to, or could come from, another host by a queue pair */
	uint32_t plain; /* enum vs_plain */
	bool closed;
};
/* Without its lock: whether the row has an address, and says this of the inbox, so that nothing need be written. */
bool vs_book_udp_is_noted(const struct vs_book_row *row, bool attached);
/* What is to be written besides the counters. Also its addresses are looked up. */
void vs_book_udp_note(struct vs_book_row *row, int fd, const struct vs_udp_facts *facts);
/* There was no row for it, and it is closed: its counters. */
void vs_book_udp_unlisted(const struct vs_book_flow *tx, const struct vs_book_flow *rx);
/* What the arena says of an inbox; false when it is free. */
struct vs_inbox;
bool vs_book_from_inbox(struct vs_book_row *row, struct vs_inbox *in);

/* Where a row's histogram lies. */
void *vs_book_histogram(const struct vs_book_row *row);

#endif
