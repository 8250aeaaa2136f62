import { describe, expect, test } from 'bun:test';
import * as v from 'valibot';
import { DevicesReport, portReport, takeStock } from '../../src/topo/devices.ts';
import { formatGid, parseGid } from '../../src/verbs/index.ts';
import type { GidEntry } from '../../src/verbs/types.ts';
import { port } from '../verbs/fixtures.ts';

function gid(index: number, address: string, interfaceName: string): GidEntry {
  const raw = parseGid(address);
  const scope = address.startsWith('fe80') ? 'link-local' : 'global';
  return {
    port: 1,
    index,
    gid: formatGid(raw),
    raw,
    type: 'RoCEv2',
    address,
    scope,
    ifindex: 2,
    interfaceName,
  };
}

describe('a port in the report', () => {
  test('keeps its facts and recommends a GID with the reason', () => {
    const report = portReport(port, [gid(0, 'fe80::1', 'eth0'), gid(1, '10.0.0.1', 'eth0')]);
    expect(report).toMatchObject({ port: 1, state: 'ACTIVE', active_mtu_bytes: 1024, link_speed_bps: 25e9 });
    expect(report.use_gid).toEqual({
      index: 1,
      reason: 'RoCE v2, IPv4 address 10.0.0.1 of eth0: routed over UDP and IP, reachable from other machines',
    });
    expect(report.gids[0]).toEqual({
      index: 0,
      gid: 'fe80::1',
      address: 'fe80::1',
      type: 'RoCEv2',
      scope: 'link-local',
      interface: 'eth0',
    });
  });

  test('recommends for the peer when there is one', () => {
    const gids = [gid(0, 'fe80::1', 'eth0'), gid(1, '10.0.0.1', 'eth0')];
    expect(portReport(port, gids, 'fe80::9').use_gid?.index).toBe(0);
  });

  test('has no recommendation without GIDs', () => {
    expect(portReport(port, []).use_gid).toBeNull();
    expect(portReport(port, [gid(0, '10.0.0.1', '')]).gids[0]?.interface).toBeNull();
  });
});

describe('taking stock', () => {
  test('refuses a peer that is no address before anything is opened', () => {
    expect(() => takeStock({ peer: 'not an address' })).toThrow('not an IPv6 or IPv4 address');
  });

  test('gives a report that fits its schema', () => {
    expect(v.is(DevicesReport, takeStock({ provider: 'soft' }))).toBe(true);
  });

  test('finds the embedded device of every interface with an address, loopback included', () => {
    const report = takeStock({ provider: 'soft' });
    const loopback = report.devices.find(({ ports }) =>
      ports[0]?.gids.some(({ address }) => address === '127.0.0.1'),
    );
    expect(loopback?.problem).toBeNull();
    expect(loopback?.ports[0]?.state).toBe('ACTIVE');
    expect(loopback?.limits?.max_qp).toBeGreaterThan(0);
    expect(report.devices.map(({ name }) => name)).toContain(report.default_device ?? '');
  });

  test('refuses a device that does not exist and names those that do', () => {
    expect(() => takeStock({ provider: 'soft', device: 'no_such_device' })).toThrow(
      'cannot open device no_such_device',
    );
  });
});
