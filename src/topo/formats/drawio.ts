/** draw.io (mxGraph) files: every node and link is an <object> that carries the model's fields as attributes. */

import { layOut } from '../draw/layout.ts';
import { TopologyBuilder } from '../model/build.ts';
import { InputError } from '../model/input-error.ts';
import type { Topology } from '../model/schema.ts';
import { flatLink, flatNode, linkOf, nodeOf } from './attributes.ts';
import { child, descendants, parseXml, required } from './xml.ts';
import { escapeXml } from './xml-escape.ts';

/** Reads the first uncompressed page. Throws InputError. */
export function readDrawio(text: string): Topology {
  const root = parseXml(text);
  const model = root.name === 'mxGraphModel' ? root : [...descendants(root, 'mxGraphModel')][0];
  if (!model) {
    const hint = root.name === 'mxfile' ? '; save it uncompressed (File, Properties)' : '';
    throw new InputError(`no <mxGraphModel>${hint}`, root.line);
  }
  const builder = new TopologyBuilder();
  const idOf = new Map<string, string>();
  const edges: { texts: Map<string, string>; source: string; target: string; line: number }[] = [];
  const seen = new Set<unknown>();
  for (const wrapper of [
    ...descendants(model, 'object'),
    ...descendants(model, 'UserObject'),
    ...descendants(model, 'mxCell'),
  ]) {
    const cell = wrapper.name === 'mxCell' ? wrapper : child(wrapper, 'mxCell');
    if (!cell || seen.has(cell)) continue;
    seen.add(cell);
    const { line } = wrapper;
    const texts = new Map(wrapper.attributes);
    const key = required(wrapper, 'id');
    if (cell.attributes.get('vertex') === '1') {
      const foreign = texts.get('label') ?? texts.get('value') ?? key;
      const shown = texts.get('topo_id') ?? foreign.replace(/<[^>]*>/g, '').trim();
      texts.delete('label');
      const label = texts.get('topo_label');
      if (label !== undefined) texts.set('label', label);
      if (idOf.has(key)) throw new InputError(`a second cell is named '${key}'`, line);
      idOf.set(key, shown || key);
      builder.node(nodeOf(shown || key, texts, 'switch', line), line);
    } else if (cell.attributes.get('edge') === '1') {
      texts.delete('id');
      texts.delete('label');
      for (const [from, to] of [
        ['topo_id', 'id'],
        ['topo_label', 'label'],
      ] as const) {
        const value = texts.get(from);
        if (value !== undefined) texts.set(to, value);
      }
      edges.push({ texts, source: required(cell, 'source'), target: required(cell, 'target'), line });
    }
  }
  for (const { texts, source, target, line } of edges) {
    builder.link(linkOf(idOf.get(source) ?? source, idOf.get(target) ?? target, texts, line), line);
  }
  return builder.build({
    name: model.attributes.get('topo_name'),
    made_by: model.attributes.get('topo_made_by'),
  });
}

function attributes(flat: Record<string, string | number>): string {
  return Object.entries(flat)
    .map(([key, value]) => ` ${key === 'id' || key === 'label' ? `topo_${key}` : key}="${escapeXml(value)}"`)
    .join('');
}

const STYLES = {
  host: 'rounded=0;fillColor=#eef2ff;strokeColor=#4a5a8a;',
  switch: 'rounded=1;fillColor=#ecf7ec;strokeColor=#3f7a4a;',
  site: 'ellipse;fillColor=#fdf0e4;strokeColor=#96642a;',
};

export function writeDrawio(topology: Topology): string {
  const { places } = layOut(topology);
  const about = (['name', 'made_by'] as const)
    .map((key) => (topology[key] === undefined ? '' : ` topo_${key}="${escapeXml(topology[key] ?? '')}"`))
    .join('');
  const lines = [
    '<mxfile>',
    '<diagram name="topology">',
    `<mxGraphModel${about}><root>`,
    '<mxCell id="0"/><mxCell id="1" parent="0"/>',
  ];
  const cellOf = new Map<string, string>();
  for (const [at, node] of topology.nodes.entries()) {
    const place = places[at] ?? { x: 0, y: 0 };
    cellOf.set(node.id, `n${at}`);
    lines.push(
      `<object id="n${at}" label="${escapeXml(node.id)}" topo_id="${escapeXml(node.id)}"${attributes(flatNode(node))}>` +
        `<mxCell style="${STYLES[node.kind]}" vertex="1" parent="1"><mxGeometry x="${Math.round(place.x * 2)}" y="${Math.round(place.y * 2)}" width="60" height="24" as="geometry"/></mxCell></object>`,
    );
  }
  for (const [at, link] of topology.links.entries()) {
    lines.push(
      `<object id="l${at}" label=""${attributes(flatLink(link))}>` +
        `<mxCell style="endArrow=none;" edge="1" parent="1" source="${cellOf.get(link.a)}" target="${cellOf.get(link.b)}"><mxGeometry relative="1" as="geometry"/></mxCell></object>`,
    );
  }
  return `${lines.join('\n')}\n</root></mxGraphModel>\n</diagram>\n</mxfile>\n`;
}
