/* ud.c - the UD queue pair of the process: buffers, parts, completions. */
#define _GNU_SOURCE
#include "ud.h"
#include "link.h"
#include "../sys.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Send buffers, each for one part; what was sent stays in them until their turn comes again. The most that one datagram needs is 256
 * (MTU 256). A completion is asked for now and then only. */
#define SENDS 1024u
#define RECEIVES 1024u
#define SIGNAL_EVERY 32u
#define GRH 40u
#define ROOM_NS UINT64_C(20000000)
#define PARTS_MAX ((VS_UD_MAX + 255 - VS_UD_HEAD) / (256 - VS_UD_HEAD) + 1)
_Static_assert(PARTS_MAX + SIGNAL_EVERY < SENDS, "a datagram finds room when all is done");

static struct {
	struct vs_device *device;
	struct ibv_qp *qp;
	struct ibv_mr *mr;
	unsigned char *memory; /* SENDS of `size`, then RECEIVES of GRH more */
	uint32_t size, qkey;
	_Atomic uint32_t lock; /* of the send buffers: */
	uint32_t posted;
	_Atomic uint32_t done;
	uint32_t length[SENDS];
	struct ibv_send_wr wr[PARTS_MAX];
	struct ibv_sge sge[PARTS_MAX];
} ud;
static _Atomic bool open_, failed;

static unsigned char *send_buffer(uint32_t i) { return ud.memory + (size_t)(i % SENDS) * ud.size; }
static unsigned char *receive_buffer(uint32_t i) { return ud.memory + (size_t)SENDS * ud.size + (size_t)i * (ud.size + GRH); }

static bool receive_into(uint32_t i)
{
	struct ibv_sge sge = { (uintptr_t)receive_buffer(i), ud.size + GRH, ud.mr->lkey };
	struct ibv_recv_wr wr = { .wr_id = VS_WR_UD | i, .sg_list = &sge, .num_sge = 1 }, *bad;
	return ibv_post_recv(ud.qp, &wr, &bad) == 0;
}

static bool make(struct vs_device *d)
{
	ud.device = d;
	ud.size = 128u << d->mtu;
	const size_t bytes = (size_t)SENDS * ud.size + (size_t)RECEIVES * (ud.size + GRH);
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED || vs_sys(SYS_getrandom, &ud.qkey, sizeof ud.qkey, 0) != sizeof ud.qkey)
		return false;
	ud.qkey &= 0x7fffffff; /* the top bit would mean the sender's own key */
	ud.memory = p;
	ud.mr = vs_verbs.reg_mr(d->pd, p, bytes, IBV_ACCESS_LOCAL_WRITE);
	ud.qp = ud.mr ? vs_device_ud(d, ud.qkey, SENDS, RECEIVES) : NULL;
	bool ok = ud.qp != NULL;
	for (uint32_t i = 0; ok && i < RECEIVES; i++)
		ok = receive_into(i);
	if (ok)
		return true;
	if (ud.qp)
		vs_verbs.destroy_qp(ud.qp);
	if (ud.mr)
		vs_verbs.dereg_mr(ud.mr);
	munmap(p, bytes);
	return false;
}

bool vs_ud_open(const uint8_t address[16])
{
	const char *why;
	struct vs_device *d = vs_device_open(address, &why);
	if (!d || atomic_load(&failed))
		return false;
	if (!atomic_load(&open_)) {
		if (!make(d)) {
			atomic_store(&failed, true);
			return false;
		}
		vs_link_use_device(d);
		atomic_store(&open_, true);
		atomic_store(&vs_remote_datagrams, true);
	}
	return true;
}

bool vs_ud_is_open(void) { return atomic_load_explicit(&open_, memory_order_acquire) && !atomic_load_explicit(&failed, memory_order_relaxed); }

void vs_ud_address(struct vs_qp_address *own)
{
	*own = (struct vs_qp_address){ .number = ud.qp->qp_num, .rkey = ud.qkey, .mtu = ud.device->mtu, .lid = ud.device->lid };
	memcpy(own->gid, ud.device->gid.raw, 16);
}

uint32_t vs_ud_room(uint8_t mtu)
{
	uint32_t size = mtu < 1 || mtu > 5 || 128u << mtu > ud.size ? ud.size : 128u << mtu;
	return size - VS_UD_HEAD;
}

struct ibv_ah *vs_ud_way(const struct vs_qp_address *peer) { return vs_device_way(ud.device, peer); }
void vs_ud_drop_way(struct ibv_ah *way) { vs_verbs.destroy_ah(way); }

/* Under the lock. */
static bool wait_for_room(uint32_t parts)
{
	for (uint64_t start = 0; SENDS - (ud.posted - atomic_load(&ud.done)) < parts;) {
		uint64_t now = vs_now_ns();
		start = start ? start : now;
		if (now - start > ROOM_NS || atomic_load(&failed))
			return false;
		vs_link_poll();
		vs_pause();
	}
	return true;
}

bool vs_ud_post(struct ibv_ah *way, const struct vs_qp_address *peer, uint32_t room, struct vs_ud_part p, struct vs_cursor *c)
{
	struct ibv_send_wr *bad;
	const uint32_t parts = p.len ? (p.len + room - 1) / room : 1;
	if (parts > PARTS_MAX || vs_lock(&ud.lock) == VS_LOCK_NESTED)
		return false;
	bool ok = wait_for_room(parts);
	for (uint32_t i = 0; ok && i < parts; i++) {
		const uint32_t at = ud.posted + i, n = p.len - p.at < room ? p.len - p.at : room;
		unsigned char *b = send_buffer(at);
		vs_ud_part_write(&p, b);
		vs_ring_put(b + VS_UD_HEAD, 1u << 31, 0, c, n);
		ud.length[at % SENDS] = VS_UD_HEAD + n;
		ud.sge[i] = (struct ibv_sge){ (uintptr_t)b, VS_UD_HEAD + n, ud.mr->lkey };
		ud.wr[i] = (struct ibv_send_wr){ .wr_id = VS_WR_UD | at,
						 .next = i + 1 < parts ? &ud.wr[i + 1] : NULL,
						 .sg_list = &ud.sge[i],
						 .num_sge = 1,
						 .opcode = IBV_WR_SEND,
						 .send_flags = at % SIGNAL_EVERY == SIGNAL_EVERY - 1 ? IBV_SEND_SIGNALED : 0,
						 .wr.ud = { .ah = way, .remote_qpn = peer->number, .remote_qkey = peer->rkey } };
		p.at += n;
	}
	if (ok && ibv_post_send(ud.qp, ud.wr, &bad)) {
		ok = false;
		atomic_store(&failed, true);
	}
	if (ok)
		ud.posted += parts;
	vs_unlock(&ud.lock);
	return ok;
}

void vs_ud_recall(const struct vs_ud_part *of, void (*f)(const unsigned char *bytes, size_t len, void *arg), void *arg)
{
	struct vs_ud_whole w = { 0 };
	if (vs_lock(&ud.lock) == VS_LOCK_NESTED)
		return;
	const uint32_t kept = ud.posted < SENDS ? ud.posted : SENDS;
	for (uint32_t i = ud.posted - kept; i != ud.posted; i++) {
		struct vs_ud_part p;
		const unsigned char *b = send_buffer(i), *whole;
		const size_t n = ud.length[i % SENDS];
		if (!vs_ud_part_read(&p, b, n) || p.lease != of->lease || p.token[0] != of->token[0] || p.token[1] != of->token[1] ||
		    p.round != of->round || (int32_t)(p.number - of->number) < 0)
			continue;
		whole = vs_ud_whole_add(&w, &p, b + VS_UD_HEAD, n - VS_UD_HEAD);
		if (whole)
			f(whole, p.len, arg);
	}
	vs_unlock(&ud.lock);
	free(w.bytes);
}

void vs_ud_completion(const struct ibv_wc *wc)
{
	if (!ud.qp || wc->qp_num != ud.qp->qp_num)
		return;
	if (wc->status != IBV_WC_SUCCESS) {
		atomic_store(&failed, true);
		return;
	}
	if (wc->opcode == IBV_WC_SEND) {
		atomic_store(&ud.done, (uint32_t)wc->wr_id + 1);
		return;
	}
	const uint32_t i = (uint32_t)wc->wr_id % RECEIVES;
	if (wc->byte_len > GRH && wc->byte_len <= ud.size + GRH)
		vs_ud_arrived(receive_buffer(i) + GRH, wc->byte_len - GRH);
	if (!receive_into(i))
		atomic_store(&failed, true);
}

void vs_ud_heard(const struct vs_datagram *d, uint32_t network_device, bool passed_on)
{
	if (d->kind == VS_UD_ASK)
		vs_ud_take_ask(d, passed_on ? d->epoch : network_device);
	else if (!passed_on && d->kind == VS_UD_ANSWER)
		vs_ud_take_answer(d);
	else if (!passed_on && d->kind == VS_UD_STOP)
		vs_ud_take_stop(d);
}

void vs_ud_returned(const struct vs_datagram *d, uint16_t port)
{
	if (d->kind == VS_UD_ASK)
		vs_ud_nobody(d, port);
}

uint64_t vs_ud_tick(uint64_t now_ns) { return vs_ud_tick_senders(now_ns); }

void vs_ud_forked(void)
{
	/* What the parent has means nothing here; its memory is not ours to free either. */
	memset(&ud, 0, sizeof ud);
	atomic_store(&open_, false);
	vs_ud_forget_senders();
	vs_ud_forget_receivers();
}
