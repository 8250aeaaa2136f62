/** A small command table for the tests of the kit, with every feature a command can have. */

import * as v from 'valibot';
import { type CommandRow, defineCommand, defineGroup } from '../../src/cli/command.ts';
import { defineDocument } from '../../src/cli/documents.ts';
import type { Sink } from '../../src/cli/io.ts';
import { runIn } from '../../src/cli/main.ts';
import * as option from '../../src/cli/options.ts';
import { ExitCode, RdmakitError } from '../../src/errors.ts';

export const EchoDocument = defineDocument(
  'echo',
  1,
  v.strictObject({ size_bytes: v.number(), interval_ns: v.optional(v.number()), words: v.array(v.string()) }),
);

export const echo = defineCommand({
  name: 'echo',
  summary: 'print what was parsed',
  description: [
    "Prints its input. It's a test: with a 'quote', a back\\slash and [brackets]: all escaped.",
    '.Not a macro.',
  ],
  positionals: [{ name: 'HOST', doc: 'the far end', optional: true, many: true }],
  options: {
    size: option.size({ short: 's', doc: 'message size', default: '64' }),
    interval: option.seconds({ short: 'i', doc: "time between messages, ping's way" }),
    mode: option.choice(['send', 'read'], { doc: 'operation' }),
    kinds: option.choices(['rc', 'uc', 'ud'], { doc: 'transports' }),
    tag: option.text({ short: 't', doc: 'a label', many: true, completes: 'file' }),
    address: option.text({ doc: 'an address' }),
    p99Limit: option.duration({ doc: 'a name cac would not rename' }),
    aBC: option.flag({ doc: 'one-letter words' }),
    noVerify: option.flag({ short: 'n', doc: 'a flag whose name begins with no' }),
    fail: option.choice(['badAnswer', 'usage', 'environment', 'peer', 'internal', 'bug'], { doc: 'fail so' }),
    schema: option.flag({ doc: 'break the schema' }),
  },
  documents: true,
  examples: [{ command: 'rdmakit echo --size 4KiB', does: 'prints 4096' }],
  exits: [{ code: ExitCode.badAnswer, when: 'the echo was wrong' }],
  async run({ options, args }, io) {
    if (options.fail === 'bug') throw new TypeError('boom');
    if (options.fail) {
      throw new RdmakitError({
        kind: options.fail,
        what: 'it failed',
        cause: 'a test',
        remedy: 'rdmakit echo',
      });
    }
    const size_bytes = options.schema ? Number.NaN : options.size;
    io.event(EchoDocument, { size_bytes: 1, words: [] });
    io.result(EchoDocument, {
      size_bytes,
      ...(options.interval ? { interval_ns: options.interval } : {}),
      words: args,
    });
    io.line(JSON.stringify(options));
    io.table({ head: ['size', 'word'], rows: [[String(size_bytes), args.join(' ')]], align: ['right'] });
    io.note('a note');
  },
});

const runChild = defineCommand({
  name: 'run-child',
  summary: 'run a program',
  description: ['Runs a program.'],
  child: true,
  options: {
    count: option.integer({ short: 'c', doc: 'a number', min: 1, max: 10, default: '1' }),
    verbose: option.flag({ short: 'v', doc: 'say more' }),
  },
  examples: [],
  subcommands: [{ ...echo, name: 'look' }],
  async run({ options, child }, io) {
    io.raw(JSON.stringify({ options, child }));
    return ExitCode.badAnswer;
  },
});

const group = defineGroup({
  name: 'group',
  summary: 'a group',
  description: ['A group.'],
  subcommands: [
    { ...echo, name: 'first' },
    { ...echo, name: 'second' },
  ],
});

export const rows: CommandRow[] = [
  { name: 'echo', summary: echo.summary, load: async () => ({ spec: echo }) },
  { name: 'run-child', summary: runChild.summary, load: async () => ({ spec: runChild }) },
  { name: 'group', summary: group.summary, load: async () => ({ spec: group }) },
];

/** A sink that keeps what was written. */
export class Capture implements Sink {
  text = '';
  isTTY: boolean;
  columns: number | undefined;

  constructor(isTTY = false, columns?: number) {
    this.isTTY = isTTY;
    this.columns = columns;
  }

  write(text: string): void {
    this.text += text;
  }
}

export interface Outcome {
  code: number;
  out: string;
  err: string;
}

/** Runs a command line of the fixture table. */
export async function run(
  argv: string[],
  env: Record<string, string> = {},
  out = new Capture(),
): Promise<Outcome> {
  const err = new Capture();
  const code = await runIn(rows, { argv, out, err, env });
  return { code, out: out.text, err: err.text };
}
