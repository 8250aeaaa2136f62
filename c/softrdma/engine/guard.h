/*
 * guard.h - touching memory of the application that may be gone.
 *
 * A registered region can be unmapped, made read-only, or lose its file's pages (truncation) while it is registered. An adapter
 * keeps the pages or reports an error; here it is the engine's own load or store that faults. Every access to registered memory
 * goes through these functions, which report a fault instead of ending the process.
 *
 * The handler of SIGSEGV and SIGBUS that this takes is installed with the first memory region. It acts only on faults of
 * these functions and hands every other one to the handler that was there before.
 *
 * What it costs: nothing for copies up to SR_GUARD_SMALL bytes on x86-64 (the handler knows the copy by its
 * address), a __builtin_setjmp (2 ns) for everything else.
 */
#ifndef SR_GUARD_H
#define SR_GUARD_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define SR_GUARD_SMALL 128u

/* Installs the handler; once a process. */
void sr_guard_install(void);
/* Lets this thread's faults reach the handler, whatever its signal mask said: a fault whose signal is blocked ends the process. */
static inline void sr_guard_this_thread(void);

/* memcpy() with the last bytes last: a single store of 1, 2, 4 or 8 bytes after all others, because applications watch the end of
 * a WRITE to see that all has arrived. False: memory of one side was not there; part of it may have been copied. */
static inline bool sr_guard_copy_ordered(void *to, const void *from, size_t len);
/* Executes an atomic (enum ibv_wr_opcode) on 8 aligned bytes with a CPU atomic, so that it is atomic for all queue pairs and processes.
 * *old: the value before; values are in host order. False when the memory is not there. */
bool sr_guard_atomic(void *addr, uint8_t opcode, uint64_t compare_add, uint64_t swap, uint64_t *old);
/* sr_crc32() over payload. */
bool sr_guard_crc32(uint32_t *state, const void *data, size_t len);

/* For the inline functions. */
extern _Thread_local bool sr_guard_unblocked __attribute__((tls_model("initial-exec"), visibility("hidden")));
void sr_guard_unblock(void);
bool sr_guard_copy_large(void *to, const void *from, size_t len);
bool sr_guard_copy_ordered_any(void *to, const void *from, size_t len);
#if defined(__x86_64__)
int sr_guard_copy_small(void *to, const void *from, size_t len); /* 0, or not when it faulted */
#endif

static inline void sr_guard_this_thread(void)
{
	if (__builtin_expect(!sr_guard_unblocked, 0))
		sr_guard_unblock();
}

/* memcpy(); false as above. */
static inline bool sr_guard_copy(void *to, const void *from, size_t len)
{
#if defined(__x86_64__)
	if (__builtin_expect(len <= SR_GUARD_SMALL, 1))
		return !sr_guard_copy_small(to, from, len);
#endif
	return sr_guard_copy_large(to, from, len);
}

static inline bool sr_guard_copy_ordered(void *to, const void *from, size_t len)
{
#if defined(__x86_64__)
	if (len == 8) /* a word to be watched, or the small one that rates are measured with */
		return !sr_guard_copy_small(to, from, 8);
#endif
	return sr_guard_copy_ordered_any(to, from, len);
}

/* Pieces of the application's memory, to one place. */
static inline bool sr_guard_gather(void *to, const struct iovec *iov, int n)
{
	char *t = to;
	for (int i = 0; i < n; t += iov[i++].iov_len)
		if (!sr_guard_copy(t, iov[i].iov_base, iov[i].iov_len))
			return false;
	return true;
}

/* From one place, to pieces. */
static inline bool sr_guard_spread(const struct iovec *iov, int n, const void *from)
{
	const char *f = from;
	for (int i = 0; i < n; f += iov[i++].iov_len)
		if (!sr_guard_copy(iov[i].iov_base, f, iov[i].iov_len))
			return false;
	return true;
}
#endif
