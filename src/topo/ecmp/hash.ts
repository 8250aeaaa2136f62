/** How switches choose among equal paths: the hash models, by name. */

import { siphash } from './siphash.ts';

/** A flow as switches see it. Addresses are 32-bit numbers. */
export interface FiveTuple {
  source: number;
  destination: number;
  protocol: number;
  sourcePort: number;
  destinationPort: number;
}

export const MODELS = ['ideal', 'linux', 'crc'] as const;
export type ModelName = (typeof MODELS)[number];

export interface HashModel {
  name: ModelName;
  /** Seed of every switch, 32 bits. */
  seed: number;
  /** Every switch has a seed of its own, derived from `seed` and its number. */
  perSwitch: boolean;
}

/** Avalanche of a 32-bit number (the finaliser of MurmurHash3). */
function stir(value: number): number {
  let hash = value | 0;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

/** The seed of a switch. 0 is never given out: to Linux it means "choose one yourself". */
export function seedOf(
  { seed, perSwitch }: Pick<HashModel, 'seed' | 'perSwitch'>,
  switchNumber: number,
): number {
  return perSwitch ? stir(seed ^ stir(switchNumber + 1)) || 1 : seed;
}

/** Bytes of a number in network order, as a little-endian machine reads them. */
function wire32(value: number): number {
  return ((value & 0xff) << 24) | ((value & 0xff00) << 8) | ((value >>> 8) & 0xff00) | (value >>> 24);
}

function wire16(value: number): number {
  return ((value & 0xff) << 8) | (value >>> 8);
}

/**
 * Linux with net.ipv4.fib_multipath_hash_policy=1 and fib_multipath_hash_seed set (6.11 and newer; before, the key is
 * random and nobody outside can compute it). The kernel hashes struct flow_keys from `basic` on: protocol in byte 2, then
 * tags, VLANs, key id (all zero here), ports, ICMP (zero) and addresses, 48 bytes with the tail of the address union.
 * Both directions of a flow give the same hash: the smaller address comes first, and the smaller port, each compared as a
 * little-endian machine reads it and exchanged on its own. Returns 31 bits, as the route look-up uses them.
 */
export function linuxHash(flow: FiveTuple, seed: number): number {
  let [a, b] = [wire32(flow.source) >>> 0, wire32(flow.destination) >>> 0];
  let [portA, portB] = [wire16(flow.sourcePort), wire16(flow.destinationPort)];
  if (b < a) [a, b] = [b, a];
  if (portB < portA) [portA, portB] = [portB, portA];
  const words = [flow.protocol << 16, 0, 0, 0, 0, 0, 0, portA | (portB << 16), 0, a, b, 0];
  const [low] = siphash(words, [seed, seed, seed, seed]);
  return (low === 0 ? 1 : low) >>> 1;
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  return crc >>> 0;
});

/** CRC-32 (IEEE) of the 13 bytes of the five-tuple in network order, begun with the seed: what many switch chips do. */
export function crcHash(
  { source, destination, protocol, sourcePort, destinationPort }: FiveTuple,
  seed: number,
): number {
  let crc = ~seed >>> 0;
  const byte = (value: number): void => {
    crc = (crc >>> 8) ^ (CRC_TABLE[(crc ^ value) & 0xff] ?? 0);
  };
  for (const address of [source, destination]) for (const shift of [24, 16, 8, 0]) byte(address >>> shift);
  byte(protocol);
  for (const port of [sourcePort, destinationPort]) for (const shift of [8, 0]) byte(port >>> shift);
  return ~crc >>> 0;
}

function idealHash(flow: FiveTuple, seed: number): number {
  let hash = stir(seed ^ 0x9e3779b9);
  for (const word of [
    flow.source,
    flow.destination,
    flow.protocol,
    (flow.sourcePort << 16) | flow.destinationPort,
  ]) {
    hash = stir(hash ^ word) ^ Math.imul(hash, 0x01000193);
  }
  return stir(hash);
}

/**
 * Which of `count` equal next hops switch number `at` takes for a flow. Ideal: independent at every switch. Linux: the
 * 31-bit hash against the upper bounds of equal weights. CRC: the remainder.
 */
export function choose(model: HashModel, flow: FiveTuple, at: number, count: number): number {
  if (count <= 1) return 0;
  const seed = seedOf(model, at);
  if (model.name === 'crc') return crcHash(flow, seed) % count;
  if (model.name === 'ideal')
    return Math.floor((idealHash(flow, stir(seed ^ stir(at + 1))) / 2 ** 32) * count);
  const hash = linuxHash(flow, seed);
  for (let hop = 0; hop < count - 1; hop++) {
    // DIV_ROUND_CLOSEST((hop + 1) << 31, count) - 1
    if (hash <= Math.floor(((hop + 1) * 2 ** 31 + Math.floor(count / 2)) / count) - 1) return hop;
  }
  return count - 1;
}
