/**
 * Many rdma_cm connections: set up and torn down without a trace, thousands alive at once, and 64 processes that share one UDP
 * port. How fast it is, `npm run perf -- --only cm` says.
 */

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { Network } from './lib/network.ts';
import { compileChurn, parseChurn } from './lib/own.ts';
import { freshPort } from './lib/pair.ts';
import { describeEnd, mustRun, Program, sleep, until } from './lib/process.ts';
import { requireAll } from './lib/requirements.ts';
import { makeRoad, ROAD_DOC, type Road, type RoadName } from './lib/roads.ts';

const ROADS: readonly RoadName[] = ['shm', 'udp-loop'];
const LIMIT_MS = 60_000;
const CYCLES = 60_000;
const ALIVE = 10_000;
/** What is in time wait, and what the allocator keeps. A leak of 600 bytes a connection is more. */
const KIB_GROWN_MAX = 32 << 10;
const FDS_GROWN_MAX = 20;
const ALIVE_BYTES_MAX = 16 << 10;
/** Half of them serve, each its own client. */
const PROCESSES = 64;

let network: Network;
let churn: Awaited<ReturnType<typeof compileChurn>>;
const roads = new Map<RoadName, Road>();

beforeAll(async () => {
  requireAll(['gcc', 'ibv_devinfo', 'rping']);
  network = await Network.create();
  for (const name of ROADS) roads.set(name, await makeRoad(network, name));
  churn = await compileChurn();
}, 60_000);

afterAll(() => {
  network?.remove();
  churn?.remove();
});

function roadOf(name: RoadName): Road {
  const road = roads.get(name);
  if (!road) throw new Error(`the road ${name} was not made`);
  return road;
}

const run = async ({ server, env }: Road, ...args: string[]): Promise<Record<string, number>> =>
  parseChurn(await mustRun([churn.cmchurn, ...args], { netns: server.netns, env, limit_ms: LIMIT_MS }));

describe.each(ROADS)('%s', (name) => {
  test(
    `${ROAD_DOC[name]}: ${CYCLES} connections come and go, and nothing of them stays`,
    async () => {
      const result = await run(roadOf(name), '-n', `${CYCLES}`);
      expect(result.connections).toBe(CYCLES);
      expect(result.fds_grown).toBe(0);
      expect(result.kib_grown).toBeLessThan(KIB_GROWN_MAX);
    },
    LIMIT_MS,
  );

  test(
    `${ROAD_DOC[name]}: ${ALIVE} are alive at once`,
    async () => {
      const result = await run(roadOf(name), '-a', `${ALIVE}`);
      expect(result.connections).toBe(ALIVE);
      expect(result.fds_grown).toBeLessThan(FDS_GROWN_MAX);
      expect(result.bytes_each).toBeLessThan(ALIVE_BYTES_MAX);
    },
    LIMIT_MS,
  );
});

test(
  `${PROCESSES} processes share UDP port 4791 in one namespace, each pair with verified data`,
  async () => {
    const { server, address, env } = roadOf('udp-loop');
    const started: Program[] = [];
    const start = (argv: string[]): Program => {
      const program = new Program(argv, { netns: server.netns, env, limit_ms: LIMIT_MS });
      started.push(program);
      return program;
    };
    try {
      const ports = Array.from({ length: PROCESSES / 2 }, freshPort);
      const servers = ports.map((port) =>
        start(['rping', '-s', '-a', address, '-p', `${port}`, '-S', '3000']),
      );
      // They sleep when they listen; how many have their socket is in the kernel's table.
      await until('all have the port', () => sharing(server.netns) >= PROCESSES / 2, LIMIT_MS);
      await sleep(300);
      const clients = ports.map((port) =>
        start(['rping', '-c', '-a', address, '-p', `${port}`, '-V', '-C', '200', '-S', '3000']),
      );
      await until(
        'all have the port',
        () => sharing(server.netns) >= PROCESSES || clients.some(({ alive }) => !alive),
        LIMIT_MS,
      );
      for (const each of [...clients, ...servers]) {
        const ended = await each.ended;
        if (ended.code !== 0) throw new Error(describeEnd(ended));
      }
    } finally {
      for (const program of started) if (program.alive) program.kill('SIGKILL');
    }
  },
  2 * LIMIT_MS,
);

/** IPv4 sockets of UDP port 4791 in a namespace. */
function sharing(netns: string): number {
  const { stdout } = Bun.spawnSync(['ip', 'netns', 'exec', netns, 'cat', '/proc/net/udp']);
  return stdout.toString().match(/ [0-9A-F]{8}:12B7 /g)?.length ?? 0;
}
