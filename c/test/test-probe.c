/* c/probe/train.h: what the agent of topo probe counts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "probe/train.h"

static void take(struct train *train, uint32_t sequence, uint64_t stamp_ns)
{
	struct probe_packet packet = {.kind = PROBE_DATA, .id = train->id, .sequence = sequence};

	train_take(train, &packet, 1472, stamp_ns);
}

static void a_header_is_read_as_it_was_written(void **state)
{
	(void)state;
	struct probe_packet packet = {.kind = PROBE_ANSWER, .id = UINT64_C(0x0123456789abcdef), .sequence = 0xfedcba98,
				      .held_ns = UINT64_C(0x1122334455667788)};
	struct probe_packet again;
	uint8_t data[PROBE_HEADER_BYTES + 1];

	/* Not aligned, as it may lie in a datagram. */
	probe_encode(&packet, data + 1);
	assert_true(probe_decode(&again, data + 1, PROBE_HEADER_BYTES));
	assert_int_equal(again.kind, packet.kind);
	assert_int_equal(again.id, packet.id);
	assert_int_equal(again.sequence, packet.sequence);
	assert_int_equal(again.held_ns, packet.held_ns);
	assert_int_equal(data[1], 'r');
	assert_false(probe_decode(&again, data + 1, PROBE_HEADER_BYTES - 1));
	data[1 + 4] = 4;
	assert_false(probe_decode(&again, data + 1, PROBE_HEADER_BYTES));
}

static void duplicates_strangers_and_beyond_are_told_apart(void **state)
{
	(void)state;
	struct train train = {0};
	struct probe_packet stranger = {.kind = PROBE_DATA, .id = 2, .sequence = 1};

	assert_false(train_expect(&train, 1, 0));
	assert_false(train_expect(&train, 1, TRAIN_MAX_PACKETS + 1));
	assert_true(train_expect(&train, 1, 10));
	for (uint32_t i = 0; i < 8; i++)
		take(&train, i, i + 1);
	take(&train, 3, 20);
	take(&train, 10, 21);
	train_take(&train, &stranger, 1472, 22);
	assert_int_equal(train.unique, 8);
	assert_int_equal(train.count, 9);
	for (uint32_t i = 0; i < 50; i++)
		take(&train, 3, 30 + i);
	assert_int_equal(train.unique, 8);
	assert_int_equal(train.count, 10);
	train_free(&train);
}

/* 1514-byte frames, one a microsecond: 12.112 Gbit/s. */
static const double RATE = 1514 * 8e9 / 1000;

static void the_rate_survives_a_burst_at_the_beginning_and_a_pause(void **state)
{
	(void)state;
	struct train train = {0};

	assert_true(train_expect(&train, 1, 10000));
	uint64_t at = 1000000;
	for (uint32_t i = 0; i < 10000; i++) {
		/* The first tenth at once; then even, but for a pause and what it held up. */
		if (i >= 1000)
			at += 1000;
		take(&train, i, i >= 6000 && i < 6150 ? 1000000 + 5150 * 1000 : at);
	}
	double rate = train_rate_bps(&train);
	assert_true(rate > RATE * 0.999 && rate < RATE * 1.001);
	train_free(&train);
}

static void few_packets_have_a_rate_too(void **state)
{
	(void)state;
	struct train train = {0};

	assert_true(train_expect(&train, 1, 6));
	assert_true(train_rate_bps(&train) == 0);
	take(&train, 0, 1000);
	assert_true(train_rate_bps(&train) == 0);
	for (uint32_t i = 1; i < 6; i++)
		take(&train, i, 1000 + i * 1000);
	assert_true(train_rate_bps(&train) > RATE * 0.999 && train_rate_bps(&train) < RATE * 1.001);
	/* A clock that stands still gives no rate, and no division by zero. */
	assert_true(train_expect(&train, 1, 6));
	for (uint32_t i = 0; i < 6; i++)
		take(&train, i, 1000);
	assert_true(train_rate_bps(&train) == 0);
	train_free(&train);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_header_is_read_as_it_was_written),
		cmocka_unit_test(duplicates_strangers_and_beyond_are_told_apart),
		cmocka_unit_test(the_rate_survives_a_burst_at_the_beginning_and_a_pause),
		cmocka_unit_test(few_packets_have_a_rate_too),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
