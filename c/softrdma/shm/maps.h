/* maps.h - reading /proc/self/maps without allocating, so that it also serves a freshly forked child. */
#ifndef SR_MAPS_H
#define SR_MAPS_H
#include <stdbool.h>
#include <stdint.h>

struct sr_map {
	uint64_t start, end, offset, dev, ino;
	bool r, w, shared;
	bool anonymous;  /* no file, and not a stack or another special mapping */
};

/* Calls cb for each mapping in ascending order until it returns false. -1 when the file cannot be read. */
int sr_maps_each(bool (*cb)(void *arg, const struct sr_map *m), void *arg);
#endif
