/** socket-run between two hosts: a connection that is on its queue pair changes hands, waits for a peer that was stopped, or ends in unusual ways. */

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { socketLibrary } from '../../ffi/paths.ts';
import type { RunReport } from '../../src/sockets/report.ts';
import { type Host, Network } from './lib/network.ts';
import { freshPort } from './lib/pair.ts';
import { isConnectedAt, listensOn, Program, sleep, until } from './lib/process.ts';
import { requireAll } from './lib/requirements.ts';

const LIMIT_MS = 60_000;
setDefaultTimeout(LIMIT_MS);
const programs = fileURLToPath(new URL('programs', import.meta.url));
const cli = [process.execPath, join(fileURLToPath(new URL('../..', import.meta.url)), 'src/cli.ts')];
const ALWAYS = { RDMAKIT_SOCKET_RING: 'always' };
let network: Network;
let folder: string;
/** Each host's own runtime directory: nothing is shared but the wire. */
const runtime = new Map<Host, string>();

beforeAll(async () => {
  requireAll(['python3']);
  network = await Network.create();
  folder = mkdtempSync(join(tmpdir(), 'socket-remote-holders-'));
  for (const host of [network.a, network.b]) runtime.set(host, mkdtempSync(join(folder, 'run-')));
});
afterAll(() => {
  network?.remove();
  rmSync(folder, { recursive: true, force: true });
});

const environment = (host: Host): Record<string, string> => ({
  RDMAKIT_RUNTIME_DIR: runtime.get(host) ?? '',
  ...ALWAYS,
});

async function answering(port: number): Promise<Program> {
  const argv = ['python3', join(programs, 'exchange.py'), 'answer', network.b.ipv4, `${port}`];
  const program = new Program(argv, {
    netns: network.b.netns,
    env: { ...environment(network.b), LD_PRELOAD: socketLibrary() },
    limit_ms: LIMIT_MS,
  });
  await until('the server listens', () => !program.alive || listensOn(program.pid, port));
  return program;
}

/** Under socket-run with a report: the bytes that went over the queue pair are shown by it. */
function reported(argv: string[], file: string): Program {
  return new Program([...cli, 'socket-run', '--report-json', file, '--', ...argv], {
    netns: network.a.netns,
    env: environment(network.a),
    limit_ms: LIMIT_MS,
  });
}

function ringBytes(file: string): { sent: number; received: number } {
  const { connections } = JSON.parse(readFileSync(file, 'utf8')) as RunReport;
  const sum = (part: 'sent' | 'received') => connections.reduce((all, one) => all + one[part].ring_bytes, 0);
  return { sent: sum('sent'), received: sum('received') };
}

describe('in a ring epoch over the queue pair', () => {
  test.each(['fork', 'exec-library', 'exec-stranger', 'dup', 'SCM_RIGHTS', 'threads', 'half-close'])(
    '%s: every byte arrives, in order',
    async (action) => {
      const port = freshPort();
      const server = await answering(port);
      const file = join(folder, `${action}.json`);
      const holders = ['python3', join(programs, 'holders.py'), network.b.ipv4, `${port}`, '1500', action];
      expect(await reported(holders, file).ended).toMatchObject({ code: 0, stderr: '' });
      expect(await server.ended).toMatchObject({ code: 0, stderr: '' });
      // The report of a program that became another counts anew.
      if (action === 'exec-library') return;
      const { sent, received } = ringBytes(file);
      expect(sent).toBeGreaterThan(100_000);
      expect(received).toBeGreaterThan(100_000);
    },
  );

  test('reset: the other end is told so', async () => {
    const port = freshPort();
    const server = await answering(port);
    const file = join(folder, 'reset.json');
    const holders = ['python3', join(programs, 'holders.py'), network.b.ipv4, `${port}`, '1500', 'reset'];
    expect(await reported(holders, file).ended).toMatchObject({ code: 0, stderr: '' });
    expect((await server.ended).stderr).toContain('ConnectionResetError');
    expect(ringBytes(file).sent).toBeGreaterThan(100_000);
  });

  /** Starts an exchange that lasts, and does something to it in the middle. */
  async function disturbed(disturb: (server: Program) => Promise<void>): Promise<void> {
    const port = freshPort();
    const server = await answering(port);
    const file = join(folder, `disturbed-${port}.json`);
    const ask = ['python3', join(programs, 'exchange.py'), 'ask', network.b.ipv4, `${port}`, '120000'];
    const asking = reported(ask, file);
    await until('the connection is there', () => isConnectedAt(server.pid, port));
    await sleep(1500);
    expect(asking.alive).toBe(true);
    await disturb(server);
    expect(await asking.ended).toMatchObject({ code: 0, stderr: '' });
    expect(await server.ended).toMatchObject({ code: 0, stderr: '' });
    expect(ringBytes(file).sent).toBeGreaterThan(100_000);
  }

  test('the peer is stopped for two seconds: the stream goes on', () =>
    disturbed(async (server) => {
      server.kill('SIGSTOP');
      await sleep(2000);
      server.kill('SIGCONT');
    }));
});
