/**
 * One connection of the side channel: JSON objects, one a line, UTF-8, over TCP.
 *
 * The far end is not trusted: lines are bounded, unread messages are bounded, every
 * wait has a timeout, and whatever does not fit ends the session with an error that
 * says why.
 */

import type { Socket } from 'node:net';
import { requireInteger } from './check.ts';
import { failure, VerbsError } from './doctor.ts';

/** Longest line, in bytes; the largest real message is below 4 KiB. */
const MOST_LINE_BYTES = 64 * 1024;
/** Messages that may wait unread. */
const MOST_QUEUED = 1024;
/** How long an end waits for the other by default. */
export const DEFAULT_TIMEOUT_MS = 10_000;
/** Characters of an error message that the far end is told. */
const MOST_REASON_LENGTH = 500;

/** A message: any JSON object. */
export type Message = Readonly<Record<string, unknown>>;

export interface WaitOptions {
  /** Milliseconds to wait at most; default 10 s. */
  readonly timeoutMs?: number | undefined;
  /** Gives up at once when raised. */
  readonly signal?: AbortSignal | undefined;
}

interface Waiter {
  readonly resolve: (message: Message) => void;
  readonly reject: (error: unknown) => void;
}

/** A greeted connection to the far end. */
export class Session {
  readonly localAddress: string;
  readonly remoteAddress: string;
  readonly #socket: Socket;
  readonly #messages: Message[] = [];
  readonly #waiters: Waiter[] = [];
  #partial: Uint8Array[] = [];
  #partialBytes = 0;
  #end: VerbsError | undefined;

  /** Wraps a connected socket; the hello is still to come. Use {@link connect} or {@link SideServer.accept}. */
  constructor(socket: Socket) {
    this.#socket = socket;
    this.localAddress = plainAddress(socket.localAddress);
    this.remoteAddress = plainAddress(socket.remoteAddress);
    socket.setNoDelay(true);
    socket.on('data', (chunk: Uint8Array) => this.#receiveBytes(chunk));
    socket.on('error', (error) =>
      this.#finish(socketFailure('talk', `talk to ${this.remoteAddress}`, error)),
    );
    socket.on('close', () => this.#finish(this.#gone()));
  }

  /** Whether the session has ended, by either end. */
  get closed(): boolean {
    return this.#end !== undefined;
  }

  /** Sends one message. Throws when the session has ended or the value is no JSON object. */
  send(message: Message): void {
    if (this.#end !== undefined) throw this.#end;
    const line = `${JSON.stringify(message, (_, value: unknown) => (typeof value === 'bigint' ? `0x${value.toString(16)}` : value))}\n`;
    if (!line.startsWith('{') || Buffer.byteLength(line) > MOST_LINE_BYTES) {
      throw failure({
        call: 'send',
        code: 'bad-value',
        attempt: 'send what is no JSON object of at most 64 KiB',
      });
    }
    this.#socket.write(line);
  }

  /** The next message, in order. Throws after the timeout or when the session has ended. */
  receive(options: WaitOptions = {}): Promise<Message> {
    const timeoutMs = requireInteger('the timeout', options.timeoutMs ?? DEFAULT_TIMEOUT_MS, 1, 2 ** 31 - 1);
    const ready = this.#messages.shift();
    if (ready !== undefined) return Promise.resolve(ready);
    if (this.#end !== undefined) return Promise.reject(this.#end);
    return new Promise((resolve, reject) => {
      const done = (): void => {
        clearTimeout(timer);
        options.signal?.removeEventListener('abort', onAbort);
        const at = this.#waiters.indexOf(waiter);
        if (at >= 0) this.#waiters.splice(at, 1);
      };
      const waiter: Waiter = {
        resolve: (message) => {
          done();
          resolve(message);
        },
        reject: (error) => {
          done();
          reject(error);
        },
      };
      const timer = setTimeout(() => {
        waiter.reject(
          failure({
            call: 'receive',
            code: 'timeout',
            attempt: `hear from ${this.remoteAddress} within ${timeoutMs} ms`,
          }),
        );
      }, timeoutMs);
      const onAbort = (): void => waiter.reject(options.signal?.reason);
      options.signal?.addEventListener('abort', onAbort, { once: true });
      this.#waiters.push(waiter);
      if (options.signal?.aborted === true) onAbort();
    });
  }

  /** Waits until both ends have come to the barrier of this name. */
  async barrier(name: string, options: WaitOptions = {}): Promise<void> {
    this.send({ barrier: name });
    const message = await this.receive(options);
    if (message.barrier !== name) throw this.fail(`expected barrier "${name}", got ${printable(message)}`);
  }

  /** Ends the session because the far end broke the protocol; returns the error to throw. */
  fail(reason: string): VerbsError {
    const error = failure({
      call: 'receive',
      code: 'protocol',
      attempt: `understand ${this.remoteAddress}`,
      details: [reason],
    });
    this.#finish(error);
    return error;
  }

  /** Ends the session because this end failed, and tells the far end why. */
  abort(reason: string): void {
    if (this.#end !== undefined) return;
    this.send({ failed: reason.slice(0, MOST_REASON_LENGTH) });
    this.close();
  }

  /** Ends the session: what was sent still goes out. May be called again. */
  close(): void {
    if (this.#end !== undefined) return;
    this.#finish(
      failure({
        call: 'receive',
        code: 'closed',
        attempt: `use the closed session with ${this.remoteAddress}`,
      }),
    );
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #gone(): VerbsError {
    return failure({ call: 'receive', code: 'peer-gone', attempt: `hear more from ${this.remoteAddress}` });
  }

  #peerFailed(reason: unknown): VerbsError {
    const attempt = `go on with ${this.remoteAddress}`;
    return failure({
      call: 'receive',
      code: 'peer-failed',
      attempt,
      details: [`it says: ${printable(reason)}`],
    });
  }

  #finish(error: VerbsError): void {
    if (this.#end !== undefined) return;
    this.#end = error;
    this.#partial = [];
    // Half-closing lets queued output leave; the far end's bytes are not waited for.
    this.#socket.end(() => this.#socket.destroy());
    this.#socket.unref();
    for (const waiter of [...this.#waiters]) waiter.reject(error);
  }

  #receiveBytes(chunk: Uint8Array): void {
    let rest = chunk;
    while (this.#end === undefined) {
      const newline = rest.indexOf(10);
      if (newline < 0) break;
      const line = Buffer.concat([...this.#partial, rest.subarray(0, newline)]);
      this.#partial = [];
      this.#partialBytes = 0;
      rest = rest.subarray(newline + 1);
      if (line.length > MOST_LINE_BYTES) this.fail(`a line of ${line.length} bytes`);
      else this.#receiveLine(line);
    }
    if (this.#end !== undefined || rest.length === 0) return;
    this.#partial.push(rest);
    this.#partialBytes += rest.length;
    if (this.#partialBytes > MOST_LINE_BYTES) this.fail(`a line longer than ${MOST_LINE_BYTES} bytes`);
  }

  #receiveLine(line: Buffer): void {
    let message: unknown;
    try {
      message = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(line));
    } catch {
      this.fail(`a line that is not JSON: ${printable(line.subarray(0, 40).toString('latin1'))}`);
      return;
    }
    if (typeof message !== 'object' || message === null || Array.isArray(message)) {
      this.fail(`a line that is no JSON object: ${printable(message)}`);
      return;
    }
    const waiter = this.#waiters[0];
    if ('failed' in message) this.#finish(this.#peerFailed(message.failed));
    else if (waiter !== undefined) waiter.resolve(message as Message);
    else if (this.#messages.length < MOST_QUEUED) this.#messages.push(message as Message);
    else this.fail(`more than ${MOST_QUEUED} messages at once`);
  }
}

/** Text of the far end that may go to a terminal: no control characters, not long. */
export function printable(value: unknown): string {
  return shorten(value).replace(/[^\x20-\x7e]/g, '?');
}

function shorten(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length <= 300 ? text : `${text.slice(0, 297)}...`;
}

/** An address without the mapped form: IPv4 peers of a dual-stack socket show up as mapped addresses. */
export function plainAddress(address: string | undefined): string {
  return (address ?? 'unknown').replace(/^::ffff:(?=\d+\.)/, '');
}

/** The error for what a socket reported. */
export function socketFailure(call: string, attempt: string, error: unknown): VerbsError {
  if (error instanceof VerbsError) return error;
  const { code, message } = error as { code?: string; message?: string };
  return failure(
    { call, code: code ?? 'peer-gone', attempt, details: code === undefined ? [String(message)] : [] },
    error,
  );
}
