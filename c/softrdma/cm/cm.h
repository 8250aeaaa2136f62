/*
 * cm.h - librdmacm from the inside: identifiers, channels and events over the state machine of machine.h.
 *
 *   mad, table, timers, send, machine, receive   the protocol: pure
 *   world                                        the process's one machine, its lock and thread
 *   devices, sockaddr, address                   which device and address
 *   channel, identifier                          events and identifiers
 *   listen, connect, qp, multicast, endpoint     what applications do with them
 *
 * One mutex, cm.lock, guards the machine and everything here. Verbs calls are made without it, in the application's own
 * threads, because they may take long. Functions whose name ends in _locked are called with it.
 */
#ifndef SR_CM_H
#define SR_CM_H
#include <pthread.h>
#include <rdma/rdma_cma.h>
#include "machine.h"

struct sr_cm_channel {
	struct rdma_event_channel channel; /* fd: an eventfd, readable exactly while events wait */
	struct sr_list events;		   /* of sr_cm_event.node */
	struct sr_list node;		   /* of those that live (channel.c) */
	unsigned waiters;		   /* threads in rdma_get_cm_event() */
	bool dead;			   /* destroyed under them */
};

struct sr_cm_options {
	uint8_t tos;
	bool reuse;
	int8_t afonly; /* -1: the system's default */
	bool ack_timeout_set;
	uint8_t ack_timeout;
};

struct sr_cm_id {
	struct rdma_cm_id id;
	struct sr_list node;	   /* in cm.ids */
	bool sync;		   /* the channel is ours, and calls wait for their event */
	bool bound, addr_resolved, route_resolved, listening, connecting;
	bool removed;		   /* its device is gone and it was told */
	struct ibv_context *_Atomic watched; /* id.verbs, for the thread that watches devices: it looks without asking the owner */
	int port_row;		   /* of the shared table of ports, -1 none */
	int backlog, waiting;	   /* listener: requests that wait to be fetched */
	struct sr_cm_conn *conn;   /* NULL while there is none */
	union ibv_gid gid;	   /* our address on the device */
	int gid_index;
	struct sr_cm_options options;
	uint8_t responder_resources, initiator_depth;
	struct ibv_qp_init_attr *qp_init_attr; /* of rdma_create_ep(): for the identifiers of requests */
	void *connect_data;	   /* of rdma_create_ep(): goes before private data */
	size_t connect_len;
	struct sr_list groups;	   /* multicast.c */
	struct ibv_ece ece;
	uint32_t handed_out, acknowledged; /* events */
	pthread_cond_t all_acknowledged;
};

struct sr_cm_group;

struct sr_cm_event {
	struct rdma_cm_event ev;
	struct sr_list node;
	struct sr_cm_id *owner; /* whose destruction waits until it is acknowledged */
	struct sr_cm_group *group;
	bool rep;		/* the peer accepted; the queue pair is set up when this is fetched */
	uint8_t private_data[SR_CM_PRIVATE_MAX];
};

struct sr_cm_world {
	pthread_mutex_t lock;
	bool started;
	struct sr_cm_machine machine;
	struct sr_list ids;
	uint64_t wake_ns; /* when the thread will look at the timers */
	int gsi_fd, wake_fd, netlink_fd, returns_fd;
};
extern struct sr_cm_world cm;

static inline struct sr_cm_id *sr_cm_id(struct rdma_cm_id *id) { return (struct sr_cm_id *)id; }
static inline struct sr_cm_channel *sr_cm_channel(struct rdma_event_channel *c) { return (struct sr_cm_channel *)c; }
/* Sets errno; 0 for 0, else -1. */
int sr_cm_result(int err);

/* world.c */
int sr_cm_start(void); /* 0 or errno */
uint64_t sr_cm_now_ns(void);
void sr_cm_lock(void);
void sr_cm_unlock(void); /* wakes the thread when a timer was set that it does not know */

/* devices.c: the device (opened once and for all) that has the address, on interface `ifindex` unless that is 0. NULL: none. */
struct ibv_context *sr_cm_device_of(const union ibv_gid *gid, uint32_t ifindex, int *gid_index);
/* The protection domain of identifiers that bring none. NULL and errno on failure. */
struct ibv_pd *sr_cm_default_pd(struct ibv_context *context);
/* Likewise their XRC domain. */
struct ibv_xrcd *sr_cm_default_xrcd(struct ibv_context *context);

/* sockaddr.c */
bool sr_cm_gid_of(const struct sockaddr *sa, union ibv_gid *gid); /* false: not an IP address */
void sr_cm_sockaddr_of(const union ibv_gid *gid, uint16_t port, uint32_t scope, struct sockaddr_storage *sa);
socklen_t sr_cm_sockaddr_len(const struct sockaddr *sa); /* 0: not an IP address */
uint16_t sr_cm_port_of(const struct sockaddr *sa);	 /* host order */
void sr_cm_set_port(struct sockaddr *sa, uint16_t port);
bool sr_cm_is_any(const struct sockaddr *sa);
bool sr_cm_is_loopback(const struct sockaddr *sa);
bool sr_cm_is_multicast(const struct sockaddr *sa);
uint32_t sr_cm_scope_of(const struct sockaddr *sa);

/* channel.c */
struct sr_cm_event *sr_cm_event_new(struct sr_cm_id *id, enum rdma_cm_event_type type, int status);
void sr_cm_event_push_locked(struct sr_cm_event *e);
/* The two in one; out of memory loses the event. */
void sr_cm_post_locked(struct sr_cm_id *id, enum rdma_cm_event_type type, int status);
struct sr_cm_channel *sr_cm_channel_new(void);
void sr_cm_channel_free(struct sr_cm_channel *c);
/* Takes the identifier's events out of its channel; calls drop() for each and frees it. */
void sr_cm_events_drop_locked(struct sr_cm_id *id, void (*drop)(struct sr_cm_event *e));
/* A synchronous identifier's calls end here: waits for the next event and gives its status. 0, or -1 and errno. */
int sr_cm_complete(struct sr_cm_id *id);

/* identifier.c */
struct sr_cm_id *sr_cm_id_new(struct rdma_event_channel *channel, void *context, enum rdma_port_space ps, enum ibv_qp_type type);
void sr_cm_id_free(struct sr_cm_id *id);

/* address.c */
void sr_cm_path_of(const struct sr_cm_id *id, struct sr_gsi_path *path);
/* Binds the identifier to a device. 0 or errno. */
int sr_cm_attach_device(struct sr_cm_id *id, const union ibv_gid *gid, uint32_t ifindex);
int sr_cm_fill_path(struct sr_cm_id *id);

/* listen.c: the machine's `request`, and what becomes of requests whose listener goes away */
int sr_cm_on_request(void *arg, struct sr_cm_conn *c, const struct sr_cm_mad *m);
void sr_cm_drop_request(struct sr_cm_event *e);

/* connect.c: the machine's `event` */
void sr_cm_on_event(void *arg, struct sr_cm_conn *c, const struct sr_cm_happening *h);
/* An accepted connection is set up: in the thread that fetches the event. */
void sr_cm_finish_connect(struct sr_cm_event *e);

/* qp.c: 0 or errno */
int sr_cm_qp_to_rts(struct sr_cm_id *id);
void sr_cm_qp_to_error(struct sr_cm_id *id);

/* multicast.c */
void sr_cm_finish_join(struct sr_cm_event *e);
void sr_cm_acknowledge_join(struct sr_cm_group *g);
void sr_cm_leave_all(struct sr_cm_id *id);
#endif
