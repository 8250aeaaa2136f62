/* datagram.c - bytes of datagrams. Little endian; addresses and ports of the connection as in its key. Pure. */
#include "datagram.h"
#include <string.h>

static const uint8_t MAGIC[8] = { 'r', 'k', 's', 'o', 'c', 'k', 2, 0 };

struct cursor {
	uint8_t *out;
	const uint8_t *in;
};

static void put(struct cursor *c, uint64_t v, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++)
		*c->out++ = (uint8_t)(v >> (8 * i));
}

static uint64_t get(struct cursor *c, unsigned bytes)
{
	uint64_t v = 0;
	for (unsigned i = 0; i < bytes; i++)
		v |= (uint64_t)*c->in++ << (8 * i);
	return v;
}

static void put_endpoint(struct cursor *c, const struct vs_endpoint *e)
{
	memcpy(c->out, e->addr, 16);
	memcpy(c->out + 16, &e->port, 2);
	c->out += 18;
}

static void get_endpoint(struct cursor *c, struct vs_endpoint *e)
{
	memset(e, 0, sizeof *e);
	memcpy(e->addr, c->in, 16);
	memcpy(&e->port, c->in + 16, 2);
	c->in += 18;
}

void vs_datagram_write(const struct vs_datagram *d, uint8_t out[VS_DATAGRAM_BYTES])
{
	struct cursor c = { .out = out };
	memset(out, 0, VS_DATAGRAM_BYTES);
	memcpy(c.out, MAGIC, sizeof MAGIC);
	c.out += sizeof MAGIC;
	put(&c, d->kind, 1);
	put_endpoint(&c, &d->from);
	put_endpoint(&c, &d->to);
	put(&c, d->port, 2);
	for (int i = 0; i < 2; i++)
		put(&c, d->cookie[i], 8);
	for (int i = 0; i < 2; i++)
		put(&c, d->your_cookie[i], 8);
	memcpy(c.out, d->qp.gid, 16);
	c.out += 16;
	put(&c, d->qp.number, 4);
	put(&c, d->qp.psn, 4);
	put(&c, d->qp.rkey, 4);
	put(&c, d->qp.ring, 8);
	put(&c, d->qp.mtu, 1);
	put(&c, d->qp.lid, 2);
	put(&c, d->epoch, 4);
	put(&c, d->ring, 8);
	put(&c, d->twin, 8);
	put(&c, d->twin_start, 8);
}

bool vs_datagram_read(struct vs_datagram *d, const uint8_t *in, size_t len)
{
	struct cursor c = { .in = in };
	if (len != VS_DATAGRAM_BYTES || memcmp(in, MAGIC, sizeof MAGIC))
		return false;
	c.in += sizeof MAGIC;
	uint64_t kind = get(&c, 1);
	if (kind < VS_FIND || kind > VS_UD_STOP)
		return false;
	memset(d, 0, sizeof *d);
	d->kind = (enum vs_datagram_kind)kind;
	get_endpoint(&c, &d->from);
	get_endpoint(&c, &d->to);
	d->port = (uint16_t)get(&c, 2);
	for (int i = 0; i < 2; i++)
		d->cookie[i] = get(&c, 8);
	for (int i = 0; i < 2; i++)
		d->your_cookie[i] = get(&c, 8);
	memcpy(d->qp.gid, c.in, 16);
	c.in += 16;
	d->qp.number = (uint32_t)get(&c, 4);
	d->qp.psn = (uint32_t)get(&c, 4);
	d->qp.rkey = (uint32_t)get(&c, 4);
	d->qp.ring = get(&c, 8);
	d->qp.mtu = (uint8_t)get(&c, 1);
	d->qp.lid = (uint16_t)get(&c, 2);
	d->epoch = (uint32_t)get(&c, 4);
	d->ring = get(&c, 8);
	d->twin = get(&c, 8);
	d->twin_start = get(&c, 8);
	return d->port != 0 && d->qp.mtu <= 5 && d->qp.number <= 0xffffff && d->qp.psn <= 0xffffff && d->epoch <= VS_EPOCH_MASK;
}
