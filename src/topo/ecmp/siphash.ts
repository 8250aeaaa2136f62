/**
 * SipHash-2-4 (Aumasson and Bernstein, 2012) on pairs of 32-bit numbers: BigInt would be fifty times slower, and a balance
 * of a large network needs millions of hashes.
 */

/** State: v0..v3, each as low and high word. */
type State = Int32Array;

function add(v: State, a: number, b: number): void {
  const low = ((v[a] ?? 0) >>> 0) + ((v[b] ?? 0) >>> 0);
  v[a] = low | 0;
  v[a + 1] = ((v[a + 1] ?? 0) + (v[b + 1] ?? 0) + (low > 0xffffffff ? 1 : 0)) | 0;
}

/** v[a] = rotl(v[a], bits) ^ v[b] */
function rotateXor(v: State, a: number, bits: number, b: number): void {
  const low = v[a] ?? 0;
  const high = v[a + 1] ?? 0;
  v[a] = ((low << bits) | (high >>> (32 - bits))) ^ (v[b] ?? 0);
  v[a + 1] = ((high << bits) | (low >>> (32 - bits))) ^ (v[b + 1] ?? 0);
}

function swap(v: State, a: number): void {
  const low = v[a] ?? 0;
  v[a] = v[a + 1] ?? 0;
  v[a + 1] = low;
}

function round(v: State): void {
  add(v, 0, 2);
  rotateXor(v, 2, 13, 0);
  swap(v, 0);
  add(v, 4, 6);
  rotateXor(v, 6, 16, 4);
  add(v, 0, 6);
  rotateXor(v, 6, 21, 0);
  add(v, 4, 2);
  rotateXor(v, 2, 17, 4);
  swap(v, 4);
}

function mix(v: State, low: number, high: number): void {
  v[6] = (v[6] ?? 0) ^ low;
  v[7] = (v[7] ?? 0) ^ high;
  round(v);
  round(v);
  v[0] = (v[0] ?? 0) ^ low;
  v[1] = (v[1] ?? 0) ^ high;
}

/**
 * The 64-bit hash of 32-bit words in memory order, as [low, high]. The number of words must be even (whole 64-bit words).
 * `key` is k0 low, k0 high, k1 low, k1 high.
 */
export function siphash(
  words: readonly number[],
  key: readonly [number, number, number, number],
): [number, number] {
  const [k0, k0h, k1, k1h] = key;
  const v = Int32Array.of(
    k0 ^ 0x70736575,
    k0h ^ 0x736f6d65,
    k1 ^ 0x6e646f6d,
    k1h ^ 0x646f7261,
    k0 ^ 0x6e657261,
    k0h ^ 0x6c796765,
    k1 ^ 0x79746573,
    k1h ^ 0x74656462,
  );
  for (let i = 0; i < words.length; i += 2) mix(v, words[i] ?? 0, words[i + 1] ?? 0);
  mix(v, 0, (words.length * 4) << 24);
  v[4] = (v[4] ?? 0) ^ 0xff;
  for (let i = 0; i < 4; i++) round(v);
  const word = (at: number): number =>
    ((v[at] ?? 0) ^ (v[at + 2] ?? 0) ^ (v[at + 4] ?? 0) ^ (v[at + 6] ?? 0)) >>> 0;
  return [word(0), word(1)];
}
