/**
 * Runs the two ends of a client-server program: starts the server, waits until it listens, starts the client, waits for both.
 */

import { describeEnd, type Ended, listensOn, Program, until } from './process.ts';
import type { End, Road } from './roads.ts';

/** A program of two ends, told by flags which device, GID and TCP port to use. */
export interface PairSpec {
  program: string;
  /** Of both ends. */
  args: readonly string[];
  /** How this family of programs names device, GID index and port. */
  flags: (end: End, port: number) => string[];
  limit_ms?: number;
  env?: Record<string, string>;
  /** Of one end only, over `env`. */
  serverEnv?: Record<string, string>;
  clientEnv?: Record<string, string>;
  /** Between the server's and the client's start, and after the client's. */
  listening?: (server: Program) => Promise<void>;
  running?: (server: Program, client: Program) => Promise<void>;
}

export interface PairEnded {
  server: Ended;
  client: Ended;
}

/** `ibv_*_pingpong`: no GID index means the LID of InfiniBand, which no Ethernet device has. */
export const pingpongFlags = (end: End, port: number): string[] => [
  ...['-d', end.device, '-g', `${end.gidIndex}`, '-p', `${port}`],
];
/**
 * perftest; -F: its warning about the CPU's frequency is of no interest here. -u 17: an acknowledgement may take half a second,
 * because on a machine with much else to do the other end may have no CPU for long; what is lost is sent again much earlier.
 */
export const perftestFlags = (end: End, port: number): string[] => [
  ...['-d', end.device, '-x', `${end.gidIndex}`, '-p', `${port}`, '-F', '-u', '17'],
];

/** Below the ports that the kernel gives out; another test file that runs at the same time begins somewhere else. */
let nextPort = 20_000 + (process.pid % 200) * 60;

/** A TCP port that no other pair of this process uses. */
export const freshPort = (): number => nextPort++;

/** Runs both ends to their ends, however they end. */
export async function runPair(road: Road, spec: PairSpec): Promise<PairEnded> {
  const port = freshPort();
  const { limit_ms = 15_000 } = spec;
  const start = (end: End, env: Record<string, string> | undefined, more: string[]): Program => {
    const options = { netns: end.netns, env: { ...road.env, ...spec.env, ...env }, limit_ms };
    return new Program([spec.program, ...spec.flags(end, port), ...spec.args, ...more], options);
  };
  const server = start(road.server, spec.serverEnv, []);
  let client: Program | undefined;
  try {
    await until('the server listens', () => !server.alive || listensOn(server.pid, port));
    await spec.listening?.(server);
    client = start(road.client, spec.clientEnv, [road.address]);
    await spec.running?.(server, client);
    return { client: await client.ended, server: await server.ended };
  } finally {
    for (const program of [server, client]) if (program?.alive) program.kill('SIGKILL');
  }
}

/** Throws unless both ends ended with exit code 0. */
export function mustSucceed({ server, client }: PairEnded): void {
  if (server.code === 0 && client.code === 0) return;
  throw new Error(`client: ${describeEnd(client)}\nserver: ${describeEnd(server)}`);
}
