/**
 * What an emulation consists of, as text for ip(8) and tc(8): a network namespace a node, a veth pair a link, routes with
 * all equal next hops, rates. Pure: nothing is touched here.
 *
 * Each end of a link has an address of its own in 100.64.0.0/10 and a fixed MAC that the other end knows, so no ARP. A
 * node's own address (the one that flows use) is on its first interface, and every other node has a route to it. Links
 * with delay, jitter or loss end in a namespace of their own, where netem or our relay joins their halves. So a link is, in
 * this order: its queue, its rate, its delay and loss.
 */

import { RdmakitError } from '../../errors.ts';
import { seedOf } from '../ecmp/hash.ts';
import { formatAddress, Router } from '../ecmp/routes.ts';
import { safeNames } from '../formats/names.ts';
import { directionOf, Graph, qualityOf } from '../model/graph.ts';
import type { Quality, Topology } from '../model/schema.ts';
import { type Netem, netemCan, netemLines } from './netem.ts';

/** Namespaces cost the kernel milliseconds and megabytes each. */
const MAX_NODES = 300;
const MAX_LINKS = 4000;
const LINK_NET = 0x64400000;
/** Rates above this are not shaped: one machine does not reach them, and a token bucket only costs time. */
const SHAPED_BPS = 40e9;

export interface EmulationOptions {
  name: string;
  /** Capacities are multiplied by this. */
  scale: number;
  mtu_bytes: number;
  /** Seed of loss and of the kernel's multipath hash. */
  seed: number;
  perSwitchSeeds: boolean;
  /** Queue in front of a shaped link. */
  queue_ns: number;
  /** What netem may be used for; the relay does the rest. */
  netem: Netem;
}

export interface Space {
  node: string;
  /** Name of the network namespace. */
  name: string;
  /** Shell script that configures it from inside. */
  script: string;
}

export interface Plan {
  name: string;
  spaces: Space[];
  /** For `ip -batch`: makes namespaces and links. */
  create: string;
  /** The namespace between the halves of links and the rules of the relay, '' where netem does it all; undefined when no link needs it. */
  relay: { space: string; script: string; rules: string } | undefined;
  /** Interface of each end of each link, by link id. */
  interfaces: Map<string, { a: string; b: string }>;
}

const ppm = (ratio: number | undefined): number => Math.round((ratio ?? 0) * 1e6);

function isPlain({ delay_ns, jitter_ns, loss_ratio, duplicate_ratio, reorder_ratio }: Quality): boolean {
  return !delay_ns && !jitter_ns && !loss_ratio && !duplicate_ratio && !reorder_ratio;
}

function mac(link: number, end: number): string {
  const hex = (value: number): string => (value & 0xff).toString(16).padStart(2, '0');
  return `02:72:6b:${hex(link >> 8)}:${hex(link)}:${hex(end)}`;
}

function linkAddress(link: number, end: number): string {
  return formatAddress(LINK_NET + link * 2 + end);
}

/** A token bucket of a millisecond, or of two large frames. */
function shaper(device: string, capacity_bps: number, queue_ns: number): string {
  const burst = Math.max(16_000, Math.round(capacity_bps / 8 / 1000));
  return `qdisc add dev ${device} root tbf rate ${Math.round(capacity_bps)}bit burst ${burst} latency ${Math.max(1, Math.round(queue_ns / 1000))}us`;
}

/** Throws when the topology is too large or a link says what cannot be emulated. */
export function planEmulation(topology: Topology, options: EmulationOptions): Plan {
  const { nodes, links } = topology;
  if (nodes.length > MAX_NODES || links.length > MAX_LINKS) {
    throw new RdmakitError({
      kind: 'usage',
      what: `${nodes.length} nodes and ${links.length} links are too many to emulate`,
      cause: `the limit is ${MAX_NODES} nodes and ${MAX_LINKS} links`,
      remedy: 'emulate a smaller network',
    });
  }
  const router = new Router(new Graph(topology));
  const names = safeNames(
    nodes.map(({ id }) => id),
    '-_.',
  );
  const spaceOf = (node: string): string => `rk-${options.name}-${names.get(node)}`;
  // A node may be named relay too; `+` is in no safe name.
  const relaySpace = `rk-${options.name}+relay`;
  const create = nodes.map(({ id }) => `netns add ${spaceOf(id)}`);
  const next = new Map<string, number>();
  const interfaceOf = (node: string): string => {
    const nth = (next.get(node) ?? 0) + 1;
    next.set(node, nth);
    return `p${nth}`;
  };
  const interfaces = new Map<string, { a: string; b: string }>();
  const ip = new Map<string, string[]>(nodes.map(({ id }) => [id, ['link set lo up']]));
  const tc = new Map<string, string[]>(nodes.map(({ id }) => [id, []]));
  const rules: string[] = [];
  const relayTc: string[] = [];
  const relayIp: string[] = [];
  for (const [at, link] of links.entries()) {
    const ends = { a: interfaceOf(link.a), b: interfaceOf(link.b) };
    interfaces.set(link.id, ends);
    const forth = qualityOf(link, 'forth');
    const back = qualityOf(link, 'back');
    const plain = isPlain(forth) && isPlain(back);
    const end = (side: 'a' | 'b'): string =>
      `${ends[side]} netns ${spaceOf(link[side])} address ${mac(at, side === 'a' ? 0 : 1)} mtu ${options.mtu_bytes}`;
    if (plain) create.push(`link add ${end('a')} type veth peer ${end('b')}`);
    else {
      for (const side of ['a', 'b'] as const) {
        const inner = `r${at}${side}`;
        create.push(
          `link add ${end(side)} type veth peer ${inner} netns ${relaySpace} mtu ${options.mtu_bytes}`,
        );
        relayIp.push(`link set ${inner} up`);
        // Loss must hit single packets, not the 44 of a segmentation super-packet.
        ip.get(link[side])?.push(`link set ${ends[side]} gso_max_segs 1`);
      }
      const kernel = netemCan(options.netem, forth) && netemCan(options.netem, back);
      for (const [from, to, quality, salt] of [
        [`r${at}a`, `r${at}b`, forth, 2 * at],
        [`r${at}b`, `r${at}a`, back, 2 * at + 1],
      ] as const) {
        if (kernel) {
          const rate_bps =
            quality.capacity_bps === undefined ? undefined : quality.capacity_bps * options.scale;
          relayTc.push(...netemLines(from, to, quality, rate_bps, options.seed * 1_000_003 + salt));
          continue;
        }
        const { delay_ns = 0, jitter_ns = 0, loss_ratio, duplicate_ratio, reorder_ratio } = quality;
        const seed = options.seed * 1_000_003 + salt;
        rules.push(
          `${from} ${to} ${Math.round(delay_ns)} ${Math.round(jitter_ns)} ${ppm(loss_ratio)} ${ppm(duplicate_ratio)} ${ppm(reorder_ratio)} ${seed}`,
        );
      }
    }
    for (const [side, far, quality] of [
      ['a', 'b', forth],
      ['b', 'a', back],
    ] as const) {
      const device = ends[side];
      const [here, there] = side === 'a' ? [0, 1] : [1, 0];
      ip.get(link[side])?.push(
        `addr add ${linkAddress(at, here)}/31 dev ${device}`,
        `link set ${device} up`,
        `neigh add ${linkAddress(at, there)} lladdr ${mac(at, far === 'a' ? 0 : 1)} dev ${device} nud permanent`,
      );
      const rate = quality.capacity_bps === undefined ? undefined : quality.capacity_bps * options.scale;
      if (rate !== undefined && rate <= SHAPED_BPS)
        tc.get(link[side])?.push(shaper(device, rate, options.queue_ns));
    }
  }
  addRoutes(router, interfaces, ip);
  const needsRelay = relayIp.length > 0;
  if (needsRelay) create.unshift(`netns add ${relaySpace}`);
  const forwards = (at: number): string => (nodes[at]?.kind === 'host' ? '0' : '1');
  const spaces = nodes.map(({ id }, at) => ({
    node: id,
    name: spaceOf(id),
    script: scriptOf(
      [
        `net.ipv4.ip_forward=${forwards(at)}`,
        'net.ipv4.fib_multipath_hash_policy=1',
        'net.ipv4.conf.all.rp_filter=0',
        'net.ipv4.conf.default.rp_filter=0',
        // A cable that is pulled takes its next hop out at both ends, as a routing protocol would.
        'net.ipv4.conf.all.ignore_routes_with_linkdown=1',
      ],
      // 6.11 and newer, or absent; a machine without IPv6 has not the second.
      [
        `net.ipv4.fib_multipath_hash_seed=${seedOf({ seed: options.seed, perSwitch: options.perSwitchSeeds }, at)}`,
        'net.ipv6.conf.all.disable_ipv6=1',
      ],
      ip.get(id) ?? [],
      tc.get(id) ?? [],
    ),
  }));
  const relay = needsRelay
    ? {
        space: relaySpace,
        script: scriptOf([], ['net.ipv6.conf.all.disable_ipv6=1'], relayIp, relayTc),
        rules: rules.map((rule) => `${rule}\n`).join(''),
      }
    : undefined;
  return { name: options.name, spaces, create: `${create.join('\n')}\n`, relay, interfaces };
}

/** The node's own address on its first interface, and routes to the addresses of all others. */
function addRoutes(
  router: Router,
  interfaces: ReadonlyMap<string, { a: string; b: string }>,
  ip: ReadonlyMap<string, string[]>,
): void {
  const { graph } = router;
  const linkNumber = new Map(graph.topology.links.map(({ id }, at) => [id, at]));
  for (const [at, { id }] of graph.nodes.entries()) {
    const lines = ip.get(id) ?? [];
    const own = formatAddress(router.address(at));
    if ((graph.leaving[at]?.length ?? 0) === 0) continue;
    lines.push(`addr add ${own}/32 dev p1`);
  }
  for (const destination of graph.nodes.keys()) {
    const { hops } = router.routesTo(destination);
    const target = formatAddress(router.address(destination));
    for (const [at, { id }] of graph.nodes.entries()) {
      const equal = hops[at] ?? [];
      if (equal.length === 0) continue;
      const via = equal.map((arc) => {
        const ends = interfaces.get(arc.link.id);
        const forth = directionOf(arc) === 'forth';
        const far = linkAddress(linkNumber.get(arc.link.id) ?? 0, forth ? 1 : 0);
        return `via ${far} dev ${forth ? ends?.a : ends?.b}`;
      });
      const own = formatAddress(router.address(at));
      const way = via.length === 1 ? via[0] : via.map((hop) => `nexthop ${hop}`).join(' ');
      ip.get(id)?.push(`route add ${target}/32 src ${own} ${way}`);
    }
  }
}

function scriptOf(
  sysctls: readonly string[],
  optional: readonly string[],
  ip: readonly string[],
  tc: readonly string[],
): string {
  const lines = ['set -eu'];
  const write = (setting: string): string => {
    const [key = '', value = ''] = setting.split('=');
    return `echo ${value} > /proc/sys/${key.replaceAll('.', '/')}`;
  };
  lines.push(...sysctls.map(write));
  for (const setting of optional) {
    const path = `/proc/sys/${(setting.split('=')[0] ?? '').replaceAll('.', '/')}`;
    lines.push(`if [ -e ${path} ]; then ${write(setting)}; fi`);
  }
  if (ip.length > 0) lines.push("ip -batch - <<'END'", ...ip, 'END');
  if (tc.length > 0) lines.push("tc -batch - <<'END'", ...tc, 'END');
  return `${lines.join('\n')}\n`;
}
