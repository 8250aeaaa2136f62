/*
 * tx.c - packets on their way out: gathered into as few system calls as possible.
 *
 * Packets to one peer that follow each other become one datagram of up to 64 KiB with UDP_SEGMENT, which the kernel (or the
 * NIC) cuts into segments of equal size; the last may be shorter, so an acknowledgement can ride behind data. All such
 * datagrams go out in one sendmmsg(). Payload is not copied here unless it is small: a datagram is a list of pieces.
 *
 *   arena:  | headers 1 | pad, ICRC 1 | headers 2 | pad, ICRC 2 | ...      pieces that touch become one iovec
 *
 * The ICRC covers the IPv4 identification. An unconnected socket with path MTU discovery sends 0, and segmentation counts up
 * from there, so a packet's identification is its index in its datagram.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sys/socket.h>
#include "wire.h"
#include "../engine/guard.h"
#include "bytes.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

#define TX_DATAGRAMS 32
#define TX_PIECES 1000
#define TX_DATAGRAM_BYTES 64000
#define TX_SEGMENTS 64 /* UDP_MAX_SEGMENTS of kernels before 6.9 */
#define TX_ARENA_BYTES (128 * 1024)
#define TX_WAIT_MS 2
#define TX_TOLD 4

struct datagram {
	struct sr_path path;
	struct sockaddr_in to4; /* for a sender of that family */
	uint32_t bytes, segments, segment_bytes;
	bool closed; /* a shorter segment came: nothing may follow */
	union {
		struct cmsghdr align;
		uint8_t control[CMSG_SPACE(sizeof(struct in6_pktinfo)) + CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(uint16_t))];
	};
};

static struct {
	struct datagram datagrams[TX_DATAGRAMS];
	struct mmsghdr messages[TX_DATAGRAMS];
	struct iovec pieces[TX_PIECES];
	uint8_t arena[TX_ARENA_BYTES];
	uint32_t count, piece_count, arena_used;
} tx;

bool sr_tx_pending(void) { return tx.count != 0; }

static bool same_path(const struct sr_path *a, const struct sr_path *b)
{
	return a->sender == b->sender && memcmp(&a->to.sin6_addr, &b->to.sin6_addr, 16) == 0 && memcmp(&a->from, &b->from, sizeof(a->from)) == 0 &&
	       a->to.sin6_scope_id == b->to.sin6_scope_id && a->traffic_class == b->traffic_class;
}

static struct datagram *datagram_for(const struct sr_path *path, uint32_t bytes)
{
	if (tx.count) {
		struct datagram *d = &tx.datagrams[tx.count - 1];
		if (!d->closed && bytes <= d->segment_bytes && d->segments < TX_SEGMENTS && !sr_wire.gso_off &&
		    d->bytes + bytes <= TX_DATAGRAM_BYTES && same_path(&d->path, path)) {
			d->closed = bytes < d->segment_bytes;
			return d;
		}
	}
	if (tx.count == TX_DATAGRAMS)
		sr_tx_flush();
	struct datagram *d = &tx.datagrams[tx.count];
	d->path = *path;
	d->bytes = d->segments = 0;
	d->segment_bytes = bytes;
	d->closed = false;
	struct msghdr *m = &tx.messages[tx.count].msg_hdr;
	*m = (struct msghdr){ .msg_name = &d->path.to, .msg_namelen = sizeof(d->path.to), .msg_iov = &tx.pieces[tx.piece_count],
			      .msg_control = d->control };
	if (path->sender->family == AF_INET) {
		d->to4 = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = path->to.sin6_port };
		memcpy(&d->to4.sin_addr, path->to.sin6_addr.s6_addr + 12, 4);
		m->msg_name = &d->to4;
		m->msg_namelen = sizeof(d->to4);
	}
	tx.count++;
	return d;
}

static void add_piece(const void *data, size_t len)
{
	struct msghdr *m = &tx.messages[tx.count - 1].msg_hdr;
	if (len == 0)
		return;
	if (m->msg_iovlen) {
		struct iovec *last = &m->msg_iov[m->msg_iovlen - 1];
		if ((const char *)last->iov_base + last->iov_len == data) {
			last->iov_len += len;
			return;
		}
	}
	m->msg_iov[m->msg_iovlen++] = (struct iovec){ (void *)data, len };
	tx.piece_count++;
}

/* The payload cannot be read: a datagram begun for it goes away again. */
static bool give_up(struct datagram *d)
{
	if (d->segments == 0)
		tx.count--;
	return false;
}

bool sr_tx_packet(const struct sr_path *path, const struct sr_pkt *p, const struct iovec *payload, int n)
{
	uint8_t headers[SR_HEADERS_MAX];
	size_t payload_len = 0;
	for (int i = 0; i < n; i++)
		payload_len += payload[i].iov_len;
	size_t header_len = sr_pkt_encode(p, headers);
	size_t pad = -payload_len & 3;
	headers[1] = (uint8_t)((headers[1] & 0xcf) | pad << 4);
	size_t total = header_len + payload_len + pad + SR_ICRC_BYTES;

	if (tx.arena_used + SR_HEADERS_MAX + SR_TX_COPY_BYTES + 8 > TX_ARENA_BYTES || tx.piece_count + (uint32_t)n + 2 > TX_PIECES)
		sr_tx_flush();
	struct datagram *d = datagram_for(path, (uint32_t)total);
	uint32_t crc = sr_icrc_begin(&path->icrc, (uint16_t)d->segments, total, headers, header_len);
	uint8_t *at = tx.arena + tx.arena_used;
	memcpy(at, headers, header_len);
	size_t used = header_len;
	if (payload_len <= SR_TX_COPY_BYTES) { /* cheaper than a piece, and it cannot change under the ICRC */
		if (!sr_guard_gather(at + used, payload, n))
			return give_up(d);
		used += payload_len;
		crc = sr_crc32(crc, at + header_len, payload_len);
		add_piece(at, used);
	} else {
		for (int i = 0; i < n; i++)
			if (!sr_guard_crc32(&crc, payload[i].iov_base, payload[i].iov_len))
				return give_up(d);
		add_piece(at, used);
		for (int i = 0; i < n; i++)
			add_piece(payload[i].iov_base, payload[i].iov_len);
	}
	uint8_t *trailer = at + used;
	memset(trailer, 0, pad);
	crc = ~sr_crc32(crc, trailer, pad);
	sr_put32le(trailer + pad, crc);
	add_piece(trailer, pad + SR_ICRC_BYTES);
	tx.arena_used += (uint32_t)(used + pad + SR_ICRC_BYTES);
	d->bytes += (uint32_t)total;
	d->segments++;
	SR_COUNT(port_xmit_packets);
	SR_COUNT_N(port_xmit_data, payload_len);
	return true;
}

static void *put_control(struct msghdr *m, int level, int type, const void *data, size_t len)
{
	struct cmsghdr *c = (struct cmsghdr *)((char *)m->msg_control + m->msg_controllen);
	c->cmsg_level = level;
	c->cmsg_type = type;
	c->cmsg_len = CMSG_LEN(len);
	memcpy(CMSG_DATA(c), data, len);
	m->msg_controllen += CMSG_SPACE(len);
	return c;
}

static void finish(struct datagram *d, struct msghdr *m)
{
	m->msg_controllen = 0;
	if (d->path.sender->general)
		put_control(m, IPPROTO_IPV6, IPV6_PKTINFO, &d->path.from, sizeof(d->path.from));
	if (d->path.traffic_class) {
		int value = d->path.traffic_class;
		bool v4 = d->path.icrc.ipv4;
		put_control(m, v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_TOS : IPV6_TCLASS, &value, sizeof(value));
	}
	if (d->segments > 1) {
		uint16_t size = (uint16_t)d->segment_bytes;
		put_control(m, IPPROTO_UDP, UDP_SEGMENT, &size, sizeof(size));
	}
}

/* Sends what goes through one socket and follows each other, from `first` on. Returns how many datagrams went, or -1. */
static int send_some(uint32_t first)
{
	const struct sr_sender *sender = tx.datagrams[first].path.sender;
	uint32_t n = 1;
	while (first + n < tx.count && tx.datagrams[first + n].path.sender == sender)
		n++;
	const struct msghdr *m = &tx.messages[first].msg_hdr;
	if (n == 1 && m->msg_iovlen == 1 && m->msg_controllen == 0) /* the shortest way for a small packet */
		return sendto(sender->fd, m->msg_iov->iov_base, m->msg_iov->iov_len, MSG_DONTWAIT, m->msg_name, m->msg_namelen) < 0 ? -1 : 1;
	if (n == 1)
		return sendmsg(sender->fd, &tx.messages[first].msg_hdr, MSG_DONTWAIT) < 0 ? -1 : 1;
	return sendmmsg(sender->fd, tx.messages + first, n, MSG_DONTWAIT);
}

/* What the kernel refuses is dropped and counted: to the protocol above it is a lost packet. */
void sr_tx_flush(void)
{
	int told = 0;
	for (uint32_t i = 0; i < tx.count; i++)
		finish(&tx.datagrams[i], &tx.messages[i].msg_hdr);
	for (uint32_t i = 0; sr_wire_hooks && i < tx.count; i++)
		sr_wire_hooks->output(&tx.datagrams[i].path, tx.messages[i].msg_hdr.msg_iov, tx.messages[i].msg_hdr.msg_iovlen,
				      tx.datagrams[i].segment_bytes);
	for (uint32_t sent = sr_wire_hooks ? tx.count : 0; sent < tx.count;) {
		int n = send_some(sent);
		if (n > 0) {
			sent += (uint32_t)n;
			continue;
		}
		if (errno == EINTR)
			continue;
		if (errno == EAGAIN || errno == ENOBUFS) {
			/* Backpressure of a full socket buffer; it drains at line rate. */
			SR_COUNT(tx_no_buffer);
			struct pollfd writable = { .fd = tx.datagrams[sent].path.sender->fd, .events = POLLOUT };
			if (errno == EAGAIN && poll(&writable, 1, TX_WAIT_MS) > 0)
				continue;
		}
		/* The socket's errors of before, told to the next who sends, whose datagram did not go. */
		if (tx.datagrams[sent].path.sender->returns && told++ < TX_TOLD)
			continue;
		if (errno == EIO && tx.datagrams[sent].segments > 1)
			sr_wire.gso_off = true; /* a device that cannot checksum segments */
		SR_COUNT(tx_errors);
		sent++;
	}
	tx.count = tx.piece_count = tx.arena_used = 0;
}
