/* Verification patterns: see pattern.h. */
#include "pattern.h"

#include "datapath.h"

static uint64_t mix(uint64_t z)
{
	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

#define GOLDEN UINT64_C(0x9e3779b97f4a7c15)

static uint64_t key_of(uint32_t size, uint64_t seed, uint64_t exchange, uint32_t role)
{
	uint64_t id = size > RK_STAMP_BYTES ? exchange : rk_marker(exchange);
	return mix(seed + GOLDEN * (2 * id + role + 1));
}

static uint64_t word_at(uint64_t key, uint32_t offset)
{
	return mix(key + GOLDEN * (offset / 8 + 1));
}

void rk_pattern_fill(uint8_t *message, uint32_t size, uint64_t seed, uint64_t exchange, uint32_t role)
{
	uint64_t key = key_of(size, seed, exchange, role);
	for (uint32_t offset = 0; offset < size; offset += 8) {
		uint64_t word = word_at(key, offset);
		memcpy(message + offset, &word, size - offset < 8 ? size - offset : 8);
	}
	rk_stamp(message, size, exchange);
}

int64_t rk_pattern_check(const uint8_t *message, uint32_t size, uint64_t seed, uint64_t exchange, uint32_t role,
			 uint8_t *expected, uint8_t *found)
{
	uint64_t key = key_of(size, seed, exchange, role);
	for (uint32_t offset = 0; offset < size; offset += 8) {
		uint32_t length = size - offset < 8 ? size - offset : 8;
		uint8_t want[8], have[8] = {0};
		uint64_t word = word_at(key, offset);
		memcpy(want, &word, 8);
		if (offset == 0 && size > RK_STAMP_BYTES)
			memcpy(want, &exchange, 8);
		if (offset + length == size)
			want[length - 1] = rk_marker(exchange);
		memcpy(have, message + offset, length);
		if (memcmp(want, have, length) == 0)
			continue;
		for (uint32_t i = 0; i < length; i++) {
			if (want[i] == have[i])
				continue;
			if (expected)
				*expected = want[i];
			if (found)
				*found = have[i];
			return (int64_t)offset + i;
		}
	}
	return -1;
}

void rk_dp_pattern_fill(void *buffer, uint32_t size, uint64_t seed, uint64_t iteration, uint32_t role)
{
	rk_pattern_fill(buffer, size, seed, iteration, role);
}

int64_t rk_dp_pattern_check(const void *buffer, uint32_t size, uint64_t seed, uint64_t iteration, uint32_t role)
{
	return rk_pattern_check(buffer, size, seed, iteration, role, NULL, NULL);
}
