/* epoch.h - what sending and receiving share: boundaries and the doorbell's word. */
#ifndef VS_EPOCH_H
#define VS_EPOCH_H

#include "conn.h"
#include "lock.h"

static inline bool vs_epoch_is_ring(uint32_t epoch) { return epoch & 1; }

static inline struct vs_boundary *vs_boundary_of(struct vs_dir *d, uint32_t epoch)
{
	return &d->boundary[epoch % VS_BOUNDARIES];
}

static inline bool vs_size_ok(uint32_t size)
{
	return size >= VS_RING_MIN && size <= VS_RING_MAX && (size & (size - 1)) == 0;
}

/* The slot still belongs to the connection that the descriptor's word was made for. */
static inline bool vs_conn_current(const struct vs_conn *c)
{
	return atomic_load_explicit(&c->slot->gen, memory_order_relaxed) == c->gen;
}

/* The shared state makes no sense: the connection is left to the kernel, which means that the ring's bytes are lost. */
static inline void vs_corrupt(struct vs_dir *d) { atomic_fetch_or(&d->plain, VS_PLAIN_CORRUPT); }

/* Begins the plain epoch that follows the ring epoch the direction is in. Under tx_lock. */
void vs_tx_end_ring(struct vs_dir *d);

/* One byte on the twin tells whoever waits on it (the bell's word is RINGING). False when the receiver is gone. Under tx_lock. */
bool vs_tx_ring_bell(struct vs_dir *d, int fd);
/* Only the byte: the word says RUNG already. */
bool vs_tx_send_bell(struct vs_dir *d, int fd);

/* Sends what a receiver has given back (VS_FROZEN) as far as the twin takes it. Under tx_lock. 0 when nothing is left, -EAGAIN,
 * -errno. */
long vs_tx_give_back(const struct vs_conn *c, int fd);

/* Rings for data that lies in the ring unannounced, if the receiver has asked (VS_ARMED). Under tx_lock. */
bool vs_tx_ring_asked(const struct vs_conn *c, int fd);

/* Starts this process's helper thread if there is none; false when that is impossible. */
bool vs_helper_start(const struct vs_conn *c);
/* Asks the process at the other end to send what it has been given back, or to ring for what is in the ring. */
/* Wakes the helper thread of the process that sends for an end. */
void vs_helper_ask(const struct vs_conn *c, int side);
void vs_helper_ask_peer(const struct vs_conn *c);

#endif
