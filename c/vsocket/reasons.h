/* reasons.h - why bytes take the kernel, and what can be asked to be measured: words that the arena and reports share. */
#ifndef VS_REASONS_H
#define VS_REASONS_H

/* Why a direction stays in the kernel. */
enum vs_plain {
	VS_PLAIN_OPTION = 1,   /* a socket option whose meaning a ring cannot keep */
	VS_PLAIN_FOREIGN = 2,  /* a process without the library may hold the socket */
	VS_PLAIN_SHUT = 4,     /* the direction or the peer has been shut down */
	VS_PLAIN_URGENT = 8,   /* urgent data */
	VS_PLAIN_PEER = 16,    /* the peer could not be verified */
	VS_PLAIN_CORRUPT = 32, /* the shared state made no sense */
	VS_PLAIN_PASSED = 128, /* the sending end's socket was passed to another process, which has not been seen to have the library */
	VS_PLAIN_HANDED = 64,  /* as PASSED, by the receiving end: each end takes back only its own */
	VS_PLAIN_STREAM = 256, /* stdio reads and writes it inside the C library */
	VS_PLAIN_SPLICE = 512, /* splice() and the like move its bytes inside the kernel */
	VS_PLAIN_URING = 1024, /* the process uses io_uring */
	VS_PLAIN_SECCOMP = 2048, /* the process restricts its own system calls, and ours could end it */
};

/* What has become of a connection's queue pair to another host. */
enum vs_road {
	VS_ROAD_NONE,	   /* it is not looked for: too short, no library at this end, or the other end is on this host */
	VS_ROAD_SEARCHED,  /* the other end has not answered */
	VS_ROAD_IMPOSSIBLE,/* no device, or it cannot be used */
	VS_ROAD_OPEN,	   /* there is one, and nothing was measured yet */
	VS_ROAD_SLOWER,	   /* measured: the kernel's TCP is faster */
	VS_ROAD_FASTER,	   /* measured: it is faster */
	VS_ROAD_FAILED,	   /* it failed */
};

/* What somebody who asked for a report wants to know of a direction. */
enum vs_watched { VS_WATCH_LATENCY = 1, VS_WATCH_HASH = 2 };

#endif
