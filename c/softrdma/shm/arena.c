/* arena.c - first fit over a sorted list of free ranges; registrations are few compared with operations. */
#define _GNU_SOURCE
#include "arena.h"
#include <fcntl.h>
#include <stdlib.h>
#include "segment.h"

#define HUGE (2ull << 20)

struct range {
	struct sr_list node;
	uint64_t start, end;
};

static struct sr_list free_ranges = SR_LIST_INIT(free_ranges);
static uint64_t frontier = SR_OFF_ARENA; /* everything from here on was never used */

static struct range *make(uint64_t start, uint64_t end)
{
	struct range *r = malloc(sizeof *r);
	if (r)
		*r = (struct range){ .start = start, .end = end };
	return r;
}

static uint64_t fit(uint64_t start, uint64_t like)
{
	return start + ((like - start) & (HUGE - 1));
}

uint64_t sr_arena_take(size_t length, uint64_t like)
{
	sr_list_for(n, tmp, &free_ranges) {
		struct range *r = sr_list_entry(n, struct range, node);
		uint64_t at = fit(r->start, like);
		if (at + length > r->end)
			continue;
		struct range *rest = at + length < r->end ? make(at + length, r->end) : NULL;
		if (at + length < r->end && !rest)
			return 0;
		if (rest)
			sr_list_add_tail(r->node.next, &rest->node); /* behind r: tail of the list that begins after it */
		if (at > r->start) {
			r->end = at;
		} else {
			sr_list_del(&r->node);
			free(r);
		}
		return at;
	}
	uint64_t at = fit(frontier, like);
	if (at + length > SR_SEGMENT_BYTES)
		return 0;
	if (at > frontier) {
		struct range *gap = make(frontier, at);
		if (gap)
			sr_list_add_tail(&free_ranges, &gap->node);
	}
	frontier = at + length;
	return at;
}

void sr_arena_give(uint64_t offset, size_t length)
{
	struct sr_list *where = &free_ranges;
	fallocate(sr_own.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)length);
	sr_list_for(n, tmp, &free_ranges) {
		struct range *r = sr_list_entry(n, struct range, node);
		if (r->end == offset) {
			r->end += length;
			if (n->next != &free_ranges) { /* it may now touch its neighbour */
				struct range *next = sr_list_entry(n->next, struct range, node);
				if (next->start == r->end) {
					r->end = next->end;
					sr_list_del(&next->node);
					free(next);
				}
			}
			return;
		}
		if (r->start == offset + length) {
			r->start = offset;
			return;
		}
		if (r->start > offset) {
			where = n;
			break;
		}
	}
	struct range *r = make(offset, offset + length);
	if (r) /* without memory for the note, address space is lost, nothing else */
		sr_list_add_tail(where, &r->node);
}
