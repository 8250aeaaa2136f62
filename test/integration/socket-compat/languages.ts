/** Servers and clients in the languages that people write them in: Python, JavaScript on three runtimes, Java, and Go, which cannot be reached. */

import { mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { runtimes } from '../../../scripts/runtimes.mjs';
import { mustRun } from '../lib/process.ts';
import type { Bench } from './bench.ts';
import { mustSay, type Row } from './row.ts';

export const NEEDED = ['python3', 'java', 'javac', 'go'];

const program = (name: string): string => fileURLToPath(new URL(`../programs/${name}`, import.meta.url));
const BUILD_LIMIT_MS = 60_000;

/** Built once for all cells, beside their folders. */
function once(build: (folder: string) => Promise<string>): (bench: Bench) => Promise<string> {
  let made: Promise<string> | undefined;
  return ({ folder }) => {
    made ??= build(dirname(folder));
    return made;
  };
}
const javaClasses = once(async (folder) => {
  await mustRun(['javac', '-d', join(folder, 'java'), program('NioEcho.java')], { limit_ms: BUILD_LIMIT_MS });
  return join(folder, 'java');
});
const goProgram = once(async (folder) => {
  const home = join(folder, 'go');
  mkdirSync(home);
  const env = { HOME: home, GOCACHE: join(home, 'cache'), GOFLAGS: '-mod=mod', CGO_ENABLED: '0' };
  const argv = ['go', 'build', '-o', join(home, 'echo'), program('echo.go')];
  await mustRun(argv, { env, limit_ms: BUILD_LIMIT_MS });
  return join(home, 'echo');
});

/** The same program is server (`serve PORT`) and client (`ask HOST PORT`), and says what came back. */
const echo = (
  from: string,
  name: string,
  argv: (bench: Bench) => Promise<readonly string[]> | readonly string[],
  note?: string,
): Row => ({
  from,
  program: name,
  ...(note ? { note } : {}),
  async run(bench) {
    const port = bench.port();
    const command = await argv(bench);
    await bench.server([...command, 'serve', `${port}`], { port });
    mustSay(
      await bench.client([...command, 'ask', bench.address, `${port}`]),
      /^\d+ (messages|bodies) came back$/m,
    );
  },
});

const HTTP = program('http-echo.mjs');
export const ROWS: Row[] = [
  echo('python3', 'asyncio streams, 4 clients', () => ['python3', program('asyncio-echo.py')]),
  echo(
    'node (npm)',
    'node: HTTP server and fetch',
    () => [runtimes.node22, HTTP],
    'its libuv makes an io_uring, which could read and write sockets unseen',
  ),
  echo('bun (npm)', 'bun: HTTP server and fetch', () => [runtimes.bun, HTTP]),
  echo('deno (npm)', 'deno: HTTP server and fetch', () => [runtimes.deno, 'run', '--quiet', '-A', HTTP]),
  echo('default-jdk-headless', 'Java: NIO channels and a selector', async (bench) => [
    'java',
    '-cp',
    await javaClasses(bench),
    'NioEcho',
  ]),
  echo(
    'golang-go',
    'Go: net',
    async (bench) => [await goProgram(bench)],
    'a static program that makes its system calls itself: it works, and stays on TCP, as `--check` says beforehand',
  ),
];
