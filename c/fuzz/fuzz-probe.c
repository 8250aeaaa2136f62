/* Packets of probe trains: whatever decodes must encode back to the same meaning, and any row of them is counted within bounds. */
#include <stdlib.h>
#include <string.h>
#include "probe/train.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct train train;
	struct probe_packet packet, again;
	uint8_t header[PROBE_HEADER_BYTES];
	uint64_t stamp_ns = 1;

	/* The first byte is how many packets are expected, the rest is packets of 40 bytes. */
	if (size < 1 || !train_expect(&train, 7, data[0]))
		return 0;
	for (size_t at = 1; at < size; at += 40) {
		size_t len = size - at < 40 ? size - at : 40;

		if (!probe_decode(&packet, data + at, len))
			continue;
		probe_encode(&packet, header);
		if (!probe_decode(&again, header, sizeof header) || again.kind != packet.kind || again.id != packet.id ||
		    again.sequence != packet.sequence || again.held_ns != packet.held_ns)
			abort();
		packet.id = 7;
		stamp_ns += packet.held_ns % 2000;
		train_take(&train, &packet, len, packet.held_ns & 1 ? packet.held_ns : stamp_ns);
		if (train.unique > train.limit || train.count > train.limit)
			abort();
	}
	if (!(train_rate_bps(&train) >= 0))
		abort();
	train_free(&train);
	return 0;
}
