/** Load of every link direction under a set of flows, how even it is, and whether hashing is polarised. */

import { directionOf, qualityOf } from '../model/graph.ts';
import type { HashModel } from './hash.ts';
import type { Router } from './routes.ts';
import { type Flow, trace } from './trace.ts';

/** A flow with its rate. */
export interface Weighted extends Flow {
  rate_bps: number;
}

/** Jain's index of fairness: 1 when all are equal, 1/n when one has all. */
export function jain(values: readonly number[]): number {
  let sum = 0;
  let squares = 0;
  for (const value of values) {
    sum += value;
    squares += value * value;
  }
  return squares === 0 ? 1 : (sum * sum) / (values.length * squares);
}

export function maxOverMean(values: readonly number[]): number {
  const sum = values.reduce((total, value) => total + value, 0);
  return sum === 0 ? 1 : (values.reduce((most, value) => Math.max(most, value), 0) * values.length) / sum;
}

export interface SwitchUse {
  node: number;
  /** Flows that had a choice here. */
  flows: number;
  /** The arcs chosen from, with their flows. */
  counts: Map<number, number>;
  /**
   * Fewer next hops are used than chance allows: with n hops and m flows of an independent hash, the chance that any stays
   * unused is at most n (1 - 1/n)^m; below one in a thousand the hash repeats what an earlier switch did.
   */
  polarised: boolean;
}

export interface Load {
  /** Bits a second of each arc. */
  rate_bps: Float64Array;
  flows: Uint32Array;
  switches: SwitchUse[];
}

/** Traces all flows and adds them up. */
export function loadOf(router: Router, model: HashModel, flows: readonly Weighted[]): Load {
  const { arcs } = router.graph;
  const rate_bps = new Float64Array(arcs.length);
  const counts = new Uint32Array(arcs.length);
  // A choice is a node together with the set of next hops: two destinations may have different sets.
  const uses = new Map<
    string,
    { node: number; hops: number[]; counts: Map<number, number>; flows: number }
  >();
  for (const flow of flows) {
    const path = trace(router, model, flow);
    const { hops } = router.routesTo(flow.destination);
    for (const arc of path.arcs) {
      rate_bps[arc.number] = (rate_bps[arc.number] ?? 0) + flow.rate_bps;
      counts[arc.number] = (counts[arc.number] ?? 0) + 1;
      const equal = hops[arc.from] ?? [];
      if (equal.length < 2) continue;
      const key = `${arc.from}:${equal.map(({ number }) => number).join(' ')}`;
      const use = uses.get(key) ?? {
        node: arc.from,
        hops: equal.map(({ number }) => number),
        counts: new Map(),
        flows: 0,
      };
      use.flows += 1;
      use.counts.set(arc.number, (use.counts.get(arc.number) ?? 0) + 1);
      uses.set(key, use);
    }
  }
  const switches = [...uses.values()].map(({ node, hops, counts: found, flows: total }) => {
    const n = hops.length;
    const chance = n * (1 - 1 / n) ** total;
    for (const hop of hops) if (!found.has(hop)) found.set(hop, 0);
    const unused = [...found.values()].some((count) => count === 0);
    return { node, flows: total, counts: found, polarised: unused && chance < 0.001 };
  });
  return { rate_bps, flows: counts, switches };
}

/** Share of its capacity that each arc carries; undefined where the capacity is not known. */
export function utilisation(router: Router, load: Load): (number | undefined)[] {
  return router.graph.arcs.map((arc) => {
    const { capacity_bps } = qualityOf(arc.link, directionOf(arc));
    return capacity_bps === undefined ? undefined : (load.rate_bps[arc.number] ?? 0) / capacity_bps;
  });
}
