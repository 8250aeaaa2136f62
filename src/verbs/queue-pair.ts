/**
 * Queue pairs: making them, moving them through their states, asking them.
 *
 * The states follow the InfiniBand specification (volume 1, chapter 10.3):
 * RESET -> INIT -> RTR -> RTS. Which attributes each step carries depends on the
 * type; transitions.ts builds them.
 */

import { lastErrno } from '../../ffi/bind.ts';
import { libibverbs } from '../../ffi/libibverbs.ts';
import { readNative, Struct } from '../../ffi/struct.ts';
import { ENUMS } from '../../ffi/structs.generated.ts';
import { AddressHandle, type AddressHandleOptions } from './address-handle.ts';
import { requireInteger, requireWord } from './check.ts';
import type { CompletionQueue } from './completion.ts';
import { callFailure, failure, VerbsError } from './doctor.ts';
import { type GidWishes, parseGid } from './gid.ts';
import { mtuBytes, QP_TYPES, qpStateName } from './names.ts';
import { Resource } from './resource.ts';
import type { SharedReceiveQueue } from './shared-receive-queue.ts';
import { initAttributes, rtrAttributes, rtsAttributes, type Transition } from './transitions.ts';
import type {
  ChosenGid,
  DeviceAttributes,
  Endpoint,
  Handle,
  InitOptions,
  PortAttributes,
  QpAttributes,
  QpSizes,
  QpState,
  QpType,
  RtrOptions,
  RtsOptions,
} from './types.ts';

/** What `ProtectionDomain.createQp` takes. */
export interface QpOptions extends QpSizes {
  readonly type: QpType;
  readonly sendCq: CompletionQueue;
  /** Default: the send queue's. */
  readonly recvCq?: CompletionQueue;
  readonly srq?: SharedReceiveQueue;
  /** Every send makes a completion, asked for or not. */
  readonly signalAll?: boolean;
}

/** The questions that a queue pair asks its device. */
export interface QpDevice {
  queryDevice(): DeviceAttributes;
  queryPort(port?: number): PortAttributes;
  chooseGid(port?: number, wishes?: GidWishes): ChosenGid;
}

const MOST = 0x7fffffff;

/** All attributes that ibv_query_qp may be asked for: kernel drivers refuse the whole query for the rate limit. */
const QUERY_ALL = Object.entries(ENUMS.ibv_qp_attr_mask)
  .filter(([name]) => name !== 'IBV_QP_RATE_LIMIT')
  .reduce((mask, [, bit]) => mask | bit, 0);

/** One end of a connection (RC, UC) or a datagram endpoint (UD). */
export class QueuePair extends Resource {
  protected readonly destroyCall = 'ibv_destroy_qp';
  /** Queue pair number, 24 bits: what the peer addresses. */
  readonly num: number;
  readonly type: QpType;
  readonly sendCq: CompletionQueue;
  readonly recvCq: CompletionQueue;
  readonly maxSendWr: number;
  readonly maxRecvWr: number;
  readonly maxSendSge: number;
  readonly maxRecvSge: number;
  readonly maxInlineBytes: number;
  readonly device: QpDevice;
  readonly #pd: Resource;
  /** Port given at INIT. */
  #port = 1;

  private constructor(
    handle: Handle,
    pd: Resource,
    device: QpDevice,
    options: QpOptions,
    init: Struct<'ibv_qp_init_attr'>,
  ) {
    const num = readNative('ibv_qp', handle, 'qp_num');
    const queues = [options.sendCq, options.recvCq ?? options.sendCq];
    const parents = [pd, ...queues, ...(options.srq === undefined ? [] : [options.srq])];
    super(`${options.type} queue pair ${num}`, handle, parents);
    this.num = num;
    this.type = options.type;
    this.sendCq = options.sendCq;
    this.recvCq = options.recvCq ?? options.sendCq;
    this.maxSendWr = init.num('cap.max_send_wr');
    this.maxRecvWr = init.num('cap.max_recv_wr');
    this.maxSendSge = init.num('cap.max_send_sge');
    this.maxRecvSge = init.num('cap.max_recv_sge');
    this.maxInlineBytes = init.num('cap.max_inline_data');
    this.device = device;
    this.#pd = pd;
  }

  /** Use {@link ProtectionDomain.createQp}. */
  static create(pd: Resource, device: QpDevice, options: QpOptions): QueuePair {
    const type = requireWord('the queue pair type', options.type, ['RC', 'UC', 'UD'] as const);
    const recvCq = options.recvCq ?? options.sendCq;
    const init = new Struct('ibv_qp_init_attr')
      .set('send_cq', options.sendCq.handle)
      .set('recv_cq', recvCq.handle)
      .set('srq', options.srq?.handle ?? 0n)
      .set('qp_type', QP_TYPES[type])
      .set('sq_sig_all', options.signalAll === true ? 1 : 0)
      .set('cap.max_send_wr', requireInteger('maxSendWr', options.maxSendWr ?? 64, 0, MOST))
      .set('cap.max_recv_wr', requireInteger('maxRecvWr', options.maxRecvWr ?? 64, 0, MOST))
      .set('cap.max_send_sge', requireInteger('maxSendSge', options.maxSendSge ?? 1, 0, MOST))
      .set('cap.max_recv_sge', requireInteger('maxRecvSge', options.maxRecvSge ?? 1, 0, MOST))
      .set('cap.max_inline_data', requireInteger('maxInlineBytes', options.maxInlineBytes ?? 0, 0, MOST));
    const handle = libibverbs.ibv_create_qp(pd.handle, init.bytes);
    if (handle === 0n) {
      const asked = `asked for: ${init.num('cap.max_send_wr')} sends, ${init.num('cap.max_recv_wr')} receives, ${init.num('cap.max_inline_data')} bytes inline`;
      throw callFailure('ibv_create_qp', lastErrno(), {
        attempt: `create a ${type} queue pair`,
        details: [asked, ...limits(device)],
      });
    }
    return new QueuePair(handle, pd, device, options, init);
  }

  /** State after the newest transition made here; {@link query} also sees what the device did by itself. */
  get state(): QpState {
    return qpStateName(readNative('ibv_qp', this.handle, 'state'));
  }

  /** Port given at INIT, 1 before. */
  get port(): number {
    return this.#port;
  }

  /** RESET -> INIT: binds the queue pair to a port and grants rights. Receives may be posted afterwards. */
  toInit(options: InitOptions = {}): void {
    this.#expect('RESET', 'INIT');
    const transition = initAttributes(this.type, options);
    this.#apply('RESET -> INIT', transition);
    this.#port = options.port ?? 1;
  }

  /** INIT -> RTR: connects to the peer (RC, UC) and begins to receive. */
  toRtr(remote: Endpoint, options: RtrOptions = {}): void {
    this.#expect('INIT', 'RTR');
    const port = this.device.queryPort(options.port ?? this.#port);
    const most = this.type === 'RC' ? this.device.queryDevice().maxQpReadAtomic : 0;
    this.#apply('INIT -> RTR', rtrAttributes(this.type, remote, port, most, options), () => [
      `peer GID ${remote.gid}, peer QPN ${remote.qpn}`,
      this.#sourceGid(port.port, options.gidIndex ?? 0),
      `port ${port.port} is ${port.state} with MTU ${port.activeMtuBytes}, the peer's is ${remote.mtuBytes}`,
    ]);
  }

  /** RTR -> RTS: begins to send, the first packet with sequence number `psn`. */
  toRts(options: RtsOptions & { readonly psn: number }): void {
    this.#expect('RTR', 'RTS');
    const most = this.type === 'RC' ? this.device.queryDevice().maxQpInitReadAtomic : 0;
    this.#apply('RTR -> RTS', rtsAttributes(this.type, most, options));
  }

  /** Any state -> ERR: all outstanding work completes as flushed. */
  toError(): void {
    this.#apply('any -> ERR', stateOnly(ENUMS.ibv_qp_state.IBV_QPS_ERR));
  }

  /** Any state -> RESET: outstanding work is dropped without completions; the queue pair can be used anew. */
  toReset(): void {
    this.#apply('any -> RESET', stateOnly(ENUMS.ibv_qp_state.IBV_QPS_RESET));
  }

  /** Asks the device for the current attributes. */
  query(): QpAttributes {
    const attributes = new Struct('ibv_qp_attr');
    const init = new Struct('ibv_qp_init_attr');
    const errno = libibverbs.ibv_query_qp(this.handle, attributes.bytes, QUERY_ALL, init.bytes);
    if (errno !== 0) throw callFailure('ibv_query_qp', errno, { attempt: `query ${this.label}` });
    return {
      state: qpStateName(attributes.num('qp_state')),
      mtuBytes: mtuBytes(attributes.num('path_mtu')),
      destQpn: attributes.num('dest_qp_num'),
      sqPsn: attributes.num('sq_psn'),
      rqPsn: attributes.num('rq_psn'),
      port: attributes.num('port_num'),
      pkeyIndex: attributes.num('pkey_index'),
      qkey: attributes.num('qkey'),
      timeoutCode: attributes.num('timeout'),
      retryCount: attributes.num('retry_cnt'),
      rnrRetryCount: attributes.num('rnr_retry'),
      minRnrTimerCode: attributes.num('min_rnr_timer'),
      maxReadAtomic: attributes.num('max_rd_atomic'),
      maxDestReadAtomic: attributes.num('max_dest_rd_atomic'),
      maxSendWr: init.num('cap.max_send_wr'),
      maxRecvWr: init.num('cap.max_recv_wr'),
      maxSendSge: init.num('cap.max_send_sge'),
      maxRecvSge: init.num('cap.max_recv_sge'),
      maxInlineBytes: init.num('cap.max_inline_data'),
    };
  }

  /** Makes an address handle in the queue pair's protection domain, on its port. */
  createAh(options: AddressHandleOptions): AddressHandle {
    const port = this.device.queryPort(options.port ?? this.#port);
    return AddressHandle.create(this.#pd, port, options);
  }

  /** Joins a multicast group (UD): its messages arrive here too. */
  attachMulticast(gid: string, lid = 0): void {
    this.#multicast('ibv_attach_mcast', 'join', gid, lid);
  }

  /** Leaves a multicast group. */
  detachMulticast(gid: string, lid = 0): void {
    this.#multicast('ibv_detach_mcast', 'leave', gid, lid);
  }

  protected destroy(handle: Handle): number {
    return libibverbs.ibv_destroy_qp(handle);
  }

  #multicast(call: 'ibv_attach_mcast' | 'ibv_detach_mcast', verb: string, gid: string, lid: number): void {
    const raw = parseGid(gid);
    requireInteger('the LID', lid, 0, 0xffff);
    const errno = libibverbs[call](this.handle, raw, lid);
    if (errno !== 0)
      throw callFailure(call, errno, { attempt: `${verb} multicast group ${gid} on ${this.label}` });
  }

  #expect(from: QpState, to: QpState): void {
    const state = this.state;
    if (state === from) return;
    throw failure({
      call: `${from} -> ${to}`,
      code: 'transition',
      attempt: `move ${this.label} to ${to}`,
      details: [`it is in state ${state}, and must be in ${from}`],
    });
  }

  /** Moves the queue pair; `details` are looked up only for the error. */
  #apply(step: string, { attributes, mask }: Transition, details: () => readonly string[] = () => []): void {
    const errno = libibverbs.ibv_modify_qp(this.handle, attributes.bytes, mask);
    if (errno === 0) return;
    throw callFailure(step, errno, { attempt: `move ${this.label} (${step})`, details: details() });
  }

  /** The row of the GID table that packets leave from, for an error message. */
  #sourceGid(port: number, index: number): string {
    try {
      return `source GID index ${index} is ${this.device.chooseGid(port, { index }).entry.gid}`;
    } catch (error) {
      return `source GID index ${index} is not in use: ${error instanceof VerbsError ? error.likelyCause : String(error)}`;
    }
  }
}

function stateOnly(state: number): Transition {
  const attributes = new Struct('ibv_qp_attr').set('qp_state', state);
  return { attributes, mask: ENUMS.ibv_qp_attr_mask.IBV_QP_STATE };
}

/** What the device allows, for a failed creation; the query itself may fail too. */
function limits(device: QpDevice): string[] {
  try {
    const { maxQp, maxQpWr, maxSge } = device.queryDevice();
    return [`the device allows ${maxQp} queue pairs of ${maxQpWr} requests with ${maxSge} entries each`];
  } catch {
    return [];
  }
}
