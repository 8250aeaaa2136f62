/** Where texts stand: beside nodes and on links, covering neither one another nor, where it can be helped, a line. */

import type { Point } from './circle.ts';
import type { Curve } from './curves.ts';
import type { Place } from './layout.ts';

export interface Rect {
  left: number;
  right: number;
  top: number;
  bottom: number;
}

/** Width of a letter over the size of its font, on average. */
const LETTER = 0.58;

/** Where on a link its label may stand; not in the middle first, where the links of a tiered network cross. */
const LINK_SHARES = [0.36, 0.27, 0.46, 0.55, 0.64, 0.73] as const;
/** Pieces that a line is taken to consist of. */
const PIECES = 12;

function overlaps(rect: Rect, others: readonly Rect[]): boolean {
  return others.some(
    (other) =>
      rect.left < other.right &&
      other.left < rect.right &&
      rect.top < other.bottom &&
      other.top < rect.bottom,
  );
}

/** Whether the straight line from a to b has a point in the rectangle: Liang and Barsky's clipping. */
function crosses(rect: Rect, a: Point, b: Point): boolean {
  const [dx, dy] = [b.x - a.x, b.y - a.y];
  let [from, to] = [0, 1];
  for (const [slope, room] of [
    [-dx, a.x - rect.left],
    [dx, rect.right - a.x],
    [-dy, a.y - rect.top],
    [dy, rect.bottom - a.y],
  ] as const) {
    if (slope === 0) {
      if (room < 0) return false;
    } else if (slope < 0) from = Math.max(from, room / slope);
    else to = Math.min(to, room / slope);
    if (from > to) return false;
  }
  return true;
}

/** How many of the lines run through a rectangle. */
function struck(rect: Rect, lines: readonly (readonly Point[])[]): number {
  return lines.filter((points) =>
    points.some((point, at) => at > 0 && crosses(rect, points[at - 1] as Point, point)),
  ).length;
}

/** Places texts one after the other; remembers what is taken. */
export class Labels {
  readonly #taken: Rect[] = [];
  readonly #lines: readonly (readonly Point[])[];

  /** @param curves lines that names of nodes should not lie on. */
  constructor(curves: readonly Curve[]) {
    this.#lines = curves.map(({ at }) => Array.from({ length: PIECES + 1 }, (_, i) => at(i / PIECES)));
  }

  /** Nothing may cover this place. */
  take({ x, y, width, height }: Place): void {
    this.#taken.push({
      left: x - width / 2,
      right: x + width / 2,
      top: y - height / 2,
      bottom: y + height / 2,
    });
  }

  /** A name beside a node: where the fewest lines cross it; undefined when there is no room. */
  beside(place: Place, text: string, font: number): { x: number; y: number; anchor: string } | undefined {
    const wide = text.length * font * LETTER;
    const gap = place.width / 2 + 4;
    const [level, under, over] = [place.y + font * 0.35, place.y + gap + font * 0.8, place.y - gap];
    const spots = [
      { x: place.x + gap, y: level, anchor: 'start', left: 0 },
      { x: place.x - gap, y: level, anchor: 'end', left: -wide },
      { x: place.x, y: under, anchor: 'middle', left: -wide / 2 },
      { x: place.x, y: over, anchor: 'middle', left: -wide / 2 },
      { x: place.x + gap, y: over, anchor: 'start', left: 0 },
      { x: place.x + gap, y: under, anchor: 'start', left: 0 },
      { x: place.x - gap, y: over, anchor: 'end', left: -wide },
      { x: place.x - gap, y: under, anchor: 'end', left: -wide },
    ];
    let best: { x: number; y: number; anchor: string; rect: Rect; lines: number } | undefined;
    for (const { x, y, anchor, left } of spots) {
      const rect = { left: x + left, right: x + left + wide, top: y - font, bottom: y + 2 };
      if (rect.left < 2 || overlaps(rect, this.#taken)) continue;
      const lines = struck(rect, this.#lines);
      if (!best || lines < best.lines) best = { x, y, anchor, rect, lines };
      if (lines === 0) break;
    }
    if (!best) return undefined;
    this.#taken.push(best.rect);
    return best;
  }

  /** The middle of a text on its line; undefined when it would cover something everywhere, unless it is `wanted` all the same. */
  on({ at }: Curve, text: string, font: number, wanted: boolean): Point | undefined {
    const rectAt = ({ x, y }: Point): Rect => {
      const half = (text.length * font * LETTER) / 2 + 2;
      return { left: x - half, right: x + half, top: y - font * 0.6, bottom: y + font * 0.6 };
    };
    const spots = LINK_SHARES.map(at);
    const spot =
      spots.find((each) => !overlaps(rectAt(each), this.#taken)) ?? (wanted ? spots[0] : undefined);
    if (spot) this.#taken.push(rectAt(spot));
    return spot;
  }

  /** The right end of all that was placed and of all lines, in pixels. */
  get right(): number {
    const texts = this.#taken.reduce((most, { right }) => Math.max(most, right), 0);
    return this.#lines.reduce((most, points) => points.reduce((far, { x }) => Math.max(far, x), most), texts);
  }

  /** Their lowest end. */
  get bottom(): number {
    const texts = this.#taken.reduce((most, { bottom }) => Math.max(most, bottom), 0);
    return this.#lines.reduce((most, points) => points.reduce((far, { y }) => Math.max(far, y), most), texts);
  }
}

/** A text cut and shrunk to fit into a node. */
export function fitted(text: string, width: number, font: number): { text: string; font: number } {
  const wide = text.length * font * LETTER;
  if (wide <= width - 4) return { text, font };
  const smaller = Math.max(font * 0.7, (font * (width - 4)) / wide);
  const room = Math.floor((width - 4) / (smaller * LETTER));
  return { text: text.length <= room ? text : `${text.slice(0, Math.max(1, room - 1))}…`, font: smaller };
}
