/* vsocket-kit.h - what scenarios of the socket layer are written with. A scenario prints what it sees; the harness runs it with and
 * without the library and compares. */
#ifndef VSOCKET_KIT_H
#define VSOCKET_KIT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* One scenario: `c` is the connecting and `s` the accepted end, both used enough beforehand to be accelerated. */
struct vk_scenario {
	const char *name;
	void (*run)(int c, int s);
	unsigned flags;
};
/* Its bytes are the kernel's by right: a ring is not expected to carry any of them. All others must move some in rings. */
#define VK_KERNEL 1u

/* Prints to the comparison; the same rules as printf. */
void vk_say(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Prints "what result errno" of a call: errno only when it failed. */
void vk_result(const char *what, long result);

/* A connected pair over 127.0.0.1 (or ::1), with a few bytes exchanged in both directions so that both are in use. */
void vk_pair(int *c, int *s, bool v6);
/* Only connected. */
void vk_raw_pair(int *c, int *s, bool v6);
/* Exchanges single bytes in both directions `times` times. */
void vk_warm(int c, int s, int times);

/* A byte of the test pattern. */
static inline unsigned char vk_byte(unsigned long at) { return (unsigned char)(at * 131 + (at >> 8) * 7 + (at >> 16)); }
void vk_fill(unsigned char *p, size_t n, unsigned long at);
bool vk_check(const unsigned char *p, size_t n, unsigned long at);
/* Blocking transfers of the whole length; exit with a message otherwise. */
void vk_put(int fd, const void *p, size_t n);
void vk_get(int fd, void *p, size_t n);
void vk_nonblock(int fd, bool on);
/* revents or epoll events as words. */
const char *vk_events(unsigned events);
/* Events of poll now, after at most `ms`. */
unsigned vk_poll(int fd, int events, int ms);
void vk_sleep_ms(int ms);
/* Milliseconds of the monotonic clock. */
long vk_now_ms(void);
/* Prints "in time" when it is at least `least_ms` and not much more since `start_ms`. */
void vk_took(long start_ms, long least_ms);
/* Waits for input, two seconds at most: so that a look that does not wait sees what was sent. */
void vk_wait(int fd);
/* Receives at most `n` (63) bytes and prints what came, or the error. */
void vk_recv(const char *what, int fd, size_t n, int flags);
/* Waits for a child and prints how it ended. */
void vk_reap(pid_t p);
/* A listening socket on the loopback address; its address is left in `addr`. */
struct sockaddr_storage;
int vk_listen(bool v6, struct sockaddr_storage *addr, unsigned *len);

/* Waits until a thread (0: the first one of this process) sleeps in the kernel; not for ever. */
void vk_until_asleep(int tid);
/* Something that another thread does after a while, when the caller sleeps; vk_join() waits for it. */
struct vk_late {
	enum { VK_SEND, VK_CLOSE, VK_SHUT_WR, VK_SHUT_BOTH, VK_SIGNAL, VK_DRAIN } what;
	int fd, ms;
	const char *text;    /* of VK_SEND */
	size_t bytes;	     /* of VK_DRAIN: reads so many */
	int tid; /* of the caller */
	unsigned long thread, to; /* `to`: the caller of vk_late(), whom VK_SIGNAL sends SIGUSR1 */
};
void vk_late(struct vk_late *l);
void vk_join(struct vk_late *l);
/* SIGUSR1 and SIGALRM are counted in vk_signals from now on. */
void vk_catch(int flags);
extern volatile int vk_signals;
/* Fills a connection until nothing more goes in without blocking; leaves it blocking. Returns bytes. */
size_t vk_fill_up(int fd);
/* Reads `n` bytes and throws them away. */
void vk_discard(int fd, size_t n);

extern const struct vk_scenario vk_transfer[], vk_ready[], vk_ends[], vk_processes[], vk_epoll[], vk_options[],
	vk_signalled[], vk_connects[], vk_names[], vk_finishes[], vk_interest[], vk_udp[];

#endif
