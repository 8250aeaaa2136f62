/**
 * Networks without tiers: places given in the file (maps, tori), groups around a circle (dragonfly), a circle for few
 * nodes, and springs for the rest. Hosts without a place of their own lie around the switch they are on.
 */

import { Graph } from '../model/graph.ts';
import type { Topology } from '../model/schema.ts';
import { onCircle, type Point } from './circle.ts';
import type { Layout, Place } from './layout.ts';
import { springs } from './springs.ts';

const MARGIN = 60;
const TITLE = 36;

/** Nodes that get a place of their own; the others hang on one of these. */
function anchors(topology: Topology, graph: Graph): (number | undefined)[] {
  const placed = topology.nodes.some(({ kind }) => kind !== 'host');
  return topology.nodes.map(({ kind, x, y }, number) => {
    if (!placed || kind !== 'host' || (x !== undefined && y !== undefined)) return undefined;
    const arcs = graph.leaving[number] ?? [];
    return arcs.find(({ to }) => topology.nodes[to]?.kind !== 'host')?.to;
  });
}

/** Smallest distance between neighbours in a map, for its scale. */
function fit(points: readonly Point[], count: number): { points: Point[]; width: number; height: number } {
  const xs = points.map(({ x }) => x);
  const ys = points.map(({ y }) => y);
  const reduce = (list: number[], pick: (a: number, b: number) => number): number =>
    list.reduce((a, b) => pick(a, b), list[0] ?? 0);
  const [left, right] = [reduce(xs, Math.min), reduce(xs, Math.max)];
  const [low, high] = [reduce(ys, Math.min), reduce(ys, Math.max)];
  const side = Math.min(3200, 520 + Math.sqrt(count) * 64);
  const scale = side / Math.max(right - left, high - low, 1e-9);
  return {
    points: points.map(({ x, y }) => ({
      x: MARGIN + (x - left) * scale,
      y: TITLE + MARGIN / 2 + (high - y) * scale,
    })),
    width: (right - left) * scale + 2 * MARGIN,
    height: (high - low) * scale + TITLE + 1.5 * MARGIN,
  };
}

/** Groups around a circle, their switches around small circles; undefined when there are no groups. */
function grouped(
  topology: Topology,
  members: readonly number[],
): { points: Point[]; boxes: Layout['boxes'] } | undefined {
  const groups = new Map<string, number[]>();
  for (const number of members) {
    const group = topology.nodes[number]?.group;
    if (group === undefined) return undefined;
    groups.set(group, [...(groups.get(group) ?? []), number]);
  }
  if (groups.size < 2) return undefined;
  const largest = [...groups.values()].reduce((most, list) => Math.max(most, list.length), 0);
  const inner = 20 + largest * 7;
  // Neighbouring boxes must not touch: the chord between two centres is 2 r sin(pi / groups).
  const chord = 2 * onCircle(0.5 / groups.size).x;
  const outer = Math.max(inner * 1.6, (2.84 * (inner + 43)) / chord);
  const points: Point[] = [];
  const boxes: Layout['boxes'] = [];
  const middle = outer + inner + MARGIN;
  for (const [at, [title, list]] of [...groups].entries()) {
    const turn = at / groups.size;
    const spot = onCircle(turn);
    const centre = { x: middle + spot.x * outer, y: middle + TITLE + spot.y * outer };
    for (const [i, number] of list.entries()) {
      const around = onCircle(turn + (i + 0.5) / list.length);
      points[number] = { x: centre.x + around.x * inner, y: centre.y + around.y * inner };
    }
    const half = inner + 34;
    const font = Math.min(16, inner / 2);
    boxes.push({
      x: centre.x - half,
      y: centre.y - half,
      width: 2 * half,
      height: 2 * half + 18,
      title,
      font,
    });
  }
  return { points, boxes };
}

export function layOutPlane(topology: Topology): Layout {
  const graph = new Graph(topology);
  const anchor = anchors(topology, graph);
  const members = anchor.flatMap((on, number) => (on === undefined ? [number] : []));
  const count = members.length;
  const mapped = members.every(
    (number) => topology.nodes[number]?.x !== undefined && topology.nodes[number]?.y !== undefined,
  );
  const groups = mapped ? undefined : grouped(topology, members);
  let points: Point[] = [];
  let { boxes } = groups ?? { boxes: [] };
  let [width, height] = [0, 0];
  if (groups) {
    points = groups.points;
    const far = members.reduce(
      (most, number) => Math.max(most, points[number]?.x ?? 0, points[number]?.y ?? 0),
      0,
    );
    width = far + MARGIN + 40;
    height = far + MARGIN + 40;
    for (const { x, y, width: w, height: h } of boxes) {
      width = Math.max(width, x + w + 16);
      height = Math.max(height, y + h + 16);
    }
  } else {
    const raw = mapped
      ? members.map((number) => ({ x: topology.nodes[number]?.x ?? 0, y: topology.nodes[number]?.y ?? 0 }))
      : count <= 12
        ? members.map((_, at) => {
            const { x, y } = onCircle(at / count);
            return { x, y: -y };
          })
        : springs(graph, members);
    const fitted = fit(raw, count);
    for (const [at, number] of members.entries()) points[number] = fitted.points[at] ?? { x: 0, y: 0 };
    width = fitted.width;
    height = fitted.height;
    boxes = [];
  }
  const dense = count > 150;
  const tiny = topology.nodes.length > 600;
  const box = tiny ? 7 : dense ? 10 : 14;
  const places: Place[] = topology.nodes.map((_, number) => ({
    ...(points[number] ?? { x: 0, y: 0 }),
    width: box,
    height: box,
  }));
  hang(topology, anchor, places, groups ? boxes : undefined, box);
  for (const place of places) {
    width = Math.max(width, place.x + MARGIN / 2);
    height = Math.max(height, place.y + MARGIN / 2);
  }
  const font = count > 400 ? 0 : count > 150 ? 8 : count > 60 ? 9 : 11;
  return {
    places,
    width: Math.ceil(width),
    height: Math.ceil(height),
    font,
    outside: true,
    boxes,
    notes: [],
  };
}

/** Hosts of a switch in a small fan below it, or outwards from the middle of its group. */
function hang(
  topology: Topology,
  anchor: readonly (number | undefined)[],
  places: Place[],
  boxes: Layout['boxes'] | undefined,
  box: number,
): void {
  const hanging = new Map<number, number[]>();
  for (const [number, on] of anchor.entries()) {
    if (on !== undefined) hanging.set(on, [...(hanging.get(on) ?? []), number]);
  }
  for (const [on, hosts] of hanging) {
    const base = places[on] as Place;
    const size = box * 0.6;
    const group = boxes?.find(({ title }) => title === topology.nodes[on]?.group);
    const centre = group
      ? { x: group.x + group.width / 2, y: group.y + group.height / 2 }
      : { x: base.x - 1, y: base.y - 1.6 };
    const length = Math.sqrt((base.x - centre.x) ** 2 + (base.y - centre.y) ** 2) || 1;
    const out = { x: (base.x - centre.x) / length, y: (base.y - centre.y) / length };
    for (const [at, host] of hosts.entries()) {
      const row = Math.floor(at / 4);
      const side = ((at % 4) - (Math.min(4, hosts.length - row * 4) - 1) / 2) * size * 1.5;
      const far = box * 1.4 + row * size * 1.5;
      places[host] = {
        x: base.x + out.x * far - out.y * side,
        y: base.y + out.y * far + out.x * side,
        width: size,
        height: size,
      };
    }
  }
}
