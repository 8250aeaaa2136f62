/** Measures all pairs of nodes of an emulation and writes the answer as the matrix that `topo generate wan` reads. */

import { join } from 'node:path';
import * as v from 'valibot';
import { formatAddress, Router } from '../ecmp/routes.ts';
import { endpoints } from '../ecmp/traffic.ts';
import { folderOf, load } from '../emulate/state.ts';
import { readTopology } from '../formats/index.ts';
import { cellText, matrixText } from '../formats/matrix.ts';
import { Graph } from '../model/graph.ts';
import { measure, type ProbeOptions } from './measure.ts';
import { rounds } from './schedule.ts';

export const ProbeReport = v.object({
  emulation: v.string(),
  pairs: v.array(
    v.object({
      from: v.string(),
      to: v.string(),
      rate_bps: v.number(),
      /** The least of several; null when no packet came back. */
      rtt_ns: v.nullable(v.number()),
      loss_ratio: v.number(),
    }),
  ),
});
export type ProbeReport = v.InferOutput<typeof ProbeReport>;
type Row = ProbeReport['pairs'][number];

export interface MatrixProbe extends ProbeOptions {
  /** Only direct neighbours: then the matrix is the one the network was made from. */
  direct: boolean;
  /** Pairs measured at the same time. */
  parallel: number;
  /** Called after every pair. */
  onPair?: ((row: Row, done: number, total: number) => void) | undefined;
}

export async function probe(name: string, options: MatrixProbe): Promise<ProbeReport> {
  const topology = await readTopology(join(folderOf(name), 'topology.json'));
  const spaces = load(name)?.spaces ?? {};
  const router = new Router(new Graph(topology));
  const { nodes } = router.graph;
  const neighbours = new Set(
    topology.links.flatMap(({ a, b }) => [JSON.stringify([a, b]), JSON.stringify([b, a])]),
  );
  const plan = rounds(router, endpoints(router), options.parallel)
    .map((round) =>
      round.filter(
        ({ source, destination }) =>
          !options.direct || neighbours.has(JSON.stringify([nodes[source]?.id, nodes[destination]?.id])),
      ),
    )
    .filter((round) => round.length > 0);
  const total = plan.reduce((sum, round) => sum + round.length, 0);
  const pairs: Row[] = [];
  for (const round of plan) {
    if (options.signal?.aborted) break;
    await Promise.all(
      round.map(async ({ source, destination }) => {
        const [from, to] = [nodes[source]?.id ?? '', nodes[destination]?.id ?? ''];
        const measured = await measure(
          spaces[from] ?? '',
          spaces[to] ?? '',
          formatAddress(router.address(destination)),
          options,
        );
        const row = { from, to, ...measured };
        pairs.push(row);
        options.onPair?.(row, pairs.length, total);
      }),
    );
  }
  return { emulation: name, pairs };
}

/** Three digits are more than a measurement is good for; loss below one packet in a thousand counts as none. */
function rounded(value: number, digits: number): number {
  return Number(value.toPrecision(digits));
}

export function matrixOf(report: ProbeReport): string {
  const names = [...new Set(report.pairs.flatMap(({ from, to }) => [from, to]))];
  const rows = new Map(report.pairs.map((row) => [JSON.stringify([row.from, row.to]), row]));
  return matrixText(names, (from, to) => {
    const row = rows.get(JSON.stringify([names[from], names[to]]));
    if (!row || row.rate_bps <= 0) return '-';
    return cellText({
      capacity_bps: Math.round(rounded(row.rate_bps, 4)),
      ...(row.rtt_ns === null ? {} : { delay_ns: Math.round(rounded(row.rtt_ns, 4)) / 2 }),
      ...(row.loss_ratio > 0.001 ? { loss_ratio: rounded(row.loss_ratio, 3) } : {}),
    });
  });
}
