import { describe, expect, test } from 'bun:test';
import fc from 'fast-check';
import { readMatrix } from '../../src/topo/formats/matrix.ts';
import { dragonfly, torus } from '../../src/topo/generate/direct.ts';
import { generate } from '../../src/topo/generate/index.ts';
import { fatTree, leafSpine, railOptimised, threeTier } from '../../src/topo/generate/tiered.ts';
import { firstMistake } from '../../src/topo/model/check.ts';
import { Graph } from '../../src/topo/model/graph.ts';
import type { Topology } from '../../src/topo/model/schema.ts';

const rate_bps = 100e9;
const small = fc.integer({ min: 1, max: 5 });

function count(topology: Topology, tier?: number): number {
  return topology.nodes.filter((node) => node.tier === tier).length;
}

function hosts(topology: Topology): number {
  return topology.nodes.filter(({ kind }) => kind === 'host').length;
}

/** Links of each node, by id. */
function degrees(topology: Topology): Map<string, number> {
  const graph = new Graph(topology);
  return new Map(graph.nodes.map(({ id }, at) => [id, graph.leaving[at]?.length ?? 0]));
}

function property<T>(arbitrary: fc.Arbitrary<T>, check: (value: T) => void): void {
  fc.assert(fc.property(arbitrary, check), { numRuns: 40 });
}

describe('counts equal the closed formulas', () => {
  test('fat-tree: k^3/4 hosts, k^2/2 edge and aggregation, k^2/4 core, every switch has k links', () => {
    for (const k of [2, 4, 6, 8, 16]) {
      const made = fatTree({ k, rate_bps });
      expect(firstMistake(made)).toBeUndefined();
      expect([hosts(made), count(made, 1), count(made, 2), count(made, 3)]).toEqual([
        k ** 3 / 4,
        k ** 2 / 2,
        k ** 2 / 2,
        k ** 2 / 4,
      ]);
      expect(made.links.length).toBe((3 * k ** 3) / 4);
      const degree = degrees(made);
      for (const { id, kind } of made.nodes) expect(degree.get(id)).toBe(kind === 'host' ? 1 : k);
    }
  });

  test('leaf-spine with parallel cables and oversubscription', () => {
    property(
      fc.tuple(small, small, small, small, small),
      ([leaves, spines, hosts_, parallel, oversubscription]) => {
        const made = leafSpine({ leaves, spines, hosts: hosts_, parallel, oversubscription, rate_bps });
        expect(firstMistake(made)).toBeUndefined();
        expect(made.nodes.length).toBe(leaves * hosts_ + leaves + spines);
        expect(made.links.length).toBe(leaves * hosts_ + leaves * spines * parallel);
        const up = made.links
          .filter(({ a }) => a === 'l0')
          .reduce((sum, { capacity_bps = 0 }) => sum + capacity_bps, 0);
        expect((hosts_ * rate_bps) / up).toBeCloseTo(oversubscription, 9);
      },
    );
  });

  test('three-tier', () => {
    property(
      fc.tuple(small, small, small, small, small, small),
      ([pods, access, aggregation, core, hosts_, parallel]) => {
        const made = threeTier({ pods, access, aggregation, core, hosts: hosts_, parallel, rate_bps });
        expect(firstMistake(made)).toBeUndefined();
        expect(made.nodes.length).toBe(pods * (access * hosts_ + access + aggregation) + core);
        expect(made.links.length).toBe(
          pods * access * hosts_ + parallel * pods * aggregation * (access + core),
        );
      },
    );
  });

  test('rail-optimised: planes meet only in hosts', () => {
    property(
      fc.tuple(small, small, small, fc.integer({ min: 1, max: 3 }), small, small),
      ([groups, hosts_, rails, planes, spines, parallel]) => {
        const made = railOptimised({ groups, hosts: hosts_, rails, planes, spines, parallel, rate_bps });
        const leaves = groups * rails * planes;
        expect(firstMistake(made)).toBeUndefined();
        expect(made.nodes.length).toBe(groups * hosts_ + leaves + planes * spines);
        expect(made.links.length).toBe(groups * hosts_ * rails * planes + leaves * spines * parallel);
        const plane = new Map(made.nodes.map(({ id, plane: of }) => [id, of]));
        for (const { a, b } of made.links) if (!a.startsWith('h')) expect(plane.get(a)).toBe(plane.get(b));
      },
    );
  });

  test('dragonfly: all groups joined, no router above its ports', () => {
    property(fc.tuple(small, small, small), ([routers, globals, hosts_]) => {
      const largest = routers * globals + 1;
      for (const groups of [largest, Math.max(1, largest - 2)]) {
        const made = dragonfly({ routers, globals, hosts: hosts_, groups, rate_bps });
        const between = groups === 1 ? 0 : Math.floor((routers * globals) / (groups - 1));
        expect(firstMistake(made)).toBeUndefined();
        expect(made.nodes.length).toBe(groups * routers * (1 + hosts_));
        expect(made.links.length).toBe(
          groups * routers * hosts_ +
            (groups * routers * (routers - 1)) / 2 +
            ((groups * (groups - 1)) / 2) * between,
        );
        for (const [id, degree] of degrees(made))
          if (id.startsWith('r')) expect(degree).toBeLessThanOrEqual(hosts_ + routers - 1 + globals);
      }
    });
  });

  test('torus: every switch has two neighbours a dimension (one when it is 2)', () => {
    property(
      fc.tuple(fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 1, maxLength: 3 }), small),
      ([dimensions, hosts_]) => {
        const made = torus({ dimensions, hosts: hosts_, rate_bps });
        const switches = dimensions.reduce((product, size) => product * size, 1);
        const each = dimensions.reduce((sum, size) => sum + (size > 2 ? 1 : size === 2 ? 0.5 : 0), 0);
        expect(firstMistake(made)).toBeUndefined();
        expect(made.nodes.length).toBe(switches * (1 + hosts_));
        expect(made.links.length).toBe(switches * (hosts_ + each));
        for (const [id, degree] of degrees(made))
          if (id.startsWith('t')) expect(degree).toBe(hosts_ + 2 * each);
      },
    );
  });

  test('WAN: one link a pair, asymmetric where the matrix is', () => {
    const made = readMatrix('name,A,B,C\nA,-,10Mbps/20ms/1%,5\nB,8Mbps/20ms/1%,-,-\nC,,,-\n');
    expect(made.links).toEqual([
      {
        id: 'A--B',
        a: 'A',
        b: 'B',
        capacity_bps: 10e6,
        delay_ns: 10e6,
        loss_ratio: 0.01,
        back: { capacity_bps: 8e6 },
      },
      { id: 'A--C', a: 'A', b: 'C', capacity_bps: 5e6 },
    ]);
  });
});

describe('parameters', () => {
  test('nonsense is refused with a remedy', () => {
    expect(() => fatTree({ k: 5, rate_bps })).toThrow('k is 5');
    expect(() => dragonfly({ routers: 2, globals: 1, hosts: 1, groups: 9, rate_bps })).toThrow('9 groups');
    expect(() => torus({ dimensions: [1000, 1000], hosts: 1, rate_bps })).toThrow('nodes');
    expect(() => generate('fat-tree', { rate_bps, spines: 3 })).toThrow("fat-tree has no 'spines'");
  });
});
