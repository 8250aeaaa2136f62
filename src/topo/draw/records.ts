/**
 * Measurements as values on links: any of our documents, or lines of them, in which an object says between whom and how much.
 * The ends may be nodes or addresses, and hold for everything inside: `client` and `server` of a pingpong document for its rows.
 */

import { jain, maxOverMean } from '../ecmp/load.ts';
import { formatAddress, Router } from '../ecmp/routes.ts';
import { Graph } from '../model/graph.ts';
import { InputError } from '../model/input-error.ts';
import type { Topology } from '../model/schema.ts';
import { shortRate, shortTime } from '../quantity.ts';
import type { Overlay } from './overlay.ts';

/** What can be shown, and the fields that say it, the best first. */
const FIELDS = {
  utilisation: ['utilisation'],
  rate: ['goodput_bps', 'rate_bps', 'bandwidth_bps', 'throughput_bps'],
  flows: ['flows'],
  latency: ['latency_p50_ns', 'rtt_ns', 'latency_mean_ns', 'latency_ns'],
  loss: ['loss_ratio'],
} as const;
export type Shows = keyof typeof FIELDS;
export const SHOWS = Object.keys(FIELDS) as Shows[];

const ENDS = [
  ['from', 'to'],
  ['src', 'dst'],
  ['source', 'destination'],
  ['client', 'server'],
] as const;
const MAX_DEPTH = 32;

const percent = (value: number): string => `${Number((value * 100).toPrecision(3))}%`;
const plain = (value: number): string => String(Number(value.toPrecision(4)));

/** How a field's values read, by its unit. */
export function textOf(field: string): (value: number) => string {
  if (field.endsWith('_bps')) return shortRate;
  if (field.endsWith('_ns')) return shortTime;
  return field.endsWith('_ratio') || field === 'utilisation' ? percent : plain;
}

/** The documents of a text: one, or one a line. */
function documents(text: string): { value: unknown; line: number }[] {
  try {
    return [{ value: JSON.parse(text), line: 1 }];
  } catch (error) {
    const lines = text.split('\n').flatMap((raw, at) => (raw.trim() === '' ? [] : [{ raw, line: at + 1 }]));
    if (lines.length < 2) throw new InputError(`not JSON: ${(error as Error).message}`, lines[0]?.line);
    return lines.map(({ raw, line }) => {
      try {
        return { value: JSON.parse(raw) as unknown, line };
      } catch {
        throw new InputError('not JSON, neither this line nor the whole', line);
      }
    });
  }
}

interface Found {
  /** Arcs of the way; of a link that is named itself, both. */
  arcs: number[];
  numbers: ReadonlyMap<string, number>;
}

class Collector {
  readonly router: Router;
  readonly found: Found[] = [];
  /** Objects with ends that are no nodes, or with more than one way between them. */
  strangers = 0;
  manyWays = 0;
  readonly #linkNumber: ReadonlyMap<string, number>;
  readonly #byName = new Map<string, number>();

  constructor(topology: Topology) {
    this.router = new Router(new Graph(topology));
    this.#linkNumber = new Map(topology.links.map(({ id }, at) => [id, at]));
    for (const at of topology.nodes.keys()) this.#byName.set(formatAddress(this.router.address(at)), at);
    for (const [at, { id }] of topology.nodes.entries()) this.#byName.set(id, at);
  }

  collect(value: unknown, way: number[] | undefined, depth: number): void {
    if (typeof value !== 'object' || value === null || depth > MAX_DEPTH) return;
    if (Array.isArray(value)) {
      for (const item of value) this.collect(item, way, depth + 1);
      return;
    }
    const object = value as Record<string, unknown>;
    const here = this.#way(object) ?? way;
    const numbers = new Map(
      Object.entries(object).flatMap(([key, each]) =>
        typeof each === 'number' && Number.isFinite(each) ? [[key, each] as const] : [],
      ),
    );
    if (here && here.length > 0 && numbers.size > 0) this.found.push({ arcs: here, numbers });
    for (const [key, each] of Object.entries(object)) {
      if (!ENDS.some((names) => (names as readonly string[]).includes(key)))
        this.collect(each, here, depth + 1);
    }
  }

  /** A node, from its name, its address, or an object with one of the two. */
  #node(value: unknown): number | undefined {
    if (typeof value === 'string') return this.#byName.get(value);
    if (typeof value !== 'object' || value === null) return undefined;
    const { address, host } = value as Record<string, unknown>;
    return this.#node(typeof host === 'string' && this.#byName.has(host) ? host : address);
  }

  #way(object: Record<string, unknown>): number[] | undefined {
    const link = [object.link, object.id].find(
      (each): each is string => typeof each === 'string' && this.#linkNumber.has(each),
    );
    const number = link === undefined ? undefined : (this.#linkNumber.get(link) ?? 0);
    for (const [a, b] of ENDS) {
      if (object[a] === undefined || object[b] === undefined) continue;
      const [from, to] = [this.#node(object[a]), this.#node(object[b])];
      if (from === undefined || to === undefined || from === to) {
        this.strangers += 1;
        return [];
      }
      // Of several links between the two, the one that is named.
      if (number !== undefined) {
        const arc = this.router.graph.arcs[2 * number];
        return [2 * number + (arc?.from === from ? 0 : 1)];
      }
      return this.#between(from, to);
    }
    return number === undefined ? undefined : [2 * number, 2 * number + 1];
  }

  /** The arcs of the only way between two nodes. */
  #between(from: number, to: number): number[] {
    const { hops } = this.router.routesTo(to);
    const arcs: number[] = [];
    for (let node = from; node !== to; ) {
      const [arc, ...more] = hops[node] ?? [];
      if (arc === undefined || more.length > 0) {
        this.manyWays += 1;
        return [];
      }
      arcs.push(arc.number);
      node = arc.to;
    }
    return arcs;
  }
}

/**
 * Values of a field from documents. Of several values of a direction the largest rate, but the smallest latency and loss:
 * each of the links on a way is at least as good as the way. Of the two directions of a link the larger is shown.
 * Throws InputError when there are none.
 */
export function overlayOfRecords(text: string, topology: Topology, shows?: Shows, field?: string): Overlay {
  const collector = new Collector(topology);
  for (const { value } of documents(text)) collector.collect(value, undefined, 0);
  const { found } = collector;
  const has = (name: string): boolean => found.some(({ numbers }) => numbers.has(name));
  const wanted =
    field === undefined ? (shows === undefined ? SHOWS : [shows]).flatMap((each) => FIELDS[each]) : [field];
  const share = shows === 'utilisation' && field === undefined && !has('utilisation');
  const name = share ? FIELDS.rate.find(has) : wanted.find(has);
  if (name === undefined) {
    const reasons = [
      collector.strangers > 0
        ? `${collector.strangers} of them are between ends that are no nodes of the topology`
        : '',
      collector.manyWays > 0 ? `${collector.manyWays} are between ends with several ways` : '',
      found.length > 0
        ? `those on links have ${[...new Set(found.flatMap(({ numbers }) => [...numbers.keys()]))].slice(0, 8).join(', ')}`
        : '',
    ].filter(Boolean);
    throw new InputError(
      `no values on links${field === undefined ? '' : ` in a field '${field}'`}${reasons.length > 0 ? ` (${reasons.join('; ')})` : ''}`,
    );
  }
  const small = name.endsWith('_ns') || name.endsWith('_ratio');
  const byArc = new Map<number, number>();
  for (const { arcs, numbers } of found) {
    const value = numbers.get(name);
    if (value === undefined) continue;
    for (const arc of arcs) {
      const known = byArc.get(arc);
      byArc.set(arc, known === undefined ? value : small ? Math.min(known, value) : Math.max(known, value));
    }
  }
  const values = new Map<string, { value: number; label: string }>();
  const show = share ? percent : textOf(name);
  for (const [number, raw] of byArc) {
    const link = topology.links[number >> 1];
    if (!link) continue;
    const capacity = (number & 1 ? link.back?.capacity_bps : undefined) ?? link.capacity_bps;
    if (share && capacity === undefined) continue;
    const value = share ? raw / (capacity ?? 1) : raw;
    const known = values.get(link.id);
    if (!known || value > known.value) values.set(link.id, { value, label: show(value) });
  }
  if (values.size === 0)
    throw new InputError('links with values have no capacity, so they have no utilisation');
  const all = [...values.values()].map(({ value }) => value);
  const high = all.reduce((a, b) => Math.max(a, b), 0);
  const left = collector.strangers + collector.manyWays;
  const notes = [
    small ? '' : `max/mean ${maxOverMean(all).toFixed(3)}, Jain ${jain(all).toFixed(3)}`,
    left > 0 ? `${left} values between other ends left out` : '',
  ];
  return {
    title: share ? 'share of capacity' : name,
    values,
    low: all.reduce((a, b) => Math.min(a, b), 0),
    high: share || name === 'utilisation' ? Math.max(1, high) : high || 1,
    show,
    note: notes.filter(Boolean).join('; ') || undefined,
  };
}

/** How many of the flows that `topo paths` followed take each link. */
export function overlayOfPaths(paths: readonly { links: readonly string[] }[], topology: Topology): Overlay {
  const known = new Set(topology.links.map(({ id }) => id));
  const counts = new Map<string, number>();
  for (const { links } of paths) {
    for (const id of links) {
      if (!known.has(id)) throw new InputError(`the topology has no link '${id.slice(0, 60)}'`);
      counts.set(id, (counts.get(id) ?? 0) + 1);
    }
  }
  if (counts.size === 0) throw new InputError('no values: no path has links');
  const all = [...counts.values()];
  return {
    title: `flows, of ${paths.length}`,
    values: new Map([...counts].map(([id, value]) => [id, { value, label: String(value) }])),
    low: 0,
    high: all.reduce((a, b) => Math.max(a, b), 1),
    show: plain,
  };
}
