/**
 * Unmodified programs on kernel loopback and under socket-run, the same programs in the same rounds: how much quicker they are.
 * The programs are Debian's; each end has a core of its own unless said otherwise.
 */

import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { socketLibrary } from '../../ffi/paths.ts';
import { freshPort } from '../integration/lib/pair.ts';
import { mustRun } from '../integration/lib/process.ts';
import { ROOT, requireAll } from '../integration/lib/requirements.ts';
import type { Effort, Plan, Target } from './harness.ts';
import { CORES, namedNumbers, twoEnds } from './tools.ts';

const LIMIT_MS = 60_000;
const IDLE_CONNECTIONS = 1000;
const STARTS = 100;
const IDLE = fileURLToPath(new URL('./programs/idle.py', import.meta.url));
const CLI = [process.execPath, join(ROOT, 'src', 'cli.ts')];

/** Whose sockets are accelerated. */
type Way = 'kernel' | 'soft' | 'plain-peer';

/** Debian keeps them by version, outside of PATH. */
function postgresTool(name: string): string {
  const root = '/usr/lib/postgresql';
  const versions = existsSync(root) ? readdirSync(root).sort((a, b) => Number(b) - Number(a)) : [];
  const found = versions.map((each) => join(root, each, 'bin', name)).find((path) => existsSync(path));
  if (!found) throw new Error(`${name} is missing: apt-get install postgresql`);
  return found;
}

export const plan = ({ rounds, duration_ms, scale }: Effort): Plan => {
  let folder = '';
  let pgFolder = '';
  const seconds = Math.max(1, Math.round(duration_ms / 1000));
  const accelerated = (): Record<string, string> => ({
    RDMAKIT_RUNTIME_DIR: folder,
    LD_PRELOAD: socketLibrary(),
  });
  const both = (way: Way): Record<string, string> => (way === 'soft' ? accelerated() : {});

  /** pingpong's TCP rows: p50 of the round trip of 64 bytes, in microseconds. */
  const pingpong = async (way: Way, wait: string, pin: string, cores: string): Promise<number> => {
    const argv = ['pingpong', '-t', 'tcp', '-s', '64', '-D', `${duration_ms}ms`, '--pin', pin, '--json'];
    const text = await mustRun(['taskset', '-c', cores, ...CLI, ...argv], {
      env: both(way),
      limit_ms: LIMIT_MS,
    });
    const { rows } = JSON.parse(text) as { rows: { wait: string; latency_p50_ns?: number }[] };
    return (rows.find((row) => row.wait === wait)?.latency_p50_ns ?? Number.NaN) / 1000;
  };

  const iperf3 = async (way: Way, ...more: string[]): Promise<number> => {
    const port = freshPort();
    const text = await twoEnds({
      server: ['iperf3', '-s', '-1', '-p', `${port}`],
      client: ['iperf3', '-c', '127.0.0.1', '-p', `${port}`, '-t', `${seconds}`, '-J', ...more],
      port,
      ends: { env: both(way) },
    });
    const { end } = JSON.parse(text) as { end: { sum_received: { bits_per_second: number } } };
    return end.sum_received.bits_per_second / 8e9;
  };

  /** Half of the round trip; --mps: its default is fewer messages than come here, and it ends with an error. */
  const sockperf = async (way: Way, ...protocol: string[]): Promise<number> => {
    const port = freshPort();
    const at = [...protocol, '-i', '127.0.0.1', '-p', `${port}`];
    const text = await twoEnds({
      server: ['sockperf', 'sr', ...at],
      client: ['sockperf', 'pp', ...at, '-t', `${seconds}`, '-m', '64', '--mps=5000000'],
      port,
      ends: { env: both(way) },
    });
    return Number(text.match(/percentile 50\.000 =\s+([\d.]+)/)?.[1]);
  };

  /** Requests a second of redis-benchmark; `unix` over a local socket instead. */
  const redis = async (way: Way, args: readonly string[], count: number, unix = false): Promise<number> => {
    const port = freshPort();
    const path = join(folder, `redis-${port}`);
    const text = await twoEnds({
      server: ['redis-server', '--port', `${port}`, '--save', '', '--unixsocket', path],
      client: [
        ...['redis-benchmark', ...(unix ? ['-s', path] : ['-p', `${port}`]), '-t', 'get', '--csv'],
        ...['-n', `${Math.max(1000, Math.round(count * scale))}`, ...args],
      ],
      port,
      ends: {
        env: way === 'plain-peer' ? {} : both(way),
        ...(way === 'plain-peer' ? { serverEnv: accelerated() } : {}),
      },
    });
    return Number(text.match(/^"GET","([\d.]+)"/m)?.[1]) / 1000;
  };

  /** Requests a second of wrk against one worker of nginx. */
  const nginx = async (way: Way, file: string, ...args: string[]): Promise<number> => {
    const port = freshPort();
    const root = join(folder, `nginx-${port}`);
    mkdirSync(root);
    writeFileSync(join(root, '1k'), 'x'.repeat(1024));
    writeFileSync(join(root, '1m'), 'x'.repeat(1 << 20));
    writeFileSync(
      join(root, 'conf'),
      `daemon off; master_process off; error_log stderr; pid ${root}/pid; events { worker_connections 1024; }
       http { access_log off; keepalive_requests 1000000; server { listen 127.0.0.1:${port}; root ${root}; } }`,
    );
    const text = await twoEnds({
      server: ['nginx', '-e', 'stderr', '-p', root, '-c', join(root, 'conf')],
      client: ['wrk', '-t', '1', '-d', `${seconds}`, ...args, `http://127.0.0.1:${port}/${file}`],
      port,
      ends: { env: both(way) },
    });
    return Number(text.match(/^Requests\/sec:\s+([\d.]+)/m)?.[1]) / 1000;
  };

  /** Its server refuses to run as root. */
  const asPostgres =
    process.getuid?.() === 0 ? ['setpriv', '--reuid=postgres', '--regid=postgres', '--clear-groups'] : [];
  const database = () => join(pgFolder, 'db');

  /** A database of pgbench, made once. */
  const makeDatabase = async (): Promise<void> => {
    if (existsSync(database())) return;
    if (asPostgres.length > 0) await mustRun(['chown', 'postgres', pgFolder], { limit_ms: LIMIT_MS });
    await mustRun([...asPostgres, postgresTool('initdb'), '-A', 'trust', '-D', database()], {
      limit_ms: LIMIT_MS,
    });
    await pgbench('kernel', false, ['-i', '-q']);
  };

  /** Transactions a second of pgbench, four clients that only read; `unix` over a local socket instead. */
  const pgbench = async (way: Way, unix: boolean, args: readonly string[]): Promise<number> => {
    const port = freshPort();
    const env = {
      ...(way === 'soft' ? { LD_PRELOAD: socketLibrary() } : {}),
      RDMAKIT_RUNTIME_DIR: join(pgFolder, 'rdmakit'),
    };
    const text = await twoEnds({
      server: [
        ...asPostgres,
        ...[postgresTool('postgres'), '-D', database(), '-k', pgFolder, '-p', `${port}`],
        ...['-c', 'listen_addresses=127.0.0.1'],
      ],
      client: [
        ...[...asPostgres, postgresTool('pgbench'), ...args, '-p', `${port}`],
        ...['-h', unix ? pgFolder : '127.0.0.1', 'postgres'],
      ],
      port,
      ends: { env },
      shared: true,
      stop: 'SIGINT',
      ready: [postgresTool('pg_isready'), '-q', '-h', pgFolder, '-p', `${port}`],
    });
    return Number(text.match(/^tps = ([\d.]+)/m)?.[1]) / 1000;
  };
  const readOnly = async (way: Way, unix = false): Promise<number> => {
    await makeDatabase();
    return pgbench(way, unix, ['-n', '-S', '-c', '4', '-j', '2', '-T', `${seconds}`]);
  };

  const idle = async (): Promise<number> => {
    const argv = ['python3', IDLE, `${IDLE_CONNECTIONS}`, `${10 * scale}`];
    return (
      namedNumbers(await mustRun(argv, { env: accelerated(), limit_ms: LIMIT_MS })).cpu_percent ?? Number.NaN
    );
  };

  /** Milliseconds of a program that does nothing. */
  const startUp = async (way: Way): Promise<number> => {
    const count = Math.max(10, Math.round(STARTS * scale));
    const began_ms = performance.now();
    await mustRun(['sh', '-c', `i=0; while [ $i -lt ${count} ]; do /bin/true; i=$((i+1)); done`], {
      env: both(way),
      limit_ms: LIMIT_MS,
    });
    return (performance.now() - began_ms) / count;
  };

  const twoCores = `${CORES.client},${CORES.server}`;
  const REDIS = { c1: ['-c', '1'], c50: ['-c', '50'], 'c50-P16': ['-c', '50', '-P', '16'] } as const;
  const COUNTS = { c1: 50_000, c50: 100_000, 'c50-P16': 500_000 } as const;
  const SIZES = ['1', '64', '1K', '16K', '128K', '1M'] as const;

  interface Row {
    name: string;
    unit: string;
    sample: (way: Way) => Promise<number>;
    /** Against the kernel's. */
    target: Pick<Target, 'comparison' | 'limit'>;
  }
  const atLeast = (limit: number) => ({ comparison: '>=', limit }) as const;
  const atMost = (limit: number) => ({ comparison: '<=', limit }) as const;
  const rows: Row[] = [
    {
      name: 'rtt-64-busy',
      unit: 'us',
      sample: (way) => pingpong(way, 'busy-polling', twoCores, twoCores),
      target: atMost(1 / 10),
    },
    {
      name: 'rtt-64-one-core',
      unit: 'us',
      sample: (way) => pingpong(way, 'blocking', 'none', `${CORES.server}`),
      target: atMost(0.6),
    },
    { name: 'sockperf-tcp', unit: 'us', sample: (way) => sockperf(way, '--tcp'), target: atMost(1 / 30) },
    { name: 'sockperf-udp', unit: 'us', sample: (way) => sockperf(way), target: atMost(1 / 30) },
    { name: 'iperf3', unit: 'GB/s', sample: iperf3, target: atLeast(2.5) },
    ...SIZES.map((size) => ({
      name: `iperf3-${size}`,
      unit: 'GB/s',
      sample: (way: Way) => iperf3(way, '-l', size),
      target: atLeast(1),
    })),
    ...(['c1', 'c50', 'c50-P16'] as const).map((name) => ({
      name: `redis-${name}`,
      unit: 'k/s',
      sample: (way: Way) => redis(way, REDIS[name], COUNTS[name]),
      target: atLeast({ c1: 6, c50: 2, 'c50-P16': 1.2 }[name]),
    })),
    { name: 'nginx-1k-c1', unit: 'k/s', sample: (way) => nginx(way, '1k', '-c', '1'), target: atLeast(4) },
    {
      name: 'nginx-1k-c50',
      unit: 'k/s',
      sample: (way) => nginx(way, '1k', '-c', '50'),
      target: atLeast(1.5),
    },
    { name: 'nginx-1m-c4', unit: 'k/s', sample: (way) => nginx(way, '1m', '-c', '4'), target: atLeast(2) },
    {
      name: 'nginx-new-connections',
      unit: 'k/s',
      sample: (way) => nginx(way, '1k', '-c', '10', '-H', 'Connection: close'),
      target: atLeast(0.9),
    },
    { name: 'pgbench-S-c4', unit: 'k/s', sample: (way) => readOnly(way), target: atLeast(1.2) },
  ];
  return {
    title: 'socket-run: unmodified programs against the same ones on kernel loopback',
    rounds: Math.min(rounds, 3),
    setUp: async () => {
      requireAll([
        'iperf3',
        'sockperf',
        'redis-server',
        'redis-benchmark',
        'nginx',
        'wrk',
        'python3',
        'taskset',
      ]);
      folder = mkdtempSync(join(tmpdir(), `rk${process.pid}-sockets-`));
      pgFolder = mkdtempSync(join(tmpdir(), `rk${process.pid}-postgres-`));
    },
    tearDown: async () => {
      for (const each of [folder, pgFolder]) rmSync(each, { recursive: true, force: true });
    },
    probes: [
      ...rows.flatMap(({ name, unit, sample }) =>
        (['kernel', 'soft'] as const).map((way) => ({
          name: `${name}-${way}`,
          unit,
          sample: () => sample(way),
        })),
      ),
      ...(['c1', 'c50'] as const).map((name) => ({
        name: `redis-${name}-unix`,
        unit: 'k/s',
        sample: () => redis('kernel', REDIS[name], COUNTS[name], true),
      })),
      { name: 'pgbench-S-c4-unix', unit: 'k/s', sample: () => readOnly('kernel', true) },
      {
        name: 'redis-c50-plain-client',
        unit: 'k/s',
        sample: () => redis('plain-peer', REDIS.c50, COUNTS.c50),
      },
      { name: 'idle-1000', unit: '% CPU', sample: idle },
      { name: 'start-kernel', unit: 'ms', sample: () => startUp('kernel') },
      { name: 'start-soft', unit: 'ms', sample: () => startUp('soft') },
    ],
    targets: [
      { probe: 'rtt-64-busy-soft', comparison: '<=', limit: 0.5 },
      ...rows.map(({ name, target }): Target => ({ probe: `${name}-soft`, ...target, of: `${name}-kernel` })),
      ...(['c1', 'c50'] as const).map(
        (name): Target => ({
          probe: `redis-${name}-soft`,
          comparison: '>=',
          limit: 1,
          of: `redis-${name}-unix`,
        }),
      ),
      { probe: 'pgbench-S-c4-soft', comparison: '>=', limit: 1, of: 'pgbench-S-c4-unix' },
      { probe: 'redis-c50-plain-client', comparison: '>=', limit: 0.99, of: 'redis-c50-kernel' },
      { probe: 'idle-1000', comparison: '<=', limit: 0.05 },
    ],
  };
};
