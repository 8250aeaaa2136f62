/**
 * What emulations there are: a folder each under /run/rdmakit/topo. It is written before anything is made, so that `down`
 * finds everything even when `up` was killed in the middle.
 */

import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as v from 'valibot';
import { RdmakitError } from '../../errors.ts';
import { notWritable } from './rights.ts';

const ROOT = '/run/rdmakit/topo';

const State = v.object({
  name: v.string(),
  /** Namespace of each node. */
  spaces: v.record(v.string(), v.string()),
  relay: v.nullable(v.string()),
  links: v.number(),
  /** False until everything was made: an `up` that was killed leaves it so. */
  ready: v.optional(v.boolean(), true),
  /** When it was begun, ISO 8601. */
  since: v.string(),
});
export type State = v.InferOutput<typeof State>;

export function folderOf(name: string): string {
  return join(ROOT, name);
}

/** Takes a name; throws when it is taken. */
export function claim(name: string): void {
  try {
    mkdirSync(ROOT, { recursive: true, mode: 0o755 });
    mkdirSync(folderOf(name), { mode: 0o755 });
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    if (['EACCES', 'EPERM', 'EROFS'].includes(code)) throw notWritable(ROOT, error as NodeJS.ErrnoException);
    if (code !== 'EEXIST') throw error;
    throw new RdmakitError({
      kind: 'usage',
      what: `an emulation named '${name}' is there already`,
      remedy: `rdmakit topo down --name ${name}, or give another --name`,
      from: error,
    });
  }
}

export function save(state: State): void {
  const file = join(folderOf(state.name), 'state.json');
  writeFileSync(`${file}.new`, JSON.stringify(state));
  renameSync(`${file}.new`, file);
}

/** The state of an emulation; undefined when only its folder exists, because `up` ended before it made anything. */
export function load(name: string): State | undefined {
  let text: string;
  try {
    text = readFileSync(join(folderOf(name), 'state.json'), 'utf8');
  } catch {
    return undefined;
  }
  try {
    return v.parse(State, JSON.parse(text));
  } catch (error) {
    const file = join(folderOf(name), 'state.json');
    throw new RdmakitError({
      kind: 'environment',
      what: `${file} is not what topo up wrote`,
      cause: (error as Error).message,
      remedy: `ip netns list | grep ^rk-${name} shows what is left; remove it with ip netns del, then the folder`,
      from: error,
    });
  }
}

export function forget(name: string): void {
  rmSync(folderOf(name), { recursive: true, force: true });
}

/** Names of all emulations. */
export function list(): string[] {
  try {
    return readdirSync(ROOT).sort();
  } catch {
    return [];
  }
}

/** The emulation meant: the one named, or the only one. */
export function pick(name: string | undefined): string {
  const all = list();
  const found = name ?? (all.length === 1 ? all[0] : undefined);
  if (found !== undefined && all.includes(found)) return found;
  throw new RdmakitError({
    kind: 'usage',
    what:
      name === undefined
        ? all.length === 0
          ? 'no emulation is up'
          : `${all.length} emulations are up`
        : `no emulation is named '${name}'`,
    remedy: all.length === 0 ? 'rdmakit topo up FILE' : `name one with --name: ${all.join(', ')}`,
  });
}
