/** A topology as arrays for algorithms: node and link numbers, and the directed arcs that leave each node. */

import type { Link, Node, Quality, Topology } from './schema.ts';

/** One direction of a link. Arc 2i is link i from a to b, arc 2i+1 from b to a. */
export interface Arc {
  readonly number: number;
  readonly link: Link;
  readonly from: number;
  readonly to: number;
}

export class Graph {
  readonly topology: Topology;
  readonly nodes: readonly Node[];
  readonly arcs: readonly Arc[];
  /** Arcs that leave each node, in the order of the links. */
  readonly leaving: readonly (readonly Arc[])[];
  readonly #numbers: ReadonlyMap<string, number>;

  constructor(topology: Topology) {
    this.topology = topology;
    this.nodes = topology.nodes;
    this.#numbers = new Map(topology.nodes.map((node, number) => [node.id, number]));
    const leaving: Arc[][] = topology.nodes.map(() => []);
    const arcs: Arc[] = [];
    for (const link of topology.links) {
      const a = this.#numbers.get(link.a) ?? -1;
      const b = this.#numbers.get(link.b) ?? -1;
      for (const [from, to] of [
        [a, b],
        [b, a],
      ] as const) {
        const arc = { number: arcs.length, link, from, to };
        arcs.push(arc);
        leaving[from]?.push(arc);
      }
    }
    this.arcs = arcs;
    this.leaving = leaving;
  }

  /** Number of a node, undefined when there is none of that id. */
  numberOf(id: string): number | undefined {
    return this.#numbers.get(id);
  }
}

/** What a link does to packets in the direction of an arc. */
export function qualityOf(link: Link, direction: 'forth' | 'back'): Quality {
  const { capacity_bps, delay_ns, jitter_ns, loss_ratio, duplicate_ratio, reorder_ratio } = link;
  const forth = { capacity_bps, delay_ns, jitter_ns, loss_ratio, duplicate_ratio, reorder_ratio };
  return direction === 'forth' ? forth : { ...forth, ...link.back };
}

/** The direction of an arc. */
export function directionOf(arc: Arc): 'forth' | 'back' {
  return arc.number % 2 === 0 ? 'forth' : 'back';
}
