/*
 * netns.h - a network namespace of the test's own, with interfaces made by rtnetlink, so that tests need neither `ip` nor
 * anything of the host's network. Every function returns 0 or an errno.
 */
#ifndef TEST_NETNS_H
#define TEST_NETNS_H
#include <stdint.h>

/* Moves the process (single-threaded) into a new, empty namespace; with a user namespace when it is not root. */
int netns_enter(void);
/* A pair of connected virtual Ethernet interfaces. */
int netns_veth(const char *a, const char *b);
int netns_delete(const char *ifname);
int netns_updown(const char *ifname, int up);
int netns_mtu(const char *ifname, uint32_t mtu_bytes);
/* Adds or removes an address, IPv4 or IPv6, without duplicate detection. */
int netns_address(const char *ifname, const char *address, int prefix, int add);
#endif
