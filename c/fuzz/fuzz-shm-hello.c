/*
 * Introductions on road 1 from a hostile process of the same user: greetings of any length and content, with any descriptors (of
 * segments sealed or not, too short, of another kind, none, too many), the same slot again and again, ends in the middle.
 * The registry's word is replaced by one that vouches for a few slots, so that greetings get as far as they can.
 *
 * Checked: the sanitizers stay quiet, no descriptor is leaked, and what was linked can be lost again.
 */
#define sr_registry_alive vouched_alive
#define sr_registry_generation vouched_generation
#define sr_registry_shm_ok vouched_shm_ok
#define usleep no_wait
#include "softrdma/shm/link.c" /* its handlers are private */

#define GENERATION 0x1122334455667789ull

int no_wait(unsigned us)
{
	(void)us;
	return 0;
}

static bool anybody_alive;
bool vouched_alive(unsigned slot) { return anybody_alive && slot > 0 && slot < 20; }
uint64_t vouched_generation(unsigned slot) { return GENERATION + slot; }
bool vouched_shm_ok(unsigned slot) { return slot < 20; }

/* ---- descriptors to show ----------------------------------------------------------------------------------------------- */

enum { SEALED, UNSEALED, SHORT, HUGE_PAGES, NOT_MEMORY, KINDS };
static int kinds[KINDS];
static struct sr_segment *sealed;

static int segment(unsigned flags, off_t size, int seals)
{
	int fd = memfd_create("peer", MFD_CLOEXEC | MFD_ALLOW_SEALING | flags);
	if (fd >= 0 && ftruncate(fd, size) == 0 && seals)
		fcntl(fd, F_ADD_SEALS, seals);
	return fd;
}

static void setup(void)
{
	setenv("RDMAKIT_RUNTIME_DIR", mkdtemp((char[]){ "/tmp/rdmakit-fuzz-XXXXXX" }), 1);
	if (sr_shm_start())
		abort();
	sr.started = true;
	kinds[SEALED] = segment(0, SR_SEGMENT_BYTES, F_SEAL_SHRINK | F_SEAL_GROW);
	kinds[UNSEALED] = segment(0, SR_SEGMENT_BYTES, 0);
	kinds[SHORT] = segment(0, 4096, F_SEAL_SHRINK | F_SEAL_GROW);
	kinds[HUGE_PAGES] = segment(MFD_HUGETLB, SR_SEGMENT_BYTES, F_SEAL_SHRINK | F_SEAL_GROW);
	kinds[NOT_MEMORY] = open("/dev/null", O_RDWR | O_CLOEXEC);
	sealed = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, kinds[SEALED], 0);
	if (sealed == MAP_FAILED)
		abort();
}

static int next_fd(void)
{
	int fd = dup(0);
	close(fd);
	return fd;
}

static void greet(int fd, const uint8_t *d)
{
	struct sr_hello h = { SR_SEGMENT_MAGIC, SR_SEGMENT_VERSION, d[0] % 24, GENERATION + d[0] % 24 };
	char extra[sizeof h + 8] = { 0 };
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(6 * sizeof(int))];
	} control = { 0 };
	*sealed = (struct sr_segment){ .magic = h.magic, .version = h.version, .slot = h.slot, .generation = h.generation };
	if (d[1] & 1)
		((uint8_t *)&h)[d[2] % sizeof h] ^= d[3];
	if (d[1] & 2)
		((uint8_t *)sealed)[d[2] % 24] ^= d[3];
	memcpy(extra, &h, sizeof h);
	struct iovec iov = { extra, d[1] & 4 ? d[4] % sizeof extra : sizeof h };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	int fds[6], n = d[1] & 8 ? d[5] % 7 : 2;
	for (int i = 0; i < n; i++)
		fds[i] = i == 1 ? kinds[NOT_MEMORY] : kinds[d[1] & 16 ? d[6] % KINDS : SEALED];
	if (n) {
		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE((size_t)n * sizeof(int));
		struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN((size_t)n * sizeof(int));
		memcpy(CMSG_DATA(c), fds, (size_t)n * sizeof(int));
	}
	if (sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
		/* a full socket, or one that was dropped: as it comes */
	}
}

static bool listed(const struct conn *c)
{
	for (const struct conn *i = conns; i; i = i->next)
		if (i == c)
			return true;
	return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool ready;
	enum { SOCKETS = 4 };
	int fd[SOCKETS][2];
	struct conn *c[SOCKETS];
	if (!ready)
		setup();
	ready = true;
	int before = next_fd();
	anybody_alive = true;
	for (int i = 0; i < SOCKETS; i++) {
		if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd[i]))
			abort();
		c[i] = calloc(1, sizeof *c[i]);
		c[i]->watch = (struct sr_watch){ fd[i][1], conn_ready, c[i] };
		c[i]->next = conns;
		conns = c[i];
	}
	for (; size >= 8; data += 8, size -= 8) {
		unsigned k = data[7] % SOCKETS;
		if (data[7] & 0x80 && fd[k][0] >= 0) {
			close(fd[k][0]);
			fd[k][0] = -1;
		} else if (fd[k][0] >= 0) {
			greet(fd[k][0], data);
		}
		if (listed(c[k]) && !(data[7] & 0x40))
			conn_ready(c[k]);
	}
	anybody_alive = false;
	for (int i = 0; i < SOCKETS; i++) {
		if (fd[i][0] >= 0)
			close(fd[i][0]);
		while (listed(c[i]))
			conn_ready(c[i]);
	}
	/* Whose socket ended while the process lived is still linked. */
	sr_list_for(n, tmp, &sr.links) {
		struct sr_link *l = sr_list_entry(n, struct sr_link, node);
		lost(l->slot, l->generation);
	}
	if (!sr_list_empty(&sr.links) || next_fd() != before)
		abort();
	return 0;
}
