/*
 * gsi.h - queue pair 1, the general services interface, by which librdmacm speaks: whole management datagrams (MADs) in and
 * out. Exported by libibverbs.so.1 for librdmacm.so.1 (version node RDMAKIT_1).
 *
 * All processes share UDP 4791, and queue pair 1 is the same number in all of them, so a MAD may arrive anywhere. Whoever
 * gets it looks whom it is for: a request names a service that is listened to (shm/ports.h), everything else carries the
 * communication ID that the receiver made, whose top byte is its slot. It is passed on as packets for other processes' queue
 * pairs are (steer.h). Nobody has to be in charge, so nobody can die in charge. What no living process claims is answered
 * here: "invalid service" to a request, "disconnected" to a disconnect request, "invalid ID" to a reply.
 *
 * To addresses of this host MADs go straight to that process, so connections work where another user has the UDP port.
 */
#ifndef SR_WIRE_GSI_H
#define SR_WIRE_GSI_H
#include <infiniband/verbs.h>
#include <stdbool.h>
#include <stdint.h>

#define SR_QPN_GSI 1u
#define SR_GSI_QKEY 0x80010000u
#define SR_MAD_BYTES 256

/* Addresses are GIDs (::ffff:a.b.c.d for IPv4). */
struct sr_gsi_path {
	union ibv_gid local, remote;
	uint32_t ifindex; /* of link-local addresses; else 0 */
	uint32_t flow_label;
	uint8_t traffic_class;
};

struct sr_gsi_mad {
	struct sr_gsi_path path;
	uint8_t bytes[SR_MAD_BYTES];
};

/* The communication IDs of this process begin with this byte. 0 before rdmakit_gsi_open(). */
unsigned rdmakit_gsi_slot(void);
/* Starts the device. Returns a descriptor that is readable while MADs wait (the library's: do not close it), or -errno. From now
 * on MADs for this process are kept, up to a bound; beyond it they are dropped and counted. */
int rdmakit_gsi_open(void);
/* Takes up to `max` MADs. Returns their number. */
int rdmakit_gsi_receive(struct sr_gsi_mad *mads, int max);
/* Sends one. 0, or the errno for which this road is closed; what is lost on the way is not known. */
int rdmakit_gsi_send(const struct sr_gsi_path *path, const uint8_t mad[SR_MAD_BYTES]);
/* A socket whose state is POLLERR while MADs wait that came back, -1 none; and these, up to `max`: no process of that host has the
 * UDP port. Whoever knows their random numbers may have made them up. Returns their number. */
int rdmakit_gsi_returns_fd(void);
int rdmakit_gsi_returned(struct sr_gsi_mad *mads, int max);
/* Index of the row of the device's GID table that has this address, -1 when there is none. */
int rdmakit_gid_index(struct ibv_device *device, const union ibv_gid *gid);
/* Interface of a device, and whether it is gone. */
uint32_t rdmakit_device_ifindex(struct ibv_device *device);
bool rdmakit_device_gone(struct ibv_device *device);
/* A cryptographically random number. */
uint32_t rdmakit_random32(void);

/* Inside the device; under sr.lock. A packet for queue pair 1, its ICRC already checked. */
struct sr_rx_meta;
struct sr_pkt;
void sr_gsi_receive(const struct sr_rx_meta *meta, const struct sr_pkt *p, const uint8_t *packet, size_t len, bool forwarded);
void sr_gsi_after_fork(void);
#endif
