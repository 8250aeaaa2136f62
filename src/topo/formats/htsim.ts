/**
 * The .topo files of htsim: a Clos network of two or three tiers, described by radices and speeds of each tier instead of
 * a list of links. Any such file becomes a graph; a graph becomes such a file only when it is that regular.
 */

import { RdmakitError } from '../../errors.ts';
import { hostAddress } from '../generate/common.ts';
import { TopologyBuilder } from '../model/build.ts';
import { InputError } from '../model/input-error.ts';
import { checkSize } from '../model/limits.ts';
import type { Link, Topology } from '../model/schema.ts';

interface Tier {
  down: number;
  up: number;
  speed_bps: number;
  latency_ns: number;
  bundle: number;
  line: number;
}

interface Plan {
  nodes: number;
  podSize: number;
  tiers: Tier[];
}

function parsePlan(text: string): Plan {
  const top = new Map<string, { value: number; line: number }>();
  const tiers: Map<string, { value: number; line: number }>[] = [];
  const places: number[] = [];
  for (const [at, raw] of text.split('\n').entries()) {
    const line = at + 1;
    const words = raw.replace(/#.*$/, '').trim().split(/\s+/);
    if (words[0] === '') continue;
    const [key = '', number = ''] = words;
    const value = Number(number);
    if (words.length !== 2 || !/^\d+(?:\.\d+)?$/.test(number) || value > 1e12) {
      throw new InputError(`'${raw.trim().slice(0, 40)}' is not a name and a number`, line);
    }
    const name = key.toLowerCase();
    if (name === 'tier') {
      if (value !== tiers.length || value > 2)
        throw new InputError(`Tier ${number} is out of order (0, 1, 2)`, line);
      tiers.push(new Map());
      places.push(line);
      continue;
    }
    const into = tiers.at(-1) ?? top;
    if (into.has(name)) throw new InputError(`${key} stands twice`, line);
    into.set(name, { value, line });
  }
  const need = (
    map: Map<string, { value: number; line: number }>,
    name: string,
    line: number,
    fallback?: number,
  ): number => {
    const value = map.get(name)?.value ?? fallback;
    if (value === undefined) throw new InputError(`${name} is missing`, line);
    return value;
  };
  const count = need(top, 'tiers', 1, tiers.length);
  if (count !== tiers.length || count < 2)
    throw new InputError(
      `${count} tiers are announced, ${tiers.length} described; 2 or 3 are possible`,
      top.get('tiers')?.line ?? 1,
    );
  const nodes = need(top, 'nodes', 1);
  return {
    nodes,
    podSize: need(top, 'podsize', 1, nodes),
    tiers: tiers.map((map, at) => {
      const line = places[at] ?? 1;
      return {
        down: need(map, 'radix_down', line),
        up: at === tiers.length - 1 ? 0 : need(map, 'radix_up', line),
        speed_bps: need(map, 'downlink_speed_gbps', line) * 1e9,
        latency_ns: need(map, 'downlink_latency_ns', line, need(top, 'downlink_latency_ns', line, 0)),
        bundle: need(map, 'bundle', line, 1),
        line,
      };
    }),
  };
}

/** Divides exactly into a whole number above 0, or says what does not fit. */
function whole(dividend: number, divisor: number, what: string, line: number): number {
  const value = dividend / divisor;
  if (!Number.isInteger(value) || value < 1)
    throw new InputError(`${what}: ${dividend} / ${divisor} is not a whole number`, line);
  return value;
}

/** Reads a .topo file. Throws InputError. */
export function readHtsim(text: string): Topology {
  const { nodes, podSize, tiers } = parsePlan(text);
  const [tor, agg, core] = tiers as [Tier, Tier, Tier | undefined];
  const tors = whole(nodes, tor.down, 'hosts over Radix_Down of tier 0', tor.line);
  const pods = whole(nodes, core ? podSize : nodes, 'Nodes over Podsize', 1);
  const torsPerPod = whole(tors, pods, 'tier 0 switches over pods', tor.line);
  const upTor = whole(tor.up, agg.bundle, 'Radix_Up of tier 0 over Bundle of tier 1', tor.line);
  const downAgg = whole(agg.down, agg.bundle, 'Radix_Down of tier 1 over its Bundle', agg.line);
  if (downAgg !== torsPerPod) {
    throw new InputError(
      `a tier 1 switch reaches ${downAgg} of ${torsPerPod} tier 0 switches of a pod; they must be equal`,
      agg.line,
    );
  }
  const aggsPerPod = upTor;
  const cores = core
    ? whole(pods * aggsPerPod * agg.up, core.down, 'uplinks of tier 1 over Radix_Down of tier 2', core.line)
    : 0;
  const upAgg = core ? whole(agg.up, core.bundle, 'Radix_Up of tier 1 over Bundle of tier 2', agg.line) : 0;
  if (core && core.down / core.bundle !== pods) {
    throw new InputError(
      `a tier 2 switch must reach each of the ${pods} pods once: Radix_Down / Bundle is ${core.down / core.bundle}`,
      core.line,
    );
  }
  checkSize(
    'this .topo file',
    nodes + tors + pods * aggsPerPod + cores,
    nodes + tors * tor.up + (core ? pods * aggsPerPod * agg.up : 0),
  );
  const builder = new TopologyBuilder({ numberPorts: true });
  const pod = (at: number, size: number): { group: string } | object =>
    core ? { group: `pod${Math.floor(at / size)}` } : {};
  const link = (a: string, b: string, tier: Tier, times: number): void => {
    for (let i = 0; i < times; i++)
      builder.link({ a, b, capacity_bps: tier.speed_bps, delay_ns: tier.latency_ns }, tier.line);
  };
  for (let i = 0; i < nodes; i++)
    builder.node({ id: `h${i}`, kind: 'host', tier: 0, ...pod(i, podSize), address: hostAddress(i) });
  for (let i = 0; i < tors; i++)
    builder.node({ id: `e${i}`, kind: 'switch', tier: 1, ...pod(i, torsPerPod) });
  for (let i = 0; i < pods * aggsPerPod; i++)
    builder.node({ id: `a${i}`, kind: 'switch', tier: 2, ...pod(i, aggsPerPod) });
  for (let i = 0; i < cores; i++) builder.node({ id: `c${i}`, kind: 'switch', tier: 3 });
  for (let i = 0; i < nodes; i++) link(`h${i}`, `e${Math.floor(i / tor.down)}`, tor, 1);
  for (let i = 0; i < tors; i++) {
    const first = Math.floor(i / torsPerPod) * aggsPerPod;
    for (let j = 0; j < aggsPerPod; j++) link(`e${i}`, `a${first + j}`, agg, agg.bundle);
  }
  for (let i = 0; core && i < pods * aggsPerPod; i++) {
    const first = (i % aggsPerPod) * upAgg;
    for (let j = 0; j < upAgg; j++) link(`a${i}`, `c${(first + j) % cores}`, core, core.bundle);
  }
  return builder.build();
}

function irregular(cause: string): RdmakitError {
  return new RdmakitError({
    kind: 'usage',
    what: 'this topology cannot be a .topo file of htsim',
    cause,
    remedy: 'htsim describes regular two- and three-tier Clos networks; export another format, such as ns3',
  });
}

/** Writes a .topo file; throws when the topology is not a regular Clos network of two or three tiers. */
export function writeHtsim(topology: Topology): string {
  const tierOf = new Map(topology.nodes.map((node) => [node.id, node.tier]));
  const counts = [0, 0, 0, 0];
  for (const { id, tier } of topology.nodes) {
    if (tier === undefined || tier > 3) throw irregular(`node '${id}' has no tier in 0..3`);
    counts[tier] = (counts[tier] ?? 0) + 1;
  }
  const tiers = (counts[3] ?? 0) > 0 ? 3 : 2;
  if (!counts[0] || !counts[1] || !counts[2])
    throw irregular('there must be hosts and two or three tiers of switches');
  const up = new Map<string, number>();
  const down = new Map<string, number>();
  const bundles: Map<string, number>[] = [new Map(), new Map(), new Map()];
  const sample: (Link | undefined)[] = [];
  for (const link of topology.links) {
    const [tierA = 0, tierB = 0] = [tierOf.get(link.a), tierOf.get(link.b)];
    const low = Math.min(tierA, tierB);
    if (Math.abs(tierA - tierB) !== 1) throw irregular(`link '${link.id}' does not go up one tier`);
    const [lower, upper] = tierA < tierB ? [link.a, link.b] : [link.b, link.a];
    up.set(lower, (up.get(lower) ?? 0) + 1);
    down.set(upper, (down.get(upper) ?? 0) + 1);
    const key = JSON.stringify([lower, upper]);
    bundles[low]?.set(key, (bundles[low]?.get(key) ?? 0) + 1);
    const first = sample[low] ?? link;
    sample[low] = first;
    if (first.capacity_bps !== link.capacity_bps || first.delay_ns !== link.delay_ns)
      throw irregular(`links of tier ${low} differ in capacity or delay`);
  }
  const same = (map: ReadonlyMap<string, number>, tier: number, what: string): number => {
    const values = new Set(
      topology.nodes.filter((node) => node.tier === tier).map(({ id }) => map.get(id) ?? 0),
    );
    if (values.size !== 1) throw irregular(`switches of tier ${tier - 1} have different numbers of ${what}`);
    return [...values][0] ?? 0;
  };
  if (same(up, 0, 'uplinks') !== 1) throw irregular('a host has more than one link');
  const hosts = counts[0];
  const pods = new Set(topology.nodes.filter(({ tier }) => tier === 1).map(({ group }) => group)).size;
  const lines = [`Nodes ${hosts}`, `Tiers ${tiers}`, `Podsize ${tiers === 3 ? hosts / pods : hosts}`];
  for (let tier = 0; tier < tiers; tier++) {
    const { capacity_bps = 100e9, delay_ns = 0 } = sample[tier] ?? {};
    const bundle = new Set(bundles[tier]?.values());
    if (bundle.size > 1) throw irregular(`bundles of tier ${tier} differ`);
    lines.push(
      '',
      `Tier ${tier}`,
      `Downlink_speed_Gbps ${capacity_bps / 1e9}`,
      `Radix_Down ${same(down, tier + 1, 'downlinks')}`,
    );
    if (tier < tiers - 1) lines.push(`Radix_Up ${same(up, tier + 1, 'uplinks')}`);
    lines.push(`Downlink_Latency_ns ${delay_ns}`);
    if (tier > 0 && !bundle.has(1)) lines.push(`Bundle ${[...bundle][0]}`);
  }
  const text = `${lines.join('\n')}\n`;
  // The description stands for one network only: reading it back must give the same number of everything.
  try {
    const again = readHtsim(text);
    if (again.nodes.length === topology.nodes.length && again.links.length === topology.links.length)
      return text;
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    throw irregular(error.message);
  }
  throw irregular('its radices describe another network');
}
