/* c/datapath/pattern.h: stamps tell exchanges apart, and every wrong byte is found where it is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "datapath/datapath.h"
#include "datapath/pattern.h"

static const uint32_t sizes[] = {1, 2, 7, 8, 9, 10, 15, 16, 17, 63, 64, 100, 4096, 4097};
#define SIZES (sizeof(sizes) / sizeof(sizes[0]))

static void what_was_filled_checks_out(void **state)
{
	(void)state;
	uint8_t message[4097];
	for (size_t i = 0; i < SIZES; i++)
		for (uint64_t exchange = 0; exchange < 600; exchange += 7) {
			rk_pattern_fill(message, sizes[i], 99, exchange, RK_DP_CLIENT);
			assert_int_equal(rk_pattern_check(message, sizes[i], 99, exchange, RK_DP_CLIENT, NULL, NULL), -1);
			assert_true(rk_stamp_matches(message, sizes[i], exchange));
			assert_false(rk_stamp_matches(message, sizes[i], exchange + 1));
			assert_int_equal(rk_marker(rk_stamp_read(message, sizes[i])), rk_marker(exchange));
		}
}

static void every_flipped_byte_is_found(void **state)
{
	(void)state;
	uint8_t message[4097];
	for (size_t i = 0; i < SIZES; i++)
		for (uint32_t at = 0; at < sizes[i]; at += sizes[i] > 200 ? 13 : 1) {
			uint8_t expected, found;
			rk_pattern_fill(message, sizes[i], 1, 12, RK_DP_SERVER);
			uint8_t right = message[at];
			message[at] ^= 0x10;
			assert_int_equal(rk_pattern_check(message, sizes[i], 1, 12, RK_DP_SERVER, &expected, &found), at);
			assert_int_equal(expected, right);
			assert_int_equal(found, right ^ 0x10);
		}
}

static void another_exchange_seed_or_direction_does_not_pass(void **state)
{
	(void)state;
	uint8_t message[64];
	rk_pattern_fill(message, 64, 5, 300, RK_DP_CLIENT);
	assert_true(rk_pattern_check(message, 64, 5, 301, RK_DP_CLIENT, NULL, NULL) >= 0);
	assert_true(rk_pattern_check(message, 64, 6, 300, RK_DP_CLIENT, NULL, NULL) >= 0);
	assert_true(rk_pattern_check(message, 64, 5, 300, RK_DP_SERVER, NULL, NULL) >= 0);
}

static void markers_change_every_time_and_are_never_zero(void **state)
{
	(void)state;
	for (uint64_t i = 0; i < 2000; i++) {
		assert_int_not_equal(rk_marker(i), 0);
		assert_int_not_equal(rk_marker(i), rk_marker(i + 1));
	}
}

static void nothing_is_written_outside(void **state)
{
	(void)state;
	for (size_t i = 0; i < SIZES; i++) {
		uint8_t *message = malloc(sizes[i] + 2);
		message[0] = message[sizes[i] + 1] = 0xa5;
		rk_pattern_fill(message + 1, sizes[i], 2, 3, RK_DP_CLIENT);
		rk_stamp(message + 1, sizes[i], 4);
		assert_int_equal(message[0], 0xa5);
		assert_int_equal(message[sizes[i] + 1], 0xa5);
		free(message);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_filled_checks_out),
		cmocka_unit_test(every_flipped_byte_is_found),
		cmocka_unit_test(another_exchange_seed_or_direction_does_not_pass),
		cmocka_unit_test(markers_change_every_time_and_are_never_zero),
		cmocka_unit_test(nothing_is_written_outside),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
