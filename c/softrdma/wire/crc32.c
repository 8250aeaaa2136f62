/*
 * crc32.c - CRC-32 by folding with carry-less multiplication (V. Gopal et al., "Fast CRC Computation for Generic
 * Polynomials Using PCLMULQDQ Instruction", Intel, 2009), and by eight tables (M. Kounavis, F. Berry, "A Systematic Approach
 * to Building High Performance, Software-based, CRC Generators", ISCC 2005) for the rest.
 */
#include "crc32.h"
#include <endian.h>
#include <stdbool.h>
#include <string.h>

static uint32_t table[8][256];

__attribute__((constructor)) static void build_tables(void)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t c = i;
		for (int bit = 0; bit < 8; bit++)
			c = c >> 1 ^ (c & 1 ? SR_CRC32_POLY : 0);
		table[0][i] = c;
	}
	for (uint32_t i = 0; i < 256; i++)
		for (int t = 1; t < 8; t++)
			table[t][i] = table[t - 1][i] >> 8 ^ table[0][table[t - 1][i] & 0xff];
}

uint32_t sr_crc32_portable(uint32_t c, const void *buf, size_t len)
{
	const uint8_t *p = buf;
	for (; len >= 8; p += 8, len -= 8) {
		uint64_t v;
		memcpy(&v, p, 8);
		v = le64toh(v) ^ c;
		c = table[7][v & 0xff] ^ table[6][v >> 8 & 0xff] ^ table[5][v >> 16 & 0xff] ^ table[4][v >> 24 & 0xff] ^
		    table[3][v >> 32 & 0xff] ^ table[2][v >> 40 & 0xff] ^ table[1][v >> 48 & 0xff] ^ table[0][v >> 56];
	}
	if (len >= 4) {
		uint32_t v;
		memcpy(&v, p, 4);
		v = le32toh(v) ^ c;
		c = table[3][v & 0xff] ^ table[2][v >> 8 & 0xff] ^ table[1][v >> 16 & 0xff] ^ table[0][v >> 24];
		p += 4;
		len -= 4;
	}
	while (len--)
		c = c >> 8 ^ table[0][(c ^ *p++) & 0xff];
	return c;
}

#if defined(__x86_64__)
#include <immintrin.h>

#define CLMUL __attribute__((target("pclmul,sse4.1")))

/* a's halves times the two constants in k, xored: moves 128 bits of remainder forward by the distance k stands for. */
CLMUL static inline __m128i fold(__m128i a, __m128i k)
{
	return _mm_xor_si128(_mm_clmulepi64_si128(a, k, 0x00), _mm_clmulepi64_si128(a, k, 0x11));
}

/* len is a multiple of 16 and not 0. */
CLMUL static uint32_t crc32_folded(uint32_t state, const uint8_t *p, size_t len)
{
	/* x^(distance +- 32) mod P, bit-reflected: 512, 128 and 64 bits of distance, then P itself and its Barrett inverse. */
	const __m128i by64 = _mm_set_epi64x(0x01c6e41596, 0x0154442bd4);
	const __m128i by16 = _mm_set_epi64x(0x00ccaa009e, 0x01751997d0);
	const __m128i by8 = _mm_set_epi64x(0, 0x0163cd6124);
	const __m128i barrett = _mm_set_epi64x(0x01f7011641, 0x01db710641);
	const __m128i low32 = _mm_setr_epi32(-1, 0, -1, 0);
	const __m128i *v = (const __m128i *)(const void *)p;
	__m128i a = _mm_xor_si128(_mm_loadu_si128(v++), _mm_cvtsi32_si128((int)state));
	len -= 16;
	if (len >= 48) {
		__m128i b = _mm_loadu_si128(v++), c = _mm_loadu_si128(v++), d = _mm_loadu_si128(v++);
		for (len -= 48; len >= 64; len -= 64, v += 4) {
			a = _mm_xor_si128(fold(a, by64), _mm_loadu_si128(v));
			b = _mm_xor_si128(fold(b, by64), _mm_loadu_si128(v + 1));
			c = _mm_xor_si128(fold(c, by64), _mm_loadu_si128(v + 2));
			d = _mm_xor_si128(fold(d, by64), _mm_loadu_si128(v + 3));
		}
		a = _mm_xor_si128(fold(a, by16), b);
		a = _mm_xor_si128(fold(a, by16), c);
		a = _mm_xor_si128(fold(a, by16), d);
	}
	for (; len >= 16; len -= 16)
		a = _mm_xor_si128(fold(a, by16), _mm_loadu_si128(v++));

	a = _mm_xor_si128(_mm_clmulepi64_si128(a, by16, 0x10), _mm_srli_si128(a, 8));			/* 128 -> 96 */
	a = _mm_xor_si128(_mm_clmulepi64_si128(_mm_and_si128(a, low32), by8, 0x00), _mm_srli_si128(a, 4)); /* -> 64 */
	__m128i q = _mm_clmulepi64_si128(_mm_and_si128(a, low32), barrett, 0x10);
	q = _mm_clmulepi64_si128(_mm_and_si128(q, low32), barrett, 0x00);
	return (uint32_t)_mm_extract_epi32(_mm_xor_si128(a, q), 1);
}

static bool has_clmul;
__attribute__((constructor)) static void detect(void)
{
	__builtin_cpu_init();
	has_clmul = __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1");
}

uint32_t sr_crc32(uint32_t state, const void *buf, size_t len)
{
	const uint8_t *p = buf;
	if (len >= 16 && has_clmul) {
		size_t whole = len & ~(size_t)15;
		state = crc32_folded(state, p, whole);
		p += whole;
		len -= whole;
	}
	return sr_crc32_portable(state, p, len);
}
#else
uint32_t sr_crc32(uint32_t state, const void *buf, size_t len) { return sr_crc32_portable(state, buf, len); }
#endif
