/*
 * link.h - a connection's queue pair in this process, from the search for its other end to its end.
 *
 * Locks, in this order: tx_lock or rx_lock of the slot; poll_lock (one a process: whoever has it takes completions and changes what the
 * other end may change in slots). Whoever takes completions only tries for tx_lock, and leaves to the agent what it cannot do.
 */
#ifndef VS_LINK_H
#define VS_LINK_H

#include "../remote.h"
#include "datagram.h"
#include "device.h"
#include "group.h"
#include "note.h"

enum vs_link_state {
	VS_LINK_NONE,
	VS_LINK_FINDING,
	VS_LINK_HELLO,
	VS_LINK_OFFERED,
	VS_LINK_UP,
	VS_LINK_OVER, /* for good */
};

/* What the sender of a link that is no more had answered: the answer may have been lost. */
struct vs_past {
	uint64_t cookie[2], peer_cookie[2];
	uint16_t peer_port;
	struct vs_datagram answer;
};

struct vs_link {
	struct vs_conn c;
	int fd; /* a hint */
	_Atomic uint32_t state;
	struct vs_group_member member; /* of those who choose the road together */
	_Atomic uint32_t choosing; /* a lock: lost samples do not matter */
	struct vs_past past;
	uint64_t up_ns;
	unsigned restarts;
	/* the agent's */
	uint16_t peer_port;
	unsigned tries;
	uint64_t next_ns; /* when to try again; 0: not by itself */
	uint64_t cookie[2], peer_cookie[2];
	struct vs_qp_address own, peer;
	/* the queue pair; made by the agent, destroyed under all locks */
	struct ibv_qp *_Atomic qp;
	_Atomic uint32_t posting; /* threads that are about to send, or make it: they use the queue pair and the notes */
	struct ibv_mr *mr[3]; /* ring we send, ring we receive, notes */
	struct vs_note *notes; /* VS_RECVS to receive, then 2 * VS_SENDS to send */
	uint32_t qp_number;
	_Atomic uint32_t outstanding, next_note;
	_Atomic bool broken, heard, gone; /* gone: the other end has closed the connection */
	/* as receiver */
	_Atomic bool granted, grant_wanted;
	uint64_t grant_number; /* of the question that waits for its answer */
	uint64_t told_head;
	uint32_t told_epoch;
	bool rx_frozen; /* under poll_lock: what arrives is not taken */
	_Atomic bool freezing, thawed;
	struct vs_datagram thaw; /* the sender's answer, before `thawed` */
	uint32_t freeze_epoch;
	uint64_t freeze_ring;
	/* as sender */
	bool begun; /* the receiver knows of the ring epoch: before, a doorbell would be data to him */
	uint64_t asked_ns;
	_Atomic uint64_t ask_number; /* of the last question; answers to others, and to what was withdrawn, are out of date */
	_Atomic bool position_wanted, greeted;
	_Atomic bool arm_wanted; /* a doorbell has come whose data had been read */
	_Atomic bool peer_grants, bell_wanted, freeze_asked, peer_wants_rc;
	uint32_t ask_epoch;
	uint64_t ask_ring, known_head;
	struct vs_datagram answer; /* to a freeze, for repetitions */
	_Atomic bool answered; /* and no ring epoch of ours follows */
};

extern _Atomic uint32_t vs_poll_lock;

/* The link of a connection if this process has one, in whatever state. */
struct vs_link *vs_link_of(const struct vs_conn *c);
/* Calls `f` with every link that is not NONE. */
void vs_link_each(void (*f)(struct vs_link *l, void *arg), void *arg);
/* A link for a connection that has none. NULL: no memory. */
struct vs_link *vs_link_make(const struct vs_conn *c, int fd);

/* Makes queue pair and memory regions. False with the reason. */
bool vs_link_create(struct vs_link *l, struct vs_device *d, const char **why);
/* The next state, unless the connection has been closed (NONE): then false. */
bool vs_link_go_on(struct vs_link *l, enum vs_link_state state);
bool vs_link_connect(struct vs_link *l, struct vs_device *d);
/* From now on the connection is the link's. */
void vs_link_up(struct vs_link *l);
/* Nothing will arrive any more. The slot's locks are held, or nobody else uses it. */
void vs_link_destroy(struct vs_link *l);

/* After vs_link_destroy(), of a link that was never up: begins anew after a while. False: it is not worth it, or not possible now. */
bool vs_link_retry(struct vs_link *l, uint64_t now_ns);
/* When nothing is left of a link that failed or was left: begins anew after a while. False: not yet. */
bool vs_link_restart(struct vs_link *l, uint64_t now_ns);

/* The other end is gone: nothing is waited for any more. */
void vs_link_gone(struct vs_link *l);

void vs_link_poll(void);
/* The device whose completions are taken. */
void vs_link_use_device(struct vs_device *d);
struct vs_device *vs_link_device(void);
/* RDMAKIT_SOCKET_RING=always: no choice by measurement. */
bool vs_link_always(void);
/* Under tx_lock: what the receiver has asked for. */
void vs_link_thaw(struct vs_link *l);
/* Under rx_lock: applies the sender's answer if there is one. */
void vs_link_settle(struct vs_link *l);
/* Rings for the receiver, who asked, if it is still to be done. False: somebody is sending at the moment. */
bool vs_link_ring(struct vs_link *l);
/* Asks for another doorbell, because the last one was heard of when its data had been read. Under rx_lock. */
void vs_link_arm_again(struct vs_link *l);
void vs_link_position(struct vs_link *l, uint8_t flags, uint64_t seen);
/* Stops taking what arrives, and says up to where it was taken. */
void vs_link_stop(struct vs_link *l, bool keep);

/* ops.c: sets vs_remote. Happens by itself where the file is linked; programs that take it from an archive call it. */
void vs_remote_install(void);

/* agent.c */
/* Starts the thread if there is none. */
bool vs_agent_start(void);
void vs_agent_wake(void);
void vs_agent_send(struct vs_link *l, enum vs_datagram_kind kind);
uint16_t vs_agent_port(void);
uint64_t vs_agent_netns(void);
/* Says `d` (its port is filled in) from one address to a port at another; port 0: to the well-known one. */
void vs_agent_say(const struct vs_datagram *d, const uint8_t from[16], const uint8_t to[16], uint16_t port);
/* To another process of this host, with the index of the network device that it came by. */
void vs_agent_pass_on(const struct vs_datagram *d, uint32_t network_device, uint16_t port);
void vs_agent_forked(void);
extern _Atomic uint32_t vs_polls; /* counts polls of applications */

#endif
