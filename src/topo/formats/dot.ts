/**
 * DOT, the language of Graphviz: nodes, edges with chains and subgraphs, default attributes. Everything of the model is
 * kept in attributes, which Graphviz ignores; `label` and `xlabel` are what it draws.
 */

import { TopologyBuilder } from '../model/build.ts';
import { InputError } from '../model/input-error.ts';
import type { Topology } from '../model/schema.ts';
import { shortRate } from '../quantity.ts';
import { type Flat, flatLink, flatNode, linkOf, nodeOf } from './attributes.ts';

const MAX_DEPTH = 50;
// Comments, preprocessor lines, quoted ids, plain ids (any word above ASCII), numerals, edges, punctuation.
const TOKEN =
  /\s+|\/\/[^\n]*|\/\*[\s\S]*?\*\/|"((?:[^"\\]+|\\[\s\S])*)"|([A-Za-z_\u0080-\u{10ffff}][\w\u0080-\u{10ffff}]*|-?(?:\.\d+|\d+(?:\.\d*)?))|(--|->)|([{}[\]=;,:+])/uy;

interface Token {
  text: string;
  kind: 'id' | 'quoted' | 'edge' | 'mark' | 'end';
  line: number;
}

/** One at a time: a list of all of a large file would be gigabytes. */
function* tokens(source: string): Generator<Token, Token> {
  let line = 1;
  let at = 0;
  while (at < source.length) {
    if (source[at] === '#' && (at === 0 || source[at - 1] === '\n')) {
      const end = source.indexOf('\n', at);
      at = end === -1 ? source.length : end;
      continue;
    }
    TOKEN.lastIndex = at;
    const match = TOKEN.exec(source);
    if (!match) {
      const message = source[at] === '<' ? 'HTML labels are not read' : `'${source[at]}' is out of place`;
      throw new InputError(message, line);
    }
    // Before anything is handed out: the pattern is shared.
    at = TOKEN.lastIndex;
    const [whole, quoted, id, edge, mark] = match;
    if (quoted !== undefined)
      yield { text: quoted.replace(/\\\r?\n/g, '').replace(/\\(["\\])/g, '$1'), kind: 'quoted', line };
    else if (id !== undefined) yield { text: id, kind: 'id', line };
    else if (edge !== undefined) yield { text: edge, kind: 'edge', line };
    else if (mark !== undefined) yield { text: mark, kind: 'mark', line };
    for (let i = whole.indexOf('\n'); i !== -1; i = whole.indexOf('\n', i + 1)) line += 1;
  }
  return { text: 'the end of the file', kind: 'end', line };
}

type Attributes = Map<string, string>;
interface Defaults {
  node: Attributes;
  edge: Attributes;
}
interface End {
  id: string;
  port?: string | undefined;
}

class Reader {
  readonly #tokens: Generator<Token, Token>;
  #token: Token;
  readonly #nodes = new Map<string, { attributes: Attributes; line: number }>();
  readonly #edges: { a: End; b: End; attributes: Attributes; line: number }[] = [];
  readonly #graph: Attributes = new Map();

  constructor(source: string) {
    this.#tokens = tokens(source);
    this.#token = this.#tokens.next().value;
  }

  read(): Topology {
    if (this.#word('strict')) this.#next();
    if (!this.#word('graph') && !this.#word('digraph')) this.#fail("'graph' or 'digraph' expected");
    this.#next();
    const name = this.#isId() ? this.#next().text : undefined;
    this.#body({ node: new Map(), edge: new Map() }, 0);
    if (this.#peek().kind !== 'end') this.#fail('only one graph is read');
    const builder = new TopologyBuilder();
    for (const [id, { attributes, line }] of this.#nodes) {
      if (attributes.get('label') === '\\N') attributes.delete('label');
      builder.node(nodeOf(id, attributes, 'switch', line), line);
    }
    for (const { a, b, attributes, line } of this.#edges) {
      const link = linkOf(a.id, b.id, attributes, line);
      builder.link({ ...link, a_port: link.a_port ?? a.port, b_port: link.b_port ?? b.port }, line);
    }
    return builder.build({ name, made_by: this.#graph.get('made_by') });
  }

  #peek(): Token {
    return this.#token;
  }

  /** The end stays the next token for ever. */
  #next(): Token {
    const token = this.#token;
    if (token.kind !== 'end') this.#token = this.#tokens.next().value;
    return token;
  }

  #fail(message: string): never {
    const { text, line } = this.#peek();
    throw new InputError(`${message}, found '${text.slice(0, 40)}'`, line);
  }

  #is(mark: string): boolean {
    const token = this.#peek();
    return token.kind === 'mark' && token.text === mark;
  }

  #word(word: string): boolean {
    const token = this.#peek();
    return token.kind === 'id' && token.text.toLowerCase() === word;
  }

  #eat(mark: string): void {
    if (!this.#is(mark)) this.#fail(`'${mark}' expected`);
    this.#next();
  }

  #isId(): boolean {
    return this.#peek().kind === 'id' || this.#peek().kind === 'quoted';
  }

  #id(): string {
    if (!this.#isId()) this.#fail('a name expected');
    let { text } = this.#next();
    while (this.#is('+')) {
      this.#next();
      text += this.#next().text;
    }
    return text;
  }

  #attributes(): Attributes {
    const found: Attributes = new Map();
    while (this.#is('[')) {
      this.#next();
      while (!this.#is(']')) {
        const key = this.#id();
        if (this.#is('=')) {
          this.#next();
          found.set(key, this.#id());
        } else found.set(key, 'true');
        if (this.#is(',') || this.#is(';')) this.#next();
      }
      this.#next();
    }
    return found;
  }

  /** `{ ... }`: the ids of the nodes it names. */
  #body(defaults: Defaults, depth: number): Set<string> {
    if (depth > MAX_DEPTH) this.#fail(`subgraphs nested deeper than ${MAX_DEPTH}`);
    this.#eat('{');
    const inner = { node: new Map(defaults.node), edge: new Map(defaults.edge) };
    const named = new Set<string>();
    while (!this.#is('}')) {
      if (this.#peek().kind === 'end') this.#fail("'}' expected");
      for (const id of this.#statement(inner, depth)) named.add(id);
      if (this.#is(';')) this.#next();
    }
    this.#next();
    return named;
  }

  #statement(defaults: Defaults, depth: number): string[] {
    for (const key of ['node', 'edge'] as const) {
      if (!this.#word(key)) continue;
      this.#next();
      for (const [name, value] of this.#attributes()) defaults[key].set(name, value);
      return [];
    }
    if (this.#word('graph')) {
      this.#next();
      const found = this.#attributes();
      if (depth === 0) for (const [name, value] of found) this.#graph.set(name, value);
      return [];
    }
    const { line } = this.#peek();
    const groups = [this.#ends(defaults, depth)];
    if (groups[0] === undefined) return [];
    while (this.#peek().kind === 'edge') {
      this.#next();
      groups.push(this.#ends(defaults, depth));
    }
    const attributes = this.#attributes();
    const named = groups.flatMap((group) => group ?? []);
    if (groups.length === 1) {
      // A statement of one node: its attributes are the node's.
      for (const { id } of named)
        for (const [key, value] of attributes) this.#nodes.get(id)?.attributes.set(key, value);
    }
    for (let i = 1; i < groups.length; i++) {
      for (const a of groups[i - 1] ?? []) {
        for (const b of groups[i] ?? []) {
          if (this.#edges.length > 1_000_000) throw new InputError('more than 1000000 edges', line);
          this.#edges.push({ a, b, attributes: new Map([...defaults.edge, ...attributes]), line });
        }
      }
    }
    return named.map(({ id }) => id);
  }

  /** One end of an edge statement: a node or a subgraph. Undefined for `name = value`. */
  #ends(defaults: Defaults, depth: number): End[] | undefined {
    if (this.#word('subgraph')) {
      this.#next();
      if (!this.#is('{')) this.#id();
    }
    if (this.#is('{')) return [...this.#body(defaults, depth + 1)].map((id) => ({ id }));
    const { line } = this.#peek();
    const id = this.#id();
    if (this.#is('=')) {
      this.#next();
      const value = this.#id();
      if (depth === 0) this.#graph.set(id, value);
      return undefined;
    }
    let port: string | undefined;
    for (let part = 0; this.#is(':') && part < 2; part++) {
      this.#next();
      const text = this.#id();
      if (part === 0) port = text;
    }
    if (!this.#nodes.has(id)) this.#nodes.set(id, { attributes: new Map(defaults.node), line });
    return [{ id, port }];
  }
}

/** Reads a DOT graph. Throws InputError. */
export function readDot(source: string): Topology {
  return new Reader(source).read();
}

function quote(value: string | number): string {
  return typeof value === 'number'
    ? String(value).includes('e')
      ? `"${value}"`
      : String(value)
    : `"${value.replace(/["\\]/g, '\\$&')}"`;
}

function list(attributes: Record<string, string | number>): string {
  return Object.entries(attributes)
    .map(([key, value]) => `${key}=${quote(value)}`)
    .join(', ');
}

const SHAPES = { host: 'box', switch: 'ellipse', site: 'ellipse' } as const;

export function writeDot(topology: Topology): string {
  const lines = [`graph ${topology.name === undefined ? '' : `${quote(topology.name)} `}{`, '  rankdir=BT;'];
  if (topology.made_by !== undefined) lines.push(`  made_by=${quote(topology.made_by)};`);
  for (const node of topology.nodes)
    lines.push(`  ${quote(node.id)} [${list({ ...flatNode(node), shape: SHAPES[node.kind] })}];`);
  for (const link of topology.links) {
    const xlabel: Flat = link.capacity_bps === undefined ? {} : { xlabel: shortRate(link.capacity_bps) };
    lines.push(`  ${quote(link.a)} -- ${quote(link.b)} [${list({ ...flatLink(link), ...xlabel })}];`);
  }
  return `${lines.join('\n')}\n}\n`;
}
