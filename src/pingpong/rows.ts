/**
 * The plan of a run: which rows exist, in which order, and why others do not. Pure: what the devices can do comes in as
 * plain numbers.
 */

import { RdmakitError } from '../errors.ts';

export const TRANSPORTS = ['rc', 'uc', 'ud', 'tcp', 'udp'] as const;
export type Transport = (typeof TRANSPORTS)[number];

export const OPERATIONS = ['send', 'write', 'write-imm', 'read', 'fetch-add', 'cmp-swap'] as const;
export type Operation = (typeof OPERATIONS)[number];
/** rping's exchange of two messages, a READ and a WRITE, with rdma_cm: a row of its own kind, never one of a plan. */
export const RPING = 'rping';

/** How an end waits for its message: verbs poll or sleep on completion events, sockets sleep in recv or spin on it. */
export const WAITS = ['polling', 'events', 'blocking', 'busy-polling'] as const;
export type Wait = (typeof WAITS)[number];

/** Operations of each verbs transport, as the InfiniBand specification gives them (table 38 of release 1.4). */
const OPERATIONS_OF: Readonly<Record<'rc' | 'uc' | 'ud', readonly Operation[]>> = {
  rc: OPERATIONS,
  uc: ['send', 'write', 'write-imm'],
  ud: ['send'],
};

/** Bytes an atomic works on. */
export const ATOMIC_BYTES = 8;
/** Largest payload of a UDP datagram over IPv4. */
export const UDP_MAX_BYTES = 65507;
/** Largest message the loops take. */
export const MESSAGE_MAX_BYTES = 2 ** 30;

export interface Row {
  readonly transport: Transport;
  /** Always `send` for sockets. */
  readonly operation: Operation | typeof RPING;
  readonly wait: Wait;
  readonly size_bytes: number;
}

/** A row that was asked for and cannot be. */
export interface SkippedRow extends Row {
  readonly reason: string;
}

export interface PlanRequest {
  /** All when absent. */
  readonly transports?: readonly Transport[] | undefined;
  /** All when absent; kernel sockets then appear too. */
  readonly operations?: readonly Operation[] | undefined;
  /** In this order. */
  readonly sizes_bytes: readonly number[];
  /**
   * Who sleeps: by default verbs poll and sockets do both; `beside` adds sleeping verbs rows, `only` and `none` keep one
   * way of waiting each.
   */
  readonly events?: 'beside' | 'only' | 'none' | undefined;
}

export interface PlanLimits {
  /** The smaller active MTU of both ends. */
  readonly mtu_bytes: number;
  /** The smaller maximal message of both ends; 0 when unknown. */
  readonly max_message_bytes: number;
  /** Can both devices do atomics? */
  readonly atomics: boolean;
}

export interface Plan {
  readonly rows: readonly Row[];
  readonly skipped: readonly SkippedRow[];
}

export function isVerbs(transport: Transport): transport is 'rc' | 'uc' | 'ud' {
  return transport === 'rc' || transport === 'uc' || transport === 'ud';
}

export function isAtomic(operation: Row['operation']): boolean {
  return operation === 'fetch-add' || operation === 'cmp-swap';
}

/** Has the target a loop of its own, or is it passive? */
export function isOneSided(operation: Row['operation']): boolean {
  return operation === 'read' || isAtomic(operation);
}

/** `rc send`, `tcp busy-polling`: what people call the row. */
export function rowName(row: Row): string {
  if (!isVerbs(row.transport)) return `${row.transport} ${row.wait}`;
  return `${row.transport} ${row.operation}${row.wait === 'events' ? ' events' : ''}`;
}

/**
 * All rows of a request: transport by transport, operation by operation, size by size, kernel sockets last.
 * Combinations that no transport has are left out silently unless nothing else was asked for.
 */
export function planRows(request: PlanRequest, limits: PlanLimits): Plan {
  const rows: Row[] = [];
  const skipped: SkippedRow[] = [];
  for (const candidate of candidates(request)) {
    const reason = whyNot(candidate, limits);
    if (reason === undefined) rows.push(candidate);
    else skipped.push({ ...candidate, reason });
  }
  return { rows, skipped };
}

/** Throws when the filters leave nothing; callable before any peer is known. */
export function requireSomeRow(request: PlanRequest): void {
  if (candidates(request).length > 0) return;
  const transports = (request.transports ?? TRANSPORTS).join(', ');
  const operations = (request.operations ?? OPERATIONS).join(', ');
  throw new RdmakitError({
    kind: 'usage',
    what: `${transports} cannot do ${operations}`,
    cause:
      'RC has send, write, write-imm, read, fetch-add and cmp-swap; UC has send, write and write-imm; UD has send',
    remedy: 'choose another --op or --transport',
  });
}

function candidates(request: PlanRequest): Row[] {
  const transports = request.transports ?? TRANSPORTS;
  const rows: Row[] = [];
  for (const transport of TRANSPORTS) {
    if (!transports.includes(transport)) continue;
    if (isVerbs(transport)) rows.push(...verbsCandidates(transport, request));
    else rows.push(...socketCandidates(transport, request));
  }
  return rows;
}

function verbsCandidates(transport: 'rc' | 'uc' | 'ud', request: PlanRequest): Row[] {
  const waits: Wait[] =
    request.events === 'only'
      ? ['events']
      : request.events === 'beside'
        ? ['polling', 'events']
        : ['polling'];
  const rows: Row[] = [];
  for (const operation of OPERATIONS_OF[transport]) {
    if (request.operations !== undefined && !request.operations.includes(operation)) continue;
    // An atomic has one size, whatever is asked for.
    const sizes = isAtomic(operation) ? [ATOMIC_BYTES] : request.sizes_bytes;
    for (const wait of waits)
      for (const size_bytes of sizes) rows.push({ transport, operation, wait, size_bytes });
  }
  return rows;
}

/** Sockets are the reference of a send; they are left out when only other operations were asked for. */
function socketCandidates(transport: 'tcp' | 'udp', request: PlanRequest): Row[] {
  if (request.operations !== undefined && !request.operations.includes('send')) return [];
  const rows: Row[] = [];
  const waits: Wait[] =
    request.events === 'only'
      ? ['blocking']
      : request.events === 'none'
        ? ['busy-polling']
        : ['blocking', 'busy-polling'];
  for (const wait of waits) {
    for (const size_bytes of request.sizes_bytes)
      rows.push({ transport, operation: 'send', wait, size_bytes });
  }
  return rows;
}

function whyNot(row: Row, limits: PlanLimits): string | undefined {
  if (row.size_bytes > MESSAGE_MAX_BYTES) return 'messages end at 1 GiB here';
  if (row.wait === 'events' && row.operation === 'write') {
    return 'a plain write raises no completion at its target, so nothing could wake it';
  }
  if (row.operation === 'write' && row.size_bytes === 0)
    return 'the arrival of a write is seen by its last byte, so it needs one';
  if (row.transport === 'ud' && row.size_bytes > limits.mtu_bytes) {
    return `a UD message is one packet, and the path MTU is ${limits.mtu_bytes} bytes`;
  }
  if (isVerbs(row.transport) && limits.max_message_bytes > 0 && row.size_bytes > limits.max_message_bytes) {
    return `the port's messages end at ${limits.max_message_bytes} bytes`;
  }
  if (isAtomic(row.operation) && !limits.atomics) return 'a device has no atomics';
  if (row.transport === 'udp' && row.size_bytes > UDP_MAX_BYTES)
    return `a UDP datagram ends at ${UDP_MAX_BYTES} bytes`;
  if (!isVerbs(row.transport) && row.size_bytes === 0)
    return 'a socket carries no empty messages that could be told apart';
  return undefined;
}
