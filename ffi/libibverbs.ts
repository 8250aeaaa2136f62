/**
 * Declarations of libibverbs' control path. Nothing but signatures.
 *
 * The data path (post_send, post_recv, poll_cq, req_notify_cq) is inline in the
 * C header and dispatches through function pointers: it is called from
 * c/datapath and never from here.
 */

import { bind } from './bind.ts';
import { loadVerbs } from './load.ts';

/** Control path calls, exactly as infiniband/verbs.h has them. */
export const libibverbs = bind('libibverbs', () => loadVerbs().handle, {
  ibv_get_device_list: ['ptr', ['buf']],
  ibv_free_device_list: ['void', ['ptr']],
  ibv_get_device_name: ['str', ['ptr']],
  ibv_get_device_guid: ['u64', ['ptr']],
  ibv_open_device: ['ptr', ['ptr']],
  ibv_close_device: ['i32', ['ptr']],
  ibv_query_device: ['i32', ['ptr', 'buf']],
  ibv_query_port: ['i32', ['ptr', 'u8', 'buf']],
  ibv_query_gid: ['i32', ['ptr', 'u8', 'i32', 'buf']],
  _ibv_query_gid_ex: ['i32', ['ptr', 'u32', 'u32', 'buf', 'u32', 'u64']],
  _ibv_query_gid_table: ['i64', ['ptr', 'buf', 'u64', 'u32', 'u64']],
  ibv_query_pkey: ['i32', ['ptr', 'u8', 'i32', 'buf']],
  ibv_alloc_pd: ['ptr', ['ptr']],
  ibv_dealloc_pd: ['i32', ['ptr']],
  ibv_reg_mr: ['ptr', ['ptr', 'ptr', 'u64', 'i32']],
  ibv_dereg_mr: ['i32', ['ptr']],
  ibv_create_comp_channel: ['ptr', ['ptr']],
  ibv_destroy_comp_channel: ['i32', ['ptr']],
  ibv_create_cq: ['ptr', ['ptr', 'i32', 'ptr?', 'ptr?', 'i32']],
  ibv_resize_cq: ['i32', ['ptr', 'i32']],
  ibv_destroy_cq: ['i32', ['ptr']],
  ibv_get_cq_event: ['i32', ['ptr', 'buf', 'buf']],
  ibv_ack_cq_events: ['void', ['ptr', 'u32']],
  ibv_create_srq: ['ptr', ['ptr', 'buf']],
  ibv_modify_srq: ['i32', ['ptr', 'buf', 'i32']],
  ibv_query_srq: ['i32', ['ptr', 'buf']],
  ibv_destroy_srq: ['i32', ['ptr']],
  ibv_create_qp: ['ptr', ['ptr', 'buf']],
  ibv_modify_qp: ['i32', ['ptr', 'buf', 'i32']],
  ibv_query_qp: ['i32', ['ptr', 'buf', 'i32', 'buf']],
  ibv_destroy_qp: ['i32', ['ptr']],
  ibv_create_ah: ['ptr', ['ptr', 'buf']],
  ibv_destroy_ah: ['i32', ['ptr']],
  ibv_attach_mcast: ['i32', ['ptr', 'buf', 'u16']],
  ibv_detach_mcast: ['i32', ['ptr', 'buf', 'u16']],
  ibv_get_async_event: ['i32', ['ptr', 'buf']],
  ibv_ack_async_event: ['void', ['buf']],
  ibv_fork_init: ['i32', []],
  ibv_wc_status_str: ['str', ['u32']],
  ibv_event_type_str: ['str', ['u32']],
  ibv_node_type_str: ['str', ['i32']],
  ibv_port_state_str: ['str', ['u32']],
});
