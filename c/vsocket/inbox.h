/*
 * inbox.h - datagrams for one UDP socket, in shared memory. Records are laid in by any process that was told by the kernel that this socket
 * is where a datagram would arrive (udp-route.h), and are taken out by the socket's owner.
 *
 * There is no doorbell: who may sleep says so (ARMED), and from then on datagrams take the kernel, as if there were no inbox, until the
 * receiver is awake. So whatever waits on the descriptor is woken by the datagram itself, and nothing that is lost, filtered or read by
 * somebody else can leave a receiver asleep.
 *
 * Nothing read from here is trusted with memory: lengths and positions are taken once and checked.
 */
#ifndef VS_INBOX_H
#define VS_INBOX_H

#include "arena.h"
#include "ring.h"

/* The largest datagram of IPv4; longer ones of IPv6 are left to the kernel. */
#define VS_DATAGRAM_MAX 65507u

/* vs_inbox.far_credit, when a sender of another host uses it. */
#define VS_INBOX_CREDIT 8u

/* Makes an inbox for a socket, shut and with one holder. NULL when there is none left. */
struct vs_inbox *vs_inbox_take(uint64_t cookie, uint64_t netns, const struct vs_endpoint *at);
/* A process has closed its last descriptor of the socket; the last one frees the inbox and what lies in it. */
void vs_inbox_leave(struct vs_inbox *in);
/* The inbox of the socket with this cookie, NULL when it has none. `*gen` is what vs_inbox_put() is to be told. */
struct vs_inbox *vs_inbox_find(uint64_t cookie, uint64_t netns, uint32_t *gen);

/* Lays a datagram in, from `from`; `*tail`: up to where. Returns its length, VS_INBOX_KERNEL when it must take the kernel, or -ENOBUFS: there is no room. */
#define VS_INBOX_KERNEL (-4095L)
long vs_inbox_put(struct vs_inbox *in, uint32_t gen, const struct vs_endpoint *from, struct vs_cursor *c, uint64_t *tail);
/* Takes the next one out (under rx_lock), or only looks at it. Returns its length, which may be more than there was room for, or
 * -EAGAIN. `*copied`: what there was room for. */
long vs_inbox_get(struct vs_inbox *in, struct vs_cursor *c, bool peek, struct vs_endpoint *from, size_t *copied);
/* The length of the next one, or -EAGAIN. Under rx_lock. */
long vs_inbox_next(struct vs_inbox *in);

/* Whether anything lies in it. */
static inline bool vs_inbox_has(struct vs_inbox *in)
{
	return VS_INBOX_TAIL(atomic_load_explicit(&in->word, memory_order_acquire)) != atomic_load_explicit(&in->head, memory_order_relaxed);
}

static inline enum vs_inbox_state vs_inbox_state(struct vs_inbox *in)
{
	return (enum vs_inbox_state)VS_INBOX_STATE(atomic_load_explicit(&in->word, memory_order_acquire));
}

/* The receiver may sleep: true when datagrams take the kernel from now on. False: something lies in. */
static inline bool vs_inbox_arm(struct vs_inbox *in)
{
	uint64_t w = atomic_load(&in->word);
	do {
		if (VS_INBOX_TAIL(w) != atomic_load(&in->head))
			return false;
		if (VS_INBOX_STATE(w) != VS_INBOX_OPEN)
			return true;
	} while (!atomic_compare_exchange_weak(&in->word, &w, VS_INBOX_WORD(VS_INBOX_TAIL(w), VS_INBOX_ARMED)));
	return true;
}

/* Whatever state it is in. Opening is for who knows that all of the socket's waits look here first. */
static inline void vs_inbox_set(struct vs_inbox *in, enum vs_inbox_state state)
{
	uint64_t w = atomic_load(&in->word);
	while (!atomic_compare_exchange_weak(&in->word, &w, VS_INBOX_WORD(VS_INBOX_TAIL(w), state)))
		;
}

#endif
