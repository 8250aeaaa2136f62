/** From a finished loop to a reported row: numbers, loss, damage, failures; gates over rows; text for people. */

import { describe, expect, test } from 'bun:test';
import * as v from 'valibot';
import { judge, metricOf } from '../../src/pingpong/gates.ts';
import { Histogram } from '../../src/pingpong/histogram.ts';
import {
  compactCount,
  compactSize,
  gateLines,
  histogramPicture,
  latencyTable,
  microseconds,
  remarks,
  summaryLines,
} from '../../src/pingpong/present.ts';
import {
  explainLoopError,
  histogramOf,
  type Report,
  type RowOutcome,
  type RowReport,
  RowReport as RowSchema,
  reportFailedRow,
  reportRow,
} from '../../src/pingpong/report.ts';
import type { Row } from '../../src/pingpong/rows.ts';
import type { LoopSnapshot } from '../../src/pingpong/stats.ts';

const ROW: Row = { transport: 'rc', operation: 'send', wait: 'polling', size_bytes: 64 };

const SNAPSHOT: LoopSnapshot = {
  state: 'done',
  posted: 4,
  completed: 3,
  lost: 1,
  late: 0,
  bytes: 192,
  elapsed_ns: 3000,
  verified: 0,
  mismatches: 0,
  first_mismatch: undefined,
  wakeups: 0,
  core: 1,
  pin_errno: 0,
  inline_used: true,
  clock: 'tsc',
  clock_cost_ns: 9,
  error: undefined,
};

function outcome(change: Partial<RowOutcome> = {}): RowOutcome {
  const histogram = new Histogram();
  for (const value of [500, 600, 1000]) histogram.record(value);
  return { row: ROW, client: SNAPSHOT, histogram, server: undefined, interrupted: false, ...change };
}

function report(rows: RowReport[], change: Partial<Report> = {}): Report {
  const end = { host: 'a', address: '127.0.0.1', device: 'rk_lo', provider: 'soft' as const };
  return {
    started_at: '2026-01-01T00:00:00.000Z',
    client: end,
    server: end,
    gid: '::1',
    gid_reason: '',
    mtu_bytes: 4096,
    clock: 'tsc',
    rows,
    skipped: [],
    gates: [],
    interrupted: false,
    ...change,
  };
}

describe('reportRow', () => {
  test('latencies, rate and loss', () => {
    const row = reportRow(outcome());
    expect(row).toMatchObject({
      sent: 4,
      answered: 3,
      lost: 1,
      loss_ratio: 0.25,
      rate_per_s: 1e6,
      latency_min_ns: 500,
      latency_p50_ns: 600,
      latency_p99_9_ns: 1000,
      latency_max_ns: 1000,
      latency_mean_ns: 700,
      client_core: 1,
    });
    expect(v.safeParse(RowSchema, row).success).toBe(true);
    expect(histogramOf(row).percentile(50)).toBe(600);
  });

  test('nothing answered: no latencies, valid all the same', () => {
    const row = reportRow(
      outcome({ histogram: new Histogram(), client: { ...SNAPSHOT, completed: 0, elapsed_ns: 0 } }),
    );
    expect(row.latency_p50_ns).toBeUndefined();
    expect(row.rate_per_s).toBe(0);
    expect(v.safeParse(RowSchema, row).success).toBe(true);
    expect(histogramOf(row).total).toBe(0);
  });

  test('damage of both ends is added, the first is named with its end', () => {
    const mismatch = { sequence: 7, offset_bytes: 12, expected: 1, found: 2 };
    const server = {
      type: 'row-result',
      completed: 3,
      verified: 3,
      mismatches: 2,
      core: 0,
      first_mismatch: mismatch,
    } as const;
    const row = reportRow(outcome({ server, client: { ...SNAPSHOT, verified: 3 } }));
    expect(row).toMatchObject({
      verified: 6,
      mismatches: 2,
      first_mismatch: { end: 'server', ...mismatch },
      server_core: 0,
    });
  });

  test('a completion error is explained', () => {
    const error = {
      stage: 'completion',
      errno: 5,
      wc_status: 12,
      wc_vendor_error: 0,
      sequence: 3,
      message: 'a send request completed with ...',
    };
    const row = reportRow(outcome({ client: { ...SNAPSHOT, error } }));
    expect(row.failure?.what).toContain('IBV_WC_RETRY_EXC_ERR');
    expect(row.failure?.remedy).toBeTruthy();
    expect(explainLoopError({ ...error, stage: 'timeout', message: 'no answer' }, ROW).remedy).toContain(
      '--timeout',
    );
  });
});

describe('gates', () => {
  const fast = reportRow(outcome());
  const gate = (metric: string, limit: number) => ({
    text: `${metric}<${limit}`,
    metric,
    passes: (value: number) => value < limit,
  });

  test('every RDMA row must pass; kernel sockets are only the reference', () => {
    const slow = { ...fast, transport: 'tcp' as const, latency_p50_ns: 99_999 };
    expect(judge([fast, slow], [gate('p50', 1000)])).toEqual([
      { gate: 'p50<1000', passed: true, missed: [] },
    ]);
    expect(judge([slow], [gate('p50', 1000)])[0]).toMatchObject({
      passed: false,
      missed: [{ measured: 99_999 }],
    });
  });

  test('a row without the metric, a failed row, or no row at all misses', () => {
    const failed = reportFailedRow(ROW, { what: 'broken' });
    expect(judge([failed], [gate('p99', 1e9)])[0]).toMatchObject({
      passed: false,
      missed: [{ measured: null }],
    });
    expect(judge([{ ...fast, failure: { what: 'broken' } }], [gate('loss', 2)])[0]?.passed).toBe(false);
    expect(judge([], [gate('p99', 1e9)])[0]?.passed).toBe(false);
  });

  test('metrics', () => {
    expect(metricOf(fast, 'p99.9')).toBe(1000);
    expect(metricOf(fast, 'loss')).toBe(0.25);
    expect(metricOf(fast, 'rate')).toBe(1e6);
    expect(metricOf(fast, 'toString')).toBeNaN();
  });
});

describe('text', () => {
  const row = reportRow(outcome());

  test('numbers', () => {
    expect([undefined, 0, 512, 1234, 12_345, 1_234_567].map(microseconds)).toEqual([
      '-',
      '0.000',
      '0.512',
      '1.23',
      '12.3',
      '1235',
    ]);
    expect([0, 3, 999, 1500, 2_000_000].map(compactCount)).toEqual(['0', '3', '999', '1.50k', '2.00M']);
    expect([0, 64, 1500, 4096, 2 ** 20].map(compactSize)).toEqual(['0B', '64B', '1500B', '4KiB', '1MiB']);
  });

  test('the table gives up columns before it gets too wide', () => {
    const lossless = { ...row, lost: 0, loss_ratio: 0 };
    const wide = latencyTable([lossless], 120);
    expect(wide.head).toEqual([
      'transport',
      'op',
      'size',
      'min',
      'p50',
      'p90',
      'p99',
      'p99.9',
      'max',
      'mean',
      'rate/s',
    ]);
    expect(wide.rows).toEqual([
      ['RC', 'send', '64B', '0.500', '0.600', '1.00', '1.00', '1.00', '1.00', '0.700', '1.00M'],
    ]);
    const narrow = latencyTable([lossless], 40);
    expect(narrow.head).toContain('p50');
    expect(narrow.head).not.toContain('mean');
    expect(latencyTable([row], 120).head).toContain('loss');
  });

  test('sockets are told apart by how they wait', () => {
    const sockets = (['blocking', 'busy-polling'] as const).map((wait) => ({
      ...row,
      transport: 'tcp' as const,
      wait,
    }));
    expect(latencyTable(sockets, 120).rows.map((cells) => cells[1])).toEqual(['blocking', 'busy-polling']);
  });

  test('remarks name failures, damage and what was left out', () => {
    const failed = reportFailedRow(ROW, { what: 'it broke', cause: 'the cable', remedy: 'plug it in' });
    const damaged = {
      ...row,
      mismatches: 1,
      verified: 9,
      first_mismatch: { end: 'client' as const, sequence: 1, offset_bytes: 5, expected: 0, found: 255 },
    };
    const skipped = [{ ...ROW, reason: 'no atomics' }];
    const lines = remarks(report([failed, damaged], { skipped })).join('\n');
    for (const part of [
      'it broke',
      'the cable',
      'plug it in',
      '1 of 9 messages',
      'offset 5',
      '0xff instead of 0x0',
      'no atomics',
    ]) {
      expect(lines).toContain(part);
    }
  });

  test('gates and summary', () => {
    const missed = [{ row: 'rc send', size_bytes: 64, measured: 9 }];
    const gates = [
      { gate: 'p99<5us', passed: true, missed: [] },
      { gate: 'p50<1ns', passed: false, missed },
    ];
    expect(gateLines(report([row], { gates }))).toEqual([
      'passed: p99<5us',
      'MISSED: p50<1ns by rc send 64B',
    ]);
    expect(summaryLines(row, 'host').join('\n')).toContain('4 sent, 3 answered, 25% lost');
  });

  test('the picture counts every sample once', () => {
    const values = Array.from({ length: 1000 }, (_, i) => 400 + i * i);
    const histogram = new Histogram();
    for (const value of values) histogram.record(value);
    const lines = histogramPicture(reportRow(outcome({ histogram })), 80);
    expect(lines[0]).toContain('1000 round trips');
    const shares = lines.slice(1).map((line) => Number(/([\d.]+)%/.exec(line)?.[1]));
    expect(shares.reduce((sum, share) => sum + share, 0)).toBeCloseTo(100, 3);
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(80);
  });
});
