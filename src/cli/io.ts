/**
 * Everything a command prints goes through here. Data is for stdout, everything else for stderr; which methods print
 * depends on the format, so that a command states all its output once and never asks which format was chosen.
 */

import { type DocumentType, encodeDocument } from './documents.ts';
import { Interrupt } from './interrupt.ts';
import { outputError } from './output-error.ts';
import { type Progress, SILENT, startProgress } from './progress.ts';
import { renderTable, type TableSpec } from './table.ts';
import { type ChalkInstance, columnsOf, painterFor, type StreamLike } from './terminal.ts';

export type Format = 'table' | 'json' | 'ndjson';

/** A stream to print to; process.stdout and process.stderr fit, tests bring their own. */
export interface Sink extends StreamLike {
  write(text: string): unknown;
}

export class Io {
  readonly format: Format;
  /** Colours for stdout (use only in lines and tables). */
  readonly paint: ChalkInstance;
  /** Colours for stderr. */
  readonly paintError: ChalkInstance;
  /** Width to lay stdout out in, at least 30. */
  readonly columns: number;
  /** Width for a table: a pipe or file has none, there a table stays whole. */
  readonly tableColumns: number;
  readonly interrupt: Interrupt;
  readonly #out: Sink;
  readonly #err: Sink;
  readonly #env: Record<string, string | undefined>;
  #results = 0;
  #closed = false;

  constructor(format: Format, out: Sink, err: Sink, env: Record<string, string | undefined>) {
    this.format = format;
    this.#out = out;
    this.#err = err;
    this.#env = env;
    this.paint = painterFor(out, env);
    this.paintError = painterFor(err, env);
    this.columns = columnsOf(out, env);
    this.tableColumns = out.isTTY ? this.columns : Number.POSITIVE_INFINITY;
    this.interrupt = new Interrupt();
  }

  /** True when a person reads: no --json, no --ndjson. */
  get human(): boolean {
    return this.format === 'table';
  }

  /** True when stdout is a terminal and a person reads: live lines and pictures make sense. */
  get live(): boolean {
    return this.human && this.#out.isTTY === true;
  }

  /** Aborts on Ctrl-C, SIGTERM and when the reader of stdout went away; see Interrupt. */
  get stop(): AbortSignal {
    return this.interrupt.signal;
  }

  /** The answer as a document: printed by --json and --ndjson. At most once with --json. */
  result<T>(type: DocumentType<T>, body: T): void {
    if (this.human) return;
    this.#results += 1;
    if (this.format === 'json' && this.#results > 1) {
      throw new Error(`${type.id}: --json prints one document, this is a second one`);
    }
    this.#write(`${encodeDocument(type, body)}\n`);
  }

  /** Something that happened, as a document: printed by --ndjson only. */
  event<T>(type: DocumentType<T>, body: T): void {
    if (this.format === 'ndjson') this.#write(`${encodeDocument(type, body)}\n`);
  }

  /** A line for people on stdout; silent with --json and --ndjson. */
  line(text = ''): void {
    if (this.human) this.#write(`${text}\n`);
  }

  /** A table for people on stdout, a block of lines a row on a terminal too narrow for it; silent with --json and --ndjson. */
  table(spec: TableSpec): void {
    if (!this.human) return;
    this.#write(renderTable(spec, (head) => this.paint.bold(head), this.tableColumns));
  }

  /** Text as it is on stdout in every format, for output that is data already (help asked for, a script). */
  raw(text: string): void {
    this.#write(text);
  }

  /** A remark on stderr. */
  note(text: string): void {
    this.#err.write(`${text}\n`);
  }

  /** A table on stderr, in every format: about what was done, beside the data of the program that did it. */
  noteTable(spec: TableSpec): void {
    const columns = this.#err.isTTY ? columnsOf(this.#err, this.#env) : Number.POSITIVE_INFINITY;
    this.#err.write(renderTable(spec, (head) => this.paintError.bold(head), columns));
  }

  /** A warning on stderr. */
  warn(text: string): void {
    this.#err.write(`${this.paintError.yellow('warning:')} ${text}\n`);
  }

  /** A progress bar on stderr; silent when that is not a terminal. */
  progress(total: number, label: string): Progress {
    return this.#err === process.stderr ? startProgress(process.stderr, total, label) : SILENT;
  }

  /** The reader of stdout has gone (`| head`): print nothing more, let the work stop. */
  closeOutput(): void {
    this.#closed = true;
    this.interrupt.abort();
  }

  get outputClosed(): boolean {
    return this.#closed;
  }

  #write(text: string): void {
    if (this.#closed) return;
    try {
      this.#out.write(text);
    } catch (error) {
      // Deno throws here, Bun and Node emit 'error' on the stream instead.
      const broken = outputError(error);
      this.closeOutput();
      if (broken) throw broken;
    }
  }
}
