/*
 * remote.h - what the two halves of a connection ask of the other road: an RC queue pair to another host. remote/ installs it; where it
 * is not linked (rdmakit-attend), vs_remote is NULL and no slot is remote. `c` is always this host's end.
 */
#ifndef VS_REMOTE_H
#define VS_REMOTE_H

#include "conn.h"

struct vs_inbox;

/* A UDP socket that sends to another host. */
struct vs_far_sender {
	const void *owner;	/* stands for the socket */
	_Atomic uint32_t *lock; /* whoever sends on it has it; it exists for ever */
	int fd;
	bool v6, connected; /* an AF_INET6 socket; it has a peer */
};

struct vs_remote_ops {
	/* A connection to another host was attached: look whether its other end has the library. Returns at once. */
	void (*wanted)(const struct vs_conn *c, int fd);
	/* Takes what has arrived for any connection of this process. */
	void (*poll)(void);
	/* As poll(), and nobody else is in the middle of it: all that had come before the call has been taken. */
	void (*sync)(void);
	/* As poll(), and may wait some microseconds when nothing has come for long. */
	void (*nap)(void);
	/* Somebody is about to sleep in the kernel: the agent takes over. */
	void (*doze)(void);
	/* Whether a ring epoch may begin now; under tx_lock. */
	bool (*may_start)(const struct vs_conn *c);
	/* The epoch that the direction is in has begun: tells the receiver, and waits until he can know it. Under tx_lock. */
	bool (*start)(const struct vs_conn *c);
	/* `n` bytes lie in the ring at `at`: on their way with them. Under tx_lock. */
	bool (*sent)(const struct vs_conn *c, int fd, uint64_t at, size_t n);
	/* A doorbell lies in the twin. Under tx_lock. */
	void (*rung)(const struct vs_conn *c);
	/* Tells the receiver the end of the ring epoch and waits until all of it has arrived; under tx_lock. True: the epoch may end, or has
	 * ended (then some of it may have been given back). */
	bool (*end)(const struct vs_conn *c, int fd);
	/* The application has taken bytes out of the ring, or an epoch is behind it. Under rx_lock. */
	void (*consumed)(const struct vs_conn *c);
	/* The sender shall ring when the ring holds more than the bytes before `seen`. Under rx_lock. */
	void (*arm)(const struct vs_conn *c, uint64_t seen);
	/* Gives all from the head on back to the sender, who puts it on the twin. Under rx_lock. */
	bool (*freeze)(const struct vs_conn *c, int fd);
	/* What a broken link has left behind is decided. Under rx_lock. */
	void (*settle)(const struct vs_conn *c);
	/* How far the reader was known to have read before a freeze made it give back all from `ring` on. */
	uint64_t (*reader)(const struct vs_conn *c, uint64_t ring);
	/* The library reads the connection from now on, and nobody else. */
	void (*reading)(const struct vs_conn *c);
	/* Bytes have moved, on this road or, when not `rc`, by the kernel. */
	void (*moved)(const struct vs_conn *c, size_t n, bool rc);
	/* The end of the stream has come without the ring epoch's: the peer was killed. */
	bool (*died)(const struct vs_conn *c);
	/* This process's last descriptor of it is about to go. */
	void (*left)(const struct vs_conn *c);
	void (*forked)(void);
	/* What stands for the receiver of datagrams on another host; 0: there is no way to it but the kernel's. Under the socket's lock. */
	uint64_t (*far)(const struct vs_far_sender *s, const struct vs_endpoint *from, const struct vs_endpoint *to);
	/* Sends a datagram there. Its length, or VS_NATIVE: the kernel is to carry it. Under the socket's lock. */
	long (*far_send)(uint64_t far, struct vs_cursor *c);
	/* The socket is closed. */
	void (*far_left)(const void *owner, _Atomic uint32_t *lock);
	/* Datagrams from other hosts come to the socket of this inbox: they may ask for it. */
	void (*far_receiver)(struct vs_inbox *in);
};

extern const struct vs_remote_ops *vs_remote;
/* This process has, or had, a connection to another host. */
extern _Atomic bool vs_remotes;

/* This process has, or had, a UD queue pair. */
extern _Atomic bool vs_remote_datagrams;

/* The other end is on another host. */
static inline bool vs_is_remote(const struct vs_conn *c)
{
	return __builtin_expect(atomic_load_explicit(&c->slot->remote, memory_order_relaxed) != 0, 0);
}

#endif
