import { expect, test } from 'bun:test';
import { wrap } from '../../src/cli/help.ts';
import { run } from './fixture.ts';

test('help is data on stdout when asked for, a complaint on stderr when not', async () => {
  for (const argv of [['--help'], ['-h'], ['help']]) {
    const { code, out, err } = await run(argv);
    expect({ code, err }).toEqual({ code: 0, err: '' });
    expect(out).toMatch(/commands:\n {2}echo +print what was parsed\n/);
  }
  const { code, out, err } = await run([]);
  expect({ code, out }).toEqual({ code: 2, out: '' });
  expect(err).toContain('usage: rdmakit COMMAND');
});

test('every way to ask for the help of a command gives the same text', async () => {
  const texts = await Promise.all(
    [
      ['help', 'echo'],
      ['echo', '--help'],
      ['echo', '-h'],
      ['echo', '--size', '1', '--help', 'x'],
    ].map((argv) => run(argv)),
  );
  expect(new Set(texts.map((outcome) => outcome.out)).size).toBe(1);
  const out = texts[0]?.out ?? '';
  expect(out).toContain('usage: rdmakit echo [OPTION]... [HOST...]');
  expect(out).toMatch(/-s, --size SIZE +message size \(default 64\)/);
  expect(out).toMatch(/--json +print one JSON document/);
  expect(out).toMatch(/1 +the echo was wrong/);
});

test('subcommands: group help and leaf help', async () => {
  for (const argv of [
    ['group', '--help'],
    ['help', 'group'],
  ]) {
    expect((await run(argv)).out).toMatch(/subcommands:\n {2}first/);
  }
  for (const argv of [
    ['group', 'second', '--help'],
    ['help', 'group', 'second'],
  ]) {
    expect((await run(argv)).out).toContain('usage: rdmakit group second [OPTION]... [HOST...]');
  }
});

test('help of a child command is asked for before the child begins', async () => {
  expect((await run(['run-child', '--help'])).out).toContain('[--] PROGRAM [ARGUMENT]...');
});

test('the version', async () => {
  expect((await run(['--version'])).out).toMatch(/^rdmakit \d+\.\d+\.\d+\n$/);
});

test('wrapping breaks at blanks only', () => {
  expect(wrap('one two three', 7)).toEqual(['one two', 'three']);
  expect(wrap('incomprehensibilities no', 5)).toEqual(['incomprehensibilities', 'no']);
  expect(wrap('', 5)).toEqual([]);
});
