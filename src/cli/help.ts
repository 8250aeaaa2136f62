/** Help texts for the terminal, written from the command table and the command's spec. */

import { type AnySpec, type CommandRow, type CommandSpec, type GroupSpec, isGroup } from './command.ts';
import { kebab, type Option, optionsOf } from './options.ts';
import type { ChalkInstance } from './terminal.ts';

/** Exit codes common to all commands, for help and man pages. */
export const COMMON_EXITS: readonly (readonly [number, string])[] = [
  [0, 'done'],
  [1, 'it ran and the answer is bad (a gate failed, data did not match)'],
  [2, 'the command line is wrong'],
  [3, 'the environment lacks something; the message names it and the command that gives it'],
  [4, 'the peer or the network failed'],
  [70, 'a bug in rdmakit'],
  [130, 'stopped by Ctrl-C, after printing what was measured so far'],
];

/** What an exit code means for a command: its own words where it has some, else the common ones. */
export function exitTexts(spec: CommandSpec, code: number, common: string): string[] {
  const own = (spec.exits ?? []).filter((exit) => exit.code === code).map((exit) => exit.when);
  return own.length > 0 ? own : [common];
}

/** Environment variables common to all commands, for help and man pages. */
export const COMMON_ENVIRONMENT: readonly (readonly [string, string])[] = [
  ['RDMAKIT_LIB_DIR', 'folder with the native libraries, instead of the ones in the package'],
  ['RDMAKIT_DEBUG', 'when set, errors are printed with the stack and the errors below them'],
  ['NO_COLOR', 'when not empty, no colours'],
  ['FORCE_COLOR', 'when not empty, colours even into a pipe (0 to 3)'],
];

/** Breaks text at blanks into lines of at most `width`; a longer word gets its own line. */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(/\s+/).filter(Boolean)) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else {
      line = line === '' ? word : `${line} ${word}`;
    }
  }
  if (line !== '') lines.push(line);
  return lines;
}

/** Two columns, the right one wrapped; on narrow terminals the right one goes below, indented. */
function twoColumns(rows: readonly (readonly [string, string])[], columns: number): string[] {
  const widest = Math.max(0, ...rows.map(([left]) => left.length));
  const indent = Math.min(widest + 4, 30);
  const below = columns - indent < 30;
  const at = below ? 6 : indent;
  return rows.flatMap(([left, right]) => {
    const lines = wrap(right, columns - at).map((line) => ' '.repeat(at) + line);
    if (below || left.length + 2 > at - 2) return [`  ${left}`, ...lines];
    const first = lines.shift() ?? '';
    return [(`  ${left}`.padEnd(at) + first.trimStart()).trimEnd(), ...lines];
  });
}

/** `HOST`, `[HOST]`, `[PROGRAM [ARGUMENT...]]` as they stand in a usage line. */
export function usageOf(spec: CommandSpec, fullName: string): string {
  const words = [`rdmakit ${fullName}`];
  if (Object.keys(optionsOf(spec)).length > 0) words.push('[OPTION]...');
  for (const positional of spec.positionals ?? []) {
    const name = positional.many ? `${positional.name}...` : positional.name;
    words.push(positional.optional ? `[${name}]` : name);
  }
  if (spec.child) words.push('[--] PROGRAM [ARGUMENT]...');
  return words.join(' ');
}

/** `-s, --size SIZE` */
export function optionTerm(key: string, option: Option<unknown>): string {
  const long = `--${kebab(key)}${option.takesValue ? ` ${option.value}` : ''}`;
  return option.short ? `-${option.short}, ${long}` : long;
}

/** The option's sentence with its default and repeatability. */
export function optionText(option: Option<unknown>): string {
  const extras = [];
  if (option.many) extras.push('may be repeated');
  if (option.default !== undefined) extras.push(`default ${option.default}`);
  return extras.length > 0 ? `${option.doc} (${extras.join(', ')})` : option.doc;
}

/** `rdmakit --help` */
export function helpOfAll(rows: readonly CommandRow[], columns: number, paint: ChalkInstance): string {
  const lines = [
    ...wrap('rdmakit: small RDMA tools, with an embedded RDMA device for machines that have none', columns),
    '',
    `${paint.bold('usage:')} rdmakit COMMAND [OPTION]...`,
    '',
    paint.bold('commands:'),
    ...twoColumns(
      rows.map((row) => [row.name, row.summary]),
      columns,
    ),
    '',
    paint.bold('also:'),
    ...twoColumns(
      [
        ['help COMMAND', 'everything about one command'],
        ['--version', 'print the version'],
      ],
      columns,
    ),
  ];
  return `${lines.join('\n')}\n`;
}

function helpOfGroup(spec: GroupSpec, columns: number, paint: ChalkInstance): string[] {
  return [
    `${paint.bold('usage:')} rdmakit ${spec.name} SUBCOMMAND [OPTION]...`,
    '',
    ...spec.description.flatMap((paragraph) => [...wrap(paragraph, columns), '']),
    paint.bold('subcommands:'),
    ...twoColumns(
      spec.subcommands.map((sub) => [sub.name, sub.summary]),
      columns,
    ),
  ];
}

function helpOfCommand(spec: CommandSpec, fullName: string, columns: number, paint: ChalkInstance): string[] {
  const lines = [
    `${paint.bold('usage:')} ${usageOf(spec, fullName)}`,
    '',
    ...spec.description.flatMap((paragraph) => [...wrap(paragraph, columns), '']),
  ];
  const section = (title: string, rows: readonly (readonly [string, string])[]): void => {
    if (rows.length > 0) lines.push(paint.bold(`${title}:`), ...twoColumns(rows, columns), '');
  };
  section(
    'arguments',
    (spec.positionals ?? []).map((positional) => [positional.name, positional.doc]),
  );
  section(
    'options',
    Object.entries(optionsOf(spec)).map(([key, option]) => [optionTerm(key, option), optionText(option)]),
  );
  section(
    'subcommands',
    (spec.subcommands ?? []).map((sub) => [sub.name, sub.summary]),
  );
  lines.push(paint.bold('examples:'));
  for (const example of spec.examples) lines.push(`  ${example.command}`, `      ${example.does}`);
  lines.push('');
  section(
    'exit codes',
    COMMON_EXITS.flatMap(([code, common]) =>
      exitTexts(spec, code, common).map((when) => [`${code}`, when] as const),
    ),
  );
  lines.pop();
  return lines;
}

/** Help of one command or group. `fullName` is `topo devices` for a subcommand. */
export function helpOf(spec: AnySpec, fullName: string, columns: number, paint: ChalkInstance): string {
  const lines = isGroup(spec)
    ? helpOfGroup(spec, columns, paint)
    : helpOfCommand(spec, fullName, columns, paint);
  return `${lines.join('\n')}\n`;
}
