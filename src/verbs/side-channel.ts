/**
 * The TCP side channel: two ends of a tool agree on things before, and beside, RDMA.
 *
 * Each end begins with a hello that names the protocol and its version; nobody gets a
 * Session before the far end's hello was right.
 */

import { createConnection, createServer, type Server, type Socket } from 'node:net';
import { requireInteger } from './check.ts';
import { failure, VerbsError } from './doctor.ts';
import {
  DEFAULT_TIMEOUT_MS,
  plainAddress,
  printable,
  Session,
  socketFailure,
  type WaitOptions,
} from './session.ts';

/** Version of the hello and of what endpoints look like; raised when either changes. */
export const PROTOCOL_VERSION = 1;
const PROTOCOL_NAME = 'rdmakit.side-channel';

/** Peers that may be in the middle of their hello at once. */
const MOST_GREETING = 512;

/** Sends our hello and checks the far end's. */
async function greet(session: Session, options: WaitOptions): Promise<void> {
  session.send({ protocol: PROTOCOL_NAME, version: PROTOCOL_VERSION });
  const hello = await session.receive(options);
  if (hello.protocol !== PROTOCOL_NAME) throw session.fail(`its first line is ${printable(hello)}`);
  if (hello.version !== PROTOCOL_VERSION) {
    session.close();
    throw failure({
      call: 'connect',
      code: 'version',
      attempt: `talk to ${session.remoteAddress}`,
      details: [`here is version ${PROTOCOL_VERSION}, there ${printable(hello.version)}`],
    });
  }
}

/** Where to connect. */
export interface PeerOptions extends WaitOptions {
  readonly host: string;
  readonly port: number;
}

/** Connects to a listening far end and exchanges hellos. */
export async function connect(options: PeerOptions): Promise<Session> {
  const { host } = options;
  const port = requireInteger('the port', options.port, 1, 65535);
  const timeoutMs = requireInteger('the timeout', options.timeoutMs ?? DEFAULT_TIMEOUT_MS, 1, 2 ** 31 - 1);
  const end = performance.now() + timeoutMs;
  const attempt = `connect to ${host} port ${port}`;
  const socket = createConnection({ host, port });
  const connected = new Promise<void>((resolve, reject) => {
    socket.once('connect', () => resolve());
    socket.once('error', (error) => reject(socketFailure('connect', attempt, firstOf(error))));
  });
  try {
    await within(connected, timeoutMs, options.signal, () =>
      failure({ call: 'connect', code: 'ETIMEDOUT', attempt }),
    );
  } catch (error) {
    socket.destroy();
    throw error;
  }
  const session = new Session(socket);
  try {
    const left = Math.max(1, Math.ceil(end - performance.now()));
    await greet(session, { timeoutMs: left, signal: options.signal });
  } catch (error) {
    session.close();
    throw error;
  }
  return session;
}

/** Connecting to a name with several addresses fails with one error for each: the first is shown. */
function firstOf(error: unknown): unknown {
  return error instanceof AggregateError && error.errors.length > 0 ? error.errors[0] : error;
}

/** Waits for a promise, a timeout, or an abort, whichever is first. */
function within<T>(
  promise: Promise<T>,
  timeoutMs: number,
  signal: AbortSignal | undefined,
  late: () => Error,
): Promise<T> {
  // However the wait ends, its timer must not keep the process alive.
  let timer: ReturnType<typeof setTimeout> | undefined;
  let onAbort = (): void => {};
  const ended = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(late()), timeoutMs);
    onAbort = () => reject(signal?.reason);
    signal?.addEventListener('abort', onAbort, { once: true });
    if (signal?.aborted === true) onAbort();
  });
  return Promise.race([promise, ended]).finally(() => {
    clearTimeout(timer);
    signal?.removeEventListener('abort', onAbort);
  });
}

/** Where to listen. */
export interface ListenOptions {
  /** Address to listen on; all when absent. */
  readonly host?: string;
  /** Port; 0 or absent takes a free one. */
  readonly port?: number;
}

interface AcceptWaiter {
  readonly resolve: (session: Session) => void;
  readonly reject: (error: unknown) => void;
}

/** Accepts far ends, each with its hello done. Peers that say something else are dropped and counted. */
export class SideServer {
  readonly host: string;
  readonly port: number;
  readonly #server: Server;
  readonly #ready: Session[] = [];
  readonly #waiters: AcceptWaiter[] = [];
  readonly #greeting = new Set<Session>();
  #closed = false;
  #rejected = 0;
  #lastRejection: string | undefined;

  /** Use {@link listen}. */
  constructor(server: Server) {
    const address = server.address();
    this.host = typeof address === 'object' && address !== null ? plainAddress(address.address) : '';
    this.port = typeof address === 'object' && address !== null ? address.port : 0;
    this.#server = server;
    server.on('connection', (socket) => void this.#welcome(socket));
    server.on('error', (error) => this.#stop(socketFailure('listen', `listen on port ${this.port}`, error)));
  }

  /** Peers that were dropped because they did not speak the protocol. */
  get rejected(): number {
    return this.#rejected;
  }

  /** Why the newest of them was dropped. */
  get lastRejection(): string | undefined {
    return this.#lastRejection;
  }

  /** The next far end. Without a timeout it waits for ever, until close() or the signal. */
  accept(options: WaitOptions = {}): Promise<Session> {
    const ready = this.#ready.shift();
    if (ready !== undefined) return Promise.resolve(ready);
    if (this.#closed) return Promise.reject(this.#closedError());
    let waiter: AcceptWaiter | undefined;
    const session = new Promise<Session>((resolve, reject) => {
      waiter = { resolve, reject };
      this.#waiters.push(waiter);
    });
    if (options.timeoutMs === undefined && options.signal === undefined) return session;
    const timeoutMs = requireInteger('the timeout', options.timeoutMs ?? 2 ** 31 - 1, 1, 2 ** 31 - 1);
    const attempt = `see anybody connect to port ${this.port} within ${timeoutMs} ms`;
    return within(session, timeoutMs, options.signal, () =>
      failure({ call: 'accept', code: 'timeout', attempt }),
    ).catch((error: unknown) => {
      const at = waiter === undefined ? -1 : this.#waiters.indexOf(waiter);
      if (at >= 0) this.#waiters.splice(at, 1);
      throw error;
    });
  }

  /** Stops listening and drops peers that nobody accepted. Accepted sessions go on. */
  close(): void {
    this.#stop(this.#closedError());
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #closedError(): VerbsError {
    return failure({
      call: 'accept',
      code: 'closed',
      attempt: `accept on port ${this.port} after it was closed`,
    });
  }

  #stop(error: VerbsError): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#server.close();
    for (const session of [...this.#ready.splice(0), ...this.#greeting]) session.close();
    for (const waiter of this.#waiters.splice(0)) waiter.reject(error);
  }

  async #welcome(socket: Socket): Promise<void> {
    if (this.#closed || this.#greeting.size >= MOST_GREETING) {
      this.#reject('too many peers at once');
      socket.destroy();
      return;
    }
    const session = new Session(socket);
    this.#greeting.add(session);
    try {
      await greet(session, {});
    } catch (error) {
      session.close();
      if (!this.#closed)
        this.#reject(
          error instanceof VerbsError
            ? `${error.message}: ${error.diagnosis.evidence.join('; ')}`
            : String(error),
        );
      return;
    } finally {
      this.#greeting.delete(session);
    }
    const waiter = this.#waiters.shift();
    if (this.#closed) session.close();
    else if (waiter === undefined) this.#ready.push(session);
    else waiter.resolve(session);
  }

  #reject(reason: string): void {
    this.#rejected++;
    this.#lastRejection = reason;
  }
}

/** Begins to listen for far ends. */
export function listen(options: ListenOptions = {}): Promise<SideServer> {
  const port = requireInteger('the port', options.port ?? 0, 0, 65535);
  const attempt = `listen on ${options.host ?? 'all addresses'}, port ${port}`;
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', (error) => reject(socketFailure('listen', attempt, error)));
    server.listen({ port, ...(options.host === undefined ? {} : { host: options.host }) }, () => {
      server.removeAllListeners('error');
      resolve(new SideServer(server));
    });
  });
}

/** Two sessions of this process, connected to each other over 127.0.0.1. */
export async function loopbackPair(): Promise<[Session, Session]> {
  const server = await listen({ host: '127.0.0.1' });
  try {
    const [near, far] = await Promise.all([
      connect({ host: '127.0.0.1', port: server.port }),
      server.accept({ timeoutMs: DEFAULT_TIMEOUT_MS }),
    ]);
    return [near, far];
  } finally {
    server.close();
  }
}
