/**
 * The far ends of measurements: a rdmakit-probe process at each node, started through whatever leads there (ip netns exec, ssh)
 * and told what to do over its standard input. See c/probe/agent.c for the commands.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { RdmakitError } from '../../errors.ts';

const PROTOCOL = /^rdmakit-probe 1 (\d+)$/;
/** Commands take what they measure, at most a minute, and the way there. */
const ANSWER_LIMIT_MS = 90_000;

export class Agent {
  readonly node: string;
  /** The UDP port that it listens on. */
  readonly port: number;
  readonly #child: ChildProcess;
  readonly #lines: LineReader;

  private constructor(node: string, child: ChildProcess, lines: LineReader, port: number) {
    this.node = node;
    this.#child = child;
    this.#lines = lines;
    this.port = port;
  }

  /** Starts one. Throws RdmakitError when the program does not answer. */
  static async start(node: string, command: readonly string[]): Promise<Agent> {
    const [program = '', ...args] = command;
    const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'pipe'] });
    const lines = new LineReader(node, child);
    try {
      const match = PROTOCOL.exec(await lines.next());
      if (!match) throw lines.failure('it does not speak our protocol');
      return new Agent(node, child, lines, Number(match[1]));
    } catch (error) {
      child.kill();
      throw error;
    }
  }

  /** Sends a command; the words of its answer after `keyword`. */
  async ask(command: string, keyword: string): Promise<number[]> {
    this.#child.stdin?.write(`${command}\n`);
    const line = await this.#lines.next();
    const [word, ...rest] = line.split(' ');
    if (word !== keyword) throw this.#lines.failure(`'${command.split(' ')[0]}': ${line.slice(0, 200)}`);
    return rest.map(Number);
  }

  /** Ends it; returns when it has ended. */
  async close(): Promise<void> {
    const { exitCode, signalCode } = this.#child;
    if (exitCode !== null || signalCode !== null) return;
    const closed = new Promise((resolve) => this.#child.once('close', resolve));
    this.#child.stdin?.end();
    const timer = setTimeout(() => this.#child.kill(), 5000);
    await closed;
    clearTimeout(timer);
  }
}

/** Lines of a process one by one; its end or silence is an error. */
class LineReader {
  readonly #node: string;
  #text = '';
  #errors = '';
  #ended: string | undefined;
  #wake: (() => void) | undefined;

  constructor(node: string, child: ChildProcess) {
    this.#node = node;
    child.stdout?.on('data', (chunk) => {
      this.#text += chunk;
      // No answer is that long: somebody's shell prints a novel.
      if (this.#text.length > 1 << 16) child.kill();
      this.#wake?.();
    });
    child.stderr?.on('data', (chunk) => {
      this.#errors = (this.#errors + chunk).slice(-1000);
    });
    child.stdin?.on('error', () => undefined);
    const end = (why: string): void => {
      this.#ended ??= why;
      this.#wake?.();
    };
    child.on('error', (error) => end(error.message));
    child.on('close', (code, signal) => end(`it ended with ${signal ?? code}`));
  }

  failure(why: string): RdmakitError {
    return new RdmakitError({
      kind: 'peer',
      what: `cannot measure at ${this.#node}`,
      cause: this.#errors.trim() === '' ? why : this.#errors.trim().split('\n').slice(-3).join('; '),
      remedy: 'see the cause',
    });
  }

  async next(): Promise<string> {
    const until = Date.now() + ANSWER_LIMIT_MS;
    for (;;) {
      const end = this.#text.indexOf('\n');
      if (end !== -1) {
        const line = this.#text.slice(0, end).trimEnd();
        this.#text = this.#text.slice(end + 1);
        return line;
      }
      if (this.#ended !== undefined) throw this.failure(this.#ended);
      const left = until - Date.now();
      if (left <= 0) throw this.failure('it does not answer');
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      this.#wake = undefined;
    }
  }
}
