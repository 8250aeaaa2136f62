/** socket-run between two hosts: connections move to an RC queue pair and back, and a plain peer notices nothing. */

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { socketLibrary } from '../../ffi/paths.ts';
import type { RunReport } from '../../src/sockets/report.ts';
import { Capture, type Captured } from './lib/capture.ts';
import { type Host, Network } from './lib/network.ts';
import { freshPort } from './lib/pair.ts';
import { isConnectedAt, listensOn, Program, sleep, until } from './lib/process.ts';
import { requireAll } from './lib/requirements.ts';

const LIMIT_MS = 60_000;
setDefaultTimeout(LIMIT_MS);
const BYTES = 32 << 20;
const cli = [process.execPath, join(fileURLToPath(new URL('../..', import.meta.url)), 'src/cli.ts')];
const exchange = ['python3', join(fileURLToPath(new URL('programs', import.meta.url)), 'exchange.py')];
let network: Network;
let folder: string;
let data: Buffer;
/** Each host's own runtime directory: nothing is shared but the wire. */
const runtime = new Map<Host, string>();

beforeAll(async () => {
  requireAll(['socat', 'python3', 'tcpdump', 'nginx', 'ab', 'wrk']);
  network = await Network.create();
  folder = mkdtempSync(join(tmpdir(), 'socket-remote-'));
  data = randomBytes(BYTES);
  writeFileSync(join(folder, 'data'), data);
  for (const host of [network.a, network.b]) runtime.set(host, mkdtempSync(join(folder, 'run-')));
});
afterAll(() => {
  network?.remove();
  rmSync(folder, { recursive: true, force: true });
});

const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

interface Choice {
  accelerated: boolean;
  env?: Record<string, string>;
}

function start(host: Host, argv: readonly string[], { accelerated, env }: Choice): Program {
  const own = { RDMAKIT_RUNTIME_DIR: runtime.get(host) ?? '', ...env };
  return new Program(argv, {
    netns: host.netns,
    env: accelerated ? { ...own, LD_PRELOAD: socketLibrary() } : own,
    limit_ms: LIMIT_MS,
  });
}

const ALWAYS = { RDMAKIT_SOCKET_RING: 'always' };
/** Changes of the road at random, and failures of the queue pair. */
const RANDOM = { RDMAKIT_SOCKET_RING: 'random' };
const MODES: [string, Choice, Choice][] = [
  ['both ends, every byte that can', { accelerated: true, env: ALWAYS }, { accelerated: true, env: ALWAYS }],
  ['both ends, by measurement', { accelerated: true }, { accelerated: true }],
  [
    'both ends, roads changed at random',
    { accelerated: true, env: RANDOM },
    { accelerated: true, env: RANDOM },
  ],
  ['only the server', { accelerated: true, env: ALWAYS }, { accelerated: false }],
  ['only the client', { accelerated: false }, { accelerated: true, env: ALWAYS }],
];

async function listening(server: Program, port: number): Promise<void> {
  await until('the server listens', () => !server.alive || listensOn(server.pid, port));
}

describe.each(MODES)('%s', (_, server, client) => {
  test.each(['ipv4', 'ipv6'] as const)('socat moves a file over %s', async (family) => {
    const port = freshPort();
    const out = join(folder, `out-${port}`);
    const [kind, address] = family === 'ipv4' ? ['TCP4', network.b.ipv4] : ['TCP6', `[${network.b.ipv6}]`];
    const receiver = start(network.b, ['socat', '-u', `${kind}-LISTEN:${port}`, `CREATE:${out}`], server);
    await listening(receiver, port);
    const source = `FILE:${join(folder, 'data')}`;
    const sender = start(network.a, ['socat', '-u', source, `${kind}:${address}:${port}`], client);
    expect(await sender.ended).toMatchObject({ code: 0, stderr: '' });
    expect(await receiver.ended).toMatchObject({ code: 0, stderr: '' });
    expect(sha256(readFileSync(out))).toBe(sha256(data));
  });

  test('question and answer, every byte checked', async () => {
    const port = freshPort();
    const [host, rounds] = [network.b.ipv4, '4000'];
    const answering = start(network.b, [...exchange, 'answer', host, `${port}`], server);
    await listening(answering, port);
    const asking = start(network.a, [...exchange, 'ask', host, `${port}`, rounds], client);
    expect(await asking.ended).toMatchObject({ code: 0, stderr: '' });
    expect(await answering.ended).toMatchObject({ code: 0, stderr: '' });
  });
});

/** nginx, whose sets are edge-triggered and whose workers sleep between requests, asked by programs that take a vain wake-up for an error. */
test.each([
  ['every byte that can', ALWAYS],
  ['by measurement', {}],
])('kept HTTP connections, %s', async (_, env) => {
  const port = freshPort();
  const root = mkdtempSync(join(folder, 'nginx-'));
  writeFileSync(join(root, 'small'), randomBytes(1024));
  writeFileSync(join(root, 'large'), randomBytes(1 << 20));
  writeFileSync(
    join(root, 'conf'),
    `daemon off; user root; worker_processes 4; error_log ${root}/error.log; pid ${root}/pid; events { worker_connections 512; }
     http { access_log off; keepalive_requests 1000000; sendfile on;
       ${['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `${name}_temp_path ${root}/${name};`).join(' ')}
       server { listen ${port}; root ${root}; } }`,
  );
  const choice = { accelerated: true, env };
  const nginx = start(network.b, ['nginx', '-e', 'stderr', '-p', root, '-c', join(root, 'conf')], choice);
  await listening(nginx, port);
  const url = `http://${network.b.ipv4}:${port}`;
  for (let i = 0; i < 4; i++) {
    const ab = await start(network.a, ['ab', '-q', '-k', '-n', '3000', '-c', '8', `${url}/small`], choice)
      .ended;
    expect(ab).toMatchObject({ code: 0 });
    expect(ab.stdout).toMatch(/Complete requests:\s+3000\nFailed requests:\s+0\n/);
  }
  for (const [connections, file] of [
    ['50', 'small'],
    ['4', 'large'],
  ]) {
    const argv = ['wrk', '-t', '1', '-c', `${connections}`, '-d', '1', `${url}/${file}`];
    const wrk = await start(network.a, argv, choice).ended;
    expect(wrk).toMatchObject({ code: 0 });
    expect(wrk.stdout).toMatch(/^Requests\/sec:\s+[1-9]/m);
    expect(wrk.stdout).not.toMatch(/Socket errors|Non-2xx/);
  }
  nginx.kill('SIGTERM');
  await nginx.ended;
});

test('the report names the queue pair, or why there is none', async () => {
  const report = async (server: Choice, wrapped: readonly string[] = [], flags: readonly string[] = []) => {
    const port = freshPort();
    const file = join(folder, `report-${port}.json`);
    const answer = [...wrapped, ...exchange, 'answer', network.b.ipv4, `${port}`];
    const answering = start(network.b, answer, server);
    await listening(answering, port);
    const run = [...cli, 'socket-run', ...flags, '--report-json', file, '--'];
    const ask = [...exchange, 'ask', network.b.ipv4, `${port}`, '10000'];
    const asking = start(network.a, [...run, ...ask], { accelerated: false, env: ALWAYS });
    expect(await asking.ended).toMatchObject(flags.length === 0 ? { code: 0, stderr: '' } : { code: 0 });
    expect(await answering.ended).toMatchObject({ code: 0 });
    const [one] = (JSON.parse(readFileSync(file, 'utf8')) as RunReport).connections;
    return one;
  };
  const verify = [...cli, 'socket-run', '--verify', '--'];
  const hashed = await report({ accelerated: false, env: ALWAYS }, verify, ['--verify']);
  const { ring_bytes = 0, verify: compared } = hashed?.received ?? {};
  expect(hashed).toMatchObject({ transport: 'rc', sent: { verify: null } });
  expect(compared).toMatchObject({ mismatches: 0 });
  expect(ring_bytes).toBeGreaterThan(1_000_000);
  expect(compared?.verified_bytes).toBeGreaterThan(0.99 * ring_bytes);
  const both = await report({ accelerated: true, env: ALWAYS });
  expect(both).toMatchObject({ accelerated: true, transport: 'rc', peer: { library: true } });
  expect(both?.sent.ring_bytes).toBeGreaterThan(100_000);
  expect(both?.received.ring_bytes).toBeGreaterThan(100_000);
  const alone = await report({ accelerated: false });
  expect(alone).toMatchObject({ accelerated: false, transport: 'kernel', sent: { ring_bytes: 0 } });
  expect(alone?.reasons.map(({ code }) => code)).toEqual(['no-answer']);
});

test.each(['asking', 'answering'] as const)(
  'the %s end is killed: the other one is told at once',
  async (who) => {
    const port = freshPort();
    const choice = { accelerated: true, env: ALWAYS };
    const answering = start(network.b, [...exchange, 'answer', network.b.ipv4, `${port}`], choice);
    await listening(answering, port);
    const asking = start(network.a, [...exchange, 'ask', network.b.ipv4, `${port}`, '100000000'], choice);
    await until('they are connected', () => isConnectedAt(answering.pid, port), LIMIT_MS);
    await sleep(500);
    const list = start(network.a, [...cli, 'socket-run', 'ps', '--json'], { accelerated: false });
    const { connections } = JSON.parse((await list.ended).stdout) as RunReport;
    expect(connections).toMatchObject([{ remote: `${network.b.ipv4}:${port}`, transport: 'rc' }]);
    const [killed, left] = who === 'asking' ? [asking, answering] : [answering, asking];
    expect(left.alive).toBe(true);
    const before = performance.now();
    killed.kill('SIGKILL');
    const ended = await left.ended;
    expect(ended.timedOut).toBe(false);
    // Generous for a busy machine; what waits for time-outs of the queue pair takes longer.
    expect(performance.now() - before).toBeLessThan(3000);
  },
);

describe('a plain peer', () => {
  /** Hosts of its own: a kernel limits how many datagrams it returns, and the tests before cause some. */
  let network: Network;
  beforeAll(async () => {
    network = await Network.create();
    for (const host of [network.a, network.b]) runtime.set(host, mkdtempSync(join(folder, 'run-')));
  });
  afterAll(() => network?.remove());

  /** What passes its interface while the other host, accelerated or not, asks the same questions. */
  async function seen(server: Choice, client: Choice): Promise<Captured> {
    const port = freshPort();
    const filter = `(tcp port ${port}) or udp or icmp`;
    const capture = await Capture.start(network.b, filter, join(folder, `capture-${port}`));
    const answering = start(network.b, [...exchange, 'answer', network.b.ipv4, `${port}`], server);
    await listening(answering, port);
    const asking = start(network.a, [...exchange, 'ask', network.b.ipv4, `${port}`, '300'], client);
    for (const end of [asking, answering]) expect(await end.ended).toMatchObject({ code: 0, stderr: '' });
    const captured = await capture.stop();
    captured.streams.sort(({ from }) => (from === `${network.b.ipv4}:${port}` ? 1 : -1));
    return captured;
  }
  const plain: Choice = { accelerated: false };
  const accelerated: Choice = { accelerated: true, env: ALWAYS };

  test.each([
    ['the server', plain, accelerated],
    ['the client', accelerated, plain],
  ] as const)(
    '%s: its TCP connection carries what it carries without the library, byte for byte',
    async (_, server, client) => {
      const [natively, captured] = [await seen(plain, plain), await seen(server, client)];
      const payloads = ({ streams }: Captured) => streams.map(({ bytes }) => sha256(bytes));
      expect(natively.streams.map(({ bytes }) => bytes.length > 100_000)).toEqual([true, true]);
      expect(payloads(captured)).toEqual(payloads(natively));
      expect(natively.datagrams).toEqual([]);
      // Besides, one question to a port that nobody has: the answer ends the search.
      const [from, to] = client.accelerated
        ? [network.a.ipv4, network.b.ipv4]
        : [network.b.ipv4, network.a.ipv4];
      expect(captured.datagrams).toEqual([
        { protocol: 'udp', from, to, port: 4796 },
        { protocol: 'icmp', from: to, to: from, port: 0 },
      ]);
    },
  );
});
