/* talk.h - the UDP sockets by which processes of different hosts speak of their connections. */
#ifndef VS_TALK_H
#define VS_TALK_H

#include "datagram.h"
#include <netinet/in.h>

/* RDMAKIT_SOCKET_PORT or the usual one. */
uint16_t vs_talk_well_known_port(void);

struct vs_talk {
	int own, door; /* our own port; the well-known one or -1: another user may have it, and then only our own searches find anybody */
	uint16_t port;
	uint64_t netns;
};

bool vs_talk_open(struct vs_talk *t);
void vs_talk_close(struct vs_talk *t);

/* From `from` (NULL: any of this host's) to a port at `to`. It may be lost. */
void vs_talk_send(struct vs_talk *t, const struct vs_datagram *d, const uint8_t from[16], const uint8_t to[16], uint16_t port);

/* The next datagram of ours that has come to `fd`, its sender, and the index of the network device; false: there is none. */
bool vs_talk_receive(int fd, struct vs_datagram *d, uint8_t from[16], uint32_t *network_device);

/* One of our datagrams that came back, because nobody has the port it was sent to; false: there is none. */
bool vs_talk_returned(struct vs_talk *t, struct vs_datagram *d, uint16_t *port);

/* A descriptor moved to where programs do not look for their own. */
int vs_talk_above(int fd);

#endif
