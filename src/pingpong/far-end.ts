/**
 * The other end as a process that we start: rdmakit itself, on this machine or through ssh. It says where it listens on
 * the first line of its output, and ends when its input is closed: so it goes away with us, however we go.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import * as v from 'valibot';
import { RdmakitError } from '../errors.ts';

/** What a listening end announces, and the schema name it does it under. */
export const ANNOUNCEMENT_SCHEMA = 'rdmakit.pingpong-listen/1';
export const Announcement = v.object({
  address: v.string(),
  port: v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(65535)),
});

const START_TIMEOUT_MS = 20_000;
const END_TIMEOUT_MS = 2000;
/** Bytes of its error output that are kept for our message. */
const STDERR_KEPT = 4000;

/** How to start this very program again. */
export function ownCommand(): string[] {
  const script = process.argv[1] ?? '';
  const runtime = process.execPath;
  if ('Deno' in globalThis) return [runtime, 'run', '--allow-all', '--quiet', script];
  return [runtime, ...process.execArgv, script];
}

/** The far end's command line on another machine: ssh without questions, and our words quoted for its shell. */
export function sshCommand(host: string, remoteProgram: string, words: readonly string[]): string[] {
  const quoted = words.map((word) => `'${word.replaceAll("'", "'\\''")}'`);
  return ['ssh', '-o', 'BatchMode=yes', '--', host, [remoteProgram, ...quoted].join(' ')];
}

/** `user@host` -> `host`: what to connect to. */
export function hostOfSsh(target: string): string {
  return target.replace(/^.*@/, '').replace(/^\[(.*)\]$/, '$1');
}

export class FarEnd {
  readonly address: string;
  readonly port: number;
  readonly #child: ChildProcess;
  readonly #ended: Promise<void>;

  private constructor(child: ChildProcess, ended: Promise<void>, address: string, port: number) {
    this.#child = child;
    this.#ended = ended;
    this.address = address;
    this.port = port;
  }

  /** Starts the process and waits until it listens. `label` is what errors call it. */
  static async start(command: readonly string[], label: string, signal?: AbortSignal): Promise<FarEnd> {
    const [program = '', ...args] = command;
    // A group of its own: Ctrl-C at the terminal is for us, and the far end is told in order.
    const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'pipe'], detached: true });
    let errors = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      errors = (errors + text).slice(-STDERR_KEPT);
    });
    // A far end that is gone already does not mind that its input cannot be closed.
    child.stdin.on('error', () => {});
    const failed = (cause: string): RdmakitError => farEndFailure(label, program, errors.trim() || cause);
    const ended = new Promise<void>((resolve) => {
      child.once('close', () => resolve());
      child.once('error', () => resolve());
    });
    try {
      const line = await firstLine(child, signal, failed);
      const { address, port } = parseAnnouncement(line, failed);
      return new FarEnd(child, ended, address, port);
    } catch (error) {
      child.kill('SIGKILL');
      throw error;
    }
  }

  /** Closes its input and waits for its end; one that does not end is killed. */
  async close(): Promise<void> {
    this.#child.stdin?.end();
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), END_TIMEOUT_MS);
    await this.#ended;
    clearTimeout(timer);
  }
}

function firstLine(
  child: ChildProcess,
  signal: AbortSignal | undefined,
  failed: (cause: string) => RdmakitError,
): Promise<string> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(
      () => reject(failed(`it did not listen within ${START_TIMEOUT_MS / 1000} s`)),
      START_TIMEOUT_MS,
    );
    const done = (action: () => void) => () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
      action();
    };
    const onAbort = (): void => done(() => reject(signal?.reason))();
    signal?.addEventListener('abort', onAbort, { once: true });
    child.once('error', (error) => done(() => reject(failed(error.message)))());
    // 'close' comes after all output was read, so the message can quote it.
    child.once('close', (code) => done(() => reject(failed(`it ended with status ${code ?? 'unknown'}`)))());
    if (child.stdout === null) return;
    createInterface({ input: child.stdout }).once('line', (line) => done(() => resolve(line))());
  });
}

function parseAnnouncement(line: string, failed: (cause: string) => RdmakitError) {
  try {
    const value: unknown = JSON.parse(line);
    if ((value as { schema?: unknown }).schema === ANNOUNCEMENT_SCHEMA) return v.parse(Announcement, value);
  } catch {
    // said below
  }
  throw failed(`its first line is '${line.slice(0, 80)}', not an announcement`);
}

function farEndFailure(label: string, program: string, cause: string): RdmakitError {
  const remote = program === 'ssh';
  return new RdmakitError({
    kind: remote ? 'peer' : 'environment',
    what: `${label} could not be started`,
    cause,
    remedy: remote
      ? 'check that ssh logs in without a password and that rdmakit is installed there (--ssh-program says where)'
      : 'run `rdmakit pingpong --listen` by itself to see what it says',
  });
}
