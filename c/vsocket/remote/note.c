/* note.c - taking what the other end says into the slot. Pure but for the slot. */
#include "note.h"

bool vs_note_data(struct vs_dir *d, uint32_t imm)
{
	uint32_t e = atomic_load(&d->epoch_tx), n = imm & VS_IMM_LENGTH;
	uint32_t size = atomic_load(&vs_boundary_of(d, e)->size);
	uint64_t tail = atomic_load(&d->tail), used = tail - atomic_load(&d->head);
	if ((imm & ~(VS_IMM_BELL | VS_IMM_LENGTH)) || !vs_epoch_is_ring(e) || !vs_size_ok(size) || used > size || n == 0 || n > size - used)
		return false;
	/* Before the data can be read: who reads it asks for the next doorbell, and would not when it found this one later. */
	if (imm & VS_IMM_BELL) {
		atomic_fetch_add(&d->twin_sent, 1);
		atomic_store(&d->bell, VS_BELL(e, VS_RUNG));
	}
	atomic_store(&d->tail, tail + n);
	return true;
}

static bool start(struct vs_dir *d, const struct vs_note *n)
{
	uint32_t e = (atomic_load(&d->epoch_tx) + 1) & VS_EPOCH_MASK;
	/* Room for its end, too. */
	if (n->epoch != e || !vs_epoch_is_ring(e) || !vs_size_ok(n->size) || n->ring != atomic_load(&d->tail) ||
	    atomic_load(&d->tail) != atomic_load(&d->head) || ((e - atomic_load(&d->epoch_rx)) & VS_EPOCH_MASK) >= VS_BOUNDARIES - 1)
		return false;
	struct vs_boundary *b = vs_boundary_of(d, e);
	atomic_store(&b->twin, n->twin);
	atomic_store(&b->ring, n->ring);
	atomic_store(&b->size, n->size);
	atomic_store(&d->twin_sent, n->twin);
	atomic_store(&d->bell, VS_BELL(e, VS_ARMED));
	atomic_store(&d->epoch_tx, e);
	return true;
}

static bool end(struct vs_dir *d, const struct vs_note *n)
{
	uint32_t e = (atomic_load(&d->epoch_tx) + 1) & VS_EPOCH_MASK;
	if (n->epoch != e || vs_epoch_is_ring(e) || n->ring != atomic_load(&d->tail) || n->twin != atomic_load(&d->twin_sent))
		return false;
	struct vs_boundary *b = vs_boundary_of(d, e);
	atomic_store(&b->twin, n->twin);
	atomic_store(&b->ring, n->ring);
	atomic_store(&b->size, 0);
	atomic_store(&d->epoch_tx, e);
	return true;
}

static bool bell(struct vs_dir *d)
{
	uint32_t e = atomic_load(&d->epoch_tx);
	if (!vs_epoch_is_ring(e))
		return false;
	atomic_fetch_add(&d->twin_sent, 1);
	atomic_store(&d->bell, VS_BELL(e, VS_RUNG));
	return true;
}

static enum vs_note_result position(struct vs_dir *d, const struct vs_note *n)
{
	uint64_t head = atomic_load(&d->head), tail = atomic_load(&d->tail);
	uint32_t rx = atomic_load(&d->epoch_rx), e = atomic_load(&d->epoch_tx);
	/* Of an epoch whose end is on its way, he may know that before we know that he does. */
	uint32_t last = vs_epoch_is_ring(e) && n->ring == tail ? e + 1 : e;
	if (n->ring - head > tail - head || ((n->epoch - rx) & VS_EPOCH_MASK) > ((last - rx) & VS_EPOCH_MASK) || n->epoch > VS_EPOCH_MASK)
		return VS_NOTE_BAD;
	atomic_store(&d->head, n->ring);
	atomic_store(&d->epoch_rx, n->epoch);
	if (!(n->flags & VS_NOTE_ARM) || !vs_epoch_is_ring(e))
		return VS_NOTE_OK;
	/* Whoever sends now looks at the word after it has moved the tail: one of us sees the other. */
	atomic_store(&d->bell, VS_BELL(e, VS_ARMED));
	return atomic_load(&d->tail) - n->ring > n->seen - n->ring ? VS_NOTE_RING : VS_NOTE_OK;
}

enum vs_note_result vs_note_take(struct vs_dir *rx, struct vs_dir *tx, const struct vs_note *n, uint8_t *flags)
{
	if (n->magic != VS_NOTE_MAGIC || n->zero)
		return VS_NOTE_BAD;
	switch (n->kind) {
	case VS_NOTE_START:
		return start(rx, n) ? VS_NOTE_OK : VS_NOTE_BAD;
	case VS_NOTE_END:
		return end(rx, n) ? VS_NOTE_OK : VS_NOTE_BAD;
	case VS_NOTE_BELL:
		return bell(rx) ? VS_NOTE_OK : VS_NOTE_BAD;
	case VS_NOTE_POS: {
		enum vs_note_result r = position(tx, n);
		if (r != VS_NOTE_BAD)
			*flags = n->flags;
		return r;
	}
	case VS_NOTE_WITHDRAW:
		return vs_epoch_is_ring(atomic_load(&rx->epoch_tx)) ? VS_NOTE_BAD : VS_NOTE_OK;
	case VS_NOTE_ASK:
	case VS_NOTE_GRANT:
	case VS_NOTE_HASH:
	case VS_NOTE_GONE:
		return VS_NOTE_OK;
	default:
		return VS_NOTE_BAD;
	}
}
