/*
 * osu.c - an MPI program in the manner of the OSU micro-benchmarks: ping-pong latency, bandwidth of windows of messages, a ring of
 * puts, and collectives, with every byte checked. Prints "NAME SIZE VALUE" lines and "verified N" at the end.
 *
 * usage: osu [ITERATIONS [LARGEST_BYTES]]
 */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int rank, ranks;
static long checked;

static void fail(const char *what, long at)
{
	fprintf(stderr, "rank %d: %s is wrong at %ld\n", rank, what, at);
	MPI_Abort(MPI_COMM_WORLD, 1);
}

static unsigned char expected(int from, int round, long at) { return (unsigned char)(at * 7 + at / 251 + round * 13 + from * 101); }

static void fill(unsigned char *b, long n, int round)
{
	for (long i = 0; i < n; i++)
		b[i] = expected(rank, round, i);
}

static void check(const unsigned char *b, long n, int from, int round, const char *what)
{
	for (long i = 0; i < n; i++)
		if (b[i] != expected(from, round, i))
			fail(what, i);
	checked++;
}

/* Half of a round trip between ranks 0 and 1, in microseconds. */
static void latency(unsigned char *out, unsigned char *in, int n, int rounds)
{
	fill(out, n, n);
	MPI_Barrier(MPI_COMM_WORLD);
	double start = MPI_Wtime();
	for (int i = 0; i < rounds && rank < 2; i++) {
		memset(in, 0, (size_t)(n < 16 ? n : 16));
		if (rank == 0)
			MPI_Send(out, n, MPI_BYTE, 1, i, MPI_COMM_WORLD);
		MPI_Recv(in, n, MPI_BYTE, 1 - rank, i, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
		if (rank == 1)
			MPI_Send(out, n, MPI_BYTE, 0, i, MPI_COMM_WORLD);
	}
	double us = (MPI_Wtime() - start) * 1e6 / rounds / 2;
	if (rank < 2)
		check(in, n, 1 - rank, n, "ping-pong");
	if (rank == 0)
		printf("latency_us %d %.3f\n", n, us);
}

/* Windows of messages from 0 to 1, in MB/s. */
static void bandwidth(unsigned char *out, unsigned char *in, int n, int rounds)
{
	enum { WINDOW = 16 };
	MPI_Request r[WINDOW];
	char done = 0;
	fill(out, n, n + 1);
	MPI_Barrier(MPI_COMM_WORLD);
	double start = MPI_Wtime();
	for (int i = 0; i < rounds && rank < 2; i++) {
		for (int w = 0; w < WINDOW; w++)
			if (rank == 0)
				MPI_Isend(out, n, MPI_BYTE, 1, w, MPI_COMM_WORLD, &r[w]);
			else /* into one buffer, as osu_bw does it: all carry the same */
				MPI_Irecv(in, n, MPI_BYTE, 0, w, MPI_COMM_WORLD, &r[w]);
		MPI_Waitall(WINDOW, r, MPI_STATUSES_IGNORE);
		if (rank == 1)
			MPI_Send(&done, 1, MPI_BYTE, 0, 99, MPI_COMM_WORLD);
		else
			MPI_Recv(&done, 1, MPI_BYTE, 1, 99, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
	}
	double mbps = (double)n * WINDOW * rounds / (MPI_Wtime() - start) / 1e6;
	if (rank == 1)
		check(in, n, 0, n + 1, "bandwidth");
	if (rank == 0)
		printf("bandwidth_MBps %d %.1f\n", n, mbps);
}

/* One-sided: everybody puts to its right neighbour and gets it back. */
static void one_sided(unsigned char *out, unsigned char *in, int n)
{
	MPI_Win win;
	unsigned char *shared;
	int right = (rank + 1) % ranks, left = (rank + ranks - 1) % ranks;
	MPI_Win_allocate(n, 1, MPI_INFO_NULL, MPI_COMM_WORLD, &shared, &win);
	fill(out, n, 3);
	MPI_Win_fence(0, win);
	MPI_Put(out, n, MPI_BYTE, right, 0, n, MPI_BYTE, win);
	MPI_Win_fence(0, win);
	check(shared, n, left, 3, "put");
	memset(in, 0, (size_t)n);
	MPI_Get(in, n, MPI_BYTE, right, 0, n, MPI_BYTE, win);
	MPI_Win_fence(0, win);
	check(in, n, rank, 3, "get");
	MPI_Win_free(&win);
}

static void collectives(unsigned char *out, unsigned char *in, int n, int rounds)
{
	double *a = calloc((size_t)n, sizeof *a), *sum = calloc((size_t)n, sizeof *sum);
	for (int i = 0; i < n; i++)
		a[i] = i + rank;
	MPI_Barrier(MPI_COMM_WORLD);
	double start = MPI_Wtime();
	for (int i = 0; i < rounds; i++)
		MPI_Allreduce(a, sum, n, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
	double us = (MPI_Wtime() - start) * 1e6 / rounds;
	for (int i = 0; i < n; i++)
		if (sum[i] != (double)ranks * i + ranks * (ranks - 1) / 2.0)
			fail("allreduce", i);
	checked++;
	if (rank == 0)
		printf("allreduce_us %d %.3f\n", n * 8, us);
	int share = n / ranks;
	for (int p = 0; p < ranks; p++)
		for (int i = 0; i < share; i++)
			out[p * share + i] = expected(rank, p, i);
	MPI_Alltoall(out, share, MPI_BYTE, in, share, MPI_BYTE, MPI_COMM_WORLD);
	for (int p = 0; p < ranks; p++)
		check(in + p * share, share, p, rank, "alltoall");
	if (rank == 0)
		fill(in, n, 5);
	MPI_Bcast(in, n, MPI_BYTE, 0, MPI_COMM_WORLD);
	check(in, n, 0, 5, "broadcast");
	free(a);
	free(sum);
}

int main(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) : 100, largest = argc > 2 ? atoi(argv[2]) : 1 << 20;
	MPI_Init(&argc, &argv);
	MPI_Comm_rank(MPI_COMM_WORLD, &rank);
	MPI_Comm_size(MPI_COMM_WORLD, &ranks);
	if (ranks < 2 || rounds < 1 || largest < 1) {
		fprintf(stderr, "usage: mpirun -np 2 osu [ITERATIONS [LARGEST_BYTES]]\n");
		MPI_Abort(MPI_COMM_WORLD, 2);
	}
	unsigned char *out = malloc((size_t)largest), *in = malloc((size_t)largest);
	/* Short, eager, and long with a rendezvous. */
	const int sizes[] = { 1, 8, 4096, 65536, 1 << 20, 4 << 20 };
	for (size_t s = 0; s < sizeof sizes / sizeof *sizes && sizes[s] <= largest; s++) {
		int less = sizes[s] > 65536 ? (rounds + 9) / 10 : rounds;
		latency(out, in, sizes[s], less);
		bandwidth(out, in, sizes[s], (less + 3) / 4);
	}
	one_sided(out, in, largest < 65536 ? largest : 65536);
	for (int n = 1; n <= largest / 8; n *= 64)
		collectives(out, in, n, n > 4096 ? (rounds + 9) / 10 : rounds);
	long all = 0;
	MPI_Reduce(&checked, &all, 1, MPI_LONG, MPI_SUM, 0, MPI_COMM_WORLD);
	if (rank == 0)
		printf("verified %ld\n", all);
	free(out);
	free(in);
	MPI_Finalize();
	return 0;
}
