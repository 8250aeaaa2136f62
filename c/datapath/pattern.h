/*
 * What is inside a ping-pong message: a stamp that says which exchange it belongs to, and on demand a pattern that no
 * other exchange has, so that stale, misplaced or damaged bytes show.
 *
 * Stamp: the last byte is the exchange's marker, 1..255 and never the same twice in a row (a WRITE's arrival is seen by
 * polling it); messages of 9 bytes or more carry the full exchange number in their first 8 bytes.
 * Pattern: the bytes between, words of a SplitMix64 sequence (Steele, Lea, Flood 2014) keyed by seed, exchange and
 * direction. Messages too short for the number are keyed by the marker.
 */
#ifndef RK_PATTERN_H
#define RK_PATTERN_H

#include <stdint.h>
#include <string.h>

#define RK_STAMP_BYTES 8u

static inline uint8_t rk_marker(uint64_t exchange)
{
	return (uint8_t)(exchange % 255u + 1u);
}

/* Writes only the stamp. size 0 has none. */
static inline void rk_stamp(uint8_t *message, uint32_t size, uint64_t exchange)
{
	if (size > RK_STAMP_BYTES)
		memcpy(message, &exchange, RK_STAMP_BYTES);
	if (size > 0)
		message[size - 1] = rk_marker(exchange);
}

/* 1 when the message carries the stamp of that exchange; an empty message belongs to any. */
static inline int rk_stamp_matches(const uint8_t *message, uint32_t size, uint64_t exchange)
{
	if (size == 0)
		return 1;
	if (size > RK_STAMP_BYTES) {
		uint64_t found;
		memcpy(&found, message, RK_STAMP_BYTES);
		return found == exchange;
	}
	return message[size - 1] == rk_marker(exchange);
}

/* An exchange number that stamps the same way as this message did: the number itself, or one with the same marker. */
static inline uint64_t rk_stamp_read(const uint8_t *message, uint32_t size)
{
	if (size == 0)
		return 0;
	if (size > RK_STAMP_BYTES) {
		uint64_t found;
		memcpy(&found, message, RK_STAMP_BYTES);
		return found;
	}
	return message[size - 1] - 1u;
}

/* Fills a whole message, stamp included. role is the sender's enum rk_dp_role. */
void rk_pattern_fill(uint8_t *message, uint32_t size, uint64_t seed, uint64_t exchange, uint32_t role);
/* Offset of the first wrong byte, or -1; with expected and found bytes when the pointers are not NULL. */
int64_t rk_pattern_check(const uint8_t *message, uint32_t size, uint64_t seed, uint64_t exchange, uint32_t role,
			 uint8_t *expected, uint8_t *found);

#endif
