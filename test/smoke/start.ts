/**
 * Starts a TypeScript entry on the runtime under test. RDMAKIT_SMOKE is bun (default), deno, node22 (the source) or dist
 * (built files on the machine's Node).
 */

import { afterAll } from 'bun:test';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { denoFlags, runtimes } from '../../scripts/runtimes.mjs';

export const root = fileURLToPath(new URL('../..', import.meta.url));
export const runtime = process.env.RDMAKIT_SMOKE ?? 'bun';

const LAUNCHERS: Record<string, string[]> = {
  bun: [runtimes.bun],
  deno: [runtimes.deno, 'run', '--quiet', ...denoFlags],
  node22: [runtimes.node22, '--disable-warning=ExperimentalWarning'],
  dist: [runtimes.node],
};
const launcher = LAUNCHERS[runtime];
if (!launcher) throw new Error(`RDMAKIT_SMOKE=${runtime} is not one of ${Object.keys(LAUNCHERS).join(', ')}`);

/** The file to start for a source file: itself, or with `dist` its build (src/cli.ts has one already). */
export function entryFor(source: string): string {
  if (runtime !== 'dist') return source;
  if (source === 'src/cli.ts') return 'dist/cli.js';
  // below the root, where the external packages are found
  const folder = mkdtempSync(join(root, '.setup/smoke-'));
  afterAll(() => rmSync(folder, { recursive: true }));
  const build = spawnSync(
    runtimes.bun,
    ['build', '--target=node', '--packages=external', `--outdir=${folder}`, source],
    { cwd: root, encoding: 'utf8' },
  );
  if (build.status !== 0) throw new Error(build.stderr);
  return join(folder, basename(source).replace(/\.ts$/, '.js'));
}

export interface Outcome {
  code: number | null;
  signal: NodeJS.Signals | null;
  out: string;
  err: string;
}

/** Without colour variables: Node warns on stderr when it sees both. */
const { NO_COLOR: _no, FORCE_COLOR: _force, ...env } = process.env;

/** Starts the entry; it is killed after a minute. `stdout` is a file descriptor instead of a pipe. */
export function start(entry: string, args: string[], stdout?: number): ChildProcess {
  const [program = '', ...words] = [...(launcher ?? []), entry, ...args];
  return spawn(program, words, {
    cwd: root,
    env,
    stdio: ['ignore', stdout ?? 'pipe', 'pipe'],
    timeout: 60_000,
    killSignal: 'SIGKILL',
  });
}

/** Waits for the end; `onOut` sees all of stdout so far each time more arrives. */
export function finish(child: ChildProcess, onOut?: (out: string) => void): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    let out = '';
    let err = '';
    child.stdout?.on('data', (chunk) => {
      out += chunk;
      onOut?.(out);
    });
    child.stderr?.on('data', (chunk) => {
      err += chunk;
    });
    child.on('error', reject);
    child.on('close', (code, signal) => resolve({ code, signal, out, err }));
  });
}
