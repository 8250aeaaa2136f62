/** Reading sysfs: what is not there is undefined or empty, never an error. */

import { readdirSync, readFileSync, readlinkSync, realpathSync } from 'node:fs';
import { basename, join } from 'node:path';

/** Text of a file, trimmed. */
export function read(...path: string[]): string | undefined {
  try {
    return readFileSync(join(...path), 'utf8').trim();
  } catch {
    return undefined;
  }
}

/** Names in a folder, sorted. */
export function entries(...path: string[]): string[] {
  try {
    return readdirSync(join(...path)).sort();
  } catch {
    return [];
  }
}

/** Last part of what a link points to. */
export function linkName(...path: string[]): string | null {
  try {
    return basename(readlinkSync(join(...path)));
  } catch {
    return null;
  }
}

/** The folder itself, links resolved; undefined when there is none. */
export function real(...path: string[]): string | undefined {
  try {
    return realpathSync(join(...path));
  } catch {
    return undefined;
  }
}
