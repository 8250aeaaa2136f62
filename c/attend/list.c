/* list.c - the book of a run from outside, and the arena as a book. */
#define _GNU_SOURCE
#include "attend.h"
#include "../vsocket/arena.h"
#include "../vsocket/lock.h"
#include "../vsocket/twin.h"
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Rows that are asked after in one round. */
#define AT_ONCE 256

static void head(struct vs_book *book, uint32_t wanted)
{
	book->magic = VS_BOOK_MAGIC;
	book->version = VS_BOOK_VERSION;
	book->row_bytes = sizeof(struct vs_book_row);
	book->rows = VS_BOOK_ROWS;
	book->wanted = wanted;
	book->uid = geteuid();
}

int attend_make_book(uint32_t wanted)
{
	struct vs_book first = { .magic = 0 };
	int fd = memfd_create("rdmakit-book", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	head(&first, wanted);
	if (fd < 0 || ftruncate(fd, VS_BOOK_SIZE) || pwrite(fd, &first, offsetof(struct vs_book, rest), 0) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) || !vs_book_map(fd))
		return -1;
	return fd;
}

static void refresh(struct vs_book_row *row, bool last)
{
	if (vs_lock((_Atomic uint32_t *)&row->lock) == VS_LOCK_NESTED)
		return;
	if (row->attached && vs_arena && row->slot < VS_SLOTS && row->side < 2) {
		struct vs_slot *slot = &vs_arena->slot[row->slot];
		if (atomic_load(&slot->gen) == row->gen && atomic_load(&slot->end[row->side].cookie) == row->cookie)
			vs_book_from_slot(row, slot, (int)row->side, last ? vs_book_histogram(row) : NULL);
	}
	/* Of a UDP socket all is in its row already. */
	if (row->state == VS_BOOK_OPEN && (row->protocol == IPPROTO_UDP || !vs_book_ask_kernel(row)) && last)
		row->state = VS_BOOK_LOST;
	vs_unlock((_Atomic uint32_t *)&row->lock);
}

void attend_refresh(void)
{
	static unsigned next;
	if (!vs_arena)
		vs_arena_look();
	for (unsigned i = 0, asked = 0; i < VS_BOOK_ROWS && asked < AT_ONCE; i++) {
		struct vs_book_row *row = &vs_book->row[next++ % VS_BOOK_ROWS];
		if (row->state == VS_BOOK_OPEN) {
			refresh(row, false);
			asked++;
		}
	}
}

void attend_conclude(void)
{
	if (!vs_arena)
		vs_arena_look();
	for (unsigned i = 0; i < VS_BOOK_ROWS; i++)
		if (vs_book->row[i].state == VS_BOOK_OPEN)
			refresh(&vs_book->row[i], true);
}

static void name_of(uint32_t pid, char *name, size_t room)
{
	char path[32];
	snprintf(path, sizeof path, "/proc/%u/comm", pid);
	FILE *f = fopen(path, "re");
	if (!f)
		return;
	if (!fgets(name, (int)room, f))
		name[0] = 0;
	name[strcspn(name, "\n")] = 0;
	fclose(f);
}

/* False for an end that has closed, is on another host, or whose process and socket are both gone. */
static bool describe(struct vs_book_row *row, struct vs_slot *slot, int side)
{
	const struct vs_end *end = &slot->end[side];
	*row = (struct vs_book_row){ .cookie = atomic_load(&end->cookie), .state = VS_BOOK_OPEN, .attached = 1, .peer_uid = UINT32_MAX };
	if (row->cookie == 0 || atomic_load(&end->closed) || (atomic_load(&slot->remote) && row->cookie == VS_COOKIE_REMOTE))
		return false;
	row->pid = atomic_load(&end->pid);
	row->slot = (uint32_t)(slot - vs_arena->slot);
	row->gen = atomic_load(&slot->gen);
	row->tx.kernel_bytes = row->rx.kernel_bytes = VS_BOOK_UNKNOWN;
	vs_book_from_slot(row, slot, side, NULL);
	name_of(row->pid, row->program, sizeof row->program);
	return vs_book_ask_kernel(row) || kill((pid_t)row->pid, 0) == 0 || errno != ESRCH;
}

int attend_list(void)
{
	struct vs_book *book = calloc(1, sizeof *book);
	struct vs_book_row *rows = calloc(VS_SLOTS * 2 + VS_INBOXES, sizeof *rows);
	uint32_t n = 0;
	if (!book || !rows)
		return 70;
	int r = vs_arena_look();
	if (r < 0 && r != -ENOENT) {
		fprintf(stderr, "rdmakit socket-run: the shared memory of this user's connections: %s\n", strerror(-r));
		return 3;
	}
	for (unsigned i = 0; vs_arena && i < VS_SLOTS && i < vs_arena->used_end; i++) {
		struct vs_slot *slot = &vs_arena->slot[i];
		uint32_t gen = atomic_load(&slot->gen);
		for (int side = 0; (gen & 1) && side < 2; side++)
			if (describe(&rows[n], slot, side) && atomic_load(&slot->gen) == gen)
				n++;
	}
	for (unsigned i = 0; vs_arena && i < VS_INBOXES; i++) {
		if (!vs_book_from_inbox(&rows[n], &vs_arena->inbox[i]) || kill((pid_t)rows[n].pid, 0) < 0)
			continue;
		name_of(rows[n].pid, rows[n].program, sizeof rows[n].program);
		n++;
	}
	head(book, 0);
	book->rows = n;
	bool ok = fwrite(book, offsetof(struct vs_book, row), 1, stdout) == 1 && fwrite(rows, sizeof *rows, n, stdout) == n;
	return ok && fflush(stdout) == 0 ? 0 : 3;
}
