/* raw.c - syscall(): some programs (Node.js) make part of their calls through it. */
#define _GNU_SOURCE
#include "hooks.h"
#include "../book.h"
#include "../sys.h"
#include <fcntl.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stdarg.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <sys/prctl.h>
#include <unistd.h>

int close_range(unsigned first, unsigned last, int flags);

/* A ring of the kernel's would read and write descriptors without us. */
static void no_more_acceleration(void)
{
	for (int fd = 0; fd <= vs_fd_highest(); fd++)
		if (!vs_is_pass(fd) && vs_fd_word(fd) != VS_FD_UNKNOWN)
			vs_hook_refuse(fd, VS_PLAIN_URING);
	vs_fd_give_up();
}

/* The process is about to restrict its system calls (sshd does, before it speaks to strangers): one of ours would end it. */
static void fall_silent(void)
{
	if (!vs_fd_silent && !vs_in_vfork_child()) {
		for (int fd = 0; fd <= vs_fd_highest(); fd++)
			if (!vs_is_pass(fd))
				vs_hook_refuse(fd, VS_PLAIN_FOREIGN | VS_PLAIN_SECCOMP);
		vs_fd_fall_silent();
		vs_book = NULL;
	}
}

VS_EXPORT int prctl(int option, ...)
{
	unsigned long a[4];
	va_list ap;
	va_start(ap, option);
	for (int i = 0; i < 4; i++)
		a[i] = va_arg(ap, unsigned long);
	va_end(ap);
	if (option == PR_SET_SECCOMP)
		fall_silent();
	return (int)vs_result(vs_sys(SYS_prctl, option, a[0], a[1], a[2], a[3]));
}

VS_EXPORT long syscall(long number, ...)
{
	long a[6];
	va_list ap;
	va_start(ap, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	int fd = (int)a[0];
	vs_acts++;
	switch (number) {
	case SYS_read:
		return read(fd, (void *)a[1], (size_t)a[2]);
	case SYS_write:
		return write(fd, (void *)a[1], (size_t)a[2]);
	case SYS_readv:
		return readv(fd, (void *)a[1], (int)a[2]);
	case SYS_writev:
		return writev(fd, (void *)a[1], (int)a[2]);
	case SYS_sendto:
		return sendto(fd, (void *)a[1], (size_t)a[2], (int)a[3], (struct sockaddr *)a[4], (socklen_t)a[5]);
	case SYS_recvfrom:
		return recvfrom(fd, (void *)a[1], (size_t)a[2], (int)a[3], (struct sockaddr *)a[4], (socklen_t *)a[5]);
	case SYS_sendmsg:
		return sendmsg(fd, (void *)a[1], (int)a[2]);
	case SYS_recvmsg:
		return recvmsg(fd, (void *)a[1], (int)a[2]);
	case SYS_sendmmsg:
		return sendmmsg(fd, (void *)a[1], (unsigned)a[2], (int)a[3]);
	case SYS_recvmmsg:
		return recvmmsg(fd, (void *)a[1], (unsigned)a[2], (int)a[3], (void *)a[4]);
	case SYS_sendfile:
		return sendfile(fd, (int)a[1], (void *)a[2], (size_t)a[3]);
	case SYS_shutdown:
		return shutdown(fd, (int)a[1]);
	case SYS_close:
		return close(fd);
	case SYS_close_range:
		return close_range((unsigned)a[0], (unsigned)a[1], (int)a[2]);
	case SYS_dup:
		return dup(fd);
	case SYS_dup3:
		return dup3(fd, (int)a[1], (int)a[2]);
	case SYS_socket:
		return socket(fd, (int)a[1], (int)a[2]);
	case SYS_accept4:
		return accept4(fd, (struct sockaddr *)a[1], (socklen_t *)a[2], (int)a[3]);
	case SYS_epoll_ctl:
		return epoll_ctl(fd, (int)a[1], (int)a[2], (void *)a[3]);
#ifdef SYS_epoll_wait
	case SYS_epoll_wait:
		return epoll_wait(fd, (void *)a[1], (int)a[2], (int)a[3]);
#endif
	case SYS_epoll_pwait:
		return epoll_pwait(fd, (void *)a[1], (int)a[2], (int)a[3], (void *)a[4]);
	case SYS_epoll_pwait2:
		return epoll_pwait2(fd, (void *)a[1], (int)a[2], (void *)a[3], (void *)a[4]);
	case SYS_epoll_create1:
		return epoll_create1(fd);
#ifdef SYS_poll
	case SYS_poll:
		return poll((void *)a[0], (nfds_t)a[1], (int)a[2]);
#endif
	case SYS_ppoll:
		return ppoll((void *)a[0], (nfds_t)a[1], (void *)a[2], (void *)a[3]);
#ifdef SYS_select
	case SYS_select:
		return select(fd, (void *)a[1], (void *)a[2], (void *)a[3], (void *)a[4]);
#endif
	case SYS_pselect6: {
		const struct {
			const sigset_t *mask;
			size_t size;
		} *m = (void *)a[5];
		return pselect(fd, (void *)a[1], (void *)a[2], (void *)a[3], (void *)a[4], m ? m->mask : NULL);
	}
	case SYS_splice:
		return splice(fd, (void *)a[1], (int)a[2], (void *)a[3], (size_t)a[4], (unsigned)a[5]);
	case SYS_getsockopt:
		return getsockopt(fd, (int)a[1], (int)a[2], (void *)a[3], (void *)a[4]);
	case SYS_setsockopt:
		return setsockopt(fd, (int)a[1], (int)a[2], (void *)a[3], (socklen_t)a[4]);
	case SYS_connect:
		return connect(fd, (void *)a[1], (socklen_t)a[2]);
#ifdef SYS_dup2
	case SYS_dup2:
		return dup2(fd, (int)a[1]);
#endif
	case SYS_fcntl:
		return fcntl(fd, (int)a[1], a[2]);
	case SYS_ioctl:
		return ioctl(fd, (unsigned long)a[1], a[2]);
	case SYS_io_uring_setup:
		no_more_acceleration();
		break;
	case SYS_prctl:
		return prctl(fd, a[1], a[2], a[3], a[4]);
	case SYS_seccomp:
		if (fd == SECCOMP_SET_MODE_STRICT || fd == SECCOMP_SET_MODE_FILTER)
			fall_silent();
		break;
	default:
		break;
	}
	return vs_result(vs_sys(number, a[0], a[1], a[2], a[3], a[4], a[5]));
}
