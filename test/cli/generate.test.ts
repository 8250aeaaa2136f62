/** The generated files, tried in the programs that read them: bash, zsh, fish, mandoc. */

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { bashCompletion } from '../../src/cli/generate/bash.ts';
import { fishCompletion } from '../../src/cli/generate/fish.ts';
import { manPages } from '../../src/cli/generate/man.ts';
import { loadModel } from '../../src/cli/generate/model.ts';
import { zshCompletion } from '../../src/cli/generate/zsh.ts';
import { rows } from './fixture.ts';

let folder: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'rdmakit-generate-'));
  const tops = await loadModel(rows);
  writeFileSync(join(folder, 'rdmakit.bash'), bashCompletion(tops));
  writeFileSync(join(folder, '_rdmakit'), zshCompletion(tops));
  writeFileSync(join(folder, 'rdmakit.fish'), fishCompletion(tops));
  for (const [name, text] of manPages(tops)) writeFileSync(join(folder, name), text);
});
afterAll(() => rmSync(folder, { recursive: true }));

function runProgram(program: string, ...args: string[]): string {
  const { status, stdout, stderr, error } = spawnSync(program, args, {
    cwd: folder,
    encoding: 'utf8',
    timeout: 20_000,
  });
  if (error) throw error;
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  return stdout;
}

/** What bash offers for the last of the words. */
function inBash(words: string[]): string[] {
  const script = `. ./rdmakit.bash; . ./rdmakit.bash
    COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _rdmakit; printf '%s\\n' "\${COMPREPLY[@]}"`;
  return runProgram('bash', '--norc', '-c', script, 'bash', ...words)
    .split('\n')
    .filter(Boolean);
}

/** What fish offers at the end of a line. */
function inFish(line: string): string[] {
  return runProgram('fish', '--no-config', '-c', 'source rdmakit.fish; complete -C $argv[1]', line)
    .split('\n')
    .filter(Boolean)
    .map((offer) => offer.split('\t')[0] ?? '');
}

const cases: [string, string[]][] = [
  ['rdmakit ec', ['echo']],
  ['rdmakit help g', ['group']],
  ['rdmakit echo --s', ['--schema', '--size']],
  ['rdmakit echo --mode ', ['read', 'send']],
  ['rdmakit echo --mode r', ['read']],
  ['rdmakit echo --size ', []],
  ['rdmakit echo --kinds u', ['uc', 'ud']],
  ['rdmakit echo --kinds rc,ud', ['rc,ud']],
  ['rdmakit group s', ['second']],
  ['rdmakit group first --j', ['--json']],
  ['rdmakit run-child --c', ['--count']],
  ['rdmakit run-child look --p', ['--p99-limit']],
];

describe('bash', () => {
  test.each(cases)('%s', (line, offers) => {
    expect(inBash(line.split(' ')).sort()).toEqual(offers);
  });

  test('an option that takes a file offers files', () => {
    expect(inBash(['rdmakit', 'echo', '--tag', 'rdmakit.b'])).toEqual(['rdmakit.bash']);
  });

  test('a child program: its name, then files, never our options', () => {
    expect(inBash(['rdmakit', 'run-child', '-c', '3', 'mkdi'])).toContain('mkdir');
    expect(inBash(['rdmakit', 'run-child', '--', 'mkdi'])).toContain('mkdir');
    expect(inBash(['rdmakit', 'run-child', 'loo'])).toContain('look');
    expect(inBash(['rdmakit', 'run-child', 'cat', 'rdmakit.f'])).toEqual(['rdmakit.fish']);
    expect(inBash(['rdmakit', 'run-child', 'cat', '--c'])).toEqual([]);
    expect(inBash(['rdmakit', 'run-child', '-c', '1', '--v'])).toEqual(['--verbose']);
    expect(inBash(['rdmakit', 'run-child', '-c', ''])).toEqual([]);
  });
});

describe('fish', () => {
  test.each(cases)('%s', (line, offers) => {
    expect(inFish(line).sort()).toEqual(offers);
  });
});

test('zsh reads its file', () => {
  runProgram('zsh', '-f', '-n', '_rdmakit');
});

describe('man pages', () => {
  test('are clean mdoc', () => {
    for (const page of ['rdmakit.1', 'rdmakit-echo.1', 'rdmakit-run-child.1', 'rdmakit-group.1']) {
      expect(runProgram('mandoc', '-T', 'lint', '-W', 'style', page)).toBe('');
    }
  });

  test('show the text as it was written', () => {
    // bold is a letter, a backspace and the letter again
    const overstruck = runProgram('mandoc', '-T', 'ascii', '-O', 'width=200', 'rdmakit-echo.1');
    const text = overstruck.split('\b').reduce((before, after) => before.slice(0, -1) + after);
    expect(text).toContain("It's a test: with a 'quote', a back\\slash and [brackets]: all escaped.");
    expect(text).toContain('.Not a macro.');
    expect(text).toMatch(/-s, --size SIZE\n\s+Message size \(default 64\)\./);
    expect(text).toMatch(/1\s+The echo was wrong\./);
    expect(text).toMatch(/rdmakit echo --size 4KiB\n?\s+Prints 4096\./);
  });
});

test('a row that names another module is refused', () => {
  const [first] = rows;
  if (!first) throw new Error('no rows');
  expect(loadModel([{ ...first, name: 'other' }])).rejects.toThrow(/row 'other'/);
});
