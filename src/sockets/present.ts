/** Connections as tables for people. Pure; the command prints. */

import type { ConnectionReport, FlowReport } from './connections.ts';
import type { RunReport } from './report.ts';

/** 1_234_567 -> `1.23M`; bytes and counts alike. */
function short(value: number): string {
  for (const [unit, factor] of [
    ['G', 1e9],
    ['M', 1e6],
    ['k', 1e3],
  ] as const) {
    if (value >= factor) return `${(value / factor).toPrecision(3)}${unit}`;
  }
  return `${value}`;
}

const microseconds = (value_ns: number): string => {
  const us = value_ns / 1000;
  return us >= 100 ? us.toFixed(0) : us.toPrecision(3);
};

/** `1.5M+20`: bytes by ring, and by the kernel when there are any. */
function bytes(flow: FlowReport): string {
  const kernel = flow.kernel_bytes === null ? '?' : short(flow.kernel_bytes);
  return `${short(flow.ring_bytes)}+${kernel}`;
}

function epochs(flow: FlowReport): string {
  return flow.promotions === 0 ? '-' : `${short(flow.promotions)}/${short(flow.demotions)}`;
}

function road(one: ConnectionReport): string {
  if (!one.accelerated) return 'kernel';
  const left = [one.sent, one.received].some((flow) => flow.now === 'kernel' && flow.promotions > 0);
  const name = one.transport === 'shm' ? 'ring' : one.transport;
  return left && one.state === 'open' ? `${name}, left` : name;
}

function latency(one: ConnectionReport): string {
  const { latency } = one.received;
  return latency ? `${microseconds(latency.p50_ns)}/${microseconds(latency.p99_ns)}` : '-';
}

/** A table: one row a connection. Bytes are `ring+kernel`, epochs `entered/left` the ring, both for sent and received. */
export function connectionTable(connections: readonly ConnectionReport[]) {
  const both = (of: (flow: FlowReport) => string) => (one: ConnectionReport) =>
    `${of(one.sent)} ${of(one.received)}`;
  const columns: { head: string; cell: (one: ConnectionReport) => string; right?: true }[] = [
    { head: 'PID', cell: (one) => `${one.pid}`, right: true },
    { head: 'PROGRAM', cell: (one) => one.program },
    { head: 'PROTO', cell: (one) => one.protocol },
    { head: 'LOCAL', cell: (one) => one.local },
    { head: 'REMOTE', cell: (one) => one.remote },
    { head: 'ROAD', cell: road },
    { head: 'SENT ring+kernel', cell: (one) => bytes(one.sent), right: true },
    { head: 'RECEIVED ring+kernel', cell: (one) => bytes(one.received), right: true },
    { head: 'EPOCHS', cell: both(epochs), right: true },
    { head: 'BELLS', cell: both((flow) => short(flow.doorbells)), right: true },
    { head: 'SLEEPS', cell: (one) => short(one.received.sleeps), right: true },
    { head: 'p50/p99 us', cell: latency, right: true },
    { head: 'WHY', cell: (one) => one.reasons.map((reason) => reason.code).join(', ') },
  ];
  return {
    head: columns.map((column) => column.head),
    align: columns.map((column) => (column.right ? ('right' as const) : ('left' as const))),
    rows: connections.map((one) => columns.map((column) => column.cell(one))),
  };
}

/** What each code in the column WHY means, once. */
export function reasonLines(connections: readonly ConnectionReport[]): string[] {
  const texts = new Map(
    connections.flatMap((one) => one.reasons.map(({ code, text }) => [code, text] as const)),
  );
  return [...texts].sort().map(([code, text]) => `  ${code}: ${text}`);
}

/** Lines after the table of a run. */
export function totalLines(report: RunReport): string[] {
  const { totals, unlisted, unreadable, dropped_messages, without_library } = report;
  const lines = [
    `${totals.accelerated} of ${totals.connections} connections accelerated; ${short(totals.ring_bytes)} bytes by ring, ${short(totals.kernel_bytes)} by the kernel`,
  ];
  if (totals.latency) {
    const { p50_ns, p99_ns, max_ns, count } = totals.latency;
    lines.push(
      `through rings, from sending to reading: p50 ${microseconds(p50_ns)} us, p99 ${microseconds(p99_ns)} us, max ${microseconds(max_ns)} us (${short(count)} samples)`,
    );
  }
  if (unlisted > 0) lines.push(`${unlisted} more connections are only in these sums`);
  if (unreadable > 0)
    lines.push(`${unreadable} connections are left out: what was written down of them makes no sense`);
  if (dropped_messages > 0) {
    lines.push(
      `${dropped_messages} messages from other hosts were dropped: they made no sense, or were not from whom they said`,
    );
  }
  for (const { path } of without_library) {
    lines.push(
      `${path} does not take the library (static, or with raised privileges): its connections are not listed`,
    );
  }
  return lines;
}
