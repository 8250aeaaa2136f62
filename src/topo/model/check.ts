/** What a schema cannot say about a topology: ids are unique, ends exist, ports are used once. */

import type { Topology } from './schema.ts';

export interface Mistake {
  /** Where, as in JSON: ['links', 3, 'a']. */
  path: (string | number)[];
  message: string;
}

/** The first thing that is wrong, undefined when nothing is. */
export function firstMistake(topology: Topology): Mistake | undefined {
  const nodes = new Set<string>();
  for (const [at, node] of topology.nodes.entries()) {
    if (nodes.has(node.id))
      return { path: ['nodes', at, 'id'], message: `a second node is named '${node.id}'` };
    nodes.add(node.id);
  }
  const links = new Set<string>();
  const ports = new Map<string, Set<string>>();
  for (const [at, link] of topology.links.entries()) {
    const path = (key: string): Mistake['path'] => ['links', at, key];
    if (links.has(link.id)) return { path: path('id'), message: `a second link is named '${link.id}'` };
    links.add(link.id);
    for (const end of ['a', 'b'] as const) {
      const id = link[end];
      if (!nodes.has(id))
        return { path: path(end), message: `link '${link.id}' ends at '${id}', which is no node` };
      const port = link[`${end}_port`];
      if (port === undefined) continue;
      const used = ports.get(id) ?? new Set();
      ports.set(id, used);
      if (used.has(port))
        return { path: path(`${end}_port`), message: `port '${port}' of '${id}' has two links` };
      used.add(port);
    }
    if (link.a === link.b)
      return { path: path('b'), message: `link '${link.id}' joins '${link.a}' to itself` };
  }
  for (const [at, demand] of (topology.demands ?? []).entries()) {
    for (const end of ['from', 'to'] as const) {
      if (nodes.has(demand[end])) continue;
      return { path: ['demands', at, end], message: `a demand names '${demand[end]}', which is no node` };
    }
  }
  return undefined;
}
