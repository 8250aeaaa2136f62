/**
 * socket-run between two hosts (namespaces over veth): the same programs on the kernel's TCP and UDP and under it, in the same rounds. The road is
 * chosen by measurement, so nothing may be much slower; connecting must not cost more.
 */

import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { socketLibrary } from '../../ffi/paths.ts';
import { Network } from '../integration/lib/network.ts';
import { freshPort } from '../integration/lib/pair.ts';
import { mustRun } from '../integration/lib/process.ts';
import { ROOT, requireAll } from '../integration/lib/requirements.ts';
import type { Effort, Plan, Target } from './harness.ts';
import { CORES, namedNumbers, twoEnds } from './tools.ts';

type Way = 'kernel' | 'soft';
const CLI = [process.execPath, join(ROOT, 'src', 'cli.ts')];
const CONNECTS = fileURLToPath(new URL('./programs/connects.c', import.meta.url));
/** A trial of the other road is over by then: measured is what was decided, with what deciding costs. */
const SETTLED_S = 4;

export const plan = ({ rounds, duration_ms, scale }: Effort): Plan => {
  let network: Network;
  let folder = '';
  let connects = '';
  const seconds = Math.max(1, Math.round((duration_ms / 1000) * SETTLED_S));

  /** Each host has a runtime folder of its own, as two machines have. */
  const between = (
    way: Way,
    server: string[],
    client: string[],
    port: number,
    more = {},
  ): Promise<string> => {
    const own = (host: string): Record<string, string> => ({
      RDMAKIT_RUNTIME_DIR: join(folder, host),
      ...(way === 'soft' ? { LD_PRELOAD: socketLibrary() } : {}),
    });
    const ends = {
      server: network.a.netns,
      client: network.b.netns,
      env: own('client'),
      serverEnv: own('server'),
    };
    return twoEnds({ server, client, port, ends, ...more });
  };

  const connect = async (way: Way, what: 'connect_us' | 'answer_us'): Promise<number> => {
    const port = freshPort();
    const args = [network.a.ipv4, `${port}`, `${Math.max(200, Math.round(5000 * scale))}`];
    const text = await between(way, [connects, 'listen', ...args], [connects, ...args], port);
    return namedNumbers(text)[what] ?? Number.NaN;
  };

  const redis = async (way: Way, connections: number, count: number): Promise<number> => {
    const port = freshPort();
    const server = ['redis-server', '--port', `${port}`, '--save', '', '--protected-mode', 'no'];
    const asked = ['-n', `${Math.max(1000, Math.round(count * scale))}`, '-c', `${connections}`];
    const at = ['-h', network.a.ipv4, '-p', `${port}`];
    const client = ['redis-benchmark', ...at, '-t', 'get', '--csv', ...asked];
    const text = await between(way, server, client, port);
    return Number(text.match(/^"GET","([\d.]+)"/m)?.[1]) / 1000;
  };

  const iperf3 = async (way: Way): Promise<number> => {
    const port = freshPort();
    const client = ['iperf3', '-c', network.a.ipv4, '-p', `${port}`, '-t', `${seconds}`, '-J'];
    const text = await between(way, ['iperf3', '-s', '-1', '-p', `${port}`], client, port);
    const { end } = JSON.parse(text) as { end: { sum_received: { bits_per_second: number } } };
    return end.sum_received.bits_per_second / 8e9;
  };

  /** Half of the round trip. */
  const sockperf = async (way: Way, ...protocol: string[]): Promise<number> => {
    const port = freshPort();
    const at = [...protocol, '-i', network.a.ipv4, '-p', `${port}`];
    const client = ['sockperf', 'pp', ...at, '-t', `${seconds}`, '-m', '64', '--mps=5000000'];
    const text = await between(way, ['sockperf', 'sr', ...at], client, port);
    return Number(text.match(/percentile 50\.000 =\s+([\d.]+)/)?.[1]);
  };

  /** p50 of the round trip of 64 bytes with both ends polling. */
  const pingpong = async (way: Way): Promise<number> => {
    const port = freshPort();
    const common = ['pingpong', '-p', `${port}`];
    const what = ['-t', 'tcp', '-s', '64', '-D', `${duration_ms * SETTLED_S}ms`, '--json'];
    const client = [...CLI, ...common, '--pin', `${CORES.client}`, ...what, network.a.ipv4];
    const server = [...CLI, ...common, '--listen', network.a.ipv4];
    const { rows } = JSON.parse(await between(way, server, client, port)) as {
      rows: { wait: string; latency_p50_ns?: number }[];
    };
    return (rows.find((row) => row.wait === 'busy-polling')?.latency_p50_ns ?? Number.NaN) / 1000;
  };

  interface Row {
    name: string;
    unit: string;
    sample: (way: Way) => Promise<number>;
    target: Pick<Target, 'comparison' | 'limit'>;
  }
  const notSlower = { comparison: '>=', limit: 0.95 } as const;
  const notLater = { comparison: '<=', limit: 1.05 } as const;
  const connecting = { comparison: '<=', limit: 1.03 } as const;
  const rows: Row[] = [
    { name: 'connect', unit: 'us', sample: (way) => connect(way, 'connect_us'), target: connecting },
    { name: 'first-answer', unit: 'us', sample: (way) => connect(way, 'answer_us'), target: connecting },
    { name: 'redis-c1', unit: 'k/s', sample: (way) => redis(way, 1, 100_000), target: notSlower },
    { name: 'redis-c50', unit: 'k/s', sample: (way) => redis(way, 50, 300_000), target: notSlower },
    { name: 'iperf3', unit: 'GB/s', sample: iperf3, target: notSlower },
    { name: 'sockperf-tcp', unit: 'us', sample: (way) => sockperf(way, '--tcp'), target: notLater },
    { name: 'sockperf-udp', unit: 'us', sample: (way) => sockperf(way), target: notLater },
    { name: 'rtt-64-busy', unit: 'us', sample: pingpong, target: notLater },
  ];
  return {
    title: 'socket-run between two hosts: against kernel TCP and UDP over veth',
    rounds: Math.min(rounds, 3),
    setUp: async () => {
      requireAll(['gcc', 'iperf3', 'sockperf', 'redis-server', 'redis-benchmark', 'taskset']);
      network = await Network.create();
      folder = mkdtempSync(join(tmpdir(), `rk${process.pid}-remote-`));
      for (const host of ['server', 'client']) mkdirSync(join(folder, host), { mode: 0o700 });
      connects = join(folder, 'connects');
      await mustRun(['gcc', '-std=gnu11', '-O2', '-Wall', '-Wextra', '-Werror', CONNECTS, '-o', connects]);
    },
    tearDown: async () => {
      network?.remove();
      if (folder) rmSync(folder, { recursive: true, force: true });
    },
    probes: rows.flatMap(({ name, unit, sample }) =>
      (['kernel', 'soft'] as const).map((way) => ({
        name: `${name}-${way}`,
        unit,
        sample: () => sample(way),
      })),
    ),
    targets: rows.map(({ name, target }) => ({ probe: `${name}-soft`, ...target, of: `${name}-kernel` })),
  };
};
