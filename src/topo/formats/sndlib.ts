/**
 * SNDlib networks, XML and native: sites with coordinates, links with capacities, demands. Capacities are in Mbit/s
 * unless the file names another unit. A link that has no capacity installed gets the largest module that it may have.
 */

import { TopologyBuilder } from '../model/build.ts';
import { InputError } from '../model/input-error.ts';
import type { Topology } from '../model/schema.ts';
import { child, descendants, type Element, parseXml, required } from './xml.ts';

const UNITS: Record<string, number> = {
  BITPERSEC: 1,
  KBITPERSEC: 1e3,
  MBITPERSEC: 1e6,
  GBITPERSEC: 1e9,
  TBITPERSEC: 1e12,
};

function numberOf(text: string | undefined, what: string, line: number): number {
  const value = Number(text);
  if (text === undefined || text === '' || !Number.isFinite(value))
    throw new InputError(`${what} '${(text ?? '').slice(0, 40)}' is not a number`, line);
  if (value < 0 && !what.startsWith('a coordinate'))
    throw new InputError(`${what} is negative (${text})`, line);
  return value;
}

function capacityOf(installed: number, modules: readonly number[], unit: number): { capacity_bps?: number } {
  const value = installed > 0 ? installed : Math.max(0, ...modules);
  return value > 0 ? { capacity_bps: value * unit } : {};
}

/** Reads SNDlib XML. Throws InputError. */
export function readSndlibXml(text: string): Topology {
  const root = parseXml(text);
  if (root.name !== 'network')
    throw new InputError(`the root element is <${root.name}>, not <network>`, root.line);
  const metaUnit = [...descendants(root, 'unit')][0]?.text;
  const unit = UNITS[metaUnit ?? 'MBITPERSEC'] ?? 1e6;
  const builder = new TopologyBuilder();
  const inside = (element: Element, name: string): string => {
    const found = child(element, name);
    if (!found) throw new InputError(`<${element.name}> lacks <${name}>`, element.line);
    return found.text;
  };
  for (const node of [...descendants(root, 'nodes')].flatMap(({ children }) => children)) {
    if (node.name !== 'node') continue;
    const place = child(node, 'coordinates');
    const coordinate = (name: string): number =>
      numberOf(child(place as Element, name)?.text, `a coordinate ${name}`, node.line);
    const at = place ? { x: coordinate('x'), y: coordinate('y') } : {};
    builder.node({ id: required(node, 'id'), kind: 'site', ...at }, node.line);
  }
  for (const link of [...descendants(root, 'links')].flatMap(({ children }) => children)) {
    if (link.name !== 'link') continue;
    const installed = child(child(link, 'preInstalledModule') ?? link, 'capacity');
    const modules = [...descendants(link, 'addModule')].map((each) =>
      numberOf(child(each, 'capacity')?.text, 'a capacity', each.line),
    );
    const capacity = capacityOf(
      installed ? numberOf(installed.text, 'a capacity', link.line) : 0,
      modules,
      unit,
    );
    builder.link(
      { id: required(link, 'id'), a: inside(link, 'source'), b: inside(link, 'target'), ...capacity },
      link.line,
    );
  }
  for (const demand of descendants(root, 'demand')) {
    const value = numberOf(inside(demand, 'demandValue'), 'a demand', demand.line);
    if (value > 0)
      builder.demand(
        { from: inside(demand, 'source'), to: inside(demand, 'target'), rate_bps: value * unit },
        demand.line,
      );
  }
  return builder.build();
}

/** Reads SNDlib's native format. Throws InputError. */
export function readSndlibNative(text: string): Topology {
  const lines = text.split('\n').map((raw) => raw.replace(/#.*$/, '').trim());
  const unitLine = lines.find((line) => /^unit\s*=/.test(line));
  const unit = UNITS[unitLine?.replace(/^unit\s*=\s*/, '') ?? 'MBITPERSEC'] ?? 1e6;
  const builder = new TopologyBuilder();
  let section: string | undefined;
  let header = false;
  for (const [at, content] of lines.entries()) {
    const line = at + 1;
    if (content === '') continue;
    if (content.startsWith('?')) {
      if (!/^\?SNDlib native format;\s*type:\s*network/.test(content))
        throw new InputError('not an SNDlib network', line);
      header = true;
      continue;
    }
    if (!header)
      throw new InputError("the file does not begin with '?SNDlib native format; type: network'", line);
    if (section === undefined) {
      const opened = /^([A-Z_]+)\s*\(\s*(\))?$/.exec(content);
      if (!opened) throw new InputError(`'${content.slice(0, 40)}' is in no section`, line);
      section = opened[2] ? undefined : opened[1];
      continue;
    }
    if (content === ')') {
      section = undefined;
      continue;
    }
    const words = content.replace(/[()]/g, ' $& ').trim().split(/\s+/);
    if (section === 'NODES') {
      const [id = '', open, x, y, close] = words;
      if (words.length === 1) builder.node({ id, kind: 'site' }, line);
      else if (open === '(' && close === ')') {
        builder.node(
          { id, kind: 'site', x: numberOf(x, 'a coordinate', line), y: numberOf(y, 'a coordinate', line) },
          line,
        );
      } else throw new InputError('a node is written: name ( x y )', line);
    } else if (section === 'LINKS') {
      const [id = '', open, a = '', b = '', close, installed = '0'] = words;
      if (open !== '(' || close !== ')')
        throw new InputError(
          'a link is written: name ( a b ) capacity cost cost cost ( capacity cost ... )',
          line,
        );
      const from = words.indexOf('(', 5);
      const inner = from === -1 ? [] : words.slice(from + 1, words.indexOf(')', from));
      const modules = inner
        .filter((word, i) => i % 2 === 0 && word !== 'UNLIMITED')
        .map((word) => numberOf(word, 'a capacity', line));
      builder.link({ id, a, b, ...capacityOf(numberOf(installed, 'a capacity', line), modules, unit) }, line);
    } else if (section === 'DEMANDS') {
      const [, open, from = '', to = '', close, , value] = words;
      if (open !== '(' || close !== ')')
        throw new InputError('a demand is written: name ( from to ) unit value limit', line);
      const rate = numberOf(value, 'a demand', line);
      if (rate > 0) builder.demand({ from, to, rate_bps: rate * unit }, line);
    }
  }
  if (section !== undefined) throw new InputError(`section ${section} is not closed`, lines.length);
  return builder.build();
}
