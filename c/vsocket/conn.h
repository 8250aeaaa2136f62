/*
 * conn.h - an accelerated connection: its epochs, and moving its bytes. Functions that transfer return bytes, 0 at the end of the
 * stream, -errno, or VS_NATIVE: the direction is the kernel's at the moment, make the kernel's call.
 */
#ifndef VS_CONN_H
#define VS_CONN_H

#include "fdtable.h"
#include "ring.h"
#include <sys/types.h>

#define VS_NATIVE (-4095L)
/* As VS_NATIVE, and vs_tx_native_done() or vs_rx_native_done() must follow. */
#define VS_COUNTED (-4094L)

/* Sends through the ring, or says that the kernel should. `*done`: bytes that went through the ring before VS_COUNTED: the caller
 * sends the rest (the kernel's flow control applies to it) and reports the sum. Flags are the application's. */
long vs_conn_send(const struct vs_conn *c, int fd, struct vs_cursor *from, int flags, size_t *done);
/* `result`: of the kernel's call. */
void vs_tx_native_done(const struct vs_conn *c, long result);
bool vs_tx_in_ring(const struct vs_conn *c);
/* Ends the ring epoch for one call of the kernel's; true when vs_tx_native_done() must follow. */
bool vs_tx_begin_native(const struct vs_conn *c, int fd);

/* Counts the calls of the kernel's that this thread has made: what it did may have made something ready, or ended a connection, and it
 * expects to see that at once. What others do may be seen some microseconds later. */
extern __thread uint32_t vs_acts __attribute__((tls_model("initial-exec")));

/* Receives from ring and twin. Blocks as the descriptor's flags and `flags` say. `wait` is the C library's recv(), which is where a
 * blocked thread sleeps, so that signals, time-outs and cancellation are the kernel's. */
typedef ssize_t vs_recv_fn(int fd, void *buf, size_t len, int flags);
long vs_conn_recv(const struct vs_conn *c, int fd, struct vs_cursor *to, int flags, vs_recv_fn *wait);
void vs_rx_native_done(const struct vs_conn *c);

/* Whether a read would find something in the ring now. */
bool vs_rx_ring_ready(const struct vs_conn *c);
/* Whether the ring has a part in what is read next. */
bool vs_rx_in_ring(const struct vs_conn *c);
/* The ring is all that is read next, as far as the sender has come. */
bool vs_rx_only_ring(const struct vs_conn *c);
/* Bytes a read would find, given what the kernel says of the twin's queue. */
size_t vs_rx_pending(const struct vs_conn *c, int fd, size_t twin_queue);
/* Around a kernel wait on the descriptor, outside of vs_rx_arm(). */
void vs_rx_sleep(const struct vs_conn *c);
void vs_rx_wake(const struct vs_conn *c);
/* Asks for a doorbell. False when there is data already. */
bool vs_rx_arm(const struct vs_conn *c, int fd);
/* Asks for whatever notice its waiters need. False when there is data already. */
bool vs_rx_list(const struct vs_conn *c, int fd);
/* The same for when the ring was found to be empty after a notice. False: the sender is in the middle of ringing, ask again. */
bool vs_rx_quiet(const struct vs_conn *c, int fd);
/* An edge-triggered waiter has been told: new data are an edge of their own, whether or not he has read what there was. False: the sender
 * is in the middle of ringing, tell it again. */
bool vs_rx_edge_used(const struct vs_conn *c);
bool vs_rx_is_edge_used(const struct vs_conn *c);
/* There is data in the ring of which threads that sleep in the kernel know nothing: asks the sender's side for a doorbell. True when it
 * was asked. */
bool vs_rx_announce(const struct vs_conn *c, int fd);
/* After a kernel wait that said readable: true when a read would return something, not only take a doorbell away. */
bool vs_rx_woken(const struct vs_conn *c, int fd);
/* From now on somebody may wait on it in ways that we do not see. */
void vs_rx_set_eager(const struct vs_conn *c, int fd);

/* Ends ring epochs: what was sent before goes before what the kernel sends from now on. */
void vs_tx_demote(const struct vs_conn *c, int fd, enum vs_plain why);
/* Stops reading the ring; unread bytes are moved to the twin by the sender. For handing the descriptor to strangers. */
void vs_rx_demote(const struct vs_conn *c, int fd, enum vs_plain why);
/* A descriptor has been attached: what the receiver has given back while nobody here could send it is sent. */
void vs_tx_resume(const struct vs_conn *c, int fd);
/* A descriptor that was passed on is used by the library again: its rings may be. */
void vs_conn_returned(const struct vs_conn *c);

/* The last descriptor of this process for the end is gone. */
void vs_conn_left(const struct vs_conn *c);
/* Just before the last descriptor is closed: what the kernel would do with unread data, it must do with ours. */
void vs_conn_closing(const struct vs_conn *c, int fd);

/* Before the direction is shut down or closed, or (`goes_on`) left to others: ends its ring epochs, and what was given back goes first. */
void vs_tx_closing(const struct vs_conn *c, int fd, bool goes_on);
/* In a forked child: threads of the library are gone. */
void vs_conn_forked(void);

#endif
