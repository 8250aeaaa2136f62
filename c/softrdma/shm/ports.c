/* ports.c - the table of rdma_cm ports; see ports.h. */
#include "ports.h"
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include "../engine/key.h"
#include "registry.h"

#define DYNAMIC_FIRST 32768u
#define DYNAMIC_COUNT 28232u

enum { FREE, BOUND, LISTENING };

/* The file lock belongs to the process: threads of it need one of their own. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static const union ibv_gid any6, any4 = { .raw = { [10] = 0xff, [11] = 0xff } };

static bool same(const union ibv_gid *a, const union ibv_gid *b) { return !memcmp(a, b, sizeof *a); }
static bool is_v4(const union ibv_gid *g) { return !memcmp(g, &any4, 12); }
static bool is_any(const union ibv_gid *g) { return same(g, &any6) || same(g, &any4); }

static bool alive(const struct sr_port_row *r)
{
	return r->slot < SR_SLOTS && sr_registry_generation(r->slot) == r->generation && sr_registry_alive(r->slot);
}

/* How well does a bound address cover a destination? 0 not at all, 1 by IPv6's any, 2 by its family's any, 3 exactly. */
static int covers(const struct sr_port_bind *b, const union ibv_gid *to)
{
	if (same(&b->addr, to))
		return 3;
	if (is_v4(to))
		return same(&b->addr, &any4) ? 2 : same(&b->addr, &any6) && b->v4_too ? 1 : 0;
	return same(&b->addr, &any6) ? 2 : 0;
}

static bool overlap(const struct sr_port_bind *a, const struct sr_port_bind *b)
{
	bool four = is_v4(&a->addr) || (same(&a->addr, &any6) && a->v4_too);
	bool six = !is_v4(&a->addr);
	bool both = is_v4(&b->addr) ? four : six || (b->v4_too && same(&b->addr, &any6) && four);
	return both && (is_any(&a->addr) || is_any(&b->addr) || same(&a->addr, &b->addr));
}

static uint32_t high(const struct sr_port_table *t)
{
	uint32_t n = atomic_load(&t->high);
	return n < SR_PORT_ROWS ? n : SR_PORT_ROWS;
}

/* May `b` have its port beside the living rows? `self` is a row not to look at. */
static bool fits(struct sr_port_table *t, const struct sr_port_bind *b, int self, bool listen)
{
	for (uint32_t i = 0; i < high(t); i++) {
		struct sr_port_row *r = &t->rows[i];
		uint32_t state = atomic_load(&r->listening);
		if ((int)i == self || state == FREE || r->bind.space != b->space || r->bind.port != b->port || !overlap(&r->bind, b))
			continue;
		if (r->bind.reuse && b->reuse && state != LISTENING)
			continue;
		if (listen && r->bind.reuse && b->reuse && state == BOUND)
			continue;
		if (alive(r))
			return false;
	}
	return true;
}

static bool choose_port(struct sr_port_table *t, struct sr_port_bind *b)
{
	uint32_t start = sr_random32();
	for (uint32_t i = 0; i < DYNAMIC_COUNT; i++) {
		b->port = (uint16_t)(DYNAMIC_FIRST + (start + i) % DYNAMIC_COUNT);
		if (fits(t, b, -1, false))
			return true;
	}
	return false;
}

static int enter(struct sr_port_table *t, const struct sr_port_bind *b)
{
	uint32_t i = 0;
	for (; i < high(t); i++)
		if (atomic_load(&t->rows[i].listening) == FREE || !alive(&t->rows[i]))
			break;
	if (i == SR_PORT_ROWS)
		return -ENOMEM;
	struct sr_port_row *r = &t->rows[i];
	atomic_store(&r->listening, FREE);
	r->slot = sr.slot;
	r->generation = sr_registry_generation(sr.slot);
	r->bind = *b;
	atomic_store(&r->listening, BOUND);
	if (i >= high(t))
		atomic_store(&t->high, i + 1);
	return (int)i;
}

int rdmakit_port_bind(struct sr_port_bind *b)
{
	pthread_mutex_lock(&lock);
	struct sr_port_table *t = sr_registry_ports_lock();
	int row = -ENETDOWN;
	if (t) {
		bool ok = b->port ? fits(t, b, -1, false) : choose_port(t, b);
		row = ok ? enter(t, b) : -EADDRINUSE;
		sr_registry_ports_unlock();
	}
	pthread_mutex_unlock(&lock);
	return row;
}

int rdmakit_port_listen(int row)
{
	pthread_mutex_lock(&lock);
	struct sr_port_table *t = sr_registry_ports_lock();
	int err = ENETDOWN;
	if (t && row >= 0 && row < SR_PORT_ROWS) {
		struct sr_port_row *r = &t->rows[row];
		err = fits(t, &r->bind, row, true) ? 0 : EADDRINUSE;
		if (!err)
			atomic_store(&r->listening, LISTENING);
	}
	if (t)
		sr_registry_ports_unlock();
	pthread_mutex_unlock(&lock);
	return err;
}

void rdmakit_port_release(int row)
{
	struct sr_port_table *t = sr_registry_ports();
	if (t && row >= 0 && row < SR_PORT_ROWS && t->rows[row].generation == sr_registry_generation(sr.slot))
		atomic_store(&t->rows[row].listening, FREE);
}

unsigned sr_port_listener(uint16_t space, uint16_t port, const union ibv_gid *addr)
{
	struct sr_port_table *t = sr_registry_ports();
	int best = 0;
	unsigned slot = 0;
	for (uint32_t i = 0; t && i < high(t); i++) {
		struct sr_port_row *r = &t->rows[i];
		if (atomic_load(&r->listening) != LISTENING || r->bind.space != space || r->bind.port != port)
			continue;
		int how = covers(&r->bind, addr);
		if (how > best && alive(r)) {
			best = how;
			slot = r->slot;
		}
	}
	return slot;
}
