/* Two connected queue pairs for tests: see verbs-pair.h. */
#include "verbs-pair.h"

#include <string.h>
#include <sys/mman.h>

static int open_device(struct verbs_pair *pair)
{
	int n = 0;
	struct ibv_device **list = ibv_get_device_list(&n);
	for (int i = 0; list && i < n && !pair->context; i++) {
		struct ibv_context *context = ibv_open_device(list[i]);
		struct ibv_port_attr port;
		if (context && ibv_query_port(context, 1, &port) == 0 && port.state == IBV_PORT_ACTIVE) {
			pair->context = context;
			pair->mtu = port.active_mtu;
		} else if (context) {
			ibv_close_device(context);
		}
	}
	if (list)
		ibv_free_device_list(list);
	return pair->context ? 0 : -1;
}

/* The first RoCE v2 entry of the GID table, or the first at all. */
static int choose_gid(struct verbs_pair *pair)
{
	struct ibv_gid_entry entry;
	for (int pass = 0; pass < 2; pass++)
		for (uint32_t i = 0; i < 16; i++)
			if (ibv_query_gid_ex(pair->context, pair->port, i, &entry, 0) == 0 &&
			    (pass || entry.gid_type == IBV_GID_TYPE_ROCE_V2)) {
				pair->gid_index = (uint8_t)i;
				pair->gid = entry.gid;
				return 0;
			}
	return -1;
}

static int make_end(struct verbs_pair *pair, struct verbs_end *end, uint64_t length)
{
	end->length = length;
	end->buffer = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (end->buffer == MAP_FAILED) {
		end->buffer = NULL;
		return -1;
	}
	end->channel = ibv_create_comp_channel(pair->context);
	end->send_cq = ibv_create_cq(pair->context, 2 * VERBS_PAIR_DEPTH, NULL, end->channel, 0);
	end->recv_cq = ibv_create_cq(pair->context, 2 * VERBS_PAIR_DEPTH, NULL, end->channel, 0);
	end->mr = ibv_reg_mr(pair->pd, end->buffer, length,
			     IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_ATOMIC);
	if (!end->channel || !end->send_cq || !end->recv_cq || !end->mr)
		return -1;
	struct ibv_qp_init_attr init = {.send_cq = end->send_cq,
					.recv_cq = end->recv_cq,
					.qp_type = pair->type,
					.cap = {.max_send_wr = VERBS_PAIR_DEPTH,
						.max_recv_wr = VERBS_PAIR_DEPTH,
						.max_send_sge = 1,
						.max_recv_sge = 1,
						.max_inline_data = 128}};
	end->qp = ibv_create_qp(pair->pd, &init);
	pair->max_inline = init.cap.max_inline_data;
	return end->qp ? 0 : -1;
}

static void fill_ah(const struct verbs_pair *pair, struct ibv_ah_attr *ah)
{
	memset(ah, 0, sizeof(*ah));
	ah->is_global = 1;
	ah->port_num = pair->port;
	ah->grh.dgid = pair->gid;
	ah->grh.sgid_index = pair->gid_index;
	ah->grh.hop_limit = 64;
}

static int connect_end(struct verbs_pair *pair, struct verbs_end *end, const struct verbs_end *peer)
{
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_INIT, .port_num = pair->port};
	int mask = IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT;
	if (pair->type == IBV_QPT_UD) {
		attr.qkey = VERBS_PAIR_QKEY;
		mask |= IBV_QP_QKEY;
	} else {
		attr.qp_access_flags = IBV_ACCESS_REMOTE_WRITE;
		if (pair->type == IBV_QPT_RC)
			attr.qp_access_flags |= IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC;
		mask |= IBV_QP_ACCESS_FLAGS;
	}
	if (ibv_modify_qp(end->qp, &attr, mask))
		return -1;

	memset(&attr, 0, sizeof(attr));
	attr.qp_state = IBV_QPS_RTR;
	mask = IBV_QP_STATE;
	if (pair->type != IBV_QPT_UD) {
		fill_ah(pair, &attr.ah_attr);
		attr.path_mtu = pair->mtu;
		attr.dest_qp_num = peer->qp->qp_num;
		attr.rq_psn = 100;
		mask |= IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN;
	}
	if (pair->type == IBV_QPT_RC) {
		attr.max_dest_rd_atomic = 1;
		attr.min_rnr_timer = 12;
		mask |= IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER;
	}
	if (ibv_modify_qp(end->qp, &attr, mask))
		return -1;

	memset(&attr, 0, sizeof(attr));
	attr.qp_state = IBV_QPS_RTS;
	attr.sq_psn = 100;
	mask = IBV_QP_STATE | IBV_QP_SQ_PSN;
	if (pair->type == IBV_QPT_RC) {
		attr.timeout = 14;
		attr.retry_cnt = 7;
		attr.rnr_retry = 7;
		attr.max_rd_atomic = 1;
		mask |= IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_MAX_QP_RD_ATOMIC;
	}
	if (ibv_modify_qp(end->qp, &attr, mask))
		return -1;
	if (pair->type == IBV_QPT_UD) {
		struct ibv_ah_attr ah;
		fill_ah(pair, &ah);
		end->ah = ibv_create_ah(pair->pd, &ah);
		if (!end->ah)
			return -1;
	}
	return 0;
}

int verbs_pair_open(struct verbs_pair *pair, enum ibv_qp_type type, uint64_t buffer_length, const char **step)
{
	memset(pair, 0, sizeof(*pair));
	pair->type = type;
	pair->port = 1;
	*step = "open a device with an active port";
	if (open_device(pair) != 0)
		return -1;
	*step = "find a GID";
	if (choose_gid(pair) != 0)
		return -1;
	*step = "allocate a protection domain";
	pair->pd = ibv_alloc_pd(pair->context);
	if (!pair->pd)
		return -1;
	*step = "create both ends";
	for (int i = 0; i < 2; i++)
		if (make_end(pair, &pair->end[i], buffer_length) != 0)
			return -1;
	*step = "connect both ends";
	for (int i = 0; i < 2; i++)
		if (connect_end(pair, &pair->end[i], &pair->end[1 - i]) != 0)
			return -1;
	*step = NULL;
	return 0;
}

void verbs_pair_close(struct verbs_pair *pair)
{
	for (int i = 0; i < 2; i++) {
		struct verbs_end *end = &pair->end[i];
		if (end->ah)
			ibv_destroy_ah(end->ah);
		if (end->qp)
			ibv_destroy_qp(end->qp);
		if (end->mr)
			ibv_dereg_mr(end->mr);
		if (end->send_cq)
			ibv_destroy_cq(end->send_cq);
		if (end->recv_cq)
			ibv_destroy_cq(end->recv_cq);
		if (end->channel)
			ibv_destroy_comp_channel(end->channel);
		if (end->buffer)
			munmap(end->buffer, end->length);
	}
	if (pair->pd)
		ibv_dealloc_pd(pair->pd);
	if (pair->context)
		ibv_close_device(pair->context);
}
