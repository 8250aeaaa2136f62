/** Shortest paths with all equal next hops, as routing protocols install them. Hosts end flows and forward none. */

import { RdmakitError } from '../../errors.ts';
import { hostAddress } from '../generate/common.ts';
import type { Arc, Graph } from '../model/graph.ts';

/** Next hops towards one destination: for each node the arcs of least metric, in the order of the links. */
export interface Routes {
  destination: number;
  /** Metric of the way, Infinity where there is none. */
  distance: Float64Array;
  hops: readonly (readonly Arc[])[];
}

/** A binary heap of nodes by distance. */
class Heap {
  readonly #items: { node: number; distance: number }[] = [];

  get size(): number {
    return this.#items.length;
  }

  push(node: number, distance: number): void {
    const items = this.#items;
    let at = items.length;
    items.push({ node, distance });
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if ((items[parent]?.distance ?? 0) <= distance) break;
      items[at] = items[parent] as { node: number; distance: number };
      at = parent;
    }
    items[at] = { node, distance };
  }

  pop(): { node: number; distance: number } {
    const items = this.#items;
    const first = items[0] as { node: number; distance: number };
    const last = items.pop() as { node: number; distance: number };
    if (items.length === 0) return first;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= items.length) break;
      if ((items[child + 1]?.distance ?? Number.POSITIVE_INFINITY) < (items[child]?.distance ?? 0))
        child += 1;
      if ((items[child]?.distance ?? 0) >= last.distance) break;
      items[at] = items[child] as { node: number; distance: number };
      at = child;
    }
    items[at] = last;
    return first;
  }
}

export class Router {
  readonly graph: Graph;
  readonly #cache = new Map<number, Routes>();
  readonly #addresses: readonly number[];

  constructor(graph: Graph) {
    this.graph = graph;
    this.#addresses = addressesOf(graph);
  }

  /** Address of a node as a 32-bit number: its own, or one in 10.0.0.0/8 by its number. */
  address(node: number): number {
    return this.#addresses[node] ?? 0;
  }

  routesTo(destination: number): Routes {
    const cached = this.#cache.get(destination);
    if (cached) return cached;
    const { graph } = this;
    const distance = new Float64Array(graph.nodes.length).fill(Number.POSITIVE_INFINITY);
    distance[destination] = 0;
    const heap = new Heap();
    heap.push(destination, 0);
    while (heap.size > 0) {
      const { node, distance: here } = heap.pop();
      if (here > (distance[node] ?? 0)) continue;
      // Nothing goes through a host.
      if (node !== destination && graph.nodes[node]?.kind === 'host') continue;
      for (const { to, link } of graph.leaving[node] ?? []) {
        const there = here + (link.metric ?? 1);
        if (there >= (distance[to] ?? 0)) continue;
        distance[to] = there;
        heap.push(to, there);
      }
    }
    const hops = graph.leaving.map((arcs, node) =>
      node === destination
        ? []
        : arcs.filter(({ to, link }) => {
            if (to !== destination && graph.nodes[to]?.kind === 'host') return false;
            const way = (distance[to] ?? 0) + (link.metric ?? 1);
            return Number.isFinite(way) && Math.abs(way - (distance[node] ?? 0)) < 1e-9;
          }),
    );
    const routes = { destination, distance, hops };
    this.#cache.set(destination, routes);
    return routes;
  }

  /** Number of a node by id; an unknown one is the user's mistake. */
  find(id: string): number {
    const number = this.graph.numberOf(id);
    if (number !== undefined) return number;
    const some = this.graph.nodes.slice(0, 5).map((node) => node.id);
    throw new RdmakitError({
      kind: 'usage',
      what: `the topology has no node '${id}'`,
      remedy: `name one of its ${this.graph.nodes.length} nodes: ${some.join(', ')}${this.graph.nodes.length > 5 ? ', ...' : ''}`,
    });
  }
}

export function parseAddress(text: string): number {
  return text.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
}

export function formatAddress(address: number): string {
  return [24, 16, 8, 0].map((shift) => (address >>> shift) & 0xff).join('.');
}

/** Every node's address; those without one get free ones of 10.0.0.0/8 in the order of the nodes. */
export function addressesOf(graph: Graph): number[] {
  const taken = new Set(
    graph.nodes.flatMap(({ address }) => (address === undefined ? [] : [parseAddress(address)])),
  );
  let next = 0;
  return graph.nodes.map(({ address }) => {
    if (address !== undefined) return parseAddress(address);
    for (;;) {
      const free = parseAddress(hostAddress(next));
      next += 1;
      if (taken.has(free)) continue;
      taken.add(free);
      return free;
    }
  });
}
