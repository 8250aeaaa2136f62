/**
 * Places for graphs that say nothing of them. Each connected part begins as a projection of its hop distances (Pivot MDS:
 * Brandes and Pich, 2006), which unfolds it, and is evened out by springs (Fruchterman and Reingold, 1991); then the parts are
 * packed side by side. There is no chance in it, and only additions, multiplications and square roots: the same graph is the
 * same picture on every machine.
 */

import type { Graph } from '../model/graph.ts';
import { onCircle, type Point } from './circle.ts';

const STEPS = 80;
const PIVOTS = 32;
const POWER_STEPS = 50;
/** Nodes further apart than this do not push each other. */
const REACH = 3;
/** Between parts. */
const GAP = 1.5;

/** A place for each of `members`, about 1 apart. */
export function springs(graph: Graph, members: readonly number[]): Point[] {
  const index = new Map(members.map((number, at) => [number, at]));
  const neighbours: number[][] = members.map(() => []);
  for (const { from, to } of graph.arcs) {
    const [a, b] = [index.get(from), index.get(to)];
    if (a !== undefined && b !== undefined && a !== b) neighbours[a]?.push(b);
  }
  const points: Point[] = members.map(() => ({ x: 0, y: 0 }));
  const parts = partsOf(neighbours).map((part) => ({ part, places: layOutPart(part, neighbours) }));
  pack(parts, points);
  return points;
}

/** Connected parts, the largest first. */
function partsOf(neighbours: readonly number[][]): number[][] {
  const seen = new Uint8Array(neighbours.length);
  const parts: number[][] = [];
  for (const start of neighbours.keys()) {
    if (seen[start]) continue;
    const part = [start];
    seen[start] = 1;
    for (const node of part) {
      for (const next of neighbours[node] ?? []) {
        if (seen[next]) continue;
        seen[next] = 1;
        part.push(next);
      }
    }
    parts.push(part.sort((a, b) => a - b));
  }
  return parts.sort((a, b) => b.length - a.length || (a[0] ?? 0) - (b[0] ?? 0));
}

function layOutPart(part: readonly number[], neighbours: readonly number[][]): Point[] {
  const index = new Map(part.map((node, at) => [node, at]));
  const near = part.map((node) => (neighbours[node] ?? []).map((next) => index.get(next) ?? 0));
  const points = unfolded(near);
  even(points, near);
  return points;
}

/** Hops from one node to all. */
function hopsFrom(start: number, near: readonly number[][]): Float64Array {
  const hops = new Float64Array(near.length).fill(-1);
  hops[start] = 0;
  const queue = [start];
  for (const node of queue) {
    for (const next of near[node] ?? []) {
      if ((hops[next] ?? 0) >= 0) continue;
      hops[next] = (hops[node] ?? 0) + 1;
      queue.push(next);
    }
  }
  return hops;
}

/** Pivot MDS: the two main directions of the squared distances to pivots far from each other. */
function unfolded(near: readonly number[][]): Point[] {
  const count = near.length;
  const rows: Float64Array[] = [];
  const nearest = new Float64Array(count).fill(Number.POSITIVE_INFINITY);
  let pivot = 0;
  for (let i = 0; i < Math.min(PIVOTS, count); i++) {
    const hops = hopsFrom(pivot, near);
    rows.push(hops.map((value) => value * value));
    for (const [at, value] of hops.entries()) nearest[at] = Math.min(nearest[at] ?? 0, value);
    pivot = nearest.reduce((best, value, at) => (value > (nearest[best] ?? 0) ? at : best), 0);
  }
  // Both means are taken out: by pivot and by node.
  for (const row of rows) {
    const mean = row.reduce((sum, value) => sum + value, 0) / count;
    for (const at of row.keys()) row[at] = (row[at] ?? 0) - mean;
  }
  for (let at = 0; at < count; at++) {
    const mean = rows.reduce((sum, row) => sum + (row[at] ?? 0), 0) / rows.length;
    for (const row of rows) row[at] = (row[at] ?? 0) - mean;
  }
  const first = mainDirection(rows, undefined);
  const second = mainDirection(rows, first);
  const [x, y] = [project(rows, first), project(rows, second)];
  // A link is about 1 long; nodes that no pivot tells apart are moved off each other.
  let [length, links] = [0, 0];
  for (const [a, list] of near.entries()) {
    for (const b of list) {
      const [dx, dy] = [(x[a] ?? 0) - (x[b] ?? 0), (y[a] ?? 0) - (y[b] ?? 0)];
      length += Math.sqrt(dx * dx + dy * dy);
      links += 1;
    }
  }
  const scale = length > 0 ? (1.6 * links) / length : 1;
  return near.map((_, at) => {
    const aside = onCircle(at * 0.6180339887498949);
    return { x: (x[at] ?? 0) * scale + aside.x * 0.3, y: (y[at] ?? 0) * scale + aside.y * 0.3 };
  });
}

function project(rows: readonly Float64Array[], weights: Float64Array): Float64Array {
  const result = new Float64Array(rows[0]?.length ?? 0);
  for (const [i, row] of rows.entries())
    for (const at of result.keys()) result[at] = (result[at] ?? 0) + (row[at] ?? 0) * (weights[i] ?? 0);
  return result;
}

/** Power iteration on the matrix of the rows' products; `without` is a direction to stay clear of. */
function mainDirection(rows: readonly Float64Array[], without: Float64Array | undefined): Float64Array {
  let weights = new Float64Array(rows.length).map((_, i) => 1 + i / rows.length);
  for (let step = 0; step < POWER_STEPS; step++) {
    if (without) {
      const along = weights.reduce((sum, value, i) => sum + value * (without[i] ?? 0), 0);
      weights = weights.map((value, i) => value - along * (without[i] ?? 0));
    }
    const image = project(rows, weights);
    const next = Float64Array.from(rows, (row) =>
      row.reduce((sum, value, at) => sum + value * (image[at] ?? 0), 0),
    );
    const length = Math.sqrt(next.reduce((sum, value) => sum + value * value, 0));
    if (!(length > 1e-9)) return weights.fill(0);
    weights = next.map((value) => value / length);
  }
  return weights;
}

/** Springs along links, and nodes that push their neighbours away. */
function even(points: Point[], near: readonly number[][]): void {
  for (let step = 0; step < STEPS; step++) {
    const moves = points.map(() => ({ x: 0, y: 0 }));
    repel(points, moves);
    for (const [a, list] of near.entries()) {
      const [from, move] = [points[a], moves[a]];
      if (!from || !move) continue;
      for (const b of list) {
        const to = points[b] ?? from;
        const [dx, dy] = [to.x - from.x, to.y - from.y];
        const pull = 0.35 * Math.sqrt(dx * dx + dy * dy);
        move.x += dx * pull;
        move.y += dy * pull;
      }
    }
    const limit = 0.7 * (1 - step / STEPS) + 0.02;
    for (const [at, point] of points.entries()) {
      const move = moves[at] ?? { x: 0, y: 0 };
      const length = Math.sqrt(move.x * move.x + move.y * move.y);
      const factor = length > limit ? limit / length : 1;
      point.x += move.x * factor;
      point.y += move.y * factor;
    }
  }
}

/** A grid of cells finds who is near; the force ends smoothly at REACH, or the cells' borders would show in the picture. */
function repel(points: readonly Point[], moves: Point[]): void {
  const cells = new Map<string, number[]>();
  const cellOf = ({ x, y }: Point): [number, number] => [Math.floor(x / REACH), Math.floor(y / REACH)];
  for (const [at, point] of points.entries()) {
    const key = cellOf(point).join(' ');
    const list = cells.get(key);
    if (list) list.push(at);
    else cells.set(key, [at]);
  }
  for (const [at, point] of points.entries()) {
    const [cx, cy] = cellOf(point);
    const move = moves[at] ?? { x: 0, y: 0 };
    for (let dx = -1; dx <= 1; dx++) {
      for (let dy = -1; dy <= 1; dy++) {
        for (const other of cells.get(`${cx + dx} ${cy + dy}`) ?? []) {
          if (other === at) continue;
          const far = points[other] ?? point;
          const [x, y] = [point.x - far.x, point.y - far.y];
          const square = x * x + y * y;
          if (square >= REACH * REACH) continue;
          const push = 1.6 * (1 / Math.max(square, 0.01) - 1 / (REACH * REACH));
          move.x += x * push;
          move.y += y * push;
        }
      }
    }
  }
}

/** Puts the parts in rows, the largest first, in about a square. */
function pack(
  parts: readonly { part: readonly number[]; places: readonly Point[] }[],
  points: Point[],
): void {
  const boxes = parts.map(({ part, places }) => {
    const pick = (key: 'x' | 'y', take: (a: number, b: number) => number): number =>
      places.reduce((best, place) => take(best, place[key]), places[0]?.[key] ?? 0);
    const [left, top] = [pick('x', Math.min), pick('y', Math.min)];
    return {
      part,
      places,
      left,
      top,
      width: pick('x', Math.max) - left + GAP,
      height: pick('y', Math.max) - top + GAP,
    };
  });
  const area = boxes.reduce((sum, { width, height }) => sum + width * height, 0);
  const widest = boxes.reduce((most, { width }) => Math.max(most, width), 0);
  const room = Math.max(widest, Math.sqrt(area) * 1.2);
  let [x, y, row] = [0, 0, 0];
  for (const { part, places, left, top, width, height } of boxes) {
    if (x > 0 && x + width > room) {
      y += row;
      [x, row] = [0, 0];
    }
    for (const [at, node] of part.entries()) {
      const place = places[at] ?? { x: 0, y: 0 };
      points[node] = { x: x + place.x - left, y: -(y + place.y - top) };
    }
    x += width;
    row = Math.max(row, height);
  }
}
