/** What the kit does with pipes, signals and full disks, on the runtime under test: runtimes differ most here. */

import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { openSync } from 'node:fs';
import { entryFor, finish, runtime, start } from './start.ts';

setDefaultTimeout(60_000);
const entry = entryFor('test/smoke/loop.ts');

describe(runtime, () => {
  test('output larger than a pipe arrives whole through a slow reader', async () => {
    const child = start(entry, ['loop', '--lines', '20000']);
    child.stdout?.pause();
    setTimeout(() => child.stdout?.resume(), 200);
    const { code, out } = await finish(child);
    expect({ code, bytes: out.length }).toEqual({ code: 0, bytes: 20_000 * 100 + 'summary\n'.length });
  });

  test.each([[[]], [['--graceful']]])('a reader that goes away ends it quietly %p', async (more) => {
    const child = start(entry, ['loop', '--pause', ...more]);
    const { code, err } = await finish(child, () => child.stdout?.destroy());
    expect({ code, err }).toEqual({ code: 0, err: more.length > 0 ? 'cleaned up\n' : '' });
  });

  test.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)('%s: what was measured is printed, exit code %d', async (signal, wanted) => {
    const child = start(entry, ['loop', '--pause', '--graceful']);
    let sent = false;
    const { code, out, err } = await finish(child, () => {
      if (!sent) child.kill(signal);
      sent = true;
    });
    expect({ code, err }).toEqual({ code: wanted, err: 'cleaned up\n' });
    expect(out).toEndWith('summary\n');
  });

  test('a command that does not ask for the signal dies of it', async () => {
    const child = start(entry, ['loop', '--pause']);
    const { signal, out } = await finish(child, () => child.kill('SIGINT'));
    expect(signal).toBe('SIGINT');
    expect(out).not.toContain('summary');
  });

  test('a full disk is an error with cause and remedy, exit code 3', async () => {
    const child = start(entry, ['loop'], openSync('/dev/full', 'w'));
    const { code, err } = await finish(child);
    expect(code).toBe(3);
    expect(err).toMatch(/cannot write the output\n {2}cause: .*space.*\n {2}try: /i);
  });
});
