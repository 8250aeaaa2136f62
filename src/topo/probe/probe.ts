/** Measures all pairs of nodes and writes the answer as the matrix that `topo generate wan` reads. */

import * as v from 'valibot';
import { cellText, matrixText } from '../formats/matrix.ts';
import type { Agent } from './agent.ts';
import { type Measured, measure, type ProbeOptions } from './measure.ts';
import { rounds } from './schedule.ts';
import type { Sites } from './sites.ts';

const ratio = v.pipe(v.number(), v.minValue(0), v.maxValue(1));
const amount = v.pipe(v.number(), v.finite(), v.minValue(0));

const Pair = v.object({
  from: v.string(),
  to: v.string(),
  rate_bps: amount,
  /** False when the machine could not send enough to fill the way: the rate is a lower bound. */
  saturated: v.boolean(),
  /** The least of several; null when no packet came back. */
  rtt_ns: v.nullable(amount),
  loss_ratio: ratio,
  /** The interval of 95 % confidence. */
  loss_low: ratio,
  loss_high: ratio,
});

export const ProbeReport = v.object({
  /** null: hosts over ssh. */
  emulation: v.nullable(v.string()),
  pairs: v.array(Pair),
});
export type ProbeReport = v.InferOutput<typeof ProbeReport>;
export type ProbePair = v.InferOutput<typeof Pair>;

export interface MatrixProbe extends ProbeOptions {
  /** Only direct neighbours: then the matrix is the one the network was made from. */
  direct: boolean;
  /** Pairs measured at the same time, at most. */
  parallel: number;
  /** Called after every pair. */
  onPair?: ((row: ProbePair, done: number, total: number) => void) | undefined;
}

/** Measures; what was measured until `signal` is in the report. */
export async function probe(sites: Sites, options: MatrixProbe): Promise<ProbeReport> {
  const { router, ends } = sites;
  const { nodes, leaving } = router.graph;
  const neighbours = (from: number, to: number): boolean =>
    leaving[from]?.some((arc) => arc.to === to) ?? false;
  const plan = rounds(router, ends, {
    width: options.parallel,
    wanted: (from, to) => !options.direct || neighbours(from, to),
    unknownWay: sites.emulation === null ? 'alone' : 'skip',
  });
  const total = plan.reduce((sum, round) => sum + round.length, 0);
  const agents = new Map<number, Promise<Agent>>();
  const agentAt = (node: number): Promise<Agent> => {
    const known = agents.get(node) ?? sites.start(node);
    agents.set(node, known);
    return known;
  };
  const pairs: ProbePair[] = [];
  try {
    for (const round of plan) {
      if (options.signal?.aborted) break;
      await Promise.all(
        round.map(async ({ source, destination }) => {
          const address = sites.address(source, destination);
          if (address === undefined) return;
          const [from, to] = await Promise.all([agentAt(source), agentAt(destination)]);
          const measured: Measured = await measure(from, to, address, options);
          if (options.signal?.aborted) return;
          const row = { from: nodes[source]?.id ?? '', to: nodes[destination]?.id ?? '', ...measured };
          pairs.push(row);
          options.onPair?.(row, pairs.length, total);
        }),
      );
    }
  } finally {
    const started = await Promise.allSettled(agents.values());
    await Promise.all(started.map((each) => (each.status === 'fulfilled' ? each.value.close() : undefined)));
  }
  return { emulation: sites.emulation, pairs };
}

/** More digits than a measurement is good for would only look exact. */
function rounded(value: number, digits: number): number {
  return Number(value.toPrecision(digits));
}

/** The matrix; a loss that may as well be none is not written. */
export function matrixOf(report: ProbeReport): string {
  const names = [...new Set(report.pairs.flatMap(({ from, to }) => [from, to]))];
  const rows = new Map(report.pairs.map((row) => [JSON.stringify([row.from, row.to]), row]));
  return matrixText(names, (from, to) => {
    const row = rows.get(JSON.stringify([names[from], names[to]]));
    if (!row || row.rate_bps <= 0) return '-';
    return cellText({
      capacity_bps: Math.round(rounded(row.rate_bps, 4)),
      ...(row.rtt_ns === null ? {} : { delay_ns: Math.round(rounded(row.rtt_ns, 4)) / 2 }),
      ...(row.loss_low > 1e-4 ? { loss_ratio: rounded(row.loss_ratio, 3) } : {}),
    });
  });
}
