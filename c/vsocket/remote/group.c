/* group.c - one choice for connections that are alike. */
#include "group.h"
#include "../lock.h"
#include <string.h>

/* A host more than that shares a group with another one. */
#define GROUPS 64u
/* Bytes a call from which messages are large, and over how many calls they are counted; first over fewer. */
#define LARGE_BYTES 16384u
#define KIND_CALLS 64u
#define FIRST_KIND_CALLS 8u
/* Calls that a member tells of at once while nothing is measured: two locks and a look at the clock are a few percent of a small message. */
#define BATCH_CALLS 16u

struct vs_group {
	_Atomic uint32_t lock;
	_Atomic uint32_t members;
	_Atomic bool rc, trying; /* copies of the choice's */
	bool large;
	uint8_t host[16];
	uint64_t bells;
	struct vs_choice choice;
};

static struct vs_group groups[GROUPS];
static _Atomic uint32_t groups_lock;

/* Under groups_lock. */
static struct vs_group *group_of(const uint8_t host[16], bool large)
{
	uint32_t hash = large;
	struct vs_group *empty = NULL;
	for (int i = 0; i < 16; i++)
		hash = (hash ^ host[i]) * 16777619u;
	for (unsigned i = 0; i < GROUPS; i++) {
		struct vs_group *g = &groups[(hash + i) % GROUPS];
		if (atomic_load(&g->members) == 0)
			empty = empty ? empty : g; /* what was decided there need not be right for a connection that is used in another way */
		else if (g->large == large && !memcmp(g->host, host, 16))
			return g;
	}
	if (!empty)
		return &groups[hash % GROUPS];
	memset(empty, 0, sizeof *empty);
	memcpy(empty->host, host, 16);
	empty->large = large;
	return empty;
}

static void join(struct vs_group_member *m, const uint8_t host[16], bool large)
{
	if (vs_lock(&groups_lock) == VS_LOCK_NESTED)
		return;
	struct vs_group *g = group_of(host, large), *before = atomic_load(&m->group);
	if (g != before) {
		atomic_fetch_add(&g->members, 1);
		if (before)
			atomic_fetch_sub(&before->members, 1);
		atomic_store(&m->group, g);
	}
	vs_unlock(&groups_lock);
}

void vs_group_join(struct vs_group_member *m, const uint8_t host[16])
{
	if (!atomic_load(&m->group))
		join(m, host, false);
}

void vs_group_leave(struct vs_group_member *m)
{
	struct vs_group *g = atomic_exchange(&m->group, NULL);
	if (g)
		atomic_fetch_sub(&g->members, 1);
}

bool vs_group_wants_rc(const struct vs_group_member *m)
{
	const struct vs_group *g = atomic_load_explicit(&m->group, memory_order_acquire);
	return g && atomic_load_explicit(&g->rc, memory_order_relaxed);
}

bool vs_group_decided(const struct vs_group_member *m, bool *rc)
{
	const struct vs_group *g = atomic_load(&m->group);
	if (!g || atomic_load(&g->trying))
		return false;
	*rc = atomic_load(&g->rc);
	return true;
}

/* Its messages may be of another kind than when it joined. */
static void look_at_kind(struct vs_group_member *m, const uint8_t host[16], uint64_t calls, uint64_t bytes)
{
	m->calls += calls;
	m->bytes += bytes;
	if (m->calls < (m->known ? KIND_CALLS : FIRST_KIND_CALLS))
		return;
	const struct vs_group *g = atomic_load(&m->group);
	const bool large = m->bytes >= m->calls * LARGE_BYTES;
	if (g && g->large != large)
		join(m, host, large);
	if (m->calls >= KIND_CALLS) {
		m->calls = m->bytes = 0;
		m->known = true;
	}
}

bool vs_group_can_wait(struct vs_group_member *m, uint64_t n)
{
	const struct vs_group *g = atomic_load_explicit(&m->group, memory_order_acquire);
	const uint32_t calls = atomic_load_explicit(&m->waiting_calls, memory_order_relaxed) + 1;
	const uint64_t bytes = atomic_load_explicit(&m->waiting_bytes, memory_order_relaxed) + n;
	if (!g || calls >= BATCH_CALLS || bytes >= LARGE_BYTES || atomic_load_explicit(&g->trying, memory_order_relaxed) ||
	    !atomic_load_explicit(&m->settled, memory_order_relaxed))
		return false;
	atomic_store_explicit(&m->waiting_calls, calls, memory_order_relaxed);
	atomic_store_explicit(&m->waiting_bytes, (uint32_t)bytes, memory_order_relaxed);
	return true;
}

bool vs_group_moved(struct vs_group_member *m, const uint8_t host[16], uint64_t now_ns, uint64_t n, bool rc, uint64_t bells)
{
	const uint32_t calls = atomic_exchange(&m->waiting_calls, 0), bytes = atomic_exchange(&m->waiting_bytes, 0);
	look_at_kind(m, host, calls + 1, bytes + n);
	struct vs_group *g = atomic_load(&m->group);
	if (!g)
		return false;
	/* Lost samples do not matter. */
	if (vs_try_lock(&g->lock)) {
		g->bells += bells - m->bells;
		m->bells = bells;
		g->choice.members = atomic_load_explicit(&g->members, memory_order_relaxed);
		for (uint32_t i = 0; i < calls && !g->choice.trying; i++)
			vs_choice_moved(&g->choice, now_ns, bytes / calls, rc, g->bells);
		vs_choice_moved(&g->choice, now_ns, n, rc, g->bells);
		if (atomic_load_explicit(&g->rc, memory_order_relaxed) != g->choice.rc)
			atomic_store(&g->rc, g->choice.rc);
		if (atomic_load_explicit(&g->trying, memory_order_relaxed) != g->choice.trying)
			atomic_store(&g->trying, g->choice.trying);
		vs_unlock(&g->lock);
	}
	const bool wanted = atomic_load_explicit(&g->rc, memory_order_relaxed), settled = !atomic_load_explicit(&g->trying, memory_order_relaxed);
	const bool news = wanted != atomic_load_explicit(&m->told, memory_order_relaxed) || settled != atomic_load_explicit(&m->settled, memory_order_relaxed);
	atomic_store_explicit(&m->settled, settled, memory_order_relaxed);
	return news;
}

void vs_group_forget(void)
{
	memset(groups, 0, sizeof groups);
	atomic_store(&groups_lock, 0);
}
