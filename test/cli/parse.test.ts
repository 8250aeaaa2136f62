import { describe, expect, test } from 'bun:test';
import { run } from './fixture.ts';

/** The options a command line gives, as the command sees them. */
async function optionsOf(...argv: string[]): Promise<Record<string, unknown>> {
  const { code, out, err } = await run(['echo', ...argv]);
  expect({ code, err }).toEqual({ code: 0, err: 'a note\n' });
  return JSON.parse(out.split('\n')[0] ?? '');
}

async function refused(...argv: string[]): Promise<string> {
  const { code, out, err } = await run(argv);
  expect({ code, out }).toEqual({ code: 2, out: '' });
  return err;
}

describe('values', () => {
  test('defaults, flags and repetition', async () => {
    expect(await optionsOf()).toEqual({ size: 64, tag: [], aBC: false, noVerify: false, schema: false });
    expect(
      await optionsOf('-s', '4KiB', '-n', '--a-b-c', '--p99-limit', '5us', '-t', 'x', '--tag=y'),
    ).toEqual({
      size: 4096,
      tag: ['x', 'y'],
      aBC: true,
      noVerify: true,
      schema: false,
      p99Limit: 5000,
    });
  });

  test('text stays text: no numbers, no truth values, no lost digits', async () => {
    for (const text of ['10.0', '007', '12345678901234567890', 'true', 'false', '', 'a=b', '1e3', 'x\ny']) {
      expect((await optionsOf('--address', text)).address).toBe(text);
      expect((await optionsOf(`--address=${text}`)).address).toBe(text);
    }
    expect((await optionsOf('--address=-5')).address).toBe('-5');
    expect((await optionsOf('--address', '-')).address).toBe('-');
  });

  test('an interval is seconds as in ping, or has a unit', async () => {
    expect((await optionsOf('-i', '0.2')).interval).toBe(0.2e9);
    expect((await optionsOf('-i', '200us')).interval).toBe(200e3);
  });

  test('words of a fixed set are taken in any case', async () => {
    expect(await optionsOf('--mode', 'SEND', '--kinds', 'RC,rc,Ud')).toMatchObject({
      mode: 'send',
      kinds: ['rc', 'ud'],
    });
  });

  test('positionals keep their text, and `--` ends the options', async () => {
    const { out } = await run(['echo', '--json', '007', '--', '--size', '-x']);
    expect(JSON.parse(out).words).toEqual(['007', '--size', '-x']);
  });
});

describe('refusals name the reason', () => {
  const cases: [string[], RegExp][] = [
    [['echo', '--sise', '4'], /unknown option '--sise'\n.*did you mean --size\?/],
    [['echo', '--zzzzz'], /unknown option '--zzzzz'\n.*see 'rdmakit help echo'/],
    [['echo', '--aBC'], /unknown option '--aBC'/],
    [['echo', '--no-size'], /unknown option '--no-size'/],
    [['echo', '--no-verify=1'], /--no-verify takes no value/],
    [['echo', '--__proto__', 'x'], /unknown option/],
    [['echo', '--size.x', '1'], /unknown option '--size.x'/],
    [['echo', '-x'], /unknown option '-x'/],
    [['echo', '-s4'], /unknown option '-s4'\n.*write -s 4/],
    [['echo', '-5'], /looks like an option/],
    [['echo', '--size'], /--size needs a value \(SIZE\)/],
    [['echo', '--size', '--json'], /--size needs a value.*begins with '-'/],
    [['echo', '--size', '4k'], /--size: 'k' is not a unit of size; did you mean 4KiB\?/],
    [['echo', '--size='], /--size: '' is not a size/],
    [['echo', '--size', '1', '--size', '2'], /--size is given more than once/],
    [['echo', '--mode', 'sned'], /'sned' is not one of send, read/],
    [['echo', '--json', '--ndjson'], /exclude each other/],
    [['run-child', '-c', '0', 'x'], /--count: 0 is outside 1..10/],
    [['run-child'], /PROGRAM is missing/],
    [['run-child', '--'], /PROGRAM is missing/],
    [['group', 'first', '--json=1'], /--json takes no value/],
    [['group'], /needs a subcommand: first, second/],
    [['group', 'frist'], /unknown subcommand 'frist' of group\n.*did you mean 'group first'\?/],
    [['ecko'], /unknown command 'ecko'\n.*did you mean 'echo'\?/],
    [['--versoin'], /unknown option '--versoin'\n.*did you mean '--version'\?/],
    [['help', 'ecko'], /unknown command 'ecko'/],
    [['help', 'echo', 'x'], /unexpected argument 'x'/],
  ];
  test.each(cases)('%p', async (argv, reason) => {
    expect(await refused(...argv)).toMatch(reason);
  });
});

describe('a child program', () => {
  const cases: [string[], string[], number][] = [
    [['prog', '-c', 'x', '--json', '--help'], ['prog', '-c', 'x', '--json', '--help'], 1],
    [['-c', '3', 'prog', '-c', '4'], ['prog', '-c', '4'], 3],
    [['-c', '3', '--', '-odd', '--', '-c'], ['-odd', '--', '-c'], 3],
    [['--count=2', '--', 'prog', '', ' a b'], ['prog', '', ' a b'], 2],
  ];
  test.each(cases)('%p', async (argv, child, count) => {
    const { code, out } = await run(['run-child', ...argv]);
    expect(code).toBe(1);
    expect(JSON.parse(out)).toEqual({ options: { count, verbose: false }, child });
  });
});

test('a subcommand beside a child program: its name alone, not behind --, nor behind an option', async () => {
  expect((await run(['run-child', 'look', '--size', '9', '--json'])).out).toContain('"size_bytes":9');
  expect((await run(['run-child', '--', 'look', '--json'])).out).toContain('"child":["look","--json"]');
  expect((await run(['run-child', '-v', 'look'])).out).toContain('"child":["look"]');
  expect((await run(['help', 'run-child'])).out).toMatch(/subcommands:\n {2}look/);
  expect((await run(['help', 'run-child', 'look'])).out).toContain('usage: rdmakit run-child look');
});
