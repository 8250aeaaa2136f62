/* Connections to a server one after another: connects HOST PORT COUNT; with `listen` in front it is that server. Prints the p50 in
 * microseconds of socket() with connect(), and of these with the first byte to the server and back. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static double now_us(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void serve(const struct sockaddr_in *at, int count)
{
	int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (bind(listener, (const struct sockaddr *)at, sizeof *at) || listen(listener, 64))
		fail("listen");
	for (int i = 0; i < count; i++) {
		int fd = accept(listener, NULL, NULL);
		char byte;
		while (recv(fd, &byte, 1, 0) == 1)
			if (send(fd, &byte, 1, 0) != 1)
				fail("send");
		close(fd);
	}
}

static void ask(const struct sockaddr_in *at, int count)
{
	double *connected = calloc((size_t)count, sizeof *connected), *answered = calloc((size_t)count, sizeof *answered);
	if (!connected || !answered)
		fail("calloc");
	for (int i = 0; i < count; i++) {
		double start = now_us();
		int fd = socket(AF_INET, SOCK_STREAM, 0);
		char byte = 1;
		if (fd < 0 || connect(fd, (const struct sockaddr *)at, sizeof *at))
			fail("connect");
		connected[i] = now_us() - start;
		if (send(fd, &byte, 1, 0) != 1 || recv(fd, &byte, 1, 0) != 1)
			fail("the first byte");
		answered[i] = now_us() - start;
		/* No port is left waiting. */
		struct linger reset = { 1, 0 };
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
		close(fd);
	}
	qsort(connected, (size_t)count, sizeof *connected, ascending);
	qsort(answered, (size_t)count, sizeof *answered, ascending);
	printf("connect_us %.3f answer_us %.3f\n", connected[count / 2], answered[count / 2]);
}

int main(int argc, char **argv)
{
	int server = argc > 1 && !strcmp(argv[1], "listen");
	char **arg = argv + 1 + server;
	if (argc != 4 + server) {
		fprintf(stderr, "connects [listen] HOST PORT COUNT\n");
		return 2;
	}
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(arg[1])) };
	if (inet_pton(AF_INET, arg[0], &at.sin_addr) != 1)
		return 2;
	(server ? serve : ask)(&at, atoi(arg[2]));
	return 0;
}
