/**
 * Command line to typed input. cac pairs options with their values; what surrounds it here keeps cac from guessing:
 * it would turn `--addr 10.0` into 10, accept `--writeImm`, split `-c5` and read the flags of a child program as ours.
 * So argv is cut before the child's words, every option word is checked first, and values travel with a mark in front
 * that no argument can contain (NUL) and that keeps them strings. Options reach cac under their camelCase key, because its
 * own renaming leaves `p99-limit` as it is.
 */

import { cac } from 'cac';
import { type CommandSpec, type Input, usageError } from './command.ts';
import { kebab, type Option, type Options, optionsOf } from './options.ts';
import { suggest } from './suggest.ts';
import { UnitError } from './units.ts';

const MARK = '\0';

interface Known {
  key: string;
  option: Option<unknown>;
}

/** Finds the option a word such as `--size`, `--size=4` or `-s` names; refuses anything else that begins with `-`. */
function lookUp(word: string, options: Options, command: string): Known & { inlineValue: boolean } {
  const long = /^--([a-z0-9][a-z0-9-]*)(=.*)?$/s.exec(word);
  const entries = Object.entries(options);
  if (long) {
    const found = entries.find(([key]) => kebab(key) === long[1]);
    if (found) return { key: found[0], option: found[1], inlineValue: long[2] !== undefined };
  } else if (/^-\d/.test(word)) {
    throw usageError(
      `'${word}' looks like an option`,
      command,
      `a value that begins with '-' is written --option=${word}`,
    );
  } else if (/^-[^-]$/.test(word)) {
    const found = entries.find(([, option]) => option.short === word[1]);
    if (found) return { key: found[0], option: found[1], inlineValue: false };
  } else {
    const known = entries.find(([, option]) => option.short !== undefined && option.short === word[1]);
    if (/^-[^-]/.test(word) && known) {
      throw usageError(`unknown option '${word}'`, command, `write ${word.slice(0, 2)} ${word.slice(2)}`);
    }
  }
  const name = word.replace(/=.*$/s, '');
  const near = suggest(
    name,
    entries.map(([key]) => `--${kebab(key)}`),
  );
  throw usageError(`unknown option '${name}'`, command, near && `did you mean ${near}?`);
}

/** Checks and marks our own words; stops at the child's. Returns cac's argv and the child's words. */
function prepare(
  argv: readonly string[],
  spec: CommandSpec,
  command: string,
): { marked: string[]; child: string[] } {
  const options = optionsOf(spec);
  const marked: string[] = [];
  const rest = (from: number): string[] => argv.slice(from);
  for (let at = 0; at < argv.length; at++) {
    const word = argv[at] ?? '';
    if (word === '--') {
      if (spec.child) return { marked, child: rest(at + 1) };
      marked.push(...rest(at + 1).map((positional) => MARK + positional));
      break;
    }
    if (word === '-' || !word.startsWith('-')) {
      if (spec.child) return { marked, child: rest(at) };
      marked.push(MARK + word);
      continue;
    }
    const { key, option, inlineValue } = lookUp(word, options, command);
    const name = word.replace(/=.*$/s, '');
    if (!option.takesValue) {
      if (inlineValue) throw usageError(`${name} takes no value`, command);
      marked.push(`--${key}`);
    } else if (inlineValue) {
      marked.push(`--${key}`, MARK + word.slice(name.length + 1));
    } else {
      const value = argv[at + 1];
      if (value === undefined) throw usageError(`${name} needs a value (${option.value})`, command);
      if (value !== '-' && value.startsWith('-')) {
        throw usageError(
          `${name} needs a value (${option.value}), and '${value}' begins with '-'`,
          command,
          `write ${word.startsWith('--') ? `${name}=${value}` : `the long form of ${name} with '='`} if it is the value`,
        );
      }
      marked.push(`--${key}`, MARK + value);
      at += 1;
    }
  }
  return { marked, child: [] };
}

function unmark(value: unknown): string {
  return String(value).slice(MARK.length);
}

function convert(key: string, option: Option<unknown>, given: unknown, command: string): unknown {
  const name = `--${kebab(key)}`;
  if (!option.takesValue) return given === true || Array.isArray(given);
  const parse = (text: string): unknown => {
    try {
      return option.parse(text);
    } catch (error) {
      if (error instanceof UnitError) throw usageError(`${name}: ${error.message}`, command);
      throw error;
    }
  };
  const texts = given === undefined ? [] : (Array.isArray(given) ? given : [given]).map(unmark);
  if (texts.length > 1 && !option.many) throw usageError(`${name} is given more than once`, command);
  if (texts.length === 0 && option.default !== undefined) texts.push(option.default);
  return option.many ? texts.map(parse) : texts[0] === undefined ? undefined : parse(texts[0]);
}

function checkPositionals(args: string[], spec: CommandSpec, command: string): void {
  const wanted = spec.positionals ?? [];
  const missing = wanted.find((positional, at) => !positional.optional && args[at] === undefined);
  if (missing) throw usageError(`${missing.name} is missing (${missing.doc})`, command);
  const extra = wanted.at(-1)?.many ? undefined : args[wanted.length];
  if (extra !== undefined) throw usageError(`unexpected argument '${extra}'`, command);
}

export interface Parsed extends Input<Options> {
  help: boolean;
  format: 'table' | 'json' | 'ndjson';
}

/**
 * Parses the words after the command's name. `command` is the full name for messages: `topo devices`.
 * Throws an RdmakitError of kind usage; with --help nothing else is checked beyond the option words.
 */
export function parseCommandLine(argv: readonly string[], spec: CommandSpec, command: string): Parsed {
  const { marked, child } = prepare(argv, spec, command);
  const options = optionsOf(spec);
  const parser = cac('rdmakit');
  for (const [key, option] of Object.entries(options)) {
    parser.option(option.takesValue ? `--${key} <value>` : `--${key}`, option.doc);
  }
  const raw = parser.parse(['', '', ...marked], { run: false });
  const given = raw.options as Record<string, unknown>;
  const help = given.help !== undefined;
  const args = raw.args.map(unmark);
  const values: Record<string, unknown> = {};
  if (!help) {
    for (const [key, option] of Object.entries(spec.options))
      values[key] = convert(key, option, given[key], command);
    if (given.json && given.ndjson) throw usageError('--json and --ndjson exclude each other', command);
    checkPositionals(args, spec, command);
    if (spec.child && child.length === 0) throw usageError('PROGRAM is missing', command);
  }
  const format = given.json ? 'json' : given.ndjson ? 'ndjson' : 'table';
  return { options: values, args, child, help, format };
}
