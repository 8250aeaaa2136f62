/* domains.c - see domains.h. */
#include "domains.h"
#include <errno.h>
#include <fcntl.h>
#include "../engine/xrc.h"
#include "registry.h"

/* The file lock belongs to the process: threads of it need one of their own. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static bool alive(const struct sr_domain_row *r)
{
	return r->slot && sr_registry_generation(r->slot) == r->generation && sr_registry_alive(r->slot);
}

static int enter(struct sr_domain_table *t, const struct sr_xrc_domain *domain, int oflags)
{
	int free_row = -ENOMEM;
	bool exists = false;
	for (int i = 0; i < SR_DOMAIN_ROWS; i++) {
		struct sr_domain_row *r = &t->rows[i];
		bool same = r->slot && sr_xrc_same_domain(&r->domain, domain);
		if (!r->slot || ((same || free_row < 0) && !alive(r)))
			free_row = free_row < 0 ? i : free_row;
		else
			exists |= same;
	}
	if (exists && (oflags & O_EXCL))
		return -EINVAL;
	if (!exists && !(oflags & O_CREAT))
		return -EAGAIN;
	if (free_row >= 0)
		t->rows[free_row] = (struct sr_domain_row){ sr.slot, sr_registry_generation(sr.slot), *domain };
	return free_row;
}

int sr_domain_open(const struct sr_xrc_domain *domain, int oflags)
{
	pthread_mutex_lock(&lock);
	struct sr_domain_table *t = sr_registry_domains_lock();
	int row = t ? enter(t, domain, oflags) : -ENETDOWN;
	if (t)
		sr_registry_domains_unlock();
	pthread_mutex_unlock(&lock);
	return row;
}

void sr_domain_close(int row)
{
	pthread_mutex_lock(&lock);
	struct sr_domain_table *t = sr_registry_domains_lock();
	if (t) {
		/* In a forked child the row is its parent's. */
		if (t->rows[row].slot == sr.slot && t->rows[row].generation == sr_registry_generation(sr.slot))
			t->rows[row].slot = 0;
		sr_registry_domains_unlock();
	}
	pthread_mutex_unlock(&lock);
}
