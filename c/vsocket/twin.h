/* twin.h - what the kernel knows of the TCP connection under an accelerated one. */
#ifndef VS_TWIN_H
#define VS_TWIN_H

#include "layout.h"

/* The kind of a descriptor, as far as we care. */
enum vs_kind {
	VS_KIND_OTHER,	 /* no TCP socket */
	VS_KIND_WAITING, /* a TCP socket that is not connected (yet) */
	VS_KIND_REMOTE,	 /* connected to another host; without a cookie: to itself, or in a way that is never accelerated */
	VS_KIND_LOCAL,	 /* connected to this host */
};

/* Finds out what `fd` is; for connected ones also its addresses and which end of the key it is, its cookie and network
 * namespace. */
enum vs_kind vs_twin_identify(int fd, uint64_t *cookie, struct vs_key *key, int *side);
/* The kind alone, with fewer questions: for a second an address that was another host's is taken for one without asking. */
enum vs_kind vs_twin_glance(int fd);

/* Whether `fd` is a TCP socket whose connection has ended in both directions: the kernel does not tell the peer's address any more, and what the
 * application has not read may lie in a ring. */
bool vs_twin_is_over(int fd);

/* An address as keys have it: IPv4 as mapped IPv6. `*scope` is set for IPv6. False for other families. */
bool vs_twin_endpoint(const struct sockaddr_storage *ss, struct vs_endpoint *e, uint32_t *scope);
bool vs_twin_is_v4(const struct vs_endpoint *e);
/* The other way round, for a socket of IPv4 or of IPv6; returns its length. */
socklen_t vs_twin_sockaddr(const struct vs_endpoint *e, bool v4, struct sockaddr_storage *ss);
/* Whether an address is one of this host's; `own` is the address at this end. */
bool vs_twin_is_local(const struct vs_endpoint *peer, const struct vs_endpoint *own, const struct sockaddr_storage *ss);
/* The cookie of the socket that the kernel would give a UDP datagram from `from` to `to`, an address of this network namespace, that comes by
 * the network device of this index (1: loopback); 0: it would give it to none, or cannot be asked. */
uint64_t vs_twin_udp_receiver(const struct vs_endpoint *from, const struct vs_endpoint *to, uint32_t device);

/* Whether an option is set, by the application or on the listener it came from, under which a stream is more, or something else, than
 * bytes that arrive. */
bool vs_twin_forbids(int fd);

/* Bytes the application side has ever written to the twin, exactly. `syn`: NULL for a connection inside the host, whose transmissions do
 * not fail for want of a route. `*syn`: of the connection's, 0 (unknown) at first: what the first answer
 * has found out (enum vs_syn). `open`: established in both directions. Returns 0 or -errno: -ERANGE when it cannot be known any more. */
int vs_twin_sent(int fd, uint32_t *syn, uint64_t *bytes, bool *open);

/* Bytes that have ever been read from the twin (not those that wait in its queue). Returns 0 or -errno. */
int vs_twin_read(int fd, uint64_t *bytes);

/* For reports: as the two before, but what has arrived counts as read. `sent` may be wrong by a byte or two after failures of the route. */
int vs_twin_counts(int fd, uint64_t *sent, uint64_t *received);

/* What the kernel tells anybody of a connection's socket. */
struct vs_twin_facts {
	bool counted;		 /* the next two are there: not of a connection that is only being remembered */
	uint64_t sent, received; /* as vs_twin_counts() */
	uint32_t uid;		 /* of its owner */
	uint32_t inode;		 /* 0: no process holds it (any more, or yet), and then uid means nothing */
};

/* Asks NETLINK_SOCK_DIAG for the socket at end `side` of `key`: 1 found, 0 there is none, -errno. A cookie of 0 is any. */
int vs_twin_ask(const struct vs_key *key, int side, uint64_t cookie, struct vs_twin_facts *facts);

/* Whether the socket at end `side` of `key` exists and has this cookie: 1 yes, 0 no, -errno when the kernel cannot be asked.
 * Asks NETLINK_SOCK_DIAG, which needs no privilege. A socket that no process holds any more counts as gone. */
int vs_twin_exists(const struct vs_key *key, int side, uint64_t cookie);

#endif
