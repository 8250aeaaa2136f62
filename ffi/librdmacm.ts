/**
 * Declarations of librdmacm's connection calls. Nothing but signatures.
 *
 * They need structs (rdma_cm_id, rdma_cm_event, rdma_conn_param) only when
 * somebody connects through them.
 */

import { bind } from './bind.ts';
import { loadRdmacm } from './load.ts';

/** Connection manager calls, exactly as rdma/rdma_cma.h has them. */
export const librdmacm = bind('librdmacm', () => loadRdmacm(), {
  rdma_create_event_channel: ['ptr', []],
  rdma_destroy_event_channel: ['void', ['ptr']],
  rdma_create_id: ['i32', ['ptr', 'buf', 'ptr?', 'i32']],
  rdma_destroy_id: ['i32', ['ptr']],
  rdma_bind_addr: ['i32', ['ptr', 'buf']],
  rdma_resolve_addr: ['i32', ['ptr', 'buf?', 'buf', 'i32']],
  rdma_resolve_route: ['i32', ['ptr', 'i32']],
  rdma_create_qp: ['i32', ['ptr', 'ptr?', 'buf']],
  rdma_destroy_qp: ['void', ['ptr']],
  rdma_connect: ['i32', ['ptr', 'buf?']],
  rdma_listen: ['i32', ['ptr', 'i32']],
  rdma_accept: ['i32', ['ptr', 'buf?']],
  rdma_reject: ['i32', ['ptr', 'buf?', 'u8']],
  rdma_establish: ['i32', ['ptr']],
  rdma_disconnect: ['i32', ['ptr']],
  rdma_get_cm_event: ['i32', ['ptr', 'buf']],
  rdma_ack_cm_event: ['i32', ['ptr']],
  rdma_event_str: ['str', ['u32']],
  rdma_init_qp_attr: ['i32', ['ptr', 'buf', 'buf']],
});
