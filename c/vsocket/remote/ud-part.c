/* ud-part.c - bytes of datagrams on the UD queue pair. */
#include "ud-part.h"
#include <stdlib.h>
#include <string.h>

#define MAGIC UINT32_C(0x31647572) /* "rud1" */

static void put(unsigned char **out, uint64_t v, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++)
		*(*out)++ = (unsigned char)(v >> (8 * i));
}

static uint64_t get(const unsigned char **in, unsigned bytes)
{
	uint64_t v = 0;
	for (unsigned i = 0; i < bytes; i++)
		v |= (uint64_t)*(*in)++ << (8 * i);
	return v;
}

void vs_ud_part_write(const struct vs_ud_part *p, unsigned char out[VS_UD_HEAD])
{
	put(&out, MAGIC, 4);
	put(&out, p->lease, 4);
	put(&out, p->token[0], 8);
	put(&out, p->token[1], 8);
	put(&out, p->round, 4);
	put(&out, p->number, 4);
	put(&out, p->len, 4);
	put(&out, p->at, 4);
}

bool vs_ud_part_read(struct vs_ud_part *p, const unsigned char *in, size_t n)
{
	if (n < VS_UD_HEAD || get(&in, 4) != MAGIC)
		return false;
	p->lease = (uint32_t)get(&in, 4);
	p->token[0] = get(&in, 8);
	p->token[1] = get(&in, 8);
	p->round = (uint32_t)get(&in, 4);
	p->number = (uint32_t)get(&in, 4);
	p->len = (uint32_t)get(&in, 4);
	p->at = (uint32_t)get(&in, 4);
	const size_t payload = n - VS_UD_HEAD;
	return p->len <= VS_UD_MAX && p->at <= p->len && payload <= p->len - p->at && (payload > 0 || p->len == 0);
}

const unsigned char *vs_ud_whole_add(struct vs_ud_whole *w, const struct vs_ud_part *p, const unsigned char *payload, size_t n)
{
	if (p->at == 0) {
		w->begun = false;
		if (n == p->len)
			return payload;
		if (!w->bytes && !(w->bytes = malloc(VS_UD_MAX)))
			return NULL;
		w->begun = true;
		w->round = p->round;
		w->number = p->number;
		w->len = p->len;
		w->got = 0;
	}
	if (!w->begun || w->round != p->round || w->number != p->number || w->len != p->len || w->got != p->at) {
		w->begun = false;
		return NULL;
	}
	memcpy(w->bytes + w->got, payload, n);
	w->got += (uint32_t)n;
	if (w->got < w->len)
		return NULL;
	w->begun = false;
	return w->bytes;
}
