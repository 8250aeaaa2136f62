/**
 * One graph from what several hosts know. An interface leads to the neighbour that LLDP names; without LLDP to a node that
 * stands for its subnet, which the hosts, neighbours and next hops of that subnet share; a point-to-point subnet of two hosts
 * is a cable. Next hops of routes are routers. Links that nobody saw, only routes imply, are marked with `inferred_from`.
 */

import { formatAddress, parseAddress } from '../ecmp/routes.ts';
import { TopologyBuilder } from '../model/build.ts';
import type { Link, Node, Topology } from '../model/schema.ts';
import { addressesOf, hopsOf, hopsTo, IPV4, ipv6Subnets, parsePrefix } from './addresses.ts';
import type { Facts } from './facts.ts';
import type { LldpNeighbour } from './lldp.ts';

/** Subnets with room for two: the cable between them. */
const POINT_TO_POINT = /\.\d+\/3[01]$|:\S*\/12[67]$/;
/** States of neighbours that were asked for and did not answer, or that nobody asked. */
const SILENT = new Set(['FAILED', 'INCOMPLETE', 'NOARP']);

/** Node ids of hosts: their names, numbered where two have the same. */
export function hostIds(hosts: readonly Facts[]): string[] {
  const names = new Map<string, number>();
  return hosts.map(({ hostname }) => {
    const nth = (names.get(hostname) ?? 0) + 1;
    names.set(hostname, nth);
    return nth === 1 ? hostname : `${hostname} (${nth})`;
  });
}

interface Member {
  id: string;
  device?: string | undefined;
  speed_bps?: number | undefined;
}

interface Cable extends Pick<Link, 'label' | 'inferred_from'> {
  a: Member;
  b: Member;
}

class Merger {
  readonly #hosts: readonly Facts[];
  readonly #ids: readonly string[];
  /** Node of an address of either family, and of a MAC address. */
  readonly #owner = new Map<string, string>();
  readonly #nodes = new Map<string, Node>();
  /** Who is in a subnet, or on a link without IPv4 addresses. */
  readonly #subnets = new Map<string, Member[]>();
  readonly #links: Cable[] = [];
  /** What LLDP names at a port, by node and port. */
  readonly #wiredTo = new Map<string, string>();
  readonly #routers = new Set<string>();
  /** Who says by LLDP that it forwards nothing: routes through it end there. */
  readonly #ends = new Set<string>();

  constructor(hosts: readonly Facts[]) {
    this.#hosts = hosts;
    this.#ids = hostIds(hosts);
  }

  merge(): Topology {
    for (const [at, facts] of this.#hosts.entries()) this.#host(facts, this.#ids[at] ?? '');
    for (const [at, facts] of this.#hosts.entries()) this.#lldp(facts, this.#ids[at] ?? '');
    const places = this.#hosts.map((facts, at) => this.#interfaces(facts, this.#ids[at] ?? ''));
    for (const [at, facts] of this.#hosts.entries()) this.#neighbours(facts, places[at] ?? new Map());
    for (const [at, facts] of this.#hosts.entries())
      this.#gateways(facts, this.#ids[at] ?? '', places[at] ?? new Map());
    this.#behindRouters();
    return this.#build();
  }

  #host(facts: Facts, id: string): void {
    const own = addressesOf(facts);
    for (const { link_type, address: mac, addr_info = [] } of facts.interfaces) {
      if (link_type === 'loopback') continue;
      const keys = [...addr_info.map(({ local }) => local), mac === '00:00:00:00:00:00' ? undefined : mac];
      for (const key of keys) if (key !== undefined && !this.#owner.has(key)) this.#owner.set(key, id);
    }
    const rdma = [...facts.rdma].map(([device, name]) => `${name} on ${device}`).join(', ');
    // The address on no particular subnet is the one that a routed host is known by.
    const address = (own.find(({ prefix }) => prefix === 32) ?? own[0])?.address;
    this.#nodes.set(id, {
      id,
      kind: 'host',
      tier: 0,
      ...(address === undefined ? {} : { address }),
      ...(rdma === '' ? {} : { label: rdma }),
    });
  }

  /** Joins a host to what LLDP names. */
  #lldp(facts: Facts, id: string): void {
    for (const neighbour of facts.lldp) {
      const { device } = neighbour;
      const far = this.#lldpNode(neighbour);
      const port = this.#lldpPort(neighbour, far);
      this.#wiredTo.set(JSON.stringify([id, device]), far);
      this.#wiredTo.set(JSON.stringify([far, port]), id);
      this.#links.push({
        a: { id, device, speed_bps: facts.speed_bps.get(device) },
        b: { id: far, device: port },
      });
    }
  }

  /** Joins a host to its subnets; the subnet of each interface. */
  #interfaces(facts: Facts, id: string): Map<string, string> {
    // Interfaces that need no subnet. Addresses stay on one whose cable was pulled.
    const wired = new Set(
      facts.interfaces.flatMap(({ ifname, operstate }) =>
        operstate === 'DOWN' ||
        operstate === 'LOWERLAYERDOWN' ||
        this.#wiredTo.has(JSON.stringify([id, ifname]))
          ? [ifname]
          : [],
      ),
    );
    const subnets = new Map<string, string>();
    for (const { device, prefix, subnet } of addressesOf(facts)) {
      if (wired.has(device) || prefix >= 32 || subnets.has(device)) continue;
      subnets.set(device, subnet);
      this.#join(subnet, { id, device, speed_bps: facts.speed_bps.get(device) });
    }
    // Interfaces that speak IPv6 only.
    for (const { device, subnet } of ipv6Subnets(facts)) {
      if (wired.has(device) || subnets.has(device)) continue;
      subnets.set(device, subnet);
      this.#join(subnet, { id, device, speed_bps: facts.speed_bps.get(device) });
    }
    return subnets;
  }

  /** The node that LLDP means: one that was asked, which it may know by another name, or one of its own. */
  #lldpNode({ name, aliases, forwards }: LldpNeighbour): string {
    const asked = aliases
      .map((alias) => (alias.includes(':') ? this.#owner.get(alias) : undefined))
      .find((owner) => owner !== undefined && this.#ids.includes(owner));
    const short = name.split('.')[0] ?? name;
    const id = asked ?? (!this.#nodes.has(name) && this.#ids.includes(short) ? short : name);
    if (!this.#nodes.has(id))
      this.#nodes.set(
        id,
        forwards === false ? { id, kind: 'host', tier: 0 } : { id, kind: 'switch', tier: 1 },
      );
    if (forwards === false) this.#ends.add(id);
    for (const alias of aliases) if (!this.#owner.has(alias)) this.#owner.set(alias, id);
    return id;
  }

  /** Both ends of a cable must name its ports alike: a host that was asked knows the interface of a MAC address. */
  #lldpPort({ port, port_mac }: LldpNeighbour, id: string): string {
    const interfaces = this.#hosts[this.#ids.indexOf(id)]?.interfaces ?? [];
    if (interfaces.some(({ ifname }) => ifname === port)) return port;
    return interfaces.find(({ address }) => address !== undefined && address === port_mac)?.ifname ?? port;
  }

  #join(subnet: string, member: Member): void {
    const members = this.#subnets.get(subnet) ?? [];
    if (!members.some(({ id, device }) => id === member.id && device === member.device)) members.push(member);
    this.#subnets.set(subnet, members);
  }

  /** A stranger that is seen from an interface: known by its MAC or its address. */
  #stranger(address: string, mac: string | undefined, node: () => Node): string {
    const known = this.#owner.get(address) ?? (mac === undefined ? undefined : this.#owner.get(mac));
    const id = known ?? address;
    if (known === undefined && !this.#nodes.has(id)) this.#nodes.set(id, node());
    this.#owner.set(address, id);
    if (mac !== undefined && !this.#owner.has(mac)) this.#owner.set(mac, id);
    return id;
  }

  #neighbours(facts: Facts, places: ReadonlyMap<string, string>): void {
    // IPv4 first: a machine that is seen under both is named by its IPv4 address.
    const list = [...facts.neighbours].sort((a, b) => Number(IPV4.test(b.dst)) - Number(IPV4.test(a.dst)));
    for (const { dst, dev = '', lladdr, state = [] } of list) {
      const subnet = places.get(dev);
      if (lladdr === undefined || state.some((each) => SILENT.has(each))) continue;
      if (subnet === undefined) {
        // Behind an interface of which LLDP tells: whose address it is helps to recognise next hops.
        const owner = this.#owner.get(lladdr);
        if (owner !== undefined && !this.#owner.has(dst)) this.#owner.set(dst, owner);
        continue;
      }
      const known = this.#owner.has(dst) || this.#owner.has(lladdr);
      const id = this.#stranger(dst, lladdr, () => ({
        id: dst,
        kind: 'host',
        tier: 0,
        ...(IPV4.test(dst) ? { address: dst } : {}),
      }));
      if (!known) this.#join(subnet, { id });
    }
  }

  #gateways(facts: Facts, host: string, places: ReadonlyMap<string, string>): void {
    const own = new Set(addressesOf(facts).map(({ address }) => address));
    for (const route of facts.routes) {
      const target = parsePrefix(route.dst);
      if (target === undefined) continue;
      for (const { gateway, device } of hopsOf(route)) {
        if (own.has(gateway)) continue;
        const subnet = places.get(device);
        const known = this.#owner.has(gateway);
        const id = this.#stranger(gateway, undefined, () => ({ id: gateway, kind: 'switch', tier: 2 }));
        if (!known && subnet !== undefined) this.#join(subnet, { id });
        const wiredTo = this.#wiredTo.get(JSON.stringify([host, device]));
        if (!known && wiredTo !== undefined)
          this.#links.push({ a: { id: wiredTo }, b: { id }, inferred_from: 'routes' });
        // Who is the destination itself forwards nothing.
        const final = target.prefix === 32 && this.#owner.get(formatAddress(target.address)) === id;
        if (!final && !this.#ends.has(id)) this.#routers.add(id);
      }
    }
  }

  /** Joins routers that were not asked, by what hosts on both sides say of the way to each other. */
  #behindRouters(): void {
    const asked = new Set(this.#ids);
    const subnets = this.#hosts.map(
      (facts) =>
        new Map(
          addressesOf(facts).flatMap((each) => (each.prefix < 32 ? [[each.subnet, each] as const] : [])),
        ),
    );
    const unknownHop = (facts: Facts, address: string): string | undefined => {
      const hop = hopsTo(facts, parseAddress(address)).at(0);
      const id = hop && this.#owner.get(hop.gateway);
      return id === undefined || asked.has(id) ? undefined : id;
    };
    for (const [a, factsA] of this.#hosts.entries()) {
      for (const [b, factsB] of this.#hosts.entries()) {
        if (a >= b || [...(subnets[a]?.keys() ?? [])].some((subnet) => subnets[b]?.has(subnet))) continue;
        const addressA = addressesOf(factsA)[0]?.address;
        const addressB = addressesOf(factsB)[0]?.address;
        if (addressA === undefined || addressB === undefined) continue;
        const forth = unknownHop(factsA, addressB);
        const back = unknownHop(factsB, addressA);
        if (forth === undefined || back === undefined || forth === back) continue;
        // There may be any number of routers between the two.
        this.#links.push({ a: { id: forth }, b: { id: back }, label: 'routed', inferred_from: 'routes' });
      }
    }
  }

  #build(): Topology {
    const builder = new TopologyBuilder();
    const asked = new Set(this.#ids);
    // Rows of a picture need a tier of everybody; a host that forwards has none.
    const flat = [...this.#routers].some((id) => asked.has(id));
    const add = (node: Node): void => {
      const { tier, ...rest } = node;
      builder.node(flat || tier === undefined ? rest : node);
    };
    for (const node of this.#nodes.values()) {
      const label = [this.#routers.has(node.id) ? 'router' : '', node.label ?? ''].filter(Boolean).join('; ');
      add({
        ...node,
        ...(this.#routers.has(node.id)
          ? { kind: 'switch' as const, ...(asked.has(node.id) ? {} : { tier: 2 }) }
          : {}),
        ...(label === '' ? {} : { label }),
      });
    }
    for (const [subnet, members] of this.#subnets) {
      const [a, b, ...more] = members;
      if (
        a &&
        b &&
        more.length === 0 &&
        POINT_TO_POINT.test(subnet) &&
        asked.has(a.id) &&
        asked.has(b.id) &&
        a.id !== b.id
      ) {
        this.#links.push({ a, b });
        continue;
      }
      // Somebody may have named a switch like one.
      let id = subnet;
      while (builder.has(id)) id = `subnet ${id}`;
      add({ id, kind: 'switch', tier: 1, label: 'subnet' });
      for (const member of members) this.#links.push({ a: member, b: { id } });
    }
    const ports = new Set<string>();
    // Two hosts may claim the same port of a switch, when one of them remembers an old cable.
    const free = ({ id, device }: Member): string | undefined => {
      const key = JSON.stringify([id, device]);
      if (device === undefined || ports.has(key)) return undefined;
      ports.add(key);
      return device;
    };
    const seen = new Set<string>();
    for (const { a, b, ...rest } of this.#links) {
      // A cable between two asked hosts with LLDP is told by both.
      const key = [JSON.stringify([a.id, a.device]), JSON.stringify([b.id, b.device])].sort().join(' ');
      if (a.id === b.id || seen.has(key)) continue;
      seen.add(key);
      const capacity_bps = least(a.speed_bps, b.speed_bps);
      const [a_port, b_port] = [free(a), free(b)];
      builder.link({ a: a.id, b: b.id, a_port, b_port, capacity_bps, ...rest });
    }
    return builder.build({ name: 'discovered' });
  }
}

function least(a: number | undefined, b: number | undefined): number | undefined {
  return a === undefined || b === undefined ? (a ?? b) : Math.min(a, b);
}

/** Merges hosts. Neighbours and next hops that are none of the hosts become nodes named by their address. */
export function mergeFacts(hosts: readonly Facts[]): Topology {
  return new Merger(hosts).merge();
}

/** Adds the nodes and links of `more` that `base` has not. Nodes are the same when their ids are. */
export function mergeTopologies(base: Topology, more: Topology): Topology {
  const nodes = new Map(base.nodes.map((node) => [node.id, node]));
  for (const node of more.nodes) nodes.set(node.id, { ...node, ...nodes.get(node.id) });
  const key = ({ a, a_port, b, b_port }: Link): string =>
    [JSON.stringify([a, a_port]), JSON.stringify([b, b_port])].sort().join(' ');
  const seen = new Set(base.links.map(key));
  const ids = new Set(base.links.map(({ id }) => id));
  const links = [...base.links];
  for (const link of more.links) {
    if (seen.has(key(link))) continue;
    let { id } = link;
    for (let nth = 2; ids.has(id); nth++) id = `${link.id}#${nth}`;
    ids.add(id);
    links.push({ ...link, id });
  }
  return { ...base, nodes: [...nodes.values()], links };
}
