import { describe, expect, test } from 'bun:test';
import fc from 'fast-check';
import { balance } from '../../src/topo/ecmp/balance.ts';
import { choose, crcHash, type FiveTuple, type HashModel, linuxHash } from '../../src/topo/ecmp/hash.ts';
import { jain, maxOverMean } from '../../src/topo/ecmp/load.ts';
import { parseAddress, Router } from '../../src/topo/ecmp/routes.ts';
import { siphash } from '../../src/topo/ecmp/siphash.ts';
import { flowLabel, trace, UDP } from '../../src/topo/ecmp/trace.ts';
import type { TrafficOptions } from '../../src/topo/ecmp/traffic.ts';
import { dragonfly, torus } from '../../src/topo/generate/direct.ts';
import { fatTree, leafSpine, threeTier } from '../../src/topo/generate/tiered.ts';
import { TopologyBuilder } from '../../src/topo/model/build.ts';
import { Graph } from '../../src/topo/model/graph.ts';
import type { Topology } from '../../src/topo/model/schema.ts';

const rate_bps = 100e9;
const linux: HashModel = { name: 'linux', seed: 1, perSwitch: false };
const traffic: TrafficOptions = {
  pattern: 'permutation',
  flows: 64,
  rate_bps: 1e9,
  protocol: UDP,
  destinationPort: 4791,
  ports: { first: 49152, last: 65535 },
};
const router = (topology: Topology): Router => new Router(new Graph(topology));

describe('hashes', () => {
  test('SipHash-2-4 gives the published values', () => {
    // Vectors of the reference implementation: key 00..0f, message 00 01 02 ..., of 0, 8 and 16 bytes.
    const key = [0x03020100, 0x07060504, 0x0b0a0908, 0x0f0e0d0c] as const;
    const words = [0x03020100, 0x07060504, 0x0b0a0908, 0x0f0e0d0c];
    expect(siphash([], key)).toEqual([0xdd0e0e31, 0x726fdb47]);
    expect(siphash(words.slice(0, 2), key)).toEqual([0x9a932462, 0x93f5f579]);
    expect(siphash(words, key)).toEqual([0x57c29bdb, 0x3f2acc7f]);
  });

  test('CRC-32 gives the check value for its check message', () => {
    // "123456789" has 9 bytes, a five-tuple 13: compare with the CRC of the same bytes by the definition instead.
    const tuple: FiveTuple = {
      source: 0x31323334,
      destination: 0x35363738,
      protocol: 0x39,
      sourcePort: 0,
      destinationPort: 0,
    };
    const bytes = [0x31, 0x32, 0x33, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0, 0, 0, 0];
    expect(crcHash(tuple, 0)).toBe(Bun.hash.crc32(Uint8Array.from(bytes)));
  });

  test('the Linux model gives what a kernel chose', () => {
    // From `ip route get 10.0.0.7 from 10.5.0.1 iif d0 ipproto udp sport P dport 4791` on Linux 6.18 with three next hops,
    // fib_multipath_hash_policy=1 and fib_multipath_hash_seed=12345.
    const kernel = [
      3, 3, 3, 3, 3, 1, 3, 1, 1, 1, 3, 1, 2, 1, 3, 1, 1, 2, 1, 1, 2, 3, 3, 1, 2, 3, 1, 2, 2, 2, 2, 2, 3, 2, 1,
      3, 3, 1, 1, 2, 2, 1, 3,
    ];
    const chosen = kernel.map(
      (_, i) =>
        choose(
          { ...linux, seed: 12345 },
          {
            source: parseAddress('10.5.0.1'),
            destination: parseAddress('10.0.0.7'),
            protocol: UDP,
            sourcePort: 49152 + i * 7,
            destinationPort: 4791,
          },
          0,
          3,
        ) + 1,
    );
    expect(chosen).toEqual(kernel);
  });

  test('both directions of a flow hash alike on Linux', () => {
    fc.assert(
      fc.property(
        fc.nat(),
        fc.nat(),
        fc.nat(65535),
        fc.nat(65535),
        (source, destination, sourcePort, destinationPort) => {
          const forth = { source, destination, protocol: UDP, sourcePort, destinationPort };
          const back = {
            source: destination,
            destination: source,
            protocol: UDP,
            sourcePort: destinationPort,
            destinationPort: sourcePort,
          };
          expect(linuxHash(forth, 7)).toBe(linuxHash(back, 7));
        },
      ),
    );
  });

  test('every model spreads many flows evenly over any number of hops', () => {
    for (const name of ['ideal', 'linux', 'crc'] as const) {
      for (const count of [2, 3, 4, 7, 16]) {
        const hits = new Array<number>(count).fill(0);
        for (let i = 0; i < 4000; i++) {
          const tuple = {
            source: 1 + (i % 13),
            destination: 77,
            protocol: UDP,
            sourcePort: 49152 + i,
            destinationPort: 4791,
          };
          const hop = choose({ name, seed: 3, perSwitch: true }, tuple, 5, count);
          hits[hop] = (hits[hop] ?? 0) + 1;
        }
        expect(maxOverMean(hits)).toBeLessThan(1.3);
      }
    }
  });

  test('flow labels fold to their port', () => {
    for (const port of [0xc000, 0xc001, 0xffff, 50000]) {
      const label = flowLabel(port) ?? 0;
      expect(label).toBeGreaterThan(0);
      expect(((label & 0x3fff) ^ (label >>> 14)) | 0xc000).toBe(port);
    }
    expect(flowLabel(4791)).toBeUndefined();
  });
});

test('Jain and max/mean', () => {
  expect([jain([1, 1, 1, 1]), jain([4, 0, 0, 0]), jain([])]).toEqual([1, 0.25, 1]);
  expect([maxOverMean([2, 2]), maxOverMean([3, 0, 0]), maxOverMean([0, 0])]).toEqual([1, 3, 1]);
});

describe('paths', () => {
  test('are shortest, connected, and pass through no host', () => {
    for (const topology of [
      fatTree({ k: 4, rate_bps }),
      dragonfly({ routers: 3, globals: 1, hosts: 1, rate_bps }),
      torus({ dimensions: [3, 4], hosts: 1, rate_bps }),
    ]) {
      const net = router(topology);
      const ends = topology.nodes.flatMap(({ kind }, at) => (kind === 'host' ? [at] : []));
      fc.assert(
        fc.property(
          fc.constantFrom(...ends),
          fc.constantFrom(...ends),
          fc.nat(65535),
          (source, destination, sourcePort) => {
            if (source === destination) return;
            const { arcs } = trace(net, linux, {
              source,
              destination,
              protocol: UDP,
              sourcePort,
              destinationPort: 4791,
            });
            expect(arcs[0]?.from).toBe(source);
            expect(arcs.at(-1)?.to).toBe(destination);
            for (const [i, arc] of arcs.slice(1).entries()) {
              expect(arc.from).toBe(arcs[i]?.to as number);
              expect(topology.nodes[arc.from]?.kind).not.toBe('host');
            }
            expect(arcs.length).toBe(net.routesTo(destination).distance[source] as number);
          },
        ),
        { numRuns: 60 },
      );
    }
  });

  test('no way is an error, an unknown node too', () => {
    const builder = new TopologyBuilder();
    for (const id of ['a', 'b']) builder.node({ id, kind: 'host' });
    const net = router(builder.build());
    expect(() =>
      trace(net, linux, { source: 0, destination: 1, protocol: UDP, sourcePort: 1, destinationPort: 1 }),
    ).toThrow('no way');
    expect(() => net.find('zz')).toThrow("no node 'zz'");
  });
});

describe('balance', () => {
  test('one seed for all polarises a fat-tree; seeds of their own cure it, but not for a CRC, which is linear', async () => {
    const net = router(fatTree({ k: 8, rate_bps }));
    const polarised = async (name: HashModel['name'], perSwitch: boolean): Promise<boolean> =>
      (await balance(net, { name, seed: 1, perSwitch }, { ...traffic, choose: false, optimum: false }))
        .polarised;
    expect([await polarised('linux', false), await polarised('linux', true)]).toEqual([true, false]);
    expect([await polarised('crc', false), await polarised('crc', true)]).toEqual([true, true]);
    expect(await polarised('ideal', false)).toBe(false);
  });

  test('64 flows on 4 links: chosen ports give max/mean of at most 1.02', async () => {
    for (const model of [
      linux,
      { name: 'crc', seed: 9, perSwitch: true },
      { name: 'ideal', seed: 4, perSwitch: false },
    ] as HashModel[]) {
      const net = router(leafSpine({ leaves: 4, spines: 4, hosts: 4, parallel: 1, rate_bps }));
      const pair = { source: net.find('h0'), destination: net.find('h9') };
      const report = await balance(net, model, { ...traffic, pair, choose: true, optimum: false });
      expect(report.max_over_mean).toBeLessThanOrEqual(1.02);
      expect(report.unplaced).toBe(0);
      expect(new Set(report.chosen.map(({ source_port }) => source_port)).size).toBe(64);
    }
  });

  test('rates are conserved: what leaves the sources arrives', async () => {
    const net = router(
      threeTier({ pods: 2, access: 2, aggregation: 2, core: 2, hosts: 2, parallel: 2, rate_bps }),
    );
    const report = await balance(net, linux, { ...traffic, choose: false, optimum: false });
    const into = report.links
      .filter(({ to }) => to.startsWith('h'))
      .reduce((sum, { rate_bps: rate }) => sum + rate, 0);
    expect(into).toBeCloseTo(8 * 64 * 1e9, -3);
  });

  /** A random connected network of sites with unequal capacities and demands. */
  function mesh(seed: number): Topology {
    let state = seed * 2654435761;
    const random = (below: number): number => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return Math.floor((state / 2 ** 32) * below);
    };
    const builder = new TopologyBuilder();
    const n = 6 + random(5);
    for (let i = 0; i < n; i++) builder.node({ id: `s${i}`, kind: 'site' });
    for (let i = 0; i < n; i++)
      builder.link({ a: `s${i}`, b: `s${(i + 1) % n}`, capacity_bps: (1 + random(9)) * 1e9 });
    for (let i = 0; i < n; i++) {
      const [a, b] = [random(n), random(n)];
      if (a !== b) builder.link({ a: `s${a}`, b: `s${b}`, capacity_bps: (1 + random(9)) * 1e9 });
    }
    for (let i = 0; i < 2 * n; i++) {
      const [a, b] = [random(n), random(n)];
      if (a !== b) builder.demand({ from: `s${a}`, to: `s${b}`, rate_bps: (1 + random(20)) * 1e7 });
    }
    return builder.build();
  }

  test('assignment is within 3 % of the linear optimum on 20 topologies', async () => {
    const uneven = (topology: Topology): Topology => ({
      ...topology,
      links: topology.links.map((link, at) =>
        link.a.startsWith('h') ? link : { ...link, capacity_bps: rate_bps / (1 + (at % 3)) },
      ),
    });
    const tiered = [
      leafSpine({ leaves: 3, spines: 3, hosts: 2, parallel: 2, rate_bps: 40e9 }),
      fatTree({ k: 4, rate_bps }),
      threeTier({ pods: 2, access: 2, aggregation: 2, core: 3, hosts: 2, parallel: 1, rate_bps }),
    ];
    const cases: [Topology, TrafficOptions['pattern']][] = [
      ...tiered.map((topology): [Topology, 'permutation'] => [uneven(topology), 'permutation']),
      [uneven(tiered[0] as Topology), 'all-to-all'],
      ...Array.from({ length: 16 }, (_, i): [Topology, 'demands'] => [mesh(i + 1), 'demands']),
    ];
    expect(cases.length).toBe(20);
    for (const [topology, pattern] of cases) {
      const report = await balance(
        router(topology),
        { name: 'ideal', seed: 1, perSwitch: false },
        { ...traffic, pattern, flows: 48, choose: true, optimum: true },
      );
      expect(report.unplaced).toBe(0);
      expect((report.max_utilisation ?? 0) / (report.optimum_utilisation ?? 1)).toBeLessThanOrEqual(1.03);
      expect((report.max_utilisation ?? 0) / (report.optimum_utilisation ?? 1)).toBeGreaterThanOrEqual(
        1 - 1e-6,
      );
    }
  });
});
