/** The lines of links: straight, or bowed where a straight one would hide another or run through a node. */

import type { Topology } from '../model/schema.ts';
import type { Point } from './circle.ts';
import type { Layout, Place } from './layout.ts';

/** Two decimals at most, without -0: short, and the same text everywhere. */
export function n(value: number): string {
  const rounded = Math.round(value * 100) / 100;
  return String(rounded === 0 ? 0 : rounded);
}

export interface Curve {
  /** The path's description. */
  d: string;
  /** The point at a share of the way from a to b. */
  at(share: number): Point;
}

/** A line, or a bow that keeps parallel links apart: `bow` is the distance of its middle from the line. */
function curve(a: Place, b: Place, bow: number): Curve {
  const middle = { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 };
  const on = (share: number) => ({ x: a.x + (b.x - a.x) * share, y: a.y + (b.y - a.y) * share });
  const start = `M${n(a.x)} ${n(a.y)}`;
  if (bow === 0) return { d: `${start}L${n(b.x)} ${n(b.y)}`, at: on };
  const [dx, dy] = [b.x - a.x, b.y - a.y];
  const length = Math.sqrt(dx * dx + dy * dy) || 1;
  const side = { x: (-dy / length) * bow, y: (dx / length) * bow };
  return {
    d: `${start}Q${n(middle.x + 2 * side.x)} ${n(middle.y + 2 * side.y)} ${n(b.x)} ${n(b.y)}`,
    // The bow of a quadratic curve is a parabola over the line.
    at: (share) => ({
      x: on(share).x + side.x * 4 * share * (1 - share),
      y: on(share).y + side.y * 4 * share * (1 - share),
    }),
  };
}

/** How far each link bows: parallel ones fan out, and one that would run through a node goes around it. */
function bows(topology: Topology, layout: Layout): number[] {
  const number = new Map(topology.nodes.map(({ id }, at) => [id, at]));
  const ends = topology.links.map(({ a, b }) => [number.get(a) ?? 0, number.get(b) ?? 0] as const);
  const fans = new Map<number, number[]>();
  for (const [at, [a, b]] of ends.entries()) {
    const key = Math.min(a, b) * topology.nodes.length + Math.max(a, b);
    const fan = fans.get(key);
    if (fan) fan.push(at);
    else fans.set(key, [at]);
  }
  const result = topology.links.map(() => 0);
  for (const fan of fans.values()) {
    const spread = Math.min(9, 48 / fan.length);
    for (const [i, at] of fan.entries()) {
      const [a, b] = ends[at] ?? [0, 0];
      result[at] = (i - (fan.length - 1) / 2) * spread * (a < b ? 1 : -1);
    }
  }
  if (layout.outside && topology.links.length * topology.nodes.length < 1e7) {
    for (const [at, [a, b]] of ends.entries()) {
      const [from, to] = [layout.places[a], layout.places[b]];
      if (result[at] === 0 && from && to && blocked(from, to, layout.places)) {
        result[at] = Math.min(60, Math.sqrt((to.x - from.x) ** 2 + (to.y - from.y) ** 2) * 0.09);
      }
    }
  }
  return result;
}

/** Whether a third node lies on the line between two places. */
function blocked(from: Place, to: Place, places: readonly Place[]): boolean {
  const [dx, dy] = [to.x - from.x, to.y - from.y];
  const square = dx * dx + dy * dy;
  return places.some((place) => {
    if (place === from || place === to) return false;
    const along = ((place.x - from.x) * dx + (place.y - from.y) * dy) / square;
    if (!(along > 0.02 && along < 0.98)) return false;
    const [x, y] = [place.x - from.x - along * dx, place.y - from.y - along * dy];
    return x * x + y * y < (place.width / 2) ** 2;
  });
}

/** The line of each link, in the order of the links. */
export function curvesOf(topology: Topology, layout: Layout): Curve[] {
  const number = new Map(topology.nodes.map(({ id }, at) => [id, at]));
  const bow = bows(topology, layout);
  const placeOf = (id: string): Place => layout.places[number.get(id) ?? 0] as Place;
  return topology.links.map(({ a, b }, at) => curve(placeOf(a), placeOf(b), bow[at] ?? 0));
}
