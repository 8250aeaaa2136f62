import { describe, expect, test } from 'bun:test';
import { VerbsError } from '../../src/verbs/doctor.ts';
import { counterChanges, readCounters } from '../../src/verbs/index.ts';

describe('counters', () => {
  test('changes leave out what stood still, and count new ones from zero', () => {
    const before = new Map([
      ['a', 1n],
      ['b', 5n],
    ]);
    const after = new Map([
      ['a', 4n],
      ['b', 5n],
      ['c', 2n],
    ]);
    expect(counterChanges(before, after)).toEqual(
      new Map([
        ['a', 3n],
        ['c', 2n],
      ]),
    );
  });

  test('of a kernel device that is not there are none, not an error', () => {
    expect(readCounters({ name: 'no_such_device', provider: 'system' }).size).toBe(0);
  });

  test('of a port that cannot exist are refused', () => {
    expect(() => readCounters({ name: 'x', provider: 'system' }, 0)).toThrow(VerbsError);
  });
});
