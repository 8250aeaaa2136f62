/*
 * The responder against a hostile peer: a sequence of arbitrary packets with a right ICRC. Input: records of a length byte pair
 * and a packet, whose QPN, PSN (relative to what is expected) and rkey are made plausible so that deep code is reached.
 * Checked: memory outside the registered region stays untouched, and afterwards the queue pair can be torn down.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include "softrdma/wire/bytes.h"
#include "test/wire-rig.h"

#define GUARD 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct rig_end e[2];
	if (size < 2)
		return 0;
	rig_start();
	enum ibv_qp_type type = data[0] & 1 ? IBV_QPT_UC : data[0] & 8 ? IBV_QPT_XRC_SEND : IBV_QPT_RC;
	rig_pair(e, &(struct rig_conf){ .type = type, .mtu = 256u << (data[0] >> 1 & 3),
					.mem = 8192, .rd_atomic = 4, .psn = { 0xfffffe, 7 } });
	/* Only the middle may be reached from outside. */
	e[1].mr.key.iova += GUARD;
	e[1].mr.key.base += GUARD;
	e[1].mr.key.length -= 2 * GUARD;
	for (int i = 0; i < (data[0] >> 4); i++)
		rig_recv(&e[1], (uint64_t)i, GUARD + (size_t)i * 512, 512);
	for (size_t at = 1; at + 2 <= size;) {
		uint8_t raw[1200];
		size_t len = rig_record(data, size, &at, sizeof raw, raw, e[1].qp->qp_num);
		if (len < 28) {
			rig_run(len * 1000000, NULL);
			continue;
		}
		struct sr_wire_qp *w = sr_qp(e[1].qp)->wire;
		if (w && !(raw[8] & 0x40))
			sr_put32(raw + 8, (uint32_t)raw[8] << 24 | ((w->rsp.psn + (uint32_t)(int8_t)raw[11]) & SR_PSN_MASK));
		uint32_t flags = sr_op_flags[raw[0]];
		uint8_t *x = raw + SR_BTH_BYTES; /* behind what names the queue */
		if (flags & SR_H_XRC) {
			if (e[1].srq && x[0] & 7)
				sr_put32(x, (uint32_t)x[0] << 24 | e[1].srq->handle);
			x += SR_XRCETH_BYTES;
		}
		if (flags & (SR_H_RETH | SR_H_ATOMIC) && !(raw[8] & 0x20)) {
			sr_put64(x, e[1].mr.key.iova + (sr_get16(x + 6) & 0x1fff) - (x[5] & 1 ? 16 : 0));
			sr_put32(x + 8, e[1].mr.key.key);
			if (flags & SR_H_RETH)
				sr_put32(x + 12, sr_get32(x + 12) & 0x3fff);
		}
		rig_inject(&e[1], raw, len);
	}
	rig_run(3000000, NULL);
	for (size_t i = 0; i < GUARD; i++)
		if (e[1].mem[i] || e[1].mem[e[1].len - 1 - i])
			abort();
	rig_free(e);
	return 0;
}
