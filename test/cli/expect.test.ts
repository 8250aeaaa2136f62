import { expect, test } from 'bun:test';
import { gatesOver, passes } from '../../src/cli/expect.ts';

const parse = gatesOver({
  p99: 'duration',
  'p99.9': 'duration',
  loss: 'percent',
  rate: 'count',
  goodput: 'rate',
});

test('gates are read in the base units', () => {
  expect(parse('p99<5us, loss=0%,rate>=2.5M,goodput>10Gbps,p99.9<=1ms')).toEqual([
    { text: 'p99<5us', metric: 'p99', comparison: '<', limit: 5000 },
    { text: 'loss=0%', metric: 'loss', comparison: '=', limit: 0 },
    { text: 'rate>=2.5M', metric: 'rate', comparison: '>=', limit: 2.5e6 },
    { text: 'goodput>10Gbps', metric: 'goodput', comparison: '>', limit: 10e9 },
    { text: 'p99.9<=1ms', metric: 'p99.9', comparison: '<=', limit: 1e6 },
  ]);
});

test.each([
  ['', /not METRIC<VALUE/],
  ['p99', /not METRIC<VALUE/],
  ['p99<', /not METRIC<VALUE/],
  ['p99<5', /no unit/],
  ['p98<5us', /'p98' is not measured here; did you mean p99\?/],
  ['constructor<5us', /not measured here/],
  ['loss<1', /not a percentage/],
  ['p99==5us', /has no unit|not a duration/],
])('%p is refused', (text, reason) => {
  expect(() => parse(text)).toThrow(reason);
});

test('comparisons, and a missing measurement never passes', () => {
  const [gate] = parse('p99<5us');
  if (!gate) throw new Error('no gate');
  expect(passes(gate, 4999)).toBe(true);
  expect(passes(gate, 5000)).toBe(false);
  expect(passes({ ...gate, comparison: '<=' }, 5000)).toBe(true);
  expect(passes({ ...gate, comparison: '>' }, 5000)).toBe(false);
  expect(passes({ ...gate, comparison: '>=' }, 5000)).toBe(true);
  expect(passes({ ...gate, comparison: '=' }, 5000)).toBe(true);
  for (const comparison of ['<', '<=', '>', '>=', '='] as const) {
    expect(passes({ ...gate, comparison }, Number.NaN)).toBe(false);
  }
});
