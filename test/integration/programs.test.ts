/**
 * Debian's own RDMA programs on the embedded device: nobody here wrote them, so they say what a verbs program expects.
 * Every mode on every road, both ends' exit codes and results read; the table of it is printed at the end.
 */

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { type Case, fits, PERFTESTS, PINGPONGS } from './lib/cases.ts';
import { Network } from './lib/network.ts';
import { mustSucceed, perftestFlags, pingpongFlags, runPair } from './lib/pair.ts';
import { parsePerftest, parsePingpong } from './lib/parse.ts';
import { mustRun } from './lib/process.ts';
import { Report } from './lib/report.ts';
import { requireAll } from './lib/requirements.ts';
import { makeRoad, ROAD_DOC, type Road, type RoadName } from './lib/roads.ts';

const ROADS = Object.keys(ROAD_DOC) as RoadName[];
/** The many perftest modes over UDP run between namespaces; compat.test.ts has the usual ones over UDP on one host. */
const PERFTEST_ROADS = ROADS.filter((name) => name !== 'udp-loop');
const LIMIT_MS = 15_000;
/** Above the limits of the programs, whose ends say more than that of the test. */
const TEST_LIMIT_MS = 90_000;
/** Iterations of the cases that do not say: enough to wrap the queues, few enough for a machine that does other work too. */
const PINGPONG_ITERATIONS = 300;
const PERFTEST_ITERATIONS = 1000;
/** Columns of perftest's tables after bytes and iterations. */
const COLUMNS = { bw: 3, lat: 7 };

const pingpongs = new Report('pingpong (us/iteration)', ROADS);
const perftests = new Report('perftest (MB/s, us)', PERFTEST_ROADS);
const roads = new Map<RoadName, Road>();
let network: Network;

beforeAll(async () => {
  requireAll([
    ...new Set([...PINGPONGS, ...PERFTESTS].map(({ program }) => program)),
    'ibv_devinfo',
    'ibv_devices',
  ]);
  network = await Network.create();
  for (const name of ROADS) roads.set(name, await makeRoad(network, name));
}, 60_000);

afterAll(() => {
  network?.remove();
  pingpongs.print();
  perftests.print();
});

function roadOf(name: RoadName): Road {
  const road = roads.get(name);
  if (!road) throw new Error(`the road ${name} was not made`);
  return road;
}

const title = ({ program, args }: Case): string => [program, ...args].join(' ');

const withIterations = (args: readonly string[], iterations: number): readonly string[] =>
  args.includes('-n') ? args : [...args, '-n', `${iterations}`];

async function pingpong(road: Road, { program, args, limit_ms = LIMIT_MS }: Case): Promise<string> {
  const counted = withIterations(args, PINGPONG_ITERATIONS);
  const ended = await runPair(road, { program, args: counted, flags: pingpongFlags, limit_ms });
  mustSucceed(ended);
  const ends = [ended.server, ended.client].map(({ stdout, stderr }) => parsePingpong(stdout + stderr));
  for (const end of ends) {
    expect(end.iterations).toBeGreaterThan(0);
    expect(end.bytes).toBeGreaterThanOrEqual(end.iterations);
    expect(end.usecPerIteration).toBeGreaterThan(0);
  }
  return `${ends[1]?.usecPerIteration}`;
}

async function perftest(road: Road, { program, args, limit_ms = LIMIT_MS }: Case): Promise<string> {
  const counted = withIterations(args, PERFTEST_ITERATIONS);
  const ended = await runPair(road, { program, args: counted, flags: perftestFlags, limit_ms });
  mustSucceed(ended);
  const rows = parsePerftest(ended.client.stdout);
  const latency = program.endsWith('_lat');
  for (const { bytes, iterations, values } of rows) {
    expect(bytes).toBeGreaterThan(0);
    expect(iterations).toBeGreaterThan(0);
    expect(values).toHaveLength(latency ? COLUMNS.lat : COLUMNS.bw);
    const [first = 0, second = 0, third = 0] = values;
    // Two digits are printed: a few tiny messages on a busy machine are 0.00 MB/s. The largest size may not be.
    expect(third).toBeGreaterThan(0);
    if (bytes >= 65536) expect(second).toBeGreaterThan(0);
    if (latency) expect(second).toBeGreaterThanOrEqual(first);
  }
  // Sizes 2, 4, 8 ... 8 MiB.
  const sizes = args.includes('-a') ? 23 : 1;
  if (rows.length !== sizes)
    throw new Error(`${rows.length} rows instead of ${sizes} in:\n${ended.client.stdout}`);
  const last = rows.at(-1)?.values ?? [];
  return `${latency ? last[2] : last[1]}`;
}

describe('ibverbs-utils', () => {
  test('ibv_devices lists a device for each interface', async () => {
    const text = await mustRun(['ibv_devices'], { netns: network.a.netns, env: network.env() });
    const names = text.split('\n').flatMap((line) => line.match(/^\s+(rk_\S+)\s+[0-9a-f]{16}$/)?.[1] ?? []);
    expect(names.sort()).toEqual(['rk_lo', network.a.device]);
  });

  test('ibv_devinfo -v shows an active RoCE port with the addresses of its interface', async () => {
    const { a } = network;
    const text = await mustRun(['ibv_devinfo', '-v', '-d', a.device], { netns: a.netns, env: network.env() });
    expect(text).toContain('PORT_ACTIVE (4)');
    expect(text).toMatch(/link_layer:\s+Ethernet/);
    expect(text).toMatch(/active_mtu:\s+1024 \(3\)/);
    for (const gid of [`::ffff:${a.ipv4}`, a.ipv6, 'fe80::']) expect(text).toContain(gid);
  });

  for (const name of ROADS) {
    describe(ROAD_DOC[name], () => {
      for (const mode of PINGPONGS.filter((each) => fits(each, name))) {
        test(
          title(mode),
          () => pingpongs.note(title(mode), name, () => pingpong(roadOf(name), mode)),
          TEST_LIMIT_MS,
        );
      }
    });
  }
});

describe('perftest', () => {
  for (const name of PERFTEST_ROADS) {
    describe(ROAD_DOC[name], () => {
      for (const mode of PERFTESTS.filter((each) => fits(each, name))) {
        test(
          title(mode),
          () => perftests.note(title(mode), name, () => perftest(roadOf(name), mode)),
          TEST_LIMIT_MS,
        );
      }
    });
  }
});
