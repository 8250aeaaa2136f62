/**
 * Bandwidth matrices: a table of sites, row sends to column, cells `rate/rtt/loss` such as `31.2Mbps/40ms/0.1%`. Cells
 * are separated by commas or tabs. `-` or nothing is no value of its own: the other direction's holds; none in both
 * directions is no link. This is also what `topo probe` writes.
 */

import { TopologyBuilder } from '../model/build.ts';
import { InputError } from '../model/input-error.ts';
import type { Quality, Topology } from '../model/schema.ts';
import { exactPercent, exactRate, exactTime, rateOf, ratioOf, timeOf } from '../quantity.ts';

const MAX_SITES = 1000;

export interface MatrixOptions {
  /** Bits a second of a bare number, 1e6 when absent. */
  unit_bps?: number;
}

function cellOf(text: string, unit_bps: number, line: number): Quality | undefined {
  if (text === '' || text === '-') return undefined;
  const [rate = '', rtt = '', loss = '', ...rest] = text.split('/').map((part) => part.trim());
  const bad = (what: string, part: string): InputError =>
    new InputError(`cell '${text.slice(0, 40)}': '${part}' is not ${what}`, line);
  if (rest.length > 0) throw bad('rate/rtt/loss', text);
  if (rate.startsWith('-'))
    throw new InputError(`cell '${text.slice(0, 40)}': a rate must not be negative`, line);
  const capacity_bps = rateOf(rate, unit_bps);
  if (capacity_bps === undefined || capacity_bps <= 0) throw bad('a rate above 0, such as 31.2Mbps', rate);
  const quality: Quality = { capacity_bps };
  if (rtt !== '') {
    const time = timeOf(rtt, 1e6);
    if (time === undefined) throw bad('a round-trip time such as 40ms', rtt);
    quality.delay_ns = time / 2;
  }
  if (loss !== '') {
    const ratio = ratioOf(loss, true);
    if (ratio === undefined) throw bad('a loss such as 0.1%', loss);
    quality.loss_ratio = ratio;
  }
  return quality;
}

/** Reads a matrix of sites. Throws InputError. */
export function readMatrix(text: string, options: MatrixOptions = {}): Topology {
  const unit_bps = options.unit_bps ?? 1e6;
  const rows = text
    .split('\n')
    .map((raw, at) => ({ raw: raw.replace(/\r$/, ''), line: at + 1 }))
    .filter(({ raw }) => raw.trim() !== '' && !raw.startsWith('#'));
  const [head, ...body] = rows;
  if (!head) throw new InputError('no header line with the names of the sites', 1);
  const separator = head.raw.includes('\t') ? '\t' : ',';
  const split = (raw: string): string[] =>
    raw.split(separator).map((cell) => cell.trim().replace(/^"(.*)"$/, '$1'));
  const names = split(head.raw).slice(1);
  if (names.length < 2)
    throw new InputError('a header of at least two sites is needed: name,A,B,...', head.line);
  if (names.length > MAX_SITES) throw new InputError(`more than ${MAX_SITES} sites`, head.line);
  const builder = new TopologyBuilder();
  for (const id of names) builder.node({ id, kind: 'site' }, head.line);
  const number = new Map(names.map((name, at) => [name, at]));
  const cells = new Map<number, { quality: Quality; line: number }>();
  const seen = new Set<string>();
  for (const { raw, line } of body) {
    const [name = '', ...values] = split(raw);
    const from = number.get(name);
    if (from === undefined) throw new InputError(`row '${name.slice(0, 40)}' is not in the header`, line);
    if (seen.has(name)) throw new InputError(`a second row is named '${name}'`, line);
    seen.add(name);
    if (values.length > names.length)
      throw new InputError(`${values.length} cells in a row for ${names.length} sites`, line);
    for (const [to, value] of values.entries()) {
      const quality = cellOf(value, unit_bps, line);
      if (quality && to !== from) cells.set(from * names.length + to, { quality, line });
    }
  }
  for (const [from, a] of names.entries()) {
    for (let to = from + 1; to < names.length; to++) {
      const forth = cells.get(from * names.length + to);
      const back = cells.get(to * names.length + from);
      const main = forth ?? back;
      if (!main) continue;
      const differs = forth && back && JSON.stringify(forth.quality) !== JSON.stringify(back.quality);
      const reverse = differs ? { back: withZeros(back.quality, forth.quality) } : {};
      builder.link({ a, b: names[to] ?? '', ...main.quality, ...reverse }, main.line);
    }
  }
  return builder.build({ name: 'wan' });
}

/** Only what differs; what the reverse direction lacks is 0, not inherited. */
function withZeros(back: Quality, forth: Quality): Quality {
  const result: Quality = {};
  if (back.capacity_bps !== forth.capacity_bps && back.capacity_bps !== undefined)
    result.capacity_bps = back.capacity_bps;
  for (const key of ['delay_ns', 'loss_ratio'] as const) {
    if ((back[key] ?? 0) !== (forth[key] ?? 0)) result[key] = back[key] ?? 0;
  }
  return result;
}

/** A quality as a cell. */
export function cellText({ capacity_bps, delay_ns, loss_ratio }: Quality): string {
  if (capacity_bps === undefined) return '-';
  const parts = [
    exactRate(capacity_bps),
    delay_ns === undefined ? '' : exactTime(delay_ns * 2),
    loss_ratio === undefined ? '' : exactPercent(loss_ratio),
  ];
  return parts.join('/').replace(/\/+$/, '');
}

/** A matrix as CSV from the names and the cell of each ordered pair. */
export function matrixText(names: readonly string[], cell: (from: number, to: number) => string): string {
  const rows = names.map((name, from) =>
    [name, ...names.map((_, to) => (from === to ? '-' : cell(from, to)))].join(','),
  );
  return `${[['name', ...names].join(','), ...rows].join('\n')}\n`;
}

/** Writes the direct links between nodes; of parallel ones the first. */
export function writeMatrix(topology: Topology): string {
  const number = new Map(topology.nodes.map(({ id }, at) => [id, at]));
  const cells = new Map<string, string>();
  for (const link of topology.links) {
    const [a, b] = [number.get(link.a), number.get(link.b)];
    if (!cells.has(`${a} ${b}`)) cells.set(`${a} ${b}`, cellText(link));
    if (!cells.has(`${b} ${a}`)) cells.set(`${b} ${a}`, cellText({ ...link, ...link.back }));
  }
  return matrixText(
    topology.nodes.map(({ id }) => id.replace(/[,\t"]/g, '_')),
    (from, to) => cells.get(`${from} ${to}`) ?? '-',
  );
}
