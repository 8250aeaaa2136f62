/* vsocket-options.c - scenarios: options of sockets, of listeners whose sockets inherit them, and what ioctl() and TCP_INFO tell. */
#define _GNU_SOURCE
#include "vsocket-kit.h"
#include <errno.h>
#include <linux/errqueue.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

int sockatmark(int fd);

static int get(int fd, int level, int name)
{
	int v = -77;
	socklen_t len = sizeof v;
	return getsockopt(fd, level, name, &v, &len) ? -errno : v;
}

static void set(const char *what, int fd, int level, int name, int v)
{
	vk_result(what, setsockopt(fd, level, name, &v, sizeof v));
	vk_say("is %d", get(fd, level, name));
}

/* Still works after all of it. */
static void exchange(int c, int s)
{
	vk_put(c, "there", 5);
	vk_recv("recv", s, 16, 0);
	vk_put(s, "and back", 8);
	vk_recv("recv", c, 16, 0);
}

/* A pair whose accepted end comes from a listener with this option. */
static void inherited(int level, int name, const void *value, socklen_t size, int *c, int *s)
{
	struct sockaddr_storage a;
	socklen_t len;
	int l = vk_listen(false, &a, &len), on = 1;
	vk_result("set on the listener", setsockopt(l, level, name, value, size));
	*c = socket(AF_INET, SOCK_STREAM, 0);
	vk_result("connect", connect(*c, (void *)&a, len));
	*s = accept(l, NULL, NULL);
	setsockopt(*c, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	close(l);
}

static void keepalive(int c, int s)
{
	set("keepalive", c, SOL_SOCKET, SO_KEEPALIVE, 1);
	set("idle", c, IPPROTO_TCP, TCP_KEEPIDLE, 11);
	set("interval", c, IPPROTO_TCP, TCP_KEEPINTVL, 3);
	set("count", c, IPPROTO_TCP, TCP_KEEPCNT, 4);
	set("user timeout", c, IPPROTO_TCP, TCP_USER_TIMEOUT, 5000);
	exchange(c, s);
}

static void quick_ack(int c, int s)
{
	set("quickack", s, IPPROTO_TCP, TCP_QUICKACK, 1);
	exchange(c, s);
	int v = 0;
	vk_result("off", setsockopt(s, IPPROTO_TCP, TCP_QUICKACK, &v, sizeof v));
	exchange(c, s);
}

static void deferred_with_data(int c, int s)
{
	struct sockaddr_storage a;
	socklen_t len;
	int l = vk_listen(false, &a, &len), v = 5;
	exchange(c, s);
	setsockopt(l, IPPROTO_TCP, TCP_DEFER_ACCEPT, &v, sizeof v);
	int k = socket(AF_INET, SOCK_STREAM, 0);
	vk_result("connect", connect(k, (void *)&a, len));
	vk_say("%s", vk_events(vk_poll(l, POLLIN, 10)));
	vk_put(k, "first", 5);
	vk_say("%s", vk_events(vk_poll(l, POLLIN, 2000)));
	int n = accept(l, NULL, NULL);
	vk_recv("recv", n, 16, 0);
	for (int i = 0; i < 4; i++)
		exchange(k, n);
}

static void more_follows(int c, int s)
{
	char b[16] = "";
	vk_result("more", send(c, "ab", 2, MSG_MORE));
	vk_result("more", send(c, "cd", 2, MSG_MORE));
	vk_result("last", send(c, "ef", 2, 0));
	vk_get(s, b, 6);
	vk_say("%s", b);
}

static void corked(int c, int s)
{
	char b[16] = "";
	set("cork", c, IPPROTO_TCP, TCP_CORK, 1);
	vk_put(c, "ab", 2);
	vk_put(c, "cd", 2);
	set("uncork", c, IPPROTO_TCP, TCP_CORK, 0);
	vk_get(s, b, 4);
	vk_say("%s", b);
	set("cork", c, IPPROTO_TCP, TCP_CORK, 1);
	vk_put(c, "ef", 2);
	shutdown(c, SHUT_WR);
	vk_get(s, b, 2);
	vk_recv("end", s, 4, 0);
}

static void fast_open(int c, int s)
{
	struct sockaddr_storage a;
	socklen_t len;
	int l = vk_listen(false, &a, &len), k = socket(AF_INET, SOCK_STREAM, 0);
	exchange(c, s);
	set("fastopen", l, IPPROTO_TCP, TCP_FASTOPEN, 5);
	vk_result("sendto", sendto(k, "early", 5, MSG_FASTOPEN, (void *)&a, len));
	int n = accept(l, NULL, NULL);
	vk_recv("recv", n, 16, 0);
	exchange(k, n);
	exchange(k, n);
	int k2 = socket(AF_INET, SOCK_STREAM, 0), on = 1;
	vk_result("set", setsockopt(k2, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &on, sizeof on));
	vk_result("connect", connect(k2, (void *)&a, len));
	vk_result("send", send(k2, "again", 5, 0));
	n = accept(l, NULL, NULL);
	vk_recv("recv", n, 16, 0);
	exchange(k2, n);
	exchange(k2, n);
}

static void incoming_cpu(int c, int s)
{
	exchange(c, s);
	vk_say("%s", get(s, SOL_SOCKET, SO_INCOMING_CPU) >= 0 ? "some CPU" : "none");
	int v = 0;
	vk_result("set", setsockopt(s, SOL_SOCKET, SO_INCOMING_CPU, &v, sizeof v));
	exchange(c, s);
}

static void busy_poll(int c, int s)
{
	int v = 50;
	vk_result("set", setsockopt(s, SOL_SOCKET, SO_BUSY_POLL, &v, sizeof v));
	vk_say("is %d", get(s, SOL_SOCKET, SO_BUSY_POLL));
	exchange(c, s);
	vk_say("%s", vk_events(vk_poll(s, POLLIN, 5)));
}

static void priorities(int c, int s)
{
	set("priority", c, SOL_SOCKET, SO_PRIORITY, 3);
	vk_result("tos", setsockopt(c, IPPROTO_IP, IP_TOS, &(int){ 0x10 }, sizeof(int)));
	vk_result("ttl", setsockopt(c, IPPROTO_IP, IP_TTL, &(int){ 9 }, sizeof(int)));
	vk_say("ttl %d", get(c, IPPROTO_IP, IP_TTL));
	set("mark", c, SOL_SOCKET, SO_MARK, 0);
	exchange(c, s);
}

static void buffers(int c, int s)
{
	set("sndbuf", c, SOL_SOCKET, SO_SNDBUF, 20000);
	set("rcvbuf", s, SOL_SOCKET, SO_RCVBUF, 30000);
	exchange(c, s);
	static unsigned char p[200000];
	struct vk_late l = { .what = VK_DRAIN, .fd = s, .ms = 10, .bytes = sizeof p };
	vk_late(&l);
	vk_put(c, p, sizeof p);
	vk_join(&l);
	exchange(c, s);
}

static void identity(int c, int s)
{
	uint64_t a = 0, b = 0;
	socklen_t len = sizeof a;
	int d = dup(s);
	exchange(c, s);
	vk_say("%d %d %d %d", get(c, SOL_SOCKET, SO_TYPE), get(c, SOL_SOCKET, SO_PROTOCOL), get(c, SOL_SOCKET, SO_ACCEPTCONN), get(c, SOL_SOCKET, SO_ERROR));
	vk_result("cookie", getsockopt(s, SOL_SOCKET, SO_COOKIE, &a, &len));
	getsockopt(d, SOL_SOCKET, SO_COOKIE, &b, &len);
	vk_say("%s", a && a == b ? "the same" : "different");
	vk_say("reuse %d", get(c, SOL_SOCKET, SO_REUSEADDR));
	struct ucred u;
	len = sizeof u;
	vk_result("peercred", getsockopt(c, SOL_SOCKET, SO_PEERCRED, &u, &len));
}

static void timeouts_told(int c, int s)
{
	struct timeval t = { 1, 500000 }, r = { 0, 0 };
	socklen_t len = sizeof r;
	vk_result("rcvtimeo", setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t));
	vk_result("get", getsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &r, &len));
	vk_say("%ld.%06ld", (long)r.tv_sec, (long)r.tv_usec);
	t.tv_usec = 1000000;
	vk_result("bad", setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t));
	vk_result("short", setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &t, 4));
	exchange(c, s);
}

static void linger_told(int c, int s)
{
	struct linger l = { 1, 7 }, r = { 0, 0 };
	socklen_t len = sizeof r;
	vk_result("set", setsockopt(c, SOL_SOCKET, SO_LINGER, &l, sizeof l));
	vk_result("get", getsockopt(c, SOL_SOCKET, SO_LINGER, &r, &len));
	vk_say("%d %d", r.l_onoff, r.l_linger);
	vk_result("short", setsockopt(c, SOL_SOCKET, SO_LINGER, &l, 4));
	exchange(c, s);
}

static void others_of_tcp(int c, int s)
{
	char cc[16] = "";
	socklen_t len = sizeof cc;
	exchange(c, s);
	set("syncnt", c, IPPROTO_TCP, TCP_SYNCNT, 3);
	set("linger2", c, IPPROTO_TCP, TCP_LINGER2, 4);
	set("lowat", c, IPPROTO_TCP, TCP_NOTSENT_LOWAT, 16384);
	vk_say("maxseg %s", get(c, IPPROTO_TCP, TCP_MAXSEG) > 100 ? "some" : "none");
	vk_result("congestion", getsockopt(c, IPPROTO_TCP, TCP_CONGESTION, cc, &len));
	vk_result("set", setsockopt(c, IPPROTO_TCP, TCP_CONGESTION, "reno", 4));
	exchange(c, s);
}

static void wrong_options(int c, int s)
{
	int v = 1;
	socklen_t len = sizeof v;
	exchange(c, s);
	vk_result("unknown", setsockopt(c, SOL_SOCKET, 9999, &v, sizeof v));
	vk_result("unknown", getsockopt(c, SOL_SOCKET, 9999, &v, &len));
	vk_result("level", setsockopt(c, 9999, 1, &v, sizeof v));
	vk_result("nodelay short", setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &v, 2));
	len = 2;
	vk_result("get short", getsockopt(c, IPPROTO_TCP, TCP_NODELAY, &v, &len));
	vk_say("len %u", len);
	len = (socklen_t)-1;
	vk_result("get negative", getsockopt(c, IPPROTO_TCP, TCP_NODELAY, &v, &len));
	vk_result("type", setsockopt(c, SOL_SOCKET, SO_TYPE, &v, sizeof v));
	vk_result("no socket", setsockopt(-1, SOL_SOCKET, SO_TYPE, &v, sizeof v));
	exchange(c, s);
}

/* A byte of an int is enough to ask for one. */
static void short_nodelay(int c, int s)
{
	for (int on = 0; on < 2; on++) {
		int v = on;
		setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &v, sizeof v);
		exchange(c, s);
		v = -1;
		socklen_t len = 1;
		vk_result("get", getsockopt(c, IPPROTO_TCP, TCP_NODELAY, &v, &len));
		vk_say("%d len %u", v & 0xff, len);
	}
}

static void nodelay_of_both(int c, int s)
{
	int d = dup(c);
	set("off", c, IPPROTO_TCP, TCP_NODELAY, 0);
	exchange(c, s);
	vk_say("copy %d, peer %d", get(d, IPPROTO_TCP, TCP_NODELAY), get(s, IPPROTO_TCP, TCP_NODELAY));
	set("on", d, IPPROTO_TCP, TCP_NODELAY, 5);
	vk_say("first %d", get(c, IPPROTO_TCP, TCP_NODELAY));
	exchange(c, s);
}

static void inherit_nodelay(int c, int s)
{
	int k, n, v = 1;
	exchange(c, s);
	inherited(IPPROTO_TCP, TCP_NODELAY, &v, sizeof v, &k, &n);
	vk_say("nodelay %d", get(n, IPPROTO_TCP, TCP_NODELAY));
	for (int i = 0; i < 4; i++)
		exchange(k, n);
	vk_say("nodelay %d", get(n, IPPROTO_TCP, TCP_NODELAY));
}

static void inherit_keepalive(int c, int s)
{
	int k, n, v = 1;
	exchange(c, s);
	inherited(SOL_SOCKET, SO_KEEPALIVE, &v, sizeof v, &k, &n);
	for (int i = 0; i < 3; i++)
		exchange(k, n);
	vk_say("keepalive %d %d", get(n, SOL_SOCKET, SO_KEEPALIVE), get(k, SOL_SOCKET, SO_KEEPALIVE));
}

static void inherit_low_water(int c, int s)
{
	int k, n, v = 10;
	(void)c;
	(void)s;
	inherited(SOL_SOCKET, SO_RCVLOWAT, &v, sizeof v, &k, &n);
	vk_say("lowat %d", get(n, SOL_SOCKET, SO_RCVLOWAT));
	vk_put(n, "w", 1);
	vk_recv("recv", k, 4, 0);
	for (int i = 0; i < 3; i++) {
		vk_put(k, "short", 5);
		vk_say("%s", vk_events(vk_poll(n, POLLIN, 10)));
		vk_put(k, "longer", 6);
		vk_say("%s", vk_events(vk_poll(n, POLLIN, 1000)));
		vk_recv("recv", n, 32, 0);
	}
}

static void inherit_timeout(int c, int s)
{
	int k, n;
	struct timeval t = { 0, 40000 };
	exchange(c, s);
	inherited(SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t, &k, &n);
	for (int i = 0; i < 3; i++)
		exchange(k, n);
	long start = vk_now_ms();
	vk_recv("recv", n, 4, 0);
	vk_took(start, 40);
}

static void inherit_inline(int c, int s)
{
	int k, n, v = 1;
	(void)c;
	(void)s;
	inherited(SOL_SOCKET, SO_OOBINLINE, &v, sizeof v, &k, &n);
	for (int i = 0; i < 3; i++)
		exchange(k, n);
	vk_put(k, "ab", 2);
	vk_result("oob", send(k, "!", 1, MSG_OOB));
	vk_sleep_ms(3);
	vk_recv("recv", n, 16, 0);
	vk_say("at mark %d", sockatmark(n));
	vk_recv("recv", n, 16, 0);
}

static void inherit_timestamp(int c, int s)
{
	int k, n, v = 1;
	char b[16], control[128];
	struct iovec iov = { b, sizeof b };
	(void)c;
	(void)s;
	inherited(SOL_SOCKET, SO_TIMESTAMP, &v, sizeof v, &k, &n);
	for (int i = 0; i < 3; i++)
		exchange(k, n);
	vk_sleep_ms(30); /* the kernel starts to take the time a little later */
	vk_put(k, "time", 4);
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
	vk_result("recvmsg", recvmsg(n, &m, 0));
	vk_say("control %s", m.msg_controllen > 0 ? "some" : "none");
}

static void inherit_linger(int c, int s)
{
	int k, n;
	struct linger l = { 1, 0 };
	exchange(c, s);
	inherited(SOL_SOCKET, SO_LINGER, &l, sizeof l, &k, &n);
	for (int i = 0; i < 3; i++)
		exchange(k, n);
	close(n);
	vk_sleep_ms(3);
	vk_recv("recv", k, 4, 0);
	vk_recv("recv", k, 4, 0);
}

static void inherit_buffers(int c, int s)
{
	int k, n, v = 8192;
	exchange(c, s);
	inherited(SOL_SOCKET, SO_RCVBUF, &v, sizeof v, &k, &n);
	vk_say("rcvbuf %d", get(n, SOL_SOCKET, SO_RCVBUF));
	for (int i = 0; i < 3; i++)
		exchange(k, n);
	static unsigned char p[100000];
	struct vk_late d = { .what = VK_DRAIN, .fd = n, .ms = 5, .bytes = sizeof p };
	vk_late(&d);
	vk_put(k, p, sizeof p);
	vk_join(&d);
}

static void low_water_of_one(int c, int s)
{
	set("lowat", s, SOL_SOCKET, SO_RCVLOWAT, 1);
	exchange(c, s);
	set("lowat", s, SOL_SOCKET, SO_RCVLOWAT, 0);
	exchange(c, s);
}

static void low_water_blocks(int c, int s)
{
	int v = 8;
	setsockopt(s, SOL_SOCKET, SO_RCVLOWAT, &v, sizeof v);
	vk_put(c, "four", 4);
	struct vk_late l = { .what = VK_SEND, .fd = c, .ms = 20, .text = "moremore" }; /* Linux does not count what the call has taken already */
	long start = vk_now_ms();
	vk_late(&l);
	vk_recv("recv", s, 32, 0);
	vk_took(start, 18);
	vk_join(&l);
	vk_put(c, "ab", 2);
	vk_sleep_ms(2);
	vk_recv("less at once", s, 32, MSG_DONTWAIT);
}

static void low_water_with_data(int c, int s)
{
	int v = 6;
	vk_put(c, "four", 4);
	vk_wait(s);
	setsockopt(s, SOL_SOCKET, SO_RCVLOWAT, &v, sizeof v);
	vk_say("%s", vk_events(vk_poll(s, POLLIN, 10)));
	vk_put(c, "ab", 2);
	vk_say("%s", vk_events(vk_poll(s, POLLIN, 1000)));
	vk_recv("recv", s, 32, 0);
	v = 1;
	setsockopt(s, SOL_SOCKET, SO_RCVLOWAT, &v, sizeof v);
	exchange(c, s);
}

static void urgent_inline(int c, int s)
{
	int v = 1;
	vk_result("inline", setsockopt(s, SOL_SOCKET, SO_OOBINLINE, &v, sizeof v));
	vk_put(c, "abc", 3);
	vk_result("oob", send(c, "!", 1, MSG_OOB));
	vk_put(c, "def", 3);
	vk_sleep_ms(3);
	char b;
	vk_result("recv oob", recv(s, &b, 1, MSG_OOB));
	vk_say("at mark %d", sockatmark(s));
	vk_recv("recv", s, 16, 0);
	vk_say("at mark %d", sockatmark(s));
	vk_recv("recv", s, 16, 0);
	exchange(c, s);
}

static void urgent_mark(int c, int s)
{
	int v = -1;
	vk_say("at mark %d", sockatmark(s));
	vk_put(c, "abc", 3);
	vk_wait(s);
	vk_say("at mark %d", sockatmark(s));
	vk_result("oob", send(c, "XY", 2, MSG_OOB));
	vk_put(c, "de", 2);
	vk_sleep_ms(3);
	vk_recv("up to the mark", s, 4, MSG_WAITALL); /* a plain read may end before */
	vk_result("ioctl", ioctl(s, SIOCATMARK, &v));
	vk_say("at mark %d", v);
	vk_recv("oob", s, 4, MSG_OOB);
	vk_recv("oob again", s, 4, MSG_OOB);
	vk_recv("recv", s, 16, 0);
	vk_say("at mark %d", sockatmark(s));
	exchange(c, s);
}

static void urgent_none(int c, int s)
{
	exchange(c, s);
	vk_recv("oob", s, 4, MSG_OOB);
	vk_recv("oob", s, 4, MSG_OOB | MSG_DONTWAIT);
	exchange(c, s);
}

static void urgent_twice(int c, int s)
{
	for (int i = 0; i < 3; i++) {
		vk_put(c, "a", 1);
		vk_result("oob", send(c, "!", 1, MSG_OOB));
		vk_sleep_ms(3);
		vk_say("%s", vk_events(vk_poll(s, POLLPRI, 100)));
		vk_recv("oob", s, 4, MSG_OOB);
		vk_recv("recv", s, 16, 0);
		exchange(c, s);
	}
}

static void queue_out(int c, int s)
{
	int v = -1;
	static unsigned char p[3000];
	vk_put(c, p, sizeof p);
	vk_wait(s);
	/* What the peer's kernel has got is not counted. */
	for (int i = 0; i < 200 && (ioctl(c, SIOCOUTQ, &v) || v > 0); i++)
		vk_sleep_ms(1);
	vk_say("unacknowledged %d", v);
	vk_result("not sent", ioctl(c, SIOCOUTQNSD, &v));
	vk_say("%d", v);
	vk_result("in", ioctl(s, FIONREAD, &v));
	vk_say("%d", v);
	vk_discard(s, sizeof p);
	vk_result("out", ioctl(c, TIOCOUTQ, &v));
	vk_say("%d", v);
}

static void queue_out_full(int c, int s)
{
	int v = -1;
	size_t n = vk_fill_up(c);
	vk_result("out", ioctl(c, SIOCOUTQ, &v));
	vk_say("%s", v > 0 ? "some" : "none");
	vk_discard(s, n);
	for (int i = 0; i < 500 && (ioctl(c, SIOCOUTQ, &v) || v > 0); i++)
		vk_sleep_ms(1);
	vk_say("%d", v);
	exchange(c, s);
}

static struct tcp_info info(int fd)
{
	struct tcp_info i;
	socklen_t len = sizeof i;
	memset(&i, 0, sizeof i);
	vk_result("TCP_INFO", getsockopt(fd, IPPROTO_TCP, TCP_INFO, &i, &len));
	return i;
}

static void tcp_information(int c, int s)
{
	vk_sleep_ms(45); /* an acknowledgement may be late */
	struct tcp_info a = info(c), b = info(s);
	vk_say("states %u %u", a.tcpi_state, b.tcpi_state);
	for (int i = 0; i < 10; i++)
		exchange(c, s);
	vk_sleep_ms(45);
	struct tcp_info a2 = info(c), b2 = info(s);
	vk_say("sent %ld, received %ld", (long)(a2.tcpi_bytes_sent - a2.tcpi_bytes_retrans - a.tcpi_bytes_sent + a.tcpi_bytes_retrans),
	       (long)(a2.tcpi_bytes_received - a.tcpi_bytes_received));
	vk_say("sent %ld, received %ld", (long)(b2.tcpi_bytes_sent - b2.tcpi_bytes_retrans - b.tcpi_bytes_sent + b.tcpi_bytes_retrans),
	       (long)(b2.tcpi_bytes_received - b.tcpi_bytes_received));
	/* A doorbell may be on its way at either time. */
	long acked = (long)(a2.tcpi_bytes_acked - a.tcpi_bytes_acked);
	vk_say("acknowledged %s", acked >= 48 && acked <= 52 ? "all" : "not all");
	vk_say("%s", a2.tcpi_rtt > 0 && a2.tcpi_snd_cwnd > 0 && a2.tcpi_snd_mss > 0 ? "sane" : "insane");
}

static void tcp_information_after_end(int c, int s)
{
	exchange(c, s);
	shutdown(c, SHUT_WR);
	vk_sleep_ms(3);
	/* FIN_WAIT1 or, once the end is acknowledged, FIN_WAIT2. */
	unsigned state = info(c).tcpi_state;
	vk_say("states %u %u", state == 4 ? 5 : state, info(s).tcpi_state);
	vk_put(s, "still", 5);
	vk_recv("recv", c, 8, 0);
	close(s);
	vk_sleep_ms(3);
	vk_say("state %u", info(c).tcpi_state);
}

static void short_information(int c, int s)
{
	struct tcp_info i;
	exchange(c, s);
	memset(&i, 0xee, sizeof i);
	socklen_t len = 8;
	vk_result("TCP_INFO", getsockopt(c, IPPROTO_TCP, TCP_INFO, &i, &len));
	vk_say("len %u state %u", len, i.tcpi_state);
	vk_say("%s", ((unsigned char *)&i)[8] == 0xee ? "not more" : "MORE");
}

static void zero_copy(int c, int s)
{
	int v = 1;
	static unsigned char p[20000];
	char control[256];
	struct msghdr m = { .msg_control = control, .msg_controllen = sizeof control };
	vk_result("set", setsockopt(c, SOL_SOCKET, SO_ZEROCOPY, &v, sizeof v));
	vk_fill(p, sizeof p, 0);
	vk_result("send", send(c, p, sizeof p, MSG_ZEROCOPY));
	static unsigned char q[sizeof p];
	vk_get(s, q, sizeof q);
	vk_say("%s", vk_check(q, sizeof q, 0) ? "right" : "WRONG");
	struct pollfd e = { c, 0, 0 };
	vk_result("poll", poll(&e, 1, 1000));
	vk_say("%s", vk_events((unsigned)e.revents));
	vk_result("errqueue", recvmsg(c, &m, MSG_ERRQUEUE));
	vk_say("flags %x", (unsigned)m.msg_flags);
	exchange(c, s);
}

static void error_queue_empty(int c, int s)
{
	char b[16];
	struct iovec iov = { b, sizeof b };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	vk_put(c, "data", 4);
	vk_wait(s);
	vk_result("errqueue", recvmsg(s, &m, MSG_ERRQUEUE));
	vk_result("errqueue", recvmsg(s, &m, MSG_ERRQUEUE | MSG_DONTWAIT));
	vk_recv("recv", s, 16, 0);
}

static void in_queue_told(int c, int s)
{
	int v = 1;
	char b[4], control[64];
	struct iovec iov = { b, 4 };
	vk_result("set", setsockopt(s, IPPROTO_TCP, TCP_INQ, &v, sizeof v));
	vk_put(c, "0123456789", 10);
	vk_sleep_ms(3);
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
	vk_result("recvmsg", recvmsg(s, &m, 0));
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);
	vk_say("%d left", h && h->cmsg_type == TCP_CM_INQ ? *(int *)(void *)CMSG_DATA(h) : -1);
	vk_recv("recv", s, 16, 0);
	exchange(c, s);
}

static void peek_offset(int c, int s)
{
	int v = 2;
	vk_put(c, "abcdef", 6);
	vk_wait(s);
	vk_result("set", setsockopt(s, SOL_SOCKET, SO_PEEK_OFF, &v, sizeof v));
	vk_recv("peek", s, 2, MSG_PEEK);
	vk_recv("peek", s, 2, MSG_PEEK);
	vk_recv("recv", s, 16, 0);
	exchange(c, s);
}

static void protocol_above(int c, int s)
{
	exchange(c, s);
	vk_result("ulp", setsockopt(c, IPPROTO_TCP, TCP_ULP, "nothing", 8));
	exchange(c, s);
	exchange(c, s);
}

static void nonblocking_ioctl(int c, int s)
{
	int on = 1;
	exchange(c, s);
	vk_result("FIONBIO", ioctl(s, FIONBIO, &on));
	vk_recv("recv", s, 4, 0);
	vk_put(c, "x", 1);
	vk_wait(s);
	vk_recv("recv", s, 4, 0);
	vk_recv("recv", s, 4, 0);
	on = 0;
	vk_result("FIONBIO", ioctl(s, FIONBIO, &on));
	struct vk_late l = { .what = VK_SEND, .fd = c, .ms = 10, .text = "late" };
	vk_late(&l);
	vk_recv("recv", s, 4, 0);
	vk_join(&l);
	vk_result("bad", ioctl(s, 0x1234, &on));
}

static void send_timeout(int c, int s)
{
	struct timeval t = { 0, 40000 };
	vk_result("set", setsockopt(c, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t));
	size_t n = vk_fill_up(c);
	long start = vk_now_ms();
	static unsigned char p[100];
	vk_result("send", send(c, p, sizeof p, 0));
	vk_took(start, 40);
	vk_discard(s, n);
	exchange(c, s);
}

static void receive_timeout_of_calls(int c, int s)
{
	struct timeval t = { 0, 25000 };
	char b[4];
	struct iovec iov = { b, 4 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	exchange(c, s);
	vk_result("set", setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t));
	long start = vk_now_ms();
	vk_result("read", read(s, b, 4));
	vk_result("recvmsg", recvmsg(s, &m, 0));
	vk_result("peek", recv(s, b, 4, MSG_PEEK));
	vk_put(c, "ab", 2);
	vk_recv("waitall", s, 4, MSG_WAITALL);
	vk_took(start, 100);
	exchange(c, s);
}

static void pending_as_it_grows(int c, int s)
{
	int v;
	static unsigned char p[70000];
	size_t sum = 0;
	for (size_t n = 1; n < sizeof p; n *= 6) {
		vk_put(c, p, n);
		sum += n;
		for (int i = 0; i < 1000 && (ioctl(s, FIONREAD, &v) || (size_t)v < sum); i++)
			vk_sleep_ms(1);
		vk_say("%d", v);
	}
	vk_discard(s, sum);
	ioctl(s, FIONREAD, &v);
	vk_say("%d", v);
}

const struct vk_scenario vk_options[] = {
	{ "option, keepalive", keepalive, 0 },
	{ "option, quick acknowledgement", quick_ack, 0 },
	{ "option, deferred accept with data", deferred_with_data, 0 },
	{ "option, more follows", more_follows, 0 },
	{ "option, cork", corked, 0 },
	{ "option, fast open", fast_open, 0 },
	{ "option, incoming CPU", incoming_cpu, 0 },
	{ "option, busy polling", busy_poll, 0 },
	{ "option, priorities", priorities, 0 },
	{ "option, buffers", buffers, 0 },
	{ "option, identity", identity, 0 },
	{ "option, time-outs told", timeouts_told, 0 },
	{ "option, linger told", linger_told, 0 },
	{ "option, others of TCP", others_of_tcp, 0 },
	{ "option, wrong ones", wrong_options, 0 },
	{ "option, no delay, asked shortly", short_nodelay, 0 },
	{ "option, no delay, of a copy", nodelay_of_both, 0 },
	{ "inherited, no delay", inherit_nodelay, 0 },
	{ "inherited, keepalive", inherit_keepalive, 0 },
	{ "inherited, low water mark", inherit_low_water, VK_KERNEL },
	{ "inherited, time-out", inherit_timeout, 0 },
	{ "inherited, urgent data inline", inherit_inline, VK_KERNEL },
	{ "inherited, time stamps", inherit_timestamp, VK_KERNEL },
	{ "inherited, linger", inherit_linger, 0 },
	{ "inherited, buffers", inherit_buffers, 0 },
	{ "low water mark of one", low_water_of_one, 0 },
	{ "low water mark, blocking", low_water_blocks, VK_KERNEL },
	{ "low water mark, data is there", low_water_with_data, 0 },
	{ "urgent data, inline", urgent_inline, VK_KERNEL },
	{ "urgent data, mark", urgent_mark, 0 },
	{ "urgent data, none", urgent_none, 0 },
	{ "urgent data, several times", urgent_twice, 0 },
	{ "queue to be sent", queue_out, 0 },
	{ "queue to be sent, full", queue_out_full, 0 },
	{ "TCP_INFO", tcp_information, 0 },
	{ "TCP_INFO, after an end", tcp_information_after_end, 0 },
	{ "TCP_INFO, short", short_information, 0 },
	{ "zero copy", zero_copy, VK_KERNEL },
	{ "error queue, empty", error_queue_empty, 0 },
	{ "TCP_INQ", in_queue_told, VK_KERNEL },
	{ "peek offset", peek_offset, 0 },
	{ "TCP_ULP", protocol_above, 0 },
	{ "FIONBIO", nonblocking_ioctl, 0 },
	{ "send time-out", send_timeout, 0 },
	{ "receive time-out of other calls", receive_timeout_of_calls, 0 },
	{ "pending, as it grows", pending_as_it_grows, 0 },
	{ NULL, NULL, 0 },
};
