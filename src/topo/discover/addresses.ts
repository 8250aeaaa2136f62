/** What a host says of its IP addresses, subnets and routes. */

import { formatGid, parseGid } from '../../verbs/gid.ts';
import { formatAddress, parseAddress } from '../ecmp/routes.ts';
import type { Facts } from './facts.ts';

export const IPV4 = /^(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)(?:\.|$)){4}(?<=\d)$/;

function masked(address: number, prefix: number): number {
  return prefix === 0 ? 0 : (address & (0xffffffff << (32 - prefix))) >>> 0;
}

function subnetOf(address: string, prefix: number): string {
  return `${formatAddress(masked(parseAddress(address), prefix))}/${prefix}`;
}

export interface Address {
  device: string;
  address: string;
  prefix: number;
  /** `10.1.0.0/24` */
  subnet: string;
}

/** IPv4 addresses of a host that others can send to. */
export function addressesOf(facts: Facts): Address[] {
  return facts.interfaces.flatMap(({ ifname, link_type, addr_info = [] }) =>
    link_type === 'loopback'
      ? []
      : addr_info.flatMap(({ family, local, prefixlen = 32 }) =>
          family === 'inet' && local !== undefined && IPV4.test(local) && prefixlen >= 0 && prefixlen <= 32
            ? [{ device: ifname, address: local, prefix: prefixlen, subnet: subnetOf(local, prefixlen) }]
            : [],
        ),
  );
}

/** The IPv6 subnets of interfaces, link-local ones left out. */
export function ipv6Subnets(facts: Facts): { device: string; subnet: string }[] {
  return facts.interfaces.flatMap(({ ifname, link_type, addr_info = [] }) =>
    link_type === 'loopback'
      ? []
      : addr_info.flatMap(({ family, local = '', prefixlen = 128 }) => {
          if (family !== 'inet6' || /^fe[89ab]/i.test(local) || prefixlen >= 128 || prefixlen < 0) return [];
          let bytes: Uint8Array;
          try {
            bytes = parseGid(local);
          } catch {
            return [];
          }
          const kept = bytes.map(
            (byte, at) => byte & ((0xff00 >> Math.min(8, Math.max(0, prefixlen - 8 * at))) & 0xff),
          );
          return [{ device: ifname, subnet: `${formatGid(kept)}/${prefixlen}` }];
        }),
  );
}

export interface Hop {
  gateway: string;
  device: string;
}

/** `10.0.0.0/8`, an address, or `default`; undefined for IPv6. */
export function parsePrefix(text: string): { address: number; prefix: number } | undefined {
  if (text === 'default') return { address: 0, prefix: 0 };
  const [address = '', length = '32'] = text.split('/');
  const prefix = Number(length);
  if (!IPV4.test(address) || !(prefix >= 0 && prefix <= 32)) return undefined;
  return { address: parseAddress(address), prefix };
}

export function hopsOf({ gateway, dev, nexthops }: Facts['routes'][number]): Hop[] {
  const list = nexthops ?? [{ gateway, dev }];
  return list.flatMap((hop) =>
    hop.gateway !== undefined && IPV4.test(hop.gateway)
      ? [{ gateway: hop.gateway, device: hop.dev ?? dev ?? '' }]
      : [],
  );
}

/** Next hops of the most specific route to an address. */
export function hopsTo(facts: Facts, address: number): Hop[] {
  let best = -1;
  let hops: Hop[] = [];
  for (const route of facts.routes) {
    const prefix = parsePrefix(route.dst);
    if (!prefix || prefix.prefix <= best || masked(address, prefix.prefix) !== prefix.address) continue;
    best = prefix.prefix;
    hops = hopsOf(route);
  }
  return hops;
}
