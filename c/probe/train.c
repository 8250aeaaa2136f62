#include "probe/train.h"

#include <stdlib.h>
#include <string.h>

enum {
	WINDOWS = 25,
	/* Fewer packets than this in a window, and the gaps between two of them weigh too much. */
	WINDOW_MIN_PACKETS = 20,
};

static uint64_t get(const uint8_t *data, unsigned bytes)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < bytes; i++)
		value = value << 8 | data[i];
	return value;
}

static void put(uint8_t *data, unsigned bytes, uint64_t value)
{
	for (unsigned i = bytes; i-- > 0; value >>= 8)
		data[i] = (uint8_t)value;
}

bool probe_decode(struct probe_packet *packet, const uint8_t *data, size_t len)
{
	if (len < PROBE_HEADER_BYTES || get(data, 4) != PROBE_MAGIC || data[4] < PROBE_DATA || data[4] > PROBE_ANSWER)
		return false;
	packet->kind = (enum probe_kind)data[4];
	packet->id = get(data + 8, 8);
	packet->sequence = (uint32_t)get(data + 16, 4);
	packet->held_ns = get(data + 24, 8);
	return true;
}

void probe_encode(const struct probe_packet *packet, uint8_t *data)
{
	memset(data, 0, PROBE_HEADER_BYTES);
	put(data, 4, PROBE_MAGIC);
	data[4] = (uint8_t)packet->kind;
	put(data + 8, 8, packet->id);
	put(data + 16, 4, packet->sequence);
	put(data + 24, 8, packet->held_ns);
}

bool train_expect(struct train *train, uint64_t id, uint32_t limit)
{
	train_free(train);
	if (limit == 0 || limit > TRAIN_MAX_PACKETS)
		return false;
	train->stamps_ns = malloc(limit * sizeof *train->stamps_ns);
	train->seen = calloc(limit / 8 + 1, 1);
	if (!train->stamps_ns || !train->seen) {
		train_free(train);
		return false;
	}
	train->id = id;
	train->limit = limit;
	return true;
}

void train_take(struct train *train, const struct probe_packet *packet, size_t len, uint64_t stamp_ns)
{
	uint8_t bit;

	if (packet->kind != PROBE_DATA || packet->id != train->id || packet->sequence >= train->limit)
		return;
	bit = (uint8_t)(1u << (packet->sequence & 7));
	if (!(train->seen[packet->sequence >> 3] & bit)) {
		train->seen[packet->sequence >> 3] |= bit;
		train->unique++;
	}
	/* Many duplicates of a long train are not worth more memory. */
	if (train->count == train->limit)
		return;
	train->bytes = (uint32_t)len + FRAME_HEADERS_BYTES;
	train->stamps_ns[train->count++] = stamp_ns;
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

double train_rate_bps(const struct train *train)
{
	uint64_t spans_ns[WINDOWS];
	uint32_t first = train->count / 5;
	uint32_t gaps = train->count > first ? train->count - first - 1 : 0;
	uint32_t window = gaps / WINDOWS;
	uint32_t windows;
	double span_ns;

	if (gaps == 0)
		return 0;
	if (window < WINDOW_MIN_PACKETS)
		window = gaps < WINDOW_MIN_PACKETS ? gaps : WINDOW_MIN_PACKETS;
	windows = gaps / window;
	if (windows > WINDOWS)
		windows = WINDOWS;
	for (uint32_t i = 0; i < windows; i++) {
		uint64_t from = train->stamps_ns[first + i * window], to = train->stamps_ns[first + (i + 1) * window];

		/* A clock that was set back between the two. */
		spans_ns[i] = to > from ? to - from : 0;
	}
	qsort(spans_ns, windows, sizeof *spans_ns, by_value);
	span_ns = ((double)spans_ns[(windows - 1) / 2] + (double)spans_ns[windows / 2]) / 2;
	return span_ns > 0 ? window * (double)train->bytes * 8e9 / span_ns : 0;
}

void train_free(struct train *train)
{
	free(train->stamps_ns);
	free(train->seen);
	memset(train, 0, sizeof *train);
}
