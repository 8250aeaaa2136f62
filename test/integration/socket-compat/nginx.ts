/** nginx: worker processes on one listener, files by sendfile(), a reload and a change of the program under load; haproxy before it. */

import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { sleep, until } from '../lib/process.ts';
import type { Bench } from './bench.ts';
import { mustSay, type Row } from './row.ts';

export const NEEDED = ['nginx', 'wrk', 'ab', 'curl', 'haproxy'];

const SMALL_BYTES = 1024;
const LARGE_BYTES = 1 << 20;
const FROM = 'nginx-light, wrk';

/** Starts it with these worker processes; gives its address. `daemon`: it leaves the process that started it; `plain`: without the library. */
export async function nginx(
  bench: Bench,
  workers: number,
  { daemon = false, plain = false }: { daemon?: boolean; plain?: boolean } = {},
): Promise<string> {
  const port = bench.port();
  const { folder } = bench;
  writeFileSync(join(folder, 'small'), randomBytes(SMALL_BYTES));
  writeFileSync(join(folder, 'large'), randomBytes(LARGE_BYTES));
  writeFileSync(
    join(folder, 'nginx.conf'),
    `daemon ${daemon ? 'on' : 'off'}; user root; worker_processes ${workers}; error_log ${folder}/error.log; pid ${folder}/pid;
     events { worker_connections 512; }
     http {
       access_log off; keepalive_requests 1000000; sendfile on;
       ${['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `${name}_temp_path ${folder}/${name};`).join(' ')}
       server { listen ${port}; root ${folder}; }
     }`,
  );
  // By its path, because it starts its successor by the name that it was started by.
  const argv = ['/usr/sbin/nginx', '-e', 'stderr', '-p', folder, '-c', join(folder, 'nginx.conf')];
  // The shell stands for the daemon as long as there is one.
  const waited = `${argv.join(' ')} && while [ -e ${folder}/pid ]; do sleep 0.05; done`;
  await bench.server(daemon ? ['sh', '-c', waited] : argv, { port, plain });
  return `http://${bench.address}:${port}`;
}

const masterOf = (bench: Bench): number => Number(readFileSync(join(bench.folder, 'pid'), 'utf8'));

/** A second of load; every answer must be a good one. */
async function wrk(bench: Bench, url: string, connections: number, seconds = 1): Promise<void> {
  const text = await bench.client(['wrk', '-t', '1', '-c', `${connections}`, '-d', `${seconds}`, url]);
  mustSay(text, /^Requests\/sec:\s+[1-9]/m);
  if (/Non-2xx|Socket errors/.test(text)) throw new Error(`not every answer was good\n${text}`);
}

/** A second and a half of connections that ask once: unlike kept ones, nginx loses none of them when it changes. */
async function ab(bench: Bench, url: string): Promise<void> {
  const text = await bench.client(['ab', '-q', '-t', '1.5', '-n', '1000000', '-c', '4', url]);
  mustSay(text, /Complete requests:\s+[1-9]\d+\nFailed requests:\s+0\n/);
}

/** Fetches the large file: it must come whole. */
async function mustFetch(bench: Bench, url: string): Promise<void> {
  const got = join(bench.folder, 'got');
  await bench.client(['curl', '-sS', '--fail', '-o', got, url]);
  if (!readFileSync(got).equals(readFileSync(join(bench.folder, 'large'))))
    throw new Error('the file differs');
}

export const ROWS: Row[] = [
  {
    from: FROM,
    program: 'nginx (1 worker), wrk -c 50',
    async run(bench) {
      const url = await nginx(bench, 1);
      await wrk(bench, `${url}/small`, 50);
      await mustFetch(bench, `${url}/large`);
    },
  },
  {
    from: FROM,
    program: 'nginx (4 workers), wrk -c 4, 1 MiB each',
    async run(bench) {
      const url = await nginx(bench, 4);
      await wrk(bench, `${url}/large`, 4);
      await mustFetch(bench, `${url}/large`);
    },
  },
  {
    from: 'nginx-light, apache2-utils',
    program: 'nginx (4 workers), ab -k -c 8',
    async run(bench) {
      const url = await nginx(bench, 4);
      const text = await bench.client(['ab', '-q', '-k', '-n', '5000', '-c', '8', `${url}/small`]);
      mustSay(text, /Complete requests:\s+5000\nFailed requests:\s+0\n/);
    },
  },
  {
    from: 'nginx-light, apache2-utils',
    program: 'nginx (4 workers), ab -c 8: a connection each',
    brief: true,
    async run(bench) {
      const url = await nginx(bench, 4);
      const text = await bench.client(['ab', '-q', '-n', '500', '-c', '8', `${url}/small`]);
      mustSay(text, /Complete requests:\s+500\nFailed requests:\s+0\n/);
    },
  },
  {
    from: 'nginx-light, apache2-utils',
    program: 'nginx: reload (HUP) under ab',
    brief: true,
    async run(bench) {
      const url = await nginx(bench, 2);
      const loaded = ab(bench, `${url}/small`);
      for (let i = 0; i < 3; i++) {
        await sleep(250);
        process.kill(masterOf(bench), 'SIGHUP');
      }
      await loaded;
      await mustFetch(bench, `${url}/large`);
    },
  },
  {
    from: 'nginx-light, apache2-utils',
    program: 'nginx: another program takes over (USR2, QUIT) under ab',
    brief: true,
    async run(bench) {
      const url = await nginx(bench, 2, { daemon: true });
      const loaded = ab(bench, `${url}/small`);
      await sleep(200);
      const old = masterOf(bench);
      process.kill(old, 'SIGUSR2');
      const files = ['pid.oldbin', 'pid'].map((name) => join(bench.folder, name));
      await until('the new master runs', () => files.every((file) => existsSync(file)));
      await sleep(200);
      process.kill(old, 'SIGQUIT');
      await loaded;
      await until('the old master has ended', () => !existsSync(`/proc/${old}`));
      await mustFetch(bench, `${url}/large`);
      process.kill(masterOf(bench), 'SIGTERM');
    },
  },
];
