/** haproxy in front of a plain nginx, by streams and by HTTP, and a reload that hands its listening sockets on. */

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { sleep } from '../lib/process.ts';
import type { Bench } from './bench.ts';
import { nginx } from './nginx.ts';
import { mustSay, type Row } from './row.ts';

export const NEEDED = ['haproxy', 'ab'];

/** Gives its address. */
async function haproxy(bench: Bench, mode: 'tcp' | 'http'): Promise<string> {
  const backend = await nginx(bench, 1, { plain: true });
  const port = bench.port();
  const { folder } = bench;
  writeFileSync(
    join(folder, 'haproxy.cfg'),
    `global
  stats socket ${folder}/admin mode 600 level admin expose-fd listeners
defaults
  mode ${mode}
  timeout connect 5s
  timeout client 20s
  timeout server 20s
frontend front
  bind 0.0.0.0:${port}
  default_backend back
backend back
  server one ${backend.replace('http://', '')}
`,
  );
  const argv = ['haproxy', '-W', '-db', '-p', join(folder, 'haproxy.pid'), '-f', join(folder, 'haproxy.cfg')];
  await bench.server(argv, { port });
  return `http://${bench.address}:${port}`;
}

const behind = (mode: 'tcp' | 'http'): Row => ({
  from: 'haproxy, apache2-utils',
  program: `haproxy (${mode}) before nginx, ab -k -c 8`,
  async run(bench) {
    const url = await haproxy(bench, mode);
    const text = await bench.client(['ab', '-q', '-k', '-n', '3000', '-c', '8', `${url}/small`]);
    mustSay(text, /Complete requests:\s+3000\nFailed requests:\s+0\n/);
  },
});

export const ROWS: Row[] = [
  behind('tcp'),
  behind('http'),
  {
    from: 'haproxy, apache2-utils',
    program: 'haproxy: reload (USR2), its sockets passed on, under ab',
    brief: true,
    async run(bench) {
      const url = await haproxy(bench, 'http');
      const loaded = bench.client(['ab', '-q', '-t', '2', '-n', '1000000', '-c', '4', `${url}/small`]);
      for (let i = 0; i < 2; i++) {
        await sleep(500);
        process.kill(
          Number(readFileSync(join(bench.folder, 'haproxy.pid'), 'utf8').split('\n')[0]),
          'SIGUSR2',
        );
      }
      mustSay(await loaded, /Complete requests:\s+[1-9]\d+\nFailed requests:\s+0\n/);
    },
  },
];
