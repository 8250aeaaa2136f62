/** Values for the links of a picture, from a load document or from a table of links. */

import type { LoadReport } from '../ecmp/report.ts';
import { InputError } from '../model/input-error.ts';
import type { Topology } from '../model/schema.ts';
import { shortRate } from '../quantity.ts';
import type { Overlay } from './overlay.ts';

/** What of a predicted load can be shown. */
export type LoadShows = 'utilisation' | 'rate' | 'flows';

const percent = (value: number): string => `${Number((value * 100).toPrecision(3))}%`;

/** A predicted load; of the two directions of a link the busier one. */
export function overlayOfLoad(report: LoadReport, shows: LoadShows): Overlay {
  const show =
    shows === 'utilisation'
      ? percent
      : shows === 'rate'
        ? shortRate
        : (value: number) => String(Math.round(value));
  const values = new Map<string, { value: number; label: string }>();
  for (const link of report.links) {
    const value = shows === 'utilisation' ? link.utilisation : shows === 'rate' ? link.rate_bps : link.flows;
    if (value === null) continue;
    const known = values.get(link.id);
    if (!known || value > known.value) values.set(link.id, { value, label: show(value) });
  }
  const most = [...values.values()].reduce((max, { value }) => Math.max(max, value), 0);
  return {
    title: { utilisation: 'share of capacity', rate: 'load', flows: 'flows' }[shows],
    values,
    low: 0,
    high: shows === 'utilisation' ? Math.max(1, most) : most || 1,
    show,
    note: `max/mean ${report.max_over_mean.toFixed(3)}, Jain ${report.jain.toFixed(3)}`,
  };
}

/** A table `link,value` or `from,to,value`, one a line, numbers without units. */
export function overlayOfTable(text: string, topology: Topology): Overlay {
  const ids = new Set(topology.links.map(({ id }) => id));
  const byEnds = new Map<string, string>();
  for (const { id, a, b } of topology.links) {
    for (const key of [JSON.stringify([a, b]), JSON.stringify([b, a])])
      if (!byEnds.has(key)) byEnds.set(key, id);
  }
  const values = new Map<string, { value: number; label: string }>();
  for (const [at, raw] of text.split('\n').entries()) {
    if (raw.trim() === '' || raw.startsWith('#')) continue;
    const cells = raw.split(/[,\t]/).map((cell) => cell.trim());
    const number = cells.at(-1) ?? '';
    const value = Number(number);
    if (number === '' || !Number.isFinite(value)) {
      if (at === 0) continue;
      throw new InputError(`'${number.slice(0, 40)}' is not a number`, at + 1);
    }
    const id = cells.length === 2 ? cells[0] : byEnds.get(JSON.stringify(cells.slice(0, 2)));
    if (id === undefined || !ids.has(id))
      throw new InputError(`the topology has no link '${cells.slice(0, -1).join(',').slice(0, 60)}'`, at + 1);
    const known = values.get(id);
    if (!known || value > known.value) values.set(id, { value, label: String(value) });
  }
  const all = [...values.values()].map(({ value }) => value);
  if (all.length === 0) throw new InputError('no values');
  const low = Math.min(
    0,
    all.reduce((a, b) => Math.min(a, b), all[0] ?? 0),
  );
  const high = all.reduce((a, b) => Math.max(a, b), all[0] ?? 0);
  return { title: 'measured', values, low, high, show: (value) => String(Number(value.toPrecision(3))) };
}
