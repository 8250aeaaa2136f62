/** Sets of flows: between two nodes, or after a pattern among all hosts. */

import { RdmakitError } from '../../errors.ts';
import type { Weighted } from './load.ts';
import type { Router } from './routes.ts';

export const PATTERNS = ['permutation', 'ring', 'all-to-all', 'incast', 'demands'] as const;
export type Pattern = (typeof PATTERNS)[number];

/** More flows than this are refused. */
const MAX_FLOWS = 2_000_000;

export interface TrafficOptions {
  /** Between these two; otherwise after `pattern`. */
  pair?: { source: number; destination: number } | undefined;
  pattern: Pattern;
  /** Flows between every two nodes that talk. */
  flows: number;
  /** Rate of a flow; with the pattern `demands` the file's rates are divided among the flows. */
  rate_bps: number;
  protocol: number;
  destinationPort: number;
  /** Source ports in turn. */
  ports: { first: number; last: number };
}

/** Nodes between which patterns send: the hosts, or all nodes where there are none. */
export function endpoints(router: Router): number[] {
  const hosts = router.graph.nodes.flatMap(({ kind }, at) => (kind === 'host' ? [at] : []));
  return hosts.length > 0 ? hosts : router.graph.nodes.map((_, at) => at);
}

interface Pair {
  source: number;
  destination: number;
  rate_bps?: number;
}

function pairs(router: Router, pattern: Pattern): Pair[] {
  const ends = endpoints(router);
  const n = ends.length;
  const pick = (i: number, j: number) => ({ source: ends[i % n] ?? 0, destination: ends[j % n] ?? 0 });
  switch (pattern) {
    case 'permutation':
      return ends.map((_, i) => pick(i, i + Math.floor(n / 2)));
    case 'ring':
      return ends.map((_, i) => pick(i, i + 1));
    case 'incast':
      return ends.slice(1).map((_, i) => pick(i + 1, 0));
    case 'all-to-all':
      if (n * (n - 1) > MAX_FLOWS) throw tooMany(n * (n - 1));
      return ends.flatMap((_, i) => ends.flatMap((__, j) => (i === j ? [] : [pick(i, j)])));
    case 'demands': {
      const { demands = [] } = router.graph.topology;
      if (demands.length === 0) {
        throw new RdmakitError({
          kind: 'usage',
          what: 'the topology has no demands',
          remedy: 'name another --pattern',
        });
      }
      return demands.map(({ from, to, rate_bps }) => ({
        source: router.find(from),
        destination: router.find(to),
        rate_bps,
      }));
    }
  }
}

function tooMany(count: number): RdmakitError {
  return new RdmakitError({
    kind: 'usage',
    what: `these are ${count} flows`,
    cause: `the limit is ${MAX_FLOWS}`,
    remedy: 'give fewer --flows or another --pattern',
  });
}

/** The flows, in a fixed order. */
export function trafficOf(router: Router, options: TrafficOptions): Weighted[] {
  const { ports, protocol, destinationPort } = options;
  const wanted: Pair[] = options.pair ? [options.pair] : pairs(router, options.pattern);
  const list = wanted.filter(({ source, destination }) => source !== destination);
  if (list.length * options.flows > MAX_FLOWS) throw tooMany(list.length * options.flows);
  const room = ports.last - ports.first + 1;
  return list.flatMap((pair) =>
    Array.from({ length: options.flows }, (_, i) => ({
      source: pair.source,
      destination: pair.destination,
      protocol,
      sourcePort: ports.first + (i % room),
      destinationPort,
      rate_bps: pair.rate_bps === undefined ? options.rate_bps : pair.rate_bps / options.flows,
    })),
  );
}
