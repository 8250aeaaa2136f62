/**
 * containerlab topologies: nodes with kind `linux`, links as pairs of endpoints `node:eth1`. The model's fields travel as
 * labels of nodes and vars of links, which containerlab carries along.
 */

import { isAlias, isMap, isScalar, isSeq, LineCounter, parseDocument } from 'yaml';
import { TopologyBuilder } from '../model/build.ts';
import { InputError } from '../model/input-error.ts';
import type { Topology } from '../model/schema.ts';
import { flatLink, flatNode, linkOf, nodeOf } from './attributes.ts';
import { safeNames } from './names.ts';

const MARK = 'rdmakit-';
const MAX_YAML_BYTES = 8 * 2 ** 20;

/** Reads a topology file. Throws InputError; aliases are refused, so nothing can be expanded. */
export function readContainerlab(text: string): Topology {
  if (text.length > MAX_YAML_BYTES) throw new InputError('YAML above 8 MiB is refused');
  const lines = new LineCounter();
  const document = parseDocument(text, {
    lineCounter: lines,
    prettyErrors: false,
    logLevel: 'silent',
    // Checked below: the library compares every key with every other.
    uniqueKeys: false,
  });
  const lineOf = (node: unknown): number | undefined => {
    const range = (node as { range?: [number, number, number] } | null)?.range;
    return range ? lines.linePos(range[0]).line : node === null ? 1 : undefined;
  };
  const [error] = document.errors;
  if (error)
    throw new InputError(`not YAML: ${error.message.split('\n')[0]}`, lines.linePos(error.pos[0]).line);
  const entries = (node: unknown, what: string): [string, unknown, number | undefined][] => {
    if (isAlias(node)) throw new InputError('aliases are refused', lineOf(node));
    if (!isMap(node)) throw new InputError(`${what} must be a map`, lineOf(node));
    const seen = new Set<string>();
    return node.items.map(({ key, value }) => {
      const name = String(isScalar(key) ? key.value : '');
      if (seen.has(name)) throw new InputError(`'${name.slice(0, 40)}' stands twice in ${what}`, lineOf(key));
      seen.add(name);
      return [name, value, lineOf(key)];
    });
  };
  const get = (node: unknown, key: string, what: string): unknown =>
    entries(node, what).find(([name]) => name === key)?.[1];
  const texts = (node: unknown, what: string): Map<string, string> => {
    const found = new Map<string, string>();
    if (node === undefined || node === null) return found;
    for (const [key, value] of entries(node, what)) {
      if (key.startsWith(MARK) && isScalar(value)) found.set(key.slice(MARK.length), String(value.value));
    }
    return found;
  };
  const root = document.contents;
  const topology = get(root, 'topology', 'the document');
  if (topology === undefined) throw new InputError("no 'topology'", lineOf(root));
  const builder = new TopologyBuilder();
  const idOf = new Map<string, string>();
  const nodes = get(topology, 'nodes', 'topology');
  if (nodes === undefined) throw new InputError("no 'nodes'", lineOf(topology));
  for (const [name, value, line] of entries(nodes, 'nodes')) {
    const empty = value === null || (isScalar(value) && value.value === null);
    const labels = empty
      ? new Map<string, string>()
      : texts(get(value, 'labels', `node '${name}'`), 'labels');
    const group = empty ? undefined : get(value, 'group', `node '${name}'`);
    const kind = empty ? undefined : get(value, 'kind', `node '${name}'`);
    const id = labels.get('id') ?? name;
    idOf.set(name, id);
    // Without our labels: linux containers are hosts, everything else is somebody's switch.
    const fallback = isScalar(kind) && kind.value === 'linux' ? 'host' : 'switch';
    const node = nodeOf(id, labels, fallback, line);
    builder.node(
      node.group === undefined && isScalar(group) ? { ...node, group: String(group.value) } : node,
      line,
    );
  }
  const links = get(topology, 'links', 'topology');
  if (links !== undefined && !isSeq(links)) throw new InputError("'links' must be a list", lineOf(links));
  for (const link of isSeq(links) ? links.items : []) {
    const line = lineOf(link);
    const ends = get(link, 'endpoints', 'a link');
    if (!isSeq(ends) || ends.items.length !== 2)
      throw new InputError("a link needs 'endpoints' with two entries", line);
    const [a, b] = ends.items.map((end) => {
      // Short form "node:eth1" or long form {node: n, interface: eth1}.
      if (isMap(end)) return [String(end.get('node')), String(end.get('interface'))];
      const text = isScalar(end) ? String(end.value) : '';
      const at = text.indexOf(':');
      if (at < 1)
        throw new InputError(`endpoint '${text.slice(0, 40)}' is not node:interface`, lineOf(end) ?? line);
      return [text.slice(0, at), text.slice(at + 1)];
    }) as [string[], string[]];
    const [[aName = '', aPort], [bName = '', bPort]] = [a, b];
    const fields = linkOf(
      idOf.get(aName) ?? aName,
      idOf.get(bName) ?? bName,
      texts(get(link, 'vars', 'a link'), 'vars'),
      line,
    );
    builder.link({ ...fields, a_port: fields.a_port ?? aPort, b_port: fields.b_port ?? bPort }, line);
  }
  const defaults = get(topology, 'defaults', 'topology');
  const about =
    defaults === undefined ? new Map<string, string>() : texts(get(defaults, 'labels', 'defaults'), 'labels');
  const name = get(root, 'name', 'the document');
  return builder.build({
    name: about.get('name') ?? (isScalar(name) ? String(name.value) : undefined),
    made_by: about.get('made_by'),
  });
}

export function writeContainerlab(topology: Topology): string {
  const names = safeNames(
    topology.nodes.map(({ id }) => id),
    '-_.',
  );
  const quote = (text: string | number): string => JSON.stringify(String(text));
  // A lab's name becomes part of container names; the topology's own is kept among the labels.
  const labName =
    (topology.name ?? 'topology').replace(/[^A-Za-z0-9-]+/g, '-').replace(/^-+|-+$/g, '') || 'topology';
  const lines = [`name: ${quote(labName)}`, 'topology:'];
  const about = (['name', 'made_by'] as const).filter((key) => topology[key] !== undefined);
  if (about.length > 0) {
    lines.push('  defaults:', '    labels:');
    for (const key of about) lines.push(`      ${MARK}${key}: ${quote(topology[key] ?? '')}`);
  }
  lines.push('  nodes:');
  for (const node of topology.nodes) {
    const name = names.get(node.id) ?? '';
    lines.push(`    ${quote(name)}:`, '      kind: linux', '      image: alpine:latest', '      labels:');
    const labels = { ...(name === node.id ? {} : { id: node.id }), ...flatNode(node) };
    for (const [key, value] of Object.entries(labels)) lines.push(`        ${MARK}${key}: ${quote(value)}`);
  }
  lines.push('  links:');
  const next = new Map<string, number>();
  const endpoint = (id: string): string => {
    const nth = (next.get(id) ?? 0) + 1;
    next.set(id, nth);
    return quote(`${names.get(id)}:eth${nth}`);
  };
  for (const link of topology.links) {
    lines.push(`    - endpoints: [${endpoint(link.a)}, ${endpoint(link.b)}]`, '      vars:');
    for (const [key, value] of Object.entries(flatLink(link)))
      lines.push(`        ${MARK}${key}: ${quote(value)}`);
  }
  if (topology.links.length === 0) lines[lines.length - 1] = '  links: []';
  return `${lines.join('\n')}\n`;
}
