/* link-post.c - the send queue: notes and data. */
#define _GNU_SOURCE
#include "link-parts.h"

/* Waits until the send queue has room. */
bool vs_link_has_room(struct vs_link *l)
{
	while (atomic_load(&l->outstanding) >= VS_SENDS - 8) {
		vs_link_poll();
		if (!vs_link_usable(l))
			return false;
		vs_pause();
	}
	return vs_link_usable(l);
}

/* Around everything that is sent: the application may close the connection while the agent sends for it. False: there is nothing to send with. */
static bool begin_post(struct vs_link *l)
{
	atomic_fetch_add(&l->posting, 1);
	if (vs_link_usable(l))
		return true;
	atomic_fetch_sub(&l->posting, 1);
	return false;
}

static bool post(struct vs_link *l, struct ibv_send_wr *wr)
{
	struct ibv_send_wr *bad;
	wr->wr_id = (uint64_t)vs_link_index(&l->c) << 16;
	wr->send_flags = IBV_SEND_SIGNALED;
	atomic_fetch_add(&l->outstanding, 1);
	if (ibv_post_send(l->qp, wr, &bad) == 0)
		return true;
	vs_link_break(l);
	atomic_fetch_sub(&l->outstanding, 1);
	return false;
}

/* Does not wait for room: there is some for notes, because data leaves it. */
bool vs_link_note(struct vs_link *l, struct vs_note n)
{
	if (!begin_post(l))
		return false;
	unsigned i = VS_RECVS + atomic_fetch_add(&l->next_note, 1) % (2 * VS_SENDS);
	n.magic = VS_NOTE_MAGIC;
	l->notes[i] = n;
	struct ibv_sge sge = { (uintptr_t)&l->notes[i], sizeof n, l->mr[2]->lkey };
	struct ibv_send_wr wr = { .sg_list = &sge, .num_sge = 1, .opcode = IBV_WR_SEND };
	bool posted = post(l, &wr);
	atomic_fetch_sub(&l->posting, 1);
	return posted;
}

bool vs_link_data(struct vs_link *l, uint64_t at, size_t n, uint32_t size, uint32_t bell)
{
	uint32_t pos = (uint32_t)(at & (size - 1));
	if (!begin_post(l))
		return false;
	struct ibv_sge sge = { (uintptr_t)vs_ring_of(l->c.slot, l->c.side) + pos, (uint32_t)n, l->mr[0]->lkey };
	struct ibv_send_wr wr = {
		.sg_list = &sge,
		.num_sge = 1,
		.opcode = IBV_WR_RDMA_WRITE_WITH_IMM,
		.imm_data = htobe32((uint32_t)n | bell),
		.wr.rdma = { .remote_addr = l->peer.ring + pos, .rkey = l->peer.rkey },
	};
	bool posted = post(l, &wr);
	atomic_fetch_sub(&l->posting, 1);
	return posted;
}

void vs_link_position(struct vs_link *l, uint8_t flags, uint64_t seen)
{
	struct vs_dir *d = vs_rx(&l->c);
	struct vs_note n = { .kind = VS_NOTE_POS, .flags = flags, .epoch = atomic_load(&d->epoch_rx), .ring = atomic_load(&d->head), .seen = seen };
	const bool rc = vs_group_wants_rc(&l->member);
	if (rc)
		n.flags |= VS_NOTE_RC;
	if (!atomic_load(&l->heard) && l->c.side == 1)
		return; /* the other queue pair may not be ready */
	atomic_store(&l->member.told, rc);
	l->told_head = n.ring;
	l->told_epoch = n.epoch;
	if (vs_link_has_room(l))
		vs_link_note(l, n);
}
