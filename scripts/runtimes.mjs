/** Where the JavaScript runtimes lie that npm installed. Plain Node without dependencies: also used before set-up. */

import { fileURLToPath } from 'node:url';

const modules = fileURLToPath(new URL('../node_modules/', import.meta.url));
const arm = process.arch === 'arm64';

/** Paths of the binaries; `node` is the one of the machine. */
export const runtimes = {
  bun: `${modules}@oven/bun-linux-${arm ? 'aarch64' : 'x64'}/bin/bun`,
  deno: `${modules}@deno/linux-${arm ? 'arm64' : 'x64'}-glibc/deno`,
  node22: `${modules}node-linux-${arm ? 'arm64' : 'x64'}/bin/node`,
  node: process.env.RDMAKIT_TEST_NODE ?? process.env.npm_node_execpath ?? 'node',
};

/** What Deno must be allowed: native libraries, files, the environment, child processes, sockets, host facts. */
export const denoFlags = [
  '--allow-ffi',
  '--allow-read',
  '--allow-write',
  '--allow-env',
  '--allow-run',
  '--allow-net',
  '--allow-sys',
];
