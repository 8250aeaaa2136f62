/** The plan of rows: what exists, what is left out and why. */

import { describe, expect, test } from 'bun:test';
import {
  type PlanLimits,
  type PlanRequest,
  planRows,
  requireSomeRow,
  rowName,
} from '../../src/pingpong/rows.ts';
import { ALL_ROWS } from './all-rows.ts';

const LIMITS: PlanLimits = { mtu_bytes: 4096, max_message_bytes: 2 ** 30, atomics: true };

function names(request: Partial<PlanRequest>, limits: Partial<PlanLimits> = {}) {
  const plan = planRows({ sizes_bytes: [64], ...request }, { ...LIMITS, ...limits });
  return {
    rows: plan.rows.map(rowName),
    skipped: plan.skipped.map((row) => `${rowName(row)}: ${row.reason}`),
  };
}

describe('planRows', () => {
  test('the default plan has every combination that exists, and the kernel references', () => {
    expect(names({})).toEqual({
      rows: ALL_ROWS,
      skipped: [],
    });
  });

  test('filters keep their rows in the order of the plan', () => {
    expect(names({ transports: ['uc', 'rc'], operations: ['write', 'send'] }).rows).toEqual([
      'rc send',
      'rc write',
      'uc send',
      'uc write',
    ]);
    expect(names({ operations: ['read'] }).rows).toEqual(['rc read']);
    expect(names({ transports: ['tcp'], operations: ['send'] }).rows).toEqual([
      'tcp blocking',
      'tcp busy-polling',
    ]);
  });

  test('an atomic has one size in any sweep', () => {
    const { rows } = planRows({ operations: ['fetch-add', 'read'], sizes_bytes: [1, 64] }, LIMITS);
    expect(rows.map(({ operation, size_bytes }) => [operation, size_bytes])).toEqual([
      ['read', 1],
      ['read', 64],
      ['fetch-add', 8],
    ]);
  });

  test('what cannot be is skipped with its reason', () => {
    const { rows, skipped } = names(
      { transports: ['ud', 'udp'], sizes_bytes: [64, 70000] },
      { mtu_bytes: 1024 },
    );
    expect(rows).toEqual(['ud send', 'udp blocking', 'udp busy-polling']);
    expect(skipped).toEqual([
      'ud send: a UD message is one packet, and the path MTU is 1024 bytes',
      'udp blocking: a UDP datagram ends at 65507 bytes',
      'udp busy-polling: a UDP datagram ends at 65507 bytes',
    ]);
    expect(names({ operations: ['fetch-add'] }, { atomics: false }).skipped).toEqual([
      'rc fetch-add: a device has no atomics',
    ]);
    expect(names({ transports: ['rc'], operations: ['write'], sizes_bytes: [0] }).rows).toEqual([]);
    expect(names({ transports: ['rc'], sizes_bytes: [2048] }, { max_message_bytes: 1024 }).rows).toEqual([
      'rc fetch-add',
      'rc cmp-swap',
    ]);
  });

  test('events beside, only and none', () => {
    const send = { transports: ['rc', 'tcp'], operations: ['send'] } as const;
    expect(names({ ...send, events: 'beside' }).rows).toEqual([
      'rc send',
      'rc send events',
      'tcp blocking',
      'tcp busy-polling',
    ]);
    expect(names({ ...send, events: 'only' }).rows).toEqual(['rc send events', 'tcp blocking']);
    expect(names({ ...send, events: 'none' }).rows).toEqual(['rc send', 'tcp busy-polling']);
    expect(names({ transports: ['rc'], operations: ['write'], events: 'only' }).skipped).toHaveLength(1);
  });
});

describe('requireSomeRow', () => {
  test.each([
    [{ transports: ['ud'], operations: ['write'] }],
    [{ transports: ['uc'], operations: ['read', 'fetch-add'] }],
    [{ transports: ['tcp'], operations: ['read'] }],
  ] as const)('%p has no row', (request) => {
    expect(() => requireSomeRow({ ...request, sizes_bytes: [64] })).toThrow(/cannot do/);
  });

  test('anything that exists passes', () => {
    requireSomeRow({ transports: ['uc'], operations: ['read', 'send'], sizes_bytes: [64] });
  });
});
