/*
 * export.h - making ordinary memory reachable for peers, without their asking us.
 *
 * Registered pages that are private anonymous memory are replaced in place by shared pages of this process's segment (same
 * address, same contents), so that a peer that maps the segment can read and write them with plain loads and stores. Only
 * pages that lie wholly inside the region are touched; what shares a page with other data stays private and is served by
 * messages. Threads that write to the region meanwhile are held by userfaultfd for the moment of the exchange; without
 * userfaultfd a process with more threads is served by messages altogether.
 * When the last region over the pages goes, they become private again. A forked child gets private copies (engine.c).
 */
#ifndef SR_EXPORT_H
#define SR_EXPORT_H
#include "../core.h"

struct sr_export {
	struct sr_list node;
	char *addr;           /* first page */
	size_t length;
	uint64_t offset;      /* in the segment file */
	size_t reserved;      /* from there on; more than length, because mremap() can make a shared mapping grow */
	uint32_t refs;
	bool foreign;         /* made before a fork, in a child: nothing of it is ours */
	bool quarantined;     /* a peer was using it when it went: never reuse the offsets */
};

enum sr_map_check { SR_MAP_OK = 0, SR_MAP_MISSING, SR_MAP_READONLY };

/* Is [addr, addr+len) mapped and readable, and writable when asked? Not locked. */
enum sr_map_check sr_map_check(const void *addr, size_t len, bool write);

/* The export that covers the region's whole pages, made or shared; NULL when this memory stays private. Under sr.control, without sr.lock. */
struct sr_export *sr_export_get(void *addr, size_t len);
/* `clean`: no peer was in the middle of an access. */
void sr_export_put(struct sr_export *e, bool clean);
/* The export and file offset behind an address range of this process; false when it is not wholly exported. */
bool sr_export_lookup(const struct sr_key *k, const void *p, size_t len, uint64_t *offset);
/* Is there any memory that a forked child would share with us? Under sr.control. */
bool sr_export_any(void);
/* In a forked child: private copies in place of the parent's shared pages. */
void sr_export_after_fork(void);
#endif
