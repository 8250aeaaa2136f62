/*
 * steer.h - which socket of the port-sharing group belongs to which process slot.
 *
 * The kernel keeps the sockets of a SO_REUSEPORT group in an array: a new one is appended, and when one closes the LAST one
 * moves into its place. A classic BPF program attached to the group reads the slot from the destination QPN and returns an
 * array index. The map below is our picture of that array; it lives in the registry's shared area and is changed under the
 * registry's lock by whoever joins or notices that a process is gone.
 *
 * The picture can be wrong for a while (a process died and nobody has noticed; two died and the order is unknown). Then a
 * packet reaches a process that it is not for, which hands it to the right one through that one's private socket, and the
 * mistake itself shows the truth: the receiver sits at the index that the map gave to the packet's slot.
 */
#ifndef SR_WIRE_STEER_H
#define SR_WIRE_STEER_H
#include <linux/filter.h>
#include <stdint.h>

#define SR_STEER_MAX 254

struct sr_steer_map {
	uint32_t version; /* changes with every change, so that two processes do not correct the same mistake twice */
	uint32_t count;
	struct {
		uint64_t owner; /* generation of the slot's owner */
		uint8_t slot;
		uint8_t unused[7];
	} at[SR_STEER_MAX]; /* in the order of the kernel's array */
};

/* Removes the entries whose owner is not alive any more, as the kernel does when sockets close: last into the gap. */
void sr_steer_map_prune(struct sr_steer_map *map, uint64_t (*owner_of)(unsigned slot));
/* Appends; returns -1 when the map is full. */
int sr_steer_map_append(struct sr_steer_map *map, unsigned slot, uint64_t owner);
/* A packet for `slot` arrived at `mine`: mine really sits where the map has `slot`. Exchanges the two. */
void sr_steer_map_learn(struct sr_steer_map *map, unsigned slot, unsigned mine);
/* Writes the program that sends a packet to the index of its QPN's slot; returns the number of instructions. */
#define SR_STEER_PROGRAM_MAX (2 * SR_STEER_MAX + 2)
int sr_steer_program(const struct sr_steer_map *map, struct sock_filter *code);

#endif
