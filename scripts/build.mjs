/**
 * Builds dist/: the command line bundled for Node, commands in chunks of their own so that they load lazily.
 * dist/ lies one level below the root like ffi/, so that paths relative to a file (../prebuilds) hold in both.
 */

import { spawnSync } from 'node:child_process';
import { chmodSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { runtimes } from './runtimes.mjs';

process.chdir(fileURLToPath(new URL('..', import.meta.url)));
rmSync('dist', { recursive: true, force: true });
const build = spawnSync(
  runtimes.bun,
  [
    'build',
    '--target=node',
    '--format=esm',
    '--splitting',
    '--packages=external',
    '--outdir=dist',
    'src/cli.ts',
  ],
  { stdio: ['ignore', 'ignore', 'inherit'] },
);
if (build.status === 0) chmodSync('dist/cli.js', 0o755);
process.exitCode = build.status ?? 1;
