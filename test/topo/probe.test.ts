import { expect, test } from 'bun:test';
import { Router } from '../../src/topo/ecmp/routes.ts';
import { endpoints } from '../../src/topo/ecmp/traffic.ts';
import { readMatrix } from '../../src/topo/formats/matrix.ts';
import { fatTree } from '../../src/topo/generate/tiered.ts';
import { Graph } from '../../src/topo/model/graph.ts';
import { matrixOf } from '../../src/topo/probe/probe.ts';
import { rounds } from '../../src/topo/probe/schedule.ts';

test('no round loads a link direction or a node twice, and every pair has its turn', () => {
  const router = new Router(new Graph(fatTree({ k: 4, rate_bps: 1e9 })));
  const ends = endpoints(router);
  const plan = rounds(router, ends, 4);
  expect(plan.flat().length).toBe(ends.length * (ends.length - 1));
  expect(plan.length).toBeLessThan(plan.flat().length);
  for (const round of plan) {
    expect(round.length).toBeLessThanOrEqual(4);
    const nodes = round.flatMap(({ source, destination }) => [source, destination]);
    expect(new Set(nodes).size).toBe(nodes.length);
    const first = round.flatMap(({ source, destination }) =>
      (router.routesTo(destination).hops[source] ?? []).map(({ number }) => number),
    );
    expect(new Set(first).size).toBe(first.length);
  }
});

test('the matrix is one that generate reads', () => {
  const text = matrixOf({
    emulation: 'x',
    pairs: [
      { from: 'A', to: 'B', rate_bps: 20_012_345, rtt_ns: 20_123_456, loss_ratio: 0.0004 },
      { from: 'B', to: 'A', rate_bps: 8_000_000, rtt_ns: null, loss_ratio: 0.0512345 },
    ],
  });
  expect(text).toBe('name,A,B\nA,-,20.01Mbps/20.12ms\nB,8Mbps//5.12%,-\n');
  expect(readMatrix(text).links).toEqual([
    {
      id: 'A--B',
      a: 'A',
      b: 'B',
      capacity_bps: 20_010_000,
      delay_ns: 10_060_000,
      back: { capacity_bps: 8e6, delay_ns: 0, loss_ratio: 0.0512 },
    },
  ]);
});
