/* static-client.c - sends three lines to 127.0.0.1:PORT and reads as many bytes back. Linked statically it is a program that no preloaded
 * library reaches. */
#include <arpa/inet.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argc > 1 ? argv[1] : "0")) };
	char back[8];
	inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(fd, (struct sockaddr *)&to, sizeof to))
		return 3;
	for (int i = 0; i < 3; i++)
		if (write(fd, "line\n", 5) != 5 || read(fd, back, 5) <= 0)
			return 1;
	return 0;
}
