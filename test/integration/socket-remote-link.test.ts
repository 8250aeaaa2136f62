/**
 * socket-run between two hosts whose link goes down again and again, or loses, doubles, delays and reorders frames: streams in both directions
 * at once arrive byte for byte. SOCKET_LINK_DOWNS says how often the link goes down (default 5).
 */

import { afterEach, beforeAll, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { RunReport } from '../../src/sockets/report.ts';
import { type Host, Network, type Weather } from './lib/network.ts';
import { freshPort } from './lib/pair.ts';
import { listensOn, Program, sleep, until } from './lib/process.ts';
import { ROOT, requireAll } from './lib/requirements.ts';

const DOWNS = Number(process.env.SOCKET_LINK_DOWNS ?? 5);
const CONNECTIONS = 4;
const LIMIT_MS = 60_000 + DOWNS * 10_000;
setDefaultTimeout(LIMIT_MS);
const duplex = ['python3', join(ROOT, 'test/integration/programs/duplex.py')];
const cli = [process.execPath, join(ROOT, 'src/cli.ts')];

let network: Network | undefined;
let folder = '';

beforeAll(() => requireAll(['python3']));
afterEach(() => {
  network?.remove();
  network = undefined;
  rmSync(folder, { recursive: true, force: true });
});

async function makeHosts(weather?: Weather): Promise<Network> {
  network = await Network.create(weather ? { weather } : {});
  folder = mkdtempSync(join(tmpdir(), 'socket-remote-link-'));
  return network;
}

/** Each host has its own: nothing is shared but the wire. */
function runtime({ netns }: Host): string {
  const own = join(folder, netns);
  mkdirSync(own, { recursive: true, mode: 0o700 });
  return own;
}

/** Both ends of a stream in each direction, the asking end for so many seconds. */
interface Stream {
  asking: Program;
  answering: Program;
  report: string;
}

async function startStream({ a, b }: Network, seconds: number, number: number): Promise<Stream> {
  const port = freshPort();
  const report = join(folder, `report-${port}.json`);
  const start = (host: Host, mode: string, seed: number, more: string[]): Program => {
    const arguments_ = [mode, b.ipv4, `${port}`, `${seconds}`, `${seed}`];
    return new Program([...cli, 'socket-run', ...more, '--', ...duplex, ...arguments_], {
      netns: host.netns,
      env: { RDMAKIT_RUNTIME_DIR: runtime(host), RDMAKIT_SOCKET_RING: 'always' },
      limit_ms: LIMIT_MS,
    });
  };
  const answering = start(b, 'answer', 2 * number, []);
  await until('the server listens', () => !answering.alive || listensOn(answering.pid, port));
  return { asking: start(a, 'ask', 2 * number + 1, ['--report-json', report]), answering, report };
}

/** Every byte that one end has sent, the other one has received and found right; and queue pairs have carried many of them. */
async function mustBeWhole({ asking, answering, report }: Stream, ring_bytes: number): Promise<void> {
  const ends = await Promise.all([asking.ended, answering.ended]);
  for (const end of ends) expect(end).toMatchObject({ code: 0, stderr: '' });
  const [ask = [], answer = []] = ends.map(({ stdout }) => stdout.trim().split(' '));
  expect(ask).toEqual(answer.toReversed());
  const [connection] = (JSON.parse(readFileSync(report, 'utf8')) as RunReport).connections;
  expect(connection?.sent.ring_bytes).toBeGreaterThan(ring_bytes);
  expect(connection?.received.ring_bytes).toBeGreaterThan(ring_bytes);
}

test(`the link goes down ${DOWNS} times`, async () => {
  const hosts = await makeHosts();
  const { a, b } = hosts;
  const downs = Array.from({ length: DOWNS }, () => ({
    host: Math.random() < 0.5 ? a : b,
    before_ms: 300 + 900 * Math.random(),
    down_ms: 200 + (DOWNS > 5 ? 3800 : 1800) * Math.random() ** 2,
  }));
  const seconds = 1 + downs.reduce((sum, { before_ms, down_ms }) => sum + before_ms + down_ms, 0) / 1000;
  const streams: Stream[] = [];
  for (let number = 0; number < CONNECTIONS; number++)
    streams.push(await startStream(hosts, seconds, number));
  for (const { host, before_ms, down_ms } of downs) {
    await sleep(before_ms);
    await hosts.linkDown(host);
    await sleep(down_ms);
    await hosts.linkUp(host);
  }
  for (const stream of streams) await mustBeWhole(stream, 100_000);
});

const WEATHERS: [string, Weather, number][] = [
  ['1 % of all frames are lost', { loss_percent: 1 }, 100_000],
  ['5 % are lost', { loss_percent: 5 }, 10_000],
  ['20 ms of delay', { delay_ms: 20 }, 10_000],
  ['frames are reordered and doubled', { delay_ms: 2, reorder_percent: 5, duplicate_percent: 5 }, 10_000],
  [
    'all of it',
    { delay_ms: 5, jitter_ms: 2, loss_percent: 1, duplicate_percent: 1, reorder_percent: 2 },
    10_000,
  ],
];

test.each(WEATHERS)('%s', async (_, weather, ring_bytes) => {
  const hosts = await makeHosts(weather);
  const streams = [await startStream(hosts, 2, 0), await startStream(hosts, 2, 1)];
  for (const stream of streams) await mustBeWhole(stream, ring_bytes);
});
