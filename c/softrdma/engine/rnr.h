/* rnr.h - the RNR NAK timer field (InfiniBand Architecture Specification, volume 1, table 45), in nanoseconds. */
#ifndef SR_RNR_H
#define SR_RNR_H
#include <stdint.h>

static inline uint64_t sr_rnr_timer_ns(unsigned code)
{
	static const uint32_t us[32] = {
		655360, 10,   20,   30,   40,   60,   80,    120,   160,   240,   320,   480,    640,    960,    1280,   1920,
		2560,   3840, 5120, 7680, 10240, 15360, 20480, 30720, 40960, 61440, 81920, 122880, 163840, 245760, 327680, 491520,
	};
	return us[code & 31] * 1000ull;
}
#endif
