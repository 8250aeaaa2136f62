import { afterEach, describe, expect, test } from 'bun:test';
import { createConnection, createServer, type Socket } from 'node:net';
import { VerbsError } from '../../src/verbs/doctor.ts';
import { connect, listen, loopbackPair, PROTOCOL_VERSION } from '../../src/verbs/side-channel.ts';

const HELLO = `${JSON.stringify({ protocol: 'rdmakit.side-channel', version: PROTOCOL_VERSION })}\n`;
const host = '127.0.0.1';
const closers: (() => void)[] = [];

afterEach(() => {
  for (const close of closers.splice(0)) close();
});

/** Waits for the error of a promise; fails when there is none. */
async function errorOf(promise: Promise<unknown>): Promise<VerbsError> {
  try {
    await promise;
  } catch (error) {
    expect(error).toBeInstanceOf(VerbsError);
    return error as VerbsError;
  }
  throw new Error('it did not fail');
}

/** A far end that writes bytes of the test's choice, and reports what it got. */
async function rawServer(greeting: string | Uint8Array, then?: (socket: Socket) => void): Promise<number> {
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.write(greeting);
    then?.(socket);
    closers.push(() => socket.destroy());
  });
  closers.push(() => server.close());
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  return (server.address() as { port: number }).port;
}

describe('a session', () => {
  test('carries messages both ways in order', async () => {
    const [near, far] = await loopbackPair();
    closers.push(
      () => near.close(),
      () => far.close(),
    );
    for (let i = 0; i < 100; i++) near.send({ i });
    far.send({ big: 'x'.repeat(50_000), address: (1n << 64n) - 1n });
    for (let i = 0; i < 100; i++) expect(await far.receive()).toEqual({ i });
    expect(await near.receive()).toEqual({ big: 'x'.repeat(50_000), address: '0xffffffffffffffff' });
    expect(near.remoteAddress).toBe(host);
  });

  test('meets in barriers by name', async () => {
    const [near, far] = await loopbackPair();
    closers.push(
      () => near.close(),
      () => far.close(),
    );
    await Promise.all([near.barrier('a'), far.barrier('a')]);
    const results = await Promise.allSettled([near.barrier('b'), far.barrier('c')]);
    expect(results.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
    expect(near.closed && far.closed).toBe(true);
  });

  test('delivers what was sent before it was closed', async () => {
    const [near, far] = await loopbackPair();
    near.send({ last: true });
    near.close();
    near.close();
    expect(await far.receive()).toEqual({ last: true });
    expect((await errorOf(far.receive())).code).toBe('peer-gone');
    expect(() => near.send({})).toThrow('closed session');
  });

  test('tells the far end why this end failed', async () => {
    const [near, far] = await loopbackPair();
    const waiting = errorOf(far.receive());
    near.abort('no memory\u001b[31m');
    const error = await waiting;
    expect(error.code).toBe('peer-failed');
    expect(error.likelyCause).toContain('no memory');
    expect(error.likelyCause).not.toContain('\u001b');
  });

  test('times out, and goes on afterwards', async () => {
    const [near, far] = await loopbackPair();
    closers.push(
      () => near.close(),
      () => far.close(),
    );
    expect((await errorOf(near.receive({ timeoutMs: 10 }))).code).toBe('timeout');
    far.send({ late: 1 });
    expect(await near.receive()).toEqual({ late: 1 });
  });

  test('stops waiting when the signal is raised', async () => {
    const [near, far] = await loopbackPair();
    closers.push(
      () => near.close(),
      () => far.close(),
    );
    const controller = new AbortController();
    const waiting = near.receive({ signal: controller.signal });
    controller.abort(new Error('stop'));
    expect(waiting).rejects.toThrow('stop');
    expect(near.receive({ signal: controller.signal })).rejects.toThrow('stop');
  });

  test('refuses to send what is no JSON object', async () => {
    const [near, far] = await loopbackPair();
    closers.push(
      () => near.close(),
      () => far.close(),
    );
    // @ts-expect-error a list is no object
    expect(() => near.send([1])).toThrow(VerbsError);
    expect(() => near.send({ large: 'x'.repeat(70_000) })).toThrow(VerbsError);
  });
});

describe('a far end that cannot be trusted', () => {
  const hostile: [string, string | Uint8Array][] = [
    ['that is a web server', 'HTTP/1.1 400 Bad Request\r\n\r\n'],
    ['that sends no JSON', 'hello\n'],
    ['that sends no object', '[1,2]\n'],
    ['that sends null', 'null\n'],
    ['that sends bytes that are no UTF-8', Uint8Array.of(0x7b, 0xff, 0xfe, 0x7d, 10)],
    ['that sends another protocol', '{"protocol":"other","version":1}\n'],
    ['that sends an endless line', 'x'.repeat(200_000)],
    ['that sends a huge line with an end', `{"a":"${'x'.repeat(200_000)}"}\n`],
    ['that nests too deep', `${'['.repeat(60_000)}\n`],
    ['that sends empty lines', '\n\n\n'],
  ];
  for (const [name, bytes] of hostile) {
    test(`${name} gives an error of the peer`, async () => {
      const port = await rawServer(bytes);
      const error = await errorOf(connect({ host, port }));
      expect(error.code).toBe('protocol');
      expect(error.exitCode).toBe(4);
    });
  }

  test('of another version is named with both versions', async () => {
    const port = await rawServer('{"protocol":"rdmakit.side-channel","version":999}\n');
    const error = await errorOf(connect({ host, port }));
    expect(error.code).toBe('version');
    expect(error.likelyCause).toContain('999');
  });

  test('that says nothing runs into the timeout', async () => {
    const port = await rawServer('');
    expect((await errorOf(connect({ host, port, timeoutMs: 50 }))).code).toBe('timeout');
  });

  test('that closes at once is reported as gone', async () => {
    const port = await rawServer('', (socket) => socket.end());
    expect((await errorOf(connect({ host, port }))).code).toBe('peer-gone');
  });

  test('that floods us with messages is cut off', async () => {
    const port = await rawServer(HELLO, (socket) => socket.write('{"x":1}\n'.repeat(5000)));
    const session = await connect({ host, port });
    const results: unknown[] = [];
    const error = await errorOf(
      (async () => {
        for (;;) results.push(await session.receive());
      })(),
    );
    expect(error.code).toBe('protocol');
    expect(results.length).toBeLessThanOrEqual(1024);
  });

  test('that is not there is reported with the remedy', async () => {
    const server = await listen({ host });
    const { port } = server;
    server.close();
    const error = await errorOf(connect({ host, port }));
    expect(error.code).toBe('ECONNREFUSED');
    expect(error.remedy).toContain('--listen');
  });
});

describe('a server', () => {
  test('serves as many far ends as come', async () => {
    const server = await listen({ host });
    closers.push(() => server.close());
    const clients = await Promise.all([1, 2, 3].map(() => connect({ host, port: server.port })));
    const sessions = [await server.accept(), await server.accept(), await server.accept()];
    sessions.forEach((session, i) => {
      session.send({ i });
    });
    const seen = await Promise.all(clients.map(async (client) => (await client.receive()).i));
    expect(seen.sort()).toEqual([0, 1, 2]);
    for (const session of [...clients, ...sessions]) session.close();
  });

  test('drops and counts strangers, and still serves the next', async () => {
    const server = await listen({ host });
    closers.push(() => server.close());
    const stranger = createConnection({ host, port: server.port });
    stranger.on('error', () => {});
    stranger.write('GET / HTTP/1.0\r\n\r\n');
    await new Promise((resolve) => stranger.once('close', resolve).resume());
    const client = connect({ host, port: server.port });
    const session = await server.accept();
    expect(server.rejected).toBe(1);
    expect(server.lastRejection).toContain('GET /');
    (await client).close();
    session.close();
  });

  test('stops waiting by timeout, by signal and by close', async () => {
    const server = await listen({ host });
    expect((await errorOf(server.accept({ timeoutMs: 10 }))).code).toBe('timeout');
    const controller = new AbortController();
    const stopped = server.accept({ signal: controller.signal });
    controller.abort(new Error('stop'));
    expect(stopped).rejects.toThrow('stop');
    const waiting = errorOf(server.accept());
    server.close();
    expect((await waiting).code).toBe('closed');
    expect((await errorOf(server.accept())).code).toBe('closed');
  });

  test('says who is in the way when the port is taken', async () => {
    const server = await listen({ host });
    closers.push(() => server.close());
    const error = await errorOf(listen({ host, port: server.port }));
    expect(error.code).toBe('EADDRINUSE');
    expect(error.remedy).toContain('ss -ltnp');
  });

  test('refuses ports that do not exist', async () => {
    expect(() => listen({ host, port: 65536 })).toThrow(VerbsError);
    expect((await errorOf(connect({ host, port: 0 }))).code).toBe('bad-value');
  });
});
