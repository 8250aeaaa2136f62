/*
 * What a receiver of probe packets counts: a train is a row of numbered packets with one id. From the kernel's time stamps
 * of their arrival follow the rate of the narrowest link on the way, and from the numbers that are missing the loss.
 */
#ifndef RK_TRAIN_H
#define RK_TRAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	PROBE_MAGIC = 0x726b7062, /* "rkpb" */
	PROBE_HEADER_BYTES = 32,
	/* Packets of one train: ten seconds at 400 000 a second, 32 MB of time stamps. */
	TRAIN_MAX_PACKETS = 4000000,
	/* Ethernet, IPv4 and UDP headers: capacities count whole frames. */
	FRAME_HEADERS_BYTES = 42,
};

enum probe_kind { PROBE_DATA = 1, PROBE_ASK = 2, PROBE_ANSWER = 3 };

/* On the wire, all in network byte order: magic 4, kind 1, zero 3, id 8, sequence 4, zero 4, held 8. */
struct probe_packet {
	enum probe_kind kind;
	uint64_t id;
	uint32_t sequence;
	/* In an answer: how long the far end kept the question. */
	uint64_t held_ns;
};

/* Reads a packet; false when it is none. `data` need not be aligned. */
bool probe_decode(struct probe_packet *packet, const uint8_t *data, size_t len);
/* Writes PROBE_HEADER_BYTES. */
void probe_encode(const struct probe_packet *packet, uint8_t *data);

struct train {
	uint64_t id;
	uint32_t limit;	 /* sequence numbers are below this; 0: nothing is expected */
	uint32_t count;	 /* arrivals with a time stamp, duplicates among them */
	uint32_t unique; /* different packets */
	uint32_t bytes;	 /* of the last frame, with headers */
	uint64_t *stamps_ns;
	uint8_t *seen;
};

/* Forgets what was counted and expects packets of `id`. false when there is no memory. */
bool train_expect(struct train *train, uint64_t id, uint32_t limit);
/* Counts a packet that arrived at `stamp_ns` in a datagram of `len` bytes; others than expected are ignored. */
void train_take(struct train *train, const struct probe_packet *packet, size_t len, uint64_t stamp_ns);
/*
 * Bits a second, frame headers included; 0 when too few packets came. The first fifth is left out, because a token bucket that
 * was full lets a burst through; of the rest the median over windows, because a pause of any process on the way makes one
 * window too slow and the next too fast. Sorts nothing in the train: may be asked again.
 */
double train_rate_bps(const struct train *train);
void train_free(struct train *train);

#endif
