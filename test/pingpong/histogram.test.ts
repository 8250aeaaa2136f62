/** The HDR histogram: against sorting, against the reference library, and on damaged documents. */

import { describe, expect, test } from 'bun:test';
import { deflateSync, inflateSync } from 'node:zlib';
import { decodeFromCompressedBase64 } from 'hdr-histogram-js';
import {
  bucketIndex,
  bucketLower,
  bucketUpper,
  COUNTS_LENGTH,
  HIGHEST_NS,
  Histogram,
} from '../../src/pingpong/histogram.ts';

/** A fixed sequence of values over many magnitudes, so that a failure repeats. */
function samples(count: number, seed = 1): number[] {
  let state = seed;
  const random = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
  return Array.from({ length: count }, () => Math.floor(10 ** (2 + 6 * random())));
}

function filled(values: readonly number[]): Histogram {
  const histogram = new Histogram();
  for (const value of values) histogram.record(value);
  return histogram;
}

describe('layout', () => {
  test('buckets tile the range', () => {
    expect(bucketLower(0)).toBe(0);
    for (let i = 0; i + 1 < COUNTS_LENGTH; i++) {
      if (bucketUpper(i) + 1 !== bucketLower(i + 1)) throw new Error(`gap after bucket ${i}`);
      if (bucketIndex(bucketLower(i)) !== i || bucketIndex(bucketUpper(i)) !== i)
        throw new Error(`bucket ${i}`);
    }
    expect(bucketUpper(COUNTS_LENGTH - 1)).toBe(HIGHEST_NS);
    expect(bucketIndex(HIGHEST_NS * 4)).toBe(COUNTS_LENGTH - 1);
  });
});

describe('percentiles', () => {
  test('agree with sorting within 0.1 %', () => {
    const values = samples(20_000);
    const histogram = filled(values);
    values.sort((a, b) => a - b);
    for (const [percentile, rank] of [
      [50, 10_000],
      [90, 18_000],
      [99, 19_800],
      [99.9, 19_980],
      [99.99, 19_998],
    ] as const) {
      const exact = values[rank - 1] ?? 0;
      const found = histogram.percentile(percentile);
      expect(found).toBeGreaterThanOrEqual(exact);
      expect(found - exact).toBeLessThanOrEqual(exact / 1000);
    }
    expect(histogram.percentile(100)).toBe(values.at(-1) ?? 0);
  });

  test('an empty one has none', () => {
    const histogram = new Histogram();
    expect([histogram.percentile(50), histogram.mean_ns, histogram.total]).toEqual([0, 0, 0]);
  });

  test('values beyond the range are clamped and counted', () => {
    const histogram = filled([HIGHEST_NS * 2, 5]);
    expect(histogram.clamped).toBe(1);
    expect(histogram.percentile(100)).toBe(HIGHEST_NS * 2);
  });
});

describe('merging', () => {
  test('equals recording everything in one', () => {
    const values = samples(5000);
    const merged = filled(values.slice(0, 1234));
    merged.merge(filled(values.slice(1234)));
    expect(merged).toEqual(filled(values));
  });
});

describe('encoding', () => {
  test('survives a round trip', () => {
    const histogram = filled(samples(3000));
    const { min_ns, max_ns, sum_ns } = histogram;
    expect(Histogram.decode(histogram.encode(), { min_ns, max_ns, sum_ns })).toEqual(histogram);
    expect(Histogram.decode(new Histogram().encode())).toEqual(new Histogram());
  });

  test('the reference library reads it, and agrees', () => {
    const histogram = filled(samples(10_000));
    const reference = decodeFromCompressedBase64(histogram.encode());
    expect(reference.totalCount).toBe(10_000);
    for (const percentile of [50, 90, 99, 99.9]) {
      expect(reference.getValueAtPercentile(percentile)).toBe(histogram.percentile(percentile));
    }
  });

  test('large counts survive', () => {
    const histogram = new Histogram();
    histogram.record(100, 2 ** 52);
    histogram.record(7_000_000, 127);
    histogram.record(7_100_000, 64);
    expect(Histogram.decode(histogram.encode()).counts).toEqual(histogram.counts);
  });

  test.each(['', 'AAAA', 'HISTFAAAAAB4', Buffer.alloc(100).toString('base64')])('refuses %p', (text) => {
    expect(() => Histogram.decode(text)).toThrow(RangeError);
  });

  test('refuses another layout and counts beyond it', () => {
    const bytes = Buffer.from(filled([5]).encode(), 'base64');
    const repack = (change: (plain: Buffer) => Buffer): string => {
      const body = deflateSync(change(inflateSync(bytes.subarray(8))));
      const head = Buffer.from(bytes.subarray(0, 8));
      head.writeInt32BE(body.length, 4);
      return Buffer.concat([head, body]).toString('base64');
    };
    const otherDigits = repack((plain) => {
      plain.writeInt32BE(2, 12);
      return plain;
    });
    expect(() => Histogram.decode(otherDigits)).toThrow(/another layout/);
    // One run of a million zeros, then a count.
    const tooLong = repack((plain) => {
      const counts = Buffer.from([0xff, 0x88, 0x7a, 0x02]);
      plain.writeInt32BE(counts.length, 4);
      return Buffer.concat([plain.subarray(0, 40), counts]);
    });
    expect(() => Histogram.decode(tooLong)).toThrow(/more counts/);
  });
});
