/** Results as text for people: table cells, ping lines, the histogram picture. Pure; the command prints. */

import type { Histogram } from './histogram.ts';
import { histogramOf, type Report, type RowReport } from './report.ts';
import { isVerbs, rowName } from './rows.ts';

/** 1234.5 ns -> `1.23`, in microseconds with three significant digits. */
export function microseconds(value_ns: number | undefined): string {
  if (value_ns === undefined) return '-';
  const us = value_ns / 1000;
  if (us >= 100) return us.toFixed(0);
  return us.toFixed(us >= 10 ? 1 : us >= 1 ? 2 : 3);
}

/** 1_234_567 -> `1.23M`. */
export function compactCount(value: number): string {
  for (const [unit, factor] of [
    ['G', 1e9],
    ['M', 1e6],
    ['k', 1e3],
  ] as const) {
    if (value >= factor) return `${(value / factor).toPrecision(3)}${unit}`;
  }
  return value >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(3)));
}

/** 4096 -> `4KiB`. */
export function compactSize(bytes: number): string {
  for (const [unit, factor] of [
    ['GiB', 2 ** 30],
    ['MiB', 2 ** 20],
    ['KiB', 2 ** 10],
  ] as const) {
    if (bytes >= factor && bytes % factor === 0) return `${bytes / factor}${unit}`;
  }
  return `${bytes}B`;
}

/** 0.0123 -> `1.23%`. */
export function percent(ratio: number): string {
  return `${Number((ratio * 100).toPrecision(3))}%`;
}

interface Column {
  readonly head: string;
  readonly align: 'left' | 'right';
  /** Columns of lower weight go first when the terminal is narrow. */
  readonly weight: number;
  readonly cell: (row: RowReport) => string;
  /** Only shown when a row has something to say. */
  readonly when?: (row: RowReport) => boolean;
}

const latency = (head: string, weight: number, field: keyof RowReport): Column => ({
  head,
  align: 'right',
  weight,
  cell: (row) => microseconds(row[field] as number | undefined),
});

const COLUMNS: readonly Column[] = [
  { head: 'transport', align: 'left', weight: 10, cell: (row) => row.transport.toUpperCase() },
  { head: 'op', align: 'left', weight: 10, cell: (row) => whatItDoes(row) },
  { head: 'size', align: 'right', weight: 10, cell: (row) => compactSize(row.size_bytes) },
  latency('min', 5, 'latency_min_ns'),
  latency('p50', 10, 'latency_p50_ns'),
  latency('p90', 3, 'latency_p90_ns'),
  latency('p99', 9, 'latency_p99_ns'),
  latency('p99.9', 6, 'latency_p99_9_ns'),
  latency('max', 7, 'latency_max_ns'),
  latency('mean', 2, 'latency_mean_ns'),
  { head: 'rate/s', align: 'right', weight: 8, cell: (row) => compactCount(row.rate_per_s) },
  {
    head: 'loss',
    align: 'right',
    weight: 10,
    cell: (row) => percent(row.loss_ratio),
    when: (row) => row.lost > 0,
  },
  {
    head: 'wrong',
    align: 'right',
    weight: 10,
    cell: (row) => String(row.mismatches),
    when: (row) => row.mismatches > 0,
  },
];

const GAP = 2;

/** The rows as a table that fits `columns`; times in microseconds. */
export function latencyTable(rows: readonly RowReport[], columns: number) {
  let shown = COLUMNS.filter(({ when }) => when === undefined || rows.some(when)).map((column) => {
    const cells = rows.map((row) =>
      row.failure === undefined || row.answered > 0 ? column.cell(row) : identity(column, row),
    );
    return { ...column, cells, width: Math.max(column.head.length, ...cells.map((cell) => cell.length)) };
  });
  const width = () => shown.reduce((sum, column) => sum + column.width + GAP, -GAP);
  while (width() > columns) {
    const least = Math.min(...shown.map(({ weight }) => weight));
    if (least === 10) break;
    shown = shown.filter(({ weight }) => weight !== least);
  }
  return {
    head: shown.map(({ head }) => head),
    align: shown.map(({ align }) => align),
    rows: rows.map((_, i) => shown.map(({ cells }) => cells[i] ?? '')),
  };
}

/** What tells rows of a transport apart: sockets only send, and differ in how they wait. */
function whatItDoes(row: RowReport): string {
  if (!isVerbs(row.transport)) return row.wait;
  return row.wait === 'events' ? `${row.operation}, events` : row.operation;
}

/** A failed row shows what it is, and dashes for what it has not. */
function identity(column: Column, row: RowReport): string {
  return ['transport', 'op', 'size'].includes(column.head) ? column.cell(row) : '-';
}

/** Who measured whom, for the line above the table. */
export function headline(report: Pick<Report, 'client' | 'server' | 'mtu_bytes'>): string {
  const { client, server } = report;
  const provider = client.provider === 'soft' ? 'embedded device' : 'device';
  if (client.address === server.address)
    return `${provider} ${client.device}, both ends on this machine, path MTU ${report.mtu_bytes}`;
  const there =
    server.device === undefined ? server.address : `${server.device} on ${server.host} (${server.address})`;
  return `${provider} ${client.device} (${client.address}) to ${there}, path MTU ${report.mtu_bytes}`;
}

/** One line a failed or damaged row, one for all rows skipped for the same reason. */
export function remarks(report: Report): string[] {
  const lines: string[] = [];
  for (const row of report.rows) {
    const name = `${rowName(row)} ${compactSize(row.size_bytes)}`;
    if (row.failure !== undefined) {
      lines.push(`${name}: ${row.failure.what}`);
      if (row.failure.cause !== undefined) lines.push(`  cause: ${row.failure.cause}`);
      if (row.failure.remedy !== undefined) lines.push(`  try:   ${row.failure.remedy}`);
    }
    const first = row.first_mismatch;
    if (first !== undefined) {
      lines.push(
        `${name}: ${row.mismatches} of ${row.verified} messages were damaged; first at the ${first.end}, exchange ${first.sequence}, ` +
          `offset ${first.offset_bytes}: 0x${first.found.toString(16)} instead of 0x${first.expected.toString(16)}`,
      );
    }
  }
  const skipped = new Map<string, string[]>();
  for (const row of report.skipped) {
    const names = skipped.get(row.reason) ?? [];
    skipped.set(row.reason, [...names, `${rowName(row)} ${compactSize(row.size_bytes)}`]);
  }
  for (const [reason, names] of skipped) {
    const shown =
      names.length > 4 ? `${names.slice(0, 3).join(', ')} and ${names.length - 3} more` : names.join(', ');
    lines.push(`left out: ${shown}: ${reason}`);
  }
  return lines;
}

/** One line a gate. */
export function gateLines(report: Report): string[] {
  return report.gates.map((gate) => {
    if (gate.passed) return `passed: ${gate.gate}`;
    const worst = gate.missed.slice(0, 3).map(({ row, size_bytes }) => `${row} ${compactSize(size_bytes)}`);
    const more = gate.missed.length > 3 ? ` and ${gate.missed.length - 3} more` : '';
    return `MISSED: ${gate.gate}${worst.length === 0 ? ' (nothing was measured)' : ` by ${worst.join(', ')}${more}`}`;
  });
}

/** The end of a ping-like run. */
export function summaryLines(row: RowReport, peer: string): string[] {
  const lines = [
    `--- ${peer}: ${rowName(row)}, ${compactSize(row.size_bytes)} ---`,
    `${row.sent} sent, ${row.answered} answered, ${percent(row.loss_ratio)} lost, ${(row.elapsed_ns / 1e9).toFixed(3)} s, ` +
      `${compactCount(row.rate_per_s)} round trips/s`,
  ];
  if (row.verified > 0) lines.push(`${row.verified} messages verified, ${row.mismatches} damaged`);
  if (row.answered > 0) {
    const values = [
      row.latency_min_ns,
      row.latency_p50_ns,
      row.latency_mean_ns,
      row.latency_p99_ns,
      row.latency_max_ns,
    ];
    lines.push(`round trip min/p50/mean/p99/max = ${values.map(microseconds).join('/')} us`);
  }
  return lines;
}

const EIGHTHS = ['', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];

function bar(share: number, width: number): string {
  const eighths = Math.round(share * width * 8);
  return '█'.repeat(Math.floor(eighths / 8)) + (EIGHTHS[eighths % 8] ?? '');
}

/** The distribution of a row as bars, on a logarithmic axis from its smallest to its largest latency. */
export function histogramPicture(row: RowReport, columns: number): string[] {
  const histogram = histogramOf(row);
  const title = `${rowName(row)}, ${compactSize(row.size_bytes)}: ${histogram.total} round trips`;
  if (histogram.total === 0) return [title];
  const bins = binsOf(histogram);
  const most = Math.max(...bins.map(({ count }) => count));
  const label = Math.max(...bins.map(({ upper_ns }) => microseconds(upper_ns).length));
  const width = Math.max(10, Math.min(60, columns - label - 22));
  return [
    title,
    ...bins.map(({ upper_ns, count }) => {
      const share = percent(count / histogram.total).padStart(8);
      return `  ≤ ${microseconds(upper_ns).padStart(label)} us ${share}  ${bar(count / most, width)}`.trimEnd();
    }),
  ];
}

const BINS = 16;

function binsOf(histogram: Histogram): { upper_ns: number; count: number }[] {
  const low = Math.max(1, histogram.min_ns);
  const high = Math.max(low + 1, histogram.max_ns);
  const step = (high / low) ** (1 / BINS);
  const bins: { upper_ns: number; count: number }[] = [];
  let counted = 0;
  let previous = -1;
  for (let i = 1; i <= BINS; i++) {
    const upper = i === BINS ? histogram.max_ns : Math.round(low * step ** i);
    const count = i === BINS ? histogram.total - counted : histogram.countBetween(previous, upper);
    bins.push({ upper_ns: upper, count });
    counted += count;
    previous = upper;
  }
  return bins;
}
