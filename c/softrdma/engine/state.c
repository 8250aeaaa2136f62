/* state.c - error states: leaving the roads, flushing the queues, raising the events. */
#include "state.h"
#include "../shm/shm.h"

void sr_qp_event(struct sr_qp *qp, enum ibv_event_type event)
{
	if (!qp->disowned)
		sr_async_event(qp->ex.qp_base.context, event, &qp->ex.qp_base, 0);
	if (qp->type != IBV_QPT_XRC_RECV)
		return;
	sr_list_for(n, tmp, &qp->handles) {
		struct ibv_qp *handle = &sr_list_entry(n, struct sr_qp, xrc_node)->ex.qp_base;
		sr_async_event(handle->context, event, handle, 0);
	}
}

void sr_qp_leave_roads(struct sr_qp *qp)
{
	sr_shm_qp_reset(qp);
	if (qp->road == SR_ROAD_WIRE) {
		sr_wire_qp_reset(qp);
		if (qp->type != IBV_QPT_UD) {
			sr.wire_users--;
			sr.wire_connected--;
		}
	}
	qp->road = SR_ROAD_NONE;
}

void sr_rq_flush(struct sr_qp *qp)
{
	struct ibv_wc wc = { .status = IBV_WC_WR_FLUSH_ERR, .opcode = IBV_WC_RECV, .qp_num = qp->qpn };
	if (qp->rx->active) { /* a message that had begun */
		qp->rx->active = false;
		wc.wr_id = qp->rx->wr_id;
		sr_cq_push(qp->recv_cq, &wc, false);
	}
	if (qp->srq && qp->type != IBV_QPT_XRC_RECV) {
		/* An SRQ's WQEs belong to its other queue pairs; the event says that no more will be taken by this one. */
		if (!qp->last_wqe_event) {
			qp->last_wqe_event = true;
			sr_qp_event(qp, IBV_EVENT_QP_LAST_WQE_REACHED);
		}
		return;
	}
	while (qp->rq.tail != qp->rq.head) {
		wc.wr_id = sr_rq_at(&qp->rq, qp->rq.tail++)->wr_id;
		sr_cq_push(qp->recv_cq, &wc, false);
	}
}

void sr_qp_to_error(struct sr_qp *qp)
{
	if (sr_qp_state(qp) == IBV_QPS_ERR)
		return;
	qp->ex.qp_base.state = IBV_QPS_ERR;
	qp->sqd_draining = false;
	sr_qp_leave_roads(qp);
	sr_shm_publish_qp(qp);
	sr_sq_flush(qp);
	sr_rq_flush(qp);
}

void sr_qp_responder_error(struct sr_qp *qp, enum ibv_event_type event)
{
	sr_qp_event(qp, event);
	sr_qp_to_error(qp);
}
