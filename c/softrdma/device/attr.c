/*
 * attr.c - device attributes: the constants of limits.h in the shape of the query calls.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "../core.h"
#include "device.h"

_Static_assert(SR_LIMIT_SGE == SR_MAX_SGE, "limits.h and core.h disagree");
_Static_assert(SR_LIMIT_INLINE_BYTES == SR_MAX_INLINE, "limits.h and core.h disagree");
_Static_assert(SR_LIMIT_QP < SR_QP_INDEX_MAX, "limits.h and core.h disagree");
_Static_assert(SR_LIMIT_KEYS < SR_KEY_INDEX_MAX, "limits.h and core.h disagree");

void sr_device_attr(struct sr_device *d, struct ibv_device_attr *attr)
{
	*attr = (struct ibv_device_attr){
		.fw_ver = SR_FW_VER,
		.node_guid = d->guid,
		.sys_image_guid = d->guid,
		.max_mr_size = UINT64_MAX,
		.page_size_cap = 0xfffff000,
		.vendor_id = 0xffffff, /* nobody's OUI, as the kernel's Soft-RoCE says; 0 is taken for an error */
		.vendor_part_id = 0,
		.hw_ver = 0,
		.max_qp = SR_LIMIT_QP,
		.max_qp_wr = SR_LIMIT_QP_WR,
		.device_cap_flags = IBV_DEVICE_BAD_PKEY_CNTR | IBV_DEVICE_BAD_QKEY_CNTR | IBV_DEVICE_UD_AV_PORT_ENFORCE |
				    IBV_DEVICE_CURR_QP_STATE_MOD | IBV_DEVICE_PORT_ACTIVE_EVENT | IBV_DEVICE_SYS_IMAGE_GUID |
				    IBV_DEVICE_RC_RNR_NAK_GEN | IBV_DEVICE_SRQ_RESIZE | IBV_DEVICE_MEM_WINDOW |
				    IBV_DEVICE_MEM_MGT_EXTENSIONS | IBV_DEVICE_MEM_WINDOW_TYPE_2B | IBV_DEVICE_XRC,
		.max_sge = SR_LIMIT_SGE,
		.max_sge_rd = SR_LIMIT_SGE,
		.max_cq = SR_LIMIT_CQ,
		.max_cqe = SR_LIMIT_CQE,
		.max_mr = SR_LIMIT_KEYS,
		.max_pd = SR_LIMIT_PD,
		.max_qp_rd_atom = SR_LIMIT_RD_ATOMIC,
		.max_res_rd_atom = SR_LIMIT_RD_ATOMIC * SR_LIMIT_QP,
		.max_qp_init_rd_atom = SR_LIMIT_RD_ATOMIC,
		.atomic_cap = IBV_ATOMIC_GLOB, /* CPU atomics: also against the CPU and other processes */
		.max_mw = SR_LIMIT_KEYS,
		.max_mcast_grp = SR_LIMIT_MCAST_GROUPS,
		.max_mcast_qp_attach = SR_LIMIT_MCAST_QP,
		.max_total_mcast_qp_attach = SR_LIMIT_MCAST_QP * SR_LIMIT_MCAST_GROUPS,
		.max_ah = SR_LIMIT_AH,
		.max_srq = SR_LIMIT_SRQ,
		.max_srq_wr = SR_LIMIT_SRQ_WR,
		.max_srq_sge = SR_LIMIT_SGE,
		.max_pkeys = 1,
		.local_ca_ack_delay = SR_ACK_DELAY,
		.phys_port_cnt = 1,
	};
}

/* Device attributes. Returns 0. */
int ibv_query_device(struct ibv_context *context, struct ibv_device_attr *device_attr)
{
	sr_device_attr(sr_dev(context->device), device_attr);
	return 0;
}

/* The extended query; the caller's struct may be older and shorter, or newer and longer, than ours. */
int sr_query_device_ex(struct ibv_context *ctx, const struct ibv_query_device_ex_input *input,
		       struct ibv_device_attr_ex *attr, size_t attr_size)
{
	struct ibv_device_attr_ex all = { 0 };
	if (input && input->comp_mask)
		return EINVAL;
	if (attr_size < offsetof(struct ibv_device_attr_ex, comp_mask) + sizeof(attr->comp_mask))
		return EINVAL;
	sr_device_attr(sr_dev(ctx->device), &all.orig_attr);
	all.completion_timestamp_mask = UINT64_MAX; /* timestamps are nanoseconds ... */
	all.hca_core_clock = 1000000;		    /* ... so the clock runs at 10^6 kHz */
	all.device_cap_flags_ex = all.orig_attr.device_cap_flags;
	all.phys_port_cnt_ex = 1;
	memset(attr, 0, attr_size);
	memcpy(attr, &all, attr_size < sizeof(all) ? attr_size : sizeof(all));
	return 0;
}
