/*
 * datagram.h - how the ends of a TCP connection find each other beside it: UDP datagrams to a port that every process under socket-run
 * listens on. Side 0 of the connection's key leads.
 *
 *   FIND   "this connection's end is at my port": to the well-known port; whoever gets it passes it on to the process that has the other end
 *   HELLO  side 0: my cookie                        ->
 *   COOKIE                                          <- side 1: yours and mine
 *   OFFER  side 0: both cookies, my queue pair      ->
 *   ACCEPT                                          <- side 1: both cookies, my queue pair
 *
 * and while the link lives, for what cannot go through the queue pair (any more):
 *
 *   BROKEN  sender: the queue pair failed, tell me what you have
 *   FREEZE  receiver: I have the ring up to `ring`, of epoch `epoch`; put the rest on the twin
 *   THAW    sender: the epoch ended there; `twin` doorbells and all lie before what follows
 *   BYE     the link is gone
 *
 * Of UDP sockets (from, to: of the datagrams that are sent; sent again and again while there are any):
 *
 *   UD_ASK     sender: my cookie, and whether I want to use the queue pair (`twin`); to the well-known port at first, whoever gets it passes it on (with `epoch`: the device it came by)
 *   UD_ANSWER  receiver: yours and mine, my queue pair, where in it (`qp.ring`), whether it is open now (`twin`)
 *   UD_STOP    receiver: of round `twin`, what comes from number `ring` on was not taken: it shall take the kernel
 *
 * A cookie is 128 random bits that only whoever receives at the connection's own peer address has seen: no other host can take part,
 * whatever it knows of the addresses and ports. Every datagram after HELLO must carry both.
 */
#ifndef VS_DATAGRAM_H
#define VS_DATAGRAM_H

#include "../layout.h"
#include <stddef.h>

#define VS_DATAGRAM_BYTES 192
/* Beside RoCE v2's 4791; RDMAKIT_SOCKET_PORT names another. */
#define VS_DATAGRAM_PORT 4796

enum vs_datagram_kind { VS_FIND = 1, VS_HELLO, VS_COOKIE, VS_OFFER, VS_ACCEPT, VS_BROKEN, VS_FREEZE, VS_THAW, VS_BYE, VS_UD_ASK, VS_UD_ANSWER, VS_UD_STOP };

/* How a queue pair is reached. */
struct vs_qp_address {
	uint8_t gid[16];
	uint32_t number, psn, rkey;
	uint64_t ring;
	uint8_t mtu; /* enum ibv_mtu */
	uint16_t lid;
};

struct vs_datagram {
	enum vs_datagram_kind kind;
	struct vs_endpoint from, to; /* of the TCP connection, as the sender of the datagram sees it */
	uint16_t port;		     /* host order: of the sender's process */
	uint64_t cookie[2], your_cookie[2];
	struct vs_qp_address qp;
	uint32_t epoch;
	uint64_t ring, twin, twin_start;
};

void vs_datagram_write(const struct vs_datagram *d, uint8_t out[VS_DATAGRAM_BYTES]);
/* False: it is none of ours. */
bool vs_datagram_read(struct vs_datagram *d, const uint8_t *in, size_t len);

#endif
