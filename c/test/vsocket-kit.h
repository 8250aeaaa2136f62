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
};

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

extern const struct vk_scenario vk_transfer[], vk_ready[], vk_ends[], vk_processes[];

#endif
