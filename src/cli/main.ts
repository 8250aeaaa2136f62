/**
 * The frame around every command: finds it, parses its words, runs it, and turns errors into messages and exit codes.
 * Sets process.exitCode and returns; it does not call process.exit(), which loses piped output on Node.
 */

import { readFileSync } from 'node:fs';
import { ExitCode, RdmakitError } from '../errors.ts';
import { type AnySpec, type CommandRow, isGroup, usageError } from './command.ts';
import { helpOf, helpOfAll } from './help.ts';
import type { Io, Sink } from './io.ts';
import { outputError } from './output-error.ts';
import type { Parsed } from './parse.ts';
import { suggest } from './suggest.ts';
import { columnsOf, painterFor } from './terminal.ts';

export interface World {
  argv: readonly string[];
  out: Sink;
  err: Sink;
  env: Record<string, string | undefined>;
  /** Called with the Io of the command about to run, so that a closed pipe can stop it. */
  onIo?(io: Io): void;
}

/** The version of the package this file belongs to; src/cli/ and dist/ lie at different depths. */
export function readVersion(): string {
  for (const up of ['../package.json', '../../package.json']) {
    try {
      return JSON.parse(readFileSync(new URL(up, import.meta.url), 'utf8')).version;
    } catch {
      // not at this depth
    }
  }
  return 'unknown';
}

function unknownCommand(word: string, known: readonly string[], group?: string): RdmakitError {
  const near = suggest(word, known);
  const kind = word.startsWith('-') ? 'option' : group ? 'subcommand' : 'command';
  return new RdmakitError({
    kind: 'usage',
    what: `unknown ${kind} '${word}'${group ? ` of ${group}` : ''}`,
    remedy: near
      ? `did you mean '${[group, near].filter(Boolean).join(' ')}'?`
      : `see '${group ? `rdmakit help ${group}` : 'rdmakit --help'}'`,
  });
}

const namesOf = (spec: AnySpec): string[] => spec.subcommands?.map((sub) => sub.name) ?? [];

interface Found {
  spec: AnySpec;
  fullName: string;
  /** The words after the command's name. */
  words: readonly string[];
}

async function find(rows: readonly CommandRow[], words: readonly string[]): Promise<Found> {
  const [word = '', ...after] = words;
  const row = rows.find((candidate) => candidate.name === word);
  if (!row) {
    throw unknownCommand(word, [...rows.map((candidate) => candidate.name), 'help', '--help', '--version']);
  }
  const { spec } = await row.load();
  const [subWord, ...afterSub] = after;
  const sub = spec.subcommands?.find((candidate) => candidate.name === subWord);
  if (subWord === undefined || (!isGroup(spec) && !sub)) return { spec, fullName: spec.name, words: after };
  if (sub) return { spec: sub, fullName: `${spec.name} ${sub.name}`, words: afterSub };
  if (subWord === '--help' || subWord === '-h') return { spec, fullName: spec.name, words: ['--help'] };
  throw unknownCommand(subWord, namesOf(spec), spec.name);
}

async function dispatch(rows: readonly CommandRow[], world: World): Promise<number> {
  const { argv, out, err, env } = world;
  const [first, ...after] = argv;
  const printHelp = (text: string): number => {
    out.write(text);
    return ExitCode.done;
  };
  const columns = columnsOf(out, env);
  const paint = painterFor(out, env);
  if (first === undefined) {
    err.write(helpOfAll(rows, columnsOf(err, env), painterFor(err, env)));
    return ExitCode.usage;
  }
  if (first === '--version' || first === '-V') return printHelp(`rdmakit ${readVersion()}\n`);
  if (first === '--help' || first === '-h' || (first === 'help' && after.length === 0)) {
    return printHelp(helpOfAll(rows, columns, paint));
  }
  if (first === 'help') {
    const { spec, fullName, words } = await find(rows, after);
    if (words[0] !== undefined && words[0] !== '--help') {
      throw usageError(`unexpected argument '${words[0]}'`, fullName);
    }
    return printHelp(helpOf(spec, fullName, columns, paint));
  }
  const { spec, fullName, words } = await find(rows, argv);
  if (isGroup(spec)) {
    if (words[0] === '--help') return printHelp(helpOf(spec, fullName, columns, paint));
    const known = namesOf(spec).join(', ');
    throw usageError(`${fullName} needs a subcommand: ${known}`, fullName);
  }
  // Loaded late, so that help does not wait for the parser, tables and schemas.
  const { parseCommandLine } = await import('./parse.ts');
  const parsed = parseCommandLine(words, spec, fullName);
  if (parsed.help) return printHelp(helpOf(spec, fullName, columns, paint));
  return runCommand(spec, parsed, world);
}

async function runCommand(
  spec: Extract<AnySpec, { run: unknown }>,
  parsed: Parsed,
  world: World,
): Promise<number> {
  const { Io } = await import('./io.ts');
  const io = new Io(parsed.format, world.out, world.err, world.env);
  world.onIo?.(io);
  try {
    const code = (await spec.run(parsed, io)) ?? ExitCode.done;
    if (io.outputClosed) return ExitCode.done;
    return io.interrupt.exitCode ?? code;
  } finally {
    io.interrupt.dispose();
  }
}

/** An error as lines for stderr. */
export function renderError(error: unknown, prefix: string, debug: boolean): string {
  const lines: string[] = [];
  if (error instanceof RdmakitError && error.kind !== 'internal') {
    lines.push(`${prefix}: ${error.message}`);
    if (error.likelyCause) lines.push(`  cause: ${error.likelyCause}`);
    if (error.remedy) lines.push(`  try:   ${error.remedy}`);
  } else {
    const message = error instanceof Error ? error.message : String(error);
    lines.push(`${prefix}: internal error: ${message}`);
    if (error instanceof RdmakitError && error.likelyCause) lines.push(`  cause: ${error.likelyCause}`);
    lines.push('  this is a bug in rdmakit; set RDMAKIT_DEBUG=1 to see where it comes from');
  }
  if (debug) {
    for (let at: unknown = error; at instanceof Error; at = at.cause) lines.push(at.stack ?? at.message);
  }
  return `${lines.join('\n')}\n`;
}

function exitCodeOf(error: unknown): number {
  return error instanceof RdmakitError ? error.exitCode : ExitCode.internal;
}

/** Runs one command line in a given world and returns the exit code; never throws. */
export async function runIn(rows: readonly CommandRow[], world: World): Promise<number> {
  try {
    return await dispatch(rows, world);
  } catch (error) {
    const name = world.argv[0];
    const prefix = rows.some((row) => row.name === name) ? `rdmakit ${name}` : 'rdmakit';
    world.err.write(renderError(error, prefix, Boolean(world.env.RDMAKIT_DEBUG)));
    return exitCodeOf(error);
  }
}

/** The process entry: runs argv and sets process.exitCode. */
export async function main(rows: readonly CommandRow[]): Promise<void> {
  let running: Io | undefined;
  /** Exit code once stdout has failed; it then wins over the command's. */
  let outputCode: number | undefined;
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (outputCode !== undefined) return;
    const broken = outputError(error);
    if (broken) process.stderr.write(renderError(broken, 'rdmakit', false));
    outputCode = broken ? broken.exitCode : ExitCode.done;
    running?.closeOutput();
    // Nobody reads any more; a command that can stop early cleans up by itself, any other just ends.
    if (!running?.interrupt.inUse) process.exit(outputCode);
  });
  process.stderr.on('error', () => {
    // a reader of stderr that went away must not end the work
  });
  const code = await runIn(rows, {
    argv: process.argv.slice(2),
    out: process.stdout,
    err: process.stderr,
    env: process.env,
    onIo: (io) => {
      running = io;
    },
  });
  process.exitCode = outputCode ?? code;
}
