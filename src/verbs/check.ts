/**
 * Checks of values that come from outside before they go near a native call.
 * Each throws a {@link VerbsError} that names the value and the allowed range.
 */

import { badValue } from './doctor.ts';

/** An integer within [least, most]. */
export function requireInteger(name: string, value: unknown, least: number, most: number): number {
  if (typeof value === 'number' && Number.isInteger(value) && value >= least && value <= most) return value;
  throw badValue(name, value, `an integer from ${least} to ${most}`);
}

/** One of a list of words; returns it with the list's type. */
export function requireWord<T extends string>(name: string, value: unknown, words: readonly T[]): T {
  const word = words.find((candidate) => candidate === value);
  if (word !== undefined) return word;
  throw badValue(name, value, `one of ${words.join(', ')}`);
}
