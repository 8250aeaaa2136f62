/*
 * fault.c - a bad network inside the receiver, for tests: RDMAKIT_FAULT="loss=0.01,dup=0.001,reorder=0.01,corrupt=0.001,seed=7".
 * Rates are per packet. A reordered packet is held back until a few others have passed or the batch ends.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include "wire.h"

#define HELD_MAX 8
#define HELD_BYTES (SR_HEADERS_MAX + SR_PMTU_MAX + 8)
#define HELD_PACKETS 5

struct sr_fault_rates sr_fault;

static struct {
	struct sr_rx_meta meta;
	size_t len;
	int passed; /* packets that overtook it */
	uint8_t bytes[HELD_BYTES];
} held[HELD_MAX];
static int held_count;

static uint32_t next_random(void)
{
	sr_fault.seed = sr_fault.seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)(sr_fault.seed >> 32);
}

static uint32_t rate(double share) { return share <= 0 ? 0 : share >= 1 ? UINT32_MAX : (uint32_t)(share * 4294967296.0); }

void sr_fault_init(const char *text)
{
	char *copy = text ? strdup(text) : NULL, *rest = NULL;
	sr_fault = (struct sr_fault_rates){ .seed = 1 };
	for (char *item = copy ? strtok_r(copy, ",", &rest) : NULL; item; item = strtok_r(NULL, ",", &rest)) {
		char *value = strchr(item, '='), *end = NULL;
		double number = value ? strtod(value + 1, &end) : 0;
		size_t name = value ? (size_t)(value - item) : 0;
		if (!value || end == value + 1 || *end)
			name = 0;
		if (name == 4 && !memcmp(item, "loss", 4))
			sr_fault.loss = rate(number);
		else if (name == 3 && !memcmp(item, "dup", 3))
			sr_fault.dup = rate(number);
		else if (name == 7 && !memcmp(item, "reorder", 7))
			sr_fault.reorder = rate(number);
		else if (name == 7 && !memcmp(item, "corrupt", 7))
			sr_fault.corrupt = rate(number);
		else if (name == 4 && !memcmp(item, "seed", 4))
			sr_fault.seed = (uint64_t)number;
		else
			fprintf(stderr, "rdmakit: RDMAKIT_FAULT: \"%s\" is not understood (loss, dup, reorder, corrupt: a share "
					"of packets; seed: a number)\n", item);
	}
	free(copy);
	sr_fault.on = sr_fault.loss || sr_fault.dup || sr_fault.reorder || sr_fault.corrupt;
}

static bool happens(uint32_t share)
{
	if (share == 0 || next_random() >= share)
		return false;
	SR_COUNT(fault_injected);
	return true;
}

static void release(int i)
{
	struct sr_rx_meta meta = held[i].meta;
	uint8_t bytes[HELD_BYTES];
	size_t len = held[i].len;
	memcpy(bytes, held[i].bytes, len);
	held[i] = held[--held_count];
	sr_demux(&meta, bytes, len, false);
}

void sr_fault_flush(void)
{
	for (int i = held_count - 1; i >= 0; i--)
		if (++held[i].passed > HELD_PACKETS)
			release(i);
}

void sr_fault_deliver(const struct sr_rx_meta *meta, uint8_t *packet, size_t len)
{
	if (happens(sr_fault.loss))
		return;
	if (len && happens(sr_fault.corrupt))
		packet[next_random() % len] ^= (uint8_t)(1u << next_random() % 8);
	if (len <= HELD_BYTES && held_count < HELD_MAX && happens(sr_fault.reorder)) {
		held[held_count].meta = *meta;
		held[held_count].len = len;
		held[held_count].passed = 0;
		memcpy(held[held_count++].bytes, packet, len);
		return;
	}
	bool twice = len <= HELD_BYTES && happens(sr_fault.dup);
	if (twice) {
		uint8_t copy[HELD_BYTES];
		memcpy(copy, packet, len);
		sr_demux(meta, copy, len, false);
	}
	sr_demux(meta, packet, len, false);
	sr_fault_flush();
}
