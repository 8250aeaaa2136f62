/**
 * Results: the schemas of what `pingpong` reports, and how a finished loop becomes a row of it. Pure.
 * Latencies are full round trips as the client saw them.
 */

import * as v from 'valibot';
import { explainCompletion } from '../verbs/index.ts';
import { Histogram } from './histogram.ts';
import type { RowResult } from './protocol.ts';
import { OPERATIONS, type Row, RPING, TRANSPORTS, WAITS } from './rows.ts';
import type { LoopError, LoopSnapshot } from './stats.ts';

const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const nanoseconds = v.pipe(v.number(), v.minValue(0));

const RowFields = {
  transport: v.picklist(TRANSPORTS),
  /** `rping`: rping's exchange over a connection of rdma_cm. */
  operation: v.picklist([...OPERATIONS, RPING]),
  /** How both ends wait for their message. */
  wait: v.picklist(WAITS),
  size_bytes: count,
};

export const Failure = v.object({
  what: v.string(),
  cause: v.optional(v.string()),
  remedy: v.optional(v.string()),
});
export type Failure = v.InferOutput<typeof Failure>;

export const RowReport = v.object({
  ...RowFields,
  sent: count,
  answered: count,
  /** No answer within the timeout (unreliable transports). */
  lost: count,
  /** Answers that came after their timeout; counted as lost too. */
  late: count,
  loss_ratio: v.pipe(v.number(), v.minValue(0), v.maxValue(1)),
  elapsed_ns: nanoseconds,
  /** Round trips a second, over the whole time of the row. */
  rate_per_s: v.pipe(v.number(), v.minValue(0)),
  /** Absent when nothing was answered. */
  latency_min_ns: v.optional(nanoseconds),
  latency_p50_ns: v.optional(nanoseconds),
  latency_p90_ns: v.optional(nanoseconds),
  latency_p99_ns: v.optional(nanoseconds),
  latency_p99_9_ns: v.optional(nanoseconds),
  latency_max_ns: v.optional(nanoseconds),
  latency_mean_ns: v.optional(nanoseconds),
  /** HdrHistogram V2, compressed, base64; lowest 1 ns, highest 2^36 - 1 ns, three digits. Rows of equal kind may be merged. */
  latency_histogram_hdr_v2: v.optional(v.string()),
  /** Messages checked byte by byte, at both ends. */
  verified: count,
  mismatches: count,
  first_mismatch: v.optional(
    v.object({
      end: v.picklist(['client', 'server']),
      sequence: count,
      offset_bytes: count,
      expected: count,
      found: count,
    }),
  ),
  /** Cores the loops were pinned to; absent when they floated. */
  client_core: v.optional(count),
  server_core: v.optional(count),
  inline: v.boolean(),
  /** Cost of one clock reading; two are in every sample. */
  clock_cost_ns: count,
  /** Was the row ended before its time? */
  interrupted: v.boolean(),
  failure: v.optional(Failure),
});
export type RowReport = v.InferOutput<typeof RowReport>;

export const SkippedRow = v.object({ ...RowFields, reason: v.string() });

export const GateReport = v.object({
  gate: v.string(),
  passed: v.boolean(),
  /** The rows that missed it, with the measured value. */
  missed: v.array(v.object({ row: v.string(), size_bytes: count, measured: v.nullable(v.number()) })),
});
export type GateReport = v.InferOutput<typeof GateReport>;

const End = v.object({
  host: v.string(),
  address: v.string(),
  device: v.string(),
  provider: v.picklist(['system', 'soft']),
});

/** What another program tells of itself may be nothing: rping says neither its host nor its device. */
const FarEnd = v.object({ ...End.entries, ...v.partial(v.pick(End, ['device', 'provider'])).entries });

export const Report = v.object({
  started_at: v.pipe(v.string(), v.isoTimestamp()),
  client: End,
  server: FarEnd,
  /** The client's GID and why it was chosen. */
  gid: v.string(),
  gid_reason: v.string(),
  mtu_bytes: count,
  /** What the loops read the time from. */
  clock: v.picklist(['tsc', 'raw']),
  rows: v.array(RowReport),
  skipped: v.array(SkippedRow),
  gates: v.array(GateReport),
  interrupted: v.boolean(),
});
export type Report = v.InferOutput<typeof Report>;

/** One answered or lost message of a paced run. */
export const SampleReport = v.object({
  sequence: count,
  size_bytes: count,
  lost: v.boolean(),
  latency_ns: v.optional(nanoseconds),
});

/** Percentiles that a row names, with the field they go to. */
const PERCENTILES = [
  ['latency_p50_ns', 50],
  ['latency_p90_ns', 90],
  ['latency_p99_ns', 99],
  ['latency_p99_9_ns', 99.9],
] as const;

export interface RowOutcome {
  readonly row: Row;
  readonly client: LoopSnapshot;
  readonly histogram: Histogram;
  /** undefined when the server could not be asked any more. */
  readonly server: RowResult | undefined;
  readonly interrupted: boolean;
  readonly failure?: Failure | undefined;
}

/** A row as it is reported. */
export function reportRow(outcome: RowOutcome): RowReport {
  const { row, client, histogram, server } = outcome;
  const failure = outcome.failure ?? (client.error && explainLoopError(client.error, row));
  const first = firstMismatch(client, server);
  // An exchange that was cut off by a stop was neither answered nor lost, and is not counted as sent.
  const sent = client.completed + client.lost;
  return {
    ...row,
    sent,
    answered: client.completed,
    lost: client.lost,
    late: client.late,
    loss_ratio: sent === 0 ? 0 : client.lost / sent,
    elapsed_ns: client.elapsed_ns,
    rate_per_s: client.elapsed_ns === 0 ? 0 : (client.completed * 1e9) / client.elapsed_ns,
    ...latencies(histogram),
    verified: client.verified + (server?.verified ?? 0),
    mismatches: client.mismatches + (server?.mismatches ?? 0),
    ...(first === undefined ? {} : { first_mismatch: first }),
    ...(client.core < 0 ? {} : { client_core: client.core }),
    ...(server === undefined || server.core < 0 ? {} : { server_core: server.core }),
    inline: client.inline_used,
    clock_cost_ns: client.clock_cost_ns,
    interrupted: outcome.interrupted,
    ...(failure === undefined ? {} : { failure }),
  };
}

/** A row that failed before its loop ran. */
export function reportFailedRow(row: Row, failure: Failure): RowReport {
  return {
    ...row,
    sent: 0,
    answered: 0,
    lost: 0,
    late: 0,
    loss_ratio: 0,
    elapsed_ns: 0,
    rate_per_s: 0,
    verified: 0,
    mismatches: 0,
    inline: false,
    clock_cost_ns: 0,
    interrupted: false,
    failure,
  };
}

function latencies(histogram: Histogram): Partial<RowReport> {
  if (histogram.total === 0) return {};
  const fields: Partial<RowReport> = {
    latency_min_ns: histogram.min_ns,
    latency_max_ns: histogram.max_ns,
    latency_mean_ns: Math.round(histogram.mean_ns * 10) / 10,
    latency_histogram_hdr_v2: histogram.encode(),
  };
  for (const [field, percentile] of PERCENTILES) fields[field] = histogram.percentile(percentile);
  return fields;
}

function firstMismatch(client: LoopSnapshot, server: RowResult | undefined): RowReport['first_mismatch'] {
  if (client.first_mismatch !== undefined) return { end: 'client', ...client.first_mismatch };
  if (server?.first_mismatch !== undefined) return { end: 'server', ...server.first_mismatch };
  return undefined;
}

/** A loop's failure in words: completions by the error doctor, the rest by stage. */
export function explainLoopError(error: LoopError, row: Row): Failure {
  if (error.stage === 'completion') {
    const { what, cause, remedy } = explainCompletion(error.wc_status, error.wc_vendor_error, [
      `${row.transport} ${row.operation} of ${row.size_bytes} bytes, exchange ${error.sequence}`,
    ]);
    return { what, cause, remedy };
  }
  if (error.stage === 'timeout') {
    return {
      what: error.message,
      cause: 'the peer stopped answering: its process is stopped or gone, or the network drops the packets',
      remedy: 'look at the other end, or raise --timeout',
    };
  }
  if (error.stage === 'connect') return { what: error.message, ...connectHints(error.errno) };
  if (error.stage === 'peer-gone')
    return { what: error.message, cause: 'the process at the other end ended' };
  return { what: error.message, cause: `at the stage '${error.stage}' of the loop` };
}

const ECONNREFUSED = 111;

function connectHints(errno: number): Omit<Failure, 'what'> {
  if (errno === ECONNREFUSED)
    return {
      cause: 'nobody listens at that address and port with rdma_cm',
      remedy: 'start the other end: rdmakit pingpong --cm --listen, or rping -s',
    };
  return {
    cause: 'no RDMA device leads there, or the other host does not answer',
    remedy: 'compare `rdmakit topo devices` at both ends, and see that UDP port 4791 is open between them',
  };
}

/** The histogram of a reported row, exact minimum, maximum and sum restored. */
export function histogramOf(row: RowReport): Histogram {
  if (row.latency_histogram_hdr_v2 === undefined) return new Histogram();
  return Histogram.decode(row.latency_histogram_hdr_v2, {
    ...(row.latency_min_ns === undefined ? {} : { min_ns: row.latency_min_ns }),
    ...(row.latency_max_ns === undefined ? {} : { max_ns: row.latency_max_ns }),
    ...(row.latency_mean_ns === undefined ? {} : { sum_ns: row.latency_mean_ns * row.answered }),
  });
}
