/**
 * What a C loop publishes, as plain values: a snapshot may be taken at any time while it runs. The only place that knows
 * the fields of rk_dp_stats.
 */

import { offsetOf, type Struct } from '../../ffi/struct.ts';
import { ENUMS } from '../../ffi/structs.generated.ts';
import { COUNTS_LENGTH, Histogram } from './histogram.ts';

export type StatsView = Struct<'rk_dp_stats'>;

export interface LoopError {
  /** `completion`, `timeout`, ...: the stage of enum rk_dp_stage at which the loop ended. */
  readonly stage: string;
  readonly errno: number;
  /** enum ibv_wc_status; 0 unless the stage is `completion`. */
  readonly wc_status: number;
  readonly wc_vendor_error: number;
  /** Exchange at which it happened. */
  readonly sequence: number;
  readonly message: string;
}

export interface Mismatch {
  readonly sequence: number;
  readonly offset_bytes: number;
  readonly expected: number;
  readonly found: number;
}

export interface LoopSnapshot {
  readonly state: 'idle' | 'running' | 'done' | 'failed';
  readonly posted: number;
  readonly completed: number;
  readonly lost: number;
  readonly late: number;
  readonly bytes: number;
  readonly elapsed_ns: number;
  readonly verified: number;
  readonly mismatches: number;
  readonly first_mismatch: Mismatch | undefined;
  readonly wakeups: number;
  /** Core the thread is pinned to, -1 when it floats. */
  readonly core: number;
  readonly pin_errno: number;
  readonly inline_used: boolean;
  readonly clock: 'tsc' | 'raw';
  readonly clock_cost_ns: number;
  readonly error: LoopError | undefined;
}

export interface Sample {
  readonly sequence: number;
  /** undefined: lost. */
  readonly rtt_ns: number | undefined;
}

const STATES = ['idle', 'running', 'done', 'failed'] as const;
const RING = 1024;
const LOST = 0xffff_ffff_ffff_ffffn;

const STAGES = new Map<number, string>(
  Object.entries(ENUMS.rk_dp_stage).map(([name, value]) => [
    Number(value),
    name.replace('RK_DP_STAGE_', '').toLowerCase().replaceAll('_', '-'),
  ]),
);

function readError(view: StatsView): LoopError | undefined {
  const stage = view.num('error_stage');
  if (stage === 0) return undefined;
  return {
    stage: STAGES.get(stage) ?? `stage ${stage}`,
    errno: view.num('error_errno'),
    wc_status: view.num('wc_status'),
    wc_vendor_error: view.num('wc_vendor_error'),
    sequence: view.num('error_sequence'),
    message: view.text('message'),
  };
}

function readMismatch(view: StatsView): Mismatch | undefined {
  if (view.num('mismatches') === 0) return undefined;
  return {
    sequence: view.num('mismatch_sequence'),
    offset_bytes: view.num('mismatch_offset'),
    expected: view.num('mismatch_expected'),
    found: view.num('mismatch_found'),
  };
}

/** The counters as they stand. */
export function readSnapshot(view: StatsView): LoopSnapshot {
  return {
    state: STATES[view.num('state')] ?? 'failed',
    posted: view.num('posted'),
    completed: view.num('completed'),
    lost: view.num('lost'),
    late: view.num('late'),
    bytes: view.num('bytes'),
    elapsed_ns: view.num('elapsed_ns'),
    verified: view.num('verified'),
    mismatches: view.num('mismatches'),
    first_mismatch: readMismatch(view),
    wakeups: view.num('wakeups'),
    core: view.num('core'),
    pin_errno: view.num('pin_errno'),
    inline_used: view.num('inline_used') !== 0,
    clock: view.num('clock_source') === ENUMS.rk_clock_source.RK_CLOCK_TSC ? 'tsc' : 'raw',
    clock_cost_ns: view.num('clock_cost_ns'),
    error: readError(view),
  };
}

/** A copy of the histogram. Of a running loop it may lack the newest samples, never more. */
export function readHistogram(view: StatsView): Histogram {
  const histogram = new Histogram();
  const counts = view.part('hist').subarray(offsetOf('rk_hist', 'counts'));
  const words = new DataView(counts.buffer, counts.byteOffset, counts.byteLength);
  for (let i = 0; i < COUNTS_LENGTH; i++) {
    const count = words.getUint32(8 * i, true) + words.getUint32(8 * i + 4, true) * 2 ** 32;
    if (count === 0) continue;
    histogram.counts[i] = count;
    histogram.total += count;
  }
  if (histogram.total === 0) return histogram;
  histogram.sum_ns = view.num('hist.sum_ns');
  histogram.min_ns = view.num('hist.min_ns');
  histogram.max_ns = view.num('hist.max_ns');
  histogram.clamped = view.num('hist.clamped');
  return histogram;
}

/**
 * Samples recorded since `from` (a running count). `next` is where to go on; samples that the ring has overwritten since
 * are missing, so call it more often than 1024 samples.
 */
export function readSamples(view: StatsView, from: number): { samples: Sample[]; next: number } {
  const written = view.num('samples_written');
  const ring = view.part('samples');
  const words = new DataView(ring.buffer, ring.byteOffset, ring.byteLength);
  const samples: Sample[] = [];
  for (let n = Math.max(from, written - RING); n < written; n++) {
    const at = (n % RING) * 16;
    const rtt = words.getBigUint64(at + 8, true);
    samples.push({
      sequence: Number(words.getBigUint64(at, true)),
      rtt_ns: rtt === LOST ? undefined : Number(rtt),
    });
  }
  return { samples, next: written };
}
