/** Messages of strangers: what a server takes, and what it refuses. */

import { expect, test } from 'bun:test';
import * as v from 'valibot';
import { FromClient } from '../../src/pingpong/protocol.ts';

const ROW = {
  type: 'row',
  transport: 'rc',
  operation: 'send',
  wait: 'polling',
  size_bytes: 64,
  verify: false,
  seed: '18446744073709551615',
  warmup: 10,
  interval_ns: 0,
  timeout_ns: 1e9,
};

test('a row is taken', () => {
  expect(v.safeParse(FromClient, ROW).success).toBe(true);
  expect(v.safeParse(FromClient, { ...ROW, mtu_bytes: 1024 }).success).toBe(true);
});

test.each([
  [{ type: 'row' }],
  [{ ...ROW, transport: 'xrc' }],
  [{ ...ROW, size_bytes: 2 ** 31 }],
  [{ ...ROW, size_bytes: -1 }],
  [{ ...ROW, size_bytes: 1.5 }],
  [{ ...ROW, seed: '18446744073709551616' }],
  [{ ...ROW, seed: '0x1' }],
  [{ ...ROW, timeout_ns: 0 }],
  [{ ...ROW, interval_ns: Number.MAX_VALUE }],
  [{ ...ROW, mtu_bytes: 1000 }],
  [{ type: 'row-result' }],
  [{}],
])('%p is refused', (message) => {
  expect(v.safeParse(FromClient, message).success).toBe(false);
});
