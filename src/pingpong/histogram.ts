/**
 * Latency histograms in the HdrHistogram layout of c/common/histogram.h: 1 ns units, three significant digits, values up
 * to 2^36 - 1 ns. Reading, merging, percentiles, and the standard V2 encoding (base64 of a zlib stream, "HISTFAAA...")
 * that every HdrHistogram library reads.
 */

import { deflateSync, inflateSync } from 'node:zlib';

export const SUB_BUCKET_BITS = 11;
const HALF = 1 << (SUB_BUCKET_BITS - 1);
const BUCKETS = 26;
/** Length of the counts array. */
export const COUNTS_LENGTH = (BUCKETS + 1) * HALF;
/** Largest value with a bucket of its own, ns. */
export const HIGHEST_NS = 2 ** 36 - 1;
const SIGNIFICANT_DIGITS = 3;

/** Cookies of the HdrHistogram V2 format; the low byte's 0x10 says that counts are ZigZag LEB128. */
const COOKIE = 0x1c849303 | 0x10;
const COMPRESSED_COOKIE = 0x1c849304 | 0x10;
const HEADER_BYTES = 40;

/** Index of the bucket that holds a value; larger ones go to the last bucket. */
export function bucketIndex(value_ns: number): number {
  const value = Math.min(Math.max(0, Math.floor(value_ns)), HIGHEST_NS);
  if (value < 2 * HALF) return value;
  const bucket = Math.floor(Math.log2(value)) - (SUB_BUCKET_BITS - 1);
  return bucket * HALF + Math.floor(value / 2 ** bucket);
}

/** Smallest value of a bucket, ns. */
export function bucketLower(index: number): number {
  const bucket = Math.floor(index / HALF);
  const sub = index % HALF;
  return bucket === 0 ? sub : (sub + HALF) * 2 ** (bucket - 1);
}

/** Largest value of a bucket, ns. */
export function bucketUpper(index: number): number {
  const bucket = Math.floor(index / HALF);
  return bucketLower(index) + (bucket === 0 ? 1 : 2 ** (bucket - 1)) - 1;
}

export class Histogram {
  readonly counts: Float64Array;
  total = 0;
  /** Infinity while empty. */
  min_ns = Number.POSITIVE_INFINITY;
  max_ns = 0;
  sum_ns = 0;
  /** Samples above HIGHEST_NS. */
  clamped = 0;

  constructor() {
    this.counts = new Float64Array(COUNTS_LENGTH);
  }

  record(value_ns: number, count = 1): void {
    const index = bucketIndex(value_ns);
    this.counts[index] = (this.counts[index] ?? 0) + count;
    this.total += count;
    this.sum_ns += value_ns * count;
    this.min_ns = Math.min(this.min_ns, value_ns);
    this.max_ns = Math.max(this.max_ns, value_ns);
    if (value_ns > HIGHEST_NS) this.clamped += count;
  }

  /** Adds all samples of another one. */
  merge(other: Histogram): void {
    for (let i = 0; i < COUNTS_LENGTH; i++) this.counts[i] = (this.counts[i] ?? 0) + (other.counts[i] ?? 0);
    this.total += other.total;
    this.sum_ns += other.sum_ns;
    this.min_ns = Math.min(this.min_ns, other.min_ns);
    this.max_ns = Math.max(this.max_ns, other.max_ns);
    this.clamped += other.clamped;
  }

  get mean_ns(): number {
    return this.total === 0 ? 0 : this.sum_ns / this.total;
  }

  /** Value at a percentile of 0..100, within 0.1 %: the upper edge of its bucket, never above the largest sample. */
  percentile(percentile: number): number {
    if (this.total === 0) return 0;
    // One part in 1e12 less keeps rounding from pushing an exact product over the next whole rank.
    const rank = Math.max(1, Math.ceil((Math.min(100, percentile) * this.total * (1 - 1e-12)) / 100));
    let seen = 0;
    for (let i = 0; i < COUNTS_LENGTH; i++) {
      seen += this.counts[i] ?? 0;
      if (seen >= rank) return i === COUNTS_LENGTH - 1 ? this.max_ns : Math.min(bucketUpper(i), this.max_ns);
    }
    return this.max_ns;
  }

  /** Samples in (from, to], by whole buckets of which the upper edge lies there. */
  countBetween(from_ns: number, to_ns: number): number {
    let sum = 0;
    for (let i = bucketIndex(from_ns); i < COUNTS_LENGTH; i++) {
      const upper = bucketUpper(i);
      if (upper > to_ns) break;
      if (upper > from_ns) sum += this.counts[i] ?? 0;
    }
    return sum;
  }

  /** The HdrHistogram V2 encoding, compressed, base64. */
  encode(): string {
    const payload = encodeCounts(this.counts);
    const plain = Buffer.alloc(HEADER_BYTES + payload.length);
    plain.writeInt32BE(COOKIE, 0);
    plain.writeInt32BE(payload.length, 4);
    plain.writeInt32BE(0, 8); // normalizing index offset
    plain.writeInt32BE(SIGNIFICANT_DIGITS, 12);
    plain.writeBigInt64BE(1n, 16); // lowest discernible value
    plain.writeBigInt64BE(BigInt(HIGHEST_NS), 24);
    plain.writeDoubleBE(1, 32); // integer to double conversion ratio
    payload.copy(plain, HEADER_BYTES);
    const compressed = deflateSync(plain);
    const head = Buffer.alloc(8);
    head.writeInt32BE(COMPRESSED_COOKIE, 0);
    head.writeInt32BE(compressed.length, 4);
    return Buffer.concat([head, compressed]).toString('base64');
  }

  /**
   * Reads what encode() wrote. The format keeps no exact minimum, maximum and sum: pass them when they are known, otherwise
   * they are taken from the buckets. Throws a RangeError on anything else, such as a histogram of another layout.
   */
  static decode(text: string, exact: { min_ns?: number; max_ns?: number; sum_ns?: number } = {}): Histogram {
    const bytes = Buffer.from(text, 'base64');
    if (bytes.length < 8 || bytes.readInt32BE(0) !== COMPRESSED_COOKIE)
      throw new RangeError('not an HdrHistogram V2 document');
    if (bytes.readInt32BE(4) !== bytes.length - 8)
      throw new RangeError('the HdrHistogram document is cut short');
    // The counts of this layout, one byte each at least and nine at most; more would be a bomb.
    const plain = inflateSync(bytes.subarray(8), { maxOutputLength: HEADER_BYTES + 9 * COUNTS_LENGTH });
    if (plain.length < HEADER_BYTES || plain.readInt32BE(0) !== COOKIE)
      throw new RangeError('not an HdrHistogram V2 document');
    // The highest value only decides how long the array is; the buckets follow from the other two.
    const sameLayout =
      plain.readInt32BE(8) === 0 &&
      plain.readInt32BE(12) === SIGNIFICANT_DIGITS &&
      plain.readBigInt64BE(16) === 1n;
    if (!sameLayout) throw new RangeError('a histogram of another layout (lowest value or digits differ)');
    const histogram = new Histogram();
    decodeCounts(plain.subarray(HEADER_BYTES, HEADER_BYTES + plain.readInt32BE(4)), histogram.counts);
    histogram.#summarize(exact);
    return histogram;
  }

  #summarize(exact: { min_ns?: number; max_ns?: number; sum_ns?: number }): void {
    let sum = 0;
    for (let i = 0; i < COUNTS_LENGTH; i++) {
      const count = this.counts[i] ?? 0;
      if (count === 0) continue;
      if (this.total === 0) this.min_ns = bucketLower(i);
      this.total += count;
      this.max_ns = bucketUpper(i);
      sum += (count * (bucketLower(i) + bucketUpper(i))) / 2;
    }
    this.sum_ns = exact.sum_ns ?? sum;
    this.min_ns = exact.min_ns ?? this.min_ns;
    this.max_ns = exact.max_ns ?? this.max_ns;
  }
}

/** ZigZag LEB128 of each count; a run of n zeros is the single number -n; zeros at the end are left out. */
function encodeCounts(counts: Float64Array): Buffer {
  const bytes: number[] = [];
  let end = counts.length;
  while (end > 0 && counts[end - 1] === 0) end--;
  for (let i = 0; i < end; ) {
    if (counts[i] !== 0) {
      putZigZag(bytes, counts[i++] ?? 0);
      continue;
    }
    let zeros = 0;
    while (i < end && counts[i] === 0) {
      zeros++;
      i++;
    }
    putZigZag(bytes, -zeros);
  }
  return Buffer.from(bytes);
}

/** LEB128 in the HdrHistogram flavour: nine bytes at most, the ninth carries eight bits. */
function putZigZag(bytes: number[], value: number): void {
  let rest = BigInt(value) < 0n ? BigInt(-value) * 2n - 1n : BigInt(value) * 2n;
  for (let i = 0; i < 8; i++) {
    if (rest < 0x80n) {
      bytes.push(Number(rest));
      return;
    }
    bytes.push(Number(rest & 0x7fn) | 0x80);
    rest >>= 7n;
  }
  bytes.push(Number(rest & 0xffn));
}

function decodeCounts(bytes: Buffer, counts: Float64Array): void {
  let index = 0;
  for (let at = 0; at < bytes.length; ) {
    let raw = 0n;
    for (let i = 0; ; i++) {
      const byte = bytes[at++];
      if (byte === undefined) throw new RangeError('the HdrHistogram counts are cut short');
      if (i === 8) {
        raw |= BigInt(byte) << 56n;
        break;
      }
      raw |= BigInt(byte & 0x7f) << BigInt(7 * i);
      if ((byte & 0x80) === 0) break;
    }
    const value = raw & 1n ? -Number((raw + 1n) / 2n) : Number(raw / 2n);
    if (value < 0) index += -value;
    else if (index < counts.length) counts[index++] = value;
    if (index > counts.length)
      throw new RangeError('the HdrHistogram document has more counts than its layout');
  }
}
