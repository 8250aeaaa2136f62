/**
 * Slurm's topology.conf: which switch has which nodes and switches below it, with compressed names such as `h[0-15]`.
 * It holds the tree and nothing else: no capacities, no delays, no parallel links.
 */

import { RdmakitError } from '../../errors.ts';
import { TopologyBuilder } from '../model/build.ts';
import { InputError } from '../model/input-error.ts';
import { MAX_NODES } from '../model/limits.ts';
import type { Topology } from '../model/schema.ts';
import { safeNames } from './names.ts';

/** `h[0-3,7],x` -> h0 h1 h2 h3 h7 x. Leading zeros are kept. */
export function expandNames(text: string, line?: number): string[] {
  const names: string[] = [];
  for (const part of text.match(/(?:[^,[\]]|\[[^\]]*\])+/g) ?? []) {
    const match = /^([^[\]]*)\[([^\]]*)\]([^[\]]*)$/.exec(part);
    if (!match) {
      if (/[[\]]/.test(part)) throw new InputError(`'${part.slice(0, 40)}' has a bracket too many`, line);
      names.push(part);
      continue;
    }
    const [, before = '', ranges = '', after = ''] = match;
    for (const range of ranges.split(',')) {
      const ends = /^(\d{1,9})(?:-(\d{1,9}))?$/.exec(range);
      if (!ends) throw new InputError(`'${range.slice(0, 40)}' is not a range`, line);
      const [, first = '', last = first] = ends;
      const count = Number(last) - Number(first) + 1;
      if (count < 1) throw new InputError(`'${range}' runs backwards`, line);
      if (names.length + count > MAX_NODES) throw new InputError(`more than ${MAX_NODES} names`, line);
      for (let i = Number(first); i <= Number(last); i++)
        names.push(`${before}${String(i).padStart(first.length, '0')}${after}`);
    }
  }
  return names;
}

/** h0 h1 h2 h7 -> `h[0-2,7]`: runs of numbers behind the same letters. */
export function compressNames(names: readonly string[]): string {
  const groups = new Map<string, number[]>();
  const whole: string[] = [];
  for (const name of names) {
    const match = /^(.*?)(0|[1-9]\d{0,8})$/.exec(name);
    if (!match) whole.push(name);
    else {
      const numbers = groups.get(match[1] ?? '') ?? [];
      numbers.push(Number(match[2]));
      groups.set(match[1] ?? '', numbers);
    }
  }
  const parts = [...groups].map(([prefix, numbers]) => {
    const sorted = [...numbers].sort((a, b) => a - b);
    const ranges: [number, number][] = [];
    for (const number of sorted) {
      const last = ranges.at(-1);
      if (last && last[1] + 1 === number) last[1] = number;
      else ranges.push([number, number]);
    }
    if (sorted.length === 1) return `${prefix}${sorted[0]}`;
    return `${prefix}[${ranges.map(([a, b]) => (a === b ? `${a}` : `${a}-${b}`)).join(',')}]`;
  });
  return [...parts, ...whole].join(',');
}

/** Reads topology.conf; a switch that is above itself is an error. Throws InputError. */
export function readSlurm(text: string): Topology {
  const switches = new Map<string, { nodes: string[]; below: string[]; line: number }>();
  for (const [at, raw] of text
    .replace(/\\\r?\n/g, ' ')
    .split('\n')
    .entries()) {
    const line = at + 1;
    const content = raw.replace(/#.*$/, '').trim();
    if (content === '') continue;
    const fields = new Map<string, string>();
    for (const word of content.split(/\s+/)) {
      const equals = word.indexOf('=');
      if (equals < 1) throw new InputError(`'${word.slice(0, 40)}' is not Name=Value`, line);
      fields.set(word.slice(0, equals).toLowerCase(), word.slice(equals + 1));
    }
    const names = fields.get('switchname');
    if (names === undefined) throw new InputError('SwitchName is missing', line);
    for (const name of expandNames(names, line)) {
      if (switches.has(name)) throw new InputError(`a second switch is named '${name}'`, line);
      switches.set(name, {
        nodes: expandNames(fields.get('nodes') ?? '', line),
        below: expandNames(fields.get('switches') ?? '', line),
        line,
      });
    }
  }
  if (switches.size === 0) throw new InputError('no SwitchName', 1);
  const tiers = tiersOf(switches);
  const builder = new TopologyBuilder();
  for (const { nodes, line } of switches.values()) {
    for (const id of nodes) if (!builder.has(id)) builder.node({ id, kind: 'host', tier: 0 }, line);
  }
  for (const [id, { line }] of switches) builder.node({ id, kind: 'switch', tier: tiers.get(id) ?? 1 }, line);
  for (const [b, { nodes, below, line }] of switches) {
    for (const a of [...nodes, ...below]) builder.link({ a, b }, line);
  }
  return builder.build();
}

/** Height of each switch above the hosts; iterative, so that a hostile chain cannot exhaust the stack. */
function tiersOf(switches: ReadonlyMap<string, { below: string[]; line: number }>): Map<string, number> {
  const tiers = new Map<string, number>();
  const open = new Set<string>();
  for (const start of switches.keys()) {
    const stack = [{ name: start, next: 0 }];
    while (stack.length > 0) {
      const top = stack.at(-1) as { name: string; next: number };
      const { below, line } = switches.get(top.name) ?? { below: [], line: undefined };
      if (tiers.has(top.name)) {
        stack.pop();
        continue;
      }
      open.add(top.name);
      const lower = below[top.next];
      top.next += 1;
      if (lower === undefined) {
        tiers.set(top.name, Math.min(63, 1 + Math.max(0, ...below.map((name) => tiers.get(name) ?? 0))));
        open.delete(top.name);
        stack.pop();
      } else if (open.has(lower)) throw new InputError(`switch '${lower}' is above itself: a cycle`, line);
      else if (!switches.has(lower)) throw new InputError(`switch '${lower}' has no line of its own`, line);
      else stack.push({ name: lower, next: 0 });
    }
  }
  return tiers;
}

/** Writes the hierarchy; throws when the topology has none (links inside a tier, switches without a tier). */
export function writeSlurm(topology: Topology): string {
  const names = safeNames(
    topology.nodes.map(({ id }) => id),
    '-_.',
  );
  const nodes = new Map(topology.nodes.map((node) => [node.id, node]));
  const tierOf = (id: string): number | undefined =>
    nodes.get(id)?.tier ?? (nodes.get(id)?.kind === 'host' ? 0 : undefined);
  const hosts = new Map<string, Set<string>>();
  const below = new Map<string, Set<string>>();
  for (const { a, b } of topology.links) {
    const [tierA, tierB] = [tierOf(a), tierOf(b)];
    if (tierA === undefined || tierB === undefined || tierA === tierB) {
      throw new RdmakitError({
        kind: 'usage',
        what: `the link between '${a}' and '${b}' does not go up a tier`,
        cause: 'topology.conf describes a hierarchy of switches',
        remedy:
          'export a tiered network (three-tier, leaf-spine, fat-tree, rail), or give its switches tiers',
      });
    }
    const [low, high] = tierA < tierB ? [a, b] : [b, a];
    const kind = nodes.get(low)?.kind === 'host' ? hosts : below;
    kind.set(high, (kind.get(high) ?? new Set()).add(names.get(low) ?? low));
  }
  const lines = ['# topology.conf for TopologyPlugin=topology/tree'];
  for (const { id, kind } of topology.nodes) {
    if (kind === 'host') continue;
    const parts = [`SwitchName=${names.get(id)}`];
    const under = hosts.get(id);
    if (under) parts.push(`Nodes=${compressNames([...under])}`);
    const lower = below.get(id);
    if (lower) parts.push(`Switches=${compressNames([...lower])}`);
    lines.push(parts.join(' '));
  }
  return `${lines.join('\n')}\n`;
}
