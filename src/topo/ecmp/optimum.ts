/**
 * The smallest possible utilisation of the busiest link when demands may be split at will over their shortest paths: a
 * linear program, solved by HiGHS. What any choice of source ports is measured against.
 */

import { RdmakitError } from '../../errors.ts';
import { capacities } from './assign.ts';
import type { Weighted } from './load.ts';
import type { Router } from './routes.ts';

/** The part of the package that is used; its own types describe it as CommonJS, with `default` one level too high. */
interface Solver {
  solve(program: string): { Status: string; ObjectiveValue: number };
}

const MAX_VARIABLES = 200_000;

/** Largest utilisation of any link in the optimum. Flows to one destination share variables. */
export async function optimum(router: Router, flows: readonly Weighted[]): Promise<number> {
  const capacity = capacities(router);
  const demand = new Map<number, Map<number, number>>();
  for (const { source, destination, rate_bps } of flows) {
    const to = demand.get(destination) ?? new Map<number, number>();
    to.set(source, (to.get(source) ?? 0) + rate_bps);
    demand.set(destination, to);
  }
  const total = flows.reduce((sum, { rate_bps }) => sum + rate_bps, 0) || 1;
  const onArc = new Map<number, string[]>();
  const rows: string[] = [];
  let variables = 0;
  for (const [destination, sources] of demand) {
    const { hops } = router.routesTo(destination);
    // Nodes that traffic to this destination can reach, and what enters each.
    const entering = new Map<number, string[]>();
    const seen = new Set<number>(sources.keys());
    const queue = [...sources.keys()];
    for (let node = queue.pop(); node !== undefined; node = queue.pop()) {
      for (const arc of hops[node] ?? []) {
        const name = `f${destination}_${arc.number}`;
        variables += 1;
        entering.set(arc.to, [...(entering.get(arc.to) ?? []), name]);
        onArc.set(arc.number, [...(onArc.get(arc.number) ?? []), name]);
        if (arc.to === destination || seen.has(arc.to)) continue;
        seen.add(arc.to);
        queue.push(arc.to);
      }
    }
    if (variables > MAX_VARIABLES) {
      throw new RdmakitError({
        kind: 'usage',
        what: 'the linear program of the optimum is too large',
        cause: `more than ${MAX_VARIABLES} variables`,
        remedy: 'leave --optimum away, or give fewer flows',
      });
    }
    for (const node of seen) {
      const out = (hops[node] ?? []).map((arc) => `+ f${destination}_${arc.number}`);
      const into = (entering.get(node) ?? []).map((name) => `- ${name}`);
      rows.push(`${[...out, ...into].join(' ')} = ${(sources.get(node) ?? 0) / total}`);
    }
  }
  for (const [arc, names] of onArc) {
    rows.push(`${names.map((name) => `+ ${name}`).join(' ')} - ${(capacity[arc] ?? 1) / total} t <= 0`);
  }
  const program = `Minimize\n obj: t\nSubject To\n${rows.map((row, at) => ` r${at}: ${row}`).join('\n')}\nEnd\n`;
  const { default: load } = (await import('highs')) as unknown as { default: () => Promise<Solver> };
  const solution = (await load()).solve(program);
  if (solution.Status !== 'Optimal') throw new Error(`the linear program is ${solution.Status}`);
  return solution.ObjectiveValue;
}
