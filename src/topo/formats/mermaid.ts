/**
 * Mermaid flowcharts: nodes with kinds as classes, links with capacity, delay and loss in their labels. Ids that Mermaid
 * cannot take get a substitute, and the text in the box is the id.
 */

import { TopologyBuilder } from '../model/build.ts';
import { InputError } from '../model/input-error.ts';
import { NODE_KINDS, type NodeKind, type Topology } from '../model/schema.ts';
import { exactPercent, exactRate, exactTime, rateOf, ratioOf, timeOf } from '../quantity.ts';
import { safeNames } from './names.ts';

const TEXT = '(?:"([^"]*)"|([^"\\]})|]*))';
const NODE = new RegExp(
  `^([\\w.-]+?)(?:\\[${TEXT}\\]|\\(\\[${TEXT}\\]\\)|\\(${TEXT}\\)|\\{${TEXT}\\})?(?::::(\\w+))?$`,
);
// An arrow inside quotes is part of a name.
const ARROWS = /^((?:"[^"]*"|[^"])+?)\s*(?:---|-->|<-->|===|-\.-)\s*(?:\|"?([^|"]*)"?\|\s*)?(.+)$/;
const IGNORED = /^(?:classDef|class|style|linkStyle|direction|subgraph|end\b|click|accTitle|accDescr)/;

function decode(text: string): string {
  return text.replace(/#(\d{1,7}|quot);/g, (whole, code: string) => {
    if (code === 'quot') return '"';
    return Number(code) <= 0x10ffff ? String.fromCodePoint(Number(code)) : whole;
  });
}

function encode(text: string): string {
  return text.replace(/["#|<>&]/g, (char) => `#${char.codePointAt(0)};`);
}

/** Reads `graph`/`flowchart` text. Throws InputError. */
export function readMermaid(source: string): Topology {
  const builder = new TopologyBuilder();
  const idOf = new Map<string, string>();
  const kinds = new Map<string, NodeKind>();
  const nodes: { name: string; line: number }[] = [];
  const links: { a: string; b: string; label: string; line: number }[] = [];
  const node = (text: string, line: number): string => {
    const match = NODE.exec(text.trim());
    if (!match) throw new InputError(`'${text.trim().slice(0, 40)}' is not a node`, line);
    const name = match[1] ?? '';
    const shown = match.slice(2, 10).find((each) => each !== undefined);
    if (!idOf.has(name)) {
      nodes.push({ name, line });
      idOf.set(name, name);
    }
    if (shown !== undefined && shown !== '') idOf.set(name, decode(shown).split('\n')[0] ?? name);
    const kind = match[10];
    if (kind !== undefined && (NODE_KINDS as readonly string[]).includes(kind))
      kinds.set(name, kind as NodeKind);
    return name;
  };
  let header = false;
  for (const [at, raw] of source.split('\n').entries()) {
    for (const part of raw.replace(/^\s*%%.*$/, '').match(/(?:"[^"]*"|[^;"]|"$)+/g) ?? []) {
      const text = part.trim();
      if (text === '') continue;
      if (!header) {
        if (!/^(?:graph|flowchart)\b/.test(text))
          throw new InputError("'graph' or 'flowchart' expected", at + 1);
        header = true;
        continue;
      }
      if (IGNORED.test(text)) continue;
      const arrow = ARROWS.exec(text);
      if (arrow) {
        const [, a = '', label = '', b = ''] = arrow;
        links.push({ a: node(a, at + 1), b: node(b, at + 1), label: decode(label), line: at + 1 });
      } else node(text, at + 1);
    }
  }
  if (!header) throw new InputError("'graph' or 'flowchart' expected", 1);
  for (const { name, line } of nodes) {
    builder.node({ id: idOf.get(name) ?? name, kind: kinds.get(name) ?? 'switch' }, line);
  }
  for (const { a, b, label, line } of links) {
    const words = label.split(/\s+/).filter(Boolean);
    const rest = words.map(
      (word) => [rateOf(word), timeOf(word), word.endsWith('%') ? ratioOf(word) : undefined] as const,
    );
    const capacity_bps = rest.find(([rate, time]) => rate !== undefined && time === undefined)?.[0];
    const delay_ns = rest.find(([, time]) => time !== undefined)?.[1];
    const loss_ratio = rest.find(([, , ratio]) => ratio !== undefined)?.[2];
    const a_id = idOf.get(a) ?? a;
    builder.link({ a: a_id, b: idOf.get(b) ?? b, capacity_bps, delay_ns, loss_ratio }, line);
  }
  return builder.build();
}

const BOXES: Record<NodeKind, [string, string]> = {
  host: ['["', '"]'],
  switch: ['(["', '"])'],
  site: ['("', '")'],
};

export function writeMermaid(topology: Topology): string {
  const names = safeNames(topology.nodes.map(({ id }) => id));
  // Lower-case `end` and a leading o or x after --- are syntax of Mermaid: a letter in front of all keeps names safe.
  const name = (id: string): string => `n_${names.get(id)}`;
  const lines = ['graph BT'];
  for (const node of topology.nodes) {
    const [open, close] = BOXES[node.kind];
    lines.push(`  ${name(node.id)}${open}${encode(node.id)}${close}:::${node.kind}`);
  }
  for (const { a, b, capacity_bps, delay_ns, loss_ratio } of topology.links) {
    const words = [
      capacity_bps === undefined ? '' : exactRate(capacity_bps),
      delay_ns === undefined ? '' : exactTime(delay_ns),
      loss_ratio === undefined ? '' : exactPercent(loss_ratio),
    ].filter(Boolean);
    lines.push(`  ${name(a)} ---${words.length > 0 ? `|"${words.join(' ')}"| ` : ' '}${name(b)}`);
  }
  lines.push(
    '  classDef host fill:#eef,stroke:#446',
    '  classDef switch fill:#efe,stroke:#464',
    '  classDef site fill:#fee,stroke:#644',
  );
  return `${lines.join('\n')}\n`;
}
