/** socket-run between two hosts, UDP: datagrams move to the UD queue pairs and back, none is changed, and a plain peer notices nothing. */

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { socketLibrary } from '../../ffi/paths.ts';
import type { RunReport } from '../../src/sockets/report.ts';
import { Capture } from './lib/capture.ts';
import { type Host, Network } from './lib/network.ts';
import { freshPort } from './lib/pair.ts';
import { listensOn, Program, until } from './lib/process.ts';
import { requireAll } from './lib/requirements.ts';

const LIMIT_MS = 60_000;
setDefaultTimeout(LIMIT_MS);
const datagrams = ['python3', join(fileURLToPath(new URL('programs', import.meta.url)), 'datagrams.py')];
const cli = [process.execPath, join(fileURLToPath(new URL('../..', import.meta.url)), 'src/cli.ts')];
let network: Network;
let folder: string;
/** Each host's own runtime directory: nothing is shared but the wire. */
const runtime = new Map<Host, string>();

beforeAll(async () => {
  requireAll(['python3', 'tcpdump', 'sockperf']);
  network = await Network.create();
  folder = mkdtempSync(join(tmpdir(), 'socket-remote-udp-'));
  for (const host of [network.a, network.b]) runtime.set(host, mkdtempSync(join(folder, 'run-')));
});
afterAll(() => {
  network?.remove();
  rmSync(folder, { recursive: true, force: true });
});

/** `library`: preloaded; `report`: under socket-run, which writes its report into a file. */
interface Choice {
  how: 'plain' | 'library' | 'report';
  ring?: 'always';
}

interface Started {
  program: Program;
  report: () => RunReport;
}

function start(host: Host, argv: readonly string[], { how, ring }: Choice): Started {
  const file = join(folder, `report-${freshPort()}.json`);
  const env = {
    RDMAKIT_RUNTIME_DIR: runtime.get(host) ?? '',
    ...(ring ? { RDMAKIT_SOCKET_RING: ring } : {}),
    ...(how === 'library' ? { LD_PRELOAD: socketLibrary() } : {}),
  };
  const run = how === 'report' ? [...cli, 'socket-run', '--report-json', file, '--'] : [];
  const program = new Program([...run, ...argv], { netns: host.netns, env, limit_ms: LIMIT_MS });
  return { program, report: () => JSON.parse(readFileSync(file, 'utf8')) as RunReport };
}

async function bound(server: Program, port: string): Promise<void> {
  await until('the receiver is bound', () => !server.alive || listensOn(server.pid, Number(port)));
}

const ALWAYS: Choice = { how: 'report', ring: 'always' };

/** Starts both ends of programs/datagrams.py. */
async function pair(family: 'ipv4' | 'ipv6', what: string[], answering: Choice, asking: Choice) {
  const port = `${freshPort()}`;
  const address = network.b[family];
  const server = start(network.b, [...datagrams, 'answer', address, port], answering);
  await bound(server.program, port);
  const [name = '', ...rest] = what;
  const client = start(network.a, [...datagrams, name, address, port, ...rest], asking);
  return { server, client };
}

describe.each([
  ['ipv4', ALWAYS, ALWAYS],
  ['ipv6', ALWAYS, ALWAYS],
  ['ipv4', { how: 'report' }, { how: 'report' }],
  ['ipv4', { how: 'plain' }, ALWAYS],
  ['ipv4', ALWAYS, { how: 'plain' }],
] as ['ipv4' | 'ipv6', Choice, Choice][])('%s, %o answers, %o asks', (family, answering, asking) => {
  test('questions and answers of all sizes, every byte checked', async () => {
    const { server, client } = await pair(family, ['ask', '4000'], answering, asking);
    const asked = await client.program.ended;
    expect(asked).toMatchObject({ code: 0, stderr: '' });
    const [sent, again] = asked.stdout.split(' ').map(Number);
    expect(sent).toBeGreaterThan(1_000_000);
    // The kernel may lose some, too, when buffers are full.
    expect(again).toBeLessThan(20);
    expect(await server.program.ended).toMatchObject({ code: 0, stderr: '' });
    const both = answering.ring && asking.ring;
    for (const end of [server, client]) {
      const choice = end === server ? answering : asking;
      if (choice.how !== 'report') continue;
      const [socket] = end.report().connections;
      if (both) {
        expect(socket).toMatchObject({ protocol: 'udp', accelerated: true, transport: 'ud' });
        // How many depends on how often a receiver is awake: on a busy machine few.
        expect((socket?.sent.datagrams ?? 0) + (socket?.received.datagrams ?? 0)).toBeGreaterThan(0);
      } else if (answering.how === 'plain' || asking.how === 'plain') {
        expect(socket).toMatchObject({ accelerated: false, transport: 'kernel' });
      }
    }
  });
});

test('a stream in one direction: the receiver sleeps and wakes, and nothing comes out of order', async () => {
  const count = 10_000;
  const { server, client } = await pair('ipv4', ['stream', `${count}`], ALWAYS, ALWAYS);
  expect(await client.program.ended).toMatchObject({ code: 0, stderr: '' });
  const taken = await server.program.ended;
  expect(taken).toMatchObject({ code: 0, stderr: '' });
  const [came = 0, late] = taken.stdout.split(' ').map(Number);
  expect(came).toBeGreaterThan(count * 0.9);
  expect(late).toBe(0);
  const [socket] = client.report().connections;
  expect(socket).toMatchObject({ transport: 'ud' });
  expect(socket?.sent.datagrams).toBeGreaterThan(100);
});

test('a receiver that is killed: the sender is refused, as by the kernel', async () => {
  const { server, client } = await pair(
    'ipv4',
    ['until-refused'],
    { how: 'library', ring: 'always' },
    ALWAYS,
  );
  await until('some answers have come', () => !client.program.alive || client.program.stdout !== '');
  server.program.kill('SIGKILL');
  const ended = await client.program.ended;
  expect(ended).toMatchObject({ code: 0, stderr: '' });
  expect(ended.stdout).toMatch(/^going\nrefused \d+\n$/);
  expect(client.report().connections[0]).toMatchObject({ accelerated: true, transport: 'ud' });
});

test('sockperf, by measurement, loses nothing', async () => {
  const port = `${freshPort()}`;
  const server = start(network.b, ['sockperf', 'server', '-i', network.b.ipv4, '-p', port], {
    how: 'library',
  });
  await bound(server.program, port);
  const argv = ['sockperf', 'ping-pong', '-i', network.b.ipv4, '-p', port, '-t', '2', '-m', '64'];
  const client = await start(network.a, argv, { how: 'library' }).program.ended;
  expect(client).toMatchObject({ code: 0 });
  expect(client.stdout).toMatch(
    /dropped messages = 0; # duplicated messages = 0; # out-of-order messages = 0/,
  );
  server.program.kill('SIGKILL');
  await server.program.ended;
});

test('a host without the library sees the datagrams of the application, and a question to a closed port', async () => {
  const filter = 'udp or icmp';
  const capture = await Capture.start(network.b, filter, join(folder, 'capture'));
  const { server, client } = await pair('ipv4', ['ask', '300'], { how: 'plain' }, ALWAYS);
  expect(await client.program.ended).toMatchObject({ code: 0, stderr: '' });
  expect(await server.program.ended).toMatchObject({ code: 0, stderr: '' });
  const { datagrams: seen } = await capture.stop();
  const questions = seen.filter(({ port }) => port === 4796);
  expect(questions.length).toBeGreaterThan(0);
  expect(questions.length).toBeLessThanOrEqual(4);
  expect(seen.filter(({ port }) => port === 4791)).toEqual([]);
});
