/*
 * manyqps.c - many connected RC queue pairs between two processes: how fast they are set up, how much memory they take and
 * how much CPU time they use when idle. Queues of one entry, so that the memory is nearly all beyond the queues asked for.
 *
 * -n queue pairs, -s milliseconds to be idle after all are connected. The client prints one line, which counts both ends:
 *   qps N set_up_per_s X bytes_each Y idle_cpu_percent Z
 * set-up: from the first ibv_create_qp() until both ends have all in RTS; bytes: growth of the proportional set size divided
 * by all queue pairs of both; CPU: of the process that used more.
 */
#include "../../integration/programs/link.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PSN_MASK 0xffffff

static double seconds(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Proportional set size: a page shared by both processes counts half in each. */
static double memory_bytes(void)
{
	char line[256];
	long kib = -1;
	FILE *f = fopen("/proc/self/smaps_rollup", "r");
	while (f && fgets(line, sizeof line, f))
		if (sscanf(line, "Pss: %ld kB", &kib) == 1)
			break;
	if (!f || kib < 0)
		die("/proc/self/smaps_rollup");
	fclose(f);
	return (double)kib * 1024;
}

/* One end sends first: both at once could fill both sockets. */
static void exchange(struct link *l, const void *mine, void *theirs, size_t len)
{
	if (l->opt.host)
		link_send(l, mine, len);
	if (!link_receive(l, theirs, len))
		die("the other end has gone");
	if (!l->opt.host)
		link_send(l, mine, len);
}

struct measured {
	double memory_bytes, cpu_share;
};

int main(int argc, char **argv)
{
	struct link l;
	struct options o = parse_options(argc, argv);
	struct measured mine, theirs;
	char word = 'r';
	size_t n = o.count, len = n * sizeof(struct place);
	o.tx_depth = o.rx_depth = 1;
	link_open(&l, o);
	struct ibv_qp **qps = calloc(n, sizeof *qps);
	struct place *here = calloc(n, sizeof *here), *there = calloc(n, sizeof *there);
	if (!qps || !here || !there)
		die("memory");
	link_connect(&l, NULL);
	memset(here, 1, len); /* so that their pages are not counted as those of the queue pairs */
	memset(there, 1, len);
	memset(qps, 1, n * sizeof *qps);
	double before = memory_bytes(), start = seconds(CLOCK_MONOTONIC);
	for (size_t i = 0; i < n; i++) {
		qps[i] = qp_create(&l);
		here[i] = (struct place){ .gid = l.here.gid, .qpn = qps[i]->qp_num, .psn = (uint32_t)(i * 977) & PSN_MASK };
	}
	exchange(&l, here, there, len);
	for (size_t i = 0; i < n; i++)
		qp_to_ready(&l, qps[i], &here[i], &there[i]);
	exchange(&l, &word, &word, 1);
	double elapsed = seconds(CLOCK_MONOTONIC) - start;
	mine.memory_bytes = memory_bytes() - before;
	exchange(&l, &word, &word, 1);
	double cpu = seconds(CLOCK_PROCESS_CPUTIME_ID), idle = seconds(CLOCK_MONOTONIC);
	usleep((useconds_t)o.size * 1000);
	idle = seconds(CLOCK_MONOTONIC) - idle;
	mine.cpu_share = (seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu) / (idle > 0 ? idle : 1);
	exchange(&l, &mine, &theirs, sizeof mine);
	if (o.host)
		printf("qps %zu set_up_per_s %.0f bytes_each %.0f idle_cpu_percent %.4f\n", n, (double)n / elapsed,
		       (mine.memory_bytes + theirs.memory_bytes) / (2 * (double)n),
		       100 * (mine.cpu_share > theirs.cpu_share ? mine.cpu_share : theirs.cpu_share));
	for (size_t i = 0; i < n; i++)
		ibv_destroy_qp(qps[i]);
	link_close(&l);
	free(qps);
	free(here);
	free(there);
	return 0;
}
