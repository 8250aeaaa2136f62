/*
 * segment.h - the memory a process shows to its peers: one sealed, sparse memfd.
 *
 *   0         struct sr_segment       who we are, and whether to ring our bell
 *   64 KiB    ring controls           one a slot: the ring we SEND to that slot on
 *   128 KiB   users                   one a slot: the key that slot's process is using right now, written by it
 *   1 MiB     queue pair rows         by QPN index: what a peer must know to act on the queue pair by itself
 *   16 MiB    key rows                by key row: regions that peers can reach by themselves
 *   128 MiB   rings                   one a slot
 *   1 GiB ..  arena                   pages that stand in for registered memory (export.h)
 *
 * The file is sparse: untouched parts cost nothing. It is sealed against resizing, so mapping it cannot fault later. Peers
 * belong to the same user (SO_PEERCRED, a 0700 directory) but are still not trusted: nothing read from a segment is used
 * without a bounds check, and nothing in it is a pointer.
 */
#ifndef SR_SEGMENT_H
#define SR_SEGMENT_H
#include "../core.h"

#define SR_SEGMENT_MAGIC 0x31474553746b6472ull /* "rdktSEG1" */
#define SR_SEGMENT_VERSION 1u

#define SR_OFF_RING_CTL 0x10000ull
#define SR_OFF_USERS 0x20000ull
#define SR_OFF_QPS 0x100000ull
#define SR_OFF_KEYS 0x1000000ull
#define SR_OFF_RINGS 0x8000000ull
#define SR_OFF_ARENA 0x40000000ull
#define SR_SEGMENT_BYTES (1ull << 38) /* 256 GiB of address space, the bound of registered memory that peers reach directly */

#define SR_LINE 64u
#define SR_RING_LINES 4096u /* 256 KiB: stays in the level 2 cache of both ends */

struct sr_segment {
	uint64_t magic;
	uint32_t version;
	uint32_t slot;
	uint64_t generation;
	_Alignas(64) _Atomic uint32_t asleep; /* ring the doorbell after sending */
	uint32_t needs_fence;                 /* the sleeper has no membarrier(): senders must fence before they read `asleep` */
};

struct sr_ring_ctl {
	_Alignas(64) _Atomic uint32_t head;    /* written by the receiver: lines consumed */
	_Alignas(64) _Atomic uint32_t blocked; /* written by the sender: it waits for room */
};

struct sr_qp_row {
	_Alignas(64) _Atomic uint32_t qpn; /* 0 unless the responder half works */
	uint32_t dest_qpn;
	uint32_t pd_id;
	uint32_t access;
};

struct sr_key_row {
	_Alignas(64) _Atomic uint32_t key; /* 0: not reachable */
	uint32_t access;
	uint32_t pd_id;
	uint32_t qpn;                      /* type 2 window: its queue pair */
	uint64_t iova;                     /* the reachable part only: whole pages of the region */
	uint64_t length;
	uint64_t offset;                   /* in this file */
};

struct sr_user {
	_Alignas(64) _Atomic uint32_t key; /* of the access in progress; 0 none */
};

struct sr_ring_line {
	_Alignas(64) unsigned char bytes[SR_LINE];
};

/* Typed views of a mapped segment. */
static inline struct sr_ring_ctl *sr_seg_ctl(void *seg, unsigned slot)
{
	return (struct sr_ring_ctl *)((char *)seg + SR_OFF_RING_CTL) + slot;
}
static inline struct sr_qp_row *sr_seg_qp(void *seg, uint32_t qpn)
{
	return (struct sr_qp_row *)((char *)seg + SR_OFF_QPS) + sr_qpn_index(qpn);
}
static inline struct sr_key_row *sr_seg_key(void *seg, uint32_t key)
{
	return (struct sr_key_row *)((char *)seg + SR_OFF_KEYS) + sr_key_row(key);
}
static inline struct sr_user *sr_seg_user(void *seg, unsigned slot)
{
	return (struct sr_user *)((char *)seg + SR_OFF_USERS) + slot;
}
static inline struct sr_ring_line *sr_seg_ring(void *seg, unsigned slot)
{
	return (struct sr_ring_line *)((char *)seg + SR_OFF_RINGS) + (size_t)slot * SR_RING_LINES;
}

/* This process's own segment. */
extern struct sr_own_segment {
	int fd;
	struct sr_segment *base; /* the control part is mapped: up to SR_OFF_ARENA */
	uint64_t dev, ino;       /* how /proc/self/maps names it */
} sr_own;

int sr_segment_create(void); /* 0 or errno */
/* A full fence on behalf of every process that has a segment: the expensive half of a Dekker pair whose cheap half is a compiler
 * barrier in them (sr_segment_light_fence). */
void sr_segment_heavy_fence(void);
static inline void sr_segment_light_fence(const struct sr_segment *peer)
{
	if (__builtin_expect(peer->needs_fence, 0))
		atomic_thread_fence(memory_order_seq_cst);
	else
		atomic_signal_fence(memory_order_seq_cst);
}
/* Maps a peer's segment after checking seals, size and header. NULL with errno. */
struct sr_segment *sr_segment_map(int fd, unsigned slot, uint64_t generation);
void sr_segment_unmap(struct sr_segment *seg);
void sr_segment_abandon(void); /* in a forked child */
#endif
