/**
 * The ways between two processes, as the tests name them, and what a program must be told to take one.
 */

import type { Host, Network } from './network.ts';
import { mustRun } from './process.ts';

export type RoadName = 'shm' | 'udp-loop' | 'udp-veth';

export const ROAD_DOC: Record<RoadName, string> = {
  shm: 'one namespace, shared memory',
  'udp-loop': 'one namespace, UDP over lo (RDMAKIT_ROAD=wire)',
  'udp-veth': 'two namespaces, UDP over veth',
};

/** The largest path MTU in bytes that the road's interfaces carry; the veth's is that of an MTU of 1500. */
export const ROAD_PATH_MTU: Record<RoadName, number> = { shm: 4096, 'udp-loop': 4096, 'udp-veth': 1024 };

/** One end's place and the arguments that choose its device. */
export interface End {
  netns: string;
  device: string;
  /** Index of the IPv4-mapped GID. */
  gidIndex: number;
}

export interface Road {
  name: RoadName;
  server: End;
  client: End;
  /** What the client dials. */
  address: string;
  env: Record<string, string>;
}

/** Index of the GID of an IPv4 address, read from `ibv_devinfo -v`: the order of the table is not ours to assume. */
async function gidIndexOf(network: Network, host: Host, device: string, ipv4: string): Promise<number> {
  const options = { netns: host.netns, env: network.env() };
  const text = await mustRun(['ibv_devinfo', '-v', '-d', device], options);
  const match = text.split('\n').find((line) => line.includes(`::ffff:${ipv4},`) && line.includes('RoCE v2'));
  const index = match?.match(/GID\[\s*(\d+)\]/)?.[1];
  if (index === undefined) throw new Error(`${device} has no RoCE v2 GID of ${ipv4}:\n${text}`);
  return Number(index);
}

/** The named road in this network. */
export async function makeRoad(network: Network, name: RoadName): Promise<Road> {
  const { a, b } = network;
  if (name === 'udp-veth') {
    const end = async (host: Host): Promise<End> => ({
      netns: host.netns,
      device: host.device,
      gidIndex: await gidIndexOf(network, host, host.device, host.ipv4),
    });
    return { name, server: await end(a), client: await end(b), address: a.ipv4, env: network.env() };
  }
  const gidIndex = await gidIndexOf(network, a, 'rk_lo', '127.0.0.1');
  const here: End = { netns: a.netns, device: 'rk_lo', gidIndex };
  const env = network.env(name === 'udp-loop' ? { RDMAKIT_ROAD: 'wire' } : {});
  return { name, server: here, client: here, address: '127.0.0.1', env };
}
