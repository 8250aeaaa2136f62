import { describe, expect, test } from 'bun:test';
import { encodeDocument } from '../../src/cli/documents.ts';
import { REPORT } from '../../src/commands/socket-run/report.ts';
import { Histogram } from '../../src/pingpong/histogram.ts';
import { attendArguments, parseEnded } from '../../src/sockets/attend.ts';
import type { BookFlow, BookRow } from '../../src/sockets/book.ts';
import { connectionTable, totalLines } from '../../src/sockets/present.ts';
import { type Reason, reasonsOf } from '../../src/sockets/reasons.ts';
import { exitOf, reportRun, strictFault, verifyFaults, verifySummary } from '../../src/sockets/report.ts';
import { quiet, rowWith } from './rows.ts';

const UID = 1000;
const ring: BookFlow = { ...quiet, ring_bytes: 10, promotions: 1 };

const cases: [string, Partial<BookRow>, Reason[]][] = [
  ['another host', { localHost: false, attached: false }, ['other-host']],
  ['another host, no answer', { localHost: false, road: 'searched' }, ['no-answer']],
  ['another host, no arena', { localHost: false, attached: false, error: 13 }, ['no-memory']],
  ['another host, no device', { localHost: false, road: 'impossible' }, ['no-device']],
  ['another host, measured slower', { localHost: false, road: 'slower' }, ['slower']],
  ['itself', { localHost: false, remote: '127.0.0.1:40000' }, ['self']],
  ['another user', { peerHasLibrary: false, peerUid: 0 }, ['other-user']],
  ['a peer without the library', { peerHasLibrary: false, peerUid: UID }, ['no-library']],
  ['an unknown peer', { peerHasLibrary: false, peerUid: undefined }, ['no-library']],
  ['used once', { attached: false, peerHasLibrary: false, peerUid: UID }, ['short']],
  ['no slot', { attached: false, error: 28 }, ['no-room']],
  ['no arena', { attached: false, error: 13 }, ['no-memory']],
  ['refused before it was attached', { attached: false, refused: ['option'] }, ['option']],
  ['io_uring', { attached: false, refused: ['uring'] }, ['io-uring']],
  ['seccomp', { attached: false, refused: ['foreign', 'seccomp'] }, ['seccomp']],
  ['forbidden in one direction', { received: { ...quiet, plain: ['urgent', 'shut'] } }, ['urgent']],
  ['small messages to epoll', { sent: { ...quiet, eager: true } }, ['small']],
  ['not ready together', {}, ['early']],
  ['accelerated to its end', { sent: { ...ring, plain: ['shut'] }, received: ring }, []],
  ['shut down but open', { state: 'open', sent: { ...ring, plain: ['shut'] } }, ['closing']],
  [
    'left the ring',
    { sent: { ...ring, plain: ['passed'], overflows: 2 }, received: ring },
    ['passed', 'full'],
  ],
  ['one call of the kernel', { sent: { ...ring, natives: 1 } }, ['call']],
  ['a strange state', { sent: { ...quiet, plain: ['corrupt'] } }, ['corrupt']],
];

test.each(cases)('the reason: %s', (_, row, reasons) => {
  expect(reasonsOf(rowWith(row), UID)).toEqual(reasons);
});

function report(rows: BookRow[], more: Partial<Parameters<typeof reportRun>[0]> = {}) {
  const rest = { connections: 0, accelerated: 0, ring_bytes: 0, kernel_bytes: 0, wrong: 0 };
  const book = { uid: UID, rows, unreadable: 0, dropped: 2, strangers: [], rest };
  return reportRun({
    program: ['prog'],
    exit: { code: 0, signal: null },
    book,
    histogram: () => undefined,
    ...more,
  });
}

describe('the report', () => {
  test('sums, sorts, and is a document', () => {
    const latency = { count: 2, min_ns: 100, p50_ns: 100, p99_ns: 300, max_ns: 300 };
    const histogram = new Histogram();
    histogram.record(100);
    histogram.record(300);
    const rows = [
      rowWith({ pid: 9, sent: { ...ring, kernel_bytes: undefined } }),
      rowWith({ pid: 3, received: { ...ring, kernel_bytes: 7, latency } }),
    ];
    const made = report(rows, { histogram: (row) => (row.pid === 3 ? histogram : undefined) });
    expect(made.connections.map((one) => one.pid)).toEqual([3, 9]);
    expect(made.totals).toMatchObject({ connections: 2, accelerated: 2, ring_bytes: 20, kernel_bytes: 7 });
    expect(made.totals.latency).toMatchObject({ count: 2, max_ns: 300 });
    expect(JSON.parse(encodeDocument(REPORT, made)).schema).toBe('rdmakit.socket-report/1');
    const [first, second] = connectionTable(made.connections).rows;
    expect(first?.join('|')).toContain('|ring|0+0|10+7|- 1/1|');
    expect(second?.join('|')).toContain('10+?');
    expect(totalLines(made)[0]).toStartWith('2 of 2 connections accelerated; 20 bytes by ring');
    expect(made.dropped_messages).toBe(2);
    expect(totalLines(made).join('\n')).toContain('2 messages from other hosts were dropped');
  });

  test('strict: content with one accelerated connection, otherwise it says why there is none', () => {
    const plain = rowWith({ peerHasLibrary: false, peerUid: UID });
    expect(strictFault(report([plain, rowWith({ sent: ring })]))).toBeUndefined();
    expect(strictFault(report([plain, plain, rowWith({})]))).toMatch(
      /^nothing was accelerated: 2 x the other end does/,
    );
    expect(strictFault(report([]))).toContain('no TCP connection');
    expect(strictFault(report([], { obstacle: { path: '/bin/static' } }))).toContain(
      '/bin/static does not take',
    );
  });

  test('verify: one line a connection and direction, with the range', () => {
    const hashed = { ...ring, ring_bytes: 40000, hashed: true, verified_bytes: 39000 };
    const bad = { ...hashed, wrong: { count: 2, from: 16384, to: 32768 } };
    const made = report([rowWith({ sent: hashed, received: bad })]);
    expect(verifyFaults(made)).toEqual([
      'data differ: 127.0.0.1:80 -> 127.0.0.1:40000, bytes 16384 to 32768 of what went through the ring (the first of 2 places)',
    ]);
    expect(verifySummary(made)).toContain('78000 of 80000 bytes');
    expect(verifyFaults(report([rowWith({ sent: hashed })]))).toEqual([]);
  });
});

test('what rdmakit-attend is told, and what it says', () => {
  const words = attendArguments({
    latency: true,
    verify: true,
    environment: { A: 'b c' },
    after: ['/bin/node', 'node', 'cli.js'],
    path: '/bin/true',
    argv: ['true', '-x'],
  });
  expect(words.slice(1)).toEqual([
    ...['run', '3', '1', 'A=b c', '3', '/bin/node', 'node', 'cli.js', '/bin/true', 'true', '-x'],
  ]);
  expect(parseEnded('3:256')).toEqual({ fd: 3, status: 256 });
  for (const text of ['', '3', '-1:0', '3:x', '3:0:1', '99999999:0'])
    expect(parseEnded(text)).toBeUndefined();
  expect(exitOf(256)).toEqual({ code: 1, signal: null });
  expect(exitOf(0x8b)).toEqual({ code: null, signal: 11 });
});
