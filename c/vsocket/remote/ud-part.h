/*
 * ud-part.h - what one SEND on the UD queue pair carries: a datagram, or a part of one that is longer than the path's MTU. Parts
 * come in order; a datagram of which one is missing is lost, as it is when IP loses a fragment. Pure.
 */
#ifndef VS_UD_PART_H
#define VS_UD_PART_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VS_UD_HEAD 40u /* bytes before the payload */

/* Little endian on the wire, in this order, after a magic number. */
struct vs_ud_part {
	uint32_t lease;	   /* where in the receiver's table, */
	uint64_t token[2]; /* and what only the host that may send to it knows */
	uint32_t round;	   /* of the datagrams' way: another one after each change from kernel to queue pair */
	uint32_t number;   /* of the datagram, in its round */
	uint32_t len, at;  /* of the datagram, and where in it the part lies */
};

void vs_ud_part_write(const struct vs_ud_part *p, unsigned char out[VS_UD_HEAD]);
/* `n` bytes came. False: they are none of ours. Then the payload has n - VS_UD_HEAD bytes, which lie inside the datagram. */
bool vs_ud_part_read(struct vs_ud_part *p, const unsigned char *in, size_t n);

/* The datagram that is being put together; all zero at first. */
struct vs_ud_whole {
	bool begun;
	uint32_t round, number, len, got;
	unsigned char *bytes; /* VS_UD_MAX of them, from malloc(); NULL: none yet */
};
#define VS_UD_MAX 65507u

/* Adds a part. Returns the datagram (p->len bytes, valid until the next call, and not longer than `payload`), NULL when it is not whole yet. */
const unsigned char *vs_ud_whole_add(struct vs_ud_whole *w, const struct vs_ud_part *p, const unsigned char *payload, size_t n);

#endif
