import { expect, test } from 'bun:test';
import { judge, median, sampleAll } from '../perf/harness.ts';

test('the median of odd, even and no values', () => {
  expect(median([3, 1, 2])).toBe(2);
  expect(median([4, 1, 2, 3])).toBe(2.5);
  expect(median([])).toBeNaN();
});

test('probes are interleaved, and torn down when one fails', async () => {
  const order: string[] = [];
  const probe = (name: string) => ({ name, unit: 's', sample: async () => order.push(name) });
  const plan = { title: '', rounds: 2, targets: [], probes: [probe('a'), probe('b')] };
  expect(await sampleAll(plan)).toEqual(
    new Map([
      ['a', [1, 3]],
      ['b', [2, 4]],
    ]),
  );
  expect(order).toEqual(['a', 'b', 'a', 'b']);
  const failing = { name: 'c', unit: 's', sample: () => Promise.reject(new Error('no')) };
  let down = false;
  const torn = {
    ...plan,
    probes: [failing],
    tearDown: async () => {
      down = true;
    },
  };
  expect(sampleAll(torn)).rejects.toThrow('no');
  await Bun.sleep(0);
  expect(down).toBe(true);
});

test('targets compare medians, absolute or with another probe; what was not measured meets none', () => {
  const samples = new Map([
    ['a', [1, 2, 30]],
    ['b', [4]],
    ['none', []],
  ]);
  const verdicts = judge(
    [
      { probe: 'a', comparison: '<=', limit: 2 },
      { probe: 'a', comparison: '>=', limit: 3 },
      { probe: 'a', comparison: '<=', limit: 0.5, of: 'b' },
      { probe: 'none', comparison: '<=', limit: 1 },
      { probe: 'unknown', comparison: '>=', limit: 0 },
    ],
    samples,
  );
  expect(verdicts.map(({ measured, ok }) => [measured, ok])).toEqual([
    [2, true],
    [2, false],
    [0.5, true],
    [Number.NaN, false],
    [Number.NaN, false],
  ]);
});
