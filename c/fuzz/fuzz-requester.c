/*
 * The requester against a hostile peer: SENDs, WRITEs, READs and atomics are outstanding while arbitrary ACKs, NAKs, SACKs, READ
 * data and atomic results arrive, with plausible PSNs. Every WQE must complete exactly once, in order, whatever comes.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include "softrdma/wire/bytes.h"
#include "test/wire-rig.h"

static bool drop_all(const struct sr_pkt *p)
{
	(void)p;
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const enum ibv_wr_opcode ops[] = { IBV_WR_SEND, IBV_WR_RDMA_WRITE, IBV_WR_RDMA_READ, IBV_WR_ATOMIC_FETCH_AND_ADD };
	struct rig_end e[2];
	uint64_t posted = 0, completed = 0;
	struct ibv_wc wc;
	if (size < 8)
		return 0;
	rig_start();
	rig.drop = drop_all;
	rig_pair(e, &(struct rig_conf){ .type = data[6] & 1 ? IBV_QPT_XRC_SEND : IBV_QPT_RC, .mtu = 256, .mem = 8192, .rd_atomic = 4, .psn = { 0xfffffa, 7 } });
	for (int i = 0; i < 6; i++) {
		enum ibv_wr_opcode op = ops[data[i] & 3];
		uint32_t len = op == IBV_WR_ATOMIC_FETCH_AND_ADD ? 8 : (uint32_t)(data[i] >> 2) * 40;
		if (rig_post(&e[0], op, posted, 64, len, &e[1], 64) == 0)
			posted++;
	}
	for (size_t at = 6; at + 2 <= size;) {
		uint8_t raw[700];
		size_t len = rig_record(data, size, &at, sizeof raw, raw, e[0].qp->qp_num);
		if (len < RIG_RECORD_MIN) {
			rig_run(len * 10000000, NULL);
			continue;
		}
		struct sr_wire_qp *w = sr_qp(e[0].qp)->wire;
		if (w && !(raw[8] & 0x40))
			sr_put32(raw + 8, (uint32_t)raw[8] << 24 | ((w->req.una + (raw[11] & 0x3f)) & SR_PSN_MASK));
		if (w && !(raw[8] & 0x20))
			raw[4] = SR_BTH_MARK;
		rig_inject(&e[0], raw, len);
	}
	rig_run(UINT64_C(20000000000), NULL);
	while (rig_poll(e[0].scq, &wc))
		if (wc.wr_id != completed++)
			abort();
	if (completed > posted || (e[0].qp->state == IBV_QPS_ERR && completed != posted))
		abort();
	rig_free(e);
	return 0;
}
