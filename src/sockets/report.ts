/** The report of a run: its connections, sums over them, and what --strict and --verify make of it. Pure. */

import * as v from 'valibot';
import { Histogram } from '../pingpong/histogram.ts';
import type { Book, BookRow } from './book.ts';
import { Connection, type ConnectionReport, describeAll } from './connections.ts';

const Count = v.pipe(v.number(), v.integer(), v.minValue(0));

/** Body of rdmakit.socket-report/1. */
export const Report = v.object({
  program: v.array(v.string()),
  /** How it ended: one of the two is null. */
  exit: v.object({ code: v.nullable(Count), signal: v.nullable(Count) }),
  totals: v.object({
    connections: Count,
    accelerated: Count,
    /** As each end counts them: a connection between two programs of the run counts twice. */
    ring_bytes: Count,
    kernel_bytes: Count,
    /** Of everything that programs of this run received through rings. */
    latency: v.nullable(
      v.object({
        count: Count,
        p50_ns: Count,
        p99_ns: Count,
        max_ns: Count,
        histogram_hdr_v2: v.string(),
      }),
    ),
    mismatches: Count,
  }),
  connections: v.array(Connection),
  /** Connections beyond those that are listed; they are in the totals. */
  unlisted: Count,
  /** Rows that made no sense. */
  unreadable: Count,
  /** Messages from other hosts that made no sense, or were not from whom they said: not listened to. */
  dropped_messages: Count,
  /** Programs that were started and do not take the library: static ones, and those with raised privileges. */
  without_library: v.array(v.object({ pid: Count, path: v.string() })),
});
export type RunReport = v.InferOutput<typeof Report>;

/** What waitpid(2) says, taken apart. */
export interface Exit {
  readonly code: number | null;
  readonly signal: number | null;
}

export function exitOf(waitStatus: number): Exit {
  const signal = waitStatus & 0x7f;
  return signal === 0 ? { code: (waitStatus >> 8) & 0xff, signal: null } : { code: null, signal };
}

export interface RunFacts {
  readonly program: readonly string[];
  readonly exit: Exit;
  readonly book: Book;
  /** The program's own path when it does not take the library. */
  readonly obstacle?: { readonly path: string } | undefined;
  /** Latencies of what the row's end received. */
  readonly histogram: (row: BookRow) => Histogram | undefined;
}

export function reportRun({ program, exit, book, obstacle, histogram }: RunFacts): RunReport {
  const all = new Histogram();
  const connections = describeAll(book, (row) => {
    const own = row.received.latency ? histogram(row) : undefined;
    if (own) all.merge(own);
    return own;
  });
  const sum = (of: (connection: ConnectionReport) => number): number =>
    connections.reduce((total, connection) => total + of(connection), 0);
  return {
    program: [...program],
    exit: { ...exit },
    totals: {
      connections: connections.length + book.rest.connections,
      accelerated: sum((one) => Number(one.accelerated)) + book.rest.accelerated,
      ring_bytes: sum((one) => one.sent.ring_bytes + one.received.ring_bytes) + book.rest.ring_bytes,
      kernel_bytes:
        sum((one) => (one.sent.kernel_bytes ?? 0) + (one.received.kernel_bytes ?? 0)) +
        book.rest.kernel_bytes,
      latency:
        all.total === 0
          ? null
          : {
              count: all.total,
              p50_ns: all.percentile(50),
              p99_ns: all.percentile(99),
              max_ns: all.max_ns,
              histogram_hdr_v2: all.encode(),
            },
      mismatches: sum((one) => mismatchesOf(one)) + book.rest.wrong,
    },
    connections,
    unlisted: book.rest.connections,
    unreadable: book.unreadable,
    dropped_messages: book.dropped,
    without_library: [
      ...(obstacle ? [{ pid: 0, path: obstacle.path }] : []),
      ...book.strangers.map((one) => ({ ...one })),
    ],
  };
}

const mismatchesOf = (one: ConnectionReport): number =>
  (one.sent.verify?.mismatches ?? 0) + (one.received.verify?.mismatches ?? 0);

/** Why a run with --strict is bad; undefined when something was accelerated. */
export function strictFault(report: RunReport): string | undefined {
  if (report.totals.accelerated > 0) return undefined;
  const [stranger] = report.without_library;
  const lost = stranger
    ? `; ${stranger.path} does not take the library (static, or with raised privileges)`
    : '';
  if (report.totals.connections === 0) {
    return `nothing was accelerated: no TCP connection was made, and no UDP socket used, by a program that has the library${lost}`;
  }
  const counts = new Map<string, number>();
  for (const { reasons } of report.connections) {
    const text = reasons[0]?.text ?? 'no reason is known';
    counts.set(text, (counts.get(text) ?? 0) + 1);
  }
  const why = [...counts].sort((a, b) => b[1] - a[1]).map(([text, n]) => `${n} x ${text}`);
  return `nothing was accelerated: ${why.join('; ')}${lost}`;
}

/** Lines about data that differ between the two ends, for --verify; empty when none did. */
export function verifyFaults(report: RunReport): string[] {
  const faults = report.connections.flatMap((one) =>
    (['sent', 'received'] as const).flatMap((direction) => {
      const { verify } = one[direction];
      if (!verify?.first_mismatch) return [];
      const { from_byte, to_byte } = verify.first_mismatch;
      const [from, to] = direction === 'sent' ? [one.local, one.remote] : [one.remote, one.local];
      const more = verify.mismatches > 1 ? ` (the first of ${verify.mismatches} places)` : '';
      return [
        `data differ: ${from} -> ${to}, bytes ${from_byte} to ${to_byte} of what went through the ring${more}`,
      ];
    }),
  );
  const unique = [...new Set(faults)];
  const known = report.connections.reduce((sum, one) => sum + mismatchesOf(one), 0);
  return report.totals.mismatches > known
    ? [
        ...unique,
        `data differ in ${report.totals.mismatches - known} places of connections that are not listed`,
      ]
    : unique;
}

/** How much --verify compared, and how much it could not. */
export function verifySummary(report: RunReport): string {
  let verified = 0;
  let ring = 0;
  for (const one of report.connections) {
    // Between hosts only the receiver knows.
    for (const flow of one.transport === 'rc' ? [one.received] : [one.sent, one.received]) {
      verified += flow.verify?.verified_bytes ?? 0;
      ring += flow.ring_bytes;
    }
  }
  const rest = ring - verified;
  const missing =
    rest > 0
      ? `; ${rest} bytes were not compared (unread, moved to the kernel, or both ends not watched)`
      : '';
  return `verified: ${verified} of ${ring} bytes through rings are equal at both ends${missing}`;
}
