/**
 * One cell of the table of programs under socket-run: starts the ends of a program in one of the modes, with a report of one
 * accelerated end, and tells from that report how the bytes travelled.
 */

import { mkdirSync, mkdtempSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { runtimes } from '../../../scripts/runtimes.mjs';
import type { RunReport } from '../../../src/sockets/report.ts';
import type { Host, Network } from '../lib/network.ts';
import { freshPort } from '../lib/pair.ts';
import { describeEnd, type Ended, listensOn, Program, sleep, until } from '../lib/process.ts';
import { ROOT } from '../lib/requirements.ts';

export const MODE_DOC = {
  both: 'both ends under `rdmakit socket-run`, on one host',
  'client plain': 'only the server is under socket-run',
  'server plain': 'only the client is under socket-run',
  'other host': 'both ends are, in two network namespaces joined by a veth pair',
} as const;
export type ModeName = keyof typeof MODE_DOC;
export const MODES = Object.keys(MODE_DOC) as ModeName[];

const LIMIT_MS = 40_000;
const STOP_MS = 5000;
/** Of the two ends of a run of programs, which one is spoken of. */
type End = 'server' | 'client';

export interface StartChoice {
  env?: Record<string, string>;
  /** Goes before socket-run: a program that becomes another user. */
  as?: readonly string[];
  /** Never under socket-run: something that stands behind what is looked at. */
  plain?: boolean;
}

export interface ServerChoice extends StartChoice {
  /** It is ready when something listens on this port; `ready` instead when it does not listen on TCP. */
  port: number;
  ready?: (server: Program) => boolean;
  /** What makes it end well. */
  stop?: NodeJS.Signals;
}

interface Started {
  program: Program;
  stop: NodeJS.Signals;
}

/** What one cell works with; `conclude` must be called in the end, whatever happened. */
export class Bench {
  readonly mode: ModeName;
  /** Where the client finds the server. */
  readonly address: string;
  /** For the files of this cell; every user may read it. */
  readonly folder: string;
  private readonly hosts: Record<End, Host>;
  private readonly servers: Started[] = [];
  private readonly reports: string[] = [];

  /** `base`: a folder that every user may read. */
  constructor(mode: ModeName, network: Network, base: string) {
    this.mode = mode;
    const other = mode === 'other host';
    this.hosts = { server: network.a, client: other ? network.b : network.a };
    this.address = other ? network.a.ipv4 : '127.0.0.1';
    this.folder = mkdtempSync(join(base, 'cell-'));
    mkdirSync(join(this.folder, 'run-server'), { mode: 0o700 });
    mkdirSync(join(this.folder, 'run-client'), { mode: 0o700 });
  }

  port = (): number => freshPort();

  /** Network namespace of an end. */
  netns = (end: End): string => this.hosts[end].netns;

  /** Starts a server and waits until it listens. */
  async server(argv: readonly string[], choice: ServerChoice): Promise<Program> {
    const program = this.start('server', argv, choice);
    this.servers.push({ program, stop: choice.stop ?? 'SIGTERM' });
    const ready = choice.ready ?? (({ pid }: Program) => listensOn(pid, choice.port));
    await until(`${argv[0]} listens`, () => !program.alive || ready(program), LIMIT_MS);
    if (!program.alive) throw new Error(`${argv[0]}: ${describeEnd(await program.ended)}`);
    return program;
  }

  /** Starts a client that runs beside others. */
  background(argv: readonly string[], choice: StartChoice = {}): Program {
    return this.start('client', argv, choice);
  }

  /** Runs a client to its end, which must be a good one, and gives what it wrote. */
  async client(argv: readonly string[], choice: StartChoice = {}): Promise<string> {
    return mustEndWell(argv, await this.background(argv, choice).ended);
  }

  /** Waits for a server that ends by itself. */
  async ends(program: Program): Promise<string> {
    return mustEndWell(program.argv, await program.ended);
  }

  /** Ends all servers, and gives the verdict of the reports. */
  async conclude(brief: boolean): Promise<string> {
    for (const { program, stop } of this.servers) if (program.alive) program.kill(stop);
    for (const { program } of this.servers) {
      await Promise.race([program.ended, sleep(STOP_MS)]);
      if (program.alive) program.kill('SIGKILL');
      await program.ended;
    }
    const found = verdict(
      this.mode,
      this.reports.map((file) => JSON.parse(readFileSync(file, 'utf8')) as RunReport),
    );
    return brief && this.mode === 'both' ? 'ring or TCP ok' : found;
  }

  private start(
    end: End,
    argv: readonly string[],
    { env, as = [], plain: never = false }: StartChoice,
  ): Program {
    const plain = never || this.mode === `${end} plain`;
    // The client's, because it ends by itself; the server's when the client has none.
    const tells = this.mode === 'client plain' ? end === 'server' : end === 'client';
    const under = plain ? [] : [runtimes.bun, join(ROOT, 'src', 'cli.ts'), 'socket-run'];
    if (!plain && tells) {
      const file = join(this.folder, `report-${this.reports.length}.json`);
      this.reports.push(file);
      under.push('--report-json', file);
    }
    // On one host both ends share a runtime directory, as programs of one user do.
    const shares = this.mode === 'other host' ? end : 'server';
    return new Program([...as, ...under, ...(plain ? [] : ['--']), ...argv], {
      netns: this.netns(end),
      env: { RDMAKIT_RUNTIME_DIR: join(this.folder, `run-${shares}`), ...env },
      limit_ms: LIMIT_MS,
      cwd: this.folder,
    });
  }
}

function mustEndWell(argv: readonly string[], ended: Ended): string {
  if (ended.code !== 0) throw new Error(`${argv.join(' ')}: ${describeEnd(ended)}`);
  return ended.stdout + ended.stderr;
}

/** How the bytes travelled. Throws when the mode does not allow what the reports say. */
export function verdict(mode: ModeName, reports: readonly RunReport[]): string {
  if (reports.length === 0) throw new Error('nothing was reported');
  const connections = reports.flatMap((report) => report.connections);
  const accelerated = reports.reduce((sum, { totals }) => sum + totals.accelerated, 0);
  const ring_bytes = reports.reduce((sum, { totals }) => sum + totals.ring_bytes, 0);
  if (reports.some(({ unreadable }) => unreadable > 0)) throw new Error('a report has rows without sense');
  if (accelerated > 0) {
    if (mode !== 'both' && mode !== 'other host') throw new Error('accelerated with a plain peer');
    if (ring_bytes === 0) throw new Error('accelerated without a byte in a ring');
    return mode === 'both' ? 'ring' : between(connections);
  }
  if (connections.length === 0) return 'kernel (no connection seen)';
  const road = areDatagrams(connections) ? 'udp' : 'tcp';
  return mode === 'other host' ? between(connections) : `${road} (${mainReason(connections)})`;
}

const areDatagrams = (connections: RunReport['connections']): boolean =>
  connections.every(({ protocol }) => protocol === 'udp');

/** Between hosts, where a measurement decides. */
const between = (connections: RunReport['connections']): string =>
  areDatagrams(connections) ? 'UD or UDP ok' : 'RC or TCP ok';

/** Short connections end before anybody knows more; what is said of the others counts first. */
function mainReason(connections: RunReport['connections']): string {
  const counts = new Map<string, number>();
  for (const { reasons } of connections) {
    const code = reasons[0]?.code ?? 'no reason';
    counts.set(code, (counts.get(code) ?? 0) + 1);
  }
  const weight = (code: string): number => (code === 'no-library' ? 2 : code === 'short' ? 0 : 1);
  const [first] = [...counts].sort((a, b) => weight(b[0]) - weight(a[0]) || b[1] - a[1]);
  return first?.[0] ?? 'no reason';
}
