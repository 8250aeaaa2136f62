/** The command line as users start it, on the runtime under test: every command loads, and the native libraries open. */

import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { entryFor, finish, type Outcome, runtime, start } from './start.ts';

setDefaultTimeout(60_000);
const entry = entryFor('src/cli.ts');

const run = (...args: string[]): Promise<Outcome> => finish(start(entry, args));

describe(runtime, () => {
  test('--version and --help are data on stdout', async () => {
    const version = await run('--version');
    expect(version).toMatchObject({
      code: 0,
      out: expect.stringMatching(/^rdmakit \d+\.\d+\.\d+\n$/),
      err: '',
    });
    const help = await run('--help');
    expect(help).toMatchObject({ code: 0, out: expect.stringContaining('pingpong'), err: '' });
  });

  test.each(['topo', 'pingpong', 'verbs-run'])('help %s loads the command', async (name) => {
    const { code, out, err } = await run('help', name);
    expect({ code, err }).toEqual({ code: 0, err: '' });
    expect(out).toStartWith(`usage: rdmakit ${name}`);
  });

  test('a wrong word is refused with a suggestion and exit code 2', async () => {
    const { code, out, err } = await run('pingpnog');
    expect({ code, out }).toEqual({ code: 2, out: '' });
    expect(err).toContain("did you mean 'pingpong'?");
  });

  test('the native libraries open and list the embedded device', async () => {
    const { code, out, err } = await run('topo', 'devices', '--provider', 'soft', '--json');
    expect({ code, err }).toEqual({ code: 0, err: '' });
    const document = JSON.parse(out);
    expect(document.schema).toStartWith('rdmakit.topo-devices/');
    expect(document.devices.length).toBeGreaterThan(0);
  });

  test('pingpong measures between two processes', async () => {
    const { code, out, err } = await run(
      'pingpong',
      '-t',
      'rc',
      '-o',
      'send',
      '-D',
      '50ms',
      '--verify',
      '--json',
    );
    expect({ code, err }).toEqual({ code: 0, err: '' });
    const document = JSON.parse(out);
    expect(document.schema).toStartWith('rdmakit.pingpong/');
    expect(document.rows.length).toBeGreaterThan(0);
  });

  test('verbs-run hands a program its own words, the embedded device and back its exit code', async () => {
    const words = ['-c', 'ibv_devices; exit 7', '--json', '-x'];
    const { code, out, err } = await run('verbs-run', '--', 'sh', ...words);
    expect({ code, err }).toEqual({ code: 7, err: '' });
    expect(out).toContain('rk_lo');
  });

  test('socket-run stays as a parent that reports, and ends as the program ended', async () => {
    const { code, out, err } = await run('socket-run', '--report', '--', 'sh', '-c', 'echo hi; exit 7');
    expect({ code, out }).toEqual({ code: 7, out: 'hi\n' });
    expect(err).toBe(
      'rdmakit socket-run: 0 of 0 connections accelerated; 0 bytes by ring, 0 by the kernel\n',
    );
    const listed = await run('socket-run', 'ps', '--json');
    expect({ code: listed.code, err: listed.err }).toEqual({ code: 0, err: '' });
    expect(JSON.parse(listed.out).schema).toBe('rdmakit.socket-connections/1');
  });
});
