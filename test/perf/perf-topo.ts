/** What `topo` promises of times and accuracies: drawing, emulations coming up, and how exact emulated links are. */

import { join } from 'node:path';
import { libraryFolder } from '../../ffi/paths.ts';
import { drawSvg } from '../../src/topo/draw/svg.ts';
import { formatAddress, Router } from '../../src/topo/ecmp/routes.ts';
import { netemHere } from '../../src/topo/emulate/netem.ts';
import { down, up } from '../../src/topo/emulate/run.ts';
import { load } from '../../src/topo/emulate/state.ts';
import { readMatrix } from '../../src/topo/formats/matrix.ts';
import { fatTree, leafSpine } from '../../src/topo/generate/tiered.ts';
import { Graph } from '../../src/topo/model/graph.ts';
import type { Topology } from '../../src/topo/model/schema.ts';
import { Agent } from '../../src/topo/probe/agent.ts';
import { measure } from '../../src/topo/probe/measure.ts';
import type { Effort, Plan } from './harness.ts';
import { joint } from './tools.ts';

const FAT_TREE = fatTree({ k: 16, rate_bps: 100e9 });
const LEAF_SPINE = leafSpine({ leaves: 4, spines: 4, hosts: 4, parallel: 1, rate_bps: 10e9 });
/** Six sites, all joined, each link with a rate and a delay of its own. */
const SITES = ['A', 'B', 'C', 'D', 'E', 'F'];
const SIX = readMatrix(
  `name,${SITES}\n${SITES.map((from, i) => [from, ...SITES.map((_, j) => (j > i ? `${10 + i + j}Mbps/${5 * (j - i)}ms` : '-'))]).join('\n')}\n`,
);
/** Links of which the accuracy is measured: rate, delay of one way, loss. */
const LINKS = { slow: '10Mbps/40ms', fast: '200Mbps/2ms', lossy: '50Mbps/10ms/5%' };
const STAR = readMatrix(`name,hub,${Object.keys(LINKS)}\nhub,-,${Object.values(LINKS)}\n`);

const name = `perf${(process.pid % 46_656).toString(36)}`;
const emulate = (topology: Topology): Promise<unknown> =>
  up(topology, {
    name,
    scale: 1,
    mtu_bytes: 1500,
    seed: 1,
    perSwitchSeeds: false,
    queue_ns: 50e6,
    netem: netemHere(),
  });

async function seconds(work: () => unknown): Promise<number> {
  const begin = performance.now();
  await work();
  return (performance.now() - begin) / 1000;
}

/** Up and down again; how long up took. */
async function upTime(topology: Topology): Promise<number> {
  try {
    return await seconds(() => emulate(topology));
  } finally {
    down(name);
  }
}

/** Largest errors over the links of STAR, in both directions, as shares of what is allowed where the limit has two parts. */
async function accuracy(time_ns: number): Promise<Record<string, number>> {
  await emulate(STAR);
  const agents: Agent[] = [];
  try {
    const router = new Router(new Graph(STAR));
    const spaces = load(name)?.spaces ?? {};
    const agentAt = async (node: string): Promise<Agent> => {
      const command = ['ip', 'netns', 'exec', spaces[node] ?? '', join(libraryFolder(), 'rdmakit-probe')];
      const agent = await Agent.start(node, command);
      agents.push(agent);
      return agent;
    };
    const hub = await agentAt('hub');
    const worst: Record<string, number> = { rate: 0, delay: 0, loss: 0 };
    for (const link of STAR.links) {
      const site = await agentAt(link.b);
      for (const [from, to, end] of [
        [hub, site, link.b],
        [site, hub, 'hub'],
      ] as const) {
        const address = formatAddress(router.address(router.find(end)));
        const found = await measure(from, to, address, { time_ns, lossPackets: 100_000, limit_bps: 1e9 });
        const rtt_ns = 2 * (link.delay_ns ?? 0);
        const loss = link.loss_ratio ?? 0;
        const error = {
          rate: Math.abs(found.rate_bps / (link.capacity_bps ?? 1) - 1) * 100,
          // Of the two ways; 100 is 0.3 ms + 2 % each.
          delay: (Math.abs((found.rtt_ns ?? 0) - rtt_ns) / (2 * 0.3e6 + 0.02 * rtt_ns)) * 100,
          // Half the width of the interval is 100.
          loss:
            (Math.abs(found.loss_ratio - loss) / Math.max(1e-9, (found.loss_high - found.loss_low) / 2)) *
            100,
        };
        for (const [key, value] of Object.entries(error)) worst[key] = Math.max(worst[key] ?? 0, value);
      }
    }
    return worst;
  } finally {
    await Promise.all(agents.map((agent) => agent.close()));
    down(name);
  }
}

export const plan = ({ rounds, duration_ms }: Effort): Plan => {
  const exact = joint(() => accuracy(Math.max(2e8, duration_ms * 1e6)));
  return {
    title: 'topo: drawing, and emulated networks',
    // A round takes half a minute, most of it for the accuracies.
    rounds: Math.min(rounds, 2),
    probes: [
      {
        name: 'draw-fat-tree-16',
        unit: 'ms',
        sample: async () => (await seconds(() => drawSvg(FAT_TREE))) * 1000,
      },
      { name: 'up-leaf-spine-16', unit: 's', sample: () => upTime(LEAF_SPINE) },
      { name: 'up-wan-6', unit: 's', sample: () => upTime(SIX) },
      { name: 'rate-error', unit: '%', sample: () => exact('rate') },
      { name: 'delay-error', unit: '% of 0.3 ms + 2 %', sample: () => exact('delay') },
      { name: 'loss-error', unit: '% of interval', sample: () => exact('loss') },
    ],
    targets: [
      { probe: 'draw-fat-tree-16', comparison: '<=', limit: 100 },
      { probe: 'up-leaf-spine-16', comparison: '<=', limit: 3 },
      { probe: 'up-wan-6', comparison: '<=', limit: 2 },
      { probe: 'rate-error', comparison: '<=', limit: 3 },
      { probe: 'delay-error', comparison: '<=', limit: 100 },
      // The largest of six intervals of 95 %: the median of its rounds lies near 1.2 of one.
      { probe: 'loss-error', comparison: '<=', limit: 150 },
    ],
  };
};
