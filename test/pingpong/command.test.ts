/** pingpong as a user starts it: both ends on this machine over the embedded device, and every way a run can end. */

import { afterAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as v from 'valibot';
import type { Settings } from '../../src/pingpong/client.ts';
import { histogramOf, Report, type RowReport } from '../../src/pingpong/report.ts';
import { rowName } from '../../src/pingpong/rows.ts';
import { run as runPlan } from '../../src/pingpong/run.ts';
import { connect } from '../../src/verbs/index.ts';
import { ALL_ROWS } from './all-rows.ts';

setDefaultTimeout(60_000);
const root = fileURLToPath(new URL('../..', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'pingpong-'));
afterAll(() => rmSync(folder, { recursive: true }));

interface Outcome {
  code: number | null;
  out: string;
  err: string;
}

function start(args: string[], env: Record<string, string> = {}): ChildProcess {
  const words = ['src/cli.ts', 'pingpong', '--provider', 'soft', ...args];
  return spawn(process.execPath, words, { cwd: root, env: { ...process.env, ...env } });
}

async function finish(child: ChildProcess): Promise<Outcome> {
  let out = '';
  let err = '';
  child.stdout?.on('data', (chunk) => {
    out += chunk;
  });
  child.stderr?.on('data', (chunk) => {
    err += chunk;
  });
  const [code] = await once(child, 'close');
  return { code, out, err };
}

const run = (...args: string[]): Promise<Outcome> => finish(start(args));

function reportOf({ out, err }: Outcome): v.InferOutput<typeof Report> {
  if (out === '') throw new Error(err);
  return v.parse(Report, JSON.parse(out));
}

/** Starts a listening end; resolves with its port. */
async function listener(
  ...args: string[]
): Promise<{ child: ChildProcess; port: string; stop(): Promise<void> }> {
  const child = start(['--listen', '127.0.0.1', '--port', '0', '--announce', ...args]);
  const outcome = finish(child);
  const line: unknown = await Promise.race([once(child.stdout ?? child, 'data'), outcome]);
  const { port } = JSON.parse(String(line)) as { port: number };
  const stop = async (): Promise<void> => {
    child.stdin?.end();
    await outcome;
  };
  return { child, port: String(port), stop };
}

/** Few exchanges, verified, with all the patience that a busy machine may need. */
const BRIEF: Settings = {
  iterations: 20,
  duration_ns: 0,
  interval_ns: 0,
  timeout_ns: 60e9,
  verify: true,
  record: false,
  warmup: 0,
  core: -1,
};

const check = (row: RowReport): void => {
  if (row.failure !== undefined) throw new Error(`${rowName(row)}: ${row.failure.what}`);
  expect(row.answered).toBeGreaterThan(0);
  expect(row.mismatches).toBe(0);
  expect(histogramOf(row).total).toBe(row.answered);
};

describe('--cm', () => {
  test('measures the exchange of rping, both ways of waiting and several sizes, verified', async () => {
    const outcome = await run(
      '--cm',
      '--json',
      '--sweep',
      '32KiB..128KiB',
      '-n',
      '20',
      '--verify',
      '--events',
    );
    const report = reportOf(outcome);
    expect(outcome.code).toBe(0);
    expect(report.rows.map((row) => `${rowName(row)} ${row.size_bytes}`)).toEqual([
      ...['rc rping 32768', 'rc rping 65536', 'rc rping events 32768', 'rc rping events 65536'],
    ]);
    report.rows.forEach(check);
    for (const row of report.rows) expect(row.verified).toBeGreaterThanOrEqual(20);
    expect(report.skipped).toHaveLength(2);
    expect(report.client).toMatchObject({ provider: 'soft', address: '127.0.0.1', device: 'rk_lo' });
    expect(report.gid).toBe('::ffff:127.0.0.1');
    expect(report.mtu_bytes).toBeGreaterThanOrEqual(256);
  });

  test('serves many at once, and its end is told', async () => {
    const server = await listener('--cm');
    const clients = ['1', '2', '3'].map(() =>
      run('--cm', '--json', '-n', '50', '-p', server.port, '127.0.0.1'),
    );
    for (const each of await Promise.all(clients)) reportOf(each).rows.forEach(check);
    const endless = run('--cm', '--json', '--flood', '--events', '-p', server.port, '127.0.0.1');
    await Bun.sleep(500);
    await server.stop();
    const { code, out } = await endless;
    expect(code).toBe(4);
    expect(reportOf({ code, out, err: '' }).rows[0]?.failure?.what).toBeString();
  });

  test('nobody there, and what the connection manager decides itself', async () => {
    const refused = await run('--cm', '-p', '9', '127.0.0.1');
    expect(refused.code).toBe(4);
    expect(refused.err).toContain('nobody listens');
    for (const words of [
      ['-t', 'ud'],
      ['-o', 'read'],
      ['-d', 'rk_lo'],
      ['-m', '1024'],
      ['-s', '0'],
    ]) {
      const { code, err } = await run('--cm', ...words);
      expect({ words, code }).toEqual({ words, code: 2 });
      expect(err).toContain('try:');
    }
  });
});

describe('the table', () => {
  test('every row that exists, verified, as one document', async () => {
    const outcome = await run('--json', '--iterations', '200', '--verify');
    const report = reportOf(outcome);
    expect(outcome.code).toBe(0);
    expect(report.rows.map(rowName)).toEqual(ALL_ROWS);
    report.rows.forEach(check);
    for (const row of report.rows) expect(row.sent).toBe(200);
    for (const row of report.rows) expect(row.verified).toBeGreaterThan(0);
    expect(report.client).toMatchObject({ provider: 'soft', address: '127.0.0.1' });
  });

  test('a sweep, with what is left out and why', async () => {
    const report = reportOf(
      await run('--json', '-t', 'rc,ud', '-o', 'send', '--sweep', '1..64KiB', '-n', '20', '--verify'),
    );
    report.rows.forEach(check);
    expect(report.rows.filter(({ transport }) => transport === 'rc')).toHaveLength(17);
    expect(report.skipped.length).toBeGreaterThan(0);
    for (const row of report.skipped) expect(row.reason).toContain('MTU');
  });

  test('events beside polling', async () => {
    const report = reportOf(await run('--json', '-t', 'rc', '-o', 'send,write', '-n', '50', '--events'));
    expect(report.rows.map(rowName)).toEqual(['rc send', 'rc send events', 'rc write']);
    report.rows.forEach(check);
    expect(report.skipped.map(rowName)).toEqual(['rc write events']);
  });

  test('for people: a table, a picture, gates', async () => {
    const { code, out, err } = await run(
      '-t',
      'rc',
      '-o',
      'read',
      '-n',
      '100',
      '--histogram',
      '--expect',
      'p50<10s,loss=0%',
    );
    expect({ code, err }).toEqual({ code: 0, err: 'passed: p50<10s\npassed: loss=0%\n' });
    // a pipe has no width: no column is left out
    expect(out).toMatch(/^transport +op +size +min +p50 +p90 +p99 +p99.9 +max +mean +rate\/s$/m);
    expect(out).toMatch(/^RC +read +64B +\d/m);
    expect(out).toContain('rc read, 64B: 100 round trips');
  });

  test('a missed gate is exit code 1', async () => {
    const { code, err } = await run('-t', 'rc', '-o', 'send', '-n', '10', '--expect', 'p99<1ns');
    expect({ code, err }).toEqual({ code: 1, err: 'MISSED: p99<1ns by rc send 64B\n' });
  });
});

describe('like ping', () => {
  test('a line for each message, then a summary', async () => {
    const { code, out } = await run('-c', '3', '-i', '0.02');
    expect(code).toBe(0);
    const lines = out.trimEnd().split('\n');
    expect(lines.slice(1, 4).map((line) => /seq=\d/.exec(line)?.[0])).toEqual(['seq=0', 'seq=1', 'seq=2']);
    expect(out).toContain('3 sent, 3 answered, 0% lost');
  });

  test('as events', async () => {
    const { out } = await run('-c', '2', '-i', '0.02', '--ndjson', '-t', 'ud');
    const schemas = out
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line).schema);
    expect(schemas).toEqual([
      'rdmakit.pingpong-sample/1',
      'rdmakit.pingpong-sample/1',
      'rdmakit.pingpong-row/1',
      'rdmakit.pingpong/1',
    ]);
  });

  test('flood ends after its time', async () => {
    const report = reportOf(await run('--json', '--flood', '-D', '50ms', '-t', 'tcp'));
    expect(report.rows.map(rowName)).toEqual(['tcp busy-polling']);
    report.rows.forEach(check);
  });
});

describe('two ends', () => {
  test('a listener serves several clients at once, and one after the other', async () => {
    const { port, stop } = await listener();
    try {
      const client = () => run('127.0.0.1', '-p', port, '--json', '-t', 'rc,uc', '-n', '50', '--verify');
      for (const outcome of await Promise.all([client(), client(), client()]))
        reportOf(outcome).rows.forEach(check);
      reportOf(await client()).rows.forEach(check);
    } finally {
      await stop();
    }
  });

  test('a crowd of clients in one process', async () => {
    const { port, stop } = await listener();
    const one = async (): Promise<RowReport[]> => {
      const session = await connect({ host: '127.0.0.1', port: Number(port) });
      try {
        const request = { transports: ['rc'], operations: ['send', 'read'], sizes_bytes: [64] } as const;
        return (await runPlan(session, { request, settings: BRIEF, wish: { provider: 'soft' }, gates: [] }))
          .rows;
      } finally {
        session.close();
      }
    };
    try {
      for (const rows of await Promise.all(Array.from({ length: 24 }, one))) {
        expect(rows).toHaveLength(2);
        rows.forEach(check);
      }
    } finally {
      await stop();
    }
  });

  /** A paced run that has begun: its first sample was printed. */
  async function begun(...args: string[]): Promise<{ child: ChildProcess; outcome: Promise<Outcome> }> {
    const child = start([...args, '-i', '0.005', '--ndjson']);
    const outcome = finish(child);
    await Promise.race([once(child.stdout ?? child, 'data'), outcome]);
    return { child, outcome };
  }
  const lastDocument = ({ out, err }: Outcome) =>
    reportOf({ code: 0, out: out.trimEnd().split('\n').at(-1) ?? '', err });

  test('a peer that dies in the middle is exit code 4, and what was measured is shown', async () => {
    const far = await listener();
    const { outcome } = await begun('127.0.0.1', '-p', far.port);
    far.child.kill('SIGKILL');
    const finished = await outcome;
    expect(finished.code).toBe(4);
    const [row] = lastDocument(finished).rows;
    expect(row?.failure?.what).toBeTruthy();
    expect(row?.answered).toBeGreaterThan(0);
  });

  test('Ctrl-C shows what was measured so far', async () => {
    const { child, outcome } = await begun();
    child.kill('SIGINT');
    const finished = await outcome;
    expect(finished.code).toBe(130);
    const report = lastDocument(finished);
    expect(report.interrupted).toBe(true);
    report.rows.forEach(check);
    expect(report.rows[0]?.interrupted).toBe(true);
  });

  test('nobody listens there', async () => {
    const { code, out, err } = await run('127.0.0.1', '-p', '1');
    expect({ code, out }).toEqual({ code: 4, out: '' });
    expect(err).toMatch(/cause: .*\n +try: /);
  });

  test('--ssh starts the far end with what ssh runs', async () => {
    // Stands in for ssh: runs the last word, the remote command line, in a shell here.
    const command = `#!/bin/sh\nfor last; do :; done\nexec sh -c "$last"\n`;
    writeFileSync(join(folder, 'ssh'), command, { mode: 0o755 });
    const program = `'${process.execPath}' '${join(root, 'src/cli.ts')}'`;
    const args = ['--ssh', 'localhost', '--ssh-program', program, '--json', '-t', 'rc', '-n', '20'];
    const outcome = await finish(start(args, { PATH: `${folder}:${process.env.PATH}` }));
    reportOf(outcome).rows.forEach(check);
    writeFileSync(join(folder, 'ssh'), '#!/bin/sh\necho "Permission denied (publickey)." >&2\nexit 255\n', {
      mode: 0o755,
    });
    const refused = await finish(start(args, { PATH: `${folder}:${process.env.PATH}` }));
    expect(refused).toMatchObject({ code: 4, out: '', err: expect.stringContaining('Permission denied') });
  });
});

describe('wrong usage is exit code 2', () => {
  test.each(
    [
      ['-t', 'ud', '-o', 'write'],
      ['--flood', '-i', '1'],
      ['-c', '0'],
      ['-c', '1.5'],
      ['--sweep', '1..8', '-c', '3'],
      ['--listen', '--ssh', 'x'],
      ['--ssh', 'x', 'y'],
      ['--port', '0', 'host'],
      ['-n', '5', '-D', '1s'],
      ['-c', '3', '-t', 'rc,uc'],
      ['--announce'],
      ['--timeout', '1ns'],
      ['--expect', 'p98<5us'],
      ['--size', '4k'],
    ].map((args) => [args] as const),
  )('%p', async (args) => {
    const { code, out, err } = await run(...args);
    expect({ code, out }).toEqual({ code: 2, out: '' });
    expect(err).toContain('rdmakit pingpong: ');
  });
});

describe('a missing environment', () => {
  test('no native library is exit code 3, a device that is not there 2', async () => {
    expect((await finish(start([], { RDMAKIT_LIB_DIR: folder }))).code).toBe(3);
    const { code, err } = await run('--device', 'nosuch0');
    expect(code).toBe(2);
    expect(err).toContain('nosuch0');
  });
});
