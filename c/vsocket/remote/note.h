/*
 * note.h - what the two ends of a link tell each other through the queue pair. Data goes as RDMA WRITE WITH IMMEDIATE straight into the
 * peer's ring, at the same place as in ours; the immediate says how much. Everything else is a note, sent in order with the data.
 *
 * Nothing that arrives is trusted: what makes no sense breaks the link, which loses nothing but the road.
 */
#ifndef VS_NOTE_H
#define VS_NOTE_H

#include "../epoch.h"

#define VS_NOTE_MAGIC UINT32_C(0x32746e72) /* "rnt2" */

enum vs_note_kind {
	VS_NOTE_START = 1, /* sender: ring epoch `epoch` begins; `twin`, `ring`, `size` are its boundary */
	VS_NOTE_END,	   /* sender: plain epoch `epoch` begins */
	VS_NOTE_BELL,	   /* sender: a doorbell lies in the twin */
	VS_NOTE_POS,	   /* receiver: it has read the ring up to `ring` and is in `epoch` */
	VS_NOTE_ASK,	   /* sender: may a ring epoch follow? */
	VS_NOTE_GRANT,	   /* receiver: yes, after `epoch`: it reads through the library only, and looks here after every read */
	VS_NOTE_WITHDRAW,  /* sender: not any more; until it asks again */
	VS_NOTE_HASH,	   /* sender: of the epoch's bytes before `ring`; `seen` and `twin` are a vs_hash's hash and word (watch.h). Before its data */
	VS_NOTE_GONE,	   /* the application has closed the connection: the queue pair goes away */
};

enum vs_note_flags {
	VS_NOTE_ARM = 1,    /* POS: ring when there is more than what lies before `seen` */
	VS_NOTE_RC = 2,	    /* POS, of the end that chooses: use the queue pair; without it: the kernel */
};

struct vs_note {
	uint32_t magic;
	uint8_t kind, flags;
	uint16_t zero;
	uint32_t epoch, size;
	uint64_t twin, ring, seen;
};

/* The immediate of data: its length, and whether a doorbell goes with it. */
#define VS_IMM_BELL UINT32_C(0x80000000)
#define VS_IMM_LENGTH UINT32_C(0x001fffff)

/* What a note that was taken asks for. */
enum vs_note_result { VS_NOTE_BAD, VS_NOTE_OK, VS_NOTE_RING };

/* Data has been written into the ring of direction `d`, which we receive. False: it cannot be. */
bool vs_note_data(struct vs_dir *d, uint32_t imm);

/* A note of the other end: `rx` is the direction we receive, `tx` the one we send. `*flags`: of the last position. VS_NOTE_RING: a doorbell
 * must be rung now. */
enum vs_note_result vs_note_take(struct vs_dir *rx, struct vs_dir *tx, const struct vs_note *n, uint8_t *flags);

#endif
