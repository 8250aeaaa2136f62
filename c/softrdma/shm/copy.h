/* copy.h - placing RDMA WRITE data: the last bytes last, because applications watch them to see that all has arrived. */
#ifndef SR_COPY_H
#define SR_COPY_H
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

static inline void sr_copy_ordered(void *to, const void *from, size_t len)
{
	char *t = to;
	const char *f = from;
	size_t tail = len >= 8 ? 8 : len >= 4 ? 4 : len >= 2 ? 2 : len;
	size_t body = len - tail;
	if (body) {
		memcpy(t, f, body);
		atomic_thread_fence(memory_order_release);
	}
	t += body;
	f += body;
	/* Single stores: a watcher never sees half a word. */
	switch (tail) {
	case 8: {
		uint64_t v;
		memcpy(&v, f, 8);
		__builtin_memcpy(t, &v, 8);
		break;
	}
	case 4: {
		uint32_t v;
		memcpy(&v, f, 4);
		__builtin_memcpy(t, &v, 4);
		break;
	}
	case 2: {
		uint16_t v;
		memcpy(&v, f, 2);
		__builtin_memcpy(t, &v, 2);
		break;
	}
	case 1:
		*t = *f;
		break;
	default:
		break;
	}
}
#endif
