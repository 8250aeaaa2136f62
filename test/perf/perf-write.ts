/** RDMA WRITE on this machine: the rate of small ones, the bandwidth of large ones against memcpy, and Debian's ib_write_bw. */

import type { Effort, Plan } from './harness.ts';
import { compilePerfPrograms, ibWriteBw, joint, type PerfPrograms, runPerfProgram } from './tools.ts';

const MIB = 1 << 20;

export const plan = ({ rounds, duration_ms, scale }: Effort): Plan => {
  let programs: PerfPrograms;
  const stream = (size: number): Promise<Record<string, number>> =>
    runPerfProgram(programs.stream, ['-s', `${size}`, '-n', `${duration_ms}`]);
  const large = joint(() => stream(MIB));
  return {
    title: 'RDMA WRITE on one host, one queue pair',
    rounds,
    setUp: async () => {
      programs = await compilePerfPrograms();
    },
    tearDown: async () => programs.remove(),
    probes: [
      {
        name: 'write-8B',
        unit: 'M/s',
        sample: async () => ((await stream(8)).write_per_s ?? Number.NaN) / 1e6,
      },
      { name: 'write-1MiB', unit: 'GB/s', sample: async () => (await large('write_bytes_per_s')) / 1e9 },
      { name: 'memcpy-1MiB', unit: 'GB/s', sample: async () => (await large('memcpy_bytes_per_s')) / 1e9 },
      {
        name: 'ib_write_bw-64KiB',
        unit: 'GB/s',
        sample: () => ibWriteBw(65536, Math.max(1000, 60_000 * scale)),
      },
    ],
    targets: [
      { probe: 'write-8B', comparison: '>=', limit: 10 },
      { probe: 'write-1MiB', comparison: '>=', limit: 0.85, of: 'memcpy-1MiB' },
      { probe: 'ib_write_bw-64KiB', comparison: '>=', limit: 8 },
    ],
  };
};
