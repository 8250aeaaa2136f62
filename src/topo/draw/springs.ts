/**
 * A force-directed layout (Fruchterman and Reingold, 1991) that starts from a spiral instead of chance, so that the same
 * graph always gives the same picture. Repulsion is computed between neighbouring cells of a grid only, which keeps a
 * step linear in the number of nodes.
 */

import type { Graph } from '../model/graph.ts';
import { onCircle, type Point } from './circle.ts';

const STEPS = 120;

/** A place for each of `members`, about 1 apart. */
export function springs(graph: Graph, members: readonly number[]): Point[] {
  const index = new Map(members.map((number, at) => [number, at]));
  const edges: [number, number][] = [];
  for (const { number, from, to } of graph.arcs) {
    const [a, b] = [index.get(from), index.get(to)];
    if (number % 2 === 0 && a !== undefined && b !== undefined) edges.push([a, b]);
  }
  // The golden ratio as the step of the turn spreads the spiral evenly.
  const points = members.map((_, at) => {
    const { x, y } = onCircle(at * 0.6180339887498949);
    const radius = Math.sqrt(at + 0.5) * 0.8;
    return { x: x * radius, y: y * radius };
  });
  const reach = 4;
  for (let step = 0; step < STEPS; step++) {
    const moves = points.map(({ x, y }) => ({ x: -x * 0.01, y: -y * 0.01 }));
    repel(points, moves, reach);
    for (const [a, b] of edges) {
      const [from, to, moveA, moveB] = [points[a], points[b], moves[a], moves[b]];
      if (!from || !to || !moveA || !moveB) continue;
      const dx = to.x - from.x;
      const dy = to.y - from.y;
      const length = Math.sqrt(dx * dx + dy * dy);
      const pull = length * 0.4;
      moveA.x += dx * pull;
      moveA.y += dy * pull;
      moveB.x -= dx * pull;
      moveB.y -= dy * pull;
    }
    const limit = 1.5 * (1 - step / STEPS) + 0.02;
    for (const [at, point] of points.entries()) {
      const move = moves[at] ?? { x: 0, y: 0 };
      const length = Math.sqrt(move.x * move.x + move.y * move.y);
      const factor = length > limit ? limit / length : 1;
      point.x += move.x * factor;
      point.y += move.y * factor;
    }
  }
  return points;
}

function repel(points: readonly Point[], moves: Point[], reach: number): void {
  const cells = new Map<string, number[]>();
  const cellOf = ({ x, y }: Point): [number, number] => [Math.floor(x / reach), Math.floor(y / reach)];
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
          const square = Math.max(x * x + y * y, 0.01);
          move.x += (x / square) * 1.6;
          move.y += (y / square) * 1.6;
        }
      }
    }
  }
}
