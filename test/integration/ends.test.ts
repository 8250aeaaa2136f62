/**
 * What happens to one end when the other is killed, stopped, busy or cut off, and what a killed process leaves behind.
 * `onesided` runs without end and prints its progress; what is done to its target shows in how it goes on.
 */

import { afterAll, afterEach, beforeAll, describe, expect, test } from 'bun:test';
import { readdirSync } from 'node:fs';
import { Network } from './lib/network.ts';
import { compileOwn, failedStatus, type OwnPrograms, ownFlags, parseOnesided } from './lib/own.ts';
import { freshPort, mustSucceed, runPair } from './lib/pair.ts';
import { describeEnd, listensOn, Program, run, sleep, until } from './lib/process.ts';
import { requireAll } from './lib/requirements.ts';
import { makeRoad, ROAD_DOC, type Road, type RoadName } from './lib/roads.ts';

const ROADS: readonly RoadName[] = ['shm', 'udp-veth'];
const LIMIT_MS = 30_000;
/** IBV_WC_RETRY_EXC_ERR: the other end does not answer; IBV_WC_WR_FLUSH_ERR: the queue pair was in error before the post. */
const RETRY_EXC = 12;
const FLUSHED = 5;
/** Exit codes of `onesided`: a work request failed; the client has gone. */
const WORK_FAILED = 4;
const CLIENT_GONE = 5;

const roads = new Map<RoadName, Road>();
let network: Network;
let own: OwnPrograms;
let started: Program[] = [];

beforeAll(async () => {
  requireAll(['gcc', 'ibv_devinfo', 'ibv_asyncwatch']);
  network = await Network.create();
  for (const name of ROADS) roads.set(name, await makeRoad(network, name));
  own = await compileOwn();
}, 60_000);

afterEach(() => {
  for (const program of started) if (program.alive) program.kill('SIGKILL');
  started = [];
});

afterAll(() => {
  network?.remove();
  own?.remove();
});

function roadOf(name: RoadName): Road {
  const road = roads.get(name);
  if (!road) throw new Error(`the road ${name} was not made`);
  return road;
}

interface Running {
  target: Program;
  client: Program;
}

/** Starts an endless `onesided` and waits until it is at work. `more` goes to the client: -t timeout code, -y retries. */
async function startEndless(road: Road, more: readonly string[] = []): Promise<Running> {
  const port = freshPort();
  const start = (netns: string, argv: string[]): Program => {
    const program = new Program(argv, { netns, env: road.env, limit_ms: LIMIT_MS });
    started.push(program);
    return program;
  };
  const target = start(road.server.netns, [own.onesided, ...ownFlags(road.server, port)]);
  await until('the target listens', () => !target.alive || listensOn(target.pid, port));
  const args = ['-n', '0', '-s', '8000', ...more];
  const client = start(road.client.netns, [
    own.onesided,
    ...ownFlags(road.client, port),
    ...args,
    road.address,
  ]);
  await moves(client);
  return { target, client };
}

const progress = (client: Program): number => Number(client.stdout.match(/.*progress (\d+)\n/s)?.[1] ?? 0);

/** Waits until it has done more than 500 operations from now: more than can have been under way. */
async function moves(client: Program): Promise<void> {
  const before = progress(client);
  await until('progress', () => !client.alive || progress(client) > before + 500);
  if (!client.alive) throw new Error(describeEnd(await client.ended));
}

/** Waits until it has stopped making progress for half a second. */
async function stalls(client: Program): Promise<void> {
  for (let before = -1; before !== progress(client); await sleep(500)) before = progress(client);
}

for (const name of ROADS) {
  describe(ROAD_DOC[name], () => {
    test(
      'the target is killed: the client gets an error completion',
      async () => {
        const { target, client } = await startEndless(roadOf(name));
        target.kill('SIGKILL');
        const ended = await client.ended;
        // In shared memory an operation is often done when its post returns: then nothing is outstanding that could fail.
        expect(name === 'shm' ? [RETRY_EXC, FLUSHED] : [RETRY_EXC]).toContain(
          failedStatus(ended.stdout) ?? -1,
        );
        expect(ended.code).toBe(WORK_FAILED);
      },
      LIMIT_MS,
    );

    test(
      'the client is killed: the target lives and serves the next one',
      async () => {
        const road = roadOf(name);
        const { target, client } = await startEndless(road);
        client.kill('SIGKILL');
        const { code, signal } = await target.ended;
        expect({ code, signal }).toEqual({ code: CLIENT_GONE, signal: null });
        const spec = { program: own.onesided, args: ['-n', '500'], flags: ownFlags, limit_ms: LIMIT_MS };
        const next = await runPair(road, spec);
        mustSucceed(next);
        expect(parseOnesided(next.client.stdout).mismatches).toBe(0);
      },
      LIMIT_MS,
    );

    test(
      'the target is stopped and continued within the time of the retries: nothing fails',
      async () => {
        const { target, client } = await startEndless(roadOf(name), ['-t', '18']);
        target.kill('SIGSTOP');
        await until('stopped', () => target.state() === 'T');
        await sleep(1000);
        target.kill('SIGCONT');
        await moves(client);
      },
      LIMIT_MS,
    );

    test(
      'the client is stopped and continued: nothing fails',
      async () => {
        const { client } = await startEndless(roadOf(name), ['-t', '18']);
        client.kill('SIGSTOP');
        await until('stopped', () => client.state() === 'T');
        await sleep(1000);
        client.kill('SIGCONT');
        await moves(client);
      },
      LIMIT_MS,
    );

    for (const mode of ['sleep', 'compute']) {
      test(
        `the target's threads ${mode}: one-sided operations need nothing of them`,
        async () => {
          const spec = { program: own.onesided, args: ['-n', '1600', '-m', mode], flags: ownFlags };
          const ended = await runPair(roadOf(name), { ...spec, limit_ms: LIMIT_MS });
          mustSucceed(ended);
          const result = parseOnesided(ended.client.stdout);
          expect(result).toEqual({ operations: 1600, mismatches: 0, sameHash: true });
        },
        LIMIT_MS,
      );
    }
  });
}

test(
  'shared memory: one-sided operations go on while the whole target process is stopped',
  async () => {
    const { target, client } = await startEndless(roadOf('shm'));
    target.kill('SIGSTOP');
    await until('stopped', () => target.state() === 'T');
    await moves(client);
    await moves(client);
    expect(target.state()).toBe('T');
  },
  LIMIT_MS,
);

test(
  'UDP: a target stopped for longer than the retries last is an error completion',
  async () => {
    const { target, client } = await startEndless(roadOf('udp-veth'), ['-t', '12', '-y', '2']);
    target.kill('SIGSTOP');
    const ended = await client.ended;
    expect(failedStatus(ended.stdout)).toBe(RETRY_EXC);
  },
  LIMIT_MS,
);

describe('the link goes down', () => {
  afterEach(async () => {
    await network.linkUp(network.a);
    await network.settled();
  });

  test(
    'and up again within the time of the retries: the work goes on',
    async () => {
      const { client } = await startEndless(roadOf('udp-veth'), ['-t', '18']);
      await network.linkDown(network.a);
      await stalls(client);
      await network.linkUp(network.a);
      await moves(client);
    },
    LIMIT_MS,
  );

  test(
    'for good: an error completion',
    async () => {
      const { client } = await startEndless(roadOf('udp-veth'));
      await network.linkDown(network.a);
      expect(failedStatus((await client.ended).stdout)).toBe(RETRY_EXC);
    },
    LIMIT_MS,
  );

  test(
    'ibv_asyncwatch sees the port go and come',
    async () => {
      const { netns, device } = network.a;
      const options = { netns, env: network.env(), limit_ms: LIMIT_MS };
      const watch = new Program(['stdbuf', '-oL', 'ibv_asyncwatch', '-d', device], options);
      started.push(watch);
      await until('it watches', () => !watch.alive || watch.stdout.includes('async event FD'));
      await network.linkDown(network.a);
      await until('port error', () => !watch.alive || watch.stdout.includes('PORT_ERR'));
      await network.linkUp(network.a);
      await until('port active', () => !watch.alive || watch.stdout.includes('PORT_ACTIVE'));
      expect(watch.alive).toBe(true);
    },
    LIMIT_MS,
  );
});

describe('after kill -9 of both ends', () => {
  test.each([...ROADS])(
    '%s: nothing is left in /dev/shm, and the next process clears the private directory',
    async (name) => {
      const road = roadOf(name);
      const before = new Set(readdirSync('/dev/shm'));
      const { target, client } = await startEndless(road);
      for (const end of [target, client]) end.kill('SIGKILL');
      await Promise.all([target.ended, client.ended]);
      const added = readdirSync('/dev/shm').filter((file) => !before.has(file));
      expect(added.filter((file) => /^(rk|rdmakit|net-)/.test(file))).toEqual([]);
      for (const { netns } of [network.a, network.b]) {
        expect((await run(['ibv_devinfo'], { netns, env: road.env })).code).toBe(0);
      }
      // One file a network namespace, empty of life; see the registry of c/softrdma/shm.
      const left = readdirSync(network.runtimeDir).filter((file) => !/^net-\d+$/.test(file));
      expect(left).toEqual([]);
    },
    LIMIT_MS,
  );
});
