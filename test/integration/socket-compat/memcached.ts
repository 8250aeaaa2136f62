/** memcached: threads that hand connections to each other. */

import type { Bench } from './bench.ts';
import { mustSay, type Row } from './row.ts';

export const NEEDED = ['memcached', 'memccapable', 'memcslap'];
const FROM = 'memcached, libmemcached-tools';

async function memcached(bench: Bench): Promise<number> {
  const port = bench.port();
  await bench.server(['memcached', '-u', 'root', '-p', `${port}`, '-U', '0', '-t', '4', '-m', '64'], {
    port,
  });
  return port;
}

export const ROWS: Row[] = [
  {
    from: FROM,
    program: 'memcached, memccapable',
    async run(bench) {
      const port = await memcached(bench);
      mustSay(await bench.client(['memccapable', '-h', bench.address, '-p', `${port}`]), /All tests passed/);
    },
  },
  {
    from: FROM,
    program: 'memcached, memcslap --concurrency=4',
    async run(bench) {
      const servers = `--servers=${bench.address}:${await memcached(bench)}`;
      const size = ['--concurrency=4', '--execute-number=2000', '--initial-load=1000', '--test=get'];
      mustSay(await bench.client(['memcslap', servers, ...size]), /Time to get\s+8000 keys by\s+4 threads/);
    },
  },
];
