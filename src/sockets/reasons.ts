/** Why a connection is accelerated, or only partly, or not at all: from what was written down to words. Pure. */

import type { BookRow, PlainReason } from './book.ts';

/** Codes of reasons, and what they mean. They are part of the documents: do not rename them. */
export const REASONS = {
  'other-host':
    'the other end is on another host, and did not use the connection often enough to be looked for',
  'no-answer':
    'the other end, on another host, did not answer: not under socket-run, UDP is blocked on the way, or addresses are translated',
  'no-device': 'no RDMA device has the address of the connection, or it cannot be used',
  slower: 'measured: the RDMA connection to the other host is slower than TCP',
  failed: 'the RDMA connection to the other host failed',
  self: 'the socket is connected to itself',
  'other-user': 'the other end belongs to another user',
  'no-library':
    'the other end does not have the library: not started by socket-run, static, or making its own system calls',
  unverified: 'the kernel did not confirm who is at the other end',
  short: 'it ended before it was used a second time; shorter ones are not worth it',
  early: 'the two ends were not ready for it at the same time',
  small:
    'small messages to a receiver that may wait in ways that are not seen, which costs as much as the kernel',
  'no-room': 'all slots of the shared memory are in use',
  'no-memory':
    'the shared memory could not be opened (is the runtime directory private, mode 700, and writable?)',
  option: 'a socket option, or a message with control data, that shared memory cannot keep',
  urgent: 'urgent data',
  splice: 'splice() or sendfile() moves its bytes inside the kernel',
  stdio: 'the C library reads or writes it by itself (fdopen, dprintf)',
  'io-uring': 'the process uses io_uring',
  seccomp: 'the process restricts its own system calls (seccomp)',
  passed: 'the descriptor was passed to another process',
  'static-child': 'a program without the library inherited the descriptor',
  unseen: 'it is waited for in ways that are not seen, or by more than one process',
  'no-inbox':
    'no other socket of this host that has the library reads repeatedly, or none of its datagrams came from or went to one',
  closing: 'one direction was shut down',
  corrupt: 'the shared state made no sense',
  full: 'the receiver was slow: the ring was full',
  call: 'a call that only the kernel can make',
} as const;

export type Reason = keyof typeof REASONS;

const OF_PLAIN: Readonly<Record<PlainReason, Reason | undefined>> = {
  option: 'option',
  foreign: 'static-child',
  shut: 'closing',
  urgent: 'urgent',
  peer: 'unverified',
  corrupt: 'corrupt',
  passed: 'passed',
  handed: 'passed',
  stream: 'stdio',
  splice: 'splice',
  uring: 'io-uring',
  seccomp: 'seccomp',
};

const ENOSPC = 28;

/** Bytes went through a ring in at least one direction. */
export function isAccelerated(row: BookRow): boolean {
  return row.sent.ring_bytes + row.received.ring_bytes > 0;
}

/** Why it was not accelerated, or what made it leave the ring; the strongest first. `uid`: whose programs these are. */
export function reasonsOf(row: BookRow, uid: number): Reason[] {
  const forbidden = forbiddenBy(row);
  if (row.protocol === 'udp') return datagramReasons(row, forbidden);
  if (isAccelerated(row)) return [...forbidden, ...roadReasons(row), ...passingReasons(row)];
  if (!row.localHost && row.road !== 'open' && row.error === undefined) {
    const [reason] = roadReasons(row);
    return [row.local === row.remote ? 'self' : (reason ?? 'other-host')];
  }
  if (forbidden.length > 0 && forbidden[0] !== 'closing') return forbidden;
  if (row.error !== undefined) return [row.error === ENOSPC ? 'no-room' : 'no-memory'];
  const foreign = row.peerUid !== undefined && row.peerUid !== uid;
  if (!row.peerHasLibrary && foreign) return ['other-user'];
  if (!row.attached) return ['short'];
  if (!row.peerHasLibrary) return ['no-library'];
  if (row.sent.eager || row.received.eager) return ['small'];
  return ['early'];
}

/** Of a UDP socket. */
function datagramReasons(row: BookRow, forbidden: Reason[]): Reason[] {
  const lost = row.sent.overflows + row.received.overflows > 0 ? (['full'] as const) : [];
  if (isAccelerated(row)) return [...forbidden, ...lost];
  if (forbidden.length > 0) return forbidden;
  return [row.received.eager ? 'unseen' : 'no-inbox'];
}

/** What keeps it in the kernel from some time on. That a connection which has ended was closed explains nothing. */
function forbiddenBy(row: BookRow): Reason[] {
  const plain = [...row.refused, ...row.sent.plain, ...row.received.plain];
  // Who restricts itself is to the other end like a program without the library.
  const restricted = plain.includes('seccomp');
  const found = plain
    .filter((reason) => (reason !== 'shut' || row.state === 'open') && !(restricted && reason === 'foreign'))
    .map((reason) => OF_PLAIN[reason])
    .filter((reason) => reason !== undefined);
  return [...new Set(found)].sort((a, b) => Number(a === 'closing') - Number(b === 'closing'));
}

const OF_ROAD: Readonly<Partial<Record<BookRow['road'], Reason>>> = {
  searched: 'no-answer',
  impossible: 'no-device',
  slower: 'slower',
  failed: 'failed',
};

function roadReasons(row: BookRow): Reason[] {
  const reason = OF_ROAD[row.road];
  return reason === undefined ? [] : [reason];
}

function passingReasons(row: BookRow): Reason[] {
  const flows = [row.sent, row.received];
  return [
    ...(flows.some((flow) => flow.overflows > 0) ? (['full'] as const) : []),
    ...(flows.some((flow) => flow.natives > 0) ? (['call'] as const) : []),
  ];
}
