/*
 * What another host says of a connection: datagrams that decode must encode back to the same, and any row of notes and immediates leaves the
 * two directions such that the reader can read them.
 */
#include <stdlib.h>
#include <string.h>
#include "vsocket/remote/datagram.h"
#include "vsocket/remote/note.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void datagram(const uint8_t *data, size_t size)
{
	static struct vs_datagram d, again;
	uint8_t bytes[VS_DATAGRAM_BYTES];
	if (!vs_datagram_read(&d, data, size))
		return;
	vs_datagram_write(&d, bytes);
	if (!vs_datagram_read(&again, bytes, sizeof bytes) || memcmp(&d, &again, sizeof d))
		abort();
}

/* What the reader relies on (rx.c), and the sender (tx.c). */
static void check(const struct vs_dir *rx, const struct vs_dir *tx)
{
	uint32_t ahead = (rx->epoch_tx - rx->epoch_rx) & VS_EPOCH_MASK, e = rx->epoch_tx;
	if (ahead >= VS_BOUNDARIES || rx->tail - rx->head > VS_RING_MAX || tx->tail - tx->head > VS_RING_MAX)
		abort();
	if (vs_epoch_is_ring(e)) {
		uint32_t ring = rx->boundary[e % VS_BOUNDARIES].size;
		if (!vs_size_ok(ring) || rx->tail - rx->head > ring)
			abort();
	}
	if (((tx->epoch_tx - tx->epoch_rx) & VS_EPOCH_MASK) >= VS_BOUNDARIES)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_Alignas(VS_LINE) static struct vs_dir rx, tx;
	uint8_t flags;
	datagram(data, size);
	memset(&rx, 0, sizeof rx);
	memset(&tx, 0, sizeof tx);
	tx.tail = 5000;
	tx.epoch_tx = 3;
	tx.epoch_rx = 1;
	while (size >= 2) {
		size_t len;
		uint32_t imm = 0;
		struct vs_note n;
		unsigned what = data[0] % 4;
		data++, size--;
		switch (what) {
		case 0: /* data */
			len = size < 4 ? size : 4;
			memcpy(&imm, data, len);
			vs_note_data(&rx, imm);
			break;
		case 1: /* a note as it comes */
			len = size < sizeof n ? size : sizeof n;
			memset(&n, 0, sizeof n);
			memcpy(&n, data, len);
			vs_note_take(&rx, &tx, &n, &flags);
			break;
		case 2: /* a note that is nearly right */
			len = size < 5 ? size : 5;
			n = (struct vs_note){ .magic = VS_NOTE_MAGIC, .kind = data[0] % 11, .flags = (uint8_t)(len > 1 ? data[1] : 0) };
			n.epoch = ((n.kind == VS_NOTE_POS ? tx.epoch_rx : rx.epoch_tx) + (len > 2 ? data[2] % 4 : 1)) & VS_EPOCH_MASK;
			n.size = VS_RING_MIN << (len > 3 ? data[3] % 6 : 0);
			n.ring = (n.kind == VS_NOTE_POS ? tx.head : rx.tail) + (len > 4 ? data[4] % 8 : 0);
			n.twin = rx.twin_sent;
			n.seen = n.ring;
			vs_note_take(&rx, &tx, &n, &flags);
			break;
		default: /* the reader goes on */
			len = 1;
			rx.head = rx.tail;
			if (rx.epoch_rx != rx.epoch_tx && (data[0] & 1))
				rx.epoch_rx = (rx.epoch_rx + 1) & VS_EPOCH_MASK;
			break;
		}
		data += len, size -= len;
		check(&rx, &tx);
	}
	return 0;
}
