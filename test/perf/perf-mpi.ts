/** Open MPI on this machine over the embedded device (UCX), against its own TCP and its own shared memory. */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { mustRun } from '../integration/lib/process.ts';
import { ROOT, requireAll, SOFT_DIR, SYSFS_SO } from '../integration/lib/requirements.ts';
import type { Effort, Plan } from './harness.ts';
import { joint } from './tools.ts';

const MIB = 1 << 20;
const SMALL_BYTES = 8;
const ROOT_TOO = { OMPI_ALLOW_RUN_AS_ROOT: '1', OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: '1' };

interface Way {
  env: Record<string, string>;
  mca: readonly string[];
}

/** How messages travel. Only the first sees our libraries. */
const WAYS: Record<'soft' | 'tcp' | 'shm', Way> = {
  soft: {
    env: {
      LD_LIBRARY_PATH: SOFT_DIR,
      LD_PRELOAD: SYSFS_SO,
      UCX_TLS: 'rc_verbs,ud_verbs,self',
      UCX_NET_DEVICES: 'rk_lo:1',
    },
    mca: ['pml=ucx', 'osc=ucx', 'btl=^openib,vader,tcp'],
  },
  tcp: { env: {}, mca: ['pml=ob1', 'osc=^ucx', 'btl=tcp,self', 'btl_tcp_if_include=lo'] },
  shm: { env: {}, mca: ['pml=ob1', 'osc=^ucx', 'btl=vader,self'] },
};

export const plan = ({ rounds, scale }: Effort): Plan => {
  let folder = '';
  const osu = async ({ env, mca }: Way, count: number, largest: number): Promise<string> => {
    const flags = mca.flatMap((each) => ['--mca', ...each.split('=')]);
    const argv = [
      'mpirun',
      '-np',
      '2',
      '--bind-to',
      'core',
      ...flags,
      join(folder, 'osu'),
      `${count}`,
      `${largest}`,
    ];
    return mustRun(argv, { env: { ...ROOT_TOO, ...env }, limit_ms: 120_000 });
  };
  const number = (text: string, what: string, size: number): number => {
    const value = text.match(new RegExp(`^${what} ${size} ([\\d.]+)$`, 'm'))?.[1];
    if (value === undefined) throw new Error(`no ${what} of ${size} B in:\n${text}`);
    return Number(value);
  };
  const measure = (way: Way) =>
    joint(async () => {
      const small = await osu(way, Math.max(100, Math.round(40_000 * scale)), SMALL_BYTES);
      const large = await osu(way, Math.max(20, Math.round(2000 * scale)), MIB);
      return {
        latency: number(small, 'latency_us', SMALL_BYTES),
        bandwidth: number(large, 'bandwidth_MBps', MIB) / 1000,
      };
    });
  const probes = Object.entries(WAYS).flatMap(([name, way]) => {
    const values = measure(way);
    return [
      { name: `mpi-${name}-8B`, unit: 'us', sample: () => values('latency') },
      { name: `mpi-${name}-1MiB`, unit: 'GB/s', sample: () => values('bandwidth') },
    ];
  });
  return {
    title: 'Open MPI, two ranks on one host: one way of 8 B, bandwidth of 1 MiB',
    rounds,
    setUp: async () => {
      requireAll(['mpicc', 'mpirun']);
      folder = mkdtempSync(join(tmpdir(), `rk${process.pid}-mpi-`));
      const source = join(ROOT, 'test', 'integration', 'compat', 'osu.c');
      await mustRun(['mpicc', '-O2', source, '-o', join(folder, 'osu')], { limit_ms: 60_000 });
    },
    tearDown: async () => rmSync(folder, { recursive: true, force: true }),
    probes,
    targets: [
      { probe: 'mpi-soft-8B', comparison: '<=', limit: 0.2, of: 'mpi-tcp-8B' },
      { probe: 'mpi-soft-1MiB', comparison: '>=', limit: 1, of: 'mpi-tcp-1MiB' },
      { probe: 'mpi-soft-1MiB', comparison: '>=', limit: 1, of: 'mpi-shm-1MiB' },
    ],
  };
};
