/** Who may do what: no root is needed, a small memlock limit does not matter, and one user's processes are closed to others. */

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { chmodSync, chownSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Network } from './lib/network.ts';
import { freshPort, pingpongFlags } from './lib/pair.ts';
import { parsePingpong } from './lib/parse.ts';
import { describeEnd, type Ended, listensOn, Program, run, until } from './lib/process.ts';
import { requireAll, SOFT_DIR } from './lib/requirements.ts';
import { type End, makeRoad, type Road, type RoadName } from './lib/roads.ts';

/** User and group ids that own nothing here. */
const NOBODY = 65534;
const STRANGER = 65533;
const PINGPONG_ARGS = ['-c', '-e', '-s', '1048576', '-n', '20'];
const LIMIT_MS = 20_000;

const roads = new Map<RoadName, Road>();
const folders: string[] = [];
let network: Network;

beforeAll(async () => {
  requireAll(['setpriv', 'prlimit', 'ibv_rc_pingpong', 'ibv_devinfo']);
  network = await Network.create();
  for (const name of ['shm', 'udp-veth'] as const) roads.set(name, await makeRoad(network, name));
}, 60_000);

afterAll(() => {
  network?.remove();
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

/** A private directory of this user, and the libraries at a place that this user may read. */
function environmentOf(uid: number, road: Road): Record<string, string> {
  const folder = mkdtempSync(join(tmpdir(), `rk${process.pid}-user-`));
  folders.push(folder);
  chmodSync(folder, 0o700);
  chownSync(folder, uid, uid);
  return { ...road.env, RDMAKIT_RUNTIME_DIR: folder, HOME: folder };
}

/** As this user, with at most 64 KiB of locked memory. */
const asUser = (uid: number): string[] => [
  ...['prlimit', '--memlock=65536:65536', '--'],
  ...[
    'setpriv',
    '--reuid',
    `${uid}`,
    '--regid',
    `${uid}`,
    '--clear-groups',
    '--inh-caps=-all',
    '--bounding-set=-all',
    '--',
  ],
];

interface Side {
  prefix: readonly string[];
  env: Record<string, string>;
}

/** A pingpong whose ends may be of different users. */
async function pingpong(road: Road, server: Side, client: Side): Promise<{ server: Ended; client: Ended }> {
  const port = freshPort();
  const start = (end: End, { prefix, env }: Side, more: readonly string[]): Program => {
    const argv = [...prefix, 'ibv_rc_pingpong', ...pingpongFlags(end, port), ...PINGPONG_ARGS, ...more];
    return new Program(argv, { netns: end.netns, env, limit_ms: LIMIT_MS });
  };
  const first = start(road.server, server, []);
  await until('the server listens', () => !first.alive || listensOn(first.pid, port));
  const second = start(road.client, client, [road.address]);
  return { client: await second.ended, server: await first.ended };
}

function roadOf(name: RoadName): Road {
  const road = roads.get(name);
  if (!road) throw new Error(`the road ${name} was not made`);
  return road;
}

test('the libraries can be read by everybody, or the tests below would test nothing', async () => {
  const ended = await run([...asUser(NOBODY), 'cat', join(SOFT_DIR, 'libibverbs.so.1')], {
    limit_ms: LIMIT_MS,
  });
  if (ended.code !== 0)
    throw new Error(`an ordinary user cannot read ${SOFT_DIR}: ${describeEnd(ended).slice(-300)}`);
});

describe('an ordinary user with 64 KiB of lockable memory', () => {
  test.each(['shm', 'udp-veth'] as const)(
    'exchanges messages of 1 MiB: %s',
    async (name) => {
      const road = roadOf(name);
      const env = environmentOf(NOBODY, road);
      const side = { prefix: asUser(NOBODY), env };
      const { server, client } = await pingpong(road, side, side);
      for (const end of [server, client]) {
        if (end.code !== 0) throw new Error(describeEnd(end));
        expect(parsePingpong(end.stdout + end.stderr).iterations).toBe(20);
      }
    },
    LIMIT_MS * 2,
  );
});

describe('another user', () => {
  test('finds the private directory 0700 and all in it 0600', async () => {
    const road = roadOf('shm');
    const env = environmentOf(NOBODY, road);
    const port = freshPort();
    const argv = [...asUser(NOBODY), 'ibv_rc_pingpong', ...pingpongFlags(road.server, port)];
    const server = new Program(argv, { netns: road.server.netns, env, limit_ms: LIMIT_MS });
    try {
      await until('the server listens', () => !server.alive || listensOn(server.pid, port));
      const folder = env.RDMAKIT_RUNTIME_DIR ?? '';
      expect((statSync(folder).mode & 0o777).toString(8)).toBe('700');
      const files = readdirSync(folder);
      expect(files.length).toBeGreaterThan(0);
      for (const file of files) expect(statSync(join(folder, file)).mode & 0o077).toBe(0);
      const open = await run([...asUser(STRANGER), 'ls', folder]);
      expect(open.code).not.toBe(0);
    } finally {
      server.kill('SIGKILL');
      await server.ended;
    }
  });

  test(
    'cannot join by naming the directory: refused with a reason, and the owner is not disturbed',
    async () => {
      const road = roadOf('shm');
      const env = environmentOf(NOBODY, road);
      const owner = { prefix: asUser(NOBODY), env };
      const stranger = await run([...asUser(STRANGER), 'ibv_rc_pingpong', ...pingpongFlags(road.server, 1)], {
        netns: road.server.netns,
        env,
        limit_ms: LIMIT_MS,
      });
      expect(stranger.timedOut).toBe(false);
      expect(stranger.code).not.toBe(0);
      const { client } = await pingpong(road, owner, owner);
      expect(client.code).toBe(0);
    },
    LIMIT_MS * 2,
  );
});
