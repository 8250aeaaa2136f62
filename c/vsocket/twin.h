/* twin.h - what the kernel knows of the TCP connection under an accelerated one. */
#ifndef VS_TWIN_H
#define VS_TWIN_H

#include "layout.h"

/* The kind of a descriptor, as far as we care. */
enum vs_kind {
	VS_KIND_OTHER,	 /* no TCP socket */
	VS_KIND_WAITING, /* a TCP socket that is not connected (yet) */
	VS_KIND_REMOTE,	 /* connected to another host, to itself, or in a way that is never accelerated */
	VS_KIND_LOCAL,	 /* connected to this host */
};

/* Finds out what `fd` is; for VS_KIND_LOCAL also its cookie, its key and which end of the key it is. */
enum vs_kind vs_twin_identify(int fd, uint64_t *cookie, struct vs_key *key, int *side);

/* Bytes the application side has ever written to the twin. `open`: established in both directions.
 * Returns 0 or -errno. */
int vs_twin_sent(int fd, uint64_t *bytes, bool *open);

/* Bytes that have ever been read from the twin (not those that wait in its queue). Returns 0 or -errno. */
int vs_twin_read(int fd, uint64_t *bytes);

/* Whether the socket at end `side` of `key` exists and has this cookie: 1 yes, 0 no, -errno when the kernel cannot be asked.
 * Asks NETLINK_SOCK_DIAG, which needs no privilege. A socket that no process holds any more counts as gone. */
int vs_twin_exists(const struct vs_key *key, int side, uint64_t cookie);

#endif
