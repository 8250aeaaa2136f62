/* steer_keep.c - packets to be passed on that the other process's socket had no room for. Its queue is short, whatever its buffer:
 * net.unix.max_dgram_qlen. */
#define _GNU_SOURCE
#include <stdlib.h>
#include "../engine/helper.h"
#include "wire.h"

#define KEPT 1024 /* a power of two */
#define BYTES 320 /* management datagrams; larger packets have a protocol that repeats them soon */

static struct {
	struct kept {
		uint16_t slot, len;
		struct sockaddr_in6 from;
		struct in6_addr to;
		uint8_t packet[BYTES];
	} *ring;
	_Atomic uint32_t head;
	_Atomic uint32_t tail;
	bool trying;
} keep;

bool sr_wire_keeps(void) { return keep.head != keep.tail; }

bool sr_steer_keep(unsigned slot, const struct sockaddr_in6 *from, const struct in6_addr *to, const uint8_t *packet, size_t len)
{
	if (!keep.ring)
		keep.ring = malloc(KEPT * sizeof(*keep.ring));
	if (!keep.ring || len > BYTES || keep.head - keep.tail == KEPT)
		return false;
	struct kept *k = &keep.ring[keep.head % KEPT];
	k->slot = (uint16_t)slot;
	k->len = (uint16_t)len;
	k->from = *from;
	k->to = *to;
	memcpy(k->packet, packet, len);
	keep.head++;
	if (!keep.trying && keep.head - keep.tail == 1)
		sr_helper_kick(); /* it may sleep for ever */
	return true;
}

/* Each is tried once; who has no room keeps its place behind the others. */
void sr_steer_kept_round(void)
{
	uint32_t end = keep.head;
	keep.trying = true;
	while (keep.tail != end) {
		struct kept k = keep.ring[keep.tail++ % KEPT];
		sr_steer_hand_over(k.slot, &k.from, &k.to, k.packet, k.len);
	}
	keep.trying = false;
}
