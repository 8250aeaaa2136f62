/** GML, the other format of Topology Zoo: `graph [ node [ id 0 label "A" ] edge [ source 0 target 1 ] ]`. */

import { TopologyBuilder } from '../model/build.ts';
import { InputError } from '../model/input-error.ts';
import type { Topology } from '../model/schema.ts';
import { linkOf, nodeOf } from './attributes.ts';
import { zooNames } from './zoo-names.ts';

const MAX_DEPTH = 20;
const TOKEN = /\s+|#[^\n]*|"([^"]*)"|([[\]])|([^\s[\]"]+)/y;
const ENTITIES: Record<string, string> = { quot: '"', amp: '&', lt: '<', gt: '>', apos: "'" };

interface Record_ {
  key: string;
  /** Text of a value, or the records of a list. */
  value: string | Record_[];
  line: number;
}

/** Named and numbered characters only, once: nothing is expanded twice. */
function decode(text: string): string {
  return text.replace(
    /&(?:#(\d{1,7})|([a-z]+));/g,
    (whole, code: string | undefined, name: string | undefined) => {
      if (code !== undefined) return Number(code) <= 0x10ffff ? String.fromCodePoint(Number(code)) : whole;
      return ENTITIES[name ?? ''] ?? whole;
    },
  );
}

function records(source: string): Record_[] {
  const root: Record_[] = [];
  const stack: Record_[][] = [root];
  let key: string | undefined;
  let line = 1;
  let at = 0;
  while (at < source.length) {
    TOKEN.lastIndex = at;
    const match = TOKEN.exec(source);
    if (!match) throw new InputError('a text in quotes is not closed', line);
    const [whole, quoted, bracket, word] = match;
    const top = stack.at(-1) as Record_[];
    if (bracket === '[') {
      if (key === undefined) throw new InputError("'[' without a name before it", line);
      if (stack.length >= MAX_DEPTH) throw new InputError(`nested deeper than ${MAX_DEPTH} lists`, line);
      const value: Record_[] = [];
      top.push({ key, value, line });
      stack.push(value);
      key = undefined;
    } else if (bracket === ']') {
      if (key !== undefined) throw new InputError(`'${key.slice(0, 40)}' has no value`, line);
      if (stack.length === 1) throw new InputError("']' without '['", line);
      stack.pop();
    } else if (quoted !== undefined || word !== undefined) {
      if (key !== undefined) {
        top.push({ key, value: quoted === undefined ? (word ?? '') : decode(quoted), line });
        key = undefined;
      } else if (word !== undefined && /^[A-Za-z_]\w*$/.test(word)) key = word;
      else throw new InputError(`'${(word ?? quoted ?? '').slice(0, 40)}' is not a name`, line);
    }
    for (let i = whole.indexOf('\n'); i !== -1; i = whole.indexOf('\n', i + 1)) line += 1;
    at = TOKEN.lastIndex;
  }
  if (stack.length > 1 || key !== undefined) throw new InputError("the file ends before ']'", line);
  return root;
}

function flat(list: readonly Record_[]): Map<string, string> {
  return new Map(list.flatMap(({ key, value }) => (typeof value === 'string' ? [[key, value]] : [])));
}

/** Reads a GML graph. Throws InputError. */
export function readGml(source: string): Topology {
  const graph = records(source).find(({ key, value }) => key === 'graph' && typeof value !== 'string');
  if (!graph || typeof graph.value === 'string') throw new InputError('no graph [ ... ]', 1);
  const lists = (name: string) =>
    (graph.value as Record_[]).filter(({ key, value }) => key === name && typeof value !== 'string');
  const need = (texts: Map<string, string>, key: string, line: number): string => {
    const value = texts.get(key);
    if (value === undefined) throw new InputError(`'${key}' is missing`, line);
    return value;
  };
  const nodes = lists('node').map(({ value, line }) => ({ texts: flat(value as Record_[]), line }));
  const keys = nodes.map(({ texts, line }) => need(texts, 'id', line));
  const names = zooNames(
    keys,
    nodes.map(({ texts }) => texts),
  );
  const builder = new TopologyBuilder();
  const idOf = new Map<string, string>();
  for (const [at, { texts, line }] of nodes.entries()) {
    const key = keys[at] ?? '';
    if (idOf.has(key)) throw new InputError(`a second node has id ${key}`, line);
    idOf.set(key, names[at] ?? key);
    builder.node(nodeOf(names[at] ?? key, texts, 'switch', line), line);
  }
  for (const { value, line } of lists('edge')) {
    const texts = flat(value as Record_[]);
    const [a, b] = ['source', 'target'].map((end) => need(texts, end, line));
    // `id` of an edge is not unique in files of the Zoo.
    texts.delete('id');
    builder.link(linkOf(idOf.get(a ?? '') ?? a ?? '', idOf.get(b ?? '') ?? b ?? '', texts, line), line);
  }
  const about = flat(graph.value);
  return builder.build({ name: about.get('Network') ?? about.get('label') });
}
