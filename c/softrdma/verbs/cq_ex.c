/* cq_ex.c - extended completion queues: start_poll, next_poll, end_poll and the readers. */
#include <errno.h>
#include <time.h>
#include "../engine/lock.h"
#include "cq.h"

static bool next(struct sr_cq *cq)
{
	uint32_t tail = atomic_load_explicit(&cq->tail, memory_order_relaxed);
	if (tail == atomic_load_explicit(&cq->head, memory_order_acquire))
		return false;
	cq->current = cq->ring[tail & cq->mask];
	atomic_store_explicit(&cq->tail, tail + 1, memory_order_release);
	cq->ex.wr_id = cq->current.wc.wr_id;
	cq->ex.status = cq->current.wc.status;
	return true;
}

static struct sr_cq *of(struct ibv_cq_ex *ex) { return sr_cq(ibv_cq_ex_to_cq(ex)); }

static int start_poll(struct ibv_cq_ex *ex, struct ibv_poll_cq_attr *attr)
{
	struct sr_cq *cq = of(ex);
	if (attr->comp_mask)
		return EINVAL;
	/* The engine is run before the pollers' lock is taken: it takes that lock last. */
	if (atomic_load(&cq->head) == atomic_load(&cq->tail) && !sr_cq_progress(cq))
		return cq->overrun ? EINVAL : ENOENT;
	pthread_spin_lock(&cq->lock);
	if (next(cq))
		return 0; /* end_poll unlocks */
	pthread_spin_unlock(&cq->lock);
	return ENOENT;
}

static int next_poll(struct ibv_cq_ex *ex) { return next(of(ex)) ? 0 : ENOENT; }
static void end_poll(struct ibv_cq_ex *ex) { pthread_spin_unlock(&of(ex)->lock); }
static enum ibv_wc_opcode read_opcode(struct ibv_cq_ex *ex) { return of(ex)->current.wc.opcode; }
static uint32_t read_vendor_err(struct ibv_cq_ex *ex) { return of(ex)->current.wc.vendor_err; }
static uint32_t read_byte_len(struct ibv_cq_ex *ex) { return of(ex)->current.wc.byte_len; }
static __be32 read_imm_data(struct ibv_cq_ex *ex) { return of(ex)->current.wc.imm_data; }
static uint32_t read_qp_num(struct ibv_cq_ex *ex) { return of(ex)->current.wc.qp_num; }
static uint32_t read_src_qp(struct ibv_cq_ex *ex) { return of(ex)->current.wc.src_qp; }
static unsigned int read_wc_flags(struct ibv_cq_ex *ex) { return of(ex)->current.wc.wc_flags; }
static uint32_t read_slid(struct ibv_cq_ex *ex) { return of(ex)->current.wc.slid; }
static uint8_t read_sl(struct ibv_cq_ex *ex) { return of(ex)->current.wc.sl; }
static uint8_t read_dlid_path_bits(struct ibv_cq_ex *ex) { return of(ex)->current.wc.dlid_path_bits; }
static uint64_t read_completion_ts(struct ibv_cq_ex *ex) { return of(ex)->current.timestamp_ns; }

static uint64_t read_wallclock(struct ibv_cq_ex *ex)
{
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec - (sr_now_ns() - of(ex)->current.timestamp_ns);
}

#define FLAGS_KNOWN                                                                                                     \
	(IBV_WC_STANDARD_FLAGS | IBV_WC_EX_WITH_COMPLETION_TIMESTAMP | IBV_WC_EX_WITH_COMPLETION_TIMESTAMP_WALLCLOCK)

struct ibv_cq_ex *sr_create_cq_ex(struct ibv_context *ctx, struct ibv_cq_init_attr_ex *attr)
{
	if ((attr->comp_mask & ~(uint32_t)(IBV_CQ_INIT_ATTR_MASK_FLAGS | IBV_CQ_INIT_ATTR_MASK_PD)) ||
	    (attr->wc_flags & ~(uint64_t)FLAGS_KNOWN) ||
	    ((attr->comp_mask & IBV_CQ_INIT_ATTR_MASK_FLAGS) &&
	     (attr->flags & ~(uint32_t)(IBV_CREATE_CQ_ATTR_SINGLE_THREADED | IBV_CREATE_CQ_ATTR_IGNORE_OVERRUN)))) {
		errno = EOPNOTSUPP;
		return NULL;
	}
	struct sr_cq *cq = sr_cq_create(ctx, (int)attr->cqe, attr->cq_context, attr->channel, (int)attr->comp_vector);
	if (!cq)
		return NULL;
	cq->timestamps =
		attr->wc_flags & (IBV_WC_EX_WITH_COMPLETION_TIMESTAMP | IBV_WC_EX_WITH_COMPLETION_TIMESTAMP_WALLCLOCK);
	struct ibv_cq_ex *ex = &cq->ex;
	ex->start_poll = start_poll;
	ex->next_poll = next_poll;
	ex->end_poll = end_poll;
	ex->read_opcode = read_opcode;
	ex->read_vendor_err = read_vendor_err;
	ex->read_byte_len = read_byte_len;
	ex->read_imm_data = read_imm_data;
	ex->read_qp_num = read_qp_num;
	ex->read_src_qp = read_src_qp;
	ex->read_wc_flags = read_wc_flags;
	ex->read_slid = read_slid;
	ex->read_sl = read_sl;
	ex->read_dlid_path_bits = read_dlid_path_bits;
	ex->read_completion_ts = read_completion_ts;
	ex->read_completion_wallclock_ns = read_wallclock;
	return ex;
}

int sr_query_rt_values(struct ibv_context *ctx, struct ibv_values_ex *values)
{
	(void)ctx;
	if (values->comp_mask & IBV_VALUES_MASK_RAW_CLOCK)
		clock_gettime(CLOCK_MONOTONIC, &values->raw_clock);
	values->comp_mask &= IBV_VALUES_MASK_RAW_CLOCK;
	return 0;
}
