/**
 * Bringing queue pairs up: exchange endpoints over the side channel, then move both
 * ends to RTS.
 *
 * The order matters: an end tells its endpoint after INIT, goes to RTR and RTS, and
 * both meet in a barrier before anybody sends, so no packet finds a queue pair that
 * is not ready to receive.
 */

import { randomInt } from 'node:crypto';
import * as v from 'valibot';
import type { AddressHandle } from './address-handle.ts';
import { requireInteger } from './check.ts';
import { badValue } from './doctor.ts';
import { type GidWishes, parseGid } from './gid.ts';
import type { MemoryRegion } from './memory.ts';
import { MTU_SIZES } from './names.ts';
import type { QueuePair } from './queue-pair.ts';
import type { Session, WaitOptions } from './session.ts';
import { pathMtu, readAtomic } from './transitions.ts';
import {
  DEFAULT_QKEY,
  type Endpoint,
  type InitOptions,
  type MtuBytes,
  type RtrOptions,
  type RtsOptions,
} from './types.ts';

/** How one end wants its queue pair connected. */
export interface ConnectOptions extends WaitOptions {
  readonly port?: number | undefined;
  /** Row of the GID table; default: chosen for the peer's address. */
  readonly gidIndex?: number | undefined;
  /** First packet sequence number; default: random. */
  readonly psn?: number | undefined;
  /** Memory that the peer may read or write. */
  readonly memory?: MemoryRegion | undefined;
  readonly mtuBytes?: MtuBytes | undefined;
  readonly init?: InitOptions | undefined;
  readonly rtr?: RtrOptions | undefined;
  readonly rts?: RtsOptions | undefined;
}

/** Both ends of a queue pair that is up. */
export interface Connection {
  readonly local: Endpoint;
  readonly remote: Endpoint;
  /** UD only: the way to the peer, yours to close. */
  readonly ah?: AddressHandle;
}

const u24 = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(0xffffff));
const u32 = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(0xffffffff));

/** An endpoint as it travels; addresses are hexadecimal because JSON numbers end at 2^53. */
const EndpointSchema = v.strictObject({
  qpType: v.picklist(['RC', 'UC', 'UD']),
  qpn: u24,
  psn: u24,
  gid: v.pipe(
    v.string(),
    v.maxLength(64),
    v.check((text) => isGid(text), 'no GID'),
  ),
  lid: v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(0xffff)),
  mtuBytes: v.picklist(MTU_SIZES),
  qkey: v.optional(u32),
  maxDestReadAtomic: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(255))),
  memory: v.optional(
    v.strictObject({
      address: v.pipe(
        v.string(),
        v.regex(/^0x[0-9a-f]{1,16}$/),
        v.transform((text) => BigInt(text)),
      ),
      length: v.pipe(v.number(), v.safeInteger(), v.minValue(0)),
      rkey: u32,
    }),
  ),
});

function isGid(text: string): boolean {
  try {
    parseGid(text);
    return true;
  } catch {
    return false;
  }
}

/** Reads an endpoint from an untrusted message; returns the reason when it is none. */
export function decodeEndpoint(message: unknown): Endpoint | string {
  const parsed = v.safeParse(EndpointSchema, message);
  if (parsed.success) return parsed.output;
  const [issue] = parsed.issues;
  return `${v.getDotPath(issue) ?? 'endpoint'}: ${issue.message}`;
}

/** The wire form of an endpoint. */
export function encodeEndpoint(endpoint: Endpoint): Record<string, unknown> {
  const { memory } = endpoint;
  if (memory === undefined) return { ...endpoint };
  return { ...endpoint, memory: { ...memory, address: `0x${memory.address.toString(16)}` } };
}

/**
 * What the peer must know of this queue pair. `peer`, an address, helps to choose the
 * GID when none is given.
 */
export function localEndpoint(
  qp: QueuePair,
  options: ConnectOptions = {},
  peer?: string,
): { endpoint: Endpoint; gidIndex: number } {
  const port = options.port ?? 1;
  const device = qp.device;
  const attributes = device.queryPort(port);
  const wishes: GidWishes =
    options.gidIndex === undefined
      ? { ...(peer === undefined ? {} : { peer }) }
      : { index: options.gidIndex };
  const source = device.chooseGid(port, wishes).entry;
  const psn = requireInteger('the PSN', options.psn ?? randomInt(0x1000000), 0, 0xffffff);
  const endpoint: Endpoint = {
    qpType: qp.type,
    qpn: qp.num,
    psn,
    gid: source.gid,
    lid: attributes.lid,
    mtuBytes: pathMtu(attributes.activeMtuBytes, attributes.activeMtuBytes, options.mtuBytes),
    ...(qp.type === 'UD' ? { qkey: options.init?.qkey ?? DEFAULT_QKEY } : {}),
    ...(qp.type === 'RC'
      ? {
          maxDestReadAtomic: readAtomic(
            'maxDestReadAtomic',
            options.rtr?.maxDestReadAtomic,
            device.queryDevice().maxQpReadAtomic,
          ),
        }
      : {}),
    ...(options.memory === undefined ? {} : { memory: options.memory.remote() }),
  };
  return { endpoint, gidIndex: source.index };
}

/** INIT -> RTR -> RTS with what both ends told; makes the address handle of a UD queue pair. */
export function bringUp(
  qp: QueuePair,
  local: Endpoint,
  remote: Endpoint,
  gidIndex: number,
  options: ConnectOptions = {},
): Connection {
  if (remote.qpType !== qp.type) throw badValue("the peer's queue pair type", remote.qpType, qp.type);
  const port = options.port ?? 1;
  // The peer cannot take more reads and atomics at once than it says; asking for more would be an error there.
  const most = remote.maxDestReadAtomic;
  const device = qp.type === 'RC' ? qp.device.queryDevice().maxQpInitReadAtomic : 0;
  const maxReadAtomic =
    most === undefined
      ? undefined
      : Math.min(options.rts?.maxReadAtomic ?? readAtomic('', undefined, device), most);
  qp.toRtr(remote, {
    port,
    gidIndex,
    ...(options.mtuBytes === undefined ? {} : { mtuBytes: options.mtuBytes }),
    ...options.rtr,
  });
  qp.toRts({ ...options.rts, psn: local.psn, ...(maxReadAtomic === undefined ? {} : { maxReadAtomic }) });
  if (qp.type !== 'UD') return { local, remote };
  const ah = qp.createAh({ port, gid: remote.gid, gidIndex, lid: remote.lid });
  return { local, remote, ah };
}

/**
 * Connects a queue pair in RESET with the one at the other end of the session; both
 * ends call this. Afterwards both are in RTS. On an error the queue pair is as far as
 * it came: close it, or reset it.
 */
export async function connectQueuePair(
  qp: QueuePair,
  session: Session,
  options: ConnectOptions = {},
): Promise<Connection> {
  let connection: Connection | undefined;
  try {
    qp.toInit({ port: options.port ?? 1, ...options.init });
    const { endpoint, gidIndex } = localEndpoint(qp, options, ipAddress(session.remoteAddress));
    session.send({ endpoint: encodeEndpoint(endpoint) });
    const remote = await receiveEndpoint(qp, session, options);
    connection = bringUp(qp, endpoint, remote, gidIndex, options);
    await session.barrier('connected', options);
    return connection;
  } catch (error) {
    connection?.ah?.close();
    session.abort(error instanceof Error ? error.message : String(error));
    throw error;
  }
}

/** The peer's endpoint; what is none ends the session. */
async function receiveEndpoint(qp: QueuePair, session: Session, options: WaitOptions): Promise<Endpoint> {
  const message = await session.receive(options);
  const remote = decodeEndpoint(message.endpoint);
  if (typeof remote === 'string') throw session.fail(`a bad endpoint: ${remote}`);
  if (remote.qpType !== qp.type)
    throw session.fail(`the peer has a ${remote.qpType} queue pair, here is a ${qp.type} one`);
  return remote;
}

/** A peer address that can guide the choice of a GID: scoped and unknown ones cannot. */
function ipAddress(text: string): string | undefined {
  return isGid(text) ? text : undefined;
}

/** Connects two queue pairs of this process with each other; both must be in RESET. */
export function connectInProcess(
  a: QueuePair,
  b: QueuePair,
  optionsA: ConnectOptions = {},
  optionsB: ConnectOptions = optionsA,
): { a: Connection; b: Connection } {
  a.toInit({ port: optionsA.port ?? 1, ...optionsA.init });
  b.toInit({ port: optionsB.port ?? 1, ...optionsB.init });
  const endA = localEndpoint(a, optionsA);
  const endB = localEndpoint(b, optionsB);
  const upA = bringUp(a, endA.endpoint, endB.endpoint, endA.gidIndex, optionsA);
  try {
    return { a: upA, b: bringUp(b, endB.endpoint, endA.endpoint, endB.gidIndex, optionsB) };
  } catch (error) {
    upA.ah?.close();
    throw error;
  }
}
