/** The verbs programs of test/integration/programs, compiled once a test file with the system's headers and library. */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { mustRun } from './process.ts';
import type { End } from './roads.ts';

const SOURCES = fileURLToPath(new URL('../programs/', import.meta.url));
const CFLAGS = ['-std=gnu11', '-O2', '-g', '-Wall', '-Wextra', '-Werror'];

/** Paths of compiled programs by their names. */
export type Compiled<Name extends string> = Record<Name, string> & { remove(): void };
export type OwnPrograms = Compiled<'onesided' | 'messages'>;

/** The folder is readable by every user, because some tests run as another one. */
export async function compile<Name extends string>(names: readonly Name[]): Promise<Compiled<Name>> {
  const folder = mkdtempSync(join(tmpdir(), `rk${process.pid}-programs-`));
  await mustRun(['chmod', '755', folder]);
  const build = async (name: Name): Promise<[Name, string]> => {
    const sources = ['link.c', `${name}.c`].map((file) => join(SOURCES, file));
    await mustRun(['gcc', ...CFLAGS, ...sources, '-libverbs', '-o', join(folder, name)], {
      limit_ms: 60_000,
    });
    return [name, join(folder, name)];
  };
  const paths = Object.fromEntries(await Promise.all(names.map(build))) as Record<Name, string>;
  return { ...paths, remove: () => rmSync(folder, { recursive: true, force: true }) };
}

/** cmchurn.c: masses of rdma_cm connections between two processes. The caller removes its folder. */
export async function compileChurn(): Promise<{ cmchurn: string; remove: () => void }> {
  const folder = mkdtempSync(join(tmpdir(), `rk${process.pid}-churn-`));
  const cmchurn = join(folder, 'cmchurn');
  const source = join(SOURCES, 'cmchurn.c');
  await mustRun(['gcc', ...CFLAGS, source, '-libverbs', '-lrdmacm', '-o', cmchurn], { limit_ms: 60_000 });
  return { cmchurn, remove: () => rmSync(folder, { recursive: true, force: true }) };
}

/** The line of names and numbers that it prints. */
export function parseChurn(text: string): Record<string, number> {
  const words = text.trim().split(' ');
  return Object.fromEntries(words.flatMap((word, i) => (i % 2 === 0 ? [[word, Number(words[i + 1])]] : [])));
}

export const compileOwn = (): Promise<OwnPrograms> => compile(['onesided', 'messages']);

/** How these programs name device, GID and port. */
export const ownFlags = (end: End, port: number): string[] => [
  ...['-d', end.device, '-g', `${end.gidIndex}`, '-p', `${port}`],
];

/** The last line of `onesided`. */
export interface OnesidedResult {
  operations: number;
  mismatches: number;
  sameHash: boolean;
}

export function parseOnesided(text: string): OnesidedResult {
  const match = text.match(/^done (\d+) bytes \d+ mismatches (\d+) hash (same|different)$/m);
  if (!match) throw new Error(`no result of onesided in:\n${text}`);
  return { operations: Number(match[1]), mismatches: Number(match[2]), sameHash: match[3] === 'same' };
}

/** The last line of `messages`. */
export interface MessagesResult {
  sent: number;
  received: number;
  bad: number;
  disordered: number;
}

export function parseMessages(text: string): MessagesResult {
  const match = text.match(/^done (\d+) received (\d+) bad (\d+) disordered (\d+)$/m);
  if (!match) throw new Error(`no result of messages in:\n${text}`);
  const [sent = 0, received = 0, bad = 0, disordered = 0] = match.slice(1).map(Number);
  return { sent, received, bad, disordered };
}

/** The completion status that ended either of them, or undefined. */
export const failedStatus = (text: string): number | undefined => {
  const status = text.match(/^status (\d+) after \d+$/m)?.[1];
  return status === undefined ? undefined : Number(status);
};
