/* gsi.c - queue pair 1; see gsi.h. */
#define _GNU_SOURCE
#include "gsi.h"
#include <errno.h>
#include <linux/errqueue.h>
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "../cm/mad.h"
#include "../device/device.h"
#include "../engine/key.h"
#include "../engine/lock.h"
#include "../shm/ports.h"
#include "../shm/registry.h"
#include "bytes.h"
#include "wire.h"

#define QUEUE 1024 /* MADs that wait for librdmacm; a power of two */

/* Under sr.lock. */
static struct {
	int fd; /* eventfd; readable while the queue is not empty */
	struct sr_gsi_mad *queue;
	uint32_t head, tail;
	uint32_t psn;
} gsi = { .fd = -1 };

unsigned rdmakit_gsi_slot(void) { return sr.slot; }
uint32_t rdmakit_random32(void)
{
	sr_lock();
	uint32_t value = sr_random32();
	sr_unlock();
	return value;
}

int rdmakit_gsi_open(void)
{
	int err = sr_engine_start();
	if (err)
		return -err;
	sr_device_freshen(); /* a listener opens no device, and the receiver must know our addresses (demux.c) */
	sr_lock();
	if (gsi.fd < 0) {
		gsi.queue = malloc(QUEUE * sizeof(*gsi.queue));
		gsi.fd = gsi.queue ? eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) : -1;
		gsi.head = gsi.tail = 0;
	}
	int fd = gsi.fd;
	sr_unlock();
	return fd < 0 ? -ENOMEM : fd;
}

void sr_gsi_after_fork(void)
{
	if (gsi.fd >= 0)
		close(gsi.fd);
	gsi.fd = -1;
	gsi.queue = NULL; /* a fork is no place to free */
}

int rdmakit_gsi_receive(struct sr_gsi_mad *mads, int max)
{
	uint64_t n;
	int count = 0;
	sr_lock();
	while (gsi.fd >= 0 && count < max && gsi.tail != gsi.head)
		mads[count++] = gsi.queue[gsi.tail++ % QUEUE];
	if (gsi.fd >= 0 && gsi.tail == gsi.head && read(gsi.fd, &n, sizeof(n)) < 0) {
		/* EAGAIN: it was empty before */
	}
	sr_unlock();
	return count;
}

static void enqueue(const struct sr_gsi_path *path, const uint8_t *mad)
{
	uint64_t one = 1;
	if (gsi.fd < 0 || gsi.head - gsi.tail == QUEUE) {
		SR_COUNT(gsi_dropped);
		return;
	}
	struct sr_gsi_mad *m = &gsi.queue[gsi.head++ % QUEUE];
	m->path = *path;
	memcpy(m->bytes, mad, SR_MAD_BYTES);
	SR_COUNT(gsi_received);
	if (write(gsi.fd, &one, sizeof(one)) < 0) {
		/* it is readable already */
	}
}

/* The slot of the process that a MAD to the address `to` is for; 0: nobody's. */
static unsigned owner(const uint8_t *mad, const union ibv_gid *to)
{
	struct sr_cm_service service;
	if (sr_cm_service_of(mad, &service))
		return sr_port_listener(service.space, service.port, to);
	unsigned slot = sr_cm_receiver_id(mad) >> 24;
	return slot != 0 && slot < SR_SLOTS - 1 && sr_registry_alive(slot) ? slot : 0;
}

static struct sr_pkt header(void)
{
	/* Source and destination are queue pair 1. The rest is what the kernel's Soft-RoCE sends. */
	return (struct sr_pkt){ .opcode = SR_OP_UD_SEND_ONLY, .ackreq = true, .pkey = SR_DEFAULT_PKEY, .qpn = SR_QPN_GSI,
				.psn = gsi.psn++ & SR_PSN_MASK, .qkey = SR_GSI_QKEY, .src_qpn = SR_QPN_GSI,
				.payload_len = SR_MAD_BYTES };
}

static void path_of(const struct sr_gsi_path *p, struct sr_path *path)
{
	struct sr_av av = { .dgid = p->remote, .sgid = p->local, .traffic_class = p->traffic_class, .scope_ifindex = p->ifindex };
	sr_path_init_gsi(path, &av);
}

int rdmakit_gsi_returns_fd(void)
{
	sr_lock();
	const struct sr_sender *s = sr_wire.fd >= 0 ? sr_port_gsi_sender() : NULL;
	int fd = s && s->returns ? s->fd : -1;
	sr_unlock();
	return fd;
}

static bool says_unreachable_port(const struct sock_extended_err *e)
{
	return (e->ee_origin == SO_EE_ORIGIN_ICMP && e->ee_type == ICMP_DEST_UNREACH && e->ee_code == ICMP_PORT_UNREACH) ||
	       (e->ee_origin == SO_EE_ORIGIN_ICMP6 && e->ee_type == ICMP6_DST_UNREACH && e->ee_code == ICMP6_DST_UNREACH_NOPORT);
}

/* Takes one error off the socket. 1: a MAD that came back; 0: something else; -1: there are no more. */
static int take_returned(int fd, struct sr_gsi_mad *mad)
{
	uint8_t packet[SR_HEADERS_MAX + SR_MAD_BYTES + SR_ICRC_BYTES];
	struct sockaddr_in6 to = { 0 };
	union {
		struct cmsghdr align;
		uint8_t bytes[256];
	} control;
	struct iovec piece = { packet, sizeof(packet) };
	struct msghdr m = { .msg_name = &to, .msg_namelen = sizeof(to), .msg_iov = &piece, .msg_iovlen = 1, .msg_control = &control,
			    .msg_controllen = sizeof(control) };
	struct sr_pkt p;
	bool unreachable = false;
	ssize_t len = recvmsg(fd, &m, MSG_ERRQUEUE | MSG_DONTWAIT);
	if (len < 0)
		return -1;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		struct sock_extended_err e;
		bool error = (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_RECVERR) ||
			     (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_RECVERR);
		if (!error)
			continue;
		memcpy(&e, CMSG_DATA(c), sizeof(e));
		unreachable = says_unreachable_port(&e);
	}
	if (!unreachable || to.sin6_family != AF_INET6 || 
	    sr_pkt_decode(&p, packet, (size_t)len) != SR_PKT_OK || p.payload_len != SR_MAD_BYTES)
		return 0;
	*mad = (struct sr_gsi_mad){ 0 };
	memcpy(mad->path.remote.raw, &to.sin6_addr, 16);
	memcpy(mad->bytes, p.payload, SR_MAD_BYTES);
	return 1;
}

int rdmakit_gsi_returned(struct sr_gsi_mad *mads, int max)
{
	int fd = rdmakit_gsi_returns_fd(), count = 0, taken = 0, error;
	socklen_t len = sizeof(error);
	while (fd >= 0 && count < max && (taken = take_returned(fd, &mads[count])) >= 0)
		count += taken;
	if (taken < 0) /* one that found no room in the queue: POLLERR would stay */
		(void)getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
	return count;
}

static void send_packet(const struct sr_gsi_path *p, const uint8_t *mad)
{
	struct sr_path path;
	struct sr_pkt pkt = header();
	struct iovec payload = { (void *)(uintptr_t)mad, SR_MAD_BYTES };
	path_of(p, &path);
	sr_tx_packet(&path, &pkt, &payload, 1);
	sr_tx_flush();
}

/* The same packet, put into the hands of a process of this host. */
static void hand_over(unsigned slot, const struct sr_gsi_path *p, const uint8_t *mad)
{
	uint8_t packet[SR_HEADERS_MAX + SR_MAD_BYTES + SR_ICRC_BYTES];
	struct sr_path path;
	struct sr_pkt pkt = header();
	path_of(p, &path);
	size_t n = sr_pkt_encode(&pkt, packet), total = n + SR_MAD_BYTES + SR_ICRC_BYTES;
	memcpy(packet + n, mad, SR_MAD_BYTES);
	uint32_t crc = sr_icrc_begin(&path.icrc, 0, total, packet, n);
	sr_put32le(packet + n + SR_MAD_BYTES, ~sr_crc32(crc, packet + n, SR_MAD_BYTES));
	struct sockaddr_in6 from = { .sin6_family = AF_INET6, .sin6_port = htons(path.sender->port), .sin6_scope_id = p->ifindex };
	struct in6_addr to;
	memcpy(&from.sin6_addr, p->local.raw, 16);
	memcpy(&to, p->remote.raw, 16);
	sr_steer_hand_over(slot, &from, &to, packet, total);
}

/* Nobody alive has what the MAD is about: the answer that the specification gives to it. */
static void refuse(const struct sr_gsi_path *path, const uint8_t *mad)
{
	uint8_t answer[SR_MAD_BYTES];
	if (!sr_cm_refusal(mad, answer)) {
		SR_COUNT(gsi_dropped);
		return;
	}
	SR_COUNT(gsi_answered);
	if (sr_wire.fd != -1)
		send_packet(path, answer);
}

void sr_gsi_receive(const struct sr_rx_meta *meta, const struct sr_pkt *p, const uint8_t *packet, size_t len, bool forwarded)
{
	struct sr_gsi_path path = { .flow_label = 0 };
	memcpy(path.local.raw, meta->to.s6_addr, 16);
	memcpy(path.remote.raw, meta->from.sin6_addr.s6_addr, 16);
	if (IN6_IS_ADDR_LINKLOCAL(&meta->from.sin6_addr))
		path.ifindex = meta->from.sin6_scope_id;
	if (p->qkey != SR_GSI_QKEY) {
		SR_COUNT(rx_qkey_mismatch);
		return;
	}
	if (p->src_qpn != SR_QPN_GSI || p->payload_len != SR_MAD_BYTES || !sr_cm_is_mad(p->payload)) {
		SR_COUNT(gsi_dropped);
		return;
	}
	unsigned slot = owner(p->payload, &path.local);
	if (slot == sr_wire.slot)
		enqueue(&path, p->payload);
	else if (slot == 0)
		refuse(&path, p->payload);
	else if (forwarded)
		SR_COUNT(rx_misrouted_lost); /* never twice */
	else
		sr_steer_hand_over(slot, &meta->from, &meta->to, packet, len);
}

int rdmakit_gsi_send(const struct sr_gsi_path *path, const uint8_t mad[SR_MAD_BYTES])
{
	bool local = sr_gid_is_local(&path->remote) && sr_registry_shm_ok(sr.slot);
	int err = 0;
	sr_lock();
	SR_COUNT(gsi_sent);
	unsigned slot = local ? owner(mad, &path->remote) : 0;
	struct sr_gsi_path turned = *path;
	turned.local = path->remote;
	turned.remote = path->local;
	uint8_t answer[SR_MAD_BYTES];
	if (slot == sr.slot)
		enqueue(&turned, mad);
	else if (slot && sr_registry_shm_ok(slot))
		hand_over(slot, path, mad);
	else if (local && !slot && sr_cm_refusal(mad, answer))
		enqueue(&turned, answer);
	else if (sr_wire.fd != -1)
		send_packet(path, mad);
	else
		err = sr_wire.start_error ? sr_wire.start_error : ENETDOWN;
	sr_unlock();
	return err;
}

int rdmakit_gid_index(struct ibv_device *device, const union ibv_gid *gid)
{
	struct sr_device *d = sr_dev(device);
	int index = -1;
	sr_device_freshen();
	pthread_mutex_lock(&sr_device_lock);
	for (int g = 0; g < SR_LIMIT_GIDS && index < 0; g++)
		if (d->gids[g].valid && !memcmp(&d->gids[g].gid, gid, sizeof(*gid)))
			index = g;
	pthread_mutex_unlock(&sr_device_lock);
	return index;
}

uint32_t rdmakit_device_ifindex(struct ibv_device *device) { return (uint32_t)sr_device_ifindex(device); }

bool rdmakit_device_gone(struct ibv_device *device)
{
	sr_device_freshen();
	pthread_mutex_lock(&sr_device_lock);
	bool gone = sr_dev(device)->gone;
	pthread_mutex_unlock(&sr_device_lock);
	return gone;
}
