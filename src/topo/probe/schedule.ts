/**
 * Who is measured with whom at the same time: in one round no two pairs share a direction of a link or a node, so that no
 * measurement disturbs another.
 */

import type { Router } from '../ecmp/routes.ts';

export interface Pair {
  source: number;
  destination: number;
}

/** Every arc that some flow of the pair may take. */
function arcsOf(router: Router, { source, destination }: Pair): Set<number> {
  const { hops } = router.routesTo(destination);
  const arcs = new Set<number>();
  const seen = new Set([source]);
  const queue = [source];
  for (let node = queue.pop(); node !== undefined; node = queue.pop()) {
    for (const { number, to } of hops[node] ?? []) {
      arcs.add(number);
      if (seen.has(to)) continue;
      seen.add(to);
      queue.push(to);
    }
  }
  return arcs;
}

export interface ScheduleOptions {
  /** Pairs in a round, at most. */
  width: number;
  /** Whether a pair is measured; all are when absent. */
  wanted?(source: number, destination: number): boolean;
  /** Pairs whose way is not in the graph: left out, or each in a round of its own, because they may share anything. */
  unknownWay: 'skip' | 'alone';
}

/** All ordered pairs in rounds. Greedy, in the order given. */
export function rounds(router: Router, ends: readonly number[], options: ScheduleOptions): Pair[][] {
  const { width, wanted = () => true, unknownWay } = options;
  const list: { pairs: Pair[]; arcs: Set<number>; nodes: Set<number> }[] = [];
  const alone: Pair[][] = [];
  for (const source of ends) {
    for (const destination of ends) {
      if (source === destination || !wanted(source, destination)) continue;
      const pair = { source, destination };
      if (!Number.isFinite(router.routesTo(destination).distance[source])) {
        if (unknownWay === 'alone') alone.push([pair]);
        continue;
      }
      const arcs = arcsOf(router, pair);
      const free = list.find(
        (round) =>
          round.pairs.length < width &&
          !round.nodes.has(source) &&
          !round.nodes.has(destination) &&
          [...arcs].every((arc) => !round.arcs.has(arc)),
      );
      const round = free ?? { pairs: [], arcs: new Set<number>(), nodes: new Set<number>() };
      if (!free) list.push(round);
      round.pairs.push(pair);
      round.nodes.add(source).add(destination);
      for (const arc of arcs) round.arcs.add(arc);
    }
  }
  return [...list.map(({ pairs }) => pairs), ...alone];
}
