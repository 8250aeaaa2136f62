/** A topology in the terminal: a line for each tier or group with its members, and what joins them. */

import { compressNames } from '../formats/slurm.ts';
import { Graph } from '../model/graph.ts';
import type { Topology } from '../model/schema.ts';
import { counted, shortRate } from '../quantity.ts';
import { tiersOf } from './layout.ts';

function fold(text: string, width: number, indent: string): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + word.length + 1 > width) {
      lines.push(line);
      line = indent + word;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  lines.push(line);
  return lines;
}

/** How the links of `from` to `to` read: `4 x 100Gbps`. */
function bundle(rates: readonly (number | undefined)[]): string {
  const counts = new Map<string, number>();
  for (const rate of rates) {
    const text = rate === undefined ? '' : shortRate(rate);
    counts.set(text, (counts.get(text) ?? 0) + 1);
  }
  return [...counts]
    .map(([rate, count]) => (rate === '' ? counted(count, 'link') : `${count} x ${rate}`))
    .join(', ');
}

function tiered(topology: Topology, tiers: readonly number[], columns: number): string[] {
  const graph = new Graph(topology);
  const top = tiers.reduce((most, tier) => Math.max(most, tier), 0);
  const lines: string[] = [];
  for (let tier = top; tier >= 1; tier--) {
    const members = tiers.flatMap((each, number) => (each === tier ? [number] : []));
    if (members.length === 0) continue;
    // Switches with the same neighbours above and the same number below are one line.
    const alike = new Map<string, { names: string[]; up: string; down: string }>();
    for (const number of members) {
      const node = topology.nodes[number];
      const arcs = graph.leaving[number] ?? [];
      const side = (up: boolean) =>
        arcs.filter(({ to }) => (up ? (tiers[to] ?? 0) > tier : (tiers[to] ?? 0) < tier));
      const names = (up: boolean) =>
        compressNames([...new Set(side(up).map(({ to }) => topology.nodes[to]?.id ?? ''))]);
      const rates = (up: boolean) => bundle(side(up).map(({ link }) => link.capacity_bps));
      const down = tier === 1 || side(false).length === 0 ? '' : rates(false);
      const key = [node?.group ?? '', names(true), rates(true), down].join('\n');
      const row = alike.get(key) ?? {
        names: [],
        up: names(true) === '' ? '' : `up to ${names(true)} (${rates(true)} each)`,
        down,
      };
      row.names.push(node?.id ?? '');
      alike.set(key, row);
    }
    lines.push(`tier ${tier}: ${counted(members.length, 'switch', 'switches')}`);
    for (const { names, up, down } of [...alike.values()].slice(0, 24)) {
      const words = [compressNames(names), up, up === '' && down !== '' ? `(${down} down each)` : '']
        .filter(Boolean)
        .join('  ');
      lines.push(...fold(`  ${words}`, columns, '    '));
    }
    if (alike.size > 24) lines.push(`  ... ${alike.size - 24} more`);
  }
  const blocks = new Map<string, { hosts: string[]; rates: (number | undefined)[] }>();
  for (const [number, tier] of tiers.entries()) {
    if (tier !== 0) continue;
    const arcs = graph.leaving[number] ?? [];
    const on = compressNames([...new Set(arcs.map(({ to }) => topology.nodes[to]?.id ?? ''))]);
    const block = blocks.get(on) ?? { hosts: [], rates: arcs.map(({ link }) => link.capacity_bps) };
    block.hosts.push(topology.nodes[number]?.id ?? '');
    blocks.set(on, block);
  }
  lines.push(`hosts: ${tiers.filter((tier) => tier === 0).length}`);
  for (const [on, { hosts, rates }] of [...blocks].slice(0, 40)) {
    lines.push(
      ...fold(`  ${compressNames(hosts)}  on ${on || 'nothing'} (${bundle(rates)} each)`, columns, '    '),
    );
  }
  if (blocks.size > 40) lines.push(`  ... ${blocks.size - 40} more`);
  return lines;
}

function plain(topology: Topology, columns: number): string[] {
  const graph = new Graph(topology);
  const lines: string[] = [];
  const widest = topology.nodes.reduce((most, { id }) => Math.max(most, Math.min(24, id.length)), 0);
  for (const [number, { id }] of topology.nodes.slice(0, 60).entries()) {
    const neighbours = new Map<number, (number | undefined)[]>();
    for (const { to, link } of graph.leaving[number] ?? [])
      neighbours.set(to, [...(neighbours.get(to) ?? []), link.capacity_bps]);
    const words = [...neighbours].map(([to, rates]) => {
      const rate = rates[0] === undefined ? '' : ` ${shortRate(rates[0])}`;
      return `${topology.nodes[to]?.id}${rate}${rates.length > 1 ? ` x${rates.length}` : ''}`;
    });
    const indent = ' '.repeat(widest + 4);
    lines.push(...fold(`${id.padEnd(widest)} -- ${words.join(', ')}`, columns, indent));
  }
  if (topology.nodes.length > 60) lines.push(`... ${topology.nodes.length - 60} more nodes`);
  return lines;
}

/** The picture, with a line feed at the end. */
export function drawText(topology: Topology, columns: number): string {
  const tiers = tiersOf(topology);
  const head = `${topology.name ?? 'topology'}: ${counted(topology.nodes.length, 'node')}, ${counted(topology.links.length, 'link')}`;
  return `${[head, ...(tiers ? tiered(topology, tiers, columns) : plain(topology, columns))].join('\n')}\n`;
}
