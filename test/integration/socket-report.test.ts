/** socket-run that reports: what it says of connections, that it ends as its program ends, and ps. */

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { chmodSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ConnectionReport } from '../../src/sockets/connections.ts';
import type { RunReport } from '../../src/sockets/report.ts';
import { freshPort } from './lib/pair.ts';
import { listensOn, mustRun, Program, run, until } from './lib/process.ts';
import { requireAll } from './lib/requirements.ts';

const LIMIT_MS = 60_000;
setDefaultTimeout(LIMIT_MS);
const root = fileURLToPath(new URL('../..', import.meta.url));
const programs = join(root, 'test/integration/programs');
const cli = [process.execPath, join(root, 'src/cli.ts')];
const ends = ['python3', join(programs, 'report-ends.py')];
let folder: string;
let tamper: string;
let staticClient: string;

beforeAll(async () => {
  requireAll(['gcc', 'python3']);
  folder = mkdtempSync(join(tmpdir(), 'socket-report-'));
  chmodSync(folder, 0o700);
  tamper = join(folder, 'tamper');
  staticClient = join(folder, 'static-client');
  await mustRun(['gcc', '-O1', `-I${root}/c`, '-o', tamper, join(programs, 'tamper.c')]);
  await mustRun(['gcc', '-O1', '-static', '-o', staticClient, join(programs, 'static-client.c')]);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const start = (...words: string[]): Program =>
  new Program(words, {
    env: { RDMAKIT_RUNTIME_DIR: folder, RDMAKIT_SOCKET_RING: 'always' },
    limit_ms: LIMIT_MS,
  });
const socketRun = (...words: string[]): Program => start(...cli, 'socket-run', ...words);

/** Runs a program under --report-json and gives the report too. */
async function reported(options: string[], words: string[]) {
  const file = join(folder, `report-${freshPort()}.json`);
  const ended = await socketRun('--report-json', file, ...options, '--', ...words).ended;
  return { ...ended, report: JSON.parse(readFileSync(file, 'utf8')) as RunReport };
}

/** Something that echoes, accelerated or not. */
async function echo(port: number, accelerated: boolean): Promise<Program> {
  const server = accelerated
    ? socketRun('--', ...ends, 'echo', `${port}`)
    : start(...ends, 'echo', `${port}`);
  await until('the echo listens', () => !server.alive || listensOn(server.pid, port), LIMIT_MS);
  return server;
}

const codes = (one: ConnectionReport | undefined) => one?.reasons.map((reason) => reason.code);

describe('the report of a run', () => {
  test('both ends: accelerated, with bytes, epochs, latencies, and equal hashes', async () => {
    const port = freshPort();
    await echo(port, true);
    const { code, stderr, report } = await reported(
      ['--report', '--strict', '--verify'],
      [...ends, 'talk', `${port}`, '500', '1000'],
    );
    expect({ code, stderr }).toMatchObject({
      code: 0,
      stderr: expect.stringContaining('1 of 1 connections'),
    });
    const [one] = report.connections;
    expect(one).toMatchObject({
      remote: `127.0.0.1:${port}`,
      program: 'python3',
      state: 'closed',
      accelerated: true,
      peer: { library: true, uid: process.getuid?.() },
    });
    for (const flow of [one?.sent, one?.received]) {
      expect((flow?.ring_bytes ?? 0) + (flow?.kernel_bytes ?? 0)).toBe(500_000);
      expect(flow?.ring_bytes).toBeGreaterThan(400_000);
      expect(flow?.promotions).toBeGreaterThan(0);
      expect(flow?.latency?.count).toBeGreaterThan(0);
      expect(flow?.verify).toMatchObject({ mismatches: 0, first_mismatch: null });
    }
    expect(one?.received.verify?.verified_bytes).toBe(one?.received.ring_bytes ?? -1);
    expect(report.totals.latency?.count).toBe(one?.received.latency?.count ?? -1);
  });

  test('a peer without the library: not accelerated, and --strict fails with the reason', async () => {
    const port = freshPort();
    await echo(port, false);
    const { code, stderr, report } = await reported(['--strict'], [...ends, 'talk', `${port}`, '5', '100']);
    expect(code).toBe(1);
    expect(stderr).toMatch(/nothing was accelerated: 1 x the other end does not have the library/);
    expect(report.connections).toHaveLength(1);
    expect(codes(report.connections[0])).toEqual(['no-library']);
    expect(report.connections[0]?.sent).toMatchObject({ ring_bytes: 0, kernel_bytes: 500 });
  });

  test.each([
    ['option', 'option'],
    ['urgent', 'urgent'],
    ['splice', 'splice'],
  ] as const)('what made a connection leave the ring: %s', async (what, reason) => {
    const port = freshPort();
    await echo(port, true);
    const { code, report } = await reported([], [...ends, 'refuse', `${port}`, what]);
    expect(code).toBe(0);
    expect(report.connections[0]?.accelerated).toBe(true);
    expect(codes(report.connections[0])).toContain(reason);
    expect(report.connections[0]?.sent.demotions).toBeGreaterThan(0);
  });

  test('a static program and a static child are named', async () => {
    const port = freshPort();
    await echo(port, true);
    const alone = await reported(['--strict'], [staticClient, `${port}`]);
    expect(alone.code).toBe(1);
    expect(alone.stderr).toContain(`${staticClient} does not take the library`);
    const again = freshPort();
    await echo(again, true);
    const child = await reported([], ['sh', '-c', `${staticClient} ${again}; exit 0`]);
    expect(child.report.without_library.map((one) => one.path)).toContain(staticClient);
  });

  test('a connection whose process was killed: lost, with what is known', async () => {
    const port = freshPort();
    const file = join(folder, 'lost.json');
    const reader = socketRun('--report-json', file, '--', ...ends, 'read', `${port}`);
    await until('it listens', () => !reader.alive || listensOn(reader.pid, port), LIMIT_MS);
    const writer = socketRun('--', ...ends, 'write', `${port}`, '30000');
    await until(
      'all is sent',
      () => writer.stdout.includes('sent') && reader.stdout.includes('ready'),
      LIMIT_MS,
    );
    reader.kill('SIGTERM'); // passed on; Python has no handler
    expect((await reader.ended).signal).toBe('SIGTERM');
    writer.kill('SIGUSR1');
    await writer.ended;
    const report = JSON.parse(readFileSync(file, 'utf8')) as RunReport;
    expect(report.exit).toEqual({ code: null, signal: 15 });
    expect(report.connections[0]).toMatchObject({ state: 'lost', peer: { library: true } });
  });
});

/** Under --report the program is a child of the process that was started. */
const childOf = ({ pid }: Program): string =>
  readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim();

describe('--verify', () => {
  test('finds a byte that was changed in the ring, and says where', async () => {
    const port = freshPort();
    const file = join(folder, 'tampered.json');
    const reader = socketRun('--verify', '--report-json', file, '--', ...ends, 'read', `${port}`);
    await until('it listens', () => !reader.alive || listensOn(reader.pid, port), LIMIT_MS);
    const writer = socketRun('--verify', '--', ...ends, 'write', `${port}`, '40000');
    await until(
      'all is sent',
      () => writer.stdout.includes('sent') && reader.stdout.includes('ready'),
      LIMIT_MS,
    );
    const [, sender = ''] = /sent (\d+)/.exec(writer.stdout) ?? [];
    const flipped = await run([tamper, childOf(writer), sender, '20000'], { limit_ms: LIMIT_MS });
    expect(flipped).toMatchObject({ code: 0, stdout: 'flipped\n' });
    reader.kill('SIGUSR1');
    writer.kill('SIGUSR1');
    const [read, wrote] = [await reader.ended, await writer.ended];
    expect(read.stdout).toContain('read 40000');
    expect(read.code).toBe(1);
    expect(read.stderr).toMatch(
      new RegExp(`data differ: 127.0.0.1:${sender} -> 127.0.0.1:${port}, bytes 16384 to 32768 `),
    );
    expect([0, 1]).toContain(wrote.code ?? -1); // it may have closed before the other end read
    const report = JSON.parse(readFileSync(file, 'utf8')) as RunReport;
    expect(report.connections[0]?.received.verify).toMatchObject({
      mismatches: 1,
      first_mismatch: { from_byte: 16384, to_byte: 32768 },
    });
  });
});

describe('the attendant', () => {
  test('exit statuses, signals and what is left in the background', async () => {
    expect((await socketRun('--report', '--', 'sh', '-c', 'exit 42').ended).code).toBe(42);
    expect((await socketRun('--report', '--', 'sh', '-c', 'kill -KILL $$').ended).signal).toBe('SIGKILL');
    const trapping = socketRun(
      '--report',
      '--',
      'sh',
      '-c',
      'trap "exit 7" USR1; echo up; while :; do sleep 0.05; done',
    );
    await until('it is up', () => trapping.stdout.includes('up'), LIMIT_MS);
    trapping.kill('SIGUSR1');
    expect((await trapping.ended).code).toBe(7);
    const left = await socketRun(
      '--report',
      '--',
      'sh',
      '-c',
      '(setsid sh -c "sleep 0.5; echo late" &); exit 3',
    ).ended;
    expect({ code: left.code, out: left.stdout }).toEqual({ code: 3, out: 'late\n' });
    expect((await socketRun('--report', '--', '/nonexistent/program').ended).code).toBe(127);
  });

  test('a program that is killed with it does not live on', async () => {
    const sleeper = socketRun('--report', '--', 'sleep', '60');
    let child = '';
    await until(
      'it runs',
      () => {
        child = childOf(sleeper);
        return child !== '' && readFileSync(`/proc/${child}/comm`, 'utf8') === 'sleep\n';
      },
      LIMIT_MS,
    );
    sleeper.kill('SIGKILL');
    await sleeper.ended;
    await until('the program has ended too', () => !isAlive(Number(child)));
  });
});

function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

describe('socket-run ps', () => {
  test('lists both ends while they live; a program called ps is run behind --', async () => {
    const port = freshPort();
    const reader = socketRun('--', ...ends, 'read', `${port}`);
    await until('it listens', () => !reader.alive || listensOn(reader.pid, port), LIMIT_MS);
    const writer = socketRun('--', ...ends, 'write', `${port}`, '30000');
    await until(
      'all is sent',
      () => writer.stdout.includes('sent') && reader.stdout.includes('ready'),
      LIMIT_MS,
    );
    const listed = JSON.parse((await socketRun('ps', '--json').ended).stdout);
    expect(listed.schema).toBe('rdmakit.socket-connections/1');
    const of = (pid: number): ConnectionReport =>
      listed.connections.find((one: ConnectionReport) => one.pid === pid);
    expect(of(writer.pid)).toMatchObject({ remote: `127.0.0.1:${port}`, accelerated: true, state: 'open' });
    expect(of(writer.pid).sent.ring_bytes).toBeGreaterThanOrEqual(30_000);
    expect(of(writer.pid).sent.now).toBe('ring');
    expect(of(reader.pid).peer).toMatchObject({ library: true, pid: writer.pid });
    const watch = socketRun('ps', '--watch', '--ndjson', '--interval', '50ms');
    await until('two lists', () => watch.stdout.split('\n').length > 2, LIMIT_MS);
    watch.kill('SIGINT');
    expect((await watch.ended).code).toBe(130);
    reader.kill('SIGUSR1');
    writer.kill('SIGUSR1');
    await Promise.all([reader.ended, writer.ended]);
    expect((await socketRun('--', 'ps', '-p', '1', '-o', 'pid=').ended).stdout.trim()).toBe('1');
  });
});
