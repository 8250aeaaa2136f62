/*
 * sys.h - system calls made from inside the library: direct, because the C library's functions are the ones we replace, are
 * cancellation points and set errno. All return -errno.
 */
#ifndef VS_SYS_H
#define VS_SYS_H

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#if defined(__x86_64__)
#include <x86intrin.h>
#endif

static inline long vs_sys6(long n, long a, long b, long c, long d, long e, long f)
{
#if defined(__x86_64__)
	long r;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	__asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
	return r;
#elif defined(__aarch64__)
	register long x8 __asm__("x8") = n;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;
	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
	return x0;
#else
#error "socket-run knows the system calls of x86-64 and arm64 only"
#endif
}

#define vs_sys(n, ...) vs_sys_(n, ##__VA_ARGS__, 0, 0, 0, 0, 0, 0)
#define vs_sys_(n, a, b, c, d, e, f, ...) vs_sys6(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

static inline long vs_sys_sendmsg(int fd, const struct msghdr *m, int flags) { return vs_sys(SYS_sendmsg, fd, m, flags); }
static inline long vs_sys_recvmsg(int fd, struct msghdr *m, int flags) { return vs_sys(SYS_recvmsg, fd, m, flags); }
static inline long vs_sys_send(int fd, const void *p, size_t n, int flags) { return vs_sys(SYS_sendto, fd, p, n, flags, 0, 0); }
static inline long vs_sys_recv(int fd, void *p, size_t n, int flags) { return vs_sys(SYS_recvfrom, fd, p, n, flags, 0, 0); }
static inline long vs_sys_getsockopt(int fd, int level, int name, void *p, socklen_t *n)
{
	return vs_sys(SYS_getsockopt, fd, level, name, p, n);
}
static inline long vs_sys_setsockopt(int fd, int level, int name, const void *p, socklen_t n)
{
	return vs_sys(SYS_setsockopt, fd, level, name, p, n);
}
/* Never sleeps. */
static inline long vs_sys_poll_now(struct pollfd *p, unsigned n)
{
	struct timespec zero = { 0, 0 };
	return vs_sys(SYS_ppoll, p, n, &zero, 0, 8);
}
static inline long vs_sys_yield(void) { return vs_sys(SYS_sched_yield); }
static inline int vs_sys_gettid(void) { return (int)vs_sys(SYS_gettid); }
static inline int vs_sys_getpid(void) { return (int)vs_sys(SYS_getpid); }

static inline void vs_pause(void)
{
#if defined(__x86_64__)
	_mm_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

/* Ticks of no exact unit, for "a while ago". */
static inline uint64_t vs_ticks(void)
{
#if defined(__x86_64__)
	return __rdtsc();
#else
	uint64_t v;
	__asm__ volatile("mrs %0, cntvct_el0" : "=r"(v));
	return v;
#endif
}
#if defined(__x86_64__)
#define VS_TICKS_A_MS (UINT64_C(1) << 21)
#else
#define VS_TICKS_A_MS (UINT64_C(1) << 15)
#endif

static inline uint64_t vs_now_ns(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

#endif
