/**
 * Tiered networks as people draw them: hosts at the bottom in blocks under their leaf, a row for each tier of switches,
 * pods side by side. Three sizes, so that 8 nodes have names inside and 1000 still fit on a screen.
 */

import { Graph } from '../model/graph.ts';
import type { Topology } from '../model/schema.ts';
import { shortRate } from '../quantity.ts';
import type { Layout, Place } from './layout.ts';

interface Size {
  host: { width: number; height: number; gap: number };
  switch: { width: number; height: number };
  /** Between leaves, and between pods. */
  gap: number;
  podGap: number;
  font: number;
  /** Largest distance of two switches in an upper row, in widths of one. */
  spread: number;
  /** Hosts beside one another under a leaf. */
  columns(hosts: number): number;
}

const LARGE: Size = {
  host: { width: 52, height: 24, gap: 8 },
  switch: { width: 66, height: 28 },
  gap: 28,
  podGap: 28,
  font: 12,
  spread: 3,
  columns: (hosts) => Math.min(hosts, 4),
};
const MEDIUM: Size = {
  host: { width: 30, height: 15, gap: 4 },
  switch: { width: 40, height: 18 },
  gap: 14,
  podGap: 18,
  font: 9,
  spread: 3,
  columns: (hosts) => Math.min(hosts, hosts > 8 ? 4 : 2),
};
const SMALL: Size = {
  host: { width: 7, height: 7, gap: 2 },
  switch: { width: 16, height: 10 },
  gap: 6,
  podGap: 14,
  font: 0,
  spread: 6,
  columns: (hosts) => Math.max(1, Math.min(hosts, hosts > 24 ? 4 : 2)),
};

const TIER_NAMES: Record<number, string[]> = {
  1: ['hosts', 'switches'],
  2: ['hosts', 'leaf', 'spine'],
  3: ['hosts', 'access', 'aggregation', 'core'],
};
const LEFT = 146;
const RIGHT = 24;
const TOP = 56;

/** Nodes of one tier in the order of their groups' first appearance. */
function ordered(topology: Topology, members: number[]): number[] {
  const rank = new Map<string | undefined, number>();
  for (const { group } of topology.nodes) if (!rank.has(group)) rank.set(group, rank.size);
  const of = (number: number): number => rank.get(topology.nodes[number]?.group) ?? 0;
  return [...members].sort((a, b) => of(a) - of(b) || a - b);
}

export function layOutTiers(topology: Topology, tiers: readonly number[]): Layout {
  const graph = new Graph(topology);
  const top = tiers.reduce((most, tier) => Math.max(most, tier), 0);
  const rows = Array.from({ length: top + 1 }, (_, tier) =>
    ordered(
      topology,
      tiers.flatMap((each, number) => (each === tier ? [number] : [])),
    ),
  );
  const widest = rows.slice(1).reduce((most, row) => Math.max(most, row.length), 0);
  const hosts = rows[0]?.length ?? 0;
  const size = hosts <= 40 && widest <= 12 ? LARGE : hosts <= 200 && widest <= 40 ? MEDIUM : SMALL;
  const places: Place[] = topology.nodes.map(() => ({ x: 0, y: 0, ...size.switch }));

  // Hosts by the leaves they are on: one block a set of leaves.
  const base = rows.findIndex((row, tier) => tier > 0 && row.length > 0);
  const blocks = new Map<string, { leaves: number[]; hosts: number[] }>();
  for (const host of rows[0] ?? []) {
    const leaves = [...new Set(graph.leaving[host]?.map(({ to }) => to))].sort((a, b) => a - b);
    const key = leaves.join(' ');
    const block = blocks.get(key) ?? { leaves, hosts: [] };
    block.hosts.push(host);
    blocks.set(key, block);
  }
  const under = new Map<number, number>();
  for (const { leaves, hosts: list } of blocks.values()) {
    // A block under several leaves spreads over them.
    for (const leaf of leaves)
      under.set(leaf, Math.max(under.get(leaf) ?? 0, Math.ceil(list.length / leaves.length)));
  }
  const step = size.host.width + size.host.gap;

  // The row of leaves sets the horizontal places of all.
  let x = LEFT;
  let previous: string | undefined;
  const spans = new Map<string, { from: number; to: number }>();
  for (const [at, leaf] of (rows[base] ?? []).entries()) {
    const group = topology.nodes[leaf]?.group;
    const width = Math.max(size.switch.width, size.columns(under.get(leaf) ?? 0) * step - size.host.gap);
    if (at > 0) x += group === previous ? size.gap : size.gap + size.podGap;
    previous = group;
    places[leaf] = { x: x + width / 2, y: 0, ...size.switch };
    if (group !== undefined) {
      const span = spans.get(group);
      spans.set(group, { from: span?.from ?? x, to: x + width });
    }
    x += width;
  }
  const right = Math.max(x, LEFT + 200);

  // Upper rows: over their pod, or over everything.
  const centre = (LEFT + right) / 2;
  for (let tier = base + 1; tier <= top; tier++) {
    const row = rows[tier] ?? [];
    const parts = new Map<string | undefined, number[]>();
    for (const number of row) {
      const { group } = topology.nodes[number] ?? {};
      const key = group !== undefined && spans.has(group) ? group : undefined;
      parts.set(key, [...(parts.get(key) ?? []), number]);
    }
    for (const [group, members] of parts) {
      const span = (group === undefined ? undefined : spans.get(group)) ?? { from: LEFT, to: right };
      const middle = group === undefined ? centre : (span.from + span.to) / 2;
      const room = (span.to - span.from) / members.length;
      const pitch = Math.max(size.switch.width + 4, Math.min(room, size.switch.width * size.spread));
      for (const [at, number] of members.entries()) {
        places[number] = { x: middle + (at - (members.length - 1) / 2) * pitch, y: 0, ...size.switch };
      }
    }
  }
  // A row wider than the leaves moves everything to the right of the names of tiers.
  const left = places.reduce(
    (least, { x: at, width }, number) => (tiers[number] === 0 ? least : Math.min(least, at - width / 2)),
    LEFT,
  );
  const shift = LEFT - left;
  for (const [number, place] of places.entries()) if (tiers[number] !== 0) place.x += shift;
  for (const span of spans.values()) {
    span.from += shift;
    span.to += shift;
  }
  const edge = places.reduce(
    (most, { x: at, width }, number) => (tiers[number] === 0 ? most : Math.max(most, at + width / 2)),
    right + shift,
  );

  // Vertical places.
  const width = edge - LEFT;
  const pitch = Math.max(size.font > 10 ? 110 : 90, Math.min(380, width / 8));
  const y = (tier: number): number => TOP + (top - tier) * pitch + size.switch.height / 2;
  for (const [number, tier] of tiers.entries()) {
    const place = places[number];
    if (place && tier > 0) place.y = y(tier);
  }
  const floor =
    y(base) +
    size.switch.height / 2 +
    (size.font > 10 ? 62 : size.font > 0 ? 56 : 64) +
    (blocksAreShared(blocks) ? pitch / 2 : 0);
  let bottom = floor;
  for (const { leaves, hosts: list } of blocks.values()) {
    const xs = leaves.map((leaf) => places[leaf]?.x ?? centre);
    const middle = xs.length === 0 ? centre : (Math.min(...xs) + Math.max(...xs)) / 2;
    const columns =
      leaves.length > 1
        ? Math.max(1, Math.min(list.length, Math.floor((Math.max(...xs) - Math.min(...xs) + step) / step)))
        : size.columns(list.length);
    // Hosts on several leaves have links to all of them, which need room.
    const apart =
      leaves.length > 1 && list.length <= columns
        ? Math.max(step, Math.min(step * 4, (Math.max(...xs) - Math.min(...xs)) / list.length))
        : step;
    for (const [at, host] of list.entries()) {
      const row = Math.floor(at / columns);
      const inRow = Math.min(columns, list.length - row * columns);
      const hostY = floor + row * (size.host.height + size.host.gap) + size.host.height / 2;
      places[host] = {
        x: middle + ((at % columns) - (inRow - 1) / 2) * apart,
        y: hostY,
        width: size.host.width,
        height: size.host.height,
      };
      bottom = Math.max(bottom, hostY + size.host.height / 2);
    }
  }

  const podTop = highestInGroups(topology, places, spans, floor);
  const boxes = [...spans]
    .filter(() => spans.size > 1)
    .map(([title, { from, to }]) => ({
      x: from - (size.gap + size.podGap) / 2 + 2,
      y: podTop - 12,
      width: to - from + size.gap + size.podGap - 4,
      height: bottom - podTop + 44,
      title,
      font: Math.max(9, Math.min(size.font === 0 ? 20 : 14, ((to - from) / title.length) * 1.5)),
    }));
  const notes = tierNotes(topology, tiers, rows, (tier) => (tier === 0 ? floor + 6 : y(tier)));
  return {
    places,
    width: Math.ceil(
      boxes.reduce((most, { x: at, width: wide }) => Math.max(most, at + wide + 10), edge + RIGHT),
    ),
    height: Math.ceil(bottom + (boxes.length > 0 ? 42 : 20)),
    font: size.font,
    outside: false,
    boxes,
    notes,
  };
}

function blocksAreShared(blocks: ReadonlyMap<string, { leaves: number[] }>): boolean {
  for (const { leaves } of blocks.values()) if (leaves.length > 1) return true;
  return false;
}

function highestInGroups(
  topology: Topology,
  places: readonly Place[],
  spans: ReadonlyMap<string, unknown>,
  floor: number,
): number {
  let highest = floor;
  for (const [number, { group }] of topology.nodes.entries()) {
    const place = places[number];
    if (place && group !== undefined && spans.has(group))
      highest = Math.min(highest, place.y - place.height / 2);
  }
  return highest;
}

/** In the margin: what each row is, how many there are, and how the row is linked upwards. */
function tierNotes(
  topology: Topology,
  tiers: readonly number[],
  rows: readonly number[][],
  y: (tier: number) => number,
): Layout['notes'] {
  const number = new Map(topology.nodes.map(({ id }, at) => [id, at]));
  const links = new Map<number, Map<string, number>>();
  for (const { a, b, capacity_bps } of topology.links) {
    const low = Math.min(tiers[number.get(a) ?? 0] ?? 0, tiers[number.get(b) ?? 0] ?? 0);
    const rates = links.get(low) ?? new Map<string, number>();
    const rate = capacity_bps === undefined ? '' : ` x ${shortRate(capacity_bps)}`;
    rates.set(rate, (rates.get(rate) ?? 0) + 1);
    links.set(low, rates);
  }
  const present = rows.flatMap((row, tier) => (row.length > 0 ? [tier] : []));
  const names = TIER_NAMES[rows.length - 1];
  const notes: Layout['notes'] = [];
  for (const [at, tier] of present.entries()) {
    const name = names?.[tier] ?? (tier === 0 ? 'hosts' : `tier ${tier}`);
    notes.push({ x: 16, y: y(tier) - 2, text: name, font: 13, bold: true });
    notes.push({ x: 16, y: y(tier) + 13, text: `${rows[tier]?.length ?? 0}`, font: 12 });
    const above = present[at + 1];
    if (above === undefined) continue;
    const middle = (y(tier) + y(above)) / 2;
    const rates = [...(links.get(tier) ?? [])];
    const shown = rates.slice(0, 2).map(([rate, count]) => `${count}${rate || ' links'}`);
    for (const [line, text] of [...shown, ...(rates.length > 2 ? ['...'] : [])].entries()) {
      notes.push({ x: 16, y: middle + 8 + line * 13, text, font: 11 });
    }
  }
  return notes;
}
