/*
 * cmchurn.c - rdma_cm connections in masses between two processes of one host, each with a queue pair of its own.
 *
 *   cmchurn -n N [-w W]   N connections set up and torn down, W at a time. What both processes hold (descriptors, memory) is taken
 *                         after a tenth of them and at the end: it must not have grown.
 *   cmchurn -a N          N connections alive at once, and what they take.
 *   cmchurn -t -n N       N connections of kernel TCP, one after the other, for comparison.
 *
 * Prints one line of names and numbers: connections N per_s X fds_grown N kib_grown N bytes_each N
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <rdma/rdma_cma.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BACKLOG 1024
#define TIMEOUT_MS 20000

static void die(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, " (%s)\n", strerror(errno));
	exit(3);
}

static double seconds(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* What a process holds. */
struct held {
	long fds, kib;
};

static struct held held(void)
{
	struct held h = { 0, -1 };
	char line[256];
	DIR *dir = opendir("/proc/self/fd");
	while (dir && readdir(dir))
		h.fds++;
	if (dir)
		closedir(dir);
	FILE *f = fopen("/proc/self/smaps_rollup", "r");
	while (f && fgets(line, sizeof line, f))
		if (sscanf(line, "Pss: %ld kB", &h.kib) == 1)
			break;
	if (!f || h.kib < 0)
		die("/proc/self/smaps_rollup");
	fclose(f);
	return h;
}

static void pin(int core)
{
	cpu_set_t set;
	CPU_ZERO(&set);
	CPU_SET(core, &set);
	sched_setaffinity(0, sizeof set, &set); /* a wish */
}

/* ---- both ends */

struct end {
	struct rdma_event_channel *channel;
	struct ibv_pd *pd;
	struct ibv_cq *cq;
	unsigned long live;
};

static void make_qp(struct end *e, struct rdma_cm_id *id)
{
	if (!e->pd && (!(e->pd = ibv_alloc_pd(id->verbs)) || !(e->cq = ibv_create_cq(id->verbs, 16, NULL, NULL, 0))))
		die("no completion queue");
	struct ibv_qp_init_attr init = { .send_cq = e->cq, .recv_cq = e->cq, .qp_type = IBV_QPT_RC,
					 .cap = { .max_send_wr = 1, .max_recv_wr = 1, .max_send_sge = 1, .max_recv_sge = 1 } };
	if (rdma_create_qp(id, e->pd, &init))
		die("rdma_create_qp");
}

static struct rdma_conn_param param(void) { return (struct rdma_conn_param){ .retry_count = 7, .rnr_retry_count = 7 }; }

static void drop(struct end *e, struct rdma_cm_id *id)
{
	rdma_destroy_qp(id);
	if (rdma_destroy_id(id))
		die("rdma_destroy_id");
	e->live--;
}

/* ---- server: on each byte of the pipe it says what it holds */

static void serve(int in, int out)
{
	struct end e = { .channel = rdma_create_event_channel() };
	struct rdma_cm_id *listener;
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	if (!e.channel || rdma_create_id(e.channel, &listener, NULL, RDMA_PS_TCP) || rdma_bind_addr(listener, (struct sockaddr *)&a) ||
	    rdma_listen(listener, BACKLOG))
		die("listen");
	__be16 port = rdma_get_src_port(listener);
	if (write(out, &port, sizeof port) != sizeof port)
		die("pipe");
	for (;;) {
		struct pollfd p[2] = { { .fd = e.channel->fd, .events = POLLIN }, { .fd = in, .events = POLLIN } };
		struct rdma_cm_event *event;
		char ask;
		poll(p, 2, -1);
		if (p[1].revents) {
			struct held h;
			if (read(in, &ask, 1) != 1)
				return;
			h = held();
			if (write(out, &h, sizeof h) != sizeof h)
				die("pipe");
			continue;
		}
		if (rdma_get_cm_event(e.channel, &event))
			die("rdma_get_cm_event");
		struct rdma_cm_id *id = event->id;
		enum rdma_cm_event_type type = event->event;
		rdma_ack_cm_event(event);
		if (type == RDMA_CM_EVENT_CONNECT_REQUEST) {
			struct rdma_conn_param conn = param();
			e.live++;
			make_qp(&e, id);
			if (rdma_accept(id, &conn))
				die("rdma_accept");
		} else if (type == RDMA_CM_EVENT_DISCONNECTED) {
			rdma_disconnect(id);
			drop(&e, id);
		} else if (type != RDMA_CM_EVENT_ESTABLISHED && type != RDMA_CM_EVENT_TIMEWAIT_EXIT) {
			die("server: %s", rdma_event_str(type));
		}
	}
}

/* ---- client */

struct client {
	struct end e;
	int in, out;
	struct sockaddr_in to;
	unsigned long begun, established, ended;
	int alive; /* keep them */
	struct rdma_cm_id **ids;
};

static void begin(struct client *c)
{
	struct rdma_cm_id *id;
	if (rdma_create_id(c->e.channel, &id, NULL, RDMA_PS_TCP) || rdma_resolve_addr(id, NULL, (struct sockaddr *)&c->to, TIMEOUT_MS))
		die("rdma_resolve_addr");
	c->e.live++;
	c->begun++;
}

static void step(struct client *c)
{
	struct rdma_cm_event *event;
	struct rdma_conn_param conn = param();
	if (rdma_get_cm_event(c->e.channel, &event))
		die("rdma_get_cm_event");
	struct rdma_cm_id *id = event->id;
	enum rdma_cm_event_type type = event->event;
	int status = event->status;
	rdma_ack_cm_event(event);
	switch (type) {
	case RDMA_CM_EVENT_ADDR_RESOLVED:
		if (rdma_resolve_route(id, TIMEOUT_MS))
			die("rdma_resolve_route");
		break;
	case RDMA_CM_EVENT_ROUTE_RESOLVED:
		make_qp(&c->e, id);
		if (rdma_connect(id, &conn))
			die("rdma_connect");
		break;
	case RDMA_CM_EVENT_ESTABLISHED:
		if (c->alive)
			c->ids[c->established] = id;
		else if (rdma_disconnect(id))
			die("rdma_disconnect");
		c->established++;
		break;
	case RDMA_CM_EVENT_DISCONNECTED:
		drop(&c->e, id);
		c->ended++;
		break;
	case RDMA_CM_EVENT_TIMEWAIT_EXIT:
		break;
	default:
		die("client: %s %d after %lu connections", rdma_event_str(type), status, c->established);
	}
}

static struct held server_holds(struct client *c)
{
	struct held h;
	if (write(c->out, "?", 1) != 1 || read(c->in, &h, sizeof h) != sizeof h)
		die("pipe");
	return h;
}

static struct held both_hold(struct client *c)
{
	usleep(100000); /* what is on its way in the server */
	struct held a = held(), b = server_holds(c);
	return (struct held){ a.fds + b.fds, a.kib + b.kib };
}

static void churn(struct client *c, unsigned long n, unsigned long window)
{
	struct held early = { 0, 0 }, late;
	double busy = 0, start = seconds();
	for (unsigned long goal = n / 10 ? n / 10 : n;; goal = n) {
		while (c->ended < goal) {
			while (c->begun < goal && c->begun - c->ended < window)
				begin(c);
			step(c);
		}
		busy += seconds() - start;
		late = both_hold(c);
		if (goal == n)
			break;
		early = late;
		start = seconds();
	}
	printf("connections %lu per_s %.0f fds_grown %ld kib_grown %ld bytes_each 0\n", n, (double)n / busy, late.fds - early.fds, late.kib - early.kib);
}

static void crowd(struct client *c, unsigned long n, unsigned long window)
{
	if (!(c->ids = calloc(n, sizeof *c->ids)))
		die("memory");
	struct held before = both_hold(c);
	double start = seconds();
	c->alive = 1;
	while (c->established < n) {
		while (c->begun < n && c->begun - c->established < window)
			begin(c);
		step(c);
	}
	double took = seconds() - start;
	struct held during = both_hold(c);
	for (unsigned long i = 0; i < n; i++)
		if (rdma_disconnect(c->ids[i]))
			die("rdma_disconnect");
	while (c->ended < n)
		step(c);
	struct held after = both_hold(c);
	printf("connections %lu per_s %.0f fds_grown %ld kib_grown %ld bytes_each %.0f\n", n, (double)n / took, after.fds - before.fds,
	       after.kib - before.kib, (double)(during.kib - before.kib) * 1024 / (2.0 * (double)n));
}

/* ---- kernel TCP: connect, accept, one byte each way, close */

static void tcp(unsigned long n)
{
	int listener = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof a;
	struct linger hard = { 1, 0 }; /* no port waits in TIME_WAIT */
	char byte = 'x';
	if (listener < 0 || bind(listener, (struct sockaddr *)&a, sizeof a) || listen(listener, BACKLOG) || getsockname(listener, (struct sockaddr *)&a, &len))
		die("listen");
	pid_t child = fork();
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		pin(0);
		for (;;) {
			int fd = accept(listener, NULL, NULL);
			if (fd < 0 || read(fd, &byte, 1) != 1 || write(fd, &byte, 1) != 1)
				die("accept");
			(void)!read(fd, &byte, 1);
			close(fd);
		}
	}
	pin(1);
	double start = seconds();
	for (unsigned long i = 0; i < n; i++) {
		int fd = socket(AF_INET, SOCK_STREAM, 0);
		if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a) || write(fd, &byte, 1) != 1 || read(fd, &byte, 1) != 1)
			die("connect");
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
		close(fd);
	}
	printf("connections %lu per_s %.0f fds_grown 0 kib_grown 0 bytes_each 0\n", n, (double)n / (seconds() - start));
	kill(child, SIGKILL);
}

int main(int argc, char **argv)
{
	unsigned long cycles = 0, alive = 0, window = 16;
	int kernel = 0, option, to[2], from[2];
	while ((option = getopt(argc, argv, "n:a:w:t")) != -1) {
		switch (option) {
		case 'n': cycles = strtoul(optarg, NULL, 0); break;
		case 'a': alive = strtoul(optarg, NULL, 0); break;
		case 'w': window = strtoul(optarg, NULL, 0); break;
		case 't': kernel = 1; break;
		default: die("usage");
		}
	}
	if (kernel) {
		tcp(cycles);
		return 0;
	}
	/* The other process is made before either has touched a device. */
	if (pipe(to) || pipe(from))
		die("pipe");
	if (fork() == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		pin(0);
		close(to[1]);
		serve(to[0], from[1]);
		return 0;
	}
	pin(1);
	close(to[0]);
	close(from[1]);
	struct client c = { .e.channel = rdma_create_event_channel(), .in = from[0], .out = to[1],
			    .to = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) } };
	if (!c.e.channel || read(c.in, &c.to.sin_port, sizeof c.to.sin_port) != sizeof c.to.sin_port)
		die("the server did not start");
	if (alive)
		crowd(&c, alive, window);
	else
		churn(&c, cycles, window);
	return 0;
}
