/*
 * icrc.h - the invariant CRC of RoCEv2: CRC-32 over 8 bytes of ones (in place of the InfiniBand LRH), the IP and UDP headers,
 * the BTH, everything behind it and the pad; stored little endian.
 *
 * Fields that routers may change count as ones: IPv4 TOS, TTL and header checksum; IPv6 traffic class, flow label and hop
 * limit; the UDP checksum; the first byte of BTH's second word. Addresses, ports, lengths and the IPv4 identification and DF
 * count as they are (so NAT breaks RoCEv2).
 */
#ifndef SR_WIRE_ICRC_H
#define SR_WIRE_ICRC_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "crc32.h"

#define SR_ROCE_PORT 4791

/* The masked headers of one direction between two addresses, ready to be patched with lengths and identification. */
struct sr_icrc_path {
	uint8_t bytes[56];
	uint8_t len;   /* 36 for IPv4, 56 for IPv6 */
	bool ipv4;
};

/* src and dst are GIDs (16 bytes; ::ffff:a.b.c.d for IPv4). */
void sr_icrc_path_init(struct sr_icrc_path *path, const uint8_t src[16], const uint8_t dst[16], uint16_t sport, uint16_t dport);

/* Running CRC state behind the BTH and extension headers (header_len <= SR_HEADERS_MAX). udp_payload_len includes the ICRC.
 * ip_id is host order and ignored for IPv6. Continue with sr_crc32() over payload and pad; the ICRC is ~state. */
uint32_t sr_icrc_begin(const struct sr_icrc_path *path, uint16_t ip_id, size_t udp_payload_len, const uint8_t *headers,
		       size_t header_len);

/* Checks a whole packet of udp_payload_len bytes (ICRC included, header_len from the decoder). A UDP socket hides the IPv4
 * identification: `id_hint` is tried first, then whatever single identification up to `id_max` explains the difference
 * (sr_icrc_recover_id). */
bool sr_icrc_check(const struct sr_icrc_path *path, uint16_t id_hint, const uint8_t *packet, size_t udp_payload_len,
		   size_t header_len, uint16_t id_max);

/* CRC is affine: changing the 16 identification bits moves the CRC within a 16-dimensional subspace that depends only on how
 * many bytes follow them. `residue` is (computed with identification 0) xor (received). Returns true and the identification
 * when the residue lies in that subspace; random corruption passes with probability 2^-16. */
bool sr_icrc_recover_id(uint32_t residue, size_t bytes_after_id, uint16_t *ip_id);

#endif
