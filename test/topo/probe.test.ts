import { expect, test } from 'bun:test';
import { mergeFacts } from '../../src/topo/discover/merge.ts';
import { Router } from '../../src/topo/ecmp/routes.ts';
import { endpoints } from '../../src/topo/ecmp/traffic.ts';
import { readMatrix } from '../../src/topo/formats/matrix.ts';
import { fatTree } from '../../src/topo/generate/tiered.ts';
import { Graph } from '../../src/topo/model/graph.ts';
import type { Agent } from '../../src/topo/probe/agent.ts';
import { interval } from '../../src/topo/probe/interval.ts';
import { measure } from '../../src/topo/probe/measure.ts';
import { matrixOf, type ProbePair } from '../../src/topo/probe/probe.ts';
import { rounds } from '../../src/topo/probe/schedule.ts';
import { addressBetween } from '../../src/topo/probe/sites.ts';
import { factsOf } from './facts.ts';

test('no round loads a link direction or a node twice, and every pair has its turn', () => {
  const router = new Router(new Graph(fatTree({ k: 4, rate_bps: 1e9 })));
  const ends = endpoints(router);
  const plan = rounds(router, ends, { width: 4, unknownWay: 'skip' });
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

const row = (from: string, to: string, more: Partial<ProbePair>): ProbePair => ({
  from,
  to,
  rate_bps: 1,
  saturated: true,
  rtt_ns: null,
  loss_ratio: 0,
  loss_low: 0,
  loss_high: 1,
  ...more,
});

test('the matrix is one that generate reads', () => {
  const text = matrixOf({
    emulation: 'x',
    pairs: [
      row('A', 'B', { rate_bps: 20_012_345, rtt_ns: 20_123_456, loss_ratio: 0.0004, loss_low: 0.00002 }),
      row('B', 'A', { rate_bps: 8_000_000, rtt_ns: null, loss_ratio: 0.0512345, loss_low: 0.05 }),
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

test('pairs whose way is not known are left out, or have a round of their own', () => {
  const graph = new Graph({
    nodes: ['a', 'b', 'c', 'd'].map((id) => ({ id, kind: 'host' })),
    links: [
      { id: 'x', a: 'a', b: 'b' },
      { id: 'y', a: 'c', b: 'd' },
    ],
  });
  const router = new Router(graph);
  expect(rounds(router, [0, 1, 2, 3], { width: 9, unknownWay: 'skip' }).map((round) => round.length)).toEqual(
    [2, 2],
  );
  const plan = rounds(router, [0, 1, 2, 3], { width: 9, unknownWay: 'alone' });
  expect(plan.flat().length).toBe(12);
  expect(plan.slice(2).every((round) => round.length === 1)).toBe(true);
});

test('the interval of a proportion holds what it should, also of none and of all', () => {
  // Wilson's interval of 5 in 100, from R's prop.test(5, 100, correct = FALSE).
  const { low, high } = interval(5, 100);
  expect([low.toFixed(5), high.toFixed(5)]).toEqual(['0.02154', '0.11175']);
  expect(interval(0, 1000).low).toBe(0);
  expect(interval(1000, 1000).high).toBe(1);
  expect(interval(0, 0)).toEqual({ low: 0, high: 1 });
});

test('hosts are measured at an address in a common subnet, never at one that several have', () => {
  const a = factsOf('a', { eth0: '192.0.2.1/24', eth1: '10.1.0.1/24', docker0: '172.17.0.1/16' });
  const b = factsOf('b', { docker0: '172.17.0.1/16', eth0: '198.51.100.2/24', eth1: '10.1.0.2/24' });
  const c = factsOf('c', { docker0: '172.17.0.1/16', eth0: '203.0.113.3/24' });
  const all = [a, b, c];
  expect(addressBetween(a, b, all)).toBe('10.1.0.2');
  expect(addressBetween(a, c, all)).toBe('203.0.113.3');
  expect(addressBetween(c, b, all)).toBe('198.51.100.2');
  expect(addressBetween(a, factsOf('d', { docker0: '172.17.0.1/16' }), all)).toBeUndefined();
  expect(mergeFacts(all).nodes.length).toBeGreaterThan(3);
});

test('short trains that arrive in one burst do not make the loss be counted on a full link', async () => {
  const link_bps = 8e6;
  const trains: { bytes: number; rate_bps: number }[] = [];
  const words: Record<string, (rest: number[]) => number[]> = {
    expect: () => [],
    mtu: () => [1500],
    ask: () => [40, 1e6],
    send([, , bytes = 0, packets = 0, gap_ns = 1]) {
      trains.push({ bytes, rate_bps: ((bytes + 42) * 8e9) / gap_ns });
      return [packets, 0, 0];
    },
    report() {
      const { bytes, rate_bps } = trains.at(-1) ?? { bytes: 0, rate_bps: 0 };
      const burst = rate_bps < link_bps / 2 && bytes > 1000;
      return [0, 0, burst ? 5e7 : Math.min(rate_bps, link_bps), 0];
    },
  };
  const agent = {
    port: 1,
    ask: async (command: string) => {
      const [word = '', ...rest] = command.split(' ');
      return words[word]?.(rest.slice(1).map(Number)) ?? [];
    },
  } as unknown as Agent;
  const found = await measure(agent, agent, '10.0.0.1', { time_ns: 1e6, lossPackets: 10, limit_bps: 1e9 });
  expect(found).toMatchObject({ saturated: true });
  const last = trains.at(-1);
  expect(last?.bytes).toBe(32);
  expect(last?.rate_bps).toBeLessThan(link_bps * 0.51);
});
