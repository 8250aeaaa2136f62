/*
 * udp.h - the UDP sockets of this process: which have an inbox (inbox.h), and where the datagrams of the others are received.
 *
 * Only sockets that were made by this process are accelerated; all others are the kernel's. Sending: after a few datagrams to the same
 * address the kernel is asked which socket it gives them to, and when that has an inbox they are laid in there, for a millisecond or two
 * before the kernel is asked again. Receiving: a socket that is read repeatedly gets an inbox, which is open only while it is known
 * that every wait for the socket looks there first.
 */
#ifndef VS_UDP_H
#define VS_UDP_H

#include "fdtable.h"
#include "inbox.h"
#include <sys/socket.h>

struct vs_udp;

/* `fd` is a UDP socket that was made just now. */
void vs_udp_made(int fd, bool v6, bool nonblock);
/* The socket of a descriptor; NULL when it is none that may be accelerated. */
static inline struct vs_udp *vs_udp_of(int fd);

/* Sends a datagram by ring. Returns its length, or VS_NATIVE: make the kernel's call, then vs_udp_sent(). `*to_inbox`: for that. */
long vs_udp_send(struct vs_udp *u, int fd, const struct msghdr *m, int flags, struct vs_inbox **to_inbox);
void vs_udp_sent(struct vs_udp *u, struct vs_inbox *to_inbox, ssize_t result);

/* Receives from ring or kernel without sleeping: as recvmsg(2), -errno, or VS_NATIVE: make the kernel's call, then vs_udp_received(). */
struct vs_udp_wait {
	uint64_t since_ns, natives;
	const void *name; /* where the caller wants the sender's; NULL: nowhere */
	socklen_t namelen;
};
long vs_udp_recv(struct vs_udp *u, int fd, struct msghdr *m, int flags, struct vs_udp_wait *w);
void vs_udp_received(struct vs_udp *u, struct vs_udp_wait *w, ssize_t result);

/* Whether a datagram lies in the inbox. */
bool vs_udp_ready(struct vs_udp *u);
/* Whether it has an inbox at all. */
bool vs_udp_has_inbox(struct vs_udp *u);
/* How far senders have come, for edges. 0: no inbox. */
uint64_t vs_udp_tail(struct vs_udp *u);
/* A thread is about to sleep in the kernel, where the descriptor is one of those that wake it. False: a datagram lies in the inbox, do not
 * sleep. `shut`: sleep nevertheless; what comes next takes the kernel. vs_udp_wake() in either case. */
bool vs_udp_sleep(struct vs_udp *u, bool shut);
void vs_udp_wake(struct vs_udp *u);
/* What FIONREAD says: the length of the next datagram in the inbox, -1 when the kernel is to be asked. */
int vs_udp_pending(struct vs_udp *u);

/* Addresses or options have changed, by which the kernel may decide otherwise. */
void vs_udp_changed(struct vs_udp *u);
void vs_udp_set_nonblock(struct vs_udp *u, bool nonblock);
/* It is in an epoll set now, or in none; every wait for that looks at inboxes, or it does not. */
enum vs_udp_watched { VS_UDP_ALONE, VS_UDP_SEEN, VS_UDP_UNSEEN };
void vs_udp_watched(struct vs_udp *u, enum vs_udp_watched how);
/* From now on it is the kernel's (enum vs_plain); what lies in the inbox is still read. */
void vs_udp_refuse(struct vs_udp *u, uint32_t why);
/* Every socket of this process. */
void vs_udp_each(void (*f)(int fd, struct vs_udp *u, void *arg), void *arg);

/* For the table of descriptors: one more of them, one less. */
void vs_udp_hold(unsigned index);
void vs_udp_release(unsigned index);
/* Before a fork (1), and after one that failed (-1): each socket has another holder. */
void vs_udp_fork(int change);
void vs_udp_forked(void);
/* Before (true) this process becomes another program, and when that failed: descriptors that do not survive it hold nothing. */
void vs_udp_exec(bool begins);

/* For a report (book.h): it is used, it is about to be closed. */
void vs_udp_note_used(struct vs_udp *u, int fd);
void vs_udp_note_closing(struct vs_udp *u, int fd);

#define VS_UDPS 4096
struct vs_udp *vs_udp_at(unsigned index);

static inline struct vs_udp *vs_udp_of(int fd)
{
	uint64_t w = vs_fd_word(fd);
	return vs_fd_is_datagram(w) ? vs_udp_at(vs_fd_unpack(w).slot) : NULL;
}

#endif
