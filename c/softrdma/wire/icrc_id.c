/*
 * icrc_id.c - finds the IPv4 identification that a UDP socket does not show.
 *
 * A CRC register stepped over one zero bit is multiplied by x modulo P. The identification's 16 bits enter the register and
 * are then multiplied by x^(8n) while the n bytes behind them pass. Multiplying the residue by x^-(8n+16) undoes both; what
 * remains must be the 16 bits themselves, with the upper half of the register zero.
 */
#include "icrc.h"

/* Registers are bit-reflected: bit 31 is x^0. */
static uint32_t times_x_inverse(uint32_t a)
{
	return a & 0x80000000u ? (a ^ SR_CRC32_POLY) << 1 | 1 : a << 1;
}

static uint32_t times_x(uint32_t a) { return a & 1 ? a >> 1 ^ SR_CRC32_POLY : a >> 1; }

static uint32_t multiply(uint32_t a, uint32_t b)
{
	uint32_t product = 0;
	for (uint32_t bit = 0x80000000u; bit; bit >>= 1) {
		if (a & bit)
			product ^= b;
		b = times_x(b);
	}
	return product;
}

#define POWERS 20 /* x^-(2^0) .. x^-(2^19): packets up to 64 KiB have fewer than 2^20 bits */
static uint32_t inverse_powers[POWERS];

__attribute__((constructor)) static void build_powers(void)
{
	inverse_powers[0] = times_x_inverse(0x80000000u);
	for (int i = 1; i < POWERS; i++)
		inverse_powers[i] = multiply(inverse_powers[i - 1], inverse_powers[i - 1]);
}

/* Packets of a stream have one or two lengths. Entries are (length << 32 | factor), so one aligned word is the whole entry and
 * a race can only cost a recomputation. */
#define CACHE 16
static uint64_t cache[CACHE];

static uint32_t inverse_of_length(size_t bytes_after_id)
{
	uint64_t *slot = &cache[(bytes_after_id >> 2) % CACHE];
	uint64_t seen = __atomic_load_n(slot, __ATOMIC_RELAXED);
	if (seen >> 32 == bytes_after_id)
		return (uint32_t)seen;
	uint32_t factor = 0x80000000u;
	size_t bits = bytes_after_id * 8 + 16;
	for (int i = 0; i < POWERS; i++)
		if (bits >> i & 1)
			factor = multiply(factor, inverse_powers[i]);
	__atomic_store_n(slot, (uint64_t)bytes_after_id << 32 | factor, __ATOMIC_RELAXED);
	return factor;
}

bool sr_icrc_recover_id(uint32_t residue, size_t bytes_after_id, uint16_t *ip_id)
{
	if (bytes_after_id > UINT16_MAX)
		return false;
	uint32_t bits = multiply(residue, inverse_of_length(bytes_after_id));
	if (bits >> 16)
		return false;
	*ip_id = (uint16_t)((bits & 0xff) << 8 | bits >> 8); /* the byte that came first is the low one */
	return true;
}
