/** What verbs-run finds out about a program before it runs it. */

import { afterAll, describe, expect, test } from 'bun:test';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findObstacle, findProgram } from '../../src/verbs-run/program.ts';

const folder = mkdtempSync(join(tmpdir(), 'verbs-run-'));
afterAll(() => rmSync(folder, { recursive: true }));

const ME = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };

function file(name: string, content: string | Buffer, mode = 0o755): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  chmodSync(path, mode);
  return path;
}

/** A 64-bit ELF header with program headers of these types and nothing else. */
function elf(options: { machine?: number; bits?: number; segments?: number[] } = {}): Buffer {
  const { machine = 62, bits = 64, segments = [3] } = options;
  const bytes = Buffer.alloc(64 + 56 * segments.length);
  bytes.writeUInt32BE(0x7f454c46, 0);
  bytes[4] = bits === 64 ? 2 : 1;
  bytes[5] = 1;
  bytes.writeUInt16LE(machine, 18);
  bytes.writeBigUInt64LE(64n, 32);
  bytes.writeUInt16LE(56, 54);
  bytes.writeUInt16LE(segments.length, 56);
  segments.forEach((type, i) => {
    bytes.writeUInt32LE(type, 64 + 56 * i);
  });
  return bytes;
}

describe('findProgram', () => {
  file('tool', '#!/bin/sh\n');
  file('plain', 'text', 0o644);
  mkdirSync(join(folder, 'dir'));

  test('along PATH, and by path', () => {
    const path = join(folder, 'tool');
    expect(findProgram('tool', `/nonexistent:${folder}`)).toEqual({ kind: 'found', path });
    expect(findProgram(path, '')).toEqual({ kind: 'found', path });
    expect(findProgram('sh', process.env.PATH ?? '')).toMatchObject({ kind: 'found' });
  });

  test('not found', () => {
    expect(findProgram('no-such-tool', folder).kind).toBe('not-found');
    expect(findProgram(join(folder, 'no-such-tool'), folder).kind).toBe('not-found');
    expect(findProgram('', folder).kind).toBe('not-found');
    expect(findProgram('tool', '').kind).toBe('not-found');
  });

  test('found and not executable', () => {
    expect(findProgram('plain', folder)).toMatchObject({
      kind: 'not-executable',
      why: expect.stringContaining('permission'),
    });
    expect(findProgram('dir', folder)).toMatchObject({ kind: 'not-executable', why: 'it is not a file' });
  });

  test('an executable one later in PATH wins over one that is not', () => {
    const second = join(folder, 'dir');
    writeFileSync(join(second, 'plain'), '#!/bin/sh\n', { mode: 0o755 });
    expect(findProgram('plain', `${folder}:${second}`)).toEqual({
      kind: 'found',
      path: join(second, 'plain'),
    });
  });
});

describe('findObstacle', () => {
  const obstacle = (path: string, who = ME) => findObstacle(path, who, 'x64')?.what;

  test('a dynamic program and a script of one have none', () => {
    const dynamic = file('dynamic', elf({ segments: [6, 3, 1] }));
    expect(obstacle(dynamic)).toBeUndefined();
    expect(obstacle(file('script', `#! ${dynamic} -x\n`))).toBeUndefined();
    expect(obstacle(file('bare-script', '#!\n'))).toBeUndefined();
    expect(findObstacle('/bin/sh', ME)).toBeUndefined();
  });

  test('a static program, directly or as interpreter', () => {
    const path = file('static', elf({ segments: [1, 1] }));
    expect(obstacle(path)).toBe(`${path} is statically linked`);
    expect(obstacle(file('static-script', `#!${path}\n`))).toBe(`${path} is statically linked`);
  });

  test('another architecture', () => {
    expect(obstacle(file('arm', elf({ machine: 183 })))).toContain('is not a x64 program');
    expect(obstacle(file('old', elf({ bits: 32 })))).toContain('is not a x64 program');
  });

  test('set-uid and set-gid, unless they change nothing', () => {
    const other = { uid: ME.uid + 1, gid: ME.gid + 1 };
    const setUid = file('set-uid', elf(), 0o4755);
    expect(obstacle(setUid, other)).toContain('set-uid');
    expect(obstacle(setUid)).toBeUndefined();
    expect(obstacle(file('set-gid', elf(), 0o2755), other)).toContain('set-gid');
    // The kernel ignores the bit on scripts.
    expect(obstacle(file('set-uid-script', '#!/bin/sh\n', 0o4755), other)).toBeUndefined();
  });

  test('files that are no programs at all are left to the kernel', () => {
    expect(obstacle(file('short', 'x'))).toBeUndefined();
    expect(obstacle(file('cut', elf().subarray(0, 60)))).toBeUndefined();
    expect(obstacle(join(folder, 'missing'))).toBeUndefined();
    const loop = file('loop', `#!${join(folder, 'loop')}\n`);
    expect(obstacle(loop)).toBeUndefined();
  });
});
