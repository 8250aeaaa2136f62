/** socket-run: an end that is stopped, by a signal or by a debugger, keeps the others waiting only for as long as it is, and loses no byte. */

import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { socketLibrary } from '../../ffi/paths.ts';
import { freshPort } from './lib/pair.ts';
import { listensOn, mustRun, Program, sleep, until } from './lib/process.ts';
import { requireAll } from './lib/requirements.ts';

const LIMIT_MS = 60_000;
setDefaultTimeout(LIMIT_MS);
const HOST = '127.0.0.1';
const exchange = ['python3', join(fileURLToPath(new URL('programs', import.meta.url)), 'exchange.py')];
let folder: string;

beforeAll(() => {
  requireAll(['python3', 'gdb', 'redis-server', 'redis-cli', 'redis-benchmark']);
  folder = mkdtempSync(join(tmpdir(), 'socket-stops-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Small messages take the ring, too, whoever waits how. */
const environment = () => ({
  RDMAKIT_RUNTIME_DIR: folder,
  RDMAKIT_SOCKET_RING: 'always',
  LD_PRELOAD: socketLibrary(),
});
const start = (argv: readonly string[]): Program =>
  new Program(argv, { env: environment(), limit_ms: LIMIT_MS });

async function server(argv: readonly string[], port: number): Promise<Program> {
  const started = start(argv);
  await until('the server listens', () => !started.alive || listensOn(started.pid, port));
  return started;
}

async function redisServer(): Promise<{ redis: Program; port: string }> {
  const port = freshPort();
  const argv = ['redis-server', '--port', `${port}`, '--save', '', '--bind', HOST];
  return { redis: await server(argv, port), port: `${port}` };
}

const asks = (port: string, times: number): Program =>
  start(['redis-benchmark', '-p', port, '-t', 'get', '-n', `${times}`, '-c', '4', '--csv']);

async function mustAnswer(port: string): Promise<void> {
  expect(await start(['redis-cli', '-p', port, 'ping']).ended).toMatchObject({ code: 0, stdout: 'PONG\n' });
}

/** Stops it for some milliseconds. */
async function stop(program: Program): Promise<void> {
  program.kill('SIGSTOP');
  await sleep(30 + Math.random() * 120);
  program.kill('SIGCONT');
}

/** As somebody who looks what it does. */
async function debug(program: Program): Promise<void> {
  const argv = ['gdb', '-batch', '-nx', '-p', `${program.pid}`, '-ex', 'bt 3'];
  await mustRun(argv, { env: { DEBUGINFOD_URLS: '' }, limit_ms: LIMIT_MS });
}

test.each([
  ['asking', 'signal'],
  ['answering', 'signal'],
  ['asking', 'debugger'],
  ['answering', 'debugger'],
] as const)('the %s end is stopped by a %s again and again: every byte comes', async (who, by) => {
  const port = freshPort();
  const answering = await server([...exchange, 'answer', HOST, `${port}`], port);
  const asking = start([...exchange, 'ask', HOST, `${port}`, '60000']);
  const [stopped, other] = who === 'asking' ? [asking, answering] : [answering, asking];
  for (let i = 0; i < (by === 'signal' ? 15 : 4) && stopped.alive; i++) {
    await sleep(Math.random() * 60);
    await (by === 'signal' ? stop(stopped) : debug(stopped));
  }
  expect(await stopped.ended).toMatchObject({ code: 0, stderr: '' });
  expect(await other.ended).toMatchObject({ code: 0, stderr: '' });
});

test('while a client is stopped the server answers others, and the client goes on afterwards', async () => {
  const { redis, port } = await redisServer();
  const benchmark = asks(port, 300_000);
  for (let i = 0; i < 5 && benchmark.alive; i++) {
    await sleep(50 + Math.random() * 50);
    benchmark.kill('SIGSTOP');
    for (let k = 0; k < 3; k++) await mustAnswer(port);
    benchmark.kill('SIGCONT');
  }
  expect(await benchmark.ended).toMatchObject({ code: 0 });
  redis.kill('SIGTERM');
  expect(await redis.ended).toMatchObject({ code: 0 });
});

test('a client that is stopped and then killed leaves the server to others', async () => {
  const { redis, port } = await redisServer();
  for (let i = 0; i < 5; i++) {
    const benchmark = asks(port, 100_000_000);
    await sleep(150 + Math.random() * 100);
    benchmark.kill('SIGSTOP');
    await sleep(50);
    benchmark.kill('SIGKILL');
    await benchmark.ended;
    await mustAnswer(port);
  }
  const clients = await start(['redis-cli', '-p', port, 'info', 'clients']).ended;
  expect(clients.stdout).toContain('connected_clients:1\r\n');
  redis.kill('SIGTERM');
  expect(await redis.ended).toMatchObject({ code: 0 });
});
