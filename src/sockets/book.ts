/**
 * Reads the book of a run (c/vsocket/book.h): rows that processes under socket-run wrote down, in memory which they share. Any of
 * them may have scribbled on it, so every value is checked, and a row that cannot be so is left out and counted.
 */

import { Struct, sizeOf } from '../../ffi/struct.ts';
import { ENUMS, MACROS } from '../../ffi/structs.generated.ts';
import { RdmakitError } from '../errors.ts';

/** Why a direction stays in the kernel; the names of enum vs_plain. */
export type PlainReason =
  | 'option'
  | 'foreign'
  | 'shut'
  | 'urgent'
  | 'peer'
  | 'corrupt'
  | 'passed'
  | 'handed'
  | 'stream'
  | 'splice'
  | 'uring'
  | 'seccomp';

/** One direction as one end knows it. Bytes are bytes of the application's stream, times nanoseconds. */
export interface BookFlow {
  readonly ring_bytes: number;
  /** Of UDP: how many went through the ring. */
  readonly datagrams: number;
  /** Undefined: not known, because the process was killed. */
  readonly kernel_bytes: number | undefined;
  readonly promotions: number;
  /** Times the ring was full and the kernel took over. */
  readonly overflows: number;
  /** Times a single call had to be the kernel's. */
  readonly natives: number;
  readonly bells: number;
  readonly sleeps: number;
  readonly plain: readonly PlainReason[];
  readonly inRing: boolean;
  readonly eager: boolean;
  readonly hashed: boolean;
  readonly verified_bytes: number;
  readonly wrong: { readonly count: number; readonly from: number; readonly to: number } | undefined;
  readonly latency:
    | { count: number; min_ns: number; p50_ns: number; p99_ns: number; max_ns: number }
    | undefined;
}

/** The names of enum vs_road. */
export type Road = 'none' | 'searched' | 'impossible' | 'open' | 'slower' | 'faster' | 'failed';

export interface BookRow {
  /** Place of the row and of its histogram. */
  readonly index: number;
  readonly state: 'open' | 'closed' | 'lost';
  readonly pid: number;
  readonly program: string;
  readonly protocol: 'tcp' | 'udp';
  readonly local: string;
  /** `*` of a UDP socket that is not connected. */
  readonly remote: string;
  readonly localHost: boolean;
  readonly refused: readonly PlainReason[];
  /** errno for which it has no slot. */
  readonly error: number | undefined;
  readonly attached: boolean;
  /** What became of its queue pair to another host; enum vs_road. */
  readonly road: Road;
  readonly peerHasLibrary: boolean;
  readonly peerPid: number | undefined;
  readonly peerUid: number | undefined;
  readonly sent: BookFlow;
  readonly received: BookFlow;
}

export interface Book {
  readonly uid: number;
  readonly rows: readonly BookRow[];
  /** Rows whose values cannot be so. */
  readonly unreadable: number;
  /** Programs that were started and do not take the library; the first ones. */
  readonly strangers: readonly { readonly pid: number; readonly path: string }[];
  readonly rest: BookRest;
  /** Messages from other hosts that made no sense, or were not from whom they said. */
  readonly dropped: number;
}

/** Sums of connections that found no row. */
export interface BookRest {
  readonly connections: number;
  readonly accelerated: number;
  readonly ring_bytes: number;
  readonly kernel_bytes: number;
  readonly wrong: number;
}

const HEAD_BYTES = sizeOf('vs_book') - MACROS.VS_BOOK_ROWS * sizeOf('vs_book_row');

/** A file or memory to read from. */
export type ReadAt = (offset: number, length: number) => Uint8Array;

/** Reads a whole book. Throws when it is none. */
export function readBook(read: ReadAt): Book {
  // Laid over a full-sized struct whose rows are empty, because only the head is looked at through it.
  const bytes = new Uint8Array(sizeOf('vs_book'));
  const headBytes = read(0, HEAD_BYTES);
  if (headBytes.byteLength === HEAD_BYTES) bytes.set(headBytes);
  const head = new Struct('vs_book', bytes);
  const rowBytes = sizeOf('vs_book_row');
  if (
    head.big('magic') !== MACROS.VS_BOOK_MAGIC ||
    head.num('version') !== MACROS.VS_BOOK_VERSION ||
    head.num('row_bytes') !== rowBytes ||
    head.num('rows') > 2 * MACROS.VS_BOOK_ROWS
  ) {
    throw new RdmakitError({
      kind: 'environment',
      what: 'the record of the connections cannot be read',
      cause: 'it is not one of this version of rdmakit',
      remedy: 'use the rdmakit that the programs were started with',
    });
  }
  const all = read(HEAD_BYTES, head.num('rows') * rowBytes);
  const rows: BookRow[] = [];
  let unreadable = 0;
  for (let at = 0; at + rowBytes <= all.byteLength; at += rowBytes) {
    const row = new Struct('vs_book_row', all.subarray(at, at + rowBytes));
    // Without a port it is a TCP socket that was looked at, but never connected.
    if (row.big('cookie') === 0n) continue;
    if (row.num('remote_port') === 0 && row.num('protocol') !== IPPROTO_UDP) continue;
    const parsed = readRow(row, at / rowBytes);
    if (parsed === undefined) unreadable++;
    else rows.push(parsed);
  }
  return {
    ...{ uid: head.num('uid'), rows, unreadable, dropped: Number(head.big('dropped')) },
    ...{ strangers: readStrangers(head), rest: readRest(head) },
  };
}

const STATES = new Map<number, BookRow['state']>([
  [ENUMS.vs_book_state.VS_BOOK_OPEN, 'open'],
  [ENUMS.vs_book_state.VS_BOOK_CLOSED, 'closed'],
  [ENUMS.vs_book_state.VS_BOOK_LOST, 'lost'],
]);
const ROADS = new Map(
  Object.entries(ENUMS.vs_road).map(([name, value]) => [
    value as number,
    name.replace('VS_ROAD_', '').toLowerCase() as Road,
  ]),
);
const UNKNOWN_UID = 0xffffffff;
const IPPROTO_UDP = 17;

function readRow(row: Struct<'vs_book_row'>, index: number): BookRow | undefined {
  const state = STATES.get(row.num('state'));
  const sent = readFlow(row.part('tx'));
  const received = readFlow(row.part('rx'));
  const road = ROADS.get(row.num('road'));
  if (state === undefined || road === undefined || sent === undefined || received === undefined)
    return undefined;
  return {
    index,
    state,
    pid: row.num('pid'),
    program: printable(row.text('program')),
    protocol: row.num('protocol') === IPPROTO_UDP ? 'udp' : 'tcp',
    local: endpoint(row.part('local'), row.num('local_port')),
    remote: row.num('remote_port') === 0 ? '*' : endpoint(row.part('remote'), row.num('remote_port')),
    localHost: row.num('local_host') === 1,
    refused: plainReasons(row.num('refused')),
    error: row.num('error') || undefined,
    attached: row.num('attached') === 1,
    road,
    peerHasLibrary: row.num('peer') === ENUMS.vs_book_peer.VS_BOOK_PEER_LIBRARY,
    peerPid: row.num('peer_pid') || undefined,
    peerUid: row.num('peer_uid') === UNKNOWN_UID ? undefined : row.num('peer_uid'),
    sent,
    received,
  };
}

/** Undefined when a count is beyond what can have been counted. */
function readFlow(bytes: Uint8Array): BookFlow | undefined {
  const flow = new Struct('vs_book_flow', bytes);
  type Field = Parameters<typeof flow.big>[0];
  let sane = true;
  const count = (field: Field): number => {
    const value = flow.big(field);
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) sane = false;
    return Number(value);
  };
  const kernel = flow.big('kernel_bytes');
  const wrong = count('wrong_count');
  const latencies = count('latency_count');
  const result: BookFlow = {
    ring_bytes: count('ring_bytes'),
    datagrams: count('datagrams'),
    kernel_bytes: kernel === MACROS.VS_BOOK_UNKNOWN ? undefined : count('kernel_bytes'),
    promotions: count('promotions'),
    overflows: count('overflows'),
    natives: count('natives'),
    bells: count('bells'),
    sleeps: count('sleeps'),
    plain: plainReasons(flow.num('plain')),
    inRing: flow.num('in_ring') === 1,
    eager: flow.num('eager') === 1,
    hashed: flow.num('hashed') === 1,
    verified_bytes: count('verified_bytes'),
    wrong: wrong === 0 ? undefined : { count: wrong, from: count('wrong_from'), to: count('wrong_to') },
    latency:
      latencies === 0
        ? undefined
        : {
            count: latencies,
            min_ns: count('latency_min_ns'),
            p50_ns: count('latency_p50_ns'),
            p99_ns: count('latency_p99_ns'),
            max_ns: count('latency_max_ns'),
          },
  };
  return sane ? result : undefined;
}

function plainReasons(bits: number): PlainReason[] {
  return Object.entries(ENUMS.vs_plain)
    .filter(([, bit]) => (bits & bit) !== 0)
    .map(([name]) => name.replace('VS_PLAIN_', '').toLowerCase() as PlainReason);
}

function readStrangers(head: Struct<'vs_book'>): Book['strangers'] {
  const seen = Math.min(head.num('strangers'), MACROS.VS_BOOK_STRANGERS);
  const bytes = head.part('stranger');
  const size = sizeOf('vs_book_stranger');
  return Array.from({ length: seen }, (_, i) => {
    const one = new Struct('vs_book_stranger', bytes.subarray(i * size, (i + 1) * size));
    return { pid: one.num('pid'), path: printable(one.text('path')) };
  });
}

function readRest(head: Struct<'vs_book'>): BookRest {
  const rest = new Struct('vs_book_rest', head.part('rest'));
  return {
    connections: Number(rest.big('connections')),
    accelerated: Number(rest.big('accelerated')),
    ring_bytes: Number(rest.big('tx_ring_bytes') + rest.big('rx_ring_bytes')),
    kernel_bytes: Number(rest.big('tx_kernel_bytes') + rest.big('rx_kernel_bytes')),
    wrong: Number(rest.big('wrong_count')),
  };
}

/** Names come from other programs and are printed on terminals. */
function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is taken out
  return text.replace(/[\u0000-\u001f\u007f-\u009f]/g, '?');
}

/** `127.0.0.1:80`, `[::1]:80` from a (mapped) IPv6 address. */
export function endpoint(address: Uint8Array, port: number): string {
  const groups = Array.from(
    { length: 8 },
    (_, i) => ((address[2 * i] ?? 0) << 8) | (address[2 * i + 1] ?? 0),
  );
  if (groups.slice(0, 5).every((group) => group === 0) && groups[5] === 0xffff) {
    return `${address.subarray(12).join('.')}:${port}`;
  }
  // RFC 5952: the longest run of zeros becomes `::`, the first one of equals, none of a single group.
  let [best, length] = [-1, 1];
  for (let i = 0; i < 8; i++) {
    let run = 0;
    while (i + run < 8 && groups[i + run] === 0) run++;
    if (run > length) [best, length] = [i, run];
  }
  const hex = groups.map((group) => group.toString(16));
  const text =
    best < 0 ? hex.join(':') : `${hex.slice(0, best).join(':')}::${hex.slice(best + length).join(':')}`;
  return `[${text}]:${port}`;
}
