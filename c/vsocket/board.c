/* board.c - boards are taken and given back. */
#define _GNU_SOURCE
#include "board.h"
#include "gone.h"
#include "sys.h"

uint32_t vs_board_pid;

static bool take(struct vs_board *b, uint32_t there)
{
	/* Forced before it is anybody's, so that whoever posts rings. */
	if (!atomic_compare_exchange_strong(&b->pid, &there, (uint32_t)vs_sys_getpid()))
		return false;
	atomic_store(&b->forced, 1);
	atomic_store(&b->sleepers, 0);
	vs_board_pid = (uint32_t)vs_sys_getpid();
	return true;
}

struct vs_board *vs_board_take(void)
{
	if (!vs_arena)
		return NULL;
	for (unsigned i = 0; i < VS_BOARDS; i++)
		if (atomic_load(&vs_arena->board[i].pid) == 0 && take(&vs_arena->board[i], 0))
			return &vs_arena->board[i];
	/* Those of processes that were killed. */
	for (unsigned i = 0; i < VS_BOARDS; i++) {
		uint32_t pid = atomic_load(&vs_arena->board[i].pid);
		if (vs_gone((int)pid) && take(&vs_arena->board[i], pid))
			return &vs_arena->board[i];
	}
	return NULL;
}

void vs_board_give(struct vs_board *b)
{
	if (!b)
		return;
	atomic_store(&b->forced, 1);
	atomic_store(&b->pid, 0);
}

void vs_board_forked(void) { vs_board_pid = 0; }
