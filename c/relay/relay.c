/*
 * rdmakit-relay: what links of an emulated network do to frames besides their rate: delay, jitter, loss, duplication,
 * reordering. For kernels without netem; rates are the kernel's own TBF.
 *
 *   rdmakit-relay RULES
 *
 * Each line of RULES is one direction: FROM TO DELAY_NS JITTER_NS LOSS_PPM DUPLICATE_PPM REORDER_PPM SEED
 * with the names of two interfaces of this network namespace. What arrives at FROM leaves at TO. It prints `ready` when
 * the sockets are open, and the counters of each direction on SIGUSR1 and at its end (SIGTERM, SIGINT).
 *
 * Frames keep their virtio header (PACKET_VNET_HDR): checksums that the sender left to its interface stay left. The same
 * seed gives the same fate to the n-th frame of a direction. Jitter is uniform and never reorders; a reordered frame skips
 * the delay, as netem does it.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	MAX_DIRECTIONS = 4096,
	/* Largest GSO frame with its headers; the sender is told to make none, but another might. */
	FRAME_MAX = 66 * 1024,
	/* Bytes in flight in one direction: 100 ms at 10 Gbit/s. */
	BYTES_MAX = 128 << 20,
	/* Frames taken from one interface before the others have their turn. */
	TURN = 64,
	SOCKET_BUFFER = 16 << 20,
};

struct frame {
	struct frame *next;
	uint64_t due_ns;
	uint32_t len;
	uint8_t data[];
};

struct direction {
	char from[IFNAMSIZ], to[IFNAMSIZ];
	int in, out;
	uint64_t delay_ns, jitter_ns, last_due_ns;
	uint32_t loss_ppm, duplicate_ppm, reorder_ppm;
	uint64_t random;
	struct frame *head, *tail;
	uint64_t bytes;
	uint64_t forwarded, lost, duplicated, reordered, overflowed, refused;
};

static struct direction directions[MAX_DIRECTIONS];
static unsigned count;
static volatile sig_atomic_t stopping, reporting;

static void on_signal(int number)
{
	if (number == SIGUSR1)
		reporting = 1;
	else
		stopping = 1;
}

static void fail(const char *what)
{
	fprintf(stderr, "rdmakit-relay: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* splitmix64 (Steele, Lea and Flood, 2014): any seed is a good one. */
static uint64_t draw(struct direction *d)
{
	uint64_t z = d->random += 0x9e3779b97f4a7c15u;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static bool happens(struct direction *d, uint32_t ppm)
{
	/* Drawn even at 0 ppm, so that one quality does not change the fate that another gives to a frame. */
	return draw(d) % 1000000u < ppm;
}

static void queue(struct direction *d, const uint8_t *data, uint32_t len, uint64_t due_ns, bool first)
{
	struct frame *f;

	if (d->bytes + len > BYTES_MAX || !(f = malloc(sizeof *f + len))) {
		d->overflowed++;
		return;
	}
	f->due_ns = due_ns;
	f->len = len;
	memcpy(f->data, data, len);
	d->bytes += len;
	if (first) {
		f->next = d->head;
		d->head = f;
		if (!d->tail)
			d->tail = f;
		return;
	}
	f->next = NULL;
	if (d->tail)
		d->tail->next = f;
	else
		d->head = f;
	d->tail = f;
}

static void accept_frame(struct direction *d, const uint8_t *data, uint32_t len)
{
	uint64_t at = now_ns();
	bool lost = happens(d, d->loss_ppm);
	bool twice = happens(d, d->duplicate_ppm);
	bool early = happens(d, d->reorder_ppm);
	uint64_t jitter = draw(d);
	uint64_t due;

	if (lost) {
		d->lost++;
		return;
	}
	/* Whether others wait or not: what happens to a frame must not depend on when it comes. */
	if (early) {
		d->reordered++;
		queue(d, data, len, at, true);
		return;
	}
	due = at + d->delay_ns + (d->jitter_ns ? jitter % (2 * d->jitter_ns + 1) : 0);
	/* Jitter is around the delay: half of its range is taken off again, but not below 0. */
	due = d->jitter_ns > 0 ? (due - at > d->jitter_ns ? due - d->jitter_ns : at) : due;
	if (due < d->last_due_ns)
		due = d->last_due_ns;
	d->last_due_ns = due;
	queue(d, data, len, due, false);
	if (twice) {
		d->duplicated++;
		queue(d, data, len, due, false);
	}
}

/* Sends what is due; returns when the next frame is, UINT64_MAX when there is none. */
static uint64_t release(struct direction *d, uint64_t at)
{
	while (d->head) {
		struct frame *f = d->head;

		if (f->due_ns > at)
			return f->due_ns;
		if (send(d->out, f->data, f->len, MSG_DONTWAIT) < 0) {
			if (errno == EAGAIN || errno == ENOBUFS || errno == EINTR)
				return at + 50000;
			d->refused++;
		} else {
			d->forwarded++;
		}
		d->head = f->next;
		if (!d->head)
			d->tail = NULL;
		d->bytes -= f->len;
		free(f);
	}
	return UINT64_MAX;
}

static void report(void)
{
	for (unsigned i = 0; i < count; i++) {
		struct direction *d = &directions[i];
		struct tpacket_stats kernel = {0};
		socklen_t len = sizeof kernel;

		/* Frames that found the socket full; reading the counter clears it. */
		if (!getsockopt(d->in, SOL_PACKET, PACKET_STATISTICS, &kernel, &len))
			d->overflowed += kernel.tp_drops;
		fprintf(stderr,
			"%s %s forwarded=%llu lost=%llu duplicated=%llu reordered=%llu overflowed=%llu refused=%llu\n",
			d->from, d->to, (unsigned long long)d->forwarded, (unsigned long long)d->lost,
			(unsigned long long)d->duplicated, (unsigned long long)d->reordered,
			(unsigned long long)d->overflowed, (unsigned long long)d->refused);
	}
	fflush(stderr);
}

static int open_interface(const char *name)
{
	int on = 1, buffer = SOCKET_BUFFER;
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};

	if (fd < 0)
		fail("cannot open a packet socket (CAP_NET_RAW is needed)");
	if (setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on) ||
	    setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof on))
		fail("this kernel's packet sockets are too old");
	/* In a user namespace they are as large as net.core.rmem_max and wmem_max let them be. */
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof buffer))
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
	if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof buffer))
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
	address.sll_ifindex = (int)if_nametoindex(name);
	if (!address.sll_ifindex || bind(fd, (struct sockaddr *)&address, sizeof address))
		fail(name);
	return fd;
}

static void read_rules(const char *path)
{
	char line[256];
	unsigned number = 0;
	FILE *file = fopen(path, "r");

	if (!file)
		fail(path);
	while (fgets(line, sizeof line, file)) {
		struct direction *d = &directions[count];
		unsigned long long delay, jitter, seed;
		char rest;

		number++;
		if (count == MAX_DIRECTIONS ||
		    sscanf(line, "%15s %15s %llu %llu %u %u %u %llu %c", d->from, d->to, &delay, &jitter,
			   &d->loss_ppm, &d->duplicate_ppm, &d->reorder_ppm, &seed, &rest) != 8 ||
		    delay > 1000000000000u || jitter > 1000000000000u || d->loss_ppm > 1000000u ||
		    d->duplicate_ppm > 1000000u || d->reorder_ppm > 1000000u) {
			fprintf(stderr, "rdmakit-relay: %s:%u: not a rule\n", path, number);
			exit(2);
		}
		d->delay_ns = delay;
		d->jitter_ns = jitter;
		d->random = seed;
		count++;
	}
	fclose(file);
}

/* One socket an interface: it receives for the direction that begins there and sends for the one that ends there. */
static void open_sockets(void)
{
	for (unsigned i = 0; i < count; i++)
		directions[i].in = open_interface(directions[i].from);
	for (unsigned i = 0; i < count; i++) {
		directions[i].out = -1;
		for (unsigned j = 0; j < count; j++)
			if (!strcmp(directions[j].from, directions[i].to))
				directions[i].out = directions[j].in;
		if (directions[i].out < 0)
			directions[i].out = open_interface(directions[i].to);
	}
}

int main(int argc, char **argv)
{
	static uint8_t buffer[sizeof(struct virtio_net_hdr) + FRAME_MAX];
	struct sigaction action = {.sa_handler = on_signal};
	int epoll;

	if (argc != 2) {
		fprintf(stderr, "usage: rdmakit-relay RULES\n");
		return 2;
	}
	read_rules(argv[1]);
	open_sockets();
	epoll = epoll_create1(EPOLL_CLOEXEC);
	if (epoll < 0)
		fail("epoll_create1");
	for (unsigned i = 0; i < count; i++) {
		struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};

		if (epoll_ctl(epoll, EPOLL_CTL_ADD, directions[i].in, &event))
			fail("epoll_ctl");
	}
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGUSR1, &action, NULL);
	/* Delays are as exact as our wake-ups. */
	prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0);
	setpriority(PRIO_PROCESS, 0, -15);
	puts("ready");
	fflush(stdout);

	while (!stopping) {
		struct epoll_event events[64];
		uint64_t at = now_ns(), next = UINT64_MAX;
		struct timespec wait = {1, 0};
		int ready;

		if (reporting) {
			reporting = 0;
			report();
		}
		for (unsigned i = 0; i < count; i++) {
			uint64_t due = directions[i].head ? release(&directions[i], at) : UINT64_MAX;

			if (due < next)
				next = due;
		}
		if (next != UINT64_MAX) {
			at = now_ns();
			next = next > at ? next - at : 0;
			if (next < 1000000000u)
				wait = (struct timespec){0, (long)next};
		}
		ready = epoll_pwait2(epoll, events, 64, &wait, NULL);
		for (int e = 0; e < ready; e++) {
			struct direction *d = &directions[events[e].data.u32];

			for (int turn = 0; turn < TURN; turn++) {
				ssize_t len = recv(d->in, buffer, sizeof buffer, MSG_TRUNC);

				if (len < 0)
					break;
				if (len >= (ssize_t)(sizeof(struct virtio_net_hdr) + ETH_HLEN) &&
				    len <= (ssize_t)sizeof buffer)
					accept_frame(d, buffer, (uint32_t)len);
			}
		}
	}
	report();
	return 0;
}
