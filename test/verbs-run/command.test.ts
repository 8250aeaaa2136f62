/** verbs-run as a user starts it: the program takes its place, with everything that belongs to it. */

import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

setDefaultTimeout(60_000);
const root = fileURLToPath(new URL('../..', import.meta.url));

interface Outcome {
  code: number | null;
  signal: string | null;
  out: string;
  err: string;
}

function start(args: string[], env: Record<string, string> = {}) {
  return spawn(process.execPath, ['src/cli.ts', 'verbs-run', ...args], {
    cwd: root,
    env: { ...process.env, ...env },
  });
}

async function finish(child: ReturnType<typeof start>): Promise<Outcome> {
  let out = '';
  let err = '';
  child.stdout.on('data', (chunk) => {
    out += chunk;
  });
  child.stderr.on('data', (chunk) => {
    err += chunk;
  });
  const [code, signal] = await once(child, 'close');
  return { code, signal, out, err };
}

const run = (...args: string[]): Promise<Outcome> => finish(start(args));

describe('the program in place of rdmakit', () => {
  test('output, arguments and exit status are its own', async () => {
    const { code, out, err } = await run(
      '--',
      'sh',
      '-c',
      'echo "$0|$1"; echo bad >&2; exit 42',
      'a b',
      '--json',
    );
    expect({ code, out, err }).toEqual({ code: 42, out: 'a b|--json\n', err: 'bad\n' });
  });

  test('its input is ours, byte for byte', async () => {
    const child = start(['cat']);
    const bytes = 'line\n\u0000binary \u00e9\n'.repeat(20_000);
    child.stdin.end(bytes);
    expect((await finish(child)).out).toBe(bytes);
  });

  test('it has our process id, so signals reach it directly', async () => {
    const child = start([
      '--',
      'sh',
      '-c',
      'trap "echo got it; exit 7" USR1; echo $$; while :; do sleep 0.05; done',
    ]);
    const outcome = finish(child);
    const [pid] = await once(child.stdout, 'data');
    expect(Number(pid)).toBe(child.pid ?? -1);
    child.kill('SIGUSR1');
    expect(await outcome).toMatchObject({ code: 7, out: expect.stringContaining('got it') });
  });

  test('death by a signal is death by that signal', async () => {
    expect(await run('--', 'sh', '-c', 'kill -KILL $$')).toMatchObject({ code: null, signal: 'SIGKILL' });
  });

  test('a signal that the runtime ignores has its default action again', async () => {
    expect(await run('--', 'sh', '-c', 'kill -PIPE $$; echo survived')).toMatchObject({
      signal: 'SIGPIPE',
      out: '',
    });
  });

  test('our libraries come first, what was there stays', async () => {
    const child = start(['--', 'sh', '-c', 'echo "$LD_LIBRARY_PATH|$KEPT"'], {
      LD_LIBRARY_PATH: '/before',
      KEPT: 'yes',
    });
    expect((await finish(child)).out).toMatch(/\/softrdma:\/before\|yes\n$/);
  });

  test("Debian's ibv_devices sees the embedded devices", async () => {
    expect((await run('ibv_devices')).out).toContain('rk_lo');
  });

  test('a program that looks into /sys and /dev itself finds them there too', async () => {
    const script = 'ls /dev/infiniband; cat /sys/class/infiniband/rk_lo/ports/1/state; ls -d /sys/class/net';
    const { code, out } = await run('--', 'sh', '-c', script);
    expect(code).toBe(0);
    expect(out).toMatch(/^rk_lo\n/m);
    expect(out).toContain('4: ACTIVE\n/sys/class/net\n');
  });
});

test('--report: what the device counted, when the program ends', async () => {
  const pingpong = 'ibv_rc_pingpong -d rk_lo -g 0 -n 10 -p 20999';
  const client = `for i in 1 2 3 4 5 6 7 8 9; do sleep 0.3; ${pingpong} 127.0.0.1 && break; done`;
  const script = `${pingpong} & ${client}; wait $!`;
  const { code, err } = await run('--report', '--', 'sh', '-c', script);
  expect(code).toBe(0);
  const reports = [...err.matchAll(/^rdmakit: ibv_rc_pingpong\[\d+\] shm_messages_sent (\d+)$/gm)];
  expect(reports.map(([, count]) => Number(count) >= 10)).toEqual([true, true]);
});

describe('what does not run', () => {
  test('not found is 127, not executable 126, as in a shell', async () => {
    expect(await run('no-such-program')).toMatchObject({
      code: 127,
      out: '',
      err: expect.stringContaining('not found'),
    });
    expect(await run('/etc/passwd')).toMatchObject({ code: 126, err: expect.stringContaining('permission') });
  });

  test('no program is wrong usage', async () => {
    expect((await run()).code).toBe(2);
    expect((await run('--fault', 'loss=2', 'true')).code).toBe(2);
  });
});

describe('--dry-run', () => {
  test('prints what would be set, and runs nothing', async () => {
    const { code, out } = await run(
      '--dry-run',
      '--road',
      'wire',
      '--fault',
      'loss=1%',
      'sh',
      '-c',
      'exit 3',
    );
    expect(code).toBe(0);
    expect(out).toMatch(/^LD_LIBRARY_PATH=\S+\/softrdma$/m);
    expect(out).toMatch(/^LD_PRELOAD=\S+\/librdmakit_sysfs\.so$/m);
    expect(out).toContain('RDMAKIT_ROAD=wire\nRDMAKIT_FAULT=loss=0.01\n');
    expect(out).toMatch(/\/sh -c 'exit 3'\n$/);
  });
});
