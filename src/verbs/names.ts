/**
 * Names of C enum values in both directions, derived from the generated enums so
 * that no number is written twice.
 */

import { ENUMS } from '../../ffi/structs.generated.ts';
import type { Access, GidType, MtuBytes, PortState, QpState, QpType } from './types.ts';

const QP_STATES: ReadonlyMap<number, QpState> = new Map<number, QpState>([
  [ENUMS.ibv_qp_state.IBV_QPS_RESET, 'RESET'],
  [ENUMS.ibv_qp_state.IBV_QPS_INIT, 'INIT'],
  [ENUMS.ibv_qp_state.IBV_QPS_RTR, 'RTR'],
  [ENUMS.ibv_qp_state.IBV_QPS_RTS, 'RTS'],
  [ENUMS.ibv_qp_state.IBV_QPS_SQD, 'SQD'],
  [ENUMS.ibv_qp_state.IBV_QPS_SQE, 'SQE'],
  [ENUMS.ibv_qp_state.IBV_QPS_ERR, 'ERR'],
]);

const PORT_STATES: ReadonlyMap<number, PortState> = new Map<number, PortState>([
  [ENUMS.ibv_port_state.IBV_PORT_NOP, 'NOP'],
  [ENUMS.ibv_port_state.IBV_PORT_DOWN, 'DOWN'],
  [ENUMS.ibv_port_state.IBV_PORT_INIT, 'INIT'],
  [ENUMS.ibv_port_state.IBV_PORT_ARMED, 'ARMED'],
  [ENUMS.ibv_port_state.IBV_PORT_ACTIVE, 'ACTIVE'],
  [ENUMS.ibv_port_state.IBV_PORT_ACTIVE_DEFER, 'ACTIVE_DEFER'],
]);

const MTUS: readonly (readonly [MtuBytes, number])[] = [
  [256, ENUMS.ibv_mtu.IBV_MTU_256],
  [512, ENUMS.ibv_mtu.IBV_MTU_512],
  [1024, ENUMS.ibv_mtu.IBV_MTU_1024],
  [2048, ENUMS.ibv_mtu.IBV_MTU_2048],
  [4096, ENUMS.ibv_mtu.IBV_MTU_4096],
];

/** Path MTUs that verbs knows, in bytes. */
export const MTU_SIZES: readonly MtuBytes[] = MTUS.map(([bytes]) => bytes);

/** `enum ibv_qp_type` of the types that rdmakit drives. */
export const QP_TYPES: Readonly<Record<QpType, number>> = {
  RC: ENUMS.ibv_qp_type.IBV_QPT_RC,
  UC: ENUMS.ibv_qp_type.IBV_QPT_UC,
  UD: ENUMS.ibv_qp_type.IBV_QPT_UD,
};

const ACCESS_BITS: Readonly<Record<Access, number>> = {
  'local-write': ENUMS.ibv_access_flags.IBV_ACCESS_LOCAL_WRITE,
  'remote-write': ENUMS.ibv_access_flags.IBV_ACCESS_REMOTE_WRITE,
  'remote-read': ENUMS.ibv_access_flags.IBV_ACCESS_REMOTE_READ,
  'remote-atomic': ENUMS.ibv_access_flags.IBV_ACCESS_REMOTE_ATOMIC,
  'mw-bind': ENUMS.ibv_access_flags.IBV_ACCESS_MW_BIND,
  'zero-based': ENUMS.ibv_access_flags.IBV_ACCESS_ZERO_BASED,
  'on-demand': ENUMS.ibv_access_flags.IBV_ACCESS_ON_DEMAND,
  'huge-tlb': ENUMS.ibv_access_flags.IBV_ACCESS_HUGETLB,
  'relaxed-ordering': ENUMS.ibv_access_flags.IBV_ACCESS_RELAXED_ORDERING,
};

/** All access rights by name. */
export const ACCESS_NAMES = Object.keys(ACCESS_BITS) as readonly Access[];

const GID_TYPES: ReadonlyMap<number, GidType> = new Map<number, GidType>([
  [ENUMS.ibv_gid_type.IBV_GID_TYPE_IB, 'IB'],
  [ENUMS.ibv_gid_type.IBV_GID_TYPE_ROCE_V1, 'RoCEv1'],
  [ENUMS.ibv_gid_type.IBV_GID_TYPE_ROCE_V2, 'RoCEv2'],
]);

/** Name of a queue pair state. */
export function qpStateName(value: number): QpState {
  return QP_STATES.get(value) ?? 'UNKNOWN';
}

/** Name of a port state. */
export function portStateName(value: number): PortState {
  return PORT_STATES.get(value) ?? 'NOP';
}

/** Name of a GID type; a value from the future counts as IB. */
export function gidTypeName(value: number): GidType {
  return GID_TYPES.get(value) ?? 'IB';
}

/** Bytes of `enum ibv_mtu`, undefined when the value is none of its. */
export function mtuBytes(code: number): MtuBytes | undefined {
  return MTUS.find(([, value]) => value === code)?.[0];
}

/** `enum ibv_mtu` of a size in bytes. */
export function mtuCode(bytes: MtuBytes): number {
  return MTUS.find(([size]) => size === bytes)?.[1] ?? ENUMS.ibv_mtu.IBV_MTU_1024;
}

/** `enum ibv_access_flags` of a list of rights. */
export function accessBits(access: readonly Access[]): number {
  return access.reduce((bits, name) => bits | ACCESS_BITS[name], 0);
}

/** Words of `phys_state` (IBTA PortPhysicalState); the header has no enum for them. */
const PHYSICAL_STATES = [
  'no change',
  'sleep',
  'polling',
  'disabled',
  'training',
  'link up',
  'error recovery',
  'test',
];

/** Name of a port's physical state. */
export function physicalStateName(value: number): string {
  return PHYSICAL_STATES[value] ?? `state ${value}`;
}

/** Lanes of `active_width` (IBTA LinkWidthActive). */
const WIDTH_LANES: ReadonlyMap<number, number> = new Map([
  [1, 1],
  [2, 4],
  [4, 8],
  [8, 12],
  [16, 2],
]);

/** Nominal bit rate of one lane for `active_speed` (IBTA LinkSpeedActive): SDR, DDR, QDR, FDR10, FDR, EDR, HDR, NDR. */
const SPEED_BPS: ReadonlyMap<number, number> = new Map([
  [1, 2.5e9],
  [2, 5e9],
  [4, 10e9],
  [8, 10e9],
  [16, 14e9],
  [32, 25e9],
  [64, 50e9],
  [128, 100e9],
]);

/** Nominal link rate in bits per second, 0 when width or speed is unknown. */
export function linkSpeedBps(activeWidth: number, activeSpeed: number): number {
  return (WIDTH_LANES.get(activeWidth) ?? 0) * (SPEED_BPS.get(activeSpeed) ?? 0);
}

const NODE_TYPES: ReadonlyMap<number, string> = new Map([
  [ENUMS.ibv_node_type.IBV_NODE_CA, 'channel adapter'],
  [ENUMS.ibv_node_type.IBV_NODE_SWITCH, 'switch'],
  [ENUMS.ibv_node_type.IBV_NODE_ROUTER, 'router'],
  [ENUMS.ibv_node_type.IBV_NODE_RNIC, 'iWARP RNIC'],
  [ENUMS.ibv_node_type.IBV_NODE_USNIC, 'usNIC'],
  [ENUMS.ibv_node_type.IBV_NODE_USNIC_UDP, 'usNIC UDP'],
  [ENUMS.ibv_node_type.IBV_NODE_UNSPECIFIED, 'unspecified'],
]);

const TRANSPORTS: ReadonlyMap<number, string> = new Map([
  [ENUMS.ibv_transport_type.IBV_TRANSPORT_IB, 'InfiniBand'],
  [ENUMS.ibv_transport_type.IBV_TRANSPORT_IWARP, 'iWARP'],
  [ENUMS.ibv_transport_type.IBV_TRANSPORT_USNIC, 'usNIC'],
  [ENUMS.ibv_transport_type.IBV_TRANSPORT_USNIC_UDP, 'usNIC UDP'],
  [ENUMS.ibv_transport_type.IBV_TRANSPORT_UNSPECIFIED, 'unspecified'],
]);

/** Name of `enum ibv_node_type`. */
export function nodeTypeName(value: number): string {
  return NODE_TYPES.get(value) ?? 'unknown';
}

/** Name of `enum ibv_transport_type`. */
export function transportName(value: number): string {
  return TRANSPORTS.get(value) ?? 'unknown';
}

const EVENT_NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(ENUMS.ibv_event_type).map(([name, value]): [number, string] => [value, name]),
);

/** Name of `enum ibv_event_type`. */
export function eventName(value: number): string {
  return EVENT_NAMES.get(value) ?? `event ${value}`;
}
