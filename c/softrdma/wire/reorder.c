/*
 * reorder.c - packets that came ahead of a gap, kept until the gap closes. Requests are executed in order, so a memory write is
 * never seen before what was sent earlier. One pool of slots serves all queue pairs; when it is empty the packet is dropped, not
 * acknowledged, and comes again.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/mman.h>
#include "wire.h"

#define POOL_SLOTS 4096
#define SLOT_BYTES (SR_HEADERS_MAX + SR_PMTU_MAX + 8)

struct sr_ooo {
	uint64_t have[SR_BITMAP_WORDS]; /* by PSN modulo SR_WINDOW */
	uint32_t count;
	uint16_t slot[SR_WINDOW];
};

struct slot {
	uint16_t len;
	uint16_t next_free;
	uint8_t bytes[SLOT_BYTES];
};

static struct {
	struct slot *slots; /* mapped at first need; pages appear as they are used */
	uint16_t fresh;	    /* slots from here on were never used */
	uint16_t free;	    /* list head, POOL_SLOTS = empty */
} pool = { .free = POOL_SLOTS };

static int take_slot(void)
{
	if (!pool.slots) {
		void *m = mmap(NULL, sizeof(struct slot) * POOL_SLOTS, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (m == MAP_FAILED)
			return -1;
		pool.slots = m;
	}
	if (pool.free != POOL_SLOTS) {
		int i = pool.free;
		pool.free = pool.slots[i].next_free;
		return i;
	}
	return pool.fresh < POOL_SLOTS ? pool.fresh++ : -1;
}

static void give_slot(uint16_t i)
{
	pool.slots[i].next_free = pool.free;
	pool.free = i;
}

static void drop(struct sr_ooo *o, uint32_t psn)
{
	if (!sr_bit(o->have, psn % SR_WINDOW))
		return;
	sr_bit_clear(o->have, psn % SR_WINDOW);
	give_slot(o->slot[psn % SR_WINDOW]);
	o->count--;
}

bool sr_ooo_any(const struct sr_wire_qp *w) { return w->rsp.ooo && w->rsp.ooo->count; }

bool sr_ooo_keep(struct sr_wire_qp *w, uint32_t psn, const uint8_t *raw, size_t len)
{
	struct sr_ooo *o = w->rsp.ooo;
	uint32_t at = psn % SR_WINDOW;
	if (sr_psn_diff(psn, w->rsp.psn) >= SR_WINDOW || len > SLOT_BYTES)
		return false;
	if (!o && !(o = w->rsp.ooo = calloc(1, sizeof(*o))))
		return false;
	if (sr_bit(o->have, at)) {
		SR_COUNT(duplicate_request);
		return true;
	}
	int i = take_slot();
	if (i < 0)
		return false;
	pool.slots[i].len = (uint16_t)len;
	memcpy(pool.slots[i].bytes, raw, len);
	o->slot[at] = (uint16_t)i;
	sr_bit_set(o->have, at);
	o->count++;
	return true;
}

void sr_ooo_forget(struct sr_wire_qp *w, uint32_t psn, uint32_t n)
{
	struct sr_ooo *o = w->rsp.ooo;
	for (uint32_t i = 0; i < n && i < SR_WINDOW && o->count; i++)
		drop(o, psn + i);
}

void sr_ooo_drain(struct sr_wire_qp *w)
{
	struct sr_responder *s = &w->rsp;
	struct sr_ooo *o = s->ooo;
	while (o->count && sr_bit(o->have, s->psn % SR_WINDOW)) {
		uint32_t psn = s->psn;
		struct slot *slot = &pool.slots[o->slot[psn % SR_WINDOW]];
		struct sr_pkt p;
		/* It was decoded and its ICRC checked when it came; decoding cannot fail now. */
		if (sr_pkt_decode(&p, slot->bytes, slot->len) != SR_PKT_OK) {
			drop(o, psn);
			return;
		}
		bool right = p.psn == psn;
		if (right)
			sr_rsp_execute(w, &p); /* may forget this very slot, whose bytes stay until the next one is taken */
		if (w->dead)
			return; /* the queue pair's reset gave the slots back */
		drop(o, psn);
		if (s->psn == psn)
			return; /* not executed: RNR or a NAK is on its way, and the requester will send it again */
	}
	if (o->count == 0)
		s->sack_due = false;
	/* The gap closed: say so at once, the requester's window may be full. */
	sr_rsp_owe_ack(w);
}

void sr_ooo_free(struct sr_wire_qp *w)
{
	struct sr_ooo *o = w->rsp.ooo;
	if (!o)
		return;
	for (uint32_t i = 0; i < SR_WINDOW && o->count; i++)
		drop(o, i);
	free(o);
	w->rsp.ooo = NULL;
}

int sr_ooo_bitmap(const struct sr_wire_qp *w, uint64_t *bits, int words)
{
	const struct sr_ooo *o = w->rsp.ooo;
	int used = 0;
	uint32_t left = o ? o->count : 0;
	for (int i = 0; i < words && left; i++) {
		uint32_t first = (w->rsp.psn + (uint32_t)i * 64) % SR_WINDOW, shift = first % 64;
		uint64_t low = o->have[first / 64] >> shift;
		uint64_t high = shift ? o->have[(first / 64 + 1) % SR_BITMAP_WORDS] << (64 - shift) : 0;
		bits[i] = low | high;
		if (bits[i])
			used = i + 1;
		left -= (uint32_t)__builtin_popcountll(bits[i]) < left ? (uint32_t)__builtin_popcountll(bits[i]) : left;
	}
	return used;
}
