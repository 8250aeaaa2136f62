/** rdma_cm connections in masses between two processes of one host, beside connections of kernel TCP. */

import { compileChurn, parseChurn } from '../integration/lib/own.ts';
import { mustRun } from '../integration/lib/process.ts';
import { SOFT_DIR } from '../integration/lib/requirements.ts';
import type { Effort, Plan } from './harness.ts';
import { joint } from './tools.ts';

const CYCLES = 100_000;
const ALIVE = 10_000;
const TCP = 50_000;
const LIMIT_MS = 120_000;

export const plan = ({ rounds, scale }: Effort): Plan => {
  let churn: Awaited<ReturnType<typeof compileChurn>>;
  const run = async (env: Record<string, string>, ...args: string[]): Promise<Record<string, number>> =>
    parseChurn(await mustRun([churn.cmchurn, ...args], { env, limit_ms: LIMIT_MS }));
  const soft = { LD_LIBRARY_PATH: SOFT_DIR };
  const scaled = (count: number): string => `${Math.round(count * scale)}`;
  const cycles = joint(() => run(soft, '-n', scaled(CYCLES)));
  const alone = joint(() => run(soft, '-n', scaled(CYCLES / 10), '-w', '1'));
  const crowd = joint(() => run(soft, '-a', scaled(ALIVE)));
  const tcp = joint(() => run({}, '-t', '-n', scaled(TCP)));
  return {
    title: 'rdma_cm: connections between two processes of one host, set up and torn down',
    rounds: Math.min(rounds, 3),
    setUp: async () => {
      churn = await compileChurn();
    },
    tearDown: async () => churn.remove(),
    probes: [
      { name: 'connections-16-at-once', unit: 'k/s', sample: async () => (await cycles('per_s')) / 1000 },
      { name: 'connections-one-by-one', unit: 'k/s', sample: async () => (await alone('per_s')) / 1000 },
      { name: 'tcp-one-by-one', unit: 'k/s', sample: async () => (await tcp('per_s')) / 1000 },
      { name: 'fds-grown-100000', unit: 'fds', sample: () => cycles('fds_grown') },
      { name: 'grown-100000', unit: 'MiB', sample: async () => (await cycles('kib_grown')) / 1024 },
      { name: 'alive-10000', unit: 'k/s', sample: async () => (await crowd('per_s')) / 1000 },
      { name: 'alive-each', unit: 'KiB', sample: async () => (await crowd('bytes_each')) / 1024 },
    ],
    targets: [
      { probe: 'connections-16-at-once', comparison: '>=', limit: 1 },
      { probe: 'connections-one-by-one', comparison: '>=', limit: 1 },
      { probe: 'alive-each', comparison: '<=', limit: 16 },
      { probe: 'fds-grown-100000', comparison: '<=', limit: 0 },
      { probe: 'grown-100000', comparison: '<=', limit: 32 },
      { probe: 'connections-one-by-one', comparison: '>=', limit: 1, of: 'tcp-one-by-one' },
    ],
  };
};
