/** What `socket-run --check` tells of programs from their files: made by gcc, put together by hand, and broken ones. */

import { afterAll, describe, expect, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { checkProgram } from '../../src/sockets/check.ts';
import { readElf } from '../../src/sockets/elf.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'socket-check-'));
afterAll(() => rmSync(folder, { recursive: true }));
const ME = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
const x64 = process.arch === 'x64';

function file(name: string, content: string | Buffer, mode = 0o755): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  chmodSync(path, mode);
  return path;
}

function compiled(name: string, source: string, ...flags: string[]): string {
  const path = join(folder, name);
  const made = spawnSync('gcc', ['-O1', '-x', 'c', '-', '-o', path, ...flags], {
    input: source,
    encoding: 'utf8',
  });
  if (made.status !== 0) throw new Error(`gcc: ${made.error?.message ?? made.stderr}`);
  return path;
}

const HELLO = '#include <stdio.h>\nint main(void) { return puts("hello") < 0; }\n';
const check = (path: string, who = ME) => checkProgram(path, path, who, folder);
const codes = (path: string, who = ME) => check(path, who).findings.map(({ finding }) => finding);

describe('programs of gcc', () => {
  const dynamic = compiled('dynamic', HELLO);

  test('a dynamic program has no obstacle; its facts are those of the file', () => {
    expect(check(dynamic)).toEqual({ program: dynamic, files: [dynamic], accelerated: 'yes', findings: [] });
    const elf = readElf(dynamic);
    expect(elf?.loader).toContain('ld-linux');
    expect(elf?.libraries).toEqual(['libc.so.6']);
    expect(elf?.imports.has('puts')).toBe(true);
  });

  test('static ones are not accelerated, position-independent ones neither', () => {
    for (const flag of ['-static', '-static-pie']) {
      const path = compiled(`hello${flag}`, HELLO, flag);
      expect(check(path)).toMatchObject({
        accelerated: 'not',
        findings: [{ finding: 'static', file: path }],
      });
    }
  });

  test('syscall(), and the instruction itself, are told', () => {
    const called = compiled(
      'called',
      '#define _GNU_SOURCE\n#include <unistd.h>\n#include <sys/syscall.h>\nint main(void) { return (int)syscall(SYS_getpid) < 0; }\n',
    );
    expect(check(called)).toMatchObject({ accelerated: 'partly', findings: [{ finding: 'raw-calls' }] });
    if (!x64) return;
    const own = compiled(
      'own',
      'int main(void) { long r; __asm__ volatile("mov $39, %%eax\\n\\tsyscall" : "=a"(r) : : "rcx", "r11", "memory"); return r < 0; }\n',
    );
    expect(check(own).findings[0]?.what).toContain('at 1 place');
    expect(readElf(dynamic)?.rawCalls).toBe(0);
  });

  test('a script is judged by its interpreter, through env too', () => {
    compiled('interpreter', HELLO, '-static');
    const direct = file('direct', `#!${join(folder, 'interpreter')} -x\n`);
    expect(check(direct)).toMatchObject({ accelerated: 'not', files: [direct, join(folder, 'interpreter')] });
    const found = file('found', '#!/usr/bin/env interpreter\n');
    expect(check(found).files).toEqual([found, '/usr/bin/env', join(folder, 'interpreter')]);
    expect(codes(found)).toContain('static');
    const circle = file('circle', `#!${join(folder, 'circle')}\n`);
    expect(check(circle).files.length).toBeLessThan(10);
  });

  test('raised privileges count when they change who it is', () => {
    chmodSync(dynamic, 0o4755);
    expect(codes(dynamic)).toEqual([]);
    expect(codes(dynamic, { uid: ME.uid + 1, gid: ME.gid })).toEqual(['raised']);
    chmodSync(dynamic, 0o755);
  });

  test('another loader, another library', () => {
    const bytes = readFileSync(dynamic);
    const musl = Buffer.from(bytes);
    musl.write('/lib/ld-musl-x86_64.so.1\0', bytes.indexOf('/lib64/ld-linux'), 'latin1');
    if (x64) expect(codes(file('musl', musl))).toEqual(['musl']);
    const uring = Buffer.from(bytes);
    uring.write('liburing\0', bytes.indexOf('libc.so.6'), 'latin1');
    expect(codes(file('uring', uring))).toEqual(['io-uring']);
  });

  test('broken files are read or not, nothing else', () => {
    const bytes = readFileSync(dynamic);
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(2000), fc.nat(255)), { maxLength: 12 }),
        fc.nat(bytes.length),
        fc.boolean(),
        (changes, length, cut) => {
          const broken = Buffer.from(cut ? bytes.subarray(0, length) : bytes);
          for (const [at, value] of changes) if (at < broken.length) broken[at] = value;
          const path = file('broken', broken);
          readElf(path);
          check(path);
        },
      ),
      { numRuns: 300 },
    );
    expect(readElf(file('empty', ''))).toBeUndefined();
    expect(readElf(join(folder, 'missing'))).toBeUndefined();
  });
});

test('a Go program is known by its note, static or not', () => {
  const bytes = Buffer.alloc(64 + 56 + 32);
  bytes.writeUInt32BE(0x7f454c46, 0);
  bytes.set([2, 1], 4);
  bytes.writeUInt16LE(x64 ? 62 : 183, 18);
  bytes.writeBigUInt64LE(64n, 32);
  bytes.writeUInt16LE(56, 54);
  bytes.writeUInt16LE(1, 56);
  bytes.writeUInt32LE(4, 64); // PT_NOTE
  bytes.writeBigUInt64LE(120n, 64 + 8);
  bytes.writeBigUInt64LE(32n, 64 + 32);
  bytes.writeUInt32LE(4, 120);
  bytes.write('Go\0\0', 132, 'latin1');
  expect(check(file('gopher', bytes))).toMatchObject({ accelerated: 'not', findings: [{ finding: 'go' }] });
});

test('as a command: a document, an exit code, and a run prints none', () => {
  const run = (...words: string[]) =>
    spawnSync(process.execPath, ['src/cli.ts', 'socket-run', ...words], { encoding: 'utf8', cwd: ROOT });
  const good = run('--json', '--check', 'sh');
  expect({ code: good.status, err: good.stderr }).toEqual({ code: 0, err: '' });
  expect(JSON.parse(good.stdout)).toMatchObject({ schema: 'rdmakit.socket-check/1', program: 'sh' });
  const bad = run('--check', join(folder, 'hello-static'));
  expect(bad.status).toBe(1);
  expect(bad.stdout).toContain('nothing will be accelerated');
  expect(run('--check', 'no-such-program').status).toBe(127);
  expect(run('--json', '--', 'true').status).toBe(2);
});
