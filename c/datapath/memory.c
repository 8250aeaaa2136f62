/* Memory of the loops: statistics blocks, message buffers and their layout, and the sizes that bindings check. */
#define _GNU_SOURCE
#include <errno.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

#include "loop.h"

_Static_assert(offsetof(struct rk_dp_stats, posted) == 64, "documented offset");
_Static_assert(offsetof(struct rk_dp_stats, error_stage) == 256, "documented offset");
_Static_assert(offsetof(struct rk_dp_stats, samples) == 1024, "documented offset");
_Static_assert(offsetof(struct rk_dp_stats, hist) == 17408, "documented offset");

/* Slots are a cache line apart at least, so that two messages never share one. */
#define SLOT_ALIGN UINT64_C(64)

static uint64_t round_up(uint64_t value, uint64_t unit)
{
	return (value + unit - 1) / unit * unit;
}

uint32_t rk_dp_abi(void)
{
	return RK_DP_ABI;
}

uint64_t rk_dp_sizeof(uint32_t which)
{
	switch (which) {
	case RK_DP_SIZEOF_STATS:
		return sizeof(struct rk_dp_stats);
	case RK_DP_SIZEOF_PINGPONG:
		return sizeof(struct rk_dp_pingpong);
	case RK_DP_SIZEOF_SOCKPP:
		return sizeof(struct rk_dp_sockpp);
	case RK_DP_SIZEOF_STREAM:
		return sizeof(struct rk_dp_stream);
	case RK_DP_SIZEOF_HIST:
		return sizeof(struct rk_hist);
	case RK_DP_SIZEOF_CLOCK_INFO:
		return sizeof(struct rk_dp_clock_info);
	case RK_DP_SIZEOF_RPING:
		return sizeof(struct rk_dp_rping);
	case RK_DP_SIZEOF_RPING_INFO:
		return sizeof(struct rk_dp_rping_info);
	default:
		return 0;
	}
}

static uint64_t page_size(void)
{
	return (uint64_t)sysconf(_SC_PAGESIZE);
}

void *rk_dp_buffer_new(uint64_t length)
{
	if (length == 0)
		length = 1;
	if (length > UINT64_MAX - page_size())
		return NULL;
	length = round_up(length, page_size());
	/* Populated now: a page fault inside a measured exchange would be blamed on the network. */
	void *buffer = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	return buffer == MAP_FAILED ? NULL : buffer;
}

int32_t rk_dp_buffer_free(void *buffer, uint64_t length)
{
	if (!buffer)
		return 0;
	if (length == 0)
		length = 1;
	return munmap(buffer, round_up(length, page_size())) == 0 ? 0 : -errno;
}

struct rk_dp_stats *rk_dp_stats_new(void)
{
	struct rk_dp_stats *stats = rk_dp_buffer_new(sizeof(*stats));
	if (stats) {
		stats->magic = RK_DP_STATS_MAGIC;
		stats->abi = RK_DP_ABI;
		stats->core = -1;
		rk_hist_init(&stats->hist);
	}
	return stats;
}

void rk_dp_stats_free(struct rk_dp_stats *stats)
{
	rk_dp_buffer_free(stats, sizeof(*stats));
}

uint64_t rk_dp_rx_offset(uint32_t size)
{
	return round_up(size ? size : 1, SLOT_ALIGN);
}

uint64_t rk_dp_rx_stride(uint32_t size)
{
	return round_up((uint64_t)size + RK_DP_GRH_BYTES, SLOT_ALIGN);
}

uint64_t rk_dp_buffer_length(uint32_t size, uint32_t rx_slots)
{
	return rk_dp_rx_offset(size) + rk_dp_rx_stride(size) * (rx_slots ? rx_slots : 1);
}

int32_t rk_dp_clock_info(struct rk_dp_clock_info *info)
{
	if (!info)
		return -EINVAL;
	const struct rk_clock *clock = rk_clock_get();
	info->source = clock->source;
	info->overhead_ns = clock->overhead_ns;
	info->ticks_per_s = clock->ticks_per_s;
	return 0;
}
