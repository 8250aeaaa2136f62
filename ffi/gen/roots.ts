/**
 * What the generator takes out of the C headers: one place decides which
 * structs, enums and constants TypeScript may name.
 */

/** Structs that rdmakit reads or fills from TypeScript. */
export const STRUCTS: readonly string[] = [
  'ibv_ah_attr',
  'ibv_async_event',
  'ibv_comp_channel',
  'ibv_context',
  'ibv_cq',
  'ibv_device',
  'ibv_device_attr',
  'ibv_gid_entry',
  'ibv_mr',
  'ibv_port_attr',
  'ibv_qp',
  'ibv_qp_attr',
  'ibv_qp_init_attr',
  'ibv_srq',
  'ibv_srq_attr',
  'ibv_srq_init_attr',
];

/** Enums whose values rdmakit passes, names or explains. */
export const ENUMS: readonly string[] = [
  'ibv_access_flags',
  'ibv_atomic_cap',
  'ibv_event_type',
  'ibv_gid_type',
  'ibv_mtu',
  'ibv_node_type',
  'ibv_port_state',
  'ibv_qp_attr_mask',
  'ibv_qp_state',
  'ibv_qp_type',
  'ibv_srq_attr_mask',
  'ibv_transport_type',
  'ibv_wc_opcode',
  'ibv_wc_status',
];

/** Our own headers are taken whole: everything with these names. */
export const OWN_STRUCTS = /^(rk_(dp|hist)|vs_book)/;
export const OWN_ENUMS = /^(rk_(dp|clock)_|vs_(book|plain|watched|road))/;
/** Object-like macros of our own headers that are plain numbers. */
export const OWN_MACROS = /^(RK_(DP|HIST|CLOCK)|VS_BOOK)_[A-Z0-9_]+$/;

/** Types that stay behind pointers for TypeScript. */
export const OPAQUE = new Set(['rk_dp_loop']);
