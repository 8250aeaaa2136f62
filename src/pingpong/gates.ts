/** Gates of a run: which rows they are for, what they measure, and which rows missed them. Pure. */

import type { GateReport, RowReport } from './report.ts';
import { isVerbs, rowName } from './rows.ts';

/** Metrics that a gate may name, with the kind of quantity its limit is. */
export const METRICS = {
  min: 'duration',
  p50: 'duration',
  p90: 'duration',
  p99: 'duration',
  'p99.9': 'duration',
  max: 'duration',
  mean: 'duration',
  rate: 'count',
  loss: 'percent',
  mismatches: 'count',
} as const;
export type Metric = keyof typeof METRICS;

const FIELDS: Readonly<Record<Metric, keyof RowReport>> = {
  min: 'latency_min_ns',
  p50: 'latency_p50_ns',
  p90: 'latency_p90_ns',
  p99: 'latency_p99_ns',
  'p99.9': 'latency_p99_9_ns',
  max: 'latency_max_ns',
  mean: 'latency_mean_ns',
  rate: 'rate_per_s',
  loss: 'loss_ratio',
  mismatches: 'mismatches',
};

/** A condition on every row. */
export interface Gate {
  /** As the user wrote it. */
  readonly text: string;
  readonly metric: string;
  readonly passes: (measured: number) => boolean;
}

/** What a gate's metric is in a row; NaN when the row has none, which passes no gate. */
export function metricOf(row: RowReport, metric: string): number {
  const field = Object.hasOwn(FIELDS, metric) ? FIELDS[metric as Metric] : undefined;
  const value = field === undefined ? undefined : row[field];
  return typeof value === 'number' && row.failure === undefined ? value : Number.NaN;
}

/**
 * Holds every row against every gate. Kernel sockets are the reference, not the subject: they are judged only when nothing
 * else was measured. A gate over no row at all is missed: nothing was shown.
 */
export function judge(rows: readonly RowReport[], gates: readonly Gate[]): GateReport[] {
  const verbs = rows.filter((row) => isVerbs(row.transport));
  const judged = verbs.length > 0 ? verbs : rows;
  return gates.map((gate) => {
    const missed = judged
      .map((row) => ({ row: rowName(row), size_bytes: row.size_bytes, measured: metricOf(row, gate.metric) }))
      .filter(({ measured }) => !gate.passes(measured))
      .map((miss) => ({ ...miss, measured: Number.isNaN(miss.measured) ? null : miss.measured }));
    return { gate: gate.text, passed: judged.length > 0 && missed.length === 0, missed };
  });
}
