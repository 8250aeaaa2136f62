/* ops.c - the operations of remote.h, and those of them that concern a connection as a whole. */
#define _GNU_SOURCE
#include "link-parts.h"
#include "ud.h"
#include "../inbox.h"

#define GONE_NS UINT64_C(1000000)

static void op_left(const struct vs_conn *c)
{
	struct vs_link *l = vs_link_of(c);
	if (!l)
		return;
	/* What waits for us over there shall not wait. */
	if (vs_link_usable(l) && vs_link_note(l, (struct vs_note){ .kind = VS_NOTE_GONE }))
		for (uint64_t start = vs_now_ns(); vs_now_ns() - start < GONE_NS && atomic_load(&l->outstanding) > 0 && vs_link_usable(l); vs_pause())
			vs_link_poll();
	if (l->qp)
		vs_agent_send(l, VS_BYE);
	/* First, so that the agent begins nothing with a queue pair that goes. */
	atomic_store(&l->state, VS_LINK_NONE);
	enum vs_locked k = vs_lock(&l->choosing);
	vs_group_leave(&l->member);
	if (k != VS_LOCK_NESTED)
		vs_unlock(&l->choosing);
	vs_link_destroy(l);
	atomic_store(&c->slot->end[!c->side].closed, 1);
}

static void op_wanted(const struct vs_conn *c, int fd)
{
	struct vs_link *l = vs_agent_start() ? vs_link_make(c, fd) : NULL;
	if (!l)
		return;
	atomic_store(&c->slot->end[c->side].port, vs_agent_port());
	atomic_store(&c->slot->road, VS_ROAD_SEARCHED);
	atomic_store(&l->state, VS_LINK_FINDING);
	l->next_ns = 1;
	vs_agent_wake();
}

static void op_forked(void)
{
	vs_link_forget();
	vs_link_use_device(NULL);
	atomic_store(&vs_poll_lock, 0);
	vs_device_forget();
	vs_group_forget();
	vs_ud_forked();
	vs_agent_forked();
}

static void op_far_receiver(struct vs_inbox *in)
{
	if (vs_agent_start())
		atomic_store(&in->port, vs_agent_port());
}

static const struct vs_remote_ops ops = {
	.wanted = op_wanted,
	.poll = vs_link_op_poll,
	.sync = vs_link_op_sync,
	.nap = vs_link_op_nap,
	.doze = vs_link_op_doze,
	.may_start = vs_link_op_may_start,
	.start = vs_link_op_start,
	.sent = vs_link_op_sent,
	.rung = vs_link_op_rung,
	.end = vs_link_op_end,
	.consumed = vs_link_op_consumed,
	.arm = vs_link_op_arm,
	.freeze = vs_link_op_freeze,
	.settle = vs_link_op_settle,
	.reader = vs_link_op_reader,
	.reading = vs_link_op_reading,
	.moved = vs_link_op_moved,
	.died = vs_link_op_died,
	.left = op_left,
	.forked = op_forked,
	.far = vs_ud_far,
	.far_send = vs_ud_send,
	.far_left = vs_ud_left,
	.far_receiver = op_far_receiver,
};

__attribute__((constructor)) void vs_remote_install(void) { vs_remote = &ops; }
