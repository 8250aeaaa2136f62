import { describe, expect, test } from 'bun:test';
import * as units from '../../src/cli/units.ts';

describe('parse', () => {
  const good: [(text: string) => unknown, string, unknown][] = [
    [units.parseSize, '64', 64],
    [units.parseSize, '0', 0],
    [units.parseSize, '4KiB', 4096],
    [units.parseSize, '1.5KiB', 1536],
    [units.parseSize, '2kB', 2000],
    [units.parseSize, '1TiB', 2 ** 40],
    [units.parseDuration, '1.5ms', 1_500_000],
    [units.parseDuration, '10us', 10_000],
    [units.parseDuration, '10µs', 10_000],
    [units.parseDuration, '0.5ns', 0.5],
    [units.parseDuration, '2min', 120e9],
    [units.parseRate, '100Gbps', 100e9],
    [units.parseRate, '12.5GB/s', 100e9],
    [units.parseRate, '1MiB/s', 8 * 2 ** 20],
    [units.parseCount, '2.5M', 2_500_000],
    [units.parseCount, '12', 12],
    [units.parseInteger, '007', 7],
    [units.parseSizeRange, '1..1MiB', { from: 1, to: 2 ** 20 }],
    [units.parseSizeRange, '64', { from: 64, to: 64 }],
    [units.parseCpuList, '0,2,4-6', [0, 2, 4, 5, 6]],
  ];
  test.each(good)('%p reads %p', (parse, text, value) => {
    expect(parse(text)).toEqual(value);
  });

  const bad: [(text: string) => unknown, string, RegExp][] = [
    [units.parseSize, '', /not a size.*4KiB/],
    [units.parseSize, '4k', /did you mean 4KiB\?/],
    [units.parseSize, '4kib', /did you mean 4KiB\?/],
    [units.parseSize, '4KB', /did you mean 4kB\?/],
    [units.parseSize, '4Kbps', /not a unit of size/],
    [units.parseSize, '1.5', /whole number of bytes/],
    [units.parseSize, '0.3KiB', /whole number of bytes/],
    [units.parseSize, '-1', /not a size/],
    [units.parseSize, '+1', /not a size/],
    [units.parseSize, '1e3', /not a size/],
    [units.parseSize, '0x10', /not a size/],
    [units.parseSize, ' 1', /not a size/],
    [units.parseSize, '1 KiB', /not a size/],
    [units.parseSize, '1,5KiB', /not a size/],
    [units.parseSize, '1.KiB', /not a size/],
    [units.parseSize, '.5KiB', /not a size/],
    [units.parseSize, '99999999TiB', /too large/],
    [units.parseSize, `${'9'.repeat(400)}`, /too large/],
    [units.parseSize, 'toString', /not a size/],
    [units.parseSize, '1toString', /not a unit/],
    [units.parseSize, '1constructor', /not a unit/],
    [units.parseDuration, '5', /no unit/],
    [units.parseDuration, '5sec', /not a unit of duration/],
    [units.parseDuration, '5MS', /did you mean 5ms\?/],
    [units.parseRate, '100', /no unit/],
    [units.parseRate, '100gbps', /did you mean 100Gbps\?/],
    [units.parseRate, '100G', /did you mean 100G/],
    [units.parseInteger, '1.0', /not a whole number/],
    [units.parseInteger, '12abc', /not a whole number/],
    [units.parseInteger, '-1', /outside/],
    [units.parseInteger, '9007199254740993', /too large/],
    [units.parseSizeRange, '1..', /not a range/],
    [units.parseSizeRange, '..4', /not a range/],
    [units.parseSizeRange, '1..2..3', /not a range/],
    [units.parseSizeRange, '4KiB..1', /backwards/],
    [units.parseCpuList, '', /not a list of CPUs/],
    [units.parseCpuList, '1,', /not a list of CPUs/],
    [units.parseCpuList, '3-1', /backwards/],
    [units.parseCpuList, '1,0-2', /named twice/],
    [units.parseCpuList, '0-99999', /not a list/],
  ];
  test.each(bad)('%p refuses %p', (parse, text, reason) => {
    expect(() => parse(text)).toThrow(reason);
    expect(() => parse(text)).toThrow(units.UnitError);
  });
});

describe('format', () => {
  const cases: [(value: number) => string, number, string][] = [
    [units.formatSize, 0, '0B'],
    [units.formatSize, 1500, '1500B'],
    [units.formatSize, 4096, '4KiB'],
    [units.formatSize, 2 ** 40, '1TiB'],
    [units.formatSize, 1_500_000, '1.43MiB'],
    [units.formatDuration, 0, '0ns'],
    [units.formatDuration, 512, '512ns'],
    [units.formatDuration, 1_500_000, '1.5ms'],
    [units.formatDuration, 123_456, '123us'],
    [units.formatDuration, Number.NaN, '-'],
    [units.formatRate, 98.72e9, '98.7Gbps'],
    [units.formatCount, 2_534_000, '2.53M'],
    [units.formatCount, 7, '7'],
  ];
  test.each(cases)('%p writes %p', (format, value, text) => {
    expect(format(value)).toBe(text);
  });

  test('an exact size reads back as itself', () => {
    for (const bytes of [1, 63, 1024, 1025, 2 ** 20, 3 * 2 ** 30, 99_999]) {
      expect(units.parseSize(units.formatSize(bytes))).toBe(bytes);
    }
  });
});

test('a sweep holds both ends and the powers of two between them', () => {
  expect(units.sweepSizes({ from: 1, to: 8 })).toEqual([1, 2, 4, 8]);
  expect(units.sweepSizes({ from: 3, to: 20 })).toEqual([3, 4, 8, 16, 20]);
  expect(units.sweepSizes({ from: 64, to: 64 })).toEqual([64]);
  expect(units.sweepSizes({ from: 0, to: 2 })).toEqual([0, 1, 2]);
});
