/* neighbour.h - the kernel's neighbour table. */
#ifndef SR_NEIGHBOUR_H
#define SR_NEIGHBOUR_H
#include "device.h"

/* Link-layer address of an IP address (16 bytes, IPv4-mapped for IPv4) on the device's link: its own, or a neighbour's
 * that the kernel has resolved. 0, or EHOSTUNREACH, or another errno. */
int sr_neighbour_mac(struct sr_device *d, const uint8_t *ip, uint8_t mac[6]);
#endif
