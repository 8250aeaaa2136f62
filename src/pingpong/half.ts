/**
 * One end's half of a verbs row: queue pair, completion queues, buffer, and the loop's parameters. Client and server make
 * the same half, connect the two over the side channel, and start their loops.
 */

import { loadDatapath } from '../../ffi/datapath.ts';
import {
  type Access,
  allocateMemory,
  type Connection,
  type Context,
  connectQueuePair,
  type MemoryRegion,
  type MtuBytes,
  type QueuePair,
  ResourceStack,
  type Session,
} from '../verbs/index.ts';
import { type Loop, type Pace, startVerbsLoop, type VerbsParts } from './loop.ts';
import { isOneSided, isVerbs, type Row, RPING, rowName } from './rows.ts';

const SEND_DEPTH = 128;
/** Larger messages than this gain nothing from being copied into the request. */
const INLINE_MAX_BYTES = 220;
const CONNECT_TIMEOUT_MS = 10_000;

/** Receives kept posted: many small ones cost nothing, many large ones cost memory. */
export function receiveSlots(size_bytes: number): number {
  return size_bytes <= 4096 ? 64 : size_bytes <= 65536 ? 16 : 4;
}

const ACCESS: Access[] = ['local-write', 'remote-write', 'remote-read', 'remote-atomic'];

export interface HalfOptions {
  readonly gidIndex: number;
  readonly mtuBytes?: MtuBytes | undefined;
}

/** What a loop is told that the objects alone decide. */
type OwnParts = Omit<VerbsParts, 'ah' | 'remote_address' | 'rkey' | 'remote_qpn' | 'remote_qkey'>;

export class VerbsHalf {
  readonly #row: Row;
  readonly #stack: ResourceStack;
  readonly #qp: QueuePair;
  readonly #region: MemoryRegion;
  readonly #own: OwnParts;
  /** Offset of slot 0, which the peer writes and reads, in either buffer. */
  readonly #slotOffset: bigint;
  #connection: Connection | undefined;

  private constructor(row: Row, stack: ResourceStack, qp: QueuePair, region: MemoryRegion, own: OwnParts) {
    this.#row = row;
    this.#stack = stack;
    this.#qp = qp;
    this.#region = region;
    this.#own = own;
    this.#slotOffset = loadDatapath().rk_dp_rx_offset(row.size_bytes);
  }

  /** Makes the objects of one row; nothing is left behind when that fails. */
  static create(context: Context, row: Row): VerbsHalf {
    const stack = new ResourceStack();
    try {
      return VerbsHalf.#create(stack, context, row);
    } catch (error) {
      stack.close();
      throw error;
    }
  }

  static #create(stack: ResourceStack, context: Context, row: Row): VerbsHalf {
    const { transport, wait, size_bytes, operation } = row;
    if (!isVerbs(transport) || operation === RPING) throw new TypeError(`${rowName(row)} has no half`);
    const slots = receiveSlots(size_bytes);
    const memory = stack.use(allocateMemory(Number(loadDatapath().rk_dp_buffer_length(size_bytes, slots))));
    const pd = stack.use(context.allocPd());
    const region = stack.use(pd.registerMemory(memory, ACCESS));
    const channel = wait === 'events' ? stack.use(context.createCompletionChannel()) : undefined;
    const sendCq = stack.use(context.createCq({ depth: 2 * SEND_DEPTH, channel }));
    const recvCq = stack.use(context.createCq({ depth: 2 * slots, channel }));
    const type = ({ rc: 'RC', uc: 'UC', ud: 'UD' } as const)[transport];
    const sizes = { type, sendCq, recvCq, maxSendWr: SEND_DEPTH, maxRecvWr: slots };
    const qp = stack.use(createQp(size_bytes, (maxInlineBytes) => pd.createQp({ ...sizes, maxInlineBytes })));
    return new VerbsHalf(row, stack, qp, region, {
      transport,
      operation,
      events: wait === 'events',
      qp: qp.handle,
      send_cq: sendCq.handle,
      recv_cq: recvCq.handle,
      channel: channel?.handle ?? 0n,
      buffer: memory.address,
      buffer_length: memory.length,
      lkey: region.lkey,
      rx_slots: slots,
      sq_depth: SEND_DEPTH,
      max_inline: qp.query().maxInlineBytes,
    });
  }

  /** Connects with the other end, which must be doing the same. */
  async connect(session: Session, options: HalfOptions): Promise<void> {
    this.#connection = await connectQueuePair(this.#qp, session, {
      memory: this.#region,
      gidIndex: options.gidIndex,
      mtuBytes: options.mtuBytes,
      timeoutMs: CONNECT_TIMEOUT_MS,
    });
    if (this.#connection.ah !== undefined) this.#stack.use(this.#connection.ah);
  }

  /** Starts this end's loop; a server of a one-sided operation has none, it only prepares what the peer will read. */
  start(pace: Pace): Loop | undefined {
    const { remote, ah } = this.#connection ?? {};
    if (remote === undefined) throw new TypeError('a half must be connected before it is started');
    if (pace.role === 'client' || !isOneSided(this.#row.operation)) {
      return startVerbsLoop(pace, {
        ...this.#own,
        ah: ah?.handle ?? 0n,
        remote_address: remote.memory === undefined ? 0n : remote.memory.address + this.#slotOffset,
        rkey: remote.memory?.rkey ?? 0,
        remote_qpn: remote.qpn,
        remote_qkey: remote.qkey ?? 0,
      });
    }
    if (this.#row.operation === 'read' && this.#row.size_bytes > 0) {
      const target = this.#own.buffer + this.#slotOffset;
      loadDatapath().rk_dp_pattern_fill(target, this.#row.size_bytes, pace.seed, 0n, 1);
    }
    return undefined;
  }

  /** Frees everything; the loops must have been closed. */
  close(): void {
    this.#stack.close();
  }
}

/** Inline room is a wish: a device that has less gets asked again without it. */
function createQp(size_bytes: number, create: (maxInlineBytes: number) => QueuePair): QueuePair {
  const wish = size_bytes <= INLINE_MAX_BYTES ? size_bytes : 0;
  try {
    return create(wish);
  } catch (error) {
    if (wish === 0) throw error;
    return create(0);
  }
}
