/*
 * An inbox in which another process writes what it likes: its word, positions, lengths of records, ring bytes. The input is a script of such
 * writes between datagrams that are laid in and taken out. They may be wrong or lost, but nothing outside of the caller's buffers and of
 * this inbox is touched: what lies next to both is poisoned.
 */
#define _GNU_SOURCE
#include "vsocket-script.h"
#include <sanitizer/asan_interface.h>
#include <string.h>
#include <sys/mman.h>
#include "vsocket/inbox.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define INBOX 5
#define PAGE ((size_t)4096)

static unsigned char *ring(void) { return (unsigned char *)vs_arena + VS_INBOXES_AT + (uint64_t)INBOX * VS_INBOX_ROOM; }

/* The file's memory, without its file. */
static void setup(void)
{
	void *p = mmap(NULL, VS_ARENA_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		abort();
	vs_arena = p;
	__asan_poison_memory_region(ring() - PAGE, PAGE);
	__asan_poison_memory_region(ring() + VS_INBOX_ROOM, PAGE);
	__asan_poison_memory_region(&vs_arena->inbox[INBOX - 1], sizeof(struct vs_inbox));
	__asan_poison_memory_region(&vs_arena->inbox[INBOX + 1], sizeof(struct vs_inbox));
}

static void scribble(struct vs_inbox *in, struct script *script)
{
	switch (take(script, 1) % 5) {
	case 0:
		in->word = take(script, 8);
		break;
	case 1:
		in->head = take(script, 8);
		break;
	case 2: /* near what it is: so that a receiver looks at the records */
		in->word = VS_INBOX_WORD(in->head + take(script, 3), take(script, 1));
		break;
	case 3: /* the length of the next record */
		for (uint64_t v = take(script, 4), i = 0; i < 4; i++)
			ring()[(in->head + i) % VS_INBOX_ROOM] = (unsigned char)(v >> (8 * i));
		break;
	default:
		in->gen = (uint32_t)take(script, 1);
		break;
	}
}

static void receive(struct vs_inbox *in, size_t room, bool peek)
{
	unsigned char *buf = malloc(room);
	struct iovec iov = { buf, room };
	struct vs_cursor to;
	struct vs_endpoint from;
	size_t copied = 0;
	vs_cursor_init(&to, &iov, 1);
	long n = vs_inbox_get(in, &to, peek, &from, &copied);
	if (n != -EAGAIN && (n < 0 || n > (long)VS_DATAGRAM_MAX || copied > room || copied > (size_t)n))
		abort();
	free(buf);
}

static void send_one(struct vs_inbox *in, size_t len)
{
	unsigned char *buf = calloc(1, len ? len : 1);
	struct iovec iov = { buf, len };
	struct vs_cursor from;
	const struct vs_endpoint at = { .port = 7 };
	uint64_t tail = 0;
	vs_cursor_init(&from, &iov, 1);
	long n = vs_inbox_put(in, 0, &at, &from, &tail);
	if (n != VS_INBOX_KERNEL && n != -ENOBUFS && n != (long)len)
		abort();
	free(buf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct script script = { data, data + size };
	if (!vs_arena)
		setup();
	struct vs_inbox *in = &vs_arena->inbox[INBOX];
	memset(in, 0, sizeof *in);
	memset(ring(), 0, PAGE);
	while (script.at < script.end) {
		switch (take(&script, 1) % 6) {
		case 0:
			scribble(in, &script);
			break;
		case 1:
			send_one(in, take(&script, 2) % (VS_DATAGRAM_MAX + 1));
			break;
		case 2:
			receive(in, take(&script, 2), false);
			break;
		case 3:
			receive(in, take(&script, 1), true);
			break;
		case 4:
			if (vs_inbox_next(in) > (long)VS_DATAGRAM_MAX)
				abort();
			break;
		default:
			(void)vs_inbox_arm(in);
			break;
		}
	}
	return 0;
}
