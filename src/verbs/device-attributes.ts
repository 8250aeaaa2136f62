/** Turns `struct ibv_device_attr` and `struct ibv_port_attr` into plain, named values. */

import type { Struct } from '../../ffi/struct.ts';
import { ENUMS } from '../../ffi/structs.generated.ts';
import { linkSpeedBps, mtuBytes, physicalStateName, portStateName } from './names.ts';
import type { DeviceAttributes, PortAttributes } from './types.ts';

/** `0011:2233:4455:6677` of a GUID in network byte order. */
export function guidText(guid: bigint): string {
  const hex = guid.toString(16).padStart(16, '0');
  return (hex.match(/.{4}/g) ?? []).join(':');
}

/** Words of `link_layer` (IBV_LINK_LAYER_*). */
const LINK_LAYERS = ['unspecified', 'InfiniBand', 'Ethernet'] as const;

const ATOMIC_WORDS: ReadonlyMap<number, DeviceAttributes['atomics']> = new Map([
  [ENUMS.ibv_atomic_cap.IBV_ATOMIC_NONE, 'none'],
  [ENUMS.ibv_atomic_cap.IBV_ATOMIC_HCA, 'hca'],
  [ENUMS.ibv_atomic_cap.IBV_ATOMIC_GLOB, 'global'],
]);

/** Reads a filled `struct ibv_device_attr`. */
export function deviceAttributes(attr: Struct<'ibv_device_attr'>): DeviceAttributes {
  return {
    fwVersion: attr.text('fw_ver'),
    nodeGuid: guidText(attr.big('node_guid')),
    sysImageGuid: guidText(attr.big('sys_image_guid')),
    vendorId: attr.num('vendor_id'),
    vendorPartId: attr.num('vendor_part_id'),
    hwVersion: attr.num('hw_ver'),
    portCount: attr.num('phys_port_cnt'),
    maxMrSize: attr.big('max_mr_size'),
    maxQp: attr.num('max_qp'),
    maxQpWr: attr.num('max_qp_wr'),
    maxSge: attr.num('max_sge'),
    maxSgeRead: attr.num('max_sge_rd'),
    maxCq: attr.num('max_cq'),
    maxCqe: attr.num('max_cqe'),
    maxMr: attr.num('max_mr'),
    maxPd: attr.num('max_pd'),
    maxQpReadAtomic: attr.num('max_qp_rd_atom'),
    maxQpInitReadAtomic: attr.num('max_qp_init_rd_atom'),
    maxAh: attr.num('max_ah'),
    maxSrq: attr.num('max_srq'),
    maxSrqWr: attr.num('max_srq_wr'),
    maxSrqSge: attr.num('max_srq_sge'),
    maxMcastGroups: attr.num('max_mcast_grp'),
    maxMcastQpAttach: attr.num('max_mcast_qp_attach'),
    maxPkeys: attr.num('max_pkeys'),
    atomics: ATOMIC_WORDS.get(attr.num('atomic_cap')) ?? 'unknown',
    capabilityFlags: attr.num('device_cap_flags'),
  };
}

/** Reads a filled `struct ibv_port_attr`. */
export function portAttributes(port: number, attr: Struct<'ibv_port_attr'>): PortAttributes {
  const activeWidth = attr.num('active_width');
  const activeSpeed = attr.num('active_speed');
  return {
    port,
    state: portStateName(attr.num('state')),
    physicalState: physicalStateName(attr.num('phys_state')),
    linkLayer: LINK_LAYERS[attr.num('link_layer')] ?? 'unspecified',
    maxMtuBytes: mtuBytes(attr.num('max_mtu')) ?? 1024,
    activeMtuBytes: mtuBytes(attr.num('active_mtu')) ?? 1024,
    gidTableLength: attr.num('gid_tbl_len'),
    pkeyTableLength: attr.num('pkey_tbl_len'),
    lid: attr.num('lid'),
    smLid: attr.num('sm_lid'),
    maxMessageBytes: attr.num('max_msg_sz'),
    linkSpeedBps: linkSpeedBps(activeWidth, activeSpeed),
    activeWidth,
    activeSpeed,
  };
}
