/*
 * ud.h - datagrams of UDP sockets on one UD queue pair of the process.
 *
 * Who sends to another host asks its agents where the datagrams are received (ud-send.c); who receives them says so as long as the kernel
 * over there would give them to a socket with an open inbox (ud-receive.c), and lays them in. A receiver that may sleep is woken
 * by the kernel only, as inside a host: what finds its inbox shut is not taken, and the sender, who still has it, puts it and what follows
 * on the kernel's way, in order.
 *
 * Locks, in this order: the lock of the sending socket; vs_poll_lock (leases, completions); the lock of the send buffers.
 */
#ifndef VS_UD_H
#define VS_UD_H

#include "../remote.h"
#include "datagram.h"
#include "device.h"
#include "ud-part.h"

/* The process's queue pair. */

/* Makes it if there is none yet; the agent's. False: there is no device with this address, or it cannot be made. */
bool vs_ud_open(const uint8_t address[16]);
bool vs_ud_is_open(void);
/* How it is reached; `ring` is the caller's. */
void vs_ud_address(struct vs_qp_address *own);
/* The most that one SEND to a peer of this MTU (enum ibv_mtu) carries, heads not counted. */
uint32_t vs_ud_room(uint8_t mtu);
struct ibv_ah *vs_ud_way(const struct vs_qp_address *peer);
void vs_ud_drop_way(struct ibv_ah *way);
/* Sends the datagram that the cursor stands at, in parts of `room` bytes; `p` tells the rest. False: there was no room for it within some milliseconds, or no
 * queue pair any more. */
bool vs_ud_post(struct ibv_ah *way, const struct vs_qp_address *peer, uint32_t room, struct vs_ud_part p, struct vs_cursor *c);
/* Calls `f` with each datagram of `lease`, `token` and `round`, from number `from` on, that the send buffers still hold, in order. */
void vs_ud_recall(const struct vs_ud_part *of, void (*f)(const unsigned char *bytes, size_t len, void *arg), void *arg);
/* A completion of this queue pair, under vs_poll_lock. */
#define VS_WR_UD (UINT64_C(1) << 40)
void vs_ud_completion(const struct ibv_wc *wc);
/* The other end of it: what has come, without the global route header. */
void vs_ud_arrived(const unsigned char *bytes, size_t n);

/* Conversation between agents. */

/* A datagram of kind VS_UD_* from `sender`'s address (which is d->from's, unless `passed_on` by another process of this host). */
void vs_ud_heard(const struct vs_datagram *d, uint32_t network_device, bool passed_on);
/* One that came back from this port, because nobody has it. */
void vs_ud_returned(const struct vs_datagram *d, uint16_t port);
/* What is to be done now; the agent's. Returns when to call again, UINT64_MAX: when it is woken. */
uint64_t vs_ud_tick(uint64_t now_ns);

/* Sending (ud-send.c): operations of remote.h. */
uint64_t vs_ud_far(const struct vs_far_sender *s, const struct vs_endpoint *from, const struct vs_endpoint *to);
long vs_ud_send(uint64_t far, struct vs_cursor *c);
void vs_ud_left(const void *owner, _Atomic uint32_t *lock);
void vs_ud_take_answer(const struct vs_datagram *d);
/* The end at `there`, who sends to the one here by the queue pair, or does not, wishes to. */
void vs_ud_heed(const struct vs_endpoint *here, const struct vs_endpoint *there, bool wish);
void vs_ud_take_stop(const struct vs_datagram *d);
void vs_ud_nobody(const struct vs_datagram *d, uint16_t port);
uint64_t vs_ud_tick_senders(uint64_t now_ns);
void vs_ud_forget_senders(void);

/* Receiving (ud-receive.c). */
void vs_ud_take_ask(const struct vs_datagram *d, uint32_t network_device);
void vs_ud_forget_receivers(void);

void vs_ud_forked(void);

#endif
