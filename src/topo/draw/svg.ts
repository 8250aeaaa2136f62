/**
 * Writes a topology as SVG: every node and link an element with an id and classes for scripts, the topology itself inside
 * for re-import, and the same bytes on every runtime.
 */

import { safeNames } from '../formats/names.ts';
import { embed } from '../formats/svg.ts';
import { escapeXml } from '../formats/xml-escape.ts';
import { writeTopologyJson } from '../model/read-json.ts';
import type { Link, Topology } from '../model/schema.ts';
import { counted, shortRate, shortTime } from '../quantity.ts';
import { type Curve, curvesOf, n } from './curves.ts';
import { fitted, Labels } from './labels.ts';
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
.box{fill:#f5f7fa;stroke:#d5dbe2}.box-title{fill:#7b8794;paint-order:stroke;stroke:#f5f7fa;stroke-width:4px}
.link{fill:none;stroke:#8795a8}.link-label{fill:#52606d;paint-order:stroke;stroke:#fff;stroke-width:3px}
.inferred{stroke-dasharray:5 4}
.node rect,.node circle{stroke-width:1.2}
.host rect{fill:#e3edfb;stroke:#3f6cb0}.switch rect{fill:#dff3e4;stroke:#2f7d4f}.site circle{fill:#fde8d0;stroke:#b3651b}
.node text{fill:#1f2933}.outside text{paint-order:stroke;stroke:#fff;stroke-width:3px}
`.replaceAll('\n', '');

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
  curves: readonly Curve[],
  places: Labels,
): { lines: string[]; labels: string[] } {
  const ids = safeNames(
    topology.links.map(({ id }) => id),
    '-_.',
  );
  const most = topology.links.reduce((max, { capacity_bps = 0 }) => Math.max(max, capacity_bps), 0);
  const thin = topology.links.length > 1500 ? 0.35 : topology.links.length > 250 ? 0.6 : 1;
  const showLabels =
    options.labels ?? (topology.links.length <= 60 && (layout.outside || options.overlay !== undefined));
  const lines: string[] = [];
  const order: number[] = [];
  const labels: string[] = [];
  for (const [at, link] of topology.links.entries()) {
    const curve = curves[at] as Curve;
    const share = link.capacity_bps === undefined || most === 0 ? 0.5 : Math.sqrt(link.capacity_bps / most);
    const value = options.overlay?.values.get(link.id);
    const warm = value === undefined ? 0 : heat(options.overlay as Overlay, value.value);
    // Where there are many, what is hot stands out by its width and lies on top.
    const opacity = topology.links.length > 250 ? `;stroke-opacity:${n(0.35 + 0.65 * warm)}` : '';
    const colour =
      value === undefined ? '' : `;stroke:${paint(options.overlay as Overlay, value.value)}${opacity}`;
    const width = (0.8 + 1.4 * share) * thin * (value === undefined ? 1 : 1.2 + 1.6 * warm);
    const classes = [
      'link',
      link.plane === undefined ? '' : `plane-${link.plane}`,
      link.inferred_from === undefined ? '' : 'inferred',
      options.overlay && value === undefined ? 'unmeasured' : '',
    ];
    const inferred = link.inferred_from === undefined ? '' : `inferred from ${link.inferred_from}`;
    const text = [`${link.a} - ${link.b}`, labelOf(link), inferred, value?.label ?? '']
      .filter(Boolean)
      .join('\n');
    order.push(value === undefined ? -1 : warm);
    lines.push(
      `<path id="link-${ids.get(link.id)}" class="${classes.filter(Boolean).join(' ')}" data-id="${escapeXml(link.id)}" d="${curve.d}" style="stroke-width:${n(width)}${colour}"><title>${escapeXml(text)}</title></path>`,
    );
    // That nothing flows is said by the colour: a zero at every idle link would hide the others.
    const shown = value ? (value.value === 0 ? '' : value.label) : labelOf(link);
    if (!showLabels || shown === '') continue;
    // A label that would cover a name or another label is left to the tooltip, unless labels were asked for.
    const spot = places.on(curve, shown, 10, options.labels === true);
    if (!spot) continue;
    labels.push(
      `<text class="link-label" x="${n(spot.x)}" y="${n(spot.y + 3)}" font-size="10" text-anchor="middle">${escapeXml(shown)}</text>`,
    );
  }
  const sorted = lines
    .map((line, at) => ({ line, warm: order[at] ?? 0, at }))
    .sort((a, b) => a.warm - b.warm || a.at - b.at);
  return { lines: sorted.map(({ line }) => line), labels };
}

function nodeElements(topology: Topology, layout: Layout, labels: Labels): string[] {
  const ids = safeNames(
    topology.nodes.map(({ id }) => id),
    '-_.',
  );
  for (const place of layout.outside ? layout.places : []) labels.take(place);
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
      const spot = labels.beside(place, node.id, layout.font);
      if (spot)
        text = `<text x="${n(spot.x)}" y="${n(spot.y)}" font-size="${layout.font}" text-anchor="${spot.anchor}">${escapeXml(node.id)}</text>`;
    }
    const title = [node.id, node.label ?? '', node.address ?? ''].filter(Boolean).join('\n');
    return `<g id="node-${ids.get(node.id)}" class="${classes.filter(Boolean).join(' ')}" data-id="${escapeXml(node.id)}"><title>${escapeXml(title)}</title>${shape}${text}</g>`;
  });
}

/** Links up to which names of nodes keep off lines. */
const LINES_MAX = 400;
/** Pixels right of and below what is drawn last. */
const MARGIN = 8;

/** The picture as SVG text. The title is the topology's name unless another is given. */
export function drawSvg(topology: Topology, options: DrawOptions = {}): string {
  const layout = layOut(topology);
  const curves = curvesOf(topology, layout);
  // Names keep off lines where they can: in a large picture they cannot, and looking would take long.
  const places = new Labels(layout.outside && topology.links.length <= LINES_MAX ? curves : []);
  const nodes = nodeElements(topology, layout, places);
  const { lines, labels } = linkElements(topology, layout, options, curves, places);
  const width = Math.ceil(Math.max(layout.width, 320, places.right + MARGIN));
  const low = Math.ceil(Math.max(layout.height, places.bottom + MARGIN));
  const legend = options.overlay ? scaleSvg(options.overlay, 16, low + 8) : undefined;
  const height = low + (legend ? 52 : 0);
  const title = options.title ?? topology.name ?? 'topology';
  const counts = `${counted(topology.nodes.length, 'node')}, ${counted(topology.links.length, 'link')}`;
  const boxes = layout.boxes.map(
    ({ x, y, width: w, height: h }) =>
      `<rect class="box" x="${n(x)}" y="${n(y)}" width="${n(w)}" height="${n(h)}" rx="6"/>`,
  );
  const boxTitles = layout.boxes.map(
    ({ x, y, width: w, height: h, title: text, font }) =>
      `<text class="box-title" x="${n(x + w / 2)}" y="${n(y + h - 7)}" font-size="${n(font)}" text-anchor="middle">${escapeXml(text)}</text>`,
  );
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
    ...boxTitles,
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
