/** Many connected RC queue pairs between two processes: set-up rate, memory, and CPU time when idle. */

import type { Effort, Plan } from './harness.ts';
import { compilePerfPrograms, joint, type PerfPrograms, runPerfProgram } from './tools.ts';

const MANY = 10_000;
const IDLE = 100;

export const plan = ({ rounds, scale }: Effort): Plan => {
  let programs: PerfPrograms;
  const idle_ms = Math.round(10_000 * scale);
  const manyqps = (qps: number, milliseconds: number): Promise<Record<string, number>> =>
    runPerfProgram(programs.manyqps, ['-n', `${qps}`, '-s', `${milliseconds}`]);
  const many = joint(() => manyqps(MANY, 0));
  return {
    title: 'connected RC queue pairs between two processes of one host',
    // The idle time makes a round long, and none of these numbers moves much.
    rounds: Math.min(rounds, 3),
    setUp: async () => {
      programs = await compilePerfPrograms();
    },
    tearDown: async () => programs.remove(),
    probes: [
      { name: 'set-up-10000', unit: 'k/s', sample: async () => (await many('set_up_per_s')) / 1000 },
      { name: 'memory-each', unit: 'KiB', sample: async () => (await many('bytes_each')) / 1024 },
      {
        name: 'idle-100',
        unit: '% CPU',
        sample: async () => (await manyqps(IDLE, idle_ms)).idle_cpu_percent ?? Number.NaN,
      },
    ],
    targets: [
      { probe: 'set-up-10000', comparison: '>=', limit: 10 },
      { probe: 'memory-each', comparison: '<=', limit: 16 },
      { probe: 'idle-100', comparison: '<=', limit: 0.1 },
    ],
  };
};
