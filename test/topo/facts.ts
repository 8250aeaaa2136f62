/** Facts of hosts as `discover` gets them, for tests. */

import type { Facts } from '../../src/topo/discover/facts.ts';

/** A host with these interfaces, as `name: address/prefix`; `more` is the rest of what it knows. */
export function factsOf(
  hostname: string,
  interfaces: Record<string, string>,
  more: Partial<Facts> = {},
): Facts {
  return {
    hostname,
    machine: 'x86_64',
    interfaces: Object.entries(interfaces).map(([ifname, text], at) => {
      const [local = '', prefix] = text.split('/');
      const family = local.includes(':') ? 'inet6' : 'inet';
      return {
        ifname,
        link_type: 'ether',
        operstate: 'UP',
        address: `02:00:00:00:${hostname.charCodeAt(0).toString(16)}:0${at}`,
        addr_info: [{ family, local, prefixlen: Number(prefix) }],
      };
    }),
    neighbours: [],
    routes: [],
    speed_bps: new Map(),
    rdma: new Map(),
    lldp: [],
    ...more,
  };
}
