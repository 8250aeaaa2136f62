/**
 * What a program file is, as far as it decides whether another libibverbs can be put before its own: found or not, a
 * script, static, of another architecture, or run by the kernel with raised privileges. Reads the file's first bytes only.
 */

import { accessSync, closeSync, constants, openSync, readSync, type Stats, statSync } from 'node:fs';
import { isAbsolute, join } from 'node:path';

/** Why a program cannot be run at all; the exit statuses are those of a shell. */
export type Lookup =
  | { readonly kind: 'found'; readonly path: string }
  | { readonly kind: 'not-found'; readonly searched: string }
  | { readonly kind: 'not-executable'; readonly path: string; readonly why: string };

/** Finds a program as execvp(3) does: as it is when it has a slash, otherwise along PATH. */
export function findProgram(name: string, searchPath: string): Lookup {
  if (name === '') return { kind: 'not-found', searched: 'an empty name' };
  if (name.includes('/')) return check(name) ?? { kind: 'not-found', searched: name };
  let refused: Lookup | undefined;
  for (const folder of searchPath.split(':')) {
    const found = check(join(folder === '' ? '.' : folder, name));
    if (found?.kind === 'found') {
      // A relative folder in PATH gives a name without a slash, which exec would search again.
      return { kind: 'found', path: isAbsolute(found.path) ? found.path : `./${found.path}` };
    }
    refused ??= found;
  }
  return (
    refused ?? { kind: 'not-found', searched: searchPath === '' ? 'PATH is empty' : `PATH (${searchPath})` }
  );
}

function check(path: string): Lookup | undefined {
  let stat: Stats;
  try {
    stat = statSync(path);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    return code === 'EACCES'
      ? { kind: 'not-executable', path, why: 'its folder may not be entered' }
      : undefined;
  }
  if (!stat.isFile()) return { kind: 'not-executable', path, why: 'it is not a file' };
  try {
    accessSync(path, constants.X_OK);
  } catch {
    return { kind: 'not-executable', path, why: 'it has no permission to be executed' };
  }
  return { kind: 'found', path };
}

/** Why LD_LIBRARY_PATH would not reach a program; undefined when it does. */
export interface Obstacle {
  /** Its privileges are raised; it is of another architecture; it is static. */
  readonly reason: 'raised' | 'foreign' | 'static';
  readonly what: string;
  readonly cause: string;
  readonly remedy: string;
}

/** Who runs the program: set-uid means something only when it changes the identity. */
export interface Identity {
  readonly uid: number;
  readonly gid: number;
}

const HEAD_BYTES = 4096;
const MOST_INTERPRETERS = 4;

/** Looks at a program, and at the interpreter of a script. */
export function findObstacle(path: string, who: Identity, arch: string = process.arch): Obstacle | undefined {
  let at = path;
  for (let depth = 0; depth < MOST_INTERPRETERS; depth++) {
    const head = readHead(at);
    const raised = raisedPrivileges(at, who);
    if (raised !== undefined && !isScript(head)) return raised;
    if (!isScript(head)) return isElf(head) ? elfObstacle(at, head, arch) : undefined;
    const interpreter = /^#![ \t]*(\S+)/.exec(head.toString('latin1'))?.[1];
    if (interpreter === undefined) return undefined;
    at = interpreter;
  }
  return undefined;
}

/**
 * The files that the kernel opens to run a program: itself, and the interpreters of scripts. `env` is followed to what it would find
 * along PATH.
 */
export function filesToRun(path: string, searchPath: string): string[] {
  const files = [path];
  for (let depth = 0; depth < MOST_INTERPRETERS; depth++) {
    const head = readHead(files.at(-1) ?? path);
    if (!isScript(head)) return files;
    const words =
      /^#![ \t]*([^\n]+)/
        .exec(head.toString('latin1'))?.[1]
        ?.trim()
        .split(/[ \t]+/) ?? [];
    const [interpreter, ...more] = words;
    if (interpreter === undefined) return files;
    files.push(interpreter);
    if (interpreter.endsWith('/env')) {
      const name = more.find((word) => !word.startsWith('-') && !word.includes('='));
      const found = name === undefined ? undefined : findProgram(name, searchPath);
      if (found?.kind === 'found') files.push(found.path);
    }
  }
  return files;
}

/** The first bytes, empty when the file may be executed but not read. */
function readHead(path: string): Buffer {
  const bytes = Buffer.alloc(HEAD_BYTES);
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch {
    return Buffer.alloc(0);
  }
  try {
    return bytes.subarray(0, readSync(fd, bytes, 0, HEAD_BYTES, 0));
  } finally {
    closeSync(fd);
  }
}

function isScript(head: Buffer): boolean {
  return head[0] === 0x23 && head[1] === 0x21;
}

function isElf(head: Buffer): boolean {
  return head.length >= 64 && head.readUInt32BE(0) === 0x7f454c46;
}

function raisedPrivileges(path: string, who: Identity): Obstacle | undefined {
  let stat: Stats;
  try {
    stat = statSync(path);
  } catch {
    return undefined;
  }
  const setUid = (stat.mode & 0o4000) !== 0 && stat.uid !== who.uid;
  const setGid = (stat.mode & 0o2000) !== 0 && stat.gid !== who.gid;
  if (!setUid && !setGid) return undefined;
  return {
    reason: 'raised',
    what: `${path} runs with raised privileges (set-${setUid ? 'uid' : 'gid'})`,
    cause: 'the loader ignores LD_LIBRARY_PATH for such programs, so it would use the system libraries',
    remedy: `run a copy without the bit: cp ${path} /tmp/ && rdmakit verbs-run -- /tmp/${path.replace(/^.*\//, '')}`,
  };
}

const MACHINES: Readonly<Record<string, number>> = { x64: 62, arm64: 183 }; // EM_X86_64, EM_AARCH64
const PT_INTERP = 3;

function elfObstacle(path: string, head: Buffer, arch: string): Obstacle | undefined {
  const wanted = MACHINES[arch];
  const is64 = head[4] === 2;
  const little = head[5] === 1;
  if (!is64 || !little || (wanted !== undefined && head.readUInt16LE(18) !== wanted)) {
    return {
      reason: 'foreign',
      what: `${path} is not a ${arch} program`,
      cause: `the embedded libibverbs is built for ${arch}, and a program loads only libraries of its own kind`,
      remedy: `run the ${arch} build of the program`,
    };
  }
  // Program headers: only a dynamically linked program names a loader.
  const offset = Number(head.readBigUInt64LE(32));
  const entryBytes = head.readUInt16LE(54);
  const entries = head.readUInt16LE(56);
  for (let i = 0; i < entries; i++) {
    const at = offset + i * entryBytes;
    // Headers this far into the file do not occur in practice; without them nothing can be said.
    if (at + 4 > head.length) return undefined;
    if (head.readUInt32LE(at) === PT_INTERP) return undefined;
  }
  return {
    reason: 'static',
    what: `${path} is statically linked`,
    cause: 'it has its own copy of every library inside, so no other libibverbs can be put before it',
    remedy: 'build the program with shared libraries',
  };
}
