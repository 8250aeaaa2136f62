/* Pure parts of the wire road: PSN arithmetic, SACK encoding, the steering map and its program, CRC, timers. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "softrdma/wire/steer.h"
#include "softrdma/wire/wire.h"

static void test_psn(void **state)
{
	(void)state;
	assert_int_equal(sr_psn_add(0xffffff, 1), 0);
	assert_int_equal(sr_psn_diff(0, 0xffffff), 1);
	assert_int_equal(sr_psn_diff(0xffffff, 0), -1);
	assert_int_equal(sr_psn_diff(0x7fffff, 0), 0x7fffff);
	assert_int_equal(sr_psn_diff(0x800000, 0), -0x800000);
	for (uint32_t a = 0; a < 0x1000000; a += 77777)
		assert_int_equal(sr_psn_diff(sr_psn_add(a, 4096), a), 4096);
}

static void test_crc(void **state)
{
	static uint8_t data[5000];
	(void)state;
	assert_int_equal(~sr_crc32(SR_CRC32_INIT, "123456789", 9), 0xcbf43926);
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)rand();
	for (size_t len = 0; len < 1200; len++) {
		const uint8_t *at = data + len % 13;
		uint32_t whole = sr_crc32(SR_CRC32_INIT, at, len), cut = len ? (uint32_t)rand() % (uint32_t)len : 0;
		assert_int_equal(whole, sr_crc32_portable(SR_CRC32_INIT, at, len));
		assert_int_equal(whole, sr_crc32(sr_crc32(SR_CRC32_INIT, at, cut), at + cut, len - cut));
	}
}

/* The XRC header comes first behind the BTH, and only in requests. */
static void test_xrc_layout(void **state)
{
	static const uint8_t write[] = { 0xab, 0x40, 0xff, 0xff, 0x00, 0x12, 0x34, 0x56, 0x80, 0xab, 0xcd, 0xef, /* BTH */
					 0x00, 0x65, 0x43, 0x21,						  /* XRCETH */
					 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0xaa, 0xbb, 0xcc, 0xdd, 0x00, 0x00, 0x00, 0x04,
					 0x11, 0x22, 0x33, 0x44,						  /* immediate */
					 'd', 'a', 't', 'a', 0, 0, 0, 0 };					  /* payload, ICRC */
	static const uint8_t ack[] = { 0xb1, 0x40, 0xff, 0xff, 0x00, 0x12, 0x34, 0x56, 0x00, 0xab, 0xcd, 0xef,
				       0x1f, 0x00, 0x00, 0x02, 0, 0, 0, 0 };
	struct sr_pkt p;
	uint8_t out[SR_HEADERS_MAX];
	(void)state;
	assert_int_equal(sr_pkt_decode(&p, write, sizeof(write)), SR_PKT_OK);
	assert_int_equal(p.srqn, 0x654321);
	assert_int_equal(p.va, 0x0102030405060708);
	assert_int_equal(p.rkey, 0xaabbccdd);
	assert_int_equal(p.dma_len, 4);
	assert_int_equal(p.payload_len, 4);
	assert_memory_equal(p.payload, "data", 4);
	assert_int_equal(sr_pkt_encode(&p, out), 36);
	assert_memory_equal(out, write, 36);
	assert_int_equal(sr_pkt_decode(&p, ack, sizeof(ack)), SR_PKT_OK);
	assert_int_equal(p.msn, 2);
	assert_int_equal(p.flags & SR_H_XRC, 0);
	/* Too short for it, and the operations that XRC does not have. */
	assert_int_equal(sr_pkt_decode(&p, write, 16), SR_PKT_SHORT);
	for (unsigned op = 0x18; op <= 0x1f; op++)
		assert_int_equal(sr_op_flags[SR_OP_XRC | op], 0);
	assert_int_equal(sr_op_flags[SR_OP_XRC | 0x15], 0);
	/* Everything of RC, and nothing else. */
	for (unsigned op = 0; op < 0x20; op++)
		assert_int_equal(sr_op_flags[SR_OP_XRC | op] & ~(uint32_t)SR_H_XRC, sr_op_flags[op]);
}

static void test_sack(void **state)
{
	struct sr_sack in = { .echo_psn = 0xabcdef, .echo_sends = 99, .held_us = 1234, .words = 3, .bits = { 6, 0, UINT64_C(1) << 63 } }, out;
	uint8_t bytes[SR_SACK_BYTES_MAX + 8] = { 0 };
	(void)state;
	size_t n = sr_sack_build(&in, bytes);
	assert_int_equal(n, 32);
	assert_true(sr_sack_parse(&out, bytes, n));
	assert_int_equal(out.echo_psn, in.echo_psn);
	assert_int_equal(out.echo_sends, in.echo_sends);
	assert_int_equal(out.held_us, in.held_us);
	assert_int_equal(out.words, 3);
	assert_memory_equal(out.bits, in.bits, 24);
	assert_false(sr_sack_parse(&out, bytes, 7));
	assert_false(sr_sack_parse(&out, bytes, 12));
	assert_true(sr_sack_parse(&out, bytes, SR_SACK_BYTES_MAX));
	assert_false(sr_sack_parse(&out, bytes, SR_SACK_BYTES_MAX + 8));
}

/* What the kernel does with a packet for this slot. */
static uint32_t run_program(const struct sock_filter *code, int n, uint8_t slot)
{
	uint32_t a = 0;
	for (int pc = 0; pc < n; pc++) {
		switch (code[pc].code) {
		case BPF_LD | BPF_B | BPF_ABS:
			assert_int_equal(code[pc].k, 5);
			a = slot;
			break;
		case BPF_JMP | BPF_JEQ | BPF_K:
			pc += a == code[pc].k ? code[pc].jt : code[pc].jf;
			break;
		case BPF_RET | BPF_K:
			return code[pc].k;
		default:
			fail();
		}
	}
	fail();
	return 0;
}

static uint64_t owners[256];
static uint64_t owner_of(unsigned slot) { return owners[slot]; }

static uint32_t route(const struct sr_steer_map *map, uint8_t slot)
{
	struct sock_filter code[SR_STEER_PROGRAM_MAX];
	int n = sr_steer_program(map, code);
	assert_true(n <= SR_STEER_PROGRAM_MAX);
	return run_program(code, n, slot);
}

/* Random births and deaths, each noticed before the next: the picture must equal the kernel's array at every step. */
static void test_steering_follows_the_kernel(void **state)
{
	struct sr_steer_map map = { 0 };
	uint8_t kernel[SR_STEER_MAX]; /* the array: append, and the last into the gap */
	uint32_t count = 0;
	(void)state;
	memset(owners, 0, sizeof(owners));
	srand(7);
	for (int step = 1; step < 3000; step++) {
		uint8_t slot = (uint8_t)(1 + rand() % 254);
		if (owners[slot]) {
			owners[slot] = 0;
			for (uint32_t i = 0; i < count; i++)
				if (kernel[i] == slot)
					kernel[i] = kernel[--count];
			sr_steer_map_prune(&map, owner_of);
		} else {
			owners[slot] = (uint64_t)step;
			kernel[count++] = slot;
			assert_int_equal(sr_steer_map_append(&map, slot, owners[slot]), 0);
		}
		assert_int_equal(map.count, count);
		for (uint32_t i = 0; i < count; i++)
			assert_int_equal(route(&map, kernel[i]), i);
		assert_int_equal(route(&map, 255), UINT32_MAX);
	}
}

/* A reused slot is another process: its old entry goes. Two deaths at once may leave a wrong picture, which one misrouted
 * packet puts right. */
static void test_steering_learns(void **state)
{
	struct sr_steer_map map = { 0 };
	(void)state;
	memset(owners, 0, sizeof(owners));
	for (uint8_t slot = 1; slot <= 4; slot++)
		sr_steer_map_append(&map, slot, owners[slot] = slot);
	owners[2] = 99; /* died and was taken by a newcomer that has not joined the port yet */
	sr_steer_map_prune(&map, owner_of);
	assert_int_equal(map.count, 3);
	assert_int_equal(route(&map, 2), UINT32_MAX);
	assert_int_equal(route(&map, 4), 1);
	/* Really 3 sits at 1 and 4 at 2: a packet for 4 reached 3. */
	uint32_t version = map.version;
	sr_steer_map_learn(&map, 4, 3);
	assert_int_equal(route(&map, 3), 1);
	assert_int_equal(route(&map, 4), 2);
	assert_int_not_equal(map.version, version);
	version = map.version;
	sr_steer_map_learn(&map, 200, 3); /* unknown: nothing to learn */
	assert_int_equal(map.version, version);
	map.count = 70000; /* a damaged file is not believed */
	sr_steer_map_prune(&map, owner_of);
	assert_int_equal(map.count, 0);
}

static void test_timeouts(void **state)
{
	(void)state;
	assert_int_equal(sr_ack_timeout_ns(14), UINT64_C(4096) << 14);
	assert_int_equal(sr_ack_timeout_ns(20), UINT64_C(4096) << 20);
	assert_true(sr_ack_timeout_ns(1) >= 10000000); /* no shorter than a busy host's time slice */
}

static void test_window_grows_and_shrinks(void **state)
{
	struct sr_cc cc;
	uint32_t now_us = 0;
	(void)state;
	sr_cc_init(&cc, now_us);
	for (int i = 0; i < 20; i++)
		sr_cc_ack(&cc, 32, 50, true, now_us += 50);
	uint32_t grown = sr_cc_window(&cc);
	assert_true(grown > SR_CC_START_PACKETS);
	sr_cc_ack(&cc, 32, 50, false, now_us += 50); /* not limited by the window: no opinion */
	assert_int_equal(sr_cc_window(&cc), grown);
	for (int i = 0; i < 200; i++)
		sr_cc_ack(&cc, 1, 5000, true, now_us += 5000);
	assert_true(sr_cc_window(&cc) < grown / 2);
	assert_true(sr_cc_window(&cc) >= SR_CC_MIN_PACKETS);
	/* Acknowledgements without a time do not open it. */
	uint32_t shrunk = sr_cc_window(&cc);
	for (int i = 0; i < 100; i++)
		sr_cc_ack(&cc, 32, 0, true, now_us += 50);
	assert_int_equal(sr_cc_window(&cc), shrunk);
	for (int i = 0; i < 100000; i++)
		sr_cc_ack(&cc, 64, 20, true, now_us += 20);
	assert_int_equal(sr_cc_window(&cc), SR_CC_MAX_PACKETS);
	/* Three percent of loss is nothing, forty are. */
	for (int i = 0; i < 100; i++) {
		sr_cc_loss(&cc, 3);
		sr_cc_ack(&cc, 97, 20, true, now_us += 200);
	}
	assert_int_equal(sr_cc_window(&cc), SR_CC_MAX_PACKETS);
	for (int i = 0; i < 100; i++) {
		sr_cc_loss(&cc, 40);
		sr_cc_ack(&cc, 60, 20, true, now_us += 200);
	}
	assert_true(sr_cc_window(&cc) < SR_CC_MAX_PACKETS / 2);
}

static void test_fault_text(void **state)
{
	(void)state;
	sr_fault_init("loss=0.5,dup=1,seed=9");
	assert_true(sr_fault.on);
	assert_int_equal(sr_fault.loss, 1u << 31);
	assert_int_equal(sr_fault.dup, UINT32_MAX);
	assert_int_equal(sr_fault.seed, 9);
	sr_fault_init(NULL);
	assert_false(sr_fault.on);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_psn),
		cmocka_unit_test(test_crc),
		cmocka_unit_test(test_xrc_layout),
		cmocka_unit_test(test_sack),
		cmocka_unit_test(test_steering_follows_the_kernel),
		cmocka_unit_test(test_steering_learns),
		cmocka_unit_test(test_timeouts),
		cmocka_unit_test(test_window_grows_and_shrinks),
		cmocka_unit_test(test_fault_text),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
