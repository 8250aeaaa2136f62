/**
 * What the files of this folder measure with: programs pinned to two cores, one for each end, and what they print. Every
 * function here runs one measurement and returns numbers; nothing is compared.
 */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Network } from '../integration/lib/network.ts';
import { freshPort } from '../integration/lib/pair.ts';
import { describeEnd, listensOn, mustRun, Program, until } from '../integration/lib/process.ts';
import { ROOT, SOFT_DIR } from '../integration/lib/requirements.ts';
import type { Road } from '../integration/lib/roads.ts';

/** The cores of the two ends. */
export const CORES = { server: 0, client: 1 };
const LIMIT_MS = 120_000;
const CLI = [process.execPath, join(ROOT, 'src', 'cli.ts')];
const SOURCES = fileURLToPath(new URL('./programs/', import.meta.url));
const LINK = fileURLToPath(new URL('../integration/programs/link.c', import.meta.url));

const pinned = (core: number, argv: readonly string[]): string[] => ['taskset', '-c', `${core}`, ...argv];

/** Where the two ends run and with what in their environment. */
export interface Ends {
  server?: string | undefined;
  client?: string | undefined;
  env?: Record<string, string>;
  /** Of the server, over `env`. */
  serverEnv?: Record<string, string>;
}

interface TwoEnds {
  server: readonly string[];
  client: readonly string[];
  /** Of the server, which is ready when it listens on it. */
  port: number;
  ends: Ends;
  /** Both ends have both cores. */
  shared?: boolean;
  /** Asks the server to end, where it must not be killed. */
  stop?: NodeJS.Signals;
  /** Succeeds when a server that listens answers, too. */
  ready?: readonly string[];
}

/** Starts the server on one core, the client on the other, and gives the client's output; the server may run for ever. */
export async function twoEnds({ server, client, port, ends, shared, stop, ready }: TwoEnds): Promise<string> {
  const start = (core: number, argv: readonly string[], netns?: string, more = {}): Program =>
    new Program(shared ? [...argv] : pinned(core, argv), {
      netns,
      env: { ...ends.env, ...more },
      limit_ms: LIMIT_MS,
    });
  const first = start(CORES.server, server, ends.server, ends.serverEnv);
  try {
    await until('the server listens', () => !first.alive || listensOn(first.pid, port));
    const answers = async () => !ready || (await start(CORES.client, ready, ends.client).ended).code === 0;
    await until('the server answers', async () => !first.alive || (await answers()));
    const ended = await start(CORES.client, client, ends.client).ended;
    if (ended.code !== 0)
      throw new Error(`${client.join(' ')}: ${describeEnd(ended)}\nserver: ${first.stderr}`);
    return ended.stdout;
  } finally {
    if (first.alive) {
      if (stop) first.kill(stop);
      await Promise.race([first.ended, new Promise((resolve) => setTimeout(resolve, stop ? 10_000 : 500))]);
      first.kill('SIGKILL');
    }
    await first.ended;
  }
}

/** A row of `rdmakit pingpong --json`: the p50 of the round trip in microseconds. */
export interface PingpongChoice {
  transport: 'rc' | 'uc' | 'ud' | 'tcp' | 'udp';
  wait: 'polling' | 'busy-polling' | 'blocking';
  size_bytes: number;
  duration_ms: number;
}

const pingpongArgs = ({ transport, size_bytes, duration_ms }: PingpongChoice): string[] => [
  ...['-t', transport, '-o', 'send', '-s', `${size_bytes}`, '-D', `${duration_ms}ms`, '--json'],
];

function p50_us(json: string, { transport, wait }: PingpongChoice): number {
  const { rows } = JSON.parse(json) as {
    rows: { transport: string; wait: string; latency_p50_ns: number }[];
  };
  const row = rows.find((each) => each.transport === transport && each.wait === wait);
  if (!row) throw new Error(`no row ${transport} ${wait} in ${json}`);
  return row.latency_p50_ns / 1000;
}

/** Both ends on this machine; pingpong itself takes two cores. */
export async function pingpongHere(choice: PingpongChoice): Promise<number> {
  const pin = `${CORES.client},${CORES.server}`;
  const argv = [...CLI, 'pingpong', '--provider', 'soft', '--pin', pin, ...pingpongArgs(choice)];
  return p50_us(await mustRun(argv, { limit_ms: LIMIT_MS }), choice);
}

/** Between the two namespaces. */
export function pingpongBetween(network: Network, choice: PingpongChoice, env = {}): Promise<number> {
  const port = freshPort();
  const common = ['--provider', 'soft', '-p', `${port}`];
  const client = [...common, '--pin', `${CORES.client}`, ...pingpongArgs(choice), network.a.ipv4];
  const ends = { server: network.a.netns, client: network.b.netns, env: network.env(env) };
  const server = [...CLI, 'pingpong', '--listen', ...common, network.a.ipv4];
  return twoEnds({ server, client: [...CLI, 'pingpong', ...client], port, ends }).then((json) =>
    p50_us(json, choice),
  );
}

/** `ucx_perftest -t tag_lat` over shared memory: the round trip in microseconds (it prints half of it). */
export async function ucxTagRtt_us(
  transport: 'posix' | 'sysv',
  size_bytes: number,
  iterations: number,
): Promise<number> {
  const port = freshPort();
  const common = ['ucx_perftest', '-p', `${port}`];
  const what = [
    '-t',
    'tag_lat',
    '-s',
    `${size_bytes}`,
    '-n',
    `${iterations}`,
    '-w',
    `${iterations / 10}`,
    '-f',
  ];
  // Never our own device: the opponent is UCX's own shared memory.
  const ends = { env: { UCX_TLS: `${transport},self`, LD_LIBRARY_PATH: '' } };
  const text = await twoEnds({ server: common, client: [...common, ...what, '127.0.0.1'], port, ends });
  // The first two columns: iterations, and the median.
  const numbers = text.match(/^\s*(?:\[thread 0\]|Final:)?\s+(\d+)\s+([\d.]+)\s/m);
  const half_us = Number(numbers?.[2]);
  if (!(half_us > 0)) throw new Error(`no result of ucx_perftest in:\n${text}`);
  return 2 * half_us;
}

/** `ib_write_bw` of Debian under `rdmakit verbs-run`, average in GB/s (it prints MiB/s). */
export async function ibWriteBw(size_bytes: number, iterations: number): Promise<number> {
  const port = freshPort();
  const program = [
    'ib_write_bw',
    '-d',
    'rk_lo',
    '-F',
    '-p',
    `${port}`,
    '-s',
    `${size_bytes}`,
    '-n',
    `${iterations}`,
  ];
  const argv = [...CLI, 'verbs-run', '--', ...program];
  const text = await twoEnds({ server: argv, client: [...argv, '127.0.0.1'], port, ends: {} });
  const average = text.match(/^\s*\d+\s+\d+\s+[\d.]+\s+([\d.]+)\s+[\d.]+\s*$/m)?.[1];
  if (!average) throw new Error(`no result of ib_write_bw in:\n${text}`);
  return (Number(average) * 1024 * 1024) / 1e9;
}

/** iperf3 over TCP from the second namespace to the first, in GB/s of payload received. */
export async function iperf3(network: Network, seconds: number): Promise<number> {
  const port = freshPort();
  const server = ['iperf3', '-s', '-1', '-p', `${port}`];
  const client = ['iperf3', '-c', network.a.ipv4, '-p', `${port}`, '-t', `${seconds}`, '-J'];
  const ends = { server: network.a.netns, client: network.b.netns };
  const text = await twoEnds({ server, client, port, ends });
  const { end } = JSON.parse(text) as { end: { sum_received: { bits_per_second: number } } };
  return end.sum_received.bits_per_second / 8e9;
}

export interface PerfPrograms {
  stream: string;
  manyqps: string;
  remove(): void;
}

/** Compiles test/perf/programs with the system's headers and library. */
export async function compilePerfPrograms(): Promise<PerfPrograms> {
  const folder = mkdtempSync(join(tmpdir(), `rk${process.pid}-perf-`));
  const build = async (name: string): Promise<string> => {
    const argv = [
      'gcc',
      '-std=gnu11',
      '-O2',
      '-Wall',
      '-Wextra',
      LINK,
      join(SOURCES, `${name}.c`),
      '-libverbs',
    ];
    await mustRun([...argv, '-o', join(folder, name)], { limit_ms: 60_000 });
    return join(folder, name);
  };
  const [stream, manyqps] = [await build('stream'), await build('manyqps')];
  return { stream, manyqps, remove: () => rmSync(folder, { recursive: true, force: true }) };
}

/** The line of names and numbers that these programs print. */
export function namedNumbers(text: string): Record<string, number> {
  const words = text.trim().split('\n').at(-1)?.split(' ') ?? [];
  return Object.fromEntries(words.flatMap((word, i) => (i % 2 === 0 ? [[word, Number(words[i + 1])]] : [])));
}

/** Runs one of them with both ends on this machine's loopback device, or on a road. */
export async function runPerfProgram(
  program: string,
  args: readonly string[],
  road?: Road,
  env: Record<string, string> = {},
): Promise<Record<string, number>> {
  const port = freshPort();
  const place = (end?: Road['server']): string[] =>
    end ? ['-d', end.device, '-g', `${end.gidIndex}`] : ['-d', 'rk_lo', '-g', `${loopGid ?? 0}`];
  if (!road) loopGid ??= await loopbackGid();
  const ends: Ends = road
    ? { server: road.server.netns, client: road.client.netns, env: { ...road.env, ...env } }
    : { env: { LD_LIBRARY_PATH: SOFT_DIR, ...env } };
  const common = ['-p', `${port}`, ...args];
  const server = [program, ...place(road?.server), ...common];
  const client = [program, ...place(road?.client), ...common, road?.address ?? '127.0.0.1'];
  return namedNumbers(await twoEnds({ server, client, port, ends }));
}

let loopGid: number | undefined;

async function loopbackGid(): Promise<number> {
  const env = { LD_LIBRARY_PATH: SOFT_DIR };
  const text = await mustRun(['ibv_devinfo', '-v', '-d', 'rk_lo'], { env });
  const index = text.match(/GID\[\s*(\d+)\]:\s+::ffff:127\.0\.0\.1,/)?.[1];
  if (index === undefined) throw new Error(`rk_lo has no GID of 127.0.0.1:\n${text}`);
  return Number(index);
}

/** One run that gives several numbers: the first probe of a round runs it, the others read what it gave. */
export function joint(measure: () => Promise<Record<string, number>>): (name: string) => Promise<number> {
  let latest: Record<string, number> = {};
  let taken = new Set<string>();
  return async (name) => {
    if (taken.has(name) || !(name in latest)) {
      latest = await measure();
      taken = new Set();
    }
    taken.add(name);
    return latest[name] ?? Number.NaN;
  };
}
