/*
 * Decodes every RoCEv2 packet of the reference captures and encodes it again: all bytes must come back, the ICRC too, and the
 * hidden IPv4 identification must be found from the ICRC alone.
 */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "softrdma/wire/bytes.h"
#include "softrdma/wire/icrc.h"
#include "softrdma/wire/packet.h"

#define DATA "../test/data/rocev2"

struct captured {
	uint8_t src[16], dst[16];
	uint16_t sport, dport, ip_id;
	const uint8_t *udp; /* payload */
	size_t len;
};

typedef void (*visitor)(const struct captured *c);

/* Takes Ethernet, IP and UDP apart; returns 0 when the frame is not RoCEv2. */
static int parse_frame(const uint8_t *f, size_t len, struct captured *c)
{
	const uint8_t *ip = f + 14, *udp;
	if (len < 14 + 20 + 8)
		return 0;
	memset(c, 0, sizeof(*c));
	if (sr_get16(f + 12) == 0x0800) {
		c->src[10] = c->src[11] = c->dst[10] = c->dst[11] = 0xff;
		memcpy(c->src + 12, ip + 12, 4);
		memcpy(c->dst + 12, ip + 16, 4);
		c->ip_id = sr_get16(ip + 4);
		if (ip[9] != 17)
			return 0;
		udp = ip + 20;
	} else if (sr_get16(f + 12) == 0x86dd && ip[6] == 17) {
		memcpy(c->src, ip + 8, 16);
		memcpy(c->dst, ip + 24, 16);
		udp = ip + 40;
	} else {
		return 0;
	}
	c->sport = sr_get16(udp);
	c->dport = sr_get16(udp + 2);
	c->len = (size_t)sr_get16(udp + 4) - 8;
	c->udp = udp + 8;
	return c->dport == SR_ROCE_PORT && c->udp + c->len <= f + len;
}

static int for_each_packet(visitor visit)
{
	int count = 0;
	DIR *dir = opendir(DATA);
	assert_non_null(dir);
	for (struct dirent *e; (e = readdir(dir));) {
		char path[512];
		static uint8_t file[1 << 20];
		if (!strstr(e->d_name, ".pcap"))
			continue;
		snprintf(path, sizeof(path), "%s/%s", DATA, e->d_name);
		FILE *in = fopen(path, "rb");
		assert_non_null(in);
		size_t size = fread(file, 1, sizeof(file), in);
		fclose(in);
		assert_in_range(size, 24, sizeof(file) - 1);
		for (size_t at = 24; at + 16 <= size;) {
			size_t caplen = sr_get32le(file + at + 8);
			struct captured c;
			at += 16;
			assert_true(at + caplen <= size);
			if (parse_frame(file + at, caplen, &c)) {
				visit(&c);
				count++;
			}
			at += caplen;
		}
	}
	closedir(dir);
	return count;
}

static void reencode(const struct captured *c)
{
	struct sr_pkt p;
	uint8_t out[65536];
	struct sr_icrc_path path;
	assert_int_equal(sr_pkt_decode(&p, c->udp, c->len), SR_PKT_OK);
	size_t n = sr_pkt_encode(&p, out);
	assert_int_equal(n, p.header_len);
	sr_icrc_path_init(&path, c->src, c->dst, c->sport, c->dport);
	uint32_t crc = sr_icrc_begin(&path, c->ip_id, c->len, out, n);
	memcpy(out + n, p.payload, p.payload_len);
	memset(out + n + p.payload_len, 0, p.pad);
	crc = ~sr_crc32(crc, out + n, p.payload_len + p.pad);
	n += p.payload_len + p.pad;
	sr_put32le(out + n, crc);
	assert_int_equal(n + 4, c->len);
	assert_memory_equal(out, c->udp, c->len);
}

static void test_reencode_all(void **state)
{
	(void)state;
	assert_int_equal(for_each_packet(reencode), 969);
}

static void check_without_id(const struct captured *c)
{
	struct sr_pkt p;
	struct sr_icrc_path path;
	uint8_t copy[65536];
	assert_int_equal(sr_pkt_decode(&p, c->udp, c->len), SR_PKT_OK);
	sr_icrc_path_init(&path, c->src, c->dst, c->sport, c->dport);
	assert_true(sr_icrc_check(&path, 0, c->udp, c->len, p.header_len, UINT16_MAX));
	assert_true(sr_icrc_check(&path, 5, c->udp, c->len, p.header_len, UINT16_MAX));
	if (path.ipv4 && c->ip_id != 0) {
		assert_false(sr_icrc_check(&path, 0, c->udp, c->len, p.header_len, 0));
		uint32_t state = sr_icrc_begin(&path, 0, c->len, c->udp, p.header_len);
		state = sr_crc32(state, c->udp + p.header_len, c->len - 4 - p.header_len);
		uint16_t id = 0;
		assert_true(sr_icrc_recover_id(~state ^ p.icrc, 22 + c->len - 4, &id));
		assert_int_equal(id, c->ip_id);
	}
	/* One wrong byte is refused; the masked byte of the BTH is not covered. */
	static unsigned where;
	where = where * 1103515245 + 12345;
	memcpy(copy, c->udp, c->len);
	copy[4] ^= 0x3f;
	assert_true(sr_icrc_check(&path, 0, copy, c->len, p.header_len, UINT16_MAX));
	size_t at = where % c->len;
	if (at == 4)
		at++;
	copy[at] ^= 0x10;
	assert_false(sr_icrc_check(&path, 0, copy, c->len, p.header_len, UINT16_MAX));
}

static void test_hidden_identification(void **state)
{
	(void)state;
	for_each_packet(check_without_id);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reencode_all),
		cmocka_unit_test(test_hidden_identification),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
