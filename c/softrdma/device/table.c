/*
 * table.c - the table of devices: finding, holding and listing them. refresh.c keeps it in step with the kernel.
 */
#include "device.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "../core.h"

pthread_mutex_t sr_device_lock = PTHREAD_MUTEX_INITIALIZER;
struct sr_list sr_device_table = SR_LIST_INIT(sr_device_table);

void sr_device_drop_if_unused(struct sr_device *d)
{
	if (d->refs || !d->gone)
		return;
	sr_list_del(&d->node);
	free(d);
}

void sr_device_put(struct sr_device *d)
{
	pthread_mutex_lock(&sr_device_lock);
	d->refs--;
	sr_device_drop_if_unused(d);
	pthread_mutex_unlock(&sr_device_lock);
}

void sr_device_attach(struct sr_device *d, struct sr_device_user *u)
{
	pthread_mutex_lock(&sr_device_lock);
	d->refs++;
	sr_list_add_tail(&d->users, &u->node);
	pthread_mutex_unlock(&sr_device_lock);
}

void sr_device_detach(struct sr_device *d, struct sr_device_user *u)
{
	pthread_mutex_lock(&sr_device_lock);
	sr_list_del(&u->node);
	d->refs--;
	sr_device_drop_if_unused(d);
	pthread_mutex_unlock(&sr_device_lock);
}

/* All of 127.0.0.0/8 is this host, whichever address lo was given. */
bool sr_gid_is_local(const union ibv_gid *gid)
{
	static const uint8_t loopback[13] = { [10] = 0xff, [11] = 0xff, [12] = 127 };
	if (!memcmp(gid->raw, loopback, sizeof(loopback)))
		return true;
	bool found = false;
	uint64_t netns = sr_netns_inode();
	sr_device_freshen();
	pthread_mutex_lock(&sr_device_lock);
	sr_list_for(n, next, &sr_device_table) {
		struct sr_device *d = sr_list_entry(n, struct sr_device, node);
		for (int g = 0; g < SR_LIMIT_GIDS && d->netns == netns && !found; g++)
			found = d->gids[g].valid && !memcmp(d->gids[g].gid.raw, gid->raw, sizeof(gid->raw));
	}
	pthread_mutex_unlock(&sr_device_lock);
	return found;
}

bool sr_gid_search(bool (*found)(void *arg, const union ibv_gid *gid), void *arg)
{
	bool yes = false;
	if (pthread_mutex_trylock(&sr_device_lock))
		return false;
	sr_list_for(n, next, &sr_device_table) {
		struct sr_device *d = sr_list_entry(n, struct sr_device, node);
		for (int g = 0; g < SR_LIMIT_GIDS && !d->gone && !yes; g++)
			yes = d->gids[g].valid && found(arg, &d->gids[g].gid);
	}
	pthread_mutex_unlock(&sr_device_lock);
	return yes;
}

/* Programs take the first device unless told otherwise, so real interfaces come before loopback; then by index. */
static int by_use(const void *a, const void *b)
{
	const struct sr_device *x = *(struct sr_device *const *)a, *y = *(struct sr_device *const *)b;
	bool lx = x->link.flags & IFF_LOOPBACK, ly = y->link.flags & IFF_LOOPBACK;
	if (lx != ly)
		return lx - ly;
	return x->link.ifindex < y->link.ifindex ? -1 : x->link.ifindex > y->link.ifindex;
}

struct sr_device *sr_device_of_path(const char *path, const char **below)
{
	struct sr_device *found = NULL;
	uint64_t netns = sr_netns_inode();
	sr_device_freshen();
	pthread_mutex_lock(&sr_device_lock);
	sr_list_for(n, next, &sr_device_table) {
		struct sr_device *d = sr_list_entry(n, struct sr_device, node);
		const char *roots[] = { d->dev.ibdev_path, d->dev.dev_path };
		for (int r = 0; r < 2 && d->netns == netns && !found; r++) {
			size_t len = strlen(roots[r]);
			if (!strncmp(path, roots[r], len) && path[len] == '/') {
				*below = path + len + 1;
				found = d;
				d->refs++;
			}
		}
	}
	pthread_mutex_unlock(&sr_device_lock);
	return found;
}

struct ibv_device **sr_device_list(int *count)
{
	uint64_t netns = sr_netns_inode();
	size_t n = 0;
	int rc = sr_device_refresh();
	if (rc) {
		errno = rc;
		return NULL;
	}
	pthread_mutex_lock(&sr_device_lock);
	sr_list_for(i, next, &sr_device_table)
		n++;
	struct ibv_device **list = calloc(n + 1, sizeof(*list));
	n = 0;
	if (list) {
		sr_list_for(i, next, &sr_device_table) {
			struct sr_device *d = sr_list_entry(i, struct sr_device, node);
			if (!d->listed || d->netns != netns)
				continue;
			d->refs++;
			list[n++] = &d->dev;
		}
		qsort(list, n, sizeof(*list), by_use);
	}
	pthread_mutex_unlock(&sr_device_lock);
	if (!list)
		errno = ENOMEM;
	*count = (int)n;
	return list;
}
