/**
 * The attributes of each queue pair transition, with defaults that suit RoCE.
 *
 * Pure: it builds `struct ibv_qp_attr` and its mask and calls nothing. The required
 * attributes per type and step are those of ibv_modify_qp(3).
 */

import { Struct } from '../../ffi/struct.ts';
import { ENUMS } from '../../ffi/structs.generated.ts';
import { requireInteger, requireWord } from './check.ts';
import { badValue } from './doctor.ts';
import { ACCESS_NAMES, accessBits, MTU_SIZES, mtuCode } from './names.ts';
import { fillRoute } from './route.ts';
import {
  type Access,
  DEFAULT_QKEY,
  type Endpoint,
  type InitOptions,
  type MtuBytes,
  type PortAttributes,
  type QpType,
  type RtrOptions,
  type RtsOptions,
} from './types.ts';

const MASK = ENUMS.ibv_qp_attr_mask;

/** Attributes and mask of one ibv_modify_qp. */
export interface Transition {
  readonly attributes: Struct<'ibv_qp_attr'>;
  readonly mask: number;
}

/** Rights that a connected queue pair grants unless told otherwise: its type's full set. */
const DEFAULT_ACCESS: Readonly<Record<'RC' | 'UC', readonly Access[]>> = {
  RC: ['local-write', 'remote-write', 'remote-read', 'remote-atomic'],
  UC: ['local-write', 'remote-write'],
};

/** Reads and atomics outstanding by default, as far as the devices allow. */
const DEFAULT_READ_ATOMIC = 16;
/** 4.096 us * 2^14 = 67 ms: long enough for a busy host, short enough to notice a dead one. */
const DEFAULT_TIMEOUT_CODE = 14;
const DEFAULT_RETRY_COUNT = 7;
/** For ever: a receiver that is late with its receives is not an error. */
const DEFAULT_RNR_RETRY_COUNT = 7;
/** Code 12 is 0.64 ms (InfiniBand specification, table 46). */
const DEFAULT_MIN_RNR_TIMER_CODE = 12;

/** RESET -> INIT. */
export function initAttributes(type: QpType, options: InitOptions = {}): Transition {
  const attributes = new Struct('ibv_qp_attr')
    .set('qp_state', ENUMS.ibv_qp_state.IBV_QPS_INIT)
    .set('port_num', requireInteger('the port', options.port ?? 1, 1, 255))
    .set('pkey_index', requireInteger('the P_Key index', options.pkeyIndex ?? 0, 0, 0xffff));
  const mask = MASK.IBV_QP_STATE | MASK.IBV_QP_PKEY_INDEX | MASK.IBV_QP_PORT;
  if (type === 'UD') {
    attributes.set('qkey', requireInteger('the Q_Key', options.qkey ?? DEFAULT_QKEY, 0, 0xffffffff));
    return { attributes, mask: mask | MASK.IBV_QP_QKEY };
  }
  const access = options.access ?? DEFAULT_ACCESS[type];
  for (const right of access) requireWord('the access right', right, ACCESS_NAMES);
  attributes.set('qp_access_flags', accessBits(access));
  return { attributes, mask: mask | MASK.IBV_QP_ACCESS_FLAGS };
}

/** The path MTU to use: the one asked for, or the smaller of both ports'. Throws when a port cannot carry it. */
export function pathMtu(local: MtuBytes, remote: MtuBytes, wanted?: MtuBytes): MtuBytes {
  const most = local < remote ? local : remote;
  if (wanted === undefined) return most;
  if (!MTU_SIZES.includes(wanted)) throw badValue('the path MTU', wanted, `one of ${MTU_SIZES.join(', ')}`);
  if (wanted > most)
    throw badValue('the path MTU', wanted, `at most ${most}, the smaller MTU of the two ports`);
  return wanted;
}

/** INIT -> RTR. `deviceReadAtomic` is the device's limit of incoming reads and atomics. */
export function rtrAttributes(
  type: QpType,
  remote: Endpoint,
  port: PortAttributes,
  deviceReadAtomic: number,
  options: RtrOptions = {},
): Transition {
  const attributes = new Struct('ibv_qp_attr').set('qp_state', ENUMS.ibv_qp_state.IBV_QPS_RTR);
  if (type === 'UD') return { attributes, mask: MASK.IBV_QP_STATE };
  fillRoute(attributes, port, {
    gid: remote.gid,
    lid: remote.lid,
    gidIndex: options.gidIndex ?? 0,
    hopLimit: options.hopLimit,
    trafficClass: options.trafficClass,
    flowLabel: options.flowLabel,
    serviceLevel: options.serviceLevel,
  });
  attributes
    .set('path_mtu', mtuCode(pathMtu(port.activeMtuBytes, remote.mtuBytes, options.mtuBytes)))
    .set('dest_qp_num', requireInteger("the peer's QPN", remote.qpn, 0, 0xffffff))
    .set('rq_psn', requireInteger("the peer's PSN", remote.psn, 0, 0xffffff));
  const mask =
    MASK.IBV_QP_STATE | MASK.IBV_QP_AV | MASK.IBV_QP_PATH_MTU | MASK.IBV_QP_DEST_QPN | MASK.IBV_QP_RQ_PSN;
  if (type === 'UC') return { attributes, mask };
  attributes
    .set('max_dest_rd_atomic', readAtomic('maxDestReadAtomic', options.maxDestReadAtomic, deviceReadAtomic))
    .set(
      'min_rnr_timer',
      requireInteger('minRnrTimerCode', options.minRnrTimerCode ?? DEFAULT_MIN_RNR_TIMER_CODE, 0, 31),
    );
  return { attributes, mask: mask | MASK.IBV_QP_MAX_DEST_RD_ATOMIC | MASK.IBV_QP_MIN_RNR_TIMER };
}

/** RTR -> RTS. `deviceReadAtomic` is the device's limit of outgoing reads and atomics. */
export function rtsAttributes(
  type: QpType,
  deviceReadAtomic: number,
  options: RtsOptions & { readonly psn: number },
): Transition {
  const attributes = new Struct('ibv_qp_attr')
    .set('qp_state', ENUMS.ibv_qp_state.IBV_QPS_RTS)
    .set('sq_psn', requireInteger('the PSN', options.psn, 0, 0xffffff));
  const mask = MASK.IBV_QP_STATE | MASK.IBV_QP_SQ_PSN;
  if (type !== 'RC') return { attributes, mask };
  attributes
    .set('timeout', requireInteger('timeoutCode', options.timeoutCode ?? DEFAULT_TIMEOUT_CODE, 0, 31))
    .set('retry_cnt', requireInteger('retryCount', options.retryCount ?? DEFAULT_RETRY_COUNT, 0, 7))
    .set('rnr_retry', requireInteger('rnrRetryCount', options.rnrRetryCount ?? DEFAULT_RNR_RETRY_COUNT, 0, 7))
    .set('max_rd_atomic', readAtomic('maxReadAtomic', options.maxReadAtomic, deviceReadAtomic));
  const more =
    MASK.IBV_QP_TIMEOUT | MASK.IBV_QP_RETRY_CNT | MASK.IBV_QP_RNR_RETRY | MASK.IBV_QP_MAX_QP_RD_ATOMIC;
  return { attributes, mask: mask | more };
}

/** The number of reads and atomics: as asked, or the default as far as the device goes. */
export function readAtomic(name: string, wanted: number | undefined, deviceLimit: number): number {
  if (wanted === undefined) return Math.min(DEFAULT_READ_ATOMIC, deviceLimit, 255);
  return requireInteger(name, wanted, 0, Math.min(deviceLimit, 255));
}
