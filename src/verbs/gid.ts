/**
 * GIDs: their text form, the address behind them, and which one to use.
 *
 * A RoCE GID is the IPv6 address of an interface, an IPv4 address in its mapped
 * form. Picking the wrong row of the table is the most common reason why two RoCE
 * machines do not talk to each other, so the choice is made in one place and
 * always comes with its reason.
 */

import { isIP, isIPv4 } from 'node:net';
import { badValue, failure } from './doctor.ts';
import type { ChosenGid, GidEntry, GidType } from './types.ts';

const MAPPED_PREFIX = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

/** Whether the 16 bytes are an IPv4-mapped address. */
export function isMapped(raw: Uint8Array): boolean {
  return MAPPED_PREFIX.every((byte, i) => raw[i] === byte);
}

/** Text of 16 raw bytes as RFC 5952 has it, `::ffff:192.0.2.1` for IPv4-mapped ones. */
export function formatGid(raw: Uint8Array): string {
  if (raw.length !== 16) throw badValue('a GID', `${raw.length} bytes long`, '16 bytes long');
  if (isMapped(raw)) return `::ffff:${raw.subarray(12).join('.')}`;
  const groups = Array.from({ length: 8 }, (_, i) => ((raw[2 * i] ?? 0) << 8) | (raw[2 * i + 1] ?? 0));
  // The longest run of two or more zero groups is written "::"; the first one when two are equally long.
  let best = { start: 0, length: 1 };
  for (let start = 0; start < 8; start++) {
    let length = 0;
    while (start + length < 8 && groups[start + length] === 0) length++;
    if (length > best.length) best = { start, length };
  }
  const hex = (part: number[]): string => part.map((group) => group.toString(16)).join(':');
  if (best.length < 2) return hex(groups);
  return `${hex(groups.slice(0, best.start))}::${hex(groups.slice(best.start + best.length))}`;
}

/** The 16 bytes of an IPv6 address, or of an IPv4 address in its mapped form. Throws on anything else. */
export function parseGid(text: string): Uint8Array {
  const version = typeof text === 'string' && text.length < 64 && !text.includes('%') ? isIP(text) : 0;
  if (version === 0) throw badValue('the GID', JSON.stringify(text), 'an IPv6 or IPv4 address');
  if (version === 4) return Uint8Array.from([...MAPPED_PREFIX, ...text.split('.').map(Number)]);
  let rest = text;
  const dotted = /^(.*:)(\d+\.\d+\.\d+\.\d+)$/.exec(text);
  if (dotted !== null) {
    const [a = 0, b = 0, c = 0, d = 0] = (dotted[2] ?? '').split('.').map(Number);
    rest = `${dotted[1]}${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
  }
  const [head = '', tail] = rest.split('::');
  const groups = (part: string): number[] =>
    part === '' ? [] : part.split(':').map((group) => Number.parseInt(group, 16));
  const left = groups(head);
  const right = tail === undefined ? [] : groups(tail);
  const all = [...left, ...new Array<number>(8 - left.length - right.length).fill(0), ...right];
  return Uint8Array.from(all.flatMap((group) => [group >> 8, group & 0xff]));
}

/** The IP address behind a GID: dotted for IPv4-mapped ones. */
export function gidAddress(raw: Uint8Array): string {
  return isMapped(raw) ? raw.subarray(12).join('.') : formatGid(raw);
}

/** How far the address of a GID reaches. */
export function gidScope(raw: Uint8Array): GidEntry['scope'] {
  const [first = 0, second = 0] = raw;
  if (isMapped(raw)) {
    if (raw[12] === 127) return 'loopback';
    return raw[12] === 169 && raw[13] === 254 ? 'link-local' : 'global';
  }
  if (raw.subarray(0, 15).every((byte) => byte === 0) && raw[15] === 1) return 'loopback';
  return first === 0xfe && (second & 0xc0) === 0x80 ? 'link-local' : 'global';
}

/** What a caller may say about the GID it wants. */
export interface GidWishes {
  /** Row of the table. */
  readonly index?: number;
  /** IP address (or GID text) of the wanted row. */
  readonly address?: string;
  readonly type?: GidType;
  /** IP address of the far end: its family and scope decide. */
  readonly peer?: string;
}

function commonPrefixBits(a: Uint8Array, b: Uint8Array): number {
  for (let i = 0; i < 16; i++) {
    const difference = (a[i] ?? 0) ^ (b[i] ?? 0);
    if (difference !== 0) return i * 8 + Math.clz32(difference) - 24;
  }
  return 128;
}

const TYPE_WORDS: Readonly<Record<GidType, string>> = {
  IB: 'InfiniBand',
  RoCEv1: 'RoCE v1',
  RoCEv2: 'RoCE v2',
};
const TYPE_RANK: Readonly<Record<GidType, number>> = { RoCEv2: 2, IB: 1, RoCEv1: 0 };
const SCOPE_RANK: Readonly<Record<GidEntry['scope'], number>> = { global: 2, loopback: 1, 'link-local': 0 };

function family(entry: GidEntry): string {
  return isIPv4(entry.address) ? 'IPv4' : 'IPv6';
}

function describe(entry: GidEntry): string {
  const where = entry.interfaceName === '' ? '' : ` of ${entry.interfaceName}`;
  if (entry.type === 'IB') return `InfiniBand GID ${entry.gid}`;
  return `${TYPE_WORDS[entry.type]}, ${family(entry)} address ${entry.address}${where}`;
}

function shown(entries: readonly GidEntry[]): string[] {
  if (entries.length === 0) return ['the GID table of the port is empty'];
  return [
    `GIDs of the port: ${entries.map((entry) => `${entry.index}: ${entry.address} (${entry.type})`).join(', ')}`,
  ];
}

/**
 * Picks the GID to send from. With wishes, the row that fulfils them or an error;
 * without, RoCE v2 before others, routable before loopback before link-local, IPv4
 * before IPv6, lower index before higher.
 */
export function chooseGid(entries: readonly GidEntry[], wishes: GidWishes = {}): ChosenGid {
  const { index, address, type, peer } = wishes;
  const refuse = (wanted: string): Error =>
    failure({ call: 'gid', code: 'no-such-gid', attempt: `use ${wanted}`, details: shown(entries) });
  if (index !== undefined) {
    const entry = entries.find((candidate) => candidate.index === index);
    if (entry === undefined) throw refuse(`GID index ${index}`);
    return { entry, reason: `index ${index} was asked for: ${describe(entry)}` };
  }
  const ofType = type === undefined ? entries : entries.filter((entry) => entry.type === type);
  if (address !== undefined) {
    const wanted = formatGid(parseGid(address));
    const matching = ofType
      .filter((entry) => entry.gid === wanted)
      .sort((a, b) => TYPE_RANK[b.type] - TYPE_RANK[a.type]);
    const entry = matching[0];
    if (entry === undefined) throw refuse(`a GID with address ${address}`);
    return { entry, reason: `address ${address} was asked for: ${describe(entry)}` };
  }
  if (ofType.length === 0) throw refuse(type === undefined ? 'any GID' : `a ${type} GID`);
  const peerRaw = peer === undefined ? undefined : parseGid(peer);
  const score = (entry: GidEntry): number[] => {
    const towardsPeer =
      peerRaw === undefined
        ? [0, 0, 0]
        : [
            Number(isMapped(entry.raw) === isMapped(peerRaw)),
            Number(gidScope(entry.raw) === gidScope(peerRaw)),
            commonPrefixBits(entry.raw, peerRaw),
          ];
    return [
      TYPE_RANK[entry.type],
      ...towardsPeer,
      SCOPE_RANK[entry.scope],
      Number(family(entry) === 'IPv4'),
      -entry.index,
    ];
  };
  const ranked = ofType
    .map((entry) => ({ entry, marks: score(entry) }))
    .sort((a, b) => {
      const at = a.marks.findIndex((mark, i) => mark !== b.marks[i]);
      return at < 0 ? 0 : (b.marks[at] ?? 0) - (a.marks[at] ?? 0);
    });
  const entry = ranked[0]?.entry;
  if (entry === undefined) throw refuse('any GID');
  return { entry, reason: `${describe(entry)}: ${why(entry, peer)}` };
}

function why(entry: GidEntry, peer: string | undefined): string {
  if (entry.type === 'IB') return 'the port speaks InfiniBand';
  if (peer !== undefined) return `it fits the peer ${peer} best`;
  const version = entry.type === 'RoCEv2' ? 'routed over UDP and IP' : 'the port has no RoCE v2 GID';
  const reach = {
    global: 'reachable from other machines',
    loopback: 'the only kind here: this machine reaches only itself',
    'link-local': 'the only kind here: reachable on the same link only',
  }[entry.scope];
  return `${version}, ${reach}`;
}
