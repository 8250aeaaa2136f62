/** Values painted on links: measured rates, predicted loads. Green is little, red is much. */

import { escapeXml } from '../formats/xml-escape.ts';

export interface Overlay {
  /** What the colours mean: `load, share of capacity`. */
  title: string;
  /** By link id; `label` is what stands at the link. */
  values: ReadonlyMap<string, { value: number; label: string }>;
  /** Value of the lowest and the highest colour. */
  low: number;
  high: number;
  /** A value as text for the legend. */
  show(value: number): string;
  /** Remark in the legend: max/mean and fairness. */
  note?: string | undefined;
}

// Blue, green, yellow, orange, red: distinguishable in brightness too.
const COLOURS = [
  [69, 117, 180],
  [90, 174, 97],
  [230, 200, 50],
  [244, 125, 48],
  [205, 30, 40],
] as const;

/** Where a value lies between the lowest and the highest colour, 0..1. */
export function heat({ low, high }: Pick<Overlay, 'low' | 'high'>, value: number): number {
  return high > low ? Math.min(1, Math.max(0, (value - low) / (high - low))) : 0;
}

/** The colour of a value. */
export function paint(range: Pick<Overlay, 'low' | 'high'>, value: number): string {
  const share = heat(range, value);
  const at = Math.min(COLOURS.length - 2, Math.floor(share * (COLOURS.length - 1)));
  const within = share * (COLOURS.length - 1) - at;
  const [a, b] = [COLOURS[at], COLOURS[at + 1]] as [readonly number[], readonly number[]];
  return `#${a
    .map((from, i) =>
      Math.round(from + ((b[i] ?? 0) - from) * within)
        .toString(16)
        .padStart(2, '0'),
    )
    .join('')}`;
}

/** The legend. */
export function scaleSvg(overlay: Overlay, x: number, y: number): string {
  const steps = 20;
  const bars = Array.from({ length: steps }, (_, i) => {
    const value = overlay.low + ((overlay.high - overlay.low) * i) / (steps - 1);
    return `<rect x="${x + i * 10}" y="${y + 8}" width="10" height="10" fill="${paint(overlay, value)}"/>`;
  });
  const text = (at: number, anchor: string, words: string): string =>
    `<text class="note" x="${at}" y="${y + 32}" font-size="11" text-anchor="${anchor}">${escapeXml(words)}</text>`;
  const note = [overlay.title, overlay.note ?? ''].filter(Boolean).join(' · ');
  return [
    '<g class="legend">',
    ...bars,
    text(x, 'start', overlay.show(overlay.low)),
    text(x + steps * 10, 'end', overlay.show(overlay.high)),
    `<text class="note" x="${x + steps * 10 + 14}" y="${y + 17}" font-size="12">${escapeXml(note)}</text>`,
    '</g>',
  ].join('');
}
