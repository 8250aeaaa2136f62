/**
 * Chooses paths for flows so that the busiest link is as idle as possible, and source ports that take these paths.
 *
 * Every flow takes the path of least cost, where the cost of a link grows steeply with its use, and the flows are moved
 * one by one until none gains: a local search on a high power of the utilisation, which approaches the largest one as
 * the power rises. Shortest paths only, so that routing needs no change.
 */

import type { Arc } from '../model/graph.ts';
import { directionOf, qualityOf } from '../model/graph.ts';
import { choose, type HashModel } from './hash.ts';
import type { Weighted } from './load.ts';
import type { Router } from './routes.ts';
import { tupleOf } from './trace.ts';

const ROUNDS = 40;

/** Capacities of the arcs; links of unknown capacity count as the median of the known, or 1 when none is known. */
export function capacities(router: Router): Float64Array {
  const known = router.graph.arcs.map((arc) => qualityOf(arc.link, directionOf(arc)).capacity_bps);
  const sorted = known.filter((value) => value !== undefined).sort((a, b) => a - b);
  const usual = sorted[sorted.length >> 1] ?? 1;
  return Float64Array.from(known, (value) => value ?? usual);
}

/** A path for each flow. */
export function assignPaths(router: Router, flows: readonly Weighted[]): Arc[][] {
  const capacity = capacities(router);
  const load = new Float64Array(capacity.length);
  const paths: Arc[][] = flows.map(() => []);
  // Largest first: what is left over is small and fills gaps.
  const order = flows
    .map((_, at) => at)
    .sort((a, b) => (flows[b]?.rate_bps ?? 0) - (flows[a]?.rate_bps ?? 0) || a - b);
  const place = (at: number, path: Arc[]): void => {
    for (const { number } of path) load[number] = (load[number] ?? 0) + (flows[at]?.rate_bps ?? 0);
    paths[at] = path;
  };
  for (let round = 0; round < ROUNDS; round++) {
    // Mild at first, for a good general direction; then ever closer to "only the busiest link matters".
    const power = Math.min(64, 2 + round * 2);
    const most = load.reduce((max, value, at) => Math.max(max, value / (capacity[at] ?? 1)), 0) || 1;
    let moved = 0;
    for (const at of order) {
      const flow = flows[at] as Weighted;
      const old = paths[at] ?? [];
      for (const { number } of old) load[number] = (load[number] ?? 0) - flow.rate_bps;
      const path = cheapest(router, flow, (arc) => {
        const full = (capacity[arc.number] ?? 1) * most;
        const before = (load[arc.number] ?? 0) / full;
        const after = before + flow.rate_bps / full;
        return after ** power - before ** power;
      });
      const same = path.length === old.length && path.every((arc, i) => arc === old[i]);
      if (!same) moved += 1;
      place(at, path);
    }
    if (moved === 0 && round > 8) break;
  }
  return paths;
}

/** The path of least total cost among the shortest ones. */
function cheapest(router: Router, flow: Weighted, cost: (arc: Arc) => number): Arc[] {
  const { hops } = router.routesTo(flow.destination);
  const best = new Map<number, { total: number; arc: Arc | undefined }>([
    [flow.destination, { total: 0, arc: undefined }],
  ]);
  // Depth first with a stack of its own; the next hops form no cycle.
  const stack = [flow.source];
  while (stack.length > 0) {
    const node = stack.at(-1) as number;
    if (best.has(node)) {
      stack.pop();
      continue;
    }
    const waiting = (hops[node] ?? []).filter(({ to }) => !best.has(to));
    if (waiting.length > 0) {
      for (const { to } of waiting) stack.push(to);
      continue;
    }
    let choice: { total: number; arc: Arc | undefined } = { total: Number.POSITIVE_INFINITY, arc: undefined };
    for (const arc of hops[node] ?? []) {
      const total = cost(arc) + (best.get(arc.to)?.total ?? Number.POSITIVE_INFINITY);
      if (total < choice.total) choice = { total, arc };
    }
    best.set(node, choice);
    stack.pop();
  }
  const path: Arc[] = [];
  for (let node = flow.source; node !== flow.destination; ) {
    const arc = best.get(node)?.arc;
    if (!arc) return [];
    path.push(arc);
    node = arc.to;
  }
  return path;
}

/**
 * A source port for each flow that takes its path, no port twice between the same two nodes; undefined where no port of
 * the range does (the hash reaches not every combination of hops).
 */
export function portsFor(
  router: Router,
  model: HashModel,
  flows: readonly Weighted[],
  paths: readonly (readonly Arc[])[],
  ports: { first: number; last: number },
): (number | undefined)[] {
  const used = new Map<number, Set<number>>();
  // Where the search of a pair goes on: ports that took other paths are remembered by path.
  const pools = new Map<number, { next: number; byPath: Map<string, number[]> }>();
  return flows.map((flow, at) => {
    const pair = flow.source * router.graph.nodes.length + flow.destination;
    const pool = pools.get(pair) ?? { next: ports.first, byPath: new Map<string, number[]>() };
    pools.set(pair, pool);
    const taken = used.get(pair) ?? new Set();
    used.set(pair, taken);
    const wanted = (paths[at] ?? []).map(({ number }) => number).join(' ');
    const { hops } = router.routesTo(flow.destination);
    for (;;) {
      const known = pool.byPath.get(wanted)?.shift();
      if (known !== undefined) return known;
      if (pool.next > ports.last) return undefined;
      const sourcePort = pool.next;
      pool.next += 1;
      const tuple = tupleOf(router, { ...flow, sourcePort });
      const steps: number[] = [];
      for (let node = flow.source; node !== flow.destination; ) {
        const equal = hops[node] ?? [];
        const arc = equal[choose(model, tuple, node, equal.length)];
        if (!arc) break;
        steps.push(arc.number);
        node = arc.to;
      }
      const key = steps.join(' ');
      const list = pool.byPath.get(key);
      if (list) list.push(sourcePort);
      else pool.byPath.set(key, [sourcePort]);
    }
  });
}
