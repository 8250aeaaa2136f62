/**
 * Gates: `--expect 'p99<5us,loss=0%'` as a list of comparisons. Reading them is here, because units are; what a metric's
 * value is belongs to the command's domain.
 */

import { suggest } from './suggest.ts';
import { parseCount, parseDuration, parseRate, parseSize, UnitError } from './units.ts';

/** What kind of quantity a metric is; decides the units its limit may have. */
export type MetricKind = 'duration' | 'rate' | 'count' | 'size' | 'percent';

export type Comparison = '<' | '<=' | '>' | '>=' | '=';

export interface Gate {
  /** As written: `p99<5us`. */
  text: string;
  metric: string;
  comparison: Comparison;
  /** In the metric's base unit: ns, bits a second, plain number, bytes, or a fraction for percent. */
  limit: number;
}

function parsePercent(text: string): number {
  const match = /^(\d+(?:\.\d+)?)%$/.exec(text);
  if (!match) throw new UnitError(`'${text}' is not a percentage; write for example 0.1%`);
  return Number(match[1]) / 100;
}

const PARSERS: Readonly<Record<MetricKind, (text: string) => number>> = {
  duration: parseDuration,
  rate: parseRate,
  count: parseCount,
  size: parseSize,
  percent: parsePercent,
};

/**
 * Parser for a custom() option: comma-separated gates over the metrics the command knows.
 * `custom(gatesOver({ p99: 'duration', rate: 'count' }), { doc, value: 'GATE' })`
 */
export function gatesOver(metrics: Readonly<Record<string, MetricKind>>): (text: string) => Gate[] {
  return (text) => text.split(',').map((part) => parseGate(part.trim(), metrics));
}

function parseGate(text: string, metrics: Readonly<Record<string, MetricKind>>): Gate {
  const match = /^([a-z][a-z0-9._-]*)\s*(<=|>=|<|>|=)\s*(\S+)$/.exec(text);
  if (!match) throw new UnitError(`'${text}' is not METRIC<VALUE; write for example p99<5us`);
  const [, metric = '', comparison, limitText = ''] = match;
  const kind = Object.hasOwn(metrics, metric) ? metrics[metric] : undefined;
  if (!kind) {
    const near = suggest(metric, Object.keys(metrics));
    const hint = near ? `did you mean ${near}?` : `known: ${Object.keys(metrics).join(' ')}`;
    throw new UnitError(`'${metric}' is not measured here; ${hint}`);
  }
  return { text, metric, comparison: comparison as Comparison, limit: PARSERS[kind](limitText) };
}

/** Does a measured value pass? A value that is not a number never does. */
export function passes(gate: Gate, measured: number): boolean {
  if (Number.isNaN(measured)) return false;
  switch (gate.comparison) {
    case '<':
      return measured < gate.limit;
    case '<=':
      return measured <= gate.limit;
    case '>':
      return measured > gate.limit;
    case '>=':
      return measured >= gate.limit;
    case '=':
      return measured === gate.limit;
  }
}
