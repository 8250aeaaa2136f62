/** Redis: small requests of many connections to a server of one thread, also while it forks to save. */

import type { Bench } from './bench.ts';
import { mustSay, type Row } from './row.ts';

export const NEEDED = ['redis-server', 'redis-benchmark', 'redis-cli'];

async function redis(bench: Bench): Promise<string[]> {
  const port = bench.port();
  const more = ['--save', '', '--dir', bench.folder, '--protected-mode', 'no'];
  await bench.server(['redis-server', '--port', `${port}`, ...more], { port });
  return ['-h', bench.address, '-p', `${port}`];
}

async function benchmark(bench: Bench, to: readonly string[], ...args: string[]): Promise<void> {
  const text = await bench.client(['redis-benchmark', ...to, '--csv', ...args]);
  for (const command of ['SET', 'GET']) mustSay(text, new RegExp(`^"${command}","[1-9]`, 'm'));
}

export const ROWS: Row[] = [
  {
    from: 'redis-server, redis-tools',
    program: 'redis-server, redis-benchmark -c 50',
    async run(bench) {
      await benchmark(bench, await redis(bench), '-t', 'set,get', '-n', '10000', '-c', '50');
    },
  },
  {
    from: 'redis-server, redis-tools',
    program: 'redis-server, redis-benchmark -c 50 -P 16',
    async run(bench) {
      await benchmark(bench, await redis(bench), '-t', 'set,get', '-n', '40000', '-c', '50', '-P', '16');
    },
  },
  {
    from: 'redis-server, redis-tools',
    program: 'redis-server: BGSAVE under redis-benchmark',
    async run(bench) {
      const to = await redis(bench);
      const load = ['-t', 'set,get', '-n', '30000', '-c', '20', '-r', '10000', '-d', '100'];
      const loaded = benchmark(bench, to, ...load);
      mustSay(await bench.client(['redis-cli', ...to, 'BGSAVE']), /Background saving started/);
      const saving = `redis-cli ${to.join(' ')} INFO persistence | grep -q rdb_bgsave_in_progress:1`;
      await bench.client(['sh', '-c', `while ${saving}; do sleep 0.05; done`]);
      await loaded;
      mustSay(await bench.client(['redis-cli', ...to, 'INFO', 'persistence']), /rdb_last_bgsave_status:ok/);
    },
  },
];
