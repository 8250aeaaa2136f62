/** The path of a flow: at every node the hash model picks one of the equal next hops. */

import { RdmakitError } from '../../errors.ts';
import type { Arc } from '../model/graph.ts';
import { choose, type FiveTuple, type HashModel } from './hash.ts';
import type { Router } from './routes.ts';

export const UDP = 17;
export const TCP = 6;
/** Where RoCE v2 packets go. */
export const ROCE_PORT = 4791;

/** A flow between two nodes; the ports say which of many. */
export interface Flow {
  source: number;
  destination: number;
  protocol: number;
  sourcePort: number;
  destinationPort: number;
}

export function tupleOf(router: Router, flow: Flow): FiveTuple {
  return { ...flow, source: router.address(flow.source), destination: router.address(flow.destination) };
}

export interface Path {
  arcs: Arc[];
  /** At each node of the way how many equal next hops there were. */
  choices: number[];
}

/** Follows a flow. Throws when there is no way. */
export function trace(router: Router, model: HashModel, flow: Flow): Path {
  const { hops, distance } = router.routesTo(flow.destination);
  if (!Number.isFinite(distance[flow.source])) {
    const [from, to] = [flow.source, flow.destination].map((node) => router.graph.nodes[node]?.id);
    throw new RdmakitError({
      kind: 'usage',
      what: `there is no way from '${from}' to '${to}'`,
      remedy: 'add the links that are missing',
    });
  }
  const tuple = tupleOf(router, flow);
  const arcs: Arc[] = [];
  const choices: number[] = [];
  for (let node = flow.source; node !== flow.destination; ) {
    const equal = hops[node] ?? [];
    const arc = equal[choose(model, tuple, node, equal.length)];
    if (!arc) throw new Error(`no next hop at ${node}`);
    arcs.push(arc);
    choices.push(equal.length);
    node = arc.to;
  }
  return { arcs, choices };
}

/**
 * The 20-bit flow label whose RoCE v2 source port is `port`: drivers fold a label into (low 14 bits XOR high 6 bits) OR
 * 0xC000. Labels below 2^14 map one to one; 0 means "choose for me", so port 0xC000 takes a folded label.
 */
export function flowLabel(port: number): number | undefined {
  if (port < 0xc000) return undefined;
  return port & 0x3fff || 0x4001;
}
