/** socat and the three netcats: what goes in at one end comes out at the other, and the end of it too. */

import { createHash, randomBytes } from 'node:crypto';
import { appendFileSync, createReadStream } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Bench } from './bench.ts';
import { mustSay, type Row } from './row.ts';

export const NEEDED = ['socat', 'ncat', 'nc.openbsd', 'nc.traditional', 'sha256sum'];

/** How much goes through each pair; RDMAKIT_COMPAT_MEGABYTES=1000 for what takes too long on every run. */
const MEGABYTES = Number(process.env.RDMAKIT_COMPAT_MEGABYTES ?? 32);

/** How each listens and writes to its standard output, and how it sends its standard input and ends. */
const RECEIVERS = {
  socat: (port: number) => `socat -u TCP-LISTEN:${port} -`,
  ncat: (port: number) => `ncat -l ${port} --recv-only`,
  'nc.openbsd': (port: number) => `nc.openbsd -l ${port} </dev/null`,
  'nc.traditional': (port: number) => `nc.traditional -l -p ${port} </dev/null`,
} as const;
const SENDERS = {
  socat: (host: string, port: number) => `socat -u - TCP:${host}:${port}`,
  ncat: (host: string, port: number) => `ncat --send-only ${host} ${port}`,
  'nc.openbsd': (host: string, port: number) => `nc.openbsd -N ${host} ${port}`,
  'nc.traditional': (host: string, port: number) => `nc.traditional -q 0 ${host} ${port}`,
} as const;
type Name = keyof typeof RECEIVERS;
const PACKAGE: Record<Name, string> = {
  socat: 'socat',
  ncat: 'ncat',
  'nc.openbsd': 'netcat-openbsd',
  'nc.traditional': 'netcat-traditional',
};

interface Data {
  path: string;
  sha256: string;
}
let made: Promise<Data> | undefined;

/** The file that all send, made once; a megabyte at a time, because it may be large. */
async function data(base: string): Promise<Data> {
  const path = join(base, 'data');
  for (let i = 0; i < MEGABYTES; i++) appendFileSync(path, randomBytes(1_000_000));
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path)) hash.update(chunk);
  return { path, sha256: hash.digest('hex') };
}

async function pair(bench: Bench, sender: Name, receiver: Name): Promise<void> {
  made ??= data(dirname(bench.folder));
  const { path, sha256 } = await made;
  const port = bench.port();
  const receiving = await bench.server(['sh', '-c', `${RECEIVERS[receiver](port)} | sha256sum`], { port });
  await bench.client(['sh', '-c', `${SENDERS[sender](bench.address, port)} <${path}`]);
  mustSay(await bench.ends(receiving), new RegExp(`^${sha256} `));
}

const row = (sender: Name, receiver: Name): Row => ({
  from: [...new Set([PACKAGE[sender], PACKAGE[receiver]])].join(', '),
  program: sender === receiver ? `${sender}, twice` : `${sender} to ${receiver}`,
  run: (bench) => pair(bench, sender, receiver),
});

const names = Object.keys(RECEIVERS) as Name[];

/** Each with itself and with the next one, both ways. */
export const ROWS: Row[] = names.flatMap((name, i) => {
  const next = names[(i + 1) % names.length] ?? name;
  return [row(name, name), row(name, next), row(next, name)];
});
