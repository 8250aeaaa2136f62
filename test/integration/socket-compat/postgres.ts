/** PostgreSQL: a process for each connection, forked from the one that accepts; it waits by epoll with a descriptor for signals. */

import { cpSync, existsSync, mkdirSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { mustRun, run, sleep } from '../lib/process.ts';
import type { Bench } from './bench.ts';
import { mustSay, type Row } from './row.ts';

export const NEEDED = ['pgbench'];
const FROM = 'postgresql';

/** Debian keeps them by version, outside of PATH. */
function tool(name: string): string {
  const root = '/usr/lib/postgresql';
  const versions = existsSync(root) ? readdirSync(root).sort((a, b) => Number(b) - Number(a)) : [];
  const found = versions.map((each) => join(root, each, 'bin', name)).find((path) => existsSync(path));
  if (!found) throw new Error(`needs ${name}: run \`apt-get install -y postgresql\``);
  return found;
}

/** Its server refuses to run as root. */
const AS = ['setpriv', '--reuid=postgres', '--regid=postgres', '--clear-groups'];

let made: Promise<string> | undefined;

/** A database of pgbench, made once by the programs themselves without the library; each cell has a copy. */
async function template(base: string): Promise<string> {
  const folder = join(base, 'postgres');
  mkdirSync(folder);
  await mustRun(['chown', 'postgres', folder]);
  const data = join(folder, 'data');
  await mustRun([...AS, tool('initdb'), '-A', 'trust', '--no-sync', '-D', data], { cwd: folder });
  const start = `${tool('pg_ctl')} -w -D ${data} -l ${folder}/log -o "-k ${folder} -c listen_addresses=''"`;
  const fill = `${tool('pgbench')} -i -q -h ${folder} postgres`;
  const script = `${start} start && ${fill} && ${start} -m fast stop`;
  await mustRun([...AS, 'sh', '-c', script], { cwd: folder, limit_ms: 60_000 });
  return data;
}

async function pgbench(bench: Bench, ...args: string[]): Promise<void> {
  made ??= template(dirname(bench.folder));
  const data = join(bench.folder, 'data');
  cpSync(await made, data, { recursive: true });
  await mustRun(['sh', '-c', `echo 'host all all 10.0.0.0/8 trust' >>${data}/pg_hba.conf`]);
  await mustRun(['chown', '-R', 'postgres', bench.folder]);
  const port = bench.port();
  const options = ['-k', bench.folder, '-p', `${port}`, '-c', 'listen_addresses=*', '-c', 'fsync=off'];
  await bench.server([tool('postgres'), '-D', data, ...options], { port, as: AS, stop: 'SIGINT' });
  // It listens before it takes connections.
  const asked = [tool('pg_isready'), '-q', '-h', '127.0.0.1', '-p', `${port}`];
  for (let tries = 0; (await run(asked, { netns: bench.netns('server') })).code !== 0; tries++) {
    if (tries > 100) throw new Error('postgres takes no connections');
    await sleep(50);
  }
  const to = ['-h', bench.address, '-p', `${port}`, 'postgres'];
  const text = await bench.client([tool('pgbench'), '-n', ...args, ...to], { as: AS });
  mustSay(text, /number of failed transactions: 0 /);
}

export const ROWS: Row[] = [
  {
    from: FROM,
    program: 'postgres, pgbench -S -c 4',
    run: (bench) => pgbench(bench, '-S', '-c', '4', '-j', '2', '-t', '2000'),
  },
  {
    from: FROM,
    program: 'postgres, pgbench -c 2: writes',
    run: (bench) => pgbench(bench, '-c', '2', '-t', '200'),
  },
  {
    from: FROM,
    program: 'postgres, pgbench -S -C: a connection each',
    run: (bench) => pgbench(bench, '-S', '-C', '-c', '2', '-t', '10'),
  },
];
