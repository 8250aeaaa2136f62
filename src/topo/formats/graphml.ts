/** GraphML with the model's fields as typed data; also what Topology Zoo publishes. */

import { TopologyBuilder } from '../model/build.ts';
import { InputError } from '../model/input-error.ts';
import type { Topology } from '../model/schema.ts';
import {
  type Flat,
  flatLink,
  flatNode,
  LINK_ATTRIBUTES,
  linkOf,
  NODE_ATTRIBUTES,
  nodeOf,
} from './attributes.ts';
import { child, type Element, parseXml, required } from './xml.ts';
import { escapeXml } from './xml-escape.ts';
import { zooNames } from './zoo-names.ts';

/** Reads the first graph. Throws InputError. */
export function readGraphml(text: string): Topology {
  const root = parseXml(text);
  if (root.name !== 'graphml')
    throw new InputError(`the root element is <${root.name}>, not <graphml>`, root.line);
  const graph = child(root, 'graph');
  if (!graph) throw new InputError('no <graph>', root.line);
  const names = new Map<string, string>();
  const defaults = { node: new Map<string, string>(), edge: new Map<string, string>() };
  for (const key of root.children.filter(({ name }) => name === 'key')) {
    const name = key.attributes.get('attr.name') ?? required(key, 'id');
    names.set(required(key, 'id'), name);
    const value = child(key, 'default');
    const owner = key.attributes.get('for');
    if (value && (owner === 'node' || owner === 'edge')) defaults[owner].set(name, value.text);
  }
  const data = (element: Element, start: ReadonlyMap<string, string>): Map<string, string> => {
    const found = new Map(start);
    for (const each of element.children) {
      if (each.name === 'graph') throw new InputError('nested graphs are not read', each.line);
      if (each.name !== 'data') continue;
      const key = required(each, 'key');
      found.set(names.get(key) ?? key, each.text);
    }
    return found;
  };
  const about = data({ ...graph, children: graph.children.filter(({ name }) => name === 'data') }, new Map());
  const nodes = graph.children.filter(({ name }) => name === 'node');
  const attributes = nodes.map((node) => data(node, defaults.node));
  const keys = nodes.map((node) => required(node, 'id'));
  const ids = zooNames(keys, attributes);
  const builder = new TopologyBuilder();
  const idOf = new Map<string, string>();
  for (const [at, node] of nodes.entries()) {
    const key = keys[at] ?? '';
    if (idOf.has(key)) throw new InputError(`a second node is named '${key}'`, node.line);
    idOf.set(key, ids[at] ?? key);
    builder.node(nodeOf(ids[at] ?? key, attributes[at] ?? new Map(), 'switch', node.line), node.line);
  }
  for (const edge of graph.children) {
    if (edge.name === 'hyperedge') throw new InputError('hyperedges are not read', edge.line);
    if (edge.name !== 'edge') continue;
    const [a, b] = ['source', 'target'].map((end) => required(edge, end));
    const texts = data(edge, defaults.edge);
    // Topology Zoo has a data field `id` of its own ("e5"), repeated in some files: not a name of ours.
    if (texts.has('id') && !edge.attributes.has('id')) texts.delete('id');
    const ends = [a, b].map((end) => idOf.get(end ?? '') ?? end ?? '');
    const link = linkOf(ends[0] ?? '', ends[1] ?? '', texts, edge.line);
    // Edge ids of other tools are not unique in practice; only an id that we wrote is taken.
    builder.link({ ...link, id: edge.attributes.get('id') ?? link.id }, edge.line);
  }
  return builder.build({
    name: about.get('name') ?? about.get('Network') ?? graph.attributes.get('id'),
    made_by: about.get('made_by'),
  });
}

function dataOf(flat: Flat, owner: 'n' | 'e'): string {
  return Object.entries(flat)
    .map(([key, value]) => `<data key="${owner}_${key}">${escapeXml(value)}</data>`)
    .join('');
}

export function writeGraphml(topology: Topology): string {
  const declare = (owner: 'node' | 'edge', attributes: Record<string, string>): string[] =>
    Object.entries(attributes).map(
      ([key, type]) =>
        `  <key id="${owner[0]}_${key}" for="${owner}" attr.name="${key}" attr.type="${type}"/>`,
    );
  const lines = [
    '<?xml version="1.0" encoding="UTF-8"?>',
    '<graphml xmlns="http://graphml.graphdrawing.org/xmlns">',
    '  <key id="g_name" for="graph" attr.name="name" attr.type="string"/>',
    '  <key id="g_made_by" for="graph" attr.name="made_by" attr.type="string"/>',
    ...declare('node', NODE_ATTRIBUTES),
    ...declare('edge', LINK_ATTRIBUTES),
    '  <graph edgedefault="undirected">',
  ];
  for (const key of ['name', 'made_by'] as const) {
    const value = topology[key];
    if (value !== undefined) lines.push(`    <data key="g_${key}">${escapeXml(value)}</data>`);
  }
  for (const node of topology.nodes) {
    lines.push(`    <node id="${escapeXml(node.id)}">${dataOf(flatNode(node), 'n')}</node>`);
  }
  for (const link of topology.links) {
    const { id: _, ...rest } = flatLink(link);
    const ends = `source="${escapeXml(link.a)}" target="${escapeXml(link.b)}"`;
    lines.push(`    <edge id="${escapeXml(link.id)}" ${ends}>${dataOf(rest, 'e')}</edge>`);
  }
  return `${lines.join('\n')}\n  </graph>\n</graphml>\n`;
}
