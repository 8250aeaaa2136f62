/** The command table with all modules loaded, flattened to what completions and man pages need. */

import { type AnySpec, type CommandRow, type CommandSpec, isGroup } from '../command.ts';
import { type Completes, kebab, type Option, optionsOf } from '../options.ts';

export interface OptionModel {
  /** `--size` */
  long: string;
  /** `-s` */
  short: string | undefined;
  takesValue: boolean;
  /** May stand on the command line several times. */
  many: boolean;
  placeholder: string;
  doc: string;
  completes: Completes;
  commaList: boolean;
}

export interface LeafModel {
  /** Words that select it: ['topo', 'devices']. */
  path: string[];
  spec: CommandSpec;
  options: OptionModel[];
}

export interface TopModel {
  name: string;
  summary: string;
  spec: AnySpec;
  /** The command itself when it is one, and its subcommands. */
  leaves: LeafModel[];
}

function optionModel(key: string, option: Option<unknown>): OptionModel {
  return {
    long: `--${kebab(key)}`,
    short: option.short && `-${option.short}`,
    takesValue: option.takesValue,
    many: option.many === true,
    placeholder: option.value ?? '',
    doc: option.doc,
    completes: option.completes,
    commaList: option.commaList === true,
  };
}

function leaf(path: string[], spec: CommandSpec): LeafModel {
  const options = Object.entries(optionsOf(spec)).map(([key, option]) => optionModel(key, option));
  return { path, spec, options };
}

/** Loads every command of the table. Throws when a row and its module disagree: one place for each fact. */
export async function loadModel(rows: readonly CommandRow[]): Promise<TopModel[]> {
  const tops: TopModel[] = [];
  for (const { name, summary, load } of rows) {
    const { spec } = await load();
    if (spec.name !== name)
      throw new Error(`row '${name}' loads a module whose spec is named '${spec.name}'`);
    const leaves = [
      ...(isGroup(spec) ? [] : [leaf([name], spec)]),
      ...(spec.subcommands ?? []).map((sub) => leaf([name, sub.name], sub)),
    ];
    tops.push({ name, summary, spec, leaves });
  }
  return tops;
}
