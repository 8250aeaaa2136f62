import { describe, expect, test } from 'bun:test';
import fc from 'fast-check';
import { overlayOfPaths, overlayOfRecords } from '../../src/topo/draw/records.ts';
import { InputError } from '../../src/topo/model/input-error.ts';
import type { Topology } from '../../src/topo/model/schema.ts';
import { broken } from './arbitrary.ts';

/** a - b - c in a row, and a square b c d e with two ways from b to e. */
const topology: Topology = {
  nodes: [
    { id: 'a', kind: 'site', address: '10.0.0.1' },
    ...['b', 'c', 'd', 'e'].map((id) => ({ id, kind: 'site' as const })),
  ],
  links: [
    { id: 'ab', a: 'a', b: 'b', capacity_bps: 1e9, back: { capacity_bps: 5e8 } },
    { id: 'bc', a: 'b', b: 'c', capacity_bps: 1e9 },
    { id: 'bd', a: 'b', b: 'd' },
    { id: 'ce', a: 'c', b: 'e' },
    { id: 'de', a: 'd', b: 'e' },
  ],
};
const of = (
  value: unknown,
  ...more: Parameters<typeof overlayOfRecords> extends [string, Topology, ...infer R] ? R : never
) => {
  const { title, note, values } = overlayOfRecords(JSON.stringify(value), topology, ...more);
  return { title, note, values: Object.fromEntries([...values].map(([id, each]) => [id, each.label])) };
};

describe('measurements on links', () => {
  const probe = {
    schema: 'rdmakit.topo-probe/1',
    pairs: [
      { from: 'a', to: 'b', rate_bps: 4e8, rtt_ns: 2e6, loss_ratio: 0.01 },
      { from: 'b', to: 'a', rate_bps: 3e8, rtt_ns: 2.1e6, loss_ratio: 0 },
      { from: 'a', to: 'c', rate_bps: 1e8, rtt_ns: 5e6, loss_ratio: 0.02 },
    ],
  };

  test('a probe: rates are at least, latencies and losses at most, those of a way', () => {
    expect(of(probe)).toEqual({
      title: 'rate_bps',
      note: 'max/mean 1.600, Jain 0.735',
      values: { ab: '400Mbps', bc: '100Mbps' },
    });
    expect(of(probe, 'latency').values).toEqual({ ab: '2.1ms', bc: '5ms' });
    expect(of(probe, 'loss').values).toEqual({ ab: '1%', bc: '2%' });
    // 300 of the 500 Mbit/s back are more than 400 of 1000.
    expect(of(probe, 'utilisation').values).toEqual({ ab: '60%', bc: '10%' });
  });

  test('a pingpong document: its ends hold for its rows, and may be addresses', () => {
    const pingpong = {
      schema: 'rdmakit.pingpong/1',
      client: { host: 'vm', address: '10.0.0.1' },
      server: { host: 'b', address: '192.0.2.9' },
      rows: [
        { transport: 'rc', latency_p50_ns: 5000, latency_p99_ns: 9000 },
        { transport: 'tcp', latency_p50_ns: 50_000, latency_p99_ns: 70_000 },
      ],
    };
    expect(of(pingpong).values).toEqual({ ab: '5us' });
    expect(of(pingpong, undefined, 'latency_p99_ns')).toEqual({
      title: 'latency_p99_ns',
      note: undefined,
      values: { ab: '9us' },
    });
  });

  test('lines of documents, and links by their names', () => {
    const text = '{"link":"bd","goodput_bps":1e6}\n\n{"src":"d","dst":"e","goodput_bps":2e6}\n';
    const { values, note } = overlayOfRecords(text, topology);
    expect([...values.keys()]).toEqual(['bd', 'de']);
    expect(note).toContain('max/mean');
  });

  test('what lies between other ends is left out and counted; nothing at all is an error that says why', () => {
    const some = [
      { from: 'b', to: 'e', rate_bps: 1 },
      { from: 'x', to: 'y', rate_bps: 1 },
      { from: 'a', to: 'b', rate_bps: 1 },
    ];
    expect(of(some).note).toContain('2 values between other ends left out');
    expect(() => of(some.slice(0, 2))).toThrow('1 of them are between ends that are no nodes');
    expect(() => of(probe, undefined, 'nonsense')).toThrow(
      "in a field 'nonsense' (those on links have rate_bps",
    );
    expect(() => overlayOfRecords('{"a":1}\n{"b":\n', topology)).toThrow(InputError);
    expect(() => of([{ from: 'b', to: 'd', rate_bps: 1 }], 'utilisation')).toThrow('no capacity');
  });

  test('paths: flows by link', () => {
    const { values, title } = overlayOfPaths([{ links: ['ab', 'bc'] }, { links: ['ab', 'bd'] }], topology);
    expect([title, values.get('ab')?.label, values.get('bd')?.label]).toEqual(['flows, of 2', '2', '1']);
    expect(() => overlayOfPaths([{ links: ['zz'] }], topology)).toThrow("no link 'zz'");
  });

  test('broken documents are read or refused, nothing else', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          broken([JSON.stringify(probe)]),
          fc.json().map((text) => `{"from":"a","to":"b","x":${text}}`),
        ),
        (text) => {
          try {
            for (const { value } of overlayOfRecords(text, topology).values.values())
              expect(value).toBeFinite();
          } catch (error) {
            if (!(error instanceof InputError)) throw error;
          }
        },
      ),
      { numRuns: 300 },
    );
  });
});
