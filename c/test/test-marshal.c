/*
 * Conversions from and to the kernel's CM structs: every field arrives, and nothing beyond the destination is written.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <infiniband/sa.h>
#include <rdma/ib_user_sa.h>
#include <rdma/ib_user_verbs.h>
#include <string.h>
#include "softrdma/abi/exports.h"

/* Different bytes everywhere, so that two swapped fields cannot go unnoticed. */
static void fill(void *p, size_t n)
{
	uint32_t x = 12345;
	for (size_t i = 0; i < n; i++) {
		x = x * 1664525u + 1013904223u;
		((uint8_t *)p)[i] = (uint8_t)(x >> 24);
	}
}

static void path_records_survive_the_round_trip(void **state)
{
	struct ib_user_path_rec kern, back;
	struct ibv_sa_path_rec rec;
	(void)state;
	fill(&kern, sizeof(kern));
	kern.mtu &= 0xff; /* one byte wide on this side */
	ibv_copy_path_rec_from_kern(&rec, &kern);
	ibv_copy_path_rec_to_kern(&back, &rec);
	assert_memory_equal(&back, &kern, sizeof(kern));
	assert_int_equal(rec.pkey, kern.pkey);
	assert_int_equal(rec.hop_limit, kern.hop_limit);
}

static void queue_pair_attributes(void **state)
{
	struct ib_uverbs_qp_attr kern;
	struct ibv_qp_attr attr;
	(void)state;
	fill(&kern, sizeof(kern));
	kern.qp_state = IBV_QPS_RTS;
	kern.path_mtu = IBV_MTU_2048;
	memset(&attr, 0xee, sizeof(attr));
	ibv_copy_qp_attr_from_kern(&attr, &kern);
	assert_int_equal(attr.qp_state, IBV_QPS_RTS);
	assert_int_equal(attr.path_mtu, IBV_MTU_2048);
	assert_int_equal(attr.qkey, kern.qkey);
	assert_int_equal(attr.rq_psn, kern.rq_psn);
	assert_int_equal(attr.sq_psn, kern.sq_psn);
	assert_int_equal(attr.dest_qp_num, kern.dest_qp_num);
	assert_int_equal(attr.qp_access_flags, kern.qp_access_flags);
	assert_int_equal(attr.cap.max_inline_data, kern.max_inline_data);
	assert_int_equal(attr.pkey_index, kern.pkey_index);
	assert_int_equal(attr.max_rd_atomic, kern.max_rd_atomic);
	assert_int_equal(attr.max_dest_rd_atomic, kern.max_dest_rd_atomic);
	assert_int_equal(attr.min_rnr_timer, kern.min_rnr_timer);
	assert_int_equal(attr.timeout, kern.timeout);
	assert_int_equal(attr.retry_cnt, kern.retry_cnt);
	assert_int_equal(attr.rnr_retry, kern.rnr_retry);
	assert_int_equal(attr.alt_timeout, kern.alt_timeout);
	assert_memory_equal(attr.ah_attr.grh.dgid.raw, kern.ah_attr.grh.dgid, 16);
	assert_int_equal(attr.ah_attr.grh.sgid_index, kern.ah_attr.grh.sgid_index);
	assert_int_equal(attr.ah_attr.dlid, kern.ah_attr.dlid);
	assert_memory_equal(attr.alt_ah_attr.grh.dgid.raw, kern.alt_ah_attr.grh.dgid, 16);
	assert_int_equal(attr.alt_ah_attr.port_num, kern.alt_ah_attr.port_num);
	assert_int_equal(attr.rate_limit, 0xeeeeeeee); /* younger than the callers of this function */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(path_records_survive_the_round_trip),
		cmocka_unit_test(queue_pair_attributes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
