/**
 * Loading is once per process, so every case runs in a process of its own. The
 * embedded libraries are not needed: a stand-in is compiled where one is.
 */

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const load = join(import.meta.dir, '../../ffi/load.ts');
let folder = '';

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'rdmakit-load-'));
  mkdirSync(join(folder, 'softrdma'));
  mkdirSync(join(folder, 'broken', 'softrdma'), { recursive: true });
  mkdirSync(join(folder, 'empty'));
  writeFileSync(join(folder, 'broken', 'softrdma', 'libibverbs.so.1'), 'not a library');
  const source = join(folder, 'stand-in.c');
  writeFileSync(
    source,
    'const char *ibv_wc_status_str(int s) { return s ? "stand-in error" : "stand-in success"; }\n',
  );
  const output = join(folder, 'softrdma', 'libibverbs.so.1');
  // Without the real symbol version glibc refuses to bind a program to it.
  const map = join(folder, 'stand-in.map');
  writeFileSync(map, 'IBVERBS_1.1 { global: ibv_wc_status_str; local: *; };');
  const version = `-Wl,--version-script=${map}`;
  execFileSync('gcc', ['-shared', '-fPIC', '-Wl,-soname,libibverbs.so.1', version, '-o', output, source]);
  const dependent = join(folder, 'dependent.c');
  writeFileSync(
    dependent,
    'extern const char *ibv_wc_status_str(int); const char *rk_which(void) { return ibv_wc_status_str(0); }\n',
  );
  const library = join(folder, 'librdmakit_datapath.so');
  execFileSync('gcc', ['-shared', '-fPIC', '-o', library, dependent, '-libverbs']);
});

afterAll(() => rmSync(folder, { recursive: true }));

/** Runs a script that has the loader's exports; returns what it printed, an error as its parts. */
function run(script: string, environment: Record<string, string> = {}): Record<string, unknown> {
  const program = `
    const m = await import(${JSON.stringify(load)});
    try { console.log(JSON.stringify(await (async () => { ${script} })())); }
    catch (e) { console.log(JSON.stringify({ what: e.message, cause: e.likelyCause, remedy: e.remedy, kind: e.kind })); }`;
  const { RDMAKIT_LIB_DIR: _, RDMAKIT_PROVIDER: __, ...clean } = process.env;
  const result = spawnSync(process.execPath, ['-e', program], {
    env: { ...clean, ...environment },
    encoding: 'utf8',
  });
  if (result.status !== 0)
    throw new Error(`exit ${result.status}, signal ${result.signal}: ${result.stderr}`);
  return JSON.parse(result.stdout) as Record<string, unknown>;
}

const summary = 'return { provider: l.provider, path: l.path, reason: l.reason };';

describe('provider choice', () => {
  test('soft opens the library in the folder given', () => {
    const found = run(
      `const l = m.loadVerbs({ provider: 'soft', libDir: ${JSON.stringify(folder)} }); ${summary}`,
    );
    expect(found).toEqual({
      provider: 'soft',
      path: join(folder, 'softrdma', 'libibverbs.so.1'),
      reason: 'asked for',
    });
  });

  test('the environment chooses provider and folder', () => {
    const found = run(`const l = m.loadVerbs(); ${summary}`, {
      RDMAKIT_PROVIDER: 'soft',
      RDMAKIT_LIB_DIR: folder,
    });
    expect(found.path).toBe(join(folder, 'softrdma', 'libibverbs.so.1'));
  });

  test('an argument of auto leaves the choice to the environment', () => {
    const script = `const l = m.loadVerbs({ provider: 'auto' }); ${summary}`;
    expect(run(script, { RDMAKIT_PROVIDER: 'soft', RDMAKIT_LIB_DIR: folder }).provider).toBe('soft');
  });

  test('an argument beats the environment', () => {
    const found = run(`const l = m.loadVerbs({ provider: 'system' }); ${summary}`, {
      RDMAKIT_PROVIDER: 'soft',
    });
    expect(found.provider).toBe('system');
  });

  test('an unknown provider is refused with the list', () => {
    expect(run(`m.loadVerbs({ provider: 'hard' })`)).toMatchObject({
      kind: 'usage',
      remedy: 'use one of auto, system, soft',
    });
    expect(run('m.loadVerbs()', { RDMAKIT_PROVIDER: 'x' }).what).toContain('RDMAKIT_PROVIDER is "x"');
  });

  test('a second call gets the same library, the other provider is refused', () => {
    const script = `m.loadVerbs({ provider: 'soft', libDir: ${JSON.stringify(folder)} });
      const again = m.loadVerbs({ provider: 'soft' }).provider; const auto = m.loadVerbs({ provider: 'auto' }).provider;
      try { m.loadVerbs({ provider: 'system' }); } catch (e) { return { again, auto, what: e.message, remedy: e.remedy }; }`;
    expect(run(script)).toMatchObject({
      again: 'soft',
      auto: 'soft',
      what: expect.stringContaining('after the soft one'),
    });
  });
});

describe('the data path library', () => {
  test('binds to the embedded verbs library by its SONAME', () => {
    const script = `m.loadVerbs({ provider: 'soft', libDir: ${JSON.stringify(folder)} });
      return { says: m.loadDatapathLibrary().func('rk_which', 'str', [])() };`;
    expect(run(script)).toEqual({ says: 'stand-in success' });
  });

  test('binds to the system library when that was chosen', () => {
    const script = `m.loadVerbs({ provider: 'system', libDir: ${JSON.stringify(folder)} });
      return { says: m.loadDatapathLibrary().func('rk_which', 'str', [])() };`;
    expect(run(script)).toEqual({ says: 'success' });
  });
});

describe('a missing or broken library', () => {
  test('is named, with the command that builds it', () => {
    const error = run(`m.loadVerbs({ provider: 'soft', libDir: ${JSON.stringify(join(folder, 'empty'))} })`);
    expect(error).toMatchObject({ kind: 'environment', remedy: 'make -C c' });
    expect(error.what).toContain(join(folder, 'empty', 'softrdma', 'libibverbs.so.1'));
  });

  test('in a folder of the environment points at the variable', () => {
    const error = run(`m.loadVerbs({ provider: 'soft' })`, { RDMAKIT_LIB_DIR: join(folder, 'empty') });
    expect(error.remedy).toContain('RDMAKIT_LIB_DIR');
  });

  test('that is no library gives the reason of the dynamic linker', () => {
    const error = run(`m.loadVerbs({ provider: 'soft', libDir: ${JSON.stringify(join(folder, 'broken'))} })`);
    expect(error).toMatchObject({ kind: 'environment', remedy: 'make -C c' });
    expect(String(error.cause)).toMatch(/invalid ELF header|file too short/);
  });
});
