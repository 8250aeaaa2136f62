/**
 * The list that the ns-3 simulators of HPCC and SimAI read: `nodes switches links`, the numbers of the switches, then
 * one `source target rate delay error-rate` a link. Nodes are numbers, so names become `n0`, `n1`, ...
 */

import { TopologyBuilder } from '../model/build.ts';
import { InputError } from '../model/input-error.ts';
import { MAX_LINKS, MAX_NODES } from '../model/limits.ts';
import type { Topology } from '../model/schema.ts';
import { exactRate, exactTime, rateOf, timeOf } from '../quantity.ts';

/** What an absent capacity is written as; the simulators need one. */
const UNKNOWN_BPS = 100e9;

/** Reads a list. Throws InputError. */
export function readNs3(text: string): Topology {
  const words: { text: string; line: number }[] = [];
  for (const [at, raw] of text.split('\n').entries()) {
    for (const word of raw.replace(/#.*$/, '').split(/\s+/))
      if (word !== '') words.push({ text: word, line: at + 1 });
  }
  let next = 0;
  const take = (what: string): { text: string; line: number } => {
    const word = words[next];
    if (!word) throw new InputError(`the file ends before ${what}`, words.at(-1)?.line ?? 1);
    next += 1;
    return word;
  };
  const whole = (what: string, below: number): number => {
    const word = take(what);
    const value = Number(word.text);
    if (!/^\d+$/.test(word.text) || value >= below) {
      throw new InputError(
        `${what} '${word.text.slice(0, 40)}' is not a whole number below ${below}`,
        word.line,
      );
    }
    return value;
  };
  const nodeCount = whole('the number of nodes', MAX_NODES + 1);
  const switchCount = whole('the number of switches', nodeCount + 1);
  const linkCount = whole('the number of links', MAX_LINKS + 1);
  const switches = new Set<number>();
  for (let i = 0; i < switchCount; i++) switches.add(whole('the number of a switch', nodeCount));
  const builder = new TopologyBuilder();
  for (let i = 0; i < nodeCount; i++)
    builder.node({ id: `n${i}`, kind: switches.has(i) ? 'switch' : 'host' });
  for (let i = 0; i < linkCount; i++) {
    const line = words[next]?.line;
    const a = `n${whole('the source of a link', nodeCount)}`;
    const b = `n${whole('the target of a link', nodeCount)}`;
    const quantity = (what: string, parse: (given: string) => number | undefined): number => {
      const word = take(what);
      const value = parse(word.text);
      if (value === undefined) throw new InputError(`'${word.text.slice(0, 40)}' is not ${what}`, word.line);
      return value;
    };
    const capacity_bps = quantity('a rate such as 100Gbps', (given) => rateOf(given));
    const delay_ns = quantity('a delay such as 0.001ms', (given) => timeOf(given));
    const loss = quantity('an error rate', (given) =>
      /^[\d.eE+-]+$/.test(given) && Number(given) >= 0 && Number(given) <= 1 ? Number(given) : undefined,
    );
    builder.link({ a, b, capacity_bps, delay_ns, ...(loss > 0 ? { loss_ratio: loss } : {}) }, line);
  }
  const extra = words[next];
  if (extra) throw new InputError(`'${extra.text.slice(0, 40)}' after the last link`, extra.line);
  return builder.build();
}

export function writeNs3(topology: Topology): string {
  const number = new Map(topology.nodes.map(({ id }, at) => [id, at]));
  const switches = topology.nodes.flatMap(({ kind }, at) => (kind === 'host' ? [] : [at]));
  const lines = [`${topology.nodes.length} ${switches.length} ${topology.links.length}`, switches.join(' ')];
  for (const { a, b, capacity_bps = UNKNOWN_BPS, delay_ns = 0, loss_ratio = 0 } of topology.links) {
    lines.push(
      `${number.get(a)} ${number.get(b)} ${exactRate(capacity_bps)} ${exactTime(delay_ns)} ${loss_ratio}`,
    );
  }
  return `${lines.join('\n')}\n`;
}
