/**
 * Programs that a test starts: with a time limit, their output kept, and none of them outlives the test run, because all
 * that were started are killed by their id when this process ends. Only ids of own children are ever signalled.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { patience } from './patient-clock.ts';

export interface StartOptions {
  /** Name of the network namespace to run in; that of the test when absent. */
  netns?: string | undefined;
  /** Added to the environment of the test. */
  env?: Record<string, string> | undefined;
  /** Killed after this long. */
  limit_ms?: number;
  cwd?: string;
}

/** How a program ended. */
export interface Ended {
  code: number | null;
  signal: NodeJS.Signals | null;
  timedOut: boolean;
  stdout: string;
  stderr: string;
}

const DEFAULT_LIMIT_MS = 20_000;
const running = new Set<ChildProcess>();

process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});
// Not the default death, which would leave programs and network namespaces behind.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => process.exit(1));

/** A started program. `pid` is that of the program itself also in a namespace: `ip netns exec` becomes it. */
export class Program {
  readonly pid: number;
  readonly argv: readonly string[];
  /** Settles when the program has ended and its output is complete; never rejects. */
  readonly ended: Promise<Ended>;
  stdout = '';
  stderr = '';
  private readonly child: ChildProcess;

  constructor(argv: readonly string[], { netns, env, limit_ms = DEFAULT_LIMIT_MS, cwd }: StartOptions = {}) {
    const [file = '', ...args] = netns ? ['ip', 'netns', 'exec', netns, ...argv] : argv;
    const child = spawn(file, args, {
      cwd,
      env: { ...process.env, ...env, ...patience(argv, env?.LD_PRELOAD ?? process.env.LD_PRELOAD) },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.argv = argv;
    this.child = child;
    this.pid = child.pid ?? -1;
    running.add(child);
    child.stdout.on('data', (chunk: Buffer) => {
      this.stdout += chunk;
    });
    child.stderr.on('data', (chunk: Buffer) => {
      this.stderr += chunk;
    });
    let timedOut = false;
    const timer = setTimeout(() => {
      timedOut = true;
      child.kill('SIGKILL');
    }, limit_ms);
    this.ended = new Promise((resolve) => {
      const finish = (code: number | null, signal: NodeJS.Signals | null): void => {
        clearTimeout(timer);
        running.delete(child);
        resolve({ code, signal, timedOut, stdout: this.stdout, stderr: this.stderr });
      };
      child.on('error', (error) => {
        this.stderr += `${error.message}\n`;
        finish(127, null);
      });
      child.on('close', finish);
    });
  }

  get alive(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  kill(signal: NodeJS.Signals): void {
    this.child.kill(signal);
  }

  /** CPU time used so far by all its threads, in clock ticks of 10 ms. */
  cpuTicks(): number {
    const fields = statFields(this.pid);
    return Number(fields[11]) + Number(fields[12]);
  }

  /** Whether it has become this program; before, it is still the one that starts it. */
  isRunning(name: string): boolean {
    // The kernel keeps 15 bytes of it.
    return readFileSync(`/proc/${this.pid}/comm`, 'latin1').trim() === name.slice(0, 15);
  }

  /** `R`, `S`, `T` (stopped), `Z` ... of the main thread. */
  state(): string {
    return statFields(this.pid)[0] ?? '';
  }
}

/** Fields of /proc/PID/stat after the program's name, which may contain blanks. */
function statFields(pid: number): string[] {
  const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
  return text.slice(text.lastIndexOf(')') + 2).split(' ');
}

/** Runs a program to its end. */
export function run(argv: readonly string[], options: StartOptions = {}): Promise<Ended> {
  return new Program(argv, options).ended;
}

/** The same for set-up steps: throws with what the program said when it fails. */
export async function mustRun(argv: readonly string[], options: StartOptions = {}): Promise<string> {
  const ended = await run(argv, options);
  if (ended.code !== 0) throw new Error(`${argv.join(' ')}: ${describeEnd(ended)}`);
  return ended.stdout;
}

/** One paragraph for a failure message: how it ended and the end of what it said. */
export function describeEnd(ended: Ended): string {
  const how = ended.timedOut ? 'timed out' : (ended.signal ?? `exit code ${ended.code}`);
  const tail = `${ended.stdout}${ended.stderr}`.trim().split('\n').slice(-15).join('\n');
  return `${how}\n${tail}`;
}

export const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Asks again every 5 ms until the answer is true; throws after the limit. */
export async function until(
  what: string,
  answer: () => boolean | Promise<boolean>,
  limit_ms = 10_000,
): Promise<void> {
  const deadline = performance.now() + limit_ms;
  while (!(await answer())) {
    if (performance.now() > deadline) throw new Error(`waited ${limit_ms} ms in vain: ${what}`);
    await sleep(5);
  }
}

/** True when some process of the network namespace of `pid` listens on this TCP port, or has the UDP port of this number. */
export function listensOn(pid: number, port: number): boolean {
  return (
    ['tcp', 'tcp6'].some((table) => hasSocket(pid, table, port, '0A')) ||
    ['udp', 'udp6'].some((table) => hasSocket(pid, table, port, '07'))
  );
}

/** True when some process of that namespace has an established TCP connection whose own port is this one. */
export function isConnectedAt(pid: number, port: number): boolean {
  return ['tcp', 'tcp6'].some((table) => hasSocket(pid, table, port, '01'));
}

/** `table`: of /proc/PID/net; `state`: as written there. */
function hasSocket(pid: number, table: string, port: number, state: string): boolean {
  const wanted = `:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  try {
    const lines = readFileSync(`/proc/${pid}/net/${table}`, 'latin1').split('\n').slice(1);
    return lines.some((line) => {
      const [, local = '', , its = ''] = line.trim().split(/\s+/);
      return its === state && local.endsWith(wanted);
    });
  } catch {
    return false; // it has ended
  }
}
