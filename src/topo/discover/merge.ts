/**
 * One graph from what several hosts know. An interface leads to the switch that LLDP names; without LLDP to a node that
 * stands for its subnet, which the hosts and neighbours of that subnet share.
 */

import { formatAddress, parseAddress } from '../ecmp/routes.ts';
import { TopologyBuilder } from '../model/build.ts';
import type { Link, Node, Topology } from '../model/schema.ts';
import type { Facts } from './facts.ts';

const IPV4 = /^\d{1,3}(\.\d{1,3}){3}$/;

function subnetOf(address: string, prefix: number): string {
  const mask = prefix === 0 ? 0 : (0xffffffff << (32 - prefix)) >>> 0;
  return `${formatAddress((parseAddress(address) & mask) >>> 0)}/${prefix}`;
}

/** Addresses of a host that others can send to, with their interface. */
function addressesOf(facts: Facts): { device: string; address: string; prefix: number }[] {
  return facts.interfaces.flatMap(({ ifname, link_type, addr_info = [] }) =>
    link_type === 'loopback'
      ? []
      : addr_info.flatMap(({ family, local, prefixlen = 32 }) =>
          family === 'inet' && local !== undefined
            ? [{ device: ifname, address: local, prefix: prefixlen }]
            : [],
        ),
  );
}

/** Merges hosts. Neighbours that are none of the hosts become hosts named by their address. */
export function mergeFacts(hosts: readonly Facts[]): Topology {
  const builder = new TopologyBuilder();
  const owner = new Map<string, string>();
  const names = new Map<string, number>();
  const ids = hosts.map(({ hostname }) => {
    const nth = (names.get(hostname) ?? 0) + 1;
    names.set(hostname, nth);
    return nth === 1 ? hostname : `${hostname} (${nth})`;
  });
  for (const [at, facts] of hosts.entries()) {
    const id = ids[at] ?? facts.hostname;
    const own = addressesOf(facts);
    for (const { address } of own) if (!owner.has(address)) owner.set(address, id);
    const rdma = [...facts.rdma].map(([device, name]) => `${name} on ${device}`).join(', ');
    builder.node({
      id,
      kind: 'host',
      tier: 0,
      ...(own[0] ? { address: own[0].address } : {}),
      ...(rdma === '' ? {} : { label: rdma }),
    });
  }
  const place = (node: Node): void => {
    if (!builder.has(node.id)) builder.node(node);
  };
  const cables = new Set<string>();
  const join = (
    a: string,
    a_port: string | undefined,
    b: string,
    b_port: string | undefined,
    speed: number | undefined,
  ): void => {
    const key = JSON.stringify([a, a_port, b]);
    if (a === b || cables.has(key)) return;
    cables.add(key);
    builder.link({ a, b, a_port, b_port, capacity_bps: speed });
  };
  for (const [at, facts] of hosts.entries()) {
    const id = ids[at] ?? facts.hostname;
    const wired = new Set<string>();
    for (const { device, name, port } of facts.lldp) {
      place({ id: name, kind: 'switch', tier: 1 });
      join(id, device, name, port, facts.speed_bps.get(device));
      wired.add(device);
    }
    const subnets = new Map<string, string>();
    for (const { device, address, prefix } of addressesOf(facts)) {
      if (wired.has(device) || prefix >= 32 || subnets.has(device)) continue;
      const subnet = subnetOf(address, prefix);
      subnets.set(device, subnet);
      place({ id: subnet, kind: 'switch', tier: 1, label: 'subnet' });
      join(id, device, subnet, undefined, facts.speed_bps.get(device));
    }
    for (const { dst, dev = '', state = [] } of facts.neighbours) {
      const subnet = subnets.get(dev);
      if (
        !IPV4.test(dst) ||
        subnet === undefined ||
        state.includes('FAILED') ||
        state.includes('INCOMPLETE') ||
        owner.has(dst)
      )
        continue;
      owner.set(dst, dst);
      place({ id: dst, kind: 'host', tier: 0, address: dst });
      join(dst, undefined, subnet, undefined, undefined);
    }
  }
  return builder.build({ name: 'discovered' });
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
