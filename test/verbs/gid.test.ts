import { describe, expect, test } from 'bun:test';
import { VerbsError } from '../../src/verbs/doctor.ts';
import { chooseGid, formatGid, gidAddress, gidScope, parseGid } from '../../src/verbs/gid.ts';
import type { GidEntry, GidType } from '../../src/verbs/types.ts';

function entry(index: number, address: string, type: GidType = 'RoCEv2', interfaceName = 'eth0'): GidEntry {
  const raw = parseGid(address);
  return {
    port: 1,
    index,
    gid: formatGid(raw),
    raw,
    type,
    address: gidAddress(raw),
    scope: gidScope(raw),
    ifindex: 2,
    interfaceName,
  };
}

describe('GID text', () => {
  const cases: [string, string][] = [
    ['::1', '::1'],
    ['::', '::'],
    ['fe80:0:0:0:0:0:0:1', 'fe80::1'],
    ['2001:DB8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
    ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
    ['10.0.0.1', '::ffff:10.0.0.1'],
    ['::ffff:10.0.0.1', '::ffff:10.0.0.1'],
    ['::ffff:0a00:0001', '::ffff:10.0.0.1'],
    ['64:ff9b::192.0.2.33', '64:ff9b::c000:221'],
    ['1:2:3:4:5:6:7:8', '1:2:3:4:5:6:7:8'],
    ['1::', '1::'],
  ];
  for (const [input, output] of cases) {
    test(`${input} is ${output}`, () => expect(formatGid(parseGid(input))).toBe(output));
  }

  test('round trip over random values', () => {
    for (let round = 0; round < 500; round++) {
      const raw = crypto.getRandomValues(new Uint8Array(16));
      // Zero runs are what compression is about.
      for (let i = 0; i < 16; i++) if (round % 3 !== 0 && (raw[i] ?? 0) % 3 !== 0) raw[i] = 0;
      expect([...parseGid(formatGid(raw))]).toEqual([...raw]);
    }
  });

  test('what is no address is refused', () => {
    for (const text of [
      '',
      'x',
      '1.2.3',
      '1.2.3.256',
      'fe80::1%eth0',
      '::1::',
      '1:2:3:4:5:6:7:8:9',
      ' ::1',
      'a'.repeat(1000),
    ]) {
      expect(() => parseGid(text)).toThrow(VerbsError);
    }
    expect(() => formatGid(new Uint8Array(15))).toThrow(VerbsError);
  });
});

describe('GID scope', () => {
  const scopes: [string, string][] = [
    ['127.0.0.1', 'loopback'],
    ['::1', 'loopback'],
    ['169.254.1.1', 'link-local'],
    ['fe80::1', 'link-local'],
    ['febf::1', 'link-local'],
    ['fec0::1', 'global'],
    ['10.1.2.3', 'global'],
    ['2001:db8::1', 'global'],
  ];
  for (const [address, scope] of scopes) {
    test(`${address} is ${scope}`, () => expect<string>(gidScope(parseGid(address))).toBe(scope));
  }
});

describe('the choice of a GID', () => {
  const table = [
    entry(0, 'fe80::1', 'RoCEv1'),
    entry(1, 'fe80::1'),
    entry(2, '10.0.0.1', 'RoCEv1'),
    entry(3, '10.0.0.1'),
    entry(4, '2001:db8::1'),
    entry(5, '192.168.7.1'),
  ];

  test('prefers RoCE v2 with a routable IPv4 address, and says so', () => {
    const { entry: chosen, reason } = chooseGid(table);
    expect(chosen.index).toBe(3);
    expect(reason).toContain('RoCE v2, IPv4 address 10.0.0.1 of eth0');
    expect(reason).toContain('reachable from other machines');
  });

  test('does not depend on the order of the rows', () => {
    expect(chooseGid([...table].reverse()).entry.index).toBe(3);
  });

  test("follows the peer's family, scope and network", () => {
    expect(chooseGid(table, { peer: '2001:db8::9' }).entry.index).toBe(4);
    expect(chooseGid(table, { peer: 'fe80::9' }).entry.index).toBe(1);
    expect(chooseGid(table, { peer: '192.168.7.200' }).entry.index).toBe(5);
    expect(chooseGid(table, { peer: '10.0.0.77' }).entry.index).toBe(3);
  });

  test('takes loopback for a loopback peer, link-local only when there is nothing else', () => {
    const local = [entry(0, 'fe80::1'), entry(1, '127.0.0.1', 'RoCEv2', 'lo'), entry(2, '10.0.0.1')];
    expect(chooseGid(local, { peer: '127.0.0.1' }).entry.index).toBe(1);
    expect(chooseGid([entry(0, 'fe80::1')]).reason).toContain('same link only');
  });

  test('obeys index, address and type', () => {
    expect(chooseGid(table, { index: 2 }).entry.index).toBe(2);
    expect(chooseGid(table, { address: '10.0.0.1' }).entry.index).toBe(3);
    expect(chooseGid(table, { address: '::ffff:10.0.0.1', type: 'RoCEv1' }).entry.index).toBe(2);
    expect(chooseGid(table, { type: 'RoCEv1' }).entry.index).toBe(2);
  });

  test('refuses what the table does not have and shows the table', () => {
    for (const wishes of [{ index: 9 }, { address: '10.9.9.9' }, { type: 'IB' as const }]) {
      try {
        chooseGid(table, wishes);
        throw new Error('not refused');
      } catch (error) {
        expect(error).toBeInstanceOf(VerbsError);
        expect((error as VerbsError).code).toBe('no-such-gid');
        expect((error as VerbsError).likelyCause).toContain('3: 10.0.0.1 (RoCEv2)');
      }
    }
    expect(() => chooseGid([])).toThrow('cannot use any GID');
  });
});
