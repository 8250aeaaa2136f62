/** Counts of a topology for people: nodes by tier or kind, links by what they join and what they carry. */

import type { Topology } from './model/schema.ts';
import { shortRate } from './quantity.ts';

export interface Summary {
  nodes: { what: string; count: number }[];
  links: { between: string; count: number; capacity: string; total_bps: number }[];
}

export function summarise(topology: Topology): Summary {
  const what = new Map<string, string>();
  const nodes = new Map<string, number>();
  for (const { id, kind, tier } of topology.nodes) {
    const name = kind === 'host' || tier === undefined ? kind : `${kind} tier ${tier}`;
    what.set(id, name);
    nodes.set(name, (nodes.get(name) ?? 0) + 1);
  }
  const links = new Map<string, Summary['links'][number]>();
  for (const { a, b, capacity_bps } of topology.links) {
    const between = [what.get(a) ?? '', what.get(b) ?? ''].join(' - ');
    const capacity = capacity_bps === undefined ? 'unknown' : shortRate(capacity_bps);
    const row = links.get(`${between} ${capacity}`) ?? { between, count: 0, capacity, total_bps: 0 };
    row.count += 1;
    row.total_bps += capacity_bps ?? 0;
    links.set(`${between} ${capacity}`, row);
  }
  return { nodes: [...nodes].map(([name, count]) => ({ what: name, count })), links: [...links.values()] };
}
