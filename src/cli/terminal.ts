/**
 * What the streams can do: width and colour. The one place that reads NO_COLOR, FORCE_COLOR, TERM and COLUMNS.
 */

import { Chalk, type ChalkInstance } from 'chalk';

export type { ChalkInstance };

/** The part of a tty stream we look at. */
export interface StreamLike {
  isTTY?: boolean;
  columns?: number;
}

type Environment = Record<string, string | undefined>;

/** Width assumed when the stream has none (pipe, file, a terminal that reports 0). */
const DEFAULT_COLUMNS = 80;
/** Narrower than this we stop wrapping: a line that the terminal folds is easier to read than one word a line. */
const MIN_COLUMNS = 30;

/** Columns to lay text out in; never below 30. `columns` may be 0 or undefined even on terminals. */
export function columnsOf(stream: StreamLike, env: Environment): number {
  const fromEnv = /^\d{1,4}$/.test(env.COLUMNS ?? '') ? Number(env.COLUMNS) : 0;
  return Math.max(MIN_COLUMNS, stream.columns || fromEnv || DEFAULT_COLUMNS);
}

/**
 * chalk's colour level for a stream: 0 none, 1 sixteen colours, 2 256 colours, 3 true colour.
 * FORCE_COLOR wins over NO_COLOR (https://force-color.org, https://no-color.org); both count only when not empty.
 */
export function colorLevelOf(stream: StreamLike, env: Environment): 0 | 1 | 2 | 3 {
  const force = env.FORCE_COLOR;
  if (force) {
    if (force === '0' || force === 'false') return 0;
    return force === '2' ? 2 : force === '3' ? 3 : 1;
  }
  if (env.NO_COLOR) return 0;
  if (!stream.isTTY || env.TERM === 'dumb') return 0;
  if (/^(truecolor|24bit)$/.test(env.COLORTERM ?? '')) return 3;
  return /256/.test(env.TERM ?? '') ? 2 : 1;
}

/** A chalk of its own level: chalk 5 by itself ignores NO_COLOR and only knows stdout. */
export function painterFor(stream: StreamLike, env: Environment): ChalkInstance {
  return new Chalk({ level: colorLevelOf(stream, env) });
}
