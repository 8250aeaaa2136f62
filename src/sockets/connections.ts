/** Connections as documents: what --report-json writes at the end and `socket-run ps` prints while they live. */

import * as v from 'valibot';
import type { Histogram } from '../pingpong/histogram.ts';
import type { Book, BookFlow, BookRow } from './book.ts';
import { isAccelerated, REASONS, type Reason, reasonsOf } from './reasons.ts';

const Count = v.pipe(v.number(), v.integer(), v.minValue(0));

const Latency = v.object({
  count: Count,
  min_ns: Count,
  p50_ns: Count,
  p99_ns: Count,
  max_ns: Count,
  /** All of it, for merging and drawing; only of what this end received, and only in reports. */
  histogram_hdr_v2: v.optional(v.string()),
});

const Flow = v.object({
  ring_bytes: Count,
  /** Of UDP: how many went through the ring; else 0. */
  datagrams: Count,
  /** Null: the process was killed, and the kernel's last count went with it. */
  kernel_bytes: v.nullable(Count),
  now: v.picklist(['ring', 'kernel']),
  /** Changes from the kernel to the ring, and back. */
  promotions: Count,
  demotions: Count,
  demotions_full_ring: Count,
  demotions_single_call: Count,
  doorbells: Count,
  /** Times the receiver slept because the ring was empty. */
  sleeps: Count,
  /** From sending to the receiver's read, through the ring; one message at a time is timed. */
  latency: v.nullable(Latency),
  /** With --verify: bytes whose hashes were equal at both ends, and where they first were not (positions in the ring's stream). */
  verify: v.nullable(
    v.object({
      verified_bytes: Count,
      mismatches: Count,
      first_mismatch: v.nullable(v.object({ from_byte: Count, to_byte: Count })),
    }),
  ),
});
export type FlowReport = v.InferOutput<typeof Flow>;

export const Connection = v.object({
  /** Of udp, a socket. */
  protocol: v.picklist(['tcp', 'udp']),
  local: v.string(),
  /** `*`: a UDP socket that is not connected. */
  remote: v.string(),
  pid: Count,
  program: v.string(),
  /** lost: its process ended without closing it. */
  state: v.picklist(['open', 'closed', 'lost']),
  accelerated: v.boolean(),
  /** What carries, or carried, what the kernel does not: shared memory, or a queue pair to another host (rc: of TCP, ud: of UDP). */
  transport: v.picklist(['kernel', 'shm', 'rc', 'ud']),
  /** Why not, or why it left the ring. */
  reasons: v.array(
    v.object({ code: v.picklist(Object.keys(REASONS) as [Reason, ...Reason[]]), text: v.string() }),
  ),
  peer: v.object({ library: v.boolean(), pid: v.nullable(Count), uid: v.nullable(Count) }),
  sent: Flow,
  received: Flow,
});
export type ConnectionReport = v.InferOutput<typeof Connection>;

/** Body of rdmakit.socket-connections/1. */
export const Connections = v.object({
  /** UTC, ISO 8601. */
  time: v.string(),
  connections: v.array(Connection),
  /** Rows that made no sense. */
  unreadable: Count,
});
export type ConnectionsReport = v.InferOutput<typeof Connections>;

/** One row in words. `histogram` is of what this end received. */
export function describe(row: BookRow, uid: number, histogram?: Histogram): ConnectionReport {
  return {
    protocol: row.protocol,
    local: row.local,
    remote: row.remote,
    pid: row.pid,
    program: row.program,
    state: row.state,
    accelerated: isAccelerated(row),
    transport: transportOf(row),
    reasons: reasonsOf(row, uid).map((code) => ({ code, text: REASONS[code] })),
    peer: { library: row.peerHasLibrary, pid: row.peerPid ?? null, uid: row.peerUid ?? null },
    sent: describeFlow(row.sent),
    received: describeFlow(row.received, histogram),
  };
}

function transportOf(row: BookRow): ConnectionReport['transport'] {
  if (!isAccelerated(row)) return 'kernel';
  if (row.protocol === 'udp') return row.road === 'open' ? 'ud' : 'shm';
  return row.localHost ? 'shm' : 'rc';
}

/** All rows, in the order of programs and addresses. */
export function describeAll(book: Book, histogram?: (row: BookRow) => Histogram | undefined) {
  const connections = book.rows.map((row) => describe(row, book.uid, histogram?.(row)));
  return connections.sort(
    (a, b) => a.pid - b.pid || compare(a.local, b.local) || compare(a.remote, b.remote),
  );
}

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

function describeFlow(flow: BookFlow, histogram?: Histogram): FlowReport {
  return {
    ring_bytes: flow.ring_bytes,
    datagrams: flow.datagrams,
    kernel_bytes: flow.kernel_bytes ?? null,
    now: flow.inRing ? 'ring' : 'kernel',
    promotions: flow.promotions,
    // Every epoch in the ring has ended, but for the one that it is in.
    demotions: Math.max(0, flow.promotions - (flow.inRing ? 1 : 0)),
    demotions_full_ring: flow.overflows,
    demotions_single_call: flow.natives,
    doorbells: flow.bells,
    sleeps: flow.sleeps,
    latency: flow.latency
      ? { ...flow.latency, ...(histogram ? { histogram_hdr_v2: histogram.encode() } : {}) }
      : null,
    verify: flow.hashed
      ? {
          verified_bytes: flow.verified_bytes,
          mismatches: flow.wrong?.count ?? 0,
          first_mismatch: flow.wrong ? { from_byte: flow.wrong.from, to_byte: flow.wrong.to } : null,
        }
      : null,
  };
}
