/** What ibnetdiscover prints of an InfiniBand fabric: switches and channel adapters with their ports and cables. */

import { type NewLink, TopologyBuilder } from '../model/build.ts';
import { InputError } from '../model/input-error.ts';
import type { Topology } from '../model/schema.ts';

/** Data rate of a lane after line coding, bits a second. */
const LANE_BPS: Record<string, number> = {
  SDR: 2e9,
  DDR: 4e9,
  QDR: 8e9,
  FDR10: 10e9,
  FDR: 13.64e9,
  EDR: 25e9,
  HDR: 50e9,
  NDR: 100e9,
  XDR: 200e9,
};

const NODE = /^(Switch|Ca|Rt)\s+(\d+)\s+"([^"]+)"(?:\s*#\s*"([^"]*)")?/;
const PORT =
  /^\[(\d+)\](?:\[ext \d+\])?(?:\([0-9a-fA-F]+\))?\s+"([^"]+)"\[(\d+)\](?:\[ext \d+\])?(?:\([0-9a-fA-F]+\))?\s*(?:#(.*))?$/;
const SPEED = /\b(\d{1,2})x(SDR|DDR|QDR|FDR10|FDR|EDR|HDR|NDR|XDR)\b/;

/** Reads saved output. A cable is printed at both of its ends and becomes one link. Throws InputError. */
export function readIbnetdiscover(text: string): Topology {
  const nodes: { key: string; kind: 'host' | 'switch'; name: string; line: number }[] = [];
  const cables: {
    a: string;
    aPort: string;
    b: string;
    bPort: string;
    speed: number | undefined;
    line: number;
  }[] = [];
  for (const [at, raw] of text.split('\n').entries()) {
    const line = at + 1;
    const content = raw.trimEnd();
    if (content === '' || content.startsWith('#') || /^\w+=/.test(content)) continue;
    const node = NODE.exec(content);
    if (node) {
      const [, kind, , key = '', name = ''] = node;
      nodes.push({ key, kind: kind === 'Ca' ? 'host' : 'switch', name: name.trim(), line });
      continue;
    }
    const port = PORT.exec(content);
    if (!port) {
      if (content.startsWith('[') || /^(?:Switch|Ca|Rt)\b/.test(content))
        throw new InputError(`'${content.slice(0, 40)}' is no node and no port`, line);
      continue;
    }
    const owner = nodes.at(-1);
    if (!owner) throw new InputError('a port before the first node', line);
    const [, aPort = '', b = '', bPort = '', comment = ''] = port;
    const speed = SPEED.exec(comment);
    const lane = LANE_BPS[speed?.[2] ?? ''];
    cables.push({
      a: owner.key,
      aPort,
      b,
      bPort,
      speed: lane === undefined ? undefined : lane * Number(speed?.[1]),
      line,
    });
  }
  if (nodes.length === 0) throw new InputError('no Switch and no Ca', 1);
  const counts = new Map<string, number>();
  for (const { name } of nodes) counts.set(name, (counts.get(name) ?? 0) + 1);
  const keys = new Set(nodes.map(({ key }) => key));
  const builder = new TopologyBuilder();
  const idOf = new Map<string, string>();
  for (const { key, kind, name, line } of nodes) {
    if (idOf.has(key)) throw new InputError(`a second node is named '${key}'`, line);
    // Descriptions are what people know nodes by, but vendors' defaults are all alike.
    const id = name !== '' && counts.get(name) === 1 && !keys.has(name) ? name : key;
    idOf.set(key, id);
    builder.node({ id, kind, ...(id === key && name !== '' ? { label: name } : {}) }, line);
  }
  const seen = new Set<string>();
  for (const { a, aPort, b, bPort, speed, line } of cables) {
    const ends = [JSON.stringify([a, aPort]), JSON.stringify([b, bPort])].sort().join(' ');
    if (seen.has(ends)) continue;
    seen.add(ends);
    const far = idOf.get(b);
    if (far === undefined)
      throw new InputError(`the port leads to '${b.slice(0, 40)}', which is not in the file`, line);
    const link: NewLink = { a: idOf.get(a) ?? a, b: far, a_port: aPort, b_port: bPort, capacity_bps: speed };
    builder.link(link, line);
  }
  return builder.build({ name: 'infiniband' });
}
