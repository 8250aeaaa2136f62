/**
 * Writes a topology as SVG: every node and link an element with an id and classes for scripts, the topology itself inside
 * for re-import, and the same bytes on every runtime.
 */

import { safeNames } from '../formats/names.ts';
import { embed } from '../formats/svg.ts';
import { escapeXml } from '../formats/xml-escape.ts';
import { writeTopologyJson } from '../model/read-json.ts';
import type { Link, Topology } from '../model/schema.ts';
import { shortRate, shortTime } from '../quantity.ts';
import { type Layout, layOut, type Place } from './layout.ts';
import { heat, type Overlay, paint, scaleSvg } from './overlay.ts';

export interface DrawOptions {
  /** Values to paint on the links. */
  overlay?: Overlay | undefined;
  /** Write capacity and delay on links; by itself only in pictures with few of them. */
  labels?: boolean | undefined;
  title?: string | undefined;
}

const STYLE = `
.title{font-weight:600;fill:#1f2933}.note{fill:#52606d}.bold{font-weight:600;fill:#323f4b}
.box{fill:#f5f7fa;stroke:#d5dbe2}.box-title{fill:#7b8794}
.link{fill:none;stroke:#8795a8}.link-label{fill:#52606d;paint-order:stroke;stroke:#fff;stroke-width:3px}
.node rect,.node circle{stroke-width:1.2}
.host rect{fill:#e3edfb;stroke:#3f6cb0}.switch rect{fill:#dff3e4;stroke:#2f7d4f}.site circle{fill:#fde8d0;stroke:#b3651b}
.node text{fill:#1f2933}.outside text{paint-order:stroke;stroke:#fff;stroke-width:3px}
`.replaceAll('\n', '');

/** Two decimals at most, without -0: short, and the same text everywhere. */
function n(value: number): string {
  const rounded = Math.round(value * 100) / 100;
  return String(rounded === 0 ? 0 : rounded);
}

interface Curve {
  d: string;
  /** The point at a share of the way from a to b. */
  at(share: number): { x: number; y: number };
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

function labelOf(link: Link): string {
  const parts = [];
  if (link.capacity_bps !== undefined) {
    const back = link.back?.capacity_bps;
    parts.push(shortRate(link.capacity_bps) + (back === undefined ? '' : ` / ${shortRate(back)}`));
  }
  if (link.delay_ns) parts.push(shortTime(link.delay_ns));
  if (link.loss_ratio) parts.push(`${Number((link.loss_ratio * 100).toPrecision(3))}% loss`);
  return parts.join(', ');
}

function linkElements(
  topology: Topology,
  layout: Layout,
  options: DrawOptions,
  taken: Rect[],
): { lines: string[]; labels: string[] } {
  const number = new Map(topology.nodes.map(({ id }, at) => [id, at]));
  const ids = safeNames(
    topology.links.map(({ id }) => id),
    '-_.',
  );
  const bow = bows(topology, layout);
  const most = topology.links.reduce((max, { capacity_bps = 0 }) => Math.max(max, capacity_bps), 0);
  const thin = topology.links.length > 1500 ? 0.35 : topology.links.length > 250 ? 0.6 : 1;
  const showLabels =
    options.labels ?? (topology.links.length <= 60 && (layout.outside || options.overlay !== undefined));
  const lines: string[] = [];
  const order: number[] = [];
  const labels: string[] = [];
  for (const [at, link] of topology.links.entries()) {
    const [a, b] = [layout.places[number.get(link.a) ?? 0], layout.places[number.get(link.b) ?? 0]] as [
      Place,
      Place,
    ];
    const { d, at: on } = curve(a, b, bow[at] ?? 0);
    const share = link.capacity_bps === undefined || most === 0 ? 0.5 : Math.sqrt(link.capacity_bps / most);
    const value = options.overlay?.values.get(link.id);
    const warm = value === undefined ? 0 : heat(options.overlay as Overlay, value.value);
    // Where there are many, what is hot stands out by its width and lies on top.
    const opacity = topology.links.length > 250 ? `;stroke-opacity:${n(0.35 + 0.65 * warm)}` : '';
    const colour =
      value === undefined ? '' : `;stroke:${paint(options.overlay as Overlay, value.value)}${opacity}`;
    const width = (0.8 + 1.4 * share) * thin * (value === undefined ? 1 : 1.2 + 1.6 * warm);
    const unknown = options.overlay && value === undefined ? ' unmeasured' : '';
    const plane = link.plane === undefined ? '' : ` plane-${link.plane}`;
    const text = [`${link.a} - ${link.b}`, labelOf(link), value?.label ?? ''].filter(Boolean).join('\n');
    order.push(value === undefined ? -1 : warm);
    lines.push(
      `<path id="link-${ids.get(link.id)}" class="link${plane}${unknown}" data-id="${escapeXml(link.id)}" d="${d}" style="stroke-width:${n(width)}${colour}"><title>${escapeXml(text)}</title></path>`,
    );
    const shown = value ? value.label : labelOf(link);
    if (!showLabels || shown === '') continue;
    // A label that would cover a name or another label is left to the tooltip, unless labels were asked for.
    const free = LABEL_PLACES.map(on).find((spot) => !overlaps(textRect(spot, shown, 10), taken));
    const spot = free ?? (options.labels === true ? on(LABEL_PLACES[0]) : undefined);
    if (!spot) continue;
    taken.push(textRect(spot, shown, 10));
    labels.push(
      `<text class="link-label" x="${n(spot.x)}" y="${n(spot.y + 3)}" font-size="10" text-anchor="middle">${escapeXml(shown)}</text>`,
    );
  }
  const sorted = lines
    .map((line, at) => ({ line, warm: order[at] ?? 0, at }))
    .sort((a, b) => a.warm - b.warm || a.at - b.at);
  return { lines: sorted.map(({ line }) => line), labels };
}

/** Where on a link its label may stand; not in the middle first, where the links of a tiered network cross. */
const LABEL_PLACES = [0.36, 0.27, 0.46, 0.55, 0.64, 0.73] as const;

/** Where a text in the middle of a place lies. */
function textRect(middle: { x: number; y: number }, text: string, font: number): Rect {
  const half = text.length * font * 0.29 + 2;
  return {
    left: middle.x - half,
    right: middle.x + half,
    top: middle.y - font * 0.6,
    bottom: middle.y + font * 0.6,
  };
}

function overlaps(rect: Rect, others: readonly Rect[]): boolean {
  return others.some(
    (other) =>
      rect.left < other.right &&
      other.left < rect.right &&
      rect.top < other.bottom &&
      other.top < rect.bottom,
  );
}

interface Rect {
  left: number;
  right: number;
  top: number;
  bottom: number;
}

/** Places names beside nodes where they cover no other name: right, left, below, above. */
function outsideLabel(
  place: Place,
  text: string,
  font: number,
  taken: Rect[],
): { x: number; y: number; anchor: string } | undefined {
  const wide = text.length * font * 0.58;
  const gap = place.width / 2 + 4;
  const tries = [
    { x: place.x + gap, y: place.y + font * 0.35, anchor: 'start', left: 0 },
    { x: place.x - gap, y: place.y + font * 0.35, anchor: 'end', left: -wide },
    { x: place.x, y: place.y + gap + font * 0.8, anchor: 'middle', left: -wide / 2 },
    { x: place.x, y: place.y - gap, anchor: 'middle', left: -wide / 2 },
  ];
  for (const { x, y, anchor, left } of tries) {
    const rect = { left: x + left, right: x + left + wide, top: y - font, bottom: y + 2 };
    if (rect.left < 2 || overlaps(rect, taken)) continue;
    taken.push(rect);
    return { x, y, anchor };
  }
  return undefined;
}

function fitted(text: string, width: number, font: number): { text: string; font: number } {
  const wide = text.length * font * 0.58;
  if (wide <= width - 4) return { text, font };
  const smaller = Math.max(font * 0.7, (font * (width - 4)) / wide);
  const room = Math.floor((width - 4) / (smaller * 0.58));
  return { text: text.length <= room ? text : `${text.slice(0, Math.max(1, room - 1))}…`, font: smaller };
}

/** `taken` gets the places of nodes and of the names beside them. */
function nodeElements(topology: Topology, layout: Layout, taken: Rect[]): string[] {
  const ids = safeNames(
    topology.nodes.map(({ id }) => id),
    '-_.',
  );
  for (const { x, y, width, height } of layout.outside ? layout.places : []) {
    taken.push({ left: x - width / 2, right: x + width / 2, top: y - height / 2, bottom: y + height / 2 });
  }
  return topology.nodes.map((node, at) => {
    const place = layout.places[at] as Place;
    const classes = [
      'node',
      node.kind,
      node.tier === undefined ? '' : `tier-${node.tier}`,
      node.plane === undefined ? '' : `plane-${node.plane}`,
    ];
    const shape =
      node.kind === 'site'
        ? `<circle cx="${n(place.x)}" cy="${n(place.y)}" r="${n(place.width / 2)}"/>`
        : `<rect x="${n(place.x - place.width / 2)}" y="${n(place.y - place.height / 2)}" width="${n(place.width)}" height="${n(place.height)}" rx="${node.kind === 'switch' ? n(place.height / 4) : 0}"/>`;
    let text = '';
    if (layout.font > 0 && !layout.outside) {
      const fit = fitted(node.id, place.width, layout.font);
      text = `<text x="${n(place.x)}" y="${n(place.y + fit.font * 0.35)}" font-size="${n(fit.font)}" text-anchor="middle">${escapeXml(fit.text)}</text>`;
    } else if (layout.font > 0 && (node.kind !== 'host' || topology.nodes.length <= 60)) {
      const spot = outsideLabel(place, node.id, layout.font, taken);
      if (spot)
        text = `<text x="${n(spot.x)}" y="${n(spot.y)}" font-size="${layout.font}" text-anchor="${spot.anchor}">${escapeXml(node.id)}</text>`;
    }
    const title = [node.id, node.label ?? '', node.address ?? ''].filter(Boolean).join('\n');
    return `<g id="node-${ids.get(node.id)}" class="${classes.filter(Boolean).join(' ')}" data-id="${escapeXml(node.id)}"><title>${escapeXml(title)}</title>${shape}${text}</g>`;
  });
}

/** The picture as SVG text. The title is the topology's name unless another is given. */
export function drawSvg(topology: Topology, options: DrawOptions = {}): string {
  const layout = layOut(topology);
  const legend = options.overlay ? scaleSvg(options.overlay, 16, layout.height + 8) : undefined;
  const width = Math.max(layout.width, 320);
  const height = layout.height + (legend ? 52 : 0);
  const title = options.title ?? topology.name ?? 'topology';
  const taken: Rect[] = [];
  const nodes = nodeElements(topology, layout, taken);
  const { lines, labels } = linkElements(topology, layout, options, taken);
  const counts = `${topology.nodes.length} nodes, ${topology.links.length} links`;
  const boxes = layout.boxes.flatMap(({ x, y, width: w, height: h, title: text, font }) => [
    `<rect class="box" x="${n(x)}" y="${n(y)}" width="${n(w)}" height="${n(h)}" rx="6"/>`,
    `<text class="box-title" x="${n(x + w / 2)}" y="${n(y + h - 7)}" font-size="${n(font)}" text-anchor="middle">${escapeXml(text)}</text>`,
  ]);
  const notes = layout.notes.map(
    ({ x, y, text, font, bold }) =>
      `<text class="note${bold ? ' bold' : ''}" x="${n(x)}" y="${n(y)}" font-size="${font}">${escapeXml(text)}</text>`,
  );
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="DejaVu Sans, Verdana, Helvetica, Arial, sans-serif">`,
    embed(writeTopologyJson(topology)),
    `<style>${STYLE}</style>`,
    `<rect class="background" width="${width}" height="${height}" fill="#fff"/>`,
    `<text class="title" x="16" y="26" font-size="16">${escapeXml(title)}<tspan class="note" font-size="12" font-weight="400" dx="12">${counts}</tspan></text>`,
    ...boxes,
    `<g class="links" stroke-opacity="${topology.links.length > 1500 ? 0.45 : topology.links.length > 250 ? 0.6 : 0.9}">`,
    ...lines,
    '</g>',
    `<g class="nodes${layout.outside ? ' outside' : ''}">`,
    ...nodes,
    '</g>',
    '<g class="link-labels">',
    ...labels,
    '</g>',
    ...notes,
    ...(legend ? [legend] : []),
    '</svg>',
    '',
  ].join('\n');
}
