/*
 * Messages of the connection manager: those the Linux kernel sent (captures between two Soft-RoCE hosts) come back byte for byte,
 * every field goes to its place, and bad ones are refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include "softrdma/cm/mad.h"
#include "softrdma/wire/bytes.h"

#define DATA "../test/data/rocev2"
#define GSI_OFFSET (8 + 12 + 8) /* UDP, BTH, DETH */

static unsigned seen[SR_CM_SIDR_REP + 1];

static void check(const char *file, const uint8_t *mad)
{
	struct sr_cm_mad m;
	struct sr_cm_ip ip;
	uint8_t again[SR_CM_MAD_BYTES], header[SR_CM_IP_BYTES];
	assert_true(sr_cm_decode(&m, mad));
	assert_true(sr_cm_encode(&m, again));
	assert_memory_equal(again, mad, SR_CM_MAD_BYTES);
	seen[m.attr]++;
	if (m.attr != SR_CM_REQ && m.attr != SR_CM_SIDR_REQ)
		return;
	assert_true(sr_cm_ip_decode(&ip, m.private_data));
	sr_cm_ip_encode(&ip, header);
	assert_memory_equal(header, m.private_data, SR_CM_IP_BYTES);
	assert_int_equal(ip.v4, strstr(file, "v6") == NULL);
	if (m.attr != SR_CM_REQ)
		return;
	assert_int_equal(m.req.service_id >> 16, 0x0106);
	assert_memory_equal(m.req.primary.remote_gid, ip.dst, 16);
	assert_memory_equal(m.req.primary.local_gid, ip.src, 16);
	assert_int_equal(m.req.max_cm_retries, 15);
	assert_int_equal(m.req.local_response_timeout, 20);
	assert_int_equal(m.req.remote_response_timeout, 20);
	assert_int_equal(m.req.primary.ack_timeout, 19);
	assert_int_equal(m.req.primary.hop_limit, 64);
	assert_int_equal(m.req.mtu, 3);
}

static void messages_of_the_kernel(void **state)
{
	static uint8_t file[1 << 20];
	(void)state;
	DIR *dir = opendir(DATA);
	assert_non_null(dir);
	for (struct dirent *e; (e = readdir(dir));) {
		char path[512];
		if (!strstr(e->d_name, ".pcap"))
			continue;
		snprintf(path, sizeof(path), "%s/%s", DATA, e->d_name);
		FILE *in = fopen(path, "rb");
		assert_non_null(in);
		size_t size = fread(file, 1, sizeof(file), in), len;
		fclose(in);
		for (size_t at = 24; at + 16 <= size; at += len) {
			len = sr_get32le(file + at + 8);
			at += 16;
			assert_true(at + len <= size);
			const uint8_t *udp = file + at + (sr_get16(file + at + 12) == 0x0800 ? 34 : 54);
			if (len == (size_t)(udp - (file + at)) + GSI_OFFSET + SR_CM_MAD_BYTES + 4 && (sr_get32(udp + 12) & 0xffffff) == 1)
				check(e->d_name, udp + GSI_OFFSET);
		}
	}
	closedir(dir);
	assert_int_equal(seen[SR_CM_REQ], 5);
	assert_int_equal(seen[SR_CM_REP], 3);
	assert_int_equal(seen[SR_CM_RTU], 3);
	assert_int_equal(seen[SR_CM_REJ], 2);
	assert_int_equal(seen[SR_CM_DREQ], 3);
	assert_int_equal(seen[SR_CM_DREP], 3);
	assert_int_equal(seen[SR_CM_SIDR_REQ], 1);
	assert_int_equal(seen[SR_CM_SIDR_REP], 1);
}

/* Random structs survive the way out and back: no two fields share a bit. */
static void every_field_has_its_place(void **state)
{
	(void)state;
	uint32_t x = 1;
	for (int round = 0; round < 2000; round++) {
		struct sr_cm_mad m, back;
		uint8_t mad[SR_CM_MAD_BYTES], again[SR_CM_MAD_BYTES];
		for (size_t i = 0; i < sizeof(mad); i++)
			mad[i] = (uint8_t)((x = x * 1664525 + 1013904223) >> 24);
		memcpy(mad, "\1\7\2\3\0\0\0\0", 8);
		mad[16] = 0;
		mad[17] = (uint8_t)(SR_CM_REQ + round % 9);
		if (!sr_cm_decode(&m, mad))
			continue; /* a length beyond its field */
		assert_true(sr_cm_encode(&m, again));
		assert_true(sr_cm_decode(&back, again));
		assert_memory_equal(&m, &back, sizeof(m));
	}
}

static void bad_messages_are_refused(void **state)
{
	uint8_t mad[SR_CM_MAD_BYTES], out[SR_CM_MAD_BYTES];
	struct sr_cm_mad m = { .attr = SR_CM_REQ, .private_len = 92 };
	(void)state;
	assert_true(sr_cm_encode(&m, mad));
	assert_true(sr_cm_decode(&m, mad));
	for (int i = 0; i < 4; i++) { /* version, class, class version, method */
		memcpy(out, mad, sizeof(out));
		out[i]++;
		assert_false(sr_cm_decode(&m, out));
	}
	memcpy(out, mad, sizeof(out));
	out[17] = 0x19; /* LAP: no alternate paths on RoCE */
	assert_false(sr_cm_decode(&m, out));
	m = (struct sr_cm_mad){ .attr = SR_CM_REQ, .private_len = 93 };
	assert_false(sr_cm_encode(&m, mad));
	m = (struct sr_cm_mad){ .attr = 7 };
	assert_false(sr_cm_encode(&m, mad));
	m = (struct sr_cm_mad){ .attr = SR_CM_REJ, .rej = { .info_len = 73 } };
	assert_true(sr_cm_encode(&m, mad));
	assert_false(sr_cm_decode(&m, mad));
	uint8_t ip[SR_CM_IP_BYTES] = { 0, 0x50 };
	struct sr_cm_ip parsed;
	assert_false(sr_cm_ip_decode(&parsed, ip));
	ip[0] = 0x10, ip[1] = 0x40;
	assert_false(sr_cm_ip_decode(&parsed, ip));
}

static void whom_it_is_for(void **state)
{
	uint8_t mad[SR_CM_MAD_BYTES], answer[SR_CM_MAD_BYTES];
	struct sr_cm_service s;
	struct sr_cm_mad m = { .attr = SR_CM_REQ, .tid = 9, .local_id = 5, .req = { .service_id = sr_cm_service_id(0x106, 7174) } }, r;
	(void)state;
	sr_cm_encode(&m, mad);
	assert_true(sr_cm_service_of(mad, &s));
	assert_int_equal(s.space, 0x106);
	assert_int_equal(s.port, 7174);
	assert_true(sr_cm_refusal(mad, answer));
	assert_true(sr_cm_decode(&r, answer));
	assert_int_equal(r.attr, SR_CM_REJ);
	assert_int_equal(r.rej.reason, SR_CM_REJ_INVALID_SERVICE_ID);
	assert_int_equal(r.remote_id, 5);
	assert_int_equal(r.tid, 9);
	m = (struct sr_cm_mad){ .attr = SR_CM_SIDR_REP, .remote_id = 0x12345678 };
	sr_cm_encode(&m, mad);
	assert_false(sr_cm_service_of(mad, &s));
	assert_int_equal(sr_cm_receiver_id(mad), 0x12345678);
	assert_false(sr_cm_refusal(mad, answer)); /* answers are not answered */
	m = (struct sr_cm_mad){ .attr = SR_CM_DREQ, .local_id = 1, .remote_id = 2 };
	sr_cm_encode(&m, mad);
	assert_int_equal(sr_cm_receiver_id(mad), 2);
	assert_true(sr_cm_refusal(mad, answer));
	assert_true(sr_cm_decode(&r, answer));
	assert_int_equal(r.attr, SR_CM_DREP);
	assert_int_equal(r.remote_id, 1);
	assert_int_equal(r.local_id, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(messages_of_the_kernel),
		cmocka_unit_test(every_field_has_its_place),
		cmocka_unit_test(bad_messages_are_refused),
		cmocka_unit_test(whom_it_is_for),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
