/* icrc.c - see icrc.h for what is covered. */
#include "icrc.h"
#include "bytes.h"
#include "packet.h"

enum { V4_TOTAL_LENGTH = 10, V4_ID = 12, V4_UDP_LENGTH = 32, V6_PAYLOAD_LENGTH = 12, V6_UDP_LENGTH = 52 };

void sr_icrc_path_init(struct sr_icrc_path *path, const uint8_t src[16], const uint8_t dst[16], uint16_t sport, uint16_t dport)
{
	static const uint8_t v4_mapped[12] = { [10] = 0xff, [11] = 0xff };
	uint8_t *b = path->bytes;
	path->ipv4 = memcmp(src, v4_mapped, 12) == 0 && memcmp(dst, v4_mapped, 12) == 0;
	memset(b, 0xff, sizeof(path->bytes));
	b += 8;
	if (path->ipv4) {
		b[0] = 0x45;
		sr_put16(b + 4, 0);
		sr_put16(b + 6, 0x4000); /* DF: what rxe and our own socket send */
		b[9] = 17;
		memcpy(b + 12, src + 12, 4);
		memcpy(b + 16, dst + 12, 4);
		b += 20;
	} else {
		b[0] = 0x6f;
		b[6] = 17;
		memcpy(b + 8, src, 16);
		memcpy(b + 24, dst, 16);
		b += 40;
	}
	sr_put16(b, sport);
	sr_put16(b + 2, dport);
	path->len = (uint8_t)(b + 8 - path->bytes);
}

uint32_t sr_icrc_begin(const struct sr_icrc_path *path, uint16_t ip_id, size_t udp_payload_len, const uint8_t *headers,
		       size_t header_len)
{
	uint8_t b[sizeof(path->bytes) + SR_HEADERS_MAX];
	memcpy(b, path->bytes, sizeof(path->bytes));
	uint16_t udp_len = (uint16_t)(udp_payload_len + 8);
	if (path->ipv4) {
		sr_put16(b + V4_TOTAL_LENGTH, (uint16_t)(udp_len + 20));
		sr_put16(b + V4_ID, ip_id);
		sr_put16(b + V4_UDP_LENGTH, udp_len);
	} else {
		sr_put16(b + V6_PAYLOAD_LENGTH, udp_len);
		sr_put16(b + V6_UDP_LENGTH, udp_len);
	}
	memcpy(b + path->len, headers, header_len);
	b[path->len + 4] = 0xff;
	return sr_crc32(SR_CRC32_INIT, b, path->len + header_len);
}

bool sr_icrc_check(const struct sr_icrc_path *path, uint16_t id_hint, const uint8_t *packet, size_t udp_payload_len,
		   size_t header_len, uint16_t id_max)
{
	size_t covered = udp_payload_len - SR_ICRC_BYTES;
	uint32_t received = sr_get32le(packet + covered);
	uint32_t state = sr_icrc_begin(path, id_hint, udp_payload_len, packet, header_len);
	state = sr_crc32(state, packet + header_len, covered - header_len);
	if (__builtin_expect(~state == received, 1))
		return true;
	if (!path->ipv4)
		return false;
	uint16_t delta; /* the CRC is affine: this is the true identification xor the hint */
	if (!sr_icrc_recover_id(~state ^ received, 14 + 8 + covered, &delta))
		return false;
	return (delta ^ id_hint) <= id_max;
}
