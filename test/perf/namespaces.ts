/** The plan between two network namespaces joined by veth, for one MTU: perf-mtu*.ts are its two instances. */

import { Network } from '../integration/lib/network.ts';
import { makeRoad, type Road } from '../integration/lib/roads.ts';
import type { Effort, Plan } from './harness.ts';
import { compilePerfPrograms, iperf3, type PerfPrograms, pingpongBetween, runPerfProgram } from './tools.ts';

const MIB = 1 << 20;
const SIZE = 64;
/** One percent of the packets, taken out in the receivers of both ends. */
const LOSS = { RDMAKIT_FAULT: 'loss=0.01,seed=7' };

export function namespacesPlan(mtu: number, { rounds, duration_ms }: Effort): Plan {
  let network: Network;
  let road: Road;
  let programs: PerfPrograms;
  const write = async (env: Record<string, string>): Promise<number> => {
    const args = ['-s', `${MIB}`, '-n', `${duration_ms}`];
    return ((await runPerfProgram(programs.stream, args, road, env)).write_bytes_per_s ?? Number.NaN) / 1e9;
  };
  const choice = { size_bytes: SIZE, duration_ms };
  return {
    title: `between two namespaces over veth, MTU ${mtu}`,
    rounds,
    setUp: async () => {
      network = await Network.create({ mtu });
      road = await makeRoad(network, 'udp-veth');
      programs = await compilePerfPrograms();
    },
    tearDown: async () => {
      network?.remove();
      programs?.remove();
    },
    probes: [
      { name: 'write-1MiB', unit: 'GB/s', sample: () => write({}) },
      { name: 'iperf3-tcp', unit: 'GB/s', sample: () => iperf3(network, Math.max(1, duration_ms / 1000)) },
      { name: 'write-1MiB-loss-1%', unit: 'GB/s', sample: () => write(LOSS) },
      {
        name: 'rc-send',
        unit: 'us',
        sample: () => pingpongBetween(network, { ...choice, transport: 'rc', wait: 'polling' }),
      },
      {
        name: 'udp-busy',
        unit: 'us',
        sample: () => pingpongBetween(network, { ...choice, transport: 'udp', wait: 'busy-polling' }),
      },
    ],
    targets: [
      { probe: 'write-1MiB', comparison: '>=', limit: 0.5, of: 'iperf3-tcp' },
      { probe: 'rc-send', comparison: '<=', limit: 1.3, of: 'udp-busy' },
      { probe: 'write-1MiB-loss-1%', comparison: '>=', limit: 0.6, of: 'write-1MiB' },
    ],
  };
}
