/* hooks.h - what the replaced functions share. Files of this folder are only in the preload library: in any other program they would
 * replace the C library's functions too. */
#ifndef VS_HOOKS_H
#define VS_HOOKS_H

#include "../conn.h"
#include "../udp.h"
#include <errno.h>
#include <sys/socket.h>

#define VS_EXPORT __attribute__((visibility("default")))

/* The function that ours stands before. */
void *vs_real(const char *name);
#define REAL(name)                                                                                                     \
	({                                                                                                             \
		static __typeof__(&name) real_;                                                                        \
		__typeof__(&name) f_ = __atomic_load_n(&real_, __ATOMIC_RELAXED);                                      \
		if (__builtin_expect(!f_, 0)) {                                                                        \
			f_ = (__typeof__(&name))vs_real(#name);                                                        \
			__atomic_store_n(&real_, f_, __ATOMIC_RELAXED);                                                \
		}                                                                                                      \
		f_;                                                                                                    \
	})

/* The kernel's alone. */
static inline bool vs_is_pass(int fd)
{
	uint64_t w = vs_fd_word(fd);
	bool pass = (w & 3) == VS_FD_PASS && !vs_fd_is_datagram(w);
	if (pass)
		vs_acts++;
	return pass;
}

/* -errno as the C library returns it. */
static inline ssize_t vs_result(long r)
{
	if (r < 0) {
		errno = (int)-r;
		return -1;
	}
	return r;
}

/* Receive into / send from buffers; `*native` is set when the caller should make the kernel's call itself: then VS_COUNTED says that
 * vs_native_done() must follow. */
struct vs_native {
	struct vs_conn c;
	enum { VS_N_NONE, VS_N_FD, VS_N_TX, VS_N_RX, VS_N_DATAGRAM_TX, VS_N_DATAGRAM_RX } counted;
	int fd;
	struct vs_udp *udp;
	struct vs_inbox *to_inbox;
	struct vs_udp_wait wait;
};
/* `result`: of the kernel's call. */
static inline void vs_native_done(struct vs_native *n, ssize_t result)
{
	if (n->counted == VS_N_FD)
		vs_fd_native_done(n->fd);
	else if (n->counted == VS_N_TX)
		vs_tx_native_done(&n->c, result);
	else if (n->counted == VS_N_RX)
		vs_rx_native_done(&n->c);
	else if (n->counted == VS_N_DATAGRAM_TX)
		vs_udp_sent(n->udp, n->to_inbox, result);
	else if (n->counted == VS_N_DATAGRAM_RX)
		vs_udp_received(n->udp, &n->wait, result);
}

/* True when the transfer is done and `*result` is what to return. False: make the kernel's call, then vs_native_done(). */
bool vs_hook_send(int fd, const struct iovec *iov, int count, int flags, ssize_t *result, struct vs_native *n);
bool vs_hook_recv(int fd, const struct iovec *iov, int count, int flags, ssize_t *result, struct vs_native *n);

/* The same for UDP sockets, of which the name and the flags of the message matter. False also when `fd` is none. */
bool vs_hook_send_datagram(int fd, const struct msghdr *m, int flags, ssize_t *result, struct vs_native *n);
bool vs_hook_recv_datagram(int fd, struct msghdr *m, int flags, ssize_t *result, struct vs_native *n);

/* Gives the descriptor to the kernel for good, whatever state it is in. */
void vs_hook_refuse(int fd, enum vs_plain why);

/* True in a child of vfork(): it runs on our memory, so what it does to its descriptors must not be noted. */
bool vs_in_vfork_child(void);
void vs_note_pid(void);

#endif
