/**
 * What a command is. A module in src/commands/ exports `spec`, made with defineCommand or defineGroup; everything that
 * must know about it (parser, help, man page, completions) reads that one object.
 */

import { type ExitCode, RdmakitError } from '../errors.ts';
import type { Io } from './io.ts';
import type { Options, OptionValues } from './options.ts';

/** A word on the command line that is not an option. */
export interface Positional {
  /** Upper case in help: `HOST`. */
  name: string;
  doc: string;
  /** Required unless this is set. */
  optional?: true;
  /** Takes all the remaining words; only for the last positional. */
  many?: true;
}

export interface Example {
  /** The whole command line: `rdmakit pingpong --size 4KiB`. */
  command: string;
  /** What it does, a phrase without a full stop. */
  does: string;
}

export interface Input<O extends Options> {
  options: OptionValues<O>;
  /** The positionals, as typed. */
  args: string[];
  /** With `child: true` the program and its arguments, untouched; otherwise empty. */
  child: string[];
}

export interface CommandSpec<O extends Options = Options> {
  name: string;
  /** One line, lower case, no full stop. */
  summary: string;
  /** Paragraphs for help and man page. */
  description: string[];
  positionals?: Positional[];
  /** Everything from the first positional (or after `--`) is a program with its own arguments: see Input.child. */
  child?: true;
  /** Option names in camelCase; `writeImm` is `--write-imm`. */
  options: O;
  examples: Example[];
  /** Exit codes that mean something particular here, beyond the common ones. */
  exits?: { code: ExitCode; when: string }[];
  /** Adds --json and --ndjson. */
  documents?: true;
  /** Other commands, chosen by the word right after this one's name: `socket-run ps`. Behind `--` the word is an argument. */
  // biome-ignore lint/suspicious/noExplicitAny: commands with any options
  subcommands?: CommandSpec<any>[];
  run(input: Input<O>, io: Io): Promise<ExitCode | undefined> | Promise<void>;
}

/** A command that has only subcommands: `topo devices`. */
export interface GroupSpec {
  name: string;
  summary: string;
  description: string[];
  // biome-ignore lint/suspicious/noExplicitAny: commands with any options
  subcommands: CommandSpec<any>[];
}

// biome-ignore lint/suspicious/noExplicitAny: commands with any options
export type AnySpec = CommandSpec<any> | GroupSpec;

/** One row of the command table in src/cli.ts. */
export interface CommandRow {
  name: string;
  summary: string;
  load(): Promise<{ spec: AnySpec }>;
}

export function isGroup(spec: AnySpec): spec is GroupSpec {
  return !('run' in spec);
}

/** Identity; gives run() the types of its options. */
export function defineCommand<O extends Options>(spec: CommandSpec<O>): CommandSpec<O> {
  return spec;
}

/** Identity; for symmetry with defineCommand. */
export function defineGroup(spec: GroupSpec): GroupSpec {
  return spec;
}

/** A wrong command line; without a remedy it points at the command's help. */
export function usageError(what: string, command: string, remedy?: string): RdmakitError {
  return new RdmakitError({ kind: 'usage', what, remedy: remedy ?? `see 'rdmakit help ${command}'` });
}
