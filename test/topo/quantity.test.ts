import { expect, test } from 'bun:test';
import fc from 'fast-check';
import {
  exactPercent,
  exactRate,
  exactTime,
  rateOf,
  ratioOf,
  shortRate,
  timeOf,
} from '../../src/topo/quantity.ts';

test('exact texts give the same number back', () => {
  fc.assert(
    fc.property(
      fc.double({ min: 1e-3, max: 1e15, noNaN: true }),
      fc.integer({ min: 0, max: 1_000_000 }),
      (value, ppm) => {
        expect(rateOf(exactRate(value))).toBe(value);
        expect(timeOf(exactTime(value))).toBe(value);
        expect(ratioOf(exactPercent(ppm / 1e6))).toBe(ppm / 1e6);
      },
    ),
  );
});

test('spellings of other programs', () => {
  expect(
    ['100Gbps', '100Gbit', '100 Gbit/s', '100G', '100Gb/s', '12.5GB/s', '1e2Gbps'].map((text) =>
      rateOf(text),
    ),
  ).toEqual(new Array(7).fill(1e11));
  expect([rateOf('5'), rateOf('5', 1e6), rateOf('-5Mbps'), rateOf('5Mbpss'), rateOf('5 bananas')]).toEqual([
    undefined,
    5e6,
    undefined,
    undefined,
    undefined,
  ]);
  expect(['0.001ms', '1us', '1000ns', '1e-6s'].map((text) => timeOf(text))).toEqual(new Array(4).fill(1000));
  expect([ratioOf('0.1%'), ratioOf('0.001'), ratioOf('0.1', true), ratioOf('120%')]).toEqual([
    0.001,
    0.001,
    0.001,
    undefined,
  ]);
  expect([exactRate(8_037_000), exactTime(1500), shortRate(33_333_333_333)]).toEqual([
    '8.037Mbps',
    '1.5us',
    '33.3Gbps',
  ]);
});
