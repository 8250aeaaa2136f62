/**
 * Debian's rdmacm-utils and perftest over rdma_cm: connections, lookups and groups made with real management datagrams, in one
 * namespace and between two, with and without loss. Both ends' exit codes and results are read.
 */

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { basename, join } from 'node:path';
import { Network } from './lib/network.ts';
import { freshPort, mustSucceed } from './lib/pair.ts';
import { describeEnd, type Ended, Program, sleep } from './lib/process.ts';
import { Report } from './lib/report.ts';
import { ROOT, requireAll } from './lib/requirements.ts';
import { type End, makeRoad, ROAD_DOC, type Road, type RoadName } from './lib/roads.ts';

const ROADS = Object.keys(ROAD_DOC) as RoadName[];
const LIMIT_MS = 30_000;
const TEST_LIMIT_MS = 90_000;
/** So many looks in a row must find a server waiting: rdma_cm's ports are in no table of the kernel's. */
const ASLEEP_LOOKS = 6;
const LOOK_MS = 30;

/** How rdmakit itself is called: the word `RDMAKIT` of a line. */
const RDMAKIT = [process.execPath, join(ROOT, 'src', 'cli.ts')];

/** `SELF`, `PEER`, `DEVICE` and `PORT` stand for the end's address, the server's, the device and a fresh port. */
interface Case {
  name: string;
  server: string;
  client: string;
  /** What both ends print, or with `endless` the client. */
  prints: RegExp;
  clientPrints?: RegExp;
  /** The server goes on for ever. */
  endless?: boolean;
  /** RDMAKIT_FAULT of both ends: only where packets can be lost. */
  fault?: string;
}

const STATUS_0 = /return status 0$/m;
const perftest = (line: string): Case => ({
  name: `${line} -R`,
  server: `${line} -R -F -d DEVICE -p PORT`,
  client: `${line} -R -F -d DEVICE -p PORT PEER`,
  prints: /remote address: LID 0000 QPN 0x/,
  clientPrints: /^\s*\d+\s+\d+\s+[\d.]+/m,
});
const rping = (more: string): Case => ({
  name: `rping ${more}`,
  server: `rping -s -a SELF -p PORT -v -V ${more}`,
  client: `rping -c -a PEER -p PORT -v -V ${more}`,
  prints: /(?:ping data: rdma-ping[\s\S]*?){10}/,
});

const CASES: readonly Case[] = [
  rping('-C 10'),
  rping('-C 10 -S 60000'),
  { ...rping('-C 10 -S 5000'), name: 'rping, lossy', fault: 'loss=0.05,dup=0.05,reorder=0.05' },
  {
    name: 'pingpong --cm to rping',
    server: 'rping -s -a SELF -p PORT -v -V',
    client: 'RDMAKIT pingpong --provider soft --cm --verify -n 200 -p PORT PEER --expect loss=0%',
    prints: /ping data: rdma-ping|RC +rping +64B/,
  },
  {
    name: 'rping to pingpong --cm',
    server: 'RDMAKIT pingpong --provider soft --cm --listen -p PORT',
    client: 'rping -c -a PEER -p PORT -v -V -C 10 -S 5000',
    prints: /(?:ping data: rdma-ping[\s\S]*?){10}/,
    endless: true,
  },
  {
    name: 'pingpong --cm to itself',
    server: 'RDMAKIT pingpong --provider soft --cm --listen -p PORT',
    client: 'RDMAKIT pingpong --provider soft --cm --verify --sweep 1..64KiB -n 20 -p PORT PEER',
    prints: /(?:RC +rping +\d+(?:Ki)?B[\s\S]*?){17}/,
    endless: true,
  },
  ...['-c 1', '-c 50', '-c 3 -t 8', '-c 2 -m'].map(
    (more): Case => ({
      name: `ucmatose ${more}`,
      server: `ucmatose -b SELF -p PORT -C 10 ${more}`,
      client: `ucmatose -s PEER -p PORT -C 10 ${more}`,
      prints: STATUS_0,
    }),
  ),
  {
    name: 'ucmatose -c 20, lossy',
    server: 'ucmatose -b SELF -p PORT -C 5 -c 20',
    client: 'ucmatose -s PEER -p PORT -C 5 -c 20',
    prints: STATUS_0,
    fault: 'loss=0.1,dup=0.05',
  },
  {
    name: 'udaddy -c 3',
    server: 'udaddy -b SELF -C 10 -c 3',
    client: 'udaddy -s PEER -C 10 -c 3',
    prints: STATUS_0,
  },
  {
    name: 'mckey',
    server: 'mckey -m 239.1.2.3 -b SELF -C 5',
    client: 'mckey -s -m 239.1.2.3 -b SELF -C 5',
    prints: STATUS_0,
  },
  {
    name: 'rdma_client',
    server: 'rdma_server -p PORT',
    client: 'rdma_client -s PEER -p PORT',
    prints: /rdma_(client|server): end 0/,
  },
  {
    name: 'rdma_xclient',
    server: 'rdma_xserver -p PORT',
    client: 'rdma_xclient -s PEER -p PORT',
    prints: /rdma_x(client|server): end 0/,
  },
  {
    name: 'cmtime -c 200',
    server: 'cmtime -b SELF -p PORT -c 200',
    client: 'cmtime -s PEER -p PORT -c 200',
    prints: /^disconnect\s*:\s*[\d.]+/m,
    endless: true,
  },
  ...['ib_send_bw -n 100', 'ib_write_bw -n 100 -q 4', 'ib_read_bw -n 100', 'ib_atomic_bw -n 100'].map(
    perftest,
  ),
  ...['ib_send_lat -n 100', 'ib_write_lat -n 100', 'ib_read_lat -n 100', 'ib_send_lat -n 100 -c UD'].map(
    perftest,
  ),
];

const report = new Report('rdma_cm', ROADS);
const roads = new Map<RoadName, Road>();
let network: Network;

beforeAll(async () => {
  const programs = CASES.flatMap(({ server, client }) => [server, client]).map(
    (line) => line.split(' ')[0] ?? '',
  );
  requireAll([...new Set([...programs.filter((each) => each !== 'RDMAKIT'), 'ibv_devinfo'])]);
  network = await Network.create();
  for (const name of ROADS) roads.set(name, await makeRoad(network, name));
}, 60_000);

afterAll(() => {
  network?.remove();
  report.print();
});

function roadOf(name: RoadName): Road {
  const road = roads.get(name);
  if (!road) throw new Error(`the road ${name} was not made`);
  return road;
}

async function untilAsleep(program: Program): Promise<void> {
  const name = basename(program.argv[0] ?? '');
  let looks = 0;
  while (looks < ASLEEP_LOOKS && program.alive) {
    await sleep(LOOK_MS);
    looks = program.isRunning(name) && program.state() === 'S' ? looks + 1 : 0;
  }
}

/** The client's own address: on the road between two namespaces it is not the server's. */
const addressOf = (road: Road, end: End): string =>
  end === road.server || road.name !== 'udp-veth' ? road.address : network.b.ipv4;

async function runCase(
  road: Road,
  { server, client, prints, clientPrints, endless, fault }: Case,
): Promise<string> {
  const port = `${freshPort()}`;
  const start = (line: string, end: End): Program => {
    const values: Record<string, string> = {
      SELF: addressOf(road, end),
      PEER: road.address,
      DEVICE: end.device,
      PORT: port,
    };
    const env = fault === undefined ? road.env : { ...road.env, RDMAKIT_FAULT: fault };
    return new Program(
      line.split(' ').flatMap((word) => (word === 'RDMAKIT' ? RDMAKIT : [values[word] ?? word])),
      { netns: end.netns, env, limit_ms: LIMIT_MS },
    );
  };
  const programs = [start(server, road.server)];
  try {
    const [first] = programs;
    if (!first) throw new Error('no server');
    await untilAsleep(first);
    const second = start(client, road.client);
    programs.push(second);
    const begun_ms = performance.now();
    const clientEnded = await second.ended;
    const took_ms = performance.now() - begun_ms;
    if (endless) first.kill('SIGKILL');
    const serverEnded = await first.ended;
    if (!endless) mustSucceed({ server: serverEnded, client: clientEnded });
    const ends: Ended[] = endless ? [clientEnded] : [clientEnded, serverEnded];
    for (const end of ends) {
      if (end.code !== 0 || !prints.test(end.stdout + end.stderr)) throw new Error(describeEnd(end));
    }
    if (clientPrints && !clientPrints.test(clientEnded.stdout)) throw new Error(describeEnd(clientEnded));
    return `${Math.round(took_ms)} ms`;
  } finally {
    for (const program of programs) if (program.alive) program.kill('SIGKILL');
  }
}

describe.each(ROADS)('%s', (name) => {
  for (const each of CASES.filter(({ fault }) => fault === undefined || name !== 'shm')) {
    test(each.name, () => report.note(each.name, name, () => runCase(roadOf(name), each)), TEST_LIMIT_MS);
  }

  test(
    'a client without a server is told so',
    async () => {
      const road = roadOf(name);
      const options = { netns: road.client.netns, env: road.env, limit_ms: LIMIT_MS };
      const ended = await new Program(['rping', '-c', '-a', road.address, '-C', '1'], options).ended;
      expect(ended.code).not.toBe(0);
      // Between namespaces no process is there, and it is the kernel that tells.
      expect(ended.stdout + ended.stderr).toContain(
        name === 'udp-veth' ? 'UNREACHABLE, error -111' : 'REJECTED',
      );
    },
    TEST_LIMIT_MS,
  );
});
