/**
 * Builders for the options of a command. Each option knows its text on the command line, its documentation, and how to
 * turn text into a typed value; help, completions, man pages and the parser all read the same object.
 */

import {
  parseCount,
  parseCpuList,
  parseDuration,
  parseInteger,
  parseRate,
  parseSize,
  parseSizeRange,
  type SizeRange,
  UnitError,
} from './units.ts';

export interface FlagDoc {
  /** One sentence for help and man page, no full stop. */
  doc: string;
  /** One letter, for `-x`. */
  short?: string;
}

export interface ValueDoc extends FlagDoc {
  /** Placeholder in help; each builder has a fitting one. */
  value?: string;
  /** Default, written as on the command line (it goes through the same parser). Makes the value always present. */
  default?: string;
  /** May be given several times; the value is an array, empty when absent. */
  many?: true;
}

/** What the shell should offer after the option. */
export type Completes = 'nothing' | 'file' | 'host' | 'interface' | readonly string[];

export interface Option<T> extends ValueDoc {
  takesValue: boolean;
  /** Text to value; throws UnitError with the reason. Never called for flags. */
  parse(text: string): unknown;
  completes: Completes;
  /** The value is a comma-separated list of the words in `completes`. */
  commaList?: true;
  /** Only for the type system: the type the command's run() sees. */
  readonly typed?: T;
}

// biome-ignore lint/suspicious/noExplicitAny: a record of options of any value type
export type Options = Record<string, Option<any>>;

/** The values run() receives, by option name. */
export type OptionValues<O extends Options> = { [K in keyof O]: O[K] extends Option<infer T> ? T : never };

type Given<T, D extends ValueDoc> = D extends { many: true }
  ? T[]
  : D extends { default: string }
    ? T
    : T | undefined;

function valued<T, const D extends ValueDoc>(
  parse: (text: string) => T,
  doc: D,
  placeholder: string,
  completes: Completes = 'nothing',
): Option<Given<T, D>> {
  return { value: placeholder, ...doc, takesValue: true, parse, completes };
}

/** `--verify`: false unless given. */
export function flag(doc: FlagDoc): Option<boolean> {
  return { ...doc, takesValue: false, parse: () => true, completes: 'nothing' };
}

/** Any text, untouched (never turned into a number). */
export function text<const D extends ValueDoc & { completes?: Completes }>(doc: D): Option<Given<string, D>> {
  return valued((value) => value, doc as D & ValueDoc, 'TEXT', doc.completes ?? 'nothing');
}

/** The word of a fixed set that was meant: tables print `RC` where options take `rc`. */
function pick<const C extends readonly string[]>(words: C, value: string): C[number] {
  const found = words.find((word) => word.toLowerCase() === value.toLowerCase());
  if (found === undefined) throw new UnitError(`'${value}' is not one of ${words.join(', ')}`);
  return found;
}

/** One of a fixed set of words, in any case. */
export function choice<const C extends readonly string[], const D extends ValueDoc>(
  choices: C,
  doc: D,
): Option<Given<C[number], D>> {
  return valued((value) => pick(choices, value), doc, choices.join('|'), choices);
}

/** A comma-separated set of words out of a fixed set: `--transport rc,ud`. In the order given, no duplicates. */
export function choices<const C extends readonly string[], const D extends ValueDoc>(
  known: C,
  doc: D,
): Option<Given<C[number][], D>> {
  const parse = (value: string): C[number][] => [
    ...new Set(value.split(',').map((word) => pick(known, word))),
  ];
  return { ...valued(parse, doc, 'LIST', known), commaList: true };
}

/** A whole number, by default not negative. */
export function integer<const D extends ValueDoc & { min?: number; max?: number }>(
  doc: D,
): Option<Given<number, D>> {
  return valued(
    (value) => parseInteger(value, doc.min ?? 0, doc.max ?? Number.MAX_SAFE_INTEGER),
    doc as D,
    'N',
  );
}

/** A plain count with k, M, G: a number. */
export function count<const D extends ValueDoc>(doc: D): Option<Given<number, D>> {
  return valued(parseCount, doc, 'N');
}

/** `4KiB`: whole bytes. */
export function size<const D extends ValueDoc>(doc: D): Option<Given<number, D>> {
  return valued(parseSize, doc, 'SIZE');
}

/** `1..1MiB`: {from, to} in bytes. */
export function sizeRange<const D extends ValueDoc>(doc: D): Option<Given<SizeRange, D>> {
  return valued(parseSizeRange, doc, 'FROM..TO');
}

/** `1.5ms`: nanoseconds. */
export function duration<const D extends ValueDoc>(doc: D): Option<Given<number, D>> {
  return valued(parseDuration, doc, 'TIME');
}

/** Ping-like interval: `0.2` is seconds as in ping(8), `200ms` is accepted too: nanoseconds. */
export function seconds<const D extends ValueDoc>(doc: D): Option<Given<number, D>> {
  const parse = (value: string): number => parseDuration(/^\d+(\.\d+)?$/.test(value) ? `${value}s` : value);
  return valued(parse, doc, 'SECONDS');
}

/** `100Gbps`: bits a second. */
export function rate<const D extends ValueDoc>(doc: D): Option<Given<number, D>> {
  return valued(parseRate, doc, 'RATE');
}

/** `0,2,4-7`: CPU numbers. */
export function cpus<const D extends ValueDoc>(doc: D): Option<Given<number[], D>> {
  return valued(parseCpuList, doc, 'CPUS');
}

/** A value with its own parser, which throws UnitError with a reason. */
export function custom<T, const D extends ValueDoc>(parse: (text: string) => T, doc: D): Option<Given<T, D>> {
  return valued(parse, doc, 'VALUE');
}

/** The option that every command has, and the two of commands that print documents. */
const HELP_OPTION = { help: flag({ doc: 'show this help', short: 'h' }) };
const DOCUMENT_OPTIONS = {
  json: flag({ doc: 'print one JSON document' }),
  ndjson: flag({ doc: 'print a JSON document a line, as things happen' }),
};

/** All the options a command accepts, its own first. */
export function optionsOf(spec: { options: Options; documents?: true }): Options {
  return { ...spec.options, ...(spec.documents ? DOCUMENT_OPTIONS : {}), ...HELP_OPTION };
}

/** `writeImm` -> `write-imm`. */
export function kebab(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}
