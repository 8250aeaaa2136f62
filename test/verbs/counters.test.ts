import { describe, expect, test } from 'bun:test';
import { VerbsError } from '../../src/verbs/doctor.ts';
import { counterChanges, counterEvidence, readCounters } from '../../src/verbs/index.ts';

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

  test('as evidence leave ordinary traffic out', () => {
    const after = new Map([
      ['port_xmit_packets', 9n],
      ['shm_messages_sent', 9n],
      ['local_ack_timeout_err', 7n],
      ['rx_no_qp', 1n],
    ]);
    expect(counterEvidence(new Map(), after)).toEqual([
      'counters meanwhile: local_ack_timeout_err +7, rx_no_qp +1',
    ]);
    expect(counterEvidence(after, after)).toEqual([]);
  });

  test('of a kernel device that is not there are none, not an error', () => {
    expect(readCounters({ name: 'no_such_device', provider: 'system' }).size).toBe(0);
  });

  test('of a port that cannot exist are refused', () => {
    expect(() => readCounters({ name: 'x', provider: 'system' }, 0)).toThrow(VerbsError);
  });
});
