/*
 * Ping-pong over a kernel TCP or UDP socket: the reference rows. Same shape as the verbs loops, same clock and histogram,
 * so that the numbers can be compared. Blocking mode sleeps in recv(); busy mode spins on a non-blocking one.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "pace.h"
#include "pattern.h"

/* The largest UDP payload over IPv4. */
#define UDP_MAX 65507u

enum io {
	IO_OK,
	IO_TIMEOUT,
	IO_CLOSED, /* the peer closed its end */
	IO_STOPPED,
	IO_FAILED, /* recorded */
};

struct sockpp {
	struct rk_dp_loop *loop;
	struct rk_dp_stats *stats;
	const struct rk_clock *clock;
	const struct rk_dp_sockpp *config;
	int fd;
	int accepted; /* fd is ours to close */
	int udp, busy, verify, stamped;
	uint64_t timeout_ticks;
	uint8_t *tx, *rx;
	struct sockaddr_storage peer; /* UDP server: where the newest message came from */
	socklen_t peer_length;
	uint64_t received_bytes; /* of the newest datagram */
};

/* Takes what is there, up to `want` bytes. Each call waits at most a slice; `spins` counts the empty ones. */
static ssize_t receive_some(struct sockpp *s, uint8_t *into, size_t want)
{
	int flags = s->busy ? MSG_DONTWAIT : 0;
	if (s->udp && s->config->role == RK_DP_SERVER) {
		s->peer_length = sizeof(s->peer);
		return recvfrom(s->fd, into, want, flags, (struct sockaddr *)&s->peer, &s->peer_length);
	}
	return recv(s->fd, into, want, flags);
}

/* Stop, deadline and error handling between two tries. IO_OK: try again. */
static enum io between_tries(struct sockpp *s, uint32_t *spins, uint64_t deadline, const char *what)
{
	if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
		/* A reset is a peer that went away; on UDP, ECONNREFUSED is its ICMP echo. */
		enum rk_dp_stage stage = errno == ECONNRESET || errno == EPIPE || errno == ECONNREFUSED ? RK_DP_STAGE_PEER_GONE
												      : RK_DP_STAGE_SOCKET;
		rk_loop_fail(s->loop, stage, errno, "%s: %s", what, strerror(errno));
		return IO_FAILED;
	}
	s->stats->spins++;
	if (s->busy && ++*spins % RK_STOP_CHECK_SPINS != 0)
		return IO_OK;
	if (rk_loop_stopping(s->loop))
		return IO_STOPPED;
	return deadline && (int64_t)(rk_clock_ticks(s->clock) - deadline) > 0 ? IO_TIMEOUT : IO_OK;
}

/* Receives one message: `size` bytes of the stream, or one datagram. */
static enum io receive_message(struct sockpp *s, uint64_t deadline)
{
	uint32_t spins = 0, size = s->config->size;
	size_t have = 0;
	while (s->udp || have < size) {
		ssize_t n = receive_some(s, s->rx + have, s->udp ? UDP_MAX : size - have);
		if (n > 0 || (n == 0 && s->udp)) {
			have += (size_t)n;
			if (s->udp)
				break;
			continue;
		}
		if (n == 0)
			return IO_CLOSED;
		enum io io = between_tries(s, &spins, deadline, "recv");
		if (io != IO_OK)
			return io;
	}
	s->received_bytes = have;
	return IO_OK;
}

static enum io send_message(struct sockpp *s, uint64_t deadline)
{
	uint32_t spins = 0, size = s->config->size;
	size_t done = 0;
	int flags = MSG_NOSIGNAL | (s->busy ? MSG_DONTWAIT : 0);
	do {
		ssize_t n = s->udp && s->config->role == RK_DP_SERVER
				    ? sendto(s->fd, s->tx, size, flags, (struct sockaddr *)&s->peer, s->peer_length)
				    : send(s->fd, s->tx + done, size - done, flags);
		if (n >= 0) {
			done += (size_t)n;
			if (s->udp)
				break;
			continue;
		}
		enum io io = between_tries(s, &spins, deadline, "send");
		if (io != IO_OK)
			return io;
	} while (done < size);
	return IO_OK;
}

static void verify(struct sockpp *s, uint64_t exchange, uint32_t role)
{
	struct rk_dp_stats *stats = s->stats;
	uint8_t expected = 0, found = 0;
	stats->verified++;
	int64_t offset = s->received_bytes == s->config->size
				 ? rk_pattern_check(s->rx, s->config->size, s->config->seed, exchange, role, &expected, &found)
				 : (int64_t)s->received_bytes;
	if (offset < 0)
		return;
	if (stats->mismatches++ == 0) {
		stats->mismatch_sequence = exchange;
		stats->mismatch_offset = (uint64_t)offset;
		stats->mismatch_expected = expected;
		stats->mismatch_found = found;
	}
}

static void prepare(struct sockpp *s, uint64_t exchange)
{
	if (s->verify)
		rk_pattern_fill(s->tx, s->config->size, s->config->seed, exchange, s->config->role);
	else if (s->stamped)
		rk_stamp(s->tx, s->config->size, exchange);
}

/* Sends one message and waits for its answer. */
static enum rk_outcome exchange_once(void *state, uint64_t exchange, uint64_t *begin, uint64_t *end)
{
	struct sockpp *s = state;
	prepare(s, exchange);
	*begin = rk_clock_ticks(s->clock);
	uint64_t deadline = *begin + s->timeout_ticks;
	enum io io = send_message(s, deadline);
	while (io == IO_OK && (io = receive_message(s, deadline)) == IO_OK) {
		if (!s->udp || (s->received_bytes == s->config->size && rk_stamp_matches(s->rx, s->config->size, exchange)))
			break;
		s->stats->late++;
	}
	*end = rk_clock_ticks(s->clock);
	switch (io) {
	case IO_OK:
		if (s->verify)
			verify(s, exchange, RK_DP_SERVER);
		return RK_ANSWERED;
	case IO_TIMEOUT:
		if (s->udp)
			return RK_LOST;
		rk_loop_fail(s->loop, RK_DP_STAGE_TIMEOUT, ETIMEDOUT, "no answer within %llu ms",
			     (unsigned long long)(s->config->timeout_ns / 1000000));
		return RK_END;
	case IO_CLOSED:
		rk_loop_fail(s->loop, RK_DP_STAGE_PEER_GONE, ECONNRESET, "the other end closed the connection");
		return RK_END;
	default:
		return RK_END;
	}
}

static void run_client(struct sockpp *s)
{
	const struct rk_dp_sockpp *config = s->config;
	s->timeout_ticks = rk_clock_from_ns(s->clock, config->timeout_ns);
	const struct rk_pace pace = {.iterations = config->iterations,
				     .warmup = config->warmup,
				     .duration_ns = config->duration_ns,
				     .interval_ns = config->interval_ns,
				     .size = config->size,
				     .flags = config->flags};
	rk_pace_run(s->loop, &pace, exchange_once, s);
}

static void run_server(struct sockpp *s)
{
	struct rk_dp_stats *stats = s->stats;
	uint64_t first = 0;
	/* A client that is done closes its connection: the normal end of a TCP server. */
	while (!rk_loop_stopping(s->loop) && receive_message(s, 0) == IO_OK) {
		uint64_t exchange = s->udp ? rk_stamp_read(s->rx, (uint32_t)s->received_bytes) : stats->completed;
		/* A datagram that is not of this test (the port is open to anyone) gets no answer. */
		if (s->udp && s->received_bytes != s->config->size) {
			stats->late++;
			continue;
		}
		if (s->verify)
			verify(s, exchange, RK_DP_CLIENT);
		prepare(s, exchange);
		if (send_message(s, 0) != IO_OK)
			break;
		if (stats->completed == 0) {
			first = rk_clock_ticks(s->clock);
			stats->begin_ns = rk_clock_raw_ns();
		}
		stats->posted++;
		stats->completed++;
		stats->bytes += s->config->size;
		stats->elapsed_ns = rk_clock_to_ns(s->clock, rk_clock_ticks(s->clock) - first);
	}
}

/* TCP server: waits for the one client of this row. */
static int accept_client(struct sockpp *s)
{
	while (!rk_loop_stopping(s->loop)) {
		struct pollfd ready = {.fd = s->config->fd, .events = POLLIN};
		int n = poll(&ready, 1, (int)(RK_WAIT_SLICE_NS / 1000000));
		if (n == 0 || (n < 0 && errno == EINTR))
			continue;
		s->fd = n < 0 ? -1 : accept4(s->config->fd, NULL, NULL, SOCK_CLOEXEC);
		if (s->fd < 0) {
			rk_loop_fail(s->loop, RK_DP_STAGE_SOCKET, errno, "accept: %s", strerror(errno));
			return -1;
		}
		s->accepted = 1;
		return 0;
	}
	return -1;
}

static void run(struct rk_dp_loop *loop)
{
	struct sockpp s = {.loop = loop, .stats = loop->stats, .clock = loop->clock, .config = &loop->config.sockpp};
	s.fd = s.config->fd;
	s.udp = s.config->protocol == IPPROTO_UDP;
	s.busy = (s.config->flags & RK_DP_BUSY) != 0;
	s.verify = (s.config->flags & RK_DP_VERIFY) != 0;
	s.stamped = s.udp || s.verify;
	uint64_t length = s.udp ? UDP_MAX : s.config->size;
	s.tx = rk_dp_buffer_new(length);
	s.rx = rk_dp_buffer_new(length);
	if (!s.tx || !s.rx) {
		rk_loop_fail(loop, RK_DP_STAGE_CONFIG, ENOMEM, "no memory for the messages");
	} else if (s.udp || s.config->role == RK_DP_CLIENT || accept_client(&s) == 0) {
		int on = 1;
		struct timeval slice = {.tv_sec = 0, .tv_usec = (suseconds_t)(RK_WAIT_SLICE_NS / 1000)};
		if (!s.udp)
			setsockopt(s.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		setsockopt(s.fd, SOL_SOCKET, SO_RCVTIMEO, &slice, sizeof(slice));
		setsockopt(s.fd, SOL_SOCKET, SO_SNDTIMEO, &slice, sizeof(slice));
		if (s.config->role == RK_DP_CLIENT)
			run_client(&s);
		else
			run_server(&s);
	}
	if (s.accepted)
		close(s.fd);
	rk_dp_buffer_free(s.tx, length);
	rk_dp_buffer_free(s.rx, length);
}

int32_t rk_dp_sockpp_start(const struct rk_dp_sockpp *config, struct rk_dp_stats *stats, struct rk_dp_loop **out)
{
	if (!config || !stats || !out)
		return -EINVAL;
	*out = NULL;
	struct rk_dp_loop *loop = rk_loop_new(stats, config->core);
	if (!loop)
		return -ENOMEM;
	loop->config.sockpp = *config;
	const char *reason = NULL;
	if (config->abi != RK_DP_ABI)
		reason = "the caller was built for another version of the data path";
	else if (config->role > RK_DP_SERVER || (config->protocol != IPPROTO_TCP && config->protocol != IPPROTO_UDP))
		reason = "unknown role or protocol";
	else if (config->fd < 0 || config->timeout_ns == 0)
		reason = "a descriptor and a timeout are needed";
	else if (config->size == 0 || config->size > (config->protocol == IPPROTO_UDP ? UDP_MAX : UINT32_C(1) << 30))
		reason = "the size must be 1 byte to 65507 bytes (UDP) or 1 GiB (TCP)";
	return reason ? rk_loop_refuse(loop, reason) : rk_loop_launch(loop, run, out);
}
