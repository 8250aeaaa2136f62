/*
 * netlink.h - what the kernel says about interfaces and addresses (rtnetlink): a snapshot on demand, and notice of change.
 */
#ifndef SR_NETLINK_H
#define SR_NETLINK_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <net/if.h>

/* <linux/if.h> has it and cannot be included beside <net/if.h>. */
#define SR_IFF_LOWER_UP 0x10000u

/* One network interface of this network namespace. */
struct sr_link_info {
	uint32_t ifindex;
	char name[IF_NAMESIZE];
	uint32_t flags;	    /* IFF_* */
	uint32_t mtu_bytes;
	uint16_t arp_type;  /* ARPHRD_* */
	uint8_t mac[8];
	uint8_t mac_len;    /* 6 on Ethernet; 0 or other lengths elsewhere */
};

/* One address, IPv4 as ::ffff:a.b.c.d. */
struct sr_addr_info {
	uint32_t ifindex;
	uint8_t ip[16];
	bool temporary; /* IPv6 privacy extensions: another one comes every day */
};

struct sr_net {
	struct sr_link_info *links;
	size_t nlinks;
	struct sr_addr_info *addrs;
	size_t naddrs;
};

/* Reads all interfaces and usable addresses. Returns 0 and fills *net (free with sr_net_free()), or an errno. */
int sr_net_read(struct sr_net *net);
void sr_net_free(struct sr_net *net);

/* Opens a non-blocking, close-on-exec descriptor that becomes readable when interfaces or addresses change. The caller
 * closes it. -1 and errno on failure. */
int sr_netlink_open(void);

/* Empties the descriptor; when anything was in it (or was lost), calls `changed`. Returns whether. Not under sr.lock. */
bool sr_netlink_drain(int fd, void (*changed)(void));

/* For sr_netlink_drain(): re-reads the interfaces and tells every open context what changed for its device. */
void sr_device_link_changed(void);
#endif
