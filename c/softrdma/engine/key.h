/* key.h - the table of memory keys. Under sr.lock. */
#ifndef SR_KEY_H
#define SR_KEY_H
#include "../core.h"

/* Gives the key a random number and enters its row. 0 or ENOMEM. */
int sr_key_insert(struct sr_key *k);
void sr_key_remove(struct sr_key *k);

static inline struct sr_key *sr_key_find(uint32_t key)
{
	struct sr_key *k = sr.keys ? sr.keys[sr_key_row(key)] : NULL;
	return k && k->key == key && !k->dead ? k : NULL;
}

/* [addr, addr+len) within the region, without overflow? */
static inline bool sr_key_covers(const struct sr_key *k, uint64_t addr, uint64_t len)
{
	return addr >= k->iova && len <= k->length && addr - k->iova <= k->length - len;
}

uint32_t sr_random32(void);
/* A forked child draws numbers of its own. */
void sr_key_after_fork(void);
#endif
