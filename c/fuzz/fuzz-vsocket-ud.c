/*
 * What another host sends to the UD queue pair: parts of datagrams as they come, and parts that are nearly right, so that they are put
 * together. What is read must be written back the same; a whole datagram has the length that it claims and the bytes of its parts; nothing
 * beyond a part, which lies at the end of its allocation, is read.
 */
#include <stdlib.h>
#include <string.h>
#include "vsocket/remote/ud-part.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void round_trip(const struct vs_ud_part *p, const unsigned char *bytes)
{
	unsigned char again[VS_UD_HEAD];
	vs_ud_part_write(p, again);
	if (memcmp(again, bytes, sizeof again))
		abort();
}

static volatile unsigned sum;

static void add(struct vs_ud_whole *w, const unsigned char *bytes, size_t n)
{
	struct vs_ud_part p;
	if (!vs_ud_part_read(&p, bytes, n))
		return;
	if (p.len > VS_UD_MAX || p.at + (n - VS_UD_HEAD) > p.len)
		abort();
	round_trip(&p, bytes);
	const unsigned char *whole = vs_ud_whole_add(w, &p, bytes + VS_UD_HEAD, n - VS_UD_HEAD);
	for (uint32_t i = 0; whole && i < p.len; i++)
		sum += whole[i];
	/* The last part's bytes are at the end. */
	if (whole && memcmp(whole + p.at, bytes + VS_UD_HEAD, n - VS_UD_HEAD))
		abort();
}

static unsigned char *copy(const uint8_t *data, size_t n)
{
	unsigned char *b = malloc(n ? n : 1);
	if (!b)
		abort();
	memcpy(b, data, n);
	return b;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vs_ud_whole w = { 0 };
	struct vs_ud_part next = { .len = 100 };
	while (size >= 3) {
		const unsigned what = data[0] % 4;
		size_t n = data[1] % 64;
		const unsigned value = data[2];
		data += 3, size -= 3;
		n = n < size ? n : size;
		unsigned char *b;
		if (what == 0) { /* as it comes */
			b = copy(data, n);
			add(&w, b, n);
		} else {
			/* The part that follows, or one with something else in it. */
			b = malloc(VS_UD_HEAD + n);
			if (!b)
				abort();
			memcpy(b + VS_UD_HEAD, data, n);
			if (what == 2)
				next = (struct vs_ud_part){ .round = next.round, .number = next.number + 1, .len = value * 257 };
			if (what == 3 && value & 1)
				next.at = value;
			else if (what == 3)
				next.len = value * 3;
			vs_ud_part_write(&next, b);
			add(&w, b, VS_UD_HEAD + n);
			next.at += (uint32_t)n;
		}
		data += n, size -= n;
		free(b);
	}
	free(w.bytes);
	return 0;
}
