/** Programs that we did not write, under socket-run: both ends, or only one, with equal bytes. */

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { socketLibrary } from '../../ffi/paths.ts';
import { freshPort } from './lib/pair.ts';
import { listensOn, Program, until } from './lib/process.ts';
import { requireAll } from './lib/requirements.ts';

const LIMIT_MS = 60_000;
const BYTES = 8 << 20;
let folder: string;
let data: Buffer;

beforeAll(() => {
  requireAll(['socat', 'curl', 'python3']);
  folder = mkdtempSync(join(tmpdir(), 'socket-run-'));
  data = randomBytes(BYTES);
  writeFileSync(join(folder, 'data'), data);
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

function start(argv: readonly string[], accelerated: boolean): Program {
  const env = { RDMAKIT_RUNTIME_DIR: folder, RDMAKIT_SOCKET_RING: 'always' };
  return new Program(argv, {
    env: accelerated ? { ...env, LD_PRELOAD: socketLibrary() } : env,
    limit_ms: LIMIT_MS,
  });
}

const ENDS = [
  ['both ends', true, true],
  ['only the server', true, false],
  ['only the client', false, true],
] as const;

for (const [name, server, client] of ENDS) {
  describe(`${name} accelerated`, () => {
    test(
      'socat moves a file',
      async () => {
        const port = freshPort();
        const out = join(folder, `out-${port}`);
        const receiver = start(['socat', '-u', `TCP-LISTEN:${port},bind=127.0.0.1`, `CREATE:${out}`], server);
        await until('socat listens', () => !receiver.alive || listensOn(receiver.pid, port));
        const sender = start(
          ['socat', '-u', `FILE:${join(folder, 'data')}`, `TCP:127.0.0.1:${port}`],
          client,
        );
        expect((await sender.ended).code).toBe(0);
        expect((await receiver.ended).code).toBe(0);
        expect(sha256(readFileSync(out))).toBe(sha256(data));
      },
      LIMIT_MS,
    );

    test(
      'curl fetches from http.server',
      async () => {
        const port = freshPort();
        const web = start(
          ['python3', '-m', 'http.server', String(port), '--bind', '127.0.0.1', '-d', folder],
          server,
        );
        await until('http.server listens', () => !web.alive || listensOn(web.pid, port));
        const out = join(folder, `curl-${port}`);
        const url = `http://127.0.0.1:${port}/data`;
        const fetched = await start(['curl', '-sS', '-o', out, url], client).ended;
        web.kill('SIGKILL');
        expect({ code: fetched.code, err: fetched.stderr }).toEqual({ code: 0, err: '' });
        expect(sha256(readFileSync(out))).toBe(sha256(data));
      },
      LIMIT_MS,
    );
  });
}
